//! The daemon's reports on its configuration and its environment, its reactions to signals, and its start.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::daemon::{CommandOutput, Daemon, finish};
use harness::real::*;
use manager::protocol::api::{AgentInfo, ManagerInfo, SessionInfo, Status};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Returns a daemon with this configuration.
fn with_config(text: &str) -> Daemon {
    let daemon = Daemon::new();
    write(&config_of(&daemon), text);
    daemon
}

fn config_of(daemon: &Daemon) -> PathBuf {
    daemon.dir.path().join("kennel/config.toml")
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn run_in(daemon: &Daemon, args: &[&str], change: impl Fn(&mut Command)) -> CommandOutput {
    let mut command = daemon.command(args);
    change(&mut command);
    finish(command.spawn().unwrap())
}

fn findings(daemon: &Daemon, change: impl Fn(&mut Command)) -> Vec<Value> {
    serde_json::from_str(&run_in(daemon, &["--json", "doctor"], change).stdout).unwrap()
}

fn finding<'a>(findings: &'a [Value], name: &str) -> Option<&'a Value> {
    findings.iter().find(|finding| finding["name"] == name)
}

#[test]
fn the_daemon_says_which_configuration_it_reads_and_another_one_of_the_caller_is_told_as_not_read() {
    let daemon = with_config("[agents.daemons]\nkind = \"shell\"\n");
    let own = config_of(&daemon);
    daemon.ok(&["start", "--agent", "daemons"]);
    let info: ManagerInfo = daemon.json(&["daemon", "status"]);
    assert_eq!(info.config.as_deref(), own.to_str());
    let same = daemon.ok(&["daemon", "status"]);
    assert!(same.contains(own.to_str().unwrap()) && !same.contains("your config"), "{same}");
    // A link to the same file is the same file.
    let link = daemon.dir.path().join("link.toml");
    std::os::unix::fs::symlink(&own, &link).unwrap();
    let by_link = run_in(&daemon, &["daemon", "status"], |command| _ = command.env("KENNEL_CONFIG", &link));
    assert!(!by_link.stdout.contains("your config"), "{by_link:?}");
    let other = daemon.dir.path().join("other.toml");
    write(&other, "nonsense = 1\n");
    let by_home = daemon.dir.path().join("home");
    let changes: [&dyn Fn(&mut Command); 2] =
        [&|command| _ = command.env("KENNEL_CONFIG", &other), &|command| {
            command.env("XDG_CONFIG_HOME", &by_home);
        }];
    for change in changes {
        let output = run_in(&daemon, &["daemon", "status"], change);
        let line = |name: &str| output.stdout.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        assert!(line("config:").unwrap().ends_with(own.to_str().unwrap()), "{output:?}");
        let received = line("your config:").unwrap();
        assert!(
            received.contains("does not read") && received.contains("kennel daemon restart"),
            "{received}"
        );
        let findings = findings(&daemon, change);
        let read = finding(&findings, "configuration").unwrap();
        assert!(
            read["health"] == "ok" && read["found"].as_str().unwrap().contains(own.to_str().unwrap()),
            "{read}"
        );
        let received = finding(&findings, "your configuration").unwrap();
        assert!(
            received["health"] == "warning" && received["mend"].as_str().unwrap().contains("daemon restart"),
            "{received}"
        );
    }
    // The advice in the error works.
    let restarted =
        run_in(&daemon, &["daemon", "restart"], |command| _ = command.env("KENNEL_CONFIG", &other));
    assert_eq!(restarted.code, Some(0), "{restarted:?}");
    let info: ManagerInfo = daemon.json(&["daemon", "status"]);
    assert_eq!(info.config.as_deref(), other.to_str());
}

#[test]
fn a_configuration_that_is_named_and_not_there_starts_no_daemon_and_ends_none() {
    let daemon = Daemon::new();
    let named = daemon.dir.path().join("named.toml");
    let with = |args: &[&str]| run_in(&daemon, args, |command| _ = command.env("KENNEL_CONFIG", &named));
    for (args, code) in [(&["ls"][..], 6), (&["daemon", "run"], 1)] {
        let said = with(args);
        assert_eq!(said.code, Some(code), "{said:?}");
        let told = format!("KENNEL_CONFIG names {}: No such file", named.display());
        assert!(said.stderr.contains(&told) && said.stderr.contains("no daemon was started"), "{said:?}");
    }
    daemon.ok(&["start", "--id", "s"]);
    let before: ManagerInfo = daemon.json(&["daemon", "status"]);
    // The daemon reads its own file, whatever a client's environment names.
    assert_eq!(with(&["ls"]).code, Some(0));
    for command in ["restart", "upgrade"] {
        let said = with(&["daemon", command]);
        assert!(said.code == Some(1) && said.stderr.contains("KENNEL_CONFIG names"), "{said:?}");
    }
    assert_eq!(daemon.json::<ManagerInfo>(&["daemon", "status"]).pid, before.pid);
}

