//! Confinement of a session's programs, made before their first instruction: namespaces, a sandbox, limits.
//!
//! The worker writes a [`plan::Plan`] and starts the trampoline with it. The trampoline, and bubblewrap where the
//! sandbox needs it, run in a fixed environment. The last process before the program applies the agent's own choices
//! (environment, directory, arguments), inside the sandbox that only the session's profile decides.
//!
//! May use: `protocol`, `exit`, `tree` for the status of a process. Used by: `agent/`, `worker/`, `main`.

pub mod descriptors;
pub mod landlock;
pub mod limits;
pub mod mounts;
pub mod namespace;
pub mod plan;
pub mod probe;
pub mod refusal;
pub mod sandbox;
pub mod seccomp;
pub mod status;
pub mod syscalls;
pub mod terminal;
pub mod trampoline;

use std::sync::Arc;

use protocol::Walls;
use serde::{Deserialize, Serialize};

pub use limits::ProgramLimits;

/// The status of a program that did not come to run, as shells have it.
pub const NOT_RUN: u8 = 127;

/// The step that failed, and its error: `("PID namespace", EPERM)`.
pub type Failed = (&'static str, std::io::Error);

/// The confinement of every program of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The namespaces or the sandbox.
    pub contain: Contain,
    /// The limits that each process inherits, and the control groups.
    pub limits: ProgramLimits,
}

/// The namespaces or the sandbox of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Contain {
    /// No containment.
    #[default]
    No,
    /// A PID namespace, if the kernel makes one.
    IfPossible,
    /// A PID namespace, or the program does not run.
    Must,
    /// A sandbox, which has a PID namespace, or the program does not run.
    Within(Arc<Walls>),
}

impl Contain {
    /// Returns true if the program must not run without this containment.
    pub fn is_demanded(&self) -> bool {
        matches!(self, Contain::Must | Contain::Within(_))
    }

    /// The sandbox, if it is one.
    pub fn walls(&self) -> Option<&Walls> {
        match self {
            Contain::Within(walls) => Some(walls),
            Contain::No | Contain::IfPossible | Contain::Must => None,
        }
    }
}
