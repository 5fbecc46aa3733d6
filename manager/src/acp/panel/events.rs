//! The session's events, read and shown to the editor.

use std::rc::Rc;
use std::time::Duration;

use protocol::api::Gap;
use protocol::event::Event;
use protocol::{PermissionId, PromptId};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::told::Told;
use super::{PATIENCE, Panel, cancel};
use crate::acp::Editor;
use crate::acp::marks::{ENDED, Mark};
use crate::acp::reach::Failure;
use crate::acp::story::{End, Shown};
use crate::acp::updates;
use crate::client::ClientError;
use crate::client::sse::Frame;

/// A stream that is lost sooner is followed by a pause of this length.
const PAUSE: Duration = Duration::from_millis(250);

impl<'a> Panel<'a> {
    /// Shows what happens until the session is gone or opened anew.
    pub async fn follow(self: Rc<Self>, editor: Rc<Editor<'a>>) {
        self.clone().watch(&editor).await;
        // The editor may have closed the session while this view of it was being attached.
        if editor.panel(&self.id).is_none() {
            editor.seats.leave(&self.id).await;
        }
    }

    async fn watch(self: Rc<Self>, editor: &Rc<Editor<'a>>) {
        let questions: Vec<PermissionId> = self.state.borrow().story.questions().keys().copied().collect();
        for remark in std::mem::take(&mut *self.remarks.borrow_mut()) {
            self.wire.update(&self.id, updates::quoted(&remark), Mark::default());
        }
        questions.into_iter().for_each(|permission| self.clone().question(editor, permission));
        while !self.retired.get() {
            let came = Instant::now();
            let failure = match self.come(editor).await {
                Err(failure) => failure,
                Ok(mut events) => match self.listen(editor, &mut events).await {
                    Ok(true) => return,
                    Ok(false) if self.again.take() => continue,
                    Ok(false) if self.link.comes_back().await => continue,
                    Ok(false) => {
                        let what = "the daemon was stopped; what waits, waits for its next start".to_owned();
                        Failure::new(503, "daemon_unreachable", what)
                    }
                    Err(ClientError::Lost(_)) => {
                        // A daemon with too many connections may close each new one as well.
                        if came.elapsed() < PAUSE {
                            sleep(PAUSE).await;
                        }
                        continue;
                    }
                    Err(error) => self.link.failure(error),
                },
            };
            // The editor's prompts end here with an error. The editor's next prompt tries again.
            self.complain("cannot follow the session", &failure);
            self.give_up(&failure.text());
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
                    all.into_iter().for_each(|shown| { self.show(editor, shown, Mark::default()); });
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
            for (shown, mark) in self.read(&frame)?.parts() {
                if self.show(editor, shown, mark) {
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
    pub(super) fn read(&self, frame: &Frame) -> Result<Told, ClientError> {
        if frame.event == "problem" {
            let problem = serde_json::from_str(&frame.data);
            return Err(match problem {
                Ok(problem) => ClientError::Problem(Box::new(problem)),
                Err(error) => ClientError::Garbage(error.to_string()),
            });
        }
        if frame.event == "gap" {
            let gap = serde_json::from_str::<Gap>(&frame.data).ok();
            return Ok(Told { first_available: gap.map(|gap| gap.first_available), ..Told::default() });
        }
        let mut state = self.state.borrow_mut();
        state.cursor = frame.id.unwrap_or(state.cursor);
        // An event of a later version's kind is not for this one.
        let Ok(event) = serde_json::from_str::<Event>(&frame.data) else {
            return Ok(Told::default());
        };
        let (prompt, all) = (event.kind.prompt(), state.story.translate(&event.kind));
        Ok(Told { event: frame.id, prompt, all, first_available: None })
    }

    /// Shows something that has been.
    pub(super) fn replay(&self, shown: Shown, mark: Mark) {
        match shown {
            Shown::Update(_, update) => self.wire.update(&self.id, update, mark),
            Shown::User(_, text) => self.wire.update(&self.id, updates::user(&text), mark),
            Shown::Note(text) => self.wire.update(&self.id, updates::quoted(&text), mark),
            Shown::Ended(prompt, end) => self.tell_end(prompt, &end, mark),
            // Questions that still wait are asked when all is shown.
            Shown::Ask(_) | Shown::Settled(_) | Shown::Call(_) | Shown::CallSettled(_) => {}
            Shown::Driver(_) | Shown::Gone => {}
        }
    }

    /// Tells of the end of a prompt for which no request waits. The protocol has no update for that: this one changes nothing
    /// and carries a mark.
    fn tell_end(&self, prompt: PromptId, end: &End, mark: Mark) {
        if !self.tells_ends {
            return;
        }
        let how = match end {
            End::Stop(reason) => json!({ "prompt": prompt, "stopReason": reason }),
            End::Error(why) => json!({ "prompt": prompt, "error": why }),
        };
        let update = json!({ "sessionUpdate": "session_info_update", "_meta": { ENDED: how } });
        self.wire.update(&self.id, update, mark);
    }

    /// Shows something that happens. Whether it is the last.
    pub(super) fn show(self: &Rc<Self>, editor: &Rc<Editor<'a>>, shown: Shown, mark: Mark) -> bool {
        match shown {
            Shown::Update(_, update) => self.wire.update(&self.id, update, mark),
            Shown::User(prompt, _) if self.state.borrow().ours.contains_key(&prompt) => {}
            // Somebody else's, who may sit in another editor.
            Shown::User(prompt, text) => {
                self.state.borrow_mut().watched.insert(prompt);
                self.wire.update(&self.id, updates::user(&text), mark);
            }
            Shown::Note(text) => {
                let state = self.state.borrow();
                let answered = match mark.prompt {
                    Some(prompt) => state.is_shown(prompt),
                    None => !(state.ours.is_empty() && state.followed.is_empty() && state.watched.is_empty()),
                };
                // A client that goes on after a cursor gets a note then: so it gets the note now.
                match answered || self.seated {
                    true => self.wire.update(&self.id, updates::quoted(&text), mark),
                    false => self.link.note(&format!("{}: {text}", self.id)),
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
                state.ended(prompt, &end);
                let ours = state.ours.remove(&prompt);
                drop(state);
                match ours {
                    Some(ours) if ours.cancelled => ours.finish(&End::Stop("cancelled")),
                    Some(ours) => ours.finish(&end),
                    None => self.tell_end(prompt, &end, mark),
                }
            }
            Shown::Gone => {
                editor.forget(&self.id);
                editor.seats.lost(&self.id);
                self.state.borrow_mut().ours.clear();
                return true;
            }
        }
        false
    }

    pub(in crate::acp) fn complain(&self, what: &str, failure: &Failure) {
        self.link.note(&format!("{}: {what}: {}", self.id, failure.text()));
    }
}

async fn patience(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
