//! `kennel ls` and `kennel next`: who waits for somebody, which sessions are asked for, and in which order.

use std::collections::BTreeMap;
use std::fs;

use harness::daemon::{Daemon, acp_agent};
use harness::real::until;
use protocol::api::{LastLine, NeedKind, SessionInfo, Status};

/// A daemon with an agent that asks, and one whose program is not there.
fn daemon() -> Daemon {
    let gone = "[agents.gone]\nkind = \"acp\"\ncommand = [\"/bin/false\"]\n";
    Daemon::configured(&(acp_agent("asks") + gone))
}

fn ids(daemon: &Daemon, args: &[&str]) -> Vec<String> {
    daemon.ok(&[&["-q", "ls"], args].concat()).lines().map(str::to_owned).collect()
}

#[test]
fn a_list_is_chosen_and_put_in_order_by_the_daemon() {
    let daemon = daemon();
    let dir = daemon.workdir().join("below");
    fs::create_dir(&dir).unwrap();
    fs::create_dir(daemon.workdir().join("belowed")).unwrap();
    daemon.ok(&["start", "--name", "zoo", "--label", "team=front"]);
    daemon.ok(&["start", "--name", "ant", "--label", "team=back", "--dir", dir.to_str().unwrap()]);
    daemon.ok(&["start", "--name", "fly", "--agent", "asks"]);
    for id in ["session-1", "session-2", "session-3"] {
        daemon.idle(id);
    }
    daemon.ok(&["send", "zoo", "true"]);
    daemon.ok(&["stop", "fly"]);
    for (args, expected) in [
        (&[][..], &["session-1", "session-2"][..]),
        (&["--all"], &["session-1", "session-2", "session-3"]),
        (&["--sort", "name"], &["session-2", "session-1"]),
        (&["--sort", "last"], &["session-1", "session-2"]),
        (&["--label", "team"], &["session-1", "session-2"]),
        (&["--label", "team=back"], &["session-2"]),
        (&["--label", "team=back", "--label", "team=front"], &[]),
        (&["--status", "stopped"], &["session-3"]),
        (&["--status", "idle,stopped", "--sort", "name"], &["session-2", "session-3", "session-1"]),
        (&["--agent", "asks", "--all"], &["session-3"]),
        (&["--agent", "asks,shell", "--all"], &["session-1", "session-2", "session-3"]),
        (&["--agent", "asks", "--agent", "gone", "--all"], &["session-3"]),
        (&["--dir", "below"], &["session-2"]),
        (&["--dir", "belowed"], &[]),
        (&["--since", "1h"], &["session-1", "session-2"]),
        (&["--since", "2999-01-01"], &[]),
        (&["--needs"], &[]),
    ] {
        assert_eq!(ids(&daemon, args), expected, "{args:?}");
    }
    assert_eq!(daemon.ok(&["ls", "--format", "{name}:{status}", "--sort", "name"]), "ant:idle\nzoo:idle\n");
    assert!(daemon.ok(&["ls"]).starts_with("NAME  ID         STATUS  NEEDS  AGENT  DIR"));
    let none = daemon.run(&["next"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(4), ""), "{none:?}");
    for wrong in
        [&["--status", "gone"][..], &["--since", "never"], &["--sort", "size"], &["--dir", "/no/such/place"]]
    {
        let output = daemon.run(&[&["ls"], wrong].concat());
        assert!(
            output.code == Some(2) || output.code == Some(1) || output.stdout.lines().count() == 1,
            "{output:?}"
        );
    }
}

