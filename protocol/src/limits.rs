//! Resource limits of a session's processes, and the mechanisms that enforce them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Resource limits of a session's programs. An absent field is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct Limits {
    /// Number added to the nice value (nice(2)), 0 to 19. The kernel never refuses a higher nice value.
    pub nice: Option<u32>,
    /// Limit of open descriptors in each process (RLIMIT_NOFILE, getrlimit(2)), soft and hard.
    pub nofile: Option<u64>,
    /// Memory limit of all processes together, in bytes.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Limit of processes and threads at one time, including those that keep the agent's namespace.
    #[serde(default)]
    pub pids: Option<u32>,
    /// Processor limit of all processes together, in thousandths of a processor.
    #[serde(default)]
    pub milli_cpus: Option<u32>,
}

/// Mechanism that enforces a limit. On the wire, new variants are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Keeper {
    /// The kernel, in a control group of version 2.
    CgroupV2,
    /// The kernel, in control groups of version 1.
    CgroupV1,
    /// The session's worker, which samples the usage and finds fast growth late.
    Watched,
    /// The kernel, for each process by itself (getrlimit(2)).
    Rlimit,
    /// The kernel's scheduler, by the nice value (sched(7)).
    Priority,
    /// Nothing enforces the limit on this machine.
    None,
}

impl Keeper {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Keeper::CgroupV2 => "cgroup_v2",
            Keeper::CgroupV1 => "cgroup_v1",
            Keeper::Watched => "watched",
            Keeper::Rlimit => "rlimit",
            Keeper::Priority => "priority",
            Keeper::None => "none",
        }
    }
}

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Mechanism that enforces each of the [`Limits`]. An absent field is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct LimitedBy {
    /// Mechanism for the nice value.
    pub nice: Option<Keeper>,
    /// Mechanism for the descriptors.
    pub nofile: Option<Keeper>,
    /// Mechanism for the memory.
    pub memory: Option<Keeper>,
    /// Mechanism for the number of processes.
    pub pids: Option<Keeper>,
    /// Mechanism for the processor time.
    pub cpus: Option<Keeper>,
}

impl Limits {
    /// Returns the mechanisms on a machine without control groups.
    pub fn without_groups(&self) -> LimitedBy {
        let by = |limited: bool, keeper| limited.then_some(keeper);
        LimitedBy {
            nice: by(self.nice.is_some(), Keeper::Priority),
            nofile: by(self.nofile.is_some(), Keeper::Rlimit),
            memory: by(self.memory_bytes.is_some(), Keeper::Watched),
            pids: by(self.pids.is_some(), Keeper::Watched),
            cpus: by(self.milli_cpus.is_some(), Keeper::None),
        }
    }
}

/// The control groups that a session's programs belong to. All paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// Files into which a process writes `0` to enter the groups (cgroups(7), "cgroup.procs").
    pub enter: Vec<String>,
    /// Has a line `oom_kill N`: how many were killed because the group had no memory left; none where it has no limit.
    pub memory_events: Option<String>,
    /// Has the most memory that the group had at once, in bytes.
    pub memory_peak: Option<String>,
}
