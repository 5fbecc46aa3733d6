//! The inputs of the core: commands to a session or the fleet, observations of processes, and the replies.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::api::{ClientOrigin, Orphans, PermissionAnswer, Role, SessionOpts, ToldTurn};
use protocol::event::{Disposition, Refused, Resolution};
use protocol::wire::{
    AgentDetails, CallAnswer, McpServer, Offer, PermissionAsk, RemoteServer, Setting, TurnEnd, Update,
};
use protocol::{
    CallId, EventId, Exit, Identity, Incarnation, Keeper, KeyId, Level, LimitedBy, PermissionId, PromptId,
    Restore, Sandboxed, SessionId, SessionName, Stream,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::model::spec::Spec;
use crate::core::model::turn::NewPrompt;
use crate::core::scope::Scope;

/// The id of a client that is not attached.
pub const NOBODY: EventId = 0;

/// An input of a session's step.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A command of the owner or of the API. The session may refuse it.
    Command(Command),
    /// A command of an attached client. Only the driver may give one; while nobody drives, so may [`NOBODY`].
    CommandBy(EventId, Command),
    /// An observation of a process. Never refused; ignored if the incarnation is not the present one.
    Seen(Incarnation, Seen),
    /// A new manager has loaded the session from the journal.
    Recovered {
        /// The machine did not boot again since the journal was written, so deadlines on record still compare.
        same_boot: bool,
    },
    /// The manager is about to exit, and ends its processes.
    Shutdown,
    /// Time has passed: the deadline may have been reached.
    Tick,
    /// The number of open sub-agent tasks changes by so many.
    OpenTasks(i32),
}

/// A command to a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start or wake the session if it is not up.
    Up,
    /// Stop the session.
    Stop,
    /// Start a new process, and forget all deaths.
    Restart,
    /// Accept a prompt.
    Prompt(NewPrompt),
    /// End the running turn, or remove the prompt that waits for its missing program.
    Abort,
    /// The same as `Abort`, if the session works on this prompt; else refused.
    AbortOnly(PromptId),
    /// Keep the session from hibernating (true), or let it hibernate (false).
    Pin(bool),
    /// Replace the text of a waiting prompt.
    Edit(PromptId, Arc<str>),
    /// Remove a waiting prompt from the queue.
    Remove(PromptId),
    /// Remove all waiting prompts.
    Clear,
    /// Retry or drop an interrupted prompt.
    Resolve(PromptId, Resolution),
    /// Answer a permission.
    Permit(PermissionId, PermissionAnswer),
    /// Attach a client.
    Attach {
        /// The client's name for itself.
        name: String,
        /// The role that the client asks for.
        role: Role,
        /// The client becomes the driver even if another client drives; that one becomes a viewer.
        takeover: bool,
        /// Requests of the agent that the client can serve while it drives.
        offers: Vec<Offer>,
        /// Where the client comes from; none for the owner at this machine.
        origin: Option<ClientOrigin>,
        /// A word that only this client knows, and comes back with after its connection was lost.
        seat: Option<String>,
    },
    /// Detach a client, whose connection has ended. A driver's seat is kept for a while.
    Detach(EventId),
    /// Detach a client that leaves: its seat is free at once, also one that is kept.
    Leave {
        /// The client; [`NOBODY`]: whichever came with the word.
        client: EventId,
        /// The word that it came with. Without it nobody leaves in its place.
        seat: Option<String>,
    },
    /// Change a setting of the agent.
    Set(Setting),
    /// Add MCP servers to those of the agent.
    AddServers {
        /// Servers that kennel starts as programs.
        programs: Vec<McpServer>,
        /// Servers that the agent connects to by itself, if it supports that.
        remote: Vec<RemoteServer>,
    },
    /// Answer a call of the agent. Only the driver may.
    AnswerCall(CallId, CallAnswer),
}

