//! The states of a session, and what each of them holds.

use protocol::Identity;
use protocol::api::Failure;
use serde::{Deserialize, Serialize};

/// What the operator wants. Only commands change it; the daemon's own shutdown never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// The session lives.
    Up,
    /// It is stopped.
    Down,
}

/// What is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// A worker is being brought up. Without `worker` none is on record yet.
    Starting {
        /// The spawned process.
        worker: Option<Identity>,
        /// Until when it must be ready.
        deadline: u64,
    },
    /// The agent takes prompts; whether a turn runs is in [`Turns::running`].
    Ready {
        /// The process.
        worker: Identity,
        /// The agent's own process, where one lives between prompts.
        agent_pid: Option<u32>,
        /// Since when nothing has been asked of it.
        idle_since: u64,
    },
    /// The journal says a worker of an earlier manager lives. It is asked to go on with this one.
    Adopting {
        /// The process.
        worker: Identity,
        /// What it was doing.
        #[serde(default)]
        was: Was,
        /// What to do once it is gone.
        after: Why,
        /// Until when it must have answered, or left by itself.
        deadline: u64,
    },
    /// Its process is being ended.
    Stopping {
        /// The process; none if a spawn is on its way and not on record yet.
        worker: Option<Identity>,
        /// What for.
        why: Why,
        /// Rounds of SIGKILL so far.
        kills: u32,
        /// When the next round is due.
        deadline: u64,
        /// When it counts as unkillable.
        give_up: u64,
    },
    /// Between a death and the next start.
    Restarting {
        /// When the next start is due.
        until: u64,
    },
    /// Without a process until something is asked of it.
    Hibernated,
    /// Ended by request.
    Stopped,
    /// Given up until somebody restarts it.
    Failed(Failure),
}

/// What a worker was doing when its manager died; what it has said since is taken into account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Was {
    /// It was being brought up.
    Starting,
    /// Its agent took prompts.
    Ready {
        /// The agent's own process, where one lives between prompts.
        agent_pid: Option<u32>,
    },
    /// It was being ended.
    #[default]
    Stopping,
}

/// What a process is being ended for. What comes after also depends on the [`Goal`] at that time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Somebody stops the session.
    Stop,
    /// It has been idle for long.
    Hibernate,
    /// Somebody restarts it.
    Restart,
    /// The manager leaves.
    Shutdown,
    /// Its manager died.
    Lost,
    /// Its program is of another version than the manager's.
    Outdated,
    /// It misbehaved.
    Fault(String),
    /// Its agent ended.
    AgentDied(String),
    /// Its agent's program did not come to run.
    NotRun {
        /// Why, for a person.
        message: String,
        /// The cause may pass by itself.
        passes: bool,
    },
    /// To start it again would come to the same.
    Hopeless(String),
}
