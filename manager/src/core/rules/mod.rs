//! TODO

pub(crate) mod calls;
pub(crate) mod clients;
pub(crate) mod judge;
pub(crate) mod life;
pub(crate) mod permissions;
pub(crate) mod servers;
pub(crate) mod settings;
pub(crate) mod turns;
pub(crate) mod watchdog;
