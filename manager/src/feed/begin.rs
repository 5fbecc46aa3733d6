//! The place at which a stream begins that asks for a time, or for the newest events.

use std::sync::Arc;

use protocol::event::Timestamp;
use protocol::{EventId, SessionId};

use super::Feed;
use crate::error::Error;
use crate::journal::Types;

/// A wish for the beginning of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Begin {
    /// Not before the event that follows this one.
    pub after: Option<EventId>,
    /// Not before the first event of this time.
    pub since: Option<Timestamp>,
    /// The newest so many events of those that are left.
    pub last: Option<usize>,
}

impl Begin {
    /// Returns true if there is something to look for in the journal.
    pub fn needs_a_look(&self) -> bool {
        self.since.is_some() || self.last.is_some()
    }
}

impl Feed {
    /// The cursor before the first event that is wished for, of those up to `head`, one session's or all, of some types or
    /// all. A look goes backwards and is bounded; others may read between two.
    pub async fn beginning(
        self: &Arc<Self>,
        begin: &Begin,
        head: EventId,
        session: Option<&SessionId>,
        types: Option<&Types>,
    ) -> Result<EventId, Error> {
        let mut after = begin.after.unwrap_or(0);
        if let Some(since) = begin.since {
            after = after.max(self.read_elsewhere(move |reader| reader.cursor_at(since, head)).await?);
        }
        let Some(last) = begin.last else { return Ok(after) };
        let (mut left, mut before, mut first) = (last, head.saturating_add(1), head);
        loop {
            let (session, types) = (session.cloned(), types.cloned());
            let look = move |reader: &crate::journal::Reader| {
                reader.back((after, before), session.as_ref(), types.as_ref(), left)
            };
            let found = self.read_elsewhere(look).await?;
            first = found.oldest.map_or(first, |oldest| oldest.saturating_sub(1));
            left = left.saturating_sub(found.met);
            match found.before.filter(|_| left > 0) {
                Some(next) => before = next,
                None => return Ok(first.max(after)),
            }
        }
    }
}
