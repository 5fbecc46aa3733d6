//! The watch over a prompt that was accepted: its output until it ends, or until nobody waits for it any more.

use std::pin::{Pin, pin};
use std::time::Duration;

use protocol::api::Accepted;
use protocol::event::Disposition;
use protocol::{EventId, PromptId, SessionId};

use super::view::View;
use crate::cli::link::Link;
use crate::cli::sessions;
use crate::cli::signals::interrupted;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::client::ClientError;

/// Prints why an accepted prompt waits, if its session cannot be started. One whose turn has begun waits for nothing.
pub(super) async fn waits(link: &Link<'_>, accepted: &Accepted) {
    if accepted.disposition != Disposition::Started
        && let Some(trouble) = sessions::trouble(link, &accepted.session_id).await
    {
        link.ui.note(&trouble);
    }
}

/// Prints the output of an accepted prompt's turn until the prompt has ended. Ctrl-C ends the stream, not the
/// prompt.
pub async fn follow(link: &Link<'_>, session: &SessionId, prompt: PromptId, after: EventId) -> Outcome {
    let mut watch = Watch { timeout: None, stays: true, stopped: pin!(ctrl_c()) };
    watch.until_the_end(link, session, prompt, after).await
}

/// Returns the exit code for Ctrl-C once it is typed.
pub(super) async fn ctrl_c() -> u8 {
    interrupted().await;
    exit::INTERRUPTED
}

/// The limits of a person's patience with a prompt.
pub(super) struct Watch<'a, F> {
    /// The longest wait for the prompt's end; none: no limit.
    pub(super) timeout: Option<Duration>,
    /// The prompt goes on when nobody watches it any more.
    pub(super) stays: bool,
    /// Returns the exit code once somebody ends the watch.
    pub(super) stopped: Pin<&'a mut F>,
}

impl<F: Future<Output = u8>> Watch<'_, F> {
    /// Prints the output of a prompt's turn until the prompt has ended, or nobody waits for it any more.
    pub(super) async fn until_the_end(
        &mut self,
        link: &Link<'_>,
        session: &SessionId,
        prompt: PromptId,
        after: EventId,
    ) -> Outcome {
        let mut view = View::new(link.ui, session.clone(), prompt);
        let watched = async {
            // Events from before the prompt are not shown, and the next try may be seconds away.
            if let Some(trouble) = sessions::trouble(link, session).await {
                view.trouble(trouble);
            }
            stream(link, &mut view, after).await
        };
        let timeout = self.timeout;
        let patience = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = watched => Some(ended),
            code = self.stopped.as_mut() => {
                view.close();
                link.ui.write_err("\n");
                if self.stays {
                    link.ui.note(&view.left());
                }
                return Err(Failure::Printed(code));
            }
            () = patience => None,
        };
        view.close();
        ended.unwrap_or_else(|| {
            let within = humantime::format_duration(self.timeout.unwrap_or_default());
            let failure =
                Failure::new(exit::TIMEOUT, "timeout", format!("{prompt} has not ended within {within}"));
            Err(if self.stays { failure.hint(view.left()) } else { failure })
        })
    }
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
