//! `ls --all-hosts`: the sessions of all machines in one table.

use std::time::Duration;

use futures_util::future::join_all;
use protocol::api::SessionInfo;
use serde_json::{Map, Value, json};

use super::list::{COLUMNS, row};
use crate::cli::host::{Target, everywhere};
use crate::cli::link::{Link, read};
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::render;
use crate::cli::ui::table::{Cell, Fit, Table};
use crate::client::{ClientError, Request};
use crate::system::clock;

/// The longest wait for one machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lists the sessions of this machine and of every named one. Starts no daemon; a machine that does not answer is a row. Fails if none
/// answers.
pub async fn ls_everywhere(ui: &Ui, all: bool) -> Outcome {
    let targets = everywhere(PATIENCE)?;
    let asked =
        targets.into_iter().map(|(name, target)| async move { (name, sessions(ui, target, all).await) });
    let answers = ui.waiting("asking all machines", join_all(asked)).await;
    let done = match answers.iter().any(|(_, answer)| answer.is_ok()) {
        true => Ok(()),
        false => Err(Failure::Printed(exit::UNREACHABLE)),
    };
    if ui.json {
        let mut list = Vec::new();
        for (name, answer) in answers {
            match answer {
                Ok((sessions, _)) => list.extend(sessions.into_iter().map(|mut session| {
                    session.insert("host".into(), json!(name));
                    Value::Object(session)
                })),
                Err(why) => list.push(json!({ "host": name, "error": why })),
            }
        }
        return ui.object(Value::from(list).to_string().as_bytes()).and(done);
    }
    let host = ("HOST", Fit { goes: 0, least: 8, keeps_end: false });
    let (heads, fits): (Vec<&str>, Vec<Fit>) = [host].into_iter().chain(COLUMNS).unzip();
    let (mut table, now) = (Table::new(&heads).fits(&fits), clock::wall_ms());
    for (name, answer) in answers {
        let host = || Cell::from(name.as_str());
        match answer {
            Ok((sessions, served)) => {
                // One of a later version is shown if it is understood.
                let known = |session| serde_json::from_value::<SessionInfo>(Value::Object(session)).ok();
                let sessions: Vec<SessionInfo> = sessions.into_iter().filter_map(known).collect();
                if sessions.is_empty() {
                    let why = if served { "no sessions" } else { "no daemon runs" };
                    table.row(blank(host(), Cell::from("-"), why));
                }
                for session in sessions {
                    table.row([vec![host()], row(&session, 0, None, now)].concat());
                }
            }
            Err(why) => {
                let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
                table.row(blank(host(), Cell::styled("unreachable", render::RED), &render::line(&why)));
            }
        }
    }
    ui.print(&table.text(ui.out_colour, ui.columns)).and(done)
}

/// A machine without a session to show, and why.
fn blank(host: Cell, status: Cell, why: &str) -> Vec<Cell> {
    let dash = || Cell::from("-");
    let blanks = std::iter::repeat_with(dash).take(COLUMNS.len() - 4);
    [host, dash(), dash(), status, Cell::from(why)].into_iter().chain(blanks).collect()
}

type Sessions = Vec<Map<String, Value>>;

/// The sessions of one machine and whether a daemon runs there, or why that is not known.
async fn sessions(ui: &Ui, target: Target, all: bool) -> Result<(Sessions, bool), String> {
    let link = match target {
        Target::Here(paths) => Link::new(ui, paths),
        Target::There(options) => Link::over(ui, options),
    };
    let asking = async {
        match link.client.ask(&Request::get("/v1/sessions")).await {
            Ok(answer) => read::<Sessions>(&answer).map(|sessions| (sessions, true)),
            Err(ClientError::Absent(_)) => Ok((Vec::new(), false)),
            // The row names the machine.
            Err(error) => Err(error.into()),
        }
    };
    let (mut sessions, served) = match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|failure| failure.detail().unwrap_or_default().to_owned())?,
        Err(_) => return Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    let ended = |session: &Map<String, Value>| {
        let status = session.get("status").and_then(Value::as_str);
        status.is_some_and(|status| status == "stopped")
    };
    sessions.retain(|session| all || !ended(session));
    Ok((sessions, served))
}