/// An observation of one incarnation.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The worker's process was spawned.
    Spawned(Identity),
    /// The worker's process could not be spawned.
    SpawnFailed {
        /// The error, for a person.
        error: String,
        /// The machine had no process, descriptor or memory left: no fault of the session.
        no_room: bool,
    },
    /// The spare worker that the session took was of no use: it had ended, or was stopped. It is gone, and had done nothing.
    SpareLost,
    /// The agent takes prompts.
    Ready {
        /// The part of the earlier turns that the agent knows.
        restore: Restore,
        /// The agent's process; none for an agent that runs once per prompt.
        agent_pid: Option<u32>,
    },
    /// The worker has started a prompt's turn.
    TurnStarted {
        /// The prompt.
        prompt: PromptId,
        /// The agent's process.
        agent_pid: u32,
    },
    /// The agent wrote something.
    Output {
        /// The prompt in whose turn it wrote.
        prompt: PromptId,
        /// The stream on which it wrote.
        stream: Stream,
        /// The text.
        text: String,
    },
    /// A turn has ended.
    TurnEnded {
        /// The turn's prompt.
        prompt: PromptId,
        /// The reason.
        end: TurnEnd,
        /// The exit of the agent's process; none where no process ended, or its exit is not known.
        exit: Option<Exit>,
        /// The number of background processes that were killed with the turn.
        left_behind: u32,
    },
    /// The agent's id of its conversation.
    AgentSession(String),
    /// The agent's name, version and abilities.
    Introduced(AgentDetails),
    /// The containment of the agent's processes.
    Contained(Level),
    /// The sandbox of the agent.
    Sandboxed(Sandboxed),
    /// The mechanisms that enforce the agent's limits.
    Limited(LimitedBy),
    /// The kernel or the worker killed processes of the agent for their memory.
    OutOfMemory {
        /// The peak memory of these processes, in bytes; none where it is not known.
        peak_bytes: Option<u64>,
        /// The memory limit, in bytes.
        limit_bytes: u64,
        /// The mechanism that enforced the limit.
        by: Keeper,
    },
    /// The agent reports progress.
    Updated {
        /// The prompt in whose turn it reports; none between turns.
        prompt: Option<PromptId>,
        /// The part of the report that kennel understands.
        update: Update,
        /// The whole report.
        payload: Value,
    },
    /// The agent asks for a permission.
    PermissionAsked {
        /// The prompt in whose turn it asks; none between turns.
        prompt: Option<PromptId>,
        /// The worker's number of the request.
        request: u64,
        /// The part of the request that kennel understands.
        ask: PermissionAsk,
        /// The whole request.
        payload: Value,
    },
    /// The agent makes a call that a client can serve.
    CallAsked {
        /// The prompt in whose turn it calls.
        prompt: PromptId,
        /// The worker's number of the call.
        request: u64,
        /// The client that must serve the call; none: any client that can.
        client: Option<EventId>,
        /// The method.
        method: String,
        /// The parameters.
        payload: Value,
    },
    /// The agent answered a change of a setting.
    SettingAnswered {
        /// The number of the setting.
        request: u64,
        /// The agent's answer, or the reason for which it did not change the setting.
        answer: Result<Value, String>,
    },
    /// The worker answered a probe.
    Alive {
        /// Processor time that the processes below the worker have used so far, in milliseconds.
        cpu_ms: u64,
        /// The number of commands that the worker runs for its agent.
        commands: u32,
    },
    /// A notice for a person.
    Notice(String),
    /// The agent has died, and the worker exits. The text is the reason.
    AgentDied(String),
    /// The agent's program did not run, and the worker exits.
    NotRun {
        /// The reason, for a person.
        message: String,
        /// The cause may pass by itself.
        passes: bool,
    },
    /// Absolute path of the agent's program, which is about to run.
    Program(String),
    /// The agent needs a login, and the worker exits. The text is the reason.
    LoginNeeded(String),
    /// The worker broke the protocol or a deadline, and must be killed. The text is the reason.
    Faulted(String),
    /// A worker of an earlier manager has greeted this one. Its earlier messages were observed before.
    Linked {
        /// The worker speaks another version of the protocol than this manager.
        outdated: bool,
    },
    /// The worker got the prompt, with its attachments and history.
    Handed(PromptId),
    /// All messages of the worker up to this number were observed.
    Heard(u64),
    /// The worker is dead, all its messages were observed, and its tree was swept. The last observation of an incarnation.
    Gone {
        /// The worker's exit.
        exit: Exit,
        /// The last lines that the worker and its agent wrote to standard error.
        last_words: Vec<String>,
        /// Pids of processes of its tree that survive SIGKILL.
        survivors: Vec<u32>,
    },
}

