//! Hints for people about errors, in the words of the command line.
//!
//! The core refuses, and knows no commands that a person types. The API and the command line get their hints here.

use protocol::{PromptId, SessionId};

use crate::core::{Refusal, SubagentLimit};
use crate::error::Error;

/// The hint about a session that is not there.
const ALL: &str = "`kennel ls --all` lists all sessions";
/// The hint about a prompt that is longer than an argument may be.
const TOO_LONG: &str = "put long input into a file and name the file in the prompt; or set `prompt_via = \"stdin\"` in the agent's profile";
/// The hint about an agent in which nothing can be set.
const NO_SETTINGS: &str =
    "agents that speak the Agent Client Protocol have settings; `kennel agents ls` lists them";
/// The hint about an agent that takes no attachments.
const NO_ATTACHMENTS: &str =
    "agents that speak the Agent Client Protocol may take some; or name the file in the text";
/// The hint about a fork of a session in a sandbox.
const FORK_ELSEWHERE: &str = "leave the directory or worktree out";
/// The hint about an agent that takes no earlier turns.
const CANNOT_FORK: &str = "agents that speak ACP can be forked, and those with `context = \"transcript\"`";

impl Refusal {
    /// Advice for a person about the refusal; `None` if nothing helps.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Refusal::NoSuchSession(_) | Refusal::NoSuchPid(_) => ALL.into(),
            Refusal::IdTaken(id) => format!("choose another id, or use `kennel ensure --id {id}` to get it"),
            Refusal::IdUnusable(_) | Refusal::IdRetired(_) => "choose another id, or leave it out".into(),
            Refusal::IdIsNumber(_)
            | Refusal::IdIsName { .. }
            | Refusal::NameTaken { .. }
            | Refusal::NameIsId(..)
            | Refusal::NameUnusable(..)
            | Refusal::TooManyLabels { .. }
            | Refusal::LabelsOfKey(_) => return self.about_names(),
            Refusal::SpecMismatch { id, .. } => {
                format!(
                    "leave these options out, or choose another id; `kennel show {id}` prints what it has"
                )
            }
            Refusal::Stopped(id) => format!("`kennel restart {id}` starts it again"),
            Refusal::Failed { id, .. } => {
                format!("`kennel show {id}` says more; `kennel restart {id}` tries again")
            }
            Refusal::Stopping(id) => {
                format!("`kennel wait {id} --until stopped`, then `kennel restart {id}`")
            }
            Refusal::Busy(id) => {
                format!("`kennel wait {id} --until idle`, or send it with --when-busy queue")
            }
            Refusal::QueueFull { id, .. } => format!("`kennel queue ls {id}` lists what waits"),
            Refusal::NoAttachments { .. } => NO_ATTACHMENTS.into(),
            Refusal::TooLongForAgent { .. } => TOO_LONG.into(),
            Refusal::NoTurn(id)
            | Refusal::NoTurnOf { id, .. }
            | Refusal::NoSuchPrompt { id, .. }
            | Refusal::NotQueued { id, .. } => {
                format!("`kennel queue ls {id}` lists prompts that wait or were interrupted")
            }
            Refusal::Queued { id, prompt } => out_of_queue(id, *prompt),
            Refusal::NoSuchTurn { id, count, .. } => turns_of(id, *count),
            Refusal::TurnPruned { id, turn } => turns_of(id, *turn),
            Refusal::TurnRuns { id, turn } => other_turn(id, *turn),
            Refusal::CannotFork { .. } => CANNOT_FORK.into(),
            Refusal::ForkElsewhere { .. } => FORK_ELSEWHERE.into(),
            Refusal::ConversationTaken { of, .. } => with_conversation(of.as_ref()),
            Refusal::Closing => return None,
            // A prompt is resolved by its id alone: it may be in no session any more.
            Refusal::NotInterrupted(_) => {
                "`kennel queue ls SESSION` lists prompts that wait or were interrupted".into()
            }
            Refusal::NoSuchPermission(_) | Refusal::PermissionSettled(_) => {
                "`kennel permissions ls` lists those that wait".into()
            }
            Refusal::NoSettings { .. } => NO_SETTINGS.into(),
            Refusal::TooManySettings { id, .. } => {
                format!("`kennel show {id}` says whether it works; they are set when its agent is ready")
            }
            Refusal::NoSuchCall(_) | Refusal::CallSettled(_) => {
                "the events `call.requested` and `call.expired` say which wait".into()
            }
            Refusal::NoSuchOption { id, .. } => {
                format!(
                    "name one of these: `kennel permissions allow {id} --option OPTION`; the question still waits"
                )
            }
            Refusal::Driven { id, kept_ms, .. } => {
                let wait = if kept_ms.is_some() { "wait until the seat is free; or " } else { "" };
                format!("{wait}`kennel attach {id} --takeover` drives instead, `--read-only` looks on")
            }
            Refusal::NotDriver(id) => format!("`kennel attach {id} --takeover` drives again"),
            Refusal::TooManyClients { .. } => "detach some".into(),
            Refusal::NotStopped(id) => format!("`kennel stop {id}` first, or `kennel rm --force {id}`"),
            Refusal::SubagentLimit { what, .. } => subagent_limit(*what).into(),
            Refusal::Weaker { .. } => {
                "leave these out: a sub-agent has them from its parent; or have the owner start a session"
                    .into()
            }
            Refusal::Unkillable { .. } => "such a process waits for the kernel, often for a disk or network \
                                           file system; try again once it is gone"
                .into(),
        })
    }
}

