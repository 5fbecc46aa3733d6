//! Those who ask the simulated manager for things, and those who watch.

use std::sync::Arc;

use manager::core::{
    Ask, Command, Input, NOBODY, NewPrompt, PermissionRule, Permissions, Refusal, Reply, Session, Spec,
};
use protocol::api::{
    OnCrash, Orphans, PermissionAnswer, PermissionPolicy, RestartType, Role, SessionOpts, WhenBusy,
};
use protocol::event::{Event, Resolution};
use protocol::wire::{Agent, Attachment, AttachmentKind, CallAnswer, Content, McpServer, Offer, Setting};
use protocol::{CallId, EventId, PermissionId, PromptId, SessionId};

use super::{Sim, What};
use crate::sample;

/// The number of events that are shown at once, and that the manager keeps for slow subscribers.
const SHOWN: usize = 16;

/// A client's request.
#[derive(Clone, Debug)]
pub struct Request {
    pub client: usize,
    pub ask: Ask,
    /// With it the request may be sent again.
    pub key: Option<String>,
}

/// The answer to it.
#[derive(Clone, Debug)]
pub enum Answer {
    Done(Reply),
    Refused(Refusal),
    /// The journal takes nothing now.
    Later,
}

impl Request {
    /// The key with its scope.
    pub fn scoped_key(&self) -> Option<(String, String)> {
        let scope = match &self.ask {
            Ask::One(id, _) => id.to_string(),
            _ => "/sessions".into(),
        };
        Some((scope, self.key.clone()?))
    }

    /// Returns true if this is that request: a client has one request at a time.
    pub fn is(&self, other: &Request) -> bool {
        self.client == other.client
    }

    /// Returns the text that is compared when a key is used again.
    pub fn body(&self) -> String {
        match &self.ask {
            Ask::One(id, Input::Command(Command::Prompt(prompt))) => format!("{id}: {}", prompt.text),
            Ask::Create { id, .. } => format!("create {id:?}"),
            Ask::Fork(fork) => format!("fork {} at {}", fork.origin, fork.turn),
            Ask::Subagent { parent, task, .. } => format!("{task} below {parent:?}"),
            other => format!("{other:?}"),
        }
    }
}

/// One who asks, one thing at a time.
#[derive(Debug, Default)]
pub struct Client {
    /// Sent, and not answered yet.
    waits_for: Option<Request>,
}

/// One who watches.
#[derive(Debug)]
pub struct Subscriber {
    name: String,
    session: Option<SessionId>,
    cursor: EventId,
    /// It is shown events as they are published; else it catches up from the journal.
    live: bool,
}

impl Sim {
    pub(super) fn client_acts(&mut self, client: usize) {
        let patience = if self.rng.chance(30) { 20_000 } else { 600 };
        let delay = self.rng.below(patience);
        if self.faults {
            self.after(delay, What::Client(client));
        }
        if self.manager.is_none() {
            // An answer is still awaited: asked again when there is a manager.
            if !self.faults && self.clients[client].waits_for.is_some() {
                self.after(1_000, What::Client(client));
            }
            return;
        }
        let request = match self.clients[client].waits_for.take() {
            // A call that is not sent again fails.
            Some(request) if request.key.is_none() => return,
            Some(request) => request,
            None if !self.faults => return,
            None => {
                let Some(ask) = self.something() else { return };
                let ask = self.as_somebody(ask);
                let keyed = matches!(
                    ask,
                    Ask::Create { .. }
                        | Ask::Fork(_)
                        | Ask::Subagent { .. }
                        | Ask::One(_, Input::Command(Command::Prompt(_)))
                );
                self.counter += 1;
                let key = (keyed && self.rng.chance(800)).then(|| format!("key-{}", self.counter));
                Request { client, ask, key }
            }
        };
        let answers = matches!(
            request.ask,
            Ask::One(_, Input::Command(Command::Permit(..)) | Input::CommandBy(_, Command::AnswerCall(..)))
        );
        let doubled = request.key.is_some() && self.rng.chance(100) || answers && self.rng.chance(200);
        let Some(manager) = &mut self.manager else { return };
        manager.inbox.push_back(request.clone());
        if doubled {
            // Its connection broke in the middle, and it sends the same again; or two people answer at once.
            manager.inbox.push_back(request.clone());
        }
        self.clients[client].waits_for = Some(request);
        if !self.faults {
            self.after(3_000, What::Client(client));
        }
    }

