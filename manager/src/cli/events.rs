//! `events`: what has happened, and what happens.

use std::time::Duration;

use protocol::api::Role;
use protocol::api::{Gap, ManagerInfo};
use protocol::event::{
    Decider, Disposition, Event, EventKind, Outcome as Ended, RemovedBy, Resolution, StallStep, Timestamp,
};
use protocol::{Exit, Stream};
use serde::Deserialize;

use crate::attachments;
use crate::cli::args;
use crate::cli::link::Link;
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::render;
use crate::cli::ui::units;
use crate::client::sse::Frame;
use crate::client::{ClientError, Request};

/// `events`.
pub async fn events(link: &Link<'_>, args: args::Events) -> Outcome {
    let path = match &args.id {
        Some(typed) => format!("/v1/sessions/{}/events", link.find(typed).await?),
        None => "/v1/events".into(),
    };
    let mut after = match args.after {
        Some(after) => after,
        None if args.follow => link.get::<ManagerInfo>(Request::get("/v1/manager")).await?.last_event_id,
        None => 0,
    };
    loop {
        let mut events = link.events(&format!("{path}?after={after}&follow={}", args.follow)).await?;
        let ended = loop {
            match events.next().await {
                Ok(Some(frame)) => {
                    show(link.ui, &frame)?;
                    after = frame.id.unwrap_or(after);
                    if frame.event == "session.deleted" && args.id.is_some() {
                        return Ok(());
                    }
                }
                Ok(None) => break true,
                Err(ClientError::Lost(_)) => break false,
                Err(error) => return Err(error.into()),
            }
        };
        if ended && !args.follow {
            return Ok(());
        }
        if ended && !link.comes_back().await {
            link.ui.note("the daemon was stopped");
            return Ok(());
        }
    }
}

fn show(ui: &Ui, frame: &Frame) -> Outcome {
    if frame.event == "problem" {
        let problem = serde_json::from_str(&frame.data)
            .map_err(|error| Failure::from(ClientError::Garbage(error.to_string())))?;
        return Err(Failure::from(Box::<protocol::api::Problem>::new(problem)));
    }
    if frame.event == "gap" {
        return show_gap(ui, &frame.data);
    }
    if ui.json {
        return ui.object(frame.data.as_bytes());
    }
    ui.line(&line(&frame.data, ui.out_colour))
}

/// Tells that events were pruned which were to come here. No event, so that in JSON it has a word of its own.
pub fn show_gap(ui: &Ui, data: &str) -> Outcome {
    if ui.json {
        return ui.object(format!("{{\"gap\":{data}}}").as_bytes());
    }
    if let Ok(Gap { first_available }) = serde_json::from_str(data) {
        ui.note(&format!("events before {first_available} were pruned; what is left of them follows"));
    }
    Ok(())
}

/// What all events have, those of later versions too.
#[derive(Deserialize)]
struct Head {
    id: u64,
    at: Timestamp,
    session: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    data: serde_json::Value,
}

/// An event on one line, for people.
fn line(json: &str, colour: bool) -> String {
    let Ok(head) = serde_json::from_str::<Head>(json) else {
        return render::line(json);
    };
    let said = match serde_json::from_str::<Event>(json) {
        Ok(event) => said(&event.kind),
        Err(_) => head.data.to_string(),
    };
    let before = format!("{:>5}  {}", head.id, units::time(head.at));
    let kind = format!("{:<18}", render::line(&head.kind));
    let style = match head.kind.as_str() {
        "turn.interrupted" | "session.restarting" | "session.failed" | "subagent.lost" => render::RED,
        "turn.completed" | "session.restarted" | "session.ready" => render::GREEN,
        _ => render::CYAN,
    };
    let line = format!(
        "{}  {:<10}  {}  {}",
        render::paint(&before, render::DIM, colour),
        render::line(head.session.as_deref().unwrap_or("-")),
        render::paint(&kind, style, colour),
        render::line(&said)
    );
    line.trim_end().to_owned()
}

fn some<T: std::fmt::Display>(before: &str, value: Option<T>) -> String {
    value.map(|value| format!("{before}{value}")).unwrap_or_default()
}

fn ended(outcome: Ended) -> &'static str {
    match outcome {
        Ended::Completed => "completed",
        Ended::Aborted => "aborted",
        Ended::Interrupted => "interrupted",
    }
}

