//! Logs of sessions: the standard error of their workers and agents, within a limit.
//!
//! The worker has the file as its descriptor 2 and alone writes it. Before the file gets too long, the worker renames it to
//! `ID.log.1` and goes on in a new one. No timer looks at a log. An agent's output stands there byte for byte, even if it
//! looks like a line of the worker's.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use protocol::SessionId;

use crate::system::owned::{self, How};

/// The most that a log may hold when a worker gets it, in bytes: a worker of this kennel leaves half of that.
const MOST: u64 = 16 * 1024 * 1024;
/// How much of the log's end is kept then, in bytes: few enough to be copied within one turn of the loop.
const KEPT: u64 = 4 * 1024 * 1024;
/// Limits of the last words: bytes at the end of a log, and lines.
const LAST_WORDS: (u64, usize) = (4096, 10);

/// The directory of logs, in the state directory.
pub const DIRECTORY: &str = "logs";

/// The daemon's own log, in the state directory.
pub const DAEMON: &str = "daemon.log";

/// The session's log.
pub fn path(state_dir: &Path, id: &SessionId) -> PathBuf {
    state_dir.join(DIRECTORY).join(format!("{id}.log"))
}

/// The part of a log that was written before: of a log that became too long.
pub fn before(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// The session whose log a file of this name is, or was.
pub fn session_of(name: &str) -> Option<SessionId> {
    name.strip_suffix(".1").unwrap_or(name).strip_suffix(".log")?.parse().ok()
}

/// The beginning of a worker's part of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Device and inode: another file by that name was begun by the worker itself. None: there was no file.
    file: Option<(u64, u64)>,
    length: u64,
}

impl Begin {
    /// The beginning of a part at the present end of this file.
    pub fn at_end_of(log: &File) -> io::Result<Self> {
        let found = log.metadata()?;
        Ok(Self { file: Some((found.dev(), found.ino())), length: found.len() })
    }

    /// The beginning of a part at the present end of the file with this name. Opens nothing: a manager may have no descriptor
    /// left.
    pub fn at_end_of_named(log: &Path) -> Self {
        let found = std::fs::symlink_metadata(log).ok();
        let length = found.as_ref().map_or(0, |found| found.len());
        Self { file: found.map(|found| (found.dev(), found.ino())), length }
    }
}

/// The last lines of what a worker and its agent have written. None where it is not known where that begins.
pub fn last_words(state_dir: &Path, id: &SessionId, begin: Option<&Begin>) -> Vec<String> {
    let Some(begin) = begin else { return Vec::new() };
    let log = path(state_dir, id);
    if Begin::at_end_of_named(&log) == *begin {
        return Vec::new();
    }
    let Ok((mut bytes, is_first)) = end_of(&log, begin) else { return Vec::new() };
    if !is_first && begin.file.is_some() && (bytes.len() as u64) < LAST_WORDS.0 {
        let older = end_of(&before(&log), begin).map_or(Vec::new(), |(older, _)| older);
        bytes = [older, bytes].concat();
        bytes.drain(..bytes.len().saturating_sub(LAST_WORDS.0 as usize));
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let newest = lines.len().saturating_sub(LAST_WORDS.1);
    lines[newest..].iter().map(|line| (*line).to_owned()).collect()
}

/// The end of a file, but nothing from before the beginning; and whether it is the file in which that is.
fn end_of(path: &Path, begin: &Begin) -> io::Result<(Vec<u8>, bool)> {
    let mut log = owned::open(path, How::Read)?;
    let end = Begin::at_end_of(&log)?;
    let is_first = end.file == begin.file;
    let start = if is_first { begin.length.min(end.length) } else { 0 };
    log.seek(SeekFrom::Start(start.max(end.length.saturating_sub(LAST_WORDS.0))))?;
    let mut bytes = Vec::new();
    log.take(LAST_WORDS.0).read_to_end(&mut bytes)?;
    Ok((bytes, is_first))
}

/// Empties a log that is too long, and keeps its newest part beside it.
pub fn bound(state_dir: &Path, id: &SessionId) -> io::Result<()> {
    let path = path(state_dir, id);
    let length = match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?.len(),
    };
    if length <= MOST {
        return Ok(());
    }
    let mut log = owned::open(&path, How::Keep)?;
    // On a full disk there is room only after it was emptied.
    let kept = keep(&mut log, length, &before(&path));
    log.set_len(0)?;
    kept
}

