//! The requests that agents may send to their manager: with a token, with the manager's socket, and through
//! an editor. Nothing in an agent's hands gives it more than its own sandbox.

mod editors;
mod peers;
mod rule;
mod sub_agents;
mod tokens;

use std::path::Path;

use harness::daemon::Daemon;
use harness::real::*;
use manager::client::{Client, ClientError, Request};
use manager::protocol::api::SessionInfo;
use serde_json::{Value, json};

use crate::containment::User;

/// A daemon outside of the directories for temporary files, with a home, a secret in it and one in its environment.
fn daemon(user: User, profiles: &str) -> Daemon {
    let mut daemon = Daemon::over(dir_that_sandboxes_show());
    let root = daemon.dir.path().to_owned();
    let fixtures = [beside("fixture-agent"), beside("acp-agent")];
    let programs = publish(&[kennel(), worker(), &fixtures[0], &fixtures[1]], &root.join("bin"));
    for directory in ["home/.ssh", "work/below", "other", "kennel"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    std::fs::write(root.join("home/.ssh/id"), "the secret key").unwrap();
    let profiles = profiles
        .replace("FIXTURE", programs[2].to_str().unwrap())
        .replace("ACP", programs[3].to_str().unwrap());
    std::fs::write(root.join("kennel/config.toml"), profiles + "\n[defaults]\ngrace = \"100ms\"\n").unwrap();
    if user == User::Nobody {
        give_away(&root);
        daemon.run_as(65534, programs[0].clone());
    }
    daemon.set("HOME", root.join("home").to_str().unwrap());
    daemon.set("A_SECRET", "the-secret-of-the-daemon");
    daemon
}

fn give_away(path: &Path) {
    std::os::unix::fs::lchown(path, Some(65534), Some(65534)).unwrap();
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => give_away(&entry.path()),
            false => std::os::unix::fs::lchown(entry.path(), Some(65534), Some(65534)).unwrap(),
        }
    }
}

fn start(daemon: &Daemon, id: &str, agent: &str) -> SessionInfo {
    let work = daemon.dir.path().join("work");
    daemon.ok(&["start", "--id", id, "--agent", agent, "--dir", work.to_str().unwrap()]);
    daemon.idle(id)
}

/// Asks with a token, and gives the answer or the code of the refusal.
fn ask(daemon: &Daemon, token: &str, request: Request) -> Result<Value, String> {
    let client = Client::new(daemon.socket()).with_token(token);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(client.ask(&request)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(ClientError::Problem(problem)) => Err(problem.code),
        Err(error) => panic!("{error:?}"),
    }
}

fn token(daemon: &Daemon, id: &str) -> String {
    format!("{id}:{}", daemon.ok(&["token", id]).trim())
}

fn subagent(opts: Value) -> Request {
    Request::post("/v1/subagents").json(&json!({ "task": "true", "opts": opts }))
}

/// Agents that ask before they do something.
const ASKS: &str = "[agents.asks]\nkind = \"acp\"\ncommand = [\"ACP\"]\npermissions = \"park\"\n\
    rules = [{ kind = \"read\", then = \"allow\" }]\n\
    [agents.allows]\nkind = \"acp\"\ncommand = [\"ACP\"]\npermissions = \"allow\"\n\
    [agents.runs]\nkind = \"command\"\ncommand = [\"FIXTURE\"]\n";
