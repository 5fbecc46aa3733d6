//! The path of the worker's program.

use std::io;
use std::path::{Path, PathBuf};

/// The program to spawn: looked for each time, so that an upgrade that replaces the file strands nobody.
pub fn worker_program(named: Option<&Path>) -> io::Result<PathBuf> {
    match named {
        Some(path) => std::path::absolute(path),
        None => {
            let exe = std::env::current_exe()?;
            // After an upgrade the link reads `…/kennel (deleted)`; the directory is what counts.
            let directory = exe.parent().ok_or(io::ErrorKind::NotFound)?;
            Ok(directory.join("session-worker"))
        }
    }
}
