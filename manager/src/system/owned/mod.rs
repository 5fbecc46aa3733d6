//! Directories and files that are this user's alone: looked at before anything in them is opened, and never opened
//! through a link.
//!
//! Whoever can write a directory decides what its files are: what kennel would truncate, append to, execute or believe
//! there. So a directory of kennel's own must belong to this user, must not be writable by others, and nobody else may be
//! able to put another in its place: the same holds for each directory on the way, but that those may be root's, and that
//! a sticky one (`/tmp`) may be everybody's. Links on the way are this user's or root's.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::geteuid;

/// The most links that are followed on the way to a directory, as the kernel has it (path_resolution(7)).
const LINKS: usize = 40;

/// A file or directory that others can change, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untrusted {
    /// The directory or file.
    pub path: PathBuf,
    /// The problem.
    pub why: String,
    /// The remedy.
    pub mend: String,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, why, mend } = self;
        write!(f, "{} {why}. Nothing there was opened or changed. {mend}", path.display())
    }
}

impl std::error::Error for Untrusted {}

impl From<Untrusted> for io::Error {
    fn from(error: Untrusted) -> Self {
        io::Error::new(io::ErrorKind::PermissionDenied, error)
    }
}

/// Makes sure that a directory is this user's alone; makes it, with mode 0700, where it is not there. Its path without
/// links.
///
/// # Errors
/// With an [`Untrusted`] in it if the directory, or one on the way to it, is not to be trusted: then nothing was made.
pub fn directory(path: &Path) -> io::Result<PathBuf> {
    // Somebody else who makes the same directory meanwhile is found by the next walk.
    for _ in 0..LINKS {
        let Way { real, missing } = walk(path)?;
        let Some(first) = missing.front() else {
            own(&real)?;
            return Ok(real);
        };
        match DirBuilder::new().mode(0o700).create(real.join(first)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Err(io::Error::other(format!("{} does not stay where it is made", path.display())))
}

/// The same, but makes nothing: none if it is not there.
///
/// # Errors
/// As [`directory`].
pub fn existing(path: &Path) -> io::Result<Option<PathBuf>> {
    let Way { real, missing } = walk(path)?;
    if !missing.is_empty() {
        return Ok(None);
    }
    own(&real)?;
    Ok(Some(real))
}

/// Checks that no other user can replace a file in this directory: others may write it only if it is sticky. Creates a missing
/// directory. Returns its path without links.
///
/// # Errors
/// As [`directory`].
pub fn shared_directory(path: &Path) -> io::Result<PathBuf> {
    match walk(path)? {
        Way { real, missing } if missing.is_empty() => {
            let meta = fs::symlink_metadata(&real)?;
            if others_write(&real, &meta) && meta.mode() & 0o1000 == 0 {
                return Err(writable(&real, &meta).into());
            }
            Ok(real)
        }
        _ => directory(path),
    }
}

/// Makes sure that what is in a directory of ours is this user's alone, without opening any of it. `wanted` says which
/// names count.
///
/// # Errors
/// As [`directory`].
pub fn contents(directory: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !wanted(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let path = entry.path();
        let meta = match fs::symlink_metadata(&path) {
            // Gone again: a journal's log, say, of a reader that has just ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        check(&path, &meta)?;
    }
    Ok(())
}

/// The way in which a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// For reading.
    Read,
    /// For reading and writing. Creates a missing file; never truncates.
    Keep,
    /// For writing. Creates a missing file; truncates an existing one.
    Anew,
    /// For appending. Creates a missing file.
    Append,
}

/// Opens a regular file of this user's, in a directory of this user's, neither of them a link. It is closed at exec.
///
/// # Errors
/// With an [`Untrusted`] in it if it is another one: it may have been opened then, but was neither read nor changed.
pub fn open(path: &Path, how: How) -> io::Result<File> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = open_directory(parent)?;
    check(parent, &directory.metadata()?)?;
    open_in(&directory, path, how)
}

/// Reads all of a file.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path, How::Read)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a lock beside a socket, in a directory that [`shared_directory`] has looked at.
///
/// # Errors
/// As [`open`].
pub fn lock(path: &Path) -> io::Result<File> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    open_in(&open_directory(&fs::canonicalize(parent)?)?, path, How::Keep)
}

fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::PATH | OFlags::DIRECTORY;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|error| linked(error, path))?))
}

fn open_in(directory: &File, path: &Path, how: How) -> io::Result<File> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let more = match how {
        How::Read => OFlags::RDONLY,
        How::Keep => OFlags::RDWR | OFlags::CREATE,
        How::Anew => OFlags::WRONLY | OFlags::CREATE,
        How::Append => OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND,
    };
    // Else the opening of a pipe would wait for its other end.
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | more;
    let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600));
    let file = File::from(file.map_err(|error| linked(error, path))?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(untrusted(path, "is no regular file", REMOVE).into());
    }
    check(path, &meta)?;
    if how == How::Anew {
        file.set_len(0)?;
    }
    Ok(file)
}

/// Checks that an open file belongs to this user or root, and that no other user can write it.
///
/// # Errors
/// The reason, for a person.
pub fn believed(path: &Path, file: &File) -> io::Result<()> {
    let meta = file.metadata()?;
    if !is_trusted(meta.uid()) {
        return Err(foreign(path, &meta).into());
    }
    if meta.is_file() && others_write(path, &meta) {
        return Err(writable(path, &meta).into());
    }
    Ok(())
}

