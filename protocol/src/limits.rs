//! What a session's processes may use of the machine, and what sees to it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a session's programs may use; none: as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct Limits {
    /// How much is added to the nice value (nice(2)), 0 to 19: the kernel never refuses to run later than others.
    pub nice: Option<u32>,
    /// Descriptors that each process may have open (RLIMIT_NOFILE, getrlimit(2)); soft and hard limit.
    pub nofile: Option<u64>,
    /// Memory of all processes together, in bytes.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Processes and threads at once, those included that keep the agent's namespace.
    #[serde(default)]
    pub pids: Option<u32>,
    /// Processor time of all processes together, in thousandths of a processor.
    #[serde(default)]
    pub milli_cpus: Option<u32>,
}

/// What sees to it that a limit is kept. On the wire: grows by appending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Keeper {
    /// The kernel, in a control group of version 2.
    CgroupV2,
    /// The kernel, in control groups of version 1.
    CgroupV1,
    /// The session's worker, which looks now and then: what grows fast is found late.
    Watched,
    /// The kernel, for each process by itself (getrlimit(2)).
    Rlimit,
    /// The kernel's scheduler, by the nice value (sched(7)).
    Priority,
    /// Nothing: it cannot be kept here.
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

/// What sees to each of [`Limits`]; none: there is no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub struct LimitedBy {
    /// To the nice value.
    pub nice: Option<Keeper>,
    /// To the descriptors.
    pub nofile: Option<Keeper>,
    /// To the memory.
    pub memory: Option<Keeper>,
    /// To the number of processes.
    pub pids: Option<Keeper>,
    /// To the processor time.
    pub cpus: Option<Keeper>,
}

impl Limits {
    /// What sees to them where there are no control groups.
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
    /// A process that writes `0` into each of these is in them (cgroups(7), "cgroup.procs").
    pub enter: Vec<String>,
    /// Has a line `oom_kill N`: how many were killed because the group had no memory left; none where it has no limit.
    pub memory_events: Option<String>,
    /// Has the most memory that the group had at once, in bytes.
    pub memory_peak: Option<String>,
}
