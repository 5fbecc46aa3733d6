//! Readers: short-lived processes of this program that read files for clients (`files/`).
//!
//! Each is confined like the agent, with an environment of its own, and ends within [`LONGEST`]. The end of a turn ends everything
//! below the worker, readers as well: such a request is begun again.

use std::collections::VecDeque;
use std::io::{self, Seek};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use protocol::frame::Decoder;
use protocol::wire::{FilesAnswer, FilesAsk, FilesRefusal, Report};
use protocol::{Exit, bounds};
use rustix::pipe::PipeFlags;
use rustix::process::Pid;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::program::{self, Launch, Plan, Start};
use crate::confine::plan;
use crate::files::Request;
use crate::pipes::is_transient;
use crate::tree;

/// Readers at one time.
const AT_ONCE: usize = 2;
/// Requests that wait at one time.
const WAITING: usize = 8;
/// Time for a request, from its arrival. git has less (`files/git.rs`), so that it is the reader who says so.
const LONGEST: Duration = Duration::from_secs(20);
/// Starts of a reader for one request.
const TRIES: u32 = 3;
/// Size of a read, in bytes.
const READ: usize = 32 * 1024;
/// The longest answer as a frame: what the bounds allow, with room for what is around it.
const ANSWER: usize = bounds::DIFFERENCE + bounds::FILE_NAMES + 128 * bounds::FILES;

/// A request, and how often a reader was started for it.
struct Wanted {
    request: u64,
    ask: FilesAsk,
    by: Instant,
    tries: u32,
}

/// A running reader.
struct Reader {
    /// The request; none once it is answered.
    wanted: Option<Wanted>,
    /// Time at which it is killed; none once it was.
    kill_at: Option<Instant>,
    pid: Pid,
    /// That process was reaped: its pid may be another's.
    is_reaped: bool,
    start: Start,
    output: Option<pipe::Receiver>,
    decoder: Decoder,
    read: usize,
}

/// The readers of one session.
#[derive(Default)]
pub struct Readers {
    waiting: VecDeque<Wanted>,
    running: Vec<Reader>,
}

impl Readers {
    /// Takes a request. Gives the refusal if too many wait.
    pub fn ask(&mut self, request: u64, ask: FilesAsk) -> Option<Report> {
        if self.waiting.len() >= WAITING {
            let message = format!("{WAITING} requests for files of this session wait already");
            return Some(refused(request, FilesRefusal::Busy, message));
        }
        self.waiting.push_back(Wanted { request, ask, by: Instant::now() + LONGEST, tries: 0 });
        None
    }

    /// Starts readers for what waits.
    pub fn begin(&mut self, launch: impl Fn() -> Launch) -> Vec<Report> {
        let mut refusals = Vec::new();
        while self.running.len() < AT_ONCE {
            let Some(mut wanted) = self.waiting.pop_front() else { break };
            wanted.tries += 1;
            let request = wanted.request;
            match Reader::start(&launch(), wanted) {
                Ok(reader) => self.running.push(reader),
                Err(error) => refusals.push(no_reader(request, &error.to_string())),
            }
        }
        refusals
    }

