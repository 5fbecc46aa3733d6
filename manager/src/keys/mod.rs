//! Keys: what clients show that are not the owner at this machine, and how a device gets one.
//!
//! `book.rs`, `pairing.rs` and `tickets.rs` decide: state in, state out. `store.rs` keeps the book in `STATE/keys.json`, and never
//! a key itself. [`Keys`] holds them together for the API. A pairing and tickets of links live in memory only: a new daemon
//! knows of none.

mod book;
mod pairing;
mod secret;
mod store;
#[cfg(test)]
mod tests;
mod tickets;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::KeyId;
use protocol::api::{KeyInfo, KeyRole, KeySessions, PairingInfo, PairingState};
use protocol::event::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;

pub use self::book::{BROWSERS, Denied, Grant, IDS, KEYS, Key, NAME};
use self::book::{Book, Use};
pub use self::pairing::Closed;
use self::pairing::{Pairing, VALID_MS, Verdict};
pub use self::secret::{
    Hash, PREFIX, halves, hash_of_key, hash_of_secret, hash_of_ticket, joined, new_key, new_secret,
    new_ticket,
};
use self::tickets::Tickets;
use crate::system::blocking;
use crate::system::clock::wall_ms;

/// A key's last use is written at most once in this time, in milliseconds.
const WRITE_EVERY_MS: u64 = 60_000;

/// Reason for which nothing was done with keys.
#[derive(Debug, PartialEq)]
pub enum KeysError {
    /// The request makes no sense, or does not fit what there is.
    Denied(Denied),
    /// No pairing takes this secret.
    Closed(Closed),
    /// The secret is wrong.
    Wrong,
    /// No link has this ticket, or not any more.
    NoTicket,
    /// The file cannot be read. Nobody is let in by a key.
    Unread(String),
    /// The file cannot be written. Nothing was changed.
    Unwritten(String),
}

impl From<Denied> for KeysError {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

/// A pairing that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The number of the pairing.
    pub number: u64,
    /// Time at which its secret ends, in milliseconds of Unix time.
    pub until: u64,
    /// An earlier pairing was under way, and has ended by this one.
    pub replaces: bool,
}

/// All keys of a state directory.
#[derive(Clone)]
pub struct Keys(Arc<Shared>);

struct Shared {
    path: PathBuf,
    /// The keys, or the reason for which there are none. Streams that a key has opened watch it.
    book: watch::Sender<Result<Arc<Book>, String>>,
    pairing: watch::Sender<Pairing>,
    tickets: Mutex<Tickets>,
    /// One change at a time: it is written before anybody sees it.
    changing: tokio::sync::Mutex<()>,
    uses: Mutex<Uses>,
}

#[derive(Default)]
struct Uses {
    of: BTreeMap<KeyId, Use>,
    /// Time at which they were last written.
    written_at: u64,
}

