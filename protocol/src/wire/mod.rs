//! What manager and worker say to each other over the worker's stdin and stdout.
//!
//! Both directions are numbered, so that a link can be taken up again where it broke: each side counts its
//! own messages from 1 within an incarnation (`seq`) and says the last of the other's that it has made its
//! own (`ack`: committed by the manager, acted on by the worker).
//!
//! The life of a link: the worker says [`Report::Hello`] and then does nothing but wait for
//! [`Command::Welcome`], which is sent only after the worker's identity is in the journal. If the pipe ends
//! before that, the worker exits at once. After `Welcome` the worker prepares its agent and says
//! [`Report::Ready`]; from then on one prompt at a time.
//!
//! Enums here grow by appending variants only: the golden frames in `tests/` of every earlier version must
//! decode for ever.

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
