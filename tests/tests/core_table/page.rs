//! The page that the table is written to.

use std::fmt::Write as _;

use harness::kinds;
use manager::core::{Effect, Goal, Permission, Phase, Prompt, Quiet, Session, State, Was};
use protocol::event::{EventKind, RestartCause};
use protocol::wire::CallAnswer;
use protocol::{Identity, Keeper, Level};

use super::NOW;
use super::inputs::inputs;

pub fn section(page: &mut String, title: &str, session: &Session) {
    let _ = writeln!(page, "\n## {title}\n");
    let _ = writeln!(
        page,
        "    {}",
        facts(session, NOW)
            .into_iter()
            .filter(|(_, fact)| !UNTOLD.contains(&fact.as_str()))
            .map(|(_, fact)| fact)
            .collect::<Vec<_>>()
            .join(", ")
    );
    let wants: Vec<String> = session.effects().iter().map(effect).collect();
    let _ =
        writeln!(page, "    wants {}\n", if wants.is_empty() { "nothing".into() } else { wants.join(" ") });
    let mut ignored = Vec::new();
    for (name, at, input) in inputs(session) {
        match session.step(at, 50, &input) {
            Err(refusal) => {
                let _ = writeln!(page, "- {name} -> refused: {}", refusal.code());
            }
            Ok(step) if step.next == *session && step.events.is_empty() && step.effects.is_empty() => {
                assert!(step.notes.is_empty());
                ignored.push(name);
            }
            Ok(step) => {
                let events: Vec<String> = step.events.iter().map(event).collect();
                let effects: Vec<String> = step.effects.iter().map(effect).collect();
                let mut parts = vec![changes(session, &step.next, at.mono)];
                parts.extend((!events.is_empty()).then(|| events.join(", ")));
                parts.extend((!effects.is_empty()).then(|| effects.join(" ")));
                let _ = writeln!(page, "- {name} -> {}", parts.join(" | "));
            }
        }
    }
    if !ignored.is_empty() {
        let _ = writeln!(page, "- nothing comes of: {}", ignored.join("; "));
    }
}

fn changes(before: &Session, after: &Session, now: u64) -> String {
    let mut changed: Vec<String> = Vec::new();
    let old = facts(before, now);
    for ((name, old), (_, new)) in old.iter().zip(facts(after, now)) {
        match *name {
            "state" if *old == new => changed.push("-".into()),
            _ if *old == new => {}
            _ => changed.push(new),
        }
    }
    changed.join(", ")
}

/// Facts that are left out at the start of a session, because nearly all have them.
const UNTOLD: [&str; 7] = [
    "permissions []",
    "tool calls []",
    "conversation unknown",
    "agent unknown",
    "settings []",
    "servers []",
    "usage unknown",
];

