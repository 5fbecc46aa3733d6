//! The conversation of a session, read backwards from its end and no further than needed.
//!
//! Histories grow without limit. So nothing here runs on the loop's thread, and each read has a limit in rows and
//! bytes.

use std::collections::HashMap;

use protocol::api::ToldTurn;
use protocol::event::{Event, EventKind};
use protocol::wire::{Attachment, Exchange};
use protocol::{EventId, PromptId, SessionId, Stream};
use rusqlite::{Connection, OptionalExtension, params};

use super::error::JournalError;
use super::pieces::Pieces;
use super::pruned;
use super::reader::Reader;
use super::removed;
use crate::attachments;
use crate::system::blocking;

/// Bytes of a conversation that an agent with a transcript receives at most: the newest turns.
pub(super) const MOST_BYTES: usize = 256 * 1024;
/// The most rows of a history that one look reads.
pub(super) const MOST_ROWS: usize = 300_000;

/// A turn while it is read from its end to its beginning.
struct Turn {
    prompt: PromptId,
    reply: String,
    /// The text of its prompt, once it was met.
    text: Option<String>,
    /// Names of what belongs to its prompt, once they were met.
    names: Option<Vec<String>>,
}

impl Turn {
    /// An event of its prompt was met; the newest text counts. How many bytes more are known with it.
    fn meet(&mut self, kind: EventKind) -> usize {
        let text = match kind {
            EventKind::PromptEdited { text, .. } => text,
            EventKind::PromptAccepted { text, attachments, .. } => {
                self.names.get_or_insert(attachments.into_iter().map(|it| it.name).collect());
                text
            }
            _ => return 0,
        };
        match self.text {
            Some(_) => 0,
            None => self.text.insert(text).len(),
        }
    }
}

impl Reader {
    /// The turns before `prompt`, oldest first, as far back as the bounds reach.
    pub fn history(&self, id: &SessionId, prompt: PromptId) -> Result<Vec<Exchange>, JournalError> {
        let told = exchanges(&self.0, id, EventId::MAX >> 1, |of| of == prompt)?;
        Ok(told.into_iter().map(|(_, turn)| turn).collect())
    }

    /// The turns of a session up to the end of one, oldest first, as far back as the bounds reach; none if no end of that turn is on
    /// record, or further back than the bounds.
    pub fn turns_to(&self, id: &SessionId, turn: u64) -> Result<Option<Vec<Exchange>>, JournalError> {
        blocking::never_on_the_loop();
        let mut select = self.0.prepare_cached(
            "SELECT id, CASE WHEN type IN ('prompt.started', 'turn.completed', 'turn.interrupted') THEN json END
             FROM events WHERE session = ?1 AND id > ?3 ORDER BY id DESC LIMIT ?2",
        )?;
        let mut rows = select.query(params![id.as_str(), MOST_ROWS, removed::floor(&self.0, id)?])?;
        // Text after the turn's end belongs to its answer, until the next turn begins.
        let mut upto = EventId::MAX >> 1;
        while let Some(row) = rows.next()? {
            let (at, event): (EventId, _) = (row.get(0)?, event(row.get_ref(1)?));
            let ended = match event.map(|event| event.kind) {
                Some(EventKind::TurnCompleted { turn, .. } | EventKind::TurnInterrupted { turn, .. }) => turn,
                Some(EventKind::PromptStarted { .. }) => {
                    upto = at - 1;
                    continue;
                }
                _ => continue,
            };
            if ended == turn {
                let told = exchanges(&self.0, id, upto, |_| false)?;
                return Ok(Some(told.into_iter().map(|(_, turn)| turn).collect()));
            }
            if ended < turn {
                break;
            }
        }
        Ok(None)
    }

    /// Attachments of a prompt, in their order.
    pub fn attachments(&self, prompt: PromptId) -> Result<Vec<Attachment>, JournalError> {
        blocking::never_on_the_loop();
        let mut select =
            self.0.prepare_cached("SELECT doc FROM attachments WHERE prompt = ?1 ORDER BY position")?;
        let mut rows = select.query([prompt.0])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(serde_json::from_str(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?);
        }
        Ok(found)
    }

