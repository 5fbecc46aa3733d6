//! Messages of a worker to the manager.

use serde::{Deserialize, Serialize};

use crate::{EventId, Exit, Keeper, Level, LimitedBy, PromptId, Restore, Sandboxed, Stream};

/// What a worker tells the manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The worker is up, has left the manager's process group, and waits. The first message, once.
    Hello {
        /// The worker's [`PROTOCOL_VERSION`](super::PROTOCOL_VERSION).
        protocol: u32,
        /// Which build it is.
        build: String,
        /// The last command it acted on; 0 in a new process.
        resume_from: u64,
    },
    /// The agent takes prompts.
    Ready {
        /// What the agent knows of the turns before.
        restore: Restore,
        /// The agent's process, where one lives between prompts.
        agent_pid: Option<u32>,
    },
    /// The prompt's turn runs.
    TurnStarted {
        /// The prompt.
        prompt: PromptId,
        /// The process that runs it.
        agent_pid: u32,
    },
    /// A piece of the agent's output, at most 64 KiB. Bytes that are not UTF-8 are replaced by U+FFFD.
    Output {
        /// The prompt whose turn it is.
        prompt: PromptId,
        /// Which output.
        stream: Stream,
        /// The text.
        text: String,
    },
    /// The turn is over and nothing that it started lives any more.
    TurnEnded {
        /// The prompt.
        prompt: PromptId,
        /// Why.
        end: TurnEnd,
        /// How the agent's process ended, where it had one.
        exit: Option<Exit>,
        /// How many processes were still there when the agent's own process ended, and were ended with it.
        left_behind: u32,
    },
    /// The worker cannot go on. It ends what is below and leaves.
    Fault {
        /// What happened.
        message: String,
    },
    /// What the agent calls the conversation: by this it finds it again.
    AgentSession {
        /// The agent's own id.
        id: String,
    },
    /// The agent tells something of its work.
    Update {
        /// The prompt whose turn it is; none between turns.
        prompt: Option<PromptId>,
        /// What of it kennel understands.
        update: Update,
        /// The whole of it, as it came: a JSON object.
        payload: String,
    },
    /// The agent wants to be allowed something, and waits for [`Command::Answer`](super::Command::Answer).
    PermissionAsked {
        /// The prompt whose turn it is; [`PromptId::NONE`] between turns.
        prompt: PromptId,
        /// Counts the questions of this worker from 1.
        request: u64,
        /// What is asked.
        ask: PermissionAsk,
        /// The whole question, as it came: a JSON object.
        payload: String,
    },
    /// The agent that lives between prompts has ended, or must be ended. The worker ends what is left below and
    /// leaves.
    AgentDied {
        /// How it ended, for a person.
        message: String,
    },
    /// The agent does not work before somebody has logged in. The worker ends it and leaves.
    LoginNeeded {
        /// What to do, for a person.
        message: String,
    },
    /// Something that a person should read.
    Notice {
        /// The text.
        text: String,
    },
    /// The agent has said what it is.
    Introduced(AgentDetails),
    /// The agent wants something done that a client can do, and waits for [`Command::CallAnswered`](super::Command::CallAnswered).
    CallAsked {
        /// The prompt whose turn it is.
        prompt: PromptId,
        /// Counts the calls of this worker from 1.
        request: u64,
        /// The client that is to do it; none: whichever can.
        client: Option<EventId>,
        /// ACP's name of what is to be done.
        method: String,
        /// With what: a JSON object.
        payload: String,
    },
    /// What the agent says to [`Command::Set`](super::Command::Set).
    SettingAnswered {
        /// Which.
        request: u64,
        /// What.
        answer: SettingAnswer,
    },
    /// What holds the agent's processes together: what is meant to, and again if it is found to be another.
    Contained {
        /// What does.
        level: Level,
    },
    /// It lives.
    Alive {
        /// Processor time that all processes below it have used so far, in milliseconds, and those that they have reaped.
        cpu_ms: u64,
        /// Commands that it runs for its agent.
        commands: u32,
    },
    /// The agent runs in this sandbox, or not at all.
    Sandboxed(Sandboxed),
    /// This sees to it that the agent's processes keep their limits.
    Limited(LimitedBy),
    /// Processes were killed because all together they had more memory than they may have. Comes before what that
    /// ended.
    OutOfMemory {
        /// The most that they had, in bytes, where that is known.
        peak_bytes: Option<u64>,
        /// What they may have, in bytes.
        limit_bytes: u64,
        /// What saw to it.
        by: Keeper,
    },
    /// The agent's program did not come to run, so that nothing of the conversation is lost. The worker leaves.
    NotRun {
        /// Why, for a person.
        message: String,
        /// The cause may pass by itself: the program is missing, or another process is writing it.
        passes: bool,
    },
    /// The agent's program that is about to run. Sent when it is another one than the worker has said last.
    Program {
        /// Its absolute path.
        path: String,
    },
}

