//! Commands that bring a session up or down, and whether it accepts prompts.

use protocol::event::RemovedBy;

use crate::core::at::At;
use crate::core::input::Reply;
use crate::core::model::session::Session;
use crate::core::model::state::{Goal, State, Why};
use crate::core::out::Out;
use crate::core::refusal::Refusal;

impl Session {
    pub(in crate::core) fn takes_prompts(&self) -> Result<(), Refusal> {
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

    pub(in crate::core) fn up(&mut self, at: At, out: &mut Out) -> Result<Reply, Refusal> {
        self.refuse_survivors()?;
        self.goal = Goal::Up;
        match &mut self.state {
            State::Stopped | State::Failed(_) => self.begin_anew(at),
            State::Hibernated => self.wake(at, out),
            // Being asked for is being used.
            State::Ready { idle_since, .. } => *idle_since = at.mono,
            // A client that wants the session up must not find it hibernating.
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

    pub(in crate::core) fn stop(&mut self, at: At, out: &mut Out) -> Result<Reply, Refusal> {
        self.refuse_survivors()?;
        self.goal = Goal::Down;
        self.clear_queue(RemovedBy::Stopped, out);
        match &self.state {
            State::Starting { worker, .. } => self.stopping(at, worker.clone(), Why::Stop),
            State::Ready { worker, .. } => self.stopping(at, Some(worker.clone()), Why::Stop),
            State::Adopting { worker, .. } => self.stopping(at, Some(worker.clone()), Why::Stop),
            // The state after its end depends on the goal.
            State::Stopping { .. } => {}
            State::Restarting { .. } | State::Hibernated | State::Failed(_) => self.stopped(None, out),
            State::Stopped => {}
        }
        Ok(Reply::Done)
    }

    pub(in crate::core) fn restart(&mut self, at: At, out: &mut Out) -> Result<Reply, Refusal> {
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
}
