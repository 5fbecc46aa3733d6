//! Agents that an upgrade moves, or takes away for a while.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Child;

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::Status;
use manager::protocol::event::EventKind;

/// A daemon on whose PATH are `v1` and `v2`, with these agents.
fn daemon(config: &str) -> (Daemon, PathBuf) {
    let mut daemon = Daemon::new();
    let root = daemon.workdir().to_owned();
    for directory in ["v1", "v2", "kennel"] {
        std::fs::create_dir(root.join(directory)).unwrap();
    }
    std::fs::write(root.join("kennel/config.toml"), config).unwrap();
    let path = format!("{0}/v1:{0}/v2:{1}", root.display(), std::env::var("PATH").unwrap());
    daemon.set("PATH", &path);
    (daemon, root)
}

fn script(file: &Path, text: &str) {
    // Written aside: what is being written cannot be executed.
    let aside = file.with_extension("new");
    harness::real::script(&aside, &format!("#!/bin/sh\n{text}\n"));
    std::fs::rename(aside, file).unwrap();
}

fn messages(daemon: &Daemon, id: &str) -> Vec<String> {
    let of = daemon
        .events()
        .into_iter()
        .filter(|event| event.session.as_ref().is_some_and(|of| of.as_str() == id));
    let text = |kind| if let EventKind::SystemMessage { text } = kind { Some(text) } else { None };
    of.filter_map(|event| text(event.kind)).collect()
}

#[test]
fn an_agent_that_an_upgrade_moves_is_run_where_it_is_at_its_next_start() {
    let profiles = "[agents.named]\nkind = \"acp\"\ncommand = [\"moving\"]\n[agents.each]\nkind = \"command\"\ncommand = [\"each\"]\n";
    let (daemon, root) = daemon("");
    let (old, new) = (root.join("v1"), root.join("v2"));
    // One that is named by its path, as under a version manager.
    let pinned = format!("[agents.pinned]\nkind = \"acp\"\ncommand = [{:?}]\n", old.join("moving"));
    std::fs::write(root.join("kennel/config.toml"), format!("{profiles}{pinned}")).unwrap();
    symlink(beside("acp-agent"), old.join("moving")).unwrap();
    script(&old.join("each"), "echo from v1");
    for id in ["named", "pinned", "each"] {
        daemon.ok(&["start", "--id", id, "--agent", id]);
        daemon.idle(id);
    }
    assert_eq!(daemon.ok(&["send", "each", "hello"]).trim(), "from v1");
    for id in ["named", "pinned"] {
        assert_eq!(daemon.show(id).program.as_deref(), old.join("moving").to_str());
    }
    std::fs::remove_file(old.join("moving")).unwrap();
    std::fs::remove_file(old.join("each")).unwrap();
    symlink(beside("acp-agent"), new.join("moving")).unwrap();
    script(&new.join("each"), "echo from v2");
    // The next prompt of an agent that is started for each, and the next start of one that lives.
    assert_eq!(daemon.ok(&["send", "each", "hello"]).trim(), "from v2");
    for id in ["named", "pinned"] {
        let agent = daemon.show(id).agent_pid.unwrap();
        kill(agent);
        until("another agent", || daemon.show(id).agent_pid.filter(|pid| *pid != agent));
        daemon.idle(id);
        daemon.ok(&["restart", id]);
        daemon.idle(id);
    }
    for (id, name) in [("named", "moving"), ("pinned", "moving"), ("each", "each")] {
        assert_eq!(daemon.show(id).program.as_deref(), new.join(name).to_str(), "{id}");
        let received = messages(&daemon, id);
        let moved = received.iter().filter(|text| text.contains(new.join(name).to_str().unwrap())).count();
        assert_eq!(moved, 1, "{id}: {received:?}");
    }
}

