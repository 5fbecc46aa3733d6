//! A session as one editor sees it: its events are followed, its prompts answered, its questions asked.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use agent_client_protocol::{RequestCancellation, RequestCancellationHandle};
use protocol::api::{
    Accepted, AnswerRequest, PermissionAnswer, PermissionInfo, PromptRequest, PromptState, QueuedPrompt,
};
use protocol::event::Event;
use protocol::wire::Offer;
use protocol::{CallId, EventId, PermissionId, PromptId, SessionId};
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::story::{self, End, Said, Shown, Story};
use super::wire::Wire;
use super::{Busy, Editor, Refused};
use crate::cli::link::{Link, read};
use crate::cli::ui::error::{Failure, Outcome};
use crate::client::sse::Frame;
use crate::client::{ClientError, Request};

/// How long an editor is kept waiting for a session that went down in a turn.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is tried to cancel a prompt that goes from waiting to running meanwhile.
const TRIES: usize = 3;
/// So long a prompt waits for its editor to be attached, and is sent then.
const ATTACHES: Duration = Duration::from_secs(2);
/// So long a cancellation waits for prompts that are on their way.
const POSTED: Duration = Duration::from_secs(2);

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
    /// One of them was answered for.
    posted: Rc<Notify>,
    /// Counts the editor's cancels.
    cancels: Cell<u64>,
    /// The editor has opened the session anew; this view of it is over.
    retired: Cell<bool>,
    changed: Notify,
    /// What the editor is told first.
    remarks: RefCell<Vec<String>>,
    /// Notes from before it was opened.
    told_before: RefCell<Vec<String>>,
    /// Under this id it is attached, if it is.
    pub(super) attached: Cell<EventId>,
    /// It was attached.
    pub(super) came: Notify,
    /// It should attach anew.
    pub(super) again: Cell<bool>,
    /// Under this id it drives.
    pub(super) client: Cell<Option<EventId>>,
    /// What the editor was asked to do for the agent.
    pub(super) calling: RefCell<BTreeMap<CallId, RequestCancellationHandle>>,
}

#[derive(Default)]
struct State {
    /// The last event that was heard.
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
    /// When nobody is kept waiting any longer for a session that is down.
    until: Option<Instant>,
}

