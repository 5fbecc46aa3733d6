//! Log-ins: a vendor's program on a terminal below a worker that belongs to no session. A person finishes it from wherever they are.
//!
//! Nothing of it is recorded: what is typed and shown are secrets. The worker has a marker like a spare's, ends with its manager, and
//! the next manager finds what is left. A log-in has ended once no process of it lives, and not before.

mod book;
mod limits;
mod msg;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use protocol::api::LogInEnd;
use protocol::frame::Framed;
use protocol::wire::{
    self, Agent, Command, FromWorker, Inherited, PROTOCOL_VERSION, Report, Unlogged, Welcome,
};
use protocol::{Exit, Incarnation, SessionId};
use rustix::process::Signal;
use tokio::sync::oneshot;

pub use self::book::{Book, Page, Reader};
pub use self::limits::Limits;
use self::limits::Verdict;
pub use self::msg::LogInMsg;
use crate::config::LogInPlan;
use crate::error::Error;
use crate::system::process::{self, worker_program};
use crate::system::random;
use crate::system::spawner::Request;
use crate::system::sweep::{self, Holder, Marker};
use crate::workers::Workers;
use crate::workers::link::{Link, Pipes};
use crate::workers::worker::{Origin, Worker};

/// The incarnation of the workers of log-ins: those of sessions count from 1.
pub(super) const LOG_IN: Incarnation = Incarnation::MAX;
/// Log-ins at one time.
const AT_ONCE: usize = 4;
/// How long the last words of a log-in are kept, in milliseconds.
const KEPT_MS: u64 = 60_000;
/// Time between SIGTERM and SIGKILL for the program, in milliseconds.
const GRACE_MS: u64 = 2_000;
/// Time for the worker to end all of it, in milliseconds. Longer than the grace.
const LEAVE_MS: u64 = 5_000;
/// Time between two looks at what is dying, in milliseconds: the first, and the longest after it has doubled.
const AGAIN_MS: u64 = 5;
const AGAIN_AT_MOST_MS: u64 = 1_000;
/// The most that was typed and that the worker has not taken, in bytes.
const UNTAKEN: usize = 128 * 1024;
/// Log-ins that have ended and whose last words are kept.
const ENDED: usize = 8;

/// A log-in that has processes.
struct LogIn {
    agent: String,
    book: Arc<Book>,
    worker: Worker,
    pidfd: OwnedFd,
    /// Number in its marker.
    spare: u64,
    stage: Stage,
    /// Number of the last numbered text.
    typed: u64,
    /// The end, as the worker or this manager knows it.
    end: Option<LogInEnd>,
    waiting: Vec<oneshot::Sender<Result<(), Error>>>,
}

/// The stage of a log-in, with times in milliseconds.
enum Stage {
    /// It ends at `end_at`, at the latest; its limits are looked at next at `look_at`, which is not later.
    Runs { end_at: u64, look_at: u64 },
    /// The worker ends everything below it.
    Leaves { kill_at: u64 },
    /// The worker has left or was killed, and what it may have left behind is ended.
    Dies { again_at: u64, wait: u64 },
}

/// The log-ins.
#[derive(Default)]
pub(super) struct LogIns {
    open: HashMap<SessionId, LogIn>,
    /// The books of those that have ended, until they are forgotten.
    over: HashMap<SessionId, (Arc<Book>, u64)>,
}

impl Workers {
    /// Does what a client asks of log-ins.
    pub fn log_in(&mut self, msg: LogInMsg, now: u64) {
        match msg {
            LogInMsg::Begin { plan, reply } => drop(reply.send(self.begin_log_in(plan, now))),
            LogInMsg::Find { id, reply } => drop(reply.send(self.find_log_in(&id))),
            LogInMsg::Type { id, bytes, number, reply } => drop(reply.send(self.type_in(&id, bytes, number))),
            LogInMsg::Room { id } => self.make_room(&id),
            LogInMsg::TakeOver { agent, reply } => {
                let other = self.log_ins.open.iter_mut().find(|(_, log_in)| log_in.agent == agent);
                match other {
                    Some((_, log_in)) => {
                        log_in.waiting.push(reply);
                        log_in.leave("another took its place", now);
                    }
                    None => drop(reply.send(Ok(()))),
                }
            }
            LogInMsg::End { id, reply } => self.end_log_in(&id, reply, now),
        }
    }

