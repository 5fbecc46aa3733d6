//! The view of a sandbox, mounted by the first process of the namespace itself where there is no bubblewrap.
//!
//! Everything that was mounted outside becomes read-only, with all that is mounted in it; what is granted is mounted by its
//! descriptor, over that. `/dev`, `/dev/pts`, `/dev/shm` and `/dev/mqueue` are new.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, mount_remount,
    move_mount, open_tree,
};
use rustix::process::geteuid;

use super::sandbox::{MASKED_OF_PROC, ROOTS_OF_PROC, Step, View};
use super::{Failed, syscalls};

/// Directories that this file makes itself, without a step of the view.
pub const OWN: [&str; 1] = ["/dev"];
/// The devices that there are. Root without any rights may still read a disk that belongs to root.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links that programs expect there.
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
    ("/proc/kcore", "/dev/core"),
];
/// The directory in which programs that share memory by name make their files.
pub const SHM: &str = "/dev/shm";

/// Mounts the view. For a process with a mount namespace of its own and the right to mount.
pub fn mount_view(view: &View) -> Result<(), Failed> {
    let step = |what| move |error: io::Error| (what, error);
    // Later mounts outside do not appear here: they would not be read-only.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|error| ("mount namespace", error.into()))?;
    // Before anything covers it.
    let devices = DEVICES.map(|name| (name, clone_at(&format!("/dev/{name}")).ok()));
    let clones: Vec<Option<OwnedFd>> =
        view.steps.iter().map(clone_of).collect::<io::Result<_>>().map_err(step("what is granted"))?;
    let root = open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC).map_err(|error| ("/", error.into()))?;
    syscalls::make_read_only(&root).map_err(step("read-only mounts"))?;
    new_dev(&devices).map_err(step("/dev"))?;
    for (at, clone) in view.steps.iter().zip(&clones) {
        apply(at, clone.as_ref()).map_err(step("the agent's view of the machine"))?;
    }
    for at in &view.steps {
        if let Step::Empty { path, written: false } = at {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
            mount_remount(path, flags | MountFlags::BIND, c"")
                .map_err(|error| ("an empty directory", error.into()))?;
        }
    }
    Ok(())
}

/// Makes what root could write of its `/proc` read-only, and covers what tells of the outside.
pub fn cover_proc() -> io::Result<()> {
    for path in MASKED_OF_PROC.map(Path::new) {
        if path.exists() {
            attach(&nothing()?, path)?;
        }
    }
    for path in ROOTS_OF_PROC {
        if geteuid().is_root() && Path::new(path).exists() {
            let clone = clone_at(path)?;
            syscalls::make_read_only(&clone)?;
            attach(&clone, Path::new(path))?;
        }
    }
    Ok(())
}

/// An empty file, as a mount that is nowhere yet.
fn nothing() -> io::Result<OwnedFd> {
    let nothing = clone_at("/dev/null")?;
    syscalls::make_read_only(&nothing)?;
    Ok(nothing)
}

fn clone_at(path: &str) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, clone_flags())?)
}

fn clone_flags() -> OpenTreeFlags {
    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE
}

/// Opens the place that a step shows as a detached mount. `None`: a place that was not granted has gone since the view
/// was made.
fn clone_of(step: &Step) -> io::Result<Option<OwnedFd>> {
    let Step::Shown { path, written, held } = step else { return Ok(None) };
    let clone = match held {
        Some(held) => open_tree(held, c"", clone_flags() | OpenTreeFlags::AT_EMPTY_PATH)?,
        None => match open_tree(CWD, path, clone_flags() | OpenTreeFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(clone) => clone,
            Err(_) => return Ok(None),
        },
    };
    match written {
        true => syscalls::make_harmless(&clone)?,
        false => syscalls::make_read_only(&clone)?,
    }
    Ok(Some(clone))
}

fn attach(clone: &OwnedFd, at: &Path) -> io::Result<()> {
    Ok(move_mount(clone, c"", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn apply(step: &Step, clone: Option<&OwnedFd>) -> io::Result<()> {
    match step {
        Step::Empty { path, written } => {
            fs::create_dir_all(path)?;
            let mode = if *written && path.ends_with("tmp") { c"mode=1777" } else { c"mode=0755" };
            mount("tmpfs", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, mode)?;
        }
        Step::Mask { path } => {
            // A path that has gone needs no cover.
            match attach(&nothing()?, path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Step::Shown { path, held, .. } => {
            let Some(clone) = clone else { return Ok(()) };
            let is_directory = fs::metadata(format!("/proc/self/fd/{}", clone.as_fd().as_raw_fd()))?.is_dir();
            let is_new = !path.exists();
            if is_directory {
                fs::create_dir_all(path)?;
            } else if is_new {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                File::create(path)?;
            }
            match attach(clone, path) {
                // The kernel attaches nothing whose place was removed after it was opened.
                Err(error) if error.kind() == io::ErrorKind::NotFound && held.is_none() => {
                    let _ = match is_new {
                        true if is_directory => fs::remove_dir(path),
                        true => fs::remove_file(path),
                        false => Ok(()),
                    };
                }
                attached => attached?,
            }
        }
        Step::Link { path, target } => {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            std::os::unix::fs::symlink(target, path)?;
        }
    }
    Ok(())
}

fn new_dev(devices: &[(&str, Option<OwnedFd>)]) -> io::Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("tmpfs", "/dev", "tmpfs", quiet, c"mode=0755")?;
    for (name, clone) in devices {
        let path = Path::new("/dev").join(name);
        if let Some(clone) = clone {
            File::create(&path)?;
            attach(clone, &path)?;
        }
    }
    fs::create_dir("/dev/pts")?;
    mount("devpts", "/dev/pts", "devpts", quiet, c"newinstance,ptmxmode=0666,mode=0620")?;
    fs::create_dir("/dev/mqueue")?;
    mount("mqueue", "/dev/mqueue", "mqueue", quiet | MountFlags::NODEV, c"")?;
    fs::create_dir(SHM)?;
    mount("tmpfs", SHM, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777")?;
    for (to, link) in LINKS {
        std::os::unix::fs::symlink(to, link)?;
    }
    let flags = quiet | MountFlags::RDONLY | MountFlags::BIND;
    Ok(mount_remount("/dev", flags, c"")?)
}
