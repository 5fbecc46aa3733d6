//! Questions and messages of an agent at the edges of its turns, and the notes about them on the command
//! line.

use harness::daemon::{Daemon, finish};
use harness::real::*;
use protocol::api::{PermissionInfo, Status};
use protocol::event::EventKind;

use crate::top::Screen;

/// A daemon with a session `s` of an agent that asks. Its permissions are somebody's to answer.
fn asking(options: &[&str]) -> Daemon {
    let daemon = Daemon::new();
    let config = daemon.dir.path().join("kennel");
    std::fs::create_dir_all(&config).unwrap();
    let agent = format!("[agents.x]\nkind = \"acp\"\ncommand = [\"{}\"]\n", beside("acp-agent").display());
    std::fs::write(config.join("config.toml"), agent).unwrap();
    daemon.ok(&[&["start", "--id", "s", "--agent", "x"], options].concat());
    daemon
}

#[test]
fn allow_picks_none_of_several_ways_and_names_them() {
    let daemon = asking(&[]);
    daemon.ok(&["send", "--no-wait", "s", "choose which plan?"]);
    daemon.ok(&["wait", "s", "--until", "requires_action", "--timeout", "30s"]);
    let asked =
        daemon.json::<Vec<PermissionInfo>>(&["permissions", "ls"]).remove(0).permission_id.to_string();
    let refused = daemon.run(&["permissions", "allow", &asked]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("a, b") && refused.stderr.contains("--option"), "{refused:?}");
    assert_eq!(daemon.show("s").status, Status::RequiresAction);
    daemon.ok(&["permissions", "allow", &asked, "--option", "b"]);
    daemon.idle("s");
    assert!(daemon.ok(&["subagent", "result", "s"]).contains("answered b"));
}

#[test]
fn a_session_that_needs_somebody_says_so_and_what_it_asks_is_shown_whole() {
    let daemon = asking(&[]);
    let command = format!("rm -rf {}/the-end", "a-long-name/".repeat(20));
    daemon.ok(&["send", "--no-wait", "s", &format!("ask {command}")]);
    daemon.ok(&["wait", "s", "--until", "requires_action", "--timeout", "30s"]);
    let listed = daemon.ok(&["permissions", "ls"]);
    assert!(listed.contains(&command) && listed.contains("1) Yes (allow once; yes)"), "{listed}");
    let list = daemon.run(&["ls"]);
    assert!(list.stdout.contains("requires_action"), "{list:?}");
    assert!(list.stderr.contains("s waits for somebody: `kennel next` says for what"), "{list:?}");
    let shown = daemon.ok(&["show", "s"]);
    assert!(shown.contains("needs:") && shown.contains(&command), "{shown}");
    assert!(shown.contains("kennel permissions allow permission-"), "{shown}");
    assert_eq!(daemon.run(&["wait", "s", "--until", "requires_action"]).code, Some(0));
}

#[test]
fn a_command_behind_its_title_is_shown_wherever_somebody_is_asked() {
    let daemon = asking(&[]);
    let command = format!("git push && {}cargo publish", "true && ".repeat(20));
    let ask = r#"wire {"jsonrpc":"2.0","id":71,"method":"session/request_permission","params":{"sessionId":"$S","toolCall":{"toolCallId":"p","title":"Publish","kind":"execute","rawInput":{"command":"COMMAND"}},"options":[{"optionId":"yes","name":"Yes","kind":"allow_once"}]}}; heard"#;
    let sent = daemon.spawn(&["send", "s", &ask.replace("COMMAND", &command)]);
    daemon.ok(&["wait", "s", "--until", "requires_action", "--timeout", "30s"]);
    // Wherever its lines are broken.
    let flat = |text: &str| text.split_whitespace().collect::<String>();
    let whole = flat(&command);
    assert!(flat(&daemon.ok(&["permissions", "ls"])).contains(&whole));
    for args in [&["attach", "s"][..], &["top"]] {
        let mut screen = Screen::new(&daemon, args, 100, 30);
        screen.sees("Publish");
        if args == ["top"] {
            screen.types("a");
        }
        screen.until("the whole command", |text| flat(text).contains(&whole));
    }
    let plain = daemon.spawn(&["attach", "s"]);
    until("a client", || daemon.show("s").clients.first().map(drop));
    daemon.ok(&["answer", "s", "1"]);
    let plain = finish(plain);
    assert!(flat(&plain.stderr).contains(&whole), "{plain:?}");
    let sent = finish(sent);
    assert!(flat(&sent.stderr).contains(&whole), "{sent:?}");
}

