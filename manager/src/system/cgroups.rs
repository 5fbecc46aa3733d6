//! Control groups (cgroups(7)): one for each session, where there is a directory for them. They keep its limits, and know
//! its processes whatever becomes of their parents and their environment.
//!
//! ```text
//! <root>/kennel-<state uuid>/<session>.session
//! ```
//!
//! In version 1 there is one such tree for each controller that is needed. Nothing outside `<root>` is made or changed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use protocol::{Groups, Keeper, LimitedBy, Limits, SessionId};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, geteuid, pidfd_open};

use crate::config::CgroupRoot;
use crate::system::{probe, process};

/// What stands for a controller's name in the root of version 1.
const CONTROLLER: &str = "{controller}";
/// What limits need. In version 1 the first that is there also knows the processes of sessions without limits.
const CONTROLLERS: [&str; 3] = ["pids", "memory", "cpu"];
/// What a session's directory ends with: so no session's name is that of a file there.
const SUFFIX: &str = ".session";
/// What a manager's directory begins with.
const INSTANCE: &str = "kennel-";
/// The period in which processor time is counted, in microseconds: the kernel's own (cpu.cfs_period_us).
const PERIOD_US: u64 = 100_000;
/// How often all processes of a group are listed to kill those that are new, at most.
const PASSES: usize = 32;
/// `f_type` of file systems, statfs(2).
const CGROUP2: u64 = 0x6367_7270;
const CGROUP1: u64 = 0x0027_e0eb;

/// Where groups can be made: found, and tried.
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
    /// What is set, or what is ours by itself; none if that is nothing. A process of the `session-worker` program, which
    /// is at `named` or beside this one, was put in a group there.
    ///
    /// # Errors
    /// Why what is set cannot be used, for a person.
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
    fn trees(&self) -> Vec<(Option<&'static str>, &Path)> {
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

    /// What it is, for a person.
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

    /// Whether it keeps limits of memory.
    pub fn has_memory(&self) -> bool {
        match self {
            Root::V2 { controllers, .. } => controllers.contains("memory"),
            Root::V1(trees) => trees.contains_key("memory"),
        }
    }
}

/// Which kind of file system a directory lies on.
fn kind(path: &Path) -> io::Result<u64> {
    if !path.is_absolute() || !fs::metadata(path)?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "no directory with an absolute path"));
    }
    // Whoever can write there decides which processes are in our groups, and those are killed.
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
fn enable(group: &Path) -> BTreeSet<&'static str> {
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

fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn about(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Writes a limit. Whether it holds.
fn set(group: &Path, file: &str, value: u64) -> bool {
    let path = group.join(file);
    match fs::write(&path, value.to_string()) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "a limit is not kept by the kernel");
            false
        }
    }
}

/// The groups of one state directory's sessions.
pub struct Cgroups {
    root: Root,
    instance: String,
    /// Not removed yet: the kernel was not done with what had been in them.
    left: BTreeSet<SessionId>,
}

impl Cgroups {
    /// Those of the state directory with this uuid.
    pub fn new(root: Root, uuid: &str) -> Self {
        Self { root, instance: format!("{INSTANCE}{uuid}"), left: BTreeSet::new() }
    }

    fn group(&self, tree: &Path, id: &SessionId) -> PathBuf {
        tree.join(&self.instance).join(format!("{id}{SUFFIX}"))
    }

    /// Makes a session's groups, with its limits, and says what sees to each.
    pub fn make(&self, id: &SessionId, limits: &Limits) -> (Groups, LimitedBy) {
        let (mut groups, mut by) = (Groups::default(), limits.without_groups());
        let wanted = |name: &str| match name {
            "memory" => limits.memory_bytes.is_some(),
            "pids" => limits.pids.is_some(),
            _ => limits.milli_cpus.is_some(),
        };
        let mut trees = self.root.trees();
        // One of them is enough to know the processes.
        let all = trees.clone();
        trees.retain(|(name, _)| name.is_none_or(wanted));
        if trees.is_empty() {
            trees.extend(all.first());
        }
        for (_, tree) in trees {
            let group = self.group(tree, id);
            let instance = tree.join(&self.instance);
            let made = make(&instance).map(|()| {
                if matches!(self.root, Root::V2 { .. }) {
                    enable(&instance);
                }
            });
            if let Err(error) = made.and_then(|()| make(&group)) {
                tracing::warn!(session = %id, group = %group.display(), %error, "no control group");
                continue;
            }
            self.limit(&group, limits, &mut by, &mut groups);
            groups.enter.push(text(&group.join("cgroup.procs")));
        }
        (groups, by)
    }

