//! Writing: one transaction takes a batch of changes, their events and the keys that were used.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::event::{Event, EventKind};
use protocol::{Incarnation, SessionId};
use rusqlite::{Transaction, params};

use super::error::JournalError;
use super::keys::UsedKey;
use super::record::Record;
use super::schema::new_token;
use super::{Journal, pruned, removed};
use crate::core::{Attached, Change, Session};

impl Journal {
    /// Writes all of it or nothing. Once this returns, the record survives the death of any process;
    /// [`sync`](Self::sync) makes it survive a power cut.
    pub fn write(
        &mut self,
        changes: &[Change],
        records: &[Record],
        keys: &[UsedKey],
        boot_id: Option<&str>,
    ) -> Result<(), JournalError> {
        let transaction = self.connection.transaction()?;
        let mut latest: BTreeMap<&SessionId, &Arc<Session>> = BTreeMap::new();
        for change in changes {
            latest.extend(change.sessions.iter().map(|session| (&session.id, session)));
        }
        for change in changes {
            if let Some((id, incarnation)) = &change.removed {
                latest.remove(id);
                remove(&transaction, id, *incarnation)?;
            }
            if let Some(id) = &change.revived {
                transaction.prepare_cached("DELETE FROM retired WHERE id = ?1")?.execute([id.as_str()])?;
                removed::revive(&transaction, id)?;
            }
        }
        let mut kinds = changes.iter().flat_map(|change| &change.events);
        {
            let mut insert = transaction.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4)")?;
            for record in records {
                let Some(event) = kinds.next() else { break };
                let session = record.session.as_ref().map(SessionId::as_str);
                insert.execute(params![record.id, session, event.kind.name(), record.json()])?;
                project(&transaction, event)?;
            }
        }
        for Attached { prompt, what } in changes.iter().flat_map(|change| &change.attached) {
            // A prompt that ended in the same batch has no text any more.
            let mut insert = transaction.prepare_cached(
                "INSERT INTO attachments SELECT id, session, ?2, ?3 FROM prompts WHERE id = ?1",
            )?;
            for (position, attachment) in what.iter().enumerate() {
                insert.execute(params![prompt.0, position, serde_json::to_string(attachment)?])?;
            }
        }
        {
            let mut update = transaction.prepare_cached("UPDATE sessions SET doc = ?2 WHERE id = ?1")?;
            for (id, session) in latest {
                let doc = serde_json::to_string(&**session)?;
                if update.execute(params![id.as_str(), doc])? == 0 {
                    let mut insert =
                        transaction.prepare_cached("INSERT INTO sessions VALUES (?1, ?2, ?3)")?;
                    insert.execute(params![id.as_str(), new_token()?, doc])?;
                }
            }
        }
        for UsedKey { key, reply } in keys {
            let reply = serde_json::to_string(reply)?;
            let mut insert = transaction.prepare_cached("INSERT INTO keys VALUES (?1, ?2, ?3, ?4)")?;
            insert.execute(params![key.scope, key.key, key.request, reply])?;
        }
        if let Some(boot_id) = boot_id {
            transaction.execute("INSERT OR REPLACE INTO meta VALUES ('boot_id', ?1)", [boot_id])?;
            // It is said in this commit, and not again.
            transaction.execute("DELETE FROM meta WHERE name = 'lost'", [])?;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Keeps the texts of prompts that may still be run.
fn project(transaction: &Transaction<'_>, event: &Event) -> Result<(), rusqlite::Error> {
    let ended = match &event.kind {
        EventKind::PromptAccepted { prompt_id, text, retry_of, .. } => {
            let session = event.session.as_ref().map(SessionId::as_str);
            let mut insert = transaction.prepare_cached("INSERT INTO prompts VALUES (?1, ?2, ?3)")?;
            insert.execute(params![prompt_id.0, session, text])?;
            if let Some(before) = retry_of {
                // The prompt that it repeats is over with this, and its row is of no use any more.
                let mut update =
                    transaction.prepare_cached("UPDATE attachments SET prompt = ?1 WHERE prompt = ?2")?;
                update.execute([prompt_id.0, before.0])?;
            }
            return Ok(());
        }
        EventKind::PromptEdited { prompt_id, text } => {
            let mut update = transaction.prepare_cached("UPDATE prompts SET text = ?2 WHERE id = ?1")?;
            update.execute(params![prompt_id.0, text])?;
            return Ok(());
        }
        EventKind::TurnCompleted { prompt_id, .. }
        | EventKind::PromptRemoved { prompt_id, .. }
        | EventKind::PromptResolved { prompt_id, .. } => prompt_id,
        // An interrupted prompt's text is kept: it may be resolved by running it again.
        _ => return Ok(()),
    };
    transaction.prepare_cached("DELETE FROM prompts WHERE id = ?1")?.execute([ended.0])?;
    transaction.prepare_cached("DELETE FROM attachments WHERE prompt = ?1")?.execute([ended.0])?;
    Ok(())
}

/// Takes a session's records out. The event that says so comes after, and stays.
fn remove(
    transaction: &Transaction<'_>,
    id: &SessionId,
    incarnation: Incarnation,
) -> Result<(), rusqlite::Error> {
    transaction.execute("DELETE FROM sessions WHERE id = ?1", [id.as_str()])?;
    removed::begin(transaction, id)?;
    transaction.execute("DELETE FROM prompts WHERE session = ?1", [id.as_str()])?;
    transaction.execute("DELETE FROM attachments WHERE session = ?1", [id.as_str()])?;
    transaction.execute("DELETE FROM meta WHERE name = ?1", [pruned::mark(id)])?;
    transaction
        .execute("INSERT OR REPLACE INTO retired VALUES (?1, ?2)", params![id.as_str(), incarnation])?;
    Ok(())
}
