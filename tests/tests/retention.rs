//! The disk space of the state directory, and the part of it that pruning removes, on the shipped binaries.

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::{DiskUsage, PruneReport, PrunedSession, SessionUsage};
use manager::protocol::event::{Event, EventKind};

fn usage(daemon: &Daemon) -> DiskUsage {
    daemon.json(&["df"])
}

fn of<'a>(usage: &'a DiskUsage, id: &str) -> &'a SessionUsage {
    let named = |session: &&SessionUsage| session.id.as_ref().is_some_and(|found| found.as_str() == id);
    usage.sessions.iter().find(named).unwrap_or_else(|| panic!("{id} in {usage:?}"))
}

#[test]
fn df_tells_what_takes_room_and_whose_it_is() {
    let daemon = Daemon::new();
    let state = daemon.workdir().join("state");
    for id in ["small", "large"] {
        daemon.ok(&["start", "--id", id]);
    }
    let before = usage(&daemon);
    daemon.ok(&["send", "large", "head -c 300000 /dev/zero | tr '\\0' x"]);
    std::fs::write(state.join("logs/large.log"), "12345678").unwrap();
    std::fs::write(state.join("journal.db.damaged-1"), "1234567").unwrap();
    std::fs::write(state.join("journal.db.new-wal"), "12").unwrap();
    std::fs::write(state.join("logs/gone.log"), "123").unwrap();
    std::fs::write(state.join("workers/small.7.spool"), "1234").unwrap();
    let after = usage(&daemon);
    let events = daemon.events();
    assert_eq!(after.journal.events, events.len() as u64);
    let mine = |id: &str| {
        events.iter().filter(|event| event.session.as_ref().is_some_and(|of| of.as_str() == id)).count()
    };
    assert_eq!(of(&after, "large").events, mine("large") as u64);
    assert!(of(&after, "large").event_bytes - of(&before, "large").event_bytes > 300_000);
    assert_eq!(of(&after, "small").events, of(&before, "small").events);
    let order: Vec<_> = after.sessions.iter().map(|session| session.bytes).collect();
    assert!(order.is_sorted_by(|a, b| a >= b), "{order:?}");
    assert_eq!(
        after.sessions.iter().map(|session| session.event_bytes).sum::<u64>(),
        after.journal.event_bytes
    );
    assert_eq!((of(&after, "large").log_bytes, of(&after, "small").spool_bytes), (8, 4));
    assert_eq!(after.daemon_log_bytes, std::fs::metadata(state.join("daemon.log")).unwrap().len());
    assert_eq!(after.reserve_bytes, 1024 * 1024);
    let names = |files: &[manager::protocol::api::FileUsage]| {
        files.iter().map(|file| (file.name.clone(), file.bytes)).collect::<Vec<_>>()
    };
    assert_eq!(names(&after.damaged), [("journal.db.damaged-1".to_owned(), 7)]);
    assert_eq!(
        names(&after.leftovers),
        [("journal.db.new-wal".to_owned(), 2), ("logs/gone.log".to_owned(), 3)]
    );
    let journal = std::fs::metadata(state.join("journal.db")).unwrap().len();
    assert_eq!(after.journal.file_bytes, journal);
    assert!(after.total_bytes > journal + after.reserve_bytes && after.available_bytes > 0);

    // A removed session's pages are empty in the file, which keeps its length.
    daemon.ok(&["rm", "--force", "large"]);
    let removed = usage(&daemon);
    assert!(removed.journal.free_bytes > after.journal.free_bytes + 300_000, "{removed:?}");
    assert!(
        !removed.sessions.iter().any(|session| session.id.as_ref().is_some_and(|id| id.as_str() == "large"))
    );

    let shown = daemon.ok(&["df"]);
    let lines: Vec<String> =
        shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert!(lines[0].starts_with("WHAT SIZE"), "{shown}");
    for line in ["damaged journals 7 B 1 file", "leftovers 5 B 2 files", "SESSION SIZE EVENTS", "small "] {
        assert!(lines.iter().any(|found| found.starts_with(line)), "{line} not in\n{shown}");
    }
}

#[test]
fn df_of_a_journal_that_cannot_be_read_says_so() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let (journal, aside) = (daemon.workdir().join("state/journal.db"), daemon.workdir().join("aside"));
    std::fs::rename(&journal, &aside).unwrap();
    let output = daemon.run(&["--json", "df"]);
    std::fs::rename(&aside, &journal).unwrap();
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("\"unread\"") && output.stderr.contains("journal.db"), "{output:?}");
    until("its session", || (daemon.show("one").pid.is_some()).then_some(()));
}

