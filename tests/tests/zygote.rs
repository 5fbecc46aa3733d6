//! The zygote: the process that forks a daemon's workers, and what is left when it fails.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use harness::daemon::{Daemon, finish};
use harness::real::*;
use manager::protocol::SessionId;
use manager::protocol::api::{ManagerInfo, SessionInfo, Status};
use manager::protocol::zygote::{ROOM, ROOM_BYTES};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getsid};

/// Sessions that start at once: more than the zygote is asked for at a time.
const MANY: usize = 20;

/// The daemon's children, with those that are dead and not reaped.
fn children(daemon: u32) -> BTreeSet<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent(*pid) == Some(daemon)).collect()
}

/// The zygotes among the daemon's children.
fn zygotes(daemon: u32) -> Vec<u32> {
    children(daemon).into_iter().filter(|pid| lives(*pid) && is_zygote(*pid)).collect()
}

/// Waits until there is a zygote.
fn zygote(daemon: u32) -> u32 {
    until("a zygote", || match zygotes(daemon)[..] {
        [one] => Some(one),
        _ => None,
    })
}

/// Waits until the daemon's children are its workers, its two spares and at most one zygote, all of them alive.
fn settled(daemon: &Daemon) {
    let end = Instant::now() + BOUND;
    loop {
        let info = daemon.json::<ManagerInfo>(&["daemon", "status"]);
        let sessions: Vec<SessionInfo> = daemon.json(&["ls"]);
        let workers = sessions.iter().filter_map(|info| info.pid);
        let known: BTreeSet<u32> = workers.chain(info.spare_workers.iter().copied()).collect();
        let (children, zygotes) = (children(info.pid), zygotes(info.pid));
        let others: Vec<u32> = children.difference(&known).copied().collect();
        if info.spare_workers.len() == 2
            && known.is_subset(&children)
            && known.iter().all(|pid| lives(*pid))
            && others == zygotes
            && zygotes.len() < 2
        {
            return;
        }
        assert!(
            Instant::now() < end,
            "children {children:?}, known {known:?}, zygotes {zygotes:?}, spares {:?}",
            info.spare_workers
        );
    }
}

/// Returns true for a worker that the zygote has forked: it has the zygote's place for a marker.
fn is_forked(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/environ")).unwrap().len() > ROOM_BYTES
}

/// Stops the daemon, and waits until none of its processes is left.
fn stop(daemon: &Daemon, uuid: &str) {
    daemon.ok(&["daemon", "stop"]);
    until("nobody's being left", || marked_or_spare(uuid).is_empty().then_some(()));
}

/// Waits until a process is stopped.
fn pause(pid: u32) {
    signal(pid, Signal::SIGSTOP);
    until("its stop", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
    });
}

/// Starts many sessions by commands of their own, and harms the zygote when some are ready and others are not.
fn harmed_among_starts(harm: impl Fn(u32)) {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "first"]);
    let (pid, uuid) = (daemon.pid(), uuid(daemon.idle("first").pid.unwrap()));
    let ids: Vec<String> = (0..MANY).map(|number| format!("s{number}")).collect();
    let mut starts: Vec<_> = ids.iter().map(|id| daemon.spawn(&["start", "--id", id])).collect();
    until("the first that are ready", || {
        let ended = starts.iter_mut().filter_map(|start| start.try_wait().unwrap());
        (ended.count() >= 3).then_some(())
    });
    harm(zygote(pid));
    for start in starts {
        let output = finish(start);
        assert_eq!(output.code, Some(0), "{output:#?}");
    }
    for id in &ids {
        assert_eq!(daemon.idle(id).restarts.in_window, 0, "{id}");
    }
    settled(&daemon);
    stop(&daemon, &uuid);
}

#[test]
fn a_zygote_that_is_killed_among_many_starts_costs_none_of_them_and_leaves_nobody() {
    harmed_among_starts(kill);
}

#[test]
fn a_zygote_that_is_stopped_among_many_starts_costs_none_of_them_and_leaves_nobody() {
    harmed_among_starts(|zygote| signal(zygote, Signal::SIGSTOP));
}

#[test]
fn many_deaths_at_once_while_the_zygote_is_stopped_cost_each_session_one_death() {
    let daemon = Daemon::new();
    let ids: Vec<String> = (0..MANY).map(|number| format!("s{number}")).collect();
    let starts: Vec<_> = ids.iter().map(|id| daemon.spawn(&["start", "--id", id])).collect();
    for start in starts {
        let output = finish(start);
        assert_eq!(output.code, Some(0), "{output:#?}");
    }
    let workers: Vec<u32> = ids.iter().map(|id| daemon.idle(id).pid.unwrap()).collect();
    settled(&daemon);
    let (pid, uuid) = (daemon.pid(), uuid(workers[0]));
    let stopped = zygote(pid);
    pause(stopped);
    workers.iter().copied().for_each(kill);
    for (id, before) in ids.iter().zip(&workers) {
        until("the restart", || daemon.show(id).pid.filter(|pid| pid != before));
        assert_eq!(daemon.idle(id).restarts.in_window, 1, "{id}");
    }
    assert!(!children(pid).contains(&stopped), "it was given up");
    settled(&daemon);
    // The next one is used again.
    daemon.ok(&["stop", "s0"]);
    daemon.ok(&["restart", "s0"]);
    assert!(is_forked(daemon.idle("s0").pid.unwrap()));
    zygote(pid);
    stop(&daemon, &uuid);
}

