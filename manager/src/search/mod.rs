//! Full-text search over all conversations.
//!
//! An index beside the journal (`search.db`) holds the texts. Nothing fills it until a client searches, or removes what is in it; then a
//! task reads the journal from where the index ends, in bounded steps on threads of their own, and ends. A search waits a moment
//! for the task, and says how far it came. The index is derived: it may be lost at any time, and what it finds is looked up in the journal before it is told.

mod fill;
mod find;
mod index;
mod query;
mod schema;
#[cfg(test)]
mod tests;
mod text;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use protocol::EventId;
use protocol::api::{SearchHit, SearchReply};
use tokio::sync::{Semaphore, watch};

pub use self::find::Wanted;
use self::find::find;
use self::index::Index;
pub use self::index::NAME;
pub use self::query::Query;
use self::schema::Fault;
use crate::error::Error;
use crate::feed::Feed;
use crate::shares::{Places, Sender};
use crate::system::blocking;

/// The time that a search waits for the index to come up to the journal's end.
const PATIENCE: Duration = Duration::from_secs(2);
/// The time that a search in the index may take.
const LONGEST: Duration = Duration::from_secs(5);
/// The most searches at one time, those that wait included.
const PLACES: usize = 16;
/// Searches in the index at one time.
const AT_ONCE: usize = 2;
/// The most events and bytes of JSON that one step adds to the index.
const STEP: (usize, usize) = (4096, 4 << 20);
/// Nice value of the threads of a search (setpriority(2)).
const NICE: i32 = 10;

/// The index and those who use it.
pub struct Search {
    feed: Arc<Feed>,
    dir: PathBuf,
    uuid: String,
    progress: watch::Sender<Progress>,
    /// A search found that the index is damaged.
    damaged: AtomicBool,
    /// Of searches that are under way.
    places: Arc<Places>,
    finding: Semaphore,
}

/// Progress of the index.
#[derive(Clone, Debug, Default)]
struct Progress {
    is_filling: bool,
    reached: EventId,
    /// Reason why it went no further, for a person.
    failure: Option<String>,
}

impl Search {
    /// The search over this feed's journal, which has this uuid. The index is in this directory. Opens nothing yet.
    pub fn new(feed: Arc<Feed>, dir: PathBuf, uuid: String) -> Arc<Self> {
        Arc::new(Self {
            feed,
            dir,
            uuid,
            progress: watch::Sender::default(),
            damaged: AtomicBool::new(false),
            places: Places::of(PLACES),
            finding: Semaphore::new(AT_ONCE),
        })
    }

    /// Finds at most `limit` texts, newest first. The reply names no sessions yet.
    ///
    /// # Errors
    /// `overloaded` if too many searches are under way; [`Error::Unread`] if index or journal cannot be read.
    pub async fn find(
        self: &Arc<Self>,
        wanted: &Wanted,
        limit: usize,
        sender: Sender,
    ) -> Result<SearchReply, Error> {
        let place = self.places.take(&sender);
        let place = place
            .map_err(|full| Error::files("overloaded", format!("too many searches are under way: {full}")))?;
        let (search, wanted) = (self.clone(), wanted.clone());
        // A task of its own: it has its place until its threads have ended, also if whoever has asked leaves.
        let found = tokio::spawn(async move {
            let _place = place;
            match search.attempt(&wanted, limit).await {
                Err(Fault::Damaged(_)) => search.attempt(&wanted, limit).await,
                other => other,
            }
        });
        let found = found.await.unwrap_or_else(|_| Err(Fault::Other("it panicked".into())));
        found.map_err(|fault| match fault {
            Fault::Damaged(why) | Fault::Other(why) => {
                Error::Unread(format!("the index of the search: {why}"))
            }
            Fault::Slow => Error::Unread("the index of the search: it took too long".into()),
        })
    }

    async fn attempt(self: &Arc<Self>, wanted: &Wanted, limit: usize) -> Result<SearchReply, Fault> {
        let last = self.feed.last();
        let Progress { failure, .. } = self.catch_up(last).await;
        let Ok(_turn) = self.finding.acquire().await else { return Err(ends()) };
        let until = Instant::now() + LONGEST;
        let mut reply = SearchReply { last_event_id: last, ..SearchReply::default() };
        let (mut before, mut slow) = (i64::MAX, false);
        loop {
            let (dir, asked) = (self.dir.clone(), wanted.clone());
            let most = limit + 1 - reply.hits.len();
            let looked = on_thread(move || match Index::read(&dir, until)? {
                Some(index) => Ok((index.reached, find(&index, &asked, before, most)?)),
                None => Ok((0, find::Page::default())),
            });
            let (reached, page) = match looked.await {
                Err(Fault::Damaged(why)) => {
                    self.damaged.store(true, Ordering::Relaxed);
                    return Err(Fault::Damaged(why));
                }
                other => other?,
            };
            reply.searched_to = reached;
            reply.hits.extend(self.that_stand(page.hits).await?);
            slow |= page.slow;
            match page.last.filter(|_| !slow && reply.hits.len() <= limit) {
                Some(last) => before = last,
                None => break,
            }
        }
        reply.more = reply.hits.len() > limit;
        reply.hits.truncate(limit);
        reply.complete = !slow && reply.searched_to >= last;
        if !reply.complete {
            let upto = format!("events after {} of {last} are not searched yet", reply.searched_to);
            reply.note = Some(match (slow, failure) {
                (true, _) => format!("the search was ended after {} s; search for less", LONGEST.as_secs()),
                (false, Some(why)) => format!("{upto}: {why}"),
                (false, None) => format!("{upto}; ask again"),
            });
        }
        Ok(reply)
    }