/// Makes a session with long turns, and returns the time at which the last of them had begun.
fn talks(daemon: &Daemon, id: &str, turns: usize) {
    daemon.ok(&["start", "--id", id]);
    for turn in 0..turns {
        daemon.ok(&["send", id, &format!("echo turn {turn}; head -c 200000 /dev/zero | tr '\\0' x")]);
    }
}

fn prune(daemon: &Daemon, args: &[&str]) -> PruneReport {
    daemon.json(&[&["prune"], args].concat())
}

/// Returns the output of `kennel events` for a program: whether there was a gap, the first id of the complete
/// part, and the events.
fn stream(daemon: &Daemon, args: &[&str]) -> (Option<u64>, Vec<Event>) {
    let output = daemon.ok(&[&["--json", "events"], args].concat());
    let mut gap = None;
    let mut events = Vec::new();
    for line in output.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        match value.get("gap") {
            Some(received) => {
                assert!(gap.is_none(), "told once: {output}");
                gap = Some(received["first_available"].as_u64().unwrap());
            }
            None => events.push(serde_json::from_value(value).unwrap()),
        }
    }
    (gap, events)
}

#[test]
fn pruned_history_is_gone_and_whoever_asks_for_it_is_told_from_where_on_all_is_there() {
    let daemon = Daemon::new();
    talks(&daemon, "talks", 5);
    talks(&daemon, "quiet", 1);
    daemon.ok(&["start", "--id", "works"]);
    daemon.ok(&["send", "--no-wait", "works", "echo begun; until [ -e on ]; do sleep 0.05; done; echo done"]);
    daemon.ok(&["wait", "works", "--until", "running", "--timeout", "30s"]);
    let says =
        |event: &Event| matches!(&event.kind, EventKind::MessageChunk { text, .. } if text == "begun\n");
    let before = until("its first words", || Some(daemon.events()).filter(|events| events.iter().any(says)));
    let used = usage(&daemon);
    let would = prune(&daemon, &["--all", "--dry-run"]);
    assert!(would.dry_run && would.events > 0 && would.freed_bytes == 0);
    assert_eq!(daemon.events(), before, "nothing was removed");

    let report = prune(&daemon, &["--all", "--force"]);
    assert_eq!((report.events, report.event_bytes), (would.events, would.event_bytes));
    assert_eq!(report.sessions, would.sessions);
    // Three turns with their events are more than an agent's replay holds.
    let of = |id: &str| {
        let named = |session: &&PrunedSession| session.id.as_ref().is_some_and(|found| found.as_str() == id);
        report.sessions.iter().find(named)
    };
    let talks = of("talks").unwrap();
    assert!(talks.event_bytes > 700_000 && report.freed_bytes > 700_000, "{report:?}");
    assert!(of("quiet").is_none() && of("works").is_none(), "{report:?}");
    let now = usage(&daemon);
    assert_eq!(now.journal.events, used.journal.events - report.events);
    assert!(now.journal.free_bytes > used.journal.free_bytes + 700_000, "{now:?}");

    let mine = |event: &&Event| event.session.as_ref().is_some_and(|id| id.as_str() == "talks");
    let whole: Vec<Event> =
        before.iter().filter(mine).filter(|event| event.id >= talks.first_available).cloned().collect();
    let (gap, left) = stream(&daemon, &["talks", "--after", "0"]);
    assert_eq!(gap, Some(talks.first_available));
    assert!(matches!(left[0].kind, EventKind::SessionCreated { .. }));
    assert_eq!(left[1..], whole);
    // A client that has seen every pruned event gets no gap.
    let seen = (talks.first_available - 1).to_string();
    assert_eq!(stream(&daemon, &["talks", "--after", &seen]), (None, whole.clone()));
    assert_eq!(stream(&daemon, &["quiet", "--after", "0"]).0, None);
    let last = report.sessions.iter().map(|session| session.first_available).max();
    assert_eq!(stream(&daemon, &["--after", "0"]).0, last);
    let shown = daemon.run(&["events", "talks"]);
    assert!(
        shown.stderr.contains(&format!("events before {} were pruned", talks.first_available)),
        "{}",
        shown.stderr
    );

    // Everything beside history is as it was, also for the next daemon.
    daemon.kill();
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    daemon.idle("works");
    assert_eq!(stream(&daemon, &["talks", "--after", "0"]).0, Some(talks.first_available));
    assert!(daemon.ok(&["subagent", "result", "talks"]).starts_with("turn 4"));
    let works = stream(&daemon, &["works", "--after", "0"]).1;
    assert!(harness::history::of(&works).is_empty(), "{:?}", harness::history::of(&works));
    daemon.ok(&["send", "talks", "echo goes on"]);
}

