//! The messages of the loop: what others ask of it, and one thing to be stepped.

use protocol::SessionId;
use tokio::sync::oneshot;

use crate::core::{Ask, At, Fleet, Reply, Session};
use crate::error::Error;
use crate::journal::Cut;
use crate::supervisor::prune;

/// The most that one batch takes from each source.
pub(super) const BATCH: usize = 512;

pub(super) type Look = Box<dyn FnOnce(&Fleet, At) + Send>;

pub(super) type Check = Box<dyn FnMut(Option<&Session>, u64) -> bool + Send>;

pub(super) type Answer = oneshot::Sender<Result<Reply, Error>>;

/// What the loop is asked.
pub enum Msg {
    /// A step.
    Ask {
        /// What.
        ask: Box<Ask>,
        /// If it may have been asked before.
        key: Option<IdempotencyKey>,
        /// Answered after the commit.
        reply: Answer,
    },
    /// A look at the table, between two batches.
    Read(Look),
    /// A look at one session now and after each of its changes, until it returns true.
    Watch {
        /// Which.
        id: SessionId,
        /// Given the session and the time since boot.
        check: Check,
    },
    /// A session's token.
    Token {
        /// Whose.
        id: SessionId,
        /// The token.
        reply: oneshot::Sender<Result<String, Error>>,
    },
    /// Remove history.
    Prune {
        /// Which.
        cuts: Vec<Cut>,
        /// Told when it is gone.
        reply: prune::Reply,
    },
    /// Leave, and let all processes go on.
    HandOver {
        /// Told when nothing is done here any more.
        reply: oneshot::Sender<()>,
    },
    /// End all processes, keep all goals.
    Shutdown {
        /// Told when nothing is left.
        reply: oneshot::Sender<()>,
    },
}

/// One thing to be stepped.
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

    /// Whoever waits for an answer.
    pub(super) fn reply(self) -> Option<Answer> {
        match self {
            Item::Command { reply, .. } => Some(reply),
            Item::Observation(_) => None,
        }
    }
}

/// What makes a request that is sent twice one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Within which the key is unique.
    pub scope: String,
    /// The client's key.
    pub key: String,
    /// Hash of the request.
    pub request: String,
}
