//! The daemon as a service of systemd: it says when it serves, what its sessions do, that it lives, and that it ends. Without a
//! service manager all of this does nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::api::Leave;
use crate::session_manager::SessionManager;
use crate::system::service::{self, Notify};

/// The shortest time between two looks at the sessions for the status line.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest time that a message waits for a service manager that reads nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// The service manager of this process, if there is one.
#[derive(Default)]
pub(super) struct Service {
    notify: Option<Arc<Notify>>,
    watchdog: Option<Duration>,
    /// Tasks that send the status line and signs of life.
    tasks: Vec<JoinHandle<()>>,
}

impl Service {
    /// Finds the service manager by this process's environment.
    pub(super) fn find() -> Self {
        let notify = Notify::from_env().unwrap_or_else(|error| {
            tracing::warn!("the service manager hears nothing: NOTIFY_SOCKET: {error}");
            None
        });
        let watchdog = service::watchdog().filter(|_| notify.is_some());
        Self { notify: notify.map(Arc::new), watchdog, tasks: Vec::new() }
    }

    /// Says that the daemon takes requests. From now on the service manager hears of changes and, if it asked for them, gets signs
    /// of life.
    pub(super) async fn ready(&mut self, manager: &SessionManager) {
        let Some(notify) = &self.notify else { return };
        let status = status_of(manager).await;
        say(notify, &format!("READY=1\n{status}")).await;
        self.tasks.push(tokio::spawn(tell_status(notify.clone(), manager.clone(), status)));
        if let Some(within) = self.watchdog {
            let manager = manager.clone();
            let lives = move || {
                let manager = manager.clone();
                async move { manager.answers().await }
            };
            self.tasks.push(tokio::spawn(live_on(notify.clone(), within / 2, lives)));
        }
    }

    /// Returns true if a service manager runs this daemon.
    pub(super) fn is_there(&self) -> bool {
        self.notify.is_some()
    }

    /// Says that the daemon ends. Where it ends its sessions' processes, too, it takes what `grace` they have: a service manager that
    /// hears of a stop gives it no longer than `TimeoutStopSec`, and signs of life go on.
    pub(super) async fn stopping(&mut self, how: Leave) {
        let Some(notify) = &self.notify else { return };
        match how {
            Leave::EndAll => say(notify, "STATUS=ending its sessions\n").await,
            Leave::HandOver => {
                self.tasks.drain(..).for_each(|task| task.abort());
                say(notify, "STOPPING=1\nSTATUS=stopping\n").await;
            }
        }
    }
}

/// Sends a message, and waits a while for a service manager that is busy.
async fn say(notify: &Notify, message: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match notify.send(message) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                sleep(Duration::from_millis(10)).await;
            }
            Err(error) => return tracing::warn!("the service manager cannot be told: {error}"),
        }
    }
}

/// Sends the status line each time that it changes. At rest the task sleeps: only an event wakes it.
async fn tell_status(notify: Arc<Notify>, manager: SessionManager, mut said: String) {
    let mut news = manager.news();
    while news.changed().await.is_ok() {
        let status = status_of(&manager).await;
        if status != said {
            say(&notify, &status).await;
            said = status;
        }
        sleep(PAUSE).await;
    }
}

async fn status_of(manager: &SessionManager) -> String {
    let sessions = manager.info().await.map(|info| info.sessions).unwrap_or_default();
    let counts: Vec<String> = sessions.iter().map(|(status, count)| format!("{count} {status}")).collect();
    match sessions.values().sum() {
        0 => "STATUS=no sessions\n".to_owned(),
        1 => format!("STATUS=1 session: {}\n", counts.join(", ")),
        all => format!("STATUS={all} sessions: {}\n", counts.join(", ")),
    }
}

/// Sends a sign of life in each period in which the manager's loop has answered.
async fn live_on<F: Future<Output = bool>>(notify: Arc<Notify>, period: Duration, lives: impl Fn() -> F) {
    let mut ticks = interval(period);
    // After a time in which nothing ran one sign is enough.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Without an answer this waits, and the service manager hears nothing.
        if !lives().await {
            return;
        }
        say(&notify, "WATCHDOG=1\n").await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::os::unix::net::UnixDatagram;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_loop_that_does_not_answer_gives_no_sign_of_life() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let notify = Arc::new(Notify::to(path.as_os_str()).unwrap());
        let (period, several) = (Duration::from_millis(5), Duration::from_millis(50));
        let mut buffer = [0; 64];
        assert!(timeout(several, live_on(notify.clone(), period, pending::<bool>)).await.is_err());
        assert!(socket.recv(&mut buffer).is_err(), "nobody has answered");
        assert!(timeout(several, live_on(notify.clone(), period, || ready(true))).await.is_err());
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"WATCHDOG=1\n");
        // A loop that has ended.
        timeout(several, live_on(notify, period, || ready(false))).await.unwrap();
    }
}
