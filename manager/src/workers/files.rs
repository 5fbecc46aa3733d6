//! Files of a session's working directory: a client's request goes to the session's worker, and its answer back. Neither is
//! recorded, and the loop waits for neither.
//!
//! A session without a worker that can answer (it is stopped, hibernated, about to start, or its worker is of an older version) gets
//! a *guest*: a worker process that has the session's directory, sandbox and limits, runs no agent, and ends when nobody has asked
//! for a while. The session's state does not change by it. A guest has a marker of its own like a spare, and ends with its manager.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use protocol::frame::Framed;
use protocol::wire::{Agent, Command, FilesAsk, Find, FromWorker, Inherited, PROTOCOL_VERSION, Welcome};
use protocol::{Groups, Incarnation, SessionId};

use crate::config;
use crate::core::Session;
use crate::error::Error;
use crate::shares::{Sender, Shares};
use crate::system::process::{self, worker_program};
use crate::system::spawner::Request;
use crate::system::sweep::{Holder, Marker};
use crate::workers::link::{Link, Pipes};
use crate::workers::open_files::{FilesReply, OPEN};
use crate::workers::worker::{Origin, Worker};
use crate::workers::{Sighting, Workers};

/// The incarnation of guests: workers of sessions count from 1.
pub(super) const GUEST: Incarnation = 0;
/// Guests at one time.
const GUESTS: Shares = Shares::of(8);
/// Time without a request after which a guest ends, in milliseconds. Longer than a request may take.
const STAY_MS: u64 = 30_000;

/// A worker of a session that has none of its own.
pub(super) struct Guest {
    worker: Worker,
    pidfd: OwnedFd,
    /// Whoever asked first. The place is that sender's.
    sender: Sender,
    /// Time at which it ends, in milliseconds.
    leave_at: u64,
}

/// The guests, by session.
pub(super) type Guests = HashMap<SessionId, Guest>;

impl Worker {
    /// Returns true if the worker can be asked for files.
    fn reads_files(&self) -> bool {
        let knows = match self.origin {
            Origin::Spawned { welcomed, .. } => welcomed,
            Origin::Adopted(_) => self.is_greeted(),
        };
        knows && self.link.is_some() && self.dead.is_none()
    }

    fn ask_files(
        &mut self,
        id: &SessionId,
        number: u64,
        (sender, ask): (Sender, FilesAsk),
        reply: FilesReply,
    ) -> Option<Sighting> {
        if let Err(reply) = self.files.open(number, sender, reply) {
            let _ =
                reply.send(Err(busy(format!("{OPEN} requests for files of session `{id}` wait already"))));
            return None;
        }
        self.send(id, Command::ReadFiles { request: number, ask })
    }
}

impl Workers {
    /// Passes a request for files to the session's worker, or to its guest.
    pub fn read_files(
        &mut self,
        session: &Session,
        (sender, ask): (Sender, FilesAsk),
        reply: FilesReply,
        now: u64,
    ) -> Option<Sighting> {
        let id = &session.id;
        self.next_request += 1;
        let number = self.next_request;
        if let Some(worker) = self.workers.get_mut(id).filter(|worker| worker.reads_files()) {
            return worker.ask_files(id, number, (sender, ask), reply);
        }
        if !self.guests.contains_key(id)
            && let Err(error) = self.invite(session, &sender, now)
        {
            let _ = reply.send(Err(error));
            return None;
        }
        let guest = self.guests.get_mut(id)?;
        guest.leave_at = now + STAY_MS;
        // Nothing of the session is at fault if its guest is.
        let _ = guest.worker.ask_files(id, number, (sender, ask), reply);
        None
    }

    /// Starts a guest, if there is a place for one of this sender.
    fn invite(&mut self, session: &Session, sender: &Sender, now: u64) -> Result<(), Error> {
        while let Some(full) = GUESTS.full(sender, self.guests.values().map(|guest| &guest.sender)) {
            // A guest that nobody waits for makes room.
            let all = self.guests.iter_mut().filter(|(_, guest)| full.has(&guest.sender));
            let idle = all.filter_map(|(id, guest)| {
                (guest.worker.files.waiting() == 0).then_some((guest.leave_at, id.clone()))
            });
            let Some((_, idle)) = idle.min() else {
                return Err(busy(format!("processes that read files of sessions without one: {full}")));
            };
            self.dismiss_guest(&idle, now);
        }
        let started = self.spawn_guest(session, sender);
        self.end_untold(now);
        let guest = started.map_err(|error| {
            Error::files("no_reader", format!("no process could be started to read the files: {error}"))
        })?;
        tracing::debug!(session = %session.id, pid = guest.worker.identity.pid, "a guest reads its files");
        self.guests.insert(session.id.clone(), guest);
        Ok(())
    }

