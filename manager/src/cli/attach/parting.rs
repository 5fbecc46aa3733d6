//! The end of a person's stay at a session: what was typed and not sent comes back.

use std::io::IsTerminal;

use super::desk::Desk;
use super::keyboard::Typed;
use super::pending::answer;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::render;
use crate::client::Request;

impl Desk<'_> {
    /// Lets a person who is typing read why nothing can be sent any more, until their keys end it: the rest of what they type would go to
    /// the shell. Returns at once if nothing is typed.
    pub async fn lingers(&mut self, why: &str) -> Outcome {
        let is_typing = self.input.stage().is_some_and(|stage| !stage.face().editor.is_empty());
        if !is_typing {
            return Ok(());
        }
        self.view.ended_by = Some(why.to_owned());
        loop {
            tokio::select! {
                typed = self.input.meanwhile(&mut self.view, false) => match typed {
                    Typed::Detach => return Ok(()),
                    Typed::Suspend => self.input.suspend(&mut self.view)?,
                    _ => {}
                },
                signal = self.signals.next() => if self.mind(signal)? {
                    return Ok(());
                },
            }
        }
    }

    /// The session is gone.
    pub fn removed(mut self) -> Outcome {
        if self.input.stage().is_some() {
            self.end_unasked();
            self.link.ui.note("the session was removed");
        }
        Ok(())
    }

    /// Sends what was typed before, and detaches.
    pub async fn leave(mut self) -> Outcome {
        if self.input.stage().is_some() {
            // Ctrl-C is a signal again, and what is said from here on is printed.
            self.end();
            self.view.chat = None;
        }
        loop {
            self.ask_next();
            if self.asking.is_none() {
                break;
            }
            tokio::select! {
                answer = answer(&mut self.asking) => {
                    let prompt = self.sent.take();
                    if answer.is_err() {
                        self.ahead.extend(prompt);
                    }
                    self.answered(answer, None)?;
                }
                signal = self.signals.next() => if self.mind(signal)? {
                    self.view.note("what was typed last may not have been sent");
                    return Err(Failure::Printed(exit::INTERRUPTED));
                },
            }
        }
        if let Some(client) = self.view.client.filter(|_| self.view.drives) {
            // Else nobody could drive for a while who does not take over. A daemon that does not hear it waits for that while.
            let path = format!("/v1/sessions/{}/attach", self.view.session);
            let request = Request::delete(path).from_client(Some(client)).seat(&self.word);
            self.link.client.tell(&request).await;
        }
        self.view.close();
        self.end();
        self.link.ui.note(&self.view.parting());
        match self.refused {
            // A person at the terminal has seen the refusal.
            Some(code) if !std::io::stdin().is_terminal() => Err(Failure::Printed(code)),
            _ => Ok(()),
        }
    }

    /// Gives the terminal back for good, as the person has asked, and the text that was typed and not sent.
    pub(super) fn end(&mut self) {
        let text = self.input.end(true);
        self.gives_back("this was typed and not sent:", text);
    }

    /// The same, but not by a key of the person, who may be typing.
    pub fn end_unasked(&mut self) {
        let text = self.input.end(false);
        self.gives_back("this was typed and not sent:", text);
    }

    fn gives_back(&self, note: &str, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            self.link.ui.note(note);
            self.link.ui.write_err(&format!("{}\n", render::block(&text)));
        }
    }
}

impl Drop for Desk<'_> {
    fn drop(&mut self) {
        let was_screen = self.input.stage().is_some();
        self.end_unasked();
        if was_screen {
            let prompts = self.requests.drain(..).filter_map(|(_, prompt)| prompt);
            let texts: Vec<String> = self
                .sent
                .take()
                .into_iter()
                .chain(prompts)
                .chain(self.held.take())
                .chain(self.ahead.drain(..))
                .collect();
            self.gives_back("this may not have been sent:", texts);
        }
    }
}
