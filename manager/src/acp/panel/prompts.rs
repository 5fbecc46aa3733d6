//! Prompts of the editor: sent, waited for, cancelled.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use agent_client_protocol::RequestCancellation;
use protocol::PromptId;
use protocol::api::{Accepted, PromptRequest, PromptState, QueuedPrompt};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Ours, Panel};
use crate::acp::content::Content;
use crate::acp::marks::PROMPT;
use crate::acp::reach::Outcome;
use crate::acp::refused::Refused;
use crate::acp::story::End;
use crate::acp::{Busy, Editor};
use crate::client::Request;

/// The number of attempts to cancel a prompt that starts to run meanwhile.
const TRIES: usize = 3;
/// So long a prompt waits for its editor to be attached, and is sent then.
const ATTACHES: Duration = Duration::from_secs(2);
/// So long a change waits for the seat in whose name it is done, and is refused then.
const SEATED: Duration = Duration::from_secs(20);
/// So long a cancellation waits for prompts that are on their way.
const POSTED: Duration = Duration::from_secs(2);

impl<'a> Panel<'a> {
    /// Sends a prompt, and gives its stop reason once it has ended.
    pub async fn prompt(
        self: Rc<Self>,
        editor: &Editor<'a>,
        content: Content,
        key: Option<String>,
        withdrawn: RequestCancellation,
        busy: Busy,
    ) -> Result<Value, Refused> {
        let before = self.cancels.get();
        if self.seated || !editor.offers.borrow().is_empty() {
            // Else its turn begins without what the editor can do: the agent would read files as they are on disk.
            self.comes().await;
        }
        self.posting.set(self.posting.get() + 1);
        let accepted = {
            // Each has a connection of its own: the daemon would take them in any order.
            let _in_order = self.in_order.lock().await;
            self.post(content, key).await
        };
        // Unless the editor has opened the session anew meanwhile.
        let panel = editor.panel(&self.id).unwrap_or_else(|| self.clone());
        let waiting = accepted.map(|prompt| {
            let (end, ended) = oneshot::channel();
            let cancelled = self.cancels.get() > before || panel.cancels.get() > before;
            panel.waits(prompt, cancelled, end);
            (prompt, ended, cancelled)
        });
        self.posting.set(self.posting.get() - 1);
        self.changed.notify_one();
        panel.changed.notify_one();
        let (prompt, mut ended, cancelled) = waiting?;
        if cancelled {
            panel.end([prompt].into()).await;
        }
        drop(busy);
        let end = tokio::select! {
            end = &mut ended => end,
            () = withdrawn.cancelled() => {
                panel.cancel(Some(prompt)).await;
                ended.await
            }
        };
        match end {
            Ok(End::Stop(reason)) => Ok(json!({ "stopReason": reason, "_meta": { PROMPT: prompt } })),
            Ok(End::Error(why)) => Err(Refused::internal(why)),
            Err(_) => Err(Refused::internal("the session was closed".to_owned())),
        }
    }

    /// A request waits for the end of a prompt, which may have come already: the prompt was sent again under its key.
    fn waits(&self, prompt: PromptId, cancelled: bool, end: oneshot::Sender<End>) {
        let mut state = self.state.borrow_mut();
        if let Some(found) = state.end_of(prompt) {
            // Without a receiver the editor needs no answer any more.
            return drop(end.send(found));
        }
        let ours = state.ours.entry(prompt).or_insert_with(|| Ours { cancelled, ends: Vec::new() });
        ours.cancelled |= cancelled;
        ours.ends.push(end);
    }

    pub(super) async fn post(&self, content: Content, key: Option<String>) -> Outcome<PromptId> {
        let key = key.map_or_else(crate::acp::reach::random_key, Ok)?;
        let Content { text, attachments, inline } = content;
        let prompt = PromptRequest { text, when_busy: Default::default(), attachments };
        match (self.accepted(&prompt, &key).await, inline) {
            (Err(failure), Some(text)) if failure.is("no_attachments") => {
                self.accepted(&PromptRequest { text, attachments: Vec::new(), ..prompt }, &key).await
            }
            (other, _) => other,
        }
    }

    async fn accepted(&self, prompt: &PromptRequest, key: &str) -> Outcome<PromptId> {
        let request = Request::post(format!("/v1/sessions/{}/prompts", self.id)).key(key).json(prompt);
        let answer = self.link.ask(request.from_client(self.speaks_as())).await?;
        Ok(self.link.read::<Accepted>(&answer)?.prompt_id)
    }

    /// The editor wants its prompts to end, or one of them.
    pub async fn cancel(&self, only: Option<PromptId>) {
        if only.is_none() {
            self.cancels.set(self.cancels.get() + 1);
            self.state.borrow_mut().ours.values_mut().for_each(|ours| ours.cancelled = true);
            // A prompt on its way is queued behind the running turn. If that turn ended first, the daemon
            // would run the prompt at once.
            let _ = tokio::time::timeout(POSTED, self.in_order.lock()).await;
        }
        let mut prompts = BTreeSet::new();
        {
            let mut state = self.state.borrow_mut();
            for (prompt, ours) in &mut state.ours {
                if only.is_none_or(|only| only == *prompt) {
                    ours.cancelled = true;
                    prompts.insert(*prompt);
                }
            }
            if only.is_none() {
                prompts.extend(&state.followed);
            }
        }
        self.end(prompts).await;
    }

    /// Waits, not for ever, until the editor is attached.
    pub(in crate::acp) async fn comes(&self) {
        let within = if self.seated { SEATED } else { ATTACHES };
        let _ = tokio::time::timeout(within, self.is_attached()).await;
    }

    /// Resolves when the editor is attached to the session.
    async fn is_attached(&self) {
        loop {
            let came = self.came.notified();
            if self.attached.get() != 0 || self.retired.get() {
                return;
            }
            came.await;
        }
    }

    /// Takes prompts out of the queue, and aborts the turn of the one that runs.
    pub(super) async fn end(&self, prompts: BTreeSet<PromptId>) {
        for _ in 0..TRIES {
            match self.try_end(&prompts).await {
                Err(failure) if failure.is("not_queued") || failure.is("prompt_queued") => {}
                Err(failure) => return self.complain("cannot cancel", &failure),
                Ok(()) => return,
            }
        }
    }

    pub(super) async fn try_end(&self, prompts: &BTreeSet<PromptId>) -> Outcome {
        let id = &self.id;
        let path = format!("/v1/sessions/{id}/queue");
        let mut queue: Vec<QueuedPrompt> = self.link.get(Request::get(&path)).await?;
        queue.retain(|queued| prompts.contains(&queued.prompt_id));
        // Those that wait first, or the end of the one that runs is the beginning of the next.
        queue.sort_by_key(|queued| queued.state != PromptState::Queued);
        for queued in queue {
            let request = match queued.state {
                PromptState::Queued => Request::delete(format!("{path}/{}", queued.prompt_id)),
                PromptState::Running => {
                    Request::post(format!("/v1/sessions/{id}/abort?prompt={}", queued.prompt_id))
                }
                PromptState::Interrupted => continue,
            };
            match self.link.ask(request.from_client(self.speaks_as())).await {
                // It has ended by itself, or another request has ended it. The others have not.
                Err(failure) if failure.is("no_turn") || failure.is("no_such_prompt") => {}
                answer => drop(answer?),
            }
        }
        Ok(())
    }
}