    fn spawn_guest(&mut self, session: &Session, sender: &Sender) -> io::Result<Guest> {
        let program = worker_program(self.world.worker_path.as_deref())?;
        let marker =
            Marker { manager: self.world.uuid.clone(), holder: Holder::Spare(self.spares.next_number()) };
        let request = Request { program, marker: marker.to_string(), errors: None };
        let spawned = self.start(vec![request]).pop().unwrap_or_else(|| Err(io::ErrorKind::Other.into()))?;
        let pipes = Pipes { stdin: spawned.stdin, stdout: spawned.stdout };
        let link = Link::open(session.id.clone(), GUEST, None, Some(pipes), self.events.clone());
        let link = link.inspect_err(|_| process::end(std::os::fd::AsFd::as_fd(&spawned.pidfd)))?;
        let origin = Origin::Spawned { log: None, welcomed: true };
        let mut worker = Worker::new(GUEST, spawned.identity, None, Some(link), origin, 0);
        let _ = worker.send_all(&session.id, self.introduction(session, marker.to_string()));
        Ok(Guest { worker, pidfd: spawned.pidfd, sender: sender.clone(), leave_at: 0 })
    }

    /// All that a guest needs to know: what confines the session's programs.
    fn introduction(&self, session: &Session, marker: String) -> Vec<Command> {
        let spec = &session.spec;
        let (level, demanded) = self.world.machine.level_for(spec);
        let welcome = Welcome {
            protocol: PROTOCOL_VERSION,
            session: session.id.clone(),
            resume_from: 0,
            marker,
            workdir: spec.workdir.clone(),
            env: Vec::new(),
            // Nobody sends it a prompt.
            agent: Agent::Shell,
            grace_ms: 0,
        };
        let (limits, inherited) = (spec.limits, Inherited { umask: spec.umask, ..Inherited::default() });
        let by = limits.without_groups();
        let mut all = vec![
            Command::Welcome(Box::new(welcome)),
            Command::Inherit(inherited),
            Command::Find(Find { path: config::path_of(spec), program: None }),
            Command::Contain { level, demanded },
            Command::Limits { limits, by, groups: Groups::default() },
        ];
        let sandbox = spec.walls.clone().map(|walls| Command::SandboxOf(Box::new(self.world.hide(walls))));
        all.extend(sandbox);
        all
    }

    /// Hears a guest. Nothing that it says is about the session.
    pub(super) fn hear_guest(&mut self, id: &SessionId, frames: Vec<Framed<FromWorker>>, now: u64) {
        let Some(guest) = self.guests.get_mut(id) else { return };
        let worker = &mut guest.worker;
        for Framed { message, size } in frames {
            worker.untold.heard(message.seq, size);
            if worker.understand(message).is_err() {
                return self.dismiss_guest(id, now);
            }
        }
        worker.recorded = worker.heard;
        worker.untold.recorded(worker.heard);
        if worker.owes_acknowledgement() {
            let _ = worker.send(id, Command::Acknowledge);
        }
    }

    /// Ends the guests that nobody has asked for a while.
    pub fn end_guests(&mut self, now: u64) {
        let due: Vec<SessionId> =
            self.guests.iter().filter(|(_, guest)| guest.leave_at <= now).map(|(id, _)| id.clone()).collect();
        due.iter().for_each(|id| self.dismiss_guest(id, now));
    }

    /// Time at which a guest ends, in milliseconds.
    pub(super) fn guests_deadline(&self) -> Option<u64> {
        self.guests.values().map(|guest| guest.leave_at).min()
    }

    /// Ends a guest, if the session has one.
    pub(super) fn dismiss_guest(&mut self, id: &SessionId, now: u64) {
        if let Some(guest) = self.guests.remove(id) {
            self.dismiss(guest.pidfd, now);
        }
    }

    /// Takes the processes of all guests, to be ended.
    pub(super) fn take_guests(&mut self) -> impl Iterator<Item = OwnedFd> + use<> {
        std::mem::take(&mut self.guests).into_values().map(|guest| guest.pidfd)
    }

    /// Returns true if a guest has this pid.
    pub(super) fn is_guest(&self, pid: u32) -> bool {
        self.guests.values().any(|guest| guest.worker.identity.pid == pid)
    }
}

fn busy(message: String) -> Error {
    Error::files("overloaded", message)
}
