//! Events of the past, loaded while a person is at the session.

use protocol::EventId;

use super::conversation::Conversation;
use super::desk::Desk;
use super::history::{self, Stretch};
use crate::cli::ui::error::{Outcome, text_of};

/// Events of the past that were read.
pub enum Loaded {
    /// Those before the ones on the screen.
    Before(Box<Stretch>),
    /// Those around an event, which replace them.
    Around(EventId, Box<Conversation>),
}

impl Desk<'_> {
    /// Begins to read older events than those that are loaded.
    pub(super) fn load_older(&mut self) {
        if let Some(chat) = &self.view.chat {
            self.load_before(chat.from);
        }
    }

    /// Begins to read the newest events again.
    pub(super) fn load_newest(&mut self) {
        if let Some(chat) = &mut self.view.chat {
            chat.clear();
            self.ids = history::IDS;
            self.load_before(self.view.newest);
        }
    }

    /// Begins to read events before this one, and this one.
    fn load_before(&mut self, event: EventId) {
        let (link, session, ids) = (self.link, self.view.session.clone(), self.ids);
        self.loading = Some(Box::pin(async move {
            history::before(link, &session, event.saturating_add(1), ids)
                .await
                .map(|stretch| Loaded::Before(Box::new(stretch)))
        }));
    }

    /// Begins to read what follows the events that are loaded.
    pub(super) fn load_later(&mut self) {
        let (link, session) = (self.link, self.view.session.clone());
        let Some(last) = self.view.chat.as_ref().map(|chat| chat.last) else { return };
        self.loading = Some(Box::pin(async move {
            history::around(link, &session, last).await.map(|chat| Loaded::Around(last, Box::new(chat)))
        }));
    }

    pub(super) fn loaded(&mut self, loaded: Outcome<Loaded>) {
        self.has_loaded();
        match (loaded, &mut self.view.chat) {
            (Ok(Loaded::Before(stretch)), Some(chat)) => {
                self.ids = stretch.ids;
                chat.prepend(stretch.chat);
            }
            (Ok(Loaded::Around(event, part)), Some(chat)) => {
                self.ids = history::IDS;
                chat.replace(*part);
                if let Some(stage) = self.input.stage() {
                    stage.face().scroll.go_on_from(event);
                }
            }
            (Err(failure), _) => self.view.note(&text_of(&failure)),
            (Ok(_), None) => {}
        }
    }

    /// Shows an event on the whole screen.
    pub fn show(&mut self, event: EventId) {
        if let Some(stage) = self.input.stage() {
            stage.face().scroll.show(event);
        }
    }

    /// Takes the next key that loads.
    pub(super) fn has_loaded(&mut self) {
        if let Some(stage) = self.input.stage() {
            stage.face().loads = false;
        }
    }
}
