//! A disk that is full, on the shipped binaries: nothing is lost, ends go on, and it heals.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use harness::daemon::{CommandOutput, Daemon, finish};
use harness::disk::{SmallDisk, alone};
use harness::history;
use harness::real::*;
use manager::protocol::api::Status;
use manager::protocol::event::{Event, EventKind, Outcome};

/// Goes on until there is a file `on`.
const WAITS: &str = "echo before; until [ -e on ]; do sleep 0.05; done; echo after";

/// A daemon whose state lies on a small disk of its own, with a session that waits and one that rests.
/// The daemon last, so that it is dropped first: without its disk it could not be reached any more, and would stay.
fn on_a_small_disk() -> (SmallDisk, Daemon) {
    let daemon = Daemon::new();
    let disk = SmallDisk::at(&daemon.workdir().join("state"), 12 * 1024 * 1024);
    daemon.ok(&["start", "--id", "works"]);
    daemon.ok(&["start", "--id", "rests"]);
    daemon.ok(&["send", "--no-wait", "works", WAITS]);
    daemon.ok(&["wait", "works", "--until", "running", "--timeout", "30s"]);
    (disk, daemon)
}

/// Sends until it is refused. Gives the number of prompts that were accepted before, and the refusal.
fn send_until_refused(daemon: &Daemon) -> (usize, CommandOutput) {
    // The journal goes on in room that it has already, until that is used up.
    let large = format!("# {}", "x".repeat(100_000));
    let mut accepted = 0;
    until("a refusal", || {
        let output = daemon.run(&["--json", "send", "--no-wait", "works", &large]);
        accepted += usize::from(output.code == Some(0));
        (output.code != Some(0)).then_some((accepted, output))
    })
}

/// Begins a request. The connection stays open.
fn ask(daemon: &Daemon, path: &str) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: kennel\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
}

/// Reads until this text has come.
fn read_until(stream: &mut UnixStream, text: &str) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&read).contains(text) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the connection ended before `{text}`");
        read.extend_from_slice(&buffer[..count]);
    }
}

fn a_full_disk() {
    let (disk, daemon) = on_a_small_disk();
    let mut driver = ask(&daemon, "/v1/sessions/works/attach?role=driver");
    read_until(&mut driver, "event: attached");
    disk.fill();
    let (accepted, refused) = send_until_refused(&daemon);
    // The client goes while nothing can be recorded. It drives no more once there is room.
    drop(driver);
    until("the end of its stream", || daemon.metrics().contains("kennel_event_streams 0\n").then_some(()));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("make room"), "{refused:?}");
    let start = daemon.run(&["start"]);
    assert!(start.stderr.contains("make room"), "{start:?}");
    let received = daemon.run(&["--json", "send", "--no-wait", "works", "echo more"]).stderr;
    assert!(received.contains("\"journal_full\"") && received.contains("507"), "{received}");
    // The reserve is for this.
    let pid = daemon.show("rests").pid.unwrap();
    daemon.ok(&["stop", "rests"]);
    assert!(!lives(pid));
    assert_eq!(daemon.show("rests").status, Status::Stopped);
    assert_eq!(daemon.show("works").status, Status::Running);
    assert!(!daemon.workdir().join("state/reserve").exists());
    // The turn ends while the manager cannot record it.
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    disk.clear();
    until("room", || {
        (daemon.run(&["send", "--no-wait", "works", "echo healed"]).code == Some(0)).then_some(())
    });
    assert!(daemon.workdir().join("state/reserve").exists());
    daemon.idle("works");
    until("the driver's leave", || daemon.show("works").clients.is_empty().then_some(()));
    let events = daemon.events();
    assert!(history::of(&events).is_empty(), "{:#?}", history::of(&events));
    let completed =
        |kind: &EventKind| matches!(kind, EventKind::TurnCompleted { outcome: Outcome::Completed, .. });
    assert_eq!(events.iter().filter(|event| completed(&event.kind)).count(), accepted + 2);
}

#[test]
fn a_full_disk_refuses_new_prompts_lets_sessions_end_and_heals() {
    alone("disk::a_full_disk_refuses_new_prompts_lets_sessions_end_and_heals", a_full_disk);
}

