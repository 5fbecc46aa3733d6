//! One worker, as its manager knows it.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use protocol::flow::Untold;
use protocol::wire::{Command, Offer};
use protocol::{EventId, Exit, Identity, Incarnation, PromptId, SessionId};

use crate::core::Seen;
use crate::workers::link::Link;
use crate::workers::pulse::Pulse;
use crate::workers::{Sighting, logs};

pub(super) struct Worker {
    pub(super) incarnation: Incarnation,
    pub(super) identity: Identity,
    pub(super) pidfd: Option<OwnedFd>,
    /// Its number in [`Watch`].
    pub(super) number: u64,
    pub(super) link: Option<Link>,
    /// Where its part of the log begins: the file, and how long it was.
    pub(super) log: Option<logs::Begin>,
    pub(super) welcomed: bool,
    /// An earlier manager has begun it.
    pub(super) adopted: bool,
    /// It did not let us in: there is only what it has left.
    pub(super) left_only: bool,
    /// It has not yet said that it goes on with this manager.
    pub(super) awaits_hello: bool,
    /// It speaks another version of the protocol: it is told nothing but what its turn needs.
    pub(super) outdated: bool,
    pub(super) delivered: Option<PromptId>,
    /// What this prompt needs is being read.
    pub(super) fetching: Option<PromptId>,
    pub(super) aborted: Option<PromptId>,
    /// Questions of the running turn that it was told the answers of.
    pub(super) answered: BTreeSet<u64>,
    /// Calls of the running turn that it was told the answers of.
    pub(super) called: BTreeSet<u64>,
    /// What it was told last of the client that drives.
    pub(super) driver: (Option<EventId>, Vec<Offer>),
    /// Settings that it was told.
    pub(super) set: BTreeSet<u64>,
    /// Its last command to which something is due, and the last that it has said it acted on.
    pub(super) owed: u64,
    pub(super) acted: u64,
    /// A turn runs in it.
    pub(super) at_work: bool,
    /// While it owes something.
    pub(super) pulse: Option<Pulse>,
    /// Number of its last message.
    pub(super) heard: u64,
    /// Number of its last message that is on record.
    pub(super) recorded: u64,
    /// What it has said and was not told to be on record. It keeps what it is not told.
    pub(super) untold: Untold,
    /// It has come to rest since then: it keeps nothing that is on record.
    pub(super) rests: bool,
    /// Since when its pipe has been closed while it lived.
    pub(super) closed_at: Option<u64>,
    /// It is dead.
    pub(super) dead: Option<Dead>,
}

/// A dead worker on its way to the grave.
pub(super) struct Dead {
    pub(super) exit: Exit,
    pub(super) since: u64,
    pub(super) last_byte: u64,
    /// Nothing that it has left lives.
    pub(super) swept: bool,
    /// What was read of its pipe by then, in bytes.
    pub(super) read: u64,
    /// It was said to be gone, with processes that survive it; their end is still to be said.
    pub(super) told: bool,
    /// All of its tree is gone, and that was said.
    pub(super) buried: bool,
}

impl Worker {
    /// Whether it is to be told now what is on record.
    pub(super) fn is_to_be_told(&self) -> bool {
        let due = self.untold.is_due() || (self.rests && self.recorded == self.heard);
        // Before its greeting the numbers of commands are not known.
        due && self.dead.is_none() && !self.awaits_hello
    }

    pub(super) fn send(&mut self, id: &SessionId, command: Command) -> Option<Sighting> {
        let ack = self.recorded;
        self.untold.told();
        // What it has said last may not be on record yet: then it is still to be told.
        self.rests &= self.recorded < self.heard;
        let owes = !matches!(command, Command::Acknowledge);
        let link = self.link.as_mut()?;
        let sent = link.send(command, ack);
        if owes {
            self.owed = link.sent();
        }
        let error = sent.err()?;
        Some((id.clone(), self.incarnation, Seen::Faulted(format!("a command could not be sent: {error}"))))
    }
}
