//! Measurement of the state directory's disk usage.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use protocol::SessionId;
use protocol::api::{DiskUsage, FileUsage, SessionUsage, WorktreeUsage};

use crate::error::Error;
use crate::journal::{Reader, reserve};
use crate::search;
use crate::supervisor::JOURNAL;
use crate::workers::{logs, shelter};
use crate::worktrees;

/// Looks at everything. `sessions` are those that exist, with their working directories.
///
/// # Errors
/// [`Error::Unread`] if the journal or a directory cannot be read.
pub fn look(state_dir: &Path, sessions: &BTreeMap<SessionId, String>) -> Result<DiskUsage, Error> {
    let file = |error: io::Error| Error::Unread(format!("{}: {error}", state_dir.display()));
    let path = state_dir.join(JOURNAL);
    let unread = |error| Error::Unread(format!("{}: {error}", path.display()));
    let (mut journal, held) = Reader::open(&path).and_then(|reader| reader.usage()).map_err(unread)?;
    let mut all: BTreeMap<Option<SessionId>, SessionUsage> = BTreeMap::new();
    for (id, held) in held {
        // Leftovers of removed sessions count for no session.
        let of = of(&mut all, id.filter(|id| sessions.contains_key(id)));
        of.events += held.events;
        of.event_bytes += held.event_bytes;
        of.prompt_bytes += held.prompt_bytes;
    }
    let (mut damaged, mut leftovers) = (Vec::new(), Vec::new());
    let (mut reserve_bytes, mut daemon_log_bytes, mut search_bytes) = (0, 0, 0);
    for found in files(state_dir).map_err(file)? {
        match &*found.name {
            JOURNAL => journal.file_bytes = found.bytes,
            reserve::NAME => reserve_bytes = found.bytes,
            logs::DAEMON => daemon_log_bytes = found.bytes,
            name if name.starts_with(search::NAME) => search_bytes += found.bytes,
            name => match name.strip_prefix(JOURNAL) {
                Some("-wal") => journal.wal_bytes = found.bytes,
                Some(rest) if rest.starts_with(".damaged-") => damaged.push(found),
                // A salvage was cut short; it begins anew if it has to.
                Some(rest) if rest == ".raw" || rest.starts_with(".new") => leftovers.push(found),
                _ => {}
            },
        }
    }
    for found in files(&state_dir.join(logs::DIRECTORY)).map_err(file)? {
        let id = logs::session_of(&found.name);
        match id.filter(|id| sessions.contains_key(id)) {
            Some(id) => of(&mut all, Some(id)).log_bytes += found.bytes,
            None => {
                let name = format!("{}/{}", logs::DIRECTORY, found.name);
                leftovers.push(FileUsage { name, ..found });
            }
        }
    }
    for found in files(&state_dir.join(shelter::DIRECTORY)).map_err(file)? {
        if let Some(id) = shelter::session_of(&found.name).filter(|id| sessions.contains_key(id)) {
            of(&mut all, Some(id)).spool_bytes += found.bytes;
        }
    }
    let worktrees = worktrees::look(state_dir, sessions).map_err(file)?;
    for found in &worktrees {
        of(&mut all, owner(found, sessions)).worktree_bytes += found.bytes;
    }
    let sessions = largest_first(all);
    let log_bytes = sessions.iter().map(|session| session.log_bytes).sum();
    let spool_bytes = sessions.iter().map(|session| session.spool_bytes).sum();
    let worktree_bytes = worktrees.iter().map(|worktree| worktree.bytes).sum();
    let beside: u64 = damaged.iter().chain(&leftovers).map(|file| file.bytes).sum();
    let room = rustix::fs::statvfs(state_dir).map_err(|error| file(error.into()))?;
    Ok(DiskUsage {
        state_dir: state_dir.display().to_string(),
        available_bytes: room.f_bavail.saturating_mul(room.f_frsize),
        total_bytes: journal.file_bytes
            + journal.wal_bytes
            + log_bytes
            + daemon_log_bytes
            + spool_bytes
            + reserve_bytes
            + search_bytes
            + worktree_bytes
            + beside,
        journal,
        log_bytes,
        daemon_log_bytes,
        spool_bytes,
        reserve_bytes,
        search_bytes,
        worktree_bytes,
        worktrees,
        damaged,
        leftovers,
        sessions,
    })
}

/// Bytes of the journal, of all logs, and of the room on their file system. Reads directories, and no file.
///
/// # Errors
/// [`Error::Unread`] if a directory cannot be read.
pub fn sizes(state_dir: &Path) -> Result<(u64, u64, u64), Error> {
    let file = |error: io::Error| Error::Unread(format!("{}: {error}", state_dir.display()));
    let (mut journal, mut log) = (0, 0);
    for found in files(state_dir).map_err(file)? {
        match found.name.strip_prefix(JOURNAL) {
            Some("" | "-wal") => journal += found.bytes,
            _ if found.name == logs::DAEMON => log += found.bytes,
            _ => {}
        }
    }
    let logs = files(&state_dir.join(logs::DIRECTORY)).map_err(file)?;
    log += logs.iter().map(|log| log.bytes).sum::<u64>();
    let room = rustix::fs::statvfs(state_dir).map_err(|error| file(error.into()))?;
    Ok((journal, log, room.f_bavail.saturating_mul(room.f_frsize)))
}

/// The session that a worktree counts for.
fn owner(worktree: &WorktreeUsage, sessions: &BTreeMap<SessionId, String>) -> Option<SessionId> {
    let asked = || worktrees::asked_for_by(&worktree.name).filter(|id| sessions.contains_key(id));
    worktree.sessions.first().cloned().or_else(asked)
}

/// The sessions with their sums, the largest first.
fn largest_first(all: BTreeMap<Option<SessionId>, SessionUsage>) -> Vec<SessionUsage> {
    let mut sessions: Vec<SessionUsage> = all.into_values().collect();
    for session in &mut sessions {
        session.bytes = session.event_bytes
            + session.prompt_bytes
            + session.log_bytes
            + session.spool_bytes
            + session.worktree_bytes;
    }
    sessions.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.id.cmp(&b.id)));
    sessions
}

fn of(all: &mut BTreeMap<Option<SessionId>, SessionUsage>, id: Option<SessionId>) -> &mut SessionUsage {
    all.entry(id.clone()).or_insert_with(|| SessionUsage { id, ..SessionUsage::default() })
}

/// Files in a directory, by name. One that is removed meanwhile is none; nor is a directory that is not there.
fn files(directory: &Path) -> io::Result<Vec<FileUsage>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(meta) if meta.is_file() => {
                let name = entry.file_name().to_string_lossy().into_owned();
                found.push(FileUsage { name, bytes: meta.len() });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
