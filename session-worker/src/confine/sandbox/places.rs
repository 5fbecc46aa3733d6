//! Places of the machine that a sandbox shows, opened without following symlinks, and this program as one of them.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use protocol::Granted;
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, ResolveFlags, SealFlags};

use super::Step;

/// The path at which a sandbox shows this program. An agent reaches this program by no writable mount.
pub const OWN_PROGRAM: &str = "/run/kennel-init";

/// The step that shows this program read-only at [`OWN_PROGRAM`]; `None` if its file has gone, as in an upgrade.
pub fn own_program() -> io::Result<Option<Step>> {
    let running = fs::metadata("/proc/self/exe")?;
    let held = fs::read_link("/proc/self/exe").and_then(|path| open(&path));
    let same = held.as_ref().is_ok_and(|held| {
        metadata(held).is_ok_and(|found| (found.dev(), found.ino()) == (running.dev(), running.ino()))
    });
    let shown = |held| Step::Shown { path: OWN_PROGRAM.into(), written: false, held: Some(held) };
    Ok(held.ok().filter(|_| same).map(shown))
}

/// Makes a copy of this program that no process can change.
pub fn copy_of_own_program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = fs::File::from(rustix::fs::memfd_create("kennel-init", flags)?);
    io::copy(&mut fs::File::open("/proc/self/exe")?, &mut copy)?;
    let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, all)?;
    Ok(copy.into())
}

/// Opens a place without following a symlink anywhere in its path. Not to be read: to be mounted, and to be looked at.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve)?)
}

/// Makes a directory and those above it, below one that an agent may write. No symlink that the agent puts there leads it
/// elsewhere.
pub(super) fn make_beneath(there: &Path, below: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut at = open(there)?;
    for name in below.iter() {
        match rustix::fs::mkdirat(&at, name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = rustix::fs::openat2(&at, name, flags, Mode::empty(), resolve)?;
    }
    Ok(())
}

/// Takes the identity of the file that is open at a path. Errors: the kernel refuses to stat the descriptor.
pub fn identify(path: &str, held: &OwnedFd) -> io::Result<Granted> {
    Ok(Granted::of(path.to_owned(), &metadata(held)?))
}

pub(super) fn metadata(held: &OwnedFd) -> io::Result<Metadata> {
    fs::metadata(format!("/proc/self/fd/{}", held.as_raw_fd()))
}
