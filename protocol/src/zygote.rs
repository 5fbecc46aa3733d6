//! The few words between a manager and its zygote, over a socket of whole packets (`SOCK_SEQPACKET`) that is the zygote's
//! standard input.
//!
//! A question is the marker of a worker, with its three standard streams attached. An answer is the worker's pid, or the number of
//! the system's error as a negative number, in four bytes, the lowest first.

/// Name of the environment variable whose place a worker's marker may take, too. It comes right after that of the
/// [`MARKER`](crate::MARKER).
pub const ROOM: &str = "KENNEL_SESSION_ROOM";
/// Length of its value, in bytes. A marker is shorter.
pub const ROOM_BYTES: usize = 256;
/// Length of an answer, in bytes.
pub const ANSWER: usize = 4;
