//! Types that manager, worker and clients share: the nouns ([`SessionId`], [`PromptId`], [`Identity`], [`Exit`]), the
//! frames on the pipe between manager and worker ([`frame`], [`wire`]) and, with the feature `api`, the [`event`]s and
//! the HTTP types ([`api`]) that clients see.

#[cfg(feature = "api")]
pub mod access;
#[cfg(feature = "api")]
pub mod api;
pub mod bounds;
pub mod command;
#[cfg(feature = "api")]
pub mod common;
mod containment;
#[cfg(feature = "api")]
pub mod event;
pub mod failpoint;
pub mod flow;
pub mod frame;
mod ids;
pub mod json;
mod limits;
mod nouns;
pub mod settings;
pub mod wire;
pub mod zygote;

pub use containment::{
    Containment, Granted, Level, Sandbox, SandboxBy, Sandboxed, Walls, WallsOfVersion3, resolved,
};
pub use ids::{CallId, IdError, KeyId, PermissionId, PromptId, SessionId, SessionName};
pub use limits::{Groups, Keeper, LimitedBy, Limits};
pub use nouns::{Exit, Identity, Restore, Stream};

/// Counts the processes a session has had, from 1. Every record carries it, so that nothing of a replaced
/// process can be mistaken for its successor's.
pub type Incarnation = u32;

/// Position in the journal: global, strictly increasing, never reused.
pub type EventId = u64;

/// Name of the environment variable that marks every process below a session:
/// `<state uuid>/<session id>/<incarnation>`. A manager finds its leftovers by it.
pub const MARKER: &str = "KENNEL_SESSION";
/// Name of the environment variable with the path of the manager's socket.
pub const SOCKET: &str = "KENNEL_SOCKET";
/// Name of the environment variable with the number of a descriptor of the manager's socket, opened with `O_PATH`: an MCP
/// server connects by it where it has inherited it, else by the path.
pub const MCP_FD: &str = "KENNEL_MCP_FD";
/// Name of the MCP server by which kennel gives an agent its tools for sub-agents.
pub const MCP_SERVER: &str = "kennel";
