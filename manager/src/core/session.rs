//! One session: its states, and what each input does in each of them.
//!
//! The table of all states and inputs is `tests/snapshots/transitions.md`, made from this file.

use std::sync::Arc;

use protocol::api::{ChildInfo, Failure, Usage};
use protocol::event::{EventKind, Outcome, RemovedBy};
use protocol::wire::{AgentDetails, Offer, Setting, TurnEnd};
use protocol::{
    CallId, EventId, Identity, Incarnation, Level, LimitedBy, PermissionId, PromptId, Restore, Sandboxed,
    SessionId,
};
use serde::{Deserialize, Serialize};

use super::input::{Command, Input, Seen};
use super::{At, Effect, Refusal, Reply, Spec};
use crate::core::rules::calls::Told;
use crate::core::rules::clients::Client;
use crate::core::rules::judge::{Absence, Deaths};
use crate::core::rules::settings::Settings;
use crate::core::rules::turns::{Attached, Phase, Turns};

/// What the operator wants. Only commands change it; the daemon's own shutdown never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// The session lives.
    Up,
    /// It is stopped.
    Down,
}

/// What is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// A worker is being brought up. Without `worker` none is on record yet.
    Starting {
        /// The spawned process.
        worker: Option<Identity>,
        /// Until when it must be ready.
        deadline: u64,
    },
    /// The agent takes prompts; whether a turn runs is in [`Turns::running`].
    Ready {
        /// The process.
        worker: Identity,
        /// The agent's own process, where one lives between prompts.
        agent_pid: Option<u32>,
        /// Since when nothing has been asked of it.
        idle_since: u64,
    },
    /// The journal says a worker of an earlier manager lives. It is asked to go on with this one.
    Adopting {
        /// The process.
        worker: Identity,
        /// What it was doing.
        #[serde(default)]
        was: Was,
        /// What to do once it is gone.
        after: Why,
        /// Until when it must have answered, or left by itself.
        deadline: u64,
    },
    /// Its process is being ended.
    Stopping {
        /// The process; none if a spawn is on its way and not on record yet.
        worker: Option<Identity>,
        /// What for.
        why: Why,
        /// Rounds of SIGKILL so far.
        kills: u32,
        /// When the next round is due.
        deadline: u64,
        /// When it counts as unkillable.
        give_up: u64,
    },
    /// Between a death and the next start.
    Restarting {
        /// When the next start is due.
        until: u64,
    },
    /// Without a process until something is asked of it.
    Hibernated,
    /// Ended by request.
    Stopped,
    /// Given up until somebody restarts it.
    Failed(Failure),
}

/// What a worker was doing when its manager died; what it has said since is taken into account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Was {
    /// It was being brought up.
    Starting,
    /// Its agent took prompts.
    Ready {
        /// The agent's own process, where one lives between prompts.
        agent_pid: Option<u32>,
    },
    /// It was being ended.
    #[default]
    Stopping,
}

/// What a process is being ended for. What comes after also depends on the [`Goal`] at that time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Somebody stops the session.
    Stop,
    /// It has been idle for long.
    Hibernate,
    /// Somebody restarts it.
    Restart,
    /// The manager leaves.
    Shutdown,
    /// Its manager died.
    Lost,
    /// Its program is of another version than the manager's.
    Outdated,
    /// It misbehaved.
    Fault(String),
    /// Its agent ended.
    AgentDied(String),
    /// Its agent's program did not come to run.
    NotRun {
        /// Why, for a person.
        message: String,
        /// The cause may pass by itself.
        passes: bool,
    },
    /// To start it again would come to the same.
    Hopeless(String),
}

/// Why the process before the present one was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRestart {
    /// In words.
    pub reason: String,
    /// The process that was replaced.
    pub old_pid: Option<u32>,
}

/// A sub-agent's first prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The prompt.
    pub prompt: PromptId,
    /// Its text.
    pub text: Arc<str>,
    /// It has not ended, and nobody has been told that it was lost.
    pub open: bool,
}

