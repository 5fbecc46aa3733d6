//! Events of the past, loaded while a person is at the session.

use protocol::EventId;

use super::conversation::Conversation;
use super::full::Stage;
use super::history::{self, Stretch};
use super::keyboard::Typed;
use super::pending::{Pending, answer};
use super::view::View;
use crate::cli::link::Link;
use crate::cli::ui::error::{Outcome, text_of};

/// Events of the past that were read.
pub enum Loaded {
    /// Those before the ones on the screen.
    Before(Box<Stretch>),
    /// Those around an event, which replace them.
    Around(EventId, Box<Conversation>),
}

/// Reads events of the past, one part at a time.
pub struct Loads<'a> {
    link: &'a Link<'a>,
    pending: Option<Pending<'a, Loaded>>,
    /// The number of ids in which the next older events are looked for.
    ids: u64,
}

impl<'a> Loads<'a> {
    /// Nothing is read.
    pub fn new(link: &'a Link<'a>) -> Self {
        Self { link, pending: None, ids: history::IDS }
    }

    /// Begins to read the events that a key asks for.
    pub fn begin(&mut self, typed: &Typed, view: &mut View<'_>) {
        match typed {
            Typed::Older => self.older(view),
            Typed::Later => self.later(view),
            Typed::Newest => self.newest(view),
            _ => {}
        }
    }

    /// Begins to read older events than those that are loaded.
    fn older(&mut self, view: &View<'_>) {
        if let Some(chat) = &view.chat {
            self.before(view, chat.from);
        }
    }

    /// Begins to read the newest events again.
    fn newest(&mut self, view: &mut View<'_>) {
        if let Some(chat) = &mut view.chat {
            chat.clear();
            self.ids = history::IDS;
            self.before(view, view.newest);
        }
    }

    /// Begins to read events before this one, and this one.
    fn before(&mut self, view: &View<'_>, event: EventId) {
        let (link, session, ids) = (self.link, view.session.clone(), self.ids);
        self.pending = Some(Box::pin(async move {
            let stretch = history::before(link, &session, event.saturating_add(1), ids).await?;
            Ok(Loaded::Before(Box::new(stretch)))
        }));
    }

    /// Begins to read what follows the events that are loaded.
    fn later(&mut self, view: &View<'_>) {
        let (link, session) = (self.link, view.session.clone());
        let Some(last) = view.chat.as_ref().map(|chat| chat.last) else { return };
        self.pending = Some(Box::pin(async move {
            history::around(link, &session, last).await.map(|chat| Loaded::Around(last, Box::new(chat)))
        }));
    }

    /// Waits for what is read; for ever while nothing is.
    pub async fn next(&mut self) -> Outcome<Loaded> {
        answer(&mut self.pending).await
    }

    /// Shows what was read.
    pub fn show(&mut self, loaded: Outcome<Loaded>, view: &mut View<'_>, stage: Option<&mut Stage>) {
        match (loaded, &mut view.chat) {
            (Ok(Loaded::Before(stretch)), Some(chat)) => {
                self.ids = stretch.ids;
                chat.prepend(stretch.chat);
            }
            (Ok(Loaded::Around(event, part)), Some(chat)) => {
                self.ids = history::IDS;
                chat.replace(*part);
                if let Some(stage) = stage {
                    stage.face().scroll.go_on_from(event);
                }
            }
            (Err(failure), _) => view.note(&text_of(&failure)),
            (Ok(_), None) => {}
        }
    }
}
