//! Opening the journal: checks, salvage of a damaged file, and loading what it remembers.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use protocol::{EventId, Incarnation, PromptId, SessionId};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::connection::connect;
use super::error::{JournalError, Unopened, unusable};
use super::schema::{self, VERSION, prepare, version};
use super::{Journal, checkpoint, salvage, sync};
use crate::core::{Fleet, Prompt, Session};
use crate::error::StartError;

/// Up to this size all of it is looked through at every start, in bytes; above, only at the first after a boot.
const LOOKED_THROUGH: u64 = 64 << 20;
/// Versions above this were never written by any kennel.
const NO_VERSION: u32 = 1000;

/// A journal and what it remembers.
pub struct Opened {
    /// The writer's end.
    pub journal: Journal,
    /// Every session.
    pub fleet: Fleet,
    /// The boot in which it was last written.
    pub boot_id: Option<String>,
    /// The loss after a salvage, for a person; none if the journal was not damaged.
    pub lost: Option<String>,
}

impl Journal {
    /// Opens or creates the journal. A newer one is not touched. Of a damaged one all that can be read is brought over
    /// into a new one.
    pub fn open(path: &Path, boot_id: &str) -> Result<Opened, StartError> {
        let failed = |error| unusable(path, error);
        salvage::finish(path).map_err(|error| failed(JournalError::Io(error)))?;
        let opened = look_for_damage(path, boot_id).and_then(|()| Self::open_whole(path));
        let why = match opened {
            Err(Unopened::Damaged(why)) => why,
            Err(Unopened::Other(error)) => return Err(error),
            Ok(opened) => return Ok(opened),
        };
        tracing::error!(%why, "the journal is damaged");
        salvage::salvage(path, &why).map_err(|error| StartError::Damaged {
            path: path.into(),
            why,
            message: error.to_string(),
        })?;
        Self::open_whole(path).map_err(|error| match error {
            Unopened::Damaged(message) => StartError::Journal { path: path.into(), message },
            Unopened::Other(error) => error,
        })
    }

    fn open_whole(path: &Path) -> Result<Opened, Unopened> {
        let failed = |error: JournalError| Unopened::of(path, error);
        let mut connection = connect(path, OpenFlags::default()).map_err(|error| failed(error.into()))?;
        // Should it turn out to be damaged, it is kept as it was found.
        let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection.set_db_config(keep, true).map_err(|error| failed(error.into()))?;
        let found = version(path, &connection).map_err(Unopened::Other)?;
        schema::verify(path, &connection, found)?;
        prepare(&mut connection, found).map_err(failed)?;
        let rewritten = sync::rewrite(path, &connection).map_err(failed)?;
        let mut opened = load(path, connection).map_err(failed)?;
        if rewritten {
            opened.lost.get_or_insert_with(|| sync::LOST.into());
        }
        let journal = &mut opened.journal;
        let begun = journal.connection.set_db_config(keep, false).and_then(|_| {
            // From here on `Journal::sync` syncs.
            journal.connection.pragma_update(None, "synchronous", "NORMAL")?;
            journal.checkpointer = checkpoint::Checkpointer::start(path, &mut journal.connection)?;
            Ok(())
        });
        begun.map_err(|error| failed(error.into()))?;
        Ok(opened)
    }

    /// Checks that [`open`](Self::open) accepts the journal's version. A journal that does not exist is accepted.
    pub fn check(path: &Path) -> Result<(), StartError> {
        if !path.exists() {
            return Ok(());
        }
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        version(path, &connection.map_err(|error| unusable(path, error.into()))?).map(drop)
    }
}

