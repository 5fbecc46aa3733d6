//! What manager and worker say to each other over the worker's stdin and stdout.
//!
//! Both directions are numbered, so that a link can be taken up again where it broke: each side counts its
//! own messages from 1 within an incarnation (`seq`) and says the last of the other's that it has made its
//! own (`ack`: committed by the manager, acted on by the worker).
//!
//! The life of a link: the worker says [`Report::Hello`] and then does nothing but wait for
//! [`Command::Welcome`], which is sent only after the worker's identity is in the journal. If the pipe ends
//! before that, the worker exits at once. After `Welcome` the worker prepares its agent and says
//! [`Report::Ready`]; from then on one prompt at a time.
//!
//! Enums here grow by appending variants only: the golden frames in `tests/` of every earlier version must
//! decode for ever.

use serde::{Deserialize, Serialize};

use crate::bounds::ARGUMENT;
use crate::{
    EventId, Exit, Groups, Incarnation, Keeper, Level, LimitedBy, Limits, PromptId, Restore, Sandboxed,
    SessionId, Stream, Walls, WallsOfVersion3,
};

/// Version of this vocabulary. Raised when a message is added; earlier versions still decode.
pub const PROTOCOL_VERSION: u32 = 5;

/// One numbered message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// The worker process this belongs to.
    pub incarnation: Incarnation,
    /// Number of this message in its direction, from 1. `Hello` and `Welcome` have 0: they open the numbering.
    pub seq: u64,
    /// The last message of the other direction that the sender has made its own.
    pub ack: u64,
    /// The message.
    pub body: T,
}

/// Manager to worker.
pub type ToWorker = Envelope<Command>;
/// Worker to manager.
pub type FromWorker = Envelope<Report>;

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
    /// End the running turn and everything it started. Answered by [`Report::TurnEnded`] with
    /// [`TurnEnd::Aborted`]; no answer is due if that prompt does not run.
    Abort {
        /// The prompt whose turn it is.
        prompt: PromptId,
    },
    /// End everything below and leave. A SIGTERM means the same.
    Shutdown,
    /// Start the agent that lives between prompts. Follows [`Command::Welcome`], once, for [`Agent::Acp`] only.
    Open {
        /// What the agent itself called the conversation when it last told ([`Report::AgentSession`]).
        agent_session: Option<String>,
        /// There were turns before.
        conversation: bool,
    },
    /// Somebody, or the session's policy, has decided about [`Report::PermissionAsked`].
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
    /// What has become of [`Report::CallAsked`].
    CallAnswered {
        /// Which.
        request: u64,
        /// What.
        answer: CallAnswer,
    },
    /// What was set in the agent before, to be set again before it takes prompts. Comes before [`Command::Open`].
    Settings(Vec<Setting>),
    /// Set something in the agent. Answered by [`Report::SettingAnswered`].
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
    /// What holds the agent's processes together. Comes before [`Command::Open`]. Answered by [`Report::Contained`].
    Contain {
        /// What the machine was found to be able to.
        level: Level,
        /// The agent does not run in less.
        demanded: bool,
    },
    /// A sign of life is wanted. Answered at once by [`Report::Alive`], whatever else goes on.
    Probe,
    /// [`Command::SandboxOf`] as protocol version 3 has it.
    Sandbox(WallsOfVersion3),
    /// What the agent's processes may use. Comes before [`Command::Open`]. Answered by [`Report::Limited`].
    Limits {
        /// What.
        limits: Limits,
        /// What is to see to it.
        by: LimitedBy,
        /// The control groups that are there for it.
        groups: Groups,
    },
    /// The agent runs in a sandbox, or not at all. Comes before [`Command::Open`]. Answered by [`Report::Sandboxed`].
    SandboxOf(Box<Walls>),
    /// What the session's programs inherit. Comes before [`Command::Open`].
    Inherit(Inherited),
    /// How the session's programs are found at each start. Comes before [`Command::Open`].
    Find(Find),
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
/// The worker says [`Report::Hello`] there, with the last command that it acted on. What it said meanwhile is in the
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

/// Something that belongs to a prompt, beside its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Which sort of thing it is to an agent.
    pub kind: AttachmentKind,
    /// What people call it: a file's name.
    pub name: String,
    /// Its media type (RFC 6838).
    pub mime_type: String,
    /// Where it came from.
    pub uri: String,
    /// What is in it.
    pub content: Content,
}

/// Which sort of thing an attachment is to an agent, which may take some of them and not others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum AttachmentKind {
    /// A picture.
    Image,
    /// A sound.
    Audio,
    /// A file of any other type.
    File,
}

/// What is in an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A text.
    Text(String),
    /// Bytes, in base64 (RFC 4648, section 4): as they come over HTTP and as ACP has them.
    Base64(String),
}

impl Content {
    /// How many bytes there are in it.
    pub fn size(&self) -> usize {
        match self {
            Content::Text(text) => text.len(),
            Content::Base64(data) => {
                data.len() / 4 * 3 - data.bytes().rev().take_while(|byte| *byte == b'=').count()
            }
        }
    }
}

