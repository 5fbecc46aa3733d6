//! The end of a turn, of an agent and of the worker itself.
//!
//! A turn ends when nothing that it started lives any more: the agent's exit, an abort and every way of leaving begin an
//! [`Ending`] of the tree; when that is through, what is left in the pipes is sent, then `TurnEnded`. Ending the tree never
//! waits for the manager to read.

use std::time::Duration;

use protocol::wire::{Report, TurnEnd};
use protocol::{Exit, failpoint};
use rustix::process::Pid;
use tokio::time::Instant;

use super::{Error, Worker};
use crate::exit;
use crate::tree::{self, Ending, Round};

/// The grace of what a finished turn leaves behind: nobody waits for its work.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);
/// Reads of what an agent said before its death: a pipe holds 64 KiB, or 1 MiB at most (pipe(7)).
const LAST_READS: usize = 64;
/// Time that the last reports wait for a manager that does not read.
const FAREWELL: Duration = Duration::from_millis(500);

/// The worker is on its way out.
pub(super) struct Leaving {
    pub(super) code: u8,
    /// Once the tree is gone: how long the last reports wait.
    pub(super) until: Option<Instant>,
}

impl Worker {
    /// Begins the end of the tree, or shortens the one under way.
    pub(super) fn abort(&mut self, grace: Duration) {
        let now = Instant::now();
        let reads = self.readers.is_running();
        let mut gone = self.acp.is_none() && self.log_in.is_none() && !reads;
        if let Some(turn) = &mut self.turn {
            // A turn whose agent came to its end is finished, whatever it left behind.
            turn.aborted |= turn.exit.is_none();
            // The tree is gone already, and only the last output is under way.
            gone = turn.exit.is_some() && !reads;
        }
        match &mut self.ending {
            Some((ending, next)) => {
                ending.hasten(now + grace);
                *next = now;
            }
            None if gone => {}
            None => self.ending = Some((Ending::begin(now, grace), now)),
        }
    }

    pub(super) fn leave(&mut self, code: u8, grace: Duration) {
        if self.leaving.is_none() {
            self.leaving = Some(Leaving { code, until: None });
            failpoint::hit("worker", "leave");
            self.abort(grace);
        }
    }

    /// Reaps who died; goes on with the end of the tree; begins it when the agent's own process is dead.
    pub(super) fn reap(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let (turn, acp, readers) = (&mut self.turn, &mut self.acp, &mut self.readers);
        let log_in = &mut self.log_in;
        let mut note = |pid: Pid, exit: Exit| {
            readers.ended(pid, exit);
            if let Some(log_in) = log_in {
                log_in.ended(pid, exit);
            }
            if let Some(acp) = acp {
                acp.ended(pid, exit);
            }
            if let Some(turn) = turn.as_mut().filter(|turn| turn.pid == pid) {
                turn.ended_child(exit);
            }
        };
        let round = match &mut self.ending {
            Some((ending, _)) => Some(ending.round(now, &mut note)),
            None if tree::reap(&mut note) => Some(Round::Gone),
            None => None,
        };
        if let Some(turn) = &mut self.turn
            && turn.exit.is_some()
            && let Some(started) = turn.finish_status()
        {
            self.link.send(started)?;
        }
        self.work_readers()?;
        self.report_dead_agent()?;
        self.follow_log_in();
        // The end of a turn that ends by itself reports the processes that it leaves behind.
        let forced = self.leaving.is_some() || self.turn.as_ref().is_some_and(|turn| turn.aborted);
        if let Some((ending, _)) = &mut self.ending
            && ending.has_begun_to_kill()
            && forced
        {
            let text = "what did not end within its grace was killed (SIGKILL)".to_owned();
            self.link.send(Report::Notice { text })?;
        }
        match round {
            Some(Round::Gone) => {
                failpoint::hit("worker", "gone");
                self.ending = None;
                if let Some(turn) = &mut self.turn {
                    // No turn may wait for ever for a process that is not there.
                    turn.exit.get_or_insert(Exit::Unknown);
                }
            }
            Some(Round::Next(next)) => {
                failpoint::hit("worker", "ending");
                if let Some((_, due)) = &mut self.ending {
                    *due = next;
                }
            }
            Some(Round::Stuck(pids)) => {
                self.ending = None;
                let pids: Vec<String> = pids.iter().map(Pid::to_string).collect();
                // As if it were gone: there is nothing more that could be done.
                self.turn = None;
                self.fault(format!("processes that survive SIGKILL: {}", pids.join(", ")))?;
                if let Some(leaving) = &mut self.leaving {
                    leaving.code = exit::FAULT;
                }
            }
            None => {
                let readers = self.readers_below();
                if let Some(turn) = &mut self.turn
                    && turn.exit.is_some()
                {
                    let is_its_own = |pid: &Pid| !turn.start.keeps(*pid) && !readers.contains(pid);
                    let left = tree::living().into_iter().filter(is_its_own);
                    turn.left_behind = u32::try_from(left.count()).unwrap_or(u32::MAX);
                    let grace = self.grace().min(LEFTOVER_GRACE);
                    self.ending = Some((Ending::begin(now, grace), now));
                }
            }
        }
        Ok(())
    }

