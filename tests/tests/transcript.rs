//! `kennel transcript` and `kennel export` on real processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use harness::daemon::Daemon;
use harness::real::{kill, until};

/// A daemon with a session of an agent that speaks ACP, and one of the shell.
fn daemon() -> Daemon {
    let daemon = Daemon::with_acp("plain");
    daemon.ok(&["start", "--agent", "plain", "--title", "mine"]);
    daemon
}

#[test]
fn a_conversation_reads_as_it_went() {
    let daemon = daemon();
    daemon.ok(&["send", "session-1", "think a bit; tool t Build it; done t; say all is built"]);
    let shown = daemon.ok(&["transcript", "session-1"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].contains("turn 1, prompt-"), "{shown}");
    assert!(lines[1].starts_with("> think a bit;"), "{shown}");
    assert_eq!(lines[2], "~ a bit", "{shown}");
    assert!(lines[3].starts_with("[completed] Build it ("), "{shown}");
    assert_eq!(lines[4], "all is built", "{shown}");
    assert!(lines[5].starts_with("completed after "), "{shown}");
    assert_eq!(shown, daemon.ok(&["log", "session-1"]));
}

#[test]
fn the_last_turns_are_the_last_ones_and_a_time_leaves_out_what_was_before() {
    let daemon = daemon();
    for word in ["one", "two", "three"] {
        daemon.ok(&["send", "session-1", &format!("say {word}")]);
    }
    let last = daemon.ok(&["transcript", "session-1", "--last", "2"]);
    assert!(!last.contains("one") && last.contains("two") && last.contains("three"), "{last}");
    assert!(daemon.ok(&["transcript", "session-1", "--since", "1h"]).contains("one"));
    assert_eq!(daemon.ok(&["transcript", "session-1", "--since", "2999-01-01"]), "");
    for wrong in ["yesterdayish", "-3", "25:99"] {
        let output = daemon.run(&["transcript", "session-1", &format!("--since={wrong}")]);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains("14:30"), "{output:?}");
    }
}

#[test]
fn an_event_of_another_session_is_an_error_that_names_that_session() {
    let daemon = daemon();
    daemon.ok(&["start", "--name", "other"]);
    daemon.ok(&["send", "session-1", "say mine"]);
    daemon.ok(&["send", "other", "echo its"]);
    let of = |session: &str| {
        let mut events = daemon.events().into_iter();
        let is_its = |event: &protocol::event::Event| {
            matches!(event.kind, protocol::event::EventKind::TurnCompleted { .. })
                && event.session.as_ref().is_some_and(|id| id.as_str() == session)
        };
        events.find(is_its).unwrap().id
    };
    let (own, others) = (of("session-1").to_string(), of("session-2").to_string());
    assert!(daemon.ok(&["transcript", "session-1", "--at", &own]).contains("say mine"));
    let wrong = daemon.run(&["transcript", "session-1", "--at", &others]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(4), ""), "{wrong:?}");
    assert!(wrong.stderr.contains(&format!("event {others} is one of session-2")), "{wrong:?}");
    assert!(wrong.stderr.contains(&format!("`kennel transcript session-2 --at {others}`")), "{wrong:?}");
    // One that is yet to come is no other session's.
    assert_eq!(daemon.run(&["transcript", "session-1", "--at", "999999"]).code, Some(0));
}

#[test]
fn a_question_that_waits_stands_at_the_end_with_what_to_type() {
    let daemon = daemon();
    daemon.ok(&["send", "--no-wait", "session-1", "ask 1 Delete everything"]);
    until("a question", || {
        (daemon.show("session-1").status == protocol::api::Status::RequiresAction).then_some(())
    });
    let last = |args: &[&str]| daemon.ok(args).lines().last().unwrap_or_default().to_owned();
    let shown = last(&["transcript", "session-1"]);
    assert!(
        shown.starts_with("[waits] permission-") && shown.contains("`kennel permissions allow permission-"),
        "{shown}"
    );
    assert!(!last(&["--json", "transcript", "session-1"]).contains("kennel permissions"));
    daemon.ok(&["abort", "session-1"]);
    let shown = until("the end", || {
        Some(last(&["transcript", "session-1"])).filter(|last| !last.starts_with("[waits]"))
    });
    assert!(!shown.contains("kennel permissions allow"), "{shown}");
}

