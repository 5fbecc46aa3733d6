//! The start and the end of a manager, for all sessions.

use std::sync::Arc;

use protocol::event::EventKind;

use super::{BOOT_JUMP, Draft};
use crate::core::input::{Input, Reply};
use crate::core::refusal::Refusal;

impl Draft<'_> {
    pub(in crate::core::fleet) fn manager_started(
        &mut self,
        pid: u32,
        version: &str,
        boot_id: &str,
        same_boot: bool,
        lost: Option<&str>,
    ) -> Result<Reply, Refusal> {
        if !same_boot || lost.is_some() {
            self.next_event += BOOT_JUMP;
        }
        let (version, boot_id) = (version.to_owned(), boot_id.to_owned());
        self.emit(None, EventKind::ManagerStarted { pid, version, boot_id });
        if let Some(lost) = lost {
            self.emit(None, EventKind::SystemMessage { text: lost.to_owned() });
        }
        self.name_the_nameless();
        for session in self.fleet.sessions() {
            // The effects of the state before died with the manager that was to perform them: all of them are issued now.
            self.one(&session.id, &Input::Recovered { same_boot })?;
        }
        self.effects.clear();
        for id in self.fleet.sessions.keys() {
            if let Some(session) = self.get(id) {
                let effects = session.effects();
                self.effects.extend(effects.into_iter().map(|effect| (id.clone(), effect)));
            }
        }
        Ok(Reply::Done)
    }

    pub(in crate::core::fleet) fn shutdown(&mut self) -> Result<Reply, Refusal> {
        self.emit(None, EventKind::ManagerStopping {});
        self.spares = Arc::default();
        for id in self.fleet.sessions.keys() {
            self.one(id, &Input::Shutdown)?;
        }
        Ok(Reply::Done)
    }
}
