//! Sessions of another machine.

mod cuts;
mod hostile;
mod tls;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use harness::daemon::finish;
use harness::far::Far;
use harness::real::*;
use manager::protocol::api::{Problem, SessionInfo, Status};

#[test]
fn commands_mean_the_daemon_of_another_machine() {
    let far = Far::new();
    let status = far.run(&["daemon", "status"]);
    assert_eq!(
        (status.code, &*status.stdout),
        (Some(6), "state: stopped\n"),
        "a look starts no daemon: {status:#?}"
    );
    assert_eq!(far.ok(&["start", "--title", "far"]), "session-1\n");
    let there = far.daemon.show("session-1");
    assert_eq!(there.workdir, far.home().display().to_string(), "without a directory it is the home there");
    assert_eq!(
        far.ok(&["send", "session-1", "pwd; echo $HOME"]),
        format!("{0}\n{0}\n", far.home().display())
    );
    assert!(far.ok(&["ls"]).contains("far"));
    assert!(far.ok(&["show", "session-1"]).contains("title:        far"));
    assert!(far.ok(&["events", "session-1"]).contains("prompt.accepted"));
    assert!(far.ok(&["daemon", "status"]).contains("running"));
    let missing = far.run(&["show", "nobody"]);
    assert_eq!(missing.code, Some(4));
    assert!(missing.stderr.starts_with("error: ssh://box/"), "an error names the machine: {missing:#?}");
    far.ok(&["daemon", "stop"]);
    assert_eq!(far.daemon.run(&["daemon", "status"]).code, Some(6), "it is stopped when the command returns");
    assert_eq!(far.daemon.run(&["ls"]).code, Some(0), "and the next has its sessions");
}

#[test]
fn the_session_of_a_directory_is_that_of_the_machines_directory() {
    let far = Far::new();
    let app = far.home().join("app");
    std::fs::create_dir(&app).unwrap();
    std::os::unix::fs::symlink(&app, far.home().join("link")).unwrap();
    let id = far.daemon.ok(&["id", "--dir", app.to_str().unwrap()]);
    for dir in ["app", "~/app", "~/link", "link/", app.to_str().unwrap()] {
        assert_eq!(far.ok(&["id", "--dir", dir]), id, "{dir}");
    }
    assert_eq!(far.ok(&["ensure", "app"]), id);
    // Attached by its address: no name, no option.
    let address = format!("ssh://box{}", app.display());
    let mut attach = far.bare(&["attach", &address]).stdin(Stdio::piped()).spawn().unwrap();
    attach.stdin.take().unwrap().write_all(b"basename $PWD\n").unwrap();
    let output = finish(attach);
    // That address has no state directory: it is the daemon of the user's own.
    assert!(output.stdout.contains("app\n"), "{output:#?}");
    let own = far.home().join(".local/state/kennel");
    assert!(own.join("journal.db").exists(), "{output:#?}");
    let stop = far.bare(&["-H", &format!("ssh://box{}", own.display()), "daemon", "stop"]);
    assert_eq!(finish({ stop }.spawn().unwrap()).code, Some(0));
}

#[test]
fn machines_have_names() {
    let far = Far::new();
    let run = |args: &[&str]| finish(far.bare(args).spawn().unwrap());
    let ok = |args: &[&str]| {
        let output = run(args);
        assert_eq!(output.code, Some(0), "{args:?}: {output:#?}");
        output.stdout
    };
    assert_eq!(ok(&["host", "add", "box", &far.address()]), "box\n");
    assert_eq!(ok(&["host", "add", "box", &far.address()]), "box\n", "the same again changes nothing");
    assert_eq!(run(&["host", "add", "box", "ssh://other"]).code, Some(7));
    for name in ["local", "-x", "", "a b", "../x"] {
        assert_eq!(run(&["host", "add", "--", name, "ssh://x"]).code, Some(2), "{name}");
    }
    assert_eq!(ok(&["-H", "box", "start", "--id", "one"]), "one\n");
    let typo = run(&["-H", "bok", "ls"]);
    assert!(typo.code == Some(2) && typo.stderr.contains("did you mean `box`?"), "{typo:#?}");
    assert_eq!(run(&["-H", "box", "--state-dir", "/x", "ls"]).code, Some(2));
    let by_variable =
        |host: &str, args: &[&str]| finish(far.bare(args).env("KENNEL_HOST", host).spawn().unwrap());
    assert!(by_variable("box", &["ls"]).stdout.contains("one"));
    assert!(!by_variable("box", &["-H", "local", "ls"]).stdout.contains("one"), "what is typed comes first");
    // The default of all commands, where no variable names a daemon.
    assert_eq!(ok(&["host", "use", "box"]), "box\n");
    let default = |args: &[&str]| {
        let mut command = far.bare(args);
        let here = far.daemon.dir.path().join("here");
        command.env_remove("KENNEL_STATE_DIR").env("XDG_STATE_HOME", &here).env("HOME", here);
        command
    };
    assert!(finish(default(&["ls"]).spawn().unwrap()).stdout.contains("one"));
    let inside = "00000000-0000-0000-0000-000000000000/session-1/1";
    let inside = finish(default(&["ls"]).env("KENNEL_SESSION", inside).spawn().unwrap());
    assert_eq!(inside.code, Some(6), "an agent's commands mean its own daemon: {inside:#?}");
    assert!(ok(&["host", "ls"]).contains("box    *"));
    ok(&["host", "rm", "box"]);
    assert!(!ok(&["host", "ls"]).contains("box"));
    assert_eq!(run(&["host", "rm", "box"]).code, Some(2));
    ok(&["daemon", "stop"]);
}

