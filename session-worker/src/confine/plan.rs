//! The trampoline's input: one value, on an inherited descriptor. The arguments and the environment of the trampoline,
//! of bubblewrap and of the namespace's first process contain nothing of it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use protocol::frame::{self, Decoder};
use protocol::{Granted, Walls};
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Confinement, ProgramLimits};

/// The trampoline's task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The worker's pid.
    pub worker: i32,
    /// The program's confinement.
    pub confinement: Confinement,
    /// The session's working directory, absolute.
    pub workdir: String,
    /// The program.
    pub program: Program,
}

/// The program, and what it may decide itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program and its arguments. Of this program itself: its arguments.
    pub argv: Vec<String>,
    /// It is this program itself, by the kernel's link: the sandbox need not show its file.
    pub own: bool,
    /// The whole environment of the program.
    pub env: Vec<(String, String)>,
    /// The program's directory at its start: relative to the working directory, or absolute without a sandbox.
    pub directory: PathBuf,
}

impl Program {
    /// The path to execute, and the arguments. None if there is no program.
    pub fn path_and_args(&self) -> Option<(&str, &[String])> {
        match self.own {
            true => Some(("/proc/self/exe", &self.argv)),
            false => self.argv.split_first().map(|(program, args)| (program.as_str(), args)),
        }
    }
}

/// The task of the first process of a PID namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitPlan {
    /// The maker of this process's namespaces and mounts.
    pub made: Made,
    /// The session's working directory, absolute.
    pub workdir: String,
    /// The limits; those of descriptors are still to be set.
    pub limits: ProgramLimits,
    /// The program.
    pub program: Program,
}

/// The maker of the namespaces and mounts around the first process of a PID namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Made {
    /// The trampoline: a PID namespace and no sandbox.
    Namespace,
    /// The trampoline: namespaces, in which this process mounts the sandbox.
    Sandbox(Walls),
    /// This process itself, before it became this program again from where an agent cannot change it.
    Mounted {
        /// Paths that the agent may write.
        written: Vec<PathBuf>,
    },
    /// bubblewrap, which has mounted the sandbox. These places must be what they were when they were granted.
    Bubblewrap {
        /// The places, as bubblewrap was told them.
        granted: Vec<Granted>,
    },
}

/// Writes a plan into memory that the next program can read. exec closes the descriptor until the caller makes it inheritable.
pub fn write(plan: &impl Serialize) -> io::Result<OwnedFd> {
    let mut bytes = Vec::new();
    frame::encode(plan, &mut bytes).map_err(io::Error::other)?;
    let mut file = File::from(rustix::fs::memfd_create("kennel-plan", MemfdFlags::CLOEXEC)?);
    file.write_all(&bytes)?;
    Ok(file.into())
}

/// Reads a plan from an inherited descriptor, which stays open.
pub fn read<T: DeserializeOwned>(fd: &OwnedFd) -> io::Result<T> {
    // Not by the descriptor's own offset, which whoever wrote it has left at the end.
    let file = File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length.min(frame::MAX_BODY + 4)];
    file.read_exact_at(&mut bytes, 0)?;
    let mut decoder = Decoder::default();
    decoder.feed(&bytes);
    decoder.take().map_err(io::Error::other)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
