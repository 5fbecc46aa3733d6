//! Disk usage of the state directory, and pruning.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use protocol::api::{DiskUsage, FileUsage, PruneReport, PruneRequest, PrunedSession};
use protocol::{EventId, SessionId};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use super::SessionManager;
use crate::config::Retention;
use crate::core::Fleet;
use crate::error::Error;
use crate::journal::{Cut, Reader, Wish};
use crate::session_manager::disk_usage;
use crate::supervisor::{JOURNAL, Msg};
use crate::system::{blocking, clock};
use crate::workers::logs;

/// Removes what the configuration does not want kept, now and again and again, for as long as there is a manager. Where it
/// wants all kept nothing is begun, and nothing wakes up.
pub(crate) fn keep(manager: &SessionManager) {
    let every = match manager.config().map(|config| config.retention()) {
        Ok(Retention { max_age_ms: None, max_bytes: None, .. }) | Err(_) => return,
        Ok(Retention { every_ms, .. }) => Duration::from_millis(every_ms),
    };
    let shared = Arc::downgrade(&manager.shared);
    tokio::spawn(async move {
        let mut look = tokio::time::interval(every);
        // A machine that slept owes nothing.
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let Some(shared) = shared.upgrade() else { return };
            match (SessionManager { shared, client: None, asker: Arc::default() }).retain().await {
                Err(Error::Ended) => return,
                Err(error) => tracing::warn!(%error, "history was not pruned; it is tried again"),
                Ok(report) if report.events > 0 => {
                    let (events, bytes) = (report.events, report.event_bytes);
                    tracing::info!(events, bytes, "history was pruned, as the configuration says");
                }
                Ok(_) => {}
            }
        }
    });
}

impl SessionManager {
    /// Removes what the configuration, as it is now, does not want kept.
    async fn retain(&self) -> Result<PruneReport, Error> {
        let Retention { max_age_ms, max_bytes, .. } = self.config()?.retention();
        if max_age_ms.or(max_bytes).is_none() {
            return Ok(PruneReport::default());
        }
        let request = PruneRequest { older_than_ms: max_age_ms, max_bytes, damaged: false, dry_run: false };
        self.prune(request).await
    }

    /// Disk usage of the state directory.
    ///
    /// # Errors
    /// [`Error::Unread`] if the directory or the journal cannot be read.
    pub async fn disk_usage(&self) -> Result<DiskUsage, Error> {
        let sessions = self
            .read(|fleet, _| fleet.sessions().map(|it| (it.id.clone(), it.spec.workdir.clone())).collect())
            .await?;
        let state_dir = self.shared.state_dir.clone();
        let looked = blocking::run(move || disk_usage::look(&state_dir, &sessions)).await;
        looked.ok_or_else(|| Error::Unread("the look at the disk panicked".into()))?
    }

    /// Removes old history and leftover files, as far as the request allows. With `dry_run` it only reports what it would
    /// remove. Returns after the removal.
    ///
    /// Keeps prompts that run, wait or may be resolved, with everything after them; the newest turn of each session; the turns
    /// that an agent gets if its conversation is lost; and the whole history of a sub-agent. Ages are by the wall clock of the
    /// events.
    ///
    /// # Errors
    /// [`Error::Unread`] if the disk or the journal cannot be read; [`Error::Journal`] if the journal cannot be written: history
    /// removed until then stays removed.
    pub async fn prune(&self, request: PruneRequest) -> Result<PruneReport, Error> {
        let usage = self.disk_usage().await?;
        let mut report = PruneReport { dry_run: request.dry_run, ..PruneReport::default() };
        report.leftovers = usage.leftovers;
        if request.damaged {
            report.damaged = usage.damaged;
        }
        let wish = Wish {
            before: request.older_than_ms.map(|age| clock::wall_ms().saturating_sub(age)),
            most: request.max_bytes,
        };
        let cuts = if wish == Wish::default() { Vec::new() } else { self.cuts(wish).await? };
        let mut of: BTreeMap<Option<SessionId>, (u64, u64, EventId)> = BTreeMap::new();
        for cut in &cuts {
            let of = of.entry(cut.session.clone()).or_default();
            *of = (of.0 + cut.events, of.1 + cut.bytes, of.2.max(cut.upto));
        }
        if !request.dry_run {
            self.remove_files([&report.leftovers[..], &report.damaged].concat()).await?;
            let (reply, answer) = oneshot::channel();
            self.send(Msg::Prune { cuts, reply }).await?;
            let pruned = answer.await.map_err(|_| Error::Ended)??;
            (of, report.freed_bytes) = (pruned.of, pruned.freed);
            self.shared.search.refresh();
        }
        let gone = of.into_iter().filter(|(_, (events, ..))| *events > 0);
        report.sessions = gone
            .map(|(id, (events, event_bytes, upto))| PrunedSession {
                id,
                events,
                event_bytes,
                first_available: upto + 1,
            })
            .collect();
        report.events = report.sessions.iter().map(|session| session.events).sum();
        report.event_bytes = report.sessions.iter().map(|session| session.event_bytes).sum();
        Ok(report)
    }

    async fn cuts(&self, wish: Wish) -> Result<Vec<Cut>, Error> {
        let needs: BTreeMap<SessionId, EventId> = self
            .read(|fleet, _| {
                fleet.sessions().map(|session| (session.id.clone(), session.needs_from())).collect()
            })
            .await?;
        let path = self.shared.state_dir.join(JOURNAL);
        let looked = blocking::run(move || {
            let cuts = Reader::open(&path).and_then(|reader| reader.to_prune(&needs, wish));
            cuts.map_err(|error| Error::Unread(format!("{}: {error}", path.display())))
        });
        looked.await.ok_or_else(|| Error::Unread("the look at the journal panicked".into()))?
    }

    /// Removes files of the state directory, but for logs of sessions that have come to exist meanwhile.
    async fn remove_files(&self, files: Vec<FileUsage>) -> Result<(), Error> {
        let state_dir = self.shared.state_dir.clone();
        let remove = move |file: &FileUsage| {
            if let Err(error) = fs::remove_file(state_dir.join(&file.name)) {
                tracing::warn!(%error, file = file.name, "cannot be removed");
            }
        };
        let log_of = |file: &FileUsage| {
            let name = file.name.strip_prefix(logs::DIRECTORY)?.strip_prefix('/')?;
            Some(logs::session_of(name))
        };
        let (logs, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| log_of(file).is_some());
        if !logs.is_empty() {
            let remove = remove.clone();
            // Where sessions come to exist: none does while this looks.
            let look = move |fleet: &Fleet, _| {
                let exists = |id: SessionId| fleet.get(&id).is_some();
                logs.iter().filter(|file| !log_of(file).flatten().is_some_and(exists)).for_each(remove);
            };
            self.read(look).await?;
        }
        // Damaged journals may be large, and to remove such a file takes its time.
        let removed = blocking::run(move || others.iter().for_each(remove)).await;
        removed.ok_or_else(|| Error::Unread("what removes files panicked".into()))
    }
}