/// Why a turn is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TurnEnd {
    /// The agent came to its end, whatever the exit status.
    Finished,
    /// The manager asked for it.
    Aborted,
    /// The agent could not be run at all.
    Failed {
        /// Why, for a person.
        message: String,
    },
    /// The agent says that it is done, and lives on.
    Stopped {
        /// Why, in its words: `end_turn`, `max_tokens`, `refusal` and so on.
        reason: String,
    },
    /// The kernel refused to execute the agent's program, so that it knows nothing of the prompt. The cause may pass by itself.
    NotRun {
        /// Why, for a person.
        message: String,
    },
}

/// What an agent that speaks the Agent Client Protocol says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct AgentDetails {
    /// Its name, where it says it.
    pub name: Option<String>,
    /// Its version, where it says it.
    pub version: Option<String>,
    /// It can resume a conversation without telling it again.
    pub resume: bool,
    /// It can load a conversation, and tells all of it again.
    pub load: bool,
}

/// What an agent says to a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettingAnswer {
    /// It is set.
    Set {
        /// Its whole answer: a JSON object.
        payload: String,
    },
    /// It is not.
    Refused {
        /// Why, for a person.
        reason: String,
    },
}

/// What kennel understands of something that an agent tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Update {
    /// A piece of the answer; empty where it is no text.
    Message {
        /// The text.
        text: String,
    },
    /// A piece of what it thinks.
    Thought {
        /// The text.
        text: String,
    },
    /// It begins to use a tool.
    ToolCall {
        /// The agent's id of the call.
        id: String,
        /// In words.
        title: String,
        /// It has ended already.
        ended: bool,
    },
    /// A tool call goes on.
    ToolCallUpdate {
        /// The agent's id of the call.
        id: String,
        /// It has ended.
        ended: bool,
    },
    /// What it means to do.
    Plan,
    /// Tokens and cost so far.
    Usage(Spent),
    /// Something else.
    Other,
}

/// Tokens and cost. What is none was not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Tokens read.
    pub input_tokens: Option<u64>,
    /// Tokens written.
    pub output_tokens: Option<u64>,
    /// Cost of the session so far in millionths of a US dollar.
    pub cost_micro_usd: Option<u64>,
}

/// What an agent wants to be allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionAsk {
    /// The agent's id of the tool call it is about.
    pub tool_call: String,
    /// What it is, in the agent's words.
    pub title: String,
    /// What kind of tool it is: `read`, `edit`, `execute` and so on, where the agent says it.
    pub kind: Option<String>,
    /// Which files it touches, where the agent says it.
    pub paths: Vec<String>,
    /// What can be answered.
    pub options: Vec<PermissionOption>,
}

/// An answer that an agent takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct PermissionOption {
    /// The agent's id of it.
    pub id: String,
    /// What it means, in the agent's words.
    pub name: String,
    /// `allow_once`, `allow_always`, `reject_once`, `reject_always`, or what the agent says.
    pub kind: String,
}
