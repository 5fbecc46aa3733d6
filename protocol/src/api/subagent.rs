//! Background sub-agents.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::opts::SessionOpts;
use super::session::Status;
use crate::SessionId;
use crate::common::Timestamp;

/// A background sub-agent to be started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubagentRequest {
    /// Session id of the parent, or the current pid of its worker; absent for a sub-agent without a parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// First prompt, given to the sub-agent as soon as it is ready.
    pub task: String,
    /// Options of its session.
    #[serde(default)]
    pub opts: SessionOpts,
}

/// A background sub-agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubagentHandle {
    /// Id of the sub-agent's session.
    pub session_id: SessionId,
    /// Pid of its worker; null without a worker.
    pub pid: Option<u32>,
    /// Session of the parent.
    pub parent_session_id: Option<SessionId>,
    /// Pid of the parent's worker; null without a worker.
    pub parent_pid: Option<u32>,
    /// First prompt of the sub-agent.
    pub task: String,
    /// Model that the client or the profile named.
    pub model: Option<String>,
    /// Time of its start.
    pub started_at: Timestamp,
    /// State of its session.
    pub status: Status,
}
