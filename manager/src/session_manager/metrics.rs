//! The figures of `/metrics`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use protocol::api::{NeedKind, Role, SessionLoad};
use protocol::{EventId, SessionId};

use super::{SessionManager, disk_usage};
use crate::core::Session;
use crate::error::Error;
use crate::metrics::{Loaded, Seen};
use crate::system::{blocking, clock};

/// Time for which a look at the figures is good enough. A look goes through all sessions and through `/proc`.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The figures as they were told, and when.
pub(super) struct Scrape {
    at: Instant,
    text: Bytes,
}

impl SessionManager {
    /// The figures in OpenMetrics; with `each` also those of each session. `streams` is the number of open event streams.
    pub(crate) async fn metrics(&self, each: bool, streams: usize) -> Result<Bytes, Error> {
        let manager = self.clone();
        // A look that has begun goes on if its client leaves: the next one waits for it, and threads do not pile up.
        let look = tokio::spawn(async move { manager.told(each, streams).await });
        look.await.map_err(|_| Error::Ended)?
    }

    /// The figures as they were told just now, or as they are.
    async fn told(&self, each: bool, streams: usize) -> Result<Bytes, Error> {
        let mut scraped = self.shared.scraped.lock().await;
        let last = &mut scraped[usize::from(each)];
        if let Some(scrape) = last.as_ref().filter(|scrape| scrape.at.elapsed() < GOOD_FOR) {
            return Ok(scrape.text.clone());
        }
        let (sessions, next_event) =
            self.read(|fleet, _| (fleet.sessions().cloned().collect::<Vec<_>>(), fleet.next_event())).await?;
        let loads = self.load().await?;
        let manager = self.clone();
        let text = blocking::run(move || manager.write_down(&sessions, loads, next_event - 1, each, streams));
        let text = text.await.ok_or_else(|| Error::Unread("a thread of this request panicked".into()))?;
        *last = Some(Scrape { at: Instant::now(), text: text.clone() });
        Ok(text)
    }

    fn write_down(
        &self,
        sessions: &[Arc<Session>],
        loads: Vec<SessionLoad>,
        last_event_id: EventId,
        each: bool,
        streams: usize,
    ) -> Bytes {
        let sizes = disk_usage::sizes(&self.shared.state_dir);
        if let Err(error) = &sizes {
            tracing::warn!("sizes are missing in the figures: {error}");
        }
        let seen = Seen {
            loads: of_processes(sessions, loads),
            each,
            streams,
            lag: self.shared.feed.lag(),
            last_event_id,
            started_at: self.shared.started_at.0,
            sizes: sizes.ok(),
            refused: self.shared.listening.refused().map(|refused| refused.into_iter().collect()),
            ..of_sessions(sessions, clock::wall_ms())
        };
        self.shared.metrics.text(seen).into()
    }
}

/// The loads of sessions' processes, with the records of the sessions.
fn of_processes(sessions: &[Arc<Session>], loads: Vec<SessionLoad>) -> Vec<Loaded> {
    let mut known: HashMap<&SessionId, &Session> =
        sessions.iter().map(|session| (&session.id, &**session)).collect();
    let loads = loads.into_iter().filter_map(|load| {
        let session = known.remove(&load.session_id)?;
        let worker = session.worker()?;
        Some(Loaded {
            session: load.session_id,
            agent: session.spec.agent_name.clone(),
            worker: (worker.pid, worker.start_time),
            processes: load.processes,
            memory_bytes: load.memory_bytes,
            cpu_ms: load.cpu_ms,
            usage: session.usage.clone(),
        })
    });
    loads.collect()
}

/// The figures of all sessions. `wall` is the Unix time in milliseconds.
fn of_sessions(sessions: &[Arc<Session>], wall: u64) -> Seen {
    let mut seen = Seen::default();
    // Each kind and role is there, so that an alert sees a 0 and not nothing.
    let kinds = [NeedKind::Permission, NeedKind::Form, NeedKind::Interrupted, NeedKind::Failed];
    seen.needs = kinds.map(|kind| (kind_of(kind), (0, 0))).into();
    seen.clients = [Role::Driver, Role::Viewer].map(|role| (role_of(role), 0)).into();
    for session in sessions {
        let agent = &session.spec.agent_name;
        *seen.sessions.entry((agent.clone(), session.status().as_str())).or_default() += 1;
        *seen.queued.entry(agent.clone()).or_default() += session.turns.queue.len() as u64;
        for (kind, since) in session.all_needs() {
            let (count, oldest) = seen.needs.entry(kind_of(kind)).or_default();
            *count += 1;
            *oldest = (*oldest).max(wall.saturating_sub(since.0));
        }
        for client in &session.clients {
            *seen.clients.entry(role_of(client.role)).or_default() += 1;
        }
    }
    seen
}

fn kind_of(kind: NeedKind) -> &'static str {
    match kind {
        NeedKind::Permission => "permission",
        NeedKind::Form => "form",
        NeedKind::Interrupted => "interrupted",
        NeedKind::Failed => "failed",
    }
}

fn role_of(role: Role) -> &'static str {
    match role {
        Role::Driver => "driver",
        Role::Viewer => "viewer",
    }
}
