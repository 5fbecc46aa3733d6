//! The limits of each program of a session: the trampoline sets them before it becomes one. What all of them may use
//! together is a control group's, or `watch.rs` looks.

use std::io;

use protocol::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::Failed;

/// The soft limit on descriptors that programs get where nothing is said.
const USUAL_DESCRIPTORS: u64 = 1024;

/// What is set in each program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramLimits {
    /// Added to the nice value.
    pub nice: Option<u32>,
    /// How many descriptors it may have open.
    pub nofile: Option<u64>,
    /// Files that name the members of control groups: it enters them.
    pub enter: Vec<String>,
}

impl ProgramLimits {
    /// What the manager says.
    pub fn new(limits: &Limits, enter: Vec<String>) -> Self {
        Self { nice: limits.nice, nofile: limits.nofile, enter }
    }

    /// Whether the program is in a control group.
    pub fn is_grouped(&self) -> bool {
        !self.enter.is_empty()
    }

    /// Sets them in this process, which enters the control groups. But for the descriptors: whoever makes a sandbox needs
    /// more of them than the program.
    pub fn enforce(&self) -> Result<(), Failed> {
        for file in &self.enter {
            enter(file).map_err(|error| ("control group", error))?;
        }
        if let Some(nice) = self.nice {
            let nice = i32::try_from(nice).unwrap_or(i32::MAX);
            rustix::process::nice(nice).map_err(|error| ("nice value", error.into()))?;
        }
        Ok(())
    }

    /// Bounds the descriptors of this process, which is about to become the program or to start it.
    pub fn bound_descriptors(&self) -> Result<(), Failed> {
        few_descriptors().map_err(|error| ("descriptor limit", error))?;
        if let Some(nofile) = self.nofile {
            let limit = Rlimit { current: Some(nofile), maximum: Some(nofile) };
            setrlimit(Resource::Nofile, limit).map_err(|error| ("limit of descriptors", error.into()))?;
        }
        Ok(())
    }
}

/// Puts this process in the control group whose members this file names.
pub fn enter(file: &str) -> io::Result<()> {
    let entered = std::fs::OpenOptions::new().write(true).open(file);
    // 0 is whoever writes it (cgroups(7)).
    let entered = entered.and_then(|mut file| io::Write::write_all(&mut file, b"0"));
    entered.map_err(|error| io::Error::new(error.kind(), format!("{file}: {error}")))
}

/// Takes the soft limit on descriptors back to what programs expect: the manager raises its own for its many
/// workers, and select(2) cannot handle descriptors from 1024 on.
fn few_descriptors() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.current.map_or(USUAL_DESCRIPTORS, |current| current.min(USUAL_DESCRIPTORS)));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, ..limit })?)
}
