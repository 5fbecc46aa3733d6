//! `ls` and `show`: sessions as people read them.

mod everywhere;
mod list;
mod template;
mod unmatched;

use std::time::Duration;

use protocol::SessionId;
use protocol::api::{
    CallInfo, ClientInfo, NeedKind, PermissionInfo, Role, SessionInfo, Status, SubagentTools,
};
use protocol::event::Timestamp;
use protocol::wire::AgentDetails;

use crate::cli::events;
use crate::cli::link::{Link, read};
use crate::cli::question::in_full;
use crate::cli::ui::error::Outcome;
use crate::cli::ui::render;
use crate::cli::ui::table::pairs;
use crate::client::Request;
use crate::event_text;
use crate::system::clock;
use crate::units;

pub use everywhere::ls_everywhere;
pub use list::{answered_by, called, ls, name, says};

/// `show`.
pub async fn show(link: &Link<'_>, typed: &str) -> Outcome {
    let (id, answer) = link.about(typed, |id| Request::get(format!("/v1/sessions/{id}"))).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let session: SessionInfo = read(&answer)?;
    let now = clock::wall_ms();
    let (mut facts, quiet) = (facts(&session, now), quiet(&session, now));
    facts.extend(quiet.map(|quiet| ("quiet", quiet)));
    let known =
        session.needs.iter().filter(|need| matches!(need.kind, NeedKind::Interrupted | NeedKind::Failed));
    facts.extend(known.map(|need| ("needs", says(need) + &answered_by(&session, need))));
    if may_need(session.status) {
        facts.extend(needs(link, &id).await?.into_iter().map(|what| ("needs", what)));
    }
    link.ui.print(&pairs(&facts, link.ui.out_colour))
}

/// Returns the note on a turn that has shown no sign of work for long.
fn quiet(session: &SessionInfo, now: u64) -> Option<String> {
    let Timestamp(last) = session.last_message_at.filter(|_| session.status == Status::Running)?;
    let since = Duration::from_millis(now.saturating_sub(last));
    (since >= events::QUIET).then(|| events::quiet(since, None))
}

/// Why a session waits for the next try to run a program; absent if it does not.
pub fn waits(session: &SessionInfo) -> Option<String> {
    if session.status == Status::Restarting {
        let reason = session.restarts.last_reason.as_deref()?;
        return Some(events::restarting(called(session), reason, session.restarts.last_pid));
    }
    // Of an agent that runs once per prompt the prompt waits.
    let prompt = session.running_prompt.filter(|_| session.status == Status::Running)?;
    session.waits_for.as_ref().map(|why| format!("{}: {prompt} waits: {why}", called(session)))
}

/// Returns true if an agent in this state may wait for an answer. An agent that works or rests waits for none.
fn may_need(status: Status) -> bool {
    match status {
        Status::Idle | Status::Running | Status::Hibernated | Status::Stopped | Status::Failed => false,
        Status::RequiresAction
        | Status::Starting
        | Status::Adopting
        | Status::Stopping
        | Status::Restarting => true,
    }
}

/// Returns the questions of the session's agent that wait for an answer.
async fn needs(link: &Link<'_>, id: &SessionId) -> Outcome<Vec<String>> {
    let path = format!("/v1/sessions/{id}");
    let permissions: Vec<PermissionInfo> = link.get(Request::get(format!("{path}/permissions"))).await?;
    let permissions = permissions.into_iter().map(|asked| {
        let id = asked.permission_id;
        format!("an answer to {id}: {}; `kennel permissions allow {id}` or `deny`", in_full(&asked))
    });
    let calls: Vec<CallInfo> = link.get(Request::get(format!("{path}/calls"))).await?;
    let calls =
        calls.into_iter().filter_map(|call| crate::cli::events::asked_of_user(&call.method, &call.payload));
    Ok(permissions.chain(calls).collect())
}

/// Names the agent by its own word, and its ways to restore a conversation.
fn agent_says(details: &AgentDetails) -> String {
    let name = details.name.as_deref().unwrap_or("a nameless agent");
    let version = details.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    format!("{name}{version}; ways to restore a conversation: {}", render::offers(details))
}

/// Returns the text on whether the agent has tools for sub-agents.
fn subagent_tools(tools: SubagentTools) -> &'static str {
    match tools {
        SubagentTools::Off => "no tools for them: `subagents = false`, or a sandbox",
        SubagentTools::Taken => "the agent has tools for them",
        SubagentTools::Offered => {
            "tools offered; the agent has not started kennel's MCP server since the daemon started, and has none until \
                     it does"
        }
    }
}