    /// Brings an index that is there up to the journal's end, where something was removed. Waits for nothing.
    pub fn refresh(self: &Arc<Self>) {
        if self.dir.join(NAME).exists() {
            self.begin();
        }
    }

    /// Leaves out what the journal does not have any more.
    async fn that_stand(&self, hits: Vec<SearchHit>) -> Result<Vec<SearchHit>, Fault> {
        if hits.is_empty() {
            return Ok(hits);
        }
        let events: Vec<_> = hits.iter().map(|hit| (hit.event, hit.session.clone())).collect();
        let stand = self.feed.read_elsewhere(move |reader| reader.stand(&events)).await.map_err(unread)?;
        Ok(hits.into_iter().zip(stand).filter(|(_, stands)| *stands).map(|(hit, _)| hit).collect())
    }

    /// Waits a moment for the index to come up to this event.
    async fn catch_up(self: &Arc<Self>, upto: EventId) -> Progress {
        let mut seen = self.progress.subscribe();
        let reached = async {
            loop {
                self.begin();
                let ready = |progress: &Progress| !progress.is_filling || progress.reached >= upto;
                // The sender is in `self`.
                let Ok(progress) = seen.wait_for(ready).await else { return };
                if progress.reached >= upto || progress.failure.is_some() {
                    return;
                }
                // The task had ended before it heard of the newest events.
            }
        };
        _ = tokio::time::timeout(PATIENCE, reached).await;
        self.progress.borrow().clone()
    }

    /// Begins to fill the index, unless that is under way.
    fn begin(self: &Arc<Self>) {
        let begins = self.progress.send_if_modified(|progress| {
            let begins = !progress.is_filling;
            if begins {
                *progress = Progress { is_filling: true, ..Progress::default() };
            }
            begins
        });
        if begins {
            let search = self.clone();
            tokio::spawn(async move {
                let mut task = Task { search: &search, failure: None };
                task.failure = search.fill().await.err().map(|fault| match fault {
                    Fault::Damaged(why) | Fault::Other(why) => why,
                    Fault::Slow => "the index was busy".into(),
                });
            });
        }
    }

    async fn fill(&self) -> Result<(), Fault> {
        match self.fill_from(self.damaged.swap(false, Ordering::Relaxed)).await {
            Err(Fault::Damaged(why)) => {
                tracing::warn!(%why, "the index of the search is damaged; it is made anew");
                self.fill_from(true).await
            }
            other => other,
        }
    }

    /// Reads the journal from where the index ends to its end. `anew`: from its beginning.
    async fn fill_from(&self, anew: bool) -> Result<(), Fault> {
        let (dir, uuid, last) = (self.dir.clone(), self.uuid.clone(), self.feed.last());
        let mut index = on_thread(move || Index::open(&dir, &uuid, last, anew)).await?;
        loop {
            let (after, head) = (index.reached, self.feed.last());
            self.progress.send_modify(|progress| progress.reached = after);
            if self.feed.has_ended() {
                return Err(ends());
            }
            if after >= head {
                break;
            }
            let (rows, bytes) = STEP;
            let read = self.feed.read_elsewhere(move |reader| reader.texts(after, head, rows, bytes));
            let stretch = read.await.map_err(unread)?;
            index = on_thread(move || index.add(&stretch).map(|()| index)).await?;
        }
        let marks = self.feed.read_elsewhere(|reader| reader.marks()).await.map_err(unread)?;
        let (mut index, names, marks) =
            on_thread(move || index.tidy(&marks).map(|names| (index, names, marks))).await?;
        if names.is_empty() {
            return on_thread(move || {
                drop(index);
                Ok(())
            })
            .await;
        }
        let gone = self.feed.read_elsewhere(move |reader| reader.without_events(names));
        let gone = gone.await.map_err(unread)?;
        on_thread(move || index.gone(&gone, &marks)).await
    }
}

/// The task that fills the index. Dropped, it has ended.
struct Task<'a> {
    search: &'a Search,
    failure: Option<String>,
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        let failure = self.failure.take();
        self.search.progress.send_modify(|progress| {
            (progress.is_filling, progress.failure) = (false, failure);
        });
    }
}

/// Does work of a search on a thread of its own, to which others go before.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let work = move || {
        // Of this thread only (setpriority(2), BUGS).
        _ = rustix::process::setpriority_process(None, NICE);
        work()
    };
    let begun = blocking::begin(work).map_err(|error| Fault::Other(format!("no thread: {error}")))?;
    begun.await.unwrap_or_else(|_| Err(Fault::Other("a thread of the search panicked".into())))
}

fn unread(error: Error) -> Fault {
    Fault::Other(error.to_string())
}

fn ends() -> Fault {
    Fault::Other("the daemon ends".into())
}
