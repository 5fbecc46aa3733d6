//! Prompts, from their acceptance to what their turns have said.

use std::sync::Arc;
use std::time::Instant;

use protocol::api::*;
use protocol::event::{EventKind, Outcome, Resolution};
use protocol::{Exit, PromptId, SessionId};

use super::SessionManager;
use crate::core::{Ask, Command, NewPrompt, Refusal, Reply, Session};
use crate::error::Error;
use crate::journal::{IdempotencyKey, Pieces, Reader};
use crate::{attachments, journal};

/// The longest prompt, in bytes.
pub const MAX_PROMPT: usize = 1024 * 1024;
/// The most of a turn's text that [`SessionManager::turn_result`] gives, in bytes.
const MAX_RESULT: usize = 1024 * 1024;

impl SessionManager {
    /// Accepts a prompt: when this returns it is on disk. It runs now or waits.
    ///
    /// # Errors
    /// `session_stopped`, `session_failed`, `session_stopping`, `busy`, `queue_full`, `prompt_too_large`,
    /// `invalid_attachment`, `attachments_too_large`, `no_attachments` where the agent takes none,
    /// `empty_prompt`, `idempotency_key_reused`, `journal_full`.
    pub async fn send_prompt(
        &self,
        id: &SessionId,
        prompt: PromptRequest,
        key: Option<&str>,
    ) -> Result<Accepted, Error> {
        // A picture may say it all.
        if prompt.attachments.is_empty() || !prompt.text.is_empty() {
            check_prompt(&prompt.text)?;
        }
        let scope = journal::session_scope(id);
        let key = key.map(|key| IdempotencyKey::new(&scope, key, &prompt)).transpose()?;
        let PromptRequest { text, when_busy, attachments } = prompt;
        let attachments = attachments::check(attachments)?;
        let new = NewPrompt { text: text.into(), when_busy, attachments };
        let ask = Ask::One(id.clone(), self.input(Command::Prompt(new)));
        let asked = Instant::now();
        let Reply::Accepted { prompt, disposition } = self.ask_keyed(ask, key).await? else {
            return Err(Error::Ended);
        };
        self.shared.metrics.accepted(asked.elapsed());
        Ok(Accepted { session_id: id.clone(), prompt_id: prompt, event_id: prompt.0, disposition })
    }

    /// Ends the running turn as aborted, and everything it started; or removes the prompt that waits for its missing program. The
    /// session and the rest of its queue stay. Returns once the turn is over.
    pub async fn abort(&self, id: &SessionId) -> Result<Aborted, Error> {
        self.abort_by(id, Command::Abort).await
    }

    /// Aborts the running turn if it is this prompt's. Errors: `prompt_queued` if the prompt waits in the queue;
    /// `no_turn` if another turn runs, or none.
    pub async fn abort_prompt(&self, id: &SessionId, prompt: PromptId) -> Result<Aborted, Error> {
        self.abort_by(id, Command::AbortOnly(prompt)).await
    }

    async fn abort_by(&self, id: &SessionId, command: Command) -> Result<Aborted, Error> {
        let Reply::Aborting { prompt } = self.command(id, command).await? else {
            return Err(Error::Ended);
        };
        self.until(id, "the end of the turn", None, move |session| {
            let runs = session.turns.running.as_ref().is_some_and(|turn| turn.prompt.id == prompt);
            (!runs).then_some(Ok(()))
        })
        .await?;
        Ok(Aborted { prompt_id: prompt })
    }

    /// Prompts that have not ended, and those that were interrupted and not resolved.
    pub async fn queue(&self, id: &SessionId) -> Result<Vec<QueuedPrompt>, Error> {
        self.with_session(id, |session, _| session.queue()).await
    }

    /// Replaces the text of a waiting prompt.
    pub async fn edit_prompt(&self, id: &SessionId, prompt: PromptId, text: &str) -> Result<(), Error> {
        check_prompt(text)?;
        self.command(id, Command::Edit(prompt, text.into())).await.map(drop)
    }

    /// Takes a waiting prompt out of the queue; it ends as aborted.
    pub async fn remove_prompt(&self, id: &SessionId, prompt: PromptId) -> Result<(), Error> {
        self.command(id, Command::Remove(prompt)).await.map(drop)
    }

    /// Takes all waiting prompts out of the queue; they end as aborted. Returns how many.
    pub async fn clear_queue(&self, id: &SessionId) -> Result<u32, Error> {
        match self.command(id, Command::Clear).await? {
            Reply::Cleared { removed } => Ok(removed),
            _ => Err(Error::Ended),
        }
    }

    /// Decides what becomes of an interrupted prompt: the same again at the head of the queue, or nothing.
    pub async fn resolve_prompt(&self, prompt: PromptId, action: Resolution) -> Result<Resolved, Error> {
        let reach = self.reach();
        let session = self.read(move |fleet, _| {
            let has = |session: &&Arc<Session>| {
                reach(fleet, session) && session.queue().iter().any(|queued| queued.prompt_id == prompt)
            };
            fleet.sessions().find(has).map(|session| session.id.clone())
        });
        let session = session.await?.ok_or(Error::Refused(Refusal::NotInterrupted(prompt)))?;
        match self.command(&session, Command::Resolve(prompt, action)).await? {
            Reply::Resolved { retried_as } => Ok(Resolved { prompt_id: prompt, retried_as }),
            _ => Err(Error::Ended),
        }
    }

