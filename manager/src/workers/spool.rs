//! The spool of a worker: the file with what it said while it had no manager.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use protocol::{Incarnation, SessionId};

use crate::system::owned::{self, How};

/// The place of a spool, which is opened once it is there: a worker makes it when it first speaks to nobody.
pub struct Spool {
    session: SessionId,
    incarnation: Incarnation,
    path: PathBuf,
    file: Option<File>,
}

impl Spool {
    /// The spool of this worker. Opens nothing.
    pub fn new(session: SessionId, incarnation: Incarnation, path: PathBuf) -> Self {
        Self { session, incarnation, path, file: None }
    }

    /// The open file; none if it is not there now, or cannot be opened.
    pub fn file(&mut self) -> Option<&mut File> {
        if self.file.is_none() {
            self.file = self.open();
        }
        self.file.as_mut()
    }

    fn open(&self) -> Option<File> {
        let Self { session, incarnation, path, .. } = self;
        match owned::open(path, How::Read) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(%session, incarnation, %error, "a spool is not read");
                None
            }
            opened => opened.ok(),
        }
    }
}
