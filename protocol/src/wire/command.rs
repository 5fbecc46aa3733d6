//! Messages of the manager to a worker.

use serde::{Deserialize, Serialize};

use super::agent::{Agent, RemoteServer};
use super::attachment::Attachment;
use super::call::{CallAnswer, Offer};
use super::files::FilesAsk;
use super::log_in::Unlogged;
use crate::{EventId, Groups, Level, LimitedBy, Limits, PromptId, SessionId, Walls, WallsOfVersion3};

/// A message of the manager to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The session of the worker, and its agent. The manager sends it first, once.
    Welcome(Box<Welcome>),
    /// Run this prompt. Sent only while no other runs.
    Prompt {
        /// The prompt's id.
        prompt: PromptId,
        /// The prompt's text, at most 1 MiB.
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
    /// Reserved: the manager never sends it, and SIGTERM means the same. The variant stays, because the encoding counts the
    /// variants. A worker that receives it ends all processes below and exits.
    Shutdown,
    /// Start the agent that lives between prompts. Follows [`Command::Welcome`], once, for [`Agent::Acp`] only.
    Open {
        /// The agent's own id of the conversation, from its last [`Report::AgentSession`](super::Report::AgentSession)).
        agent_session: Option<String>,
        /// The session had turns before.
        conversation: bool,
    },
    /// A client, or the session's policy, answered [`Report::PermissionAsked`](super::Report::PermissionAsked).
    Answer {
        /// Number of the permission request.
        request: u64,
        /// Id of the chosen option; absent: the request is cancelled.
        option: Option<String>,
    },
    /// The driver, and the requests of the agent that it can answer. Sent when the agent is ready, and at each change.
    Driver {
        /// The driver; absent if it can answer nothing.
        client: Option<EventId>,
        /// Requests that it can answer.
        offers: Vec<Offer>,
    },
    /// The answer to [`Report::CallAsked`](super::Report::CallAsked).
    CallAnswered {
        /// Number of the call.
        request: u64,
        /// The answer.
        answer: CallAnswer,
    },
    /// Settings that the worker sets again before the agent takes prompts. Comes before [`Command::Open`].
    Settings(Vec<Setting>),
    /// Set something in the agent. Answered by [`Report::SettingAnswered`](super::Report::SettingAnswered).
    Set {
        /// Number of the setting in this session, from 1.
        request: u64,
        /// Name and value.
        setting: Setting,
    },
    /// [`Command::Prompt`] with attachments; only for [`Agent::Acp`].
    PromptWith {
        /// The prompt's id.
        prompt: PromptId,
        /// The prompt's text, at most 1 MiB.
        text: String,
        /// The turns before, oldest first, for an agent that needs them.
        history: Vec<Exchange>,
        /// Attachments, at most 16.
        attachments: Vec<Attachment>,
    },
    /// Time limit for each message of the agent while it restores its conversation, in milliseconds. The worker then tries
    /// the next way to restore it. Comes before [`Command::Open`].
    RestoreWithin(u64),
    /// The shelter in which the worker outlives this manager. Sent once, with the first commands. A worker without a shelter
    /// exits when its link ends.
    Shelter(Shelter),
    /// No action: only the envelope's `ack` counts.
    Acknowledge,
    /// MCP servers that the agent reaches by HTTP, if it supports that. Comes before [`Command::Open`].
    RemoteServers(Vec<RemoteServer>),
    /// Containment of the agent's processes. Comes before [`Command::Open`]. Answered by [`Report::Contained`](super::Report::Contained).
    Contain {
        /// Highest level that the machine supports.
        level: Level,
        /// The agent must not run at a lower level.
        demanded: bool,
    },
    /// The manager checks that the worker lives. Answered at once by [`Report::Alive`](super::Report::Alive).
    Probe,
    /// [`Command::SandboxOf`] as protocol version 3 has it.
    Sandbox(WallsOfVersion3),
    /// Resource limits of the agent's processes. Comes before [`Command::Open`]. Answered by [`Report::Limited`](super::Report::Limited).
    Limits {
        /// The limits.
        limits: Limits,
        /// Mechanism that enforces each limit.
        by: LimitedBy,
        /// Control groups for the limits.
        groups: Groups,
    },
    /// Sandbox of the agent, which must not run without it. Comes before [`Command::Open`]. Answered by [`Report::Sandboxed`](super::Report::Sandboxed).
    SandboxOf(Box<Walls>),
    /// Process attributes that the session's programs inherit. Comes before [`Command::Open`].
    Inherit(Inherited),
    /// PATH and name by which the worker finds the session's programs at each start. Comes before [`Command::Open`].
    Find(Find),
    /// Write the log to this file, and make it if it is not there: the worker was started for no session. Comes right after
    /// [`Command::Welcome`].
    Log {
        /// Absolute path of the session's log.
        path: String,
    },
    /// Read files of the working directory. Answered by [`Report::FilesRead`](super::Report::FilesRead), if the worker lives so long
    /// and this manager stays.
    ReadFiles {
        /// Number of the request.
        request: u64,
        /// The request.
        ask: FilesAsk,
    },
    /// Run a log-in on a terminal of its own. The worker has no agent, and leaves once nothing of the log-in lives. Answered by
    /// [`Report::LogInOutput`](super::Report::LogInOutput) and, at the end, [`Report::LogInEnded`](super::Report::LogInEnded).
    LogIn {
        /// The program's absolute path and its arguments. Environment and directory are those of the Welcome.
        argv: Vec<String>,
    },
    /// Give the program bytes, as if they were typed on its terminal.
    LogInInput {
        /// The bytes, at most [`LOGIN_INPUT`](crate::bounds::LOGIN_INPUT).
        bytes: Unlogged,
    },
    /// The worker may send the program's output up to this byte, counted from the beginning. Without it, up to
    /// [`LOGIN_WINDOW`](crate::bounds::LOGIN_WINDOW). What is beyond stays in the terminal, and the program waits.
    LogInRoom {
        /// The byte.
        upto: u64,
    },
}