/// Names a client, and says where it comes from if it is not the owner at this machine.
fn comes_from(client: &ClientInfo) -> String {
    let does = match client.role {
        Role::Driver => "drives",
        Role::Viewer => "looks on",
    };
    let Some(origin) = &client.origin else { return format!("{} {does}", client.name) };
    let key = origin.key.map(|key| format!(", {key} {}", origin.key_name.as_deref().unwrap_or_default()));
    let token = if origin.token { ", with the session's token" } else { "" };
    let from = origin.address.as_ref().map(|address| format!(", from {address}"));
    format!("{} {does}{}{token}{}", client.name, key.unwrap_or_default(), from.unwrap_or_default())
}

/// Returns every fact about a session that has a value, for a person.
fn facts(session: &SessionInfo, now: u64) -> Vec<(&'static str, String)> {
    let ago = |at| format!("{} ({} ago)", units::time(at), units::age(at, now));
    let restarts = &session.restarts;
    let budget = format!(
        "{} in the last {}, {} allowed",
        restarts.in_window,
        units::duration(restarts.period_ms),
        restarts.intensity
    );
    let mut facts = vec![
        ("id", session.id.to_string()),
        ("name", session.name.as_ref().map_or("-".into(), |name| name.to_string())),
        ("status", session.status.to_string()),
        ("title", session.title.clone().unwrap_or("-".into())),
        ("pid", session.pid.map_or("-".into(), |pid| pid.to_string())),
        ("agent", session.agent.clone()),
        ("workdir", session.workdir.clone()),
        ("incarnation", session.incarnation.to_string()),
        ("restarts", budget),
        ("turns", session.turn_count.to_string()),
        ("messages", session.message_count.to_string()),
        ("queue", session.queue_length.to_string()),
        ("created", ago(session.created_at)),
    ];
    let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    add("labels", (!session.labels.is_empty()).then(|| list::labels(session).replace(',', ", ")));
    add("model", model(session));
    add("start", session.start_notice.clone());
    add("last turn", session.empty_turn.then(|| "ended without an answer or a tool call".to_owned()));
    add("agent pid", session.agent_pid.map(|pid| pid.to_string()));
    add("agent says", session.agent_details.as_ref().map(agent_says));
    add("program", session.program.clone());
    add("environment", lacks(session));
    add("sub-agents", session.subagent_tools.map(|tools| subagent_tools(tools).to_owned()));
    add("containment", session.containment.map(|level| level.to_string()));
    add("sandbox", session.sandbox.map(|sandbox| sandbox.to_string()));
    for (name, value, keeper) in render::limits(&session.limits, session.limited_by.as_ref()) {
        add(name, Some(format!("{value} ({keeper})")));
    }
    add("origin", session.forked_from.as_ref().map(event_text::forked));
    add("origin", session.conversation.as_deref().map(event_text::taken_up));
    add("restore", session.restore.map(|restore| restore.to_string()));
    add("waits for", session.waits_for.clone());
    add("running", session.running_prompt.map(|prompt| prompt.to_string()));
    add("first prompt", session.first_prompt.clone());
    add("last message", session.last_message_at.map(ago));
    add("parent", session.parent.as_ref().map(|parent| parent.to_string()));
    for child in &session.children {
        add("sub-agent", Some(render::child(child)));
    }
    add("started with", session.started_by.map(|key| key.to_string()));
    for client in &session.clients {
        add("client", Some(comes_from(client)));
    }
    add("pinned", session.pinned.then(|| "yes".to_owned()));
    add(
        "last restart",
        restarts.last_reason.as_ref().map(|reason| {
            let old = restarts.last_pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            format!("{reason}{old}")
        }),
    );
    add(
        "tokens",
        session.usage.as_ref().map(|usage| {
            let cost = usage.cost_usd.map(|cost| format!(", {cost:.4} USD")).unwrap_or_default();
            format!("{} in, {} out{cost}", usage.input_tokens, usage.output_tokens)
        }),
    );
    if let Some(failure) = &session.failure {
        add("failure", Some(failure.reason.clone()));
        add("worker exit", failure.exit.map(|exit| exit.to_string()));
        add("survivors", (!failure.survivors.is_empty()).then(|| format!("{:?}", failure.survivors)));
        for words in &failure.last_words {
            add("last words", Some(words.clone()));
        }
    }
    facts
}

/// The variables that the session's agent lacks, and what to do about it.
pub fn lacks(session: &SessionInfo) -> Option<String> {
    (!session.env_missing.is_empty()).then(|| {
        format!(
            "`env_pass` names {}, and the daemon's environment lacks it or has it empty; set it, run `kennel daemon restart`, then \
             `kennel restart {}`",
            session.env_missing.join(", "),
            session.id
        )
    })
}

/// Returns the model that the agent reports, and the requested one if it differs.
fn model(session: &SessionInfo) -> Option<String> {
    match (&session.model, &session.agent_model) {
        (Some(asked), Some(now)) if asked != now => Some(format!("{now} ({asked} was asked for)")),
        (Some(asked), None) => {
            Some(format!("- ({asked} was asked for; the agent does not say what it uses)"))
        }
        (_, now) => now.clone(),
    }
}

#[cfg(test)]
pub(in crate::cli) mod tests;
