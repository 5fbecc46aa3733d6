//! The figures of `/metrics`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::SessionId;
use protocol::api::{NeedKind, Role, SessionLoad, Usage};

use super::{SessionManager, disk_usage};
use crate::core::Fleet;
use crate::error::Error;
use crate::metrics::{Loaded, Seen};
use crate::system::{blocking, clock};

/// Time for which a look at the figures is good enough. A look goes through all sessions and through `/proc`.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The figures as they were told, and when.
pub(super) struct Scrape {
    at: Instant,
    text: Arc<str>,
}

impl SessionManager {
    /// The figures in OpenMetrics; with `each` also those of each session. `streams` counts the open event streams.
    pub(crate) async fn metrics(&self, each: bool, streams: impl FnOnce() -> usize) -> Result<String, Error> {
        let mut scraped = self.shared.scraped.lock().await;
        let last = &mut scraped[usize::from(each)];
        if let Some(scrape) = last.as_ref().filter(|scrape| scrape.at.elapsed() < GOOD_FOR) {
            return Ok(scrape.text.to_string());
        }
        let (mut seen, mut facts) = self.read(|fleet, _| of_sessions(fleet, clock::wall_ms())).await?;
        let loads = self.load().await?.into_iter().filter_map(|load| {
            let SessionLoad { session_id: session, processes, memory_bytes, cpu_ms } = load;
            let (agent, usage) = facts.remove(&session)?;
            Some(Loaded { session, agent, processes, memory_bytes, cpu_ms, usage })
        });
        seen.loads = loads.collect();
        let state_dir = self.shared.state_dir.clone();
        let sizes = blocking::run(move || disk_usage::sizes(&state_dir)).await;
        let sizes = sizes.ok_or_else(|| Error::Unread("a thread of this request panicked".into()))??;
        (seen.journal_bytes, seen.log_bytes, seen.available_bytes) = sizes;
        seen.each = each;
        seen.streams = streams();
        seen.lag = self.shared.feed.lag();
        seen.started_at = self.shared.started_at.0;
        seen.refused = self.shared.listening.refused().map(|refused| refused.into_iter().collect());
        let text = self.shared.metrics.text(seen);
        *last = Some(Scrape { at: Instant::now(), text: text.as_str().into() });
        Ok(text)
    }
}

/// The figures of all sessions; and of each its agent and its usage. `wall` is the Unix time in milliseconds.
fn of_sessions(fleet: &Fleet, wall: u64) -> (Seen, HashMap<SessionId, (String, Option<Usage>)>) {
    let mut seen = Seen { last_event_id: fleet.next_event() - 1, ..Seen::default() };
    let mut facts = HashMap::new();
    // Each kind and role is there, so that an alert sees a 0 and not nothing.
    let kinds = [NeedKind::Permission, NeedKind::Form, NeedKind::Interrupted, NeedKind::Failed];
    seen.needs = kinds.map(|kind| (kind_of(kind), (0, 0))).into();
    seen.clients = [Role::Driver, Role::Viewer].map(|role| (role_of(role), 0)).into();
    for session in fleet.sessions() {
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
        if session.worker().is_some() {
            facts.insert(session.id.clone(), (agent.clone(), session.usage.clone()));
        }
    }
    (seen, facts)
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
