//! Workers outlive their manager: one that is killed, and one that leaves on purpose. On the shipped binaries, through
//! the `kennel` command.

use std::collections::BTreeMap;
use std::path::Path;

use harness::daemon::{CommandOutput, Daemon, finish};
use harness::history;
use harness::real::*;
use manager::protocol::api::{Accepted, SessionInfo, Status};
use manager::protocol::event::{Event, EventKind, Outcome};
use manager::protocol::{Exit, PromptId, Stream};
use nix::sys::signal::Signal;

/// Runs until the file `on` exists, and prints a line before and after.
const WAITS: &str = "echo before; until [ -e on ]; do sleep 0.05; done; echo after";

/// So many sessions, each in the middle of a turn that waits for the file.
fn running(daemon: &Daemon, count: usize) -> BTreeMap<String, (u32, PromptId)> {
    for _ in 0..count {
        daemon.ok(&["start", "--intensity", "1"]);
    }
    let sessions: Vec<SessionInfo> = daemon.json(&["ls"]);
    let mut all = BTreeMap::new();
    for info in sessions {
        let id = info.id.to_string();
        let accepted: Accepted = daemon.json(&["send", "--no-wait", &id, WAITS]);
        all.insert(id, (info.pid.unwrap(), accepted.prompt_id));
    }
    until("all turns", || (occurrences(&daemon.events(), "before\n") == count).then_some(()));
    all
}

fn occurrences(events: &[Event], wanted: &str) -> usize {
    let is = |kind: &EventKind| matches!(kind, EventKind::MessageChunk { stream: Stream::Stdout, text, .. } if text == wanted);
    events.iter().filter(|event| is(&event.kind)).count()
}

/// The next command finds every session with its process and its turn; the turns end as if nothing had happened.
fn goes_on(daemon: &Daemon, before: &BTreeMap<String, (u32, PromptId)>) {
    for (id, (pid, prompt)) in before {
        daemon.ok(&["wait", id, "--until", "running", "--timeout", "30s"]);
        let info = daemon.show(id);
        assert_eq!((info.pid, info.running_prompt), (Some(*pid), Some(*prompt)), "{info:?}");
        assert_eq!((info.incarnation, info.restarts.in_window), (1, 0), "{info:?}");
    }
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    for id in before.keys() {
        daemon.idle(id);
    }
    let events = daemon.events();
    assert!(history::of(&events).is_empty(), "{:#?}", history::of(&events));
    assert_eq!(
        (occurrences(&events, "before\n"), occurrences(&events, "after\n")),
        (before.len(), before.len())
    );
    let adopted =
        events.iter().filter(|event| matches!(event.kind, EventKind::SessionAdopted { .. })).count();
    assert_eq!(adopted, before.len());
    for (_, prompt) in before.values() {
        let ends: Vec<&EventKind> = events
            .iter()
            .map(|event| &event.kind)
            .filter(|kind| match kind {
                EventKind::TurnCompleted { prompt_id, .. } | EventKind::TurnInterrupted { prompt_id, .. } => {
                    prompt_id == prompt
                }
                _ => false,
            })
            .collect();
        assert!(
            matches!(ends[..], [EventKind::TurnCompleted { outcome: Outcome::Completed, .. }]),
            "{ends:?}"
        );
    }
}

fn gone(pid: u32) {
    until("the daemon's end", || (!lives(pid)).then_some(()));
}

#[test]
fn kill_manager_in_the_middle_of_fifty_turns_and_all_of_them_go_on() {
    let daemon = Daemon::new();
    let before = running(&daemon, 50);
    daemon.kill();
    goes_on(&daemon, &before);
}

