//! Events as text for people. [`text`] writes the events of sessions and passes the other kinds on, group by group. The
//! last group's match names every kind, so that the compiler reports a new one.

use protocol::api::Role;
use protocol::event::{Decider, Disposition, EventKind, Outcome as Ended, Refused, RemovedBy, Resolution};
use protocol::{Exit, PromptId, Stream};

use crate::attachments;
use crate::cli::ui::render;
use crate::event_text;
use crate::units;

/// Names who answered a permission.
pub fn decider(by: Decider) -> &'static str {
    match by {
        Decider::User => "by a client",
        Decider::Policy => "by the session's policy",
    }
}

/// Writes an event's data on one line; empty for an event without data beside its type.
pub(super) fn text(kind: &EventKind) -> String {
    if let Some(text) = kind.late_text() {
        return format!("(after its turn) {}", render::output(text));
    }
    session(kind)
}

/// Writes events of sessions and of their processes.
fn session(kind: &EventKind) -> String {
    match kind {
        EventKind::SessionCreated {
            agent,
            workdir,
            name,
            labels: _,
            title,
            model,
            parent,
            started_by,
            forked_from,
            conversation,
            told: _,
        } => {
            let forked = forked_from.as_ref().map(event_text::forked);
            let taken_up = conversation.as_deref().map(event_text::taken_up);
            format!(
                "{agent} in {workdir}{}{}{}{}{}{}{}",
                some(", named ", name.as_ref()),
                some(", title ", title.as_ref()),
                some(", model ", model.as_ref()),
                some(", sub-agent of ", parent.as_ref()),
                some(", started with ", started_by.as_ref()),
                some(", ", forked.as_ref()),
                some(", ", taken_up.as_ref())
            )
        }
        EventKind::SessionStarted { pid } | EventKind::SessionAdopted { pid } => format!("pid {pid}"),
        EventKind::SessionReady { pid, agent_pid, restore } => {
            format!("pid {pid}{}, {restore}", some(", agent ", agent_pid.as_ref()))
        }
        EventKind::SessionRestarting { reason, old_pid, delay_ms, .. } => {
            let pid = some(", pid ", old_pid.as_ref());
            format!("{reason}{pid}, next try in {}", units::duration(*delay_ms))
        }
        EventKind::SessionRestarted { old_pid, new_pid, reason, restore } => {
            let old = old_pid.map_or("-".into(), |pid| pid.to_string());
            format!("pid {old} -> {new_pid}, {restore}: {reason}")
        }
        EventKind::SettingChanged { name, value, .. } => format!("{name} = {value}"),
        EventKind::SettingRefused { name, value, reason, .. } => format!("{name} = {value}: {reason}"),
        EventKind::SessionOomKilled { peak_bytes, limit_bytes, by } => {
            event_text::out_of_memory(*peak_bytes, *limit_bytes, *by)
        }
        EventKind::SessionStalled { step, quiet_ms, .. } => event_text::stalled(*step, *quiet_ms),
        EventKind::SessionStopped { exit } => some("", exit.as_ref()),
        EventKind::SessionFailed { reason, exit, last_words, survivors } => {
            let words = last_words.last().map(|words| format!(": {words}")).unwrap_or_default();
            let left =
                if survivors.is_empty() { String::new() } else { format!(", survivors {survivors:?}") };
            // Most reasons begin with the exit.
            let exit = some(", worker ", exit.filter(|exit| !reason.contains(&exit.to_string())).as_ref());
            format!("{reason}{exit}{left}{words}")
        }
        EventKind::SessionUpdated { pinned, name, title, labels } => {
            let name = name.as_ref().map(|name| format!("named {name}"));
            let title = title.as_ref().map(|title| format!("`{title}`"));
            let labels = labels.iter().map(|(label, value)| format!("{label}={value}"));
            let pinned = (if *pinned { "pinned" } else { "not pinned" }).to_owned();
            name.into_iter().chain(title).chain(labels).chain([pinned]).collect::<Vec<_>>().join(", ")
        }
        other => prompt(other),
    }
}

