//! The agents that sessions can be started with.

use protocol::api::{AgentInfo, AgentKind, RestartType, SessionInfo, SessionOpts};
use protocol::wire::AgentDetails;

use crate::cli::args;
use crate::cli::link::random_key;
use crate::cli::link::{Link, read};
use crate::cli::ui::error::text_of;
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::render;
use crate::cli::ui::table::{Cell, Table};
use crate::client::Request;

/// The longest time in milliseconds for an agent to become ready and report what it offers. The slowest known
/// agent takes 13 s.
const PROBE_MS: u64 = 60_000;
/// The number of log lines in the error about an agent that did not become ready.
const LOG_LINES: usize = 5;

/// `agents`.
pub async fn agents(link: &Link<'_>, args: &args::Agents) -> Outcome {
    let args::Agents::Ls { names, probe } = args;
    let mut agents: Vec<AgentInfo> = link.get(Request::get("/v1/agents")).await?;
    if let Some(unknown) = names.iter().find(|name| agents.iter().all(|agent| agent.name != **name)) {
        return Err(Failure::usage(format!("there is no agent `{unknown}`"))
            .hint("`kennel agents ls` lists those that kennel knows and those of `config.toml`"));
    }
    agents.retain(|agent| names.is_empty() || names.contains(&agent.name));
    if *probe {
        for agent in &mut agents {
            if agent.kind == AgentKind::Acp && agent.path.is_some() {
                let asked = ask(link, &agent.name);
                match link.ui.waiting(&format!("asking {} what it is", agent.name), asked).await {
                    Ok(details) => agent.details = details.or(agent.details.take()),
                    Err(failure) => link.ui.note(&format!("{}: {}", agent.name, text_of(&failure))),
                }
            }
        }
    }
    if link.ui.json {
        let json = serde_json::to_vec(&agents).map_err(|error| Failure::failed("json", error.to_string()))?;
        return link.ui.object(&json);
    }
    let mut table = Table::new(&["AGENT", "KIND", "VERSION", "OFFERS", "PROGRAM", "TO INSTALL"]);
    for agent in agents {
        let kind = match agent.kind {
            AgentKind::Shell => "shell",
            AgentKind::Command => "command",
            AgentKind::Acp => "acp",
        };
        let version = agent.details.as_ref().and_then(|details| details.version.clone());
        let offers = agent.details.as_ref().map_or("-", render::offers);
        let (program, install) = match agent.path {
            Some(path) => (Cell::styled(&path, render::GREEN), String::new()),
            None => (Cell::styled("not found", render::YELLOW), agent.install.unwrap_or_default()),
        };
        let version = version.unwrap_or_else(|| "-".to_owned());
        table.row(vec![
            agent.name.into(),
            kind.into(),
            version.into(),
            offers.into(),
            program,
            install.into(),
        ]);
    }
    link.ui.print(&table.text(link.ui.out_colour, link.ui.columns))
}

/// Starts a session with the agent in an empty directory, reads what the agent reports of itself, and removes
/// the session. An agent that needs a log-in has reported it by then.
async fn ask(link: &Link<'_>, agent: &str) -> Outcome<Option<AgentDetails>> {
    let dir = tempfile::tempdir().map_err(|error| Failure::failed("no_directory", error.to_string()))?;
    let workdir = dir.path().to_str().map(str::to_owned);
    let title = Some(format!("asks {agent} what it is"));
    let restart = Some(RestartType::Temporary);
    let opts = SessionOpts { agent: Some(agent.to_owned()), title, workdir, restart, ..Default::default() };
    let id = format!("probe-{}", random_key()?);
    let path = format!("/v1/sessions/{id}");
    let ready = link.ask(Request::put(format!("{path}?timeout_ms={PROBE_MS}")).json(&opts)).await;
    let session = link.ask(Request::get(&path)).await;
    // With the session its log goes.
    let log = match &ready {
        Ok(_) => String::new(),
        Err(_) => link
            .ask(Request::get(format!("{path}/log?tail={LOG_LINES}")))
            .await
            .map_or_else(|_| String::new(), |log| String::from_utf8_lossy(&log).trim().to_owned()),
    };
    let removed = link.ask(Request::delete(format!("{path}?force=true"))).await;
    let details = read::<SessionInfo>(&session?)?.agent_details;
    removed?;
    match (details, ready) {
        (None, Err(failure)) => {
            let what = failure.detail().unwrap_or("the agent did not become ready");
            // The session is removed, so the error does not name it.
            let what = what.replace(&format!("session `{id}`"), "asking it");
            let log_lines = if log.is_empty() { String::new() } else { format!("; its last lines: {log}") };
            Err(Failure::failed("session_failed", what + &log_lines))
        }
        (details, _) => Ok(details),
    }
}
