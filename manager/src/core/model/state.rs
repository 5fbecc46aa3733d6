//! The states of a session, with the data of each.

use protocol::Identity;
use protocol::api::Failure;
use serde::{Deserialize, Serialize};

/// The operator's goal for a session. Only commands change it; the daemon's own shutdown never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// The session is to be up.
    Up,
    /// The session is to be stopped.
    Down,
}

/// The state of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// A worker is starting.
    Starting {
        /// The spawned process; none until its identity is on record.
        worker: Option<Identity>,
        /// The worker must be ready by then, in milliseconds since boot.
        deadline: u64,
    },
    /// The agent takes prompts. [`Turns::running`](super::turn::Turns::running) holds the running turn.
    Ready {
        /// The worker's process.
        worker: Identity,
        /// The agent's process; none for an agent that runs once per prompt.
        agent_pid: Option<u32>,
        /// When the session was last used, in milliseconds since boot.
        idle_since: u64,
    },
    /// The journal names a worker of an earlier manager, and this manager tries to take it over.
    Adopting {
        /// The worker's process.
        worker: Identity,
        /// The worker's state under the earlier manager, brought up to date by its later messages.
        #[serde(default)]
        was: Was,
        /// The reason with which its end is handled.
        after: Why,
        /// The time by which the worker must have greeted or exited, in milliseconds since boot.
        deadline: u64,
    },
    /// The worker is being ended.
    Stopping {
        /// The worker's process; none if a spawn is under way and not on record yet.
        worker: Option<Identity>,
        /// The reason.
        why: Why,
        /// Rounds of SIGKILL so far.
        kills: u32,
        /// Time of the next SIGKILL, in milliseconds since boot.
        deadline: u64,
        /// From then on the process counts as unkillable, in milliseconds since boot.
        give_up: u64,
    },
    /// The session waits between a death and the next start.
    Restarting {
        /// Time of the next start, in milliseconds since boot.
        until: u64,
    },
    /// The session sleeps without a process until somebody uses it.
    Hibernated,
    /// The session was stopped on request.
    Stopped,
    /// The session failed, and stays so until somebody restarts it.
    Failed(Failure),
}

/// The state of an adopted worker under its earlier manager, brought up to date by its later messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Was {
    /// The worker was starting.
    Starting,
    /// The agent took prompts.
    Ready {
        /// The agent's process; none for an agent that runs once per prompt.
        agent_pid: Option<u32>,
    },
    /// The worker was being ended.
    #[default]
    Stopping,
}

/// The reason for which a process is ended. The [`Goal`] at its end also decides what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Somebody stopped the session.
    Stop,
    /// The session was idle for its hibernation time.
    Hibernate,
    /// Somebody restarted the session.
    Restart,
    /// The manager is about to exit.
    Shutdown,
    /// The manager died.
    Lost,
    /// The worker's version differs from the manager's.
    Outdated,
    /// The worker broke the protocol or a deadline.
    Fault(String),
    /// The agent died.
    AgentDied(String),
    /// The agent's program did not run.
    NotRun {
        /// The reason, for a person.
        message: String,
        /// The cause may pass by itself.
        passes: bool,
    },
    /// Another start would fail in the same way.
    Hopeless(String),
}

impl Why {
    /// Returns true if kennel ends the process by its own choice, and not because of what the process did or said.
    pub(in crate::core) fn is_of_kennel(&self) -> bool {
        match self {
            Why::Stop | Why::Hibernate | Why::Restart | Why::Shutdown | Why::Outdated => true,
            Why::Lost | Why::Fault(_) | Why::AgentDied(_) | Why::NotRun { .. } | Why::Hopeless(_) => false,
        }
    }
}
