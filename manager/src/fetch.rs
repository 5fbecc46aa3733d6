//! What a prompt needs from the journal before it goes to a worker: the conversation before it, what belongs to it.
//!
//! Both may be large, and the disk slow. So they are read on threads of their own, a few at once, and what was found comes
//! back to the loop like anything that it hears.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::wire::{Attachment, Exchange};
use protocol::{Incarnation, PromptId, SessionId};
use tokio::sync::mpsc;

use crate::feed::Feed;
use crate::journal::{JournalError, Reader};

/// How many are read at once. A disk that hangs takes these, and no more.
const AT_ONCE: usize = 4;
/// Until another try is made where the machine had no thread, in milliseconds.
const AGAIN_MS: u64 = 100;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// For whose worker.
    pub session: SessionId,
    /// For which of its workers.
    pub incarnation: Incarnation,
    /// For which prompt.
    pub prompt: PromptId,
    /// The conversation before it is wanted.
    pub history: bool,
    /// How many attachments it has.
    pub attachments: usize,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The conversation before, oldest turn first.
    pub history: Vec<Exchange>,
    /// What belongs to the prompt.
    pub attachments: Vec<Attachment>,
}

/// An answer to what was wanted. There is always one.
pub struct Fetched {
    /// What was wanted.
    pub wanted: Wanted,
    /// What was found, or why it was not.
    pub found: Result<Found, String>,
}

/// Reads what prompts need.
pub struct Fetcher {
    feed: Arc<Feed>,
    answers: mpsc::UnboundedSender<Fetched>,
    waiting: VecDeque<Wanted>,
    reading: usize,
    /// There was no thread: when another try is made, in milliseconds since boot.
    again_at: Option<u64>,
}

impl Fetcher {
    /// One that reads the journal of this feed. What it finds goes to `answers`.
    pub fn new(feed: Arc<Feed>, answers: mpsc::UnboundedSender<Fetched>) -> Self {
        Self { feed, answers, waiting: VecDeque::new(), reading: 0, again_at: None }
    }

    /// Begins to read, now or when others have been read.
    pub fn ask(&mut self, wanted: Wanted, now: u64) {
        self.waiting.push_back(wanted);
        self.begin(now);
    }

    /// One of them has been answered.
    pub fn answered(&mut self, now: u64) {
        self.reading = self.reading.saturating_sub(1);
        self.begin(now);
    }

    /// When [`begin`](Self::begin) is due.
    pub fn deadline(&self) -> Option<u64> {
        self.again_at
    }

    /// Begins what can be begun.
    pub fn begin(&mut self, now: u64) {
        if self.again_at.is_some_and(|at| at > now) {
            return;
        }
        self.again_at = None;
        while self.reading < AT_ONCE
            && let Some(wanted) = self.waiting.front()
        {
            // Answers also where it falls.
            let answer = Answer {
                to: self.answers.clone(),
                wanted: Some(wanted.clone()),
                found: Err("its reader fell".into()),
            };
            let feed = self.feed.clone();
            let read = move || {
                let mut answer = answer;
                if let Some(wanted) = &answer.wanted {
                    answer.found = look_up(&feed, wanted);
                }
            };
            // Not on this thread, whatever happens.
            match std::thread::Builder::new().name("fetch".into()).spawn(read) {
                Ok(_) => {
                    self.waiting.pop_front();
                    self.reading += 1;
                }
                Err(error) => {
                    tracing::warn!(%error, "no thread to read the journal; it is tried again");
                    self.again_at = Some(now + AGAIN_MS);
                    return;
                }
            }
        }
    }
}

struct Answer {
    to: mpsc::UnboundedSender<Fetched>,
    wanted: Option<Wanted>,
    found: Result<Found, String>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(wanted) = self.wanted.take() {
            // The loop may have ended.
            let _ = self
                .to
                .send(Fetched { wanted, found: std::mem::replace(&mut self.found, Err(String::new())) });
        }
    }
}

fn look_up(feed: &Feed, wanted: &Wanted) -> Result<Found, String> {
    let history = |reader: &Reader| match wanted.history {
        true => reader.history(&wanted.session, wanted.prompt),
        false => Ok(Vec::new()),
    };
    let attachments = |reader: &Reader| match wanted.attachments {
        0 => Ok(Vec::new()),
        _ => reader.attachments(wanted.prompt),
    };
    let found = feed.read(|reader| -> Result<_, JournalError> { Ok((history(reader), attachments(reader))) });
    let (history, attachments) = found.map_err(|error| format!("the journal could not be read: {error}"))?;
    let history = history.map_err(|error| format!("the conversation before could not be read: {error}"))?;
    let unread = |error: String| format!("what belongs to the prompt could not be read: {error}");
    let attachments = attachments.map_err(|error| unread(error.to_string()))?;
    match attachments.len() == wanted.attachments {
        true => Ok(Found { history, attachments }),
        false => Err(unread(format!("{} found", attachments.len()))),
    }
}
