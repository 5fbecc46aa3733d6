//! The journal: one SQLite file, one writer (the supervisor's loop), any number of readers.
//!
//! A write records a batch of changes as a whole, and survives the death of any process (WAL, `synchronous` NORMAL,
//! <https://www.sqlite.org/pragma.html#pragma_synchronous>). A sync brings what is written to the disk, where it survives a
//! power cut (`sync.rs`). kennel syncs promises (accepted prompts, starts, ends) before it passes them on, and the stream of a
//! running turn not.

use std::str::FromStr;

use protocol::SessionId;
use rusqlite::{Connection, OptionalExtension};

use crate::core::Reply;

mod checkpoint;
mod commit;
mod connection;
mod error;
mod keys;
mod last_line;
mod open;
mod pieces;
mod places;
mod prune;
#[cfg(test)]
mod prune_tests;
mod pruned;
mod reader;
pub(crate) mod record;
mod removed;
pub(crate) mod reserve;
mod salvage;
mod schema;
mod sync;
#[cfg(test)]
mod tests;
mod texts;
mod transcript;
mod types;
mod usage;
mod wal;

pub use connection::connect;
pub use error::JournalError;
pub use keys::{IdempotencyKey, UsedKey, session_scope};
pub use pieces::Pieces;
pub use prune::{Cut, Wish};
pub use reader::{Large, Page, Reader};
pub use record::Record;
pub use texts::{Mark, Stretch, Told};
pub use types::Types;

/// The writer's end.
pub struct Journal {
    /// Ends before the connection does, which closes the file as the last one.
    checkpointer: Option<checkpoint::Checkpointer>,
    connection: Connection,
    log: sync::Log,
    /// Names the state directory in the marker of its processes.
    pub uuid: String,
    /// The secret from which the manager derives each worker's own secret.
    pub secret: String,
}

impl Journal {
    /// Returns the hash of the request that first used this key, and its answer; none if the key is unused.
    pub fn used(&self, key: &IdempotencyKey) -> Result<Option<(String, Reply)>, JournalError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT request, reply FROM keys WHERE scope = ?1 AND key = ?2")?;
        let row = select.query_row([&key.scope, &key.key], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
        let Some((request, reply)) = row.optional()? else {
            return Ok(None);
        };
        Ok(Some((request, serde_json::from_str(&reply)?)))
    }

    /// Lag of the last manager's clock behind the machine's in this boot, in milliseconds. `None` if no manager of this
    /// boot has recorded one.
    pub fn behind(&self, boot_id: &str) -> Result<Option<i64>, JournalError> {
        self.of_this_boot("behind", boot_id)
    }

    /// Time that earlier managers of this boot did not count, in milliseconds, from those that counted the time asleep.
    pub fn unheard(&self, boot_id: &str) -> Result<u64, JournalError> {
        Ok(self.of_this_boot("unheard", boot_id)?.unwrap_or(0))
    }

    fn of_this_boot<T: FromStr>(&self, name: &str, boot_id: &str) -> Result<Option<T>, JournalError> {
        let mut select = self.connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
        let value: Option<String> = select.query_row([name], |row| row.get(0)).optional()?;
        let of_this_boot = value.as_ref().and_then(|value| value.strip_prefix(boot_id)?.strip_prefix(' '));
        Ok(of_this_boot.and_then(|ms| ms.parse().ok()))
    }

    /// Remembers [`Journal::behind`]. A power cut takes it back, and with it the boot that it is about.
    pub fn remember_behind(&mut self, boot_id: &str, ms: i64) -> Result<(), JournalError> {
        let mut insert =
            self.connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES ('behind', ?1)")?;
        insert.execute([format!("{boot_id} {ms}")])?;
        Ok(())
    }

    /// A session's token.
    pub fn token(&self, id: &SessionId) -> Result<Option<String>, JournalError> {
        let mut select = self.connection.prepare_cached("SELECT token FROM sessions WHERE id = ?1")?;
        Ok(select.query_row([id.as_str()], |row| row.get(0)).optional()?)
    }
}