/// Returns the facts of a session for a person, each with a name.
fn facts(session: &Session, now: u64) -> Vec<(&'static str, String)> {
    let ids = |prompts: &mut dyn Iterator<Item = &Prompt>| {
        prompts.map(|prompt| prompt.id.to_string()).collect::<Vec<_>>().join(" ")
    };
    let turns = &session.turns;
    vec![
        ("state", state(&session.state, now)),
        ("incarnation", format!("incarnation {}", session.incarnation)),
        ("goal", format!("goal {}", if session.goal == Goal::Up { "up" } else { "down" })),
        (
            "turn",
            match &turns.running {
                None => "no turn".into(),
                Some(turn) => {
                    let spoke = if turn.spoke { ", has spoken" } else { "" };
                    let until =
                        turn.until.map(|until| format!(", until {}", ms(until, now))).unwrap_or_default();
                    let up = if turn.timed_out { ", timed out" } else { "" };
                    let quiet = match turn.quiet.step {
                        _ if turn.quiet == Quiet::default() => String::new(),
                        None => format!(", quiet for {} ms", turn.quiet.ms),
                        Some(step) => format!(", quiet for {} ms ({step:?})", turn.quiet.ms),
                    };
                    let of = turn.prompt.id;
                    format!("turn of {of} {}{spoke}{until}{up}{quiet}", phase(&turn.phase, now))
                }
            },
        ),
        ("heard", format!("heard {}", session.heard)),
        ("queue", format!("queue [{}]", ids(&mut turns.queue.iter()))),
        ("interrupted", format!("interrupted [{}]", ids(&mut turns.interrupted.iter()))),
        ("deaths", format!("deaths {}", session.deaths.within(now, session.spec.restart.period_ms))),
        ("permissions", {
            let open = turns.running.iter().flat_map(|turn| &turn.open);
            let open: Vec<String> = open.map(|open| permission(open, now)).collect();
            format!("permissions [{}]", open.join(" "))
        }),
        ("tools", {
            let tools: Vec<String> = turns.running.iter().flat_map(|turn| turn.tools.clone()).collect();
            format!("tool calls [{}]", tools.join(" "))
        }),
        ("agent details", {
            let version = session.agent_details.as_ref().and_then(|details| details.version.as_deref());
            format!("agent {}", version.unwrap_or("unknown"))
        }),
        ("containment", {
            let level = session.containment.map_or("unknown", Level::name);
            format!("contained {level}")
        }),
        ("sandbox", session.sandbox.map_or("no sandbox".into(), |sandbox| format!("sandbox {sandbox}"))),
        ("limited by", {
            let memory = session.limited_by.and_then(|by| by.memory);
            format!("memory limited by {}", memory.map_or("nothing", Keeper::name))
        }),
        ("agent session", format!("conversation {}", session.agent_session.as_deref().unwrap_or("unknown"))),
        ("settings", {
            let asked = session.settings.asked.iter().map(|asked| asked.number.to_string());
            let set = session.settings.set.iter().map(|(name, value)| format!("{name} {value}"));
            format!("settings [{}]", set.chain(asked).collect::<Vec<_>>().join(" "))
        }),
        ("servers", {
            let names: Vec<&str> =
                session.spec.remote_servers.iter().map(|server| server.name.as_str()).collect();
            format!("servers [{}]", names.join(" "))
        }),
        ("usage", {
            let usage = session.usage.as_ref();
            usage.map_or("usage unknown".into(), |usage| format!("{} tokens read", usage.input_tokens))
        }),
        ("recovering", if session.recovering { "replacing" } else { "replacing nothing" }.into()),
        ("clients", {
            let clients = session.clients.iter().map(|client| format!("{} {:?}", client.id, client.role));
            format!("clients [{}]", clients.collect::<Vec<_>>().join(" ").to_lowercase())
        }),
        ("pinned", if session.pinned { "pinned" } else { "not pinned" }.into()),
        ("tasks", format!("{} open tasks", session.open_tasks)),
    ]
}

pub fn permission(open: &Permission, now: u64) -> String {
    let until = open.expires.map_or(String::new(), |expires| format!("(until {})", ms(expires, now)));
    format!("{}{until}", open.id)
}

pub fn ms(time: u64, now: u64) -> String {
    if time >= now { format!("+{}", time - now) } else { format!("-{}", now - time) }
}

pub fn state(state: &State, now: u64) -> String {
    let of =
        |worker: &Option<Identity>| worker.as_ref().map_or("no process".into(), |w| format!("pid {}", w.pid));
    match state {
        State::Starting { worker, deadline } => {
            format!("starting({}, until {})", of(worker), ms(*deadline, now))
        }
        State::Ready { worker, idle_since, .. } => {
            format!("ready(pid {}, idle {})", worker.pid, ms(*idle_since, now))
        }
        State::Adopting { worker, was, after, deadline } => {
            let was = match was {
                Was::Starting => "was starting",
                Was::Ready { .. } => "was ready",
                Was::Stopping => "was stopping",
            };
            let (pid, after) = (worker.pid, kinds::why(after));
            format!("adopting(pid {pid}, {was}, {after}, until {})", ms(*deadline, now))
        }
        State::Stopping { worker, why, kills, deadline, give_up } => format!(
            "stopping({}, {}, {kills} kills, until {}, gives up {})",
            of(worker),
            kinds::why(why),
            ms(*deadline, now),
            ms(*give_up, now)
        ),
        State::Restarting { until } => format!("restarting(until {})", ms(*until, now)),
        State::Hibernated => "hibernated".into(),
        State::Stopped => "stopped".into(),
        State::Failed(failure) => {
            let survivors = if failure.survivors.is_empty() {
                String::new()
            } else {
                format!(", {:?} live", failure.survivors)
            };
            format!("failed({}{survivors})", failure.reason)
        }
    }
}