#[test]
fn the_zygote_ends_with_the_last_worker_and_with_its_daemon() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    settled(&daemon);
    let pid = daemon.pid();
    zygote(pid);
    daemon.ok(&["stop", "one"]);
    until("the end of all children", || children(pid).is_empty().then_some(()));
    daemon.ok(&["restart", "one"]);
    settled(&daemon);
    let killed = zygote(pid);
    kill(killed);
    until("that it is reaped", || (!children(pid).contains(&killed)).then_some(()));
    daemon.kill();
    // The next daemon's own.
    settled_after_adoption(&daemon, "one");
}

/// Waits until a daemon that took over one session has spares and a zygote of its own, and those of its predecessor are gone.
fn settled_after_adoption(daemon: &Daemon, id: &str) {
    let worker = daemon.idle(id).pid.unwrap();
    let (pid, uuid) = (daemon.pid(), uuid(worker));
    until("two spares, a zygote and the worker", || {
        let spares = daemon.json::<ManagerInfo>(&["daemon", "status"]).spare_workers;
        let known: BTreeSet<u32> = spares.iter().copied().chain([worker]).chain(zygotes(pid)).collect();
        let marked: BTreeSet<u32> = marked_or_spare(&uuid).into_iter().collect();
        (spares.len() == 2 && zygotes(pid).len() == 1 && known == marked).then_some(())
    });
}

#[cfg(feature = "failpoints")]
#[test]
fn a_zygote_that_ends_between_its_fork_and_its_answer_leaves_nobody() {
    for act in ["kill", "stop"] {
        let mut daemon = Daemon::new();
        let points = daemon.workdir().join("points");
        std::fs::create_dir(&points).unwrap();
        daemon.set("KENNEL_FAILPOINTS", points.to_str().unwrap());
        let arm = || {
            std::fs::write(points.join(".new"), act).unwrap();
            std::fs::rename(points.join(".new"), points.join("zygote.forked")).unwrap();
        };
        let is_reached = || !points.join("zygote.forked").exists();
        // At the start of a session.
        arm();
        daemon.ok(&["start", "--id", "one"]);
        assert!(is_reached());
        assert_eq!(daemon.ok(&["send", "one", "echo on"]), "on\n");
        settled(&daemon);
        // At that of a spare.
        arm();
        daemon.ok(&["start", "--id", "two"]);
        until("the start of a spare", || is_reached().then_some(()));
        // After its end none is made before the next start.
        daemon.ok(&["start", "--id", "three"]);
        settled(&daemon);
        for id in ["one", "two", "three"] {
            let info = daemon.idle(id);
            assert_eq!((info.incarnation, info.restarts.in_window), (1, 0), "{id}");
        }
        let uuid = uuid(daemon.show("one").pid.unwrap());
        stop(&daemon, &uuid);
    }
}

#[test]
fn a_worker_has_one_marker_and_is_the_daemons_child_in_a_session_of_its_own() {
    let daemon = Daemon::new();
    std::fs::create_dir_all(daemon.dir.path().join("kennel")).unwrap();
    let config = "[daemon]\nspare_workers = 0\n";
    std::fs::write(daemon.dir.path().join("kennel/config.toml"), config).unwrap();
    let ids = ["x".repeat(SessionId::MAX_LEN), "a".into(), "y".repeat(SessionId::MAX_LEN)];
    for id in &ids {
        daemon.ok(&["start", "--id", id]);
        let worker = daemon.idle(id).pid.unwrap();
        assert!(is_forked(worker), "{id}");
        has_one_marker(&daemon, worker, &format!("/{id}/1"));
    }
    // A prompt's programs have it, too.
    let seen = daemon.ok(&["send", &ids[0], "env | grep ^KENNEL_SESSION"]);
    assert!(seen.contains(&format!("/{}/1\n", ids[0])) && !seen.contains(ROOM), "{seen}");
}

#[test]
fn a_worker_that_was_a_spare_has_the_spares_marker_alone() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    settled(&daemon);
    daemon.ok(&["start", "--id", "two"]);
    let worker = daemon.idle("two").pid.unwrap();
    assert!(is_forked(worker));
    assert!(is_spares(&marker(worker)), "{}", marker(worker));
    assert!(!marker(worker).ends_with("/0"), "the zygote's");
    has_one_marker(&daemon, worker, "");
}

/// Checks a worker's environment and relatives. Its marker ends with `end`.
fn has_one_marker(daemon: &Daemon, worker: u32, end: &str) {
    let environ = std::fs::read(format!("/proc/{worker}/environ")).unwrap();
    let variables = environ.split(|byte| *byte == 0).map(|variable| String::from_utf8_lossy(variable));
    let named: Vec<_> = variables.filter(|variable| variable.contains("KENNEL_SESSION")).collect();
    assert!(named.len() == 1 && named[0].ends_with(end), "{named:?}");
    assert!(named[0].starts_with("KENNEL_SESSION="), "{named:?}");
    assert_eq!(parent(worker), Some(daemon.pid()));
    let pid = Pid::from_raw(worker.cast_signed());
    assert_eq!(getsid(Some(pid)), Ok(pid));
}

