//! Processor time and memory of sessions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::SessionId;

/// Processes of a session: the worker, and all below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionLoad {
    /// Id of the session.
    pub session_id: SessionId,
    /// Number of processes.
    pub processes: u32,
    /// Sum of their resident memory, in bytes. Memory that processes share counts in each.
    pub memory_bytes: u64,
    /// Processor time of the processes that live now, and of their children that they have waited for, in milliseconds.
    pub cpu_ms: u64,
}
