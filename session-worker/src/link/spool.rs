//! The spool: a file of frames in which a worker keeps its reports for the next manager while it has none.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::owned;

/// A spool. Its file is made when the first frames come: most workers have a manager for life.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: Option<File>,
    /// Bytes of whole frames in it.
    length: u64,
    limit: u64,
    /// The file could not be made because there is no directory for it.
    is_homeless: bool,
}

impl Spool {
    /// A spool at this path. `limit` is the most that it is to hold, in bytes.
    pub fn new(path: PathBuf, limit: u64) -> Self {
        Self { path, file: None, length: 0, limit, is_homeless: false }
    }

    /// Returns true if the spool is below its limit.
    pub fn has_room(&self) -> bool {
        self.length < self.limit
    }

    /// Returns true if there was no directory for the file when it was tried last.
    pub fn is_homeless(&self) -> bool {
        self.is_homeless
    }

    /// Adds whole frames, or nothing. Errors: the file cannot be opened or written; the next call tries both again.
    pub fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        self.open()?;
        let Some(file) = &mut self.file else { return Ok(()) };
        match file.write_all(frames) {
            Ok(()) => {
                self.length += frames.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a frame would hide those that come after it.
                file.set_len(self.length)?;
                Err(error)
            }
        }
    }

    fn open(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let opened = owned::append(&self.path);
        self.is_homeless = opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let file = opened?;
        match self.length {
            0 => self.length = file.metadata()?.len(),
            // It was open before.
            length => file.set_len(length)?,
        }
        self.file = Some(file);
        Ok(())
    }

    /// Closes the file: a worker with a manager keeps no descriptor of it.
    pub fn close(&mut self) {
        self.file = None;
    }

    /// Returns true if the spool is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Empties the spool: the manager has recorded all of it. Errors: the file cannot be truncated.
    pub fn clear(&mut self) -> io::Result<()> {
        if self.length > 0 {
            self.open()?;
            if let Some(file) = &self.file {
                file.set_len(0)?;
            }
            self.length = 0;
        }
        self.close();
        Ok(())
    }

    /// Makes sure that it survives the machine, and so does its name.
    pub fn sync(&self) -> io::Result<()> {
        let (Some(file), Some(directory)) = (&self.file, self.path.parent()) else { return Ok(()) };
        file.sync_data()?;
        File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_has_no_file_before_the_first_frames() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let mut spool = Spool::new(path.clone(), 10);
        assert!(spool.is_empty() && !path.exists());
        spool.append(b"frame").unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"frame");
    }
}