#[test]
fn kill_manager_again_and_again_and_an_agent_that_never_stops_talking_is_heard_whole() {
    const COUNTS: &str = "i=0; until [ -e on ]; do echo $i; i=$((i+1)); done";
    let daemon = Daemon::new();
    for _ in 0..2 {
        daemon.ok(&["start", "--intensity", "1"]);
    }
    let sessions: Vec<SessionInfo> = daemon.json(&["ls"]);
    for info in &sessions {
        daemon.ok(&["send", "--no-wait", info.id.as_str(), COUNTS]);
    }
    for _ in 0..3 {
        until("all count", || {
            let infos: Vec<SessionInfo> = daemon.json(&["ls"]);
            infos.iter().all(|info| info.status == Status::Running).then_some(())
        });
        daemon.kill();
    }
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    for info in &sessions {
        let after = daemon.idle(info.id.as_str());
        assert_eq!((after.pid, after.incarnation), (info.pid, 1), "{after:?}");
        let events = daemon.events();
        let mine = events.iter().filter(|event| event.session.as_ref() == Some(&info.id));
        let mut counted = String::new();
        for event in mine {
            if let EventKind::MessageChunk { text, .. } = &event.kind {
                counted += text;
            }
        }
        let numbers: Vec<usize> = counted.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.iter().copied().eq(0..numbers.len()), "{}: not all, or not once", info.id);
    }
}

#[test]
fn sigterm_leaves_every_turn_to_the_next_daemon() {
    let daemon = Daemon::new();
    let before = running(&daemon, 3);
    let pid = daemon.pid();
    signal(pid, Signal::SIGTERM);
    gone(pid);
    assert!(before.values().all(|(pid, _)| lives(*pid)));
    goes_on(&daemon, &before);
}

#[test]
fn daemon_restart_replaces_the_daemon_and_nothing_else() {
    let daemon = Daemon::new();
    let before = running(&daemon, 3);
    let pid = daemon.pid();
    daemon.ok(&["daemon", "restart"]);
    assert_ne!(daemon.pid(), pid);
    goes_on(&daemon, &before);
}

#[test]
fn daemon_upgrade_to_a_new_file_where_the_old_one_was_deleted_interrupts_no_turn() {
    replaced_where_the_file_was_deleted("upgrade");
}

#[test]
fn daemon_restart_where_the_old_file_was_deleted_interrupts_no_turn() {
    replaced_where_the_file_was_deleted("restart");
}

fn replaced_where_the_file_was_deleted(how: &str) {
    let daemon = Daemon::new();
    let programs = daemon.dir.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    let install = || {
        for program in [kennel(), worker()] {
            let name = program.file_name().unwrap();
            let new = programs.join("new");
            harness::real::install(program, &new);
            std::fs::rename(&new, programs.join(name)).unwrap();
        }
    };
    install();
    let installed = |args: &[&str]| run_as(&programs.join("kennel"), &daemon, args);
    assert_eq!(installed(&["daemon", "start"]).code, Some(0));
    let before = running(&daemon, 3);
    for program in [kennel(), worker()] {
        std::fs::remove_file(programs.join(program.file_name().unwrap())).unwrap();
    }
    install();
    let pid = daemon.pid();
    let output = installed(&["daemon", how]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_ne!(daemon.pid(), pid);
    let running = std::fs::read_link(format!("/proc/{}/exe", daemon.pid())).unwrap();
    assert_eq!(running, programs.canonicalize().unwrap().join("kennel"));
    goes_on(&daemon, &before);
    // And there are workers for new sessions.
    let info: SessionInfo = daemon.json(&["start"]);
    assert_eq!(daemon.ok(&["send", info.id.as_str(), "echo new"]), "new\n");
}

fn run_as(program: &Path, daemon: &Daemon, args: &[&str]) -> CommandOutput {
    let template = daemon.command(args);
    let mut command = std::process::Command::new(program);
    command.args(template.get_args()).current_dir(template.get_current_dir().unwrap());
    for (name, value) in template.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(std::process::Stdio::null());
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn();
    finish(child.unwrap())
}

#[test]
fn a_kennel_that_cannot_read_the_journal_does_not_touch_the_daemon() {
    let daemon = Daemon::new();
    let before = running(&daemon, 1);
    let pid = daemon.pid();
    let journal = rusqlite::Connection::open(daemon.dir.path().join("state/journal.db")).unwrap();
    let version: u32 = journal.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    journal.pragma_update(None, "user_version", version + 1).unwrap();
    for command in ["upgrade", "check"] {
        let output = daemon.run(&["daemon", command]);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains("it was not touched"), "{output:?}");
    }
    assert_eq!(daemon.pid(), pid);
    journal.pragma_update(None, "user_version", version).unwrap();
    assert!(daemon.ok(&["daemon", "check"]).contains("can be read"));
    drop(journal);
    daemon.ok(&["daemon", "upgrade"]);
    goes_on(&daemon, &before);
}