impl Keys {
    /// The keys of this state directory. A file that cannot be read lets nobody in, and each use says so.
    pub fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(store::FILE);
        let (book, of) = match store::load(&path) {
            Ok((book, uses)) => (Ok(Arc::new(book)), uses),
            Err(error) => {
                tracing::warn!("{}: {error}; no key lets anybody in", path.display());
                (Err(format!("{}: {error}", path.display())), BTreeMap::new())
            }
        };
        Self(Arc::new(Shared {
            path,
            book: watch::Sender::new(book),
            pairing: watch::Sender::new(Pairing::default()),
            tickets: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            uses: Mutex::new(Uses { of, written_at: 0 }),
        }))
    }

    fn uses(&self) -> MutexGuard<'_, Uses> {
        self.0.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.0.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> Result<Arc<Book>, KeysError> {
        self.0.book.borrow().clone().map_err(KeysError::Unread)
    }

    /// The key of which this is the hash; none if there is none. It may have expired.
    pub fn find(&self, hash: &Hash) -> Result<Option<Key>, KeysError> {
        Ok(self.book()?.find(hash).cloned())
    }

    /// Returns once the key lets nobody in any more: it was revoked, has another secret, or has expired.
    pub async fn ended(&self, key: &Key) {
        let mut book = self.0.book.subscribe();
        let is_over = |book: &Result<Arc<Book>, String>| !book.as_ref().is_ok_and(|book| book.has(key));
        let expiry = async {
            match key.expires_at {
                None => std::future::pending().await,
                // The wall clock may be set while this waits.
                Some(at) => {
                    while let Some(left) = at.checked_sub(wall_ms()).filter(|left| *left > 0) {
                        sleep(Duration::from_millis(left)).await;
                    }
                }
            }
        };
        // A watch that has no sender any more has ended with its daemon.
        let changed = async { drop(book.wait_for(is_over).await) };
        tokio::select! {
            () = changed => {}
            () = expiry => {}
        }
    }

    /// Takes note of a use. `from` is the client's address.
    pub fn used(&self, id: KeyId, from: &str) {
        let now = wall_ms();
        let mut uses = self.uses();
        uses.of.insert(id, Use { at: now, from: from.to_owned() });
        if now.saturating_sub(uses.written_at) < WRITE_EVERY_MS {
            return;
        }
        uses.written_at = now;
        drop(uses);
        let keys = self.clone();
        tokio::spawn(async move {
            let _turn = keys.0.changing.lock().await;
            if let Ok(book) = keys.book()
                && let Err(error) = keys.write(&book).await
            {
                tracing::warn!("{}: {error}; the last use of keys is not kept", keys.0.path.display());
            }
        });
    }

    /// All keys, oldest first.
    pub fn list(&self) -> Result<Vec<KeyInfo>, KeysError> {
        Ok(self.book()?.keys().map(|key| self.info(key)).collect())
    }

    /// A key as clients see it.
    pub fn info(&self, key: &Key) -> KeyInfo {
        let uses = self.uses();
        let last = uses.of.get(&key.id);
        KeyInfo {
            id: key.id,
            name: key.name.clone(),
            role: key.role,
            sessions: key.sessions.clone(),
            expires_at: key.expires_at.map(Timestamp),
            expired: key.has_expired(wall_ms()),
            browser: key.browser,
            created_at: Timestamp(key.created_at),
            last_used_at: last.map(|last| Timestamp(last.at)),
            last_used_from: last.map(|last| last.from.clone()),
        }
    }

    /// A new key. `maker` is the key that asks for it; none: the owner asks.
    pub async fn issue(&self, grant: Grant, maker: Option<&Key>, hash: Hash) -> Result<KeyInfo, KeysError> {
        let _turn = self.0.changing.lock().await;
        let book = self.book_for(maker)?;
        let (book, id) = book.issue(wall_ms(), &grant, maker, hash)?;
        self.adopt(book, id).await
    }

    /// A new secret for a key. The old one lets nobody in any more.
    pub async fn rotate(&self, id: KeyId, maker: Option<&Key>, hash: Hash) -> Result<KeyInfo, KeysError> {
        let _turn = self.0.changing.lock().await;
        let book = self.book_for(maker)?.rotate(id, maker, hash)?;
        let info = self.adopt(book, id).await?;
        self.end_pairing_of(id);
        Ok(info)
    }

    /// The book, if the key that asks is still in it: it may have ended since the request began.
    fn book_for(&self, maker: Option<&Key>) -> Result<Arc<Book>, KeysError> {
        let book = self.book()?;
        match maker.filter(|key| !book.has(key)) {
            Some(gone) => Err(Denied::NoSuchKey(gone.id).into()),
            None => Ok(book),
        }
    }

    /// Ends the pairing that a key has begun which lets nobody in any more, and its tickets.
    fn end_pairing_of(&self, id: KeyId) {
        let rest = self.tickets().without_those_of(id);
        *self.tickets() = rest;
        if self.0.pairing.borrow().maker() == Some(id) {
            let ended = self.0.pairing.borrow().end();
            self.0.pairing.send_replace(ended);
        }
    }

    /// Removes a key, which lets nobody in any more.
    pub async fn revoke(&self, id: KeyId) -> Result<(), KeysError> {
        let _turn = self.0.changing.lock().await;
        let book = self.book()?.revoke(id)?;
        self.commit(book).await?;
        self.end_pairing_of(id);
        self.uses().of.remove(&id);
        Ok(())
    }

    /// Begins to let one device in, which gets these rights. An earlier pairing ends.
    ///
    /// # Errors
    /// As [`issue`](Self::issue): a key of these rights could not be made.
    pub async fn begin(&self, grant: Grant, maker: Option<&Key>, secret: Hash) -> Result<Begun, KeysError> {
        let _turn = self.0.changing.lock().await;
        let now = wall_ms();
        self.book_for(maker)?.check(now, &grant, maker)?;
        let next = self.0.pairing.borrow().begin(now, secret, grant, maker.map(|key| key.id));
        let number = next.number;
        let before = self.0.pairing.send_replace(next);
        let replaces = before.state(before.number, now).0 == PairingState::Open;
        Ok(Begun { number, until: now + VALID_MS, replaces })
    }

    /// Ends the pairing that is open, if one is.
    pub async fn end(&self) {
        let _turn = self.0.changing.lock().await;
        let next = self.0.pairing.borrow().end();
        self.0.pairing.send_replace(next);
    }

    /// A device comes with the pairing's secret, its name, and the key that it has made. `from` is its address.
    pub async fn finish(
        &self,
        secret: &Hash,
        name: &str,
        hash: Hash,
        from: &str,
    ) -> Result<KeyInfo, KeysError> {
        let _turn = self.0.changing.lock().await;
        let book = self.book()?;
        let now = wall_ms();
        // A key that lets nobody in any more has begun nothing.
        let maker = self.0.pairing.borrow().maker();
        if maker.is_some_and(|id| book.get(id).is_none_or(|key| key.has_expired(now))) {
            let ended = self.0.pairing.borrow().end();
            self.0.pairing.send_replace(ended);
        }
        let (next, verdict) = self.0.pairing.borrow().finish(now, secret, &hash);
        match verdict {
            Verdict::Grant(grant) => {
                let grant = grant.named(name);
                let (book, id) = book.issue(now, &grant, None, hash)?;
                self.uses().of.insert(id, Use { at: now, from: from.to_owned() });
                let info = self.adopt(book, id).await?;
                self.0.pairing.send_replace(next.paired(hash, id));
                Ok(info)
            }
            Verdict::Again(id) => {
                let key = book.get(id).ok_or(KeysError::Closed(Closed::Used))?;
                Ok(self.info(key))
            }
            Verdict::Wrong => {
                self.0.pairing.send_replace(next);
                Err(KeysError::Wrong)
            }
            Verdict::Closed(why) => {
                self.0.pairing.send_replace(next);
                Err(KeysError::Closed(why))
            }
        }
    }

    /// A ticket that lets one browser in, which gets these rights. Returns the time at which it ends.
    ///
    /// # Errors
    /// As [`issue`](Self::issue): a key of these rights could not be made.
    pub async fn offer(&self, grant: Grant, maker: Option<&Key>, ticket: Hash) -> Result<u64, KeysError> {
        let _turn = self.0.changing.lock().await;
        let now = wall_ms();
        self.book_for(maker)?.check(now, &grant, maker)?;
        let more = self.tickets().with(now, ticket, grant, maker.map(|key| key.id));
        *self.tickets() = more;
        Ok(now + tickets::VALID_MS)
    }

    /// A browser comes with a ticket, and gets a key with this hash. `name` is its own, `from` its address.
    pub async fn log_in(
        &self,
        ticket: &Hash,
        name: &str,
        hash: Hash,
        from: &str,
    ) -> Result<KeyInfo, KeysError> {
        let _turn = self.0.changing.lock().await;
        let (book, now) = (self.book()?, wall_ms());
        let found = self.tickets().find(now, ticket).cloned().ok_or(KeysError::NoTicket)?;
        // A key that lets nobody in any more has offered nothing.
        let maker =
            found.maker.map(|id| book.get(id).filter(|key| !key.has_expired(now)).ok_or(KeysError::NoTicket));
        let (book, id) = book.issue(now, &found.grant.named(name), maker.transpose()?, hash)?;
        self.uses().of.insert(id, Use { at: now, from: from.to_owned() });
        let info = self.adopt(book, id).await?;
        // Only now: where the key could not be kept, the ticket is still good.
        let rest = self.tickets().without(ticket);
        *self.tickets() = rest;
        Ok(info)
    }

    /// The state of a pairing.
    pub fn pairing(&self, number: u64) -> PairingInfo {
        let (state, id) = self.0.pairing.borrow().state(number, wall_ms());
        let book = self.book().ok();
        let key = id.and_then(|id| book.as_ref()?.get(id).map(|key| self.info(key)));
        PairingInfo { number, state, key }
    }

    /// Returns once this pairing is over, with how it ended.
    pub async fn over(&self, number: u64) -> PairingInfo {
        let mut pairing = self.0.pairing.subscribe();
        let is_over = |pairing: &Pairing| pairing.state(number, wall_ms()).0 != PairingState::Open;
        loop {
            let left = pairing.borrow_and_update().left(number, wall_ms());
            let changed = async { drop(pairing.wait_for(is_over).await) };
            tokio::select! {
                () = changed => return self.pairing(number),
                () = sleep(Duration::from_millis(left)) => {}
            }
        }
    }

    /// Writes the book, shows it, and gives one of its keys.
    async fn adopt(&self, book: Book, id: KeyId) -> Result<KeyInfo, KeysError> {
        self.commit(book).await?;
        let book = self.book()?;
        let key = book.get(id).ok_or(Denied::NoSuchKey(id))?;
        Ok(self.info(key))
    }

    /// Writes the book, then shows it.
    async fn commit(&self, book: Book) -> Result<(), KeysError> {
        self.write(&book)
            .await
            .map_err(|error| KeysError::Unwritten(format!("{}: {error}", self.0.path.display())))?;
        // What was there before.
        drop(self.0.book.send_replace(Ok(Arc::new(book))));
        Ok(())
    }

    async fn write(&self, book: &Book) -> io::Result<()> {
        let of = {
            let mut uses = self.uses();
            uses.of.retain(|id, _| book.get(*id).is_some());
            uses.of.clone()
        };
        let (path, book) = (self.0.path.clone(), book.clone());
        let written = blocking::run(move || store::save(&path, &book, &of)).await;
        written.unwrap_or_else(|| Err(io::Error::other("the thread that writes it panicked")))
    }
}

/// Reads a role and sessions in the words that logs use.
pub fn described(role: KeyRole, sessions: &KeySessions) -> String {
    let role = match role {
        KeyRole::Admin => "admin",
        KeyRole::Driver => "driver",
        KeyRole::Viewer => "viewer",
    };
    match sessions {
        KeySessions::All => format!("{role} of all sessions"),
        KeySessions::Own => format!("{role} of its own sessions"),
        KeySessions::Ids(ids) => format!("{role} of {} sessions", ids.len()),
        KeySessions::Labels(labels) => format!("{role} of sessions with {} labels", labels.len()),
    }
}