#[test]
fn a_command_whose_program_is_missing_for_a_while_is_run_once_when_it_is_back() {
    let (daemon, root) = daemon("[agents.each]\nkind = \"command\"\ncommand = [\"each\"]\n");
    let program = root.join("v1/each");
    script(&program, "echo once >>runs; cat");
    daemon.ok(&["start", "--id", "each", "--agent", "each", "--dir", root.to_str().unwrap()]);
    daemon.idle("each");
    std::fs::remove_file(&program).unwrap();
    daemon.ok(&["send", "--no-wait", "each", "hello"]);
    let tries = |daemon: &Daemon| {
        let retried = |event: &&manager::protocol::event::Event| matches!(&event.kind, EventKind::TurnInterrupted { will_retry: true, reason, .. } if reason.contains(program.to_str().unwrap()));
        daemon.events().iter().filter(retried).count()
    };
    until("two tries", || (tries(&daemon) >= 2).then_some(()));
    assert_eq!(daemon.show("each").status, Status::Running);
    let waits =
        format!("{}: No such file or directory (os error 2); kennel tries again for 60 s", program.display());
    let shown = until("the reason", || {
        Some(daemon.ok(&["show", "each"])).filter(|shown| shown.contains("waits for:"))
    });
    assert!(shown.contains(&waits), "{shown}");
    let listed = until("the note", || Some(daemon.run(&["ls"]).stderr).filter(|noted| !noted.is_empty()));
    assert!(listed.contains("each: prompt-") && listed.contains(&waits), "{listed}");
    let waited = first_line(&mut daemon.spawn(&["wait", "each", "--timeout", "5s"]));
    assert!(waited.contains(&waits), "{waited}");
    // The next daemon tries it, too.
    daemon.kill();
    let before = tries(&daemon);
    until("another try", || (tries(&daemon) > before).then_some(()));
    // An abort ends the prompt that waits, as it would end a turn that runs.
    let hello = daemon.show("each").running_prompt.unwrap();
    daemon.ok(&["send", "--no-wait", "each", "never"]);
    assert_eq!(daemon.ok(&["abort", "each"]).trim(), hello.to_string());
    let never = daemon.show("each").running_prompt.unwrap();
    assert_ne!(never, hello);
    daemon.ok(&["abort", "each", &never.to_string()]);
    assert_eq!(daemon.show("each").status, Status::Idle);
    daemon.ok(&["send", "--no-wait", "each", "hello"]);
    script(&program, "echo once >>runs; cat");
    daemon.idle("each");
    assert!(!daemon.ok(&["show", "each"]).contains("waits for:"), "it has run");
    let output = |event: &manager::protocol::event::Event| matches!(&event.kind, EventKind::MessageChunk { text, .. } if text == "hello");
    assert_eq!(daemon.events().iter().filter(|event| output(event)).count(), 1);
    assert_eq!(std::fs::read_to_string(root.join("runs")).unwrap(), "once\n");
    assert!(
        harness::history::of(&daemon.events()).is_empty(),
        "{:?}",
        harness::history::of(&daemon.events())
    );
}

/// The first line of a command's standard error. The rest is read, too.
fn first_line(child: &mut Child) -> String {
    let (sender, lines) = std::sync::mpsc::channel();
    let mut pipe = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || {
        let mut line = String::new();
        while pipe.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            let _ = sender.send(std::mem::take(&mut line));
        }
    });
    lines.recv_timeout(BOUND).unwrap()
}

fn printed(child: Child) -> String {
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn a_worker_that_is_missing_is_named_at_once_by_each_command_that_waits_for_it() {
    let mut daemon = Daemon::new();
    let (bin, aside) = (daemon.workdir().join("bin"), daemon.workdir().join("aside"));
    let kennel = publish(&[kennel()], &bin).remove(0);
    let ready = publish(&[worker()], &aside).remove(0);
    daemon.run_program(kennel);
    let mut start = daemon.spawn(&["start"]);
    let missing = bin.join("session-worker");
    // Commands name the session by its id, or by name and id.
    let told = format!(
        " is restarting: worker could not be started: {}: No such file or directory (os error 2); kennel tries again for 60 s\n",
        missing.display()
    );
    let tells = |child: &mut _| {
        let line = first_line(child);
        assert!(line.contains("session-1") && line.ends_with(&told), "{line}");
    };
    tells(&mut start);
    let mut send = daemon.spawn(&["send", "session-1", "echo sent"]);
    tells(&mut send);
    let mut wait = daemon.spawn(&["wait", "session-1"]);
    tells(&mut wait);
    let mut restart = daemon.spawn(&["restart", "session-1"]);
    tells(&mut restart);
    let unwaited = daemon.run(&["send", "--no-wait", "session-1", "true"]);
    assert!(unwaited.stderr.contains(&told), "{unwaited:?}");
    let shown = daemon.ok(&["show", "session-1"]);
    assert!(shown.contains("waits for:") && shown.contains(missing.to_str().unwrap()), "{shown}");
    std::fs::rename(ready, missing).unwrap();
    assert_eq!((printed(start), printed(send)), ("session-1\n".to_owned(), "sent\n".to_owned()));
    // However often kennel has tried, it is told once.
    let tries = daemon.events().into_iter();
    let tries = tries.filter(|event| matches!(event.kind, EventKind::SessionRestarting { .. })).count();
    let attached = daemon.run(&["attach", "session-1"]);
    assert!(tries > 1 && attached.stderr.matches(&told).count() == 1, "{tries} {attached:?}");
}
