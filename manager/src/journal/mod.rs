//! What is remembered: one SQLite file, one writer (the supervisor's loop), any number of readers.
//!
//! A commit holds a batch of changes whole. Promises (accepted prompts, starts, ends) are synced to the disk
//! before anybody hears of them; the stream of a running turn is committed without a sync, which survives the
//! death of any process but not a power cut (WAL, `synchronous` FULL and NORMAL,
//! <https://www.sqlite.org/pragma.html#pragma_synchronous>).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use protocol::event::{Event, EventKind};
use protocol::{EventId, Incarnation, PromptId, SessionId};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};

use crate::core::{Attached, Change, Fleet, Prompt, Reply, Session};
use crate::error::StartError;
use crate::feed::Record;
use crate::supervisor::IdempotencyKey;

mod checkpoint;
mod prune;
mod removed;
mod salvage;
mod schema;
mod transcript;
mod usage;
mod wal;

pub use prune::{Cut, Wish};

/// The schema this kennel writes.
const VERSION: u32 = 2;

const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE sessions (id TEXT PRIMARY KEY, token TEXT NOT NULL, doc TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE retired (id TEXT PRIMARY KEY, incarnation INTEGER NOT NULL) WITHOUT ROWID;
    -- Texts of prompts that may still be run: written once, and not with every change of their session.
    CREATE TABLE prompts (id INTEGER PRIMARY KEY, session TEXT NOT NULL, text TEXT NOT NULL);
    CREATE TABLE events (id INTEGER PRIMARY KEY, session TEXT, type TEXT NOT NULL, json TEXT NOT NULL);
    CREATE INDEX events_of_session ON events (session, id);
    CREATE TABLE keys (scope TEXT, key TEXT, request TEXT NOT NULL, reply TEXT NOT NULL,
                       PRIMARY KEY (scope, key)) WITHOUT ROWID;
";

/// What version 2 has and version 1 has not. What belongs to prompts that may still be run, beside their texts: read
/// when they are, and not with their sessions.
const SINCE_2: &str = "
    CREATE TABLE attachments (prompt INTEGER, session TEXT NOT NULL, position INTEGER, doc TEXT NOT NULL);
    CREATE INDEX attachments_of_prompt ON attachments (prompt, position);
";

/// Up to this size all of it is looked through at every start, in bytes; above, only at the first after a boot.
const LOOKED_THROUGH: u64 = 64 << 20;
/// Versions above this were never written by any kennel.
const NO_VERSION: u32 = 1000;

/// The writer's end.
pub struct Journal {
    /// Ends before the connection does, which closes the file as the last one.
    checkpointer: Option<checkpoint::Checkpointer>,
    connection: Connection,
    synced: bool,
    /// Names the state directory in the marker of its processes.
    pub uuid: String,
    /// By what is made of it workers know their manager.
    pub secret: String,
}

/// A journal and what it remembers.
pub struct Opened {
    /// The writer's end.
    pub journal: Journal,
    /// Every session.
    pub fleet: Fleet,
    /// The boot in which it was last written.
    pub boot_id: Option<String>,
    /// What was lost of it, where it was damaged, in words.
    pub lost: Option<String>,
}

/// A use of an idempotency key, to be remembered with the changes it stands for.
pub struct UsedKey {
    /// The key.
    pub key: IdempotencyKey,
    /// What was answered.
    pub reply: Reply,
}

/// Why something could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite says so.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A record cannot be written as or read from JSON.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// The operating system gave no random bytes for a token.
    #[error("no random bytes: {0}")]
    Random(std::io::Error),
    /// A file beside it cannot be read or written.
    #[error("{0}")]
    Io(std::io::Error),
    /// It lacks what every journal has.
    #[error("it lacks {0}")]
    Lacks(&'static str),
}

impl JournalError {
    /// Whether what is in the file is wrong, and not the way to it.
    fn is_damage(&self) -> bool {
        use rusqlite::{Error, ErrorCode};
        match self {
            JournalError::Sqlite(Error::SqliteFailure(error, _)) => {
                matches!(
                    error.code,
                    ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown
                )
            }
            // A table or column is missing, or a row holds what it cannot hold.
            JournalError::Sqlite(_) | JournalError::Json(_) | JournalError::Lacks(_) => true,
            JournalError::Random(_) | JournalError::Io(_) => false,
        }
    }
}

impl Journal {
    /// Opens or creates the journal. A newer one is not touched. Of a damaged one all that can be read is brought over
    /// into a new one.
    pub fn open(path: &Path, boot_id: &str) -> Result<Opened, StartError> {
        let failed = |error| unusable(path, error);
        salvage::finish(path).map_err(|error| failed(JournalError::Io(error)))?;
        let why = match damage(path, boot_id)? {
            Some(why) => why,
            None => match Self::open_whole(path) {
                Err(Unopened::Damaged(why)) => why,
                Err(Unopened::Other(error)) => return Err(error),
                Ok(opened) => return Ok(opened),
            },
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
        let failed = |error: JournalError| match error.is_damage() {
            true => Unopened::Damaged(error.to_string()),
            false => Unopened::Other(unusable(path, error)),
        };
        let mut connection = connect(path, OpenFlags::default()).map_err(|error| failed(error.into()))?;
        // Should it turn out to be damaged, it is kept as it was found.
        let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection.set_db_config(keep, true).map_err(|error| failed(error.into()))?;
        let found = version(path, &connection).map_err(Unopened::Other)?;
        schema::verify(path, &connection, found)?;
        prepare(&mut connection, found).map_err(failed)?;
        let mut opened = load(connection).map_err(failed)?;
        let journal = &mut opened.journal;
        let begun = journal.connection.set_db_config(keep, false).and_then(|_| {
            journal.checkpointer = checkpoint::Checkpointer::start(path, &mut journal.connection)?;
            Ok(())
        });
        begun.map_err(|error| failed(error.into()))?;
        Ok(opened)
    }

    /// Whether [`open`](Self::open) would take the journal, as far as its version says. One that does not exist is taken.
    pub fn check(path: &Path) -> Result<(), StartError> {
        if !path.exists() {
            return Ok(());
        }
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        version(path, &connection.map_err(|error| unusable(path, error.into()))?).map(drop)
    }

    /// Remembers all of it or nothing. Once this returns, promises are on the disk; with `answered`, because
    /// somebody is told that a command was taken, all of it is.
    pub fn commit(
        &mut self,
        changes: &[Change],
        records: &[Record],
        keys: &[UsedKey],
        boot_id: Option<&str>,
        answered: bool,
    ) -> Result<(), JournalError> {
        let events = || changes.iter().flat_map(|change| &change.events);
        self.sync(answered || events().any(|event| event.kind.is_promise()))?;
        let transaction = self.connection.transaction()?;
        let mut latest: BTreeMap<&SessionId, &Arc<Session>> = BTreeMap::new();
        for change in changes {
            latest.extend(change.sessions.iter().map(|session| (&session.id, session)));
        }
        for change in changes {
            if let Some((id, incarnation)) = &change.removed {
                latest.remove(id);
                remove(&transaction, id, *incarnation)?;
            }
            if let Some(id) = &change.revived {
                transaction.prepare_cached("DELETE FROM retired WHERE id = ?1")?.execute([id.as_str()])?;
                removed::revive(&transaction, id)?;
            }
        }
        let mut kinds = events();
        {
            let mut insert = transaction.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4)")?;
            for record in records {
                let Some(event) = kinds.next() else { break };
                let session = record.session.as_ref().map(SessionId::as_str);
                insert.execute(params![record.id, session, event.kind.name(), record.json()])?;
                project(&transaction, event)?;
            }
        }
        for Attached { prompt, what } in changes.iter().flat_map(|change| &change.attached) {
            // A prompt that ended in the same batch has no text any more.
            let mut insert = transaction.prepare_cached(
                "INSERT INTO attachments SELECT id, session, ?2, ?3 FROM prompts WHERE id = ?1",
            )?;
            for (position, attachment) in what.iter().enumerate() {
                insert.execute(params![prompt.0, position, serde_json::to_string(attachment)?])?;
            }
        }
        {
            let mut update = transaction.prepare_cached("UPDATE sessions SET doc = ?2 WHERE id = ?1")?;
            for (id, session) in latest {
                let doc = serde_json::to_string(&**session)?;
                if update.execute(params![id.as_str(), doc])? == 0 {
                    let mut insert =
                        transaction.prepare_cached("INSERT INTO sessions VALUES (?1, ?2, ?3)")?;
                    insert.execute(params![id.as_str(), new_token()?, doc])?;
                }
            }
        }
        for UsedKey { key, reply } in keys {
            let reply = serde_json::to_string(reply)?;
            let mut insert = transaction.prepare_cached("INSERT INTO keys VALUES (?1, ?2, ?3, ?4)")?;
            insert.execute(params![key.scope, key.key, key.request, reply])?;
        }
        if let Some(boot_id) = boot_id {
            transaction.execute("INSERT OR REPLACE INTO meta VALUES ('boot_id', ?1)", [boot_id])?;
            // It is said in this commit, and not again.
            transaction.execute("DELETE FROM meta WHERE name = 'lost'", [])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// What was answered to this key's first use, and the request it stood for.
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

    /// How far the clock of the last manager of this boot is behind that of the machine, in milliseconds. None if no manager of
    /// this boot has said so.
    pub fn behind(&self, boot_id: &str) -> Result<Option<i64>, JournalError> {
        self.of_this_boot("behind", boot_id)
    }

    /// What managers of this boot did not count as time that counted the time asleep, in milliseconds.
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
        self.sync(false)?;
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

    /// Makes the next commit reach the disk before it returns, or not.
    fn sync(&mut self, synced: bool) -> Result<(), rusqlite::Error> {
        if synced != self.synced {
            self.connection.pragma_update(None, "synchronous", if synced { "FULL" } else { "NORMAL" })?;
            self.synced = synced;
        }
        Ok(())
    }
}

fn unusable(path: &Path, error: JournalError) -> StartError {
    StartError::Journal { path: path.into(), message: error.to_string() }
}

/// Why a journal was not opened.
enum Unopened {
    /// What is in it is wrong.
    Damaged(String),
    /// Anything else.
    Other(StartError),
}

/// What is wrong with what is in the file, if anything is. Changes nothing.
fn damage(path: &Path, boot_id: &str) -> Result<Option<String>, StartError> {
    let length = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(unusable(path, JournalError::Io(error))),
    };
    if length == 0 {
        let why = if path.exists() { "the file is empty" } else { "the file is gone" };
        return Ok(salvage::has_traces(path).then(|| format!("{why}, and there were sessions")));
    }
    match look_through(path, length, boot_id) {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.is_damage() => return Ok(Some(error.to_string())),
        Ok(Err(error)) => return Err(unusable(path, error)),
        Err(newer) => return Err(newer),
    }
    match salvage::is_log_damaged(path) {
        Ok(damaged) => Ok(damaged.then(|| "the log of its newest commits is torn".into())),
        Err(error) => Err(unusable(path, JournalError::Io(error))),
    }
}

/// Reads as much of the file as is reasonable at each start. The outer error is a version that is too new.
fn look_through(path: &Path, length: u64, boot_id: &str) -> Result<Result<(), JournalError>, StartError> {
    let look = || -> Result<Option<u32>, JournalError> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        let version = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))?;
        if version > NO_VERSION {
            return Err(JournalError::Lacks("a version"));
        }
        if version > VERSION {
            return Ok(Some(version));
        }
        let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        if tables == 0 && !salvage::has_traces(path) {
            // Whoever began it died before there was anything in it.
            return Ok(None);
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
        Ok(None)
    };
    match look() {
        Ok(None) => Ok(Ok(())),
        Ok(Some(found)) => Err(StartError::NewerJournal { path: path.into(), found, known: VERSION }),
        Err(error) => Ok(Err(error)),
    }
}

