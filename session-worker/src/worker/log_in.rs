//! A log-in in the place of an agent: the worker starts its program, passes on what is typed and shown, and leaves with it.

use protocol::wire::{Command, Report};

use super::{Error, Worker};
use crate::agent::log_in::LogIn;
use crate::agent::program::Launch;
use crate::exit;

impl Worker {
    /// Acts on a command about a log-in.
    pub(super) fn act_on_log_in(&mut self, command: Command) -> Result<(), Error> {
        match (command, &mut self.log_in) {
            (Command::LogIn { argv }, _) => return self.begin_log_in(&argv),
            (Command::LogInInput { bytes }, _) => self.type_in(&bytes.0),
            (Command::LogInRoom { upto }, Some(log_in)) => log_in.make_room(upto),
            _ => {}
        }
        Ok(())
    }

    /// Starts the program.
    fn begin_log_in(&mut self, argv: &[String]) -> Result<(), Error> {
        if self.log_in.is_some() || self.turn.is_some() || self.acp.is_some() {
            return self.fault("a log-in beside something else".to_owned());
        }
        match LogIn::start(&Launch::new(&self.welcome, &self.confinement), argv) {
            Ok(log_in) => self.log_in = Some(log_in),
            Err(error) => {
                let message = format!("the program could not be started: {error}");
                self.link.send(Report::LogInEnded { exit: None, message })?;
                self.leave(exit::DONE, self.grace());
            }
        }
        Ok(())
    }

    /// Gives the program what was typed.
    fn type_in(&mut self, bytes: &[u8]) {
        if self.log_in.as_mut().is_some_and(|log_in| !log_in.type_in(bytes)) {
            self.log_in_end = Some("its program does not read what is typed".to_owned());
            self.leave(exit::DONE, self.grace());
        }
    }

    /// Sends what the program shows, and notes its end.
    pub(super) fn work_log_in(&mut self) -> Result<(), Error> {
        let room = self.link.has_room();
        let report = self.log_in.as_mut().and_then(|log_in| log_in.work(room));
        if let Some(report) = report {
            self.link.send(report)?;
        }
        self.follow_log_in();
        Ok(())
    }

    /// Leaves once the program has ended. Whatever it has started ends with it.
    pub(super) fn follow_log_in(&mut self) {
        if self.log_in.as_ref().is_some_and(LogIn::is_over) {
            self.leave(exit::DONE, self.grace());
        }
    }

    /// Reports the end of a log-in of which nothing lives any more.
    pub(super) fn bury_log_in(&mut self) -> Result<(), Error> {
        let Some(log_in) = self.log_in.take_if(|_| self.leaving.is_some()) else { return Ok(()) };
        for report in log_in.last_words(self.log_in_end.take()) {
            if !self.link.is_alone() {
                self.link.send(report)?;
            }
        }
        Ok(())
    }
}
