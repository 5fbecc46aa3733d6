//! Clients of a session: those that are attached, and the calls that they answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::common::{Role, Timestamp};
use crate::wire::Offer;
use crate::{CallId, EventId, PromptId, SessionId};

/// A client that is attached to a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClientInfo {
    /// Its id: `Kennel-Client` in its requests.
    pub client_id: EventId,
    /// What it calls itself.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What it can do for the agent while it drives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offer>,
}

/// What a client has to say to a call: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// What came of it, as ACP has it for the method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it could not be done, as ACP has it: `code` and `message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

/// A call that waits for an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallInfo {
    /// Its id, which is its event's.
    pub call_id: CallId,
    /// The session.
    pub session_id: SessionId,
    /// The prompt in whose turn it was asked.
    pub prompt_id: PromptId,
    /// The client that is asked now; null: it waits for one that can do it.
    pub client_id: Option<EventId>,
    /// ACP's name of what is to be done.
    pub method: String,
    /// With what, as the agent has said it.
    pub payload: Value,
    /// When it was asked.
    pub asked_at: Timestamp,
}
