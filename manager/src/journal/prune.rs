//! History that goes, because it is old or because there is too much of it.
//!
//! What goes is the beginning of a session's history, by whole turns. It is chosen by a reader, on a thread that nobody waits
//! for, and removed by the writer in bites between other commits. With each bite it is written how far it has come
//! (`pruned/ID` in the table `meta`), so at every moment, whoever dies, it is known which event was the last to go, and a
//! subscriber that has not seen it is told.
//!
//! Never gone: what the core needs ([`Session::needs_from`](crate::core::Session::needs_from)); the newest turn; the turns
//! that an agent is given when it has to be told the conversation; how the session began, and what its agent last said that
//! can be set in it. Idempotency keys, tokens and the sessions themselves are no history.

use std::collections::{BTreeMap, HashMap};

use protocol::event::{Event, EventKind, Timestamp};
use protocol::{EventId, PromptId, SessionId};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;

use super::error::JournalError;
use super::pruned::PRUNED;
use super::reader::Reader;
use super::transcript::exchanges;
use super::usage::free_bytes;
use super::{Journal, removed};
use crate::system::blocking;

/// The most rows that one bite looks at.
const BITE_ROWS: usize = 256;
/// The most bytes of events that one bite removes, but for a single event that has more.
const BITE_BYTES: u64 = 512 * 1024;
/// Approximate bytes of an event in the journal beside its JSON: its row and its place in the index.
const AROUND: u64 = 80;
/// The kind of event of which a manager that runs for long may write many.
const REFUSED: &str = "access.refused";

/// Request to prune history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Turns that ended before this, in milliseconds since 1970.
    pub before: Option<u64>,
    /// The oldest turns, until no more than so many bytes of the file are in use.
    pub most: Option<u64>,
}

/// The beginning of one history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The session of the history; `None`: events of no existing session.
    pub session: Option<SessionId>,
    /// The session that its events name, which may be one that was removed.
    owner: Option<String>,
    /// The last event of it.
    pub upto: EventId,
    /// The event of the agent's last complete list of settings. Pruning keeps settings from here on. For events of no session:
    /// the start of the present manager. Pruning keeps all but refusals from here on.
    opened: EventId,
    /// Number of events.
    pub events: u64,
    /// Their JSON, in bytes.
    pub bytes: u64,
}

impl Cut {
    /// The session that its events name, if that is one's id.
    pub fn owner(&self) -> Option<SessionId> {
        self.owner.as_ref()?.parse().ok()
    }
}

/// Result of one step of pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bite {
    /// The last event that it has looked at; none if there was nothing left.
    pub upto: Option<EventId>,
    /// The last event that is gone, or 0.
    pub last_gone: EventId,
    /// Events that are gone.
    pub events: u64,
    /// Their JSON, in bytes.
    pub bytes: u64,
}

/// A piece of history that goes as a whole or stays.
pub(super) struct Unit {
    /// The last event of it.
    pub upto: EventId,
    /// Time of its end.
    at: u64,
    events: u64,
    bytes: u64,
}

/// The fields of an event that pruning reads.
#[derive(Deserialize)]
struct Told {
    at: Timestamp,
    #[serde(default)]
    data: Prompted,
}

#[derive(Default, Deserialize)]
struct Prompted {
    prompt_id: Option<PromptId>,
}

