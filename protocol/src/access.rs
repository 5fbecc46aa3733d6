//! Refused access: the reasons, and the record of refusals in the journal.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{KeyId, SessionId};

/// Declares the reasons, so that the list of all of them leaves none out.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// Reason for which kennel refused a connection or a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum RefusedFor {
            $($(#[$doc])* $name,)+
        }

        impl RefusedFor {
            /// All reasons, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The reason's word in JSON.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }
    };
}

reasons! {
    /// The TLS port has too many connections.
    Connections = "connections",
    /// The handshake of TLS failed or did not end in time.
    Handshake = "handshake",
    /// The client of the TLS port does not speak TLS.
    PlainHttp = "plain_http",
    /// The request's head is wrong, too large or too slow.
    Head = "head",
    /// The client's address has shown too many wrong keys.
    Failures = "failures",
    /// The request names a host that is not this daemon.
    Host = "host",
    /// A web page of another origin made the request.
    WebPage = "web_page",
    /// The request shows neither a key nor a token, and came by a port.
    KeyNeeded = "key_needed",
    /// The key is not known here, or was revoked.
    BadKey = "bad_key",
    /// The key has expired.
    KeyExpired = "key_expired",
    /// The key was revoked or expired while the request was under way.
    KeyEnded = "key_ended",
    /// The token is not the session's.
    BadToken = "bad_token",
    /// The secret is not that of the pairing, or the ticket is not that of a link to the page.
    BadSecret = "bad_secret",
    /// No pairing takes the secret.
    PairingClosed = "pairing_closed",
    /// The role of the key or token does not permit the operation.
    Role = "role",
    /// The key or token does not reach the session, or the operation is about more than its sessions.
    Session = "session",
    /// A session's agent asked for more than agents may.
    Agent = "agent",
    /// kennel does not know which process asks.
    UnknownPeer = "unknown_peer",
    /// A session asked for a sub-agent that could do more than the session, or sent one a prompt.
    WeakerThanParent = "weaker_than_parent",
    /// No rule gives keys or tokens a right to the operation.
    NoRule = "no_rule",
}

/// Refused connections or requests of one reason, and the last of them. Nothing in the record is text of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refused {
    /// The reason.
    pub reason: RefusedFor,
    /// IP address of the last client; absent for a client of the daemon's socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Id of the key that the last client showed; absent without a key that the daemon knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The session whose agent or token asked last; absent for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Method and route of the last request, as the API's description has them; absent if there is no such operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Number of refusals for this reason since the event before.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_word_in_json() {
        for reason in RefusedFor::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.word());
        }
    }

    #[test]
    fn what_is_absent_is_left_out() {
        let refused = Refused {
            reason: RefusedFor::PlainHttp,
            address: None,
            key: None,
            session: None,
            operation: None,
            count: 2,
        };
        let json = serde_json::to_string(&refused).unwrap();
        assert_eq!(json, r#"{"reason":"plain_http","count":2}"#);
        assert_eq!(serde_json::from_str::<Refused>(&json).unwrap(), refused);
    }
}
