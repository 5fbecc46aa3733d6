//! Agents, and what can be set in them.

use std::sync::Arc;
use std::time::Duration;

use protocol::SessionId;
use protocol::api::*;
use protocol::event::EventKind;
use protocol::wire::Setting;

use super::SessionManager;
use crate::config;
use crate::core::{Command, Reply, Session, State};
use crate::error::Error;
use crate::offered::Offered;

impl SessionManager {
    /// Every agent that sessions can be started with.
    pub async fn agents(&self) -> Result<Vec<AgentInfo>, Error> {
        let mut all = self.config()?.agents();
        self.read(move |fleet, _| {
            for agent in &mut all {
                // Another program may be meant by the name by now.
                let runs = |session: &&Arc<Session>| {
                    session.agent_details.is_some()
                        && session.spec.agent_name == agent.name
                        && session.spec.agent.program() == agent.path.as_deref()
                };
                let newest = fleet.sessions().filter(runs).max_by_key(|session| session.created_at);
                agent.details = newest.and_then(|session| session.agent_details.clone());
            }
            all
        })
        .await
    }

    /// Sets something in the agent of a session: its `mode`, or one of its options. It stays set, whatever becomes of
    /// the agent's process. Returns with the agent's answer, or once it is on record if the agent is not there now or
    /// does not answer within `timeout`.
    ///
    /// # Errors
    /// `no_settings` where the agent has none; `setting_refused` with what the agent says.
    pub async fn set(
        &self,
        id: &SessionId,
        name: &str,
        value: &str,
        timeout: Duration,
    ) -> Result<SettingReply, Error> {
        for (field, text) in [("name", name), ("value", value)] {
            if text.is_empty() || text.chars().count() > 200 || text.chars().any(char::is_control) {
                let what = format!(
                    "`{field}`: a setting's name and value have 1 to 200 characters, none of them control characters; nothing was changed"
                );
                return Err(Error::invalid("invalid_setting", what));
            }
        }
        let mut events = self.subscribe(None, Some(id.clone()));
        let setting = Setting { name: name.to_owned(), value: value.to_owned() };
        let Reply::Setting { number } = self.command(id, Command::Set(setting)).await? else {
            return Err(Error::Ended);
        };
        let mut reply = SettingReply { name: name.to_owned(), value: value.to_owned(), answer: None };
        // Until the agent has answered, or is not there to answer.
        let waited = self.until(id, "the agent's answer", Some(timeout), move |session| {
            let waits = session.settings.asked.iter().any(|asked| asked.number == number);
            let over = !waits || !matches!(session.state, State::Ready { .. });
            over.then_some(Ok(()))
        });
        match waited.await {
            Ok(_) | Err(Error::Timeout { .. }) => {}
            Err(error) => return Err(error),
        }
        while let Some(records) = events.ready().await? {
            for record in records {
                let event = record.event()?;
                match event.kind {
                    EventKind::SettingChanged { setting_id, payload, .. } if setting_id == number => {
                        reply.answer = Some(payload);
                    }
                    EventKind::SettingRefused { setting_id, name, reason, .. } if setting_id == number => {
                        return Err(Error::SettingRefused { name, reason });
                    }
                    _ => {}
                }
            }
        }
        Ok(reply)
    }

    /// Settings of a session's agent: the choices that it has reported, the values that clients have set, and those
    /// that still wait.
    pub async fn settings(&self, id: &SessionId) -> Result<SettingsInfo, Error> {
        let settings = self.with_session(id, |session, _| session.settings.clone()).await?;
        let mut offered = Offered::default();
        let of = id.clone();
        let told = self.shared.feed.read_elsewhere(move |reader| reader.told_of_settings(&of)).await?;
        for kind in &told {
            offered.tell(kind);
        }
        let waiting = settings.asked.into_iter().map(|asked| (asked.setting.name, asked.setting.value));
        Ok(SettingsInfo {
            modes: offered.known().get("modes").cloned(),
            config_options: offered.known().get("configOptions").cloned(),
            set: settings.set,
            waiting: waiting.collect(),
        })
    }

    /// Gives the agent of a session MCP servers beside those that it has; one of the same name is replaced. An agent that
    /// runs is not told: its next process has them.
    ///
    /// # Errors
    /// `invalid_mcp_servers`; `mcp_servers_refused` where the agent takes none, or would have too many.
    pub async fn add_mcp_servers(
        &self,
        id: &SessionId,
        request: McpServersRequest,
    ) -> Result<McpServersReply, Error> {
        let spec = self.with_session(id, |session, _| session.spec.clone()).await?;
        let (programs, remote) = config::added_servers(&spec, request)?;
        match self.command(id, Command::AddServers { programs, remote }).await? {
            Reply::Servers { changed, next_process } => Ok(McpServersReply { changed, next_process }),
            _ => Err(Error::Ended),
        }
    }
}
