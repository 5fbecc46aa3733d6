//! Processes that a test watches: by a pidfd, by a marker in their environment, by their parent.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

/// Time limit of everything before the test fails. A test that passes never reaches it.
pub const BOUND: Duration = Duration::from_secs(30);

/// Waits for `fd` to be readable (data, an end, or a pidfd's death).
pub fn readable(fd: impl AsFd, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).unwrap();
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&timeout)) {
            Ok(n) => return n > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

/// Waits until `level` is reached.
pub fn until(what: &str, mut level: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !level() {
        assert!(Instant::now() < deadline, "still waiting: {what}");
        let pause = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        let _ = poll(&mut [], Some(&pause));
    }
}

/// A process beyond doubt.
pub struct Watch(OwnedFd);

impl Watch {
    pub fn pid(pid: u32) -> Self {
        let pid = Pid::from_raw(pid as i32).unwrap();
        Self(rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("the process lives"))
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::pidfd_send_signal(&self.0, signal).unwrap();
    }

    pub fn lives(&self) -> bool {
        !readable(&self.0, Instant::now())
    }

    pub fn wait_gone(&self) {
        assert!(readable(&self.0, Instant::now() + BOUND), "a process that should be gone lives");
    }
}

/// The processes that carry this marker and live (a zombie has no environment).
pub fn marked(marker: &str) -> Vec<(i32, String)> {
    let needle = format!("KENNEL_SESSION={marker}").into_bytes();
    proc_dirs()
        .filter(|(_, dir)| {
            let environ = fs::read(dir.join("environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|variable| variable == needle)
        })
        .map(|(pid, dir)| (pid, fs::read_to_string(dir.join("stat")).unwrap_or_default()))
        .collect()
}

fn proc_dirs() -> impl Iterator<Item = (i32, PathBuf)> {
    fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, entry.path()))
    })
}

/// Children of a process, zombies too, with their states.
pub fn children(pid: u32) -> Vec<(i32, char)> {
    proc_dirs()
        .filter_map(|(child, dir)| {
            let stat = fs::read_to_string(dir.join("stat")).ok()?;
            let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
            let state = fields.next()?.chars().next()?;
            (fields.next()?.parse() == Ok(pid)).then_some((child, state))
        })
        .collect()
}

pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
