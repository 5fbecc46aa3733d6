//! The signals that end the daemon.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listeners for SIGTERM, SIGINT and SIGHUP. From the first listener on, these signals no longer kill the process.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Installs the handlers.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal of any kind, and returns its name.
    pub(super) async fn any(&mut self) -> &'static str {
        tokio::select! {
            () = next(&mut self.terminate) => "SIGTERM",
            () = next(&mut self.interrupt) => "SIGINT",
            () = next(&mut self.hangup) => "SIGHUP",
        }
    }

    /// Waits for the next SIGINT.
    pub(super) async fn interrupt(&mut self) {
        next(&mut self.interrupt).await;
    }
}

async fn next(signals: &mut Signal) {
    if signals.recv().await.is_none() {
        // The listener has closed, and no further signal will arrive.
        std::future::pending().await
    }
}
