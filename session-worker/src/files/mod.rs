//! The reader: a program of its own, below the worker and in the session's sandbox, that reads files for a client and ends.
//!
//! `session-worker read-files`: the request is on standard input, the answer goes to standard output. The worker waits for
//! neither: a file system that hangs holds up this process, which the worker ends after a while. What the sandbox hides is
//! hidden here, and the session's limits hold. Everything in the directory may be made to do harm: the kernel keeps each path
//! below the directory (`place.rs`), nothing but regular files is opened, and git runs with a repository of the reader's own.
//!
//! May use: `protocol`, `exit`. Used by: `main`, and `agent/` for the request.

mod content;
mod difference;
mod git;
mod list;
mod place;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::frame::{self, Decoder};
use protocol::wire::{FilesAnswer, FilesAsk, FilesRefusal};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use signal_hook::consts::SIGTERM;

use crate::exit;
use place::Place;

/// The most memory that the reader, or git below it, may map: 2 GiB.
const MEMORY: u64 = 2 << 30;
/// The largest file that git may write for the reader: its index.
const LARGEST_WRITTEN: u64 = 256 << 20;

/// The worker's request to the reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The session's working directory, absolute.
    pub workdir: String,
    /// The request.
    pub ask: FilesAsk,
}

/// Reason for which nothing was read.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    why: FilesRefusal,
    message: String,
}

impl Refused {
    fn new(why: FilesRefusal, message: impl Into<String>) -> Self {
        Self { why, message: message.into() }
    }
}

/// Answers the one request on standard input.
pub fn run() -> u8 {
    // The limits are below those that the session has already, or change nothing.
    for (of, most) in [(Resource::As, MEMORY), (Resource::Fsize, LARGEST_WRITTEN), (Resource::Core, 0)] {
        let _ = setrlimit(of, Rlimit { current: Some(most), maximum: Some(most) });
    }
    match serve() {
        Ok(()) => exit::DONE,
        Err(_) => exit::FAULT,
    }
}

fn serve() -> io::Result<()> {
    let mut bytes = Vec::new();
    io::stdin().take(frame::MAX_BODY as u64).read_to_end(&mut bytes)?;
    let mut decoder = Decoder::default();
    decoder.feed(&bytes);
    let request: Request = decoder.take().map_err(io::Error::other)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let ended = Arc::new(AtomicBool::new(false));
    if matches!(request.ask, FilesAsk::Diff { .. }) {
        // What lies in a temporary directory is removed first.
        signal_hook::flag::register(SIGTERM, ended.clone())?;
    }
    let mut out = Vec::new();
    frame::encode(&answer(&request, &ended), &mut out).map_err(io::Error::other)?;
    if ended.load(Ordering::Relaxed) {
        // No answer: the worker begins the request anew.
        return Err(io::ErrorKind::Interrupted.into());
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(&out)?;
    stdout.flush()
}

fn answer(request: &Request, ended: &Arc<AtomicBool>) -> FilesAnswer {
    let Request { workdir, ask } = request;
    let answer = Place::open(workdir).and_then(|place| match ask {
        FilesAsk::List { path, after, limit } => list::list(&place, path, after.as_deref(), *limit),
        FilesAsk::Read { path, offset, length } => content::read(&place, path, *offset, *length),
        FilesAsk::Diff { path, commit, text } => difference::difference(&place, path, (commit, *text), ended),
    });
    answer.unwrap_or_else(|Refused { why, message }| FilesAnswer::Refused { why, message })
}