    fn begin_log_in(&mut self, plan: LogInPlan, now: u64) -> Result<Arc<Book>, Error> {
        let open = &self.log_ins.open;
        if let Some(other) = open.values().find(|log_in| log_in.agent == plan.agent) {
            let (agent, id) = (&plan.agent, &other.book.id);
            let message = format!("a log-in of `{agent}` runs already ({id}); nothing was started");
            let hint = format!(
                "finish it where it was begun, or type `kennel login {agent} --take-over`: that ends it and begins anew"
            );
            return Err(Error::invalid_with("login_running", message, hint));
        }
        if open.len() >= AT_ONCE {
            let message = format!("{AT_ONCE} log-ins of other agents run; nothing was started");
            return Err(Error::invalid_with("too_many_logins", message, "finish one of them first"));
        }
        let begun = self.spawn_log_in(plan, now).map(|(id, log_in)| {
            tracing::info!(agent = log_in.agent, id = log_in.book.id, "a log-in begins");
            let book = log_in.book.clone();
            self.log_ins.open.insert(id, log_in);
            book
        });
        // Once it is known: what nobody knows is ended.
        self.end_untold(now);
        begun.map_err(|error| {
            let message = format!("no process could be started for the log-in: {error}; nothing was started");
            Error::invalid_with("login_not_started", message, "the daemon's log may say more")
        })
    }

    fn spawn_log_in(&mut self, plan: LogInPlan, now: u64) -> io::Result<(SessionId, LogIn)> {
        let program = worker_program(self.world.worker_path.as_deref())?;
        let id: SessionId =
            format!("login-{}", random::hex(&random::bytes::<8>()?)).parse().map_err(io::Error::other)?;
        let spare = self.spares.next_number();
        let marker = Marker { manager: self.world.uuid.clone(), holder: Holder::Spare(spare) }.to_string();
        let request = Request { program, marker: marker.clone(), errors: None };
        let spawned = self.start(vec![request]).pop().unwrap_or_else(|| Err(io::ErrorKind::Other.into()))?;
        let pipes = Pipes { stdin: spawned.stdin, stdout: spawned.stdout };
        let link = Link::open(id.clone(), LOG_IN, None, Some(pipes), self.events.clone());
        let link = link.inspect_err(|_| process::end(spawned.pidfd.as_fd()))?;
        let book = Book::new(id.to_string(), spawned.identity.pid);
        let origin = Origin::Spawned { log: None, welcomed: true };
        let mut worker = Worker::new(LOG_IN, spawned.identity, None, Some(link), origin, 0);
        let LogInPlan { agent, argv, env, home } = plan;
        let welcome = Welcome {
            protocol: PROTOCOL_VERSION,
            session: id.clone(),
            resume_from: 0,
            marker,
            workdir: home,
            env,
            // Nobody sends it a prompt.
            agent: Agent::Shell,
            grace_ms: GRACE_MS,
        };
        let inherited = Inherited { places: Vec::new(), ..self.world.inherited.clone() };
        let _ = worker.send_all(
            &id,
            [
                Command::Welcome(Box::new(welcome)),
                Command::Inherit(inherited),
                // The kernel ends the whole namespace with its worker.
                Command::Contain { level: self.world.machine.level, demanded: false },
                Command::LogIn { argv },
            ],
        );
        let limits = self.world.log_in_limits;
        let end_at = now.saturating_add(limits.longest_ms);
        let stage = Stage::Runs { end_at, look_at: end_at.min(now.saturating_add(limits.unread_ms)) };
        let (pidfd, waiting) = (spawned.pidfd, Vec::new());
        Ok((id, LogIn { agent, book, worker, pidfd, spare, stage, typed: 0, end: None, waiting }))
    }

    fn find_log_in(&self, id: &SessionId) -> Result<Arc<Book>, Error> {
        let open = self.log_ins.open.get(id).map(|log_in| &log_in.book);
        let over = || self.log_ins.over.get(id).map(|(book, _)| book);
        open.or_else(over).cloned().ok_or_else(|| no_such(id))
    }

