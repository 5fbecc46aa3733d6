//! The statuses with which the process exits.

/// The worker ended without an error.
pub const DONE: u8 = 0;
/// The process was started in a way it is not meant to be.
pub const USAGE: u8 = 2;
/// The manager broke the protocol, or the system refused what the worker cannot do without.
pub const FAULT: u8 = 70;
/// The link to the manager ended without a goodbye.
pub const LINK_LOST: u8 = 75;
/// SIGTERM ended the process. A shell gives this status for it.
pub const TERMINATED: u8 = 143;
