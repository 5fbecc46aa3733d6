//! Errors of agents that fail in a sandbox name the sandbox and the paths to grant. Agents that kennel knows
//! have their state there.

use std::path::PathBuf;

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::Status;
use manager::protocol::event::EventKind;

use super::inheritance::without_bubblewrap;
use super::sandbox::makers;

/// The agents, each with the command that it runs first.
const AGENTS: [(&str, &str, &str); 4] = [
    ("writes", "acp", "mkdir ~/.mine/logs || exit 1; exec AGENT"),
    ("reads", "acp", "cat ~/.mine/settings >/dev/null || exit 1; exec AGENT"),
    ("codex", "acp", "echo started >>~/.codex/log || exit 1; exec AGENT"),
    ("each", "command", "cat >~/.mine/last || exit 1"),
];

fn daemon(sandbox: &str, by: manager::protocol::SandboxBy) -> (Daemon, PathBuf) {
    let mut daemon = Daemon::over(dir_that_sandboxes_show());
    let root = daemon.workdir().to_owned();
    for directory in ["work", "home", "home/.mine", "kennel", "bin"] {
        std::fs::create_dir(root.join(directory)).unwrap();
    }
    std::fs::write(root.join("home/.mine/settings"), "").unwrap();
    let mut config = String::new();
    for (name, kind, text) in AGENTS {
        let program = root.join("bin").join(name);
        let text = text.replace("AGENT", beside("acp-agent").to_str().unwrap());
        script(&program, &format!("#!/bin/sh\n{text}\n"));
        config += &format!(
            "[agents.{name}]\nkind = \"{kind}\"\ncommand = [{program:?}]\nsandbox = \"{sandbox}\"\n"
        );
    }
    std::fs::write(root.join("kennel/config.toml"), config).unwrap();
    daemon.set("HOME", root.join("home").to_str().unwrap());
    if by == manager::protocol::SandboxBy::Landlock {
        daemon.set("PATH", without_bubblewrap(&root).to_str().unwrap());
    }
    (daemon, root)
}

#[test]
fn what_fails_in_a_sandbox_names_it_and_what_to_grant_and_a_known_agent_has_its_state() {
    for (sandbox, by) in ["workdir", "strict"]
        .into_iter()
        .flat_map(|sandbox| makers().into_iter().map(move |by| (sandbox, by)))
    {
        let (daemon, root) = daemon(sandbox, by);
        let work = root.join("work");
        let start = |id: &str, agent: &str| {
            daemon.run(&[
                "start",
                "--id",
                id,
                "--agent",
                agent,
                "--dir",
                work.to_str().unwrap(),
                "--intensity",
                "0",
            ]);
        };
        let about = format!("{sandbox} {by:?}");
        let name = format!("its sandbox is `{sandbox}`");
        let grant = "sandbox_write = [\"~/.mine\"]";
        // In `workdir` the file can be read.
        let failing = if sandbox == "strict" { &["writes", "reads"][..] } else { &["writes"] };
        for id in failing {
            start(id, id);
            let reason = until("its failure", || daemon.show(id).failure).reason;
            assert!(reason.contains(&name) && reason.contains(grant), "{about}: {reason}");
        }
        start("each", "each");
        daemon.idle("each");
        daemon.run(&["send", "each", "hello"]);
        let hint = daemon.events().into_iter().find_map(|event| match event.kind {
            EventKind::SystemMessage { text } if text.contains(&name) && text.contains(grant) => Some(text),
            _ => None,
        });
        assert!(hint.is_some(), "{about}: {:#?}", daemon.events());
        // Nothing was granted, and the directory was not there.
        start("known", "codex");
        assert_eq!(daemon.idle("known").status, Status::Idle, "{about}");
        assert_eq!(std::fs::read_to_string(root.join("home/.codex/log")).unwrap(), "started\n", "{about}");
    }
}
