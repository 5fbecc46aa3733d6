//! The rows that could still be read, and what makes one whole of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use protocol::event::{Event, EventKind};
use protocol::wire::Attachment;
use protocol::{EventId, Incarnation, PromptId, SessionId};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::core::Session;

/// Holes in a table of which what is behind them is still looked for.
const HOLES: usize = 10_000;

/// Rows that could be read and have a valid form.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) meta: BTreeMap<String, String>,
    /// With their tokens.
    pub(super) sessions: BTreeMap<SessionId, (Option<String>, Session)>,
    pub(super) retired: BTreeMap<SessionId, Incarnation>,
    pub(super) prompts: BTreeMap<PromptId, (String, String)>,
    pub(super) events: BTreeMap<EventId, (Event, String)>,
    pub(super) keys: BTreeMap<(String, String), (String, String)>,
    pub(super) attachments: Vec<(u64, String, u64, String)>,
}

impl Rows {
    pub(super) fn fill(&mut self, connection: &Connection, lost: &mut Vec<String>) {
        for row in keyed(connection, "meta", &["name"], 2, lost) {
            if let [Value::Text(name), Value::Text(value)] = &row[..] {
                self.meta.insert(name.clone(), value.clone());
            }
        }
        for row in keyed(connection, "sessions", &["id"], 3, lost) {
            let [Value::Text(id), Value::Text(token), Value::Text(doc)] = &row[..] else { continue };
            if let (Ok(id), Ok(session)) = (id.parse::<SessionId>(), serde_json::from_str::<Session>(doc))
                && session.id == id
            {
                self.sessions.insert(id, (Some(token.clone()), session));
            }
        }
        for row in keyed(connection, "retired", &["id"], 2, lost) {
            if let [Value::Text(id), Value::Integer(last)] = &row[..]
                && let (Ok(id), Ok(last)) = (id.parse(), Incarnation::try_from(*last))
            {
                self.retired.insert(id, last);
            }
        }
        for row in keyed(connection, "keys", &["scope", "key"], 4, lost) {
            if let [Value::Text(scope), Value::Text(key), Value::Text(request), Value::Text(reply)] = &row[..]
            {
                self.keys.insert((scope.clone(), key.clone()), (request.clone(), reply.clone()));
            }
        }
        for row in numbered(connection, "prompts", "id, session, text", 3, lost) {
            if let [Value::Integer(id), Value::Text(session), Value::Text(text)] = &row[1..]
                && let Ok(id) = u64::try_from(*id)
            {
                self.prompts.insert(PromptId(id), (session.clone(), text.clone()));
            }
        }
        for row in numbered(connection, "events", "json", 1, lost) {
            let (Value::Integer(id), Value::Text(json)) = (&row[0], &row[1]) else { continue };
            match serde_json::from_str::<Event>(json) {
                Ok(event) if i64::try_from(event.id) == Ok(*id) => {
                    self.events.insert(event.id, (event, json.clone()));
                }
                _ => lost.push(format!("event {id}")),
            }
        }
        if connection.prepare("SELECT * FROM attachments").is_ok() {
            for row in numbered(connection, "attachments", "prompt, session, position, doc", 4, lost) {
                if let [
                    Value::Integer(prompt),
                    Value::Text(session),
                    Value::Integer(position),
                    Value::Text(doc),
                ] = &row[1..]
                    && let (Ok(prompt), Ok(position)) = (u64::try_from(*prompt), u64::try_from(*position))
                    && serde_json::from_str::<Attachment>(doc).is_ok()
                {
                    self.attachments.push((prompt, session.clone(), position, doc.clone()));
                }
            }
        }
    }

    /// The prompts that events say are over, and the texts that they have.
    fn told(&self) -> (BTreeSet<PromptId>, HashMap<PromptId, String>) {
        let (mut over, mut texts) = (BTreeSet::new(), HashMap::new());
        for (event, _) in self.events.values() {
            match &event.kind {
                EventKind::PromptAccepted { prompt_id, text, .. }
                | EventKind::PromptEdited { prompt_id, text } => {
                    texts.insert(*prompt_id, text.clone());
                }
                EventKind::TurnCompleted { prompt_id, .. }
                | EventKind::PromptRemoved { prompt_id, .. }
                | EventKind::PromptResolved { prompt_id, .. } => {
                    over.insert(*prompt_id);
                }
                _ => {}
            }
        }
        (over, texts)
    }

