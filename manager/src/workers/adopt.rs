//! The adoption of workers that an earlier manager spawned.

use protocol::{Exit, Identity, Incarnation, SessionId, failpoint};

use crate::system::process;
use crate::workers::Workers;
use crate::workers::link::{Link, Pipes};
use crate::workers::worker::{Handshake, Origin, Worker};

impl Workers {
    /// Adopts the worker of an earlier manager, dead or alive, and reads what it said after its message `heard`.
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
        } else {
            self.spares.stir(now);
        }
    }

    /// A link that reads the worker's spool first, and then its pipe; none where there is neither.
    pub(super) fn link_to_adopted(
        &self,
        id: &SessionId,
        incarnation: Incarnation,
        pipes: Option<Pipes>,
    ) -> Option<Link> {
        let mut spool = self.world.shelters.spool(id, incarnation);
        if pipes.is_none() && spool.file().is_none() {
            return None;
        }
        let link = Link::open(id.clone(), incarnation, Some(spool), pipes, self.events.clone());
        link.inspect_err(|error| tracing::error!(session = %id, %error, "no link to a worker")).ok()
    }
}
