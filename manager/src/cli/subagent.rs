//! Background sub-agents.

use std::time::Duration;

use protocol::PromptId;
use protocol::api::{SessionOpts, SubagentHandle, SubagentRequest, TurnResult};
use protocol::event::{Event, EventKind};

use crate::cli::args;
use crate::cli::link;
use crate::cli::link::{Link, read};
use crate::cli::send;
use crate::cli::sessions;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::render;
use crate::cli::ui::table::{Cell, Table};
use crate::client::{Request, encoded};
use crate::system::clock;
use crate::units;

/// The longest task in a table, in characters.
const MAX_TASK: usize = 60;

/// `subagent`.
pub async fn subagent(link: &Link<'_>, args: args::Subagent) -> Outcome {
    match args {
        args::Subagent::Start(args) => start(link, *args).await,
        args::Subagent::Ls { parent } => ls(link, parent).await,
        args::Subagent::Wait { id, timeout } => wait(link, &id, timeout).await,
        args::Subagent::Result { id } => result(link, &id).await,
    }
}

async fn start(link: &Link<'_>, args: args::SubagentStart) -> Outcome {
    let task = send::text(link.ui, args.task)?;
    let opts = SessionOpts {
        id: args.id.map(|id| id.to_string()),
        workdir: Some(link.directory(args.dir).await?),
        ..args.options.given()
    };
    let (parent, id) = (parent(link, args.parent).await?, opts.id.clone());
    let request = Request::post("/v1/subagents").key(&link::random_key()?);
    let request = request.json(&SubagentRequest { parent, task, opts });
    let answer = sessions::begun(link, "starting the sub-agent", id.as_deref(), request).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    link.ui.line(read::<SubagentHandle>(&answer)?.session_id.as_str())
}

/// A parent as the API takes it: a pid as it is, the beginning of an id made whole.
async fn parent(link: &Link<'_>, typed: Option<String>) -> Outcome<Option<String>> {
    match typed {
        Some(typed) if typed.parse::<u32>().is_err() => Ok(Some(link.find(&typed).await?.to_string())),
        other => Ok(other),
    }
}

async fn ls(link: &Link<'_>, typed: Option<String>) -> Outcome {
    let path = match parent(link, typed).await? {
        Some(parent) => format!("/v1/subagents?parent={}", encoded(&parent)),
        None => "/v1/subagents".into(),
    };
    let answer = link.ask(Request::get(path)).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let handles: Vec<SubagentHandle> = read(&answer)?;
    link.ui.print(&table(&handles, clock::wall_ms()).text(link.ui.out_colour, link.ui.columns))
}

fn table(handles: &[SubagentHandle], now: u64) -> Table {
    let mut table = Table::new(&["ID", "STATUS", "PID", "PARENT", "AGE", "TASK"]);
    for handle in handles {
        table.row(vec![
            handle.session_id.as_str().into(),
            Cell::styled(handle.status.as_str(), render::status_style(handle.status)),
            handle.pid.map_or("-".into(), |pid| pid.to_string()).into(),
            handle.parent_session_id.as_ref().map_or("-".into(), |id| id.to_string()).into(),
            units::age(handle.started_at, now).into(),
            render::short(&render::line(&handle.task), MAX_TASK).into(),
        ]);
    }
    table
}

async fn wait(link: &Link<'_>, typed: &str, timeout: Option<Duration>) -> Outcome {
    let id = link.find(typed).await?;
    let following = async {
        let (task, accepted) = task(link, &id).await?;
        send::follow(link, &id, task, accepted).await
    };
    let Some(timeout) = timeout else {
        return following.await;
    };
    tokio::time::timeout(timeout, following).await.unwrap_or_else(|_| {
        let what = format!("the task of {id} did not end within {}", humantime::format_duration(timeout));
        Err(Failure::new(exit::TIMEOUT, "timeout", what).hint("it goes on"))
    })
}

async fn result(link: &Link<'_>, typed: &str) -> Outcome {
    let id = link.find(typed).await?;
    let answer = link.ask(Request::get(format!("/v1/sessions/{id}/result"))).await?;
    let result: TurnResult = read(&answer)?;
    // A completed turn may have failed, which only its exit status or stop reason shows.
    let reason = result.stop_reason.as_deref().unwrap_or("end_turn");
    let ended = match (result.prompt_id, result.outcome) {
        (Some(prompt), Some(outcome)) => send::completed(prompt, outcome, reason, result.exit),
        _ => Ok(()),
    };
    if link.ui.json {
        link.ui.object(&answer)?;
    } else {
        if result.truncated {
            link.ui.note(&format!("the beginning is left out; `kennel events {id}` prints all of it"));
        }
        let text = &result.text;
        link.ui.pass_on(text)?;
        link.ui.note(&match (&result.prompt_id, result.outcome) {
            (None, _) => format!("{id} ({}) has not begun yet", result.status),
            (Some(prompt), None) => format!("{prompt} still runs"),
            (Some(prompt), Some(_)) => {
                let why = result.stop_reason.unwrap_or_default();
                let exit = result.exit.map(|exit| format!(", {exit}")).unwrap_or_default();
                format!("{prompt} has ended: {why}{exit}")
            }
        });
    }
    ended.map_err(|failure| Failure::Printed(failure.exit()))
}

/// A sub-agent's task is its first prompt, accepted when it was made.
async fn task(link: &Link<'_>, id: &protocol::SessionId) -> Outcome<(PromptId, u64)> {
    let mut events = link.events(&format!("/v1/sessions/{id}/events?after=0&follow=false")).await?;
    while let Some(frame) = events.next().await? {
        if let Ok(Event { id, kind: EventKind::PromptAccepted { prompt_id, .. }, .. }) =
            serde_json::from_str(&frame.data)
        {
            return Ok((prompt_id, id));
        }
    }
    Err(Failure::failed("no_task", format!("{id} has no task")).hint("`kennel subagent ls` lists sub-agents"))
}
