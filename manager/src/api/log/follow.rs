//! A log as it grows: read from a place on, over the files in which its worker writes it one after the other.
//!
//! The worker renames a file that gets too long and then begins the next one. Once the log's name belongs to another file, the
//! worker has stopped writing the one before. So a follower reads its file to the end, and goes on in the next one. The open
//! file keeps its inode, so that no other file can be mistaken for it. A cursor keeps nothing, and therefore also has the
//! time at which the file was made: file systems use the number of an inode again.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::tail::{PIECE, tails};
use crate::feed::readable;
use crate::system::owned::{self, How};
use crate::workers::logs;

/// A part of the log was put aside twice, or removed, before it was read.
const PUT_ASIDE: &str = "the log was put aside twice; what this client had not read of it is gone";
/// The file of the log became shorter.
const EMPTIED: &str =
    "the log was emptied because it was too long; what this client had not read of it may be gone";

/// A file of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    inode: u64,
    /// Nanoseconds since 1970; 0 where the file system does not know.
    made: u64,
}

impl FileId {
    fn of(found: &Metadata) -> Self {
        let made = found.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Self { inode: found.ino(), made: made.and_then(|at| u64::try_from(at.as_nanos()).ok()).unwrap_or(0) }
    }

    fn named(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::symlink_metadata(path) {
            Ok(found) => Ok(Some(Self::of(&found))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// None: before everything, because there was no file.
    file: Option<FileId>,
    at: u64,
}

impl Cursor {
    /// Reads a cursor as it is written.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |part: &str| {
            let digits = (1..=16).contains(&part.len())
                && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            digits.then(|| u64::from_str_radix(part, 16).ok()).flatten()
        };
        let mut parts = text.split('-').map(number);
        let (inode, made, at) = (parts.next()??, parts.next()??, parts.next()??);
        let file = (inode > 0).then_some(FileId { inode, made });
        parts.next().is_none().then_some(Self { file, at })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (inode, made) = self.file.map_or((0, 0), |file| (file.inode, file.made));
        write!(f, "{inode:x}-{made:x}-{:x}", self.at)
    }
}

/// A result of one step of a follower.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The next text.
    Text(String),
    /// Text is missing here, for this reason.
    Gap(&'static str),
    /// The log goes on in another file.
    Moved,
    /// There is nothing more yet.
    Nothing,
    /// There is nothing more, and no file has the log's name: the log is just being put aside, or was removed.
    Missing,
}

/// A reader of one log.
pub struct Follower {
    path: PathBuf,
    open: Option<Open>,
    /// Text or gap before everything else.
    first: Option<Step>,
}

/// The file that is read.
struct Open {
    file: File,
    id: FileId,
    at: u64,
    /// The beginning of a character that the file before ended with.
    carried: Vec<u8>,
}

impl Follower {
    /// From the last `lines` on, of the last `limit` bytes.
    pub fn from_end(path: PathBuf, lines: usize, limit: u64) -> io::Result<Self> {
        let found = tails(&path, lines, limit)?;
        let begin = found.into_iter().find_map(|tail| Some((tail.file?, tail.at, tail.note)));
        let Some((file, at, note)) = begin else {
            return Ok(Self { path, open: None, first: Some(Step::Text(String::new())) });
        };
        let first = Some(Step::Text(note.unwrap_or_default()));
        Ok(Self { path, open: Some(Open::new(file, at)?), first })
    }

    /// From a place on.
    pub fn after(path: PathBuf, cursor: Cursor) -> io::Result<Self> {
        // In this order: a file that is put aside between the two looks is found by the second.
        let newest = Open::named(&path)?;
        let older = Open::named(&logs::before(&path))?;
        let Some(file) = cursor.file else {
            return Ok(Self { path, open: older.or(newest), first: Some(Step::Text(String::new())) });
        };
        let found = [newest, older].into_iter().flatten().find(|open| open.id == file);
        let Some(mut open) = found else {
            let open = Open::named(&logs::before(&path))?
                .map_or_else(|| Open::named(&path), |open| Ok(Some(open)))?;
            return Ok(Self { path, open, first: Some(Step::Gap(PUT_ASIDE)) });
        };
        open.at = cursor.at;
        Ok(Self { path, open: Some(open), first: None })
    }