impl Command {
    /// Returns true if the worker reports something once it has acted on the command. A worker that has reported nothing after
    /// such a command hangs. A worker that was sent only other commands rests, and owes nothing.
    pub fn is_answered(&self) -> bool {
        match self {
            Command::Welcome(_)
            | Command::Prompt { .. }
            | Command::PromptWith { .. }
            | Command::Abort { .. }
            | Command::Open { .. }
            | Command::Set { .. }
            | Command::Probe
            | Command::Contain { .. }
            | Command::Limits { .. }
            | Command::Sandbox(_)
            | Command::SandboxOf(_)
            | Command::Shutdown => true,
            Command::Answer { .. }
            | Command::CallAnswered { .. }
            | Command::Driver { .. }
            | Command::Settings(_)
            | Command::RestoreWithin(_)
            | Command::Shelter(_)
            | Command::Acknowledge
            | Command::RemoteServers(_)
            | Command::Inherit(_)
            | Command::Find(_)
            | Command::Log { .. }
            | Command::ReadFiles { .. }
            | Command::LogIn { .. }
            | Command::LogInInput { .. }
            | Command::LogInRoom { .. } => false,
        }
    }
}

/// The identity and the session of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Reserved: the manager's [`PROTOCOL_VERSION`](super::PROTOCOL_VERSION), written for older workers. Never read.
    pub protocol: u32,
    /// Reserved: the session's id, written for older workers. Never read; [`Welcome::marker`] names the session.
    pub session: SessionId,
    /// Reserved: the last committed message of the worker, written for older workers. Never read.
    pub resume_from: u64,
    /// Value of the variable [`MARKER`](crate::MARKER) for every process below.
    pub marker: String,
    /// Working directory of the agent, absolute.
    pub workdir: String,
    /// Environment of the agent, without the marker.
    pub env: Vec<(String, String)>,
    /// The agent.
    pub agent: Agent,
    /// Time between SIGTERM and SIGKILL for the agent's processes, in milliseconds.
    pub grace_ms: u64,
}

/// An earlier turn of the conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// Text of the user.
    pub prompt: String,
    /// Answer of the agent; incomplete if the turn was.
    pub reply: String,
}

/// A setting of an agent that speaks the Agent Client Protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The agent's id of a configuration option, or `mode`.
    pub name: String,
    /// The agent's id of a value.
    pub value: String,
}

/// PATH and name by which a worker finds the programs of its session. The worker looks at each start: an upgrade may have
/// moved them since the session was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Find {
    /// The value of PATH.
    pub path: Option<String>,
    /// The agent's program as the profile names it: a name, or an absolute path. Absent where that is not known.
    pub program: Option<String>,
}

/// Process attributes for the programs of a session, instead of those that the daemon has set for itself. An absent value
/// comes from the process that spawned the worker.
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

/// The place where a worker waits while no manager is linked, and the time limits of the wait.
///
/// It waits at `socket` for the next manager, which shows `secret` and hands over two pipes with it (SCM_RIGHTS,
/// unix(7)): first the reading end of what the worker is told from then on, then the writing end of what it says.
/// The worker says [`Report::Hello`](super::Report::Hello) there, with the last command that it acted on. What it said meanwhile is in the
/// file `spool`, as the same frames; those after the last that was committed come before whatever the new pipe brings.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelter {
    /// Absolute path; its directory is open to its owner only.
    pub socket: String,
    /// Secret that the next manager shows.
    pub secret: [u8; 32],
    /// Absolute path of the file for reports while no manager is linked.
    pub spool: String,
    /// Limit of the file, in bytes. Above the limit the worker stops reading the agent; it drops nothing.
    pub spool_bytes: u64,
    /// Time limit of a running turn without a manager, in milliseconds.
    pub turn_ms: u64,
    /// Time limit of an idle worker without a manager, in milliseconds.
    pub idle_ms: u64,
}

/// Without the secret, which no log may have.
impl std::fmt::Debug for Shelter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { socket, spool, .. } = self;
        f.debug_struct("Shelter").field("socket", socket).field("spool", spool).finish_non_exhaustive()
    }
}
