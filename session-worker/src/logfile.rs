//! The session's log: standard error of the worker, and of the agent by way of a pipe.
//!
//! The manager opens the file and hands it over as descriptor 2, or names it to a worker that was a spare. Only the worker has it: what runs below writes into a
//! pipe, whose bytes the worker puts here, and so nobody below can open the file again, empty it or write over it. The
//! worker is the only writer, and therefore keeps the bound as it writes: a file that would get too long is first renamed
//! to `NAME.1`, in the place of the one before. All bytes of an agent stand there as it wrote them, also those that look
//! like a line of the worker's.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::owned;

/// The longest log, in bytes. With the one beside it a session has twice as much.
pub const MOST: u64 = 8 * 1024 * 1024;

static LOG: Mutex<Log> = Mutex::new(Log { dropped: 0, mid_line: false });

/// State of the log that the file does not show.
struct Log {
    /// Bytes that did not fit on the disk since the last that did.
    dropped: u64,
    /// The last line in the log has no line end yet.
    mid_line: bool,
}

/// Writes a line of the worker's own. A full disk, on which `eprintln!` panics, is no reason to end a session.
pub fn log(text: &str) {
    if let Ok(mut log) = LOG.lock() {
        log.line(&OnStderr, text);
    }
}

/// Writes what an agent wrote.
pub fn raw(bytes: &[u8]) {
    if let Ok(mut log) = LOG.lock() {
        log.write(&OnStderr, bytes);
    }
}

/// A destination of the log.
trait Place {
    /// Makes room for so many bytes.
    fn make_room(&self, bytes: u64);
    /// Writes all or says how much was written.
    fn put(&self, bytes: &[u8]) -> Result<(), usize>;
}

impl Log {
    fn line(&mut self, place: &impl Place, text: &str) {
        let begin = if self.mid_line { "\n" } else { "" };
        self.write(place, format!("{begin}session-worker: {text}\n").as_bytes());
    }

    /// Writes to the log. Drops and counts bytes that cannot be written: an agent never waits for a full disk.
    fn write(&mut self, place: &impl Place, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        if self.dropped > 0 {
            let begin = if self.mid_line { "\n" } else { "" };
            let said = format!(
                "{begin}session-worker: the log could not be written: {} bytes are missing here\n",
                self.dropped
            );
            if place.put(said.as_bytes()).is_err() {
                self.dropped = self.dropped.saturating_add(bytes.len() as u64);
                return;
            }
            (self.dropped, self.mid_line) = (0, false);
        }
        place.make_room(bytes.len() as u64);
        match place.put(bytes) {
            Ok(()) => self.mid_line = *last != b'\n',
            Err(written) => {
                self.dropped = self.dropped.saturating_add((bytes.len() - written) as u64);
                self.mid_line |= written > 0;
            }
        }
    }
}

/// Descriptor 2.
struct OnStderr;

impl Place for OnStderr {
    fn make_room(&self, bytes: u64) {
        let stderr = rustix::stdio::stderr();
        let Ok(found) = rustix::fs::fstat(stderr) else { return };
        let is_file = rustix::fs::FileType::from_raw_mode(found.st_mode).is_file();
        if !is_file || (found.st_size as u64).saturating_add(bytes) <= MOST {
            return;
        }
        // Where it cannot be put aside it is emptied: the bound counts for more than what was said long ago.
        if put_aside().is_err() {
            let _ = rustix::fs::ftruncate(stderr, 0);
        }
    }

    fn put(&self, bytes: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::write(rustix::stdio::stderr(), &bytes[written..]) {
                Ok(n) if n > 0 => written += n,
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => return Err(written),
            }
        }
        Ok(())
    }
}

/// Renames the log to `NAME.1`, and goes on in a new one.
fn put_aside() -> io::Result<()> {
    let stderr = rustix::stdio::stderr();
    let path = std::fs::read_link("/proc/self/fd/2")?;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    // The name may be another file's by now, or nobody's.
    let (named, open) =
        (rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?, rustix::fs::fstat(stderr)?);
    if (named.st_dev, named.st_ino) != (open.st_dev, open.st_ino) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut beside = name.to_owned();
    beside.push(".1");
    rustix::fs::renameat(&directory, name, &directory, &beside)?;
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o600)).and_then(take_place);
    new.map_err(|error| {
        // The log goes on in the old file.
        let _ = rustix::fs::renameat(&directory, &beside, &directory, name);
        error.into()
    })
}

/// Goes on in this file, and makes it if it is not there. A worker that was started for no session has no log before.
pub fn move_to(path: &Path) -> io::Result<()> {
    Ok(take_place(owned::append(path)?.into())?)
}

/// Standard output is the log, too: nothing that prints can get between the frames.
fn take_place(new: OwnedFd) -> Result<(), Errno> {
    rustix::stdio::dup2_stderr(&new)?;
    rustix::stdio::dup2_stdout(&new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// A disk that is full now and then.
    #[derive(Default)]
    struct Disk {
        has: RefCell<Vec<u8>>,
        room: Cell<usize>,
    }

    impl Place for Disk {
        fn make_room(&self, _: u64) {}

        fn put(&self, bytes: &[u8]) -> Result<(), usize> {
            let fits = bytes.len().min(self.room.get());
            self.room.set(self.room.get() - fits);
            self.has.borrow_mut().extend_from_slice(&bytes[..fits]);
            if fits == bytes.len() { Ok(()) } else { Err(fits) }
        }
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_counted_and_said_later() {
        let (mut log, disk) = (Log { dropped: 0, mid_line: false }, Disk::default());
        disk.room.set(8);
        log.write(&disk, b"first\n");
        log.write(&disk, b"second\n");
        log.write(&disk, b"third\n");
        disk.room.set(1000);
        log.write(&disk, b"fourth");
        log.line(&disk, "own");
        let has = String::from_utf8(disk.has.take()).unwrap();
        assert_eq!(
            has,
            "first\nse\nsession-worker: the log could not be written: 11 bytes are missing here\nfourth\n\
             session-worker: own\n"
        );
    }
}
