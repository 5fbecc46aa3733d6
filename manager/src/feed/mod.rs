//! Events on their way to subscribers.
//!
//! A subscriber has only a cursor. Recent events lie in one shared ring; a subscriber further behind reads the journal. So any number of subscribers costs the loop one push and one doorbell an event, and a
//! slow one costs it nothing.
//!
//! Nothing else is buffered for a subscriber: what it is given at once is a page, of so many events and so many bytes at most.
//! While it takes one, one thread reads the next ones from the journal, up to two, if a reader rests. That thread ends when they wait: a
//! subscriber that does not read holds no thread and no reader. An event that is larger than a page is given alone; to a
//! stream over HTTP, which may take it as slowly as it likes, in pieces, each of which is looked for anew.

mod begin;
mod cursors;
mod look;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::{EventId, SessionId};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::error::Error;
use crate::journal::record::{FRAME_END, head_of};
use crate::journal::{JournalError, Large, Page, Reader, Record, Types};
use crate::system::blocking;
use cursors::{Cursor, Cursors};
use look::{Ahead, Look};

pub(crate) use begin::Begin;

/// Number of recent events in memory.
const RING: usize = 4096;
/// The most bytes of events that are kept in memory.
const RING_BYTES: usize = 8 * 1024 * 1024;
/// Number of events that one read of the journal fetches.
const CATCH_UP: usize = 1024;
/// The most bytes of a page of more than one event.
const PAGE: usize = 1024 * 1024;
/// The same for a page of the journal that is sent as it is read: while it is sent, the next one is read.
const FRAMES: usize = 256 * 1024;
/// Pages that may wait for one subscriber.
const AHEAD: usize = 2;

/// Readers of the journal at one time. More would not be faster, and each costs descriptors: SQLite keeps those of a
/// reader until the writer lets go of the file (<https://www.sqlite.org/howtocorrupt.html>, 2.2).
const READERS: usize = 4;

/// Events from the loop to subscribers.
pub(crate) struct Feed {
    ring: Mutex<Ring>,
    head: watch::Receiver<EventId>,
    journal: PathBuf,
    /// Readers of the journal that rest.
    readers: Mutex<Vec<Reader>>,
    reading: Arc<Semaphore>,
    cursors: Cursors,
}

/// The loop's end of the feed. Dropping it ends every subscription.
pub(crate) struct FeedWriter {
    feed: Arc<Feed>,
    head: watch::Sender<EventId>,
}

impl Drop for FeedWriter {
    /// The last connection to close merges the journal's log into its file, if it may write. So the readers close first.
    fn drop(&mut self) {
        self.feed.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
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
        let cursors = Cursors::default();
        FeedWriter { feed: Arc::new(Feed { ring, head, journal, readers, reading, cursors }), head: sender }
    }

    /// The id of the newest event, to be watched.
    pub fn news(&self) -> watch::Receiver<EventId> {
        self.head.clone()
    }

    pub fn subscribe(self: &Arc<Self>, after: Option<EventId>, session: Option<SessionId>) -> Subscription {
        let head = self.head.clone();
        let after = after.unwrap_or(*head.borrow());
        let (told, types, upto, part, ahead) = (Some(0), None, None, None, None);
        let cursor = self.cursors.at(after);
        Subscription { feed: self.clone(), head, after, session, types, told, upto, part, ahead, cursor }
    }

    /// Events of the ring after `after` and up to `head`; `None` if the ring does not reach back that far.
    fn recent(
        &self,
        after: EventId,
        head: EventId,
        session: Option<&SessionId>,
        types: Option<&Types>,
        page: usize,
    ) -> Option<Page> {
        let ring = self.ring();
        if after < ring.complete_after {
            return None;
        }
        let start = ring.records.partition_point(|record| record.id <= after);
        let mut found = Page { reached: head, ..Page::default() };
        let mut bytes = 0;
        for record in ring.records.range(start..).take_while(|record| record.id <= head) {
            if session.is_some() && record.session.as_ref() != session {
                continue;
            }
            if types.is_some_and(|types| !types.has(record.name())) {
                found.last |= session.is_some() && record.last;
                continue;
            }
            let size = record.frame().len();
            if found.records.is_empty() && size > page {
                found.large = Some(Large { id: record.id, name: record.name().to_owned() });
                found.reached = record.id;
                break;
            }
            if found.records.len() >= CATCH_UP || bytes + size > page {
                found.reached = found.records.last().map_or(after, |last: &Record| last.id);
                break;
            }
            bytes += size;
            found.records.push(record.clone());
        }
        Some(found)
    }

