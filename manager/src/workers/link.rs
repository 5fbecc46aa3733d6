//! The two pipes to a worker: frames in, frames out, and never more in memory than one read of each.
//!
//! A worker without a manager writes its messages into a spool file. They come before those of its new pipe.

use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::frame::{self, Decoder, Framed};
use protocol::wire::{Command, Envelope, FromWorker};
use protocol::{Incarnation, SessionId, failpoint};
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::workers::spool::Spool;

/// The most that one read takes.
const READ: usize = 64 * 1024;

/// An event of a link, for the loop.
pub enum LinkEvent {
    /// The worker said something. While the loop holds `permit` no more is read from that worker: one that
    /// babbles fills its own pipe, not our memory, and waits its turn like all others.
    Frames {
        /// The session.
        session: SessionId,
        /// The worker's incarnation.
        incarnation: Incarnation,
        /// The messages, each with the size of its frame.
        frames: Vec<Framed<FromWorker>>,
        /// Held until the frames are committed.
        permit: OwnedSemaphorePermit,
    },
    /// The link has ended: no more frames come.
    Ended {
        /// The session.
        session: SessionId,
        /// The worker's incarnation.
        incarnation: Incarnation,
        /// The error in the last bytes, if there was one.
        error: Option<String>,
    },
}

impl LinkEvent {
    /// The link's session.
    pub fn session(&self) -> &SessionId {
        match self {
            LinkEvent::Frames { session, .. } | LinkEvent::Ended { session, .. } => session,
        }
    }
}

/// Our end of a worker's pipes. Dropping it closes both.
pub struct Link {
    incarnation: Incarnation,
    sent: u64,
    /// The way to the worker; none to a worker without pipes.
    outgoing: Option<Arc<Outgoing>>,
    /// Bytes that were read.
    read: Arc<AtomicU64>,
    reader: JoinHandle<()>,
    /// Writes what the pipe did not take at once.
    writer: Option<JoinHandle<()>>,
}

/// The way to a worker.
struct Outgoing {
    stdin: pipe::Sender,
    waiting: Mutex<Waiting>,
}

/// Commands that the pipe has not taken yet. Bounded by the protocol: one prompt at a time, and a few words about it; what is typed
/// into a log-in is bounded by whoever sends it.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Number of bytes at the front of `bytes` that the pipe has taken.
    taken: usize,
    /// A task writes them.
    has_writer: bool,
}

impl Waiting {
    /// Notes the outcome of a write. Returns true if nothing waits any more.
    fn written(&mut self, outcome: Result<usize, io::Error>) -> bool {
        match outcome {
            Ok(count) => self.taken += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // The worker has closed its end, which is found where it is read.
            Err(_) => self.taken = self.bytes.len(),
        }
        let is_done = self.taken == self.bytes.len();
        if is_done {
            // An idle link holds no buffer.
            *self = Self::default();
        }
        is_done
    }
}

impl Link {
    /// Begins to read and write. Reads `spool` first; without pipes, reads nothing else.
    pub fn open(
        session: SessionId,
        incarnation: Incarnation,
        spool: Option<Spool>,
        pipes: Option<Pipes>,
        events: mpsc::UnboundedSender<LinkEvent>,
    ) -> io::Result<Self> {
        let (stdin, stdout) = match pipes {
            // Both ends are ours alone, so O_NONBLOCK surprises nobody.
            Some(Pipes { stdin, stdout }) => (
                Some(pipe::Sender::from_owned_fd(nonblocking(stdin)?)?),
                Some(pipe::Receiver::from_owned_fd(nonblocking(stdout)?)?),
            ),
            None => (None, None),
        };
        let count = Arc::new(AtomicU64::new(0));
        let reader =
            Reader { session, incarnation, events, one: Arc::new(Semaphore::new(1)), read: count.clone() };
        let reader = tokio::spawn(read(reader, spool, stdout));
        let outgoing = stdin.map(|stdin| Arc::new(Outgoing { stdin, waiting: Mutex::default() }));
        Ok(Self { incarnation, sent: 0, outgoing, read: count, reader, writer: None })
    }

    /// A worker that was told things by another manager: the numbers go on after the last that it acted on.
    pub fn resume(&mut self, from: u64) {
        self.sent = from;
    }

    /// Takes a command that [`flush`](Self::flush) sends. `ack` is the worker's last message that is in the journal.
    pub fn queue(&mut self, body: Command, ack: u64) -> Result<(), frame::FrameError> {
        let opens = matches!(body, Command::Welcome(_));
        let seq = if opens { 0 } else { self.sent + 1 };
        let envelope = Envelope { incarnation: self.incarnation, seq, ack, body };
        match &self.outgoing {
            Some(outgoing) => frame::encode(&envelope, &mut outgoing.waiting().bytes)?,
            None => frame::encode(&envelope, &mut Vec::new())?,
        };
        self.sent = seq;
        Ok(())
    }

