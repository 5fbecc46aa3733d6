//! The output of a log-in, between the loop that hears it and the clients that read it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::api::{LogInEnd, LogInPiece};
use protocol::bounds::{LOGIN_PIECE, LOGIN_WINDOW};
use tokio::sync::watch;

/// The most output that is kept for clients that come back, in bytes. More than may wait for a client.
const KEPT: usize = 256 * 1024;
/// So much must be taken before the worker is told that there is room again, in bytes.
const STEP: u64 = LOGIN_WINDOW as u64 / 2;

/// The output of one log-in, and its end.
#[derive(Debug)]
pub struct Book {
    /// The id of the log-in.
    pub id: String,
    /// The process of the log-in's worker.
    pub pid: u32,
    pages: Mutex<Pages>,
    turned: watch::Sender<()>,
}

#[derive(Debug)]
struct Pages {
    kept: VecDeque<u8>,
    /// Bytes of output so far.
    end: u64,
    /// Number of the last byte that a client has taken.
    taken: u64,
    /// Up to here the worker may send.
    room: u64,
    over: Option<LogInEnd>,
    readers: usize,
    /// Time at which the last reader left; that of the beginning if there was none.
    left_at: Instant,
}

/// The next thing that a reader finds.
pub enum Page {
    /// A piece of output.
    Piece(LogInPiece),
    /// The end.
    End(LogInEnd),
}

impl Book {
    /// An empty one.
    pub(super) fn new(id: String, pid: u32) -> Arc<Self> {
        let (room, left_at) = (LOGIN_WINDOW as u64, Instant::now());
        let pages = Pages { kept: VecDeque::new(), end: 0, taken: 0, room, over: None, readers: 0, left_at };
        Arc::new(Self { id, pid, pages: Mutex::new(pages), turned: watch::Sender::new(()) })
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds output. The oldest is forgotten.
    pub(super) fn write(&self, bytes: &[u8]) {
        {
            let mut pages = self.pages();
            pages.end += bytes.len() as u64;
            pages.kept.extend(bytes);
            let beyond = pages.kept.len().saturating_sub(KEPT);
            pages.kept.drain(..beyond);
        }
        self.turned.send_replace(());
    }

    /// Notes the end. The first one counts.
    pub(super) fn close(&self, end: LogInEnd) {
        self.pages().over.get_or_insert(end);
        self.turned.send_replace(());
    }

    /// Returns true if the log-in has ended.
    pub fn is_over(&self) -> bool {
        self.pages().over.is_some()
    }

    /// How long nobody has read it; none while somebody does.
    pub(super) fn unread_for(&self) -> Option<Duration> {
        let pages = self.pages();
        (pages.readers == 0).then(|| pages.left_at.elapsed())
    }

    /// Gives the byte up to which the worker may send, if so much was taken that it is worth telling.
    pub(super) fn grant(&self) -> Option<u64> {
        let mut pages = self.pages();
        let upto = pages.taken + LOGIN_WINDOW as u64;
        (upto >= pages.room + STEP).then(|| {
            pages.room = upto;
            upto
        })
    }

    /// Reads from a byte on.
    pub fn read(self: &Arc<Self>, after: u64) -> Reader {
        let mut pages = self.pages();
        pages.readers += 1;
        let at = after.min(pages.end);
        // Whoever begins there has what is before, and the program must not wait for it.
        pages.taken = pages.taken.max(at);
        drop(pages);
        Reader { turned: self.turned.subscribe(), book: self.clone(), at }
    }
}

/// A client that reads.
#[derive(Debug)]
pub struct Reader {
    book: Arc<Book>,
    at: u64,
    turned: watch::Receiver<()>,
}

impl Reader {
    /// The log-in.
    pub fn book(&self) -> &Arc<Book> {
        &self.book
    }

    /// The next piece, or the end. Safe to cancel.
    pub async fn next(&mut self) -> Page {
        loop {
            self.turned.mark_unchanged();
            if let Some(page) = self.look() {
                return page;
            }
            // The sender lives in the book.
            let _ = self.turned.changed().await;
        }
    }

