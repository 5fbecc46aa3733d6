//! The view of an agent in a sandbox: the steps that make it, for bubblewrap or for `mounts.rs`.
//!
//! The agent can read the whole machine except for hidden places. The agent can write the working directory, the paths that the
//! profile grants, and temporary files of its own. `/run` is empty except for name resolution: sockets there (of the session
//! bus, of key agents, of docker) are ways out. In `strict` the home directory is empty, too.
//!
//! kennel hides a place by its *parent*: it shows the parent as a directory of its own and mounts everything else of the parent
//! in it. So a file that appears at the hidden place later, or replaces it, is hidden as well.

mod bubblewrap;
mod places;
mod program;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use protocol::{Granted, Walls, resolved};

use places::{make_beneath, metadata};

pub use bubblewrap::bubblewrap;
pub use places::{OWN_PROGRAM, copy_of_own_program, identify, open, own_program};

/// Directories that are empty at first and belong to the agent alone.
pub const EMPTY: [&str; 3] = ["/tmp", "/var/tmp", "/run"];
/// Directories of `/run` that an agent in a sandbox still sees.
const OF_RUN: [&str; 4] =
    ["/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/run/current-system"];
/// Directories in which root without capabilities could still read about the whole machine.
const OF_KERNEL: [&str; 3] = ["/sys/kernel/debug", "/sys/kernel/tracing", "/sys/firmware"];
/// Paths of `/proc` that root could write even without capabilities: the owner's permission bits suffice.
pub const ROOTS_OF_PROC: [&str; 8] = [
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
    "/proc/acpi",
    "/proc/scsi",
    "/proc/driver",
];
/// Files of `/proc` that tell about the machine outside. bubblewrap covers them for root only: otherwise no sandbox
/// inside could mount `/proc`.
pub const MASKED_OF_PROC: [&str; 5] =
    ["/proc/keys", "/proc/key-users", "/proc/kcore", "/proc/timer_list", "/proc/kmsg"];
/// Directories that the kernel makes. kennel mounts over a hidden place there and never rebuilds its parent.
const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];
/// The most entries of a directory that are mounted one by one; of more, what is hidden is mounted over.
const ENTRIES: usize = 1000;
/// The most symlinks and interpreters that are followed from a program.
const HOPS: usize = 10;

/// A step on the way to the view, the shorter paths first.
#[derive(Debug)]
pub enum Step {
    /// An empty directory. One that is not `written` is made read-only at last, when what is in it is there.
    Empty { path: PathBuf, written: bool },
    /// An empty file.
    Mask { path: PathBuf },
    /// The place as it is outside. `held` is an open descriptor of a granted place, which is mounted instead of the
    /// path.
    Shown { path: PathBuf, written: bool, held: Option<OwnedFd> },
    /// A symlink.
    Link { path: PathBuf, target: PathBuf },
}

impl Step {
    fn path(&self) -> &Path {
        match self {
            Step::Empty { path, .. }
            | Step::Mask { path }
            | Step::Shown { path, .. }
            | Step::Link { path, .. } => path,
        }
    }
}

/// The view, and what was granted in it.
#[derive(Debug)]
pub struct View {
    /// The steps, in the order in which they are made.
    pub steps: Vec<Step>,
    /// The places that were opened, as they are.
    pub granted: Vec<Granted>,
}

impl View {
    /// Returns true if a path, or the place to which its symlinks lead, lies in something that the agent may write.
    pub fn lets_write(&self, path: &str) -> bool {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let mut written = self
            .steps
            .iter()
            .filter(|step| matches!(step, Step::Shown { written: true, .. }))
            .map(Step::path);
        written.any(|place| real.starts_with(place) || Path::new(path).starts_with(place))
    }
}

