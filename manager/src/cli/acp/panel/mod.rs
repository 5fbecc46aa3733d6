//! A session as one editor sees it: its events are followed, its prompts answered, its questions asked.

mod events;
mod prompts;
mod questions;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use agent_client_protocol::RequestCancellationHandle;
use protocol::wire::Offer;
use protocol::{CallId, EventId, PermissionId, PromptId, SessionId};
use serde_json::{Map, Value};
use tokio::sync::{Mutex, Notify, oneshot};
use tokio::time::Instant;

use crate::cli::acp::Editor;
use crate::cli::acp::story::{End, Shown, Story};
use crate::cli::acp::wire::Wire;
use crate::cli::link::Link;
use crate::cli::ui::error::Outcome;
use crate::client::ClientError;

/// The longest time for which an editor waits for a session that went down in a turn.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session that the editor has open.
pub struct Panel<'a> {
    id: SessionId,
    pub(super) link: &'a Link<'a>,
    pub(super) wire: Wire,
    state: RefCell<State>,
    /// Prompts on their way to the daemon: what happens meanwhile may be about them.
    posting: Rc<Cell<usize>>,
    /// Held while one is on its way: the next waits behind it.
    in_order: Rc<Mutex<()>>,
    /// Counts the editor's cancels.
    cancels: Cell<u64>,
    /// The editor has opened the session anew; this view of it is over.
    retired: Cell<bool>,
    changed: Notify,
    /// Notes that the editor receives first.
    remarks: RefCell<Vec<String>>,
    /// Notes from before it was opened.
    earlier_notes: RefCell<Vec<String>>,
    /// Under this id it is attached, if it is.
    pub(super) attached: Cell<EventId>,
    /// It was attached.
    pub(super) came: Notify,
    /// It should attach anew.
    pub(super) again: Cell<bool>,
    /// Under this id it drives.
    pub(super) client: Cell<Option<EventId>>,
    /// Requests to the editor that wait for its answer, by the agent's call.
    pub(super) calling: RefCell<BTreeMap<CallId, RequestCancellationHandle>>,
}

#[derive(Default)]
struct State {
    /// The last event that was read.
    cursor: EventId,
    story: Story,
    /// Prompts that the editor waits for.
    ours: BTreeMap<PromptId, Ours>,
    /// Prompts that had not ended when the editor opened the session.
    followed: BTreeSet<PromptId>,
    /// Prompts of others whose turns are shown while they run. The editor neither ends them nor is asked their questions.
    watched: BTreeSet<PromptId>,
    /// Questions that the editor was asked.
    asked: BTreeMap<PermissionId, RequestCancellationHandle>,
    /// The time at which the editor stops waiting for a session that is down.
    until: Option<Instant>,
}

impl State {
    /// Returns true if the editor sees the turn of this prompt as it runs.
    fn is_shown(&self, prompt: PromptId) -> bool {
        self.ours.contains_key(&prompt) || self.followed.contains(&prompt) || self.watched.contains(&prompt)
    }
}

struct Ours {
    cancelled: bool,
    end: oneshot::Sender<End>,
}

impl<'a> Panel<'a> {
    /// Opens a session and reads what has happened so far; shows it to the editor if that is wanted.
    /// `old` is the view of it that the editor has had until now, and that is [retired](Self::retire).
    pub async fn open(editor: &Editor<'a>, id: SessionId, show: bool, old: Option<&Self>) -> Outcome<Self> {
        let panel = Self {
            id,
            link: editor.link,
            wire: editor.wire.clone(),
            state: RefCell::default(),
            posting: old.map(|old| old.posting.clone()).unwrap_or_default(),
            in_order: old.map(|old| old.in_order.clone()).unwrap_or_default(),
            cancels: Cell::new(0),
            retired: Cell::new(false),
            changed: Notify::new(),
            remarks: RefCell::default(),
            earlier_notes: RefCell::default(),
            attached: Cell::new(0),
            came: Notify::new(),
            again: Cell::new(false),
            client: Cell::new(None),
            calling: RefCell::default(),
        };
        'again: loop {
            let after = panel.state.borrow().cursor;
            let path = format!("/v1/sessions/{}/events?after={after}&follow=false", panel.id);
            let mut events = panel.link.events(&path).await?;
            loop {
                match events.next().await {
                    Ok(Some(frame)) => {
                        let (_, all) = panel.read(&frame)?;
                        for shown in all {
                            if show {
                                panel.wire.room().await;
                                panel.replay(shown);
                            } else if let Shown::Note(text) = shown {
                                panel.earlier_notes.borrow_mut().push(text);
                            }
                        }
                    }
                    Ok(None) => break 'again,
                    // A daemon that dies sends no end of the stream. The next daemon goes on at the cursor.
                    Err(ClientError::Lost(_)) => continue 'again,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut state = panel.state.borrow_mut();
        state.followed = state.story.open();
        state.until = state.story.is_down().then(|| Instant::now() + PATIENCE);
        drop(state);
        if let Some(old) = old {
            panel.replace(old);
        }
        Ok(panel)
    }

    /// Notes from before it was opened that the editor was not shown.
    pub(super) fn earlier_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.earlier_notes.borrow_mut())
    }

