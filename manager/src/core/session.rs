//! One session: its states, and what each input does in each of them.
//!
//! The table of all states and inputs is `tests/snapshots/transitions.md`, made from this file.

use std::sync::Arc;

use protocol::api::{Failure, PermissionAnswer, Role, Usage};
use protocol::event::{EventKind, Outcome, RemovedBy, Resolution};
use protocol::wire::{PermissionAsk, TurnEnd, Update};
use protocol::{EventId, Exit, Identity, Incarnation, PermissionId, PromptId, Restore, SessionId, Stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clients::Client;
use super::judge::{Cause, Deaths, Verdict, judge};
use super::turns::{NewPrompt, Phase, Turns};
use super::{At, Effect, Refusal, Reply, Spec};

/// Bounds of the core, in milliseconds where a name ends in `_MS`.
pub mod limits {
    /// Prompts that may wait in one session.
    pub const QUEUE: usize = 100;
    /// Interrupted prompts that are remembered; past it the oldest is dropped, and that is said.
    pub const INTERRUPTED: usize = 100;
    /// How much of the first prompt is shown in lists.
    pub const FIRST_PROMPT_CHARS: usize = 200;
    /// From spawn to ready.
    pub const START_MS: u64 = 20_000;
    /// The same for an agent that lives between prompts, which has a conversation to load.
    pub const START_ACP_MS: u64 = 120_000;
    /// Clients that may be attached to one session.
    pub const CLIENTS: usize = 1_000;
    /// Permissions that may wait at once.
    pub const PERMISSIONS: usize = 100;
    /// Answers to permissions that are kept after they were told, so that they can be told again.
    pub const ANSWERS: usize = 16;
    /// Open tool calls of one turn that are remembered.
    pub const TOOL_CALLS: usize = 1_000;
    /// From giving a worker a prompt to its taking it: also how a worker that hangs while idle is found.
    pub const TAKE_PROMPT_MS: u64 = 10_000;
    /// What a worker has beside its agent's grace to end a turn it was told to abort.
    pub const ABORT_SLACK_MS: u64 = 5_000;
    /// What a worker has beside its agent's grace to end its tree and leave.
    pub const STOP_SLACK_MS: u64 = 3_000;
    /// Between two rounds of SIGKILL.
    pub const KILL_MS: u64 = 1_000;
    /// From the first SIGKILL until a process counts as unkillable.
    pub const UNKILLABLE_MS: u64 = 10_000;
    /// What the workers of a dead manager have to leave by themselves.
    pub const ADOPT_MS: u64 = 5_000;
}

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
    /// The journal says a worker of an earlier manager lives.
    Adopting {
        /// The process.
        worker: Identity,
        /// What to do once it is gone.
        after: Why,
        /// Until when it may leave by itself.
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
    /// It misbehaved.
    Fault(String),
    /// Its agent ended.
    AgentDied(String),
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
    /// Its conversation.
    pub turns: Turns,
    /// Deaths that count against the intensity.
    pub deaths: Deaths,
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
    /// Tokens and cost, where the agent tells.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Who is attached.
    #[serde(default)]
    pub clients: Vec<Client>,
    /// The newest permission that was asked for.
    #[serde(default)]
    pub last_permission: Option<PermissionId>,
}

/// What happens to a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Somebody wants something. May be refused.
    Command(Command),
    /// An attached client wants something, which only the driver may.
    CommandBy(EventId, Command),
    /// Something was observed. Never refused; ignored if it is about an earlier incarnation.
    Seen(Incarnation, Seen),
    /// A manager has taken the session over from the journal. `same_boot` says whether times still compare.
    Recovered {
        /// The machine has not been started anew since the journal was written.
        same_boot: bool,
    },
    /// The manager leaves and takes its processes with it.
    Shutdown,
    /// Time has passed; the deadline may be due.
    Tick,
    /// The number of open sub-agent tasks changes.
    OpenTasks(i32),
}