/// Settles what the agent sees. `own` are places that the maker makes by himself.
///
/// # Errors
/// Why a place cannot be granted, for a person.
pub fn view(walls: &Walls, workdir: &str, argv: &[String], own: &[&str]) -> Result<View, String> {
    let mut layout = Layout::default();
    for path in EMPTY {
        layout.empty(path, true);
    }
    layout.own.extend(own.iter().map(PathBuf::from));
    for path in OF_KERNEL {
        layout.empty(path, false);
    }
    if let Some(home) = &walls.home {
        layout.empty(home, false);
    }
    for path in OF_RUN {
        if let Ok(real) = fs::canonicalize(path) {
            layout.shown.insert(real, Shown { written: false, held: None });
        }
    }
    for path in &walls.readable {
        layout.grant(walls, path, false, false)?;
    }
    for path in &walls.writable {
        layout.grant(walls, path, true, false)?;
    }
    layout.grant(walls, workdir, true, true)?;
    for path in walls.hidden.iter().map(Path::new) {
        layout.hidden.insert(resolved(path));
        // A symlink is hidden by its name as well: something else may stand there later.
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
            && let (Some(parent), Some(name)) = (path.parent(), path.file_name())
        {
            layout.hidden.insert(resolved(parent).join(name));
        }
    }
    if let Some(program) = argv.first().map(Path::new).filter(|program| program.is_absolute()) {
        layout.program(program, HOPS);
    }
    for path in layout.hidden.clone() {
        layout.hide(path)?;
    }
    Ok(layout.steps())
}

struct Shown {
    written: bool,
    held: Option<OwnedFd>,
}

#[derive(Default)]
struct Layout {
    /// Places to hide, with their symlinks resolved.
    hidden: BTreeSet<PathBuf>,
    /// Empty directories, and whether they can be written.
    empty: BTreeMap<PathBuf, bool>,
    /// Directories that the mounting code makes itself: treated like an empty directory, without a step.
    own: Vec<PathBuf>,
    shown: BTreeMap<PathBuf, Shown>,
    links: BTreeMap<PathBuf, PathBuf>,
    /// Hidden, and mounted over: their parents can be written.
    masked: BTreeSet<PathBuf>,
    /// Directories that are shown entry by entry, without these names.
    divided: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    granted: Vec<Granted>,
}

/// Visibility of a path: its own, or that of the deepest path above it that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Empty,
    Seen,
    Written,
}

impl Layout {
    fn empty(&mut self, path: &str, written: bool) {
        if let Ok(real) = fs::canonicalize(path) {
            self.empty.insert(real, written);
        }
    }

