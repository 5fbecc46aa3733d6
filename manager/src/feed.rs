//! Events on their way to subscribers.
//!
//! A subscriber holds nothing but a cursor. Recent events lie in one shared ring; whoever is further behind
//! reads the journal. So any number of subscribers costs the loop one push and one doorbell an event, and a
//! slow one costs it nothing.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::event::Event;
use protocol::{EventId, SessionId};
use tokio::sync::{Semaphore, watch};

use crate::blocking;
use crate::error::Error;
use crate::journal::{JournalError, Reader};

/// What ends a server-sent event after its data.
const FRAME_END: &str = "\n\n";
/// How many recent events are kept in memory.
const RING: usize = 4096;
/// The most bytes of events that are kept in memory.
const RING_BYTES: usize = 8 * 1024 * 1024;
/// How many events one look into the journal fetches.
const CATCH_UP: usize = 512;

/// How many look into the journal at once. More would not be faster, and each costs descriptors: SQLite keeps
/// those of a reader until the writer lets go of the file (<https://www.sqlite.org/howtocorrupt.html>, 2.2).
const READERS: usize = 4;

/// A committed event as it is shown: written once, for the journal and for every subscriber.
#[derive(Clone, Debug)]
pub struct Record {
    /// Position in the journal.
    pub id: EventId,
    /// The session it is about.
    pub session: Option<SessionId>,
    /// The event is a session's last.
    pub(crate) last: bool,
    frame: Arc<str>,
    /// Where in the frame the JSON begins.
    json: usize,
}

impl Record {
    pub(crate) fn new(event: &Event) -> Result<Self, serde_json::Error> {
        let json = serde_json::to_string(event)?;
        Ok(Self::written(event.id, event.session.clone(), event.kind.name(), &json))
    }

    /// From what the journal keeps.
    pub(crate) fn written(id: EventId, session: Option<SessionId>, name: &str, json: &str) -> Self {
        let mut frame = format!("id: {id}\nevent: {name}\ndata: ");
        let begin = frame.len();
        frame.reserve_exact(json.len() + FRAME_END.len());
        frame += json;
        frame += FRAME_END;
        Self { id, session, last: name == "session.deleted", frame: frame.into(), json: begin }
    }

    /// The event as one line of JSON.
    pub fn json(&self) -> &str {
        &self.frame[self.json..self.frame.len() - FRAME_END.len()]
    }

    /// The event as a server-sent event.
    pub fn frame(&self) -> &str {
        &self.frame
    }

    /// The event itself.
    pub fn event(&self) -> Result<Event, Error> {
        serde_json::from_str(self.json()).map_err(|error| Error::Journal(error.to_string()))
    }
}

/// What the loop pushes into and subscribers read from.
pub(crate) struct Feed {
    ring: Mutex<Ring>,
    head: watch::Receiver<EventId>,
    journal: PathBuf,
    /// Readers of the journal that rest.
    readers: Mutex<Vec<Reader>>,
    reading: Arc<Semaphore>,
}

/// The loop's end of the feed. Dropping it ends every subscription.
pub(crate) struct FeedWriter {
    feed: Arc<Feed>,
    head: watch::Sender<EventId>,
}

#[derive(Default)]
struct Ring {
    records: VecDeque<Record>,
    bytes: usize,
    /// Every event after this one and up to the head is in `records`.
    complete_after: EventId,
}

impl Feed {
    /// A feed over the journal in this file, whose last event has the id `last`.
    pub fn over(journal: PathBuf, last: EventId) -> FeedWriter {
        let (sender, head) = watch::channel(last);
        let ring = Mutex::new(Ring { complete_after: last, ..Ring::default() });
        let (readers, reading) = (Mutex::default(), Arc::new(Semaphore::new(READERS)));
        FeedWriter { feed: Arc::new(Feed { ring, head, journal, readers, reading }), head: sender }
    }

    pub fn subscribe(self: &Arc<Self>, after: Option<EventId>, session: Option<SessionId>) -> Subscription {
        let head = self.head.clone();
        let after = after.unwrap_or(*head.borrow());
        Subscription { feed: self.clone(), head, after, session, told: Some(0) }
    }

    /// What the ring has after `after`, if it reaches back that far.
    fn recent(&self, after: EventId) -> Option<Vec<Record>> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if after < ring.complete_after {
            return None;
        }
        let start = ring.records.partition_point(|record| record.id <= after);
        Some(ring.records.range(start..).take(CATCH_UP).cloned().collect())
    }

    /// The first events after `after` and up to `head`, from the journal.
    fn look_up(
        &self,
        after: EventId,
        head: EventId,
        session: Option<&SessionId>,
    ) -> Result<(Vec<Record>, Option<EventId>), JournalError> {
        let readers = || self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let resting = readers().pop();
        let reader = match resting {
            Some(reader) => reader,
            None => Reader::open(&self.journal)?,
        };
        let found = reader.events(after, head, session, CATCH_UP)?;
        readers().push(reader);
        Ok(found)
    }
}