    /// The last event that was published. The journal may hold later ones, which are not synced yet.
    pub fn last(&self) -> EventId {
        *self.head.borrow()
    }

    /// Returns true once no event follows any more.
    pub fn has_ended(&self) -> bool {
        self.head.has_changed().is_err()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record with this id, if the ring has it.
    fn in_ring(&self, id: EventId) -> Option<Record> {
        let ring = self.ring();
        let at = ring.records.partition_point(|record| record.id < id);
        ring.records.get(at).filter(|record| record.id == id).cloned()
    }

    /// Reads the journal with a reader that rests, or a new one, which rests then.
    pub fn read<T>(&self, look: impl FnOnce(&Reader) -> Result<T, JournalError>) -> Result<T, JournalError> {
        let readers = || self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let resting = readers().pop();
        let reader = match resting {
            Some(reader) => reader,
            None => Reader::open(&self.journal)?,
        };
        let found = look(&reader)?;
        readers().push(reader);
        Ok(found)
    }

    /// The same on a thread of its own, when it is this one's turn.
    pub async fn read_elsewhere<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&Reader) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = self.reading.clone().acquire_owned().await;
        let feed = self.clone();
        let read = move || {
            let found = feed.read(look);
            drop(turn);
            found
        };
        let read = blocking::run(read).await;
        read.ok_or_else(|| Error::Unread("the journal: its reader panicked".into()))?.map_err(unread)
    }

    /// Begins to read these pages, one after the other, until one is the last, the next one has no room, or somebody else waits for
    /// a reader. Not begun where no reader rests: those who wait for one go before.
    fn read_ahead(self: &Arc<Self>, mut look: Look) -> Option<mpsc::Receiver<Ahead>> {
        let turn = self.reading.clone().try_acquire_owned().ok()?;
        let (pages, coming) = mpsc::channel(AHEAD);
        let feed = self.clone();
        let read = move || {
            loop {
                let Look { after, as_frames, .. } = look;
                let page = feed.read(|reader| look.read(reader));
                let next = page.as_ref().ok().and_then(|page| page.next(look.head));
                let is_room = pages.capacity() > 1 && feed.reading.available_permits() > 0;
                let Some(next) = next.filter(|_| is_room) else {
                    // Before the reader of the page looks for a turn.
                    drop(turn);
                    // The subscriber may have gone.
                    let _ = pages.try_send(Ahead { after, as_frames, page, is_last: true });
                    return;
                };
                look.after = next;
                if pages.try_send(Ahead { after, as_frames, page, is_last: false }).is_err() {
                    return;
                }
            }
        };
        blocking::begin(read).ok().map(|_| coming)
    }
}

fn unread(error: JournalError) -> Error {
    Error::Unread(format!("the journal: {error}"))
}

impl FeedWriter {
    pub fn feed(&self) -> Arc<Feed> {
        self.feed.clone()
    }

    /// Forgets events up to `upto`, which were pruned. Subscribers behind it read the journal, which reports the gap.
    pub fn forget(&self, upto: EventId) {
        let mut ring = self.feed.ring();
        let gone = ring.records.partition_point(|record| record.id <= upto);
        let bytes: usize = ring.records.drain(..gone).map(|record| record.frame().len()).sum();
        ring.bytes -= bytes;
        ring.complete_after = ring.complete_after.max(upto);
    }

    /// Shows committed events. Never waits for anybody.
    pub fn publish(&self, records: Vec<Record>) {
        let Some(last) = records.last().map(|record| record.id) else { return };
        let mut ring = self.feed.ring();
        for record in records {
            ring.bytes += record.frame().len();
            ring.records.push_back(record);
        }
        while ring.records.len() > RING || ring.bytes > RING_BYTES {
            let Some(oldest) = ring.records.pop_front() else { break };
            ring.bytes -= oldest.frame().len();
            ring.complete_after = oldest.id;
        }
        drop(ring);
        self.head.send_replace(last);
    }
}