    pub(super) fn answered(&mut self, request: &Request, answer: Answer) {
        let key = request.key.as_deref();
        match (&answer, &request.ask) {
            (Answer::Done(Reply::Accepted { prompt, .. }), Ask::One(id, _)) => {
                self.history.acknowledged(id, *prompt, key);
            }
            (Answer::Done(Reply::Created(id)), _) => self.history.created(id, key),
            (Answer::Done(_), Ask::One(id, Input::Command(Command::Permit(permission, _)))) => {
                if !self.permitted.insert(*permission) {
                    self.failures.push(format!("{id}: two answers to {permission} counted"));
                }
            }
            (Answer::Done(_), Ask::One(id, Input::CommandBy(_, Command::AnswerCall(call, _)))) => {
                if !self.called.insert(*call) {
                    self.failures.push(format!("{id}: two answers to {call} counted"));
                }
            }
            (Answer::Done(_), _) => {}
            (Answer::Refused(refusal), _) => {
                self.coverage.refusals.insert(refusal.code());
            }
            (Answer::Later, _) => return,
        }
        if let Some(client) = self.clients.get_mut(request.client)
            && client.waits_for.as_ref().is_some_and(|waiting| waiting.key == request.key)
        {
            client.waits_for = None;
        }
    }

    pub(super) fn some_session(&mut self) -> Option<Arc<Session>> {
        let sessions: Vec<Arc<Session>> = self.manager.as_ref()?.fleet.sessions().cloned().collect();
        sessions.get(self.rng.below(sessions.len() as u64) as usize).cloned()
    }

    fn some_spec(&mut self) -> Arc<Spec> {
        use RestartType::*;
        let mut spec = if self.rng.chance(500) { sample::acp_spec() } else { sample::spec() };
        spec.restart.kind = self.rng.pick(&[Transient, Transient, Permanent, Temporary]).unwrap_or(Transient);
        spec.restart.intensity = self.rng.between(1, 8) as u32;
        spec.restart.period_ms = self.rng.pick(&[5_000, 20_000, 60_000]).unwrap_or(60_000);
        spec.on_crash = if self.rng.chance(300) { OnCrash::Retry } else { OnCrash::Interrupt };
        spec.hibernate_after_ms = self.rng.pick(&[0, 2_000, 10_000]).unwrap_or(0);
        spec.grace_ms = self.rng.pick(&[200, 1_000]).unwrap_or(200);
        spec.turn_timeout_ms = self.rng.pick(&[0, 0, 0, 1_500]).unwrap_or(0);
        spec.stall_timeout_ms = self.rng.pick(&[None, Some(0), Some(500), Some(500)]).flatten();
        spec.permissions = self.some_permissions();
        if matches!(spec.agent, Agent::Acp { .. }) && self.rng.chance(100) {
            spec.conversation = Some(format!("conversation-{}", self.rng.below(3)));
        }
        Arc::new(spec)
    }

    fn some_permissions(&mut self) -> Permissions {
        use PermissionPolicy::*;
        let policy = self.rng.pick(&[Park, Park, Park, Allow, Deny, Fail]).unwrap_or_default();
        let rule = PermissionRule {
            kind: self.rng.chance(500).then(|| "edit".into()),
            path: self.rng.chance(500).then(|| "srv".into()),
            then: self.rng.pick(&[Park, Allow, Deny, Fail]).unwrap_or_default(),
        };
        let rules = if self.rng.chance(300) { vec![rule] } else { Vec::new() };
        Permissions {
            policy,
            rules,
            timeout_ms: self.rng.pick(&[0, 1_000, 10_000]).unwrap_or(0),
            above: None,
        }
    }