#[test]
fn prune_asks_first_and_removes_files_that_belong_to_nothing() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let state = daemon.workdir().join("state");
    let (damaged, left, log) =
        (state.join("journal.db.damaged-1"), state.join("logs/gone.log"), state.join("logs/one.log"));
    assert_eq!(daemon.ok(&["prune", "--force"]), "nothing to remove\n");
    for file in [&damaged, &left, &log] {
        std::fs::write(file, "x").unwrap();
    }
    let asked = daemon.run(&["prune", "--damaged"]);
    assert_eq!(asked.code, Some(2), "{asked:?}");
    assert!(asked.stderr.contains("--force") && damaged.exists() && left.exists(), "{asked:?}");
    let would = daemon.ok(&["prune", "--damaged", "--dry-run"]);
    assert!(would.contains("journal.db.damaged-1") && would.contains("logs/gone.log"), "{would}");
    assert!(!would.contains("logs/one.log") && damaged.exists() && left.exists(), "{would}");
    let report = prune(&daemon, &["--force"]);
    assert_eq!(report.leftovers.len(), 1, "{report:?}");
    assert!(!left.exists() && damaged.exists() && log.exists(), "only what was named goes");
    prune(&daemon, &["--force", "--damaged"]);
    assert!(!damaged.exists() && log.exists());
}

#[test]
fn what_the_configuration_does_not_want_kept_goes_when_the_manager_starts() {
    let daemon = Daemon::new();
    talks(&daemon, "talks", 5);
    let whole = usage(&daemon);
    let config = daemon.workdir().join("kennel/config.toml");
    std::fs::create_dir(config.parent().unwrap()).unwrap();
    std::fs::write(&config, "[retention]\nmax_age = \"90d\"\nmax_size = \"1GiB\"\n").unwrap();
    daemon.ok(&["daemon", "restart"]);
    // The new daemon's own records come before the prune, and nothing here is of a past day.
    daemon.ok(&["prune", "--older-than", "90d", "--force"]);
    assert_eq!(of(&usage(&daemon), "talks").events, of(&whole, "talks").events + 1, "and it was adopted");
    let journal = daemon.workdir().join("state/journal.db");
    age(&daemon, &journal);
    until("its history to go", || (of(&usage(&daemon), "talks").event_bytes < 500_000).then_some(()));
    assert!(stream(&daemon, &["talks", "--after", "0"]).0.is_some());
}

#[test]
fn the_oldest_turns_go_until_no_more_than_the_size_is_in_use() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "talks"]);
    for turn in 0..6 {
        daemon.ok(&["send", "talks", &format!("echo turn {turn}; head -c 4000000 /dev/zero | tr '\\0' x")]);
    }
    let whole = of(&usage(&daemon), "talks").event_bytes;
    assert!(whole > 24_000_000, "{whole}");
    let report = prune(&daemon, &["--max-size", "16M", "--force"]);
    assert!(report.event_bytes > 8_000_000, "{report:?}");
    assert!(of(&usage(&daemon), "talks").event_bytes <= 16 << 20, "{report:?}");
    let texts = |wanted: &str| {
        let received = stream(&daemon, &["talks", "--after", "0"]).1;
        received
            .iter()
            .any(|event| matches!(&event.kind, EventKind::MessageChunk { text, .. } if text.contains(wanted)))
    };
    assert!(!texts("turn 0\n") && texts("turn 4\n"));
}

/// Lets a century pass for all that is on record, while no daemon looks.
fn age(daemon: &Daemon, journal: &std::path::Path) {
    daemon.ok(&["daemon", "stop"]);
    let connection = rusqlite::Connection::open(journal).unwrap();
    let year = format!("\"at\":\"{}", &manager_year(&connection));
    let older = "UPDATE events SET json = replace(json, ?1, '\"at\":\"1999')";
    assert!(connection.execute(older, [year]).unwrap() > 0);
    drop(connection);
    daemon.ok(&["daemon", "start"]);
}

/// The year in which it was written.
fn manager_year(connection: &rusqlite::Connection) -> String {
    let sql = "SELECT substr(json, instr(json, '\"at\":\"') + 6, 4) FROM events LIMIT 1";
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn what_the_configuration_does_not_want_kept_goes_while_the_manager_runs() {
    let daemon = Daemon::new();
    let config = daemon.workdir().join("kennel/config.toml");
    std::fs::create_dir(config.parent().unwrap()).unwrap();
    std::fs::write(&config, "[retention]\nmax_size = \"16MiB\"\nevery = \"1s\"\n").unwrap();
    daemon.ok(&["start", "--id", "talks"]);
    let pid = daemon.pid();
    for turn in 0..6 {
        daemon.ok(&["send", "talks", &format!("echo turn {turn}; head -c 4000000 /dev/zero | tr '\\0' x")]);
    }
    // All of it came after the look at the start, when there was nothing.
    until("its history to go", || (of(&usage(&daemon), "talks").event_bytes < 17_000_000).then_some(()));
    assert_eq!(daemon.pid(), pid);
}