/// One session, whole: what the journal keeps of it, and what a step needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its stable id.
    pub id: SessionId,
    /// What it runs and under which rules.
    pub spec: Arc<Spec>,
    /// What the operator wants.
    pub goal: Goal,
    /// What is.
    pub state: State,
    /// The number of its present or last process; 0 before the first.
    pub incarnation: Incarnation,
    /// Number of the last message of this process that is on record.
    #[serde(default)]
    pub heard: u64,
    /// Its conversation.
    pub turns: Turns,
    /// Deaths that count against the intensity.
    pub deaths: Deaths,
    /// Starts in a row of which none came to run its program.
    #[serde(default)]
    pub absence: Option<Absence>,
    /// Why the process before this one was replaced.
    pub last_restart: Option<LastRestart>,
    /// The present start answers a death or a restart, and `session.restarted` is still to be told.
    pub recovering: bool,
    /// What the agent knew of the turns before when it last became ready.
    pub restore: Option<Restore>,
    /// It never hibernates.
    pub pinned: bool,
    /// When it was created, unix time in milliseconds.
    pub created_at: u64,
    /// The session whose sub-agent it is.
    pub parent: Option<SessionId>,
    /// What it was started to do, if it is a sub-agent.
    pub task: Option<Task>,
    /// Its sub-agents whose tasks are open.
    pub open_tasks: u32,
    /// What its agent calls the conversation.
    #[serde(default)]
    pub agent_session: Option<String>,
    /// Its agent began a conversation anew, and no turn in which it was told the one before has come to its end.
    #[serde(default)]
    pub owes_transcript: bool,
    /// Its present or last process came to take prompts.
    #[serde(default)]
    pub was_ready: bool,
    /// Starts in a row in which its agent did not come to take up the conversation.
    #[serde(default)]
    pub lost_starts: u32,
    /// What its agent last said of itself.
    #[serde(default)]
    pub agent_details: Option<AgentDetails>,
    /// Sub-agents that its present or last process has told of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ChildInfo>,
    /// The option that is its agent's choice of a model, and the model that the agent last said it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_model: Option<Setting>,
    /// Tokens and cost, where the agent tells.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Who is attached.
    #[serde(default)]
    pub clients: Vec<Client>,
    /// The newest permission that was asked for.
    #[serde(default)]
    pub last_permission: Option<PermissionId>,
    /// The newest call that a client was to be asked.
    #[serde(default)]
    pub last_call: Option<CallId>,
    /// A client that could do something for the agent has driven: the worker is told who does.
    #[serde(default)]
    pub had_offers: bool,
    /// What a client can do for its agent that has started it and is not attached yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaited: Vec<Offer>,
    /// What was last said of its agent since that is being started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_notice: Option<String>,
    /// What is set in its agent.
    #[serde(default)]
    pub settings: Settings,
    /// Its process was taken over and is of another version: it is replaced once nothing runs in it.
    #[serde(default)]
    pub outdated: bool,
    /// What holds its agent's processes together, as its present or last worker says.
    #[serde(default)]
    pub containment: Option<Level>,
    /// The sandbox that its agent is in, as its present or last worker says.
    #[serde(default)]
    pub sandbox: Option<Sandboxed>,
    /// What sees to its limits, as its present or last worker says.
    #[serde(default)]
    pub limited_by: Option<LimitedBy>,
    /// The agent's program that its present or last worker has run, or tried to run: an absolute path.
    #[serde(default)]
    pub program: Option<String>,
}

/// What the rest of the fleet must know of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// This sub-agent's task ended.
    TaskEnded {
        /// How.
        outcome: Outcome,
    },
    /// This sub-agent failed with its task open.
    TaskLost {
        /// Why.
        reason: String,
    },
}

/// What one step comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The session after it.
    pub next: Session,
    /// What to record.
    pub events: Vec<EventKind>,
    /// What to keep with it.
    pub attached: Vec<Attached>,
    /// What to do once that is recorded.
    pub effects: Vec<Effect>,
    /// What the fleet must know.
    pub notes: Vec<Note>,
    /// What to tell whoever gave the command.
    pub reply: Reply,
}

