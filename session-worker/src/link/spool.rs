//! The spool: a file of frames in which a worker keeps its reports for the next manager while it has none.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens a regular file of this user. Refuses a link as the file or its directory: through a link another program could read
/// the session's output, or have another file overwritten.
fn open(path: &Path) -> io::Result<File> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags | OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    let flags = flags | OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o600))?);
    let found = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    if found.is_file() && found.uid() == own && found.nlink() == 1 && found.mode() & 0o022 == 0 {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "the spool is not a file of this user alone"))
}

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
        let file = open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, limit })
    }

    /// Returns true if the spool is below its limit.
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

    /// Returns true if the spool is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Empties the spool: the manager has recorded all of it. Errors: the file cannot be truncated.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_spool_is_a_file_of_its_own_and_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        let real = dir.path().join("workers");
        std::fs::create_dir(&real).unwrap();
        symlink(&victim, real.join("soft")).unwrap();
        std::fs::hard_link(&victim, real.join("hard")).unwrap();
        symlink(&real, dir.path().join("link")).unwrap();
        for path in ["workers/soft", "workers/hard", "link/new", "workers"] {
            let opened = Spool::open(&dir.path().join(path), 10);
            assert!(opened.and_then(|mut spool| spool.append(b"x")).is_err(), "{path}");
        }
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
        assert!(!real.join("new").exists());
        let mut spool = Spool::open(&real.join("new"), 10).unwrap();
        spool.append(b"frame").unwrap();
        assert_eq!(std::fs::read(real.join("new")).unwrap(), b"frame");
    }
}
