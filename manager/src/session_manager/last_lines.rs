//! The last lines of conversations.

use protocol::SessionId;
use protocol::api::LastLine;

use super::SessionManager;
use crate::error::Error;

/// Sessions that are read in one turn at the journal.
const AT_ONCE: usize = 16;

impl SessionManager {
    /// The last line that each agent said, of the sessions that a client reaches. Reads a bounded number of events of each, off the
    /// loop.
    ///
    /// # Errors
    /// [`Error::Unread`] if the journal cannot be read; [`Error::Ended`] once the manager has ended.
    pub async fn last_lines(&self) -> Result<Vec<LastLine>, Error> {
        let reach = self.reach();
        let sessions = self
            .read(move |fleet, _| {
                let reached = fleet.sessions().filter(|session| reach(fleet, session));
                reached.map(|session| session.id.clone()).collect::<Vec<_>>()
            })
            .await?;
        let mut told = Vec::new();
        // Others get their turn in between.
        for some in sessions.chunks(AT_ONCE).map(<[SessionId]>::to_vec) {
            let read = self.shared.feed.read_elsewhere(move |reader| {
                let lines = some.into_iter().filter_map(|session_id| match reader.last_line(&session_id) {
                    Ok(found) => found.map(|(event_id, line)| Ok(LastLine { session_id, event_id, line })),
                    Err(error) => Some(Err(error)),
                });
                lines.collect::<Result<Vec<_>, _>>()
            });
            told.extend(read.await?);
        }
        Ok(told)
    }
}