    /// Returns true if the worker should hear that there is room again.
    pub fn frees(&self) -> bool {
        let pages = self.book.pages();
        pages.taken + LOGIN_WINDOW as u64 >= pages.room + STEP
    }

    fn look(&mut self) -> Option<Page> {
        let mut pages = self.book.pages();
        let first = pages.end - pages.kept.len() as u64;
        let offset = self.at.max(first);
        let from = usize::try_from(offset - first).unwrap_or(usize::MAX);
        let mut bytes: Vec<u8> = pages.kept.iter().skip(from).take(LOGIN_PIECE).copied().collect();
        if pages.over.is_none() {
            let cut = unfinished(&bytes);
            bytes.truncate(bytes.len() - cut);
        }
        if bytes.is_empty() {
            return pages.over.clone().map(Page::End);
        }
        self.at = offset + bytes.len() as u64;
        pages.taken = pages.taken.max(self.at);
        Some(Page::Piece(LogInPiece { offset, text: String::from_utf8_lossy(&bytes).into_owned() }))
    }

    /// Number of bytes up to the end of the last piece.
    pub fn at(&self) -> u64 {
        self.at
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut pages = self.book.pages();
        pages.readers -= 1;
        pages.left_at = Instant::now();
    }
}

/// Number of bytes at the end that are the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    let is_cut = std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
    if is_cut { last.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn piece(reader: &mut Reader) -> (u64, String) {
        match reader.next().await {
            Page::Piece(piece) => (piece.offset, piece.text),
            Page::End(end) => panic!("{end:?}"),
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_reader_goes_on_where_it_left_and_characters_are_whole() {
        let book = Book::new("login-1".into(), 1);
        let mut reader = book.read(0);
        book.write(b"a\xe2\x82");
        assert_eq!(piece(&mut reader).await, (0, "a".into()));
        book.write(b"\xacb");
        assert_eq!(piece(&mut reader).await, (1, "\u{20ac}b".into()));
        assert_eq!((reader.at(), piece(&mut book.read(4)).await), (5, (4, "b".into())));
        // Beyond the end is the end, and what never becomes a character is told at the end.
        let mut beyond = book.read(99);
        book.write(b"\xe2");
        book.close(LogInEnd { code: Some(3), ..LogInEnd::default() });
        assert_eq!(piece(&mut beyond).await, (5, "\u{fffd}".into()));
        assert!(matches!(beyond.next().await, Page::End(LogInEnd { code: Some(3), .. })));
        book.close(LogInEnd::default());
        drop((reader, beyond));
        assert!(book.unread_for().is_some());
        assert!(matches!(book.read(6).next().await, Page::End(LogInEnd { code: Some(3), .. })));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn no_more_is_kept_than_there_may_be_and_no_more_asked_for_than_is_taken() {
        let book = Book::new("login-1".into(), 1);
        assert_eq!(book.grant(), None);
        book.write(&vec![b'x'; LOGIN_WINDOW]);
        let mut reader = book.read(0);
        assert!(!reader.frees());
        piece(&mut reader).await;
        piece(&mut reader).await;
        assert!(reader.frees());
        assert_eq!(book.grant(), Some(LOGIN_WINDOW as u64 + STEP));
        assert_eq!(book.grant(), None, "told once");
        book.write(&vec![b'y'; 2 * KEPT]);
        let first = (LOGIN_WINDOW + KEPT) as u64;
        assert_eq!(piece(&mut book.read(0)).await, (first, "y".repeat(LOGIN_PIECE)));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_reader_from_beyond_the_end_has_taken_what_is_before() {
        let book = Book::new("login-1".into(), 1);
        book.write(&vec![b'x'; LOGIN_WINDOW]);
        let reader = book.read(u64::MAX);
        assert!(reader.frees());
        assert_eq!(book.grant(), Some(2 * LOGIN_WINDOW as u64));
    }
}
