//! Reading events for subscribers, on connections of their own.

use std::borrow::Cow;
use std::path::Path;

use protocol::{EventId, SessionId};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::connection::connect;
use super::error::JournalError;
use super::record::{Record, is_last, push_stored};
use super::removed;
use super::types::Types;

/// The most bytes that an event's frame has beside its JSON.
const HEAD: usize = 128;
/// The most events that one look for some types goes through: a reader is free for others after it.
pub(super) const LOOKED_AT: usize = 32 * 1024;

/// A reader's end: what a subscriber that is far behind catches up from.
pub struct Reader(pub(super) Connection);

impl Reader {
    /// Opens the journal for reading.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        // One thread at a time has it: a lock around each column of each row would be for nobody.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = connect(path, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(Self(connection))
    }

    /// The first events after `after` and up to `upto`, of one session or of all, of these types or of all: at most `limit`,
    /// and of at most `page` bytes together, with their heads. One that alone has more is named, and not read.
    pub fn events(
        &self,
        after: EventId,
        upto: EventId,
        session: Option<&SessionId>,
        types: Option<&Types>,
        limit: usize,
        page: usize,
    ) -> Result<Page, JournalError> {
        let bounds = PageBounds { after, upto, session, types, limit, page, alone: page };
        self.page(bounds, |found, row, id, json| {
            let record = Record::stored(id, session_of(row)?, &text(row, 2)?, json);
            let size = record.frame().len();
            found.records.push(record);
            Ok(size)
        })
    }

    /// The same as server-sent events, of at most `page` bytes with their heads. One that has more is the only one, and if its
    /// JSON has more than `alone`, it is named and not read.
    pub fn frames(
        &self,
        after: EventId,
        upto: EventId,
        session: Option<&SessionId>,
        types: Option<&Types>,
        page: usize,
        alone: usize,
    ) -> Result<Page, JournalError> {
        let bounds = PageBounds { after, upto, session, types, limit: page, page, alone };
        self.page(bounds, |found, row, id, json| {
            let before = found.frames.len();
            if before == 0 {
                // All of it at once: a string that grows moves what it has.
                found.frames.reserve(page.max(json.len() + HEAD));
            }
            let name = text(row, 2)?;
            push_stored(&mut found.frames, id, || session_of(row).ok().flatten(), &name, json);
            found.last |= is_last(&name);
            Ok(found.frames.len() - before)
        })
    }

    /// Looks at one event after the other, and takes those that have room in the page. `take` gives the bytes that one took.
    fn page(
        &self,
        bounds: PageBounds<'_>,
        mut take: impl FnMut(&mut Page, &Row<'_>, EventId, &str) -> Result<usize, rusqlite::Error>,
    ) -> Result<Page, JournalError> {
        let PageBounds { upto, session, types, .. } = bounds;
        // At one moment: what is pruned between two looks would be missed by both.
        let looked = self.0.unchecked_transaction()?;
        let mut found = Page { pruned: Self::pruned(&looked, session)?, reached: upto, ..Page::default() };
        // SQLite tells how long a text is without reading it, and does not read what is not asked for.
        let columns = "id, session, type,
            CASE WHEN octet_length(json) <= ?4 AND (?6 IS NULL OR instr(?6, ',' || type || ',')) THEN json END";
        let (of_one, name) = match session {
            Some(session) => ("session = ?5 AND", session.as_str()),
            None => ("?5 = '' AND", ""),
        };
        // Hardly ever: while a large session that was removed is cleared away.
        let hidden = match session.is_none() && removed::is_any_left(&looked)? {
            true => format!("AND NOT {}", removed::IS_LEFT),
            false => String::new(),
        };
        let after = match session {
            Some(session) => bounds.after.max(removed::floor(&looked, session)?),
            None => bounds.after,
        };
        let mut select = looked.prepare_cached(&format!(
            "SELECT {columns} FROM events WHERE {of_one} id > ?1 AND id <= ?2 {hidden} ORDER BY id LIMIT ?3"
        ))?;
        let alone = i64::try_from(bounds.alone).unwrap_or(i64::MAX);
        // Between two events of the types there may be any number of others.
        let mut looks_left = if types.is_some() { LOOKED_AT } else { bounds.limit.saturating_add(1) };
        let names = types.map(Types::between_commas);
        let mut rows = select.query(params![after, upto, looks_left, alone, name, names])?;
        let (mut taken, mut bytes, mut reached) = (0, 0, after);
        while let Some(row) = rows.next()? {
            let id: EventId = row.get(0)?;
            looks_left -= 1;
            if let Some(types) = types {
                let name = text(row, 2)?;
                // The look may end here, and go on after this event.
                if looks_left == 0 {
                    found.reached = id;
                }
                if !types.has(&name) {
                    found.last |= session.is_some() && is_last(&name);
                    reached = id;
                    continue;
                }
            }
            let json = match row.get_ref(3)? {
                ValueRef::Null if taken == 0 => {
                    found.large = Some(Large { id, name: text(row, 2)?.into_owned() });
                    found.reached = id;
                    break;
                }
                ValueRef::Null => None,
                json => Some(readable(json)),
            };
            let has_room = |json: &str| taken < bounds.limit && bytes + json.len() + HEAD <= bounds.page;
            let Some(json) = json.filter(|json| taken == 0 || has_room(json)) else {
                found.reached = reached;
                break;
            };
            bytes += take(&mut found, row, id, &json)?;
            (taken, reached) = (taken + 1, id);
        }
        Ok(found)
    }

    /// Reads one event of any size; none if it does not exist.
    pub fn event(&self, id: EventId) -> Result<Option<Record>, JournalError> {
        let mut select = self.0.prepare_cached("SELECT id, session, type, json FROM events WHERE id = ?1")?;
        Ok(select.query_row([id], |row| record(row, 3)).optional()?)
    }

    /// So many bytes of an event's JSON at most, from this one on, and whether they are the last; none if there is no such
    /// event. What is before them is not read.
    pub fn piece(
        &self,
        id: EventId,
        from: usize,
        most: usize,
    ) -> Result<Option<(Vec<u8>, bool)>, JournalError> {
        let id = i64::try_from(id).unwrap_or(i64::MAX);
        let blob = match self.0.blob_open(rusqlite::MAIN_DB, "events", "json", id, true) {
            Ok(blob) => blob,
            Err(_) if self.event_size(id)?.is_none() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let rest = blob.len().saturating_sub(from);
        let mut bytes = vec![0; rest.min(most)];
        blob.read_at_exact(&mut bytes, from)?;
        Ok(Some((bytes, rest <= most)))
    }

    fn event_size(&self, id: i64) -> Result<Option<i64>, rusqlite::Error> {
        let mut select = self.0.prepare_cached("SELECT octet_length(json) FROM events WHERE id = ?1")?;
        select.query_row([id], |row| row.get(0)).optional()
    }
}

/// Which events a page takes, and how many.
struct PageBounds<'a> {
    after: EventId,
    upto: EventId,
    session: Option<&'a SessionId>,
    types: Option<&'a Types>,
    /// Events.
    limit: usize,
    /// Bytes of all events.
    page: usize,
    /// Bytes of the JSON of an event that is the only one.
    alone: usize,
}

