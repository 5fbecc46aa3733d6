//! Processes and descriptors in a quiet moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use protocol::SessionId;
use protocol::api::{ManagerInfo, SessionInfo};

use super::super::clients::look;
use super::super::host::{children, descriptors};
use super::{Audit, at_rest, table};
use crate::real;

/// Descriptors that a worker costs the manager: its two pipes and its pidfd.
const PER_WORKER: usize = 3;

/// The writer's three files, and those of the few that may read at once. Where a reader finds no descriptor for its second file,
/// SQLite keeps that of the first for the next reader: to close it would give up the locks of the others.
const JOURNAL: usize = 15 + 2;

impl<'a> Audit<'a> {
    /// The table of pids is right, and there is nothing else. Sessions may hibernate while we look, so it is
    /// looked at until it fits.
    pub(crate) async fn processes(&mut self, descriptors_too: bool) {
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            let problem = self.look_at_processes(descriptors_too).await;
            match problem {
                None => return,
                Some(problem) if Instant::now() > end => return self.wrong(problem),
                Some(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn look_at_processes(&mut self, descriptors_too: bool) -> Option<String> {
        let sessions = self.sessions().await;
        let manager = self.campaign.host.daemon();
        let Some(manager) = manager else {
            return Some("there is no manager in a quiet moment".into());
        };
        let workers: BTreeMap<u32, SessionId> =
            sessions.iter().filter_map(|info| Some((info.pid?, info.id.clone()))).collect();
        let pids: BTreeSet<u32> = workers.keys().copied().collect();
        if self.uuid.is_empty() {
            let marker = pids.first().and_then(|pid| real::marker_of(*pid));
            let Some(uuid) = marker.as_deref().and_then(|marker| marker.split('/').next()) else {
                return Some("no session has a process".into());
            };
            self.uuid = uuid.to_owned();
        }
        // Workers that the manager has adopted are children of the process that takes in orphans: this one.
        let (adopted, orphans): (Vec<u32>, Vec<u32>) =
            self.campaign.host.orphans().into_iter().partition(|pid| pids.contains(pid));
        let info = look::<ManagerInfo>(&self.campaign.client, "/v1/manager").await;
        let spares = info.map(|info| info.spare_workers).unwrap_or_default();
        let (spares, children): (BTreeSet<u32>, BTreeSet<u32>) =
            children(manager).into_iter().partition(|pid| spares.contains(pid) || real::is_zygote(*pid));
        let children: BTreeSet<u32> = children.into_iter().chain(adopted).collect();
        if children != pids {
            self.leftovers.zombies = children.iter().filter(|pid| !real::lives(**pid)).count();
            return Some(format!("the manager's children are {children:?} and its table says {workers:?}"));
        }
        self.leftovers.zombies = 0;
        let agents: BTreeMap<u32, u32> =
            sessions.iter().filter_map(|info| Some((info.agent_pid?, info.pid?))).collect();
        if let Some(problem) = self.look_at_strays(&workers, &spares, &agents, &orphans) {
            return Some(problem);
        }
        if let Some(problem) = self.look_at_lookups(&workers).await {
            return Some(problem);
        }
        if !descriptors_too {
            return None;
        }
        self.look_at_descriptors(manager, &sessions, (&workers, spares.len()), &agents).await
    }

    /// Compares the processes that carry this daemon's marker with the known workers and agents.
    fn look_at_strays(
        &mut self,
        workers: &BTreeMap<u32, SessionId>,
        spares: &BTreeSet<u32>,
        agents: &BTreeMap<u32, u32>,
        orphans: &[u32],
    ) -> Option<String> {
        let marked: BTreeSet<u32> = real::marked_or_spare(&self.uuid).into_iter().collect();
        // An agent that stays between prompts has no children of its own. Between its worker and it are only
        // the processes of its namespace, if it has one.
        let mut known = workers.keys().chain(spares).copied().collect::<BTreeSet<u32>>();
        for (&agent, &worker) in agents {
            let path = real::path_to(agent, worker);
            let Some(path) = path.filter(|path| path.is_empty() || path.len() == 2) else {
                return Some(format!("the agent {agent} is not below its worker {worker}"));
            };
            known.extend(path.into_iter().chain([agent]));
        }
        self.leftovers.orphans = marked.difference(&known).count().max(orphans.len());
        if marked != known || !orphans.is_empty() {
            return Some(format!("left behind: {:?}", described(marked.difference(&known).chain(orphans))));
        }
        None
    }

    /// Checks each worker's marker, and that the manager finds the session by the worker's pid.
    async fn look_at_lookups(&self, workers: &BTreeMap<u32, SessionId>) -> Option<String> {
        for (pid, id) in workers {
            let marker = real::marker_of(*pid).unwrap_or_default();
            // On a full disk a worker that was a spare may have no log that names its session.
            let named = real::session_of(*pid).is_none_or(|named| named == *id);
            if !marker.starts_with(&self.uuid) || !named {
                return Some(format!("{id} has the process {pid}, which says that it is {marker}"));
            }
            match look::<serde_json::Value>(&self.campaign.client, &format!("/v1/lookup?pid={pid}")).await {
                Ok(found) if found["id"] == id.as_str() => {}
                other => return Some(format!("{pid} is {id}; asked for it, the manager says {other:?}")),
            }
        }
        None
    }

    /// Compares the open descriptors of the manager and its workers with those of the first quiet moment.
    async fn look_at_descriptors(
        &mut self,
        manager: u32,
        sessions: &[SessionInfo],
        (workers, spares): (&BTreeMap<u32, SessionId>, usize),
        agents: &BTreeMap<u32, u32>,
    ) -> Option<String> {
        // A client's connection counts, too: no other client asks now, and this one's last connection is
        // about to close.
        let all = opened(manager);
        let journal: usize =
            all.iter().filter(|(name, _)| name.contains("/journal.db")).map(|(_, count)| count).sum();
        if journal > JOURNAL {
            return Some(format!("the manager has the journal open {journal} times"));
        }
        let open = descriptors(manager)?.checked_sub((workers.len() + spares) * PER_WORKER + journal)?;
        // Somebody may be falling asleep, and has fewer than the table says.
        let settled = sessions.iter().all(at_rest) && table(sessions) == table(&self.sessions().await);
        if !settled {
            return Some(format!("no two looks in a quiet moment are the same: {:?}", table(sessions)));
        }
        let first = *self.manager_descriptors.get_or_insert(open);
        if open > first {
            return Some(format!(
                "the manager has {open} descriptors beside those of {} workers, and had {first}: {all:?}",
                workers.len()
            ));
        }
        for (pid, id) in workers {
            let open = descriptors(*pid)?;
            let has_agent = agents.values().any(|worker| worker == pid);
            let first = *self.worker_descriptors.entry(has_agent).or_insert(open);
            if open != first {
                return Some(format!("the idle worker of {id} has {open} descriptors, others {first}"));
            }
        }
        None
    }
}

/// Returns a process's open files: names without their numbers, and how many of each.
fn opened(pid: u32) -> BTreeMap<String, usize> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let mut counts = BTreeMap::new();
    for target in targets {
        let name = target.to_string_lossy();
        let name =
            name.split_once(":[").filter(|_| !name.starts_with("anon")).map_or(&*name, |(kind, _)| kind);
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

/// Describes these processes for a person.
pub(crate) fn described<'a>(pids: impl Iterator<Item = &'a u32>) -> Vec<String> {
    let command = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!(
            "{pid} (child of {:?}): {}",
            real::parent(*pid),
            String::from_utf8_lossy(&line).replace('\0', " ")
        )
    };
    pids.map(command).collect()
}