impl Reader {
    /// Chooses the history to prune. `needs` has every existing session, with the first event that it needs.
    pub fn to_prune(
        &self,
        needs: &BTreeMap<SessionId, EventId>,
        wish: Wish,
    ) -> Result<Vec<Cut>, JournalError> {
        blocking::never_on_the_loop();
        let looked = self.0.unchecked_transaction()?;
        let mut histories = Vec::new();
        let started = started(&looked)?;
        for owner in of_nobody(&looked, needs)? {
            let units = alone(&looked, owner.as_deref(), started)?;
            histories.push(((None, owner), started, units));
        }
        for (id, needed) in needs {
            let opened = opened(&looked, id)?;
            let units = turns(&looked, id, *needed, opened)?;
            histories.push(((Some(id.clone()), Some(id.to_string())), opened, units));
        }
        let mut taken: Vec<usize> = histories
            .iter()
            .map(|(.., units)| {
                units.iter().take_while(|unit| wish.before.is_some_and(|at| unit.at < at)).count()
            })
            .collect();
        if let Some(most) = wish.most {
            let number = |name| looked.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, u64>(0));
            let in_use = number("page_count")? * number("page_size")? - free_bytes(&looked)?;
            let size = |unit: &Unit| unit.bytes + unit.events * AROUND;
            let gone = histories.iter().zip(&taken);
            let gone: u64 =
                gone.map(|((.., units), taken)| units[..*taken].iter().map(size).sum::<u64>()).sum();
            let mut too_much = in_use.saturating_sub(most).saturating_sub(gone);
            let rest = histories.iter().enumerate().zip(&taken);
            let mut rest: Vec<(EventId, u64, usize)> = rest
                .flat_map(|((of, (.., units)), taken)| {
                    units[*taken..].iter().map(move |unit| (unit.upto, size(unit), of))
                })
                .collect();
            // The oldest of all; of one history they come in their order.
            rest.sort_unstable();
            for (_, size, of) in rest {
                if too_much == 0 {
                    break;
                }
                too_much = too_much.saturating_sub(size);
                taken[of] += 1;
            }
        }
        let cuts =
            histories.into_iter().zip(taken).filter_map(|(((session, owner), opened, units), taken)| {
                let units = &units[..taken];
                let upto = units.last()?.upto;
                let (events, bytes) = units
                    .iter()
                    .fold((0, 0), |(events, bytes), unit| (events + unit.events, bytes + unit.bytes));
                (events > 0).then_some(Cut { session, owner, upto, opened, events, bytes })
            });
        Ok(cuts.collect())
    }

    /// The last event that is gone of a session's history, or of any; none if none is.
    pub(super) fn pruned(
        connection: &Connection,
        session: Option<&SessionId>,
    ) -> Result<Option<EventId>, rusqlite::Error> {
        let number = |row: &rusqlite::Row<'_>| row.get::<_, Option<EventId>>(0);
        match session {
            Some(id) => {
                let mut select =
                    connection.prepare_cached("SELECT CAST(value AS INTEGER) FROM meta WHERE name = ?1")?;
                Ok(select.query_row([format!("{PRUNED}{id}")], number).optional()?.flatten())
            }
            None => {
                // All names with that beginning: `0` is what comes after `/`.
                let mut select = connection.prepare_cached(
                    "SELECT max(CAST(value AS INTEGER)) FROM meta WHERE name >= 'pruned/' AND name < 'pruned0'",
                )?;
                select.query_row([], number)
            }
        }
    }
}

impl Reader {
    /// Events about the settings of a session's agent, oldest first, from the agent's last complete list.
    pub fn told_of_settings(&self, id: &SessionId) -> Result<Vec<EventKind>, JournalError> {
        blocking::never_on_the_loop();
        let looked = self.0.unchecked_transaction()?;
        let from = match opened(&looked, id)? {
            EventId::MAX => removed::floor(&looked, id)?,
            opened => opened,
        };
        let mut select = looked.prepare_cached(
            "SELECT json FROM events WHERE session = ?1 AND id >= ?2
             AND (type = 'setting.changed' OR type = 'agent.updated'
                  AND (instr(json, 'session_opened') OR instr(json, 'config_option_update')
                       OR instr(json, 'current_mode_update')))
             ORDER BY id",
        )?;
        let mut rows = select.query(params![id.as_str(), from])?;
        let mut told = Vec::new();
        while let Some(row) = rows.next()? {
            // A damaged event contains no settings.
            let json = row.get_ref(0)?.as_bytes().unwrap_or_default();
            told.extend(serde_json::from_slice::<Event>(json).map(|event| event.kind));
        }
        Ok(told)
    }
}

