//! Clients of a session: those that are attached, and the calls that they answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::common::{ClientOrigin, Role, Timestamp};
use crate::wire::Offer;
use crate::{CallId, EventId, PromptId, SessionId};

/// A client that is attached to a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClientInfo {
    /// Id of the client. The client sends it as `Kennel-Client` in its requests.
    pub client_id: EventId,
    /// Name that the client gave.
    pub name: String,
    /// Role of the client.
    pub role: Role,
    /// Requests of the agent that the client can answer while it is the driver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offer>,
    /// Where the client comes from; absent for the owner at this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ClientOrigin>,
}

/// A client's answer to a call: either `result` or `error`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// Result, in ACP's form for the method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Error, in ACP's form: `code` and `message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

/// A call that waits for an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallInfo {
    /// Id of the call, equal to the id of its event.
    pub call_id: CallId,
    /// The session.
    pub session_id: SessionId,
    /// Prompt in whose turn the agent asked.
    pub prompt_id: PromptId,
    /// Client that kennel asks now; null while no attached client can answer.
    pub client_id: Option<EventId>,
    /// Name of the ACP method.
    pub method: String,
    /// Parameters of the method, as the agent sent them.
    pub payload: Value,
    /// Time of the request.
    pub asked_at: Timestamp,
}