/// A daemon of copies of the programs, and the copy of the worker.
fn copied() -> (Daemon, std::path::PathBuf) {
    let mut daemon = Daemon::new();
    let mut programs = publish(&[kennel(), worker()], &daemon.workdir().join("bin"));
    let worker = programs.pop().unwrap();
    daemon.run_program(programs.pop().unwrap());
    (daemon, worker)
}

/// The file that a process runs.
fn runs(pid: u32) -> String {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_worker_program_in_place_of_the_old_one_is_used_at_the_next_start() {
    let (daemon, program) = copied();
    daemon.ok(&["start", "--id", "one"]);
    settled(&daemon);
    let pid = daemon.pid();
    let (before, old) = (zygote(pid), daemon.json::<ManagerInfo>(&["daemon", "status"]).spare_workers);
    let new = publish(&[&program], &daemon.workdir().join("new")).remove(0);
    std::fs::rename(new, &program).unwrap();
    assert!(old.iter().all(|spare| runs(*spare).ends_with(" (deleted)")), "spares do not end by themselves");
    // Spares of the old file are of no use, and cost a session nothing.
    for id in ["two", "three"] {
        daemon.ok(&["start", "--id", id, "--restart", "temporary"]);
        let info = daemon.idle(id);
        assert_eq!(Path::new(&runs(info.pid.unwrap())), program);
        assert_eq!((info.restarts.in_window, info.failure), (0, None));
    }
    settled(&daemon);
    let spares = daemon.json::<ManagerInfo>(&["daemon", "status"]).spare_workers;
    assert!(spares.iter().all(|spare| !old.contains(spare)), "{spares:?} {old:?}");
    let new = [zygote(pid), daemon.show("three").pid.unwrap()];
    for pid in new.into_iter().chain(spares) {
        assert_eq!(Path::new(&runs(pid)), program);
    }
    assert_ne!(new[0], before);
    assert!(is_forked(new[1]));
    assert_eq!(daemon.ok(&["send", "three", "echo on"]), "on\n");
}

#[test]
fn a_worker_program_that_ends_at_once_is_not_started_in_circles() {
    let (daemon, program) = copied();
    daemon.ok(&["start", "--id", "lives"]);
    daemon.ok(&["start", "--id", "dies", "--intensity", "3", "--period", "1h"]);
    let dies = daemon.idle("dies").pid.unwrap();
    settled(&daemon);
    let (file, script) = (daemon.workdir().join("starts"), daemon.workdir().join("script"));
    let kept = publish(&[&program], &daemon.workdir().join("kept")).remove(0);
    harness::real::script(&script, &format!("#!/bin/sh\necho start >> {}\nexit 127\n", file.display()));
    std::fs::rename(script, &program).unwrap();
    let spares = daemon.json::<ManagerInfo>(&["daemon", "status"]).spare_workers;
    spares.into_iter().chain([dies]).for_each(kill);
    until("its failure", || (daemon.show("dies").status == Status::Failed).then_some(()));
    let starts = || std::fs::read_to_string(&file).unwrap_or_default().lines().count();
    let (mut last, mut since) = (starts(), Instant::now());
    until("an end of the starts", || {
        if starts() != last {
            (last, since) = (starts(), Instant::now());
        }
        (since.elapsed() > Duration::from_secs(1)).then_some(())
    });
    assert!((1..60).contains(&last), "{last} starts");
    assert_eq!(daemon.json::<ManagerInfo>(&["daemon", "status"]).spare_workers, Vec::<u32>::new());
    assert_eq!(daemon.show("lives").restarts.in_window, 0);
    // Once there is a program again, all is as it was.
    std::fs::rename(kept, &program).unwrap();
    daemon.ok(&["restart", "dies"]);
    assert!(is_forked(daemon.idle("dies").pid.unwrap()));
    settled(&daemon);
}

/// Returns true if the C compiler has this file.
fn has(name: &str) -> bool {
    #[allow(clippy::disallowed_methods, reason = "the child is no session's")]
    let asked = Command::new("cc").arg(format!("-print-file-name={name}")).output();
    asked.is_ok_and(|said: Output| Path::new(String::from_utf8_lossy(&said.stdout).trim()).is_absolute())
}

#[test]
fn a_worker_is_static_and_a_daemon_has_its_own_libgcc_where_the_archives_are_installed() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let maps = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let worker = maps(daemon.idle("one").pid.unwrap());
    assert_eq!(!worker.contains("/libc.so") && !worker.contains("/ld-linux"), has("rcrt1.o"), "{worker}");
    let daemon = maps(daemon.pid());
    assert_eq!(!daemon.contains("/libgcc_s"), has("libgcc_eh.a"), "{daemon}");
}