/// Collects what a step says.
#[derive(Default)]
pub(super) struct Out {
    base: EventId,
    events: Vec<EventKind>,
    notes: Vec<Note>,
    told: Vec<Told>,
    attached: Vec<Attached>,
}

impl Out {
    /// The id that the next emitted event will have.
    pub(super) fn next_event(&self) -> EventId {
        self.base + self.events.len() as EventId
    }

    pub(super) fn emit(&mut self, kind: EventKind) {
        self.events.push(kind);
    }

    /// The worker is told what has become of a call.
    pub(super) fn tell(&mut self, told: Told) {
        self.told.push(told);
    }

    /// Something is to be kept with what is recorded.
    pub(super) fn keep(&mut self, attached: Attached) {
        self.attached.push(attached);
    }

    pub(super) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }
}

impl Session {
    /// A session that begins its first start.
    pub fn new(id: SessionId, spec: Arc<Spec>, at: At, before: Incarnation) -> Self {
        let state = State::Starting { worker: None, deadline: at.mono + spec.start_ms() };
        Self {
            id,
            spec,
            goal: Goal::Up,
            state,
            incarnation: before + 1,
            heard: 0,
            turns: Turns::default(),
            deaths: Deaths::default(),
            absence: None,
            last_restart: None,
            recovering: false,
            restore: None,
            pinned: false,
            created_at: at.wall,
            parent: None,
            task: None,
            open_tasks: 0,
            agent_session: None,
            agent_details: None,
            children: Vec::new(),
            owes_transcript: false,
            was_ready: false,
            lost_starts: 0,
            agent_model: None,
            usage: None,
            clients: Vec::new(),
            last_permission: None,
            last_call: None,
            had_offers: false,
            awaited: Vec::new(),
            start_notice: None,
            settings: Settings::default(),
            outdated: false,
            containment: None,
            sandbox: None,
            limited_by: None,
            program: None,
        }
    }

    /// What `input` does. The first event of the step will have the id `next_event`. Only commands are refused;
    /// a refusal means that nothing changes.
    pub fn step(&self, at: At, next_event: EventId, input: &Input) -> Result<Step, Refusal> {
        let mut next = self.clone();
        let mut out = Out { base: next_event, ..Out::default() };
        let mut reply = Reply::Done;
        match input {
            Input::Command(Command::AnswerCall(..)) => return Err(Refusal::NotDriver(self.id.clone())),
            Input::Command(command) => reply = next.command(at, command, &mut out)?,
            Input::CommandBy(client, command) => {
                next.drives(*client)?;
                reply = next.command(at, command, &mut out)?;
            }
            Input::Seen(incarnation, seen) if *incarnation == self.incarnation => {
                next.seen(at, seen, &mut out)
            }
            Input::Seen(..) => {}
            Input::Recovered { same_boot } => next.recovered(at, *same_boot, &mut out),
            Input::Shutdown => next.shutdown(at),
            Input::Tick => next.tick(at, &mut out),
            Input::OpenTasks(change) => next.open_tasks = next.open_tasks.saturating_add_signed(*change),
        }
        next.settle(at, &mut out);
        let mut effects = next.new_effects(self);
        effects.extend(next.answers_to_calls(out.told));
        let Out { events, notes, attached, .. } = out;
        Ok(Step { next, events, attached, effects, notes, reply })
    }

    /// The process that is this session's now.
    pub fn worker(&self) -> Option<&Identity> {
        match &self.state {
            State::Starting { worker, .. } | State::Stopping { worker, .. } => worker.as_ref(),
            State::Ready { worker, .. } | State::Adopting { worker, .. } => Some(worker),
            State::Restarting { .. } | State::Hibernated | State::Stopped | State::Failed(_) => None,
        }
    }

    /// Whether its agent can be told something, if only once its worker has been taken over.
    pub(super) fn agent_goes_on(&self) -> bool {
        matches!(self.state, State::Ready { .. } | State::Adopting { was: Was::Ready { .. }, .. })
    }

