//! Messages of the manager to a worker.

use serde::{Deserialize, Serialize};

use super::agent::{Agent, RemoteServer};
use super::attachment::Attachment;
use super::call::{CallAnswer, Offer};
use crate::{EventId, Groups, Level, LimitedBy, Limits, PromptId, SessionId, Walls, WallsOfVersion3};

/// What the manager tells a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Who the worker is and what it runs. The first message, once.
    Welcome(Box<Welcome>),
    /// Run this prompt. Sent only while no other runs.
    Prompt {
        /// The prompt's id.
        prompt: PromptId,
        /// What the user wrote, at most 1 MiB.
        text: String,
        /// The turns before, oldest first, for an agent whose profile asks for them.
        history: Vec<Exchange>,
    },
    /// End the running turn and everything it started. Answered by [`Report::TurnEnded`](super::Report::TurnEnded) with
    /// [`TurnEnd::Aborted`](super::TurnEnd::Aborted); no answer is due if that prompt does not run.
    Abort {
        /// The prompt whose turn it is.
        prompt: PromptId,
    },
    /// End everything below and leave. A SIGTERM means the same.
    Shutdown,
    /// Start the agent that lives between prompts. Follows [`Command::Welcome`], once, for [`Agent::Acp`] only.
    Open {
        /// What the agent itself called the conversation when it last told ([`Report::AgentSession`](super::Report::AgentSession)).
        agent_session: Option<String>,
        /// There were turns before.
        conversation: bool,
    },
    /// Somebody, or the session's policy, has decided about [`Report::PermissionAsked`](super::Report::PermissionAsked).
    Answer {
        /// Which.
        request: u64,
        /// The option chosen; none: the question is cancelled.
        option: Option<String>,
    },
    /// What the client that drives can do for the agent. Sent when the agent is ready, and when it changes.
    Driver {
        /// The client, if it can do anything.
        client: Option<EventId>,
        /// What it can do.
        offers: Vec<Offer>,
    },
    /// What has become of [`Report::CallAsked`](super::Report::CallAsked).
    CallAnswered {
        /// Which.
        request: u64,
        /// What.
        answer: CallAnswer,
    },
    /// What was set in the agent before, to be set again before it takes prompts. Comes before [`Command::Open`].
    Settings(Vec<Setting>),
    /// Set something in the agent. Answered by [`Report::SettingAnswered`](super::Report::SettingAnswered).
    Set {
        /// Counts the settings of this session from 1.
        request: u64,
        /// What, and to what.
        setting: Setting,
    },
    /// [`Command::Prompt`] with something beside the text; only for [`Agent::Acp`].
    PromptWith {
        /// The prompt's id.
        prompt: PromptId,
        /// What the user wrote, at most 1 MiB.
        text: String,
        /// The turns before, oldest first, for an agent that has to be told.
        history: Vec<Exchange>,
        /// What belongs to it, at most 16.
        attachments: Vec<Attachment>,
    },
    /// How long the agent may say nothing while it takes up its conversation, in milliseconds, before the next way back
    /// into it is tried. Comes before [`Command::Open`].
    RestoreWithin(u64),
    /// What the worker needs to outlive this manager. Sent once, with the first commands; a worker that has not
    /// got it leaves when its link ends.
    Shelter(Shelter),
    /// Nothing is to be done: only the envelope's `ack` counts.
    Acknowledge,
    /// MCP servers that the agent reaches by itself, if it can. Comes before [`Command::Open`].
    RemoteServers(Vec<RemoteServer>),
    /// What holds the agent's processes together. Comes before [`Command::Open`]. Answered by [`Report::Contained`](super::Report::Contained).
    Contain {
        /// What the machine was found to be able to.
        level: Level,
        /// The agent does not run in less.
        demanded: bool,
    },
    /// A sign of life is wanted. Answered at once by [`Report::Alive`](super::Report::Alive), whatever else goes on.
    Probe,
    /// [`Command::SandboxOf`] as protocol version 3 has it.
    Sandbox(WallsOfVersion3),
    /// What the agent's processes may use. Comes before [`Command::Open`]. Answered by [`Report::Limited`](super::Report::Limited).
    Limits {
        /// What.
        limits: Limits,
        /// What is to see to it.
        by: LimitedBy,
        /// The control groups that are there for it.
        groups: Groups,
    },
    /// The agent runs in a sandbox, or not at all. Comes before [`Command::Open`]. Answered by [`Report::Sandboxed`](super::Report::Sandboxed).
    SandboxOf(Box<Walls>),
    /// What the session's programs inherit. Comes before [`Command::Open`].
    Inherit(Inherited),
    /// How the session's programs are found at each start. Comes before [`Command::Open`].
    Find(Find),
}

