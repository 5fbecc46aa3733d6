//! `wait`: for one session or several, until they are in a state; and a word to the person for whom one of them waits.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::body::Bytes;
use protocol::SessionId;
use protocol::api::{NeedKind, SessionInfo};
use tokio::time::sleep;

use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::sessions::LOOK;
use crate::cli::show::{answered_by, name, says, waits};
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::client::Request;

/// Types of events after which a session may wait for somebody, or for its next start.
const CHANGES: &str = "permission.requested,call.requested,turn.interrupted,turn.completed,prompt.started,prompt.removed,prompt.resolved,session.restarting";
/// How long the answer of another machine may take.
const ANSWER: Duration = Duration::from_secs(2);

/// `wait`.
pub async fn wait(link: &Link<'_>, args: &args::Wait) -> Outcome {
    let mut ids = Vec::new();
    for typed in &args.ids {
        let id = link.find(typed).await?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let what = match &ids[..] {
        [one] => format!("waiting until {one} is {}", args.until.join(" or ")),
        _ => format!(
            "waiting until {} are {}",
            if args.any { "one of them" } else { "all" },
            args.until.join(" or ")
        ),
    };
    let waiting = async {
        tokio::select! {
            outcome = reached(link, args, &ids) => outcome,
            never = needs(link, args, &ids) => never,
        }
    };
    link.ui.waiting(&what, waiting).await
}

/// Waits for the sessions, and prints those that get there.
async fn reached(link: &Link<'_>, args: &args::Wait, ids: &[SessionId]) -> Outcome {
    let mut waits: FuturesUnordered<_> =
        ids.iter().map(|id| async move { (id, one(link, args, id).await) }).collect();
    let mut failure = None;
    while let Some((id, outcome)) = waits.next().await {
        match outcome {
            Ok(answer) => {
                match (link.ui.json, ids) {
                    (true, _) => link.ui.object(&answer)?,
                    (false, [_]) => {}
                    (false, _) => link.ui.line(id.as_str())?,
                }
                if args.any {
                    return Ok(());
                }
            }
            // Of the others one may get there.
            Err(failed) if args.any => {
                link.ui.failure(&failed);
                failure.get_or_insert(Failure::Printed(failed.exit()));
            }
            Err(failed) => return Err(failed),
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Waits for one session.
async fn one(link: &Link<'_>, args: &args::Wait, id: &SessionId) -> Outcome<Bytes> {
    let mut path = format!("/v1/sessions/{id}/wait?until={}", args.until.join(","));
    if let Some(timeout) = args.timeout {
        path += &format!("&timeout_ms={}", timeout.as_millis());
    }
    let waiting = link.ask(Request::get(path).patient().passive());
    let Some(timeout) = args.timeout.filter(|_| link.host().is_some()) else { return waiting.await };
    // While there is no connection nobody there counts.
    tokio::time::timeout(timeout + ANSWER, waiting).await.unwrap_or_else(|_| {
        let what = format!(
            "{id} was not heard to be {} within {}",
            args.until.join(" or "),
            humantime::format_duration(timeout)
        );
        Err(link.located(Failure::new(exit::TIMEOUT, "timeout", what)))
    })
}

/// Says once of each thing that only a person can do, or that keeps a session from starting, what it is. Never ends.
async fn needs(link: &Link<'_>, args: &args::Wait, ids: &[SessionId]) -> Outcome {
    if link.ui.json {
        return std::future::pending().await;
    }
    let mut told = BTreeSet::new();
    loop {
        sleep(LOOK).await;
        // It is open before the first look: what changes after the look is heard.
        let mut events = link.client.events(&changes_of(ids)).await.ok();
        loop {
            tell(link, args, ids, &mut told).await;
            // Somebody who hears no events looks again all the time.
            let Some(events) = &mut events else { break };
            let Ok(Some(_)) = events.next().await else { break };
            sleep(LOOK).await;
        }
    }
}

/// The stream of events after which one of the sessions may wait for somebody.
fn changes_of(ids: &[SessionId]) -> String {
    let of = match ids {
        [one] => format!("/v1/sessions/{one}/events"),
        _ => "/v1/events".to_owned(),
    };
    format!("{of}?type={CHANGES}")
}

/// Says what is new of what the sessions wait for.
async fn tell(link: &Link<'_>, args: &args::Wait, ids: &[SessionId], told: &mut BTreeSet<String>) {
    for session in looked(link, ids).await {
        let needs = session.needs.iter().filter(|need| match need.kind {
            NeedKind::Permission | NeedKind::Form => {
                !args.until.iter().any(|state| state == "requires_action")
            }
            NeedKind::Interrupted => session.queue_length == 0,
            NeedKind::Failed => false,
        });
        let needs = needs.map(|need| {
            format!("{} waits for somebody: {}{}", name(&session), says(need), answered_by(&session, need))
        });
        for text in needs.chain(waits(&session)) {
            if told.insert(text.clone()) {
                if link.ui.err_is_terminal {
                    link.ui.clear_progress();
                }
                link.ui.note(&text);
            }
        }
    }
}

/// The sessions as they are now; none of them if nobody answers.
async fn looked(link: &Link<'_>, ids: &[SessionId]) -> Vec<SessionInfo> {
    // Of a daemon that is just being started nothing is asked: another would be started.
    let ask = async |path: String| link.client.ask(&Request::get(path)).await.ok();
    match ids {
        [one] => {
            let answer = ask(format!("/v1/sessions/{one}")).await;
            answer.and_then(|answer| read(&answer).ok()).into_iter().collect()
        }
        _ => {
            let answer = ask("/v1/sessions".to_owned()).await;
            let list: Vec<SessionInfo> = answer.and_then(|answer| read(&answer).ok()).unwrap_or_default();
            list.into_iter().filter(|session| ids.contains(&session.id)).collect()
        }
    }
}
