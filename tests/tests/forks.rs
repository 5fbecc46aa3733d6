//! `kennel fork`: a session that goes on from a turn of another, on real processes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use harness::daemon::{Daemon, acp_agent};
use harness::real::*;
use manager::protocol::Restore;
use manager::protocol::api::{ForkedFrom, SessionInfo, Status};

use super::worktrees::{branches, sh};

/// A daemon with an agent that keeps no conversation (`x`), and one that is a program for each prompt (`each`).
fn daemon() -> Daemon {
    let each = "[agents.each]\nkind = \"command\"\ncommand = [\"/bin/cat\"]\ncontext = \"transcript\"\n";
    Daemon::configured(&format!("{}{each}", acp_agent("x")))
}

/// The same with a session `web` (`session-1`) of `x` that has had three turns.
fn with_turns() -> Daemon {
    let daemon = daemon();
    talk(&daemon, "x", "web");
    daemon
}

fn talk(daemon: &Daemon, agent: &str, name: &str) {
    daemon.ok(&["start", "--agent", agent, "--name", name]);
    for word in ["one", "two", "three"] {
        daemon.ok(&["send", name, &format!("say {word}")]);
    }
}

/// Sends a prompt that makes the agent print what it received with it. Returns the words of earlier turns, in their order.
fn told(daemon: &Daemon, session: &str) -> Vec<&'static str> {
    let text = daemon.ok(&["send", session, "transcript"]);
    let place = |word: &&str| text.find(&format!("say {word}"));
    let mut words: Vec<_> =
        ["one", "two", "three", "four"].into_iter().filter(|word| place(word).is_some()).collect();
    words.sort_by_key(place);
    words
}

fn from(origin: &str, turn: u64, told: u64) -> Option<ForkedFrom> {
    Some(ForkedFrom { session_id: origin.parse().unwrap(), turn, told })
}

#[test]
fn a_fork_is_told_the_turns_until_one_and_its_origin_goes_on_unchanged() {
    let daemon = with_turns();
    assert_eq!(daemon.ok(&["fork", "web", "--at", "2", "--name", "other"]), "session-2\n");
    let fork = daemon.idle("other");
    assert_eq!(
        (fork.forked_from, fork.restore, fork.turn_count),
        (from("session-1", 2, 2), Some(Restore::Replayed), 0)
    );
    assert_eq!(told(&daemon, "other"), ["one", "two"]);
    // The agent knows it now: kennel tells it once.
    assert_eq!(told(&daemon, "other"), Vec::<&str>::new());
    let newest: SessionInfo = daemon.json(&["fork", "web"]);
    assert_eq!(newest.forked_from, from("session-1", 3, 3));
    daemon.ok(&["send", "web", "say four"]);
    assert_eq!((daemon.show("web").turn_count, daemon.show("web").forked_from), (4, None));
    assert_eq!(told(&daemon, "session-3"), ["one", "two", "three"]);
}

#[test]
fn a_fork_of_a_fork_is_told_the_turns_of_both_also_without_the_origin_and_after_a_daemons_death() {
    let daemon = with_turns();
    daemon.ok(&["fork", "web", "--at", "2", "--name", "other"]);
    daemon.ok(&["send", "other", "say four"]);
    daemon.ok(&["rm", "--force", "web"]);
    // The fork has one turn of its own, after the two that it was told.
    assert_eq!(daemon.run(&["fork", "other", "--at", "2"]).code, Some(4));
    let third: SessionInfo = daemon.json(&["fork", "other", "--id", "third"]);
    assert_eq!(third.forked_from, from("session-2", 1, 3));
    assert_eq!(told(&daemon, "third"), ["one", "two", "four"]);
    // Its agent keeps nothing: the next process is told again, also by the next daemon.
    daemon.kill();
    daemon.ok(&["restart", "third"]);
    assert_eq!(told(&daemon, "third"), ["one", "two", "four"]);
}