/// The worker's papers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The manager's [`PROTOCOL_VERSION`](super::PROTOCOL_VERSION).
    pub protocol: u32,
    /// The session.
    pub session: SessionId,
    /// The worker's last message that the manager has committed: what it need not send again.
    pub resume_from: u64,
    /// Value of the variable [`MARKER`](crate::MARKER) for every process below.
    pub marker: String,
    /// Absolute path in which the agent runs.
    pub workdir: String,
    /// The agent's whole environment, but for the marker.
    pub env: Vec<(String, String)>,
    /// The agent.
    pub agent: Agent,
    /// How long the agent's processes have between SIGTERM and SIGKILL, in milliseconds.
    pub grace_ms: u64,
}

/// One turn of the conversation before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// What the user wrote.
    pub prompt: String,
    /// What the agent answered on standard output; cut short where the turn was.
    pub reply: String,
}

/// Something that can be set in an agent that speaks the Agent Client Protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The agent's id of a configuration option, or `mode`.
    pub name: String,
    /// The agent's id of a value.
    pub value: String,
}

/// How a worker finds the programs of its session. It looks at each start: an upgrade may have moved them since the session
/// was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Find {
    /// The value of PATH.
    pub path: Option<String>,
    /// The agent's program as the profile names it: a name, or an absolute path. Absent where that is not known.
    pub program: Option<String>,
}

/// What the programs of a session inherit in the place of what the daemon has set for itself. What is absent, they inherit
/// from the process that spawned the worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// The file mode creation mask (umask(2)).
    pub umask: Option<u32>,
    /// The soft limit on open files (getrlimit(2)), where the profile sets none. The hard limit bounds it.
    pub open_files: Option<u64>,
    /// Names of variables in [`Welcome::env`] whose values are paths that the daemon was started with. A program does not get
    /// one whose path does not exist.
    pub places: Vec<String>,
}

/// Where a worker stays while no manager is linked, and for how long.
///
/// It waits at `socket` for the next manager, which shows `secret` and hands over two pipes with it (SCM_RIGHTS,
/// unix(7)): first the reading end of what the worker is told from then on, then the writing end of what it says.
/// The worker says [`Report::Hello`](super::Report::Hello) there, with the last command that it acted on. What it said meanwhile is in the
/// file `spool`, as the same frames; those after the last that was committed come before whatever the new pipe brings.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelter {
    /// Absolute path; its directory is open to its owner only.
    pub socket: String,
    /// Nobody else knows it.
    pub secret: [u8; 32],
    /// Absolute path of the file for what is said while nobody hears it.
    pub spool: String,
    /// The most that the file may hold, in bytes: past it the agent is no longer read, and nothing is dropped.
    pub spool_bytes: u64,
    /// How long a running turn goes on without a manager, in milliseconds.
    pub turn_ms: u64,
    /// How long a worker without one stays, in milliseconds.
    pub idle_ms: u64,
}

/// Without the secret, which no log may have.
impl std::fmt::Debug for Shelter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { socket, spool, .. } = self;
        f.debug_struct("Shelter").field("socket", socket).field("spool", spool).finish_non_exhaustive()
    }
}
