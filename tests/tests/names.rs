//! Names and labels as people use them, over restarts of the daemon.

use harness::daemon::Daemon;
use harness::real::kill;
use protocol::api::SessionInfo;

use crate::terminal::{in_terminal, in_terminal_until};

fn name(info: &SessionInfo) -> &str {
    info.name.as_ref().map_or("", |name| name.as_str())
}

#[test]
fn a_name_stands_wherever_an_id_does_and_outlives_the_daemon() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--name", "web", "--label", "team=front"]);
    let other: SessionInfo = daemon.json(&["start"]);
    assert_eq!(name(&other), daemon.workdir().file_name().unwrap().to_str().unwrap().trim_start_matches('.'));
    assert!(daemon.ok(&["send", "web", "echo hello"]).contains("hello"));
    for typed in ["web", "1", "we"] {
        let shown = daemon.ok(&["show", typed]);
        assert!(shown.contains("session-1") && shown.contains("team=front"), "{typed}: {shown}");
    }
    for args in [
        &["transcript", "web"][..],
        &["events", "web"],
        &["logs", "web"],
        &["queue", "ls", "web"],
        &["wait", "web"],
        &["pin", "web"],
        &["restart", "web"],
        &["token", "web"],
    ] {
        daemon.ok(args);
    }
    let renamed = daemon.ok(&["rename", "web", "site", "--title", "Mend the page"]);
    assert_eq!(renamed.trim(), "site");
    assert_eq!(daemon.run(&["show", "web"]).code, Some(4));
    let hint = daemon.run(&["show", "Mend the page"]);
    assert!(hint.code == Some(4) && hint.stderr.contains("session-1"), "{hint:?}");
    kill(daemon.pid());
    assert_eq!(daemon.show("site").id.as_str(), "session-1");
    assert_eq!(daemon.ok(&["label", "site", "team-", "ticket=42"]).trim(), "ticket=42");
    assert_eq!(daemon.ok(&["label", "site"]).trim(), "ticket=42");
    let told = daemon.run(&["label", "site", "ticket=43", "team-", "a=b"]);
    assert!(
        told.stderr.contains("site (session-1): a=b added, team was not there, ticket=43 (was 42)"),
        "{told:?}"
    );
    daemon.ok(&["label", "site", "ticket=42", "a-"]);
    daemon.ok(&["stop", "site"]);
    daemon.ok(&["rm", "site"]);
    // Its name is free.
    daemon.ok(&["rename", other.id.as_str(), "site"]);
}

#[test]
fn a_wrong_name_changes_nothing_and_says_what_one_is() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--name", "web"]);
    daemon.ok(&["start", "--id", "box"]);
    for (args, code, said) in [
        (
            &["start", "--name", "web"][..],
            7,
            "`web` is the name of session `session-1` already; nothing was started",
        ),
        (&["start", "--name", "7"], 2, "`--name`: `7` is not a session's name; nothing was started"),
        (&["start", "--name", "a b"], 2, "an example of a name: `web-2`"),
        (&["start", "--id", "5"], 2, "a number alone means the session `session-5`; nothing was started"),
        (&["ensure", "--id", "5"], 2, "a number alone means the session `session-5`; nothing was started"),
        (&["subagent", "start", "--id", "5", "true"], 2, "a number alone means"),
        (&["start", "--id", "web"], 7, "`web` is the name of session `session-1`"),
        (&["rename", "web", "box"], 7, "`box` is the name of session `box` already; nothing was changed"),
        (&["rename", "web", "session-9"], 2, "is not a session's name"),
        (&["rename", "web"], 2, "required"),
        (&["label", "web", "team"], 2, "LABEL=VALUE"),
        (&["label", "web", "a b=c"], 2, "is no label"),
        (&["start", "--label", "a b=c"], 2, "`--label`: `a b` is no label"),
        (&["start", "--label", "team"], 2, "LABEL=VALUE"),
    ] {
        let output = daemon.run(args);
        assert!(output.stderr.contains(said), "{args:?}: {output:?}");
        assert_eq!(output.code, Some(code), "{args:?}: {output:?}");
    }
    let list: Vec<SessionInfo> = daemon.json(&["ls", "--all"]);
    assert_eq!(list.iter().map(name).collect::<Vec<_>>(), ["web", "box"]);
    assert!(list.iter().all(|info| info.labels.is_empty() && info.title.is_none()));
}

#[test]
fn to_remove_takes_the_whole_id_or_name_so_that_a_repeated_command_meets_no_other() {
    let daemon = Daemon::new();
    for id in ["session-8", "session-80", "box-2"] {
        daemon.ok(&["start", "--id", id]);
    }
    assert_eq!(daemon.ok(&["rm", "--force", "session-8"]), "session-8\n");
    for typed in ["session-8", "8", "box", "session-"] {
        let output = daemon.run(&["rm", "--force", typed]);
        assert_eq!((output.code, output.stdout.as_str()), (Some(4), ""), "{typed}: {output:?}");
    }
    assert_eq!(daemon.run(&["show", "session-8"]).code, Some(4));
    let output = daemon.run(&["rm", "--force", "bo"]);
    assert!(output.stderr.contains("`kennel rm` takes whole ids and names"), "{output:?}");
    assert_eq!(daemon.show("box").id.as_str(), "box-2");
    daemon.ok(&["rename", "box-2", "crate"]);
    assert_eq!(daemon.ok(&["rm", "--force", "crate", "80"]), "box-2\nsession-80\n");
}

#[test]
fn a_person_at_a_terminal_reads_name_and_id_and_a_pipe_gets_one_of_them() {
    let daemon = Daemon::new();
    let started = in_terminal(&daemon, &["start", "--name", "web"]);
    assert!(started.contains("session-1\r\n") && started.contains("started web (session-1)"), "{started}");
    assert_eq!(daemon.ok(&["start", "--name", "other"]), "session-2\n");
    for verb in ["pin", "restart", "stop", "restart"] {
        let shown = in_terminal(&daemon, &[verb, "web"]);
        assert!(shown.contains("web (session-1)\r\n"), "{verb}: {shown}");
        let quiet = in_terminal(&daemon, &["-q", verb, "other"]);
        assert!(quiet.contains("session-2\r\n") && !quiet.contains("other ("), "{verb}: {quiet}");
        assert_eq!(daemon.ok(&[verb, "web"]), "session-1\n");
    }
    assert!(in_terminal(&daemon, &["rename", "web", "site"]).contains("site (session-1)\r\n"));
    daemon.idle("site");
    let heading = "attached to site (session-1), idle";
    let attached = in_terminal_until(&daemon, &["attach", "--plain", "site"], heading);
    assert!(
        attached.contains(heading) && attached.contains("detached; site (session-1) goes on"),
        "{attached}"
    );
}