#[test]
fn the_unit_is_of_the_state_directory_the_configuration_and_the_socket_that_were_asked_for() {
    let daemon = Daemon::new();
    let lines = |args: &[&str], change: &dyn Fn(&mut Command)| -> Vec<String> {
        let output = run_in(&daemon, args, |command| {
            let home = daemon.dir.path().join("home");
            command
                .env_remove("KENNEL_STATE_DIR")
                .env_remove("XDG_CONFIG_HOME")
                .env_remove("XDG_STATE_HOME")
                .env("HOME", home);
            change(command);
        });
        assert_eq!(output.code, Some(0), "{output:?}");
        output
            .stdout
            .lines()
            .filter(|line| line.starts_with("ExecStart=") || line.starts_with("Environment="))
            .map(str::to_owned)
            .collect()
    };
    let exec = |rest: &str| format!("ExecStart=\"{}\" daemon run{rest}", kennel().display());
    let usual = daemon.dir.path().join("home/.local/state/kennel");
    let usual = exec(&format!(" --state-dir \"{}\"", usual.display()));
    assert_eq!(lines(&["daemon", "unit"], &|_| ()), [usual]);
    let asked = exec(" --state-dir \"/srv/agents\"");
    assert_eq!(
        lines(&["daemon", "unit", "--state-dir", "/srv/agents"], &|_| ()),
        std::slice::from_ref(&asked)
    );
    let by_environment = |command: &mut Command| {
        command
            .env("KENNEL_STATE_DIR", "/srv/agents")
            .env("KENNEL_CONFIG", "/srv/my 50%.toml")
            .env("KENNEL_SOCKET", "/srv/k.sock");
    };
    let config = "Environment=\"KENNEL_CONFIG=/srv/my 50%%.toml\"".to_owned();
    assert_eq!(
        lines(&["daemon", "unit"], &by_environment),
        [asked, config, "Environment=\"KENNEL_SOCKET=/srv/k.sock\"".to_owned()]
    );
}

#[test]
fn a_variable_of_env_pass_that_the_daemon_does_not_have_is_told_at_the_start_in_show_and_by_doctor() {
    let mut daemon = with_config(
        "[defaults]\nenv_pass = [\"FOR_ALL\"]\n[agents.mine]\nkind = \"shell\"\nenv_pass = [\"A_KEY\", \"PATH\"]\n\
         [agents.full]\nkind = \"shell\"\nenv_pass = [\"OTHER_KEY\"]\nenv = { OTHER_KEY = \"1\", FOR_ALL = \"1\" }\n\
         [agents.codex]\nkind = \"acp\"\nenv_pass = [\"CODEX_API_KEY\"]\n",
    );
    let started = daemon.run(&["start", "--agent", "mine", "--id", "one"]);
    assert_eq!((started.code, &*started.stdout), (Some(0), "one\n"), "{started:?}");
    assert!(
        started.stderr.contains("A_KEY, FOR_ALL") && started.stderr.contains("daemon restart"),
        "{started:?}"
    );
    assert!(!started.stderr.contains("PATH"), "{started:?}");
    assert_eq!(daemon.show("one").env_missing, ["A_KEY", "FOR_ALL"]);
    assert!(daemon.ok(&["show", "one"]).contains("A_KEY, FOR_ALL"));
    assert!(daemon.run(&["ensure", "--id", "one"]).stderr.contains("A_KEY"));
    let full = daemon.run(&["start", "--agent", "full", "--id", "full"]);
    assert!(full.code == Some(0) && full.stderr.is_empty(), "{full:?}");
    // A profile that kennel itself knows may miss variables; a variable in the configuration must be there.
    let agents: Vec<AgentInfo> = daemon.json(&["agents", "ls"]);
    let missing = |name: &str| agents.iter().find(|agent| agent.name == name).unwrap().env_missing.clone();
    assert_eq!(
        (missing("codex"), missing("claude")),
        (vec!["CODEX_API_KEY".to_owned(), "FOR_ALL".to_owned()], vec!["FOR_ALL".to_owned()])
    );
    let received = |daemon: &Daemon| {
        let findings = findings(daemon, |_| ());
        finding(&findings, "environment")
            .map(|received| (received["health"].clone(), received["found"].as_str().unwrap().to_owned()))
    };
    let (health, found) = received(&daemon).unwrap();
    assert!(health == "warning" && found.contains("A_KEY (mine)") && found.contains("FOR_ALL ("), "{found}");
    // The advice works: a daemon that has the variables reports nothing.
    for name in ["A_KEY", "FOR_ALL", "CODEX_API_KEY"] {
        daemon.set(name, "x");
    }
    daemon.ok(&["daemon", "restart"]);
    daemon.ok(&["restart", "one"]);
    assert_eq!(daemon.show("one").env_missing, [""; 0]);
    assert_eq!(daemon.ok(&["send", "one", "echo $A_KEY $FOR_ALL"]), "x x\n");
    assert_eq!(received(&daemon), None);
}

