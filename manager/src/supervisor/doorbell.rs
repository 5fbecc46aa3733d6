//! SIGCHLD as a socket that becomes readable.

use std::io;

use tokio::io::AsyncReadExt;

/// A socket that becomes readable with each SIGCHLD; several may become one, and none is needed for the ends of
/// our own workers, whose pidfds say so too.
pub(super) fn sigchld_doorbell() -> io::Result<tokio::net::UnixStream> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, theirs)?;
    tokio::net::UnixStream::from_std(ours)
}

/// Waits until the doorbell rings, and takes all that it has rung so far as one.
pub(super) async fn rung(doorbell: Option<&mut tokio::net::UnixStream>) {
    let Some(doorbell) = doorbell else {
        return std::future::pending().await;
    };
    let mut ringing = [0; 256];
    match doorbell.read(&mut ringing).await {
        Ok(count) if count > 0 => {}
        // It cannot end while the handler holds the other side; if it does, the pidfds are enough.
        _ => std::future::pending().await,
    }
}
