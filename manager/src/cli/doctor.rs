//! `doctor`: looks whether this machine lets kennel keep its promise.

use protocol::api::{ManagerInfo, SessionInfo};

use crate::cli::daemon::{asked, holder};
use crate::cli::link::{Link, read};
use crate::cli::ui::error::{Failure, Outcome, exit, way_out};
use crate::cli::ui::render;
use crate::cli::ui::table::broken;
use crate::client::{ClientError, Request};
use crate::daemon::doctor::{Finding, Health, Told, examine};

/// The width of the word for a finding's health, with the gap after it.
const WORD: usize = 9;

/// `doctor`. Fails if something that kennel promises does not hold.
pub async fn doctor(link: &Link<'_>) -> Outcome {
    let findings = examine(link.here("doctor")?, &ask_daemon(link).await).await;
    if link.ui.json {
        let objects =
            serde_json::to_vec(&findings).map_err(|error| Failure::failed("json", error.to_string()))?;
        link.ui.object(&objects)?;
    } else {
        link.ui.print(&shown(&findings, link.ui.out_colour, link.ui.columns))?;
    }
    match findings.iter().any(|finding| finding.health == Health::Problem) {
        true => Err(Failure::Printed(exit::FAILURE)),
        false => Ok(()),
    }
}

/// Asks the running daemon for its report. Starts no daemon: the doctor must work where a daemon cannot
/// start.
async fn ask_daemon(link: &Link<'_>) -> Told {
    let mute = |failure: Failure| Told { mute: Some(parts(failure)), ..Told::default() };
    let answer = match asked(link).await {
        Ok(answer) => answer,
        Err(ClientError::Absent(_)) => {
            let Some(pid) = holder(link) else { return Told::default() };
            let what = format!("runs, pid {pid}, and nobody listens on {}", link.socket_shown());
            return Told { mute: Some((what, way_out(link.pid()))), ..Told::default() };
        }
        Err(error) => return mute(link.failure(error)),
    };
    let info = match read::<ManagerInfo>(&answer) {
        Ok(info) => info,
        Err(failure) => return mute(failure),
    };
    let sessions = link.client.ask(&Request::get("/v1/sessions")).await;
    let sessions =
        sessions.ok().and_then(|answer| read::<Vec<SessionInfo>>(&answer).ok()).unwrap_or_default();
    let workers = sessions.iter().filter_map(|session| session.pid).collect();
    let agents = link.client.ask(&Request::get("/v1/agents")).await;
    let agents = agents.ok().and_then(|answer| read(&answer).ok());
    let config = info.config.map(Into::into);
    let state_dir_gone = info.state == "state_dir_gone";
    Told {
        mute: None,
        state_dir_gone,
        pid: Some(info.pid),
        version: Some(info.version),
        workers,
        config,
        agents,
        listen: info.listen,
        web: info.web,
    }
}

/// Splits a failure into its detail and its hint.
fn parts(failure: Failure) -> (String, String) {
    match failure {
        Failure::Problem(problem, _) => {
            (problem.detail, problem.hint.unwrap_or_else(|| "`kennel daemon status` says more".into()))
        }
        Failure::Printed(_) | Failure::Unread => ("it cannot be asked".into(), way_out(None)),
    }
}

/// The least width of a text beside the name of its check, in columns of the terminal.
const LEAST: usize = 30;

fn shown(findings: &[Finding], colour: bool, columns: Option<usize>) -> String {
    let beside = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0) + 2 + WORD;
    let narrow = columns.is_some_and(|columns| columns < beside + LEAST);
    let indent = if narrow { 2 } else { beside };
    let text = |text: &str, indent: usize| match columns {
        Some(columns) => broken(&render::line(text), indent, columns, indent),
        None => render::line(text),
    };
    let line = |finding: &Finding| {
        let (word, paint) = match finding.health {
            Health::Ok => ("ok", render::GREEN),
            Health::Warning => ("warning", render::YELLOW),
            Health::Problem => ("problem", render::RED),
        };
        let word = render::paint(&format!("{word:WORD$}"), paint, colour);
        let name = match narrow {
            true => format!("{}\n  ", finding.name),
            false => format!("{:1$}", finding.name, beside - WORD),
        };
        let mend = finding.mend.as_ref().map(|mend| format!("{:indent$}→ {}\n", "", text(mend, indent + 2)));
        format!("{word}{name}{}\n{}", text(&finding.found, indent), mend.unwrap_or_default())
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn findings_are_as_wide_as_the_terminal() {
        let finding = |name, health, found: &str, mend: Option<&str>| Finding {
            name,
            health,
            found: found.to_owned(),
            mend: mend.map(str::to_owned),
        };
        let mend = Some("chmod 0700 /srv/kennel");
        let findings = [
            finding("kernel", Health::Ok, "6.1, with pidfd and subreapers", None),
            finding("state directory", Health::Problem, "others can write into it", mend),
        ];
        assert_eq!(
            shown(&findings, false, None),
            "ok       kernel           6.1, with pidfd and subreapers\n\
             problem  state directory  others can write into it\n                          → chmod 0700 /srv/kennel\n"
        );
        assert_eq!(
            shown(&findings, false, Some(30)),
            "ok       kernel\n  6.1, with pidfd and\n  subreapers\n\
             problem  state directory\n  others can write into it\n  → chmod 0700 /srv/kennel\n"
        );
        for columns in 26..100 {
            let text = shown(&findings, false, Some(columns));
            assert!(text.lines().all(|line| line.width() <= columns), "{columns}: {text}");
        }
    }
}
