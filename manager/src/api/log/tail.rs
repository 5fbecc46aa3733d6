//! The end of a session's log, read backwards and given piece by piece.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::feed::readable;
use crate::system::owned::{self, How};
use crate::workers::logs;

/// Size of a read from a log, in bytes.
pub const PIECE: u64 = 64 * 1024;
/// Attempts at a log that its worker puts aside meanwhile.
const ATTEMPTS: usize = 3;

/// The last lines of a log, of its last `limit` bytes; where it was begun anew lately, of the file before, too.
pub fn tails(path: &Path, lines: usize, limit: u64) -> io::Result<VecDeque<Tail>> {
    let mut found = VecDeque::new();
    for _ in 0..ATTEMPTS {
        let newest = Tail::of(path, lines, limit)?;
        let (count, length) = (newest.lines, newest.end - newest.at);
        if newest.file.is_some() && (count >= lines || length >= limit) {
            return Ok(VecDeque::from([newest]));
        }
        let older = Tail::of(&logs::before(path), lines - count, limit - length)?;
        let moved = older.number()?.is_some_and(|number| newest.number().is_ok_and(|it| it == Some(number)));
        found = VecDeque::from([older, newest]);
        if !moved {
            return Ok(found);
        }
        // The file was put aside between the two looks: it is not read twice.
        found.pop_front();
    }
    Ok(found)
}

/// The next piece of the first that has one.
pub fn next_piece(tails: &mut VecDeque<Tail>) -> io::Result<Option<String>> {
    while let Some(tail) = tails.front_mut() {
        if let Some(text) = tail.next()? {
            return Ok(Some(text));
        }
        tails.pop_front();
    }
    Ok(None)
}

/// The last lines of a file, piece by piece.
pub struct Tail {
    /// Number of lines.
    lines: usize,
    /// The open file; absent: the file does not exist.
    pub file: Option<File>,
    /// Text before the lines; absent if nothing was left out, or once it is sent.
    pub note: Option<String>,
    /// The offset of the next byte.
    pub at: u64,
    end: u64,
}

impl Tail {
    /// The last lines of a file, of its last `limit` bytes. A file that does not exist is empty.
    fn of(path: &Path, lines: usize, limit: u64) -> io::Result<Self> {
        let mut file = match owned::open(path, How::Read) {
            Ok(file) => file,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => return Ok(Self { lines: 0, file: None, note: None, at: 0, end: 0 }),
        };
        let end = file.metadata()?.len();
        if lines == 0 {
            return Ok(Self { lines: 0, file: Some(file), note: None, at: end, end });
        }
        let (mut at, mut breaks) = (end, 0);
        let mut piece = vec![0; PIECE as usize];
        // Backwards, and without keeping anything: a log may be long, and few of its lines are wanted.
        while at > 0 && end - at < limit {
            let size = at.min(PIECE);
            at -= size;
            let piece = &mut piece[..size as usize];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(piece)?;
            for (index, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let after = at + index as u64 + 1;
                breaks += usize::from(after < end);
                if breaks == lines {
                    return Ok(Self { lines, file: Some(file), note: None, at: after, end });
                }
            }
        }
        let cut = || format!("[kennel: what came before is left out; it is in {}]\n", path.display());
        // The first line has no break before it.
        let lines = breaks + usize::from(end > 0);
        Ok(Self { lines, file: Some(file), note: (at > 0).then(cut), at, end })
    }

    /// The inode's number.
    fn number(&self) -> io::Result<Option<u64>> {
        self.file.as_ref().map(|file| Ok(file.metadata()?.ino())).transpose()
    }

    fn next(&mut self) -> io::Result<Option<String>> {
        if let Some(note) = self.note.take() {
            return Ok(Some(note));
        }
        let Some(file) = self.file.as_mut().filter(|_| self.at < self.end) else { return Ok(None) };
        let mut piece = vec![0; (self.end - self.at).min(PIECE) as usize];
        file.seek(SeekFrom::Start(self.at))?;
        let read = file.read(&mut piece)?;
        if read == 0 {
            // It has become shorter meanwhile.
            return Ok(None);
        }
        let (text, taken) = readable(&piece[..read], self.at + read as u64 == self.end);
        self.at += taken as u64;
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::super::MAX_LOG;
    use super::*;

    #[test]
    fn a_log_is_read_from_its_end() {
        let tail = |path: &Path, lines, limit| -> io::Result<String> {
            let mut tails = tails(path, lines, limit)?;
            std::iter::from_fn(|| next_piece(&mut tails).transpose()).collect()
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text: String = (1..=50_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(tail(&path, 0, MAX_LOG).unwrap(), "");
        assert_eq!(tail(&path, 2, MAX_LOG).unwrap(), "line 49999\nline 50000\n");
        assert_eq!(tail(&path, 50_000, MAX_LOG).unwrap(), text);
        assert_eq!(tail(&path, 99_999, MAX_LOG).unwrap(), text);
        let cut = tail(&path, 50_000, 1).unwrap();
        assert!(cut.starts_with("[kennel: what came before is left out"), "{:?}", &cut[..80]);
        assert!(cut.ends_with("line 50000\n") && cut.len() < 70_000);
        // Characters of three bytes, so that pieces end within some.
        let long = "\u{20ac}".repeat(100_000);
        std::fs::write(&path, &long).unwrap();
        assert_eq!(tail(&path, 1, MAX_LOG).unwrap(), long);
        std::fs::write(logs::before(&path), "older\noldest of the new\n").unwrap();
        std::fs::write(&path, b"one\n\xfftwo\nthree").unwrap();
        assert_eq!(tail(&path, 4, MAX_LOG).unwrap(), "oldest of the new\none\n\u{fffd}two\nthree");
        assert_eq!(tail(&path, 2, MAX_LOG).unwrap(), "\u{fffd}two\nthree");
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(logs::before(&path)).unwrap();
        assert_eq!(tail(&path, 2, MAX_LOG).unwrap(), "");
    }
}