/// Makes sure that the file is not damaged, as far as is reasonable at each start. Changes nothing.
fn look_for_damage(path: &Path, boot_id: &str) -> Result<(), Unopened> {
    let unreadable = |error| Unopened::Other(unusable(path, JournalError::Io(error)));
    let length = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(unreadable(error)),
    };
    if length == 0 {
        let why = if path.exists() { "the file is empty" } else { "the file is gone" };
        return match salvage::has_traces(path) {
            true => Err(Unopened::Damaged(format!("{why}, and there were sessions"))),
            false => Ok(()),
        };
    }
    match look_through(path, length, boot_id) {
        Ok(found) if found > VERSION => {
            let error = StartError::NewerJournal { path: path.into(), found, known: VERSION };
            return Err(Unopened::Other(error));
        }
        Ok(_) => {}
        Err(error) => return Err(Unopened::of(path, error)),
    }
    match salvage::is_log_damaged(path) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Unopened::Damaged("the log of its newest commits is torn".into())),
        Err(error) => Err(unreadable(error)),
    }
}

/// Reads as much of the file as is reasonable at each start, and returns its version. A file of a newer version is not read.
fn look_through(path: &Path, length: u64, boot_id: &str) -> Result<u32, JournalError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))?;
    if version > NO_VERSION {
        return Err(JournalError::Lacks("a version"));
    }
    if version > VERSION {
        return Ok(version);
    }
    let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    if tables == 0 && !salvage::has_traces(path) {
        // The manager that created the file died before it wrote anything.
        return Ok(version);
    }
    let last: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE name = 'boot_id'", [], |row| row.get(0))
        .optional()?;
    if length <= LOOKED_THROUGH || last.as_deref() != Some(boot_id) {
        let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if said != "ok" {
            return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(11), Some(said)).into());
        }
    }
    Ok(version)
}

fn load(path: &Path, connection: Connection) -> Result<Opened, JournalError> {
    let meta = |name: &str| -> Result<Option<String>, rusqlite::Error> {
        connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
    };
    let uuid = meta("uuid")?.ok_or(JournalError::Lacks("its name"))?;
    let secret = meta("secret")?.ok_or(JournalError::Lacks("its secret"))?;
    let (boot_id, lost) = (meta("boot_id")?, meta("lost")?);
    // Ids up to here were given out by a journal that was damaged.
    let floor: EventId = meta("floor")?.and_then(|floor| floor.parse().ok()).unwrap_or(0);
    let mut texts: HashMap<PromptId, Arc<str>> = HashMap::new();
    let mut select = connection.prepare("SELECT id, text FROM prompts")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        texts.insert(PromptId(row.get(0)?), row.get::<_, String>(1)?.into());
    }
    drop(rows);
    drop(select);
    let mut sessions = Vec::new();
    let mut select = connection.prepare("SELECT doc FROM sessions")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let mut session: Session = serde_json::from_str(&row.get::<_, String>(0)?)?;
        let turns = &mut session.turns;
        let running = turns.running.iter_mut().map(|turn| &mut turn.prompt);
        let prompts: Vec<&mut Prompt> =
            running.chain(&mut turns.queue).chain(&mut turns.interrupted).collect();
        for prompt in prompts {
            // Nothing is run in the place of a text that is not there.
            prompt.text = texts.remove(&prompt.id).ok_or(JournalError::Lacks("the text of a prompt"))?;
        }
        sessions.push(session);
    }
    drop(rows);
    drop(select);
    let mut retired = Vec::new();
    let mut select = connection.prepare("SELECT id, incarnation FROM retired")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        if let Ok(id) = row.get::<_, String>(0)?.parse::<SessionId>() {
            retired.push((id, row.get::<_, Incarnation>(1)?));
        }
    }
    drop(rows);
    drop(select);
    // Every id that was ever given out is in one of these tables, so the counters need no rows of their own.
    let ids = sessions.iter().map(|session| &session.id).chain(retired.iter().map(|(id, _)| id));
    let next_number = ids.filter_map(SessionId::number).max().unwrap_or(0).saturating_add(1);
    let last: Option<EventId> = connection.query_row("SELECT max(id) FROM events", [], |row| row.get(0))?;
    let fleet = Fleet::load(sessions, retired, next_number, last.unwrap_or(0).max(floor) + 1);
    let log = sync::Log::open(path)?;
    Ok(Opened {
        journal: Journal { checkpointer: None, connection, log, uuid, secret },
        fleet,
        boot_id,
        lost,
    })
}