impl Seen {
    /// Returns true if the observation shows that the agent of the running turn works.
    pub(super) fn shows_work(&self) -> bool {
        matches!(self.kind(), Kind::Work | Kind::LivingWork)
    }

    /// Returns true if the observation counts only while the session has a worker. A late one is no part of the history.
    pub(super) fn is_of_the_living(&self) -> bool {
        matches!(self.kind(), Kind::LivingWork | Kind::Living)
    }

    fn kind(&self) -> Kind {
        match self {
            Seen::TurnStarted { .. }
            | Seen::Output { .. }
            | Seen::PermissionAsked { .. }
            | Seen::CallAsked { .. } => Kind::Work,
            Seen::Updated { .. } | Seen::SettingAnswered { .. } => Kind::LivingWork,
            Seen::AgentSession(_)
            | Seen::Introduced(_)
            | Seen::Contained(_)
            | Seen::Sandboxed(_)
            | Seen::Limited(_)
            | Seen::Program(_)
            | Seen::OutOfMemory { .. }
            | Seen::Notice(_)
            | Seen::Heard(_) => Kind::Living,
            Seen::Spawned(_)
            | Seen::SpawnFailed { .. }
            | Seen::SpareLost
            | Seen::Ready { .. }
            | Seen::TurnEnded { .. }
            | Seen::Alive { .. }
            | Seen::AgentDied(_)
            | Seen::NotRun { .. }
            | Seen::LoginNeeded(_)
            | Seen::Handed(_)
            | Seen::Linked { .. }
            | Seen::Faulted(_)
            | Seen::Gone { .. } => Kind::Other,
        }
    }
}

/// Two properties of an observation, which hold for every state.
enum Kind {
    /// Shows work.
    Work,
    /// Shows work, and counts only while the session has a worker.
    LivingWork,
    /// Counts only while the session has a worker.
    Living,
    /// Neither.
    Other,
}

