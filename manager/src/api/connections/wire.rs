//! A connection as hyper sees it: bodies that report their end, and a stream that keeps its deadlines.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

use super::room::{Phase, Room, Seat, fault_in};

/// A request's body, which reports when hyper has read it.
pub struct Received {
    pub body: Incoming,
    pub seat: Arc<Seat>,
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let mut state = self.seat.state();
                if !std::mem::replace(&mut state.starving, true) {
                    // hyper works on the same task, and looks again whether the client has ended.
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        };
        if frame.is_none() || self.body.is_end_stream() {
            self.seat.state().received = true;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, which reports when hyper has all of it.
pub struct Answered {
    pub body: Body,
    pub seat: Arc<Seat>,
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.seat.state().answered = true;
    }
}

/// A connection as hyper sees it.
pub struct Wire {
    stream: Arc<UnixStream>,
    seat: Arc<Seat>,
    room: Arc<Room>,
    /// Ends when nothing was read for too long.
    patience: Pin<Box<Sleep>>,
    /// Ends when nothing was written for too long; there while something waits.
    stall: Option<Pin<Box<Sleep>>>,
    /// The client has shut its side down: another descriptor of the stream, by which its going is seen.
    half_closed: Option<UnixStream>,
    /// Dropped with this: so the connection's end is seen though another protocol has taken the stream over.
    _held: oneshot::Sender<Infallible>,
}

impl Wire {
    pub fn new(
        stream: Arc<UnixStream>,
        seat: Arc<Seat>,
        room: Arc<Room>,
        _held: oneshot::Sender<Infallible>,
    ) -> Self {
        let patience = Box::pin(sleep(room.limits.head));
        Self { stream, seat, room, patience, stall: None, half_closed: None, _held }
    }

    /// hyper answers by itself what it cannot read. It is answered better after its end.
    fn is_hypers_own(&self, bytes: &[u8]) -> bool {
        let mut state = self.seat.state();
        match fault_in(bytes) {
            Some(status) if state.phase != Phase::Work => {
                state.refused = Some(status);
                true
            }
            _ => false,
        }
    }

    fn poll_put(
        &mut self,
        cx: &mut Context<'_>,
        put: impl Fn(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        while self.stream.poll_write_ready(cx)?.is_ready() {
            match put(&self.stream) {
                Ok(written) => {
                    self.stall = None;
                    self.seat.state().stalled = None;
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let stall = self.stall.get_or_insert_with(|| {
            self.seat.state().stalled = Some(Instant::now());
            Box::pin(sleep(self.room.limits.stall))
        });
        ready!(stall.as_mut().poll(cx));
        tracing::debug!("a client that took nothing for {:?} is left", self.room.limits.stall);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The client will send nothing more. It is answered for as long as it is there.
fn poll_gone(seat: &Seat, watched: &UnixStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    loop {
        if !seat.waits_for_answer() || is_gone(watched)? {
            return Poll::Ready(Ok(()));
        }
        // A writable socket proves nothing; one that becomes writable again may. A change after this call is
        // kept.
        ready!(watched.poll_write_ready(cx))?;
        let blocked = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = watched.try_io(Interest::WRITABLE, blocked);
    }
}

/// Returns true if the peer has closed its side in both directions (unix(7): then poll(2) reports POLLHUP).
fn is_gone(stream: impl AsFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(&stream, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec::default()))?;
    Ok(fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(watched) = &this.half_closed {
            return poll_gone(&this.seat, watched, cx);
        }
        while this.stream.poll_read_ready(cx)?.is_ready() {
            match this.stream.try_read_buf(buf) {
                Ok(0) if this.seat.waits_for_answer() && !is_gone(&*this.stream)? => {
                    let another = this.stream.as_fd().try_clone_to_owned()?;
                    let watched = UnixStream::from_std(another.into())?;
                    let watched = &*this.half_closed.insert(watched);
                    return poll_gone(&this.seat, watched, cx);
                }
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {
                    this.seat.heard();
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let Some(deadline) = this.seat.deadline(&this.room.limits) else { return Poll::Pending };
        if this.patience.deadline() != deadline {
            this.patience.as_mut().reset(deadline);
        }
        ready!(this.patience.as_mut().poll(cx));
        this.seat.state().expired = true;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_hypers_own(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        this.poll_put(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if pieces.first().is_some_and(|piece| this.is_hypers_own(piece)) {
            return Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()));
        }
        this.poll_put(cx, |stream| stream.try_write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(gone) = self.seat.flushed() {
            self.room.taken().answers -= gone;
            // hyper has asked for the next request already, when there was no deadline for it.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A refusal is still to be sent.
        if self.seat.state().refused.is_none() {
            rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write)?;
        }
        Poll::Ready(Ok(()))
    }
}
