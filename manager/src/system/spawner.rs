//! The start of workers: many at once, by the zygote where there is one.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use protocol::{Identity, MARKER, failpoint};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::system::process::{self, Spawned, start_time};
use crate::system::zygote::{Program, Zygote};

/// The most workers that the zygote is asked for at a time: their streams lie in its socket until then.
const IN_FLIGHT: usize = 16;

/// Failures of zygotes, one after the other, after which no other is started from the same file.
const FAILURES: u32 = 3;

/// A worker to start.
pub struct Request {
    /// Its program.
    pub program: PathBuf,
    /// Its marker.
    pub marker: String,
    /// Its standard error; none is nothing.
    pub errors: Option<File>,
}

/// A worker that the zygote was asked for, and our ends of its pipes.
struct Asked {
    number: usize,
    request: Request,
    ours: [OwnedFd; 2],
}

/// Starts workers.
pub struct Spawner {
    boot_id: String,
    /// The marker of the zygote.
    marker: String,
    zygote: Option<Zygote>,
    /// The zygote is not in the watch yet.
    is_new: bool,
    /// The file that zygotes were started from, and how many of them failed since one answered.
    failures: Option<(Program, u32)>,
    /// A zygote has failed before it answered: what it has started is nobody's.
    is_unsure: bool,
    /// Zygotes that were ended and are still to be reaped.
    ended: Vec<OwnedFd>,
}

impl Spawner {
    /// Starts nothing yet.
    pub fn new(boot_id: String, marker: String) -> Self {
        let ended = Vec::new();
        Self { boot_id, marker, zygote: None, is_new: false, failures: None, is_unsure: false, ended }
    }

    /// Starts workers, and gives the outcomes in the same order.
    pub fn spawn_all(&mut self, requests: Vec<Request>) -> Vec<io::Result<Spawned>> {
        let mut outcomes: Vec<Option<io::Result<Spawned>>> = Vec::new();
        let mut asked = VecDeque::new();
        for (number, request) in requests.into_iter().enumerate() {
            outcomes.push(None);
            // Another zygote would answer what this one was asked.
            if asked.is_empty() {
                self.fit(&request.program);
            }
            match self.ask(number, request) {
                Ok(one) => asked.push_back(one),
                Err(request) => outcomes[number] = Some(self.spawn(&request)),
            }
            while asked.len() >= IN_FLIGHT {
                self.take_answer(&mut asked, &mut outcomes);
            }
        }
        while !asked.is_empty() {
            self.take_answer(&mut asked, &mut outcomes);
        }
        let missing = || Err(io::ErrorKind::Other.into());
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect()
    }

    /// Sees to a zygote of the program that this file is now.
    fn fit(&mut self, path: &Path) {
        let Ok(program) = Program::at(path) else { return };
        if self.zygote.as_ref().is_some_and(|zygote| zygote.program() != program) {
            // It was installed anew.
            self.end();
        }
        if self.failures.is_none_or(|(of, _)| of != program) {
            self.failures = Some((program, 0));
        }
        if self.zygote.is_none() && self.failures.is_some_and(|(_, failures)| failures < FAILURES) {
            match Zygote::start(path, program, &self.marker) {
                Ok(zygote) => {
                    failpoint::hit("zygote", "started");
                    (self.zygote, self.is_new) = (Some(zygote), true);
                }
                Err(error) => tracing::debug!(%error, "no zygote"),
            }
        }
    }

    /// Asks the zygote; gives the request back where there is none.
    fn ask(&mut self, number: usize, request: Request) -> Result<Asked, Request> {
        let Some(zygote) = &self.zygote else { return Err(request) };
        let Ok((ours, theirs)) = pipes() else { return Err(request) };
        match zygote.ask(&request.marker, &theirs, request.errors.as_ref()) {
            Ok(()) => Ok(Asked { number, request, ours }),
            Err(error) => {
                tracing::debug!(%error, "the zygote was not asked");
                Err(request)
            }
        }
    }

    /// Takes the answer about the oldest worker that was asked for. All of them are spawned without the zygote if it fails.
    fn take_answer(&mut self, asked: &mut VecDeque<Asked>, outcomes: &mut [Option<io::Result<Spawned>>]) {
        let answer = self.zygote.as_ref().map_or(Err(io::ErrorKind::NotFound.into()), Zygote::answer);
        let Some(one) = asked.pop_front() else { return };
        match answer {
            Ok(pid) => {
                if let Some((_, failures)) = &mut self.failures {
                    *failures = 0;
                }
                failpoint::hit("zygote", "answered");
                outcomes[one.number] = Some(match pid {
                    Ok(pid) => self.spawned(pid, one.ours),
                    Err(_) => self.spawn(&one.request),
                });
            }
            Err(error) => {
                tracing::info!(%error, "the zygote does not answer; workers start without");
                self.is_unsure = true;
                if let Some((_, failures)) = &mut self.failures {
                    *failures += 1;
                }
                self.end();
                for one in [one].into_iter().chain(asked.drain(..)) {
                    outcomes[one.number] = Some(self.spawn(&one.request));
                }
            }
        }
    }

