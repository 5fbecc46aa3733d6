//! The link to the manager: frames over two pipes, without ever blocking.
//!
//! While no manager is linked, `outbox` and `spool` keep the reports, and `shelter` waits for the next manager.
//! May use: `protocol`, `pipes`, `logfile`. Used by: `worker/`.

pub(crate) mod outbox;
pub(crate) mod shelter;
pub(crate) mod spool;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use protocol::frame::{Decoder, FrameError};
use protocol::wire::{Envelope, FromWorker, Report, ToWorker};
use protocol::{Incarnation, failpoint, flow, wire};
use tokio::net::unix::pipe;

use crate::link::outbox::Outbox;
use crate::link::spool::Spool;
use crate::logfile::log;
use crate::pipes::is_transient;

/// Result of one read from the manager.
pub enum Received {
    /// Bytes, or nothing this time.
    Some,
    /// The manager closed its end.
    End,
}

/// The receiver of the reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// A manager.
    Linked,
    /// No manager now. The link keeps the reports for the next manager.
    Alone,
    /// No manager, and none will come.
    Closed,
}

/// The worker's side of the link.
pub struct Link {
    input: pipe::Receiver,
    output: pipe::Sender,
    decoder: Decoder,
    /// Limited: the worker adds output of the agent only while there is room ([`Link::has_room`]), and a turn has few other
    /// reports.
    outbox: Outbox,
    spool: Option<Spool>,
    /// The last message that is in the spool.
    spooled: u64,
    /// The manager acknowledges reports. The link keeps them until then.
    kept: bool,
    incarnation: Incarnation,
    seq: u64,
    ack: u64,
    stands: Stands,
    /// The pipe to the manager takes nothing any more.
    broken: bool,
    muted: bool,
}

