//! The driver's seats of one editor: the daemon keeps a seat for a while after its connection was cut, for whoever shows the editor's
//! word again, and is told when the editor leaves for good.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use protocol::SessionId;

use super::Busy;
use super::reach::{Outcome, Reach};
use crate::client::{Events, Request};

/// The sessions that the editor drives, or drove when its connection was cut.
pub struct Seats<'a> {
    link: &'a dyn Reach,
    /// None: no seat is kept, and the end of a connection frees the seat.
    word: Option<String>,
    held: RefCell<BTreeSet<SessionId>>,
    /// The number of attachments on their way.
    coming: Rc<Cell<usize>>,
}

impl<'a> Seats<'a> {
    /// Of an editor with this word.
    pub fn new(link: &'a dyn Reach, word: Option<String>) -> Self {
        Self { link, word, held: RefCell::default(), coming: Rc::default() }
    }

    /// Attaches as the driver.
    pub async fn drive(&self, id: &SessionId, path: String) -> Outcome<Events> {
        let Some(word) = &self.word else { return self.link.events(Request::get(path)).await };
        let _coming = Busy::new(&self.coming, None);
        // Before the answer: that may be lost, and the seat is taken.
        self.held.borrow_mut().insert(id.clone());
        let events = self.link.events(Request::get(path).seat(word)).await;
        match &events {
            // Its word would have been known.
            Err(failure) if failure.is("driven") || failure.is("no_such_session") => self.lost(id),
            // The session may have been closed meanwhile, which the daemon may have heard too early.
            _ => drop(self.held.borrow_mut().insert(id.clone())),
        }
        events
    }

    /// Returns true while an attachment is on its way.
    pub fn are_coming(&self) -> bool {
        self.coming.get() > 0
    }

    /// No seat is kept for the editor in this session.
    pub fn lost(&self, id: &SessionId) {
        self.held.borrow_mut().remove(id);
    }

    /// Tells the daemon that the editor has left the session, whose seat is free then. Does not wait for a daemon that is away.
    pub async fn leave(&self, id: &SessionId) {
        let Some(word) = self.word.as_ref().filter(|_| self.held.borrow_mut().remove(id)) else { return };
        let request = Request::delete(format!("/v1/sessions/{id}/attach")).seat(word);
        // A daemon that does not hear it keeps the seat for its time.
        self.link.tell(request).await;
    }

    /// The same of all sessions.
    pub async fn leave_all(&self) {
        let held = self.held.borrow().clone();
        futures_util::future::join_all(held.iter().map(|id| self.leave(id))).await;
    }
}