#[test]
fn what_a_policy_has_answered_is_nobodys_to_answer() {
    let daemon = asking(&["--permissions", "allow"]);
    let output = daemon.run(&["send", "s", "ask t1"]);
    assert!(output.stdout.contains("answered yes"), "{output:?}");
    assert!(output.stderr.contains("may I t1?: yes, by the session's policy"), "{output:?}");
    assert!(!output.stderr.contains("kennel permissions"), "{output:?}");
    let output = daemon.run(&["attach", "s"]);
    assert!(output.stderr.contains("may I t1?: yes, by the session's policy"), "{output:?}");
}

#[test]
fn an_agent_that_did_not_come_to_the_end_of_its_work_is_no_success() {
    let daemon = asking(&[]);
    for (reason, code) in [("refusal", 12), ("max_tokens", 10), ("max_turn_requests", 11)] {
        let output = daemon.run(&["send", "s", &format!("say half; stop {reason}")]);
        assert_eq!((output.code, &*output.stdout), (Some(code), "half"), "{output:?}");
        assert!(output.stderr.contains(reason), "{output:?}");
        assert_eq!(daemon.run(&["subagent", "result", "s"]).code, Some(code));
        let seen = daemon.run(&["attach", "s"]);
        assert!(seen.stderr.contains(&format!("({reason})")), "{seen:?}");
    }
    assert_eq!(daemon.run(&["send", "s", "say all"]).code, Some(0));
    let failed = daemon.run(&["send", "s", "fail 401 Unauthorized"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(!failed.stderr.contains("could not be run") && failed.stderr.contains("401"), "{failed:?}");
}

#[test]
fn what_an_agent_says_after_the_end_of_its_turn_is_shown() {
    let daemon = asking(&[]);
    let output = daemon.run(&["send", "s", "late and the rest; say first,"]);
    assert_eq!((output.code, &*output.stdout), (Some(0), "first,and the rest"), "{output:?}");
    let seen = daemon.run(&["attach", "s"]);
    assert!(seen.stdout.contains("and the rest"), "{seen:?}");
    assert!(daemon.ok(&["events", "s"]).contains("(after its turn) and the rest"));
}

#[test]
fn what_an_agent_asks_between_two_turns_is_shown_and_answered_as_in_a_turn() {
    let late = |daemon: &Daemon, words: &str| {
        until("that it says what was answered", || {
            let mut events = daemon.events().into_iter();
            events.find(|event| event.kind.late_text().is_some_and(|text| text == words)).map(drop)
        });
    };
    let daemon = asking(&[]);
    daemon.ok(&["send", "s", "late-ask t9"]);
    daemon.ok(&["wait", "s", "--until", "requires_action", "--timeout", "20s"]);
    let listed = daemon.ok(&["permissions", "ls"]);
    assert!(listed.contains("may I t9?"), "{listed}");
    let permission = listed.split_whitespace().find(|word| word.starts_with("permission-")).unwrap();
    assert!(daemon.ok(&["show", "s"]).contains(permission));
    // A client that attaches now is asked, too.
    let seen = daemon.run(&["attach", "s", "--takeover"]);
    assert!(seen.stderr.contains("may I t9?") || seen.stdout.contains("may I t9?"), "{seen:?}");
    daemon.ok(&["permissions", "allow", permission]);
    late(&daemon, "answered yes");
    assert_eq!(daemon.ok(&["send", "s", "say on"]), "on");
    for (policy, words) in [("allow", "answered yes"), ("deny", "answered no")] {
        let daemon = asking(&["--permissions", policy]);
        daemon.ok(&["send", "s", "late-ask t9"]);
        late(&daemon, words);
    }
}

#[test]
fn what_an_agent_says_after_the_end_of_its_turn_is_in_the_transcript() {
    let daemon = asking(&[]);
    daemon.ok(&["send", "s", "late and the rest; say first,"]);
    until("that it is said", || {
        daemon.events().into_iter().find(|event| event.kind.late_text() == Some("and the rest")).map(drop)
    });
    daemon.ok(&["restart", "s"]);
    let received = daemon.ok(&["send", "s", "transcript"]);
    assert!(received.contains("first,and the rest"), "{received}");
}

#[test]
fn words_of_a_prompt_that_begin_with_a_dash_are_the_prompt() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    assert_eq!(daemon.ok(&["send", "s", "printf", "%s", "-n"]), "-n");
    let prompt = daemon.ok(&["send", "--no-wait", "s", "-x", "--key"]);
    let texts = daemon.events().into_iter().filter_map(|event| match event.kind {
        EventKind::PromptAccepted { text, prompt_id, .. } => Some((prompt_id.to_string(), text)),
        _ => None,
    });
    assert_eq!(texts.last(), Some((prompt.trim().to_owned(), "-x --key".to_owned())));
}

#[test]
fn an_agent_that_cannot_be_asked_what_it_is_has_its_last_lines_told() {
    let daemon = Daemon::new();
    let config = daemon.dir.path().join("kennel");
    std::fs::create_dir_all(&config).unwrap();
    let profiles = "[agents.broken]\nkind = \"acp\"\ncommand = [\"/bin/sh\", \"-c\", \"echo no licence >&2; exit 3\"]\n\
                    [agents.mine]\nkind = \"acp\"\ncommand = [\"/nowhere/codex-acp\"]\n";
    std::fs::write(config.join("config.toml"), profiles).unwrap();
    let output = daemon.run(&["agents", "ls", "broken", "--probe"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("no licence"), "{output:?}");
    assert!(!output.stderr.contains("kennel logs") && !output.stderr.contains("probe-"), "{output:?}");
    assert!(daemon.ok(&["ls", "--all", "--quiet"]).is_empty());
    // A profile of a name of its own that runs a known agent has that one's advice.
    let agents: Vec<serde_json::Value> = daemon.json(&["agents", "ls", "mine", "codex"]);
    assert!(agents[0]["login"].is_string(), "{agents:?}");
    assert_eq!(agents[0]["login"], agents[1]["login"]);
}

#[test]
fn a_turn_without_an_answer_is_said_to_be_empty_wherever_one_looks() {
    let daemon = asking(&[]);
    let sent = daemon.run(&["send", "s", "think hm"]);
    assert_eq!((sent.code, &*sent.stdout), (Some(0), ""), "{sent:?}");
    assert!(sent.stderr.contains("the turn is empty"), "{sent:?}");
    assert!(daemon.ok(&["show", "s"]).contains("ended without an answer or a tool call"));
    assert!(daemon.ok(&["events", "s"]).contains("the turn is empty"));
    assert_eq!(daemon.ok(&["send", "s", "say on"]), "on");
    assert!(!daemon.ok(&["show", "s"]).contains("ended without an answer"));
}

#[test]
fn a_turn_that_its_agent_does_not_end_costs_no_prompt_that_waits() {
    let daemon = Daemon::with_acp("x");
    daemon.ok(&["start", "--agent", "x", "--id", "s", "--grace", "200ms"]);
    daemon.idle("s");
    daemon.ok(&["send", "--no-wait", "s", "deaf; half; sleep 1000s"]);
    daemon.ok(&["wait", "s", "--until", "running", "--timeout", "30s"]);
    daemon.ok(&["send", "--no-wait", "s", "say next one"]);
    daemon.run(&["abort", "s"]);
    let events = until("the answer to the prompt that waited", || {
        let events = daemon.ok(&["--json", "events", "s"]);
        (events.matches("\"turn.completed\"").count() == 2).then_some(events)
    });
    assert!(!events.contains("turn.interrupted"), "{events}");
    assert!(daemon.ok(&["transcript", "s"]).contains("\nnext one\n"));
}