/// Position of a walk along a path.
struct Way {
    /// The part of the path that exists, without links.
    real: PathBuf,
    /// The names that do not exist yet.
    missing: VecDeque<OsString>,
}

/// Follows a path from the root, and makes sure of each step that nobody else can change where it leads.
fn walk(path: &Path) -> io::Result<Way> {
    let path = std::path::absolute(path)?;
    let mut left: VecDeque<OsString> = names(&path).collect();
    let mut real = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            real.pop();
            continue;
        }
        let above = fs::symlink_metadata(&real)?;
        // In a sticky directory others can make what is not there, but not replace what is.
        if others_write(&real, &above) && above.mode() & 0o1000 == 0 {
            return Err(writable(&real, &above).into());
        }
        let next = real.join(&name);
        let meta = match fs::symlink_metadata(&next) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                left.push_front(name);
                return Ok(Way { real, missing: left });
            }
            other => {
                other.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", next.display())))?
            }
        };
        if !is_trusted(meta.uid()) {
            return Err(foreign(&next, &meta).into());
        }
        if meta.is_symlink() {
            links += 1;
            if links > LINKS {
                return Err(io::Error::other(format!("{}: too many links", path.display())));
            }
            let target = fs::read_link(&next)?;
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                left.push_front(name);
            }
        } else if meta.is_dir() {
            real = next;
        } else {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                format!("{} is no directory", next.display()),
            ));
        }
    }
    Ok(Way { real, missing: left })
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Of a directory whose path has no links.
fn own(directory: &Path) -> io::Result<()> {
    Ok(check(directory, &fs::symlink_metadata(directory)?)?)
}

const REMOVE: &str = "Remove it if it is not yours.";

fn check(path: &Path, meta: &Metadata) -> Result<(), Untrusted> {
    let kind = meta.file_type();
    if kind.is_symlink() {
        return Err(untrusted(path, "is a symbolic link", REMOVE));
    }
    if !(kind.is_file() || kind.is_dir() || kind.is_socket()) {
        return Err(untrusted(path, "is neither a file nor a directory", REMOVE));
    }
    if meta.uid() != geteuid().as_raw() {
        return Err(foreign(path, meta));
    }
    if others_write(path, meta) && !kind.is_socket() {
        return Err(writable(path, meta));
    }
    if kind.is_file() && meta.nlink() > 1 {
        let why = format!("has {} names (hard links), and kennel would write to all of them", meta.nlink());
        return Err(untrusted(path, &why, "Replace it by a copy if it is yours, else remove it."));
    }
    Ok(())
}

fn untrusted(path: &Path, why: &str, mend: &str) -> Untrusted {
    Untrusted { path: path.to_owned(), why: why.to_owned(), mend: mend.to_owned() }
}

fn foreign(path: &Path, meta: &Metadata) -> Untrusted {
    let why = format!("belongs to user {}, and kennel runs as user {}", meta.uid(), geteuid().as_raw());
    untrusted(
        path,
        &why,
        "Remove it, run kennel as that user, or name another directory (--state-dir, KENNEL_SOCKET).",
    )
}

fn writable(path: &Path, meta: &Metadata) -> Untrusted {
    let why = format!("has mode {:04o}: other users can write there", meta.mode() & 0o7777);
    let mend = format!("Look at what is there, and then: chmod go-w {}", path.display());
    untrusted(path, &why, &mend)
}

/// Replaces the kernel's error for a link in a place where none may be.
fn linked(error: rustix::io::Errno, path: &Path) -> io::Error {
    let is_link = || fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
    match error {
        rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR if is_link() => {
            untrusted(path, "is a symbolic link", REMOVE).into()
        }
        other => other.into(),
    }
}

/// This user, or root, who can do all of it anyway. In a user namespace nobody can tell the users apart that it does not
/// know: there root's directories are theirs.
fn is_trusted(uid: u32) -> bool {
    uid == geteuid().as_raw() || uid == 0 || (Some(uid) == overflow() && !knows_everybody())
}

fn overflow() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok()
}

/// Returns true if this process's user namespace has all users, as the machine's own has.
fn knows_everybody() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Returns true if users other than the owner and root can write. A group with the name of its only user counts as that
/// user.
fn others_write(path: &Path, meta: &Metadata) -> bool {
    let group_writes = || !is_private(meta.gid()) || has_acl(path);
    meta.mode() & 0o002 != 0 || (meta.mode() & 0o020 != 0 && group_writes())
}

fn is_private(gid: u32) -> bool {
    use nix::unistd::{Gid, Group, Uid, User};
    let user = User::from_uid(Uid::effective()).ok().flatten();
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    let (Some(user), Some(group)) = (user, group) else { return false };
    user.gid.as_raw() == gid && user.name == group.name && group.mem.iter().all(|member| *member == user.name)
}

/// With an access list (acl(5)) the bits of the group stand for others, too.
fn has_acl(path: &Path) -> bool {
    let mut list = [0; 1024];
    !matches!(
        rustix::fs::lgetxattr(path, "system.posix_acl_access", &mut list[..]),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP)
    )
}

#[cfg(test)]
mod tests;
