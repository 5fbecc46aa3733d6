//! The last lines that agents said.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{EventId, SessionId};

/// The last line that a session's agent said, or the title of the tool call that it has begun since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastLine {
    /// Id of the session.
    pub session_id: SessionId,
    /// The event with the end of the line. What later events say is newer.
    pub event_id: EventId,
    /// The line, without those before it. At most 200 characters.
    pub line: String,
}
