//! Messages between manager and worker over the worker's stdin and stdout.
//!
//! Both sides number their messages, so that a link can continue where it broke: each side counts its own messages from
//! 1 within an incarnation (`seq`) and acknowledges the other side's last message (`ack`) that it has committed
//! (manager) or acted on (worker).
//!
//! The worker opens a link with [`Report::Hello`] and then only waits for [`Command::Welcome`]. The manager sends that
//! after it has committed the worker's identity to the journal. If the pipe ends before that, the worker exits at once.
//! After `Welcome` the worker prepares its agent and sends [`Report::Ready`]; from then on it runs one prompt at a
//! time.
//!
//! New variants are appended to these enums: the golden frames in `tests/` of every earlier version must always decode.

mod agent;
mod attachment;
mod bound;
mod call;
mod command;
mod report;

use serde::{Deserialize, Serialize};

use crate::Incarnation;

pub use agent::{Agent, McpServer, PromptVia, RemoteServer, Transport};
pub use attachment::{Attachment, AttachmentKind, Content};
pub use bound::bound;
pub use call::{CallAnswer, Offer};
pub use command::{Command, Exchange, Find, Inherited, Setting, Shelter, Welcome};
pub use report::{
    AgentDetails, PermissionAsk, PermissionOption, Report, SettingAnswer, Spent, TurnEnd, Update,
};

/// Version of this vocabulary. Raised when a message is added; earlier versions still decode.
pub const PROTOCOL_VERSION: u32 = 5;

/// A numbered message.
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
