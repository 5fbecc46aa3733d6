//! One worker, as its manager knows it.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use protocol::flow::Untold;
use protocol::wire::{Command, Offer};
use protocol::{EventId, Exit, Identity, Incarnation, PromptId, SessionId};

use crate::core::Seen;
use crate::workers::link::Link;
use crate::workers::open_files::OpenFiles;
use crate::workers::pulse::Pulse;
use crate::workers::{Sighting, logs};

/// One worker, as its manager knows it.
pub(super) struct Worker {
    pub(super) incarnation: Incarnation,
    pub(super) identity: Identity,
    /// The handle of the process; none if it was gone before this manager could open it.
    pub(super) pidfd: Option<OwnedFd>,
    /// The worker's number in [`Watch`](crate::system::process::Watch).
    pub(super) number: u64,
    /// The link; none once the worker has closed its pipe, and where there was nothing to read.
    pub(super) link: Option<Link>,
    pub(super) origin: Origin,
    /// The last prompt that this manager gave to the worker.
    pub(super) delivered: Option<PromptId>,
    /// The prompt for which attachments or history are being read.
    pub(super) fetching: Option<PromptId>,
    /// The last prompt whose turn the worker was told to end.
    pub(super) aborted: Option<PromptId>,
    /// Permission requests of the running turn whose answers were sent.
    pub(super) answered: BTreeSet<u64>,
    /// Calls of the running turn whose answers were sent.
    pub(super) called: BTreeSet<u64>,
    /// The driving client and its offers, as last sent.
    pub(super) driver: (Option<EventId>, Vec<Offer>),
    /// Numbers of the settings that were sent.
    pub(super) set: BTreeSet<u64>,
    /// Number of the last command that the worker answers.
    pub(super) owed: u64,
    /// Number of the last command that the worker acted on.
    pub(super) acted: u64,
    /// A turn runs in the worker.
    pub(super) at_work: bool,
    /// Present while the worker owes an answer.
    pub(super) pulse: Option<Pulse>,
    /// Number of the worker's last message.
    pub(super) heard: u64,
    /// Number of the worker's last message that is on record.
    pub(super) recorded: u64,
    /// Messages that are not acknowledged yet. The worker keeps them until then.
    pub(super) untold: Untold,
    /// The worker came to rest after the last acknowledgement: one is sent as soon as all of its messages are on record.
    pub(super) rests: bool,
    /// Requests for files that the worker has not answered yet.
    pub(super) files: OpenFiles,
    /// Time at which the worker closed its pipe, in milliseconds since boot.
    pub(super) closed_at: Option<u64>,
    /// Present once the process has died.
    pub(super) dead: Option<Dead>,
}

/// The manager that spawned a worker.
pub(super) enum Origin {
    /// This manager.
    Spawned {
        /// The beginning of the worker's part of the log; none before a spare was told of it.
        log: Option<logs::Begin>,
        /// The worker got its first commands.
        welcomed: bool,
    },
    /// An earlier manager.
    Adopted(Handshake),
}

/// The stage of an adoption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// The worker did not take the new pipes: only its spool can be read.
    Refused,
    /// The worker has the new pipes, and has not said hello yet.
    Awaited,
    /// The worker said hello.
    Done {
        /// The worker speaks another version of the protocol: it gets nothing but what its turn needs.
        outdated: bool,
    },
}

impl Origin {
    /// The beginning of the worker's part of the log; unknown for the worker of an earlier manager.
    pub(super) fn log(&self) -> Option<&logs::Begin> {
        match self {
            Origin::Spawned { log, .. } => log.as_ref(),
            Origin::Adopted(_) => None,
        }
    }
}

/// A dead worker that is not reaped yet.
pub(super) struct Dead {
    pub(super) exit: Exit,
    /// Time at which the death was seen, in milliseconds since boot.
    pub(super) since: u64,
    /// Time at which the pipe last brought something, in milliseconds since boot.
    pub(super) last_byte: u64,
    /// No process of the worker's tree lived at the last sweep.
    pub(super) swept: bool,
    /// Bytes that were read at the last pass.
    pub(super) read: u64,
    pub(super) gone: Gone,
}

