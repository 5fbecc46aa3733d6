//! `next`: the session that has waited longest for somebody.

use std::io::IsTerminal;

use protocol::api::SessionInfo;

use crate::cli::args;
use crate::cli::attach;
use crate::cli::link::{Link, read};
use crate::cli::show::{answered_by, called, name, says};
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::client::Request;

/// `next`.
pub async fn next(link: &Link<'_>, args: args::Next) -> Outcome {
    let answer = link.ask(Request::get("/v1/sessions?needs=true&sort=needs&limit=1")).await?;
    let list: Vec<SessionInfo> = read(&answer)?;
    let Some(session) = list.first() else {
        return Err(Failure::new(exit::NO_SUCH, "none_waits", "no session waits for somebody")
            .hint("`kennel ls` lists the sessions"));
    };
    if args.attach {
        // Nobody could answer.
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage(
                "`--attach` needs a terminal: what the session waits for is answered there",
            )
            .hint("without it, `kennel next` names the session and what answers it"));
        }
        let what = Some(session.id.to_string());
        return attach::attach(
            link,
            args::Attach {
                what,
                plain: false,
                read_only: false,
                takeover: false,
                no_history: false,
                at: None,
            },
        )
        .await;
    }
    if link.ui.json {
        return link.ui.object(serde_json::to_string(session).unwrap_or_default().as_bytes());
    }
    link.ui.line(&match (link.ui.quiet, link.ui.out_is_terminal) {
        (true, _) => session.id.to_string(),
        (false, true) => called(session),
        (false, false) => name(session).to_owned(),
    })?;
    for need in &session.needs {
        link.ui.note(&format!("{}{}", says(need), answered_by(session, need)));
    }
    Ok(())
}
