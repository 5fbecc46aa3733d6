//! System calls that no crate of ours offers safely: `mount_setattr`, `keyctl`, `clone` without a new program, and taking a
//! descriptor that this process has inherited. The only file with `unsafe` in this program.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::FdFlags;

/// `AT_RECURSIVE` of `linux/fcntl.h`: the mount and all below it.
const AT_RECURSIVE: libc::c_int = 0x8000;
/// `MOUNT_ATTR_*` of `linux/mount.h`.
const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
/// `KEYCTL_JOIN_SESSION_KEYRING` of `linux/keyctl.h`.
const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Makes the mount that `at` is open in, and all mounts below it, read-only, without set-user-ID programs and
/// devices (mount_setattr(2)).
pub fn make_read_only(at: impl AsFd) -> io::Result<()> {
    set_attributes(at, RDONLY | NOSUID | NODEV)
}

/// Like [`make_read_only`], but files stay writable.
pub fn make_harmless(at: impl AsFd) -> io::Result<()> {
    set_attributes(at, NOSUID | NODEV)
}

fn set_attributes(at: impl AsFd, set: u64) -> io::Result<()> {
    let attributes = MountAttributes { set, clear: 0, propagation: 0, user_namespace: 0 };
    let (fd, flags) = (at.as_fd().as_raw_fd(), libc::AT_EMPTY_PATH | AT_RECURSIVE);
    // SAFETY: the path is a C string with static life, and the kernel only reads `attributes`, whose size is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Joins a new session keyring that no other process has (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`). A kernel without keys has
/// none to share.
pub fn join_new_session_keyring() -> io::Result<()> {
    let no_name: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name asks for an anonymous keyring; the kernel reads nothing.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, no_name) };
    match joined {
        -1 if io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Forks this process into a child of its parent: a sibling (clone(2), `CLONE_PARENT`). Gives the sibling's pid, and 0 in the
/// sibling. Only for a process with one thread: the sibling has that one alone, and waits forever for a lock of any other.
pub fn fork_sibling() -> io::Result<i32> {
    // The signal at its end is the one with which this process was started, SIGCHLD.
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: without `CLONE_VM` the sibling has memory of its own, and goes on where this process is, on a copy of its stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, 0, 0, 0) };
    match i32::try_from(pid) {
        Ok(pid) if pid >= 0 => Ok(pid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Owns a descriptor that this process was started with and that its arguments name. exec closes it from here on.
///
/// # Errors
/// It is not open, or is one of 0, 1 and 2.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the borrow ends with this statement; a number that is not open gives an error.
    rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and nothing else in this process knows of it: each argument is taken once, when the process begins.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
