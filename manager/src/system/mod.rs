//! The machine, as the rest of the manager sees it: processes and how they ended, what is left over of them, control groups,
//! clocks, files that are ours alone, and what this system can do.
//!
//! Everything here may be used by any folder but `core/`; it uses none of them but for their types. Processes are started,
//! signalled and reaped here, on behalf of `supervisor/` and `workers/` only (`tests/tests/boundaries.rs`).

pub(crate) mod blocking;
pub(crate) mod cgroups;
pub(crate) mod clock;
pub(crate) mod commit;
pub(crate) mod exit_info;
pub(crate) mod file_watch;
pub(crate) mod interfaces;
pub(crate) mod listeners;
pub(crate) mod load;
pub(crate) mod memory;
pub(crate) mod owned;
pub(crate) mod packet;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod service;
pub(crate) mod spawner;
pub(crate) mod sweep;
pub(crate) mod waiting;
pub(crate) mod zygote;
