//! Agents and dead clients that reach the manager's socket.

use std::path::PathBuf;
use std::process::Stdio;

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::SessionInfo;
use nix::sys::signal::Signal;

use super::{daemon, start, token};
use crate::containment::{User, users};

/// A way to the daemon's socket from within a sandbox, whatever that hides: another name of the same socket.
fn another_name(daemon: &Daemon) -> PathBuf {
    let name = daemon.dir.path().join("work/api");
    let _ = std::fs::remove_file(&name);
    std::fs::hard_link(daemon.socket(), &name).unwrap();
    name
}

#[test]
fn an_agent_that_reaches_the_socket_is_not_the_owner() {
    let profiles = "[agents.boxed]\nkind = \"command\"\ncommand = [\"FIXTURE\"]\nprompt_via = \"argument\"\nsandbox = \"strict\"\n\
        [agents.apart]\nkind = \"command\"\ncommand = [\"FIXTURE\"]\nprompt_via = \"argument\"\n\
        [agents.plain]\nkind = \"command\"\ncommand = [\"FIXTURE\"]\nprompt_via = \"argument\"\ncontainment = \"subreaper\"\n";
    for user in users() {
        let daemon = daemon(*user, profiles);
        for agent in ["boxed", "apart", "plain"] {
            start(&daemon, agent, agent);
        }
        daemon.ok(&["start", "--id", "other"]);
        let others = token(&daemon, "other");
        // The next daemon's workers are not its children, and its socket is another one.
        for round in ["first", "after a restart"] {
            let socket = another_name(&daemon).display().to_string();
            let tries = |agent: &str, requests: &[&str]| {
                let script: Vec<String> = requests.iter().map(|one| format!("http {socket} {one}")).collect();
                let output = daemon.ok(&["send", agent, &script.join("; ")]);
                output.lines().map(str::to_owned).collect::<Vec<_>>()
            };
            let owners = [
                "GET /v1/sessions - -",
                "POST /v1/sessions - {}",
                "GET /v1/sessions/other - -",
                "GET /v1/sessions/other/token - -",
                "POST /v1/sessions/other/prompts - {\"text\":\"echo\"}",
                "POST /v1/manager/stop - -",
                "POST /v1/bootstrap - {\"workdir\":\"/\"}",
                "DELETE /v1/sessions/other?force=true - -",
            ];
            for agent in ["boxed", "apart", "plain"] {
                let what = format!("{user:?} {agent} {round}");
                assert_eq!(tries(agent, &owners), vec!["403 forbidden"; owners.len()], "{what}");
                let own = format!("GET /v1/sessions/{agent} - -");
                let mine = if agent == "boxed" { "403 forbidden" } else { "200" };
                assert_eq!(tries(agent, &[&own, "GET /v1/subagents - -"]), [mine, mine], "{what}");
                // By its token it may look at itself, and not more than its agent may; in a sandbox by no other.
                let token = token(&daemon, agent);
                let requests = [
                    format!("GET /v1/sessions/{agent} {token} -"),
                    format!("POST /v1/sessions/{agent}/prompts {token} {{\"text\":\"say\"}}"),
                    format!("GET /v1/sessions/other {others} -"),
                ];
                let by_another = if agent == "boxed" { "403 forbidden" } else { "200" };
                let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
                assert_eq!(tries(agent, &requests), ["200", "403 forbidden", by_another], "{what}");
            }
            daemon.ok(&["daemon", "restart"]);
            for agent in ["boxed", "apart", "plain"] {
                daemon.idle(agent);
            }
        }
        assert!(daemon.show("other").pid.is_some_and(lives), "the owner is the owner");
    }
}

#[test]
fn a_process_that_has_left_its_parents_is_still_its_sessions() {
    let daemon = daemon(User::Own, "[agents.plain]\nkind = \"shell\"\ncontainment = \"subreaper\"\n");
    start(&daemon, "plain", "plain");
    for _ in 0..2 {
        let fixture = daemon.dir.path().join("bin/fixture-agent").display().to_string();
        let socket = daemon.socket().display().to_string();
        // Its parents are gone, and its environment is empty. It writes the answer once they are gone.
        let script = format!(
            "sleep 20ms; http {socket} GET /v1/sessions - -; http {socket} GET /v1/sessions/plain - -"
        );
        let prompt = format!(
            "rm -f out; setsid -f env -i {fixture} --script '{script}' > out; until [ $(wc -l < out) = 2 ]; do sleep 0.02; done; cat out"
        );
        assert_eq!(daemon.ok(&["send", "plain", &prompt]), "403 forbidden\n200\n");
        daemon.ok(&["daemon", "restart"]);
        daemon.idle("plain");
    }
    let says =
        "exec env -i KENNEL_STATE_DIR=$PWD/../state XDG_RUNTIME_DIR=$PWD/.. HOME=$PWD $PWD/../bin/kennel ls";
    let output = daemon.run(&["send", "plain", says]);
    assert!(
        output.stderr.contains("agent of session `plain`")
            || output.stdout.contains("agent of session `plain`"),
        "{output:#?}"
    );
}

#[test]
fn a_client_that_is_dead_before_the_daemon_looks_is_not_the_owner() {
    let daemon = daemon(User::Own, "");
    daemon.ok(&["daemon", "start"]);
    let (manager, socket) = (daemon.pid(), daemon.socket().display().to_string());
    signal(manager, Signal::SIGSTOP);
    let mut dying = std::process::Command::new(beside("fixture-agent"));
    let script = format!("http {socket} POST /v1/sessions - {{}}");
    let mut dying = dying.args(["--script", &script]).stdin(Stdio::null()).spawn().unwrap();
    let process = format!("/proc/{}", dying.id());
    until("that it waits for its answer", || {
        let fds = std::fs::read_dir(format!("{process}/fd")).ok()?;
        let links = fds.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
        let connected = links.filter(|to| to.to_string_lossy().starts_with("socket:")).count() > 0;
        let status = std::fs::read_to_string(format!("{process}/status")).ok()?;
        (connected && status.contains("State:\tS")).then_some(())
    });
    dying.kill().unwrap();
    until("its death", || dying.try_wait().unwrap());
    signal(manager, Signal::SIGCONT);
    daemon.ok(&["start", "--id", "mine"]);
    daemon.idle("mine");
    let all: Vec<SessionInfo> = daemon.json(&["ls", "--all"]);
    assert_eq!(all.len(), 1, "{all:#?}");
}
