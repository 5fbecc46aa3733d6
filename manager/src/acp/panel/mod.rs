//! A session as one editor sees it: its events are followed, its prompts answered, its questions asked.

mod events;
mod prompts;
mod questions;
mod told;

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

use self::told::Told;

use crate::acp::Editor;
use crate::acp::marks::{Cursor, Mark, Wishes};
use crate::acp::reach::Outcome;
use crate::acp::reach::Reach;
use crate::acp::story::{End, Shown, Story};
use crate::acp::wire::Wire;
use crate::client::{ClientError, Request};

/// The longest time for which an editor waits for a session that went down in a turn.
const PATIENCE: Duration = Duration::from_secs(60);

/// The note to an editor that goes on after a cursor whose next events are gone.
const GAP: &str = "some of what happened meanwhile was pruned and cannot be shown";

/// A session that the editor has open.
pub struct Panel<'a> {
    id: SessionId,
    pub(super) link: &'a dyn Reach,
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
    /// Wakes whoever waits for the attachment.
    pub(super) came: Notify,
    /// The panel should attach anew.
    pub(super) again: Cell<bool>,
    /// Under this id it drives.
    pub(super) client: Cell<Option<EventId>>,
    /// Requests to the editor that wait for its answer, by the agent's call.
    pub(super) calling: RefCell<BTreeMap<CallId, RequestCancellationHandle>>,
    /// The editor's changes are made in the name of its seat.
    pub(super) seated: bool,
    /// The editor is to drive, in the place of another client.
    pub(super) takeover: Cell<bool>,
    /// The editor goes on after a cursor, or has a seat: it is told of each prompt that ends.
    tells_ends: bool,
}

/// The part of the past that an editor is shown when it opens a session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Show {
    /// Nothing.
    Nothing,
    /// Everything.
    All,
    /// Everything after this place.
    After(Cursor),
}

impl Show {
    /// As the editor wishes, else `or`.
    pub fn of(wishes: Wishes, or: Self) -> Self {
        wishes.after.map_or(or, Self::After)
    }

    /// Returns true if this part of an event is shown.
    fn has(self, event: Option<EventId>, part: usize) -> bool {
        match (self, event) {
            (Self::Nothing, _) => false,
            (Self::All, _) | (Self::After(_), None) => true,
            (Self::After(cursor), Some(event)) => cursor.precedes(event, part),
        }
    }
}

#[derive(Default)]
struct State {
    /// The last event that was read.
    cursor: EventId,
    /// Ends of the last prompts.
    ends: BTreeMap<PromptId, End>,
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

/// The most ends of prompts that are kept, for those who ask again.
const ENDS: usize = 256;

struct Ours {
    cancelled: bool,
    /// Those that wait: a prompt may be sent again under its key.
    ends: Vec<oneshot::Sender<End>>,
}

impl Ours {
    /// Tells how it has ended. Without a receiver the editor needs no answer any more.
    fn finish(self, end: &End) {
        self.ends.into_iter().for_each(|waits| drop(waits.send(end.clone())));
    }
}

impl State {
    /// Keeps the end of a prompt.
    fn ended(&mut self, prompt: PromptId, end: &End) {
        self.ends.insert(prompt, end.clone());
        while self.ends.len() > ENDS {
            self.ends.pop_first();
        }
    }

    /// The end of a prompt; none if it has not ended.
    fn end_of(&self, prompt: PromptId) -> Option<End> {
        // A prompt's number is that of the event with which it began.
        let is_past = prompt.0 <= self.cursor && !self.story.open().contains(&prompt);
        let unknown = || is_past.then_some(End::Stop("end_turn"));
        self.ends.get(&prompt).cloned().or_else(unknown)
    }
}

impl<'a> Panel<'a> {
    /// Opens a session and reads what has happened so far; shows it to the editor if that is wanted.
    /// `old` is the view of it that the editor has had until now, and that is [retired](Self::retire).
    pub async fn open(
        editor: &Editor<'a>,
        id: SessionId,
        show: Show,
        wishes: Wishes,
        old: Option<&Self>,
    ) -> Outcome<Self> {
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
            seated: editor.terms.seat.is_some(),
            // The view that this one follows may seem to drive for a moment longer.
            takeover: Cell::new(
                wishes.takeover || old.is_some_and(|old| old.seated && old.client.get().is_some()),
            ),
            tells_ends: editor.terms.seat.is_some() || matches!(show, Show::After(_)),
        };
        panel.read_past(show).await?;
        let mut state = panel.state.borrow_mut();
        state.followed = state.story.open();
        state.until = state.story.is_down().then(|| Instant::now() + PATIENCE);
        drop(state);
        if let Some(old) = old {
            panel.replace(old);
        }
        Ok(panel)
    }

