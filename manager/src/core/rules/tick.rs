//! Deadlines, and what follows from the state at the end of each step.

use protocol::api::Failure;

use crate::core::at::At;
use crate::core::limits;
use crate::core::model::session::Session;
use crate::core::model::state::{State, Why};
use crate::core::model::turn::Phase;
use crate::core::out::Out;

impl Session {
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
                let (worker, why) = (worker.clone(), after.clone());
                self.killing(at, Some(worker), why);
            }
            State::Stopping { worker: None, why, .. } => {
                let why = why.clone();
                self.ended(at, &why, None, None, &[], out);
            }
            State::Stopping { worker: Some(worker), kills, deadline, give_up, .. } => {
                // Time may jump, over the machine's sleep or a full disk. Deaths of that time are observed
                // after this tick.
                let jumped = at.mono > *deadline + limits::KILL_MS;
                if *kills > 0 && at.mono >= *give_up && !jumped {
                    let reason = format!("process {} survived SIGKILL", worker.pid);
                    let survivors = vec![worker.pid];
                    let (exit, last_words, failed_at) = (None, Vec::new(), None);
                    self.fail(at, Failure { reason, exit, last_words, survivors, failed_at }, out);
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

    /// Replaces a worker of another version between two turns: it may not understand the next prompt.
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

    /// Does what follows from the state at the end of every step.
    pub(in crate::core) fn settle(&mut self, at: At, out: &mut Out) {
        if matches!(self.state, State::Hibernated) && !self.turns.queue.is_empty() && !at.closing {
            self.wake(at, out);
        }
        // No message can reach the agent any more.
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
