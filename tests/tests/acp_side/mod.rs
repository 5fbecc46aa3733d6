//! `kennel acp` as an editor sees it: lines of JSON over pipes, and everything behind them real.

mod editor;
pub(crate) mod permissions;
pub(crate) mod prompts;
pub(crate) mod seats;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod survival;

pub(crate) use editor::{Editor, kennel, over_sockets};

use harness::daemon::Daemon;
use manager::protocol::api::AgentInfo;

fn agent(daemon: &Daemon, args: &[&str], name: &str) -> AgentInfo {
    let agents: Vec<AgentInfo> = daemon.json(args);
    agents.into_iter().find(|agent| agent.name == name).unwrap()
}