    /// Makes one whole of what may be of different times: nothing that has ended is begun again, and nothing is
    /// run of which the text is not known.
    pub(super) fn reconcile(&mut self, lost: &mut Vec<String>) {
        let (over, texts) = self.told();
        for (id, (_, session)) in &mut self.sessions {
            let mut known = |prompt: PromptId| {
                let text = self.prompts.get(&prompt).map(|(_, text)| text).or_else(|| texts.get(&prompt));
                let Some(text) = text.cloned() else { return false };
                self.prompts.insert(prompt, (id.to_string(), text));
                true
            };
            let turns = &mut session.turns;
            turns.queue.retain(|prompt| {
                let runs = !over.contains(&prompt.id) && known(prompt.id);
                if !runs && !over.contains(&prompt.id) {
                    lost.push(format!("the text of {}, which waited in `{id}`", prompt.id));
                }
                runs
            });
            turns.interrupted.retain(|prompt| !over.contains(&prompt.id) && known(prompt.id));
            if turns
                .running
                .as_ref()
                .is_some_and(|turn| over.contains(&turn.prompt.id) || !known(turn.prompt.id))
            {
                turns.running = None;
            }
            let waiting = turns.queue.iter_mut().chain(&mut turns.interrupted);
            for prompt in waiting.chain(turns.running.iter_mut().map(|turn| &mut turn.prompt)) {
                let has = |(of, ..): &&(u64, String, u64, String)| *of == prompt.id.0;
                if self.attachments.iter().filter(has).count() != prompt.attachments.len() {
                    lost.push(format!("what belongs to {}", prompt.id));
                    prompt.attachments.clear();
                }
            }
        }
        let open: Vec<SessionId> = self
            .sessions
            .values()
            .filter(|(_, session)| session.task.as_ref().is_some_and(|task| task.open))
            .filter_map(|(_, session)| session.parent.clone())
            .collect();
        for (id, (_, session)) in &mut self.sessions {
            session.open_tasks =
                u32::try_from(open.iter().filter(|parent| *parent == id).count()).unwrap_or(0);
        }
    }

    /// No id that anybody may have seen is above this.
    pub(super) fn highest(&self) -> EventId {
        let events = self.events.keys().next_back().copied();
        let prompts = self.prompts.keys().next_back().map(|prompt| prompt.0);
        let held = self.sessions.values().flat_map(|(_, session)| {
            let turns = &session.turns;
            let running = turns.running.iter().map(|turn| turn.prompt.id.0);
            running.chain(turns.queue.iter().chain(&turns.interrupted).map(|prompt| prompt.id.0))
        });
        // A damaged id may be any number.
        held.chain(events).chain(prompts).filter(|id| *id < 1 << 52).max().unwrap_or(0)
    }
}

/// The rows of a table that is ordered by what its rows hold: from both ends as far as it can be read.
fn keyed(
    connection: &Connection,
    table: &str,
    key: &[&str],
    columns: usize,
    lost: &mut Vec<String>,
) -> Vec<Vec<Value>> {
    let order = |direction: &str| {
        let by: Vec<String> = key.iter().map(|column| format!("{column} {direction}")).collect();
        format!("SELECT * FROM {table} ORDER BY {}", by.join(", "))
    };
    let (mut rows, whole) = scan(connection, &order("ASC"), &[], columns);
    if !whole {
        rows.extend(scan(connection, &order("DESC"), &[], columns).0);
        lost.push(format!("a part of the table `{table}`"));
    }
    rows
}

/// The rows of a table that is ordered by a number, which comes first: what is behind a hole is looked for.
fn numbered(
    connection: &Connection,
    table: &str,
    names: &str,
    columns: usize,
    lost: &mut Vec<String>,
) -> Vec<Vec<Value>> {
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let all = format!("SELECT rowid, {names} FROM {table} WHERE rowid > ?1 ORDER BY rowid");
    let one = format!("{all} LIMIT 1");
    let mut after = 0i64;
    for _ in 0..HOLES {
        let (found, whole) = scan(connection, &all, &[Value::Integer(after)], columns + 1);
        let last = found.last().and_then(|row| if let Value::Integer(id) = row[0] { Some(id) } else { None });
        rows.extend(found);
        if whole {
            return rows;
        }
        let last = last.unwrap_or(after);
        let reads = |after: i64| scan(connection, &one, &[Value::Integer(after)], columns + 1).1;
        let far = (0..52).map(|power| last.saturating_add(1 << power)).find(|after| reads(*after));
        let Some(far) = far else {
            lost.push(format!("what came after {last} in the table `{table}`"));
            return rows;
        };
        after = first(last.saturating_add(1)..=far, reads);
        lost.push(format!("rows from {} of the table `{table}`", last + 1));
    }
    rows
}

/// The first number in the range that fits, if all that come after one that fits do; the last one does.
fn first(range: RangeInclusive<i64>, fits: impl Fn(i64) -> bool) -> i64 {
    let (mut low, mut high) = range.into_inner();
    while low < high {
        let middle = low + (high - low) / 2;
        if fits(middle) { high = middle } else { low = middle + 1 }
    }
    high
}

/// Returns the rows of a query until it fails, and true if it did not fail.
fn scan(connection: &Connection, sql: &str, given: &[Value], columns: usize) -> (Vec<Vec<Value>>, bool) {
    let mut found = Vec::new();
    let Ok(mut select) = connection.prepare_cached(sql) else { return (found, false) };
    if select.column_count() != columns {
        return (found, false);
    }
    let Ok(mut rows) = select.query(params_from_iter(given)) else { return (found, false) };
    loop {
        match rows.next() {
            Ok(Some(row)) => {
                // Text that is no text is as good as none.
                let value = |column| row.get::<_, Value>(column).unwrap_or(Value::Null);
                found.push((0..columns).map(value).collect());
            }
            Ok(None) => return (found, true),
            Err(_) => return (found, false),
        }
    }
}
