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
pub struct Stop {
    wish: Arc<watch::Sender<Option<Leave>>>,
    of_service: bool,
}

impl Default for Stop {
    fn default() -> Self {
        Self { wish: Arc::new(watch::Sender::new(None)), of_service: false }
    }
}

impl Stop {
    /// The end of a daemon that a service manager runs, if `of_service`.
    pub fn of(of_service: bool) -> Self {
        Self { of_service, ..Self::default() }
    }

    /// Returns true if a service manager runs the daemon: that starts the next one, too.
    pub fn is_of_service(&self) -> bool {
        self.of_service
    }

    /// Asks for the daemon's end. The first request decides how.
    pub fn request(&self, how: Leave) {
        self.wish.send_modify(|wish| {
            wish.get_or_insert(how);
        });
    }

    /// Returns true if a client has requested the end.
    pub fn is_requested(&self) -> bool {
        self.wish.borrow().is_some()
    }

    /// Returns once the end was asked for.
    pub async fn requested(&self) -> Leave {
        let mut wishes = self.wish.subscribe();
        // The sender lives in `self`, so this cannot fail.
        let wish = wishes.wait_for(Option::is_some).await.map(|wish| *wish);
        wish.ok().flatten().unwrap_or(Leave::EndAll)
    }
}