/// The session's knowledge of the end of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// The session knows of no end.
    Unsaid,
    /// The worker is gone, and processes that it started survive SIGKILL.
    WithSurvivors,
    /// The worker is gone with all that it started: it may be reaped.
    Whole,
}

impl Dead {
    /// A death that was just seen.
    pub(super) fn new(exit: Exit, now: u64) -> Self {
        Self { exit, since: now, last_byte: now, swept: false, read: 0, gone: Gone::Unsaid }
    }
}

impl Worker {
    /// A worker that has said nothing after its message `heard`.
    pub(super) fn new(
        incarnation: Incarnation,
        identity: Identity,
        pidfd: Option<OwnedFd>,
        link: Option<Link>,
        origin: Origin,
        heard: u64,
    ) -> Self {
        Self {
            incarnation,
            identity,
            pidfd,
            number: 0,
            link,
            origin,
            delivered: None,
            fetching: None,
            aborted: None,
            answered: BTreeSet::new(),
            called: BTreeSet::new(),
            driver: Default::default(),
            set: BTreeSet::new(),
            owed: 0,
            acted: 0,
            at_work: false,
            pulse: None,
            heard,
            recorded: heard,
            untold: Untold::default(),
            rests: false,
            files: OpenFiles::default(),
            closed_at: None,
            dead: None,
        }
    }

    /// Returns true if an earlier manager spawned the worker.
    pub(super) fn is_adopted(&self) -> bool {
        matches!(self.origin, Origin::Adopted(_))
    }

    /// Returns true if the worker did not take this manager's pipes: only its spool can be read.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.origin, Origin::Adopted(Handshake::Refused))
    }

    /// Returns true if the worker has new pipes, and has sent no `Hello` on them.
    pub(super) fn awaits_hello(&self) -> bool {
        matches!(self.origin, Origin::Adopted(Handshake::Awaited))
    }

    /// Returns true if the worker speaks another version of the protocol.
    pub(super) fn is_outdated(&self) -> bool {
        matches!(self.origin, Origin::Adopted(Handshake::Done { outdated: true }))
    }

    /// Returns true if the worker of an earlier manager has said hello, and speaks this manager's version of the protocol.
    pub(super) fn is_greeted(&self) -> bool {
        matches!(self.origin, Origin::Adopted(Handshake::Done { outdated: false }))
    }

    /// Returns true if the session knows that the worker is gone with everything it started.
    pub(super) fn is_gone(&self) -> bool {
        self.dead.as_ref().is_some_and(|dead| dead.gone == Gone::Whole)
    }

    /// Returns true if an acknowledgement is due.
    pub(super) fn owes_acknowledgement(&self) -> bool {
        let due = self.untold.is_due() || (self.rests && self.recorded == self.heard);
        // Before its greeting the numbers of commands are not known.
        due && self.dead.is_none() && !self.awaits_hello()
    }

    pub(super) fn send(&mut self, id: &SessionId, command: Command) -> Option<Sighting> {
        self.send_all(id, [command])
    }

    /// Sends commands in one write, as far as the pipe takes them. Gives the fault of one that could not be sent; none follows it.
    pub(super) fn send_all(
        &mut self,
        id: &SessionId,
        commands: impl IntoIterator<Item = Command>,
    ) -> Option<Sighting> {
        let ack = self.recorded;
        self.untold.told();
        // The worker's last message may not be on record yet: its acknowledgement is still due then.
        self.rests &= self.recorded < self.heard;
        let link = self.link.as_mut()?;
        let mut failed = None;
        for command in commands {
            let owes = command.is_answered();
            failed = link.queue(command, ack).err();
            if owes {
                self.owed = link.sent();
            }
            if failed.is_some() {
                break;
            }
        }
        link.flush();
        let fault = Seen::Faulted(format!("a command could not be sent: {}", failed?));
        Some((id.clone(), self.incarnation, fault))
    }
}
