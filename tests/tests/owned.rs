//! Files of another user in kennel's places are refused before any of them is opened.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use harness::daemon::{CommandOutput, Daemon};

const NOBODY: u32 = 65534;

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Returns every file below a path, with its content.
fn all(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(all(&path)),
            false => found.push((path.clone(), std::fs::read(&path).unwrap_or_default())),
        }
    }
    found.sort();
    found
}

/// A state directory with a session in it, of a daemon that has ended.
fn used() -> Daemon {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    daemon.ok(&["send", "one", "echo warned >&2"]);
    daemon.ok(&["token", "one"]);
    daemon.ok(&["daemon", "stop"]);
    daemon
}

/// Checks that every command that would start a daemon names the path and the problem, changes nothing and
/// starts nothing.
fn is_refused(daemon: &Daemon, culprit: &str, why: &str) {
    let before = all(daemon.dir.path());
    let CommandOutput { code, stderr, .. } = daemon.run(&["ls"]);
    assert_eq!(code, Some(6), "{stderr}");
    for part in [culprit, why, "Nothing there was opened or changed"] {
        assert!(stderr.contains(part), "no {part:?} in {stderr}");
    }
    let run = daemon.run(&["daemon", "run"]);
    assert!(run.code != Some(0) && run.stderr.contains(why), "{run:?}");
    let check = daemon.run(&["daemon", "check"]);
    assert!(check.code != Some(0) && check.stderr.contains(why), "{check:?}");
    let doctor = daemon.run(&["--json", "doctor"]);
    let findings: Vec<serde_json::Value> = serde_json::from_str(&doctor.stdout).unwrap();
    let finding = findings.iter().find(|finding| finding["name"] == "state directory").unwrap();
    assert_eq!((doctor.code, &finding["health"]), (Some(1), &"problem".into()), "{finding}");
    assert!(finding["found"].as_str().unwrap().contains(why), "{finding}");
    assert_eq!(all(daemon.dir.path()), before, "something was changed");
}

#[test]
fn a_state_directory_that_others_can_write_is_refused_and_one_that_was_made_by_hand_is_not() {
    let daemon = Daemon::new();
    let state = daemon.dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    for open in [0o777, 0o1777, 0o757] {
        mode(&state, open);
        is_refused(&daemon, "/state has mode", "other users can write there");
    }
    mode(&state, 0o755);
    daemon.ok(&["start", "--id", "one"]);
}

#[test]
fn a_state_directory_below_one_that_others_can_write_is_refused() {
    let mut daemon = Daemon::new();
    let above = daemon.dir.path().join("above");
    std::fs::create_dir(&above).unwrap();
    mode(&above, 0o777);
    let state = above.join("state");
    daemon.run_after(&format!("export KENNEL_STATE_DIR={}", state.display()));
    is_refused(&daemon, "/above has mode 0777", "other users can write there");
    assert!(!state.exists());
    mode(&above, 0o1777);
    daemon.ok(&["start", "--id", "one"]);
    daemon.ok(&["daemon", "stop"]);
}

#[test]
fn a_link_that_the_user_has_made_to_the_state_directory_is_followed() {
    let daemon = Daemon::new();
    std::fs::create_dir(daemon.dir.path().join("data")).unwrap();
    symlink("data", daemon.dir.path().join("state")).unwrap();
    daemon.ok(&["start", "--id", "one"]);
    assert_eq!(daemon.ok(&["send", "one", "echo hello"]), "hello\n");
    assert!(daemon.dir.path().join("data/journal.db").exists());
    daemon.ok(&["daemon", "stop"]);
    daemon.ok(&["send", "one", "true"]);
}

#[test]
fn no_file_of_a_state_directory_is_opened_through_a_link() {
    let names = [
        "lock",
        "journal.db",
        "journal.db-wal",
        "journal.db-shm",
        "journal.db.salvaged",
        "reserve",
        "daemon.log",
        "daemon.log.old",
        "kennel.sock",
        "kennel.sock.lock",
        "logs",
        "logs/one.log",
        "logs/one.log.1",
        "workers",
        "workers/one.2.spool",
        "workers/one.2.sock",
        "tokens",
        "tokens/one",
        "worktrees",
    ];
    let daemon = used();
    let state = daemon.dir.path().join("state");
    let victim = daemon.dir.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("file"), "precious").unwrap();
    for directory in ["workers", "tokens"] {
        let _ = std::fs::create_dir(state.join(directory));
    }
    for name in names {
        let (place, aside) = (state.join(name), daemon.dir.path().join("aside"));
        let was = std::fs::rename(&place, &aside).is_ok();
        symlink(victim.join("file"), &place).unwrap();
        is_refused(&daemon, &format!("state/{name}"), "is a symbolic link");
        std::fs::remove_file(&place).unwrap();
        // Nowhere: what is not there yet would be made.
        symlink(victim.join("new"), &place).unwrap();
        is_refused(&daemon, &format!("state/{name}"), "is a symbolic link");
        std::fs::remove_file(&place).unwrap();
        if !was || aside.is_file() {
            std::fs::hard_link(victim.join("file"), &place).unwrap();
            is_refused(&daemon, &format!("state/{name}"), "has 2 names");
            std::fs::remove_file(&place).unwrap();
        }
        if was {
            std::fs::rename(&aside, &place).unwrap();
        }
    }
    assert_eq!(all(&victim), [(victim.join("file"), b"precious".to_vec())]);
    daemon.idle("one");
}