    fn type_in(&mut self, id: &SessionId, bytes: Unlogged, number: Option<u64>) -> Result<(), Error> {
        let book = self.find_log_in(id)?;
        let log_in =
            self.log_ins.open.get_mut(id).filter(|log_in| matches!(log_in.stage, Stage::Runs { .. }));
        let Some(log_in) = log_in else {
            return Err(Error::invalid(
                "login_ended",
                format!("the log-in `{}` has ended; nothing was typed", book.id),
            ));
        };
        if number.is_none_or(|number| number > log_in.typed) {
            let waiting = log_in.worker.link.as_ref().map_or(0, Link::waiting);
            if waiting + bytes.0.len() > UNTAKEN {
                let message = format!(
                    "the log-in `{}` takes nothing of what was typed before; nothing was typed",
                    book.id
                );
                let hint = "try again in a moment, or end it with Ctrl-C where it was begun";
                return Err(Error::invalid_with("login_busy", message, hint));
            }
            log_in.typed = number.unwrap_or(log_in.typed);
            let _ = log_in.worker.send(id, Command::LogInInput { bytes });
        }
        Ok(())
    }

    /// Lets the worker send more, as much as clients have taken.
    fn make_room(&mut self, id: &SessionId) {
        if let Some(log_in) = self.log_ins.open.get_mut(id)
            && let Some(upto) = log_in.book.grant()
        {
            let _ = log_in.worker.send(id, Command::LogInRoom { upto });
        }
    }

    /// Ends a log-in; answers when no process of it is left.
    fn end_log_in(&mut self, id: &SessionId, reply: oneshot::Sender<Result<(), Error>>, now: u64) {
        match self.log_ins.open.get_mut(id) {
            Some(log_in) => {
                log_in.waiting.push(reply);
                log_in.leave("a client ended it", now);
            }
            None => drop(reply.send(self.find_log_in(id).map(drop))),
        }
    }

    /// Hears the worker of a log-in.
    pub(super) fn hear_log_in(&mut self, id: &SessionId, frames: Vec<Framed<FromWorker>>, now: u64) {
        let Some(log_in) = self.log_ins.open.get_mut(id) else { return };
        let worker = &mut log_in.worker;
        for Framed { message, size } in frames {
            worker.untold.heard(message.seq, size);
            let Ok(mut news) = worker.news(message) else { return log_in.kill(now) };
            if news.as_mut().is_some_and(|report| wire::bound(report).is_err()) {
                return log_in.kill(now);
            }
            match news {
                Some(Report::LogInOutput { bytes }) => log_in.book.write(&bytes.0),
                Some(Report::LogInEnded { exit, message }) => {
                    log_in.end.get_or_insert_with(|| ended(exit, message));
                }
                // What every worker reports is of no use here.
                Some(_) | None => {}
            }
        }
        worker.recorded = worker.heard;
        worker.untold.recorded(worker.heard);
        if worker.owes_acknowledgement() {
            let _ = worker.send(id, Command::Acknowledge);
        }
    }

    /// Notes that the worker of a log-in has closed its pipe. It leaves, or is made to.
    pub(super) fn lose_log_in(&mut self, id: &SessionId, now: u64) {
        if let Some(log_in) = self.log_ins.open.get_mut(id) {
            log_in.kill(now);
        }
    }

    /// Ends log-ins whose time is over, and what those have left that are ending.
    pub fn tend_log_ins(&mut self, now: u64) {
        self.log_ins.over.retain(|_, (_, forget_at)| *forget_at > now);
        let limits = self.world.log_in_limits;
        let due: Vec<SessionId> =
            self.log_ins.open.iter().filter(|(_, it)| it.due() <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            let Some(log_in) = self.log_ins.open.get_mut(&id) else { continue };
            match &mut log_in.stage {
                Stage::Runs { end_at, look_at } => {
                    let unread_for = log_in.book.unread_for().map(|unread| unread.as_millis() as u64);
                    let unread_since = unread_for.map(|unread| now.saturating_sub(unread));
                    match limits.judge(*end_at, unread_since, now) {
                        Verdict::GoesOn { look_at: next } => *look_at = next,
                        Verdict::Ends(why) => log_in.leave(why, now),
                    }
                }
                Stage::Leaves { .. } => log_in.kill(now),
                // What the kernel does not let end may stay for hours.
                Stage::Dies { again_at, wait } => {
                    *again_at = now + *wait;
                    *wait = (*wait * 2).min(AGAIN_AT_MOST_MS);
                    self.finish_log_in(&id, now);
                }
            }
        }
    }