/// An input of the fleet's step.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Create a session.
    Create {
        /// The session's id; none: the next generated id.
        id: Option<SessionId>,
        /// The session's spec.
        spec: Arc<Spec>,
    },
    /// Start a session that goes on from a turn of another.
    Fork(Box<Fork>),
    /// Start the session with this id if it is not up; create it if it does not exist.
    Ensure {
        /// The session's id.
        id: SessionId,
        /// The spec of the session if it is created.
        spec: Arc<Spec>,
        /// The options that the caller named. They must agree with a session that exists.
        given: Box<SessionOpts>,
    },
    /// Create a session below `parent`, and accept its first prompt.
    Subagent {
        /// The parent; none for the owner's own sub-agent.
        parent: Option<SessionId>,
        /// The session's id; none: the next generated id.
        id: Option<SessionId>,
        /// The session's spec.
        spec: Arc<Spec>,
        /// The text of the first prompt.
        task: Arc<str>,
        /// The parent's own request, which bounds the spec; none: the owner asks, and nothing is bounded.
        wish: Option<Box<Wish>>,
    },
    /// One of the four above, asked for with a key: the session belongs to the key. Or an edit, in which the key learns of no
    /// name that it does not reach.
    ByKey {
        /// The key.
        key: KeyId,
        /// The sessions that the key reaches. Others do not exist for it.
        scope: Scope,
        /// The request.
        ask: Box<Ask>,
    },
    /// One of the others about a session, by an attached client. Only the driver may ask.
    ByClient {
        /// The client.
        client: EventId,
        /// The request.
        ask: Box<Ask>,
    },
    /// Stop a session, and all sessions below it unless they are kept.
    Stop(SessionId, Orphans),
    /// Remove a session without a process, and its records.
    Remove(SessionId),
    /// Change what people call a session.
    Edit(SessionId, Edit),
    /// An input of one session.
    One(SessionId, Input),
    /// A manager has loaded the journal.
    ManagerStarted {
        /// The manager's process.
        pid: u32,
        /// The manager's version and build.
        version: String,
        /// The boot id of the machine.
        boot_id: String,
        /// The journal was last written in this boot.
        same_boot: bool,
        /// The part of a damaged journal that was lost, for a person.
        lost: Option<String>,
    },
    /// The manager is about to exit, and ends all processes.
    Shutdown,
    /// kennel refused access. Changes nothing but the record.
    AccessRefused(Refused),
    /// A spare worker stands ready.
    SpareReady(Identity),
    /// A spare worker has ended.
    SpareGone(Identity),
}

/// A change of what people call a session. What is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// The new name.
    pub name: Option<SessionName>,
    /// The new title; empty: none.
    pub title: Option<String>,
    /// Labels to set, and to remove.
    pub labels: BTreeMap<String, Option<String>>,
}

/// The request for a session that goes on from a turn of another.
#[derive(Clone, Debug, PartialEq)]
pub struct Fork {
    /// The session that has the turn.
    pub origin: SessionId,
    /// The last turn that both have in common. It has ended.
    pub turn: u64,
    /// The turns until there that the new session's agent is told, oldest first; none if that turn's end is on no record.
    pub told: Option<Vec<ToldTurn>>,
    /// The directory in which the new session works; else the origin's.
    pub workdir: Option<String>,
    /// The commit that is checked out there now.
    pub start_commit: Option<String>,
    /// The id of the new session; else the next number.
    pub id: Option<SessionId>,
    /// Name, title and labels of the new session. An absent title is the origin's, and labels are added to the origin's.
    pub called: Edit,
}

/// The request of a session for a sub-agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    /// The options that the session named.
    pub given: SessionOpts,
    /// The directory in which kennel makes git worktrees for this parent; none where it makes none.
    pub worktrees: Option<String>,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The command was done, or is under way.
    Done,
    /// A session with this id was created.
    Created(SessionId),
    /// A session with this id existed.
    Existing(SessionId),
    /// The prompt was accepted.
    Accepted {
        /// The prompt's id, which is also the id of its event.
        prompt: PromptId,
        /// The prompt was started or queued.
        disposition: Disposition,
    },
    /// The turn of this prompt is being ended, or the prompt left the queue.
    Aborting {
        /// The prompt.
        prompt: PromptId,
    },
    /// Waiting prompts were removed.
    Cleared {
        /// The number of removed prompts.
        removed: u32,
    },
    /// The agent was asked to change a setting.
    Setting {
        /// The setting's number.
        number: u64,
    },
    /// MCP servers were added.
    Servers {
        /// Names of the servers that are new or different.
        changed: Vec<String>,
        /// The running agent does not have these servers: its next process will.
        next_process: bool,
    },
    /// The client is attached.
    Attached {
        /// The client's id.
        client: EventId,
    },
    /// The interrupted prompt is resolved.
    Resolved {
        /// The prompt that repeats it; none if it was dropped.
        retried_as: Option<PromptId>,
    },
    /// These sessions are being stopped. The one that was named is first.
    Stopping(Vec<SessionId>),
}
