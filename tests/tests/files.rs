//! Files of a session's working directory, read by a process below its worker: from a session that works, hangs, or has ended.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::daemon::{CommandOutput, Daemon, finish};
use harness::real::*;
use manager::protocol::api::{FileContent, FileDiff, FileList, SessionInfo, Status};
use manager::protocol::event::{Event, EventKind};
use manager::protocol::{Sandbox, SandboxBy};
use nix::sys::signal::Signal;

use super::containment::User;
use super::sandbox::{daemon as walled, makers};
use super::terminal::{in_terminal, without_our_own};

#[allow(clippy::disallowed_methods, reason = "the child is the test's own")]
fn git(at: &Path, args: &[&str]) -> String {
    let mut git = Command::new("git");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-C"]).arg(at).args(args);
    let done = git.output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Makes a repository with one commit. Gives the commit.
fn repository(at: &Path) -> String {
    fs::create_dir_all(at.join("src")).unwrap();
    fs::write(at.join("src/a"), "one\ntwo\n").unwrap();
    git(at, &["init", "--quiet"]);
    git(at, &["add", "."]);
    git(at, &["commit", "--quiet", "-m", "one"]);
    git(at, &["rev-parse", "HEAD"])
}

/// A daemon, and a session `one` in a repository.
fn working() -> (Daemon, std::path::PathBuf, String) {
    let daemon = Daemon::new();
    let work = fs::canonicalize(daemon.dir.path()).unwrap().join("work");
    let commit = repository(&work);
    let info: SessionInfo = daemon.json(&["start", "--id", "one", "--dir", work.to_str().unwrap()]);
    assert_eq!(info.start_commit.as_ref(), Some(&commit));
    daemon.idle("one");
    (daemon, work, commit)
}

fn names(daemon: &Daemon, id: &str, path: &str) -> Vec<String> {
    let list: FileList = daemon.json(&["files", "ls", id, path]);
    list.entries.into_iter().map(|entry| entry.name).collect()
}

fn code(output: &CommandOutput) -> String {
    let problem: serde_json::Value = serde_json::from_str(&output.stderr).unwrap_or_default();
    problem["code"].as_str().unwrap_or_default().to_owned()
}

fn asleep(daemon: &Daemon, id: &str) {
    until("its end", || daemon.show(id).pid.is_none().then_some(()));
}

#[test]
fn a_session_is_read_while_it_works_and_after_its_stop_and_does_not_change_by_it() {
    let (daemon, work, commit) = working();
    daemon.ok(&[
        "send",
        "one",
        "echo 2 > src/a; echo new > src/new; git -c user.name=a -c user.email=b commit -qam two",
    ]);
    let look = || {
        assert_eq!(names(&daemon, "one", "src"), ["a", "new"]);
        assert_eq!(daemon.ok(&["files", "cat", "one", "src/a"]), "2\n");
        let found: FileDiff = daemon.json(&["files", "diff", "one"]);
        let lines: Vec<_> = found.files.iter().map(|file| (&*file.path, file.added, file.removed)).collect();
        assert_eq!(lines, [("src/a", Some(1), Some(2)), ("src/new", Some(1), Some(0))]);
        assert_eq!((&found.commit, found.more, found.cut), (&commit, false, false));
        assert!(found.diff.contains("-one\n-two\n+2\n"), "{}", found.diff);
        let stat = daemon.ok(&["files", "diff", "one", "src/new", "--stat"]);
        assert!(stat.contains("src/new") && !stat.contains("src/a"), "{stat}");
    };
    look();
    daemon.ok(&["send", "--no-wait", "one", "echo begun; exec sleep 1000"]);
    until("the turn", || (daemon.show("one").status == Status::Running).then_some(()));
    look();
    daemon.ok(&["abort", "one"]);
    daemon.idle("one");
    daemon.ok(&["stop", "one"]);
    let (before, events) = (daemon.show("one"), daemon.events().len());
    assert_eq!((before.status, before.pid), (Status::Stopped, None));
    look();
    assert_eq!(daemon.show("one"), before);
    assert_eq!(daemon.events().len(), events, "something was recorded");
    // It starts, and is read as before.
    daemon.ok(&["restart", "one"]);
    daemon.idle("one");
    look();
    // Without its directory there is nothing, and a person is told.
    fs::rename(&work, work.with_file_name("moved")).unwrap();
    let gone = daemon.run(&["files", "ls", "one", "--json"]);
    assert!(["no_such_file", "no_reader"].contains(&&*code(&gone)), "{gone:?}");
    fs::rename(work.with_file_name("moved"), &work).unwrap();
    look();
}

#[test]
fn a_directory_without_a_repository_is_read_and_not_compared() {
    let daemon = Daemon::new();
    let info: SessionInfo = daemon.json(&["start", "--id", "one"]);
    assert_eq!(info.start_commit, None);
    fs::write(daemon.workdir().join("there"), "x").unwrap();
    assert!(names(&daemon, "one", "").contains(&"there".to_owned()));
    assert_eq!(code(&daemon.run(&["--json", "files", "diff", "one"])), "no_start_commit");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the child is the test's own")]
fn what_is_hostile_in_a_directory_is_refused_by_its_name() {
    let (daemon, work, _) = working();
    let outside = work.with_file_name("outside");
    fs::write(&outside, "a secret").unwrap();
    symlink(&outside, work.join("out")).unwrap();
    symlink("../outside", work.join("up")).unwrap();
    symlink("loop", work.join("loop")).unwrap();
    nix::unistd::mkfifo(&work.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::File::create(work.join("sparse")).unwrap().set_len(1 << 40).unwrap();
    for (path, expected) in [
        ("out", "outside_workdir"),
        ("up", "outside_workdir"),
        ("loop", "outside_workdir"),
        ("../outside", "outside_workdir"),
        (outside.to_str().unwrap(), "outside_workdir"),
        ("/proc/self/environ", "outside_workdir"),
        ("pipe", "wrong_file_kind"),
        ("src", "wrong_file_kind"),
        ("none", "no_such_file"),
    ] {
        let output = daemon.run(&["--json", "files", "cat", "one", path]);
        assert_eq!((&*code(&output), &*output.stdout), (expected, ""), "{path}: {output:?}");
    }
    let piece: FileContent =
        daemon.json(&["files", "cat", "one", "sparse", "--offset", "1000000000000", "--length", "8"]);
    assert_eq!((piece.size, piece.length, piece.binary), (1 << 40, 8, true));
    let refused = daemon.run(&["--json", "files", "diff", "one", "../.."]);
    assert_eq!(code(&refused), "outside_workdir");
    // A name that is not UTF-8, as it is listed and as it is asked for.
    let odd = OsStr::from_bytes(b"caf\xe9");
    fs::write(work.join(odd), b"\xff\0bytes").unwrap();
    let list: FileList = daemon.json(&["files", "ls", "one"]);
    let entry = list.entries.iter().find(|entry| entry.name_base64.is_some()).unwrap();
    assert_eq!((&*entry.name, entry.name_base64.as_deref()), ("caf\u{fffd}", Some("Y2Fm6Q==")));
    let mut command = daemon.command(&["files", "cat", "one"]);
    let read = command.arg(odd).output().unwrap();
    assert_eq!(read.stdout, b"\xff\0bytes", "{}", String::from_utf8_lossy(&read.stderr));
    let shown = daemon.ok(&["files", "ls", "one"]);
    assert!(shown.contains("caf\\xe9") && shown.contains("src/") && shown.contains("pipe|"), "{shown}");
}

#[test]
fn a_file_of_many_pieces_is_printed_whole() {
    let (daemon, work, _) = working();
    let text: String = (0..100_000).map(|number| format!("line {number} \u{20ac}\n")).collect();
    fs::write(work.join("long"), &text).unwrap();
    assert_eq!(daemon.ok(&["files", "cat", "one", "long"]), text);
    assert_eq!(
        daemon.ok(&["files", "cat", "one", "long", "--offset", "5", "--length", "3"]),
        "0 \u{20ac}"[..2].to_owned() + "\u{fffd}"
    );
    assert_eq!(daemon.ok(&["files", "cat", "one", "long", "--offset", "99999999"]), "");
}

#[test]
fn no_file_drives_a_terminal() {
    let (daemon, work, _) = working();
    let evil = "\u{1b}]52;c;aGk=\u{7}\u{202e}\u{9b}2J\u{1b}[8m";
    fs::write(work.join(format!("name{evil}")), format!("text{evil}\n")).unwrap();
    fs::write(work.join("plain"), format!("text{evil}\r\n")).unwrap();
    fs::write(work.join("binary"), b"\x1b]0;t\x07\0").unwrap();
    for (args, expected) in [
        (&["files", "ls", "one"][..], "name\\u{1b}]52"),
        (&["files", "cat", "one", "plain"], "text\\u{1b}]52"),
        (&["files", "cat", "one", "binary"], "it is no text"),
        (&["files", "diff", "one"], "+text\\u{1b}]52"),
        (&["files", "diff", "one", "--stat"], "name\\u{1b}]52"),
        (&["files", "ls", "one", "--json"], "name\\u001b]52"),
        (&["files", "cat", "one", "--json", "plain"], "text\\u001b]52"),
        (&["files", "cat", "one", &format!("none{evil}")], "none\\u{1b}]52"),
    ] {
        let output = in_terminal(&daemon, args);
        let left = without_our_own(&output);
        for bad in ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}'] {
            assert!(!left.contains(bad), "{args:?} lets {bad:?} through: {output:?}");
        }
        assert!(output.contains(expected), "{args:?} does not show {expected:?}: {output:?}");
    }
    // Whoever wants the bytes has them.
    let raw = in_terminal(&daemon, &["files", "cat", "one", "plain", "--raw"]);
    assert!(raw.contains("text\u{1b}]52;c;aGk=\u{7}"), "{raw:?}");
}

#[test]
fn a_worker_that_hangs_holds_up_its_own_session_and_nobody_else() {
    let (daemon, work, _) = working();
    let other = work.with_file_name("other");
    repository(&other);
    daemon.ok(&["start", "--id", "two", "--dir", other.to_str().unwrap()]);
    daemon.idle("two");
    let worker = daemon.show("one").pid.unwrap();
    signal(worker, Signal::SIGSTOP);
    let hangs: Vec<_> = (0..3).map(|_| daemon.spawn(&["files", "ls", "one", "src"])).collect();
    for _ in 0..5 {
        assert_eq!(names(&daemon, "two", "src"), ["a"]);
    }
    assert_eq!(daemon.ok(&["send", "two", "echo meanwhile"]), "meanwhile\n");
    signal(worker, Signal::SIGCONT);
    for hung in hangs {
        let output = finish(hung);
        assert!(output.code == Some(0) && output.stdout.contains('a'), "{output:?}");
    }
}

/// A reader that hangs: git waits for a pipe in the place of one of its files.
#[test]
fn a_reader_that_hangs_ends_with_its_session_and_keeps_no_turn_from_ending() {
    let (daemon, work, _) = working();
    nix::unistd::mkfifo(&work.join(".git/objects/info/alternates"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let hung = |pid: u32| {
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        cmdline.starts_with(b"git\0read-tree").then_some(pid)
    };
    let reader = |before: &[u32]| {
        let worker = daemon.show("one").pid.unwrap();
        until("a reader that hangs", || {
            below(worker).into_iter().find_map(hung).filter(|pid| !before.contains(pid))
        })
    };
    let waiting = daemon.spawn(&["files", "diff", "one", "--json"]);
    let first = reader(&[]);
    // The session works all the while, also for whoever asks for other files.
    assert_eq!(names(&daemon, "one", "src"), ["a"]);
    daemon.ok(&["send", "one", "true"]);
    // The end of the turn has ended the reader, and the request is begun anew; neither is a part of the turn.
    let second = reader(&[first]);
    assert!(!lives(first));
    let told: Vec<Event> = daemon
        .events()
        .into_iter()
        .filter(|event| matches!(event.kind, EventKind::SystemMessage { .. }))
        .collect();
    assert!(told.is_empty(), "{told:?}");
    daemon.ok(&["stop", "one"]);
    asleep(&daemon, "one");
    assert!(!lives(second), "a reader outlives its session");
    // Another reader hangs now, for the session that is stopped; its time ends.
    let output = finish(waiting);
    assert_eq!(code(&output), "files_timeout", "{output:?}");
}

#[test]
fn a_request_outlives_the_death_of_its_worker_and_of_the_daemon() {
    let (daemon, _, _) = working();
    for round in 0..6 {
        let asked: Vec<_> = (0..3).map(|_| daemon.spawn(&["files", "cat", "one", "src/a"])).collect();
        if let Some(pid) = daemon.show("one").pid.filter(|_| round % 2 == 0) {
            kill(pid);
        } else {
            daemon.kill();
        }
        for asked in asked {
            let output = finish(asked);
            assert_eq!((output.code, &*output.stdout), (Some(0), "one\ntwo\n"), "{output:?}");
        }
    }
    daemon.idle("one");
}

#[test]
fn a_reader_sees_what_the_sandbox_shows_and_nothing_else() {
    for by in makers() {
        for (sandbox, name) in [(Sandbox::Workdir, "workdir"), (Sandbox::Strict, "strict")] {
            let daemon = walled(User::Own, name, by);
            let root = fs::canonicalize(daemon.dir.path()).unwrap();
            if by == SandboxBy::Landlock {
                let path = std::env::var_os("PATH").unwrap();
                let found = std::env::split_paths(&path)
                    .map(|directory| directory.join("git"))
                    .find(|git| git.is_file());
                symlink(fs::canonicalize(found.unwrap()).unwrap(), root.join("tools/git")).unwrap();
            }
            // A repository that the sandbox hides, and a worktree of it that an agent works in.
            let (hidden, work) = (root.join("home/mine/repository"), root.join("work/tree"));
            repository(&hidden);
            git(&hidden, &["worktree", "add", "--quiet", "-b", "other", work.to_str().unwrap()]);
            let open = root.join("work/open");
            repository(&open);
            for (id, at) in [("hidden", &work), ("open", &open)] {
                daemon.ok(&["start", "--id", id, "--agent", "fixture", "--dir", at.to_str().unwrap()]);
                let info = daemon.idle(id);
                assert_eq!(info.sandbox.map(|it| (it.sandbox, it.by)), Some((sandbox, by)));
                fs::write(at.join("src/a"), "changed\n").unwrap();
            }
            for stopped in [false, true] {
                if stopped {
                    daemon.ok(&["stop", "--all"]);
                }
                let about = format!("{by:?} {name} stopped: {stopped}");
                assert_eq!(names(&daemon, "open", "src"), ["a"], "{about}");
                assert_eq!(daemon.ok(&["files", "cat", "open", "src/a"]), "changed\n", "{about}");
                let found: FileDiff = daemon.json(&["files", "diff", "open"]);
                assert_eq!((found.files.len(), &*found.files[0].path), (1, "src/a"), "{about}");
                assert_eq!(daemon.ok(&["files", "cat", "hidden", "src/a"]), "changed\n", "{about}");
                let refused = daemon.run(&["--json", "files", "diff", "hidden"]);
                assert_eq!(code(&refused), "no_start_commit", "{about}: {refused:?}");
            }
        }
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the child is the test's own")]
fn a_viewer_reads_files_of_its_session_and_of_no_other() {
    let (daemon, work, _) = working();
    let other = work.with_file_name("other");
    repository(&other);
    daemon.ok(&["start", "--id", "two", "--dir", other.to_str().unwrap()]);
    let viewer = daemon.ok(&["token", "one", "--viewer"]);
    let status = |route: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"]).arg(daemon.socket());
        curl.args(["-H", &format!("Authorization: Bearer one:{}", viewer.trim())]);
        let done = curl.arg(format!("http://kennel/v1/sessions/{route}")).stderr(Stdio::null()).output();
        String::from_utf8(done.unwrap().stdout).unwrap()
    };
    for route in ["files", "files/content?path=src/a", "files/diff"] {
        assert_eq!(status(&format!("one/{route}")), "200", "{route}");
        assert_eq!(status(&format!("two/{route}")), "403", "{route}");
    }
    for wrong in [
        "files?limit=0",
        "files?limit=1001",
        "files?path=a&path_base64=YQ==",
        "files/content",
        "files?path=%00",
    ] {
        assert_eq!(status(&format!("one/{wrong}")), "400", "{wrong}");
    }
}
