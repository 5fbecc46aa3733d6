//! The journal's log of commits (`journal.db-wal`), read by hand where it is damaged.
//!
//! SQLite takes a log whose head is wrong for an empty one, and what comes after the first wrong frame for what was never
//! committed. So it says nothing of commits that are lost there. Here they are looked for. The format is
//! <https://www.sqlite.org/fileformat2.html#walformat>.

use std::io;
use std::path::Path;

use crate::system::owned;

/// The size of a page, in bytes: what SQLite chooses where nobody else does.
pub const PAGE: usize = 4096;
const HEAD: usize = 32;
const FRAME_HEAD: usize = 24;
const FRAME: usize = FRAME_HEAD + PAGE;
const MAGIC: u32 = 0x377f_0682;

/// A log, as it lies on the disk.
pub struct Wal {
    bytes: Vec<u8>,
    /// Frames that SQLite reads.
    whole: usize,
    /// The head is what it should be.
    head: bool,
}

impl Wal {
    /// Reads it. One that is not there is empty.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = match owned::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let mut wal = Self { bytes, whole: 0, head: false };
        wal.head = wal.bytes.len() >= HEAD
            && wal.number(0) & !1 == MAGIC
            && wal.number(8) as usize == PAGE
            && wal.sum((0, 0), 0, HEAD - 8) == (wal.number(24), wal.number(28));
        while wal.head && wal.is_linked(wal.whole) {
            wal.whole += 1;
        }
        Ok(wal)
    }

    /// Returns true if the log contains commits that SQLite does not see.
    ///
    /// The last commit may be incomplete: its writer died, or the disk was full, and kennel passed nothing of it on.
    /// Then SQLite is right to ignore it. So only a complete end of a commit after that one counts.
    pub fn is_damaged(&self) -> bool {
        if self.bytes.is_empty() {
            return false;
        }
        if !self.head {
            return true;
        }
        let mut ends = (self.whole..self.frames()).filter(|frame| self.ends_commit(*frame));
        ends.next().is_some() && ends.any(|frame| self.is_linked(frame))
    }

    /// Writes into `file`, a copy of the journal, all pages of commits that are whole, the newest last. Gives the
    /// number of frames that are not what was written.
    pub fn apply(&self, file: &mut Vec<u8>) -> usize {
        let is_whole = |frame: usize| frame == 0 && !self.head || self.is_linked(frame);
        let last = (0..self.frames()).rev().find(|frame| self.ends_commit(*frame) && is_whole(*frame));
        let Some(last) = last else { return 0 };
        let mut wrong = 0;
        for frame in 0..=last {
            // Each is linked to the one before as that was written, so one that is wrong spoils no other.
            let at = (self.number(HEAD + frame * FRAME) as usize).checked_sub(1).map(|page| page * PAGE);
            let Some(at) = at.filter(|at| {
                self.has_salts(frame)
                    && is_whole(frame)
                    // A page number that is nonsense makes no file of that size.
                    && *at <= file.len() + self.bytes.len()
            }) else {
                wrong += 1;
                continue;
            };
            if file.len() < at + PAGE {
                file.resize(at + PAGE, 0);
            }
            let from = HEAD + frame * FRAME + FRAME_HEAD;
            file[at..at + PAGE].copy_from_slice(&self.bytes[from..from + PAGE]);
        }
        wrong
    }

    fn frames(&self) -> usize {
        self.bytes.len().saturating_sub(HEAD) / FRAME
    }

    fn number(&self, at: usize) -> u32 {
        let bytes = self.bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    }

    /// The size of the file after the commit that this frame ends, in pages; 0 if it ends none.
    fn commits(&self, frame: usize) -> u32 {
        self.number(HEAD + frame * FRAME + 4)
    }

    /// Returns true if the frame ends a commit of this log. Leftovers of an abandoned commit have the same salts.
    fn ends_commit(&self, frame: usize) -> bool {
        self.has_salts(frame) && self.commits(frame) > 0
    }

    /// Returns true if the frame belongs to this log, and not to an earlier one in the same file.
    fn has_salts(&self, frame: usize) -> bool {
        let salts = |at| (self.number(at), self.number(at + 4));
        let mine = salts(HEAD + frame * FRAME + 8);
        if self.head {
            return mine == salts(16);
        }
        // The first frame is of the newest log in any case; one of the first three may be wrong itself.
        (0..self.frames().min(3)).filter(|other| salts(HEAD + other * FRAME + 8) == mine).count()
            >= self.frames().min(2)
    }

    /// Returns true if the frame's checksum continues that of the frame before it.
    fn is_linked(&self, frame: usize) -> bool {
        if frame >= self.frames() || (self.head && !self.has_salts(frame)) {
            return false;
        }
        let at = HEAD + frame * FRAME;
        let before = if frame == 0 { 24 } else { at - FRAME + 16 };
        let sum = self.sum((self.number(before), self.number(before + 4)), at, 8);
        self.sum(sum, at + FRAME_HEAD, PAGE) == (self.number(at + 16), self.number(at + 20))
    }

    fn sum(&self, (mut a, mut b): (u32, u32), at: usize, length: usize) -> (u32, u32) {
        let big = self.number(0) & 1 == 1;
        let word = |bytes: [u8; 4]| if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        let (pairs, _) = self.bytes.get(at..at + length).unwrap_or_default().as_chunks::<8>();
        for [c, d, e, f, g, h, i, j] in pairs {
            a = a.wrapping_add(word([*c, *d, *e, *f])).wrapping_add(b);
            b = b.wrapping_add(word([*g, *h, *i, *j])).wrapping_add(a);
        }
        (a, b)
    }
}
