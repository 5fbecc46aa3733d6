//! The manager itself, a directory's session, and errors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::opts::SessionOpts;
use super::session::SessionInfo;
use super::web::WebInfo;
use crate::common::Timestamp;
use crate::{EventId, SessionId};

/// Body of a request for the session of a directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapRequest {
    /// Absolute path of an existing directory.
    pub workdir: String,
    /// Options of the session, used only if kennel creates it.
    #[serde(default)]
    pub opts: SessionOpts,
}

/// A directory's session and its token.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Bootstrap {
    /// The session.
    pub session: SessionInfo,
    /// Id of the session.
    pub id: SessionId,
    /// Pid of its worker; null without a worker.
    pub pid: Option<u32>,
    /// The session's token, a secret; absent for a client whose key is not an admin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A session's token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenReply {
    /// 32 random bytes in url-safe base64. A secret.
    pub token: String,
}

/// The TLS port of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListenInfo {
    /// Addresses on which the daemon listens, each `ADDRESS:PORT`. Empty if the daemon could not listen.
    pub addresses: Vec<String>,
    /// Names and addresses from `[listen] names`, by which clients reach the daemon.
    #[serde(default)]
    pub names: Vec<String>,
    /// `SHA256:` and 64 hex digits: the SHA-256 of the certificate's DER, which clients pin. Absent without a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Time at which the certificate expires; absent without a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Text for people about what does not work; absent if everything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Text for people about what will not work for long: a certificate that expires soon. Absent if there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// The manager itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ManagerInfo {
    /// Pid of the manager.
    pub pid: u32,
    /// `running`, `stopping`, or `state_dir_gone`: the state directory was deleted, and new work is refused.
    pub state: String,
    /// Version and build.
    pub version: String,
    /// The manager's state directory.
    pub state_dir: String,
    /// The path of the `config.toml` that the manager reads, whether the file exists or not; absent from older managers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Time of its start.
    pub started_at: Timestamp,
    /// Number of sessions by status.
    pub sessions: BTreeMap<String, u64>,
    /// Id of the last recorded event.
    pub last_event_id: EventId,
    /// Pids of the worker processes that wait for a session.
    #[serde(default)]
    pub spare_workers: Vec<u32>,
    /// A service manager, like systemd, runs the manager's daemon.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub service: bool,
    /// The TLS port; absent unless the configuration has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<ListenInfo>,
    /// The page's port on loopback; absent unless `kennel web` has opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<WebInfo>,
    /// The home directory of the manager's user, where the paths of a client on another machine begin; absent if there is none, and
    /// from older managers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
}

/// An error, as RFC 9457 has it, with a `code` that does not change between versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` says which problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable name of the problem, for programs.
    pub code: String,
    /// Text for people: what happened, and what was not changed.
    pub detail: String,
    /// Advice for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Name of the part of the request that the problem is about. Without that part the request may succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}