    /// Reports the last output of an agent that lived between prompts, and of its commands; then its death.
    fn report_dead_agent(&mut self) -> Result<(), Error> {
        let Some(acp) = &mut self.acp else { return Ok(()) };
        let mut reports = acp.work();
        if acp.exit.is_some() {
            // In the log before its death is told.
            acp.drain_stderr();
        }
        if acp.exit.is_some() && !acp.is_given_up() {
            // The agent's last output is at most a full pipe; more comes from a process that it has left behind.
            for _ in 0..LAST_READS {
                match acp.drain() {
                    Some(more) => reports.extend(more),
                    None => break,
                }
            }
            // One that is told to leave is expected to.
            if self.leaving.is_none() {
                reports.extend(acp.last_words());
            }
        }
        self.tell(reports)
    }

    /// Takes what needs no waiting: the end of a turn whose tree is gone, and the worker's own. The status to
    /// leave with, if that is now.
    pub(super) fn proceed(&mut self) -> Result<Option<u8>, Error> {
        if self.ending.is_some() {
            return Ok(None);
        }
        if let Some(turn) = &mut self.turn
            && turn.exit.is_some()
        {
            loop {
                if !self.link.has_room() {
                    break;
                }
                match turn.drain() {
                    Some(reports) => {
                        for report in reports {
                            self.link.send(report)?;
                        }
                    }
                    None => {
                        self.tell_of_memory()?;
                        self.starved = false;
                        if let Some(watch) = &mut self.watch {
                            watch.forget();
                        }
                        if let Some(turn) = self.turn.take() {
                            if let Some(refused) = turn.complaints().and_then(|text| self.refused(&text)) {
                                self.link.send(refused)?;
                            }
                            let mut ended = turn.ended();
                            self.name_sandbox(&mut ended);
                            if matches!(ended, Report::TurnEnded { end: TurnEnd::NotRun { .. }, .. }) {
                                // It may be given again: nothing of it was done.
                                self.last_prompt = None;
                            }
                            self.link.send(ended)?;
                        }
                        break;
                    }
                }
            }
        }
        self.bury_log_in()?;
        let Some(leaving) = &mut self.leaving else {
            return Ok(None);
        };
        let (now, code) = (Instant::now(), leaving.code);
        let until = *leaving.until.get_or_insert(now + FAREWELL);
        self.link.flush();
        if self.link.is_broken() {
            self.lose_link()?;
        }
        let done = self.turn.is_none() && self.link.is_flushed();
        if !done && now < until {
            return Ok(None);
        }
        if self.link.is_alone() {
            self.link.sync();
        }
        if let Some(acp) = &mut self.acp {
            acp.drain_stderr();
        }
        Ok(Some(code))
    }
}
