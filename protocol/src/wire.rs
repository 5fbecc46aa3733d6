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

use crate::{Exit, Incarnation, PromptId, Restore, SessionId, Stream};

/// Version of this vocabulary. Raised when a message is added; earlier versions still decode.
pub const PROTOCOL_VERSION: u32 = 1;

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
}

/// How a program that is started once a prompt gets the prompt's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum PromptVia {
    /// On standard input, which then ends.
    Stdin,
    /// As the last argument; standard input is empty. Bounded by the kernel at 128 KiB (execve(2)).
    Argument,
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
}