/// What somebody can want of a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Have it up: start or wake it if it is not.
    Up,
    /// Have it down.
    Stop,
    /// A new process, and a clean slate for the judge.
    Restart,
    /// Accept a prompt.
    Prompt(NewPrompt),
    /// End the running turn.
    Abort,
    /// Never hibernate, or do again.
    Pin(bool),
    /// Replace the text of a waiting prompt.
    Edit(PromptId, Arc<str>),
    /// Take a waiting prompt out.
    Remove(PromptId),
    /// Take all waiting prompts out.
    Clear,
    /// Decide about an interrupted prompt.
    Resolve(PromptId, Resolution),
    /// Answer a permission.
    Permit(PermissionId, PermissionAnswer),
    /// Come, to drive or to look on.
    Attach {
        /// What the client calls itself.
        name: String,
        /// What it wants to do.
        role: Role,
        /// It drives, also if another does: that one looks on from then on.
        takeover: bool,
    },
    /// Go.
    Detach(EventId),
}

/// What can be observed of an incarnation.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// Its process was spawned.
    Spawned(Identity),
    /// It could not be spawned. `no_room`: because the machine had no process, descriptor or memory left.
    SpawnFailed {
        /// Why, for a person.
        error: String,
        /// It is not the session's fault.
        no_room: bool,
    },
    /// Its agent takes prompts.
    Ready {
        /// What the agent knows of the turns before.
        restore: Restore,
        /// The agent's process, where one lives between prompts.
        agent_pid: Option<u32>,
    },
    /// It took a prompt.
    TurnStarted {
        /// Which.
        prompt: PromptId,
        /// The process that runs it.
        agent_pid: u32,
    },
    /// Its agent said something.
    Output {
        /// In which prompt's turn.
        prompt: PromptId,
        /// On which output.
        stream: Stream,
        /// What.
        text: String,
    },
    /// A turn is over.
    TurnEnded {
        /// Which prompt's.
        prompt: PromptId,
        /// Why.
        end: TurnEnd,
        /// How the agent's process ended.
        exit: Option<Exit>,
        /// Processes that were ended with it.
        left_behind: u32,
    },
    /// What its agent calls the conversation.
    AgentSession(String),
    /// Its agent tells something of its work.
    Updated {
        /// In which prompt's turn; none between turns.
        prompt: Option<PromptId>,
        /// What of it is understood.
        update: Update,
        /// The whole of it.
        payload: Value,
    },
    /// Its agent wants to be allowed something.
    PermissionAsked {
        /// In which prompt's turn.
        prompt: PromptId,
        /// The worker's number of the question.
        request: u64,
        /// What.
        ask: PermissionAsk,
        /// The whole question.
        payload: Value,
    },
    /// Something that a person should read.
    Notice(String),
    /// Its agent has ended, and it leaves.
    AgentDied(String),
    /// Its agent wants somebody to log in, and it leaves.
    LoginNeeded(String),
    /// It misbehaves and must go.
    Faulted(String),
    /// It is dead, all that it had said has been read, and nothing that it started lives. The last thing ever
    /// observed of an incarnation.
    Gone {
        /// How it ended.
        exit: Exit,
        /// The last lines on its standard error.
        last_words: Vec<String>,
        /// Processes of its tree that survive SIGKILL.
        survivors: Vec<u32>,
    },
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
    /// What to do once that is recorded.
    pub effects: Vec<Effect>,
    /// What the fleet must know.
    pub notes: Vec<Note>,
    /// What to tell whoever gave the command.
    pub reply: Reply,
}

/// Collects what a step says.
pub(super) struct Out {
    base: EventId,
    events: Vec<EventKind>,
    notes: Vec<Note>,
}

impl Out {
    /// The id that the next emitted event will have.
    pub(super) fn next_event(&self) -> EventId {
        self.base + self.events.len() as EventId
    }