    /// Whether a process exists or may exist, a spawn on its way included.
    pub fn has_process(&self) -> bool {
        match &self.state {
            State::Starting { .. }
            | State::Ready { .. }
            | State::Adopting { .. }
            | State::Stopping { .. } => true,
            State::Failed(failure) => !failure.survivors.is_empty(),
            State::Restarting { .. } | State::Hibernated | State::Stopped => false,
        }
    }

    /// Whether a turn runs in its worker, which has something to say some time.
    pub fn is_at_work(&self) -> bool {
        matches!(self.state, State::Ready { .. }) && self.turns.running.is_some()
    }

    /// When [`Input::Tick`] is due, in milliseconds since boot. Every state that is not a resting one has one.
    pub fn deadline(&self) -> Option<u64> {
        match &self.state {
            State::Starting { deadline, .. }
            | State::Adopting { deadline, .. }
            | State::Stopping { deadline, .. } => Some(*deadline),
            State::Restarting { until } => Some(*until),
            State::Ready { .. } => match &self.turns.running {
                // A prompt that waits is tried again; else the session goes to sleep.
                None => {
                    let next = self.turns.not_before.or_else(|| self.rest_ends());
                    next.into_iter().chain(self.turns.asked.deadline()).min()
                }
                Some(turn) => match turn.phase {
                    Phase::Sent { deadline } | Phase::Aborting { deadline, .. } => Some(deadline),
                    Phase::Started { .. } => {
                        let permissions = turn.open.iter().filter_map(|open| open.expires);
                        let others = turn.calls.deadline().into_iter().chain(self.turns.asked.deadline());
                        permissions.chain(others).chain(turn.until).min()
                    }
                },
            },
            State::Hibernated | State::Stopped | State::Failed(_) => None,
        }
    }

    pub(super) fn wanted(&self) -> bool {
        self.goal == Goal::Up
    }

    /// When it hibernates, in milliseconds since boot, if nothing happens until then.
    pub(super) fn rest_ends(&self) -> Option<u64> {
        match &self.state {
            State::Ready { idle_since, .. } => {
                self.hibernates().then(|| idle_since + self.spec.hibernate_after_ms)
            }
            _ => None,
        }
    }

    fn hibernates(&self) -> bool {
        // Whoever is to answer its agent finds it awake.
        let asks = !self.turns.asked.open.is_empty();
        let alone = self.open_tasks == 0 && self.clients.is_empty() && !asks;
        self.spec.hibernate_after_ms > 0 && !self.pinned && alone
    }

    pub(super) fn takes_prompts(&self) -> Result<(), Refusal> {
        match &self.state {
            State::Stopped => Err(Refusal::Stopped(self.id.clone())),
            State::Failed(failure) => {
                Err(Refusal::Failed { id: self.id.clone(), reason: failure.reason.clone() })
            }
            _ if !self.wanted() => Err(Refusal::Stopping(self.id.clone())),
            State::Starting { .. }
            | State::Ready { .. }
            | State::Adopting { .. }
            | State::Stopping { .. }
            | State::Restarting { .. }
            | State::Hibernated => Ok(()),
        }
    }

    // --- commands ---

    fn command(&mut self, at: At, command: &Command, out: &mut Out) -> Result<Reply, Refusal> {
        match command {
            Command::Up => self.up(at, out),
            Command::Stop => self.stop(at, out),
            Command::Restart => self.restart(at, out),
            Command::Prompt(new) => self.accept(at, new, out),
            Command::Abort => self.abort(at, out),
            Command::AbortOnly(prompt) => match &self.turns.running {
                Some(turn) if turn.prompt.id == *prompt => self.abort(at, out),
                Some(_) | None => Err(Refusal::NoTurn(self.id.clone())),
            },
            Command::Pin(pinned) => {
                if *pinned != self.pinned {
                    self.pinned = *pinned;
                    out.emit(EventKind::SessionUpdated { pinned: *pinned });
                }
                Ok(Reply::Done)
            }
            Command::Edit(prompt, text) => self.edit(*prompt, text, out),
            Command::Remove(prompt) => self.remove(*prompt, out),
            Command::Clear => Ok(self.clear_queue(RemovedBy::Cleared, out)),
            Command::Resolve(prompt, action) => self.resolve(*prompt, *action, out),
            Command::Permit(permission, answer) => self.permit(at, *permission, answer, out),
            Command::Attach { name, role, takeover, offers } => {
                self.attach(at, name, *role, *takeover, offers, out)
            }
            Command::Set(setting) => self.set(setting),
            Command::AddServers { programs, remote } => Ok(self.add_servers(programs, remote)),
            Command::AnswerCall(call, answer) => self.answer_call(*call, answer, out),
            Command::Detach(client) => {
                self.detach(*client, out);
                Ok(Reply::Done)
            }
        }
    }