#[test]
fn a_variable_of_env_pass_that_is_empty_is_as_good_as_none() {
    let mut daemon = with_config("[agents.mine]\nkind = \"shell\"\nenv_pass = [\"A_KEY\", \"B_KEY\"]\n");
    daemon.set("A_KEY", "");
    daemon.set("B_KEY", "x");
    let started = daemon.run(&["start", "--agent", "mine", "--id", "one"]);
    assert!(started.stderr.contains("names A_KEY,"), "{started:?}");
    assert_eq!(daemon.show("one").env_missing, ["A_KEY"]);
}

#[test]
fn a_broken_configuration_is_its_owners_error_with_file_line_and_advice() {
    let daemon = with_config("[agents.good]\nkind = \"shell\"\n");
    daemon.ok(&["start", "--id", "before"]);
    let path = config_of(&daemon);
    std::fs::write(&path, "[agents.good]\nkind = \"shell\"\n\nnonsense = 1\n").unwrap();
    for args in [&["start"][..], &["ensure"], &["agents", "ls"], &["subagent", "start", "true"]] {
        let output = daemon.run(&[&["--json"], args].concat());
        let problem: Value =
            serde_json::from_str(&output.stderr).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!((output.code, problem["status"].as_u64()), (Some(2), Some(409)), "{args:?}: {output:?}");
        assert_eq!(problem["code"], "invalid_config");
        let place = format!("{}:4: ", path.display());
        assert!(problem["detail"].as_str().unwrap().starts_with(&place), "{problem}");
        assert!(problem["hint"].as_str().unwrap().contains("correct that line"), "{problem}");
    }
    // The existing session goes on.
    assert_eq!(daemon.ok(&["send", "before", "echo on"]), "on\n");
    assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls"]).len(), 1);
}

/// Returns the sentence of `daemon run --help` that names a signal.
fn sentence(help: &str, signal: &str) -> String {
    let text = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut sentences = text.split(". ");
    sentences
        .find(|sentence| sentence.contains(signal))
        .unwrap_or_else(|| panic!("{signal} is not in {text}"))
        .to_owned()
}

#[test]
fn each_signal_does_to_the_daemon_what_its_help_says() {
    let help = Daemon::new().ok(&["daemon", "run", "--help"]);
    for (signal, name, word, goes_on) in [
        (Signal::SIGTERM, "SIGTERM", "leave its sessions' processes to the next daemon", true),
        (Signal::SIGHUP, "SIGHUP", "leave its sessions' processes to the next daemon", true),
        (Signal::SIGINT, "SIGINT", "all processes of its sessions", false),
    ] {
        assert!(sentence(&help, name).contains(word), "{name}: {help}");
        let daemon = Daemon::new();
        daemon.ok(&["start", "--id", "one"]);
        daemon.ok(&["send", "--no-wait", "one", "until [ -e on ]; do sleep 0.05; done; echo after"]);
        daemon.ok(&["wait", "one", "--until", "running", "--timeout", "30s"]);
        let (worker, pid) = (daemon.show("one").pid.unwrap(), daemon.pid());
        harness::real::signal(pid, signal);
        until("the daemon's end", || (!lives(pid)).then_some(()));
        assert_eq!(lives(worker), goes_on, "{name}");
        std::fs::write(daemon.workdir().join("on"), "").unwrap();
        let after = daemon.idle("one");
        assert_eq!(after.pid == Some(worker), goes_on, "{name}");
        assert_eq!(after.status, Status::Idle, "{name}: the next daemon has it again");
    }
}

#[test]
fn a_daemon_that_is_killed_while_it_starts_is_started_again() {
    let daemon = Daemon::new();
    let command = daemon.spawn(&["start", "--id", "one"]);
    let parent = command.id();
    let mut killed = Vec::new();
    while killed.len() < 3 {
        let started = until("a daemon that starts", || {
            let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
            let mut children = children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
            children.find(|pid| !killed.contains(pid))
        });
        kill(started);
        killed.push(started);
    }
    let output = finish(command);
    assert_eq!((output.code, &*output.stdout), (Some(0), "one\n"), "{output:?}");
    daemon.idle("one");
}

