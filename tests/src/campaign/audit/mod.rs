//! The quiet moment: no fault strikes, no client sends a request, and everything must be as if nothing had
//! happened.

mod events;
mod processes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use manager::client::Request;
use protocol::api::{ManagerInfo, PromptState, QueuedPrompt, SessionInfo, Status};
use protocol::event::{Event, EventKind, Outcome};
use protocol::{EventId, Exit, PromptId, SessionId};

use super::clients::{ask, look};
use super::report::{Leftovers, Prompts, Report};
use super::{Campaign, Mode, PATIENCE};
use crate::history::History;
use crate::real;
use events::{Timers, removed_in};
use processes::described;

/// The check, and the data to check against.
pub struct Audit<'a> {
    campaign: &'a Campaign,
    history: History,
    /// Subscribers but for the recorder.
    names: Vec<(String, Option<SessionId>)>,
    /// The prefix of this state directory's markers.
    pub uuid: String,
    round: usize,
    /// Descriptors of an idle manager, less those of its workers.
    manager_descriptors: Option<usize>,
    worker_descriptors: BTreeMap<bool, usize>,
    /// All recorded events, in order.
    journal: Vec<Arc<Event>>,
    timers: Timers,
    prompts: Prompts,
    leftovers: Leftovers,
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

    /// Returns the number of storms.
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
        // Events from here on (a hibernation, say) may not have reached every subscriber yet.
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

    /// Runs the last check, after clients and subscribers have left. Reads the journal from its beginning,
    /// the effects of each prompt, and the processes and files left when the daemon has gone.
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
        // Events of a removed session may still come from memory, or not.
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
        // Events from after the recorder's end, which other subscribers may have received.
        let last = self.last();
        let rest = kept.into_iter().skip_while(|(id, _)| *id <= last);
        let rest: Vec<Arc<Event>> = rest.map(|(_, event)| Arc::new(event)).collect();
        let removed = removed_in(&rest);
        for event in rest {
            self.record_event(&event, &removed);
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

    /// Returns the campaign's report.
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
            cuts: tally.cuts,
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
            reconnected: stopwatch.reconnected,
            caught_up: stopwatch.caught_up,
            matrix: campaign.matrix().take(),
            log: campaign.host.log(),
            violations: self.history.violations().to_vec(),
        }
    }
}

fn table(sessions: &[SessionInfo]) -> Vec<(&SessionId, Status, Option<u32>)> {
    sessions.iter().map(|info| (&info.id, info.status, info.pid)).collect()
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