    fn up(&mut self, at: At, out: &mut Out) -> Result<Reply, Refusal> {
        self.refuse_survivors()?;
        self.goal = Goal::Up;
        match &mut self.state {
            State::Stopped | State::Failed(_) => self.begin_anew(at),
            State::Hibernated => self.wake(at, out),
            // Being asked for is being used.
            State::Ready { idle_since, .. } => *idle_since = at.mono,
            // Whoever wants it up must not find it asleep.
            State::Stopping { why: why @ (Why::Hibernate | Why::Hopeless(_)), .. }
            | State::Adopting { after: why @ (Why::Hibernate | Why::Hopeless(_)), .. } => *why = Why::Restart,
            // With the goal up, the end of the process is followed by a start.
            State::Starting { .. }
            | State::Adopting { .. }
            | State::Stopping { .. }
            | State::Restarting { .. } => {}
        }
        Ok(Reply::Done)
    }

    fn stop(&mut self, at: At, out: &mut Out) -> Result<Reply, Refusal> {
        self.refuse_survivors()?;
        self.goal = Goal::Down;
        self.clear_queue(RemovedBy::Stopped, out);
        match &self.state {
            State::Starting { worker, .. } => self.stopping(at, worker.clone(), Why::Stop),
            State::Ready { worker, .. } => self.stopping(at, Some(worker.clone()), Why::Stop),
            State::Adopting { worker, .. } => self.stopping(at, Some(worker.clone()), Why::Stop),
            // What comes after its end depends on the goal.
            State::Stopping { .. } => {}
            State::Restarting { .. } | State::Hibernated | State::Failed(_) => self.stopped(None, out),
            State::Stopped => {}
        }
        Ok(Reply::Done)
    }

    fn restart(&mut self, at: At, out: &mut Out) -> Result<Reply, Refusal> {
        self.refuse_survivors()?;
        self.goal = Goal::Up;
        self.deaths.clear();
        self.absence = None;
        match &mut self.state {
            State::Starting { worker, .. } => {
                let worker = worker.take();
                self.stopping(at, worker, Why::Restart);
            }
            State::Ready { worker, .. } | State::Adopting { worker, .. } => {
                let worker = worker.clone();
                self.stopping(at, Some(worker), Why::Restart);
            }
            State::Stopping { why: why @ (Why::Hibernate | Why::Hopeless(_)), .. } => *why = Why::Restart,
            State::Stopping { .. } => {}
            State::Restarting { until } => *until = at.mono,
            State::Hibernated => self.wake(at, out),
            State::Stopped | State::Failed(_) => self.begin_anew(at),
        }
        Ok(Reply::Done)
    }

    fn refuse_survivors(&self) -> Result<(), Refusal> {
        match &self.state {
            State::Failed(failure) if !failure.survivors.is_empty() => Err(Refusal::Unkillable {
                id: self.id.clone(),
                incarnation: self.incarnation,
                pids: failure.survivors.clone(),
            }),
            _ => Ok(()),
        }
    }

    // --- observations ---