    /// Sets what this group can.
    fn limit(&self, group: &Path, limits: &Limits, by: &mut LimitedBy, groups: &mut Groups) {
        let has = |file: &str| group.join(file).exists();
        let keeper = match &self.root {
            Root::V2 { .. } => Keeper::CgroupV2,
            Root::V1(_) => Keeper::CgroupV1,
        };
        if let Some(bytes) = limits.memory_bytes {
            let kept = match keeper {
                Keeper::CgroupV2 if has("memory.max") && set(group, "memory.max", bytes) => {
                    // Without it the limit would only be where swapping begins.
                    let _ = has("memory.swap.max") && set(group, "memory.swap.max", 0);
                    // All of them, as one that lost a part would be none.
                    let _ = has("memory.oom.group") && set(group, "memory.oom.group", 1);
                    Some(("memory.events", "memory.peak"))
                }
                Keeper::CgroupV1 if has("memory.limit_in_bytes") => {
                    // It is never to be below the other, of whoever had this group before.
                    let _ = fs::write(group.join("memory.memsw.limit_in_bytes"), "-1");
                    let kept = set(group, "memory.limit_in_bytes", bytes);
                    let _ = has("memory.memsw.limit_in_bytes")
                        && set(group, "memory.memsw.limit_in_bytes", bytes);
                    kept.then_some(("memory.oom_control", "memory.max_usage_in_bytes"))
                }
                _ => None,
            };
            if let Some((events, peak)) = kept {
                by.memory = Some(keeper);
                groups.memory_events = Some(text(&group.join(events)));
                groups.memory_peak = has(peak).then(|| text(&group.join(peak)));
            }
        }
        if let Some(pids) = limits.pids.filter(|_| has("pids.max"))
            && set(group, "pids.max", pids.into())
        {
            by.pids = Some(keeper);
        }
        if let Some(milli) = limits.milli_cpus {
            let quota = u64::from(milli) * PERIOD_US / 1000;
            let kept = match keeper {
                Keeper::CgroupV2 if has("cpu.max") => {
                    fs::write(group.join("cpu.max"), format!("{quota} {PERIOD_US}")).is_ok()
                }
                Keeper::CgroupV1 if has("cpu.cfs_quota_us") => {
                    set(group, "cpu.cfs_period_us", PERIOD_US) && set(group, "cpu.cfs_quota_us", quota)
                }
                _ => false,
            };
            if kept {
                by.cpus = Some(keeper);
            }
        }
    }

    /// Kills all processes of a session. Those that still live.
    pub fn kill(&self, id: &SessionId) -> Vec<u32> {
        let groups = self.root.trees().into_iter().map(|(_, tree)| self.group(tree, id));
        kill(&groups.filter(|group| group.is_dir()).collect::<Vec<_>>())
    }

    /// Removes the groups of a session that has no processes any more, and what could not be removed before.
    pub fn remove(&mut self, id: &SessionId) {
        self.left.insert(id.clone());
        let left = std::mem::take(&mut self.left);
        self.left = left.into_iter().filter(|id| !self.removed(id)).collect();
        for (_, tree) in self.root.trees() {
            // The last one shuts the door.
            let _ = fs::remove_dir(tree.join(&self.instance));
        }
    }

    fn removed(&self, id: &SessionId) -> bool {
        let groups = self.root.trees().into_iter().map(|(_, tree)| self.group(tree, id));
        groups.filter(|group| !remove(group)).count() == 0
    }

    /// It has processes again: it is not to be removed.
    pub fn keep(&mut self, id: &SessionId) {
        self.left.remove(id);
    }

    /// Kills what is left of sessions that are not `kept`, and removes their groups. How many still live.
    pub fn sweep(&self, kept: &HashSet<SessionId>) -> usize {
        let mut left = 0;
        for (_, tree) in self.root.trees() {
            let entries = fs::read_dir(tree.join(&self.instance)).into_iter().flatten().flatten();
            for entry in entries {
                let name = entry.file_name();
                let Some(name) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else {
                    continue;
                };
                if name.parse::<SessionId>().is_ok_and(|id| kept.contains(&id)) {
                    continue;
                }
                let group = entry.path();
                let living = kill(std::slice::from_ref(&group));
                if !living.is_empty() {
                    tracing::warn!(group = %group.display(), ?living, "killed processes that were left behind");
                }
                left += living.len();
                remove(&group);
            }
            let _ = fs::remove_dir(tree.join(&self.instance));
        }
        left
    }
}

/// A group and all below it: an agent that may can divide its own. Those below come last.
fn whole(group: &Path) -> Vec<PathBuf> {
    let mut all = vec![group.to_owned()];
    let mut at = 0;
    while let Some(next) = all.get(at).cloned() {
        let entries = fs::read_dir(&next).into_iter().flatten().flatten();
        all.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|it| it.path()),
        );
        at += 1;
    }
    all
}

