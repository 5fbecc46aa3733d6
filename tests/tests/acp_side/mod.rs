//! `kennel acp` as an editor sees it: lines of JSON over pipes, and everything behind them real.

mod editor;
mod permissions;
mod prompts;
mod sessions;
mod settings;
mod survival;

pub(crate) use editor::{Editor, kennel};

use harness::daemon::Daemon;
use manager::protocol::api::AgentInfo;

fn agent(daemon: &Daemon, args: &[&str], name: &str) -> AgentInfo {
    let agents: Vec<AgentInfo> = daemon.json(args);
    agents.into_iter().find(|agent| agent.name == name).unwrap()
}