impl Link {
    /// Takes over the two pipes, whose other ends are the manager's.
    pub fn new(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            input: pipe::Receiver::from_owned_fd(input)?,
            output: pipe::Sender::from_owned_fd(output)?,
            decoder: Decoder::default(),
            outbox: Outbox::default(),
            spool: None,
            spooled: 0,
            kept: true,
            incarnation: 0,
            seq: 0,
            ack: 0,
            stands: Stands::Linked,
            broken: false,
            muted: false,
        })
    }

    /// Opens the numbering: sends `hello` as message 0.
    pub fn greet(&mut self, hello: Report) -> Result<(), FrameError> {
        self.outbox.push(&self.envelope(hello))
    }

    /// Sets the incarnation of every later message.
    pub fn belong_to(&mut self, incarnation: Incarnation) {
        self.incarnation = incarnation;
    }

    /// Returns the incarnation of this link.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Acknowledges a command, with every later message.
    pub fn acknowledge(&mut self, seq: u64) {
        self.ack = seq;
    }

    /// Returns the number of the last command that the worker acted on.
    pub fn acknowledged(&self) -> u64 {
        self.ack
    }

    /// Returns whether the manager takes nothing any more.
    pub fn is_broken(&self) -> bool {
        self.stands == Stands::Linked && self.broken
    }

    /// Returns whether no manager is linked, and the reports are kept for the next one.
    pub fn is_alone(&self) -> bool {
        self.stands == Stands::Alone
    }

    /// Gives the manager up: what is unsent is dropped, and later reports are too.
    pub fn close(&mut self) {
        self.stands = Stands::Closed;
        self.outbox.clear();
    }

    /// This manager is gone, and another one may come: what it has not acknowledged is said again to that one.
    pub fn keep_for_the_next(&mut self) {
        self.stands = Stands::Alone;
        self.decoder = Decoder::default();
        self.outbox.rewind();
        self.flush();
    }

    /// Another manager is there, after [`Link::keep_for_the_next`]. What is in the spool it reads by itself.
    pub fn take_up(&mut self, input: OwnedFd, output: OwnedFd, hello: Report) -> Result<(), LinkError> {
        let (input, output) = (pipe::Receiver::from_owned_fd(input)?, pipe::Sender::from_owned_fd(output)?);
        (self.input, self.output) = (input, output);
        (self.stands, self.broken) = (Stands::Linked, false);
        let hello = Envelope { incarnation: self.incarnation, seq: 0, ack: self.ack, body: hello };
        self.outbox.push_first(&hello)?;
        if let Some(spool) = &mut self.spool {
            spool.close();
        }
        Ok(())
    }

    /// Sets the spool for reports while no manager is linked.
    pub fn spool_to(&mut self, spool: Spool) {
        self.spool = Some(spool);
    }

    /// Keeps no reports: this manager acknowledges nothing.
    pub fn keep_nothing(&mut self) {
        self.kept = false;
        self.outbox.forget(u64::MAX);
    }

    /// Drops the reports up to this number: the manager has committed them.
    pub fn confirm(&mut self, seq: u64) {
        self.outbox.forget(seq);
        if let Some(spool) = self.spool.as_mut().filter(|spool| !spool.is_empty() && seq >= self.spooled)
            && let Err(error) = spool.clear()
        {
            log(&format!("the spool cannot be emptied: {error}"));
        }
    }

    /// Syncs the spool to disk.
    pub fn sync(&self) {
        if let Some(Err(error)) = self.spool.as_ref().map(Spool::sync) {
            log(&format!("the spool cannot be synced: {error}"));
        }
    }

    /// Drops all later reports.
    pub fn mute(&mut self) {
        self.muted = true;
    }

    /// Returns whether all reports are written to the manager or to the spool, or never will be.
    pub fn is_flushed(&self) -> bool {
        self.stands == Stands::Closed || self.outbox.unwritten().is_empty()
    }

    /// Returns whether there is no place any more where the reports could be kept for the next manager.
    pub fn is_homeless(&self) -> bool {
        self.spool.as_ref().is_some_and(Spool::is_homeless)
    }

    /// Returns whether the worker may add output of the agent.
    pub fn has_room(&self) -> bool {
        match self.stands {
            _ if self.muted => true,
            Stands::Closed => true,
            Stands::Linked => self.is_flushed() && flow::has_room(self.outbox.len()),
            Stands::Alone => self.is_flushed() && self.spool.as_ref().is_some_and(Spool::has_room),
        }
    }

    /// Puts a report on its way.
    pub fn send(&mut self, mut report: Report) -> Result<(), FrameError> {
        if self.stands == Stands::Closed || self.muted {
            return Ok(());
        }
        // A report that does not fit into a frame would end the worker.
        if let Err(what) = wire::bound(&mut report) {
            log(&format!("not told: {what} is too long"));
            return Ok(());
        }
        self.seq += 1;
        self.outbox.push(&self.envelope(report))?;
        if self.stands == Stands::Alone {
            self.spool();
        }
        Ok(())
    }

    fn envelope(&self, body: Report) -> FromWorker {
        Envelope { incarnation: self.incarnation, seq: self.seq, ack: self.ack, body }
    }

    /// Resolves when [`Link::receive`] may have something.
    pub async fn readable(&self) {
        // The only error is that the runtime is gone, and then nobody polls this.
        let _ = self.input.readable().await;
    }

    /// Resolves when [`Link::flush`] may get further.
    pub async fn writable(&self) {
        let _ = self.output.writable().await;
    }

    /// Reads once. Whole messages then come from [`Link::next`].
    pub fn receive(&mut self) -> io::Result<Received> {
        // A page: what the stack has once touched, a worker keeps.
        let mut buffer = [0; 4 * 1024];
        match self.input.try_read(&mut buffer) {
            Ok(0) => Ok(Received::End),
            Ok(n) => {
                self.decoder.feed(&buffer[..n]);
                Ok(Received::Some)
            }
            Err(error) if is_transient(&error) => Ok(Received::Some),
            Err(error) => Err(error),
        }
    }

    /// Returns the next whole message.
    pub fn next(&mut self) -> Result<Option<ToWorker>, FrameError> {
        self.decoder.take()
    }

    /// Writes what the pipe takes, or all of it into the spool.
    pub fn flush(&mut self) {
        match self.stands {
            Stands::Closed => {}
            Stands::Alone => self.spool(),
            Stands::Linked => self.write(),
        }
    }

    fn write(&mut self) {
        if !self.is_flushed() {
            self.may_break();
        }
        while !self.is_flushed() {
            match self.output.try_write(self.outbox.unwritten()) {
                Ok(n) => self.outbox.wrote(n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_transient(&error) => return,
                Err(_) => {
                    self.broken = true;
                    return;
                }
            }
        }
        if !self.kept {
            self.outbox.clear();
        }
    }

    /// Writes the outbox into the spool. If that fails the reports stay here, and the worker does not read the agent.
    fn spool(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        if self.outbox.unwritten().is_empty() {
            return;
        }
        match spool.append(self.outbox.unwritten()) {
            Ok(()) => {
                self.outbox.clear();
                self.spooled = self.seq;
            }
            Err(error) => log(&format!("the spool takes nothing: {error}")),
        }
    }
}