/// Something that a client can do for the agent, in the place of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Offer {
    /// It reads text files: what an editor has and has not saved is part of them.
    #[serde(rename = "fs.read")]
    ReadFile,
    /// It writes text files.
    #[serde(rename = "fs.write")]
    WriteFile,
    /// It runs commands.
    #[serde(rename = "terminal")]
    Terminal,
    /// It asks its user for what the agent wants to know.
    #[serde(rename = "elicitation")]
    Elicitation,
}

impl Offer {
    /// All of them.
    pub const ALL: [Offer; 4] = [Offer::ReadFile, Offer::WriteFile, Offer::Terminal, Offer::Elicitation];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Offer::ReadFile => "fs.read",
            Offer::WriteFile => "fs.write",
            Offer::Terminal => "terminal",
            Offer::Elicitation => "elicitation",
        }
    }

    /// What it takes to answer a method of ACP; none where a client is never asked.
    pub fn of(method: &str) -> Option<Self> {
        match method {
            "fs/read_text_file" => Some(Offer::ReadFile),
            "fs/write_text_file" => Some(Offer::WriteFile),
            "elicitation/create" => Some(Offer::Elicitation),
            _ if method.starts_with("terminal/") => Some(Offer::Terminal),
            _ => None,
        }
    }
}

/// What has become of something that a client was to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallAnswer {
    /// It was done.
    Result {
        /// What came of it: a JSON text.
        json: String,
    },
    /// The client could not do it.
    Error {
        /// Why: a JSON object with `code` and `message`.
        json: String,
    },
    /// No client was asked.
    NotAsked {
        /// Why, for a person.
        reason: String,
    },
    /// A client was asked, may have done it, and has not answered.
    GivenUp {
        /// Why, for a person.
        reason: String,
    },
}

/// The worker's papers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The manager's [`PROTOCOL_VERSION`].
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

/// How prompts are run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Agent {
    /// A prompt is a command line for `/bin/sh -c`.
    Shell,
    /// A program is started for each prompt.
    Command {
        /// The program's absolute path and its arguments.
        argv: Vec<String>,
        /// How it gets the prompt.
        prompt_via: PromptVia,
        /// Whether it is told the turns before. Decides the restore level.
        transcript: bool,
    },
    /// A program that lives between prompts and speaks the Agent Client Protocol on its standard input and output.
    Acp {
        /// The program's absolute path and its arguments.
        argv: Vec<String>,
        /// The log-in method (ACP: `authMethods[].id`) to be used before a session is opened.
        login: Option<String>,
        /// Offered to the agent.
        mcp_servers: Vec<McpServer>,
    },
}

impl Agent {
    /// The absolute path of the program that is run.
    pub fn program(&self) -> Option<&str> {
        match self {
            Agent::Shell => None,
            Agent::Command { argv, .. } | Agent::Acp { argv, .. } => argv.first().map(String::as_str),
        }
    }
}

/// A program that offers tools over the Model Context Protocol on its standard input and output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct McpServer {
    /// What the agent calls it.
    pub name: String,
    /// The program's absolute path.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Added to its environment.
    pub env: Vec<(String, String)>,
}

/// A server of tools over the Model Context Protocol that is reached by HTTP.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteServer {
    /// What the agent calls it.
    pub name: String,
    /// How it is reached.
    pub transport: Transport,
    /// Where.
    pub url: String,
    /// Sent with each request.
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for RemoteServer {
    /// Without what may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteServer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a server of tools is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Transport {
    /// By streamable HTTP.
    #[default]
    Http,
    /// By HTTP and server-sent events, as before 2025.
    Sse,
}

impl Transport {
    /// Its name in ACP.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Http => "http",
            Transport::Sse => "sse",
        }
    }
}

/// How a program that is started once a prompt gets the prompt's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum PromptVia {
    /// On standard input, which then ends.
    Stdin,
    /// As the last argument; standard input is empty. Bounded by the kernel at 128 KiB (execve(2)). A text that begins with
    /// `-` gets a space before it, so that it is no option, unless the last word of the command is `--`.
    Argument,
}

impl Agent {
    /// How many bytes a prompt may have, where it becomes an argument.
    pub fn longest_prompt(&self) -> Option<usize> {
        match self {
            // Room for the space that keeps it from being an option.
            Agent::Shell | Agent::Command { prompt_via: PromptVia::Argument, .. } => Some(ARGUMENT - 1),
            Agent::Command { prompt_via: PromptVia::Stdin, .. } | Agent::Acp { .. } => None,
        }
    }
}

/// One turn of the conversation before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// What the user wrote.
    pub prompt: String,
    /// What the agent answered on standard output; cut short where the turn was.
    pub reply: String,
}

/// What a worker tells the manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The worker is up, has left the manager's process group, and waits. The first message, once.
    Hello {
        /// The worker's [`PROTOCOL_VERSION`].
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
    /// The agent wants to be allowed something, and waits for [`Command::Answer`].
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
    /// The agent wants something done that a client can do, and waits for [`Command::CallAnswered`].
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
    /// What the agent says to [`Command::Set`].
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

/// Something that can be set in an agent that speaks the Agent Client Protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The agent's id of a configuration option, or `mode`.
    pub name: String,
    /// The agent's id of a value.
    pub value: String,
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