impl Journal {
    /// Takes the next bite of a cut, of what comes after `after`. It is not synced: a power cut brings back what it takes
    /// back, whole.
    pub fn bite(&mut self, cut: &Cut, after: EventId) -> Result<Bite, JournalError> {
        let transaction = self.connection.transaction()?;
        let mut bite = Bite::default();
        {
            let mut select = transaction.prepare_cached(
                "SELECT id, type, octet_length(json), CASE type WHEN 'agent.updated' THEN json END FROM events
                 WHERE session IS ?1 AND id > ?2 AND id <= ?3 ORDER BY id LIMIT ?4",
            )?;
            let mut delete = transaction.prepare_cached("DELETE FROM events WHERE id = ?1")?;
            let mut rows = select.query(params![cut.owner, after, cut.upto, BITE_ROWS])?;
            while let Some(row) = rows.next()? {
                let (id, bytes): (EventId, u64) = (row.get(0)?, row.get(2)?);
                if bite.bytes > 0 && bite.bytes + bytes > BITE_BYTES {
                    break;
                }
                bite.upto = Some(id);
                let json = row.get_ref(3)?.as_str_or_null().ok().flatten();
                let kind = row.get_ref(1)?.as_str().unwrap_or_default();
                let is_kept = match cut.session {
                    Some(_) => stays(id, kind, json, cut.opened),
                    None => id >= cut.opened && kind != REFUSED,
                };
                if is_kept {
                    continue;
                }
                delete.execute([id])?;
                (bite.events, bite.bytes, bite.last_gone) = (bite.events + 1, bite.bytes + bytes, id);
            }
        }
        if bite.events > 0 {
            let name = format!("{PRUNED}{}", cut.session.as_ref().map_or("", SessionId::as_str));
            let known: Option<EventId> = transaction
                .query_row("SELECT CAST(value AS INTEGER) FROM meta WHERE name = ?1", [&name], |row| {
                    row.get(0)
                })
                .optional()?;
            let last = known.unwrap_or(0).max(bite.last_gone);
            let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
            insert.execute([name, last.to_string()])?;
        }
        transaction.commit()?;
        Ok(bite)
    }

    /// Empty space in the file, in bytes.
    pub fn free_bytes(&self) -> Result<u64, JournalError> {
        free_bytes(&self.connection)
    }
}

/// Returns true if pruning keeps an event although it removes the history around it.
fn stays(id: EventId, kind: &str, json: Option<&str>, opened: EventId) -> bool {
    match kind {
        "session.created" => true,
        "setting.changed" => id >= opened,
        // Only these events report the agent's choices, at any time.
        "agent.updated" => {
            let tells = |word: &str| json.is_some_and(|json| json.contains(word));
            id >= opened
                && ["session_opened", "config_option_update", "current_mode_update"].into_iter().any(tells)
        }
        _ => false,
    }
}

/// The event of the agent's last complete list of settings; `EventId::MAX` if there is none.
fn opened(connection: &Connection, id: &SessionId) -> Result<EventId, rusqlite::Error> {
    let mut select = connection.prepare_cached(
        "SELECT id FROM events
         WHERE session = ?1 AND id > ?2 AND type = 'agent.updated' AND instr(json, 'session_opened')
         ORDER BY id DESC LIMIT 1",
    )?;
    Ok(select
        .query_row(params![id.as_str(), removed::floor(connection, id)?], |row| row.get(0))
        .optional()?
        .unwrap_or(EventId::MAX))
}