/// What an event says, for people.
fn said(kind: &EventKind) -> String {
    let exited = |exit: &Option<Exit>| some(", ", exit.as_ref());
    if let Some(text) = kind.late_text() {
        return format!("(after its turn) {}", render::output(text));
    }
    match kind {
        EventKind::SessionCreated { agent, workdir, title, model, parent } => format!(
            "{agent} in {workdir}{}{}{}",
            some(", title ", title.as_ref()),
            some(", model ", model.as_ref()),
            some(", sub-agent of ", parent.as_ref())
        ),
        EventKind::SessionStarted { pid } => format!("pid {pid}"),
        EventKind::SessionReady { pid, agent_pid, restore } => {
            format!("pid {pid}{}, {restore}", some(", agent ", agent_pid.as_ref()))
        }
        EventKind::SessionRestarting { reason, old_pid, delay_ms, .. } => {
            format!(
                "{reason}{}, next try in {}",
                some(", pid ", old_pid.as_ref()),
                units::duration(*delay_ms)
            )
        }
        EventKind::SessionRestarted { old_pid, new_pid, reason, restore } => {
            format!(
                "pid {} -> {new_pid}, {restore}: {reason}",
                old_pid.map_or("-".into(), |pid| pid.to_string())
            )
        }
        EventKind::SettingChanged { name, value, .. } => format!("{name} = {value}"),
        EventKind::SettingRefused { name, value, reason, .. } => format!("{name} = {value}: {reason}"),
        EventKind::SessionOomKilled { peak_bytes, limit_bytes, by } => {
            render::out_of_memory(*peak_bytes, *limit_bytes, *by)
        }
        EventKind::SessionAdopted { pid } => format!("pid {pid}"),
        EventKind::SessionStalled { step, quiet_ms, .. } => stalled(*step, *quiet_ms),
        EventKind::SessionHibernated {} | EventKind::SessionWoken {} | EventKind::SessionDeleted {} => {
            String::new()
        }
        EventKind::SessionStopped { exit } => some("", exit.as_ref()),
        EventKind::SessionFailed { reason, exit, last_words, survivors } => {
            let words = last_words.last().map(|words| format!(": {words}")).unwrap_or_default();
            let left =
                if survivors.is_empty() { String::new() } else { format!(", survivors {survivors:?}") };
            format!("{reason}{}{left}{words}", exited(exit))
        }
        EventKind::SessionUpdated { pinned } => (if *pinned { "pinned" } else { "not pinned" }).into(),
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
            format!("{prompt_id} {} ({stop_reason}){}", ended(*outcome), exited(exit))
        }
        EventKind::TurnInterrupted { prompt_id, reason, will_retry, .. } => {
            format!("{prompt_id}: {reason}{}", if *will_retry { "; it is tried again" } else { "" })
        }
        EventKind::MessageChunk { stream: Stream::Stdout, text, .. } => render::output(text),
        EventKind::MessageChunk { stream: Stream::Stderr, text, .. } => {
            format!("(stderr) {}", render::output(text))
        }
        EventKind::ThoughtChunk { text, .. } => render::output(text),
        EventKind::ToolCallStarted { tool_call_id, title, .. } => format!("{tool_call_id}: {title}"),
        EventKind::ToolCallUpdated { tool_call_id, payload, .. } => {
            let status = payload.get("status").and_then(|status| status.as_str());
            format!("{tool_call_id}{}", some(", ", status.as_ref()))
        }
        EventKind::ToolCallInterrupted { tool_call_id, .. } => tool_call_id.clone(),
        EventKind::AgentUpdated { payload, .. } if payload["sessionUpdate"] == "child_update" => {
            let text = payload["update"]["content"]["text"].as_str();
            let said = text.map(render::output).unwrap_or_else(|| payload["update"].to_string());
            format!("sub-agent {}: {said}", payload["sessionId"].as_str().unwrap_or_default())
        }
        EventKind::PlanUpdated { payload, .. }
        | EventKind::UsageUpdated { payload, .. }
        | EventKind::AgentUpdated { payload, .. } => payload.to_string(),
        EventKind::PermissionRequested { permission_id, title, .. } => format!("{permission_id}: {title}"),
        EventKind::PermissionResolved { permission_id, option_id, by } => {
            let who = match by {
                Decider::User => "",
                Decider::Policy => ", by the session's policy",
            };
            format!("{permission_id}: {option_id}{who}")
        }
        EventKind::CallRequested { call_id, client_id, method, .. } => match client_id {
            Some(client) => format!("{call_id}: {method}, client {client} is asked"),
            None => format!("{call_id}: {method}"),
        },
        EventKind::CallAnswered { call_id } => call_id.to_string(),
        EventKind::CallExpired { call_id, reason } => format!("{call_id}: {reason}"),
        EventKind::PermissionExpired { permission_id, reason } => format!("{permission_id}: {reason}"),
        EventKind::ClientAttached { client_id, name, role } => {
            let what = match role {
                Role::Driver => "drives",
                Role::Viewer => "looks on",
            };
            format!("client {client_id}, {name}, {what}")
        }
        EventKind::ClientDetached { client_id } => format!("client {client_id}"),
        EventKind::DriverChanged { driver } => match driver {
            Some(driver) => format!("client {driver} drives"),
            None => "nobody drives".into(),
        },
        EventKind::SubagentStarted { child, task, model } => {
            format!("{child}{}: {task}", some(", model ", model.as_ref()))
        }
        EventKind::SubagentCompleted { child, outcome } => format!("{child} {}", ended(*outcome)),
        EventKind::SubagentLost { child, reason } => format!("{child}: {reason}"),
        EventKind::SystemMessage { text } => text.clone(),
        EventKind::ManagerStarted { pid, version, .. } => format!("pid {pid}, kennel {version}"),
        EventKind::ManagerStopping {} => String::new(),
    }
}

