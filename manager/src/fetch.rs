//! Reads of prompts' data from the journal before they go to a worker: the conversation before, and attachments.
//!
//! Both may be large, and the disk slow. So threads of their own read them, a few at once, and the result returns to
//! the loop as an input.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::wire::{Attachment, Exchange};
use protocol::{Incarnation, PromptId, SessionId};
use tokio::sync::mpsc;

use crate::feed::Feed;
use crate::journal::{JournalError, Reader};

/// Reads at one time. A disk that hangs blocks these, and no more.
const AT_ONCE: usize = 4;
/// Until another try is made where the machine had no thread, in milliseconds.
const AGAIN_MS: u64 = 100;

/// Data that a prompt needs.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The session whose worker gets the prompt.
    pub session: SessionId,
    /// The worker's incarnation.
    pub incarnation: Incarnation,
    /// The prompt.
    pub prompt: PromptId,
    /// The conversation before it is wanted.
    pub history: bool,
    /// Number of the prompt's attachments.
    pub attachments: usize,
}

/// Data that the journal had.
#[derive(Debug, Default)]
pub struct Found {
    /// The conversation before, oldest turn first.
    pub history: Vec<Exchange>,
    /// Attachments of the prompt.
    pub attachments: Vec<Attachment>,
}

/// An answer to what was wanted. There is always one.
pub struct Fetched {
    /// The request.
    pub wanted: Wanted,
    /// The data, or the error for a person.
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
    /// Makes a fetcher that reads the journal of this feed and sends its results to `answers`.
    pub fn new(feed: Arc<Feed>, answers: mpsc::UnboundedSender<Fetched>) -> Self {
        Self { feed, answers, waiting: VecDeque::new(), reading: 0, again_at: None }
    }

    /// Begins to read, now or when others have been read.
    pub fn ask(&mut self, wanted: Wanted, now: u64) {
        self.waiting.push_back(wanted);
        self.begin(now);
    }

    /// Counts a finished read, and begins the next.
    pub fn answered(&mut self, now: u64) {
        self.reading = self.reading.saturating_sub(1);
        self.begin(now);
    }

    /// Time at which [`begin`](Self::begin) must run; `None` if at no time.
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
            // Answers also if the reader panics.
            let answer = Answer {
                to: self.answers.clone(),
                wanted: Some(wanted.clone()),
                found: Err("its reader panicked".into()),
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