#[test]
fn daemon_stop_ends_also_what_a_daemon_that_left_has_left() {
    let daemon = Daemon::new();
    let before = running(&daemon, 2);
    let pid = daemon.pid();
    signal(pid, Signal::SIGTERM);
    gone(pid);
    daemon.ok(&["daemon", "stop"]);
    assert!(before.values().all(|(pid, _)| !lives(*pid)), "{before:?}");
    // Goals are kept.
    let back = daemon.idle(before.keys().next().unwrap());
    assert_eq!((back.status, back.incarnation), (Status::Idle, 2));
}

#[test]
fn a_spool_that_goes_on_where_the_journal_does_not_is_no_fault_of_the_session() {
    let daemon = Daemon::new();
    let info: SessionInfo = daemon.json(&["start", "--intensity", "1"]);
    let (id, pid) = (info.id.as_str(), info.pid.unwrap());
    daemon.idle(id);
    let state = daemon.dir.path().join("state");
    let (journal, older) = (state.join("journal.db"), state.join("older.db"));
    let open = rusqlite::Connection::open(&journal).unwrap();
    open.execute("VACUUM INTO ?1", [older.to_str().unwrap()]).unwrap();
    drop(open);
    daemon.ok(&["send", id, "echo one"]);
    daemon.ok(&["send", "--no-wait", id, WAITS]);
    until("the turn", || (occurrences(&daemon.events(), "before\n") == 1).then_some(()));
    daemon.kill();
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    let spool = state.join(format!("workers/{id}.1.spool"));
    let spooled = || std::fs::read(&spool).unwrap_or_default();
    until("it is said to nobody", || spooled().windows(5).any(|output| output == b"after").then_some(()));
    kill(pid);
    gone(pid);
    // As after a power cut: what was recorded last was not on the disk yet.
    for tail in ["journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(state.join(tail));
    }
    std::fs::rename(&older, &journal).unwrap();
    let back = daemon.idle(id);
    assert_eq!((back.incarnation, back.restarts.in_window), (2, 0), "{:#?}", daemon.events());
    assert_eq!(occurrences(&daemon.events(), "after\n"), 0, "what came between is not known");
    assert!(!spool.exists());
}

#[test]
fn what_is_left_of_workers_that_are_not_on_record_is_removed() {
    let daemon = Daemon::new();
    let before = running(&daemon, 1);
    let workers = daemon.dir.path().join("state/workers");
    for name in ["session-1.7.spool", "session-9.1.sock", "nonsense"] {
        std::fs::write(workers.join(name), "").unwrap();
    }
    daemon.kill();
    goes_on(&daemon, &before);
    let entries = std::fs::read_dir(&workers).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["session-1.1.sock", "session-1.1.spool"]);
}

