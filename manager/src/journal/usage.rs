//! Sizes of the journal's contents.

use std::collections::BTreeMap;

use protocol::SessionId;
use protocol::api::JournalUsage;
use rusqlite::Connection;

use super::error::JournalError;
use super::reader::Reader;
use crate::system::blocking;

/// Of one session, or of none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Events.
    pub events: u64,
    /// Their JSON, in bytes.
    pub event_bytes: u64,
    /// Texts and attachments of its prompts that may still be run, in bytes.
    pub prompt_bytes: u64,
}

impl Reader {
    /// Size of the journal's contents, in all and by session. Does not measure files.
    ///
    /// Reads a few bytes of every row: call it on a thread for which nothing waits.
    pub fn usage(&self) -> Result<(JournalUsage, BTreeMap<Option<SessionId>, Held>), JournalError> {
        blocking::never_on_the_loop();
        // All of it at one moment.
        let looked = self.0.unchecked_transaction()?;
        let mut usage = JournalUsage { free_bytes: free_bytes(&looked)?, ..JournalUsage::default() };
        let mut held: BTreeMap<Option<SessionId>, Held> = BTreeMap::new();
        let mut each = |sql: &str, add: &mut dyn FnMut(&mut Held, u64)| -> Result<(), JournalError> {
            let mut select = looked.prepare_cached(sql)?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let session = row.get_ref(0)?.as_str_or_null().ok().flatten();
                let session = session.and_then(|id| id.parse().ok());
                add(held.entry(session).or_default(), row.get(1)?);
            }
            Ok(())
        };
        // The length of a text in bytes is known without reading it (octet_length,
        // https://www.sqlite.org/lang_corefunc.html).
        each("SELECT session, octet_length(json) FROM events", &mut |held, bytes| {
            (usage.events, usage.event_bytes) = (usage.events + 1, usage.event_bytes + bytes);
            (held.events, held.event_bytes) = (held.events + 1, held.event_bytes + bytes);
        })?;
        each("SELECT session, octet_length(text) FROM prompts", &mut |held, bytes| {
            (usage.prompts, usage.prompt_bytes) = (usage.prompts + 1, usage.prompt_bytes + bytes);
            held.prompt_bytes += bytes;
        })?;
        each("SELECT session, octet_length(doc) FROM attachments", &mut |held, bytes| {
            usage.attachments += 1;
            usage.attachment_bytes += bytes;
            held.prompt_bytes += bytes;
        })?;
        Ok((usage, held))
    }
}

/// Returns the size of the file's free pages, in bytes. SQLite fills them before the file grows.
pub fn free_bytes(connection: &Connection) -> Result<u64, JournalError> {
    let number = |name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, u64>(0));
    Ok(number("freelist_count")? * number("page_size")?)
}
