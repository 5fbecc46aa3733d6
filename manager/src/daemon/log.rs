//! The daemon's log: lines on standard error, without control characters.

use std::io::{self, IsTerminal};

/// Log lines go to standard error: to the terminal, the journal of systemd, or the file that the CLI gave.
pub(super) fn start() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KENNEL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Harmless).with_ansi(false);
    // systemd writes the time itself, a person at a terminal knows it.
    #[allow(clippy::disallowed_methods, reason = "it is only asked what it is")]
    let is_terminal = io::stderr().is_terminal();
    let tried = if is_terminal { log.without_time().try_init() } else { log.try_init() };
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
