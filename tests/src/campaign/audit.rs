//! The quiet moment: nothing is struck, nobody asks, and everything must be as if nothing had happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use manager::client::Request;
use protocol::api::{ManagerInfo, PromptState, QueuedPrompt, SessionInfo, Status};
use protocol::event::{Event, EventKind, Outcome};
use protocol::{EventId, Exit, PromptId, SessionId};

use super::clients::{ask, look};
use super::host::{children, descriptors};
use super::report::{Prompts, Report};
use super::{Campaign, Mode, PATIENCE};
use crate::history::History;
use crate::real;

/// Descriptors that a worker costs the manager: its two pipes and its pidfd.
const PER_WORKER: usize = 3;
/// The writer's three files, and those of the few that may read at once.
const JOURNAL: usize = 15;
/// How late a restart may be, in milliseconds, on a machine under load.
const LATE_MS: u64 = 20_000;
/// Wall clocks are cut to milliseconds.
const CUT_MS: u64 = 2;

/// What is checked, and against what.
pub struct Audit<'a> {
    campaign: &'a Campaign,
    history: History,
    /// Subscribers but for the recorder.
    names: Vec<(String, Option<SessionId>)>,
    /// What the markers of this state directory begin with.
    pub uuid: String,
    round: usize,
    /// Descriptors of an idle manager, less those of its workers.
    manager_descriptors: Option<usize>,
    worker_descriptors: BTreeMap<bool, usize>,
    /// All that was recorded, in order.
    journal: Vec<Arc<Event>>,
    timers: Timers,
    prompts: Prompts,
    leftovers: Leftovers,
}

/// What was found that should be nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leftovers {
    /// Processes without a session.
    pub orphans: usize,
    /// Dead children that nobody reaped.
    pub zombies: usize,
    /// Strangers' processes that were hit.
    pub strangers: usize,
    /// Events that somebody was not shown, or that are in no journal.
    pub events_lost: usize,
    /// Events that somebody was shown twice.
    pub events_doubled: usize,
}

impl<'a> Audit<'a> {
    /// Nothing is known yet.
    pub fn new(campaign: &'a Campaign, history: History, names: Vec<(String, Option<SessionId>)>) -> Self {
        Self {
            campaign,
            history,
            names,
            uuid: String::new(),
            round: 0,
            manager_descriptors: None,
            worker_descriptors: BTreeMap::new(),
            journal: Vec::new(),
            timers: Timers::default(),
            prompts: Prompts::default(),
            leftovers: Leftovers::default(),
        }
    }

    /// Nothing was found so far.
    pub fn is_fine(&self) -> bool {
        self.history.violations().is_empty()
    }

    /// How many storms there were.
    pub fn storms(&self) -> usize {
        self.round
    }

    fn wrong(&mut self, what: String) {
        self.history.violation(None, what);
    }

    /// Waits for rest, and looks at everything.
    pub async fn quiet(&mut self) {
        let gate = tokio::time::timeout(PATIENCE * 2, self.campaign.gate.write()).await;
        if gate.is_err() {
            self.wrong(format!("a client was not answered within {:?}", PATIENCE * 2));
        }
        self.rest().await;
        self.processes(false).await;
        // What is recorded from here on (somebody falls asleep) not everybody needs to have seen.
        let head = look::<ManagerInfo>(&self.campaign.client, "/v1/manager").await;
        let head = head.map_or(0, |info| info.last_event_id);
        self.everybody_catches_up().await;
        // Now without any stream that is open.
        self.processes(true).await;
        self.tell_history();
        for (name, _) in &self.names {
            self.history.caught_up(name, head);
        }
        self.campaign.tally().quiets += 1;
        self.campaign.mode.send_replace(Mode::Storm);
    }