    /// The events of a session's newest turn up to `upto`, newest first, until `each` has enough. None among them is something between two
    /// texts. Returns whether the turn's beginning was reached.
    pub fn newest_turn(
        &self,
        id: &SessionId,
        upto: EventId,
        mut each: impl FnMut(Option<EventKind>) -> bool,
    ) -> Result<bool, JournalError> {
        blocking::never_on_the_loop();
        let mut select = self.0.prepare_cached(
            "SELECT CASE WHEN type IN ('prompt.started', 'message.chunk', 'turn.completed', 'turn.interrupted')
                           OR type = 'agent.updated' AND instr(json, 'agent_message_chunk')
                    THEN json END, type IN ('tool_call.started', 'thought.chunk', 'permission.requested')
             FROM events WHERE session = ?1 AND id > ?3 AND id <= ?4 ORDER BY id DESC LIMIT ?2",
        )?;
        let floor = removed::floor(&self.0, id)?;
        let mut rows = select.query(params![id.as_str(), MOST_ROWS, floor, upto])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += 1;
            let kind = event(row.get_ref(0)?).map(|event| event.kind);
            if kind.is_none() && !row.get::<_, bool>(1)? {
                continue;
            }
            let begins = matches!(kind, Some(EventKind::PromptStarted { .. }));
            let enough = each(kind);
            if begins {
                return Ok(true);
            }
            if enough {
                return Ok(false);
            }
        }
        Ok(count < MOST_ROWS)
    }
}

/// Parses an event; none if it is damaged.
fn event(json: rusqlite::types::ValueRef<'_>) -> Option<Event> {
    serde_json::from_slice(json.as_bytes().ok()?).ok()
}

/// Events of which the turns that an agent is told are made, the newest first.
const SELECT_TOLD: &str = "SELECT id, CASE WHEN type IN ('session.created', 'prompt.accepted', 'prompt.edited', 'prompt.started', 'message.chunk',
                                      'turn.completed')
                           OR type = 'agent.updated'
                              AND (instr(json, 'agent_message_chunk') OR instr(json, 'conversation_loaded'))
                    THEN json END, type IN ('tool_call.started', 'thought.chunk', 'permission.requested')
     FROM events WHERE session = ?1 AND id > ?3 AND id <= ?4 ORDER BY id DESC LIMIT ?2";

/// The turns of a session up to an event that its agent is told where it has to be, oldest first, with their prompts: as far back as
/// the bounds reach, and without those prompts. Turns of a fork's origin, and those of a conversation that was taken up, come
/// before its own, with no prompt.
pub(super) fn exchanges(
    connection: &Connection,
    id: &SessionId,
    upto: EventId,
    without: impl Fn(PromptId) -> bool,
) -> Result<Vec<(PromptId, Exchange)>, JournalError> {
    blocking::never_on_the_loop();
    let mut select = connection.prepare_cached(SELECT_TOLD)?;
    let floor = removed::floor(connection, id)?;
    let mut rows = select.query(params![id.as_str(), MOST_ROWS, floor, upto])?;
    // Newest first. One that a crash cut off and that was run again is told once, as it went at last.
    let mut turns: Vec<Turn> = Vec::new();
    let mut begun: HashMap<PromptId, usize> = HashMap::new();
    // Pieces of replies whose turn's beginning was not met yet, newest first.
    let mut pieces: HashMap<PromptId, Pieces> = HashMap::new();
    // Text between two turns, newest first.
    let mut late: Vec<String> = Vec::new();
    // Turns from before the session's own: of a fork's origin, or of a conversation that its agent has taken up.
    let mut before = Vec::new();
    let (mut known_bytes, mut reached) = (0, u64::MAX);
    while let Some(row) = rows.next()? {
        reached = row.get(0)?;
        if row.get(2)? {
            // Of the turn whose pieces are read: turns do not overlap.
            pieces.values_mut().for_each(Pieces::part);
        }
        let Some(event) = event(row.get_ref(1)?) else { continue };
        if matches!(event.kind, EventKind::PromptStarted { .. }) {
            late.clear();
            // What was met is not from before all turns.
            before.clear();
        }
        match event.kind {
            EventKind::MessageChunk { prompt_id, stream: Stream::Stdout, text, .. }
                if !without(prompt_id) && !begun.contains_key(&prompt_id) =>
            {
                known_bytes += text.len();
                pieces.entry(prompt_id).or_default().push(text);
            }
            // Text just after the end of a turn is the end of its answer.
            EventKind::TurnCompleted { prompt_id, .. } => {
                let late = std::mem::take(&mut late);
                if !without(prompt_id) && !begun.contains_key(&prompt_id) {
                    let pieces = pieces.entry(prompt_id).or_default();
                    late.into_iter().for_each(|piece| pieces.push(piece));
                }
            }
            EventKind::AgentUpdated { .. } => {
                if let Some(text) = event.kind.late_text() {
                    known_bytes += text.len();
                    late.push(text.to_owned());
                }
                // A worker that was killed before it was ready has told them twice.
                if let Some(turns) = event.kind.loaded_turns().filter(|_| before.is_empty()) {
                    before = turns;
                }
            }
            EventKind::PromptStarted { prompt_id }
                if !without(prompt_id) && !begun.contains_key(&prompt_id) =>
            {
                let reply = pieces.remove(&prompt_id).unwrap_or_default().text();
                begun.insert(prompt_id, turns.len());
                turns.push(Turn { prompt: prompt_id, reply, text: None, names: None });
            }
            EventKind::SessionCreated { told, .. } if before.is_empty() => before = told,
            kind => {
                let turn = kind.prompt().and_then(|prompt| begun.get(&prompt));
                if let Some(turn) = turn.and_then(|at| turns.get_mut(*at)) {
                    known_bytes += turn.meet(kind);
                }
            }
        }
        // Earlier turns do not fit.
        if known_bytes > MOST_BYTES {
            break;
        }
    }
    within_bounds(connection, id, turns, before, reached)
}

