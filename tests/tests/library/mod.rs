//! The library on real processes: a manager inside the test, workers and agents outside.

mod crashes;
mod ends;
mod managers;
mod prompts;
mod sessions;

use manager::Error;
use manager::protocol::event::EventKind;

fn code(error: &Error) -> &'static str {
    error.code()
}

fn is_restarted(kind: &EventKind) -> bool {
    matches!(kind, EventKind::SessionRestarted { .. })
}