#[test]
fn what_another_user_has_left_in_a_state_directory_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        // Nothing can be given to another user. The library's own tests try a directory of root's.
        assert!(chown(std::env::current_exe().unwrap(), Some(0), None).is_err());
        return;
    }
    let daemon = used();
    let state = daemon.dir.path().join("state");
    for name in ["", "lock", "journal.db", "reserve", "daemon.log", "logs", "logs/one.log", "workers"] {
        let place = state.join(name);
        chown(&place, Some(NOBODY), None).unwrap();
        is_refused(&daemon, "/state", "belongs to user 65534, and kennel runs as user 0");
        chown(&place, Some(0), None).unwrap();
        if place.is_file() {
            mode(&place, 0o602);
            is_refused(&daemon, &format!("state/{name}"), "has mode 0602: other users can write there");
            mode(&place, 0o600);
        }
    }
    daemon.idle("one");
    daemon.ok(&["daemon", "stop"]);
    // In a directory such as /tmp anybody can be there first: with a directory, and with a link to one of ours.
    let tmp = daemon.dir.path().join("tmp");
    std::fs::create_dir(&tmp).unwrap();
    mode(&tmp, 0o1777);
    let mine = daemon.dir.path().join("mine");
    std::fs::create_dir(&mine).unwrap();
    let mut elsewhere = Daemon::new();
    let planted = tmp.join("planted");
    elsewhere.run_after(&format!("export KENNEL_STATE_DIR={}", planted.display()));
    std::fs::create_dir(&planted).unwrap();
    chown(&planted, Some(NOBODY), None).unwrap();
    is_refused(&elsewhere, "tmp/planted", "belongs to user 65534");
    std::fs::remove_dir(&planted).unwrap();
    symlink(&mine, &planted).unwrap();
    lchown(&planted, Some(NOBODY), None).unwrap();
    is_refused(&elsewhere, "tmp/planted", "belongs to user 65534");
    assert_eq!(std::fs::read_dir(&mine).unwrap().count(), 0);
}

#[test]
fn a_journal_with_more_in_it_than_kennel_writes_is_refused_and_runs_nothing() {
    let planted = [
        "CREATE TRIGGER planted AFTER INSERT ON events BEGIN DELETE FROM sessions; END",
        "CREATE VIEW planted AS SELECT * FROM meta",
        "CREATE TABLE planted (x)",
        "CREATE INDEX planted ON events (abs(id))",
    ];
    for sql in planted {
        let daemon = used();
        let journal = daemon.dir.path().join("state/journal.db");
        let connection = rusqlite::Connection::open(&journal).unwrap();
        connection.execute_batch(sql).unwrap();
        drop(connection);
        let before = std::fs::read(&journal).unwrap();
        let output = daemon.run(&["ls"]);
        assert_eq!(output.code, Some(6), "{sql}: {output:?}");
        assert!(
            output.stderr.contains("kennel did not write it") && output.stderr.contains("`planted`"),
            "{output:?}"
        );
        assert!(std::fs::read(&journal).unwrap() == before, "{sql}: the journal was changed");
        let left: Vec<_> = std::fs::read_dir(journal.parent().unwrap()).unwrap().flatten().collect();
        assert!(!left.iter().any(|file| file.file_name().to_string_lossy().contains("damaged")), "{left:?}");
    }
}

#[test]
fn a_socket_in_a_place_that_others_can_write_and_a_lock_that_is_a_link_are_refused() {
    let mut daemon = Daemon::new();
    let place = daemon.dir.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let socket = place.join("k.sock");
    daemon.run_after(&format!("export KENNEL_SOCKET={}", socket.display()));
    mode(&place, 0o777);
    let output = daemon.run(&["daemon", "run"]);
    assert!(output.code != Some(0) && output.stderr.contains("place has mode 0777"), "{output:?}");
    mode(&place, 0o700);
    let victim = daemon.dir.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    for link in [true, false] {
        let lock = place.join("k.sock.lock");
        match link {
            true => symlink(&victim, &lock).unwrap(),
            false => std::fs::hard_link(&victim, &lock).unwrap(),
        }
        let output = daemon.run(&["daemon", "run"]);
        assert!(output.code != Some(0) && output.stderr.contains("k.sock.lock"), "{output:?}");
        std::fs::remove_file(&lock).unwrap();
    }
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    daemon.ok(&["daemon", "start"]);
    assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
    daemon.ok(&["daemon", "stop"]);
}

#[test]
fn a_configuration_that_others_can_write_is_not_believed() {
    let daemon = Daemon::new();
    let directory = daemon.dir.path().join("kennel");
    std::fs::create_dir_all(&directory).unwrap();
    let config = directory.join("config.toml");
    std::fs::write(&config, "[agents.mine]\nkind = \"command\"\ncommand = [\"true\"]\n").unwrap();
    mode(&config, 0o666);
    let output = daemon.run(&["start", "--agent", "mine"]);
    assert!(
        output.code != Some(0) && output.stderr.contains("has mode 0666: other users can write there"),
        "{output:?}"
    );
    mode(&config, 0o644);
    daemon.ok(&["start", "--agent", "mine"]);
}