    fn seen(&mut self, at: At, seen: &Seen, out: &mut Out) {
        if seen.shows_work() {
            self.worked(at, out);
        }
        match seen {
            Seen::Spawned(worker) => self.spawned(at, worker, out),
            Seen::SpawnFailed { error, no_room } => self.spawn_failed(at, error, *no_room, out),
            Seen::Ready { restore, agent_pid } => self.ready(at, *restore, *agent_pid, out),
            Seen::TurnStarted { prompt, agent_pid } => self.turn_started(at, *prompt, *agent_pid, out),
            Seen::Output { prompt, stream, text } => self.said(at, *prompt, *stream, text.clone(), None, out),
            // Its end was told: what is still read of it is no part of the history.
            Seen::AgentSession(_)
            | Seen::Introduced(_)
            | Seen::Contained(_)
            | Seen::Sandboxed(_)
            | Seen::Limited(_)
            | Seen::Program(_)
            | Seen::OutOfMemory { .. }
            | Seen::Updated { .. }
            | Seen::SettingAnswered { .. }
            | Seen::Notice(_)
            | Seen::Heard(_)
                if self.worker().is_none() => {}
            Seen::Heard(number) => self.heard = self.heard.max(*number),
            Seen::Handed(prompt) => self.handed(at, *prompt),
            Seen::Linked { outdated } => self.linked(at, *outdated, out),
            Seen::AgentSession(id) => self.agent_session = Some(id.clone()),
            Seen::Introduced(details) => {
                self.agent_details = Some(details.clone());
                self.children.clear();
            }
            Seen::Contained(level) => self.containment = Some(*level),
            Seen::Sandboxed(sandboxed) => self.sandbox = Some(*sandboxed),
            Seen::Limited(by) => self.limited_by = Some(*by),
            Seen::Program(path) => self.runs(path, out),
            Seen::OutOfMemory { peak_bytes, limit_bytes, by } => out.emit(EventKind::SessionOomKilled {
                peak_bytes: *peak_bytes,
                limit_bytes: *limit_bytes,
                by: *by,
            }),
            Seen::Updated { prompt, update, payload } => self.updated(at, *prompt, update, payload, out),
            Seen::PermissionAsked { prompt, request, ask, payload } => {
                self.permission_asked(at, *prompt, *request, ask, payload, out);
            }
            Seen::CallAsked { prompt, request, client, method, payload } => {
                self.call_asked(at, *prompt, *request, *client, method, payload, out);
            }
            Seen::SettingAnswered { request, answer } => self.setting_answered(*request, answer, out),
            Seen::Alive { cpu_ms, commands } => self.alive(at, *cpu_ms, *commands, out),
            Seen::Notice(text) => {
                if matches!(self.state, State::Starting { .. }) {
                    self.start_notice = Some(text.clone());
                }
                out.emit(EventKind::SystemMessage { text: text.clone() });
            }
            Seen::AgentDied(why) => self.leaving(at, Why::AgentDied(why.clone())),
            Seen::NotRun { message, passes } => self.not_run(at, message, *passes),
            Seen::LoginNeeded(why) => self.leaving(at, Why::Hopeless(why.clone())),
            Seen::TurnEnded { prompt, end, exit, left_behind } => {
                let unasked = *end == TurnEnd::Aborted && self.turns.runs_unasked(*prompt);
                self.turn_ended(at, *prompt, end, *exit, *left_behind, out);
                match &mut self.state {
                    // Somebody else told the worker to leave: it takes no further prompt.
                    State::Ready { worker, .. } if unasked => {
                        let worker = worker.clone();
                        self.stopping(at, Some(worker), Why::Fault("the worker was told to leave".into()));
                    }
                    // Its time without a manager was over, or somebody ended it meanwhile: no fault of its.
                    State::Adopting { worker, was: Was::Ready { .. }, .. } if unasked => {
                        let worker = worker.clone();
                        self.stopping(at, Some(worker), Why::Lost);
                    }
                    State::Ready { idle_since, .. } => *idle_since = at.mono,
                    State::Starting { .. }
                    | State::Adopting { .. }
                    | State::Stopping { .. }
                    | State::Restarting { .. }
                    | State::Hibernated
                    | State::Stopped
                    | State::Failed(_) => {}
                }
            }
            Seen::Faulted(reason) => self.fault(at, reason),
            Seen::Gone { exit, last_words, survivors } => self.gone(at, *exit, last_words, survivors, out),
        }
    }
}
