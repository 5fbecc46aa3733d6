//! Messages of a worker to the manager.

use serde::{Deserialize, Serialize};

use super::files::FilesAnswer;
use super::log_in::Unlogged;
use crate::{EventId, Exit, Keeper, Level, LimitedBy, PromptId, Restore, Sandboxed, Stream};

/// A message of a worker to the manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The worker is up, has left the manager's process group, and waits. The first message, once.
    Hello {
        /// The worker's [`PROTOCOL_VERSION`](super::PROTOCOL_VERSION).
        protocol: u32,
        /// Version and build of the worker.
        build: String,
        /// Number of the last command that the worker acted on; 0 in a new process.
        resume_from: u64,
    },
    /// The agent takes prompts.
    Ready {
        /// Restore level: how much of the conversation the agent has.
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
        /// Standard output or standard error.
        stream: Stream,
        /// The text.
        text: String,
    },
    /// The turn is over and nothing that it started lives any more.
    TurnEnded {
        /// The prompt.
        prompt: PromptId,
        /// Reason of the end.
        end: TurnEnd,
        /// Exit of the agent's process; absent if no process ended with the turn.
        exit: Option<Exit>,
        /// Number of processes that outlived the agent's own process. The worker ended them.
        left_behind: u32,
    },
    /// The worker cannot go on. It ends all processes below and exits.
    Fault {
        /// The failure, for a person.
        message: String,
    },
    /// The agent's own id of the conversation, by which it restores it.
    AgentSession {
        /// The agent's own id.
        id: String,
    },
    /// An update of the agent about its work.
    Update {
        /// Prompt of the turn; absent between turns.
        prompt: Option<PromptId>,
        /// The part that kennel understands.
        update: Update,
        /// The whole update as the agent sent it: a JSON object.
        payload: String,
    },
    /// The agent asks for a permission, and waits for [`Command::Answer`](super::Command::Answer).
    PermissionAsked {
        /// The prompt whose turn it is; [`PromptId::NONE`] between turns.
        prompt: PromptId,
        /// Number of the permission request in this worker, from 1.
        request: u64,
        /// The part that kennel understands.
        ask: PermissionAsk,
        /// The whole request as the agent sent it: a JSON object.
        payload: String,
    },
    /// The agent that lives between prompts has ended, or must be ended. The worker ends what is left below and
    /// leaves.
    AgentDied {
        /// Reason, for a person.
        message: String,
    },
    /// The agent needs a log-in. The worker ends the agent and exits.
    LoginNeeded {
        /// Advice, for a person.
        message: String,
    },
    /// A message for a person.
    Notice {
        /// The text.
        text: String,
    },
    /// Name, version and abilities of the agent.
    Introduced(AgentDetails),
    /// The agent sent a request that a client can answer, and waits for [`Command::CallAnswered`](super::Command::CallAnswered).
    CallAsked {
        /// The prompt whose turn it is.
        prompt: PromptId,
        /// Number of the call in this worker, from 1.
        request: u64,
        /// Client that should answer; absent: any client that can.
        client: Option<EventId>,
        /// Name of the ACP method.
        method: String,
        /// Parameters: a JSON object.
        payload: String,
    },
    /// The agent's answer to [`Command::Set`](super::Command::Set).
    SettingAnswered {
        /// Number of the setting.
        request: u64,
        /// The answer.
        answer: SettingAnswer,
    },
    /// Containment of the agent's processes: first the intended level, then again if the worker finds another one.
    Contained {
        /// The level.
        level: Level,
    },
    /// The worker lives.
    Alive {
        /// Processor time that all processes below it have used so far, in milliseconds, and those that they have reaped.
        cpu_ms: u64,
        /// Commands that it runs for its agent.
        commands: u32,
    },
    /// Sandbox of the agent, which does not run without it.
    Sandboxed(Sandboxed),
    /// Mechanism that enforces each limit of the agent's processes.
    Limited(LimitedBy),
    /// Processes were killed because together they exceeded the memory limit. Comes before the reports of what that ended.
    OutOfMemory {
        /// The most memory that they used, in bytes; absent if unknown.
        peak_bytes: Option<u64>,
        /// Memory limit, in bytes.
        limit_bytes: u64,
        /// Mechanism that enforced the limit.
        by: Keeper,
    },
    /// The agent's program did not start, so nothing of the conversation is lost. The worker exits.
    NotRun {
        /// Reason, for a person.
        message: String,
        /// The cause may pass by itself: the program is missing, or another process is writing it.
        passes: bool,
    },
    /// Path of the agent's program. Sent before a start, if the path differs from the last report.
    Program {
        /// Its absolute path.
        path: String,
    },
    /// The answer to [`Command::ReadFiles`](super::Command::ReadFiles). It is not recorded.
    FilesRead {
        /// Number of the request.
        request: u64,
        /// The answer.
        answer: FilesAnswer,
    },
    /// A piece of what a log-in shows. It is not recorded.
    LogInOutput {
        /// The bytes, at most [`LOGIN_PIECE`](crate::bounds::LOGIN_PIECE).
        bytes: Unlogged,
    },
    /// The log-in's program has ended, and nothing that it started lives any more. The worker exits.
    LogInEnded {
        /// Exit of the program; absent if it did not run.
        exit: Option<Exit>,
        /// The reason if kennel ended the program, or if it did not run; else empty.
        message: String,
    },
}