#[test]
fn ten_daemons_at_once_are_one_and_the_others_touch_nothing() {
    let daemon = Daemon::new();
    let before = running(&daemon, 2);
    let begun = |events: &[Event]| {
        let is = |event: &&Event| matches!(event.kind, EventKind::ManagerStarted { .. });
        events.iter().filter(is).count()
    };
    for round in 0..10 {
        daemon.kill();
        // Ten at once, and two at once, which are alone with each other.
        let starters = if round < 3 { 10 } else { 2 };
        let all: Vec<_> = (0..starters).map(|_| daemon.spawn(&["daemon", "run"])).collect();
        until("one that serves", || (daemon.run(&["daemon", "status"]).code == Some(0)).then_some(()));
        let serves = daemon.pid();
        for child in all {
            if child.id() != serves {
                let output = finish(child);
                assert_eq!(output.code, Some(7), "{output:?}");
                assert!(output.stderr.contains("already serves"), "{output:?}");
            }
        }
        assert_eq!(daemon.pid(), serves);
        assert_eq!(begun(&daemon.events()), round + 2);
        for (id, (pid, _)) in &before {
            daemon.ok(&["wait", id, "--until", "running", "--timeout", "30s"]);
            assert_eq!(daemon.show(id).pid, Some(*pid));
        }
    }
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    for id in before.keys() {
        daemon.idle(id);
    }
    let events = daemon.events();
    assert!(history::of(&events).is_empty(), "{:#?}", history::of(&events));
    assert_eq!((occurrences(&events, "before\n"), occurrences(&events, "after\n")), (2, 2));
    // The serving daemon's last lines have no reader any more.
    daemon.ok(&["daemon", "stop"]);
    before.values().for_each(|(pid, _)| gone(*pid));
}

#[test]
fn how_an_adopted_worker_ended_is_known_where_the_kernel_tells_it() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let worker = daemon.idle("s").pid.unwrap();
    daemon.kill();
    assert_eq!(daemon.idle("s").pid, Some(worker), "it is taken over");
    kill(worker);
    let exit = until("its death", || {
        daemon.events().into_iter().find_map(|event| match event.kind {
            EventKind::SessionRestarting { exit, old_pid, .. } if old_pid == Some(worker) => Some(exit),
            _ => None,
        })
    });
    // `/proc` until it is reaped by its new parent, PIDFD_GET_INFO from then on; the latter from Linux 6.15 on.
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut version = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let received = (version.next().unwrap(), version.next().unwrap()) >= (6, 15);
    assert!(exit == Some(Exit::Signal(9)) || (!received && exit == Some(Exit::Unknown)), "{exit:?}");
}

