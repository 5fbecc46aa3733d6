//! Refused access in a step of the fleet.

use protocol::event::{EventKind, Refused};

use super::Draft;
use crate::core::input::Reply;

impl Draft<'_> {
    /// Records refusals. The event names a session at most in its data: an agent that is refused writes nothing into the history
    /// of its session.
    pub(in crate::core::fleet) fn access_refused(&mut self, refused: &Refused) -> Reply {
        self.emit(None, EventKind::AccessRefused(refused.clone()));
        Reply::Done
    }
}