    pub(super) fn emit(&mut self, kind: EventKind) {
        self.events.push(kind);
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
            turns: Turns::default(),
            deaths: Deaths::default(),
            last_restart: None,
            recovering: false,
            restore: None,
            pinned: false,
            created_at: at.wall,
            parent: None,
            task: None,
            open_tasks: 0,
            agent_session: None,
            usage: None,
            clients: Vec::new(),
            last_permission: None,
        }
    }

    /// What `input` does. The first event of the step will have the id `next_event`. Only commands are refused;
    /// a refusal means that nothing changes.
    pub fn step(&self, at: At, next_event: EventId, input: &Input) -> Result<Step, Refusal> {
        let mut next = self.clone();
        let mut out = Out { base: next_event, events: Vec::new(), notes: Vec::new() };
        let mut reply = Reply::Done;
        match input {
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
        let effects = next.new_effects(self);
        Ok(Step { next, events: out.events, effects, notes: out.notes, reply })
    }

    /// The process that is this session's now.
    pub fn worker(&self) -> Option<&Identity> {
        match &self.state {
            State::Starting { worker, .. } | State::Stopping { worker, .. } => worker.as_ref(),
            State::Ready { worker, .. } | State::Adopting { worker, .. } => Some(worker),
            State::Restarting { .. } | State::Hibernated | State::Stopped | State::Failed(_) => None,
        }
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

    /// When [`Input::Tick`] is due, in milliseconds since boot. Every state that is not a resting one has one.
    pub fn deadline(&self) -> Option<u64> {
        match &self.state {
            State::Starting { deadline, .. }
            | State::Adopting { deadline, .. }
            | State::Stopping { deadline, .. } => Some(*deadline),
            State::Restarting { until } => Some(*until),
            State::Ready { idle_since, .. } => match &self.turns.running {
                None => self.hibernates().then(|| idle_since + self.spec.hibernate_after_ms),
                Some(turn) => match turn.phase {
                    Phase::Sent { deadline } | Phase::Aborting { deadline, .. } => Some(deadline),
                    Phase::Started { .. } => turn.open.iter().filter_map(|open| open.expires).min(),
                },
            },
            State::Hibernated | State::Stopped | State::Failed(_) => None,
        }
    }

    pub(super) fn wanted(&self) -> bool {
        self.goal == Goal::Up
    }

    fn hibernates(&self) -> bool {
        let alone = self.open_tasks == 0 && self.clients.is_empty();
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
            Command::Permit(permission, answer) => self.permit(*permission, answer, out),
            Command::Attach { name, role, takeover } => self.attach(at, name, *role, *takeover, out),
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
            // What comes after its end depends on the goal.
            State::Adopting { .. } | State::Stopping { .. } => {}
            State::Restarting { .. } | State::Hibernated | State::Failed(_) => self.stopped(None, out),
            State::Stopped => {}
        }
        Ok(Reply::Done)
    }

    fn restart(&mut self, at: At, out: &mut Out) -> Result<Reply, Refusal> {
        self.refuse_survivors()?;
        self.goal = Goal::Up;
        self.deaths.clear();
        match &mut self.state {
            State::Starting { worker, .. } => {
                let worker = worker.take();
                self.stopping(at, worker, Why::Restart);
            }
            State::Ready { worker, .. } => {
                let worker = worker.clone();
                self.stopping(at, Some(worker), Why::Restart);
            }
            State::Stopping { why: why @ (Why::Hibernate | Why::Hopeless(_)), .. }
            | State::Adopting { after: why @ (Why::Hibernate | Why::Hopeless(_)), .. } => *why = Why::Restart,
            State::Adopting { .. } | State::Stopping { .. } => {}
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
        match seen {
            Seen::Spawned(worker) => self.spawned(at, worker, out),
            Seen::SpawnFailed { error, no_room } => self.spawn_failed(at, error, *no_room, out),
            Seen::Ready { restore, agent_pid } => self.ready(at, *restore, *agent_pid, out),
            Seen::TurnStarted { prompt, agent_pid } => self.turn_started(*prompt, *agent_pid, out),
            Seen::Output { prompt, stream, text } => self.said(at, *prompt, *stream, text.clone(), None, out),
            // Its end was told: what is still read of it is no part of the history.
            Seen::AgentSession(_) | Seen::Updated { .. } | Seen::Notice(_) if self.worker().is_none() => {}
            Seen::AgentSession(id) => self.agent_session = Some(id.clone()),
            Seen::Updated { prompt, update, payload } => self.updated(at, *prompt, update, payload, out),
            Seen::PermissionAsked { prompt, request, ask, payload } => {
                self.permission_asked(at, *prompt, *request, ask, payload, out);
            }
            Seen::Notice(text) => out.emit(EventKind::SystemMessage { text: text.clone() }),
            Seen::AgentDied(why) => self.leaving(at, Why::AgentDied(why.clone())),
            Seen::LoginNeeded(why) => self.leaving(at, Why::Hopeless(why.clone())),
            Seen::TurnEnded { prompt, end, exit, left_behind } => {
                let unasked = *end == TurnEnd::Aborted && self.turns.runs_unasked(*prompt);
                self.turn_ended(*prompt, end, *exit, *left_behind, out);
                match &mut self.state {
                    // Somebody else told the worker to leave: it takes no further prompt.
                    State::Ready { worker, .. } if unasked => {
                        let worker = worker.clone();
                        self.stopping(at, Some(worker), Why::Fault("the worker was told to leave".into()));
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

    fn spawned(&mut self, at: At, spawned: &Identity, out: &mut Out) {
        match &mut self.state {
            State::Starting { worker: worker @ None, deadline } => {
                *worker = Some(spawned.clone());
                *deadline = at.mono + self.spec.start_ms();
                out.emit(EventKind::SessionStarted { pid: spawned.pid });
            }
            // Somebody stopped it while the spawn was on its way: it is on record now, and told to leave.
            State::Stopping { worker: worker @ None, .. } => *worker = Some(spawned.clone()),
            State::Starting { .. }
            | State::Ready { .. }
            | State::Adopting { .. }
            | State::Stopping { .. }
            | State::Restarting { .. }
            | State::Hibernated
            | State::Stopped
            | State::Failed(_) => {}
        }
    }

    fn spawn_failed(&mut self, at: At, error: &str, no_room: bool, out: &mut Out) {
        match &self.state {
            State::Starting { worker: None, .. } => {
                let error = error.to_owned();
                let cause = if no_room { Cause::NoRoom(error) } else { Cause::NoSpawn(error) };
                self.died(at, cause, None, None, &[], out);
            }
            State::Stopping { worker: None, why, .. } => {
                let why = why.clone();
                self.ended(at, &why, None, None, &[], out);
            }
            State::Starting { .. }
            | State::Ready { .. }
            | State::Adopting { .. }
            | State::Stopping { .. }
            | State::Restarting { .. }
            | State::Hibernated
            | State::Stopped
            | State::Failed(_) => {}
        }
    }

    fn ready(&mut self, at: At, restore: Restore, agent_pid: Option<u32>, out: &mut Out) {
        let State::Starting { worker: Some(worker), .. } = &self.state else {
            return;
        };
        let worker = worker.clone();
        let pid = worker.pid;
        self.state = State::Ready { worker, agent_pid, idle_since: at.mono };
        self.restore = Some(restore);
        out.emit(EventKind::SessionReady { pid, agent_pid, restore });
        if std::mem::take(&mut self.recovering) {
            let (old_pid, reason) = match &self.last_restart {
                Some(last) => (last.old_pid, last.reason.clone()),
                None => (None, String::new()),
            };
            out.emit(EventKind::SessionRestarted { old_pid, new_pid: pid, reason, restore });
        }
    }

    fn fault(&mut self, at: At, reason: &str) {
        let worker = match &self.state {
            State::Starting { worker, .. } => worker.clone(),
            State::Ready { worker, .. } => Some(worker.clone()),
            // It is on its way out already.
            State::Adopting { .. } | State::Stopping { .. } => return,
            State::Restarting { .. } | State::Hibernated | State::Stopped | State::Failed(_) => return,
        };
        self.state = State::Stopping {
            worker,
            why: Why::Fault(reason.to_owned()),
            // A worker that misbehaves is not asked.
            kills: 1,
            deadline: at.mono + limits::KILL_MS,
            give_up: at.mono + limits::UNKILLABLE_MS,
        };
    }

    /// The worker says that it leaves, and why; it has its time to do so.
    fn leaving(&mut self, at: At, why: Why) {
        match &self.state {
            State::Starting { worker, .. } => {
                let worker = worker.clone();
                self.stopping(at, worker, why);
            }
            State::Ready { worker, .. } => {
                let worker = worker.clone();
                self.stopping(at, Some(worker), why);
            }
            // It is on its way out already.
            State::Adopting { .. } | State::Stopping { .. } => {}
            State::Restarting { .. } | State::Hibernated | State::Stopped | State::Failed(_) => {}
        }
    }

    fn gone(&mut self, at: At, exit: Exit, last_words: &[String], survivors: &[u32], out: &mut Out) {
        let pid = self.worker().map(|worker| worker.pid);
        if !survivors.is_empty() && self.worker().is_some() {
            let reason = format!("processes {survivors:?} survived SIGKILL");
            let failure = Failure {
                reason,
                exit: Some(exit),
                last_words: last_words.to_vec(),
                survivors: survivors.to_vec(),
            };
            return self.fail(failure, out);
        }
        match &mut self.state {
            State::Starting { .. } | State::Ready { .. } => {
                self.died(at, Cause::Died(exit), pid, Some(exit), last_words, out);
            }
            State::Stopping { why, .. } | State::Adopting { after: why, .. } => {
                let why = why.clone();
                self.ended(at, &why, pid, Some(exit), last_words, out);
            }
            // What could not be killed is gone after all: if all of it is, it may be started again.
            State::Failed(failure) => failure.survivors = survivors.to_vec(),
            State::Restarting { .. } | State::Hibernated | State::Stopped => {}
        }
    }

    /// A process that was being ended is gone.
    fn ended(
        &mut self,
        at: At,
        why: &Why,
        pid: Option<u32>,
        exit: Option<Exit>,
        last_words: &[String],
        out: &mut Out,
    ) {
        if !self.wanted() {
            self.cut_turn("the session was stopped", None, out);
            return self.stopped(exit, out);
        }
        match why {
            Why::Stop | Why::Restart => {
                let reason = "restarted by request";
                self.cut_turn(reason, None, out);
                // Every exit is told, also one that somebody asked for.
                out.emit(EventKind::SessionRestarting {
                    reason: reason.into(),
                    old_pid: pid,
                    exit,
                    delay_ms: 0,
                    deaths: self.deaths.within(at.mono, self.spec.restart.period_ms),
                    last_words: last_words.to_vec(),
                });
                self.last_restart = Some(LastRestart { reason: reason.into(), old_pid: pid });
                self.recovering = true;
                self.begin(at);
            }
            Why::Hibernate => {
                self.state = State::Hibernated;
                out.emit(EventKind::SessionHibernated {});
            }
            Why::Shutdown | Why::Lost => self.died(at, Cause::ManagerLost, pid, exit, last_words, out),
            Why::Fault(reason) | Why::AgentDied(reason) => {
                self.died(at, Cause::Fault(reason.clone()), pid, exit, last_words, out);
            }
            Why::Hopeless(reason) => {
                let (reason, last_words) = (reason.clone(), last_words.to_vec());
                self.fail(Failure { reason, exit, last_words, survivors: Vec::new() }, out);
            }
        }
    }

    /// A death nobody asked for: the judge decides.
    fn died(
        &mut self,
        at: At,
        cause: Cause,
        old_pid: Option<u32>,
        exit: Option<Exit>,
        last_words: &[String],
        out: &mut Out,
    ) {
        let reason = cause.to_string();
        self.cut_turn(&reason, None, out);
        let policy = self.spec.restart;
        match judge(&mut self.deaths, policy, at.mono, &cause, &self.id, self.incarnation) {
            Verdict::Restart { delay_ms } => {
                out.emit(EventKind::SessionRestarting {
                    reason: reason.clone(),
                    old_pid,
                    exit,
                    delay_ms,
                    deaths: self.deaths.within(at.mono, policy.period_ms),
                    last_words: last_words.to_vec(),
                });
                self.last_restart = Some(LastRestart { reason, old_pid });
                self.recovering = true;
                if delay_ms == 0 {
                    self.begin(at);
                } else {
                    self.state = State::Restarting { until: at.mono + delay_ms };
                }
            }
            Verdict::Stop => {
                self.goal = Goal::Down;
                self.clear_queue(RemovedBy::Stopped, out);
                self.stopped(exit, out);
            }
            Verdict::Fail { reason } => {
                self.fail(
                    Failure { reason, exit, last_words: last_words.to_vec(), survivors: Vec::new() },
                    out,
                );
            }
        }
    }

    fn fail(&mut self, failure: Failure, out: &mut Out) {
        self.cut_turn(&failure.reason, None, out);
        self.recovering = false;
        if let Some(task) = self.task.as_mut().filter(|task| task.open) {
            task.open = false;
            out.note(Note::TaskLost { reason: failure.reason.clone() });
        }
        out.emit(EventKind::SessionFailed {
            reason: failure.reason.clone(),
            exit: failure.exit,
            last_words: failure.last_words.clone(),
            survivors: failure.survivors.clone(),
        });
        self.state = State::Failed(failure);
    }

    fn stopped(&mut self, exit: Option<Exit>, out: &mut Out) {
        self.recovering = false;
        self.state = State::Stopped;
        out.emit(EventKind::SessionStopped { exit });
    }

    // --- starts and ends ---

    fn begin(&mut self, at: At) {
        if at.closing {
            self.state = State::Restarting { until: at.mono };
            return;
        }
        self.incarnation += 1;
        self.state = State::Starting { worker: None, deadline: at.mono + self.spec.start_ms() };
    }

    fn begin_anew(&mut self, at: At) {
        self.deaths.clear();
        self.begin(at);
    }

    pub(super) fn wake(&mut self, at: At, out: &mut Out) {
        out.emit(EventKind::SessionWoken {});
        self.begin(at);
    }

    fn stopping(&mut self, at: At, worker: Option<Identity>, why: Why) {
        let deadline = at.mono + self.spec.grace_ms + limits::STOP_SLACK_MS;
        let give_up = deadline + limits::UNKILLABLE_MS;
        self.state = State::Stopping { worker, why, kills: 0, deadline, give_up };
    }

    fn shutdown(&mut self, at: At) {
        match &mut self.state {
            State::Starting { worker, .. } => {
                let worker = worker.take();
                self.stopping(at, worker, Why::Shutdown);
            }
            State::Ready { worker, .. } => {
                let worker = worker.clone();
                self.stopping(at, Some(worker), Why::Shutdown);
            }
            // These would be started again at their end; `begin` keeps them back while the manager closes.
            State::Adopting { .. } | State::Stopping { .. } => {}
            State::Restarting { .. } | State::Hibernated | State::Stopped | State::Failed(_) => {}
        }
    }

    fn recovered(&mut self, at: At, same_boot: bool, out: &mut Out) {
        if !same_boot {
            // Times of another boot mean nothing now.
            self.deaths.clear();
        }
        self.detach_all(out);
        let deadline = at.mono + limits::ADOPT_MS;
        match &mut self.state {
            // The spawn was never put on record: whatever came of it was never welcomed and has left.
            State::Starting { worker: None, .. } => self.begin(at),
            State::Starting { worker: Some(worker), .. } | State::Ready { worker, .. } => {
                let worker = worker.clone();
                self.state = State::Adopting { worker, after: Why::Lost, deadline };
            }
            State::Adopting { deadline: old, .. } => *old = deadline,
            State::Stopping { worker: Some(worker), why, .. } => {
                let (worker, after) = (worker.clone(), why.clone());
                self.state = State::Adopting { worker, after, deadline };
            }
            State::Stopping { worker: None, why, .. } => {
                let why = why.clone();
                self.ended(at, &why, None, None, &[], out);
            }
            State::Restarting { until } => {
                if !same_boot {
                    *until = at.mono;
                }
            }
            // What survived SIGKILL under the manager before is not ours to watch any more: the sweep at the
            // start has looked for it.
            State::Failed(failure) => failure.survivors.clear(),
            State::Hibernated | State::Stopped => {}
        }
    }

    // --- time ---

    fn tick(&mut self, at: At, out: &mut Out) {
        if self.deadline().is_none_or(|deadline| at.mono < deadline) {
            return;
        }
        match &mut self.state {
            State::Starting { .. } => {
                let seconds = self.spec.start_ms() / 1000;
                self.fault(at, &format!("the worker was not ready within {seconds} s"));
            }
            State::Ready { worker, .. } => match &self.turns.running {
                None => {
                    let worker = worker.clone();
                    self.stopping(at, Some(worker), Why::Hibernate);
                }
                Some(turn) => match turn.phase {
                    Phase::Sent { .. } => {
                        let seconds = limits::TAKE_PROMPT_MS / 1000;
                        self.fault(at, &format!("the worker took no prompt within {seconds} s"));
                    }
                    Phase::Aborting { .. } => {
                        self.fault(at, "the worker did not end the turn it was told to")
                    }
                    Phase::Started { .. } => self.expire_permissions(at, out),
                },
            },
            State::Adopting { worker, after, .. } => {
                self.state = State::Stopping {
                    worker: Some(worker.clone()),
                    why: after.clone(),
                    kills: 1,
                    deadline: at.mono + limits::KILL_MS,
                    give_up: at.mono + limits::UNKILLABLE_MS,
                };
            }
            State::Stopping { worker: None, why, .. } => {
                let why = why.clone();
                self.ended(at, &why, None, None, &[], out);
            }
            State::Stopping { worker: Some(worker), kills, deadline, give_up, .. } => {
                // Time may jump, over the machine's sleep or a full disk: only what was killed survives that.
                if *kills > 0 && at.mono >= *give_up {
                    let reason = format!("process {} survived SIGKILL", worker.pid);
                    let survivors = vec![worker.pid];
                    self.fail(Failure { reason, exit: None, last_words: Vec::new(), survivors }, out);
                } else {
                    if *kills == 0 {
                        *give_up = at.mono + limits::UNKILLABLE_MS;
                    }
                    *kills += 1;
                    *deadline = (at.mono + limits::KILL_MS).min(*give_up);
                }
            }
            State::Restarting { .. } => self.begin(at),
            State::Hibernated | State::Stopped | State::Failed(_) => {}
        }
    }

    /// What follows from the state at the end of any step, whatever led there.
    fn settle(&mut self, at: At, out: &mut Out) {
        if matches!(self.state, State::Hibernated) && !self.turns.queue.is_empty() && !at.closing {
            self.wake(at, out);
        }
        // Nobody can tell the agent any more.
        if !matches!(self.state, State::Ready { .. })
            && let Some(turn) = &mut self.turns.running
        {
            turn.close_permissions("the worker is being ended", out);
        }
        self.start_turn(at, out);
    }
}
