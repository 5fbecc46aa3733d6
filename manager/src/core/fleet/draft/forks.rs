//! Forks: a new session of the origin's agent that is told the origin's turns until one of them.

use std::sync::Arc;

use protocol::SessionId;
use protocol::api::ForkedFrom;
use protocol::wire::Agent;

use super::Draft;
use crate::core::input::Fork;
use crate::core::limits::LABELS;
use crate::core::model::session::Session;
use crate::core::model::spec::Spec;
use crate::core::refusal::Refusal;

impl Draft<'_> {
    /// Starts a session that goes on from a turn of another. Its agent, walls, limits and permissions are the origin's.
    pub(super) fn fork(&mut self, fork: &Fork) -> Result<SessionId, Refusal> {
        let origin = self.fleet.expect(&fork.origin)?.clone();
        origin.can_be_forked_at(fork.turn)?;
        let told = fork.told.as_ref().filter(|told| !told.is_empty());
        let gone = || Refusal::TurnPruned { id: origin.id.clone(), turn: fork.turn };
        let told = told.ok_or_else(gone)?;
        let mut spec = self.spec_of_fork(&origin);
        if let Some(workdir) = &fork.workdir {
            if spec.walls.is_some() && *workdir != spec.workdir {
                return Err(Refusal::ForkElsewhere { id: origin.id.clone() });
            }
            spec.workdir.clone_from(workdir);
        }
        spec.start_commit.clone_from(&fork.start_commit);
        spec.name.clone_from(&fork.called.name);
        match fork.called.title.as_deref() {
            None => {}
            Some("") => spec.title = None,
            Some(title) => spec.title = Some(title.to_owned()),
        }
        let labels = fork.called.labels.iter().filter_map(|(label, value)| Some((label, value.as_ref()?)));
        spec.labels.extend(labels.map(|(label, value)| (label.clone(), value.clone())));
        if spec.labels.len() > LABELS {
            return Err(Refusal::TooManyLabels { id: fork.origin.clone(), limit: LABELS });
        }
        spec.forked_from =
            Some(ForkedFrom { session_id: origin.id.clone(), turn: fork.turn, told: told.len() as u64 });
        self.told.clone_from(told);
        let id = self.create(fork.id.as_ref(), &Arc::new(spec), None, false)?;
        if let Some(session) = self.changed.get_mut(&id) {
            // The agent of the fork is set as the origin's, also by changes that its agent has not answered yet.
            Arc::make_mut(session).settings.clone_from(&origin.settings);
        }
        Ok(id)
    }

    /// The origin's spec. A fork of a sub-agent has no parent; what its tree allows below it, the fork may have below it, and no more.
    fn spec_of_fork(&self, origin: &Session) -> Spec {
        let mut spec = Spec::clone(&origin.spec);
        // The client that could answer these is the origin's.
        spec.offers.clear();
        // The fork has a conversation of its own.
        spec.conversation = None;
        let above: Vec<_> = self.fleet.above(&origin.id).collect();
        if let Some(root) = above.last() {
            let (own, limits) = (&mut spec.subagents, root.spec.subagents);
            let depth = limits.depth.saturating_sub(u32::try_from(above.len()).unwrap_or(u32::MAX));
            own.depth = own.depth.min(depth);
            own.breadth = own.breadth.min(limits.breadth);
            own.total = own.total.min(limits.total);
        }
        spec
    }
}

impl Session {
    /// Refuses a fork at a turn that there is not, or that has not ended, and one whose agent could not be told of turns.
    pub fn can_be_forked_at(&self, turn: u64) -> Result<(), Refusal> {
        let is_told = match &self.spec.agent {
            Agent::Acp { .. } => true,
            Agent::Command { transcript, .. } => *transcript,
            Agent::Shell => false,
        };
        if !is_told {
            let agent = self.spec.agent_name.clone();
            return Err(Refusal::CannotFork { id: self.id.clone(), agent });
        }
        if turn == 0 || turn > self.turns.count {
            return Err(Refusal::NoSuchTurn { id: self.id.clone(), turn, count: self.turns.count });
        }
        match self.turns.running.as_ref().is_some_and(|running| running.number <= turn) {
            true => Err(Refusal::TurnRuns { id: self.id.clone(), turn }),
            false => Ok(()),
        }
    }
}
