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
use crate::cli::acp::content::Content;
use crate::cli::acp::refused::Refused;
use crate::cli::acp::story::End;
use crate::cli::acp::{Busy, Editor};
use crate::cli::link::read;
use crate::cli::ui::error::{Failure, Outcome};
use crate::client::Request;

/// The number of attempts to cancel a prompt that starts to run meanwhile.
const TRIES: usize = 3;
/// So long a prompt waits for its editor to be attached, and is sent then.
const ATTACHES: Duration = Duration::from_secs(2);
/// So long a cancellation waits for prompts that are on their way.
const POSTED: Duration = Duration::from_secs(2);

impl<'a> Panel<'a> {
    /// Sends a prompt, and gives its stop reason once it has ended.
    pub async fn prompt(
        self: Rc<Self>,
        editor: &Editor<'a>,
        content: Content,
        withdrawn: RequestCancellation,
        busy: Busy,
    ) -> Result<Value, Refused> {
        let before = self.cancels.get();
        if !editor.offers.borrow().is_empty() {
            // Else its turn begins without what the editor can do: the agent would read files as they are on disk.
            let _ = tokio::time::timeout(ATTACHES, self.is_attached()).await;
        }
        self.posting.set(self.posting.get() + 1);
        let accepted = {
            // Each has a connection of its own: the daemon would take them in any order.
            let _in_order = self.in_order.lock().await;
            self.post(content).await
        };
        // Unless the editor has opened the session anew meanwhile.
        let panel = editor.panel(&self.id).unwrap_or_else(|| self.clone());
        let waiting = accepted.map(|prompt| {
            let (end, ended) = oneshot::channel();
            let cancelled = self.cancels.get() > before || panel.cancels.get() > before;
            panel.state.borrow_mut().ours.insert(prompt, Ours { cancelled, end });
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
            Ok(End::Stop(reason)) => Ok(json!({ "stopReason": reason })),
            Ok(End::Error(why)) => Err(Refused::internal(why)),
            Err(_) => Err(Refused::internal("the session was closed".to_owned())),
        }
    }

    pub(super) async fn post(&self, content: Content) -> Outcome<PromptId> {
        let Content { text, attachments, inline } = content;
        let prompt = PromptRequest { text, when_busy: Default::default(), attachments };
        match (self.accepted(&prompt).await, inline) {
            (Err(Failure::Problem(problem, _)), Some(text)) if problem.code == "no_attachments" => {
                self.accepted(&PromptRequest { text, attachments: Vec::new(), ..prompt }).await
            }
            (other, _) => other,
        }
    }

    pub(super) async fn accepted(&self, prompt: &PromptRequest) -> Outcome<PromptId> {
        let key = crate::cli::link::random_key()?;
        let request = Request::post(format!("/v1/sessions/{}/prompts", self.id)).key(&key).json(prompt);
        Ok(read::<Accepted>(&self.link.ask(request).await?)?.prompt_id)
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

    /// Resolves when the editor is attached to the session.
    pub(super) async fn is_attached(&self) {
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
                // It has ended by itself.
                Err(failure) if failure.is("no_turn") || failure.is("no_such_prompt") => return,
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
            self.link.ask(request).await?;
        }
        Ok(())
    }
}