    /// An answer to a question, which may be none of those that it offers.
    fn some_answer(&mut self, session: &Session, permission: PermissionId) -> PermissionAnswer {
        let open = session.permissions().into_iter().find(|open| open.permission_id == permission);
        let offered: Vec<String> =
            open.into_iter().flat_map(|open| open.options).map(|option| option.id).collect();
        let option = offered.get(self.rng.below(offered.len() as u64) as usize);
        match (self.rng.below(5), option) {
            (0, _) => PermissionAnswer::Allow,
            (1, _) => PermissionAnswer::Deny,
            (3, _) => PermissionAnswer::Cancel,
            (2, Some(option)) => PermissionAnswer::Option(option.clone()),
            _ => PermissionAnswer::Option("nothing".into()),
        }
    }

    fn text(&mut self) -> Arc<str> {
        self.counter += 1;
        format!("text {}", self.counter).into()
    }

    /// Returns attachments for a prompt; rarely to agents that take none.
    fn attachments(&mut self, session: &Session) -> Arc<[Attachment]> {
        let takes = matches!(session.spec.agent, Agent::Acp { .. });
        if !self.rng.chance(if takes { 400 } else { 20 }) {
            return Arc::default();
        }
        let count = self.rng.between(1, 4);
        let attachment = |_| Attachment {
            kind: AttachmentKind::File,
            name: "notes".into(),
            mime_type: "text/plain".into(),
            uri: "attachment:notes".into(),
            content: Content::Text(self.text().to_string()),
        };
        (0..count).map(attachment).collect()
    }

    /// A request for a new session, or for one of three named ones.
    fn some_creation(&mut self) -> Option<Ask> {
        let named = |n: u64| format!("work-{n}").parse::<SessionId>().ok();
        let spec = self.some_spec();
        Some(match self.rng.below(3) {
            0 => Ask::Create { id: None, spec },
            1 => Ask::Create { id: named(self.rng.below(3)), spec },
            _ => Ask::Ensure { id: named(self.rng.below(3))?, spec, given: Box::new(SessionOpts::default()) },
        })
    }

    /// An answer to one of these calls, to a settled one, or to one that never was.
    fn some_call_answer(&mut self, session: &Session, calls: &[CallId]) -> Ask {
        let unknown = CallId(self.rng.below(3_000));
        let settled = session.last_call.filter(|_| self.rng.chance(300));
        let call = settled.or(self.rng.pick(calls)).unwrap_or(unknown);
        let clients: Vec<_> = session.clients.iter().map(|client| client.id).collect();
        let driver = session.driver().map(|driver| driver.id).filter(|_| self.rng.chance(800));
        let client = driver.or(self.rng.pick(&clients)).unwrap_or_default();
        let answer = match self.rng.chance(800) {
            true => CallAnswer::Result { json: "{}".into() },
            false => CallAnswer::Error { json: "{}".into() },
        };
        Ask::One(session.id.clone(), Input::CommandBy(client, Command::AnswerCall(call, answer)))
    }

    /// A command about a prompt that waits, runs or was interrupted, or about an unknown one.
    fn some_prompt_command(&mut self, session: &Session, text: Arc<str>) -> Command {
        let turns = &session.turns;
        let waiting =
            turns.queue.iter().chain(&turns.interrupted).chain(turns.running.iter().map(|t| &t.prompt));
        let ids: Vec<PromptId> = waiting.map(|prompt| prompt.id).collect();
        let prompt = self.rng.pick(&ids).unwrap_or(PromptId(self.rng.below(50)));
        match self.rng.below(5) {
            0 => Command::Edit(prompt, text),
            1 => Command::Remove(prompt),
            2 => Command::Resolve(prompt, Resolution::Drop),
            _ => Command::Resolve(prompt, Resolution::Retry),
        }
    }