    /// The file that is read.
    pub fn file(&self) -> Option<FileId> {
        self.open.as_ref().map(|open| open.id)
    }

    /// A path to the file that is read, whatever its name is by now.
    pub fn by_descriptor(&self) -> Option<PathBuf> {
        self.open.as_ref().map(|open| format!("/proc/self/fd/{}", open.file.as_raw_fd()).into())
    }

    /// The place after everything that was given.
    pub fn cursor(&self) -> Cursor {
        match &self.open {
            Some(open) => Cursor { file: Some(open.id), at: open.at },
            None => Cursor { file: None, at: 0 },
        }
    }

    /// Reads what comes next.
    pub fn step(&mut self) -> io::Result<Step> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let Some(open) = &mut self.open else {
            self.open = Open::named(&self.path)?;
            return Ok(if self.open.is_some() { Step::Moved } else { Step::Missing });
        };
        if let Some(text) = open.piece()? {
            return Ok(Step::Text(text));
        }
        if open.file.metadata()?.len() < open.at {
            open.at = 0;
            open.carried.clear();
            return Ok(Step::Gap(EMPTIED));
        }
        match FileId::named(&self.path)? {
            None => return Ok(Step::Missing),
            Some(id) if id == open.id => return Ok(Step::Nothing),
            Some(_) => {}
        }
        // Written before the worker began the next file.
        if let Some(text) = open.piece()? {
            return Ok(Step::Text(text));
        }
        // In this order: if the file is the one before the log after another one had the log's name, that other follows it.
        let newest = Open::named(&self.path)?;
        let older = Open::named(&logs::before(&self.path))?;
        let Some(mut newest) = newest.filter(|newest| newest.id != open.id) else { return Ok(Step::Missing) };
        match older {
            Some(older) if older.id == open.id => {
                newest.carried = open.rest()?;
                self.open = Some(newest);
                Ok(Step::Moved)
            }
            older => {
                self.open = Some(older.unwrap_or(newest));
                Ok(Step::Gap(PUT_ASIDE))
            }
        }
    }

    /// Reads what is left of a log to which nothing is added any more.
    pub fn last(&mut self) -> io::Result<Option<String>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        if let Some(text) = open.piece()? {
            return Ok(Some(text));
        }
        let rest = open.rest()?;
        self.open = None;
        Ok((!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned()))
    }
}

impl Open {
    fn new(file: File, at: u64) -> io::Result<Self> {
        let id = FileId::of(&file.metadata()?);
        Ok(Self { file, id, at, carried: Vec::new() })
    }

    fn named(path: &Path) -> io::Result<Option<Self>> {
        match owned::open(path, How::Read) {
            Ok(file) => Self::new(file, 0).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next text; none at the end of what is there, or within its last character.
    fn piece(&mut self) -> io::Result<Option<String>> {
        let carried = self.carried.len();
        let mut bytes = self.carried.clone();
        bytes.resize(carried + PIECE as usize, 0);
        // A place beyond all that a file can have is one at its end.
        let read = match i64::try_from(self.at) {
            Ok(_) => self.file.read_at(&mut bytes[carried..], self.at)?,
            Err(_) => 0,
        };
        if read == 0 {
            return Ok(None);
        }
        let (text, taken) = readable(&bytes[..carried + read], false);
        if taken == 0 {
            return Ok(None);
        }
        self.at += (taken - carried) as u64;
        self.carried.clear();
        Ok(Some(text))
    }

    /// The beginning of a character at the end.
    fn rest(&self) -> io::Result<Vec<u8>> {
        let mut end = [0; 3];
        let read = self.file.read_at(&mut end, self.at)?;
        Ok([&self.carried, &end[..read]].concat())
    }
}
