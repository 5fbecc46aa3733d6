//! `kennel fork`.

use std::path::PathBuf;

use protocol::api::{ForkRequest, SessionInfo};
use tokio::task::spawn_blocking;

use crate::cli::args;
use crate::cli::link::{Link, random_key, read};
use crate::cli::sessions::begun;
use crate::cli::show::called;
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::render;
use crate::cli::worktree::Worktree;
use crate::client::Request;
use crate::event_text;

/// Runs `kennel fork`.
pub async fn fork(link: &Link<'_>, args: args::Fork) -> Outcome {
    let origin = link.find(&args.origin).await?;
    let worktree = match args.worktree {
        false => None,
        true => {
            let state_dir = link.here("fork --worktree")?.state_dir.clone();
            let session: SessionInfo = link.get(Request::get(format!("/v1/sessions/{origin}"))).await?;
            let (of, from) = (origin.clone(), PathBuf::from(session.workdir));
            let made = spawn_blocking(move || Worktree::make(&state_dir, &of, &from)).await;
            Some(made.map_err(|error| Failure::failed("worktree", error.to_string()))??)
        }
    };
    let request = ForkRequest {
        session: origin.to_string(),
        turn: args.at,
        workdir: worktree.as_ref().map(|made| made.workdir.display().to_string()),
        id: args.new_id,
        name: args.name,
        title: args.title,
        labels: args.labels.into_iter().collect(),
    };
    let asked = Request::post("/v1/forks").key(&random_key()?).json(&request);
    let answer = match begun(link, "starting the session", request.id.as_deref(), asked).await {
        Ok(answer) => answer,
        Err(failure) => {
            if let Some(worktree) = worktree.filter(|_| failure.has_started_nothing()) {
                let _ = spawn_blocking(move || worktree.remove()).await;
            }
            return Err(failure);
        }
    };
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let session: SessionInfo = read(&answer)?;
    link.ui.line(session.id.as_str())?;
    let forked = session.forked_from.as_ref().map(event_text::forked).unwrap_or_default();
    link.ui.note(&format!("{}: {forked}", called(&session)));
    if let Some(worktree) = worktree {
        let path = render::line(&worktree.path.display().to_string());
        link.ui.note(&format!("it works in {path}, on the branch {}", worktree.branch));
    }
    Ok(())
}