/// A page of events, from the journal or from memory.
#[derive(Debug, Default)]
pub struct Page {
    /// The records, in the order of their ids.
    pub records: Vec<Record>,
    /// Instead of the records: their frames, one after the other.
    pub frames: String,
    /// The last event of a session is among the frames, or among those that were left out for their type.
    pub last: bool,
    /// Instead of all others: the next one, which is larger than a page.
    pub large: Option<Large>,
    /// Up to here there is nothing else.
    pub reached: EventId,
    /// The last event that was pruned, if any was.
    pub pruned: Option<EventId>,
}

impl Page {
    /// Returns true if there is no event in it, and the end of no stream.
    pub fn is_empty(&self) -> bool {
        self.large.is_none() && self.records.is_empty() && self.frames.is_empty() && !self.last
    }

    /// The cursor before the page that follows this one, of those up to `head`; none if there is no other, and after an event that
    /// is read in pieces.
    pub fn next(&self, head: EventId) -> Option<EventId> {
        (self.large.is_none() && self.reached < head).then_some(self.reached)
    }
}

/// An event that is too large to be read with others.
#[derive(Debug)]
pub struct Large {
    /// The event's id.
    pub id: EventId,
    /// The event's type.
    pub name: String,
}

/// A record from columns that begin with id, session and type. One that is damaged hides none of the others.
fn record(row: &Row<'_>, json: usize) -> Result<Record, rusqlite::Error> {
    Ok(Record::stored(row.get(0)?, session_of(row)?, &text(row, 2)?, &text(row, json)?))
}

fn session_of(row: &Row<'_>) -> Result<Option<SessionId>, rusqlite::Error> {
    let session: Option<String> = row.get(1)?;
    Ok(session.and_then(|id| id.parse().ok()))
}

pub(super) fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<Cow<'a, str>, rusqlite::Error> {
    row.get_ref(column).map(readable)
}

fn readable(value: ValueRef<'_>) -> Cow<'_, str> {
    let bytes = value.as_bytes().unwrap_or_default();
    // Nearly always it is UTF-8, and this look is the faster one.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}
