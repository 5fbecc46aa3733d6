//! The delivery of a prompt: its attachments and history are read first, then it is sent.

use protocol::wire::Command;
use protocol::{Incarnation, PromptId, SessionId};

use crate::core::{Seen, Session};
use crate::fetch::{Fetched, Found, Wanted};
use crate::workers::worker::Worker;
use crate::workers::{Sighting, Workers};

impl Workers {
    /// Sends a prompt to its worker, or starts to read what it needs: [`fetched`](Self::fetched) sends it then.
    pub(super) fn deliver(
        &mut self,
        id: &SessionId,
        incarnation: Incarnation,
        prompt: PromptId,
        session: &Session,
        now: u64,
    ) -> Option<Sighting> {
        let worker = self.get(id, incarnation)?;
        if worker.delivered == Some(prompt) || worker.fetching == Some(prompt) {
            return None;
        }
        let turn = session.turns.running.as_ref().filter(|turn| turn.prompt.id == prompt)?;
        if worker.is_adopted() && turn.is_taken() {
            // By the manager before.
            worker.delivered = Some(prompt);
            return None;
        }
        // An agent that lives between prompts remembers its turns since its start.
        let history = session.is_told_history() && !(session.owes_transcript && worker.delivered.is_some());
        let attachments = turn.prompt.attachments.len();
        if history || attachments > 0 {
            worker.fetching = Some(prompt);
            let session = id.clone();
            self.fetcher.ask(Wanted { session, incarnation, prompt, history, attachments }, now);
            return None;
        }
        let text = turn.prompt.text.to_string();
        worker.hand_over(id, prompt, text, Found::default())
    }

    /// Starts the reads that had to wait.
    pub fn fetch(&mut self, now: u64) {
        self.fetcher.begin(now);
    }

    /// Sends a prompt whose attachments and history were read, if its worker still waits for it.
    pub fn fetched(&mut self, fetched: Fetched, session: Option<&Session>, now: u64) -> Vec<Sighting> {
        self.fetcher.answered(now);
        let Fetched { wanted: Wanted { session: id, incarnation, prompt, .. }, found } = fetched;
        let Some(worker) = self.get(&id, incarnation).filter(|worker| worker.fetching == Some(prompt)) else {
            return Vec::new();
        };
        worker.fetching = None;
        let running = session.and_then(|session| session.turns.running.as_ref());
        let Some(turn) = running.filter(|turn| turn.prompt.id == prompt) else { return Vec::new() };
        match found {
            Ok(found) => {
                let fault = worker.hand_over(&id, prompt, turn.prompt.text.to_string(), found);
                // From now on it is the worker that is waited for.
                let handed = (id, incarnation, Seen::Handed(prompt));
                vec![fault.unwrap_or(handed)]
            }
            Err(why) => vec![(id, incarnation, Seen::Faulted(why))],
        }
    }
}

impl Worker {
    /// Sends a prompt with its attachments and history.
    fn hand_over(
        &mut self,
        id: &SessionId,
        prompt: PromptId,
        text: String,
        found: Found,
    ) -> Option<Sighting> {
        self.delivered = Some(prompt);
        self.answered.clear();
        self.called.clear();
        let Found { history, attachments } = found;
        let command = match attachments.is_empty() {
            true => Command::Prompt { prompt, text, history },
            false => Command::PromptWith { prompt, text, history, attachments },
        };
        self.send(id, command)
    }
}
