//! `send`: a prompt, and what becomes of it until it ends.

mod input;
mod view;

use std::io::{self, IsTerminal};

use protocol::api::{Accepted, PromptRequest};
use protocol::event::Disposition;
use protocol::{EventId, PromptId, SessionId};

use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::sessions;
use crate::cli::signals::interrupted;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::client::{ClientError, Request};
use input::attachment;
use view::View;

pub use input::text;
pub use view::early;

/// `send`.
pub async fn send(link: &Link<'_>, args: args::Send) -> Outcome {
    // A picture needs no text.
    let silent = args.text.is_empty() && !args.files.is_empty() && io::stdin().is_terminal();
    let text = if silent { String::new() } else { text(args.text)? };
    let attachments = args.files.iter().map(|path| attachment(path)).collect::<Outcome<Vec<_>>>()?;
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
        return follow(link, &accepted.session_id, accepted.prompt_id, accepted.event_id).await;
    }
    if link.ui.json {
        return link.ui.object(&answer);
    }
    link.ui.line(&accepted.prompt_id.to_string())?;
    // One whose turn has begun waits for nothing.
    if accepted.disposition != Disposition::Started
        && let Some(trouble) = sessions::trouble(link, &accepted.session_id).await
    {
        link.ui.note(&trouble);
    }
    Ok(())
}

/// Prints the output of an accepted prompt's turn until the prompt has ended. Ctrl-C ends the stream, not the
/// prompt.
pub async fn follow(link: &Link<'_>, session: &SessionId, prompt: PromptId, after: EventId) -> Outcome {
    let mut view = View::new(link.ui, session.clone(), prompt);
    // Events from before the prompt are not shown, and the next try may be seconds away.
    if let Some(trouble) = sessions::trouble(link, session).await {
        view.trouble(trouble);
    }
    let ended = tokio::select! {
        ended = stream(link, &mut view, after) => ended,
        () = interrupted() => {
            view.close();
            link.ui.write_err("\n");
            link.ui.note(&view.left());
            return Err(Failure::Printed(exit::INTERRUPTED));
        }
    };
    view.close();
    ended
}

async fn stream(link: &Link<'_>, view: &mut View<'_>, mut after: EventId) -> Outcome {
    let accepted = format!("{} was accepted, and runs or waits all the same", view.prompt);
    loop {
        view.clear();
        let asked = link.events(&format!("/v1/sessions/{}/events?after={after}", view.session)).await;
        // Only the looking on is refused.
        let mut events = asked.map_err(|failure| failure.although(&accepted))?;
        loop {
            let next = tokio::select! {
                next = events.next() => next,
                () = view.patience() => {
                    view.tick();
                    continue;
                }
            };
            match next {
                Ok(Some(frame)) => {
                    if let Some(ended) = view.show(&frame)? {
                        view.linger(&mut events).await?;
                        return ended;
                    }
                    after = frame.id.unwrap_or(after);
                }
                // The daemon ends its streams when it is stopped on purpose; that purpose is not to be thwarted.
                Ok(None) if link.comes_back().await => break,
                Ok(None) => {
                    let what = format!("the daemon was stopped; {} has not ended", view.prompt);
                    return Err(Failure::unreachable(what).hint(format!(
                        "`kennel events {}` starts it again and tells what became of it",
                        view.session
                    )));
                }
                Err(ClientError::Lost(_)) => {
                    // A connection to another machine says by itself what becomes of it.
                    if link.host().is_none() {
                        view.note("the daemon went away; going on with the next");
                    }
                    break;
                }
                Err(error) => return Err(Failure::from(error).although(&accepted)),
            }
        }
    }
}
