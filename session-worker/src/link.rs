//! Frames to and from the manager over two pipes, without ever blocking.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use protocol::frame::{self, Decoder, FrameError};
use protocol::wire::{Envelope, FromWorker, Report, ToWorker};
use protocol::{Incarnation, failpoint};
use tokio::net::unix::pipe;

/// What one read from the manager brought.
pub enum Received {
    /// Bytes, or nothing this time.
    Some,
    /// The manager closed its end.
    End,
}

/// The worker's side of the link.
pub struct Link {
    input: pipe::Receiver,
    output: pipe::Sender,
    decoder: Decoder,
    /// Encoded frames that the pipe has not taken yet. Bounded: output of the agent is added only while it
    /// is empty ([`Link::has_room`]), and of the other reports there are a few a turn.
    outbox: Vec<u8>,
    /// How much of `outbox` is written.
    written: usize,
    incarnation: Incarnation,
    seq: u64,
    ack: u64,
    open: bool,
    muted: bool,
}

impl Link {
    /// Takes over the two pipes, whose other ends are the manager's.
    pub fn new(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            input: pipe::Receiver::from_owned_fd(input)?,
            output: pipe::Sender::from_owned_fd(output)?,
            decoder: Decoder::default(),
            outbox: Vec::new(),
            written: 0,
            incarnation: 0,
            seq: 0,
            ack: 0,
            open: true,
            muted: false,
        })
    }

    /// Opens the numbering: sends `hello` as message 0.
    pub fn greet(&mut self, hello: Report) -> Result<(), FrameError> {
        self.encode(hello)
    }

    /// From now on every message belongs to this incarnation.
    pub fn belong_to(&mut self, incarnation: Incarnation) {
        self.incarnation = incarnation;
    }

    /// The incarnation this link belongs to.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Says with every later message that this command was acted on.
    pub fn acknowledge(&mut self, seq: u64) {
        self.ack = seq;
    }

    /// The last command acted on.
    pub fn acknowledged(&self) -> u64 {
        self.ack
    }

    /// Whether the manager may still be there.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Gives the manager up: what is unsent is dropped, and later reports are too.
    pub fn close(&mut self) {
        self.open = false;
        self.outbox = Vec::new();
        self.written = 0;
    }

    /// Nothing may follow what was sent until now.
    pub fn mute(&mut self) {
        self.muted = true;
    }

    /// Whether everything sent has left for the manager, or never will.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Whether output of the agent may be added, which would be dropped silently if nobody is there to take it.
    pub fn has_room(&self) -> bool {
        !self.open || self.muted || self.outbox.is_empty()
    }

    /// Puts a report on its way.
    pub fn send(&mut self, report: Report) -> Result<(), FrameError> {
        if !self.open || self.muted {
            return Ok(());
        }
        self.seq += 1;
        self.encode(report)
    }

    fn encode(&mut self, body: Report) -> Result<(), FrameError> {
        let envelope: FromWorker =
            Envelope { incarnation: self.incarnation, seq: self.seq, ack: self.ack, body };
        frame::encode(&envelope, &mut self.outbox)
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

    /// The next whole message.
    pub fn next(&mut self) -> Result<Option<ToWorker>, FrameError> {
        self.decoder.take()
    }

    /// Writes what the pipe takes. A manager that is gone closes the link.
    pub fn flush(&mut self) {
        if !self.outbox.is_empty() {
            self.may_break();
        }
        while self.written < self.outbox.len() {
            match self.output.try_write(&self.outbox[self.written..]) {
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_transient(&error) => return,
                Err(_) => return self.close(),
            }
        }
        // An idle worker keeps no buffer.
        self.outbox = Vec::new();
        self.written = 0;
    }
}

impl Link {
    /// Ways to break in the middle of a word, for the kill harness.
    fn may_break(&self) {
        if failpoint::armed("half", "report") {
            let _ = self.output.try_write(&self.outbox[..self.outbox.len() / 2]);
            failpoint::die();
        }
        if failpoint::armed("worker", "shut") {
            // The process lives on without its pipe. To close it by its number is safe here: nothing opens
            // another descriptor before the next write finds this one gone.
            let _ = nix::unistd::close(self.output.as_raw_fd());
        }
    }
}

/// Whether an error of a pipe that does not block means "later".
pub fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
