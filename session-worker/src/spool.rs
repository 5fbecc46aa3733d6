//! What a worker says while no manager hears it: frames in a file, for the next one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// An open spool.
#[derive(Debug)]
pub struct Spool {
    file: File,
    /// Bytes of whole frames in it.
    length: u64,
    limit: u64,
}

impl Spool {
    /// Opens the file, which is made if it is not there. `limit` is the most that it is to hold, in bytes.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, limit })
    }

    /// Whether it may take more.
    pub fn has_room(&self) -> bool {
        self.length < self.limit
    }

    /// Adds whole frames, or nothing.
    pub fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        match self.file.write_all(frames) {
            Ok(()) => {
                self.length += frames.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a frame would hide those that come after it.
                self.file.set_len(self.length)?;
                Err(error)
            }
        }
    }

    /// Whether anything is in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What was in it is on record.
    pub fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.length = 0;
        Ok(())
    }

    /// Makes sure that it survives the machine.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