/// Position of a subscriber in the stream.
pub struct Subscription {
    feed: Arc<Feed>,
    head: watch::Receiver<EventId>,
    after: EventId,
    session: Option<SessionId>,
    /// Only events of these types.
    types: Option<Types>,
    /// The last pruned event that the subscriber knows of; `None`: the subscriber gets no gap events.
    told: Option<EventId>,
    /// The stream ends with this event.
    upto: Option<EventId>,
    /// An event that is given in pieces, of which not all was given.
    part: Option<Part>,
    /// The pages of the journal that come next, if they are being read.
    ahead: Option<mpsc::Receiver<Ahead>>,
    /// `after`, for whoever asks how far the subscriber is behind.
    cursor: Cursor,
}

/// Bytes of an event's JSON that the subscriber has received.
struct Part {
    id: EventId,
    given: usize,
}

/// Server-sent events, or a piece of one, as they are sent.
pub(crate) struct Text {
    pub frames: String,
    /// The last event of a session is among them.
    pub last: bool,
}

impl Subscription {
    /// Skips pruned events without a gap event.
    pub fn of_what_is_left(mut self) -> Self {
        self.told = None;
        self
    }

    /// Only events of these types.
    pub(crate) fn only(mut self, types: Option<Types>) -> Self {
        self.types = types;
        self
    }

    /// The stream ends with this event.
    pub(crate) fn up_to(mut self, last: Option<EventId>) -> Self {
        self.upto = last;
        if last.is_some() {
            // Whoever does not follow falls behind nobody.
            self.cursor = Cursor::default();
        }
        self
    }

