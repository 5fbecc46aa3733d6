//! The spawn of a worker, and its entry into the table.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use protocol::{Identity, Incarnation, SessionId};
use rustix::process::Signal;

use crate::core::Seen;
use crate::system::owned::How;
use crate::system::process::worker_program;
use crate::system::sweep::{Holder, Marker};
use crate::system::{owned, process};
use crate::workers::link::{Link, Pipes};
use crate::workers::worker::{Origin, Worker};
use crate::workers::{Sighting, Workers, logs};

impl Workers {
    pub(super) fn spawn(&mut self, id: &SessionId, incarnation: Incarnation, now: u64) -> Option<Sighting> {
        if self.workers.get(id).is_some_and(|worker| worker.incarnation >= incarnation) {
            return None;
        }
        self.spares.stir(now);
        let seen = match self.try_spawn(id, incarnation) {
            Ok(identity) => Seen::Spawned(identity),
            Err(error) => {
                tracing::warn!(session = %id, incarnation, %error, "worker not spawned");
                Seen::SpawnFailed { no_room: process::is_no_room(&error), error: error.to_string() }
            }
        };
        Some((id.clone(), incarnation, seen))
    }

    fn try_spawn(&mut self, id: &SessionId, incarnation: Incarnation) -> io::Result<Identity> {
        let program = worker_program(self.world.worker_path.as_deref())?;
        let (log, begin) = self.begin_log(id)?;
        let marker = self.marker(id, incarnation);
        let spawned = process::spawn(&program, &marker, &self.world.boot_id, log.into())
            .map_err(|error| named(error, &program))?;
        let pipes = Pipes { stdin: spawned.stdin, stdout: spawned.stdout };
        let link = Link::open(id.clone(), incarnation, None, Some(pipes), self.events.clone());
        let link = link.inspect_err(|_| process::end(spawned.pidfd.as_fd()))?;
        let identity = spawned.identity.clone();
        tracing::debug!(session = %id, incarnation, pid = identity.pid, "worker spawned");
        let (pidfd, origin) = (Some(spawned.pidfd), Origin::Spawned { log: Some(begin), welcomed: false });
        self.insert(id, Worker::new(incarnation, spawned.identity, pidfd, Some(link), origin, 0));
        Ok(identity)
    }

    pub(super) fn marker(&self, id: &SessionId, incarnation: Incarnation) -> String {
        let holder = Holder::Session(id.clone(), incarnation);
        Marker { manager: self.world.uuid.clone(), holder }.to_string()
    }

    /// Opens a session's log for a new worker, and bounds it.
    pub(super) fn begin_log(&self, id: &SessionId) -> io::Result<(File, logs::Begin)> {
        if let Err(error) = logs::bound(&self.world.state_dir, id) {
            tracing::warn!(session = %id, %error, "its log is too long and was not kept");
        }
        let log = open_log(&self.world.state_dir, id)?;
        let begin = logs::Begin::at_end_of(&log)?;
        Ok((log, begin))
    }

    /// Enters a worker into the table, and watches for its end.
    pub(super) fn insert(&mut self, id: &SessionId, mut worker: Worker) {
        self.next_number += 1;
        let number = self.next_number;
        worker.number = number;
        if let Some(pidfd) = &worker.pidfd
            && let Err(error) = self.watch.add(pidfd.as_fd(), number)
        {
            // Its end would never be seen; so it ends now, and the next sweep of unfinished ones finds it.
            tracing::error!(session = %id, %error, "worker cannot be watched");
            process::signal(pidfd.as_fd(), Signal::KILL);
            self.unfinished.insert(id.clone(), 0);
        }
        self.enter(id, worker);
    }

    /// Enters a worker that is watched into the table.
    pub(super) fn enter(&mut self, id: &SessionId, worker: Worker) {
        self.by_number.insert(worker.number, id.clone());
        if let Some(before) = self.workers.insert(id.clone(), worker) {
            self.by_number.remove(&before.number);
        }
    }
}

fn open_log(state_dir: &Path, id: &SessionId) -> io::Result<File> {
    let path = logs::path(state_dir, id);
    owned::open(&path, How::Append).map_err(|error| named(error, &path))
}

/// The error with its file's name in it, and its number still to be asked for.
fn named(error: io::Error, path: &Path) -> io::Error {
    tracing::debug!(path = %path.display(), %error, "not opened");
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        }
        _ => error,
    }
}
