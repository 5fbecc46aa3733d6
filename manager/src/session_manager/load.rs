//! Processor time and memory of sessions.

use protocol::api::SessionLoad;

use super::SessionManager;
use crate::error::Error;
use crate::system::{blocking, load};

impl SessionManager {
    /// Processor time and memory of each session that has processes. Reads `/proc`, one request at a time.
    ///
    /// # Errors
    /// [`Error::Ended`] once the manager has ended.
    pub async fn load(&self) -> Result<Vec<SessionLoad>, Error> {
        let reach = self.reach();
        let sessions = self
            .read(move |fleet, _| {
                let reached = fleet.sessions().filter(|session| reach(fleet, session));
                let worker = |session: &std::sync::Arc<crate::core::Session>| {
                    let worker = session.worker()?;
                    Some((session.id.clone(), (worker.pid, worker.start_time)))
                };
                reached.filter_map(worker).collect::<Vec<_>>()
            })
            .await?;
        let _turn = self.shared.loading.lock().await;
        let roots: Vec<(u32, u64)> = sessions.iter().map(|(_, root)| *root).collect();
        let loads = blocking::run(move || load::of(&roots)).await;
        let loads = loads.ok_or_else(|| Error::Unread("a thread of this request panicked".into()))?;
        let told = sessions.into_iter().zip(loads).map(|((session_id, _), load)| SessionLoad {
            session_id,
            processes: load.processes,
            memory_bytes: load.memory,
            cpu_ms: load.cpu_ms,
        });
        Ok(told.collect())
    }
}
