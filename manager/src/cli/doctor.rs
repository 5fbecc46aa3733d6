//! `doctor`: looks whether this machine lets kennel keep its promise.

use protocol::api::{ManagerInfo, SessionInfo};

use crate::cli::link::{Link, read};
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::render;
use crate::client::Request;
use crate::daemon::doctor::{Finding, Health, Told, examine};

/// `doctor`. Fails if something that kennel promises does not hold.
pub async fn doctor(link: &Link<'_>) -> Outcome {
    let findings = examine(&link.paths, &ask_daemon(link).await).await;
    if link.ui.json {
        let objects =
            serde_json::to_vec(&findings).map_err(|error| Failure::failed("json", error.to_string()))?;
        link.ui.object(&objects)?;
    } else {
        link.ui.print(&shown(&findings, link.ui.out_colour))?;
    }
    match findings.iter().any(|finding| finding.health == Health::Problem) {
        true => Err(Failure::Printed(exit::FAILURE)),
        false => Ok(()),
    }
}

/// Asks the running daemon for its report. Starts no daemon: the doctor must work where a daemon cannot
/// start.
async fn ask_daemon(link: &Link<'_>) -> Told {
    let Ok(answer) = link.client.ask(&Request::get("/v1/manager")).await else {
        return Told::default();
    };
    let Ok(info) = read::<ManagerInfo>(&answer) else {
        return Told::default();
    };
    let sessions = link.client.ask(&Request::get("/v1/sessions")).await;
    let sessions =
        sessions.ok().and_then(|answer| read::<Vec<SessionInfo>>(&answer).ok()).unwrap_or_default();
    let workers = sessions.iter().filter_map(|session| session.pid).collect();
    let agents = link.client.ask(&Request::get("/v1/agents")).await;
    let agents = agents.ok().and_then(|answer| read(&answer).ok());
    let config = info.config.map(Into::into);
    let state_dir_gone = info.state == "state_dir_gone";
    Told { state_dir_gone, pid: Some(info.pid), version: Some(info.version), workers, config, agents }
}

fn shown(findings: &[Finding], colour: bool) -> String {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0) + 2;
    let line = |finding: &Finding| {
        let (word, paint) = match finding.health {
            Health::Ok => ("ok", render::GREEN),
            Health::Warning => ("warning", render::YELLOW),
            Health::Problem => ("problem", render::RED),
        };
        let name = format!("{:width$}", finding.name);
        let word = render::paint(&format!("{word:9}"), paint, colour);
        let mend =
            finding.mend.as_ref().map(|mend| format!("{:>1$}→ {2}\n", "", width + 9, render::line(mend)));
        format!("{word}{name}{}\n{}", render::line(&finding.found), mend.unwrap_or_default())
    };
    findings.iter().map(line).collect()
}
