//! All that can happen to a session: what somebody wants of it, and what is observed of its processes.

use std::sync::Arc;

use protocol::api::{Orphans, PermissionAnswer, Role, SessionOpts};
use protocol::event::{Disposition, Resolution};
use protocol::wire::{
    AgentDetails, CallAnswer, McpServer, Offer, PermissionAsk, RemoteServer, Setting, TurnEnd, Update,
};
use protocol::{
    CallId, EventId, Exit, Identity, Incarnation, Keeper, Level, LimitedBy, PermissionId, PromptId, Restore,
    Sandboxed, SessionId, Stream,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::model::spec::Spec;
use crate::core::model::turn::NewPrompt;

/// What happens to a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Somebody wants something. May be refused.
    Command(Command),
    /// An attached client wants something, which only the driver may.
    CommandBy(EventId, Command),
    /// Something was observed. Never refused; ignored if it is about an earlier incarnation.
    Seen(Incarnation, Seen),
    /// A manager has taken the session over from the journal. `same_boot` says whether times still compare.
    Recovered {
        /// The machine has not been started anew since the journal was written.
        same_boot: bool,
    },
    /// The manager leaves and takes its processes with it.
    Shutdown,
    /// Time has passed; the deadline may be due.
    Tick,
    /// The number of open sub-agent tasks changes.
    OpenTasks(i32),
}

/// What somebody can want of a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Have it up: start or wake it if it is not.
    Up,
    /// Have it down.
    Stop,
    /// A new process, and a clean slate for the judge.
    Restart,
    /// Accept a prompt.
    Prompt(NewPrompt),
    /// End the running turn.
    Abort,
    /// End this prompt's turn, if it is the one that runs.
    AbortOnly(PromptId),
    /// Never hibernate, or do again.
    Pin(bool),
    /// Replace the text of a waiting prompt.
    Edit(PromptId, Arc<str>),
    /// Take a waiting prompt out.
    Remove(PromptId),
    /// Take all waiting prompts out.
    Clear,
    /// Decide about an interrupted prompt.
    Resolve(PromptId, Resolution),
    /// Answer a permission.
    Permit(PermissionId, PermissionAnswer),
    /// Come, to drive or to look on.
    Attach {
        /// What the client calls itself.
        name: String,
        /// What it wants to do.
        role: Role,
        /// It drives, also if another does: that one looks on from then on.
        takeover: bool,
        /// What it can do for the agent while it drives.
        offers: Vec<Offer>,
    },
    /// Go.
    Detach(EventId),
    /// Set something in the agent.
    Set(Setting),
    /// Give the agent MCP servers beside those that it has.
    AddServers {
        /// Programs.
        programs: Vec<McpServer>,
        /// Those that it reaches by itself, if it can.
        remote: Vec<RemoteServer>,
    },
    /// Answer a call, which only the client that drives can.
    AnswerCall(CallId, CallAnswer),
}

/// What can be observed of an incarnation.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// Its process was spawned.
    Spawned(Identity),
    /// It could not be spawned. `no_room`: because the machine had no process, descriptor or memory left.
    SpawnFailed {
        /// Why, for a person.
        error: String,
        /// It is not the session's fault.
        no_room: bool,
    },
    /// Its agent takes prompts.
    Ready {
        /// What the agent knows of the turns before.
        restore: Restore,
        /// The agent's process, where one lives between prompts.
        agent_pid: Option<u32>,
    },
    /// It took a prompt.
    TurnStarted {
        /// Which.
        prompt: PromptId,
        /// The process that runs it.
        agent_pid: u32,
    },
    /// Its agent said something.
    Output {
        /// In which prompt's turn.
        prompt: PromptId,
        /// On which output.
        stream: Stream,
        /// What.
        text: String,
    },
    /// A turn is over.
    TurnEnded {
        /// Which prompt's.
        prompt: PromptId,
        /// Why.
        end: TurnEnd,
        /// How the agent's process ended.
        exit: Option<Exit>,
        /// Processes that were ended with it.
        left_behind: u32,
    },
    /// What its agent calls the conversation.
    AgentSession(String),
    /// Its agent has said what it is.
    Introduced(AgentDetails),
    /// What holds the agent's processes together.
    Contained(Level),
    /// The agent is in a sandbox.
    Sandboxed(Sandboxed),
    /// This sees to it that the agent keeps its limits.
    Limited(LimitedBy),
    /// Processes of it were killed for their memory.
    OutOfMemory {
        /// The most that they had, in bytes.
        peak_bytes: Option<u64>,
        /// What they may have, in bytes.
        limit_bytes: u64,
        /// What saw to it.
        by: Keeper,
    },
    /// Its agent tells something of its work.
    Updated {
        /// In which prompt's turn; none between turns.
        prompt: Option<PromptId>,
        /// What of it is understood.
        update: Update,
        /// The whole of it.
        payload: Value,
    },
    /// Its agent wants to be allowed something.
    PermissionAsked {
        /// In which prompt's turn; none between turns.
        prompt: Option<PromptId>,
        /// The worker's number of the question.
        request: u64,
        /// What.
        ask: PermissionAsk,
        /// The whole question.
        payload: Value,
    },
    /// Its agent wants something done that a client can do.
    CallAsked {
        /// In which prompt's turn.
        prompt: PromptId,
        /// The worker's number of it.
        request: u64,
        /// The client that is to do it; none: whichever can.
        client: Option<EventId>,
        /// What.
        method: String,
        /// With what.
        payload: Value,
    },
    /// The agent has set something, and gives what it says to that; or it has not, and says why.
    SettingAnswered {
        /// Which.
        request: u64,
        /// What.
        answer: Result<Value, String>,
    },
    /// Its worker lives.
    Alive {
        /// Processor time that the processes below it have used so far, in milliseconds.
        cpu_ms: u64,
        /// Commands that it runs for its agent.
        commands: u32,
    },
    /// Something that a person should read.
    Notice(String),
    /// Its agent has ended, and it leaves.
    AgentDied(String),
    /// Its agent's program did not come to run, and it leaves.
    NotRun {
        /// Why, for a person.
        message: String,
        /// The cause may pass by itself.
        passes: bool,
    },
    /// Its agent's program that is about to run: the absolute path.
    Program(String),
    /// Its agent wants somebody to log in, and it leaves.
    LoginNeeded(String),
    /// It misbehaves and must go.
    Faulted(String),
    /// A worker of an earlier manager goes on with this one. All that it said before was told.
    Linked {
        /// It speaks another version of the protocol than this manager.
        outdated: bool,
    },
    /// What its prompt needs from the journal was read, and it was given the prompt with it.
    Handed(PromptId),
    /// All of its messages up to this number were told.
    Heard(u64),
    /// It is dead, all that it had said has been read, and nothing that it started lives. The last thing ever
    /// observed of an incarnation.
    Gone {
        /// How it ended.
        exit: Exit,
        /// The last lines on its standard error.
        last_words: Vec<String>,
        /// Processes of its tree that survive SIGKILL.
        survivors: Vec<u32>,
    },
}