    /// Keeps notes that the editor receives once the session is open.
    pub(super) fn remark(&self, remarks: Vec<String>) {
        *self.remarks.borrow_mut() = remarks;
    }

    /// The session.
    pub(super) fn id(&self) -> &SessionId {
        &self.id
    }

    /// Returns the id of the last event that was read.
    pub(super) fn cursor(&self) -> EventId {
        self.state.borrow().cursor
    }

    /// Returns true if this view of the session is over.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// Returns the calls that no client has answered yet.
    pub(super) fn open_calls(&self) -> Vec<CallId> {
        self.state.borrow().story.calls().keys().copied().collect()
    }

    /// A call that waits, if it is this client's to answer: a question to the user is whichever client's drives.
    pub(super) fn asked_of(&self, client: EventId, id: CallId) -> Option<(String, Value)> {
        let state = self.state.borrow();
        let call = state.story.calls().get(&id)?;
        let ours = call.client == Some(client) || Offer::of(&call.method) == Some(Offer::Elicitation);
        (ours && call.params.is_object()).then(|| (call.method.clone(), call.params.clone()))
    }

    /// Returns the modes and options that the agent has reported.
    pub fn settings(&self) -> Map<String, Value> {
        self.state.borrow().story.settings().clone()
    }

    /// The editor opens the session anew: nothing more is shown from here.
    pub fn retire(&self) {
        self.retired.set(true);
        self.changed.notify_one();
    }

    /// The editor is done with it: its own prompts end and are answered, and what it was asked is withdrawn. Gives these prompts.
    pub async fn close(&self) -> BTreeSet<PromptId> {
        let ours: BTreeSet<PromptId> = self.state.borrow().ours.keys().copied().collect();
        for prompt in &ours {
            self.cancel(Some(*prompt)).await;
        }
        let mut state = self.state.borrow_mut();
        std::mem::take(&mut state.asked).values().for_each(cancel);
        std::mem::take(&mut *self.calling.borrow_mut()).values().for_each(cancel);
        for ours in std::mem::take(&mut state.ours).into_values() {
            // Without a receiver the editor needs no answer any more.
            let _ = ours.end.send(End::Stop("cancelled"));
        }
        drop(state);
        self.retire();
        ours
    }

    /// Takes the place of another.
    fn replace(&self, old: &Self) {
        let mut left = old.state.borrow_mut();
        // The new view repeats every request that the editor has not answered.
        std::mem::take(&mut left.asked).values().for_each(cancel);
        std::mem::take(&mut *old.calling.borrow_mut()).values().for_each(cancel);
        let mut state = self.state.borrow_mut();
        let open = state.story.open();
        for (prompt, ours) in std::mem::take(&mut left.ours) {
            // A prompt's number is that of the event with which it began.
            if open.contains(&prompt) || prompt.0 > state.cursor {
                state.ours.insert(prompt, ours);
            } else {
                // It ended while the session was opened anew. Who does not wait any more needs no answer.
                let _ = ours.end.send(End::Stop(if ours.cancelled { "cancelled" } else { "end_turn" }));
            }
        }
    }

    /// The editor has gone, and its prompts go on.
    pub fn leave(&self) {
        let id = &self.id;
        self.give_up(&format!(
            "the editor has gone and the turn goes on: `kennel events -f {id}` follows it"
        ));
    }

    /// Lets the editor wait no longer.
    fn give_up(&self, why: &str) {
        let ours = std::mem::take(&mut self.state.borrow_mut().ours);
        for ours in ours.into_values() {
            // Without a receiver the editor needs no answer any more.
            let _ = ours.end.send(End::Error(why.to_owned()));
        }
    }
}

/// Withdraws a request. If that fails, the answer is ignored.
pub(super) fn cancel(handle: &RequestCancellationHandle) {
    let _ = handle.cancel();
}