#[test]
fn a_machine_that_does_not_answer_is_a_row() {
    let far = Far::new();
    let run = |args: &[&str]| finish(far.bare(args).spawn().unwrap());
    run(&["host", "add", "box", &far.address()]);
    run(&["host", "add", "empty", "ssh://box/~/nothing"]);
    far.ok(&["start", "--id", "there"]);
    far.replace(&format!(
        "case \"$*\" in *nothing*) echo 'no route to host' >&2; exit 255 ;; esac\n. {}",
        far.kept().display()
    ));
    let listed = run(&["ls", "--all-hosts"]);
    assert_eq!(listed.code, Some(0), "{listed:#?}");
    let lines: Vec<Vec<&str>> = listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..4], ["HOST", "NAME", "ID", "STATUS"]);
    assert_eq!(lines[1], ["local", "-", "-", "-", "no", "daemon", "runs", "-", "-", "-", "-", "-", "-", "-"]);
    assert_eq!(lines[2][..4], ["box", "there", "there", "idle"]);
    assert_eq!(lines[3][..4], ["empty", "-", "-", "unreachable"]);
    assert!(lines[3].windows(4).any(|words| words == ["no", "route", "to", "host"]), "{listed:#?}");
    let json = run(&["ls", "--all-hosts", "--json"]);
    let list: Vec<serde_json::Value> = serde_json::from_str(&json.stdout).unwrap();
    let session: SessionInfo = serde_json::from_value(list[0].clone()).unwrap();
    assert_eq!((session.status, list[0]["host"].as_str()), (Status::Idle, Some("box")));
    assert!(list[1]["error"].as_str().unwrap().contains("no route to host"), "{json:#?}");
    assert!(!far.home().join("nothing").exists(), "to list starts no daemon");
}

#[test]
fn what_belongs_to_the_machine_itself_is_refused_and_says_so() {
    let far = Far::new();
    for command in [
        &["daemon", "run"][..],
        &["daemon", "unit"],
        &["daemon", "restart"],
        &["daemon", "upgrade"],
        &["daemon", "check"],
        &["doctor"],
        &["mcp"],
        &["connect-stdio"],
    ] {
        let output = far.run(command);
        assert_eq!(output.code, Some(2), "{command:?}: {output:#?}");
        assert!(output.stderr.contains("works on the machine itself; nothing was done"), "{output:#?}");
    }
    let typed = finish(far.bare(&["connect-stdio"]).stdin(Stdio::null()).spawn().unwrap());
    assert!(typed.code == Some(2) && typed.stderr.contains("kennel -H ssh://HOST"), "{typed:#?}");
    assert_eq!(far.starts(), [0; 0], "nothing was asked of the machine");
}

#[test]
fn an_editor_here_works_with_an_agent_there() {
    let far = Far::new();
    std::fs::create_dir(far.home().join("app")).unwrap();
    let mut editor = far.command(&["acp", "--dir", "app"]).stdin(Stdio::piped()).spawn().unwrap();
    let capabilities = r#"{"fs":{"readTextFile":true,"writeTextFile":true},"terminal":true}"#;
    let lines = [
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":1,"clientCapabilities":{capabilities}}}}}"#
        ),
        r#"{"jsonrpc":"2.0","id":2,"method":"session/new","params":{"cwd":"/only/here","mcpServers":[]}}"#
            .to_owned(),
    ];
    let mut stdin = editor.stdin.take().unwrap();
    for line in lines {
        writeln!(stdin, "{line}").unwrap();
    }
    let session = until("the editor's session", || far.daemon.json::<Vec<SessionInfo>>(&["ls"]).pop());
    assert_eq!(session.workdir, far.home().join("app").display().to_string());
    drop(stdin);
    let output = finish(editor);
    assert!(output.stdout.contains(session.id.as_str()), "{output:#?}");
    let events = format!("{:?}", far.daemon.events());
    assert!(!events.contains("read_file") && !events.contains("terminal"), "offered unasked: {events}");
}

#[test]
fn all_requests_of_a_command_share_one_connection() {
    let far = Far::new();
    far.ok(&["start"]);
    let before = far.starts().len();
    far.ok(&["send", "session-1", "echo one"]);
    assert_eq!(far.starts().len(), before + 1);
}

#[test]
fn a_problem_of_the_machine_reaches_the_client_whole() {
    let far = Far::new();
    std::fs::write(far.home().join("file"), "no directory").unwrap();
    std::fs::create_dir(far.home().join("open")).unwrap();
    std::fs::set_permissions(far.home().join("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
    for (state_dir, says) in [("file", "is no directory"), ("open", "and none can be started")] {
        let host = format!("ssh://box/~/{state_dir}");
        let output = finish(far.bare(&["--json", "-H", &host, "ls"]).spawn().unwrap());
        let problem: Problem =
            serde_json::from_str(&output.stderr).unwrap_or_else(|error| panic!("{error}: {output:#?}"));
        assert_eq!((output.code, &*problem.code), (Some(6), "daemon_unreachable"), "{problem:?}");
        assert!(
            problem.detail.starts_with(&format!("{host}: ")) && problem.detail.contains(says),
            "{problem:?}"
        );
    }
}
