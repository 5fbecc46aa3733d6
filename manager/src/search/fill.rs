//! Events become texts: what was said in pieces is one text again, and a tool call with its output is one.
//!
//! A text that may go on is *open*: the index keeps what it needs to go on with the next events, whoever reads those.

use std::collections::HashMap;

use protocol::api::SearchKind;
use protocol::event::{Event, EventKind, Timestamp};
use protocol::{PromptId, Stream};
use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schema::{PIECES, doc_of, number_of};
use super::text::{self, PIECE};
use crate::attachments;
use crate::journal::Told;

/// The place of an agent's open text, and of its thoughts.
const TEXT: &str = "text";
/// The place of its program's open standard error.
const STDERR: &str = "stderr";
/// The place of a session's title: the next event that tells the same one is no other text.
const TITLE: &str = "title";
/// Before the id of a tool call that is open.
const TOOL: &str = "tool/";

/// A text that may go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Open {
    doc: i64,
    at: u64,
    what: What,
    /// The text differs from the text in the index.
    #[serde(skip)]
    is_new: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum What {
    Words { kind: SearchKind, prompt: Option<PromptId>, text: String },
    Tool { title: String, command: String, output: String },
}

impl Open {
    fn kind(&self) -> SearchKind {
        match self.what {
            What::Words { kind, .. } => kind,
            What::Tool { .. } => SearchKind::Tool,
        }
    }

