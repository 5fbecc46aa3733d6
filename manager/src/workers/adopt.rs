//! Workers that an earlier manager has left.

use protocol::{Exit, Identity, Incarnation, SessionId, failpoint};

use crate::system::process;
use crate::workers::Workers;
use crate::workers::link::{Link, Pipes};
use crate::workers::worker::{Handshake, Origin, Worker};

impl Workers {
    /// Takes hold of a worker that an earlier manager left, dead or alive: of what it says from now on, and of what
    /// it has said since its message `heard`.
    pub(super) fn reclaim(
        &mut self,
        id: &SessionId,
        incarnation: Incarnation,
        identity: &Identity,
        heard: u64,
        now: u64,
    ) {
        if self.workers.contains_key(id) {
            return;
        }
        let pidfd = process::open(identity, &self.world.boot_id);
        let gone = pidfd.is_none();
        // One that does not let us in is on its way out; it is waited for, and then killed.
        failpoint::hit_about("adopt", "found", id);
        let pipes = if gone { None } else { self.world.shelters.visit(id, incarnation) };
        failpoint::hit_about("adopt", "visited", id);
        let handshake = if pipes.is_some() { Handshake::Awaited } else { Handshake::Refused };
        let link = self.link_to_adopted(id, incarnation, pipes);
        let origin = Origin::Adopted(handshake);
        self.insert(id, Worker::new(incarnation, identity.clone(), pidfd, link, origin, heard));
        if gone {
            self.died(id, Exit::Unknown, now);
        }
    }

    /// What it has said while it was alone, and then what comes by the pipes.
    pub(super) fn link_to_adopted(
        &self,
        id: &SessionId,
        incarnation: Incarnation,
        pipes: Option<Pipes>,
    ) -> Option<Link> {
        let spool = self.world.shelters.spool(id, incarnation);
        if spool.is_none() && pipes.is_none() {
            return None;
        }
        let link = Link::open(id.clone(), incarnation, spool, pipes, self.events.clone());
        link.inspect_err(|error| tracing::error!(session = %id, %error, "no link to a worker")).ok()
    }
}
