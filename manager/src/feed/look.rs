//! Pages of the journal that a subscriber reads, and those that are read before they are asked for.

use protocol::{EventId, SessionId};

use super::{CATCH_UP, FRAMES};
use crate::journal::{JournalError, Page, Reader, Types};

/// Which page of the journal is read.
#[derive(Clone)]
pub(super) struct Look {
    /// The cursor before it.
    pub(super) after: EventId,
    /// The last event that is read, in this page or a later one.
    pub(super) head: EventId,
    pub(super) session: Option<SessionId>,
    /// Only events of these types.
    pub(super) types: Option<Types>,
    /// Bytes of one event that is not given in pieces.
    pub(super) most: usize,
    /// As they are sent, and not as records.
    pub(super) as_frames: bool,
}

impl Look {
    pub(super) fn read(&self, reader: &Reader) -> Result<Page, JournalError> {
        let Self { after, head, most, .. } = *self;
        let (session, types) = (self.session.as_ref(), self.types.as_ref());
        match self.as_frames {
            true => reader.frames(after, head, session, types, most.min(FRAMES), most),
            false => reader.events(after, head, session, types, CATCH_UP, most),
        }
    }
}

/// A page that is read before it is asked for.
pub(super) struct Ahead {
    /// The cursor before it.
    pub(super) after: EventId,
    /// As in [`Look`].
    pub(super) as_frames: bool,
    pub(super) page: Result<Page, JournalError>,
    /// No other page comes after it by itself.
    pub(super) is_last: bool,
}

impl Ahead {
    pub(super) fn is_of(&self, look: &Look) -> bool {
        (self.after, self.as_frames) == (look.after, look.as_frames)
    }
}