/// Checks a daemon whose state directory is deleted or moved during a turn. It notices, reports it
/// everywhere, accepts nothing new, lets the turn end, and ends everything when it is stopped.
fn notices(daemon: &Daemon, delete: impl Fn(&Path)) {
    daemon.ok(&["start", "--id", "one"]);
    daemon.ok(&["send", "--no-wait", "one", "until [ -e on ]; do sleep 0.05; done; echo after > done"]);
    daemon.ok(&["wait", "one", "--until", "running", "--timeout", "30s"]);
    let (pid, worker) = (daemon.pid(), daemon.show("one").pid.unwrap());
    delete(&daemon.dir.path().join("state"));
    let status = || daemon.run(&["--json", "daemon", "status"]);
    until("the daemon's notice", || status().stdout.contains("\"state_dir_gone\"").then_some(()));
    // It locks its directory again, so that no client starts another one.
    until("the lock", || daemon.dir.path().join("state/lock").exists().then_some(()));
    assert_eq!(daemon.pid(), pid);
    let text = daemon.ok(&["daemon", "status"]);
    assert!(text.contains("was deleted") && text.contains("kennel daemon stop"), "{text}");
    let findings = findings(daemon, |_| ());
    assert_eq!(finding(&findings, "daemon").unwrap()["health"], "problem", "{findings:#?}");
    for args in [&["send", "one", "echo no"][..], &["start"], &["restart", "one"], &["queue", "clear", "one"]]
    {
        let output = daemon.run(&[&["--json"], args].concat());
        assert_eq!(output.code, Some(1), "{args:?}: {output:?}");
        assert!(
            output.stderr.contains("\"state_dir_gone\"") && output.stderr.contains("507"),
            "{args:?}: {output:?}"
        );
    }
    assert_eq!(daemon.show("one").status, Status::Running);
    std::fs::write(daemon.workdir().join("on"), "").unwrap();
    until("the turn's end", || daemon.workdir().join("done").exists().then_some(()));
    daemon.idle("one");
    daemon.ok(&["daemon", "restart"]);
    assert!(!lives(pid) && !lives(worker), "nobody could take the worker over");
    assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls", "--all"]), []);
    daemon.ok(&["start", "--id", "anew"]);
    delete(&daemon.dir.path().join("state"));
    until("the next daemon's notice", || status().stdout.contains("\"state_dir_gone\"").then_some(()));
    let output = daemon.run(&["daemon", "stop"]);
    assert!(
        output.stderr.contains("its state directory was deleted, and its sessions with it"),
        "{output:?}"
    );
}

#[test]
fn a_state_directory_that_is_deleted_under_its_daemon_is_noticed_and_said() {
    notices(&Daemon::new(), |state| std::fs::remove_dir_all(state).unwrap());
}

#[test]
fn a_state_directory_that_is_deleted_with_the_socket_in_it_is_noticed_and_said() {
    let mut daemon = Daemon::new();
    // No runtime directory: the socket is in the state directory.
    daemon.run_through(&["/usr/bin/env", "-u", "XDG_RUNTIME_DIR"]);
    notices(&daemon, |state| std::fs::remove_dir_all(state).unwrap());
}

#[test]
fn a_state_directory_behind_a_link_whose_target_is_deleted_is_noticed_and_said() {
    let mut daemon = Daemon::new();
    let [real, run] = ["real", "run"].map(|name| daemon.dir.path().join(name));
    for directory in [&real, &run] {
        std::fs::create_dir(directory).unwrap();
        std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
    // The socket outlives the directory.
    daemon.set("XDG_RUNTIME_DIR", run.to_str().unwrap());
    std::os::unix::fs::symlink("real", daemon.dir.path().join("state")).unwrap();
    notices(&daemon, |_| {
        std::fs::remove_dir_all(&real).unwrap();
        // Before the daemon notices, the socket is found by the place that the link names.
        daemon.run(&["ls"]);
    });
}

#[test]
fn a_state_directory_whose_content_is_deleted_is_noticed_and_said() {
    notices(&Daemon::new(), |state| {
        for entry in std::fs::read_dir(state).unwrap() {
            let path = entry.unwrap().path();
            // The daemon may remove a file of its own first.
            match path.is_dir() {
                true => std::fs::remove_dir_all(&path).unwrap(),
                false => assert!(std::fs::remove_file(&path).is_ok() || !path.exists(), "{}", path.display()),
            }
        }
    });
}

#[test]
fn a_daemon_whose_state_directory_another_one_has_taken_ends_with_its_sessions() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one"]);
    let (pid, worker) = (daemon.pid(), daemon.show("one").pid.unwrap());
    let state = daemon.dir.path().join("state");
    // Made elsewhere and moved into its place, so that no moment is without one.
    let other = daemon.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let lock = std::fs::File::create(other.join("lock")).unwrap();
    lock.lock().unwrap();
    std::fs::rename(&state, daemon.dir.path().join("away")).unwrap();
    std::fs::rename(&other, &state).unwrap();
    until("the daemon's end", || (!lives(pid) && !lives(worker)).then_some(()));
    drop(lock);
}
