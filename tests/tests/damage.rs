//! A damaged journal, on the shipped binaries: kennel reports it, goes on with the readable part, and keeps
//! the file.

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::Status;
use manager::protocol::event::EventKind;

/// Ends the daemon and all its workers at once, so that only the files are left.
fn kill_all(daemon: &Daemon, workers: &[u32]) {
    let manager = daemon.pid();
    kill(manager);
    workers.iter().for_each(|worker| kill(*worker));
    until("the end of all", || (!lives(manager) && !workers.iter().any(|pid| lives(*pid))).then_some(()));
}

fn messages(daemon: &Daemon) -> Vec<String> {
    let events = daemon.events().into_iter();
    let text = events.filter(|event| event.session.is_none()).filter_map(|event| match event.kind {
        EventKind::SystemMessage { text } => Some(text),
        _ => None,
    });
    text.collect()
}

#[test]
fn a_journal_whose_beginning_is_overwritten_is_mended_and_its_sessions_go_on() {
    let daemon = Daemon::new();
    let state = daemon.workdir().join("state");
    for id in ["one", "two"] {
        daemon.ok(&["start", "--id", id]);
        daemon.ok(&["send", id, "echo said"]);
    }
    let before = daemon.events();
    kill_all(&daemon, &[daemon.show("one").pid.unwrap(), daemon.show("two").pid.unwrap()]);
    let path = state.join("journal.db");
    // The write-ahead log repairs a damaged file.
    let journal = rusqlite::Connection::open(&path).unwrap();
    journal.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(journal);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..64].fill(0x5a);
    std::fs::write(&path, &bytes).unwrap();
    for id in ["one", "two"] {
        daemon.idle(id);
        assert_eq!(daemon.ok(&["send", id, "echo again"]), "again\n");
    }
    let [output] = &messages(&daemon)[..] else { panic!("{:?}", messages(&daemon)) };
    assert!(
        output.contains("the journal was damaged") && output.contains("journal.db.damaged-1"),
        "{output}"
    );
    assert!(std::fs::read(state.join("journal.db.damaged-1")).unwrap() == bytes);
    let events = daemon.events();
    let kept = &events[..before.len()];
    let ids =
        |events: &[manager::protocol::event::Event]| events.iter().map(|event| event.id).collect::<Vec<_>>();
    assert_eq!(ids(kept), ids(&before));
    assert!(events[before.len()].id > before.last().unwrap().id + 100_000);
}

#[test]
fn a_journal_that_is_all_garbage_is_kept_and_no_id_is_given_out_again() {
    let daemon = Daemon::new();
    let state = daemon.workdir().join("state");
    daemon.ok(&["start"]);
    kill_all(&daemon, &[daemon.show("session-1").pid.unwrap()]);
    for name in ["journal.db-wal", "journal.db-shm"] {
        let _ = std::fs::remove_file(state.join(name));
    }
    std::fs::write(state.join("journal.db"), vec![0x5a; 50_000]).unwrap();
    assert_eq!(daemon.ok(&["start"]), "session-2\n");
    assert_eq!(daemon.show("session-2").status, Status::Idle);
    assert_eq!(daemon.run(&["show", "session-1"]).code, Some(4));
    let [output] = &messages(&daemon)[..] else { panic!("{:?}", messages(&daemon)) };
    assert!(output.contains("session-1"), "{output}");
    assert_eq!(std::fs::read(state.join("journal.db.damaged-1")).unwrap().len(), 50_000);
}