impl Seen {
    /// It shows that the agent of the running turn works.
    pub(super) fn shows_work(&self) -> bool {
        match self {
            Seen::TurnStarted { .. }
            | Seen::Output { .. }
            | Seen::Updated { .. }
            | Seen::PermissionAsked { .. }
            | Seen::CallAsked { .. }
            | Seen::SettingAnswered { .. } => true,
            Seen::Spawned(_)
            | Seen::SpawnFailed { .. }
            | Seen::Ready { .. }
            | Seen::TurnEnded { .. }
            | Seen::AgentSession(_)
            | Seen::Introduced(_)
            | Seen::Contained(_)
            | Seen::Sandboxed(_)
            | Seen::Limited(_)
            | Seen::OutOfMemory { .. }
            | Seen::Alive { .. }
            | Seen::Notice(_)
            | Seen::AgentDied(_)
            | Seen::NotRun { .. }
            | Seen::Program(_)
            | Seen::LoginNeeded(_)
            | Seen::Handed(_)
            | Seen::Heard(_)
            | Seen::Linked { .. }
            | Seen::Faulted(_)
            | Seen::Gone { .. } => false,
        }
    }
}

/// Something that concerns the fleet.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// A new session.
    Create {
        /// Its id; else the next number.
        id: Option<SessionId>,
        /// What it runs.
        spec: Arc<Spec>,
    },
    /// The session under this id, which is started if it is not up, and created if it does not exist.
    Ensure {
        /// The id.
        id: SessionId,
        /// What it runs if it is created.
        spec: Arc<Spec>,
        /// What the caller said of it, compared with a session that exists.
        given: Box<SessionOpts>,
    },
    /// A new session with a first prompt, below `parent`.
    Subagent {
        /// Whose sub-agent it is.
        parent: Option<SessionId>,
        /// Its id; else the next number.
        id: Option<SessionId>,
        /// What it runs.
        spec: Arc<Spec>,
        /// Its first prompt.
        task: Arc<str>,
        /// What the parent itself asked for; none: the owner asks, who may do all.
        wish: Option<Box<Wish>>,
    },
    /// Stop a session and, unless they are kept, all below it.
    Stop(SessionId, Orphans),
    /// Remove a session that has no process, with its records.
    Remove(SessionId),
    /// One session's business.
    One(SessionId, Input),
    /// A manager has loaded the journal.
    ManagerStarted {
        /// Its process.
        pid: u32,
        /// Version and build.
        version: String,
        /// The machine's boot.
        boot_id: String,
        /// The journal was last written in this boot.
        same_boot: bool,
        /// What was lost of the journal, if it was damaged.
        lost: Option<String>,
    },
    /// The manager leaves and takes all processes with it.
    Shutdown,
}

/// The request of a session for a sub-agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    /// The options that the session named.
    pub given: SessionOpts,
    /// The directory in which kennel makes git worktrees for this parent; none where it makes none.
    pub worktrees: Option<String>,
}

/// What a command comes to, for whoever gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done, or under way.
    Done,
    /// This session was created.
    Created(SessionId),
    /// This session existed.
    Existing(SessionId),
    /// A prompt is accepted.
    Accepted {
        /// Its id, which is its event's id too.
        prompt: PromptId,
        /// What became of it.
        disposition: Disposition,
    },
    /// This prompt's turn is being ended.
    Aborting {
        /// The prompt.
        prompt: PromptId,
    },
    /// So many waiting prompts were removed.
    Cleared {
        /// The number.
        removed: u32,
    },
    /// The agent is to set it.
    Setting {
        /// The setting's number.
        number: u64,
    },
    /// MCP servers were added.
    Servers {
        /// Names of those that it did not have so.
        changed: Vec<String>,
        /// The agent that runs does not have them: its next process will.
        next_process: bool,
    },
    /// This client is attached.
    Attached {
        /// Its id.
        client: EventId,
    },
    /// An interrupted prompt is settled.
    Resolved {
        /// The prompt that repeats it.
        retried_as: Option<PromptId>,
    },
    /// These sessions are being stopped, the one asked for first.
    Stopping(Vec<SessionId>),
}
