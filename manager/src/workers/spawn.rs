//! The spawn of a worker, and its entry into the table.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use protocol::{Identity, Incarnation, SessionId};
use rustix::process::Signal;

use crate::core::Seen;
use crate::system::owned::How;
use crate::system::process::{Spawned, worker_program};
use crate::system::spawner::Request;
use crate::system::sweep::{Holder, Marker};
use crate::system::{owned, process};
use crate::workers::link::{Link, Pipes};
use crate::workers::worker::{Origin, Worker};
use crate::workers::{Sighting, Workers, ZYGOTE, logs};

/// The files of a worker to start.
struct Begun {
    program: PathBuf,
    log: File,
    begin: logs::Begin,
}

impl Workers {
    /// Starts a worker for each of these incarnations that has none, all in one go.
    pub fn spawn_all(&mut self, starts: Vec<(SessionId, Incarnation)>, now: u64) -> Vec<Sighting> {
        let mut seen = Vec::new();
        let (mut meant, mut requests) = (Vec::new(), Vec::new());
        let mut begun = BTreeSet::new();
        for (id, incarnation) in starts {
            let has_one = self.workers.get(&id).is_some_and(|worker| worker.incarnation >= incarnation);
            // To do an effect twice is the same as to do it once, in one batch too.
            if has_one || !begun.insert((id.clone(), incarnation)) {
                continue;
            }
            self.spares.stir(now);
            match self.begin(&id) {
                Ok(Begun { program, log, begin }) => {
                    let marker = self.marker(&id, incarnation);
                    requests.push(Request { program: program.clone(), marker, errors: Some(log) });
                    meant.push((id, incarnation, program, begin));
                }
                Err(error) => seen.push(not_spawned(id, incarnation, &error)),
            }
        }
        let outcomes = self.start(requests);
        if outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).any(process::is_no_room) {
            self.spares.make_way(now);
        }
        for ((id, incarnation, program, begin), outcome) in meant.into_iter().zip(outcomes) {
            let outcome = outcome.map_err(|error| named(error, &program));
            seen.push(match outcome.and_then(|spawned| self.employ(&id, incarnation, begin, spawned)) {
                Ok(identity) => (id, incarnation, Seen::Spawned(identity)),
                Err(error) => not_spawned(id, incarnation, &error),
            });
        }
        self.end_untold(now);
        seen
    }

    /// Starts workers, and watches the zygote that has forked them.
    pub(super) fn start(&mut self, requests: Vec<Request>) -> Vec<io::Result<Spawned>> {
        let outcomes = self.spawner.spawn_all(requests);
        if let Some(zygote) = self.spawner.new_zygote()
            && let Err(error) = self.watch.add(zygote, ZYGOTE)
        {
            tracing::debug!(%error, "the zygote is not watched");
        }
        outcomes
    }

    fn begin(&self, id: &SessionId) -> io::Result<Begun> {
        let program = worker_program(self.world.worker_path.as_deref())?;
        let (log, begin) = self.begin_log(id)?;
        Ok(Begun { program, log, begin })
    }

    /// Makes a new process the worker of a session.
    fn employ(
        &mut self,
        id: &SessionId,
        incarnation: Incarnation,
        begin: logs::Begin,
        spawned: Spawned,
    ) -> io::Result<Identity> {
        let Spawned { identity, pidfd, stdin, stdout } = spawned;
        let pipes = Pipes { stdin, stdout };
        let link = Link::open(id.clone(), incarnation, None, Some(pipes), self.events.clone());
        let link = link.inspect_err(|_| process::end(pidfd.as_fd()))?;
        tracing::debug!(session = %id, incarnation, pid = identity.pid, "worker spawned");
        let origin = Origin::Spawned { log: Some(begin), welcomed: false };
        self.insert(id, Worker::new(incarnation, identity.clone(), Some(pidfd), Some(link), origin, 0));
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

fn not_spawned(id: SessionId, incarnation: Incarnation, error: &io::Error) -> Sighting {
    tracing::warn!(session = %id, incarnation, %error, "worker not spawned");
    (id, incarnation, Seen::SpawnFailed { no_room: process::is_no_room(error), error: error.to_string() })
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