/// Whether it is gone.
fn remove(group: &Path) -> bool {
    let stays = |path: &&PathBuf| match fs::remove_dir(path) {
        Ok(()) => false,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    whole(group).iter().rev().filter(stays).count() == 0
}

/// The sessions' groups in which a process is, of whichever manager: the manager's name and the session, by the names of
/// the directories.
pub fn memberships(pid: u32) -> Vec<(String, SessionId)> {
    // hierarchy:controllers:path (cgroups(7)).
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().filter_map(|line| membership(line.splitn(3, ':').nth(2)?)).collect()
}

fn membership(path: &str) -> Option<(String, SessionId)> {
    let parts: Vec<&str> = path.split('/').collect();
    parts.windows(2).rev().find_map(|pair| {
        let manager = pair[0].strip_prefix(INSTANCE)?;
        Some((manager.to_owned(), pair[1].strip_suffix(SUFFIX)?.parse().ok()?))
    })
}

/// The processes of these groups and of those below them, but for this one and its ancestors: they are there only if a
/// session's own program has started this manager.
fn members(groups: &[PathBuf]) -> BTreeSet<u32> {
    let listed = listed(groups);
    match listed.is_empty() {
        true => listed,
        false => listed.difference(&process::line()).copied().collect(),
    }
}

fn listed(groups: &[PathBuf]) -> BTreeSet<u32> {
    let listed = groups.iter().flat_map(|group| whole(group)).map(|group| group.join("cgroup.procs"));
    let listed = listed.filter_map(|file| fs::read_to_string(file).ok()).collect::<Vec<_>>();
    // 0 is a process that this PID namespace does not know.
    let pids = listed.iter().flat_map(|text| text.lines()).filter_map(|line| line.parse::<u32>().ok());
    pids.filter(|pid| *pid != 0).collect()
}

fn kill(groups: &[PathBuf]) -> Vec<u32> {
    let mut tried = BTreeSet::new();
    let at_once = listed(groups).is_disjoint(&process::line());
    for _ in 0..PASSES {
        let found = members(groups);
        if found.is_empty() {
            return Vec::new();
        }
        for group in groups.iter().filter(|_| at_once) {
            // All at once, forks included (cgroups(7), Linux 5.14; version 2 only).
            let file = group.join("cgroup.kill");
            if file.exists()
                && let Err(error) = fs::write(&file, "1")
            {
                tracing::debug!(group = %group.display(), %error, "not killed at once");
            }
        }
        let news: Vec<u32> = found.into_iter().filter(|pid| tried.insert(*pid)).collect();
        if news.is_empty() {
            break;
        }
        for pid in news {
            let Ok(pidfd) = process::pid(pid).and_then(|pid| {
                pidfd_open(pid, PidfdFlags::empty()).map_err(|error: Errno| io::Error::from(error))
            }) else {
                continue;
            };
            // Asked again after the descriptor was opened: if the pid is still there, the descriptor is that process,
            // or one that is dead already.
            if members(groups).contains(&pid) {
                process::signal(pidfd.as_fd(), Signal::KILL);
            }
        }
    }
    members(groups).into_iter().collect()
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

    #[test]
    fn a_process_is_in_the_group_that_is_deepest() {
        let id = |name: &str| name.parse::<SessionId>().unwrap();
        for (path, found) in [
            ("/", None),
            ("/user.slice/kennel-a/x", None),
            ("/kennel-a/one.session", Some(("a".to_owned(), id("one")))),
            ("/s/kennel-a/one.session/own/deep", Some(("a".to_owned(), id("one")))),
            ("/kennel-a/one.session/kennel-b/two.session", Some(("b".to_owned(), id("two")))),
        ] {
            assert_eq!(membership(path), found, "{path}");
        }
    }

    #[test]
    fn our_own_process_is_never_a_member() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("a.session");
        fs::create_dir_all(group.join("below")).unwrap();
        fs::write(group.join("cgroup.procs"), format!("0\n{}\n4000001\n", std::process::id())).unwrap();
        fs::write(group.join("below/cgroup.procs"), "4000002\n").unwrap();
        assert_eq!(members(std::slice::from_ref(&group)), BTreeSet::from([4_000_001, 4_000_002]));
        let parent = std::os::unix::process::parent_id();
        fs::write(group.join("cgroup.procs"), format!("{parent}\n4000001\n")).unwrap();
        assert_eq!(members(&[group]), BTreeSet::from([4_000_001, 4_000_002]), "nor is who has started us");
    }
}