/// The turns of a session that may go, oldest first.
pub(super) fn turns(
    connection: &Connection,
    id: &SessionId,
    needed: EventId,
    opened: EventId,
) -> Result<Vec<Unit>, JournalError> {
    let told = exchanges(connection, id, EventId::MAX >> 1, |PromptId(prompt)| prompt >= needed)?;
    // Turns of a fork's origin are in an event that stays.
    let own = told.iter().filter(|(prompt, _)| *prompt != PromptId::NONE);
    let told = own.map(|(PromptId(prompt), _)| *prompt).min().unwrap_or(EventId::MAX);
    let mut select = connection.prepare_cached(
        "SELECT id, type, octet_length(json),
                CASE WHEN type IN ('prompt.started', 'turn.completed', 'turn.interrupted', 'prompt.removed',
                                   'prompt.resolved', 'agent.updated') THEN json END
         FROM events WHERE session = ?1 ORDER BY id",
    )?;
    let mut rows = select.query([id.as_str()])?;
    // Each prompt with its last event. One that is open is needed, so that nothing after it is looked at.
    let mut last: BTreeMap<EventId, EventId> = BTreeMap::new();
    let mut newest = EventId::MAX;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let (event, bytes): (EventId, u64) = (row.get(0)?, row.get(2)?);
        let kind = row.get_ref(1)?.as_str().unwrap_or_default();
        let json = row.get_ref(3)?.as_str_or_null().ok().flatten();
        let goes = !stays(event, kind, json, opened);
        // An unreadable event ends no turn.
        let of =
            json.filter(|_| kind != "agent.updated").and_then(|json| serde_json::from_str::<Told>(json).ok());
        let prompt = of.as_ref().and_then(|told| told.data.prompt_id).map(|PromptId(prompt)| prompt);
        let mut ended = None;
        match (kind, prompt, &of) {
            ("prompt.accepted", ..) => drop(last.insert(event, event)),
            ("prompt.started", Some(prompt), _) => newest = prompt,
            (_, Some(prompt), Some(told)) => {
                last.entry(prompt).and_modify(|last| *last = event);
                ended = Some(told.at.0);
            }
            _ => {}
        }
        all.push((event, goes, bytes, ended));
    }
    // Keep the last event of all: the next id follows it, so that no id is used twice.
    let mut last_of_all = connection.prepare_cached("SELECT max(id) FROM events")?;
    let last_of_all: EventId =
        last_of_all.query_row([], |row| row.get::<_, Option<EventId>>(0))?.unwrap_or(0);
    let end = needed.min(told).min(newest).min(last_of_all);
    let mut units = Vec::new();
    let (mut events, mut bytes, mut at) = (0, 0, 0);
    // Prompts that were accepted and have events to come, by their last: in between nothing is cut.
    let mut open: HashMap<EventId, EventId> = HashMap::new();
    for (event, goes, size, ended) in all {
        if event >= end {
            break;
        }
        if goes {
            (events, bytes) = (events + 1, bytes + size);
        }
        if let Some(last) = last.get(&event) {
            open.insert(*last, event);
        }
        open.remove(&event);
        if let Some(ended) = ended {
            at = ended.max(at);
            if open.is_empty() {
                units.push(Unit { upto: event, at, events, bytes });
                (events, bytes) = (0, 0);
            }
        }
    }
    Ok(units)
}

/// Sessions that events name and that do not exist, and the name of what is about none.
fn of_nobody(
    connection: &Connection,
    sessions: &BTreeMap<SessionId, EventId>,
) -> Result<Vec<Option<String>>, JournalError> {
    let mut owners = connection.prepare_cached("SELECT DISTINCT session FROM events")?;
    let owners =
        owners.query_map([], |row| row.get::<_, Option<String>>(0))?.collect::<Result<Vec<_>, _>>()?;
    let exists = |owner: &str| owner.parse().is_ok_and(|id: SessionId| sessions.contains_key(&id));
    Ok(owners.into_iter().filter(|owner| !owner.as_deref().is_some_and(exists)).collect())
}

/// The event of the present manager's start; 0 if there is none.
fn started(connection: &Connection) -> Result<EventId, rusqlite::Error> {
    let mut newest = connection
        .prepare_cached("SELECT max(id) FROM events WHERE session IS NULL AND type = 'manager.started'")?;
    newest.query_row([], |row| row.get::<_, Option<EventId>>(0)).map(Option::unwrap_or_default)
}

/// Events of no existing session that pruning may remove, each by itself. Keeps the start of the present manager and
/// everything after it but refusals; of these the last event of all, because the next id follows it.
fn alone(connection: &Connection, owner: Option<&str>, started: EventId) -> Result<Vec<Unit>, JournalError> {
    let mut select = connection.prepare_cached(
        "SELECT id, octet_length(json), json FROM events
         WHERE session IS ?1 AND (id < ?2 OR type = ?3 AND id < (SELECT max(id) FROM events)) ORDER BY id",
    )?;
    let mut rows = select.query(params![owner, started, REFUSED])?;
    let (mut units, mut at) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let told = row.get_ref(2)?.as_str().ok().and_then(|json| serde_json::from_str::<Told>(json).ok());
        at = told.map_or(0, |told| told.at.0).max(at);
        units.push(Unit { upto: row.get(0)?, at, events: 1, bytes: row.get(1)? });
    }
    Ok(units)
}
