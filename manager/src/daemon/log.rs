//! The daemon's log: lines on standard error, without control characters.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the log on standard error: the terminal, the journal of systemd, or the file that the CLI gave. `KENNEL_LOG` sets the levels
/// (`debug`, or `warn,manager=debug`); without it, and where it cannot be read, the level is `info`.
pub(super) fn start() {
    let levels = std::env::var("KENNEL_LOG").ok().filter(|levels| !levels.is_empty());
    let levels = levels
        .and_then(|levels| levels.parse().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let log = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(|| Harmless)
        .with_ansi(false);
    // systemd writes the time itself, a person at a terminal knows it.
    #[allow(clippy::disallowed_methods, reason = "it is only asked what it is")]
    let is_terminal = io::stderr().is_terminal();
    let tried = match is_terminal {
        true => log.without_time().finish().with(levels).try_init(),
        false => log.finish().with(levels).try_init(),
    };
    // An embedding program, or a test, has set up a log of its own.
    drop(tried);
}

/// Standard error, for lines of the log in which strangers' words stand: a path, an error, an agent's id.
struct Harmless;

impl io::Write for Harmless {
    /// A whole event: that is how they come.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = crate::terminal_text::logged(&String::from_utf8_lossy(event));
        #[allow(clippy::disallowed_methods, reason = "the log's one writer")]
        // A log that nobody reads, or a full disk, is no reason to end: tracing would panic over an error.
        let _ = io::stderr().lock().write_all(text.as_bytes());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
