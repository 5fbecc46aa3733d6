//! A worker without a manager: it goes on in its shelter, and the next one takes it up.

use std::time::Duration;

use protocol::failpoint;
use protocol::wire::Report;
use tokio::time::Instant;

use super::handshake::hello;
use super::{Error, LONGEST_GRACE, Worker};
use crate::agent::acp::Acp;
use crate::exit;
use crate::link::shelter::{Pipes, Shelter};
use crate::link::spool::Spool;
use crate::logfile::log;

/// The grace when the manager is gone.
const LOST_GRACE: Duration = Duration::from_secs(2);
/// Until a spool that takes nothing is tried again.
const SPOOL_AGAIN: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) fn lose_link(&mut self) -> Result<(), Error> {
        if self.shelter.is_none() {
            self.link.close();
            self.leave(exit::LINK_LOST, self.grace().min(LOST_GRACE));
            return Ok(());
        }
        self.alone_since = Instant::now();
        self.link.keep_for_the_next();
        self.readers.forget();
        failpoint::hit("worker", "alone");
        let reports = self.acp.as_mut().map(|acp| acp.left_alone()).unwrap_or_default();
        self.tell(reports)
    }

    /// Opens the shelter. A worker that cannot open it has none, and exits with its manager.
    pub(super) fn open_shelter(&mut self, papers: protocol::wire::Shelter) {
        let spool = Spool::new(papers.spool.clone().into(), papers.spool_bytes);
        match Shelter::open(papers) {
            Ok(shelter) => {
                self.link.spool_to(spool);
                self.shelter = Some(shelter);
                failpoint::hit("worker", "sheltered");
            }
            Err(error) => log(&format!("no shelter, it leaves with its manager: {error}")),
        }
    }

    /// When it is left, without a manager; or when the spool is tried again.
    pub(super) fn alone_until(&self) -> Option<Instant> {
        let shelter = self.shelter.as_ref().filter(|_| self.link.is_alone())?;
        let again = Instant::now() + SPOOL_AGAIN;
        // A full disk is waited for. Where the directory is gone no manager comes.
        if !self.link.is_flushed() && !self.link.is_homeless() {
            return Some(again);
        }
        let patience = if self.is_at_work() { shelter.turn() } else { shelter.idle() };
        // Tests need not wait for an hour.
        let passed = Duration::from_millis(failpoint::set_by("alone").unsigned_abs());
        let until = self.alone_since + patience.min(LONGEST_GRACE).saturating_sub(passed);
        Some(if self.link.is_flushed() { until } else { until.min(again) })
    }

    pub(super) fn wait_no_longer(&mut self) {
        if self.link.is_alone() && self.leaving.is_none() {
            self.link.flush();
            if self.alone_until().is_some_and(|until| until <= Instant::now()) {
                self.leave(exit::LINK_LOST, self.grace().min(LOST_GRACE));
            }
        }
    }

    /// The next manager has come.
    pub(super) fn take_up(&mut self, pipes: Pipes) -> Result<(), Error> {
        let mut hello = hello(self.link.acknowledged());
        if failpoint::armed("hello", "outdated")
            && let Report::Hello { protocol, .. } = &mut hello
        {
            *protocol -= 1;
        }
        if !self.link.is_alone() {
            // The manager before is dead: that it is has not been seen here yet.
            self.lose_link()?;
        }
        failpoint::hit("worker", "visited");
        self.link.take_up(pipes.input, pipes.output, hello)?;
        failpoint::hit("worker", "taken-over");
        let reports = self.acp.as_mut().map(Acp::taken_over).unwrap_or_default();
        self.tell(reports)
    }
}
