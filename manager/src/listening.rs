//! The TLS port as the rest of the manager sees it: what it tells about itself, and the number of clients and requests that it has
//! refused.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use protocol::api::ListenInfo;
use protocol::event::RefusedFor;

/// Reason for which the port refuses a connection or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There are too many connections.
    Connections,
    /// The handshake failed or did not end in time.
    Handshake,
    /// The client does not speak TLS.
    PlainHttp,
    /// The request's head is wrong, too large or too slow.
    Head,
    /// The client's address has shown too many wrong keys.
    Failures,
    /// The request names another host.
    Host,
    /// The request comes from a web page.
    Origin,
    /// The request shows no key, or a wrong one.
    Key,
}

impl Reason {
    /// All reasons, in the order of their checks.
    pub const ALL: [Self; 8] = [
        Self::Connections,
        Self::Handshake,
        Self::PlainHttp,
        Self::Head,
        Self::Failures,
        Self::Host,
        Self::Origin,
        Self::Key,
    ];

    /// The name in the figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Handshake => "handshake",
            Self::PlainHttp => "plain_http",
            Self::Head => "head",
            Self::Failures => "failures",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Key => "key",
        }
    }

    /// The reason in the journal; none where the API, which has looked at the key, notes the refusal itself.
    pub fn recorded(self) -> Option<RefusedFor> {
        match self {
            Self::Connections => Some(RefusedFor::Connections),
            Self::Handshake => Some(RefusedFor::Handshake),
            Self::PlainHttp => Some(RefusedFor::PlainHttp),
            Self::Head => Some(RefusedFor::Head),
            Self::Failures => Some(RefusedFor::Failures),
            Self::Host => Some(RefusedFor::Host),
            Self::Origin => Some(RefusedFor::WebPage),
            Self::Key => None,
        }
    }
}

type Tell = Box<dyn Fn() -> BoxFuture<'static, ListenInfo> + Send + Sync>;

/// The port.
#[derive(Default)]
pub struct Listening {
    tell: OnceLock<Tell>,
    refused: [AtomicU64; Reason::ALL.len()],
}

impl Listening {
    /// From here on the port tells about itself in this way. Only the first call counts.
    pub fn tells(&self, tell: Tell) {
        // A manager has one port.
        let _ = self.tell.set(tell);
    }

    /// The port's description of itself; none without a port.
    pub async fn info(&self) -> Option<ListenInfo> {
        match self.tell.get() {
            Some(tell) => Some(tell().await),
            None => None,
        }
    }

    /// Counts a refusal. Returns the number of refusals for this reason.
    pub fn refuse(&self, reason: Reason) -> u64 {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of refusals for each reason; none without a port.
    pub fn refused(&self) -> Option<[(&'static str, u64); Reason::ALL.len()]> {
        self.tell.get()?;
        Some(Reason::ALL.map(|reason| (reason.name(), self.refused[reason as usize].load(Ordering::Relaxed))))
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("refused", &self.refused()).finish_non_exhaustive()
    }
}
