//! Signals to a command that a person watches.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::cli::ui::error::{Failure, Outcome};
use crate::system::process;

/// A signal that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// The process runs again after it was stopped.
    Resume,
    /// The process is asked to end, by this signal.
    End(i32),
}

const ALL: [(i32, Signal); 6] = [
    (SIGTERM, Signal::End(SIGTERM)),
    (SIGHUP, Signal::End(SIGHUP)),
    (SIGQUIT, Signal::End(SIGQUIT)),
    (SIGTSTP, Signal::Suspend),
    (SIGCONT, Signal::Resume),
    (SIGINT, Signal::Interrupt),
];

/// The signals that arrive from now on, for as long as the process lives: a command makes this once.
#[derive(Debug)]
pub struct Signals {
    pipe: UnixStream,
    flags: Vec<(Arc<AtomicBool>, Signal)>,
}

impl Signals {
    /// Takes over all signals of [`Signal`].
    pub fn new() -> Outcome<Self> {
        Self::of(&ALL).map_err(|error| Failure::failed("signals", format!("cannot hear signals: {error}")))
    }

    fn of(signals: &[(i32, Signal)]) -> io::Result<Self> {
        let (ours, handlers) = std::os::unix::net::UnixStream::pair()?;
        let mut flags = Vec::new();
        for (number, signal) in signals {
            let flag = Arc::new(AtomicBool::new(false));
            // The flag comes first: a reader of the byte must find it set.
            signal_hook::flag::register(*number, flag.clone())?;
            signal_hook::low_level::pipe::register(*number, OwnedFd::from(handlers.try_clone()?))?;
            flags.push((flag, *signal));
        }
        ours.set_nonblocking(true)?;
        Ok(Self { pipe: UnixStream::from_std(ours)?, flags })
    }

    /// Waits for the next signal. A signal that arrives twice before this is called counts once.
    pub async fn next(&mut self) -> Signal {
        loop {
            let arrived = self.flags.iter().find(|(flag, _)| flag.swap(false, Ordering::SeqCst));
            if let Some((_, signal)) = arrived {
                return *signal;
            }
            match self.pipe.read(&mut [0; 64]).await {
                Ok(1..) => {}
                // The handlers hold the other end until the process ends.
                Ok(0) | Err(_) => std::future::pending().await,
            }
        }
    }
}

/// The signals by which a program is asked to end.
const ENDS: [i32; 3] = [SIGTERM, SIGHUP, SIGINT];

/// Returns the first signal that asks this process to end. One that was ignored when the process began stays so.
pub async fn ending() -> i32 {
    let ignored = process::ignored_signals();
    let all: Vec<_> = ENDS.into_iter().filter(|signal| !ignored.contains(signal)).collect();
    let all: Vec<_> = all.into_iter().map(|signal| (signal, Signal::End(signal))).collect();
    if let Ok(mut signals) = Signals::of(&all)
        && let Signal::End(signal) = signals.next().await
    {
        return signal;
    }
    // Then each does what it does by itself.
    std::future::pending().await
}

/// Returns at the first Ctrl-C. A second one ends this process.
pub async fn interrupted() {
    let armed = Arc::new(AtomicBool::new(false));
    let arm = signal_hook::flag::register_conditional_default(SIGINT, armed.clone())
        .and_then(|_| signal_hook::flag::register(SIGINT, armed));
    if arm.is_ok()
        && let Ok(mut signals) = Signals::of(&[(SIGINT, Signal::Interrupt)])
    {
        signals.next().await;
        return;
    }
    // Then Ctrl-C does what it does by itself.
    std::future::pending().await
}