    /// Reads what has happened so far, and shows of it what is to be shown.
    async fn read_past(&self, show: Show) -> Outcome {
        let panel = self;
        'again: loop {
            let after = panel.state.borrow().cursor;
            let path = format!("/v1/sessions/{}/events?after={after}&follow=false", panel.id);
            let mut events = panel.link.events(Request::get(path)).await?;
            loop {
                match events.next().await {
                    Ok(Some(frame)) => {
                        let told = panel.read(&frame).map_err(|error| panel.link.failure(error))?;
                        if let (Show::After(cursor), Some(first)) = (show, told.first_available)
                            && cursor.event() + 1 < first
                        {
                            panel.replay(Shown::Note(GAP.to_owned()), Mark::default());
                        }
                        panel.show_past(show, told).await;
                    }
                    Ok(None) => break 'again Ok(()),
                    // A daemon that dies sends no end of the stream. The next daemon goes on at the cursor.
                    Err(ClientError::Lost(_)) => continue 'again,
                    Err(error) => return Err(panel.link.failure(error)),
                }
            }
        }
    }

    async fn show_past(&self, show: Show, told: Told) {
        for (part, (shown, mark)) in told.parts().into_iter().enumerate() {
            if let Shown::Ended(prompt, end) = &shown {
                self.state.borrow_mut().ended(*prompt, end);
            }
            if show.has(mark.cursor.map(Cursor::event), part) {
                self.wire.room().await;
                self.replay(shown, mark);
            } else if let Shown::Note(text) = shown {
                self.earlier_notes.borrow_mut().push(text);
            }
        }
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
        self.withdraw();
        let mut state = self.state.borrow_mut();
        for ours in std::mem::take(&mut state.ours).into_values() {
            ours.finish(&End::Stop("cancelled"));
        }
        drop(state);
        self.retire();
        ours
    }

    /// Withdraws what the editor was asked and has not answered.
    pub(super) fn withdraw(&self) {
        std::mem::take(&mut self.state.borrow_mut().asked).values().for_each(cancel);
        std::mem::take(&mut *self.calling.borrow_mut()).values().for_each(cancel);
    }

    /// The client in whose name the editor changes the session; none without seats.
    pub(super) fn speaks_as(&self) -> Option<EventId> {
        self.seated.then(|| self.attached.get())
    }

    /// Returns the permissions that no client has answered yet, and that the editor is not being asked.
    pub(super) fn open_questions(&self) -> Vec<PermissionId> {
        let state = self.state.borrow();
        let all = state.story.questions().keys().copied();
        all.filter(|question| !state.asked.contains_key(question)).collect()
    }

    /// Takes the place of another.
    fn replace(&self, old: &Self) {
        // The new view repeats every request that the editor has not answered.
        old.withdraw();
        let mut left = old.state.borrow_mut();
        let mut state = self.state.borrow_mut();
        let open = state.story.open();
        for (prompt, ours) in std::mem::take(&mut left.ours) {
            // A prompt's number is that of the event with which it began.
            if open.contains(&prompt) || prompt.0 > state.cursor {
                state.ours.insert(prompt, ours);
            } else {
                // It ended while the session was opened anew. Who does not wait any more needs no answer.
                let end = End::Stop(if ours.cancelled { "cancelled" } else { "end_turn" });
                ours.finish(&end);
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
            ours.finish(&End::Error(why.to_owned()));
        }
    }
}

/// Withdraws a request. If that fails, the answer is ignored.
pub(super) fn cancel(handle: &RequestCancellationHandle) {
    let _ = handle.cancel();
}