#[test]
fn a_pid_on_record_that_has_become_somebody_elses_is_never_signalled() {
    let daemon = Daemon::new();
    for id in ["moved", "other"] {
        daemon.ok(&["start", "--id", id]);
        daemon.idle(id);
    }
    let (moved, other) = (daemon.show("moved"), daemon.show("other"));
    let manager = daemon.kill();
    for worker in [moved.pid.unwrap(), other.pid.unwrap()] {
        kill(worker);
    }
    until("the end of all", || {
        [manager, moved.pid.unwrap(), other.pid.unwrap()].iter().all(|pid| !lives(*pid)).then_some(())
    });
    // As if the kernel had given the worker's pid to another process since.
    let mut stranger = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let journal = rusqlite::Connection::open(daemon.workdir().join("state/journal.db")).unwrap();
    let doc: String =
        journal.query_row("SELECT doc FROM sessions WHERE id = 'moved'", [], |row| row.get(0)).unwrap();
    let was = format!("\"pid\":{},", moved.pid.unwrap());
    assert!(doc.contains(&was), "{doc}");
    let doc = doc.replace(&was, &format!("\"pid\":{},", stranger.id()));
    journal.execute("UPDATE sessions SET doc = ?1 WHERE id = 'moved'", [doc]).unwrap();
    drop(journal);

    for id in ["moved", "other"] {
        assert_ne!(daemon.idle(id).pid, Some(stranger.id()));
        assert_eq!(daemon.ok(&["send", id, "echo goes on"]), "goes on\n");
    }
    daemon.ok(&["stop", "moved"]);
    daemon.ok(&["daemon", "stop"]);
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was signalled");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_socket_and_a_lock_that_were_left_keep_nobody_out() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    let worker = daemon.idle("s").pid;
    let socket = daemon.workdir().join("state/kennel.sock");
    daemon.kill();
    assert!(socket.exists(), "it died without a chance to remove it");
    assert_eq!(daemon.idle("s").pid, worker);
    assert_eq!(daemon.ok(&["send", "s", "echo goes on"]), "goes on\n");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_worker_of_another_version_ends_its_turn_and_is_replaced_before_the_next() {
    let mut daemon = Daemon::new();
    let points = daemon.workdir().join("points");
    std::fs::create_dir(&points).unwrap();
    daemon.set("KENNEL_FAILPOINTS", points.to_str().unwrap());
    let before = running(&daemon, 1);
    let (id, (pid, prompt)) = before.first_key_value().unwrap();
    let outdated = points.join("hello.outdated");
    std::fs::write(&outdated, "").unwrap();
    daemon.kill();
    daemon.ok(&["wait", id, "--until", "running", "--timeout", "30s"]);
    let info = daemon.show(id);
    assert_eq!((info.pid, info.running_prompt), (Some(*pid), Some(*prompt)), "{info:?}");
    assert!(!outdated.exists(), "it has said that it is");
    daemon.ok(&["send", "--no-wait", id, "echo next"]);
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    until("the next turn", || (occurrences(&daemon.events(), "next\n") == 1).then_some(()));
    let info = daemon.idle(id);
    assert_ne!(info.pid, Some(*pid));
    assert!(!lives(*pid));
    assert_eq!((info.incarnation, info.restarts.in_window), (2, 0), "{info:?}");
    let events = daemon.events();
    assert!(history::of(&events).is_empty(), "{:#?}", history::of(&events));
    assert_eq!((occurrences(&events, "before\n"), occurrences(&events, "after\n")), (1, 1));
    let completed =
        |kind: &EventKind| matches!(kind, EventKind::TurnCompleted { outcome: Outcome::Completed, .. });
    assert_eq!(events.iter().filter(|event| completed(&event.kind)).count(), 2);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_worker_whose_manager_stays_away_ends_all_of_its_own_and_the_next_one_restores_the_session() {
    let mut daemon = Daemon::new();
    let points = daemon.workdir().join("points");
    std::fs::create_dir(&points).unwrap();
    daemon.set("KENNEL_FAILPOINTS", points.to_str().unwrap());
    let before = running(&daemon, 2);
    daemon.ok(&["start", "--id", "idle"]);
    let idle = daemon.idle("idle").pid.unwrap();
    let uuid = uuid(idle);
    // More time has passed than anybody waits.
    std::fs::write(points.join("clock.alone"), (2 * 60 * 60 * 1000).to_string()).unwrap();
    daemon.kill();
    until("nobody's being left", || marked(&uuid).is_empty().then_some(()));
    // The next manager reads their unread messages.
    std::fs::remove_file(points.join("clock.alone")).unwrap();
    assert_ne!(daemon.idle("idle").pid, Some(idle));
    let ended = |events: &[Event], wanted: PromptId| {
        let ends = events.iter().filter(|event| match &event.kind {
            EventKind::TurnCompleted { prompt_id, .. } | EventKind::TurnInterrupted { prompt_id, .. } => {
                *prompt_id == wanted
            }
            _ => false,
        });
        ends.count()
    };
    for (id, (pid, prompt)) in &before {
        let info = daemon.idle(id);
        assert_ne!(info.pid, Some(*pid), "{info:?}");
        assert_eq!(ended(&daemon.events(), *prompt), 1);
        assert_eq!(daemon.ok(&["send", id, "echo on"]), "on\n");
    }
    let events = daemon.events();
    assert!(history::of(&events).is_empty(), "{:#?}", history::of(&events));
    assert_eq!((occurrences(&events, "before\n"), occurrences(&events, "after\n")), (2, 0));
}
