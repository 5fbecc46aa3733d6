//! `kennel permissions` and `kennel answer`: what an agent asks for is shown in full, and answered by what is shown.

use harness::daemon::{CommandOutput, Daemon, finish};
use harness::real::*;
use manager::protocol::api::{Accepted, PermissionInfo, Problem};

/// A daemon whose session `web` (`session-1`) asks what these steps say.
fn asking(steps: &str) -> Daemon {
    let daemon = Daemon::with_acp("x");
    daemon.ok(&["start", "--agent", "x", "--name", "web"]);
    ask(&daemon, steps);
    daemon
}

fn ask(daemon: &Daemon, steps: &str) {
    daemon.json::<Accepted>(&["send", "--no-wait", "web", steps]);
    daemon.ok(&["wait", "web", "--until", "requires_action", "--timeout", "30s"]);
}

fn waiting(daemon: &Daemon) -> Vec<PermissionInfo> {
    daemon.json(&["permissions", "ls"])
}

/// The last answer that the agent heard.
fn answered(daemon: &Daemon) -> String {
    daemon.idle("web");
    let text = daemon.ok(&["transcript", "web", "--last", "1"]);
    text.lines().filter_map(|line| line.split_once("answered ")).map(|(_, with)| with.to_owned()).collect()
}

/// Runs a command at a terminal of so many columns.
fn at_a_terminal(daemon: &Daemon, line: &str, columns: usize) -> CommandOutput {
    let plain = daemon.command(&[]);
    let mut script = std::process::Command::new("script");
    script.args([
        "-qec",
        &format!("stty cols {columns} rows 50; {} {line}", kennel().display()),
        "/dev/null",
    ]);
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    script.env("TERM", "xterm").current_dir(daemon.workdir());
    script.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    finish(script.stderr(std::process::Stdio::piped()).spawn().unwrap())
}

#[test]
fn a_permission_is_shown_in_full_with_its_session_and_its_options() {
    let words: Vec<String> = (0..300).map(|number| format!("word{number:03}")).collect();
    let command = format!("rm -rf {}", words.join(" "));
    let daemon = asking(&format!("ask-command {command}"));
    let listed = daemon.ok(&["permissions", "ls"]);
    let id = waiting(&daemon)[0].permission_id;
    assert!(listed.starts_with(&format!("{id}  web (session-1)\n")), "{listed}");
    for line in [
        &format!("  $ {command}\n"),
        "  1) Yes (allow once; yes)\n",
        "  2) Always (allow always; always)\n",
        "  3) No (reject once; no)\n",
        "`kennel answer permission-",
    ] {
        assert!(listed.contains(line), "{line}: {listed}");
    }
    let narrow = at_a_terminal(&daemon, "permissions ls", 30).stdout.replace('\r', "");
    assert!(narrow.lines().all(|line| line.chars().count() <= 30), "{narrow}");
    let joined: Vec<&str> = narrow.split_whitespace().collect();
    assert!(joined.join(" ").contains(&command), "{narrow}");
    // Of one session alone, and of one that waits for nothing.
    daemon.ok(&["start", "--id", "other"]);
    assert_eq!(daemon.ok(&["permissions", "ls", "web"]), listed);
    assert_eq!(daemon.ok(&["permissions", "ls", "other"]), "");
}

#[test]
fn a_permission_is_answered_by_session_with_what_the_list_shows() {
    let daemon = asking("ask t1");
    for (words, option) in [
        (&["2"][..], "always"),
        (&["always"], "always"),
        (&["allow once"], "yes"),
        (&["--allow"], "yes"),
        (&["--deny"], "no"),
    ] {
        if waiting(&daemon).is_empty() {
            ask(&daemon, "ask t1");
        }
        let output = daemon.run(&[&["answer", "web"], words].concat());
        assert_eq!((output.code, &*output.stdout), (Some(0), ""), "{words:?}: {output:?}");
        assert!(output.stderr.contains("web (session-1): permission-"), "{output:?}");
        assert_eq!(answered(&daemon), option, "{words:?}");
    }
    for verb in ["allow", "deny"] {
        ask(&daemon, "ask t1");
        daemon.ok(&["permissions", verb, "web"]);
        assert_eq!(answered(&daemon), if verb == "allow" { "yes" } else { "no" });
    }
}

#[test]
fn an_answer_that_is_ambiguous_or_too_late_changes_nothing_and_tells_what_to_type() {
    let daemon = asking("choose a plan");
    let refused = |args: &[&str], code: i32, problem: &str| {
        let text = daemon.run(args);
        assert_eq!(text.code, Some(code), "{args:?}: {text:?}");
        let json: Vec<&str> = ["--json"].iter().chain(args).copied().collect();
        let told: Problem = serde_json::from_str(&daemon.run(&json).stderr).unwrap();
        assert_eq!(told.code, problem, "{args:?}");
        text.stderr
    };
    let two = refused(&["answer", "web", "allow once"], 2, "ambiguous_option");
    assert!(two.contains("1) Plan A (allow once; a), 2) Plan B (allow once; b)"), "{two}");
    refused(&["answer", "web", "7"], 2, "no_such_option");
    refused(&["answer", "web"], 2, "usage");
    refused(&["answer", "web", "1", "--deny"], 2, "usage");
    refused(&["answer", "nobody", "1"], 4, "no_such_session");
    let first = waiting(&daemon)[0].permission_id.to_string();
    daemon.ok(&["answer", &first, "plan b"]);
    assert_eq!(answered(&daemon), "b");
    let late = refused(&["answer", &first, "1"], 7, "permission_settled");
    assert!(late.contains("kennel permissions ls"), "{late}");
    refused(&["answer", "web", "1"], 7, "permission_settled");
    ask(&daemon, "ask-both t1 t2");
    until("both", || (waiting(&daemon).len() == 2).then_some(()));
    let both = refused(&["answer", "web", "1"], 7, "ambiguous_permission");
    let ids: Vec<String> = waiting(&daemon).iter().map(|waiting| waiting.permission_id.to_string()).collect();
    assert!(ids.iter().all(|id| both.contains(id)) && both.contains("kennel answer permission-"), "{both}");
    refused(&["permissions", "allow", "web"], 7, "ambiguous_permission");
    assert_eq!(waiting(&daemon).len(), 2);
    daemon.ok(&["answer", &ids[0], "1"]);
    daemon.ok(&["answer", "web", "3"]);
    daemon.idle("web");
    assert!(daemon.ok(&["transcript", "web", "--last", "1"]).contains("t1 yes, t2 no"));
}
