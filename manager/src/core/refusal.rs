//! The reasons for which a command is refused. A refusal changes nothing.

use protocol::{CallId, Incarnation, PermissionId, PromptId, SessionId, SessionName};

/// The reason for which a command was refused. The message names what stayed unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the message of each variant documents it
pub enum Refusal {
    #[error("no such session `{0}`")]
    NoSuchSession(String),
    #[error("no session has a process with pid {0} now")]
    NoSuchPid(u32),
    #[error("a session `{0}` exists already")]
    IdTaken(SessionId),
    #[error("`{0}` cannot be the id of a session that you start; nothing was started")]
    IdUnusable(SessionId),
    #[error("`{0}` was the id of a session that was removed; ids are not used again")]
    IdRetired(SessionId),
    #[error("`{id}` is the name of session `{of}`; nothing was started")]
    IdIsName { id: SessionId, of: SessionId },
    #[error(
        "`{0}` cannot be a session's id: a number alone means the session `session-{0}`; nothing was started"
    )]
    IdIsNumber(SessionId),
    #[error("`{name}` is the name of session `{of}` already; {naming}")]
    NameTaken { name: SessionName, of: SessionId, naming: Naming },
    #[error("`{0}` is the id of a session, or was one; {1}")]
    NameIsId(SessionName, Naming),
    #[error("`{0}` cannot be the name of a session that you start or name; {1}")]
    NameUnusable(SessionName, Naming),
    #[error("session `{id}` would have more than {limit} labels; nothing was changed")]
    TooManyLabels { id: SessionId, limit: usize },
    #[error("the key would not reach session `{0}` any more without that label; nothing was changed")]
    LabelsOfKey(SessionId),
    #[error("{} has the conversation `{}` already; nothing was started", of.as_ref().map_or("another session".into(), |of| format!("session `{of}`")), conversation.escape_debug())]
    ConversationTaken { conversation: String, of: Option<SessionId> },
    #[error("session `{id}` exists with other options: {}", fields.join(", "))]
    SpecMismatch { id: SessionId, fields: Vec<&'static str> },
    #[error("session `{0}` is stopped; the prompt was not accepted")]
    Stopped(SessionId),
    #[error("session `{id}` has failed ({reason}); the prompt was not accepted")]
    Failed { id: SessionId, reason: String },
    #[error("session `{0}` is being stopped; the prompt was not accepted")]
    Stopping(SessionId),
    #[error("session `{0}` is busy; the prompt was not accepted")]
    Busy(SessionId),
    #[error("the queue of session `{id}` is full ({limit} prompts); the prompt was not accepted")]
    QueueFull { id: SessionId, limit: usize },
    #[error("session `{id}` runs `{agent}`, which takes no attachments; the prompt was not accepted")]
    NoAttachments { id: SessionId, agent: String },
    #[error(
        "session `{id}` runs `{agent}`, which gets a prompt as an argument: {bytes} bytes are more than the {limit} that the kernel takes; the prompt was not accepted"
    )]
    TooLongForAgent { id: SessionId, agent: String, bytes: usize, limit: usize },
    #[error("no turn runs in session `{0}`; nothing was aborted")]
    NoTurn(SessionId),
    #[error("no turn of prompt `{prompt}` runs in session `{id}`; nothing was aborted")]
    NoTurnOf { id: SessionId, prompt: PromptId },
    #[error(
        "prompt `{prompt}` waits in the queue of session `{id}`: no turn of it runs, and nothing was aborted"
    )]
    Queued { id: SessionId, prompt: PromptId },
    #[error("no such prompt `{prompt}` in this session")]
    NoSuchPrompt { id: SessionId, prompt: PromptId },
    #[error("prompt `{prompt}` does not wait in the queue any more")]
    NotQueued { id: SessionId, prompt: PromptId },
    #[error("prompt `{0}` was not interrupted, or that was resolved already")]
    NotInterrupted(PromptId),
    #[error("no such permission `{0}` in this session")]
    NoSuchPermission(PermissionId),
    #[error("permission `{0}` was answered already, or expired")]
    PermissionSettled(PermissionId),
    #[error("permission `{id}` cannot be answered so; it offers {}", listed(offered))]
    NoSuchOption { id: PermissionId, offered: Vec<String> },
    #[error("session `{id}` runs `{agent}`, in which nothing can be set; nothing was changed")]
    NoSettings { id: SessionId, agent: String },
    #[error("{limit} settings of session `{id}` wait for its agent already; nothing was changed")]
    TooManySettings { id: SessionId, limit: usize },
    #[error("no such call `{0}` in this session")]
    NoSuchCall(CallId),
    #[error("call `{0}` was answered already, or expired; this answer was not heard")]
    CallSettled(CallId),
    #[error("session `{id}` is driven by {}{}; you were not attached", name.escape_debug(), kept(*kept_ms))]
    Driven { id: SessionId, name: String, kept_ms: Option<u64> },
    #[error("you do not drive session `{0}`; nothing was changed")]
    NotDriver(SessionId),
    #[error("{limit} clients are attached to session `{id}` already; you were not")]
    TooManyClients { id: SessionId, limit: usize },
    #[error("session `{0}` still has a process; it was not removed")]
    NotStopped(SessionId),
    #[error("processes {pids:?} of session `{id}`, incarnation {incarnation}, survived SIGKILL")]
    Unkillable { id: SessionId, incarnation: Incarnation, pids: Vec<u32> },
    #[error("{}; no sub-agent was started", exceeded(id, *what, *limit))]
    SubagentLimit { id: SessionId, what: SubagentLimit, limit: u32 },
    #[error("a sub-agent of session `{id}` can do no more than `{id}` itself ({}); no sub-agent was started", what.join("; "))]
    Weaker { id: SessionId, what: Vec<String> },
    #[error("{}; nothing was started", no_turn(id, *turn, *count))]
    NoSuchTurn { id: SessionId, turn: u64, count: u64 },
    #[error(
        "turn {turn} of session `{id}` cannot be told: kennel has pruned it, or it has more than 256 KiB; nothing was started"
    )]
    TurnPruned { id: SessionId, turn: u64 },
    #[error("turn {turn} of session `{id}` has not ended; nothing was started")]
    TurnRuns { id: SessionId, turn: u64 },
    #[error(
        "session `{id}` runs `{agent}`, which is told no earlier turns, so it cannot be forked; nothing was started"
    )]
    CannotFork { id: SessionId, agent: String },
    #[error(
        "session `{id}` runs in the sandbox of its own directory, so its fork works there, too; nothing was started"
    )]
    ForkElsewhere { id: SessionId },
    #[error("the manager is stopping; nothing was changed")]
    Closing,
}

