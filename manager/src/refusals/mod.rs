//! Refusals on their way into the journal.
//!
//! Whoever refuses notes it here and goes on: a note waits for nothing, and no number of notes makes the state larger. The recorder
//! (`session_manager/refused.rs`) takes what is due and has the loop record it.

mod tally;

use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::event::Refused;
use tokio::sync::mpsc;

use self::tally::Tally;
use crate::system::clock;

/// Refusals that no event has told of yet.
#[derive(Debug)]
pub struct Refusals {
    tally: Mutex<Tally>,
    /// Wakes the recorder. One word is enough.
    news: mpsc::Sender<()>,
    /// One records at a time.
    pub recording: tokio::sync::Mutex<()>,
}

impl Refusals {
    /// None yet. The receiver gets a word when a refusal begins to wait, and ends with the last handle.
    pub fn new() -> (Self, mpsc::Receiver<()>) {
        let (news, heard) = mpsc::channel(1);
        (Self { tally: Mutex::default(), news, recording: tokio::sync::Mutex::default() }, heard)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a refusal.
    pub fn note(&self, refused: Refused) {
        if self.tally().note(clock::mono_ms(), refused) {
            // A word that waits already says the same.
            let _ = self.news.try_send(());
        }
    }

    /// Takes what is due.
    pub fn take(&self) -> Vec<Refused> {
        self.tally().take(clock::mono_ms())
    }

    /// Takes everything, due or not.
    pub fn take_all(&self) -> Vec<Refused> {
        self.tally().take_all(clock::mono_ms())
    }

    /// Takes back what the journal did not take.
    pub fn give_back(&self, refused: Refused) {
        self.tally().give_back(clock::mono_ms(), refused);
    }

    /// Time until something is due, in milliseconds; none while nothing waits.
    pub fn due_in(&self) -> Option<u64> {
        self.tally().due().map(|at| at.saturating_sub(clock::mono_ms()))
    }
}
