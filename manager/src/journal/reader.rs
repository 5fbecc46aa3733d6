//! Reading events for subscribers, on connections of their own.

use std::path::Path;

use protocol::{EventId, SessionId};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::connection::connect;
use super::error::JournalError;
use super::record::Record;
use super::removed;

/// A reader's end: what a subscriber that is far behind catches up from.
pub struct Reader(pub(super) Connection);

impl Reader {
    /// Opens the journal for reading.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(Self(connection))
    }

    /// The first events after `after` and up to `upto`, of one session or of all: at most `limit`, and of at most `page` bytes
    /// together. One that alone has more is named, and not read.
    pub fn events(
        &self,
        after: EventId,
        upto: EventId,
        session: Option<&SessionId>,
        limit: usize,
        page: usize,
    ) -> Result<Page, JournalError> {
        // At one moment: what is pruned between two looks would be missed by both.
        let looked = self.0.unchecked_transaction()?;
        let mut found = Page { pruned: Self::pruned(&looked, session)?, reached: upto, ..Page::default() };
        // SQLite tells how long a text is without reading it, and does not read what is not asked for.
        let columns =
            "id, session, type, octet_length(json), CASE WHEN octet_length(json) <= ?4 THEN json END";
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
            Some(session) => after.max(removed::floor(&looked, session)?),
            None => after,
        };
        let mut select = looked.prepare_cached(&format!(
            "SELECT {columns} FROM events WHERE {of_one} id > ?1 AND id <= ?2 {hidden} ORDER BY id LIMIT ?3"
        ))?;
        let page = i64::try_from(page).unwrap_or(i64::MAX);
        let mut rows = select.query(params![after, upto, limit + 1, page, name])?;
        let mut left = page;
        while let Some(row) = rows.next()? {
            let (id, size): (EventId, i64) = (row.get(0)?, row.get(3)?);
            if found.records.is_empty() && size > page {
                found.large = Some(Large { id, name: text(row, 2)?.into_owned() });
                found.reached = id;
                break;
            }
            if found.records.len() >= limit || size > left {
                found.reached = found.records.last().map_or(after, |last| last.id);
                break;
            }
            left -= size;
            found.records.push(record(row, 4)?);
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

/// A page of events, from the journal or from memory.
#[derive(Debug, Default)]
pub struct Page {
    /// The records, in the order of their ids.
    pub records: Vec<Record>,
    /// Instead of all others: the next one, which is larger than a page.
    pub large: Option<Large>,
    /// Up to here there is nothing else.
    pub reached: EventId,
    /// The last event that was pruned, if any was.
    pub pruned: Option<EventId>,
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
fn record(row: &rusqlite::Row<'_>, json: usize) -> Result<Record, rusqlite::Error> {
    let session: Option<String> = row.get(1)?;
    let session = session.and_then(|id| id.parse().ok());
    Ok(Record::stored(row.get(0)?, session, &text(row, 2)?, &text(row, json)?))
}

fn text<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Result<std::borrow::Cow<'a, str>, rusqlite::Error> {
    row.get_ref(column).map(|text| String::from_utf8_lossy(text.as_bytes().unwrap_or_default()))
}