/// Opens a journal's file, which is no link, and runs nothing that stands in it: no trigger, no view, no function in a
/// schema that somebody else has written.
pub fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    // SQLite's own look at links is at all of the path, and those above the state directory are allowed.
    let real = path.parent().and_then(|parent| std::fs::canonicalize(parent).ok());
    let real = real.zip(path.file_name()).map_or_else(|| path.to_owned(), |(parent, name)| parent.join(name));
    let connection = Connection::open_with_flags(real, flags | OpenFlags::SQLITE_OPEN_NOFOLLOW)?;
    for (config, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        connection.set_db_config(config, on)?;
    }
    Ok(connection)
}

/// The journal's version, if this kennel knows it.
fn version(path: &Path, connection: &Connection) -> Result<u32, StartError> {
    let found = connection
        .query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))
        .map_err(|error| unusable(path, error.into()))?;
    if found > VERSION {
        return Err(StartError::NewerJournal { path: path.into(), found, known: VERSION });
    }
    Ok(found)
}

fn prepare(connection: &mut Connection, found: u32) -> Result<(), JournalError> {
    // Readers of other threads hold the file for moments only.
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.set_prepared_statement_cache_capacity(32);
    if found == 1 {
        let transaction = connection.transaction()?;
        transaction.execute_batch(SINCE_2)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    if found == 0 {
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.execute_batch(SINCE_2)?;
        let mut uuid = [0; 16];
        random(&mut uuid)?;
        let uuid: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        transaction.execute("INSERT INTO meta VALUES ('uuid', ?1)", [uuid])?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('secret', ?1)", [new_token()?])?;
    Ok(())
}

fn load(connection: Connection) -> Result<Opened, JournalError> {
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
    Ok(Opened {
        journal: Journal { checkpointer: None, connection, synced: true, uuid, secret },
        fleet,
        boot_id,
        lost,
    })
}

/// Keeps the texts of prompts that may still be run.
fn project(transaction: &Transaction<'_>, event: &Event) -> Result<(), rusqlite::Error> {
    let ended = match &event.kind {
        EventKind::PromptAccepted { prompt_id, text, retry_of, .. } => {
            let session = event.session.as_ref().map(SessionId::as_str);
            let mut insert = transaction.prepare_cached("INSERT INTO prompts VALUES (?1, ?2, ?3)")?;
            insert.execute(params![prompt_id.0, session, text])?;
            if let Some(before) = retry_of {
                // The prompt that it repeats is over with this, and its row is of no use any more.
                let mut update =
                    transaction.prepare_cached("UPDATE attachments SET prompt = ?1 WHERE prompt = ?2")?;
                update.execute([prompt_id.0, before.0])?;
            }
            return Ok(());
        }
        EventKind::PromptEdited { prompt_id, text } => {
            let mut update = transaction.prepare_cached("UPDATE prompts SET text = ?2 WHERE id = ?1")?;
            update.execute(params![prompt_id.0, text])?;
            return Ok(());
        }
        EventKind::TurnCompleted { prompt_id, .. }
        | EventKind::PromptRemoved { prompt_id, .. }
        | EventKind::PromptResolved { prompt_id, .. } => prompt_id,
        // An interrupted prompt's text is kept: it may be resolved by running it again.
        _ => return Ok(()),
    };
    transaction.prepare_cached("DELETE FROM prompts WHERE id = ?1")?.execute([ended.0])?;
    transaction.prepare_cached("DELETE FROM attachments WHERE prompt = ?1")?.execute([ended.0])?;
    Ok(())
}

/// Takes a session's records out. The event that says so comes after, and stays.
fn remove(
    transaction: &Transaction<'_>,
    id: &SessionId,
    incarnation: Incarnation,
) -> Result<(), rusqlite::Error> {
    transaction.execute("DELETE FROM sessions WHERE id = ?1", [id.as_str()])?;
    removed::begin(transaction, id)?;
    transaction.execute("DELETE FROM prompts WHERE session = ?1", [id.as_str()])?;
    transaction.execute("DELETE FROM attachments WHERE session = ?1", [id.as_str()])?;
    transaction.execute("DELETE FROM meta WHERE name = ?1", [prune::mark(id)])?;
    transaction
        .execute("INSERT OR REPLACE INTO retired VALUES (?1, ?2)", params![id.as_str(), incarnation])?;
    Ok(())
}

/// The scope of idempotency keys that belong to one session.
pub fn session_scope(id: &SessionId) -> String {
    scope_of(id.as_str())
}

fn scope_of(id: &str) -> String {
    format!("session/{id}")
}

fn new_token() -> Result<String, JournalError> {
    use base64::Engine;
    let mut bytes = [0; 32];
    random(&mut bytes)?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

fn random(bytes: &mut [u8]) -> Result<(), JournalError> {
    let mut filled = 0;
    while filled < bytes.len() {
        let got = rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        filled += got.map_err(|error| JournalError::Random(error.into()))?;
    }
    Ok(())
}

/// A reader's end: what a subscriber that is far behind catches up from.
pub struct Reader(Connection);

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

    /// One event, however large; none if there is no such event.
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

/// What one look into the journal, or into the newest events, finds.
#[derive(Debug, Default)]
pub struct Page {
    /// In order.
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
    /// Its id.
    pub id: EventId,
    /// Its type.
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

#[cfg(test)]
mod prune_tests;
pub(crate) mod reserve;
#[cfg(test)]
mod tests;
