//! The messages between manager and worker, over the worker's stdin and stdout.
//!
//! Each side numbers its messages from 1 within an incarnation (`seq`) and names the last message of the other side that it has
//! acted on (worker) or committed (manager) (`ack`). So a new manager can take a broken link up again.
//!
//! The worker sends [`Report::Hello`] and waits. The manager sends [`Command::Welcome`] once the worker's identity is in the
//! journal; if the pipe ends before, the worker exits. The worker prepares its agent, sends [`Report::Ready`], and then takes
//! one prompt at a time. Enums grow only by appended variants: the golden frames of every earlier version must decode.

mod agent;
mod attachment;
mod bound;
mod call;
mod command;
mod files;
mod log_in;
mod report;

use serde::{Deserialize, Serialize};

use crate::Incarnation;

pub use agent::{Agent, McpServer, PromptVia, RemoteServer, Transport};
pub use attachment::{Attachment, AttachmentKind, Content};
pub use bound::bound;
pub use call::{CallAnswer, Offer};
pub use command::{Command, Exchange, Find, Inherited, Setting, Shelter, Welcome};
pub use files::{ChangedFile, FileEntry, FileKind, FilesAnswer, FilesAsk, FilesRefusal};
pub use log_in::Unlogged;
pub use report::{
    AgentDetails, PermissionAsk, PermissionOption, Report, SettingAnswer, Spent, TurnEnd, Update,
};

/// Version of this vocabulary. Raised when a message is added; earlier versions still decode.
pub const PROTOCOL_VERSION: u32 = 8;

/// One numbered message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// The worker process this belongs to.
    pub incarnation: Incarnation,
    /// Number of this message in its direction, from 1. `Hello` and `Welcome` have 0: they open the numbering.
    pub seq: u64,
    /// The last message of the other direction that the sender has made its own.
    pub ack: u64,
    /// The message.
    pub body: T,
}

/// Manager to worker.
pub type ToWorker = Envelope<Command>;

/// Worker to manager.
pub type FromWorker = Envelope<Report>;