fn keep(log: &mut File, length: u64, to: &Path) -> io::Result<()> {
    let mut newest = Vec::new();
    log.seek(SeekFrom::Start(length.saturating_sub(KEPT)))?;
    log.take(KEPT).read_to_end(&mut newest)?;
    owned::open(to, How::Anew)?.write_all(&newest)
}

/// Removes a session's logs.
pub fn remove(state_dir: &Path, id: &SessionId) {
    let path = path(state_dir, id);
    let _ = std::fs::remove_file(before(&path));
    let _ = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_the_workers_own_also_where_it_has_begun_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let id: SessionId = "a.b".parse().unwrap();
        owned::directory(&dir.path().join(DIRECTORY)).unwrap();
        let log = path(dir.path(), &id);
        std::fs::write(&log, "of an earlier worker\n").unwrap();
        let begin = Begin::at_end_of(&File::open(&log).unwrap()).unwrap();
        let words = || last_words(dir.path(), &id, Some(&begin));
        assert_eq!(words(), Vec::<String>::new());
        let append = |text: &str| owned::open(&log, How::Append).unwrap().write_all(text.as_bytes()).unwrap();
        append("one\n");
        assert_eq!(words(), ["one"]);
        std::fs::rename(&log, before(&log)).unwrap();
        append("two\n");
        assert_eq!(words(), ["one", "two"]);
        std::fs::write(before(&log), "three\n").unwrap();
        std::fs::rename(&log, before(&log)).unwrap();
        append(&"x".repeat(5000));
        append("\nfour\n");
        let last = words();
        assert_eq!((last.len(), last[1].as_str()), (2, "four"));
        assert_eq!(last_words(dir.path(), &id, None), Vec::<String>::new());
        assert_eq!(session_of("a.b.log.1"), Some(id.clone()));
        remove(dir.path(), &id);
        assert!(!log.exists() && !before(&log).exists());
    }

    #[test]
    fn last_words_of_a_worker_that_began_without_a_file_are_all_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let id: SessionId = "one".parse().unwrap();
        owned::directory(&dir.path().join(DIRECTORY)).unwrap();
        let log = path(dir.path(), &id);
        let begin = Begin::at_end_of_named(&log);
        let words = || last_words(dir.path(), &id, Some(&begin));
        assert_eq!(words(), Vec::<String>::new());
        std::fs::write(&log, "one\n").unwrap();
        assert_eq!(words(), ["one"]);
        // The part before it may be of an earlier worker: nothing says where this one's begins in it.
        std::fs::rename(&log, before(&log)).unwrap();
        std::fs::write(&log, "two\n").unwrap();
        assert_eq!(words(), ["two"]);
        let named = Begin::at_end_of_named(&log);
        assert_eq!(named, Begin::at_end_of(&File::open(&log).unwrap()).unwrap());
    }

    #[test]
    fn a_log_that_an_earlier_kennel_has_let_grow_is_emptied_and_its_end_kept() {
        let dir = tempfile::tempdir().unwrap();
        let id: SessionId = "one".parse().unwrap();
        owned::directory(&dir.path().join(DIRECTORY)).unwrap();
        let log = path(dir.path(), &id);
        bound(dir.path(), &id).unwrap();
        std::fs::write(&log, [vec![0; MOST as usize], b"newest\n".to_vec()].concat()).unwrap();
        bound(dir.path(), &id).unwrap();
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
        let kept = std::fs::read(before(&log)).unwrap();
        assert!(kept.len() as u64 == KEPT && kept.ends_with(b"newest\n"));
    }
}