pub fn phase(phase: &Phase, now: u64) -> String {
    match phase {
        Phase::Sent { deadline } => format!("sent(until {})", ms(*deadline, now)),
        Phase::Started { agent_pid } => format!("started(pid {agent_pid})"),
        Phase::Aborting { deadline, agent_pid } => {
            let of = agent_pid.map_or("no process".into(), |pid| format!("pid {pid}"));
            format!("aborting({of}, until {})", ms(*deadline, now))
        }
    }
}

/// Returns an event with its policy.
pub fn event(kind: &EventKind) -> String {
    let name = kind.name();
    match kind {
        EventKind::SessionRestarting { delay_ms, cause, reason, .. } => {
            let cause = cause.map_or("no cause", RestartCause::as_str);
            format!("{name}(in {delay_ms} ms, {cause}: {reason})")
        }
        EventKind::SessionFailed { reason, .. } => format!("{name}({reason})"),
        EventKind::SessionStopped { exit: Some(exit) } => format!("{name}({exit})"),
        EventKind::PromptAccepted { disposition, retry_of, attachments, .. } => {
            let retry = retry_of.map_or(String::new(), |of| format!(", retry of {of}"));
            let with = if attachments.is_empty() { "" } else { ", with a file" };
            format!("{name}({disposition:?}{retry}{with})")
        }
        EventKind::PromptQueued { position, .. } => format!("{name}({position})"),
        EventKind::PromptStarted { prompt_id } => format!("{name}({prompt_id})"),
        EventKind::PromptRemoved { prompt_id, reason } => format!("{name}({prompt_id}: {reason:?})"),
        EventKind::PromptResolved { prompt_id, action, .. } => format!("{name}({prompt_id}: {action:?})"),
        EventKind::TurnCompleted { outcome, stop_reason, .. } => {
            format!("{name}({outcome:?}: {stop_reason})")
        }
        EventKind::TurnInterrupted { reason, will_retry, .. } => {
            format!("{name}({reason}{})", if *will_retry { "; to be repeated" } else { "" })
        }
        EventKind::ToolCallInterrupted { tool_call_id, .. } => format!("{name}({tool_call_id})"),
        EventKind::AgentUpdated { prompt_id: Some(prompt_id), .. } => format!("{name}({prompt_id})"),
        EventKind::PermissionRequested { permission_id, .. } => format!("{name}({permission_id})"),
        EventKind::PermissionResolved { permission_id, option_id, by } => {
            format!("{name}({permission_id}: {option_id}, {by:?})")
        }
        EventKind::CallRequested { call_id, client_id, .. } => {
            let of = client_id.map(|client| format!(", of {client}")).unwrap_or_default();
            format!("{name}({call_id}{of})")
        }
        EventKind::CallAnswered { call_id } => format!("{name}({call_id})"),
        EventKind::CallExpired { call_id, reason } => format!("{name}({call_id}: {reason})"),
        EventKind::PermissionExpired { permission_id, reason } => {
            format!("{name}({permission_id}: {reason})")
        }
        _ => name.into(),
    }
}

pub fn effect(effect: &Effect) -> String {
    let name = kinds::effect(effect);
    match effect {
        Effect::Spawn { incarnation }
        | Effect::Welcome { incarnation }
        | Effect::Terminate { incarnation }
        | Effect::Reclaim { incarnation, .. }
        | Effect::Release { incarnation } => format!("!{name}({incarnation})"),
        Effect::Deliver { incarnation, prompt } | Effect::Abort { incarnation, prompt } => {
            format!("!{name}({incarnation}, {prompt})")
        }
        Effect::Answer { incarnation, request, option } => {
            format!("!{name}({incarnation}, {request}: {})", option.as_deref().unwrap_or("cancelled"))
        }
        Effect::Driver { incarnation, client, offers } => {
            let offers = offers.iter().map(|offer| offer.name()).collect::<Vec<_>>().join(" ");
            format!("!{name}({incarnation}, {client:?}: {offers})")
        }
        Effect::Set { incarnation, request, .. } => format!("!set({incarnation}, {request})"),
        Effect::AnswerCall { incarnation, request, answer } => {
            let answer = match answer {
                CallAnswer::Result { json } | CallAnswer::Error { json } => json,
                CallAnswer::NotAsked { .. } => "not asked",
                CallAnswer::GivenUp { .. } => "given up",
            };
            format!("!{name}({incarnation}, {request}: {answer})")
        }
        Effect::Kill { incarnation, round } => format!("!{name}({incarnation}, round {round})"),
    }
}
