//! Functions for all pipes and sockets that do not block.

use std::io;

/// Returns whether an error of a pipe that does not block means "later".
pub fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