impl Link {
    /// Ways to break in the middle of a word, for the kill harness.
    fn may_break(&self) {
        if failpoint::armed("half", "report") {
            let left = self.outbox.unwritten();
            let _ = self.output.try_write(&left[..left.len() / 2]);
            failpoint::die();
        }
        if failpoint::armed("worker", "shut") {
            // The process lives on without its pipe. To close it by its number is safe here: nothing opens
            // another descriptor before the next write finds this one gone.
            let _ = nix::unistd::close(self.output.as_raw_fd());
        }
    }
}

/// Reason for which a link could not continue.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The descriptors that the manager handed over are not a pair of pipes.
    #[error("{0}")]
    NoPipes(#[from] io::Error),
    /// A message does not fit in a frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    /// A link of which the other ends are kept, with its spool at this path.
    fn linked(spool: &Path) -> (Link, [OwnedFd; 2]) {
        let (input, to_worker) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (from_worker, output) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut link = Link::new(input, output).unwrap();
        link.spool_to(Spool::new(spool.to_owned(), 1 << 20));
        (link, [to_worker, from_worker])
    }

    fn notice(text: &str) -> Report {
        Report::Notice { text: text.into() }
    }

    /// The numbers of the messages in the spool.
    fn spooled(path: &Path) -> Vec<u64> {
        let mut decoder = Decoder::default();
        decoder.feed(&fs::read(path).unwrap());
        std::iter::from_fn(|| decoder.take::<FromWorker>().unwrap()).map(|message| message.seq).collect()
    }

    #[tokio::test]
    async fn a_spool_is_made_by_the_first_report_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let (mut link, _manager) = linked(&path);
        link.send(notice("to a manager")).unwrap();
        link.writable().await;
        link.flush();
        link.confirm(1);
        link.keep_for_the_next();
        link.sync();
        assert!(link.is_flushed() && link.has_room());
        assert!(!path.exists(), "nothing was said to nobody");
        link.send(notice("to nobody")).unwrap();
        assert_eq!(spooled(&path), [2]);
        link.sync();
        link.confirm(2);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }

    #[tokio::test]
    async fn what_a_spool_that_cannot_be_opened_does_not_take_is_kept_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        fs::create_dir(&path).unwrap();
        let (mut link, _manager) = linked(&path);
        link.send(notice("to a manager that does not record it")).unwrap();
        link.writable().await;
        link.flush();
        assert!(link.is_flushed());
        link.keep_for_the_next();
        link.send(notice("to nobody")).unwrap();
        assert!(!link.is_flushed() && !link.has_room() && !link.is_homeless());
        fs::remove_dir(&path).unwrap();
        link.flush();
        assert_eq!(spooled(&path), [1, 2]);
        assert!(link.is_flushed() && link.has_room());
    }
}
