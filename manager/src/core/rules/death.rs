//! The end of a session's process: the judge decides, and the session starts again, stops or fails.

use protocol::Exit;
use protocol::api::Failure;
use protocol::event::{EventKind, RemovedBy, RestartCause, Timestamp};

use crate::core::at::At;
use crate::core::limits;
use crate::core::model::session::{LastRestart, Session};
use crate::core::model::state::{Goal, State, Why};
use crate::core::out::{Note, Out};
use crate::core::rules::judge::{ABSENCE_MS, Cause, Verdict, judge, judge_absence};

/// The number of the signal (signal(7)).
const SIGKILL: i32 = 9;

impl Session {
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
                failed_at: None,
            };
            return self.fail(at, failure, out);
        }
        match &mut self.state {
            State::Starting { .. } | State::Ready { .. } => {
                self.died(at, Cause::Died(exit), pid, Some(exit), last_words, out);
            }
            State::Stopping { why, .. } | State::Adopting { after: why, .. } => {
                let why = why.clone();
                let exit = Some(exit).filter(|exit| !self.was_killed_at_rest(*exit, &why));
                self.ended(at, &why, pid, exit, last_words, out);
            }
            // A survivor of SIGKILL is gone after all. Once all are gone, the session may be started again.
            State::Failed(failure) => failure.survivors = survivors.to_vec(),
            State::Restarting { .. } | State::Hibernated | State::Stopped => {}
        }
    }

    /// The spare worker that this incarnation took is gone, before it was told anything.
    pub(in crate::core) fn spare_lost(&mut self, at: At, out: &mut Out) {
        let pid = self.worker().map(|worker| worker.pid);
        match &self.state {
            State::Starting { worker: Some(_), .. } => self.died(at, Cause::SpareLost, pid, None, &[], out),
            State::Stopping { worker: Some(_), why, .. } => {
                let why = why.clone();
                self.ended(at, &why, pid, None, &[], out);
            }
            State::Starting { worker: None, .. }
            | State::Stopping { worker: None, .. }
            | State::Ready { .. }
            | State::Adopting { .. }
            | State::Restarting { .. }
            | State::Hibernated
            | State::Stopped
            | State::Failed(_) => {}
        }
    }

    /// Returns true for the exit of a worker that kennel killed at rest. Nobody is told: the exit says nothing about the
    /// session, and reads like a crash.
    fn was_killed_at_rest(&self, exit: Exit, why: &Why) -> bool {
        let at_rest = self.was_ready && self.is_between_agents();
        exit == Exit::Signal(SIGKILL) && why.is_of_kennel() && at_rest
    }

    /// A process that was being ended is gone.
    pub(in crate::core) fn ended(
        &mut self,
        at: At,
        why: &Why,
        pid: Option<u32>,
        exit: Option<Exit>,
        last_words: &[String],
        out: &mut Out,
    ) {
        if !self.wanted() {
            self.cut_turn(at, "the session was stopped", None, out);
            return self.stopped(exit, out);
        }
        match why {
            Why::Stop | Why::Restart | Why::Outdated => {
                let (cause, reason) = match why {
                    Why::Outdated => (RestartCause::Outdated, "its worker was of another version of kennel"),
                    _ => (RestartCause::Requested, "restarted by request"),
                };
                self.cut_turn(at, reason, None, out);
                // Every end is an event, even one that a command asked for.
                out.emit(EventKind::SessionRestarting {
                    cause: Some(cause),
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
            Why::Shutdown => self.died(at, Cause::ManagerStopped, pid, exit, last_words, out),
            Why::Lost => self.died(at, Cause::ManagerLost, pid, exit, last_words, out),
            Why::Fault(reason) => self.died(at, Cause::Fault(reason.clone()), pid, exit, last_words, out),
            Why::AgentDied(reason) => {
                self.died(at, Cause::AgentDied(reason.clone()), pid, exit, last_words, out);
            }
            Why::NotRun { message, passes } => {
                let cause = Cause::NotRun { message: message.clone(), passes: *passes };
                self.died(at, cause, pid, exit, last_words, out);
            }
            Why::Hopeless(reason) => {
                let (reason, last_words) = (reason.clone(), last_words.to_vec());
                self.fail(
                    at,
                    Failure { reason, exit, last_words, survivors: Vec::new(), failed_at: None },
                    out,
                );
            }
        }
    }

    /// Lets the judge decide after a death that no command asked for.
    pub(in crate::core) fn died(
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
        if matches!(cause, Cause::Died(_) | Cause::Fault(_) | Cause::AgentDied(_)) {
            self.absence = None;
            self.start_lost(out);
        }
        self.cut_turn(at, &reason, None, out);
        let policy = self.spec.restart;
        let absent = matches!(cause, Cause::NotRun { passes: true, .. } | Cause::NoSpawn(_));
        let verdict = match &cause {
            Cause::NotRun { passes: true, .. } | Cause::NoSpawn(_) => {
                judge_absence(&mut self.absence, at.mono, &cause, &self.id, self.incarnation).into()
            }
            Cause::NotRun { passes: false, .. }
            | Cause::Died(_)
            | Cause::Fault(_)
            | Cause::AgentDied(_)
            | Cause::NoRoom(_)
            | Cause::SpareLost
            | Cause::ManagerStopped
            | Cause::ManagerLost => {
                judge(&mut self.deaths, policy, at.mono, &cause, &self.id, self.incarnation)
            }
        };
        match verdict {
            Verdict::Restart { delay_ms } => {
                let reason = match absent {
                    true => format!("{reason}; kennel tries again for {} s", ABSENCE_MS / 1000),
                    false => reason,
                };
                out.emit(EventKind::SessionRestarting {
                    cause: Some(cause.code()),
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
                    at,
                    Failure {
                        reason,
                        exit,
                        last_words: last_words.to_vec(),
                        survivors: Vec::new(),
                        failed_at: None,
                    },
                    out,
                );
            }
        }
    }

    /// Starts an agent that dies again and again over its conversation with a new one, and replays the old
    /// one to it.
    fn start_lost(&mut self, out: &mut Out) {
        if self.agent_session.is_none() || self.was_ready || self.to_take_up().is_some() {
            return;
        }
        self.lost_starts += 1;
        if self.lost_starts >= limits::LOST_STARTS {
            (self.agent_session, self.lost_starts) = (None, 0);
            let text = "the agent does not come to take up its conversation; it begins anew, and is told the turns before";
            out.emit(EventKind::SystemMessage { text: text.into() });
        }
    }

    pub(in crate::core) fn fail(&mut self, at: At, failure: Failure, out: &mut Out) {
        let failure = Failure { failed_at: Some(Timestamp(at.wall)), ..failure };
        self.cut_turn(at, &failure.reason, None, out);
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
}
