//! `send` and `run`: a prompt, and what becomes of it until it ends.

mod ended;
mod input;
mod run;
mod view;
mod watch;

use std::pin::pin;

use protocol::SessionId;
use protocol::api::{Accepted, PromptRequest};

use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::ui::error::Outcome;
use crate::client::Request;
use input::content;
use watch::{Watch, ctrl_c, waits};

pub use ended::{completed, early};
pub use input::text;
pub use run::run;
pub use watch::follow;

/// `send`.
pub async fn send(link: &Link<'_>, args: args::Send) -> Outcome {
    if let Some(word) = args::misplaced::<args::Send>(&args.text) {
        link.ui.note(&format!("`{word}` is sent as part of the prompt: options stand before the session"));
    }
    let (text, attachments) = content(link, args.text, &args.files)?;
    let key = match args.key {
        Some(key) => key,
        None => crate::cli::link::random_key()?,
    };
    let prompt = PromptRequest { text, when_busy: args.when_busy, attachments };
    let request =
        |id: &SessionId| Request::post(format!("/v1/sessions/{id}/prompts")).key(&key).json(&prompt).keep();
    let (_, answer) = link.ui.waiting("sending", link.about(&args.id, request)).await?;
    let accepted: Accepted = read(&answer)?;
    if !args.no_wait {
        let mut watch = Watch { timeout: args.timeout, stays: true, stopped: pin!(ctrl_c()) };
        let Accepted { session_id, prompt_id, event_id, .. } = accepted;
        return watch.until_the_end(link, &session_id, prompt_id, event_id).await;
    }
    if link.ui.json {
        return link.ui.object(&answer);
    }
    link.ui.line(&accepted.prompt_id.to_string())?;
    waits(link, &accepted).await;
    Ok(())
}