    /// Returns true if a request waits.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() && self.running.len() < AT_ONCE
    }

    /// Returns true if a reader runs.
    pub fn is_running(&self) -> bool {
        self.running.iter().any(|reader| !reader.is_reaped)
    }

    /// Resolves when [`Readers::work`] may get further. Answers are read only if there is `room` for them.
    pub async fn ready(&self, room: bool) {
        let mut waits: Vec<_> = self.running.iter().map(|reader| Box::pin(reader.ready(room))).collect();
        std::future::poll_fn(|context| {
            let ready = waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready());
            if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    /// Reads what the readers have written. Gives the answers.
    pub fn work(&mut self) -> Vec<Report> {
        let answers: Vec<Report> = self.running.iter_mut().filter_map(Reader::work).collect();
        self.settle(answers)
    }

    /// Notes the end of a process, if it is a reader's.
    pub fn ended(&mut self, pid: Pid, exit: Exit) {
        if let Some(reader) = self.running.iter_mut().find(|reader| reader.pid == pid && !reader.is_reaped) {
            reader.is_reaped = true;
            let _ = reader.start.exit_of_child(exit);
        }
    }

    /// Ends the readers whose time is over, and refuses what has waited too long.
    pub fn hurry(&mut self, now: Instant) -> Vec<Report> {
        let mut refusals = Vec::new();
        for reader in &mut self.running {
            if reader.kill_at.is_some_and(|at| at <= now) {
                refusals.extend(reader.wanted.take().map(too_slow));
                reader.kill();
            }
        }
        while self.waiting.front().is_some_and(|wanted| wanted.by <= now) {
            refusals.extend(self.waiting.pop_front().map(too_slow));
        }
        refusals
    }

    /// Time at which [`Readers::hurry`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let running = self.running.iter().filter_map(|reader| reader.kill_at);
        running.chain(self.waiting.iter().map(|wanted| wanted.by)).min()
    }

    /// The processes of the readers. They are no part of a turn.
    pub fn processes(&self) -> Vec<Pid> {
        let living = self.running.iter().filter(|reader| !reader.is_reaped);
        living.flat_map(|reader| tree::at_and_below(reader.pid)).collect()
    }

    /// Forgets all requests: whoever asked is gone.
    pub fn forget(&mut self) {
        self.waiting.clear();
        for reader in &mut self.running {
            reader.wanted = None;
            reader.kill();
        }
    }

    /// Removes readers that are gone. What one of them has not answered waits again, or is refused.
    fn settle(&mut self, mut answers: Vec<Report>) -> Vec<Report> {
        let gone = |reader: &mut Reader| reader.is_reaped && reader.output.is_none();
        for reader in self.running.extract_if(.., gone) {
            let Some(wanted) = reader.wanted else { continue };
            match reader.start.failure() {
                Some(why) => answers.push(no_reader(wanted.request, &why)),
                None if wanted.tries < TRIES => self.waiting.push_front(wanted),
                None => answers.push(no_reader(wanted.request, "it ended without an answer")),
            }
        }
        answers
    }
}

impl Reader {
    fn start(launch: &Launch, wanted: Wanted) -> io::Result<Self> {
        let request = Request { workdir: launch.workdir.clone(), ask: wanted.ask.clone() };
        let mut stdin = std::fs::File::from(plan::write(&request)?);
        stdin.rewind()?;
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let output = pipe::Receiver::from_owned_fd(ours)?;
        let plan = Plan {
            argv: &["read-files".to_owned()],
            own: true,
            directory: PathBuf::new(),
            env: &[],
            stdin: OwnedFd::from(stdin).into(),
            stdout: theirs.into(),
            stderr: Stdio::null(),
        };
        let (pid, start) = program::start(launch, plan)?;
        let (kill_at, wanted) = (Some(wanted.by), Some(wanted));
        let (output, decoder) = (Some(output), Decoder::default());
        Ok(Self { wanted, kill_at, pid, is_reaped: false, start, output, decoder, read: 0 })
    }

    async fn ready(&self, room: bool) {
        tokio::select! {
            () = self.start.readable() => {}
            () = async { match &self.output {
                Some(output) if room => drop(output.readable().await),
                Some(_) | None => std::future::pending().await,
            }} => {}
        }
    }

    /// Reads once. Gives the answer when it is whole.
    fn work(&mut self) -> Option<Report> {
        let _ = self.start.read();
        let output = self.output.as_ref()?;
        let mut buffer = vec![0; READ];
        match output.try_read(&mut buffer) {
            Ok(n) if n > 0 && self.read + n <= ANSWER => {
                self.read += n;
                self.decoder.feed(&buffer[..n]);
            }
            Err(error) if is_transient(&error) => return None,
            Ok(_) | Err(_) => {
                self.output = None;
                return None;
            }
        }
        // What is no answer is none: the request is begun again, or refused.
        let answer = self.decoder.take::<FilesAnswer>().ok()??;
        let request = self.wanted.take()?.request;
        Some(Report::FilesRead { request, answer })
    }

    /// Kills the reader and all that it has started. Nothing more is read from it.
    fn kill(&mut self) {
        (self.output, self.kill_at) = (None, None);
        if !self.is_reaped {
            tree::kill(self.pid);
        }
    }
}

fn refused(request: u64, why: FilesRefusal, message: String) -> Report {
    Report::FilesRead { request, answer: FilesAnswer::Refused { why, message } }
}

fn no_reader(request: u64, why: &str) -> Report {
    refused(request, FilesRefusal::NoReader, format!("the files cannot be read: {why}"))
}

fn too_slow(wanted: Wanted) -> Report {
    let message = format!("the files could not be read within {} s", LONGEST.as_secs());
    refused(wanted.request, FilesRefusal::TooSlow, message)
}
