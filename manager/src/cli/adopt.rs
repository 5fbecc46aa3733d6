//! `kennel adopt`.

use protocol::api::SessionInfo;

use crate::cli::args;
use crate::cli::link::{Link, random_key, read};
use crate::cli::sessions::{begun, warn};
use crate::cli::show::called;
use crate::cli::ui::error::Outcome;
use crate::client::Request;
use crate::event_text;

/// Runs `kennel adopt`.
pub async fn adopt(link: &Link<'_>, args: args::Adopt) -> Outcome {
    let mut opts = args.options.given();
    opts.id = args.id.map(|id| id.to_string());
    opts.name = args.name;
    opts.workdir = Some(link.directory(args.dir).await?);
    opts.conversation = Some(args.conversation);
    let request = Request::post("/v1/sessions").key(&random_key()?).json(&opts);
    let begun = begun(link, "starting the session", opts.id.as_deref(), request).await?;
    let session: SessionInfo = read(&begun)?;
    let id = &session.id;
    // It has a process by now. Whether its agent has the conversation is known once it is ready.
    let until = Request::get(format!("/v1/sessions/{id}/wait?until=idle,running,requires_action"));
    let ready = link
        .ui
        .waiting(&format!("{id}: loading the conversation"), link.ask(until.patient().passive()))
        .await;
    let ready = ready.map_err(|failure| match failure.is("session_failed") {
        true => {
            failure.hint(format!("`kennel rm {id}` removes the session; `kennel restart {id}` tries again"))
        }
        false => failure,
    })?;
    if link.ui.json {
        return link.ui.object(&ready);
    }
    link.ui.line(id.as_str())?;
    let session: SessionInfo = read(&ready)?;
    let taken_up = session.conversation.as_deref().map(event_text::taken_up).unwrap_or_default();
    link.ui.note(&format!("{}: {taken_up}", called(&session)));
    warn(link, &ready)
}
