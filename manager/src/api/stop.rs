//! The request that ends a daemon, or a part of it.

use std::sync::Arc;

use tokio::sync::watch;

/// The way in which a daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The daemon ends all processes of its sessions.
    EndAll,
    /// The processes live on, and the next daemon adopts them.
    HandOver,
}

/// A request to end the daemon: `POST /v1/manager/stop` makes it, and the server's caller waits for it.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<Option<Leave>>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Stop {
    /// Asks for the daemon's end. The first request decides how.
    pub fn request(&self, how: Leave) {
        self.0.send_modify(|wish| {
            wish.get_or_insert(how);
        });
    }

    /// Returns true if a client has requested the end.
    pub fn is_requested(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Returns once the end was asked for.
    pub async fn requested(&self) -> Leave {
        let mut wishes = self.0.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let wish = wishes.wait_for(Option::is_some).await.map(|wish| *wish);
        wish.ok().flatten().unwrap_or(Leave::EndAll)
    }
}