#[test]
fn a_fork_is_told_the_turns_again_where_its_worker_died_in_its_first_prompt() {
    let memory = tempfile::tempdir().unwrap();
    let load = format!("\", \"--load\", \"--memory\", \"{}\"]", memory.path().display());
    let keeps = acp_agent("keeps").replace("\"]", &load);
    let daemon = Daemon::configured(&format!("{}{keeps}", acp_agent("x")));
    for agent in ["x", "keeps"] {
        let (origin, fork) = (format!("{agent}-1"), format!("{agent}-2"));
        talk(&daemon, agent, &origin);
        daemon.ok(&["fork", &origin, "--id", &fork]);
        daemon.ok(&["send", "--no-wait", &fork, "ask t1"]);
        daemon.ok(&["wait", &fork, "--until", "requires_action", "--timeout", "30s"]);
        if agent == "keeps" {
            // The agent has the conversation by now. Its first turn has not completed.
            daemon.ok(&["abort", &fork]);
            daemon.idle(&fork);
        }
        let before = daemon.show(&fork);
        kill(before.pid.unwrap());
        until("the next process", || {
            let now = daemon.show(&fork);
            (now.status == Status::Idle && now.incarnation > before.incarnation).then_some(())
        });
        let level = daemon.show(&fork).restore;
        assert_eq!(level, Some(if agent == "x" { Restore::Replayed } else { Restore::Loaded }));
        assert_eq!(told(&daemon, &fork), ["one", "two", "three"], "{agent}");
        assert_eq!(told(&daemon, &fork), Vec::<&str>::new(), "{agent}");
    }
}

#[test]
fn a_fork_is_told_the_turns_although_it_slept_or_was_stopped_before_its_first_prompt() {
    let daemon = with_turns();
    daemon.ok(&["fork", "web", "--id", "fork"]);
    daemon.idle("fork");
    daemon.ok(&["stop", "fork"]);
    daemon.ok(&["restart", "fork"]);
    daemon.kill();
    assert_eq!(told(&daemon, "fork"), ["one", "two", "three"]);
}