impl Refusal {
    /// The same, of what people call sessions.
    fn about_names(&self) -> Option<String> {
        match self {
            Refusal::IdIsNumber(id) => {
                Some(format!("add a letter to the id, like `n{id}`, or leave it out; `--name` gives a name"))
            }
            Refusal::IdIsName { of, .. } => Some(format!(
                "choose another id; `kennel show {of}` shows that session; once it is removed, another can have it"
            )),
            Refusal::NameTaken { of, .. } => {
                Some(format!("choose another name; `kennel rename {of} NAME` gives that session another one"))
            }
            Refusal::NameIsId(..) | Refusal::NameUnusable(..) => {
                Some("choose another name, or leave it out".into())
            }
            Refusal::TooManyLabels { id, .. } => {
                Some(format!("`kennel label {id}` lists them; `kennel label {id} LABEL-` removes one"))
            }
            Refusal::LabelsOfKey(_) => Some(
                "keep the labels by which the key reaches sessions; the server's owner can change them"
                    .into(),
            ),
            _ => None,
        }
    }
}

fn subagent_limit(what: SubagentLimit) -> &'static str {
    match what {
        SubagentLimit::Depth => {
            "do it in this session, or have a session further up start it; the limit is `subagent_depth` in config.toml"
        }
        SubagentLimit::Breadth => {
            "wait until one of them has ended, or abort one; the limit is `subagent_breadth` in config.toml"
        }
        SubagentLimit::Total => {
            "stop one that is not needed any more; the limit is `subagent_total` in config.toml"
        }
    }
}

impl Error {
    /// Advice for a person about the error; `None` if nothing helps.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Refused(refusal) => refusal.hint(),
            Error::Invalid { hint, .. } => hint.clone(),
            Error::NotRead { code, .. } => Some(
                match *code {
                    "no_such_file" => "`kennel files ls ID` lists what there is",
                    "outside_workdir" => "paths are relative to the session's working directory, and stay in it",
                    "wrong_file_kind" => "`kennel files ls ID` names the kind of each file",
                    "files_timeout" => "ask for a smaller part: a directory below, or one file",
                    "overloaded" => "try again in a moment",
                    "no_start_commit" => "`kennel files ls ID` lists the files, with the time of their last change",
                    "no_git" => "install git where the daemon runs",
                    _ => "`kennel show ID` and `kennel logs ID` may say more",
                }
                .into(),
            ),
            Error::KeyReused => Some("use a new key for a new request".into()),
            Error::Timeout { .. } => Some("`kennel show` and `kennel events` tell what it does".into()),
            Error::SessionFailed { id, .. } => {
                Some(format!("`kennel show {id}` says more; `kennel restart {id}` tries again"))
            }
            Error::Overtaken { id, .. } => Some(format!("`kennel restart {id}` starts it again")),
            Error::SettingRefused { .. } => Some("`kennel set ID` lists what can be set, and to what".into()),
            Error::Journal(_) => Some("make room on the disk of the state directory, then try again".into()),
            Error::Pruned { .. } => Some("go on: what is left of them follows".into()),
            Error::Unread(_) => Some("`kennel doctor` looks at journal and disk".into()),
            Error::StateDirGone(_) => Some(
                "let running turns end, then `kennel daemon stop`: it ends the sessions, and the next daemon begins anew, or with \
                 the backup that you put there"
                    .into(),
            ),
            Error::Ended => Some("the next `kennel` command starts a new one".into()),
        }
    }
}

/// The hint about a prompt that waits.
fn out_of_queue(id: &SessionId, prompt: PromptId) -> String {
    format!("`kennel queue rm {id} {prompt}` takes it out of the queue")
}

/// The hint about a turn that cannot be told, of a session with so many turns at least.
fn turns_of(id: &SessionId, count: u64) -> String {
    match count {
        0 => format!("`kennel send {id} TEXT` begins its first turn"),
        _ => format!("`kennel transcript {id}` shows its turns"),
    }
}

/// The hint about a conversation that another session has.
fn with_conversation(of: Option<&SessionId>) -> String {
    match of {
        Some(of) => format!("`kennel show {of}` shows that session"),
        None => "the server's owner sees that session".into(),
    }
}

/// The hint about a turn that has not ended.
fn other_turn(id: &SessionId, turn: u64) -> String {
    let wait = format!("`kennel wait {id}` waits for its end");
    match turn.saturating_sub(1) {
        0 => wait,
        before => format!("{wait}; `kennel fork {id} --at {before}` goes on from the turn before"),
    }
}
