//! The messages to the loop, and the inputs of one batch.

use std::collections::BTreeMap;

use protocol::SessionId;
use protocol::wire::FilesAsk;
use tokio::sync::oneshot;

use crate::core::{Ask, At, Fleet, Reply, Session};
use crate::error::Error;
use crate::journal::{Cut, IdempotencyKey};
use crate::shares::Sender;
use crate::workers::{FilesReply, LogInMsg};

/// The most that one batch takes from each source.
pub(super) const BATCH: usize = 512;

pub(super) type Look = Box<dyn FnOnce(&Fleet, At) + Send>;

pub(super) type Check = Box<dyn FnMut(Option<&Session>, u64) -> bool + Send>;

/// Number of checks of one session below which none is run because another comes.
const FEW_CHECKS: usize = 16;

/// Adds a check to those of a session. Runs the others first when their number has doubled: clients that gave up leave checks
/// behind, and a session may rest for days.
pub(super) fn add_check(checks: &mut Vec<Check>, check: Check, session: Option<&Session>, now: u64) {
    if checks.len() >= FEW_CHECKS && checks.len().is_power_of_two() {
        checks.retain_mut(|check| !check(session, now));
    }
    checks.push(check);
}

pub(super) type Answer = oneshot::Sender<Result<Reply, Error>>;

/// A message to the loop.
pub enum Msg {
    /// A step.
    Ask {
        /// The input of the fleet.
        ask: Box<Ask>,
        /// The key of a request that may be repeated.
        key: Option<IdempotencyKey>,
        /// Answered after the commit.
        reply: Answer,
    },
    /// Read the table between two batches.
    Read(Look),
    /// Watch one session: the check runs now and after each change, until it returns true.
    Watch {
        /// The session.
        id: SessionId,
        /// Gets the session and the time since boot.
        check: Check,
    },
    /// A session's token.
    Token {
        /// The session.
        id: SessionId,
        /// The token.
        reply: oneshot::Sender<Result<String, Error>>,
    },
    /// Read files of a session's working directory.
    Files {
        /// The session.
        id: SessionId,
        /// The request.
        ask: FilesAsk,
        /// The sender whose places the request takes.
        sender: Sender,
        /// Answered when a reader has answered.
        reply: FilesReply,
    },
    /// Something about log-ins of agents.
    LogIn(LogInMsg),
    /// Remove a part of the history.
    Prune {
        /// The parts of the history to remove.
        cuts: Vec<Cut>,
        /// Answered once they are removed.
        reply: PruneReply,
    },
    /// End the loop, and leave all processes to the next manager.
    HandOver {
        /// Answered once the loop has ended.
        reply: oneshot::Sender<()>,
    },
    /// End all processes. The goals stay.
    Shutdown {
        /// Answered once no process is left.
        reply: oneshot::Sender<()>,
    },
}

/// One input for a batch.
pub(super) enum Item {
    Command { ask: Box<Ask>, key: Option<IdempotencyKey>, reply: Answer },
    Observation(Ask),
}

impl Item {
    pub(super) fn ask(&self) -> &Ask {
        match self {
            Item::Command { ask, .. } => ask,
            Item::Observation(ask) => ask,
        }
    }

    /// The channel for the answer, if a client waits for one.
    pub(super) fn reply(self) -> Option<Answer> {
        match self {
            Item::Command { reply, .. } => Some(reply),
            Item::Observation(_) => None,
        }
    }
}

/// The verdict of an idempotency key on a request.
pub(super) enum Replay {
    /// No request had this key before.
    New,
    /// The same request was answered before, and gets the same answer.
    Answered(Reply),
    /// The key stands for another request, or the journal cannot be read.
    Refused(Error),
}

impl Replay {
    /// The answer to a request that is not new.
    pub(super) fn answer(self) -> Option<Result<Reply, Error>> {
        match self {
            Replay::New => None,
            Replay::Answered(reply) => Some(Ok(reply)),
            Replay::Refused(error) => Some(Err(error)),
        }
    }
}

/// The history that was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// By session, and for events without a session: number of events, bytes of their JSON, and id of the last.
    pub of: BTreeMap<Option<SessionId>, (u64, u64, u64)>,
    /// By how much the unused part of the file grew, in bytes.
    pub freed: u64,
}

/// Answers the request to prune.
pub type PruneReply = oneshot::Sender<Result<Pruned, Error>>;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn checks_that_nobody_waits_for_do_not_pile_up_and_others_stay() {
        let runs = Arc::new(AtomicUsize::new(0));
        let mut checks = Vec::new();
        for number in 0..10_000_usize {
            let (runs, is_over) = (runs.clone(), number % 1_000 != 0);
            let check = move |_: Option<&Session>, _: u64| {
                runs.fetch_add(1, Ordering::Relaxed);
                is_over
            };
            add_check(&mut checks, Box::new(check), None, 0);
            assert!(checks.len() <= 32, "{number}: {}", checks.len());
        }
        let runs = runs.load(Ordering::Relaxed);
        assert!(runs <= 40_000, "each check is run few times: {runs}");
        checks.retain_mut(|check| !check(None, 0));
        assert_eq!(checks.len(), 10, "those that wait");
    }
}
