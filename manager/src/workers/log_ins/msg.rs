//! Requests of clients about log-ins.

use std::sync::Arc;

use protocol::SessionId;
use protocol::wire::Unlogged;
use tokio::sync::oneshot;

use super::Book;
use crate::config::LogInPlan;
use crate::error::Error;

/// A request of a client, to the loop.
pub enum LogInMsg {
    /// Begin one.
    Begin {
        /// The program.
        plan: LogInPlan,
        /// Answered once its worker is started.
        reply: oneshot::Sender<Result<Arc<Book>, Error>>,
    },
    /// Find the book of one.
    Find {
        /// The log-in.
        id: SessionId,
        /// The book.
        reply: oneshot::Sender<Result<Arc<Book>, Error>>,
    },
    /// Type something into one.
    Type {
        /// The log-in.
        id: SessionId,
        /// The bytes.
        bytes: Unlogged,
        /// Its number, if it may be a repetition.
        number: Option<u64>,
        /// Answered once they are on their way.
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// A client has taken output.
    Room {
        /// The log-in.
        id: SessionId,
    },
    /// End that of an agent, if there is one.
    TakeOver {
        /// The agent.
        agent: String,
        /// Answered when no process of it is left.
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// End one.
    End {
        /// The log-in.
        id: SessionId,
        /// Answered when no process of it is left.
        reply: oneshot::Sender<Result<(), Error>>,
    },
}