impl FeedWriter {
    pub fn feed(&self) -> Arc<Feed> {
        self.feed.clone()
    }

    /// Up to here events were pruned: who is behind that is told so by the journal.
    pub fn forget(&self, upto: EventId) {
        let mut ring = self.feed.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = ring.records.partition_point(|record| record.id <= upto);
        let bytes: usize = ring.records.drain(..gone).map(|record| record.frame.len()).sum();
        ring.bytes -= bytes;
        ring.complete_after = ring.complete_after.max(upto);
    }

    /// Shows committed events. Never waits for anybody.
    pub fn publish(&self, records: Vec<Record>) {
        let Some(last) = records.last().map(|record| record.id) else {
            return;
        };
        let mut ring = self.feed.ring.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            ring.bytes += record.frame.len();
            ring.records.push_back(record);
        }
        while ring.records.len() > RING || ring.bytes > RING_BYTES {
            let Some(oldest) = ring.records.pop_front() else {
                break;
            };
            ring.bytes -= oldest.frame.len();
            ring.complete_after = oldest.id;
        }
        drop(ring);
        self.head.send_replace(last);
    }
}

/// One subscriber's place in the stream.
pub struct Subscription {
    feed: Arc<Feed>,
    head: watch::Receiver<EventId>,
    after: EventId,
    session: Option<SessionId>,
    /// The last pruned event of which the subscriber was told; none if it is not to be told of any.
    told: Option<EventId>,
}

impl Subscription {
    /// Of what was pruned nothing is said: what is left is enough.
    pub fn of_what_is_left(mut self) -> Self {
        self.told = None;
        self
    }

    /// The next events, at least one, in order; none once the manager has ended and everything was given out.
    ///
    /// Safe to cancel: what was not returned is returned by the next call.
    ///
    /// # Errors
    /// [`Error::Pruned`], once, where events that were to come here were pruned: the next call goes on with those that are
    /// left. [`Error::Journal`] if the journal cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>, Error> {
        loop {
            let ended = self.head.has_changed().is_err();
            if let Some(records) = self.ready().await? {
                return Ok(Some(records));
            }
            if ended {
                return Ok(None);
            }
            // An error means that the loop is gone; one more look finds what it published last.
            let _ = self.head.changed().await;
        }
    }

    /// The next events that exist already; none if the stream has been read up to now.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn ready(&mut self) -> Result<Option<Vec<Record>>, Error> {
        loop {
            let head = *self.head.borrow_and_update();
            if self.after >= head {
                return Ok(None);
            }
            let (mut records, whole) = match self.feed.recent(self.after) {
                Some(records) => (records, false),
                None => {
                    let (records, pruned) = self.catch_up(head).await?;
                    if let (Some(pruned), Some(told)) = (pruned, &mut self.told)
                        && pruned > self.after.max(*told)
                    {
                        *told = pruned;
                        return Err(Error::Pruned { first_available: pruned + 1 });
                    }
                    (records, true)
                }
            };
            // The journal is asked for this session's only; an answer that is not full reaches the head.
            let full = records.len() >= CATCH_UP;
            let reached = match records.last() {
                Some(record) if full || !whole => record.id,
                _ => head,
            };
            self.after = self.after.max(reached);
            if let Some(session) = &self.session {
                records.retain(|record| record.session.as_ref() == Some(session));
            }
            if !records.is_empty() {
                return Ok(Some(records));
            }
        }
    }

    async fn catch_up(&self, head: EventId) -> Result<(Vec<Record>, Option<EventId>), Error> {
        let (feed, after, session) = (self.feed.clone(), self.after, self.session.clone());
        let turn = feed.reading.clone().acquire_owned().await;
        let read = move || {
            let records = feed.look_up(after, head, session.as_ref());
            drop(turn);
            records
        };
        let read = blocking::run(read).await;
        let read = read.ok_or_else(|| Error::Journal("its reader fell".into()))?;
        read.map_err(|error| Error::Journal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_json_and_its_frame() {
        let json = r#"{"id":1,"type":"manager.stopping","data":{}}"#;
        let record = Record::written(1, None, "manager.stopping", json);
        assert_eq!(record.json(), json);
        assert_eq!(record.frame(), format!("id: 1\nevent: manager.stopping\ndata: {json}\n\n"));
        assert!(!record.last && Record::written(2, None, "session.deleted", "{}").last);
    }
}