#[test]
fn each_part_is_an_object_for_programs() {
    let daemon = daemon();
    daemon.ok(&["send", "session-1", "say yes"]);
    for args in [&["--format", "json"][..], &["--json"]] {
        let args = [&["transcript", "session-1"], args].concat();
        let parts = daemon.ok(&args);
        let parts: Vec<serde_json::Value> =
            parts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let kinds: Vec<&str> = parts.iter().map(|part| part["part"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["prompt", "message", "end"], "{parts:?}");
        assert_eq!(
            (parts[1]["text"].as_str(), parts[2]["outcome"].as_str()),
            (Some("yes"), Some("completed"))
        );
    }
}

#[test]
fn a_crash_and_what_came_back_stand_in_it() {
    let daemon = daemon();
    daemon.ok(&["send", "session-1", "say before"]);
    let info: serde_json::Value = serde_json::from_str(&daemon.ok(&["--json", "show", "session-1"])).unwrap();
    kill(u32::try_from(info["pid"].as_u64().unwrap()).unwrap());
    let shown = until("its replacement", || {
        let shown = daemon.ok(&["transcript", "session-1"]);
        shown.contains("the session is back").then_some(shown)
    });
    assert!(shown.contains("the session is restarting"), "{shown}");
}

#[test]
fn a_document_holds_what_was_said_and_runs_nothing() {
    let daemon = daemon();
    daemon.ok(&["send", "session-1", "say <script>alert(1)</script>"]);
    let file = daemon.dir.path().join("out.html");
    let path = file.display().to_string();
    daemon.ok(&["export", "session-1", "--format", "html", "-o", &path]);
    let page = fs::read_to_string(&file).unwrap();
    assert!(page.contains("<title>session-1: mine</title>") && page.contains("default-src 'none'"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script"), "{page}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // It is not written over.
    let again = daemon.run(&["export", "session-1", "--format", "html", "-o", &path]);
    assert_eq!((again.code, fs::read_to_string(&file).unwrap()), (Some(1), page), "{}", again.stderr);
    assert!(again.stderr.contains("there is no new file"), "{again:?}");
    let events = daemon.ok(&["export", "session-1", "--format", "jsonl"]);
    assert_eq!(events, daemon.ok(&["--json", "events", "session-1"]));
    assert!(daemon.ok(&["export", "session-1"]).starts_with("# session-1: mine\n"));
}

#[test]
fn a_program_that_fails_is_told_with_its_exit() {
    let daemon = daemon();
    daemon.ok(&["start", "--title", "plain"]);
    daemon.run(&["send", "session-2", "echo '# no heading'; exit 7"]);
    let shown = daemon.ok(&["transcript", "session-2"]);
    assert!(
        shown.lines().last().unwrap().starts_with("failed after ") && shown.contains("exit status 7"),
        "{shown}"
    );
    let end = daemon.ok(&["--json", "transcript", "session-2"]);
    let end: serde_json::Value = serde_json::from_str(end.lines().last().unwrap()).unwrap();
    assert_eq!(end["exit"]["code"], 7, "{end}");
    // A program's output is no Markdown.
    let document = daemon.ok(&["export", "session-2"]);
    assert!(document.contains("```\n# no heading\n```"), "{document}");
}

#[test]
fn a_turn_that_goes_on_at_a_time_is_shown_with_its_prompt() {
    let daemon = daemon();
    daemon.ok(&["start", "--title", "plain"]);
    daemon.ok(&["send", "session-2", "echo before"]);
    let events = daemon.ok(&["--json", "events", "session-2"]);
    let at = |kind: &str| {
        let events = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let found = events.into_iter().find(|event| event["type"] == kind).unwrap();
        found["at"].as_str().unwrap().to_owned()
    };
    daemon.ok(&["send", "session-2", "sleep 1; echo after"]);
    let all = daemon.ok(&["--json", "transcript", "session-2"]);
    let last: serde_json::Value = serde_json::from_str(all.lines().last().unwrap()).unwrap();
    let since = last["at"].as_str().unwrap();
    assert!(since > at("turn.completed").as_str(), "{all}");
    let shown = daemon.ok(&["transcript", "session-2", "--since", since]);
    assert!(shown.contains("> sleep 1; echo after") && !shown.contains("echo before"), "{shown}");
}

#[test]
fn times_are_of_the_zone_that_the_person_is_in() {
    let daemon = daemon();
    daemon.ok(&["send", "session-1", "say hi"]);
    let hour = |zone: &str| {
        let mut command = daemon.command(&["transcript", "session-1"]);
        let output = harness::daemon::finish(command.env("TZ", zone).spawn().unwrap());
        output.stdout[..16].to_owned()
    };
    // Minutes apart at most, and hours between them.
    let (here, there) = (hour("UTC"), hour("Asia/Tokyo"));
    assert!(
        std::path::Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() == (here[11..13] != there[11..13]),
        "{here} {there}"
    );
    assert_ne!(hour("UTC"), hour("XXX-9"));
}
