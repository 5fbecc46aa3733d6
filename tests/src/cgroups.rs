//! Directories for control groups, made for one test and removed with it.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use protocol::{Keeper, SessionId};

/// Where control groups are mounted, by everybody.
const MOUNTED: &str = "/sys/fs/cgroup";
/// The controllers that limits need.
const CONTROLLERS: [&str; 3] = ["pids", "memory", "cpu"];

/// A directory of its own in the control groups of this machine: one, or in version 1 one for each controller.
pub struct CgroupTree {
    /// The value of `cgroup_root`.
    pub setting: String,
    name: String,
    /// By controller, which is empty in version 2.
    roots: Vec<(&'static str, PathBuf)>,
}

impl CgroupTree {
    /// One of each version in which directories can be made here; in version 2 there may be no controllers.
    pub fn each() -> Vec<(Keeper, Self)> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = || {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            format!("kennel-test-{}-{number}", std::process::id())
        };
        let make = |path: PathBuf| {
            fs::create_dir(&path).is_ok_and(|()| path.join("cgroup.procs").exists()).then_some(path)
        };
        let mut all = Vec::new();
        let one = name();
        let place = |controller: &'static str| {
            let above = Path::new(MOUNTED).join(controller);
            above
                .join("cgroup.procs")
                .exists()
                .then(|| make(above.join(&one)))?
                .map(|path| (controller, path))
        };
        let roots: Vec<_> = CONTROLLERS.into_iter().filter_map(place).collect();
        if !roots.is_empty() {
            let setting = format!("{MOUNTED}/{{controller}}/{one}");
            all.push((Keeper::CgroupV1, Self { setting, name: one, roots }));
        }
        for above in [MOUNTED.to_owned(), format!("{MOUNTED}/unified")] {
            let (above, name) = (PathBuf::from(above), name());
            if above.join("cgroup.controllers").exists()
                && let Some(path) = make(above.join(&name))
            {
                let setting = path.to_str().unwrap().to_owned();
                all.push((Keeper::CgroupV2, Self { setting, name, roots: vec![("", path)] }));
            }
        }
        all
    }

    /// Those of them that have this controller.
    pub fn with(controller: &str) -> Vec<(Keeper, Self)> {
        let mut all = Self::each();
        all.retain(|(_, tree)| {
            tree.roots.iter().any(|(name, path)| {
                let there = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
                *name == controller || there.split_whitespace().any(|word| word == controller)
            })
        });
        all
    }

    /// Those that bound memory and processes.
    pub fn with_memory() -> Vec<(Keeper, Self)> {
        Self::with("memory")
    }

    /// The directory's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives it to a user.
    pub fn give(&self, uid: u32) {
        for (_, root) in &self.roots {
            chown(root, Some(uid), Some(uid)).unwrap();
            for file in ["cgroup.procs", "tasks", "cgroup.subtree_control", "cgroup.threads"] {
                let _ = chown(root.join(file), Some(uid), Some(uid));
            }
        }
    }

    /// All groups that were made in it and are still there.
    pub fn made(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for (_, root) in &self.roots {
            below(root, &mut found);
        }
        found
    }

    /// A file of a session's group.
    pub fn read(&self, controller: &str, id: &SessionId, file: &str) -> Option<String> {
        let mut groups = self.groups(id.as_str());
        let of = self.roots.iter().find(|(name, _)| name.is_empty() || *name == controller)?;
        let group = groups.find(|group| group.starts_with(&of.1))?;
        fs::read_to_string(group.join(file)).ok()
    }

    /// The processes of a session.
    pub fn members(&self, id: &str) -> Vec<u32> {
        let mut pids: Vec<u32> = self.groups(id).flat_map(|group| members_of(&group)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Makes a group as a manager with this state does, and puts a process in it.
    pub fn put(&self, uuid: &str, id: &str, pid: u32) {
        let instance = self.roots[0].1.join(format!("kennel-{uuid}"));
        let group = instance.join(format!("{id}.session"));
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    fn groups(&self, id: &str) -> impl Iterator<Item = PathBuf> {
        let name = format!("{id}.session");
        self.made().into_iter().filter(move |group| group.ends_with(&name))
    }
}

fn members_of(group: &Path) -> Vec<u32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            below(&entry.path(), found);
        }
    }
}

impl Drop for CgroupTree {
    fn drop(&mut self) {
        let made = self.made();
        let all = || made.iter().rev().chain(self.roots.iter().map(|(_, root)| root));
        if std::thread::panicking() {
            // A test that fails leaves nothing either. What is in a group that it made is its own.
            let members = || all().flat_map(|group| members_of(group)).collect::<Vec<u32>>();
            members().into_iter().for_each(crate::real::kill);
            let end = Instant::now() + Duration::from_secs(10);
            while !members().is_empty() && Instant::now() < end {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        for group in all() {
            if let Err(error) = fs::remove_dir(group)
                && !std::thread::panicking()
            {
                panic!("{}: {error}", group.display());
            }
        }
    }
}