#[test]
fn a_filter_that_no_session_matches_is_said_beside_what_there_is() {
    let daemon = daemon();
    daemon.ok(&["start", "--name", "web", "--label", "team=front"]);
    for (args, note) in [
        (&["ls", "--agent", "shel"][..], "no session has agent `shel`; agents: `shell`"),
        (&["ls", "--agent", "shell,x"], "no session has agent `x`; agents: `shell`"),
        (&["ls", "--label", "tema"], "no session has label `tema`; labels: `team`"),
    ] {
        let output = daemon.run(args);
        assert!(output.code == Some(0) && output.stderr.contains(note), "{args:?}: {output:?}");
    }
    for args in
        [&["ls", "--agent", "shell"][..], &["ls", "--label", "team=back"], &["-q", "ls", "--agent", "x"]]
    {
        let output = daemon.run(args);
        assert!(output.code == Some(0) && output.stderr.is_empty(), "{args:?}: {output:?}");
    }
    assert_eq!(daemon.ok(&["ls", "--format", "{name} {labels.team}"]), "web front\n");
    let wrong = daemon.run(&["ls", "--format", "{nmae}"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("no field `nmae`"), "{wrong:?}");
    assert!(wrong.stderr.contains(" name, ") && wrong.stdout.is_empty(), "{wrong:?}");
    assert!(daemon.ok(&["ls", "--show-labels"]).ends_with("  team=front\n"));
    assert!(!daemon.ok(&["ls"]).contains("team=front"));
    let many = ["idle"; 11].join(",");
    let wrong = daemon.run(&["ls", "--status", &many]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("at most 10 states"), "{wrong:?}");
    let many = ["shell"; 33].join(",");
    let wrong = daemon.run(&["ls", "--agent", &many]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("at most 32 agents"), "{wrong:?}");
}

#[test]
fn who_waits_for_somebody_is_seen_with_what_to_do_and_the_longest_wait_first() {
    let daemon = daemon();
    daemon.ok(&["start", "--name", "broken", "--agent", "gone", "--intensity", "0"]);
    daemon.ok(&["start", "--name", "asking", "--agent", "asks"]);
    daemon.ok(&["start", "--name", "rests"]);
    until("a session that has failed", || (daemon.show("broken").status == Status::Failed).then_some(()));
    daemon.idle("asking");
    daemon.ok(&["send", "--no-wait", "asking", "ask 1 Delete\u{1b}[2J everything"]);
    until("a question", || (daemon.show("asking").status == Status::RequiresAction).then_some(()));
    let listed = daemon.ok(&["ls"]);
    let row =
        |name: &str| listed.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{listed}"));
    assert!(row("broken").contains(" failed: "), "{listed}");
    assert!(row("asking").contains("permission: ") && !listed.contains('\u{1b}'), "{listed}");
    let rests: Vec<&str> = row("rests").split_whitespace().take(4).collect();
    assert_eq!(rests, ["rests", "session-3", "idle", "-"], "{listed}");
    let noted = daemon.run(&["ls"]).stderr;
    assert!(
        noted.contains("broken, asking wait for somebody") && noted.contains("kennel next --attach"),
        "{noted}"
    );
    let permissions = daemon.ok(&["permissions", "ls"]);
    assert!(permissions.contains("  asking (session-2)\n"), "{permissions}");
    let needs: Vec<SessionInfo> = daemon.json(&["ls", "--needs", "--sort", "needs"]);
    let kinds: Vec<NeedKind> =
        needs.iter().flat_map(|session| &session.needs).map(|need| need.kind).collect();
    assert_eq!(kinds, [NeedKind::Failed, NeedKind::Permission]);
    let next = daemon.run(&["next"]);
    assert_eq!(next.stdout, "broken\n", "{next:?}");
    assert!(next.stderr.contains("kennel restart broken"), "{next:?}");
    let attached = daemon.run(&["next", "--attach"]);
    assert!(attached.code == Some(2) && attached.stderr.contains("terminal"), "{attached:?}");
    daemon.ok(&["rm", "--force", "broken"]);
    let next = daemon.run(&["next"]);
    assert_eq!(next.stdout, "asking\n", "{next:?}");
    assert!(next.stderr.contains("kennel permissions allow permission-"), "{next:?}");
    daemon.ok(&["abort", "asking"]);
    until("an answer", || (daemon.run(&["next"]).code == Some(4)).then_some(()));
}

/// The last lines that the daemon tells, by session.
fn last_lines(daemon: &Daemon) -> BTreeMap<String, String> {
    let lines: Vec<LastLine> = daemon.get("/v1/last-lines");
    lines.into_iter().map(|said| (said.session_id.to_string(), said.line)).collect()
}

#[test]
fn the_last_line_of_each_agent_is_told_also_by_the_next_daemon_and_never_from_far_back() {
    let daemon = daemon();
    for name in ["whole", "pieces", "tool", "quiet", "large", "long"] {
        daemon.ok(&["start", "--name", name, "--agent", "asks"]);
    }
    let line = "x".repeat(300);
    let call = r#"wire {"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"$S","update":{"sessionUpdate":"tool_call","toolCallId":"t","title":"make all"}}}"#;
    for (name, prompt) in [
        ("whole", "say first".to_owned()),
        ("whole", "say second".to_owned()),
        ("pieces", format!("{}; {}; {}", piece("one\\nt"), piece("w"), piece("o\\n \\n"))),
        ("tool", format!("say begin; {call}")),
        ("large", "say before; messages 1 70000".to_owned()),
        ("long", format!("say {line}")),
    ] {
        daemon.ok(&["send", name, &prompt]);
    }
    let told = last_lines(&daemon);
    let expected: BTreeMap<String, String> = [
        ("session-1", "second"),
        ("session-2", "two"),
        ("session-3", "make all"),
        ("session-5", "before"),
        ("session-6", &line[..200]),
    ]
    .map(|(id, line)| (id.to_owned(), line.to_owned()))
    .into();
    assert_eq!(told, expected);
    daemon.kill();
    daemon.ok(&["ls"]);
    assert_eq!(last_lines(&daemon), expected);
    // What lies behind many events that say nothing is not looked for.
    let thought = r#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"$S","update":{"sessionUpdate":"agent_thought_chunk","content":{"type":"text","text":"hm"}}}}"#;
    daemon.ok(&["send", "whole", &format!("wires 300 {thought}")]);
    assert_eq!(last_lines(&daemon).get("session-1"), None);
}

/// A step that says a piece of a message, as it stands in JSON.
fn piece(text: &str) -> String {
    format!(
        r#"wire {{"jsonrpc":"2.0","method":"session/update","params":{{"sessionId":"$S","update":{{"sessionUpdate":"agent_message_chunk","content":{{"type":"text","text":"{text}"}}}}}}}}"#
    )
}
