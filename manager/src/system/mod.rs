//! TODO

pub(crate) mod blocking;
pub(crate) mod cgroups;
pub(crate) mod clock;
pub(crate) mod exit_info;
pub(crate) mod owned;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod sweep;