    /// Ends what a dead worker has left behind; once that is nothing, tells the end.
    fn finish_log_in(&mut self, id: &SessionId, now: u64) {
        let Some(log_in) = self.log_ins.open.get(id) else { return };
        if process::peek(log_in.pidfd.as_fd()).is_none() || self.has_left_behind(log_in.spare) {
            return;
        }
        let Some(log_in) = self.log_ins.open.remove(id) else { return };
        self.dismiss(log_in.pidfd, now);
        let lost = || LogInEnd { reason: Some("its worker was lost".into()), ..LogInEnd::default() };
        let end = log_in.end.unwrap_or_else(lost);
        tracing::info!(agent = log_in.agent, id = log_in.book.id, code = end.code, "a log-in has ended");
        log_in.book.close(end);
        for reply in log_in.waiting {
            let _ = reply.send(Ok(()));
        }
        let over = &mut self.log_ins.over;
        over.insert(id.clone(), (log_in.book, now + KEPT_MS));
        if over.len() > ENDED
            && let Some(oldest) =
                over.iter().min_by_key(|(_, (_, forget_at))| *forget_at).map(|(id, _)| id.clone())
        {
            over.remove(&oldest);
        }
    }

    /// Kills what a dead worker with this marker has left behind. Returns true if something of it may still live.
    fn has_left_behind(&self, spare: u64) -> bool {
        match self.world.whole_process {
            true => !self.strangers().is_empty(),
            false => !sweep::hunt(
                &self.world.uuid,
                |_, of| matches!(of, Holder::Spare(number) if *number == spare),
            )
            .is_empty(),
        }
    }

    /// Time at which [`Workers::tend_log_ins`] has something to do, in milliseconds.
    pub(super) fn log_ins_deadline(&self) -> Option<u64> {
        let over = self.log_ins.over.values().map(|(_, forget_at)| *forget_at);
        self.log_ins.open.values().map(LogIn::due).chain(over).min()
    }

    /// Returns true if the worker of a log-in has this pid.
    pub(super) fn is_log_in(&self, pid: u32) -> bool {
        self.log_ins.open.values().any(|log_in| log_in.book.pid == pid)
    }

    /// Takes the processes of all log-ins, to be ended with their manager.
    pub(super) fn take_log_ins(&mut self) -> Vec<OwnedFd> {
        let end = || LogInEnd { reason: Some("the daemon ended".into()), ..LogInEnd::default() };
        let taken = std::mem::take(&mut self.log_ins.open).into_values();
        taken.inspect(|log_in| log_in.book.close(end())).map(|log_in| log_in.pidfd).collect()
    }

    /// Kills what the workers of log-ins have left behind, once.
    pub(super) fn sweep_log_ins(&self) {
        match self.world.whole_process {
            true => drop(self.strangers()),
            false => drop(sweep::hunt(&self.world.uuid, |_, of| matches!(of, Holder::Spare(_)))),
        }
    }
}

impl LogIn {
    /// Time of the next step, in milliseconds.
    fn due(&self) -> u64 {
        match self.stage {
            Stage::Runs { look_at, .. } => look_at,
            Stage::Leaves { kill_at } => kill_at,
            Stage::Dies { again_at, .. } => again_at,
        }
    }

    /// Has the worker end everything below it, for this reason.
    fn leave(&mut self, why: &str, now: u64) {
        if matches!(self.stage, Stage::Runs { .. }) {
            self.end.get_or_insert_with(|| LogInEnd { reason: Some(why.into()), ..LogInEnd::default() });
            process::signal(self.pidfd.as_fd(), Signal::TERM);
            self.stage = Stage::Leaves { kill_at: now + LEAVE_MS };
        }
    }

    /// Kills the worker, if it still lives.
    fn kill(&mut self, now: u64) {
        if !matches!(self.stage, Stage::Dies { .. }) {
            process::signal(self.pidfd.as_fd(), Signal::KILL);
            self.stage = Stage::Dies { again_at: now, wait: AGAIN_MS };
        }
    }
}

fn ended(exit: Option<Exit>, message: String) -> LogInEnd {
    let (code, signal) = match exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signal)),
        Some(Exit::Unknown) | None => (None, None),
    };
    LogInEnd { code, signal, reason: Some(message).filter(|message| !message.is_empty()) }
}

fn no_such(id: &SessionId) -> Error {
    let message = format!("there is no log-in `{id}`; it has ended, or the daemon is another one");
    Error::invalid_with("no_such_login", message, "`kennel login AGENT` begins one")
}