    /// Starts a worker without a zygote: no shell, no `pre_exec` (std then uses posix_spawn(3), whose cost does not grow with the
    /// manager's memory), nothing in its environment but the marker.
    fn spawn(&self, request: &Request) -> io::Result<Spawned> {
        let (ours, [input, output]) = pipes()?;
        let errors = match &request.errors {
            Some(errors) => Stdio::from(errors.try_clone()?),
            None => Stdio::null(),
        };
        let mut command = Command::new(&request.program);
        command.env_clear().env(MARKER, &request.marker);
        failpoint::inherit(&mut command);
        let child = command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(errors).spawn()?;
        self.spawned(child.id(), ours)
    }

    /// Takes hold of a new child. Only the supervisor reaps: until then the pid belongs to this child, alive or dead.
    fn spawned(&self, pid: u32, [stdin, stdout]: [OwnedFd; 2]) -> io::Result<Spawned> {
        let pidfd = process::pid(pid).and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?));
        match (pidfd, start_time(pid)) {
            (Ok(pidfd), Ok(start_time)) => {
                let identity = Identity { pid, start_time, boot_id: self.boot_id.clone() };
                Ok(Spawned { identity, pidfd, stdin, stdout })
            }
            (pidfd, start_time) => {
                // Without a hold on it, it cannot be kept.
                let error = pidfd.err().or(start_time.err()).unwrap_or_else(|| io::ErrorKind::Other.into());
                process::end_child(pid);
                Err(error)
            }
        }
    }

    /// The handle of the zygote, to watch for its end; once for each zygote.
    pub fn new_zygote(&mut self) -> Option<BorrowedFd<'_>> {
        let is_new = std::mem::take(&mut self.is_new);
        self.zygote.as_ref().filter(|_| is_new).map(Zygote::pidfd)
    }

    /// Returns true for the zygote's pid.
    pub fn is_zygote(&self, pid: u32) -> bool {
        self.zygote.as_ref().is_some_and(|zygote| zygote.pid() == pid)
    }

    /// Ends the zygote.
    pub fn end(&mut self) {
        self.ended.extend(self.zygote.take().and_then(Zygote::end));
    }

    /// Gives the handles of zygotes that were ended and are still to be reaped.
    pub fn take_ended(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.ended)
    }

    /// Returns true if a zygote may have started workers of which it did not tell.
    pub fn is_unsure(&self) -> bool {
        self.is_unsure
    }

    /// There are no such workers any more.
    pub fn is_sure(&mut self) {
        self.is_unsure = false;
    }
}

/// Two pipes for a worker: our ends of its standard input and output, and its own.
fn pipes() -> io::Result<([OwnedFd; 2], [OwnedFd; 2])> {
    let (their_stdin, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok(([stdin, stdout], [their_stdin, their_stdout]))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::path::PathBuf;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::system::process::reap;

    fn spawner() -> Spawner {
        Spawner::new("boot".into(), "marker".into())
    }

    /// Waits until the process is gone, and reaps it.
    fn reaped(pidfd: &OwnedFd) {
        poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None).unwrap();
        assert!(reap(pidfd.as_fd()));
    }

    #[test]
    fn zygotes_that_do_not_end_at_once_are_reaped_later() {
        let mut spawner = spawner();
        // It reads, and answers nothing.
        let cat = PathBuf::from("/bin/cat");
        let mut pids = Vec::new();
        for _ in 0..20 {
            spawner.fit(&cat);
            pids.push(spawner.zygote.as_ref().unwrap().pid());
            spawner.end();
        }
        spawner.take_ended().iter().for_each(reaped);
        assert!(spawner.take_ended().is_empty());
        // A zombie is still there.
        let left: Vec<_> = pids.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_zygote_that_ends_without_an_answer_leaves_doubt_and_workers_start_all_the_same() {
        // One that has ended before it was asked leaves no doubt: then another try.
        let unsure = (0..1000).any(|_| {
            let mut spawner = spawner();
            let asked = || Request { program: "/bin/true".into(), marker: "worker".into(), errors: None };
            assert!(!spawner.is_unsure());
            let started = spawner.spawn_all(vec![asked(), asked()]);
            let errors: Vec<_> = started.iter().filter_map(|one| one.as_ref().err()).collect();
            assert!(errors.is_empty(), "{errors:?}");
            let unsure = spawner.is_unsure();
            spawner.is_sure();
            assert!(!spawner.is_unsure());
            started.into_iter().flatten().for_each(|one| reaped(&one.pidfd));
            spawner.end();
            spawner.take_ended().iter().for_each(reaped);
            unsure
        });
        assert!(unsure, "it may have started some and not told");
    }
}
