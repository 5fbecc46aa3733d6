//! The manager about itself.

use std::sync::Arc;

use protocol::api::{ListenInfo, ManagerInfo};
use tokio::sync::oneshot;

use super::SessionManager;
use crate::error::Error;
use crate::listening::Listening;
use crate::supervisor::Msg;

impl SessionManager {
    /// The manager's own figures.
    pub async fn info(&self) -> Result<ManagerInfo, Error> {
        let (sessions, last_event_id, spare_workers, stopping) = {
            let (reply, answer) = oneshot::channel();
            let reach = self.reach();
            self.send(Msg::Read(Box::new(move |fleet, at| {
                let mut sessions = std::collections::BTreeMap::new();
                for session in fleet.sessions().filter(|session| reach(fleet, session)) {
                    *sessions.entry(session.status().to_string()).or_default() += 1;
                }
                let spares = fleet.spares().iter().map(|spare| spare.pid).collect();
                let _ = reply.send((sessions, fleet.next_event() - 1, spares, at.closing));
            })))
            .await?;
            answer.await.map_err(|_| Error::Ended)?
        };
        Ok(ManagerInfo {
            pid: std::process::id(),
            state: match stopping {
                true => "stopping",
                false if self.state_dir_gone() => "state_dir_gone",
                false => "running",
            }
            .into(),
            version: crate::version::VERSION.into(),
            state_dir: self.shared.state_dir.display().to_string(),
            config: Some(self.shared.config.display().to_string()),
            started_at: self.shared.started_at,
            sessions,
            last_event_id,
            spare_workers,
            // The daemon around this manager knows.
            service: false,
            listen: self.listening().await,
            web: self.shared.listening.web(),
            home: std::env::home_dir().map(|home| home.display().to_string()),
        })
    }

    /// The TLS port of the daemon around this manager: its addresses and its certificate's fingerprint. None without a port.
    pub async fn listening(&self) -> Option<ListenInfo> {
        self.shared.listening.info().await
    }

    /// The port, for the daemon that opens it.
    pub(crate) fn port(&self) -> &Arc<Listening> {
        &self.shared.listening
    }
}