fn a_manager_that_dies() {
    let (disk, daemon) = on_a_small_disk();
    disk.fill();
    let (accepted, _) = send_until_refused(&daemon);
    let pid = daemon.show("works").pid;
    daemon.kill();
    // There is no room but what is kept back, and that is enough to begin, and to end.
    assert_eq!(daemon.show("works").pid, pid);
    daemon.ok(&["stop", "rests"]);
    assert_eq!(daemon.show("rests").status, Status::Stopped);
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    disk.clear();
    until("room", || {
        (daemon.run(&["send", "--no-wait", "works", "echo healed"]).code == Some(0)).then_some(())
    });
    daemon.idle("works");
    let events = daemon.events();
    assert!(history::of(&events).is_empty(), "{:#?}", history::of(&events));
    let completed =
        |kind: &EventKind| matches!(kind, EventKind::TurnCompleted { outcome: Outcome::Completed, .. });
    assert_eq!(events.iter().filter(|event| completed(&event.kind)).count(), accepted + 2);
}

#[test]
fn a_manager_that_dies_over_a_full_disk_is_followed_by_one_that_takes_over() {
    alone(
        "disk::a_manager_that_dies_over_a_full_disk_is_followed_by_one_that_takes_over",
        a_manager_that_dies,
    );
}

/// Fills the disk, and what is kept back on it, so that no event fits.
fn leave_no_room(disk: &SmallDisk, daemon: &Daemon) {
    let reserve = daemon.workdir().join("state/reserve");
    disk.fill();
    until("no room at all", || {
        send_until_refused(daemon);
        disk.fill();
        (!reserve.exists()).then_some(())
    });
}

fn refusals_over_a_full_disk() {
    const ROUNDS: usize = 20;
    const EACH: usize = 100;
    let (disk, daemon) = on_a_small_disk();
    leave_no_room(&disk, &daemon);
    let of_access = |events: Vec<Event>| -> Vec<u64> {
        let counts = events.into_iter().filter_map(|event| match event.kind {
            EventKind::AccessRefused(refused) => Some(refused.count),
            _ => None,
        });
        counts.collect()
    };
    let wrong = "GET /v1/sessions/works HTTP/1.1\r\nhost: kennel\r\nauthorization: Bearer wrong\r\n\r\n";
    for _ in 0..ROUNDS {
        let mut stream = ask(&daemon, "/healthz");
        stream.write_all(wrong.repeat(EACH).as_bytes()).unwrap();
        let (mut answers, mut piece) = (Vec::new(), [0; 16384]);
        while String::from_utf8_lossy(&answers).matches("HTTP/1.1 401").count() < EACH {
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0, "the connection ended");
            answers.extend_from_slice(&piece[..count]);
        }
        // Whoever asks for something else is answered.
        assert_eq!(daemon.show("works").status, Status::Running);
    }
    assert_eq!(of_access(daemon.events()), [0; 0], "there was room for an event");
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    disk.clear();
    until("room", || {
        (daemon.run(&["send", "--no-wait", "works", "echo healed"]).code == Some(0)).then_some(())
    });
    // The end of the daemon records what waits.
    daemon.ok(&["daemon", "restart"]);
    let events = daemon.events();
    assert!(history::of(&events).is_empty(), "{:#?}", history::of(&events));
    assert_eq!(of_access(events), [(ROUNDS * EACH) as u64]);
}

#[test]
fn refusals_over_a_full_disk_hold_nobody_up_and_are_one_event_once_there_is_room() {
    alone(
        "disk::refusals_over_a_full_disk_hold_nobody_up_and_are_one_event_once_there_is_room",
        refusals_over_a_full_disk,
    );
}