/// The request that names a session: the message says what it left as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// A new session was to have the name.
    New,
    /// A session was to have another name.
    Rename,
}

impl std::fmt::Display for Naming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Naming::New => "nothing was started",
            Naming::Rename => "nothing was changed",
        })
    }
}

/// The note on a driver whose connection was lost.
fn kept(left_ms: Option<u64>) -> String {
    left_ms.map_or(String::new(), |left| {
        format!(", whose connection was lost: the seat is kept for {} s more", left.div_ceil(1000))
    })
}

/// A limit of sub-agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubagentLimit {
    /// The number of parents above a sub-agent.
    Depth,
    /// The number of sub-agents of one parent that work at a time.
    Breadth,
    /// The number of sub-agents below one root.
    Total,
}

impl Refusal {
    /// The stable name, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::NoSuchSession(_) => "no_such_session",
            Refusal::NoSuchPid(_) => "no_such_pid",
            Refusal::IdTaken(_) | Refusal::IdIsName { .. } => "id_taken",
            Refusal::IdUnusable(_) => "id_unusable",
            Refusal::IdIsNumber(_) => "invalid_id",
            Refusal::NameTaken { .. } | Refusal::NameIsId(..) => "name_taken",
            Refusal::NameUnusable(..) => "name_unusable",
            Refusal::TooManyLabels { .. } => "too_many_labels",
            Refusal::LabelsOfKey(_) => "labels_of_key",
            Refusal::IdRetired(_) => "id_retired",
            Refusal::SpecMismatch { .. } => "spec_mismatch",
            Refusal::Stopped(_) => "session_stopped",
            Refusal::Failed { .. } => "session_failed",
            Refusal::Stopping(_) => "session_stopping",
            Refusal::Busy(_) => "busy",
            Refusal::QueueFull { .. } => "queue_full",
            Refusal::NoAttachments { .. } => "no_attachments",
            Refusal::TooLongForAgent { .. } => "prompt_too_large",
            Refusal::NoTurn(_) | Refusal::NoTurnOf { .. } => "no_turn",
            Refusal::Queued { .. } => "prompt_queued",
            Refusal::NoSuchPrompt { .. } => "no_such_prompt",
            Refusal::NotQueued { .. } => "not_queued",
            Refusal::NotInterrupted(_) => "not_interrupted",
            Refusal::NoSuchPermission(_) => "no_such_permission",
            Refusal::PermissionSettled(_) => "permission_settled",
            Refusal::NoSuchOption { .. } => "no_such_option",
            Refusal::NoSettings { .. } => "no_settings",
            Refusal::TooManySettings { .. } => "too_many_settings",
            Refusal::NoSuchCall(_) => "no_such_call",
            Refusal::CallSettled(_) => "call_settled",
            Refusal::Driven { .. } => "driven",
            Refusal::NotDriver(_) => "not_driver",
            Refusal::TooManyClients { .. } => "too_many_clients",
            Refusal::NotStopped(_) => "not_stopped",
            Refusal::Unkillable { .. } => "unkillable",
            Refusal::SubagentLimit { .. } => "subagent_limit",
            Refusal::Weaker { .. } => "weaker_than_parent",
            Refusal::NoSuchTurn { .. } | Refusal::TurnPruned { .. } => "no_such_turn",
            Refusal::TurnRuns { .. } => "turn_running",
            Refusal::CannotFork { .. } | Refusal::ForkElsewhere { .. } => "cannot_fork",
            Refusal::ConversationTaken { .. } => "conversation_taken",
            Refusal::Closing => "manager_stopping",
        }
    }
}

fn exceeded(id: &SessionId, what: SubagentLimit, limit: u32) -> String {
    match what {
        SubagentLimit::Depth => {
            format!("session `{id}` is {limit} sub-agents deep already, which is as deep as they may be")
        }
        SubagentLimit::Breadth => {
            format!("session `{id}` has {limit} sub-agents at work already, which is as many as it may have")
        }
        SubagentLimit::Total => {
            format!(
                "there are {limit} sub-agents below session `{id}` already, which is as many as there may be"
            )
        }
    }
}

/// The turn that there is not, and those that there are.
fn no_turn(id: &SessionId, turn: u64, count: u64) -> String {
    match count {
        0 => format!("session `{id}` has no turn yet"),
        1 => format!("session `{id}` has no turn {turn}: it has one"),
        count => format!("session `{id}` has no turn {turn}: it has turns 1 to {count}"),
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "nothing".into(),
        // The agent's own words.
        names => names.iter().map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", "),
    }
}