/// Reason for the end of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TurnEnd {
    /// The agent's process exited, with any status.
    Finished,
    /// The manager aborted the turn.
    Aborted,
    /// The turn failed: the agent did not run, or it answered with an error.
    Failed {
        /// Reason, for a person.
        message: String,
    },
    /// The agent ended the turn, and lives on.
    Stopped {
        /// Reason, in the agent's words: `end_turn`, `max_tokens`, `refusal` and so on.
        reason: String,
    },
    /// The kernel refused to execute the agent's program, which therefore has not seen the prompt. The cause may pass by
    /// itself.
    NotRun {
        /// Reason, for a person.
        message: String,
    },
}

/// Name, version and abilities of an agent that speaks the Agent Client Protocol, as it reports them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct AgentDetails {
    /// Name; absent if the agent does not report it.
    pub name: Option<String>,
    /// Version; absent if the agent does not report it.
    pub version: Option<String>,
    /// The agent can resume a conversation without replaying it.
    pub resume: bool,
    /// The agent can load a conversation, and replays all of it.
    pub load: bool,
}

/// An agent's answer to a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettingAnswer {
    /// The agent accepted the setting.
    Set {
        /// The agent's whole answer: a JSON object.
        payload: String,
    },
    /// The agent refused the setting.
    Refused {
        /// Reason, for a person.
        reason: String,
    },
}

/// The part of an agent's update that kennel understands.
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
    /// The agent begins a tool call.
    ToolCall {
        /// The agent's id of the call.
        id: String,
        /// Title, in the agent's words.
        title: String,
        /// The tool call has ended already.
        ended: bool,
    },
    /// A tool call goes on.
    ToolCallUpdate {
        /// The agent's id of the call.
        id: String,
        /// The tool call has ended.
        ended: bool,
    },
    /// The agent's plan.
    Plan,
    /// Tokens and cost so far.
    Usage(Spent),
    /// Something else.
    Other,
}

/// Tokens and cost. A field is absent if the agent did not report it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Tokens read in the turn.
    pub input_tokens: Option<u64>,
    /// Tokens written in the turn.
    pub output_tokens: Option<u64>,
    /// Cost of the session so far in millionths of a US dollar.
    pub cost_micro_usd: Option<u64>,
}

/// A permission request of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionAsk {
    /// The agent's id of the tool call.
    pub tool_call: String,
    /// Title, in the agent's words.
    pub title: String,
    /// Kind of the tool: `read`, `edit`, `execute` and so on; absent if the agent does not name it.
    pub kind: Option<String>,
    /// Files that the tool call touches, as the agent names them.
    pub paths: Vec<String>,
    /// Options of the answer.
    pub options: Vec<PermissionOption>,
}

/// An answer that an agent takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct PermissionOption {
    /// The agent's id of it.
    pub id: String,
    /// The option's meaning, in the agent's words.
    pub name: String,
    /// `allow_once`, `allow_always`, `reject_once`, `reject_always`, or what the agent says.
    pub kind: String,
}
