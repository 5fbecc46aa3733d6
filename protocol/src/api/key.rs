//! Keys of clients, and how a device gets one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::Timestamp;
use crate::{KeyId, SessionId};

/// Role of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyRole {
    /// Everything that the owner may do, keys included.
    Admin,
    /// Start sessions, prompt, answer, stop, restart, and read.
    Driver,
    /// Read, and change nothing.
    Viewer,
}

/// Sessions that a key reaches. Sub-agents belong to the session above them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeySessions {
    /// All sessions.
    All,
    /// The sessions that were started with the key.
    Own,
    /// The sessions with these ids. The key starts none, and sub-agents below them can do no more than they can.
    Ids(Vec<SessionId>),
    /// The sessions that have all of these labels, by name and value. The key starts none, and sub-agents below them can do no more
    /// than they can.
    Labels(BTreeMap<String, String>),
}

/// Request for a new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// A name for people, 1 to 100 characters.
    pub name: String,
    /// Role of the key.
    pub role: KeyRole,
    /// Sessions that the key reaches. An admin's key reaches all.
    pub sessions: KeySessions,
    /// Time after which the key lets nobody in; absent or null: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyInfo {
    /// Id of the key. No other key ever has it.
    pub id: KeyId,
    /// A name for people.
    pub name: String,
    /// Role of the key.
    pub role: KeyRole,
    /// Sessions that the key reaches.
    pub sessions: KeySessions,
    /// Time after which the key lets nobody in; null: never.
    pub expires_at: Option<Timestamp>,
    /// The key has expired.
    pub expired: bool,
    /// A link of `kennel web` has made the key for a browser. Logging out of the page revokes it.
    #[serde(default)]
    pub browser: bool,
    /// Time at which it was made.
    pub created_at: Timestamp,
    /// Time of its last use; null if it was not used. Kept to the minute where the daemon was killed.
    pub last_used_at: Option<Timestamp>,
    /// Address of its last use, or `socket`; null if it was not used.
    pub last_used_from: Option<String>,
}

/// A new key, or one with a new secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedKey {
    /// The key.
    #[serde(flatten)]
    pub info: KeyInfo,
    /// The key itself, a secret, which the daemon does not keep: `kk_` and 43 characters of url-safe base64.
    pub key: String,
}

/// Request to let one device in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PairingRequest {
    /// Name of the device's key; absent: the device says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Role of the device's key.
    pub role: KeyRole,
    /// Sessions that the device's key reaches. An admin's key reaches all.
    pub sessions: KeySessions,
    /// Time after which the device's key lets nobody in; absent or null: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A pairing that has begun.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartedPairing {
    /// Number of the pairing, from 1 since the daemon's start.
    pub number: u64,
    /// The secret that lets one device in, once.
    pub secret: String,
    /// Time at which the secret ends.
    pub expires_at: Timestamp,
    /// An earlier pairing was under way, and has ended by this one.
    #[serde(default)]
    pub replaces: bool,
}

/// State of a pairing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairingState {
    /// A device may come.
    Open,
    /// A device has come.
    Paired,
    /// Five wrong secrets were sent.
    Locked,
    /// Its time is over.
    Expired,
    /// It was ended, another one took its place, or the daemon is another one.
    Ended,
}

/// A pairing, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PairingInfo {
    /// Number of the pairing.
    pub number: u64,
    /// State of the pairing.
    pub state: PairingState,
    /// The device's key; null unless a device was let in.
    pub key: Option<KeyInfo>,
}

/// A device's request for its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PairRequest {
    /// The secret that `kennel pair` shows.
    pub secret: String,
    /// Name of the device, 1 to 100 characters.
    pub name: String,
    /// The key that the device has made: `kk_` and 32 random bytes in url-safe base64 without padding.
    pub key: String,
}

/// The device's key, as the daemon knows it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PairedKey {
    /// Id of the key.
    pub id: KeyId,
    /// Name of the key.
    pub name: String,
    /// Role of the key.
    pub role: KeyRole,
    /// Sessions that the key reaches.
    pub sessions: KeySessions,
    /// Time after which the key lets nobody in; null: never.
    pub expires_at: Option<Timestamp>,
}
