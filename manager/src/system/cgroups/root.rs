//! The directory in which kennel makes control groups: configured, or delegated by the service manager.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::{about, make, text};
use crate::config::CgroupRoot;
use crate::system::probe;

/// Placeholder for a controller's name in the root of version 1.
const CONTROLLER: &str = "{controller}";
/// Controllers that limits need. In version 1 the first one present also contains the processes of sessions without
/// limits.
const CONTROLLERS: [&str; 3] = ["pids", "memory", "cpu"];

/// `f_type` of file systems, statfs(2).
const CGROUP2: u64 = 0x6367_7270;
const CGROUP1: u64 = 0x0027_e0eb;

/// A directory for control groups, found and tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// Version 2, with these controllers.
    V2 {
        /// The directory.
        path: PathBuf,
        /// Those that groups below it have.
        controllers: BTreeSet<&'static str>,
    },
    /// Version 1: a directory for each controller.
    V1(BTreeMap<&'static str, PathBuf>),
}

impl Root {
    /// Finds the configured root, or one that is delegated to this process; `None` if there is none. Tests the root
    /// with a process of the `session-worker` program, which is at `named` or beside this one.
    ///
    /// # Errors
    /// A configured root that cannot be used; the text is for a person.
    pub async fn find(setting: &CgroupRoot, named: Option<&Path>) -> Result<Option<Self>, String> {
        let root = match setting {
            CgroupRoot::None => return Ok(None),
            CgroupRoot::Auto => match delegated().into_iter().find_map(|path| Self::v2(path).ok()) {
                Some(root) => root,
                None => return Ok(None),
            },
            CgroupRoot::At(path) if path.contains(CONTROLLER) => Self::v1(path)?,
            CgroupRoot::At(path) => Self::v2(PathBuf::from(path))?,
        };
        match root.try_out(named).await {
            Ok(()) => Ok(Some(root)),
            Err(_) if *setting == CgroupRoot::Auto => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn v2(path: PathBuf) -> Result<Self, String> {
        if kind(&path).map_err(|error| format!("{}: {error}", path.display()))? != CGROUP2 {
            return Err(format!("{} is no control group of version 2", path.display()));
        }
        let controllers = enable(&path);
        Ok(Self::V2 { path, controllers })
    }

    fn v1(pattern: &str) -> Result<Self, String> {
        let place = |name: &'static str| (name, PathBuf::from(pattern.replace(CONTROLLER, name)));
        let is_one = |(_, path): &(&str, PathBuf)| kind(path).is_ok_and(|kind| kind == CGROUP1);
        let found: BTreeMap<&str, PathBuf> = CONTROLLERS.into_iter().map(place).filter(is_one).collect();
        match found.is_empty() {
            true => Err(format!(
                "{pattern} is no control group of version 1 for any of {}",
                CONTROLLERS.join(", ")
            )),
            false => Ok(Self::V1(found)),
        }
    }

    /// The directories of all hierarchies, by controller.
    pub(super) fn trees(&self) -> Vec<(Option<&'static str>, &Path)> {
        match self {
            Root::V2 { path, .. } => vec![(None, path)],
            Root::V1(trees) => {
                let tree = |name: &&'static str| Some((Some(*name), trees.get(name)?.as_path()));
                CONTROLLERS.iter().filter_map(tree).collect()
            }
        }
    }

    /// Puts a process in a group below it.
    async fn try_out(&self, named: Option<&Path>) -> Result<(), String> {
        let name = format!("kennel-probe-{}", std::process::id());
        let groups: Vec<PathBuf> = self.trees().iter().map(|(_, path)| path.join(&name)).collect();
        let made = groups.iter().try_for_each(|group| make(group).map_err(|error| about(group, &error)));
        let tried = match made {
            Ok(()) => {
                let files: Vec<String> =
                    groups.iter().map(|group| text(&group.join("cgroup.procs"))).collect();
                match probe::can_enter(named, &files).await {
                    true => Ok(()),
                    false => Err(format!("no process can be put in {}", files.join(", "))),
                }
            }
            Err(error) => Err(error),
        };
        for group in &groups {
            let _ = fs::remove_dir(group);
        }
        tried
    }

    /// Describes the root for a person.
    pub fn describe(&self) -> String {
        let listed = |names: Vec<&str>| match names.is_empty() {
            true => "no controllers".to_owned(),
            false => names.join(", "),
        };
        match self {
            Root::V2 { path, controllers } => {
                format!(
                    "version 2 at {}, with {}",
                    path.display(),
                    listed(controllers.iter().copied().collect())
                )
            }
            Root::V1(trees) => {
                format!("version 1, with {}", listed(trees.keys().copied().collect()))
            }
        }
    }

    /// Returns true if the root enforces limits of memory.
    pub fn has_memory(&self) -> bool {
        match self {
            Root::V2 { controllers, .. } => controllers.contains("memory"),
            Root::V1(trees) => trees.contains_key("memory"),
        }
    }
}

/// Reads the type of the file system on which a directory lies.
fn kind(path: &Path) -> io::Result<u64> {
    if !path.is_absolute() || !fs::metadata(path)?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "no directory with an absolute path"));
    }
    // A user who can write there decides which processes kennel kills, because kennel kills those in its groups.
    let found = fs::metadata(path)?;
    if ![geteuid().as_raw(), 0].contains(&found.uid()) || found.mode() & 0o002 != 0 {
        let why = format!(
            "another user can write there: it belongs to user {}, with mode {:o}; nothing was made in it",
            found.uid(),
            found.mode() & 0o7777
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(rustix::fs::statfs(path)?.f_type as u64)
}

/// Control groups of version 2 that are ours to divide, the likeliest first: our own, or the one above where the service
/// manager has put us in a part of what it has delegated (systemd.resource-control(5), `DelegateSubgroup=`).
fn delegated() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut mounted = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let root =
        mounted.find(|fields| fields.get(2) == Some(&"cgroup2")).map(|fields| PathBuf::from(fields[1]));
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).map(str::to_owned);
    let (Some(root), Some(own)) = (root, own) else {
        return Vec::new();
    };
    let own = root.join(own);
    let above = own.parent().filter(|above| above.starts_with(&root)).map(Path::to_owned);
    above.into_iter().chain([own]).filter(|path| *path != root && is_delegated(path)).collect()
}

