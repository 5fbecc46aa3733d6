//! A log-in: a vendor's program on a terminal of its own below a worker, which a person finishes from wherever they are.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of a log-in: what a person has typed, or what the program shows. Either may be a secret, and no log may have it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlogged(pub Vec<u8>);

impl fmt::Debug for Unlogged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
