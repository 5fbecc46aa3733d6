//! The two pipes to a worker: frames in, frames out, and never more in memory than one read of each.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use protocol::frame::{self, Decoder};
use protocol::wire::{Command, Envelope, FromWorker};
use protocol::{Incarnation, SessionId, failpoint};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

/// The most that one read takes.
const READ: usize = 64 * 1024;

/// What a link tells the loop.
pub enum LinkEvent {
    /// The worker said something. While the loop holds `permit` no more is read from that worker: one that
    /// babbles fills its own pipe, not our memory, and waits its turn like all others.
    Frames {
        /// Whose.
        session: SessionId,
        /// Whose.
        incarnation: Incarnation,
        /// What.
        frames: Vec<FromWorker>,
        /// Dropped once they are committed.
        permit: OwnedSemaphorePermit,
    },
    /// Nothing more will come.
    Ended {
        /// Whose.
        session: SessionId,
        /// Whose.
        incarnation: Incarnation,
        /// What was wrong with what came, if anything.
        error: Option<String>,
    },
}

/// Our end of a worker's pipes. Dropping it closes both.
pub struct Link {
    incarnation: Incarnation,
    sent: u64,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Link {
    /// Begins to read and write.
    pub fn open(
        session: SessionId,
        incarnation: Incarnation,
        stdin: OwnedFd,
        stdout: OwnedFd,
        events: mpsc::UnboundedSender<LinkEvent>,
    ) -> io::Result<Self> {
        // Both ends are ours alone, so O_NONBLOCK surprises nobody.
        let stdin = pipe::Sender::from_owned_fd(nonblocking(stdin)?)?;
        let stdout = pipe::Receiver::from_owned_fd(nonblocking(stdout)?)?;
        // Bounded by the protocol: one prompt at a time, and a few words about it.
        let (outgoing, queue) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read(session, incarnation, stdout, events));
        let writer = tokio::spawn(write(stdin, queue));
        Ok(Self { incarnation, sent: 0, outgoing, reader, writer })
    }

    /// Sends a command. `ack` is the worker's last message that is in the journal.
    pub fn send(&mut self, body: Command, ack: u64) -> Result<(), frame::FrameError> {
        let opens = matches!(body, Command::Welcome(_));
        let seq = if opens { 0 } else { self.sent + 1 };
        let mut bytes = Vec::new();
        frame::encode(&Envelope { incarnation: self.incarnation, seq, ack, body }, &mut bytes)?;
        self.sent = seq;
        // The writer is gone only if the worker has closed its end, which is found where it is read.
        let _ = self.outgoing.send(bytes);
        Ok(())
    }

    /// Stops reading: whatever is still in the pipe is lost.
    pub fn cut(&self) {
        self.reader.abort();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}

async fn read(
    session: SessionId,
    incarnation: Incarnation,
    stdout: pipe::Receiver,
    events: mpsc::UnboundedSender<LinkEvent>,
) {
    let one = Arc::new(Semaphore::new(1));
    let mut decoder = Decoder::default();
    let error = loop {
        let Ok(permit) = one.clone().acquire_owned().await else {
            break None;
        };
        if let Err(error) = stdout.readable().await {
            break Some(error.to_string());
        }
        // Made anew for each read: an idle link holds no buffer.
        let mut buffer = Vec::with_capacity(READ);
        match stdout.try_read_buf(&mut buffer) {
            // Also inside a frame: a worker that is killed leaves half of one, and that is no fault of its.
            Ok(0) => break None,
            Ok(_) => decoder.feed(&buffer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => break Some(error.to_string()),
        }
        let mut frames = Vec::new();
        let garbage = loop {
            match decoder.take() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        if !frames.is_empty() {
            let session = session.clone();
            let _ = events.send(LinkEvent::Frames { session, incarnation, frames, permit });
        }
        if garbage.is_some() {
            break garbage;
        }
    };
    let _ = events.send(LinkEvent::Ended { session, incarnation, error });
}

async fn write(mut stdin: pipe::Sender, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(bytes) = queue.recv().await {
        if failpoint::armed("half", "command") {
            let _ = stdin.write_all(&bytes[..bytes.len() / 2]).await;
            failpoint::die();
        }
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