    fn text(&self) -> String {
        match &self.what {
            What::Words { text, .. } => text.clone(),
            What::Tool { title, command, output } => {
                let parts = [title, command, output].into_iter().map(String::as_str);
                parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// A piece of what is said, of which nothing else is read: its payload may be large.
#[derive(Deserialize)]
struct Piece {
    at: Timestamp,
    data: PieceData,
}

#[derive(Deserialize)]
struct PieceData {
    prompt_id: PromptId,
    text: String,
    stream: Option<Stream>,
}

/// Writes events into the index, within a transaction.
pub struct Filling<'t> {
    index: &'t Transaction<'t>,
    sessions: HashMap<String, i64>,
    /// Texts that were open or are; none: it is known that none is.
    open: HashMap<(i64, String), Option<Open>>,
}

impl<'t> Filling<'t> {
    /// Goes on where the last one has ended.
    pub fn new(index: &'t Transaction<'t>) -> Self {
        Self { index, sessions: HashMap::new(), open: HashMap::new() }
    }

    /// Takes the next event. One that is damaged is in no index.
    pub fn take(&mut self, told: &Told) -> Result<(), rusqlite::Error> {
        match told.kind.as_str() {
            "session.deleted" => self.forget(&told.session),
            "message.chunk" | "thought.chunk" => {
                let Ok(Piece { at, data }) = serde_json::from_str(&told.json) else { return Ok(()) };
                let (kind, slot) = match data.stream {
                    None => (SearchKind::Thought, TEXT),
                    Some(Stream::Stdout) => (SearchKind::Message, TEXT),
                    Some(Stream::Stderr) => (SearchKind::Stderr, STDERR),
                };
                self.say(told, at, (kind, slot), Some(data.prompt_id), &data.text)
            }
            _ => match serde_json::from_str::<Event>(&told.json) {
                Ok(event) => self.event(told, event),
                Err(_) => Ok(()),
            },
        }
    }

    /// Writes what is open, so that it is found, and others can go on with it.
    pub fn end(mut self) -> Result<(), rusqlite::Error> {
        for ((session, slot), open) in std::mem::take(&mut self.open) {
            let Some(open) = open.filter(|open| open.is_new) else { continue };
            self.write(session, &open)?;
            // What cannot be written as JSON cannot be read from it: then it does not go on.
            let state = serde_json::to_string(&open).unwrap_or_default();
            let mut insert = self.index.prepare_cached("INSERT OR REPLACE INTO open VALUES (?1, ?2, ?3)")?;
            insert.execute(params![session, slot, state])?;
        }
        Ok(())
    }

    fn event(&mut self, told: &Told, event: Event) -> Result<(), rusqlite::Error> {
        let at = event.at;
        match event.kind {
            EventKind::SessionCreated { title, .. } | EventKind::SessionUpdated { title, .. } => {
                self.title(told, at, title.as_deref().unwrap_or_default())
            }
            EventKind::PromptAccepted { text, attachments, .. } => {
                let text = attachments::told(&text, attachments.iter().map(|it| &*it.name));
                self.whole(told, at, SearchKind::Prompt, &text)
            }
            EventKind::PromptEdited { text, .. } => self.whole(told, at, SearchKind::Prompt, &text),
            EventKind::PromptStarted { .. } => {
                self.close(told, TEXT)?;
                self.close(told, STDERR)
            }
            // Text just after the end of a turn is the end of its answer: the turn's text stays open.
            EventKind::TurnCompleted { .. } | EventKind::TurnInterrupted { .. } => self.end_tools(told),
            EventKind::ToolCallStarted { tool_call_id, title, payload, .. } => {
                self.close(told, TEXT)?;
                self.close(told, STDERR)?;
                let mut payload =
                    if payload.is_object() { payload } else { Value::Object(Default::default()) };
                payload["title"] = title.into();
                self.tool(told, at, &tool_call_id, &payload)
            }
            EventKind::ToolCallUpdated { tool_call_id, payload, .. } => {
                self.tool(told, at, &tool_call_id, &payload)
            }
            EventKind::ToolCallInterrupted { tool_call_id, .. } => {
                self.close(told, &format!("{TOOL}{tool_call_id}"))
            }
            other => match other.late_text() {
                Some(text) => self.say(told, at, (SearchKind::Message, TEXT), None, text),
                None => Ok(()),
            },
        }
    }

    /// The session's title from here on; empty: it has none. An event tells it also where something else changed.
    fn title(&mut self, told: &Told, at: Timestamp, title: &str) -> Result<(), rusqlite::Error> {
        let session = self.session(&told.session)?;
        let (title, _) = text::split(title, PIECE);
        let before = match self.slot(session, TITLE)?.map(|open| &open.what) {
            Some(What::Words { text, .. }) => text.as_str(),
            Some(What::Tool { .. }) | None => "",
        };
        if before == title {
            return Ok(());
        }
        self.close(told, TITLE)?;
        if !title.is_empty() {
            let what = What::Words { kind: SearchKind::Title, prompt: None, text: title.to_owned() };
            let open = Open { doc: doc_of(told.id, 0), at: at.0, what, is_new: true };
            self.open.insert((session, TITLE.to_owned()), Some(open));
        }
        Ok(())
    }

    /// A text that begins and ends with its event.
    fn whole(
        &mut self,
        told: &Told,
        at: Timestamp,
        kind: SearchKind,
        text: &str,
    ) -> Result<(), rusqlite::Error> {
        let session = self.session(&told.session)?;
        let mut rest = text;
        for piece in 0..PIECES {
            let (text, more) = text::split(rest, PIECE);
            let what = What::Words { kind, prompt: None, text: text.to_owned() };
            self.write(session, &Open { doc: doc_of(told.id, piece), at: at.0, what, is_new: true })?;
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// A piece of a text.
    fn say(
        &mut self,
        told: &Told,
        at: Timestamp,
        (kind, slot): (SearchKind, &str),
        prompt: Option<PromptId>,
        text: &str,
    ) -> Result<(), rusqlite::Error> {
        let session = self.session(&told.session)?;
        let mut rest = text;
        if let Some(open) = self.slot(session, slot)? {
            let goes_on = match &open.what {
                What::Words { kind: own, prompt: of, .. } => {
                    *own == kind && (prompt.is_none() || *of == prompt)
                }
                What::Tool { .. } => false,
            };
            if let (true, What::Words { text: said, .. }) = (goes_on, &mut open.what) {
                let (now, more) = text::split(rest, PIECE.saturating_sub(said.len()));
                said.push_str(now);
                (open.at, open.is_new) = (at.0, true);
                rest = more;
                if rest.is_empty() {
                    return Ok(());
                }
            }
            self.close(told, slot)?;
        }
        for piece in 0..PIECES {
            let (now, more) = text::split(rest, PIECE);
            let what = What::Words { kind, prompt, text: now.to_owned() };
            let open = Open { doc: doc_of(told.id, piece), at: at.0, what, is_new: true };
            rest = more;
            if rest.is_empty() {
                self.open.insert((session, slot.to_owned()), Some(open));
                break;
            }
            self.write(session, &open)?;
        }
        Ok(())
    }

    /// Takes a report on a tool call. The fields that an update leaves out stay as they were.
    fn tool(&mut self, told: &Told, at: Timestamp, id: &str, payload: &Value) -> Result<(), rusqlite::Error> {
        let session = self.session(&told.session)?;
        let slot = format!("{TOOL}{id}");
        let known = self.slot(session, &slot)?.cloned();
        let what = What::Tool { title: String::new(), command: String::new(), output: String::new() };
        let mut open = known.unwrap_or(Open { doc: doc_of(told.id, 0), at: at.0, what, is_new: true });
        if let What::Tool { title, command, output } = &mut open.what {
            if let Some(new) = payload["title"].as_str() {
                *title = text::bounded(new, text::TOOL).to_owned();
            }
            if let Some(new) = text::command(&payload["rawInput"]) {
                *command = new;
            }
            if let Some(new) = text::output(&payload["content"]) {
                *output = new;
            }
        }
        (open.at, open.is_new) = (at.0, true);
        self.open.insert((session, slot.clone()), Some(open));
        match payload["status"].as_str() {
            Some("completed" | "failed") => self.close(told, &slot),
            _ => Ok(()),
        }
    }

    /// No tool call goes on after its turn.
    fn end_tools(&mut self, told: &Told) -> Result<(), rusqlite::Error> {
        let session = self.session(&told.session)?;
        let mut slots: Vec<String> = self
            .index
            // What begins so: `0` is what comes after `/`.
            .prepare_cached(
                "SELECT slot FROM open WHERE session = ?1 AND slot >= 'tool/' AND slot < 'tool0'",
            )?
            .query_map([session], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let of_it = |(of, slot): &&(i64, String)| *of == session && slot.starts_with(TOOL);
        slots.extend(self.open.keys().filter(of_it).map(|(_, slot)| slot.clone()));
        slots.iter().try_for_each(|slot| self.close(told, slot))
    }

    /// A text goes on no more.
    fn close(&mut self, told: &Told, slot: &str) -> Result<(), rusqlite::Error> {
        let session = self.session(&told.session)?;
        let Some(open) = self.slot(session, slot)?.cloned() else { return Ok(()) };
        if open.is_new {
            self.write(session, &open)?;
        }
        let mut delete = self.index.prepare_cached("DELETE FROM open WHERE session = ?1 AND slot = ?2")?;
        delete.execute(params![session, slot])?;
        self.open.insert((session, slot.to_owned()), None);
        Ok(())
    }

    /// The session was removed: another may have its name after it.
    fn forget(&mut self, name: &str) -> Result<(), rusqlite::Error> {
        if let Some(session) = number_of(self.index, name)? {
            self.index.execute("UPDATE sessions SET gone = 1 WHERE number = ?1", [session])?;
            self.index.execute("DELETE FROM open WHERE session = ?1", [session])?;
            self.open.retain(|(of, _), _| *of != session);
        }
        self.sessions.remove(name);
        Ok(())
    }

    fn session(&mut self, name: &str) -> Result<i64, rusqlite::Error> {
        if let Some(known) = self.sessions.get(name) {
            return Ok(*known);
        }
        let number = match number_of(self.index, name)? {
            Some(number) => number,
            None => {
                let mut insert = self
                    .index
                    .prepare_cached("INSERT INTO sessions (name, gone, floor) VALUES (?1, 0, 0)")?;
                insert.insert([name])?
            }
        };
        self.sessions.insert(name.to_owned(), number);
        Ok(number)
    }

    fn slot(&mut self, session: i64, slot: &str) -> Result<Option<&mut Open>, rusqlite::Error> {
        let key = (session, slot.to_owned());
        if !self.open.contains_key(&key) {
            let mut select =
                self.index.prepare_cached("SELECT state FROM open WHERE session = ?1 AND slot = ?2")?;
            let state: Option<String> =
                select.query_row(params![session, slot], |row| row.get(0)).optional()?;
            let open = state.and_then(|state| serde_json::from_str(&state).ok());
            self.open.insert(key.clone(), open);
        }
        Ok(self.open.get_mut(&key).and_then(Option::as_mut))
    }

    fn write(&self, session: i64, open: &Open) -> Result<(), rusqlite::Error> {
        let (doc, kind) = (open.doc, open.kind() as u8);
        let at = i64::try_from(open.at).unwrap_or(i64::MAX);
        let mut insert = self.index.prepare_cached("INSERT OR REPLACE INTO docs VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute(params![doc, session, at, kind])?;
        let mut insert = self
            .index
            .prepare_cached("INSERT OR REPLACE INTO words (rowid, text, owner) VALUES (?1, ?2, ?3)")?;
        insert.execute(params![doc, text::plain(&open.text()), format!("s{session}")])?;
        Ok(())
    }
}