/// The newest turns that have room in [`MOST_BYTES`], oldest first. `turns` come newest first, those `before` them oldest first, and
/// `reached` is the oldest event that was read.
fn within_bounds(
    connection: &Connection,
    id: &SessionId,
    turns: Vec<Turn>,
    before: Vec<ToldTurn>,
    reached: EventId,
) -> Result<Vec<(PromptId, Exchange)>, JournalError> {
    // Between turns of the origin and those of a pruned session there may be a gap.
    let (mut room, mut is_whole) = (MOST_BYTES, before.is_empty() || !pruned::has_pruned(connection, id)?);
    let mut told = Vec::new();
    for mut turn in turns {
        if turn.names.is_none() && !find_prompt(connection, id, &mut turn, reached)? {
            is_whole = false;
            break;
        }
        let (text, names) = (turn.text.unwrap_or_default(), turn.names.unwrap_or_default());
        let prompt = attachments::told(&text, names.iter().map(String::as_str));
        let Some(left) = room.checked_sub(prompt.len() + turn.reply.len()) else {
            is_whole = false;
            break;
        };
        room = left;
        told.push((turn.prompt, Exchange { prompt, reply: turn.reply }));
    }
    for ToldTurn { prompt, reply } in before.into_iter().rev().take_while(|_| is_whole) {
        let Some(left) = room.checked_sub(prompt.len() + reply.len()) else { break };
        room = left;
        told.push((PromptId::NONE, Exchange { prompt, reply }));
    }
    told.reverse();
    Ok(told)
}

/// Finds the prompt of a turn whose beginning was met, and which was accepted before `reached`. Whether its text is known
/// then.
fn find_prompt(
    connection: &Connection,
    id: &SessionId,
    turn: &mut Turn,
    reached: u64,
) -> Result<bool, JournalError> {
    if turn.text.is_none() {
        // It may have been edited while another turn ran, which may have said any number of things.
        let mut select = connection.prepare_cached(
            "SELECT CASE type WHEN 'prompt.edited' THEN json END FROM events
             WHERE session = ?1 AND id > ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4",
        )?;
        let mut rows = select.query(params![id.as_str(), turn.prompt.0, reached, MOST_ROWS])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += 1;
            match event(row.get_ref(0)?).map(|event| event.kind) {
                Some(EventKind::PromptEdited { prompt_id, text }) if prompt_id == turn.prompt => {
                    turn.text = Some(text);
                    break;
                }
                _ => {}
            }
        }
        if turn.text.is_none() && count == MOST_ROWS {
            return Ok(false);
        }
    }
    // A prompt has the number of the event that accepted it.
    let mut select = connection.prepare_cached(
        "SELECT CASE type WHEN 'prompt.accepted' THEN json END FROM events WHERE id = ?1 AND session = ?2",
    )?;
    let accepted = select
        .query_row(params![turn.prompt.0, id.as_str()], |row| row.get_ref(0).map(event))
        .optional()?
        .flatten();
    if let Some(EventKind::PromptAccepted { text, attachments, .. }) = accepted.map(|event| event.kind) {
        turn.text.get_or_insert(text);
        turn.names = Some(attachments.into_iter().map(|it| it.name).collect());
    }
    Ok(true)
}
