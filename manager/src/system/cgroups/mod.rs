//! Control groups (cgroups(7)): one for each session, where there is a directory for them. They keep its limits, and know
//! its processes whatever becomes of their parents and their environment.
//!
//! ```text
//! <root>/kennel-<state uuid>/<session>.session
//! ```
//!
//! In version 1 there is one such tree for each controller that is needed. Nothing outside `<root>` is made or changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use protocol::{Groups, Keeper, LimitedBy, Limits, SessionId};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open};

pub use self::root::Root;
use self::root::enable;
use crate::system::process;

mod root;

/// Suffix of a session's directory: so no session's name is the name of a file there.
const SUFFIX: &str = ".session";
/// Prefix of a manager's directory.
const INSTANCE: &str = "kennel-";
/// The period in which processor time is counted, in microseconds: the kernel's own (cpu.cfs_period_us).
const PERIOD_US: u64 = 100_000;
/// Limit of passes over a group's processes in which kennel kills new ones.
const PASSES: usize = 32;

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
    /// Sessions whose groups still exist, because the kernel has not finished with their processes.
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

    /// Makes a session's groups, with its limits. Returns them with the mechanism that enforces each limit.
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

    /// Keeps the session's groups, because the session has processes again.
    pub fn keep(&mut self, id: &SessionId) {
        self.left.remove(id);
    }

    /// Kills what is left of sessions that are not `kept`, and removes their groups. Returns how many processes still live.
    pub fn sweep(&self, kept: impl Fn(&SessionId) -> bool) -> usize {
        let mut left = 0;
        for (_, tree) in self.root.trees() {
            let entries = fs::read_dir(tree.join(&self.instance)).into_iter().flatten().flatten();
            for entry in entries {
                let name = entry.file_name();
                let Some(name) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else {
                    continue;
                };
                if name.parse::<SessionId>().is_ok_and(|id| kept(&id)) {
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

/// Removes a group and all groups below it. Returns true if they are gone.
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
