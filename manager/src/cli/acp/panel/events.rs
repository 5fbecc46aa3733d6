//! The session's events, read and shown to the editor.

use std::rc::Rc;

use protocol::event::Event;
use protocol::{PermissionId, PromptId};
use tokio::time::{Instant, sleep_until};

use super::{PATIENCE, Panel, cancel};
use crate::cli::acp::Editor;
use crate::cli::acp::story::{End, Shown};
use crate::cli::acp::updates;
use crate::cli::ui::error::Failure;
use crate::client::ClientError;
use crate::client::sse::Frame;

impl<'a> Panel<'a> {
    /// Shows what happens until the session is gone or opened anew.
    pub async fn follow(self: Rc<Self>, editor: Rc<Editor<'a>>) {
        let questions: Vec<PermissionId> = self.state.borrow().story.questions().keys().copied().collect();
        for remark in std::mem::take(&mut *self.remarks.borrow_mut()) {
            self.wire.update(&self.id, updates::quoted(&remark));
        }
        questions.into_iter().for_each(|permission| self.clone().question(&editor, permission));
        while !self.retired.get() {
            let failure = match self.come(&editor).await {
                Err(failure) => failure,
                Ok(mut events) => match self.listen(&editor, &mut events).await {
                    Ok(true) => return,
                    Ok(false) if self.again.take() => continue,
                    Ok(false) if self.link.comes_back().await => continue,
                    Ok(false) => {
                        Failure::unreachable("the daemon was stopped; what waits, waits for its next start")
                    }
                    Err(ClientError::Lost(_)) => continue,
                    Err(error) => error.into(),
                },
            };
            // The editor's prompts end here with an error. The editor's next prompt tries again.
            self.complain("cannot follow the session", &failure);
            self.give_up(&crate::cli::ui::error::text_of(&failure));
            self.changed.notified().await;
        }
    }

    /// Shows the events as they come. Returns true if this view of the session is over, and false if only the
    /// stream has ended.
    pub(super) async fn listen(
        self: &Rc<Self>,
        editor: &Rc<Editor<'a>>,
        events: &mut crate::client::Events,
    ) -> Result<bool, ClientError> {
        loop {
            let until = self.state.borrow().until;
            let next = tokio::select! {
                next = events.next() => next,
                () = self.changed.notified() => {
                    if self.retired.get() {
                        return Ok(true);
                    }
                    continue;
                }
                () = patience(until) => {
                    let all = self.state.borrow_mut().story.impatient();
                    self.state.borrow_mut().until = None;
                    all.into_iter().for_each(|shown| { self.show(editor, None, shown); });
                    continue;
                }
            };
            let Some(frame) = next? else { return Ok(false) };
            // It may be about a prompt whose number is still on its way here.
            while self.posting.get() > 0 {
                self.changed.notified().await;
            }
            if self.retired.get() {
                return Ok(true);
            }
            if frame.event == "attached" {
                self.attached(editor, &frame.data);
                continue;
            }
            self.wire.room().await;
            let (prompt, all) = self.read(&frame)?;
            for shown in all {
                if self.show(editor, prompt, shown) {
                    return Ok(true);
                }
            }
            if self.again.get() {
                return Ok(false);
            }
            let mut state = self.state.borrow_mut();
            let down = state.story.is_down();
            state.until = if down { state.until.or(Some(Instant::now() + PATIENCE)) } else { None };
        }
    }

    /// Takes an event into the story.
    pub(super) fn read(&self, frame: &Frame) -> Result<(Option<PromptId>, Vec<Shown>), ClientError> {
        if frame.event == "problem" {
            let problem = serde_json::from_str(&frame.data);
            return Err(match problem {
                Ok(problem) => ClientError::Problem(Box::new(problem)),
                Err(error) => ClientError::Garbage(error.to_string()),
            });
        }
        let mut state = self.state.borrow_mut();
        state.cursor = frame.id.unwrap_or(state.cursor);
        // An event of a later version's kind is not for this one.
        let Ok(event) = serde_json::from_str::<Event>(&frame.data) else {
            return Ok((None, Vec::new()));
        };
        Ok((event.kind.prompt(), state.story.translate(&event.kind)))
    }

    /// Shows something that has been.
    pub(super) fn replay(&self, shown: Shown) {
        match shown {
            Shown::Update(_, update) => self.wire.update(&self.id, update),
            Shown::User(_, text) => self.wire.update(&self.id, updates::user(&text)),
            Shown::Note(text) => self.wire.update(&self.id, updates::quoted(&text)),
            // Questions that still wait are asked when all is shown.
            Shown::Ask(_) | Shown::Settled(_) | Shown::Call(_) | Shown::CallSettled(_) => {}
            Shown::Driver(_) | Shown::Ended(..) | Shown::Gone => {}
        }
    }

    /// Shows something that happens. Whether it is the last.
    pub(super) fn show(
        self: &Rc<Self>,
        editor: &Rc<Editor<'a>>,
        about: Option<PromptId>,
        shown: Shown,
    ) -> bool {
        match shown {
            Shown::Update(_, update) => self.wire.update(&self.id, update),
            Shown::User(prompt, _) if self.state.borrow().ours.contains_key(&prompt) => {}
            // Somebody else's, who may sit in another editor.
            Shown::User(prompt, text) => {
                self.state.borrow_mut().watched.insert(prompt);
                self.wire.update(&self.id, updates::user(&text));
            }
            Shown::Note(text) => {
                let state = self.state.borrow();
                let answered = match about {
                    Some(prompt) => state.is_shown(prompt),
                    None => !(state.ours.is_empty() && state.followed.is_empty() && state.watched.is_empty()),
                };
                match answered {
                    true => self.wire.update(&self.id, updates::quoted(&text)),
                    false => self.link.ui.note(&format!("{}: {text}", self.id)),
                }
            }
            Shown::Ask(permission) => self.clone().question(editor, permission),
            Shown::Settled(permission) => {
                if let Some(handle) = self.state.borrow_mut().asked.remove(&permission) {
                    cancel(&handle);
                }
            }
            Shown::Call(call) => self.clone().call(editor, call),
            Shown::CallSettled(call) => self.call_settled(call),
            Shown::Driver(driver) => self.driven_by(driver),
            Shown::Ended(prompt, end) => {
                let mut state = self.state.borrow_mut();
                state.followed.remove(&prompt);
                state.watched.remove(&prompt);
                if let Some(ours) = state.ours.remove(&prompt) {
                    let end = if ours.cancelled { End::Stop("cancelled") } else { end };
                    // Without a receiver the editor needs no answer any more.
                    let _ = ours.end.send(end);
                }
            }
            Shown::Gone => {
                editor.forget(&self.id);
                self.state.borrow_mut().ours.clear();
                return true;
            }
        }
        false
    }

    pub(in crate::cli::acp) fn complain(&self, what: &str, failure: &Failure) {
        self.link.ui.note(&format!("{}: {what}: {}", self.id, crate::cli::ui::error::text_of(failure)));
    }
}

async fn patience(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
