//! A sandbox without bubblewrap: what is hidden is mounted over, and the Landlock of the kernel keeps the agent from writing
//! (landlock(7)).
//!
//! It is weaker. Who may not write a file may still change its mode, times and attributes where they are his own; and
//! nothing below can mount, so that no sandbox of the agent's own nests in it.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    path_beneath_rules,
};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount, mount_bind_recursive};

use crate::sandbox::Place;

/// What there is of `/dev`. Root without any rights may still read a disk that belongs to root.
pub const DEVICES: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/pts"];
/// Temporary files in memory.
const SHM: &str = "/dev/shm";
/// Links that programs expect there.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];
/// The least that Landlock must be able to, or there is no sandbox: to keep from truncating, too.
const NEEDED: ABI = ABI::V3;

/// A place as an argument, and back.
pub fn word(place: &Place, path: &str) -> String {
    let mark = match place {
        Place::Hidden => 'h',
        Place::Seen => 's',
        Place::Written => 'w',
    };
    format!("{mark}{path}")
}

fn place(word: &OsString) -> Option<(Place, PathBuf)> {
    let word = word.to_str()?;
    let place = match word.get(..1)? {
        "h" => Place::Hidden,
        "s" => Place::Seen,
        "w" => Place::Written,
        _ => return None,
    };
    Some((place, PathBuf::from(&word[1..])))
}

/// Mounts over what is hidden. For a process with a mount namespace of its own, and the right to mount.
pub fn hide(words: &[OsString]) -> io::Result<()> {
    let places: Vec<(Place, PathBuf)> = words.iter().filter_map(place).collect();
    // What is in a hidden place and yet seen has no path any more once that is hidden.
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let held: Vec<Option<OwnedFd>> = places.iter().map(|(_, path)| open(path).ok()).collect();
    if places.is_empty() {
        return Ok(());
    }
    let nothing = open(Path::new("/dev/null"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    for ((place, path), held) in places.iter().zip(&held) {
        let Some(held) = held else { continue };
        let is_directory = std::fs::metadata(format!("/proc/self/fd/{}", held.as_raw_fd()))?.is_dir();
        match place {
            Place::Hidden if is_directory => mount("tmpfs", path, "tmpfs", flags, c"mode=0755")?,
            Place::Hidden => mount_bind_recursive(format!("/proc/self/fd/{}", nothing.as_raw_fd()), path)?,
            Place::Seen | Place::Written => {
                if !path.exists() {
                    match (is_directory, path.parent()) {
                        (true, _) => std::fs::create_dir_all(path)?,
                        (false, above) => {
                            above.map_or(Ok(()), std::fs::create_dir_all)?;
                            File::create(path)?;
                        }
                    }
                }
                mount_bind_recursive(format!("/proc/self/fd/{}", held.as_raw_fd()), path)?;
            }
        }
    }
    for (to, link) in LINKS {
        std::os::unix::fs::symlink(to, link)?;
    }
    std::fs::create_dir(SHM)
}

/// From here on this process, and all that it starts, writes nothing but what it may.
pub fn keep_from_writing(words: &[OsString]) -> io::Result<()> {
    let places = words.iter().filter_map(place);
    let empty = crate::sandbox::EMPTY.iter().chain(&DEVICES).chain([&SHM]).map(PathBuf::from);
    let written = places.filter(|(place, _)| matches!(place, Place::Written)).map(|(_, path)| path);
    let writes: BitFlags<AccessFs> = AccessFs::from_write(NEEDED);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(writes)
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(empty.chain(written), writes)))
        .and_then(|ruleset| ruleset.restrict_self());
    ruleset.map(drop).map_err(io::Error::other)
}