    /// Sends what was queued: at once what the pipe takes, and the rest when it takes more.
    pub fn flush(&mut self) {
        let Some(outgoing) = &self.outgoing else { return };
        let mut waiting = outgoing.waiting();
        if waiting.has_writer {
            return;
        }
        if failpoint::armed("half", "command") {
            let _ = rustix::io::write(&outgoing.stdin, &waiting.bytes[..waiting.bytes.len() / 2]);
            failpoint::die();
        }
        // By itself and not through the runtime, which has not looked yet at the pipe of a new worker.
        let outcome = rustix::io::write(&outgoing.stdin, &waiting.bytes);
        if !waiting.written(outcome.map_err(io::Error::from)) {
            waiting.has_writer = true;
            self.writer = Some(tokio::spawn(write(outgoing.clone())));
        }
    }

    /// The number of the last command.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes that the pipe has not taken yet.
    pub fn waiting(&self) -> usize {
        self.outgoing.as_ref().map_or(0, |outgoing| {
            let waiting = outgoing.waiting();
            waiting.bytes.len() - waiting.taken
        })
    }

    /// Bytes that were read so far, partial frames included.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Stops reading. Unread bytes in the pipe are lost.
    pub fn cut(&self) {
        self.reader.abort();
    }
}

impl Outgoing {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
        if let Some(writer) = &self.writer {
            writer.abort();
        }
    }
}

/// Our ends of a worker's pipes.
pub struct Pipes {
    /// The worker's standard input, for commands.
    pub stdin: OwnedFd,
    /// The worker's standard output, for reports.
    pub stdout: OwnedFd,
}

fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}

async fn read(mut reader: Reader, spool: Option<Spool>, stdout: Option<pipe::Receiver>) {
    let error = reader.all(spool, stdout).await;
    let Reader { session, incarnation, events, .. } = reader;
    let _ = events.send(LinkEvent::Ended { session, incarnation, error: error.err() });
}

struct Reader {
    session: SessionId,
    incarnation: Incarnation,
    events: mpsc::UnboundedSender<LinkEvent>,
    one: Arc<Semaphore>,
    read: Arc<AtomicU64>,
}

impl Reader {
    /// Waits until the frames that were read before are committed.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, String> {
        self.one.clone().acquire_owned().await.map_err(|error| error.to_string())
    }

    async fn all(&mut self, spool: Option<Spool>, stdout: Option<pipe::Receiver>) -> Result<(), String> {
        if let Some(mut spool) = spool {
            let mut decoder = Decoder::default();
            self.spool(&mut spool, &mut decoder).await?;
            if let Some(stdout) = &stdout {
                // Until it finds the pipe it goes on writing into the spool, and from then on only into the pipe. It may
                // have made the spool meanwhile.
                stdout.readable().await.map_err(|error| error.to_string())?;
                self.spool(&mut spool, &mut decoder).await?;
            }
        }
        match stdout {
            Some(stdout) => self.pipe(stdout).await,
            None => Ok(()),
        }
    }

    /// Reads a spool to its present end, if it is there. A worker that was killed leaves half a frame there.
    async fn spool(&mut self, spool: &mut Spool, decoder: &mut Decoder) -> Result<(), String> {
        let Some(file) = spool.file() else { return Ok(()) };
        loop {
            let permit = self.turn().await?;
            let mut buffer = vec![0; READ];
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.tell(decoder, &buffer[..count], permit)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("a spool that cannot be read: {error}")),
            }
        }
    }

    async fn pipe(&mut self, stdout: pipe::Receiver) -> Result<(), String> {
        let mut decoder = Decoder::default();
        loop {
            let permit = self.turn().await?;
            stdout.readable().await.map_err(|error| error.to_string())?;
            // Made anew for each read: an idle link holds no buffer.
            let mut buffer = Vec::with_capacity(READ);
            match stdout.try_read_buf(&mut buffer) {
                // Also inside a frame: a worker that is killed leaves half of one, and that is no fault of its.
                Ok(0) => return Ok(()),
                Ok(_) => self.tell(&mut decoder, &buffer, permit)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn tell(
        &mut self,
        decoder: &mut Decoder,
        read: &[u8],
        permit: OwnedSemaphorePermit,
    ) -> Result<(), String> {
        self.read.fetch_add(read.len() as u64, Ordering::Relaxed);
        decoder.feed(read);
        let mut frames = Vec::new();
        let whole = loop {
            match decoder.take_framed() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.to_string()),
            }
        };
        if !frames.is_empty() {
            let (session, incarnation) = (self.session.clone(), self.incarnation);
            let _ = self.events.send(LinkEvent::Frames { session, incarnation, frames, permit });
        }
        whole
    }
}