/// What a person is told of an agent that shows no sign of work.
pub fn stalled(step: StallStep, quiet_ms: u64) -> String {
    let quiet = units::duration(quiet_ms);
    match step {
        StallStep::Noticed => format!("the agent has shown no sign of work for {quiet}"),
        StallStep::Resumed => format!("the agent works again, after {quiet}"),
        StallStep::Cancelled => {
            format!("the agent has shown no sign of work for {quiet} and is told to end its turn")
        }
    }
}

/// For how long a turn shows nothing until a person is told what it waits for.
pub const QUIET: Duration = Duration::from_secs(30);

/// What a person is told of a turn that shows nothing for so long: what it waits for, as far as is known. `tool` is the
/// title of a tool call that has not ended.
pub fn quiet(since: Duration, tool: Option<&str>) -> String {
    let since = format!("{}s", since.as_secs());
    match tool {
        Some(tool) => format!("no sign for {since}; the turn waits for its tool: {tool}"),
        None => format!("no sign for {since}; the turn waits for its agent, or the agent for its model"),
    }
}

/// What a person is told of a form that the agent wants filled in, where it cannot be.
pub fn asked_of_user(method: &str, payload: &serde_json::Value) -> Option<String> {
    let message = payload["message"].as_str().unwrap_or("something");
    let asks = method == "elicitation/create";
    asks.then(|| {
        format!("the agent asks: {message}; `kennel attach`, or an editor that shows forms, can answer")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_one_harmless_line_each() {
        let chunk = r#"{"id":12,"at":"2026-01-31T12:00:00.000Z","session":"session-1","incarnation":1,
            "type":"message.chunk","data":{"turn":1,"prompt_id":"prompt-7","stream":"stdout","text":"a\u001b[2J\nb\n"}}"#;
        assert_eq!(
            line(chunk, false),
            "   12  2026-01-31T12:00:00Z  session-1   message.chunk       a\\u{1b}[2J b"
        );
        let restarted = r#"{"id":3,"at":"2026-01-31T12:00:00.000Z","session":"s","incarnation":2,"type":"session.restarted",
            "data":{"old_pid":10,"new_pid":11,"reason":"killed by SIGKILL","restore":"fresh"}}"#;
        assert_eq!(
            line(restarted, false),
            "    3  2026-01-31T12:00:00Z  s           session.restarted   pid 10 -> 11, fresh: killed by SIGKILL"
        );
    }

    #[test]
    fn events_of_later_versions_are_shown_as_they_are() {
        let later = r#"{"id":1,"at":"2026-01-31T12:00:00.000Z","type":"moon.landed","data":{"x":"\u009b"}}"#;
        assert_eq!(
            line(later, false),
            "    1  2026-01-31T12:00:00Z  -           moon.landed         {\"x\":\"\\u{9b}\"}"
        );
        assert_eq!(line("\u{1b}[2J", false), "\\u{1b}[2J");
    }
}
