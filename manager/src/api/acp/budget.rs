//! Memory for the large messages of editors: what one connection, one sender and all may have in hand. Whoever finds none is
//! not read meanwhile.
//!
//! It is no part of the budget of request bodies: the front's own requests need that one while their message is held here.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::shares::{Sender, Shares};

/// The largest message, in bytes: the largest body of a prompt, 12 MiB, and what is around it.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// A message up to this size needs no part of the budget, in bytes.
pub const LIGHT: usize = 16 * 1024;
/// Bytes of large messages that are read or worked on at once.
const BYTES: Shares = Shares::of(128 * 1024 * 1024);
/// Bytes of large messages of one connection. Each message gets the room of the largest while it is read, so that one that is
/// worked on keeps no other waiting.
const CONNECTION: usize = 2 * MAX_MESSAGE;
/// The time for a large message, beside the time that it needs at [`SLOWEST`].
const MESSAGE_TIME: Duration = Duration::from_secs(30);
/// The slowest that a large message may come, in bytes a second.
const SLOWEST: usize = 64 * 1024;

/// The budget of all connections.
pub struct Budget {
    all: Arc<Semaphore>,
    others: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
    senders: Mutex<BTreeMap<Sender, Weak<Semaphore>>>,
}

impl Default for Budget {
    fn default() -> Self {
        let bytes = |most| Arc::new(Semaphore::new(most));
        Self {
            all: bytes(BYTES.all()),
            others: bytes(BYTES.others()),
            sessions: bytes(BYTES.sessions()),
            senders: Mutex::default(),
        }
    }
}

impl Budget {
    /// The part of one connection of this sender.
    pub fn part(&self, sender: &Sender) -> Part {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        senders.retain(|_, bytes| bytes.strong_count() > 0);
        let own = senders
            .get(sender)
            .and_then(Weak::upgrade)
            .unwrap_or_else(|| Arc::new(Semaphore::new(BYTES.each(sender).max(CONNECTION))));
        senders.insert(sender.clone(), Arc::downgrade(&own));
        let connection = Arc::new(Semaphore::new(CONNECTION));
        // Everybody takes them in this order, so nobody waits in a circle.
        let mut of = vec![connection, own];
        match sender {
            Sender::Owner => {}
            Sender::Key(_) => of.push(self.others.clone()),
            Sender::Session(_) => of.extend([self.sessions.clone(), self.others.clone()]),
        }
        of.push(self.all.clone());
        Part { of: of.into() }
    }
}

/// The part of the budget that a connection draws on.
#[derive(Clone)]
pub struct Part {
    of: Arc<[Arc<Semaphore>]>,
}

impl Part {
    /// Waits until the largest message may be read.
    async fn reserve(self) -> Held {
        let mut permits = Vec::new();
        for bytes in self.of.iter() {
            // No budget is ever closed.
            permits.extend(bytes.clone().acquire_many_owned(MAX_MESSAGE as u32).await);
        }
        Held { permits }
    }
}

/// Memory for a message. It is given back when this is dropped.
#[derive(Debug)]
pub struct Held {
    permits: Vec<OwnedSemaphorePermit>,
}

impl Held {
    /// Gives back what a message of this size does not need.
    fn shrink(&mut self, size: usize) {
        for permit in &mut self.permits {
            drop(permit.split(permit.num_permits().saturating_sub(size)));
        }
    }
}

/// A connection that reads no more of a large message than there is room for.
pub struct Metered<S> {
    stream: S,
    part: Part,
    /// Bytes since the last whole message.
    read: usize,
    held: Option<Held>,
    waits: Option<BoxFuture<'static, Held>>,
    /// The instant at which the message got its room.
    since: Option<Instant>,
}

impl<S> Metered<S> {
    pub fn new(stream: S, part: Part) -> Self {
        Self { stream, part, read: 0, held: None, waits: None, since: None }
    }

    /// A message of this size has been read. Returns the memory that it takes; none for a small one.
    pub fn whole(&mut self, size: usize) -> Option<Held> {
        (self.read, self.since) = (0, None);
        let mut held = self.held.take().filter(|_| size > LIGHT)?;
        held.shrink(size);
        Some(held)
    }

    /// Returns true if the connection is not read, because there is no room for its message.
    pub fn waits(&self) -> bool {
        self.waits.is_some()
    }

    /// Returns true if a message holds its room for too long.
    pub fn is_slow(&self) -> bool {
        let most = MESSAGE_TIME + Duration::from_secs((self.read / SLOWEST) as u64);
        self.since.is_some_and(|since| since.elapsed() > most)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.read >= LIGHT && this.held.is_none() {
            let part = &this.part;
            let waits = this.waits.get_or_insert_with(|| Box::pin(part.clone().reserve()));
            this.held = Some(ready!(waits.as_mut().poll(cx)));
            (this.waits, this.since) = (None, Some(Instant::now()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.read += buf.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use protocol::KeyId;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// A connection over which bytes come without end.
    fn endless(part: Part) -> Metered<tokio::io::Repeat> {
        Metered::new(tokio::io::repeat(b'x'), part)
    }

    /// Reads a message of this size if there is room for it.
    fn message(from: &mut Metered<tokio::io::Repeat>, size: usize) -> Option<Held> {
        let mut left = size;
        let mut buffer = [0; 16 * 1024];
        while left > 0 {
            let most = left.min(buffer.len());
            left -= from.read(&mut buffer[..most]).now_or_never()?.unwrap();
        }
        from.whole(size)
    }

    const MANY: usize = MAX_MESSAGE - 1;

    #[test]
    fn a_connection_is_not_read_while_its_large_messages_are_worked_on() {
        let budget = Budget::default();
        let mut connection = endless(budget.part(&Sender::Owner));
        let first = message(&mut connection, MANY).unwrap();
        let _second = message(&mut connection, MANY).unwrap();
        assert!(message(&mut connection, MANY).is_none() && connection.waits());
        // Another connection of the same sender is read.
        assert!(message(&mut endless(budget.part(&Sender::Owner)), MANY).is_some());
        drop(first);
        let _third = message(&mut connection, MANY).unwrap();
        assert!(!connection.waits());
        // Small messages need nothing, however many there are.
        for _ in 0..1000 {
            assert!(message(&mut connection, LIGHT).is_none() && !connection.waits());
        }
    }

    #[test]
    fn one_key_leaves_room_for_others_and_all_of_them_for_the_owner() {
        let budget = Budget::default();
        let key = |number| endless(budget.part(&Sender::Key(KeyId(number))));
        let owner = || endless(budget.part(&Sender::Owner));
        let mut held: Vec<_> = (0..2).map(|_| message(&mut key(1), MANY).unwrap()).collect();
        assert!(message(&mut key(1), MANY).is_none());
        held.extend((0..2).map(|_| message(&mut key(2), MANY).unwrap()));
        assert!(message(&mut key(3), MANY).is_none(), "half is the owner's");
        held.extend((0..4).map(|_| message(&mut owner(), MANY).unwrap()));
        assert!(message(&mut owner(), MANY).is_none());
        held.clear();
        // Of what was reserved a message keeps its own size.
        held.extend((0..9).map(|_| message(&mut key(1), 20_000).unwrap()));
        assert_eq!(budget.all.available_permits(), BYTES.all() - 9 * 20_000);
    }
}
