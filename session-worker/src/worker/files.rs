//! Requests of clients for files of the working directory. Readers answer them; the loop never opens a file for them.

use protocol::wire::{FilesAsk, Report};
use rustix::process::Pid;
use tokio::time::Instant;

use super::{Error, Worker};
use crate::agent::program::Launch;

/// The variable by which the reader finds git.
const PATH: &str = "PATH";

impl Worker {
    /// Takes a request of the manager.
    pub(super) fn read_files(&mut self, request: u64, ask: FilesAsk) -> Result<(), Error> {
        let refusal = self.readers.ask(request, ask);
        self.tell_of_files(refusal.into_iter().collect())
    }

    /// Starts readers for what waits, unless everything below is being ended.
    pub(super) fn begin_readers(&mut self) -> Result<(), Error> {
        if !self.readers.has_waiting() || self.ending.is_some() || self.leaving.is_some() {
            return Ok(());
        }
        let env = &self.welcome.env;
        let of_session = env.iter().find(|(name, _)| name == PATH).map(|(_, path)| path.clone());
        let path = self.find.path.clone().or(of_session).or_else(|| std::env::var(PATH).ok());
        let launch = || {
            let mut launch = Launch::new(&self.welcome, &self.confinement);
            // What the session's environment says is for its programs: nothing of it may change what is read.
            launch.env = path.iter().map(|path| (PATH.to_owned(), path.clone())).collect();
            launch
        };
        let refusals = self.readers.begin(launch);
        self.tell_of_files(refusals)
    }

    /// Sends what the readers have answered.
    pub(super) fn work_readers(&mut self) -> Result<(), Error> {
        let answers = self.readers.work();
        self.tell_of_files(answers)
    }

    /// Ends the readers whose time is over.
    pub(super) fn hurry_readers(&mut self, now: Instant) -> Result<(), Error> {
        let refusals = self.readers.hurry(now);
        self.tell_of_files(refusals)
    }

    /// The processes of the readers, which no turn has started.
    pub(super) fn readers_below(&self) -> Vec<Pid> {
        self.readers.processes()
    }

    /// Answers are for the manager that asked, and for no later one.
    fn tell_of_files(&mut self, answers: Vec<Report>) -> Result<(), Error> {
        for answer in answers {
            if !self.link.is_alone() {
                self.link.send(answer)?;
            }
        }
        Ok(())
    }
}