#[test]
fn a_program_for_each_prompt_is_told_the_turns_of_its_origin_before_its_own() {
    let daemon = daemon();
    daemon.ok(&["start", "--agent", "each", "--id", "e"]);
    daemon.ok(&["send", "e", "say one"]);
    daemon.ok(&["fork", "e", "--id", "f"]);
    daemon.ok(&["send", "f", "say two"]);
    let text = daemon.ok(&["send", "f", "say three"]);
    let places = ["say one", "say two", "say three"].map(|word| text.find(&format!("User: {word}")).unwrap());
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn a_fork_says_where_it_came_from_and_its_transcript_has_what_its_agent_is_told() {
    let daemon = with_turns();
    daemon.ok(&["fork", "web", "--at", "1", "--id", "fork"]);
    daemon.ok(&["send", "fork", "say four"]);
    let line = "forked from session-1 at turn 1; the agent is told 1 turn before its first";
    for args in
        [&["show", "fork"][..], &["transcript", "fork"], &["events", "fork", "--type", "session.created"]]
    {
        let shown = daemon.ok(args);
        assert!(shown.contains(line), "{args:?}: {shown}");
    }
    assert_eq!(
        daemon.ok(&["ls", "--format", "{forked_from.session_id} {forked_from.turn}", "--agent", "x"]),
        " \nsession-1 1\n"
    );
    let shown = daemon.ok(&["transcript", "fork"]);
    let told = shown.find("told  > say one\none\n").unwrap_or_else(|| panic!("{shown}"));
    assert!(shown.find("> say four").is_some_and(|own| own > told) && !shown.contains("say two"), "{shown}");
    assert!(!daemon.ok(&["transcript", "web"]).contains("forked"));
    // Also where nobody else has these turns any more.
    daemon.ok(&["rm", "--force", "web"]);
    for form in ["md", "html", "jsonl"] {
        let exported = daemon.ok(&["export", "fork", "--format", form]);
        assert!(exported.contains("say one") && exported.contains("say four"), "{form}: {exported}");
    }
}

#[test]
fn what_cannot_be_forked_starts_nothing_and_says_why() {
    let daemon = with_turns();
    daemon.ok(&["start", "--id", "shell"]);
    daemon.ok(&["send", "shell", "true"]);
    daemon.ok(&["start", "--agent", "x", "--id", "empty"]);
    daemon.ok(&["send", "--no-wait", "web", "ask t1"]);
    daemon.ok(&["wait", "web", "--until", "requires_action", "--timeout", "30s"]);
    for (args, code, said) in [
        (&["fork", "nobody"][..], 4, "nobody"),
        (&["fork", "web", "--at", "9"], 4, "turns 1 to 4"),
        (&["fork", "web", "--at", "0"], 2, "--at"),
        (&["fork", "web"], 7, "kennel fork session-1 --at 3"),
        (&["fork", "web", "--at", "4"], 7, "has not ended"),
        (&["fork", "shell"], 7, "told no earlier turns"),
        (&["fork", "empty"], 4, "has no turn yet"),
        (&["fork", "web", "--at", "1", "--name", "shell"], 7, "shell"),
        (&["fork", "web", "--at", "1", "--id", "empty"], 7, "empty"),
        (&["fork", "web", "--at", "1", "--label", "a b=c"], 2, "label"),
    ] {
        let output = daemon.run(args);
        assert_eq!(output.code, Some(code), "{args:?}: {output:?}");
        assert!(output.stderr.contains(said), "{args:?}: {output:?}");
    }
    let sessions: Vec<SessionInfo> = daemon.json(&["ls", "--all"]);
    assert_eq!(sessions.len(), 3);
    // An earlier turn can be gone on from while another runs; and the origin may be stopped.
    daemon.ok(&["fork", "web", "--at", "3", "--id", "a"]);
    daemon.ok(&["stop", "web"]);
    daemon.ok(&["fork", "web", "--at", "3", "--id", "b"]);
    assert_eq!(
        (told(&daemon, "a"), told(&daemon, "b")),
        (vec!["one", "two", "three"], vec!["one", "two", "three"])
    );
    assert_eq!(daemon.show("web").status, Status::Stopped);
}

#[test]
fn a_pruned_turn_is_refused_and_what_a_fork_is_told_is_bounded() {
    let daemon = daemon();
    daemon.ok(&["start", "--agent", "x", "--id", "web"]);
    for turn in 1..=4 {
        daemon.ok(&["send", "web", &format!("say {turn}{}", "x".repeat(60_000))]);
    }
    // Each turn has 120,000 bytes: two of them fit.
    let told = |at: &str| daemon.json::<SessionInfo>(&["fork", "web", "--at", at]).forked_from.unwrap().told;
    assert_eq!([told("1"), told("2"), told("4")], [1, 2, 2]);
    daemon.ok(&["prune", "--all", "--force"]);
    assert_eq!(told("4"), 2);
    let refused = daemon.run(&["fork", "web", "--at", "1"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("kennel has pruned it"), "{refused:?}");
}

/// Sends a request for a fork over the socket.
fn ask(daemon: &Daemon, key: &str, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let head = format!(
        "POST /v1/forks HTTP/1.0\r\nHost: kennel\r\nIdempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
    stream
}

/// Asks for a fork over the socket. Returns the status and the body.
fn post(daemon: &Daemon, key: &str, body: &str) -> (u16, serde_json::Value) {
    let mut answer = String::new();
    ask(daemon, key, body).read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap())
}

#[test]
fn a_repeated_request_with_one_key_makes_one_fork_whatever_became_of_its_origin() {
    let daemon = with_turns();
    let body = r#"{"session": "web"}"#;
    let (status, first) = post(&daemon, "k", body);
    assert_eq!((status, &first["forked_from"]["turn"]), (201, &3.into()), "{first}");
    daemon.kill();
    daemon.ok(&["send", "--no-wait", "web", "ask t1"]);
    daemon.ok(&["wait", "web", "--until", "requires_action", "--timeout", "30s"]);
    assert_eq!(post(&daemon, "k", body).1["id"], first["id"]);
    let (status, other) = post(&daemon, "k", r#"{"session": "web", "turn": 2}"#);
    assert_eq!((status, other["code"].as_str()), (409, Some("idempotency_key_reused")));
    daemon.ok(&["rm", "--force", "web"]);
    assert_eq!(post(&daemon, "k", body).1["id"], first["id"]);
    assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls", "--all"]).len(), 1);
}

#[test]
fn a_daemon_killed_while_it_forks_makes_one_whole_fork_once_it_is_asked_again() {
    let daemon = with_turns();
    for (number, body) in (2..5).map(|number| (number, r#"{"session": "web", "turn": 2}"#)) {
        let key = format!("k{number}");
        let request = ask(&daemon, &key, body);
        daemon.kill();
        drop(request);
        daemon.ok(&["ls"]);
        let (status, fork) = post(&daemon, &key, body);
        assert_eq!(status, 201, "{fork}");
        assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls", "--all"]).len(), number);
        assert_eq!(told(&daemon, fork["id"].as_str().unwrap()), ["one", "two"]);
    }
}

#[test]
fn a_setting_that_the_origin_has_not_answered_yet_is_the_forks_too() {
    let daemon = with_turns();
    daemon.ok(&["set", "web", "mode=code"]);
    daemon.ok(&["stop", "web"]);
    daemon.ok(&["set", "web", "mode=ask"]);
    daemon.ok(&["fork", "web", "--at", "1", "--id", "fork"]);
    let mode = |session: &str| daemon.ok(&["send", session, "settings"]);
    daemon.idle("fork");
    until("the origin's mode", || mode("fork").contains("mode ask").then_some(()));
}

#[test]
fn a_fork_in_a_directory_that_is_gone_is_refused_and_takes_no_name() {
    let daemon = with_turns();
    let gone = daemon.dir.path().join("gone");
    std::fs::create_dir(&gone).unwrap();
    daemon.ok(&["start", "--agent", "x", "--name", "there", "--dir", gone.to_str().unwrap()]);
    daemon.ok(&["send", "there", "say one"]);
    std::fs::remove_dir(&gone).unwrap();
    let before = daemon.json::<Vec<SessionInfo>>(&["ls", "--all"]).len();
    let refused = daemon.run(&["fork", "there", "--name", "again"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("there is no directory"), "{refused:?}");
    assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls", "--all"]).len(), before);
}

#[test]
fn a_fork_in_a_worktree_has_a_directory_and_a_branch_of_its_own_until_it_is_removed() {
    let walled = acp_agent("walled") + "sandbox = \"strict\"\n";
    let daemon = Daemon::configured(&format!("{}{walled}", acp_agent("x")));
    let script =
        "git init -q -b main app; cd app; mkdir src; echo one > src/file; git add .; git commit -qm one";
    sh(daemon.workdir(), script);
    let repository = daemon.workdir().join("app");
    let src = repository.join("src");
    for agent in ["x", "walled"] {
        daemon.ok(&["start", "--agent", agent, "--name", agent, "--dir", src.to_str().unwrap()]);
        daemon.ok(&["send", agent, "say one"]);
    }
    std::fs::write(src.join("file"), "changed here").unwrap();
    sh(&repository, "git commit -qam two");
    let head = sh(&repository, "git rev-parse HEAD");
    let forked = daemon.run(&["fork", "x", "--worktree", "--id", "other"]);
    assert_eq!((forked.code, forked.stdout.as_str()), (Some(0), "other\n"), "{forked:?}");
    let branch = branches(&repository).pop().unwrap();
    assert!(forked.stderr.contains(&branch), "{forked:?}");
    let other = daemon.idle("other");
    let tree = std::path::PathBuf::from(&other.workdir);
    assert!(tree.ends_with("src") && other.workdir.contains("/worktrees/session-1/"), "{}", other.workdir);
    assert_eq!(std::fs::read_to_string(tree.join("file")).unwrap(), "changed here");
    // What it changes is told since it began, not since its origin did.
    assert_eq!(other.start_commit.as_deref(), Some(head.trim()));
    assert_ne!(daemon.show("x").start_commit, other.start_commit);
    daemon.ok(&["send", "other", "transcript"]);
    std::fs::write(tree.join("file"), "changed there").unwrap();
    assert_eq!(std::fs::read_to_string(src.join("file")).unwrap(), "changed here");
    sh(&tree, "git checkout -q file");
    daemon.ok(&["rm", "--force", "other"]);
    assert!(!tree.exists() && branches(&repository).is_empty());

    // A refusal leaves neither directory nor branch.
    for (args, said) in [
        (&["fork", "walled", "--worktree"][..], "runs in the sandbox of its own directory"),
        (&["fork", "x", "--worktree", "--name", "walled"], "walled"),
        (&["fork", "x", "--worktree", "--at", "9"], "turns"),
    ] {
        let refused = daemon.run(args);
        assert!(refused.stderr.contains(said), "{args:?}: {refused:?}");
        assert_eq!(branches(&repository), [""; 0], "{args:?}");
    }
    let left = std::fs::read_dir(daemon.dir.path().join("state/worktrees/session-1"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
    // In its own directory the fork of a session in a sandbox has its sandbox.
    daemon.ok(&["fork", "walled", "--id", "walled-2"]);
    assert!(daemon.idle("walled-2").sandbox.is_some());
}

#[test]
fn a_fork_where_no_repository_is_gets_no_worktree_and_is_not_started() {
    let daemon = with_turns();
    let refused = daemon.run(&["fork", "web", "--worktree"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("nothing was started"), "{refused:?}");
    assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls", "--all"]).len(), 1);
}
