//! The life of a session's process: how it comes, dies, is ended, and what follows with time.

use protocol::api::Failure;
use protocol::event::{EventKind, RemovedBy};
use protocol::{Exit, Identity, Restore};

use super::judge::{Cause, Verdict, judge, judge_absence};
use super::turns::Phase;
use crate::core::session::{Goal, LastRestart, Note, Out, Session, State, Was, Why};
use crate::core::{At, limits};

impl Session {
    pub(in crate::core) fn spawned(&mut self, at: At, spawned: &Identity, out: &mut Out) {
        match &mut self.state {
            State::Starting { worker: worker @ None, deadline } => {
                *worker = Some(spawned.clone());
                *deadline = at.mono + self.spec.start_ms();
                self.turns.between = 0;
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

    pub(in crate::core) fn spawn_failed(&mut self, at: At, error: &str, no_room: bool, out: &mut Out) {
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

    pub(in crate::core) fn ready(&mut self, at: At, restore: Restore, agent_pid: Option<u32>, out: &mut Out) {
        let pid = match &mut self.state {
            State::Starting { worker: Some(worker), .. } => {
                let worker = worker.clone();
                let pid = worker.pid;
                self.state = State::Ready { worker, agent_pid, idle_since: at.mono };
                pid
            }
            // It came to this while nobody heard it.
            State::Adopting { worker, was: was @ Was::Starting, .. } => {
                *was = Was::Ready { agent_pid };
                worker.pid
            }
            State::Starting { worker: None, .. }
            | State::Ready { .. }
            | State::Adopting { .. }
            | State::Stopping { .. }
            | State::Restarting { .. }
            | State::Hibernated
            | State::Stopped
            | State::Failed(_) => return,
        };
        self.restore = Some(restore);
        self.start_notice = None;
        // Its agent has heard of it.
        self.awaited.clear();
        self.owes_transcript |= restore == Restore::Replayed;
        (self.lost_starts, self.was_ready, self.absence) = (0, true, None);
        out.emit(EventKind::SessionReady { pid, agent_pid, restore });
        if std::mem::take(&mut self.recovering) {
            let (old_pid, reason) = match &self.last_restart {
                Some(last) => (last.old_pid, last.reason.clone()),
                None => (None, String::new()),
            };
            out.emit(EventKind::SessionRestarted { old_pid, new_pid: pid, reason, restore });
        }
    }

    /// A worker of an earlier manager has answered this one, and goes on.
    pub(in crate::core) fn linked(&mut self, at: At, outdated: bool, out: &mut Out) {
        let State::Adopting { worker, was, after, .. } = &self.state else {
            return;
        };
        let (worker, after) = (worker.clone(), after.clone());
        self.outdated = outdated;
        out.emit(EventKind::SessionAdopted { pid: worker.pid });
        match was {
            Was::Starting => {
                let deadline = at.mono + self.spec.start_ms();
                self.state = State::Starting { worker: Some(worker), deadline };
            }
            Was::Ready { agent_pid } => {
                let agent_pid = *agent_pid;
                self.state = State::Ready { worker, agent_pid, idle_since: at.mono };
            }
            Was::Stopping => return self.stopping(at, Some(worker), after),
        }
        // Nobody could tell it anything meanwhile: what it was to do in time it is told now.
        let abort_by = at.mono + self.spec.grace_ms + limits::ABORT_SLACK_MS;
        match self.turns.running.as_mut().map(|turn| &mut turn.phase) {
            Some(Phase::Sent { deadline }) => *deadline = at.mono + limits::TAKE_PROMPT_MS,
            Some(Phase::Aborting { deadline, .. }) => *deadline = abort_by,
            Some(Phase::Started { .. }) | None => {}
        }
    }

    pub(in crate::core) fn fault(&mut self, at: At, reason: &str) {
        let worker = match &self.state {
            State::Starting { worker, .. } => worker.clone(),
            // It is on its way out already.
            State::Stopping { .. } | State::Adopting { was: Was::Stopping, .. } => return,
            State::Ready { worker, .. } | State::Adopting { worker, .. } => Some(worker.clone()),
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

    /// The worker says that its agent's program did not come to run. A worker that was ready has run it.
    pub(in crate::core) fn not_run(&mut self, at: At, message: &str, passes: bool) {
        let message = message.to_owned();
        let why = if self.was_ready { Why::AgentDied(message) } else { Why::NotRun { message, passes } };
        self.leaving(at, why);
    }

    /// The worker has found the agent's program. An upgrade that has moved it is told.
    pub(in crate::core) fn runs(&mut self, path: &str, out: &mut Out) {
        let before = self.program.as_deref().or(self.spec.agent.program());
        if let Some(before) = before.filter(|before| *before != path) {
            let text = format!("the agent's program is {path} now; it was {before}");
            out.emit(EventKind::SystemMessage { text });
        }
        self.program = Some(path.to_owned());
    }

    /// The worker says that it leaves, and why; it has its time to do so.
    pub(in crate::core) fn leaving(&mut self, at: At, why: Why) {
        match &self.state {
            State::Starting { worker, .. } => {
                let worker = worker.clone();
                self.stopping(at, worker, why);
            }
            // It is on its way out already.
            State::Stopping { .. } | State::Adopting { was: Was::Stopping, .. } => {}
            State::Ready { worker, .. } | State::Adopting { worker, .. } => {
                let worker = worker.clone();
                self.stopping(at, Some(worker), why);
            }
            State::Restarting { .. } | State::Hibernated | State::Stopped | State::Failed(_) => {}
        }
    }

    pub(in crate::core) fn gone(
        &mut self,
        at: At,
        exit: Exit,
        last_words: &[String],
        survivors: &[u32],
        out: &mut Out,
    ) {
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
            Why::Stop | Why::Restart | Why::Outdated => {
                let reason = match why {
                    Why::Outdated => "its worker was of another version of kennel",
                    _ => "restarted by request",
                };
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
            Why::NotRun { message, passes } => {
                let cause = Cause::NotRun { message: message.clone(), passes: *passes };
                self.died(at, cause, pid, exit, last_words, out);
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
        // A program that did not come to run has taken up no conversation, and lost none.
        if matches!(cause, Cause::Died(_) | Cause::Fault(_)) {
            self.absence = None;
            self.start_lost(out);
        }
        self.cut_turn(&reason, None, out);
        let policy = self.spec.restart;
        let verdict = match &cause {
            Cause::NotRun { passes: true, .. } | Cause::NoSpawn(_) => {
                judge_absence(&mut self.absence, at.mono, &cause, &self.id, self.incarnation)
            }
            Cause::NotRun { passes: false, .. }
            | Cause::Died(_)
            | Cause::Fault(_)
            | Cause::NoRoom(_)
            | Cause::ManagerLost => {
                judge(&mut self.deaths, policy, at.mono, &cause, &self.id, self.incarnation)
            }
        };
        match verdict {
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

    /// An agent that dies again and again over its conversation is given a new one, and is told the one before.
    fn start_lost(&mut self, out: &mut Out) {
        if self.agent_session.is_none() || self.was_ready {
            return;
        }
        self.lost_starts += 1;
        if self.lost_starts >= limits::LOST_STARTS {
            (self.agent_session, self.lost_starts) = (None, 0);
            let text = "the agent does not come to take up its conversation; it begins anew, and is told the turns before";
            out.emit(EventKind::SystemMessage { text: text.into() });
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

    pub(in crate::core) fn stopped(&mut self, exit: Option<Exit>, out: &mut Out) {
        self.recovering = false;
        self.state = State::Stopped;
        out.emit(EventKind::SessionStopped { exit });
    }

    // --- starts and ends ---

    fn begin(&mut self, at: At) {
        self.turns.not_before = None;
        if at.closing {
            self.state = State::Restarting { until: at.mono };
            return;
        }
        self.incarnation += 1;
        self.start_notice = None;
        self.was_ready = false;
        self.heard = 0;
        self.outdated = false;
        self.state = State::Starting { worker: None, deadline: at.mono + self.spec.start_ms() };
    }

    pub(in crate::core) fn begin_anew(&mut self, at: At) {
        self.deaths.clear();
        self.absence = None;
        self.begin(at);
    }

    pub(in crate::core) fn wake(&mut self, at: At, out: &mut Out) {
        out.emit(EventKind::SessionWoken {});
        self.begin(at);
    }

    pub(in crate::core) fn stopping(&mut self, at: At, worker: Option<Identity>, why: Why) {
        let deadline = at.mono + self.spec.grace_ms + limits::STOP_SLACK_MS;
        let give_up = deadline + limits::UNKILLABLE_MS;
        self.state = State::Stopping { worker, why, kills: 0, deadline, give_up };
    }

    pub(in crate::core) fn shutdown(&mut self, at: At) {
        match &mut self.state {
            State::Starting { worker, .. } => {
                let worker = worker.take();
                self.stopping(at, worker, Why::Shutdown);
            }
            State::Ready { worker, .. } | State::Adopting { worker, .. } => {
                let worker = worker.clone();
                self.stopping(at, Some(worker), Why::Shutdown);
            }
            // It would be started again at its end; `begin` keeps it back while the manager closes.
            State::Stopping { .. } => {}
            State::Restarting { .. } | State::Hibernated | State::Stopped | State::Failed(_) => {}
        }
    }

    pub(in crate::core) fn recovered(&mut self, at: At, same_boot: bool, out: &mut Out) {
        if !same_boot {
            // Times of another boot mean nothing now.
            self.deaths.clear();
            self.absence = None;
            self.turns.not_before = None;
        }
        self.detach_all(out);
        let deadline = at.mono + limits::ADOPT_MS;
        match &mut self.state {
            // The spawn was never put on record: whatever came of it was never welcomed and has left.
            State::Starting { worker: None, .. } => self.begin(at),
            State::Starting { worker: Some(worker), .. } => {
                let (worker, was) = (worker.clone(), Was::Starting);
                self.state = State::Adopting { worker, was, after: Why::Lost, deadline };
            }
            State::Ready { worker, agent_pid, .. } => {
                let (worker, was) = (worker.clone(), Was::Ready { agent_pid: *agent_pid });
                self.state = State::Adopting { worker, was, after: Why::Lost, deadline };
            }
            State::Adopting { deadline: old, .. } => *old = deadline,
            State::Stopping { worker: Some(worker), why, .. } => {
                let (worker, after) = (worker.clone(), why.clone());
                self.state = State::Adopting { worker, was: Was::Stopping, after, deadline };
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

    pub(in crate::core) fn tick(&mut self, at: At, out: &mut Out) {
        if self.deadline().is_none_or(|deadline| at.mono < deadline) {
            return;
        }
        match &mut self.state {
            State::Starting { .. } => {
                let seconds = self.spec.start_ms() as f64 / 1000.0;
                let sandbox = self.spec.walls.as_ref().map(|walls| walls.sandbox.name());
                let sandbox = sandbox.map(|name| format!("; its agent's sandbox is `{name}`"));
                let reason = format!("the worker was not ready within {seconds} s");
                self.fault(at, &(reason + &sandbox.unwrap_or_default()));
            }
            State::Ready { worker, .. } => match &self.turns.running {
                None => {
                    let worker = worker.clone();
                    self.expire_permissions(at, out);
                    // A prompt that waits is taken to the agent again by `settle`.
                    let rests = self.turns.not_before.is_none();
                    if rests && self.rest_ends().is_some_and(|end| end <= at.mono) {
                        self.stopping(at, Some(worker), Why::Hibernate);
                    }
                }
                Some(turn) => match turn.phase {
                    Phase::Sent { .. } => {
                        let seconds = limits::TAKE_PROMPT_MS / 1000;
                        self.fault(at, &format!("the worker took no prompt within {seconds} s"));
                    }
                    Phase::Aborting { .. } => {
                        self.fault(at, "the worker did not end the turn it was told to")
                    }
                    Phase::Started { .. } => {
                        self.expire_turn(at, out);
                        self.expire_permissions(at, out);
                        self.expire_calls(at, out);
                    }
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
                // Time may jump, over the machine's sleep or a full disk: what has died meanwhile is told after this tick.
                let jumped = at.mono > *deadline + limits::KILL_MS;
                if *kills > 0 && at.mono >= *give_up && !jumped {
                    let reason = format!("process {} survived SIGKILL", worker.pid);
                    let survivors = vec![worker.pid];
                    self.fail(Failure { reason, exit: None, last_words: Vec::new(), survivors }, out);
                } else {
                    if *kills == 0 || jumped {
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

    /// What an older or newer program cannot be told may be in the next prompt.
    fn replace_outdated(&mut self, at: At) {
        if let State::Ready { worker, .. } = &self.state
            && self.outdated
            && self.turns.running.is_none()
            && !at.closing
        {
            let worker = worker.clone();
            self.stopping(at, Some(worker), Why::Outdated);
        }
    }

    /// What follows from the state at the end of any step, whatever led there.
    pub(in crate::core) fn settle(&mut self, at: At, out: &mut Out) {
        if matches!(self.state, State::Hibernated) && !self.turns.queue.is_empty() && !at.closing {
            self.wake(at, out);
        }
        // Nobody can tell the agent any more.
        if !self.agent_goes_on() {
            let why = "the worker is being ended";
            self.turns.asked.asking().close(why, out);
            self.turns.asked.answers.clear();
            if let Some(turn) = &mut self.turns.running {
                turn.asking().close(why, out);
                turn.close_calls(why, out);
            }
        }
        self.settle_calls(at, out);
        self.replace_outdated(at);
        self.start_turn(at, out);
    }
}
