//! Paths below the session's working directory, kept there by the kernel.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use protocol::bounds::PATH;
use protocol::wire::{FileKind, FilesRefusal};
use rustix::fs::{CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Stat};
use rustix::io::Errno;

use super::Refused;

/// Tries of a path whose directories are renamed meanwhile (openat2(2): `EAGAIN`).
const TRIES: usize = 16;

/// The open working directory.
pub struct Place {
    /// Its path, absolute.
    pub workdir: PathBuf,
    top: OwnedFd,
}

impl Place {
    /// Opens the directory. The manager has resolved its path: a symlink in it means that the path was changed since.
    pub fn open(workdir: &str) -> Result<Self, Refused> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(CWD, workdir, flags, Mode::empty(), resolve) {
            Ok(top) => Ok(Self { workdir: workdir.into(), top }),
            Err(Errno::LOOP) => Err(Refused::new(
                FilesRefusal::Outside,
                format!("there is a symlink in the path of the working directory {workdir} now"),
            )),
            Err(error) => Err(refused(Path::new(workdir), error)),
        }
    }

    /// The path relative to the directory, by its names alone; what they lead to is the kernel's to say.
    pub fn relative(&self, path: &[u8]) -> Result<PathBuf, Refused> {
        if path.len() > PATH || path.contains(&0) {
            let why = "a path has no NUL byte, and at most 4096 bytes";
            return Err(Refused::new(FilesRefusal::Missing, why));
        }
        let path = Path::new(OsStr::from_bytes(path));
        let relative = match path.is_absolute() {
            true => path.strip_prefix(&self.workdir).map_err(|_| outside(path))?,
            false => path,
        };
        Ok(if relative.as_os_str().is_empty() { ".".into() } else { relative.to_owned() })
    }

    /// Opens a path. Symlinks are followed, unless they lead out of the directory.
    pub fn open_below(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Refused> {
        let flags = flags | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let open = || rustix::fs::openat2(&self.top, path, flags, Mode::empty(), resolve);
        let mut opened = open();
        for _ in 1..TRIES {
            if opened.as_ref().err() != Some(&Errno::AGAIN) {
                break;
            }
            opened = open();
        }
        let opened = opened.map_err(|error| refused(path, error))?;
        // `/proc/self` would be the reader, and others' memory is no file of the session.
        match rustix::fs::fstatfs(&opened) {
            Ok(system) if system.f_type == PROC_SUPER_MAGIC => Err(outside(path)),
            Ok(_) => Ok(opened),
            Err(error) => Err(refused(path, error)),
        }
    }

    /// Looks at what a path leads to, without opening it.
    pub fn look(&self, path: &Path) -> Result<Stat, Refused> {
        let held = self.open_below(path, OFlags::PATH)?;
        rustix::fs::fstat(&held).map_err(|error| refused(path, error))
    }
}

/// The kind of a file.
pub fn kind(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Special,
    }
}

/// The time of the last change, Unix time in milliseconds. Times before 1970 are 0.
pub fn modified_ms(stat: &Stat) -> u64 {
    let seconds = u64::try_from(i128::from(stat.st_mtime)).unwrap_or(0);
    let nanoseconds = u64::try_from(i128::from(stat.st_mtime_nsec)).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000)
}

/// The size in bytes.
pub fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// The refusal for an error of the kernel.
pub fn refused(path: &Path, error: Errno) -> Refused {
    let shown = path.display();
    let why = match error {
        Errno::NOENT | Errno::NOTDIR => FilesRefusal::Missing,
        Errno::XDEV => return outside(path),
        Errno::LOOP => {
            return Refused::new(
                FilesRefusal::Outside,
                format!("{shown}: too many symlinks, or one of /proc"),
            );
        }
        _ => FilesRefusal::Unreadable,
    };
    Refused::new(why, format!("{shown}: {}", std::io::Error::from(error)))
}

fn outside(path: &Path) -> Refused {
    let message = format!("{} leads out of the session's working directory", path.display());
    Refused::new(FilesRefusal::Outside, message)
}

/// The refusal of a file that is of another kind than is needed.
pub fn wrong_kind(path: &Path, kind: FileKind, needed: &str) -> Refused {
    let is = match kind {
        FileKind::File => "a regular file",
        FileKind::Directory => "a directory",
        FileKind::Symlink => "a symlink",
        FileKind::Special => "a pipe, a socket or a device",
    };
    Refused::new(FilesRefusal::WrongKind, format!("{} is {is}, not {needed}", path.display()))
}
