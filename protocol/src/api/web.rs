//! The web page: its links, log-ins, and port on loopback.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::key::{KeyRole, KeySessions, PairedKey};
use crate::common::Timestamp;

/// Request for a link that logs one browser in. The browser gets a key with these rights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebRequest {
    /// Name of the browser's key; absent: kennel makes one from the browser's name for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Role of the browser's key.
    pub role: KeyRole,
    /// Sessions that the browser's key reaches. An admin's key reaches all.
    pub sessions: KeySessions,
    /// Time after which the browser's key lets nobody in; absent or null: in 30 days, or with the key that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The browser is on another machine and comes by the TLS port: the daemon opens no port on loopback.
    #[serde(default)]
    pub remote: bool,
}

/// A link that logs one browser in: `ORIGIN/#TICKET`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebLink {
    /// Origin of the page on loopback: `http://ADDRESS:PORT`. Absent for a browser of another machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The ticket, a secret. It stands behind `#` in the link and logs one browser in, once.
    pub ticket: String,
    /// Time at which the ticket ends.
    pub expires_at: Timestamp,
    /// Time at which the browser's key will end.
    pub key_expires_at: Timestamp,
}

/// Request of the page to log its browser in, by the ticket of a link or by a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebLogIn {
    /// The ticket of a link: the browser gets a key of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// A key: the browser uses this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A browser that is logged in. The answer's cookie is the other half of the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebLoggedIn {
    /// Half of the key, a secret. The page keeps it and sends it as `Kennel-Page` with each request. The cookie alone gives
    /// no rights.
    pub proof: String,
    /// The browser's key.
    pub key: PairedKey,
}

/// The caller, as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebCaller {
    /// The key that the request shows; null for the owner on the daemon's socket.
    pub key: Option<PairedKey>,
}

/// The page's port on loopback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebInfo {
    /// Origin of the page: `http://ADDRESS:PORT`. The daemon keeps it, also for the next daemon.
    pub origin: String,
    /// Text for people about what does not work; absent if everything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