    /// Text of the session's newest turn, from the journal, and its status.
    pub async fn turn_result(&self, id: &SessionId) -> Result<TurnResult, Error> {
        let mut result = TurnResult {
            session_id: id.clone(),
            // Before the events: what has ended by now is found to have ended there.
            status: self.with_session(id, |session, _| session.status()).await?,
            prompt_id: None,
            outcome: None,
            stop_reason: None,
            exit: None,
            text: String::new(),
            truncated: false,
        };
        // Backwards, and no further than is told: a turn may have said any number of things.
        let (of, upto) = (id.clone(), self.shared.feed.last());
        let read = move |reader: &Reader| {
            let mut newest = Newest::default();
            let whole = reader.newest_turn(&of, upto, |kind| newest.add(kind))?;
            Ok((newest, whole))
        };
        let (newest, whole) = self.shared.feed.read_elsewhere(read).await?;
        newest.tell(&mut result, whole);
        keep_end(&mut result);
        Ok(result)
    }
}

/// Bounds a prompt's text: 1 byte to [`MAX_PROMPT`], without NUL, which no command line can carry.
pub fn check_prompt(text: &str) -> Result<(), Error> {
    if text.trim().is_empty() {
        return Err(Error::invalid("empty_prompt", "the prompt is empty; it was not accepted"));
    }
    if text.len() > MAX_PROMPT {
        return Err(Error::invalid_with(
            "prompt_too_large",
            format!("the prompt has {} bytes, the limit is {MAX_PROMPT}; it was not accepted", text.len()),
            "put long input into a file and name the file in the prompt",
        ));
    }
    if text.contains('\0') {
        return Err(Error::invalid("invalid_prompt", "the prompt contains a NUL byte; it was not accepted"));
    }
    Ok(())
}

/// Facts about the newest turn, whose events come newest first.
#[derive(Default)]
struct Newest {
    prompt: Option<PromptId>,
    end: Option<(Outcome, String, Option<Exit>)>,
    /// Pieces of what it has said, newest first.
    pieces: Pieces,
    bytes: usize,
}

impl Newest {
    /// Adds an event that came before all others; none is something between two texts. Whether enough is known.
    fn add(&mut self, kind: Option<EventKind>) -> bool {
        let Some(kind) = kind else {
            self.pieces.part();
            return false;
        };
        match kind {
            EventKind::PromptStarted { prompt_id } => self.prompt = Some(prompt_id),
            EventKind::MessageChunk { prompt_id, stream: protocol::Stream::Stdout, text, .. } => {
                self.prompt = Some(prompt_id);
                self.bytes += text.len();
                self.pieces.push(text);
            }
            // Just after the end of its turn: the end of its answer.
            EventKind::AgentUpdated { .. } if self.end.is_none() => {
                if let Some(text) = kind.late_text() {
                    self.bytes += text.len();
                    self.pieces.push(text.to_owned());
                }
            }
            EventKind::TurnCompleted { outcome, stop_reason, exit, .. } => {
                self.end.get_or_insert((outcome, stop_reason, exit));
            }
            EventKind::TurnInterrupted { reason, will_retry: false, .. } => {
                self.end.get_or_insert((Outcome::Interrupted, reason, None));
            }
            _ => {}
        }
        self.bytes > MAX_RESULT
    }

    /// Tells it; whether all of it was looked at is `whole`.
    fn tell(self, result: &mut TurnResult, whole: bool) {
        result.prompt_id = self.prompt;
        // Where nothing was ever begun nothing is told.
        if self.prompt.is_none() {
            return;
        }
        result.truncated = !whole;
        result.text = self.pieces.text();
        if let Some((outcome, stop_reason, exit)) = self.end {
            (result.outcome, result.stop_reason, result.exit) = (Some(outcome), Some(stop_reason), exit);
        }
    }
}

fn keep_end(result: &mut TurnResult) {
    result.truncated |= cut_to_end(&mut result.text, MAX_RESULT);
}

/// Leaves so many bytes at most of the end of a text, and says whether that was less than all.
pub(crate) fn cut_to_end(text: &mut String, most: usize) -> bool {
    let excess = text.len().saturating_sub(most);
    let start = (excess..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text.drain(..start);
    start > 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_just_after_the_end_of_a_turn_is_the_end_of_its_result() {
        let chunk =
            |text: &str| json!({ "sessionUpdate": "agent_message_chunk", "content": { "text": text } });
        let said = |text: &str| EventKind::MessageChunk {
            turn: 1,
            prompt_id: PromptId(3),
            stream: protocol::Stream::Stdout,
            text: text.to_owned(),
            payload: None,
        };
        let mut newest = Newest::default();
        let mut add = |kind| newest.add(Some(kind));
        // As they are read: the newest first.
        add(EventKind::AgentUpdated { prompt_id: None, payload: chunk(" end") });
        add(EventKind::AgentUpdated { prompt_id: None, payload: json!({ "sessionUpdate": "plan" }) });
        let (turn, prompt_id, outcome, exit) = (1, PromptId(3), Outcome::Completed, None);
        add(EventKind::TurnCompleted { turn, prompt_id, outcome, stop_reason: "end_turn".into(), exit });
        add(EventKind::AgentUpdated { prompt_id: None, payload: chunk("of the turn before") });
        add(said("the"));
        assert_eq!(newest.pieces.text(), "the end");
        assert_eq!(newest.end.map(|(.., stop_reason, _)| stop_reason).as_deref(), Some("end_turn"));
    }
}
