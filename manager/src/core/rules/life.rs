//! The life of a session's process: spawn, ready, adoption, stop and shutdown.

use protocol::event::EventKind;
use protocol::{Identity, Restore};

use crate::core::at::At;
use crate::core::limits;
use crate::core::model::session::Session;
use crate::core::model::state::{State, Was, Why};
use crate::core::model::turn::Phase;
use crate::core::out::Out;
use crate::core::rules::judge::Cause;

impl Session {
    pub(in crate::core) fn spawned(&mut self, at: At, spawned: &Identity, out: &mut Out) {
        match &mut self.state {
            State::Starting { worker: worker @ None, deadline } => {
                *worker = Some(spawned.clone());
                *deadline = at.mono + self.spec.start_ms();
                self.turns.between = 0;
                out.emit(EventKind::SessionStarted { pid: spawned.pid });
            }
            // A command stopped the session while the spawn was on its way. The process is on record now, and
            // told to leave.
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
            // It became ready while no manager read its messages.
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
        // Its agent has received them.
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
        // No message reached the worker meanwhile, so its deadlines start now.
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
        // A worker that misbehaves is not asked.
        self.killing(at, worker, Why::Fault(reason.to_owned()));
    }

    /// Handles the agent's id of its conversation. An agent that was to take up one that began outside kennel, and has begun another,
    /// ends: a person expects the old one.
    pub(in crate::core) fn agent_session_is(&mut self, at: At, id: &str) {
        match self.to_take_up().filter(|wanted| *wanted != id) {
            Some(wanted) => {
                let why = self.start_notice.as_ref().map(|notice| format!(": {notice}")).unwrap_or_default();
                let reason =
                    format!("the agent does not take up the conversation `{}`{why}", wanted.escape_debug());
                self.leaving(at, Why::Hopeless(reason));
            }
            None => self.agent_session = Some(id.to_owned()),
        }
    }

    /// The conversation from outside kennel that the agent has not taken up yet.
    pub(in crate::core) fn to_take_up(&self) -> Option<&str> {
        self.spec.conversation.as_deref().filter(|_| self.restore.is_none())
    }

    /// Handles a worker's report that its agent's program could not run. A worker that was ready has run it.
    pub(in crate::core) fn not_run(&mut self, at: At, message: &str, passes: bool) {
        let message = message.to_owned();
        let why = if self.was_ready { Why::AgentDied(message) } else { Why::NotRun { message, passes } };
        self.leaving(at, why);
    }

    /// Handles a worker's report that it has found the agent's program. Emits an event if the program has
    /// moved, as in an upgrade.
    pub(in crate::core) fn runs(&mut self, path: &str, out: &mut Out) {
        let before = self.program.as_deref().or(self.spec.agent.program());
        if let Some(before) = before.filter(|before| *before != path) {
            let text = format!("the agent's program is {path} now; it was {before}");
            out.emit(EventKind::SystemMessage { text });
        }
        self.program = Some(path.to_owned());
    }

    /// Handles a worker's report that it leaves, with the reason. The worker gets its time to do so.
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

    // --- starts and ends ---

    pub(in crate::core) fn begin(&mut self, at: At) {
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
        if self.is_at_rest() && why.is_of_kennel() {
            // It has nothing to say and nothing to end. The sweep after its death finds what escaped it.
            return self.killing(at, worker, why);
        }
        let deadline = at.mono + self.spec.grace_ms + limits::STOP_SLACK_MS;
        let give_up = deadline + limits::UNKILLABLE_MS;
        self.state = State::Stopping { worker, why, kills: 0, deadline, give_up };
    }

    /// Ends a worker without asking it.
    pub(in crate::core) fn killing(&mut self, at: At, worker: Option<Identity>, why: Why) {
        let (deadline, give_up) = (at.mono + limits::KILL_MS, at.mono + limits::UNKILLABLE_MS);
        self.state = State::Stopping { worker, why, kills: 1, deadline, give_up };
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
            self.kept = None;
        }
        self.detach_all(at, out);
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
            // This manager does not watch processes that survived SIGKILL under the one before: the sweep at
            // the start has looked for them.
            State::Failed(failure) => failure.survivors.clear(),
            State::Hibernated | State::Stopped => {}
        }
    }

    // --- time ---
}
