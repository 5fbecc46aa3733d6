//! Waiting for a descriptor.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Wraps a descriptor so that a task can wait until it is readable.
#[allow(
    deprecated,
    reason = "its successor is unsafe, against types that change their descriptor; OwnedFd does not"
)]
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}