impl State {
    /// Whether the turn of this prompt is shown as it runs.
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
            posted: old.map(|old| old.posted.clone()).unwrap_or_default(),
            cancels: Cell::new(0),
            retired: Cell::new(false),
            changed: Notify::new(),
            remarks: RefCell::default(),
            told_before: RefCell::default(),
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
                                panel.told_before.borrow_mut().push(text);
                            }
                        }
                    }
                    Ok(None) => break 'again,
                    // A daemon that dies says nothing; the next goes on where it was.
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
    pub(super) fn told_before(&self) -> Vec<String> {
        std::mem::take(&mut *self.told_before.borrow_mut())
    }

    /// The editor is told this once the session is open.
    pub(super) fn remark(&self, remarks: Vec<String>) {
        *self.remarks.borrow_mut() = remarks;
    }

    /// The session.
    pub(super) fn id(&self) -> &SessionId {
        &self.id
    }

    /// The last event that was heard.
    pub(super) fn cursor(&self) -> EventId {
        self.state.borrow().cursor
    }

    /// Whether this view of the session is over.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// What clients are to do, and have not answered.
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

    /// What the agent has told of its modes and options.
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
            // Who does not wait any more needs no answer.
            let _ = ours.end.send(End::Stop("cancelled"));
        }
        drop(state);
        self.retire();
        ours
    }

    /// Takes the place of another.
    fn replace(&self, old: &Self) {
        let mut left = old.state.borrow_mut();
        // Whatever the editor is still asked is asked again from here.
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
            // Who does not wait any more needs no answer.
            let _ = ours.end.send(End::Error(why.to_owned()));
        }
    }

    // --- prompts ---

    /// Sends a prompt, and gives its stop reason once it has ended.
    pub async fn prompt(
        self: Rc<Self>,
        editor: &Editor<'a>,
        said: Said,
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
            self.post(said).await
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
        self.posted.notify_waiters();
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

    async fn post(&self, said: Said) -> Outcome<PromptId> {
        let Said { text, attachments, inline } = said;
        let prompt = PromptRequest { text, when_busy: Default::default(), attachments };
        match (self.accepted(&prompt).await, inline) {
            (Err(Failure::Problem(problem, _)), Some(text)) if problem.code == "no_attachments" => {
                self.accepted(&PromptRequest { text, attachments: Vec::new(), ..prompt }).await
            }
            (other, _) => other,
        }
    }

    async fn accepted(&self, prompt: &PromptRequest) -> Outcome<PromptId> {
        let key = crate::cli::link::random_key()?;
        let request = Request::post(format!("/v1/sessions/{}/prompts", self.id)).key(&key).json(prompt);
        Ok(read::<Accepted>(&self.link.ask(request).await?)?.prompt_id)
    }

    /// The editor wants its prompts to end, or one of them.
    pub async fn cancel(&self, only: Option<PromptId>) {
        if only.is_none() {
            self.cancels.set(self.cancels.get() + 1);
            self.state.borrow_mut().ours.values_mut().for_each(|ours| ours.cancelled = true);
            // What is on its way waits behind the turn that runs, and would be run at once if that ended first.
            let _ = tokio::time::timeout(POSTED, self.all_posted()).await;
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
    async fn is_attached(&self) {
        loop {
            let came = self.came.notified();
            if self.attached.get() != 0 || self.retired.get() {
                return;
            }
            came.await;
        }
    }

    /// Resolves when the daemon has answered for each prompt that was sent to it.
    async fn all_posted(&self) {
        loop {
            let posted = self.posted.notified();
            if self.posting.get() == 0 {
                return;
            }
            posted.await;
        }
    }

    /// Takes prompts out of the queue, and aborts the turn of the one that runs.
    async fn end(&self, prompts: BTreeSet<PromptId>) {
        for _ in 0..TRIES {
            match self.try_end(&prompts).await {
                Err(failure) if failure.is("not_queued") => {}
                // It has ended by itself.
                Err(failure) if failure.is("no_turn") || failure.is("no_such_prompt") => return,
                Err(failure) => return self.complain("cannot cancel", &failure),
                Ok(()) => return,
            }
        }
    }

    async fn try_end(&self, prompts: &BTreeSet<PromptId>) -> Outcome {
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

    // --- events ---

    /// Shows what happens until the session is gone or opened anew.
    pub async fn follow(self: Rc<Self>, editor: Rc<Editor<'a>>) {
        let questions: Vec<PermissionId> = self.state.borrow().story.questions().keys().copied().collect();
        for remark in std::mem::take(&mut *self.remarks.borrow_mut()) {
            self.wire.update(&self.id, story::quoted(&remark));
        }
        questions.into_iter().for_each(|permission| self.clone().question(&editor, permission));
        while !self.retired.get() {
            let failure = match self.come(&editor).await {
                Err(failure) => failure,
                Ok(mut events) => match self.listen(&editor, &mut events).await {
                    Ok(true) => return,
                    Ok(false) if self.again.take() => continue,
                    Ok(false) if self.link.comes_back().await => continue,
                    Ok(false) => {
                        Failure::unreachable("the daemon was stopped; what waits, waits for its next start")
                    }
                    Err(ClientError::Lost(_)) => continue,
                    Err(error) => error.into(),
                },
            };
            // Nobody is kept waiting for it. With the editor's next prompt it is tried again.
            self.complain("cannot follow the session", &failure);
            self.give_up(&crate::cli::ui::error::words(&failure));
            self.changed.notified().await;
        }
    }

    /// Whether this view of the session is over; not if only the stream has ended.
    async fn listen(
        self: &Rc<Self>,
        editor: &Rc<Editor<'a>>,
        events: &mut crate::client::Events,
    ) -> Result<bool, ClientError> {
        loop {
            let until = self.state.borrow().until;
            let next = tokio::select! {
                next = events.next() => next,
                () = self.changed.notified() => {
                    if self.retired.get() {
                        return Ok(true);
                    }
                    continue;
                }
                () = patience(until) => {
                    let all = self.state.borrow_mut().story.impatient();
                    self.state.borrow_mut().until = None;
                    all.into_iter().for_each(|shown| { self.show(editor, None, shown); });
                    continue;
                }
            };
            let Some(frame) = next? else { return Ok(false) };
            // It may be about a prompt whose number is still on its way here.
            while self.posting.get() > 0 {
                self.changed.notified().await;
            }
            if self.retired.get() {
                return Ok(true);
            }
            if frame.event == "attached" {
                self.attached(editor, &frame.data);
                continue;
            }
            self.wire.room().await;
            let (prompt, all) = self.read(&frame)?;
            for shown in all {
                if self.show(editor, prompt, shown) {
                    return Ok(true);
                }
            }
            if self.again.get() {
                return Ok(false);
            }
            let mut state = self.state.borrow_mut();
            let down = state.story.is_down();
            state.until = if down { state.until.or(Some(Instant::now() + PATIENCE)) } else { None };
        }
    }

    /// Takes an event into the story.
    fn read(&self, frame: &Frame) -> Result<(Option<PromptId>, Vec<Shown>), ClientError> {
        if frame.event == "problem" {
            let problem = serde_json::from_str(&frame.data);
            return Err(match problem {
                Ok(problem) => ClientError::Problem(Box::new(problem)),
                Err(error) => ClientError::Garbage(error.to_string()),
            });
        }
        let mut state = self.state.borrow_mut();
        state.cursor = frame.id.unwrap_or(state.cursor);
        // An event of a later version's kind is not for this one.
        let Ok(event) = serde_json::from_str::<Event>(&frame.data) else {
            return Ok((None, Vec::new()));
        };
        Ok((story::prompt_of(&event.kind), state.story.tell(&event.kind)))
    }

    /// Shows something that has been.
    fn replay(&self, shown: Shown) {
        match shown {
            Shown::Update(_, update) => self.wire.update(&self.id, update),
            Shown::User(_, text) => self.wire.update(&self.id, story::user(&text)),
            Shown::Note(text) => self.wire.update(&self.id, story::quoted(&text)),
            // Questions that still wait are asked when all is shown.
            Shown::Ask(_) | Shown::Settled(_) | Shown::Call(_) | Shown::CallSettled(_) => {}
            Shown::Driver(_) | Shown::Ended(..) | Shown::Gone => {}
        }
    }

    /// Shows something that happens. Whether it is the last.
    fn show(self: &Rc<Self>, editor: &Rc<Editor<'a>>, about: Option<PromptId>, shown: Shown) -> bool {
        match shown {
            Shown::Update(_, update) => self.wire.update(&self.id, update),
            Shown::User(prompt, _) if self.state.borrow().ours.contains_key(&prompt) => {}
            // Somebody else's, who may sit in another editor.
            Shown::User(prompt, text) => {
                self.state.borrow_mut().watched.insert(prompt);
                self.wire.update(&self.id, story::user(&text));
            }
            Shown::Note(text) => {
                let state = self.state.borrow();
                let heard = match about {
                    Some(prompt) => state.is_shown(prompt),
                    None => !(state.ours.is_empty() && state.followed.is_empty() && state.watched.is_empty()),
                };
                match heard {
                    true => self.wire.update(&self.id, story::quoted(&text)),
                    false => self.link.ui.note(&format!("{}: {text}", self.id)),
                }
            }
            Shown::Ask(permission) => self.clone().question(editor, permission),
            Shown::Settled(permission) => {
                if let Some(handle) = self.state.borrow_mut().asked.remove(&permission) {
                    cancel(&handle);
                }
            }
            Shown::Call(call) => self.clone().call(editor, call),
            Shown::CallSettled(call) => self.call_settled(call),
            Shown::Driver(driver) => self.driven_by(driver),
            Shown::Ended(prompt, end) => {
                let mut state = self.state.borrow_mut();
                state.followed.remove(&prompt);
                state.watched.remove(&prompt);
                if let Some(ours) = state.ours.remove(&prompt) {
                    let end = if ours.cancelled { End::Stop("cancelled") } else { end };
                    // Who does not wait any more needs no answer.
                    let _ = ours.end.send(end);
                }
            }
            Shown::Gone => {
                editor.forget(&self.id);
                self.state.borrow_mut().ours.clear();
                return true;
            }
        }
        false
    }

    pub(super) fn complain(&self, what: &str, failure: &Failure) {
        self.link.ui.note(&format!("{}: {what}: {}", self.id, crate::cli::ui::error::words(failure)));
    }

    // --- permissions ---

    /// Asks the editor what the agent asks, if it still waits for an answer: a policy may have given it.
    fn question(self: Rc<Self>, editor: &Rc<Editor<'a>>, permission: PermissionId) {
        let at = editor.clone();
        editor.spawn(async move {
            let request = Request::get(format!("/v1/sessions/{}/permissions", self.id));
            match self.link.get::<Vec<PermissionInfo>>(request).await {
                Ok(open) if open.iter().all(|open| open.permission_id != permission) => return,
                Ok(_) => {}
                Err(failure) => return self.complain("cannot ask", &failure),
            }
            let Some((prompt, title, mut params)) = self.asks(permission) else { return };
            params["sessionId"] = json!(self.id);
            let Some(sent) = self.wire.ask("session/request_permission", params) else { return };
            self.state.borrow_mut().asked.insert(permission, sent.cancellation_handle());
            let answer = sent.block_task().await;
            // Somebody else has answered, or the session was opened anew.
            if self.state.borrow_mut().asked.remove(&permission).is_none() {
                return;
            }
            let _busy = at.busy();
            let outcome = answer.ok().map(|mut answer| answer["outcome"].take()).unwrap_or_default();
            match (outcome["optionId"].as_str(), outcome["outcome"].as_str()) {
                (Some(option), _) => {
                    self.answer(permission, PermissionAnswer::Option(option.to_owned())).await;
                }
                // The user closed the question.
                (None, Some("cancelled")) => self.answer(permission, PermissionAnswer::Cancel).await,
                _ => self.unanswered(permission, prompt, &title),
            }
        });
    }

    fn asks(&self, permission: PermissionId) -> Option<(Option<PromptId>, String, Value)> {
        let state = self.state.borrow();
        let question = state.story.questions().get(&permission)?;
        // What belongs to no turn is everybody's.
        let shown = |prompt: PromptId| state.ours.contains_key(&prompt) || state.followed.contains(&prompt);
        let visible = question.prompt.is_none_or(shown);
        let asked = visible && question.params.is_object() && !self.retired.get();
        asked.then(|| (question.prompt, question.title.clone(), question.params.clone()))
    }

    async fn answer(&self, permission: PermissionId, answer: PermissionAnswer) {
        let answer = AnswerRequest { answer };
        let path = format!("/v1/sessions/{}/permissions/{permission}", self.id);
        match self.link.ask(Request::post(path).json(&answer)).await {
            Ok(_) => {}
            // The first answer counts, whoever gave it.
            Err(failure) if failure.is("permission_settled") || failure.is("no_such_permission") => {}
            Err(failure) => {
                let why = crate::cli::ui::error::words(&failure);
                self.wire.update(&self.id, story::quoted(&format!("{permission} was not answered: {why}")));
            }
        }
    }

    /// An editor that gives no answer decides nothing: the question waits for whoever comes.
    fn unanswered(&self, permission: PermissionId, prompt: Option<PromptId>, title: &str) {
        let state = self.state.borrow();
        let waits = state.story.questions().contains_key(&permission)
            && prompt.is_none_or(|prompt| match state.ours.get(&prompt) {
                Some(ours) => !ours.cancelled,
                None => state.followed.contains(&prompt),
            });
        if waits {
            let what =
                format!("{title} waits for an answer: `kennel permissions allow {permission}` or `deny`");
            self.wire.update(&self.id, story::quoted(&what));
        }
    }
}

/// That a request cannot be withdrawn is no harm: its answer is ignored.
pub(super) fn cancel(handle: &RequestCancellationHandle) {
    let _ = handle.cancel();
}

async fn patience(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
