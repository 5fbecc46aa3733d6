//! Reports on the agent: its own reports, the sandbox or the memory that caused a failure, and its confinement.

use protocol::wire::{Report, TurnEnd};
use protocol::{Keeper, Level, failpoint};
use tokio::time::Instant;

use super::watch::{Excess, MemoryGroup, Watch};
use super::{Error, Worker};
use crate::agent::acp::Acp;
use crate::confine::refusal;
use crate::{exit, tree};

impl Worker {
    /// Tells the manager what the agent that lives between prompts comes to. One that cannot be worked with is the
    /// end of this worker.
    pub(super) fn tell(&mut self, reports: Vec<Report>) -> Result<(), Error> {
        for mut report in reports {
            // An agent that ends its turn because it is being ended has not done with it.
            if self.leaving.is_some()
                && let Report::TurnEnded { end, .. } = &mut report
                && matches!(end, TurnEnd::Stopped { reason } if reason == "cancelled")
            {
                *end = TurnEnd::Aborted;
            }
            if matches!(report, Report::TurnEnded { .. } | Report::AgentDied { .. }) {
                self.tell_of_memory()?;
            }
            self.name_sandbox(&mut report);
            if let Report::AgentDied { message } = &mut report
                && std::mem::take(&mut self.starved)
            {
                *message = format!("out of memory: {message}");
            }
            if matches!(report, Report::TurnEnded { .. }) {
                // An agent that lives on did not end for lack of memory.
                self.starved &= self.acp.as_ref().is_some_and(|acp| acp.exit.is_some());
            }
            match &report {
                Report::Update { .. } => failpoint::hit("acp", "update"),
                Report::PermissionAsked { .. } => failpoint::hit("acp", "permission"),
                Report::CallAsked { .. } => failpoint::hit("acp", "call"),
                _ => {}
            }
            self.link.send(report)?;
        }
        if self.acp.as_ref().is_some_and(Acp::is_given_up) {
            self.leave(exit::DONE, self.grace());
        }
        Ok(())
    }

    /// Says in the reason of a failure in which sandbox that was, and what would have to be granted.
    pub(super) fn name_sandbox(&self, report: &mut Report) {
        let Some(walls) = self.confinement.contain.walls() else { return };
        let (workdir, home) = (&self.welcome.workdir, self.home());
        match report {
            Report::AgentDied { message } | Report::NotRun { message, .. } => {
                let complaints = self.acp.as_ref().map(Acp::complaints).unwrap_or_default();
                let about = refusal::about(walls, workdir, home, &[message, &complaints]);
                message.push_str(&about);
            }
            Report::TurnEnded { end: TurnEnd::NotRun { message }, .. } => {
                let about = refusal::about(walls, workdir, home, &[]);
                message.push_str(&about);
            }
            // Many a turn fails for another reason: only what the sandbox has refused is laid on it.
            Report::TurnEnded { end: TurnEnd::Failed { message }, .. }
                if refusal::refused(walls, workdir, home, message).is_some() =>
            {
                let about = refusal::about(walls, workdir, home, &[message]);
                message.push_str(&about);
            }
            _ => {}
        }
    }

    /// The home directory of the agent.
    fn home(&self) -> Option<&str> {
        self.welcome.env.iter().find(|(name, _)| name == "HOME").map(|(_, home)| home.as_str())
    }

    /// Describes, for a person, what the sandbox refused a program that failed.
    pub(super) fn refused(&self, complaints: &str) -> Option<Report> {
        let walls = self.confinement.contain.walls()?;
        refusal::refused(walls, &self.welcome.workdir, self.home(), complaints)?;
        let about = refusal::about(walls, &self.welcome.workdir, self.home(), &[complaints]);
        Some(Report::Notice { text: format!("the agent failed{about}") })
    }

    /// Ends what uses more than it may, where nothing else does.
    pub(super) fn bound(&mut self) -> Result<(), Error> {
        let Some(excess) = self.watch.as_mut().and_then(|watch| watch.look(Instant::now())) else {
            return Ok(());
        };
        // All of it: which of them is to blame is not known, and an agent without half of its programs is none.
        tree::kill_all();
        if !self.watch.as_mut().is_some_and(Watch::is_news) {
            return Ok(());
        }
        let report = match excess {
            Excess::Memory { found, limit } => {
                self.starved = true;
                Report::OutOfMemory { peak_bytes: Some(found), limit_bytes: limit, by: Keeper::Watched }
            }
            Excess::Pids { found, limit } => Report::Notice {
                text: format!(
                    "the agent's processes were killed: there were {found}, and {limit} are allowed"
                ),
            },
        };
        Ok(self.link.send(report)?)
    }

    /// Tells that the kernel has killed programs for their memory, if it has since the last time.
    pub(super) fn tell_of_memory(&mut self) -> Result<(), Error> {
        match self.memory.as_mut().and_then(MemoryGroup::news) {
            Some(report) => {
                self.starved = true;
                Ok(self.link.send(report)?)
            }
            None => Ok(()),
        }
    }

    /// Tells what a program is held by, if it is another level than was told before.
    pub(super) fn contained(&mut self, level: Option<Level>) -> Result<(), Error> {
        let held = |level| match level {
            Level::Subreaper if self.confinement.limits.is_grouped() => Level::Cgroup,
            level => level,
        };
        let Some(level) = level.map(held).filter(|level| self.level.is_some_and(|told| told != *level))
        else {
            return Ok(());
        };
        self.level = Some(level);
        Ok(self.link.send(Report::Contained { level })?)
    }
}
