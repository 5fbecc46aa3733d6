//! The history checker: the invariants of everything that was ever recorded, shown or answered.
//!
//! Its input is the journal's events in their order, and facts that no event holds: the clients' answers, the
//! subscribers' views, the workers that were let begin and those that ended. It does not know the source of
//! the events, so one checker judges both the simulation and real processes.
//!
//! A violation comes with the lines of the history that are about its session.

mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use protocol::event::{Event, EventKind};
use protocol::{EventId, Exit, Incarnation, PromptId, SessionId};
pub use session::MISSING;
use session::{Place, SessionView};

/// The number of history lines that a violation shows.
const LINES: usize = 40;
/// The number of violations after which the checker stops.
const ENOUGH: usize = 20;

/// Something that must never be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The text of the violation.
    pub what: String,
    /// The history of the session, or of all, up to then.
    pub history: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        for line in &self.history {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Subscriber {
    session: Option<SessionId>,
    cursor: EventId,
    /// Events that a subscriber received before the journal showed them.
    early: Vec<Arc<Event>>,
}

#[derive(Debug)]
enum Line {
    Event(Arc<Event>),
    Fact(Option<SessionId>, String),
}

/// Everything that was recorded, shown and answered so far.
#[derive(Debug, Default)]
pub struct History {
    lines: Vec<Line>,
    journal: Vec<Arc<Event>>,
    last: EventId,
    sessions: HashMap<SessionId, SessionView>,
    /// Sessions that were removed: with their last such event, and their last incarnation.
    deleted: HashMap<SessionId, (EventId, Incarnation)>,
    /// Workers that were let begin and have not ended.
    workers: HashMap<SessionId, BTreeSet<Incarnation>>,
    subscribers: BTreeMap<String, Subscriber>,
    acknowledged: Vec<(SessionId, PromptId)>,
    accepted: HashSet<PromptId>,
    keys: HashMap<(String, String), String>,
    texts: HashSet<(SessionId, String)>,
    unique_texts: bool,
    violations: Vec<Violation>,
}

/// Returns the violations of this whole journal. Nothing may be open at its end.
pub fn of(events: &[Event]) -> Vec<Violation> {
    let mut history = History::new();
    for event in events {
        history.event(&Arc::new(event.clone()));
    }
    history.finish(&BTreeSet::new()).to_vec()
}

impl History {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares that from now on no two requests send the same text to the same session, except for a retry
    /// under the same idempotency key. So a text that is accepted twice was doubled.
    pub fn texts_are_unique(&mut self) {
        self.unique_texts = true;
    }

    /// Returns all violations so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The last lines of the history, of all sessions.
    pub fn tail(&self, count: usize) -> Vec<String> {
        let skip = self.lines.len().saturating_sub(count);
        self.lines[skip..].iter().map(line).collect()
    }

    // --- the journal ---

    /// The next event of the journal.
    pub fn event(&mut self, event: &Arc<Event>) {
        self.lines.push(Line::Event(event.clone()));
        if event.id <= self.last {
            self.violation(
                event.session.as_ref(),
                format!("event {} was recorded after {}", event.id, self.last),
            );
        }
        self.last = event.id.max(self.last);
        self.journal.push(event.clone());
        match &event.session {
            None => {}
            Some(id) => {
                let id = id.clone();
                let mut found = Vec::new();
                self.of_session(&id, event, &mut found);
                for what in found {
                    self.violation(Some(&id), format!("event {} ({}): {what}", event.id, event.kind.name()));
                }
            }
        }
        self.settle_early();
    }

    fn of_session(&mut self, id: &SessionId, event: &Event, found: &mut Vec<String>) {
        if let EventKind::SessionCreated { .. } = event.kind {
            if self.sessions.contains_key(id) {
                found.push("the session exists already".into());
            }
            let view = SessionView::default();
            if let Some((_, incarnation)) = self.deleted.get(id)
                && event.incarnation <= *incarnation
            {
                found.push(format!("incarnation {} was that of a removed session", event.incarnation));
            }
            self.sessions.insert(id.clone(), view);
            return;
        }
        if let EventKind::SubagentStarted { child, .. } = &event.kind {
            match self.sessions.get_mut(child) {
                Some(view) if view.task.is_none() => view.task = Some(false),
                Some(_) => found.push(format!("sub-agent {child} was started before")),
                None => found.push(format!("sub-agent {child} does not exist")),
            }
        }
        if let EventKind::SubagentCompleted { child, .. } | EventKind::SubagentLost { child, .. } =
            &event.kind
        {
            match self.sessions.get_mut(child).map(|view| &mut view.task) {
                Some(Some(received)) if !*received => *received = true,
                Some(Some(_)) => found.push(format!("the end of sub-agent {child} was told before")),
                Some(None) | None => found.push(format!("{child} is no sub-agent")),
            }
        }
        let Some(view) = self.sessions.get_mut(id) else {
            return found.push("the session does not exist".into());
        };
        if let EventKind::PromptAccepted { prompt_id, text, retry_of, .. } = &event.kind {
            self.accepted.insert(*prompt_id);
            let told_twice =
                self.unique_texts && retry_of.is_none() && !self.texts.insert((id.clone(), text.clone()));
            if told_twice {
                found.push(format!("`{text}` was accepted before"));
            }
        }
        view.event(event, found);
        if let EventKind::SessionDeleted {} = event.kind {
            self.sessions.remove(id);
            self.deleted.insert(id.clone(), (event.id, event.incarnation));
            self.keys.retain(|(scope, _), _| scope != id.as_str());
            self.texts.retain(|(session, _)| session != id);
        }
    }

    /// A power cut took back what was recorded after `kept` and not promised: pieces of turns.
    pub fn power_cut(&mut self, kept: EventId) {
        self.fact(None, format!("power cut; the journal keeps what came up to event {kept}"));
        while let Some(event) = self.journal.pop_if(|event| event.id > kept) {
            if event.kind.is_promise() {
                let what =
                    format!("event {} ({}), a promise, was lost by a power cut", event.id, event.kind.name());
                self.violation(event.session.as_ref(), what);
            }
            if let Some(view) = event.session.as_ref().and_then(|id| self.sessions.get_mut(id)) {
                view.take_back(&event);
            }
        }
        for view in self.sessions.values_mut() {
            // Times of another boot do not count.
            view.restarts.clear();
        }
    }

    /// Checks that the record knows of each run of a prompt: a run that it has forgotten would be made once more. `ran` are
    /// the prompts that workers took, and how often.
    pub fn knows_runs(&mut self, ran: &BTreeMap<PromptId, u64>) {
        let mut started: BTreeMap<PromptId, u64> = BTreeMap::new();
        for event in &self.journal {
            if let EventKind::PromptStarted { prompt_id } = event.kind {
                *started.entry(prompt_id).or_default() += 1;
            }
        }
        for (prompt, times) in ran {
            let recorded = started.get(prompt).copied().unwrap_or(0);
            if recorded < *times {
                self.violation(None, format!("{prompt} was run {times} times, and {recorded} are on record"));
            }
        }
    }

    /// Notes the removal of a session whose events may be incomplete here. No subscriber receives them from
    /// then on, and the checker does not judge the session's life.
    pub fn removed_unseen(&mut self, event: &Arc<Event>) {
        let Some(id) = &event.session else { return };
        self.sessions.remove(id);
        self.deleted.insert(id.clone(), (event.id, event.incarnation));
        self.unjudged(event);
    }

    /// An event of the life of a session that is removed, of which not all may have been seen.
    pub fn unjudged(&mut self, event: &Arc<Event>) {
        self.last = event.id.max(self.last);
        self.lines.push(Line::Event(event.clone()));
        self.journal.push(event.clone());
    }

    // --- facts ---

    /// Something worth a line.
    pub fn fact(&mut self, session: Option<&SessionId>, what: String) {
        self.lines.push(Line::Fact(session.cloned(), what));
    }

    /// The session's restart intensity and period.
    pub fn policy(&mut self, id: &SessionId, intensity: u32, period_ms: u64) {
        if let Some(view) = self.sessions.get_mut(id) {
            view.intensity = Some((intensity, period_ms));
        }
    }

    /// Somebody restarted the session by hand, which clears its record of deaths.
    pub fn restarted_by_hand(&mut self, id: &SessionId) {
        if let Some(view) = self.sessions.get_mut(id) {
            view.restarts.clear();
        }
    }

    /// A worker was let begin.
    pub fn worker_began(&mut self, id: &SessionId, incarnation: Incarnation) {
        self.fact(Some(id), format!("worker {incarnation} begins"));
        let live = self.workers.entry(id.clone()).or_default();
        live.insert(incarnation);
        if live.len() > 1 {
            let what = format!("workers {live:?} live at once");
            self.violation(Some(id), what);
        }
    }

    /// A worker and all below it are gone.
    pub fn worker_ended(&mut self, id: &SessionId, incarnation: Incarnation, how: Exit) {
        if self.workers.get_mut(id).is_some_and(|live| live.remove(&incarnation)) {
            self.fact(Some(id), format!("worker {incarnation} ends: {how}"));
        }
    }

    /// Notes that a client's prompt was accepted, under this idempotency key.
    pub fn acknowledged(&mut self, id: &SessionId, prompt: PromptId, key: Option<&str>) {
        self.fact(Some(id), format!("a client hears that {prompt} is accepted"));
        self.acknowledged.push((id.clone(), prompt));
        if let Some(key) = key {
            self.one_answer(Some(id), id.as_str(), key, prompt.to_string());
        }
    }

    /// Notes that a client's session was created, under this idempotency key.
    pub fn created(&mut self, id: &SessionId, key: Option<&str>) {
        self.fact(Some(id), "a client hears that it is created".into());
        if let Some(key) = key {
            self.one_answer(Some(id), "/sessions", key, id.to_string());
        }
    }

    fn one_answer(&mut self, id: Option<&SessionId>, scope: &str, key: &str, answer: String) {
        let before = self.keys.entry((scope.to_owned(), key.to_owned())).or_insert_with(|| answer.clone());
        if *before != answer {
            let what = format!("key `{key}` stood for {before} and now stands for {answer}");
            self.violation(id, what);
        }
    }

    /// Notes a session's token that a client received.
    pub fn token(&mut self, id: &SessionId, token: &str) {
        let Some(view) = self.sessions.get_mut(id) else {
            return;
        };
        let before = view.token.get_or_insert_with(|| token.to_owned());
        if before != token {
            self.violation(Some(id), "its token has changed".into());
        }
    }

    // --- subscribers ---

    /// A subscriber wants all events after `cursor`, of one session or of all.
    pub fn subscribe(&mut self, name: &str, session: Option<&SessionId>, cursor: EventId) {
        let subscriber = Subscriber { session: session.cloned(), cursor, early: Vec::new() };
        self.subscribers.insert(name.to_owned(), subscriber);
    }

    /// The subscriber is shown an event.
    pub fn saw(&mut self, name: &str, event: &Arc<Event>) {
        let Some(subscriber) = self.subscribers.get_mut(name) else {
            return;
        };
        if event.id > self.last {
            // A subscriber may be quicker than the source of this history.
            subscriber.early.push(event.clone());
            return;
        }
        let (session, cursor) = (subscriber.session.clone(), subscriber.cursor);
        subscriber.cursor = event.id;
        let of_removed = |id: &SessionId| self.deleted.get(id).is_some_and(|(at, _)| event.id < *at);
        let received = self.journal.binary_search_by_key(&event.id, |event| event.id).is_ok();
        if event.id > cursor && !received && event.session.as_ref().is_some_and(of_removed) {
            // It came from memory; a reader of the journal does not receive it.
            return;
        }
        let what = match self.next_after(cursor, event.id, session.as_ref()) {
            Some(next) if next.id == event.id && (Arc::ptr_eq(next, event) || **next == **event) => return,
            Some(next) if next.id == event.id => {
                format!("{name} was shown another event {} than is recorded", next.id)
            }
            Some(next) => format!("{name} was shown event {} and not {} before it", event.id, next.id),
            None if event.id <= cursor => format!("{name} was shown event {} after {cursor}", event.id),
            None => format!("{name} was shown event {}, which is not recorded or not its own", event.id),
        };
        self.violation(event.session.as_ref(), what);
    }

    /// Notes that the subscriber has received everything up to `upto`.
    pub fn caught_up(&mut self, name: &str, upto: EventId) {
        let Some(subscriber) = self.subscribers.get_mut(name) else {
            return;
        };
        let (session, cursor) = (subscriber.session.clone(), subscriber.cursor);
        subscriber.cursor = cursor.max(upto);
        if let Some(missed) = self.next_after(cursor, upto, session.as_ref()) {
            let what = format!("{name} was not shown event {}", missed.id);
            self.violation(session.as_ref(), what);
        }
    }

    /// Returns the first event after `cursor` and up to `upto` that a subscriber of `session` must receive.
    fn next_after(&self, cursor: EventId, upto: EventId, session: Option<&SessionId>) -> Option<&Arc<Event>> {
        let start = self.journal.partition_point(|event| event.id <= cursor);
        self.journal[start..].iter().take_while(|event| event.id <= upto).find(|event| {
            let mine = session.is_none() || event.session.as_ref() == session;
            // A removed session's events are removed too, except for the removal itself.
            let removed = event
                .session
                .as_ref()
                .and_then(|id| self.deleted.get(id))
                .is_some_and(|(at, _)| event.id < *at);
            mine && (event.id == upto || !removed)
        })
    }

    fn settle_early(&mut self) {
        let last = self.last;
        let mut due = Vec::new();
        for (name, subscriber) in &mut self.subscribers {
            let ready = subscriber.early.iter().take_while(|event| event.id <= last).count();
            due.extend(subscriber.early.drain(..ready).map(|event| (name.clone(), event)));
        }
        for (name, event) in due {
            self.saw(&name, &event);
        }
    }

    // --- the end ---

    /// Checks the end of the run. `open` are the prompts that have not ended, as the manager lists them:
    /// waiting, running or held by a failed session.
    pub fn finish(&mut self, open: &BTreeSet<PromptId>) -> &[Violation] {
        for (id, prompt) in std::mem::take(&mut self.acknowledged) {
            if !self.accepted.contains(&prompt) {
                self.violation(Some(&id), format!("{prompt} was acknowledged and is in no journal"));
            }
        }
        let mut found = Vec::new();
        for (id, view) in &self.sessions {
            for (prompt, place) in &view.prompts {
                let ended = matches!(place, Place::Ended | Place::Interrupted);
                if !ended && !open.contains(prompt) {
                    found.push((
                        id.clone(),
                        format!("{prompt} was accepted, has not ended, and is forgotten"),
                    ));
                }
                if ended && open.contains(prompt) {
                    found.push((id.clone(), format!("{prompt} has ended and still stands in the queue")));
                }
            }
        }
        for prompt in open {
            if !self.accepted.contains(prompt) {
                found.push((
                    SessionId::numbered(0),
                    format!("{prompt} is in the queue and was never accepted"),
                ));
            }
        }
        for (name, subscriber) in &self.subscribers {
            if let Some(event) = subscriber.early.first() {
                let session = event.session.clone().unwrap_or_else(|| SessionId::numbered(0));
                found.push((session, format!("{name} was shown event {}, which is not recorded", event.id)));
            }
        }
        for (id, what) in found {
            self.violation(Some(&id), what);
        }
        &self.violations
    }

    /// Something must never be and was seen by other means than these.
    pub fn violation(&mut self, session: Option<&SessionId>, what: String) {
        if self.violations.len() >= ENOUGH {
            return;
        }
        let mine = |line: &&Line| match (line, session) {
            // About the manager itself.
            (Line::Fact(of, _), None) => of.is_none(),
            (Line::Event(event), None) => event.session.is_none(),
            (Line::Fact(None, _), _) => true,
            (Line::Fact(Some(id), _), Some(session)) => id == session,
            (Line::Event(event), Some(session)) => event.session.as_ref().is_none_or(|id| id == session),
        };
        // Of a prompt only what is about it, and what became of the processes under it.
        let words = what.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let prompt = words.filter(|word| word.starts_with("prompt-")).max_by_key(|word| word.len());
        let about = |line: &String| {
            prompt.is_none_or(|prompt| {
                line.contains(prompt) || line.contains(" session.") || line.contains(" worker ")
            })
        };
        let lines = self.lines.iter().rev().filter(mine).map(line);
        let mut history: Vec<String> = lines.filter(about).take(LINES).collect();
        history.reverse();
        self.violations.push(Violation { what, history });
    }
}

fn line(line: &Line) -> String {
    match line {
        Line::Fact(None, what) => format!("-- {what}"),
        Line::Fact(Some(id), what) => format!("-- {id}: {what}"),
        Line::Event(event) => {
            let session = event.session.as_ref().map_or("manager", |id| id.as_str());
            let data = serde_json::to_value(&event.kind).ok().and_then(|kind| kind.get("data").cloned());
            let data = data.map_or(String::new(), |data| data.to_string());
            format!(
                "{} {} {session}/{} {} {data}",
                event.id,
                event.at.0,
                event.incarnation,
                event.kind.name()
            )
        }
    }
}
