//! Room on the journal's disk that is kept back, so that ends still fit when nothing else does.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::system::owned::{self, How};

/// The file, in the state directory.
pub const NAME: &str = "reserve";
/// Size of the reserve, in bytes: enough for some hundred ends, each a few pages of the journal's log.
const SIZE: u64 = 1024 * 1024;

/// A file of nothing, in the state directory.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The one of this state directory, made or not.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(NAME) }
    }

    /// Makes it, if it is not there. Without enough room nothing is taken.
    pub fn make(&self) -> io::Result<()> {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.len() == SIZE) {
            return Ok(());
        }
        let file = owned::open(&self.path, How::Anew)?;
        let made = match fallocate(&file, FallocateFlags::empty(), 0, SIZE) {
            // This file system cannot; what is written takes room everywhere.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => zeros(file),
            other => other.map_err(io::Error::from),
        };
        made.inspect_err(|_| drop(fs::remove_file(&self.path)))
    }

    /// Gives the room back. False if there was none.
    pub fn free(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }
}

fn zeros(mut file: File) -> io::Result<()> {
    let block = [0; 64 * 1024];
    (0..SIZE / block.len() as u64).try_for_each(|_| file.write_all(&block))?;
    file.sync_data()
}