/// Writes events of prompts and their turns.
fn prompt(kind: &EventKind) -> String {
    match kind {
        EventKind::PromptAccepted { prompt_id, text, disposition, retry_of, attachments } => {
            let queued = if *disposition == Disposition::Queued { " (queued)" } else { "" };
            let text = attachments::told(text, attachments.iter().map(|it| &*it.name));
            format!("{prompt_id}{queued}{}: {text}", some(", again ", retry_of.as_ref()))
        }
        EventKind::PromptQueued { prompt_id, position: 0 } => format!("{prompt_id} is the next"),
        EventKind::PromptQueued { prompt_id, position } => format!("{prompt_id} waits behind {position}"),
        EventKind::PromptEdited { prompt_id, text } => format!("{prompt_id}: {text}"),
        EventKind::PromptStarted { prompt_id } => prompt_id.to_string(),
        EventKind::PromptRemoved { prompt_id, reason } => {
            let why = match reason {
                RemovedBy::Removed => "removed",
                RemovedBy::Cleared => "queue cleared",
                RemovedBy::Stopped => "session stopped",
            };
            format!("{prompt_id}, {why}")
        }
        EventKind::PromptResolved { prompt_id, action, retried_as } => {
            let what = match action {
                Resolution::Retry => "retry",
                Resolution::Drop => "drop",
            };
            format!("{prompt_id}, {what}{}", some(" as ", retried_as.as_ref()))
        }
        EventKind::TurnStarted { turn, prompt_id, agent_pid } => {
            format!("turn {turn}, {prompt_id}, agent {agent_pid}")
        }
        EventKind::TurnCompleted { prompt_id, outcome, stop_reason, exit, .. } => {
            format!("{prompt_id} {} ({stop_reason}){}", ended(*outcome), exited(*exit))
        }
        EventKind::TurnInterrupted { prompt_id, reason, will_retry, .. } => {
            format!("{prompt_id}: {reason}{}", if *will_retry { "; it is tried again" } else { "" })
        }
        other => agent(other),
    }
}

/// Writes the agent's messages and tool calls.
fn agent(kind: &EventKind) -> String {
    match kind {
        EventKind::MessageChunk { stream: Stream::Stdout, text, .. }
        | EventKind::ThoughtChunk { text, .. } => render::output(text),
        EventKind::MessageChunk { stream: Stream::Stderr, text, .. } => {
            format!("(stderr) {}", render::output(text))
        }
        EventKind::ToolCallStarted { tool_call_id, title, .. } => format!("{tool_call_id}: {title}"),
        EventKind::ToolCallUpdated { tool_call_id, payload, .. } => {
            let status = payload.get("status").and_then(|status| status.as_str());
            format!("{tool_call_id}{}", some(", ", status.as_ref()))
        }
        EventKind::ToolCallInterrupted { tool_call_id, .. } => tool_call_id.clone(),
        EventKind::AgentUpdated { payload, .. } if payload["sessionUpdate"] == "child_update" => {
            let text = payload["update"]["content"]["text"].as_str();
            let inner = text.map(render::output).unwrap_or_else(|| payload["update"].to_string());
            format!("sub-agent {}: {inner}", payload["sessionId"].as_str().unwrap_or_default())
        }
        EventKind::AgentUpdated { payload, .. } if payload["sessionUpdate"] == "conversation_loaded" => {
            let turns = payload["turns"].as_array().map_or(0, Vec::len);
            format!(
                "the agent has told {turns} {} of its conversation",
                if turns == 1 { "turn" } else { "turns" }
            )
        }
        EventKind::PlanUpdated { payload, .. }
        | EventKind::UsageUpdated { payload, .. }
        | EventKind::AgentUpdated { payload, .. } => payload.to_string(),
        other => the_rest(other),
    }
}

