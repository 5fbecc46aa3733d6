//! Subscribers: streams of events that break off, are read slowly, and go on after the last event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use manager::client::Client;
use protocol::event::{Event, EventKind};
use protocol::{EventId, SessionId};

use super::{Campaign, Mode, PATIENCE};
use crate::rng::Rng;

/// The behaviour of a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Reads at once, and times the events. The other subscribers are compared with it.
    Recorder,
    /// Leaves now and then in the middle of the stream.
    Fickle,
    /// Reads a little, then nothing for a while.
    Slow,
}

/// One subscriber.
pub struct Subscriber<'a> {
    campaign: &'a Campaign,
    client: Client,
    name: String,
    session: Option<SessionId>,
    manner: Manner,
    rng: Rng,
    cursor: EventId,
    /// When the stream was lost.
    lost: Option<Instant>,
}

impl<'a> Subscriber<'a> {
    /// Of one session's events or of all.
    pub fn new(
        campaign: &'a Campaign,
        number: usize,
        name: &str,
        session: Option<SessionId>,
        manner: Manner,
        seed: u64,
    ) -> Self {
        let rng = Rng::new(seed ^ name.len() as u64);
        let client = campaign.client(number);
        Self { campaign, client, name: name.to_owned(), session, manner, rng, cursor: 0, lost: None }
    }

    fn path(&self, follow: bool) -> String {
        let (after, end) = (self.cursor, if follow { "" } else { "&follow=false" });
        match &self.session {
            None => format!("/v1/events?after={after}{end}"),
            Some(id) => format!("/v1/sessions/{id}/events?after={after}{end}"),
        }
    }

    /// Watches until the campaign is over.
    pub async fn live(mut self) {
        let mut mode = self.campaign.mode.subscribe();
        loop {
            let now = *mode.borrow_and_update();
            match now {
                Mode::Storm => {
                    tokio::select! {
                        () = self.follow() => {}
                        _ = mode.changed() => {}
                    }
                }
                Mode::CatchUp(_) => {
                    self.catch_up().await;
                    self.campaign.caught_up();
                    let _ = mode.wait_for(|mode| *mode != now).await;
                }
                Mode::Over => return,
            }
        }
    }

    /// Reads a stream until it breaks.
    async fn follow(&mut self) {
        if let Ok(mut events) = self.client.events(&self.path(true)).await {
            let mut newest = None;
            loop {
                let Ok(Some(frame)) = events.next().await else {
                    // One session may rest for long after it.
                    self.lost = self.lost.or_else(|| self.session.is_none().then(Instant::now));
                    break;
                };
                // A frame without an id is no event: the daemon gives the reason why it ends the stream.
                if frame.id.is_none() {
                    break;
                }
                self.saw(&frame.data);
                if let Some(lost) = self.lost {
                    self.came_back(lost, &mut newest);
                }
                match self.manner {
                    Manner::Recorder => {}
                    Manner::Fickle if self.rng.chance(20) => return,
                    Manner::Slow if self.rng.chance(20) => {
                        self.campaign.tally().slow_reads += 1;
                        tokio::time::sleep(Duration::from_millis(self.rng.below(1_500))).await;
                    }
                    Manner::Fickle | Manner::Slow => {}
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }

    /// Reads all that there is.
    async fn catch_up(&mut self) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let Ok(mut events) = self.client.events(&self.path(false)).await else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            loop {
                match events.next().await {
                    Ok(Some(frame)) if frame.id.is_some() => self.saw(&frame.data),
                    Ok(None) => return,
                    Ok(Some(_)) | Err(_) => break,
                }
            }
        }
        self.campaign.violation(None, format!("{} could not catch up within {PATIENCE:?}", self.name));
    }

    /// Times a stream that was lost: until its first event, and until it has all that anybody had then.
    fn came_back(&mut self, lost: Instant, newest: &mut Option<EventId>) {
        let mut stopwatch = self.campaign.stopwatch();
        let target = *newest.get_or_insert_with(|| {
            stopwatch.reconnected.push(lost.elapsed());
            stopwatch.newest
        });
        if self.cursor >= target {
            stopwatch.caught_up.push(lost.elapsed());
            self.lost = None;
        }
    }

    fn saw(&mut self, data: &str) {
        let event: Event = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
        self.cursor = event.id;
        if self.session.is_none() {
            let mut stopwatch = self.campaign.stopwatch();
            stopwatch.newest = stopwatch.newest.max(event.id);
        }
        let event = Arc::new(event);
        if self.manner == Manner::Recorder {
            self.campaign.recorded(event);
        } else {
            self.campaign.saw(&self.name, event);
        }
    }
}

/// The time from a death that the campaign has caused until the session is ready again.
#[derive(Default)]
pub struct Stopwatch {
    /// When a process was struck.
    struck: std::collections::HashMap<u32, Instant>,
    /// When a session's replacement was due.
    due: std::collections::HashMap<SessionId, Instant>,
    manager: Option<Instant>,
    /// From a worker's death to `session.ready`, less the backoff.
    pub workers: Vec<Duration>,
    /// From the manager's death to the record of its successor's start.
    pub managers: Vec<Duration>,
    /// The newest event that any subscriber to all has seen.
    newest: EventId,
    /// From the loss of a stream to the first event of the next.
    pub reconnected: Vec<Duration>,
    /// From the loss of a stream to the newest event that anybody had when the next began.
    pub caught_up: Vec<Duration>,
}

impl Stopwatch {
    /// A worker was killed just now.
    pub fn struck(&mut self, pid: u32) {
        self.struck.insert(pid, Instant::now());
    }

    /// The manager was killed just now. Everybody else's time is spoilt.
    pub fn manager_struck(&mut self) {
        self.struck.clear();
        self.due.clear();
        self.manager.get_or_insert_with(Instant::now);
    }

    /// An event was seen just now.
    pub fn event(&mut self, event: &Event) {
        match (&event.kind, &event.session) {
            (EventKind::ManagerStarted { .. }, _) => {
                let since = self.manager.take();
                self.managers.extend(since.map(|since| since.elapsed()));
            }
            (EventKind::SessionRestarting { old_pid: Some(pid), delay_ms, .. }, Some(id)) => {
                if let Some(at) = self.struck.remove(pid) {
                    self.due.insert(id.clone(), at + Duration::from_millis(*delay_ms));
                }
            }
            (EventKind::SessionReady { .. }, Some(id)) => {
                let since = self.due.remove(id);
                self.workers.extend(since.map(|since| since.elapsed()));
            }
            (EventKind::SessionStopped { .. } | EventKind::SessionFailed { .. }, Some(id)) => {
                self.due.remove(id);
            }
            _ => {}
        }
    }
}
