//! An event of the session and its parts, each of which becomes one update at most.

use protocol::{EventId, PromptId};

use crate::acp::marks::{Cursor, Mark};
use crate::acp::story::Shown;

/// An event, as the story tells it.
#[derive(Default)]
pub struct Told {
    /// The event; none if it was none.
    pub event: Option<EventId>,
    /// The prompt that it is about.
    pub prompt: Option<PromptId>,
    /// The story's reading of it.
    pub all: Vec<Shown>,
    /// The first event that still exists, if the stream has a gap here.
    pub first_available: Option<EventId>,
}

impl Told {
    /// The parts of it that are shown, each with its marks.
    pub fn parts(self) -> Vec<(Shown, Mark)> {
        let (event, prompt, count) = (self.event, self.prompt, self.all.len());
        let mark = |part| Mark { cursor: event.map(|event| Cursor::behind(event, part, count)), prompt };
        self.all.into_iter().enumerate().map(|(part, shown)| (shown, mark(part))).collect()
    }
}
