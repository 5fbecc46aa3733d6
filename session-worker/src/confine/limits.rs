//! The limits of each program of a session: the trampoline sets them before it becomes one. What all of them may use
//! together is a control group's, or `watch.rs` looks.

use std::io;

use protocol::Limits;
use protocol::wire::Inherited;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::Failed;

/// The soft limit on descriptors that programs get where nothing is said.
const USUAL_DESCRIPTORS: u64 = 1024;

/// Limits that the trampoline sets in each program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramLimits {
    /// Added to the nice value.
    pub nice: Option<u32>,
    /// Limit of open descriptors, soft and hard; absent: only the inherited limit holds.
    pub nofile: Option<u64>,
    /// Files that name the members of control groups: it enters them.
    pub enter: Vec<String>,
    /// Settings that the program gets instead of the worker's own.
    pub inherited: Inherited,
}

impl ProgramLimits {
    /// Takes over what the manager says.
    pub fn set(&mut self, limits: &Limits, enter: Vec<String>) {
        (self.nice, self.nofile, self.enter) = (limits.nice, limits.nofile, enter);
    }

    /// Returns true if the program enters a control group.
    pub fn is_grouped(&self) -> bool {
        !self.enter.is_empty()
    }

    /// Sets them in this process, which enters the control groups. But for [`ProgramLimits::finish`]: whoever makes a sandbox
    /// needs more descriptors than the program, and closes what it makes to others.
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

    /// Bounds the descriptors of this process, which is about to become the program or to start it, and sets its umask.
    pub fn finish(&self) -> Result<(), Failed> {
        if let Some(mask) = self.inherited.umask {
            rustix::process::umask(Mode::from_raw_mode(mask & 0o777));
        }
        few_descriptors(self.inherited.open_files).map_err(|error| ("descriptor limit", error))?;
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

/// Takes the soft limit on descriptors back to what it was before the manager raised it for its many workers. Where nobody
/// says what that was, it is what programs expect: select(2) cannot handle descriptors from 1024 on.
fn few_descriptors(before: Option<u64>) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let before = before.unwrap_or(USUAL_DESCRIPTORS);
    let current = Some(limit.current.map_or(before, |current| current.min(before)));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, ..limit })?)
}