/// The service manager says so, or has given it to this user, who is not one that could write anywhere.
fn is_delegated(path: &Path) -> bool {
    let says = |name: &str| {
        let mut value = [0; 8];
        matches!(rustix::fs::getxattr(path, name, &mut value[..]), Ok(1)) && value[0] == b'1'
    };
    let given = || {
        let owner = fs::metadata(path.join("cgroup.procs")).map(|file| file.uid());
        !geteuid().is_root() && owner.is_ok_and(|owner| owner == geteuid().as_raw())
    };
    says("trusted.delegate") || says("user.delegate") || given()
}

/// Gives what is made below a group of version 2 its controllers. Those that it has then.
pub(super) fn enable(group: &Path) -> BTreeSet<&'static str> {
    let file = group.join("cgroup.subtree_control");
    let words = |text: String| -> BTreeSet<&'static str> {
        CONTROLLERS.into_iter().filter(|name| text.split_whitespace().any(|word| word == *name)).collect()
    };
    let there = fs::read_to_string(group.join("cgroup.controllers")).map(words).unwrap_or_default();
    for name in there {
        // One that has processes of its own cannot divide some of them: EBUSY.
        if let Err(error) = fs::write(&file, format!("+{name}")) {
            tracing::debug!(group = %group.display(), name, %error, "a controller is not to be had");
        }
    }
    fs::read_to_string(&file).map(words).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_root_that_is_none_is_refused_and_nothing_is_made_there() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().to_str().unwrap();
        for setting in
            [here.to_owned(), format!("{here}/absent"), format!("{here}/{CONTROLLER}"), "relative".into()]
        {
            let why = Root::find(&CgroupRoot::At(setting.clone()), None).await.unwrap_err();
            assert!(why.contains(setting.trim_end_matches(CONTROLLER)), "{why}");
        }
        assert_eq!(fs::read_dir(here).unwrap().count(), 0);
        assert_eq!(Root::find(&CgroupRoot::None, None).await, Ok(None));
    }

    #[tokio::test]
    async fn a_root_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o707);
        fs::set_permissions(dir.path(), open).unwrap();
        let setting = CgroupRoot::At(dir.path().to_str().unwrap().to_owned());
        let why = Root::find(&setting, None).await.unwrap_err();
        assert!(why.contains("another user can write there"), "{why}");
    }
}