    /// Until every session is at rest.
    async fn rest(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let sessions = self.sessions().await;
            let unrest = sessions.iter().find(|info| !at_rest(info));
            match unrest {
                None => return,
                Some(info) if Instant::now() > end => {
                    let (id, info) = (info.id.clone(), format!("{info:?}"));
                    self.tell_history();
                    self.history.violation(Some(&id), format!("no rest within {PATIENCE:?}: {info}"));
                    return;
                }
                Some(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn sessions(&mut self) -> Vec<SessionInfo> {
        match look(&self.campaign.client, "/v1/sessions").await {
            Ok(sessions) => sessions,
            Err(problem) => {
                self.wrong(problem.detail);
                Vec::new()
            }
        }
    }

    async fn everybody_catches_up(&mut self) {
        self.round += 1;
        self.campaign.caught_up.store(0, Ordering::Relaxed);
        self.campaign.mode.send_replace(Mode::CatchUp(self.round));
        let end = Instant::now() + PATIENCE + PATIENCE;
        while self.campaign.caught_up.load(Ordering::Relaxed) <= self.names.len() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The table of pids is right, and there is nothing else. Sessions may hibernate while we look, so it is
    /// looked at until it fits.
    async fn processes(&mut self, descriptors_too: bool) {
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
        // Workers that it has taken over from the manager before are children of whoever takes in orphans: here.
        let (adopted, orphans): (Vec<u32>, Vec<u32>) =
            self.campaign.host.orphans().into_iter().partition(|pid| pids.contains(pid));
        let children: BTreeSet<u32> = children(manager).into_iter().chain(adopted).collect();
        if children != pids {
            self.leftovers.zombies = children.iter().filter(|pid| !real::lives(**pid)).count();
            return Some(format!("the manager's children are {children:?} and its table says {workers:?}"));
        }
        self.leftovers.zombies = 0;
        let marked: BTreeSet<u32> = real::marked(&self.uuid).into_iter().collect();
        // An agent that lives between prompts has no children of its own. Between its worker and it are those that keep its
        // namespace, if it has one, and nobody else.
        let mut known = pids.clone();
        let agents: BTreeMap<u32, u32> =
            sessions.iter().filter_map(|info| Some((info.agent_pid?, info.pid?))).collect();
        for (&agent, &worker) in &agents {
            let path = real::path_to(agent, worker);
            let Some(path) = path.filter(|path| path.is_empty() || path.len() == 2) else {
                return Some(format!("the agent {agent} is not below its worker {worker}"));
            };
            known.extend(path.into_iter().chain([agent]));
        }
        self.leftovers.orphans = marked.difference(&known).count().max(orphans.len());
        if marked != known || !orphans.is_empty() {
            return Some(format!("left behind: {:?}", described(marked.difference(&known).chain(&orphans))));
        }
        for (pid, id) in &workers {
            let marker = real::marker_of(*pid).unwrap_or_default();
            if !marker.starts_with(&format!("{}/{id}/", self.uuid)) {
                return Some(format!("{id} has the process {pid}, which says that it is {marker}"));
            }
            match look::<serde_json::Value>(&self.campaign.client, &format!("/v1/lookup?pid={pid}")).await {
                Ok(found) if found["id"] == id.as_str() => {}
                other => return Some(format!("{pid} is {id}; asked for it, the manager says {other:?}")),
            }
        }
        if !descriptors_too {
            return None;
        }
        // A client's connection is one too: asked by nobody else, and this one's last is gone in a moment.
        let all = opened(manager);
        let journal: usize =
            all.iter().filter(|(name, _)| name.contains("/journal.db")).map(|(_, count)| count).sum();
        if journal > JOURNAL {
            return Some(format!("the manager has the journal open {journal} times"));
        }
        let open = descriptors(manager)?.checked_sub(workers.len() * PER_WORKER + journal)?;
        // Somebody may be falling asleep, and has fewer than the table says.
        let settled = sessions.iter().all(at_rest) && table(&sessions) == table(&self.sessions().await);
        if !settled {
            return Some(format!("no two looks in a quiet moment are the same: {:?}", table(&sessions)));
        }
        let first = *self.manager_descriptors.get_or_insert(open);
        if open > first {
            return Some(format!(
                "the manager has {open} descriptors beside those of {} workers, and had {first}: {all:?}",
                workers.len()
            ));
        }
        for (pid, id) in &workers {
            let open = descriptors(*pid)?;
            let has_agent = agents.values().any(|worker| worker == pid);
            let first = *self.worker_descriptors.entry(has_agent).or_insert(open);
            if open != first {
                return Some(format!("the idle worker of {id} has {open} descriptors, others {first}"));
            }
        }
        None
    }

    /// Everything since the last time, in the order in which it is understood.
    fn tell_history(&mut self) {
        let seen = std::mem::take(&mut *self.campaign.seen());
        let mut by_hand = ByHand(seen.restarts.clone());
        let removed = removed_in(&seen.events);
        for event in seen.events {
            for id in by_hand.before(event.at.0) {
                self.history.restarted_by_hand(&id);
            }
            if event.id <= self.journal.last().map_or(0, |last| last.id) {
                self.leftovers.events_doubled += 1;
            }
            self.tell_event(&event, &removed);
            if let (EventKind::SessionCreated { parent, .. }, Some(id)) = (&event.kind, &event.session) {
                let plan = self.campaign.plans.iter().find(|plan| plan.id == *parent.as_ref().unwrap_or(id));
                if let Some((intensity, period)) = plan.map(|plan| plan.policy()) {
                    self.history.policy(id, intensity, period);
                }
            }
            if let Some(what) = self.timers.event(&event, &seen.restarts) {
                self.history.violation(event.session.as_ref(), what);
            }
            self.prompts.event(&event);
            self.journal.push(event);
        }
        for (id, prompt, key) in seen.acknowledged {
            self.history.acknowledged(&id, prompt, Some(&key));
        }
        for (id, token) in seen.tokens {
            self.history.token(&id, &token);
        }
        for (name, event) in seen.views {
            self.history.saw(&name, &event);
        }
        for (id, what) in seen.violations {
            self.history.violation(id.as_ref(), what);
        }
        for what in self.campaign.host.wrong() {
            self.leftovers.strangers += usize::from(what.starts_with("a stranger"));
            self.history.violation(None, what);
        }
    }

    /// Tells the history of an event. Of sessions that were `removed` a part may be missing.
    fn tell_event(&mut self, event: &Arc<Event>, removed: &BTreeSet<SessionId>) {
        let of_removed = |id: &SessionId| removed.contains(id);
        let gone =
            event.session.as_ref().is_some_and(of_removed) || child(&event.kind).is_some_and(of_removed);
        match event.kind {
            EventKind::SessionDeleted {} => self.history.removed_unseen(event),
            EventKind::SessionCreated { .. } => self.history.event(event),
            _ if gone => self.history.unjudged(event),
            _ => self.history.event(event),
        }
    }

    /// The last look, when nobody asks or reads any more: what the journal says from its beginning, what each prompt
    /// has done, and what is left when the daemon has gone.
    pub async fn end(&mut self) {
        self.rest().await;
        self.tell_history();
        let kept = self.whole_journal().await;
        let deleted = |id: &SessionId| {
            let of = |event: &&Arc<Event>| event.session.as_ref() == Some(id);
            self.journal
                .iter()
                .filter(of)
                .rfind(|e| matches!(e.kind, EventKind::SessionDeleted {}))
                .map(|e| e.id)
        };
        let mut gone: HashMap<SessionId, Option<EventId>> = HashMap::new();
        let shown: BTreeMap<EventId, Arc<Event>> =
            self.journal.iter().map(|event| (event.id, event.clone())).collect();
        // What a removed session did before may be there, from memory, or not.
        let mut expected = BTreeMap::new();
        for event in &self.journal {
            let removed =
                event.session.as_ref().and_then(|id| *gone.entry(id.clone()).or_insert_with(|| deleted(id)));
            if removed.is_none_or(|at| event.id >= at) {
                expected.insert(event.id, event.clone());
            }
        }
        for (id, event) in &kept {
            expected.remove(id);
            let shown = shown.get(id);
            if shown.map(|shown| &**shown) != Some(event) && id <= &self.last() {
                self.leftovers.events_lost += 1;
                self.wrong(format!("event {id} is on record as {event:?} and was shown as {shown:?}"));
            }
        }
        if let Some((id, event)) = expected.first_key_value() {
            self.leftovers.events_lost += expected.len();
            let what = format!("event {id} was shown and is on record no more: {event:?}");
            self.wrong(what);
        }
        // What came after the recorder had hung up, and others may have been shown.
        let last = self.last();
        let rest = kept.into_iter().skip_while(|(id, _)| *id <= last);
        let rest: Vec<Arc<Event>> = rest.map(|(_, event)| Arc::new(event)).collect();
        let removed = removed_in(&rest);
        for event in rest {
            self.tell_event(&event, &removed);
            self.journal.push(event);
        }
        self.count_runs();
        let open = self.open_prompts().await;
        self.prompts.held = open.len();
        self.history.finish(&open);
        self.leave().await;
    }

    fn last(&self) -> EventId {
        self.journal.last().map_or(0, |event| event.id)
    }

    async fn whole_journal(&mut self) -> BTreeMap<EventId, Event> {
        let mut kept = BTreeMap::new();
        let stream = self.campaign.client.events("/v1/events?after=0&follow=false").await;
        match stream {
            Ok(mut stream) => {
                while let Ok(Some(frame)) = stream.next().await {
                    let event: Event = serde_json::from_str(&frame.data).unwrap();
                    kept.insert(event.id, event);
                }
            }
            Err(error) => self.wrong(format!("the journal cannot be read: {error:?}")),
        }
        kept
    }

    /// A prompt leaves one mark when it runs: none may have two, and one that came to its good end has one.
    fn count_runs(&mut self) {
        let numbers = self.campaign.numbers.lock().unwrap().clone();
        // Another text leaves another mark.
        let edited = |kind: &EventKind| match kind {
            EventKind::PromptEdited { prompt_id, .. } => Some(*prompt_id),
            _ => None,
        };
        let edited: BTreeSet<PromptId> =
            self.journal.iter().filter_map(|event| edited(&event.kind)).collect();
        let well: BTreeSet<PromptId> =
            self.journal.iter().filter_map(|event| ended_well(&event.kind)).collect();
        for (number, (id, prompt)) in numbers {
            let plan = self.campaign.plans.iter().find(|plan| plan.id == id);
            let marks = std::fs::metadata(self.campaign.host.place.marks().join(number.to_string()));
            let runs = marks.map_or(0, |found| found.len());
            if plan.is_none_or(|plan| plan.opts.agent.as_deref() == Some("unread")) {
                continue;
            }
            if runs > 1 && plan.is_some_and(|plan| !plan.retries()) {
                self.prompts.doubled += 1;
                self.history.violation(Some(&id), format!("{prompt} (number {number}) ran {runs} times"));
            }
            if runs == 0 && well.contains(&prompt) && !edited.contains(&prompt) {
                self.prompts.lost += 1;
                let what = format!("{prompt} (number {number}) is completed and has left no trace");
                self.history.violation(Some(&id), what);
            }
        }
    }

    async fn open_prompts(&mut self) -> BTreeSet<PromptId> {
        let mut open = BTreeSet::new();
        for info in self.sessions().await {
            let path = format!("/v1/sessions/{}/queue", info.id);
            match look::<Vec<QueuedPrompt>>(&self.campaign.client, &path).await {
                Ok(queue) => open.extend(
                    queue.iter().filter(|it| it.state != PromptState::Interrupted).map(|it| it.prompt_id),
                ),
                Err(problem) => self.wrong(problem.detail),
            }
        }
        open
    }

    /// The daemon is asked to stop, and nothing stays.
    async fn leave(&mut self) {
        self.campaign.host.let_daemon_end();
        if let Err(problem) =
            ask(&self.campaign.client, &Request::post("/v1/manager/stop").repeatable()).await
        {
            self.wrong(problem.detail);
        }
        let end = Instant::now() + PATIENCE;
        while self.campaign.host.daemon().is_some() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (marked, orphans) = (real::marked(&self.uuid), self.campaign.host.orphans());
        if self.campaign.host.daemon().is_some() || !marked.is_empty() || !orphans.is_empty() {
            self.leftovers.orphans += marked.len().max(orphans.len());
            let left = described(marked.iter().chain(&orphans));
            self.wrong(format!("left behind by a manager that was asked to stop: {left:?}"));
        }
    }

    /// What came of all of it.
    pub fn report(mut self, took: Duration, reached: BTreeMap<String, u64>) -> Report {
        self.tell_history();
        let violations = self.history.violations();
        let lost = |what: &str| violations.iter().filter(|found| found.what.contains(what)).count();
        self.prompts.lost += lost("is forgotten") + lost("in no journal");
        self.leftovers.events_lost += lost("was not shown");
        let campaign = self.campaign;
        let tally = std::mem::take(&mut *campaign.tally());
        let stopwatch = std::mem::take(&mut *campaign.stopwatch());
        Report {
            options: campaign.options.clone(),
            took,
            struck: tally.struck,
            reached,
            kills: tally.kills,
            quiets: tally.quiets,
            slow_reads: tally.slow_reads,
            refusals: tally.refusals,
            manager_ends: campaign.host.ends(),
            events: self.journal.len(),
            restarts: self
                .journal
                .iter()
                .filter(|e| matches!(e.kind, EventKind::SessionRestarted { .. }))
                .count(),
            failed: self.journal.iter().filter(|e| matches!(e.kind, EventKind::SessionFailed { .. })).count(),
            prompts: self.prompts,
            leftovers: self.leftovers,
            workers: stopwatch.workers,
            managers: stopwatch.managers,
            matrix: campaign.matrix().take(),
            log: campaign.host.log(),
            violations: self.history.violations().to_vec(),
        }
    }
}

fn table(sessions: &[SessionInfo]) -> Vec<(&SessionId, Status, Option<u32>)> {
    sessions.iter().map(|info| (&info.id, info.status, info.pid)).collect()
}

/// The sessions that are removed in these events. Whoever reads them only after the removal does not see all of what they did.
fn removed_in(events: &[Arc<Event>]) -> BTreeSet<SessionId> {
    let removals = events.iter().filter(|event| matches!(event.kind, EventKind::SessionDeleted {}));
    removals.filter_map(|event| event.session.clone()).collect()
}

/// The sub-agent that an event of its parent is about.
fn child(kind: &EventKind) -> Option<&SessionId> {
    match kind {
        EventKind::SubagentStarted { child, .. }
        | EventKind::SubagentCompleted { child, .. }
        | EventKind::SubagentLost { child, .. } => Some(child),
        _ => None,
    }
}

fn at_rest(info: &SessionInfo) -> bool {
    match info.status {
        Status::Failed => true,
        Status::Idle | Status::Hibernated | Status::Stopped => {
            info.queue_length == 0 && info.running_prompt.is_none()
        }
        _ => false,
    }
}

fn ended_well(kind: &EventKind) -> Option<PromptId> {
    match kind {
        EventKind::TurnCompleted {
            prompt_id,
            outcome: Outcome::Completed,
            exit: Some(Exit::Code(0)),
            ..
        } => Some(*prompt_id),
        _ => None,
    }
}

/// What a process has open: names without their numbers, and how many of each.
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

/// What these processes are, for a person.
fn described<'a>(pids: impl Iterator<Item = &'a u32>) -> Vec<String> {
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

/// Restarts by hand: who, and from when to when it was asked for, in Unix milliseconds. Somewhere between question
/// and answer the record of deaths is cleared; when in it is not said. A question is asked again when the daemon dies
/// over it, so that the session may use up a budget before that moment and another after it.
struct ByHand(Vec<(SessionId, u64, u64)>);

impl ByHand {
    /// Whose record may have been cleared between an event at this time and the one before.
    fn before(&mut self, at: u64) -> BTreeSet<SessionId> {
        let begun = self.0.iter().filter(|(_, begun, _)| *begun <= at + CUT_MS);
        let cleared = begun.map(|(id, ..)| id.clone()).collect();
        self.0.retain(|(_, _, ended)| ended + CUT_MS >= at);
        cleared
    }
}

/// Restarts that wait their time: never early, never forgotten.
#[derive(Default)]
struct Timers {
    /// By session: when its restart is due, in Unix milliseconds.
    due: HashMap<SessionId, u64>,
}

impl Timers {
    /// `asked` are the restarts that somebody asked for, by the clock of the events: whoever does so does not
    /// want to wait.
    fn event(&mut self, event: &Event, asked: &[(SessionId, u64, u64)]) -> Option<String> {
        let at = event.at.0;
        match (&event.kind, &event.session) {
            // Its clock begins anew.
            (EventKind::ManagerStarted { .. }, _) => self.due.clear(),
            (EventKind::SessionRestarting { delay_ms, .. }, Some(id)) => {
                self.due.insert(id.clone(), at + delay_ms);
            }
            (EventKind::SessionStarted { .. }, Some(id)) => {
                let due = self.due.remove(id)?;
                let hurried = asked
                    .iter()
                    .any(|(of, begun, ended)| of == id && *begun <= at + CUT_MS && ended + CUT_MS >= at);
                if at + CUT_MS < due && !hurried {
                    return Some(format!("it began {} ms before its time", due - at));
                }
                if at > due + LATE_MS {
                    return Some(format!("it began {} ms after its time", at - due));
                }
            }
            (_, Some(id)) => {
                // Whatever else happens to it meanwhile (stopped, started by hand) ends the wait.
                if matches!(event.kind, EventKind::SessionStopped { .. } | EventKind::SessionFailed { .. }) {
                    self.due.remove(id);
                }
            }
            (_, None) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_by_hand_may_clear_the_record_at_any_moment_until_it_is_answered() {
        let id = SessionId::numbered(1);
        let mut by_hand = ByHand(vec![(id.clone(), 1_000, 3_000)]);
        let cleared: Vec<u64> = [900, 1_000, 2_000, 3_000, 3_500, 3_600]
            .into_iter()
            .filter(|at| by_hand.before(*at).contains(&id))
            .collect();
        // 3,500 is the first event after the answer: the moment may have been just before it.
        assert_eq!(cleared, [1_000, 2_000, 3_000, 3_500]);
    }
}
