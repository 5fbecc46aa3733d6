//! Places that somebody swaps for a way to the secrets: before a start, and without a pause while there are starts.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use harness::daemon::Daemon;
use manager::protocol::api::SessionInfo;
use manager::protocol::{Sandbox, SandboxBy};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::kind::Kind;
use crate::containment::{User, users};
use crate::sandbox::{daemon, makers};

/// The number of programs that start in each sandbox while a place is swapped.
const STARTS: usize = 12;
/// The smallest number of swaps meanwhile.
const SWAPS: u32 = 300;
/// The number of files, and of directories, that come and go beside a hidden place.
const NEIGHBOURS: usize = 20;

/// A session whose every prompt is a start, and the place that is swapped.
struct Swapped {
    daemon: Daemon,
    home: PathBuf,
    /// The session's path, and the one that takes its place.
    place: PathBuf,
    other: PathBuf,
}

impl Swapped {
    /// `place` is what is swapped for a symlink to `leads`, both below the test's directory; `work` is where the session works.
    fn new(kind: Kind, work: &str, place: &str, leads: &str) -> Self {
        let daemon = daemon(kind.user, kind.sandbox.name(), kind.by);
        let root = daemon.dir.path().to_owned();
        std::fs::create_dir_all(root.join(work)).unwrap();
        let other = root.join("other-place");
        std::os::unix::fs::symlink(root.join(leads), &other).unwrap();
        if kind.user == User::Nobody {
            crate::sandbox::give_away(&root.join(work.split('/').next().unwrap()));
            std::os::unix::fs::lchown(&other, Some(65534), Some(65534)).unwrap();
        }
        let directory = root.join(work).display().to_string();
        let info: SessionInfo = daemon.json(&["start", "--agent", "fixture", "--dir", &directory]);
        daemon.idle(info.id.as_str());
        Self { home: root.join("home"), place: root.join(place), other, daemon }
    }

    fn swap(&self) {
        renameat_with(CWD, &self.place, CWD, &self.other, RenameFlags::EXCHANGE).unwrap();
    }

    /// One start, in which the agent goes for the keys. Gives what it has reached.
    fn goes(&self, what: &str) -> Option<String> {
        let home = self.home.display();
        let place = self.place.display();
        let script = format!(
            "try read {home}/.ssh/id_ed25519; try read id_ed25519; try read {place}/id_ed25519; \
             try write {home}/.ssh/authorized_keys; try write authorized_keys; try write {place}/authorized_keys"
        );
        let output = self.daemon.run(&["send", "session-1", &script]);
        let planted = std::fs::remove_file(self.home.join(".ssh/authorized_keys")).is_ok();
        let reached = planted || output.stdout.contains("read done");
        reached.then(|| format!("{what}: a key was read, or planted: {output:?}"))
    }

    fn works(&self, what: &str) {
        // A session that has failed in the meantime is started again.
        self.daemon.run(&["restart", "session-1"]);
        let output = self.daemon.run(&["send", "session-1", "try write works"]);
        assert!(output.stdout.contains("write done"), "{what}: it works no more: {output:?}");
    }
}

/// The swapped path, the session's working directory, and the symlink's target.
const PLACES: [(&str, &str, &str, &str); 4] = [
    ("the working directory", "work", "work", "home/.ssh"),
    ("what the working directory is in", "deep/.ssh", "deep", "home"),
    ("the working directory, by the home directory", "work", "work", "home"),
    ("what may be written", "work", "home/.agent", "home/.ssh"),
];

fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for user in users() {
        for by in makers() {
            for sandbox in [Sandbox::Workdir, Sandbox::Strict] {
                kinds.push(Kind { user: *user, by, sandbox });
            }
        }
    }
    kinds
}

#[test]
fn a_place_that_was_swapped_is_not_followed_at_the_next_start() {
    let mut faults = Vec::new();
    for kind in kinds() {
        for (what, work, place, leads) in PLACES {
            let what = format!("{}: {what}", kind.name());
            let swapped = Swapped::new(kind, work, place, leads);
            faults.extend(swapped.goes(&format!("{what}, not swapped")));
            swapped.swap();
            faults.extend(swapped.goes(&what));
            swapped.daemon.run(&["restart", "session-1"]);
            faults.extend(swapped.goes(&format!("{what}, restarted")));
            swapped.swap();
            swapped.works(&what);
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn without_a_sandbox_a_place_that_was_swapped_is_followed() {
    for user in users() {
        let kind = Kind { user: *user, by: SandboxBy::Bubblewrap, sandbox: Sandbox::None };
        for (what, work, place, leads) in PLACES {
            let swapped = Swapped::new(kind, work, place, leads);
            swapped.swap();
            assert!(swapped.goes(what).is_some(), "{what}: this proves nothing");
        }
    }
}

#[test]
fn a_place_that_is_swapped_all_the_time_is_never_followed() {
    let (mut starts, mut swaps, mut faults) = (0, 0, Vec::new());
    for kind in kinds() {
        for (what, work, place, leads) in [PLACES[0], PLACES[3]] {
            let swapped = Swapped::new(kind, work, place, leads);
            let (over, count) = (AtomicBool::new(false), AtomicU32::new(0));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        swapped.swap();
                        // Both states last for a while: else no program would meet either.
                        if count.fetch_add(1, Ordering::Relaxed) % 64 == 0 {
                            std::thread::yield_now();
                        }
                    }
                });
                let ends = Ends(&over);
                let what = format!("{}: {what}", kind.name());
                for _ in 0..STARTS / 2 {
                    faults.extend(swapped.goes(&what));
                    starts += 1;
                }
                drop(ends);
            });
            if !is_directory(&swapped.place) {
                swapped.swap();
            }
            swapped.works(&kind.name());
            let count = count.into_inner();
            assert!(count >= SWAPS, "{count} swaps only");
            swaps += count;
        }
    }
    println!("{starts} starts, {swaps} swaps");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// bubblewrap looks at a place and then mounts it: one that goes in between ends it. That is not in our hands.
#[test]
fn neighbours_of_a_hidden_place_that_come_and_go_fail_no_start() {
    let mut faults = Vec::new();
    for kind in kinds().into_iter().filter(|kind| kind.by == SandboxBy::Landlock) {
        let swapped = Swapped::new(kind, "work", "work", "other");
        // The daemon's state is in there, which is hidden: everything beside it is shown by itself.
        let beside = swapped.daemon.dir.path();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let names = (0..NEIGHBOURS)
                    .map(|n| (beside.join(format!("file-{n}")), beside.join(format!("dir-{n}"))));
                let names: Vec<_> = names.collect();
                while !over.load(Ordering::Relaxed) {
                    for (file, directory) in &names {
                        std::fs::write(file, "").unwrap();
                        std::fs::create_dir(directory).unwrap();
                    }
                    for (file, directory) in &names {
                        std::fs::remove_file(file).unwrap();
                        std::fs::remove_dir(directory).unwrap();
                    }
                }
            });
            let _ends = Ends(&over);
            for _ in 0..STARTS {
                let output = swapped.daemon.run(&["send", "session-1", "try write works"]);
                if !output.stdout.contains("write done") {
                    faults.push(format!("{}: {output:?}", kind.name()));
                }
            }
        });
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Signals the end, also when the test panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}