/// Writes until nothing waits.
async fn write(outgoing: Arc<Outgoing>) {
    while outgoing.stdin.writable().await.is_ok() {
        let mut waiting = outgoing.waiting();
        let outcome = outgoing.stdin.try_write(&waiting.bytes[waiting.taken..]);
        if waiting.written(outcome) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::Path;
    use std::time::Duration;

    use protocol::wire::Report;
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn said(seq: u64) -> Vec<u8> {
        let body = Report::Notice { text: format!("number {seq}") };
        let mut bytes = Vec::new();
        frame::encode(&Envelope { incarnation: 1, seq, ack: 0, body }, &mut bytes).unwrap();
        bytes
    }

    async fn heard(events: &mut mpsc::UnboundedReceiver<LinkEvent>) -> Vec<u64> {
        match tokio::time::timeout(Duration::from_secs(20), events.recv()).await.unwrap() {
            Some(LinkEvent::Frames { frames, .. }) => frames.iter().map(|frame| frame.message.seq).collect(),
            _ => panic!("no frames"),
        }
    }

    fn spool(path: &Path) -> Option<Spool> {
        Some(Spool::new("s".parse().unwrap(), 1, path.to_owned()))
    }

    #[tokio::test]
    async fn a_spool_that_comes_into_being_before_the_pipe_speaks_is_read_before_the_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let (_their_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (events, mut link) = mpsc::unbounded_channel();
        let pipes = Some(Pipes { stdin, stdout });
        let _open = Link::open("s".parse().unwrap(), 1, spool(&path), pipes, events).unwrap();
        // The reader has looked for the spool, and waits for the pipe.
        tokio::task::yield_now().await;
        fs::write(&path, [said(1), said(2)].concat()).unwrap();
        rustix::io::write(&their_stdout, &said(3)).unwrap();
        assert_eq!(heard(&mut link).await, [1, 2]);
        assert_eq!(heard(&mut link).await, [3]);
        drop(their_stdout);
        assert!(matches!(link.recv().await, Some(LinkEvent::Ended { error: None, .. })));
    }

    #[tokio::test]
    async fn what_a_worker_says_to_nobody_while_it_is_being_taken_over_comes_before_what_it_says_to_us() {
        let dir = tempfile::tempdir().unwrap();
        let mut written = tempfile::NamedTempFile::new_in(&dir).unwrap();
        written.write_all(&said(1)).unwrap();
        let (_their_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (events, mut link) = mpsc::unbounded_channel();
        let (spool, pipes) = (spool(written.path()), Pipes { stdin, stdout });
        let _open = Link::open("s".parse().unwrap(), 1, spool, Some(pipes), events).unwrap();
        assert_eq!(heard(&mut link).await, [1]);
        // It has not looked at its door yet.
        let (two, three) = (said(2), said(3));
        written.write_all(&two[..5]).unwrap();
        tokio::task::yield_now().await;
        written.write_all(&two[5..]).unwrap();
        written.write_all(&three).unwrap();
        rustix::io::write(&their_stdout, &said(4)).unwrap();
        assert_eq!(heard(&mut link).await, [2, 3]);
        assert_eq!(heard(&mut link).await, [4]);
    }

    #[tokio::test]
    async fn each_frame_counts_with_its_size_however_many_reads_it_took() {
        let sizes = [1, 100, READ / 2, READ - 40, READ, READ + 1, 3 * READ, 280 * 1024, 7 << 20, 1];
        let texts = sizes.map(|size| "x".repeat(size));
        let (_their_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (events, mut link) = mpsc::unbounded_channel();
        let open = Link::open("s".parse().unwrap(), 1, None, Some(Pipes { stdin, stdout }), events).unwrap();
        let mut written = Vec::new();
        for (seq, text) in (1..).zip(texts) {
            let body = Report::Notice { text };
            frame::encode(&Envelope { incarnation: 1, seq, ack: 0, body }, &mut written).unwrap();
        }
        let total = written.len();
        let writer = std::thread::spawn(move || File::from(their_stdout).write_all(&written));
        let mut counted = 0;
        while let Some(event) =
            tokio::time::timeout(Duration::from_secs(20), link.recv()).await.expect("it ends")
        {
            if let LinkEvent::Frames { frames, .. } = event {
                counted += frames.iter().map(|frame| frame.size).sum::<usize>();
            }
        }
        writer.join().unwrap().unwrap();
        assert_eq!((counted, open.read()), (total, total as u64));
    }

    #[tokio::test]
    async fn a_fuzzed_spool_is_read_as_far_as_it_goes_and_no_further() {
        let whole: Vec<u8> = (1..=20).flat_map(said).collect();
        let pieces = (1..=20).map(said).chain([whole.clone()]);
        let mut mutator = harness::fuzz::Mutator::new(6, pieces);
        let dir = tempfile::tempdir().unwrap();
        for case in 0..harness::fuzz::cases(500) {
            let mut written = tempfile::NamedTempFile::new_in(&dir).unwrap();
            written.write_all(&mutator.changed(&whole)).unwrap();
            let (events, mut link) = mpsc::unbounded_channel();
            let open = Link::open("s".parse().unwrap(), 1, spool(written.path()), None, events).unwrap();
            let mut closed = false;
            while let Some(event) =
                tokio::time::timeout(Duration::from_secs(20), link.recv()).await.expect("it ends")
            {
                assert!(!closed, "case {case}: something came after the end");
                closed = !matches!(event, LinkEvent::Frames { .. });
            }
            assert!(closed, "case {case}: no end is told");
            drop(open);
        }
    }
}
