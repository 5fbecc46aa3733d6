//! Forks: sessions that go on from a turn of another.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of a request for a fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkRequest {
    /// The origin: id or name of a session.
    pub session: String,
    /// Number of the last turn that both have in common; else the newest. The turn must have ended. Turns that a fork was told have
    /// no numbers: they come before its first turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<u64>,
    /// Absolute path of an existing directory in which the new session works; else the origin's. A session in a sandbox has the sandbox of
    /// its own directory, so its fork works there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Id of the new session, not a number alone; else `session-N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name of the new session; else kennel makes one from the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Title of the new session; else the origin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Labels of the new session, added to the origin's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}