    /// Something that somebody may ask.
    fn something(&mut self) -> Option<Ask> {
        let count = self.manager.as_ref()?.fleet.sessions().count();
        if count == 0 || count < 6 && self.rng.chance(60) {
            return self.some_creation();
        }
        let session = self.some_session()?;
        let id = session.id.clone();
        let command = |command| Some(Ask::One(id.clone(), Input::Command(command)));
        let text = self.text();
        let open: Vec<PermissionId> =
            session.permissions().iter().map(|permission| permission.permission_id).collect();
        if !open.is_empty() && self.rng.chance(400) || self.rng.chance(10) {
            let settled = session.last_permission.filter(|_| self.rng.chance(300));
            let unknown = PermissionId(self.rng.below(3_000));
            let permission = settled.or(self.rng.pick(&open)).unwrap_or(unknown);
            let answer = self.some_answer(&session, permission);
            return command(Command::Permit(permission, answer));
        }
        let calls = session.turns.running.as_ref().map(|turn| &turn.calls.open[..]).unwrap_or_default();
        let calls: Vec<CallId> = calls.iter().map(|call| call.id).collect();
        if !calls.is_empty() && self.rng.chance(600) || self.rng.chance(10) {
            return Some(self.some_call_answer(&session, &calls));
        }
        // The driver matters most while a call is open.
        if self.rng.chance(if calls.is_empty() { 60 } else { 400 }) {
            return self.some_client(&session);
        }
        match self.rng.below(100) {
            0..40 => {
                let ways = [
                    WhenBusy::Queue,
                    WhenBusy::Queue,
                    WhenBusy::Queue,
                    WhenBusy::Interrupt,
                    WhenBusy::Reject,
                ];
                let when_busy = self.rng.pick(&ways).unwrap_or_default();
                let attachments = self.attachments(&session);
                command(Command::Prompt(NewPrompt { text, when_busy, attachments }))
            }
            40..45 => command(Command::Abort),
            45..48 => {
                // As somebody has seen it a moment ago.
                let running = session.turns.running.as_ref().map(|turn| turn.prompt.id);
                let prompt =
                    running.filter(|_| self.rng.chance(800)).unwrap_or(PromptId(self.rng.below(1_000)));
                command(Command::AbortOnly(prompt))
            }
            48..50 => {
                let name = if self.rng.chance(500) { "mode" } else { "model" };
                match self.rng.chance(800) {
                    true => command(Command::Set(Setting { name: name.into(), value: "code".into() })),
                    false => {
                        command(Command::AddServers { programs: vec![server(name)], remote: Vec::new() })
                    }
                }
            }
            50..54 => command(Command::Restart),
            54..60 => command(Command::Up),
            60..64 => Some(Ask::Ensure { id, spec: session.spec.clone(), given: Box::default() }),
            64..69 => Some(Ask::Stop(id, Orphans::Stop)),
            69..72 => Some(Ask::Stop(id, Orphans::Keep)),
            72..77 => Some(Ask::Remove(id)),
            77 => command(Command::Pin(self.rng.chance(500))),
            78 => Some(Ask::Edit(id, self.some_edit())),
            79..87 => command(self.some_prompt_command(&session, text)),
            87..89 => command(Command::Clear),
            89..96 if count < 8 => {
                let parent = self.rng.chance(900).then_some(id);
                let spec = self.some_spec();
                Some(Ask::Subagent { parent, id: None, spec, task: text, wish: None })
            }
            96..=98 if count < 8 => {
                let turn = self.rng.below(session.turns.count + 3);
                Some(sample::fork(id, turn, self.rng.chance(900)))
            }
            99 if self.rng.chance(100) => Some(Ask::Shutdown),
            _ => command(Command::Prompt(NewPrompt::text(text, WhenBusy::Queue))),
        }
    }