    /// Opens a place that was granted and remembers it. A place that is not there is not granted.
    fn grant(&mut self, walls: &Walls, path: &str, written: bool, needed: bool) -> Result<(), String> {
        let refused = |why: &str| Err(format!("{path} is not what the session was given: {why}"));
        let held = match open(Path::new(path)) {
            Ok(held) => held,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !needed => return Ok(()),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return refused("there is a symlink in its path now");
            }
            Err(error) if needed => {
                return Err(super::status::no_workdir(path, &error));
            }
            Err(error) => return refused(&error.to_string()),
        };
        let metadata = metadata(&held).map_err(|error| format!("{path}: {error}"))?;
        let now = Granted::of(path.to_owned(), &metadata);
        if metadata.is_dir() {
            let before = walls.granted.iter().find(|granted| granted.path == path);
            if before.is_some_and(|before| !before.is(&now)) {
                return refused(
                    "another directory is there now; put the former back, or start a new session",
                );
            }
        } else if !metadata.is_file() {
            return refused("it is neither a directory nor a regular file");
        } else if written && metadata.nlink() > 1 {
            return refused("the file has a second name");
        }
        self.granted.push(now);
        let (path, shown) = (PathBuf::from(path), Shown { written, held: Some(held) });
        // A path that is both writable and readable stays writable.
        if written || !self.shown.contains_key(&path) {
            self.shown.insert(path, shown);
        }
        Ok(())
    }

    fn holds(&self, path: &Path) -> Holds {
        for above in path.ancestors() {
            match self.shown.get(above) {
                Some(Shown { written: true, .. }) => return Holds::Written,
                Some(Shown { written: false, .. }) => return Holds::Seen,
                None => {}
            }
            let made = self.empty.contains_key(above) || self.own.iter().any(|own| own == above);
            if made || self.hidden.contains(above) {
                return Holds::Empty;
            }
        }
        Holds::Seen
    }

    fn hide(&mut self, path: PathBuf) -> Result<(), String> {
        // A path that is granted itself stays visible; an empty directory hides its contents already.
        if self.shown.contains_key(&path) || self.empty.contains_key(&path) {
            return Ok(());
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let there = nearest(parent);
        match self.holds(&there) {
            // It is not there at all, or with what is above it.
            Holds::Empty => return Ok(()),
            Holds::Written => {
                if there != parent || fs::symlink_metadata(&path).is_err() {
                    // So that there is something to be mounted over: the agent could make it, too.
                    make_beneath(&there, path.strip_prefix(&there).unwrap_or(Path::new("")))
                        .map_err(|error| format!("{} cannot be hidden: {error}", path.display()))?;
                }
                self.stay(parent);
                self.masked.insert(path);
                return Ok(());
            }
            Holds::Seen => {}
        }
        let of_kernel = KERNEL.iter().any(|kernel| there.starts_with(kernel));
        if there == Path::new("/") || of_kernel {
            if fs::symlink_metadata(&path).is_ok() {
                self.masked.insert(path);
            }
            return Ok(());
        }
        let name = match there == parent {
            true => PathBuf::from(name),
            // Nothing of the name is there: it does not come to be.
            false => path
                .strip_prefix(&there)
                .ok()
                .and_then(|rest| rest.iter().next())
                .map(PathBuf::from)
                .unwrap_or_default(),
        };
        let few = fs::read_dir(&there).map(|entries| entries.take(ENTRIES + 1).count() <= ENTRIES);
        if !few.unwrap_or(false) {
            if fs::symlink_metadata(&path).is_ok() {
                self.masked.insert(path);
            }
            return Ok(());
        }
        self.divided.entry(there).or_default().insert(name);
        Ok(())
    }

    /// Makes a directory that may be written, and those above it, places of mounts: a directory that something is mounted in
    /// can be renamed, and what was hidden in it would be seen under its other name; a place of a mount cannot.
    fn stay(&mut self, directory: &Path) {
        for above in directory.ancestors() {
            if self.shown.contains_key(above) {
                return;
            }
            if let Ok(held) = open(above) {
                self.shown.insert(above.to_owned(), Shown { written: true, held: Some(held) });
            }
        }
    }

    fn steps(mut self) -> View {
        let mut steps: Vec<Step> = Vec::new();
        let divided = std::mem::take(&mut self.divided);
        for (directory, without) in &divided {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let (name, path) = (PathBuf::from(entry.file_name()), entry.path());
                let settled = without.contains(&name)
                    || divided.contains_key(&path)
                    || self.empty.contains_key(&path)
                    || self.shown.contains_key(&path)
                    || self.links.contains_key(&path);
                let Ok(kind) = entry.file_type() else { continue };
                // A socket is a way to whoever listens.
                if settled || kind.is_socket() || kind.is_fifo() || path.to_str().is_none() {
                    continue;
                }
                if kind.is_symlink() {
                    if let Ok(target) = fs::read_link(&path) {
                        steps.push(Step::Link { path, target });
                    }
                } else {
                    steps.push(Step::Shown { path, written: false, held: None });
                }
            }
        }
        let empty = std::mem::take(&mut self.empty).into_iter();
        steps.extend(empty.map(|(path, written)| Step::Empty { path, written }));
        // Where it is granted by this very name it is shown whole, but for what is hidden in it.
        let shown =
            std::mem::take(&mut self.shown).into_iter().filter(|(path, _)| !divided.contains_key(path));
        steps.extend(shown.map(|(path, Shown { written, held })| Step::Shown { path, written, held }));
        steps.extend(divided.into_keys().map(|path| Step::Empty { path, written: false }));
        steps.extend(
            std::mem::take(&mut self.links).into_iter().map(|(path, target)| Step::Link { path, target }),
        );
        steps.extend(std::mem::take(&mut self.masked).into_iter().map(|path| match path.is_dir() {
            true => Step::Empty { path, written: false },
            false => Step::Mask { path },
        }));
        steps.sort_by_key(|step| step.path().components().count());
        View { steps, granted: self.granted }
    }
}

/// The deepest directory at or above a path that is there.
fn nearest(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|above| above.is_dir());
    there.unwrap_or(Path::new("/")).to_owned()
}
