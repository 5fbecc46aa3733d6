//! Sub-agents for every agent: the tools that `kennel mcp` serves, over hand-written lines of JSON, and the rights
//! and limits behind them. On the shipped binaries; the rules of the limits on the core alone.

mod client;
mod limits;
mod rights;
mod tools;

pub(crate) use client::Mcp;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use harness::daemon::Daemon;
use manager::protocol::SessionId;
use manager::protocol::api::SessionInfo;
use manager::protocol::event::{EventKind, Outcome};

/// A session, and a file with its token.
fn session(daemon: &Daemon, name: &str) -> PathBuf {
    let info: SessionInfo = daemon.json(&["start", "--id", name]);
    daemon.idle(info.id.as_str());
    token_file(daemon, name)
}

pub(crate) fn token_file(daemon: &Daemon, name: &str) -> PathBuf {
    let path = daemon.dir.path().join(format!("{name}.token"));
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).unwrap();
    write!(file, "{name}:{}", daemon.ok(&["token", name])).unwrap();
    path
}

fn configure(daemon: &Daemon, text: &str) {
    std::fs::create_dir_all(daemon.workdir().join("kennel")).unwrap();
    std::fs::write(daemon.workdir().join("kennel/config.toml"), text).unwrap();
}

/// Returns the outcomes of a sub-agent in its parent's events.
fn ends(daemon: &Daemon, parent: &str, child: &str) -> Vec<Option<Outcome>> {
    let events = daemon
        .events()
        .into_iter()
        .filter(|event| event.session.as_ref().map(SessionId::as_str) == Some(parent));
    let ends = events.filter_map(|event| match event.kind {
        EventKind::SubagentCompleted { child: of, outcome } if of.as_str() == child => Some(Some(outcome)),
        EventKind::SubagentLost { child: of, .. } if of.as_str() == child => Some(None),
        _ => None,
    });
    ends.collect()
}