#[test]
fn a_journal_that_takes_nothing_at_all_keeps_no_process_from_being_stopped() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "locked"]);
    daemon.ok(&["send", "--no-wait", "locked", "trap '' TERM; while :; do sleep 0.05; done"]);
    daemon.ok(&["wait", "locked", "--until", "running", "--timeout", "30s"]);
    let before = daemon.show("locked");
    let journal = rusqlite::Connection::open(daemon.workdir().join("state/journal.db")).unwrap();
    journal.execute_batch("BEGIN IMMEDIATE").unwrap();
    let stop = daemon.spawn(&["stop", "locked"]);
    until("the worker's end", || (!lives(before.pid.unwrap())).then_some(()));
    until("its tree's end", || marked("/locked/").is_empty().then_some(()));
    // Not on record, so not reported.
    let received: i64 = journal
        .query_row("SELECT count(*) FROM events WHERE type = 'session.stopped'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(received, 0);
    journal.execute_batch("ROLLBACK").unwrap();
    let output = finish(stop);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(daemon.show("locked").status, Status::Stopped);
    let events = daemon.events();
    assert!(history::of(&events).is_empty(), "{:#?}", history::of(&events));
    let stopped = events.iter().filter(|event| matches!(event.kind, EventKind::SessionStopped { .. }));
    assert_eq!(stopped.count(), 1);
}

#[test]
fn a_log_stays_within_its_bound_while_it_grows_and_its_newest_part_is_shown() {
    const MOST: u64 = (8 << 20) + (64 << 10);
    let daemon = Daemon::new();
    let directory = daemon.dir.path().join("kennel");
    std::fs::create_dir_all(&directory).unwrap();
    let agent = beside("acp-agent");
    let script =
        format!("head -c 40000000 /dev/zero >&2; echo >&2; echo newest >&2; exec {}", agent.display());
    let profile = format!("[agents.loud]\nkind = \"acp\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n");
    std::fs::write(directory.join("config.toml"), profile).unwrap();
    daemon.ok(&["start", "--agent", "loud", "--id", "loud"]);
    let pid = daemon.idle("loud").pid.unwrap();
    let log = daemon.workdir().join("state/logs/loud.log");
    let beside = log.with_extension("log.1");
    let length = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |found| found.len());
    // The worker has read all of it when it is in the log.
    until("the end of what it wrote", || daemon.ok(&["logs", "loud"]).contains("newest").then_some(()));
    assert!(
        length(&log) <= MOST && (1..=MOST).contains(&length(&beside)),
        "{} {}",
        length(&log),
        length(&beside)
    );
    assert_eq!(daemon.ok(&["logs", "loud", "--tail", "1"]), "newest\n");
    kill(pid);
    until("another process", || daemon.show("loud").pid.filter(|new| *new != pid));
    daemon.idle("loud");
    let words = daemon.events().into_iter().find_map(|event| match event.kind {
        EventKind::SessionRestarting { last_words, .. } => Some(last_words),
        _ => None,
    });
    assert_eq!(words.unwrap().last().unwrap(), "newest");
    daemon.ok(&["rm", "--force", "loud"]);
    until("no log", || (!log.exists() && !beside.exists()).then_some(()));
}

#[cfg(feature = "failpoints")]
#[test]
fn a_disk_that_takes_no_sync_ends_the_manager_and_the_next_one_takes_all_over() {
    let mut daemon = Daemon::new();
    let points = daemon.workdir().join("points");
    std::fs::create_dir(&points).unwrap();
    daemon.set("KENNEL_FAILPOINTS", points.to_str().unwrap());
    daemon.ok(&["start", "--id", "works"]);
    daemon.ok(&["send", "--no-wait", "works", WAITS]);
    daemon.ok(&["wait", "works", "--until", "running", "--timeout", "30s"]);
    let (pid, manager) = (daemon.show("works").pid, daemon.pid());
    std::fs::write(points.join("journal.unsyncable"), "").unwrap();
    // The client hears nothing, and asks the next manager again.
    daemon.ok(&["send", "--no-wait", "works", "echo next"]);
    assert_ne!(daemon.pid(), manager);
    assert!(!points.join("journal.unsyncable").exists());
    assert_eq!(daemon.show("works").pid, pid);
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    daemon.idle("works");
    let events = daemon.events();
    assert!(history::of(&events).is_empty(), "{:#?}", history::of(&events));
    let said = |event: &&manager::protocol::event::Event| matches!(&event.kind, EventKind::SystemMessage { text } if text.contains("the disk did not take"));
    assert_eq!(events.iter().filter(said).count(), 1);
    let completed =
        |kind: &EventKind| matches!(kind, EventKind::TurnCompleted { outcome: Outcome::Completed, .. });
    assert_eq!(events.iter().filter(|event| completed(&event.kind)).count(), 2);
}