/// Writes requests of agents, and events of clients, sub-agents and the manager.
fn the_rest(kind: &EventKind) -> String {
    match kind {
        EventKind::PermissionRequested { permission_id, title, .. } => format!("{permission_id}: {title}"),
        EventKind::PermissionResolved { permission_id, option_id, by } => {
            let who = match by {
                Decider::User => "",
                Decider::Policy => ", by the session's policy",
            };
            format!("{permission_id}: answered with `{option_id}`{who}")
        }
        EventKind::PermissionExpired { permission_id, reason } => format!("{permission_id}: {reason}"),
        EventKind::CallRequested { call_id, client_id, method, .. } => match client_id {
            Some(client) => format!("{call_id}: {method}, client {client} is asked"),
            None => format!("{call_id}: {method}"),
        },
        EventKind::CallAnswered { call_id } => call_id.to_string(),
        EventKind::CallExpired { call_id, reason } => format!("{call_id}: {reason}"),
        EventKind::ClientAttached { client_id, name, role, origin } => {
            let what = match role {
                Role::Driver => "drives",
                Role::Viewer => "looks on",
            };
            let origin = origin.as_ref();
            let key = some(", key ", origin.and_then(|origin| origin.key.as_ref()));
            let from = some(", from ", origin.and_then(|origin| origin.address.as_ref()));
            format!("client {client_id}, {name}, {what}{key}{from}")
        }
        EventKind::ClientDetached { client_id } => format!("client {client_id}"),
        EventKind::DriverChanged { driver: Some(driver) } => format!("client {driver} drives"),
        EventKind::DriverChanged { driver: None } => "nobody drives".into(),
        EventKind::SubagentStarted { child, task, model } => {
            format!("{child}{}: {task}", some(", model ", model.as_ref()))
        }
        EventKind::SubagentCompleted { child, outcome } => format!("{child} {}", ended(*outcome)),
        EventKind::SubagentLost { child, reason } => format!("{child}: {reason}"),
        EventKind::SystemMessage { text } => text.clone(),
        EventKind::AccessRefused(refused) => access(refused),
        EventKind::ManagerStarted { pid, version, .. } => format!("pid {pid}, kennel {version}"),
        // The type is the whole event.
        EventKind::SessionHibernated {}
        | EventKind::SessionWoken {}
        | EventKind::SessionDeleted {}
        | EventKind::ManagerStopping {} => String::new(),
        // Written by `session`, `prompt` and `agent`.
        EventKind::SessionCreated { .. }
        | EventKind::SessionStarted { .. }
        | EventKind::SessionAdopted { .. }
        | EventKind::SessionReady { .. }
        | EventKind::SessionRestarting { .. }
        | EventKind::SessionRestarted { .. }
        | EventKind::SettingChanged { .. }
        | EventKind::SettingRefused { .. }
        | EventKind::SessionOomKilled { .. }
        | EventKind::SessionStalled { .. }
        | EventKind::SessionStopped { .. }
        | EventKind::SessionFailed { .. }
        | EventKind::SessionUpdated { .. }
        | EventKind::PromptAccepted { .. }
        | EventKind::PromptQueued { .. }
        | EventKind::PromptEdited { .. }
        | EventKind::PromptStarted { .. }
        | EventKind::PromptRemoved { .. }
        | EventKind::PromptResolved { .. }
        | EventKind::TurnStarted { .. }
        | EventKind::TurnCompleted { .. }
        | EventKind::TurnInterrupted { .. }
        | EventKind::MessageChunk { .. }
        | EventKind::ThoughtChunk { .. }
        | EventKind::ToolCallStarted { .. }
        | EventKind::ToolCallUpdated { .. }
        | EventKind::ToolCallInterrupted { .. }
        | EventKind::PlanUpdated { .. }
        | EventKind::UsageUpdated { .. }
        | EventKind::AgentUpdated { .. } => String::new(),
    }
}

/// Writes refusals of access: the reason, the number, and the last client.
fn access(refused: &Refused) -> String {
    let Refused { reason, address, key, session, operation, count } = refused;
    let times = if *count == 1 { String::new() } else { format!(", {count} times; the last") };
    let from = address.as_deref().unwrap_or("the socket");
    let of = some(", of session ", session.as_ref());
    format!("{}{times}, from {from}{}{of}{}", reason.word(), some(", ", *key), some(", ", operation.as_ref()))
}

fn some<T: std::fmt::Display>(before: &str, value: Option<T>) -> String {
    value.map(|value| format!("{before}{value}")).unwrap_or_default()
}

fn exited(exit: Option<Exit>) -> String {
    some(", ", exit)
}

fn ended(outcome: Ended) -> &'static str {
    match outcome {
        Ended::Completed => "completed",
        Ended::Aborted => "aborted",
        Ended::Interrupted => "interrupted",
    }
}

/// Returns the line about a session that is started again.
pub fn restarting(session: impl std::fmt::Display, reason: &str, old_pid: Option<u32>) -> String {
    let pid = old_pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    format!("{session} is restarting{pid}: {reason}")
}

/// Returns the line about the number of prompts before a queued prompt.
pub fn queued(prompt: PromptId, position: u32) -> String {
    match position {
        0 => format!("{prompt} waits; it is the next"),
        1 => format!("{prompt} waits behind 1 other prompt"),
        _ => format!("{prompt} waits behind {position} other prompts"),
    }
}