    /// The next events, at least one, in order; none once the manager has ended and everything was given out. At most 1024,
    /// and more than 1 MiB only where one alone is larger.
    ///
    /// Safe to cancel: what was not returned is returned by the next call.
    ///
    /// # Errors
    /// [`Error::Pruned`], once, where events that were to come here were pruned: the next call goes on with those that are
    /// left. [`Error::Unread`] if the journal cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>, Error> {
        loop {
            let ended = self.head.has_changed().is_err();
            if let Some(records) = self.ready().await? {
                return Ok(Some(records));
            }
            if ended {
                return Ok(None);
            }
            self.changed().await;
        }
    }

    /// The next events that exist already; none if the stream has been read up to now.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn ready(&mut self) -> Result<Option<Vec<Record>>, Error> {
        while let Some(page) = self.page(PAGE, false).await? {
            let Some(Large { id, .. }) = page.large else {
                self.reach(page.reached);
                return Ok(Some(page.records));
            };
            let record = match self.feed.in_ring(id) {
                Some(record) => Some(record),
                None => self.feed.read_elsewhere(move |reader| reader.event(id)).await?,
            };
            self.reach(page.reached);
            if let Some(record) = record {
                return Ok(Some(vec![record]));
            }
        }
        Ok(None)
    }

    /// The next server-sent events, of so many bytes at most; none at the end, and where it is not to wait once the stream has been
    /// read up to now. Of an event that is larger the next piece: then [`is_within`](Self::is_within) until its last was given.
    ///
    /// Safe to cancel.
    ///
    /// # Errors
    /// As [`next`](Self::next); also [`Error::Journal`] if what is left of an event is not there any more.
    pub(crate) async fn text(&mut self, most: usize, wait: bool) -> Result<Option<Text>, Error> {
        loop {
            if let Some(part) = &self.part {
                let (id, given) = (part.id, part.given);
                let piece = match self.feed.in_ring(id) {
                    Some(record) => Some(piece_of(record.json().as_bytes(), given, most)),
                    None => self.feed.read_elsewhere(move |reader| reader.piece(id, given, most)).await?,
                };
                let Some((bytes, whole)) = piece else {
                    return Err(Error::Journal(format!("event {id} was pruned while it was sent")));
                };
                let (text, taken) = readable(&bytes, whole);
                let mut frames = text;
                if whole {
                    frames += FRAME_END;
                    self.part = None;
                } else {
                    self.part = Some(Part { id, given: given + taken });
                }
                return Ok(Some(Text { frames, last: false }));
            }
            let ended = self.head.has_changed().is_err();
            match self.page(most, true).await? {
                Some(page) => {
                    self.reach(page.reached);
                    if let Some(Large { id, name }) = page.large {
                        self.part = Some(Part { id, given: 0 });
                        return Ok(Some(Text { frames: head_of(id, &name), last: false }));
                    }
                    if page.records.is_empty() {
                        return Ok(Some(Text { frames: page.frames, last: page.last }));
                    }
                    let last = page.last || page.records.iter().any(|record| record.last);
                    let size = page.records.iter().map(|record| record.frame().len()).sum();
                    let mut frames = String::with_capacity(size);
                    frames.extend(page.records.iter().map(Record::frame));
                    return Ok(Some(Text { frames, last }));
                }
                None if ended || !wait => return Ok(None),
                None => self.changed().await,
            }
        }
    }

    /// Returns true if the subscriber has received the beginning of an event and not yet its end.
    pub(crate) fn is_within(&self) -> bool {
        self.part.is_some()
    }

    fn reach(&mut self, id: EventId) {
        self.after = id;
        self.cursor.moves_to(id);
    }

    async fn changed(&mut self) {
        // An error means that the loop is gone; one more look finds what it published last.
        let _ = self.head.changed().await;
    }

    /// The next page that has something in it. The cursor stays before it.
    async fn page(&mut self, most: usize, as_frames: bool) -> Result<Option<Page>, Error> {
        loop {
            let newest = *self.head.borrow_and_update();
            let head = self.upto.map_or(newest, |upto| upto.min(newest));
            if self.after >= head {
                return Ok(None);
            }
            let page =
                match self.feed.recent(self.after, head, self.session.as_ref(), self.types.as_ref(), most) {
                    Some(page) => {
                        self.ahead = None;
                        page
                    }
                    None => self.past(head, most, as_frames).await?,
                };
            if let (Some(pruned), Some(told)) = (page.pruned, &mut self.told)
                && pruned > self.after.max(*told)
            {
                *told = pruned;
                return Err(Error::Pruned { first_available: pruned + 1 });
            }
            if !page.is_empty() {
                return Ok(Some(page));
            }
            self.reach(self.after.max(page.reached));
        }
    }

    /// The next page of the journal, up to `head`. Safe to cancel.
    async fn past(&mut self, head: EventId, most: usize, as_frames: bool) -> Result<Page, Error> {
        let (session, types) = (self.session.clone(), self.types.clone());
        let look = Look { after: self.after, head, session, types, most, as_frames };
        let read = match &mut self.ahead {
            Some(coming) => coming.recv().await.filter(|ahead| ahead.is_of(&look)),
            None => None,
        };
        let is_more_coming = read.as_ref().is_some_and(|ahead| !ahead.is_last);
        if !is_more_coming {
            self.ahead = None;
        }
        let page = match read {
            Some(ahead) => ahead.page.map_err(unread)?,
            None => {
                let look = look.clone();
                self.feed.read_elsewhere(move |reader| look.read(reader)).await?
            }
        };
        if !is_more_coming && let Some(after) = page.next(head) {
            self.ahead = self.feed.read_ahead(Look { after, ..look });
        }
        Ok(page)
    }
}

/// So many bytes of these at most, from there on, and whether they are the last.
fn piece_of(bytes: &[u8], from: usize, most: usize) -> (Vec<u8>, bool) {
    let rest = bytes.get(from..).unwrap_or_default();
    (rest[..rest.len().min(most)].to_vec(), rest.len() <= most)
}

/// A piece as text, and how many of its bytes that is: a character whose end is in the next piece is left to it. What is no UTF-8 is
/// replaced.
pub(crate) fn readable(bytes: &[u8], whole: bool) -> (String, usize) {
    let end = match bytes.utf8_chunks().last() {
        // Up to three bytes that may become a character.
        Some(chunk) if !whole && !chunk.invalid().is_empty() => {
            let tail = chunk.invalid();
            let unfinished = std::str::from_utf8(tail).is_err_and(|error| error.error_len().is_none());
            if unfinished { bytes.len() - tail.len() } else { bytes.len() }
        }
        _ => bytes.len(),
    };
    (String::from_utf8_lossy(&bytes[..end]).into_owned(), end)
}

#[cfg(test)]
mod tests;
