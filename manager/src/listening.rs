//! The ports as the rest of the manager sees them: what they tell about themselves, and the number of clients and requests that
//! they have refused.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use futures_util::future::BoxFuture;
use protocol::api::{ListenInfo, WebInfo};
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
    /// The page's port on loopback.
    web: Mutex<Option<WebInfo>>,
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

    fn page(&self) -> MutexGuard<'_, Option<WebInfo>> {
        self.web.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page's port on loopback is like this from here on; none: it is closed.
    pub fn set_web(&self, info: Option<WebInfo>) {
        *self.page() = info;
    }

    /// The page's port on loopback; none if there is none.
    pub fn web(&self) -> Option<WebInfo> {
        self.page().clone()
    }

    /// Counts a refusal. Returns the number of refusals for this reason.
    pub fn refuse(&self, reason: Reason) -> u64 {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of refusals for each reason; none without a port.
    pub fn refused(&self) -> Option<[(&'static str, u64); Reason::ALL.len()]> {
        if self.tell.get().is_none() && self.page().is_none() {
            return None;
        }
        Some(Reason::ALL.map(|reason| (reason.name(), self.refused[reason as usize].load(Ordering::Relaxed))))
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("refused", &self.refused()).finish_non_exhaustive()
    }
}
