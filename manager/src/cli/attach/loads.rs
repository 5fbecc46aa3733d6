//! Events of the past, loaded while a person is at the session.

use protocol::EventId;
use protocol::event::Event;

use super::full::Stage;
use super::history::{self, Stretch};
use super::keyboard::Typed;
use super::pending::{Pending, answer};
use super::view::View;
use crate::cli::link::Link;
use crate::cli::ui::error::{Outcome, text_of};

/// Events of the past that were read.
pub enum Loaded {
    /// Those up to this one, which come before those on the screen.
    Before(EventId, Box<Stretch>),
    /// Those after them, and whether these are all.
    After(Vec<Event>, bool),
    /// The newest, which replace them.
    Newest(Box<Stretch>),
}

/// Reads events of the past, one part at a time. What is on the screen stays there until a part was read.
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
    pub fn begin(&mut self, typed: &Typed, view: &View<'_>) {
        match typed {
            Typed::Older => self.older(view),
            Typed::Later => self.later(view),
            Typed::Newest => self.newest(view),
            _ => {}
        }
    }

    /// Begins to read older events than those that are loaded.
    fn older(&mut self, view: &View<'_>) {
        let Some(from) = view.chat.as_ref().map(|chat| chat.from) else { return };
        let (link, session, ids) = (self.link, view.session.clone(), self.ids);
        self.pending = Some(Box::pin(async move {
            let stretch = history::before(link, &session, from.saturating_add(1), ids).await?;
            Ok(Loaded::Before(from, Box::new(stretch)))
        }));
    }

    /// Begins to read what follows the events that are loaded.
    fn later(&mut self, view: &View<'_>) {
        let Some(last) = view.chat.as_ref().map(|chat| chat.last) else { return };
        let (link, session) = (self.link, view.session.clone());
        self.pending = Some(Box::pin(async move {
            let (events, is_end) = history::after(link, &session, last).await?;
            Ok(Loaded::After(events, is_end))
        }));
    }

    /// Begins to read the newest events, if they are not loaded.
    pub fn newest(&mut self, view: &View<'_>) {
        if view.chat.as_ref().is_none_or(|chat| !chat.cut) {
            return;
        }
        let (link, session, newest) = (self.link, view.session.clone(), view.newest);
        self.pending = Some(Box::pin(async move {
            let stretch = history::before(link, &session, newest.saturating_add(1), history::IDS).await?;
            Ok(Loaded::Newest(Box::new(stretch)))
        }));
    }

    /// Waits for what is read; for ever while nothing is.
    pub async fn next(&mut self) -> Outcome<Loaded> {
        answer(&mut self.pending).await
    }

    /// Shows what was read.
    pub fn show(&mut self, loaded: Outcome<Loaded>, view: &mut View<'_>, stage: Option<&mut Stage>) {
        match (loaded, &mut view.chat) {
            (Ok(Loaded::Before(from, stretch)), Some(chat)) => {
                self.ids = stretch.ids;
                // Else the oldest on the screen were given up meanwhile, and it does not follow.
                if chat.from == from {
                    chat.prepend(stretch.chat);
                }
            }
            (Ok(Loaded::After(events, is_end)), Some(chat)) => {
                chat.append(&events, is_end);
                if let Some(stage) = stage {
                    stage.face().scroll.go_on(chat);
                }
            }
            (Ok(Loaded::Newest(stretch)), Some(chat)) => {
                self.ids = stretch.ids;
                chat.replace(stretch.chat);
                if let Some(stage) = stage {
                    stage.face().scroll.go_to_end();
                }
            }
            (Err(failure), _) => view.note(&text_of(&failure)),
            (Ok(_), None) => {}
        }
    }
}
