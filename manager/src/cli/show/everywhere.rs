//! `ls --all-hosts`: the sessions of all machines in one table.

use std::time::Duration;

use futures_util::future::join_all;
use protocol::api::SessionInfo;
use serde_json::{Value, json};

use super::{COLUMNS, row};
use crate::cli::host::{Target, everywhere};
use crate::cli::link::{Link, read};
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Outcome, text_of};
use crate::cli::ui::render;
use crate::cli::ui::table::{Cell, Table};
use crate::client::{ClientError, Request};
use crate::system::clock;

/// The longest wait for one machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lists the sessions of this machine and of every named one. Starts no daemon; a machine that does not answer is a row.
pub async fn ls_everywhere(ui: &Ui, all: bool) -> Outcome {
    let targets = everywhere(PATIENCE)?;
    let asked =
        targets.into_iter().map(|(name, target)| async move { (name, sessions(ui, target, all).await) });
    let answers = ui.waiting("asking all machines", join_all(asked)).await;
    if ui.json {
        let mut list = Vec::new();
        for (name, answer) in answers {
            match answer {
                Ok(sessions) => list.extend(sessions.into_iter().map(|mut session| {
                    session["host"] = json!(name);
                    session
                })),
                Err(why) => list.push(json!({ "host": name, "error": why })),
            }
        }
        return ui.object(Value::from(list).to_string().as_bytes());
    }
    let mut columns = vec!["HOST"];
    columns.extend(COLUMNS);
    let (mut table, now) = (Table::new(&columns).cuts_last(), clock::wall_ms());
    for (name, answer) in answers {
        let host = || Cell::from(name.as_str());
        match answer {
            Ok(sessions) => {
                for session in sessions {
                    // One of a later version is shown as far as it is understood.
                    let Ok(session) = serde_json::from_value::<SessionInfo>(session) else { continue };
                    table.row([vec![host()], row(&session, 0, now)].concat());
                }
            }
            Err(why) => {
                let dash = || Cell::from("-");
                let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
                let mut cells = vec![host(), dash(), Cell::styled("unreachable", render::RED)];
                cells.extend([dash(), dash(), dash(), dash(), dash(), render::line(&why).into()]);
                table.row(cells);
            }
        }
    }
    ui.print(&table.text(ui.out_colour, ui.columns))
}

/// The sessions of one machine, or why they are not known.
async fn sessions(ui: &Ui, target: Target, all: bool) -> Result<Vec<Value>, String> {
    let link = match target {
        Target::Here(paths) => Link::new(ui, paths),
        Target::There(options) => Link::over(ui, options),
    };
    let asking = async {
        match link.client.ask(&Request::get("/v1/sessions")).await {
            Ok(answer) => read::<Vec<Value>>(&answer),
            Err(ClientError::Absent(_)) => Ok(Vec::new()),
            Err(error) => Err(link.failure(error)),
        }
    };
    let mut sessions = match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|failure| text_of(&failure))?,
        Err(_) => return Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    let ended =
        |session: &Value| ["stopped", "failed"].contains(&session["status"].as_str().unwrap_or_default());
    sessions.retain(|session| all || !ended(session));
    Ok(sessions)
}
