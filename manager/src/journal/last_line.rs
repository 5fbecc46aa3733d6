//! Reading the journal for the last line that an agent said.

use protocol::event::EventKind;
use protocol::{EventId, PromptId, SessionId, Stream};
use rusqlite::params;

use super::error::JournalError;
use super::reader::{Reader, text};
use super::record::Record;
use crate::system::blocking;

/// Events of a session that are looked at.
const ROWS: u32 = 200;
/// The most bytes of an event that is read. A larger one is passed over.
const EVENT: u32 = 64 << 10;
/// Bytes after which no more of a message is read.
const ENOUGH: usize = 4 << 10;
/// Characters that are kept of a line.
const LINE: usize = 200;

impl Reader {
    /// The last line that this session's agent said, or the title of a tool call that it has begun since, and the last event that
    /// belongs to it. None if its newest events have neither.
    pub fn last_line(&self, session: &SessionId) -> Result<Option<(EventId, String)>, JournalError> {
        blocking::never_on_the_loop();
        let mut select = self.0.prepare_cached(
            // The newest rows by their ids alone: what is too large is not read.
            "SELECT id, type, json FROM events
             WHERE id IN (SELECT id FROM events WHERE session = ?1 ORDER BY id DESC LIMIT ?2)
                 AND type IN ('message.chunk', 'tool_call.started') AND octet_length(json) <= ?3
             ORDER BY id DESC",
        )?;
        let mut rows = select.query(params![session.as_str(), ROWS, EVENT])?;
        let mut last: Option<(EventId, PromptId)> = None;
        let mut message = String::new();
        while let Some(row) = rows.next()? {
            let (id, name, json): (EventId, _, _) = (row.get(0)?, text(row, 1)?, text(row, 2)?);
            let Ok(event) = Record::stored(id, Some(session.clone()), &name, &json).event() else { continue };
            match event.kind {
                EventKind::MessageChunk { stream: Stream::Stdout, prompt_id, text, .. } => {
                    let (_, of) = *last.get_or_insert((id, prompt_id));
                    if of != prompt_id {
                        break;
                    }
                    message.insert_str(0, &text);
                }
                EventKind::ToolCallStarted { title, .. } if last.is_none() => {
                    return Ok(line(&title).map(|line| (id, line)));
                }
                EventKind::ToolCallStarted { .. } => break,
                _ => {}
            }
            let has_whole_line = message.trim_end().contains('\n');
            if has_whole_line || message.len() >= ENOUGH {
                break;
            }
        }
        Ok(last.map(|(id, _)| id).zip(line(&message)))
    }
}

/// The last line with something in it, cut.
fn line(text: &str) -> Option<String> {
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.chars().take(LINE).collect())
}