    /// Somebody comes, goes, or does something as the one that came.
    fn some_client(&mut self, session: &Session) -> Option<Ask> {
        let clients: Vec<_> = session.clients.iter().map(|client| client.id).collect();
        let client = self.rng.pick(&clients).unwrap_or(self.rng.below(3_000));
        let role = if self.rng.chance(600) { Role::Driver } else { Role::Viewer };
        let input = match self.rng.below(5) {
            0 | 1 => {
                let takeover = self.rng.chance(300);
                let offers = Offer::ALL.into_iter().filter(|_| self.rng.chance(700)).collect();
                Input::Command(Command::Attach {
                    name: "somebody".into(),
                    role,
                    takeover,
                    offers,
                    origin: None,
                    seat: self.rng.chance(500).then(|| format!("seat {}", self.rng.below(3))),
                })
            }
            2 if self.rng.chance(700) => Input::Command(Command::Detach(client)),
            2 => {
                let seat = session.clients.iter().find(|attached| attached.id == client);
                let seat = seat.and_then(|attached| attached.seat.clone()).filter(|_| self.rng.chance(800));
                // After a cut it knows its word only.
                let kept = session.kept.as_ref().map(|kept| kept.seat.clone());
                let client = if self.rng.chance(300) { NOBODY } else { client };
                Input::Command(Command::Leave { client, seat: seat.or(kept) })
            }
            3 => Input::CommandBy(client, Command::Abort),
            _ => {
                let prompt = NewPrompt::text(self.text(), WhenBusy::Queue);
                Input::CommandBy(client, Command::Prompt(prompt))
            }
        };
        Some(Ask::One(session.id.clone(), input))
    }

    // --- those who watch ---

    pub(super) fn subscriber_acts(&mut self, index: usize) {
        let patience = if self.rng.chance(200) { 10_000 } else { 300 };
        let delay = self.rng.below(patience);
        if self.faults {
            self.after(delay, What::Subscriber(index));
        }
        if self.manager.is_none() {
            return;
        }
        if index >= self.subscribers.len() {
            let session = if self.rng.chance(500) {
                self.some_session().map(|session| session.id.clone())
            } else {
                None
            };
            let cursor = if self.rng.chance(500) { 0 } else { self.rng.below(self.published + 1) };
            let name = format!("subscriber-{}", self.subscribers.len());
            self.history.subscribe(&name, session.as_ref(), cursor);
            return self.subscribers.push(Subscriber { name, session, cursor, live: false });
        }
        if self.rng.chance(50) {
            // Its connection broke; it comes back with its cursor.
            self.subscribers[index].live = false;
        }
        self.catch_up(index);
    }

    fn catch_up(&mut self, index: usize) {
        let subscriber = &mut self.subscribers[index];
        if subscriber.live {
            return;
        }
        let events = self.journal.after(subscriber.cursor, self.published, SHOWN);
        for event in &events {
            show(subscriber, &mut self.history, event);
        }
        if events.len() < SHOWN {
            subscriber.cursor = subscriber.cursor.max(self.published);
            subscriber.live = true;
            self.history.caught_up(&subscriber.name, self.published);
        }
    }

    pub(super) fn publish(&mut self, events: Vec<Arc<Event>>) {
        let Some(last) = events.last().map(|event| event.id) else {
            return;
        };
        self.published = last;
        self.records.extend(
            events
                .iter()
                .map(|event| format!("{} {} {:?} {:?}", self.now, event.id, event.session, event.kind)),
        );
        for subscriber in self.subscribers.iter_mut().filter(|subscriber| subscriber.live) {
            if self.rng.chance(5) {
                // Too slow for these: it will read them from the journal.
                subscriber.live = false;
                continue;
            }
            for event in &events {
                show(subscriber, &mut self.history, event);
            }
        }
    }

    /// The manager is gone: calls are not answered, streams end.
    pub(super) fn disconnect(&mut self) {
        for subscriber in &mut self.subscribers {
            subscriber.live = false;
        }
    }

    /// All who watch see all there is.
    pub(super) fn all_catch_up(&mut self) {
        for index in 0..self.subscribers.len() {
            while !self.subscribers[index].live {
                self.catch_up(index);
            }
            let name = self.subscribers[index].name.clone();
            self.history.caught_up(&name, self.published);
        }
    }
}

fn server(name: &str) -> McpServer {
    McpServer { name: name.into(), command: "/bin/server".into(), args: Vec::new(), env: Vec::new() }
}

fn show(subscriber: &mut Subscriber, history: &mut crate::history::History, event: &Arc<Event>) {
    if subscriber.session.is_none() || event.session == subscriber.session {
        history.saw(&subscriber.name, event);
    }
    subscriber.cursor = subscriber.cursor.max(event.id);
}
