//! The book of keys: state in, state out.

use std::collections::BTreeMap;

use protocol::KeyId;
use protocol::api::{KeyRole, KeySessions};
use subtle::ConstantTimeEq;

use super::secret::Hash;
use crate::config;

/// The most keys of a state directory.
pub const KEYS: usize = 1_000;
/// The most sessions that one key lists.
pub const IDS: usize = 100;
/// The most keys of browsers.
pub const BROWSERS: usize = 100;
/// The longest name of a key, in characters.
pub const NAME: usize = 100;

/// A key, known by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its id, which no other key ever has.
    pub id: KeyId,
    /// A name for people.
    pub name: String,
    /// Its role.
    pub role: KeyRole,
    /// The sessions that it reaches.
    pub sessions: KeySessions,
    /// Unix time in milliseconds from which on it lets nobody in; none: never.
    pub expires_at: Option<u64>,
    /// Unix time in milliseconds at which it was made.
    pub created_at: u64,
    /// A link of `kennel web` has made it: it ends when its browser logs out.
    pub browser: bool,
    /// The SHA-256 of the key.
    pub hash: Hash,
}

impl Key {
    /// Returns true if the key lets nobody in any more.
    pub fn has_expired(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Returns true for an expired key of a browser. Nobody renews one: the next key that is made takes its place.
    fn is_spent(&self, now: u64) -> bool {
        self.browser && self.has_expired(now)
    }
}

/// The last use of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Unix time in milliseconds.
    pub at: u64,
    /// The client's address.
    pub from: String,
}

/// The rights of a key that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// A name for people; none: the device says it.
    pub name: Option<String>,
    /// Its role.
    pub role: KeyRole,
    /// The sessions that it reaches.
    pub sessions: KeySessions,
    /// Unix time in milliseconds from which on it lets nobody in; none: never.
    pub expires_at: Option<u64>,
    /// It is for a browser that logs in by a link.
    pub browser: bool,
}

impl Grant {
    /// The same, with a name in any case.
    pub fn named(&self, name: &str) -> Self {
        Self { name: Some(self.name.clone().unwrap_or_else(|| name.to_owned())), ..self.clone() }
    }
}

/// Reason for which a key was not made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No key has this id.
    NoSuchKey(KeyId),
    /// There are as many keys as there may be.
    Full,
    /// There are as many keys of browsers as there may be.
    Browsers,
    /// A key has this hash already.
    Taken,
    /// The name is empty, too long, or has control characters.
    Name,
    /// An admin's key reaches all sessions.
    AdminOfSome,
    /// The list of sessions is empty or too long.
    Ids,
    /// There are no labels, too many, or one is none.
    Labels,
    /// The expiry has passed.
    Past,
    /// The key would outlast the key that asks for it.
    Outlasts,
}

/// Returns true for a key's name.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= NAME && !name.chars().any(char::is_control)
}

/// All keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// The number of the newest key that was ever made.
    last: u64,
    keys: BTreeMap<KeyId, Key>,
}

impl Book {
    /// The book as a file has it.
    ///
    /// # Errors
    /// The reason for which this is none.
    pub fn load(last: u64, keys: Vec<Key>) -> Result<Self, &'static str> {
        let mut book = Self { last, keys: BTreeMap::new() };
        for key in keys {
            let grant = Grant {
                name: Some(key.name.clone()),
                role: key.role,
                sessions: key.sessions.clone(),
                expires_at: None,
                browser: false,
            };
            match book.check(0, &grant, None) {
                Ok(()) => {}
                Err(Denied::Full) => return Err("it has more keys than there may be"),
                Err(_) => return Err("a key's name, role or sessions are none"),
            }
            if key.id.0 > last || key.id.0 == 0 {
                return Err("a key's number is above `last`, or 0");
            }
            if book.find(&key.hash).is_some() || book.keys.insert(key.id, key).is_some() {
                return Err("two keys are the same");
            }
        }
        Ok(book)
    }

    /// The number of the newest key that was ever made.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// All keys, oldest first.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.values()
    }

    /// One key.
    pub fn get(&self, id: KeyId) -> Option<&Key> {
        self.keys.get(&id)
    }

    /// The key with this hash. Compares with every key, and takes as long wherever it differs.
    pub fn find(&self, hash: &Hash) -> Option<&Key> {
        self.keys.values().fold(None, |found, key| match bool::from(key.hash.ct_eq(hash)) {
            true => Some(key),
            false => found,
        })
    }

    /// Returns true if this very key is in the book: not revoked, and with the same secret.
    pub fn has(&self, key: &Key) -> bool {
        self.get(key.id).is_some_and(|own| bool::from(own.hash.ct_eq(&key.hash)))
    }

    /// Checks that a key with these rights may be made. `maker` is the key that asks for it; none: the owner asks.
    pub fn check(&self, now: u64, grant: &Grant, maker: Option<&Key>) -> Result<(), Denied> {
        if grant.name.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(Denied::Name);
        }
        match &grant.sessions {
            KeySessions::Ids(ids) if ids.is_empty() || ids.len() > IDS => return Err(Denied::Ids),
            KeySessions::Labels(labels) if labels.is_empty() || config::labels(labels).is_err() => {
                return Err(Denied::Labels);
            }
            KeySessions::Ids(_) | KeySessions::Own | KeySessions::Labels(_)
                if grant.role == KeyRole::Admin =>
            {
                return Err(Denied::AdminOfSome);
            }
            KeySessions::All | KeySessions::Ids(_) | KeySessions::Own | KeySessions::Labels(_) => {}
        }
        if grant.expires_at.is_some_and(|at| at <= now) {
            return Err(Denied::Past);
        }
        outlasts(grant.expires_at, maker)?;
        // An expired key of a browser makes room.
        let counted = self.keys.values().filter(|key| !key.is_spent(now));
        let (all, browsers) =
            counted.fold((0, 0), |(all, browsers), key| (all + 1, browsers + usize::from(key.browser)));
        match grant.browser && browsers >= BROWSERS {
            _ if all >= KEYS => Err(Denied::Full),
            true => Err(Denied::Browsers),
            false => Ok(()),
        }
    }

    /// The book with one more key.
    pub fn issue(
        &self,
        now: u64,
        grant: &Grant,
        maker: Option<&Key>,
        hash: Hash,
    ) -> Result<(Self, KeyId), Denied> {
        self.check(now, grant, maker)?;
        if self.find(&hash).is_some() {
            return Err(Denied::Taken);
        }
        let id = KeyId(self.last + 1);
        let Grant { name, role, sessions, expires_at, browser } = grant.clone();
        let name = name.ok_or(Denied::Name)?;
        let mut next = self.clone();
        next.last = id.0;
        next.keys.retain(|_, key| !key.is_spent(now));
        next.keys.insert(id, Key { id, name, role, sessions, expires_at, created_at: now, browser, hash });
        Ok((next, id))
    }

    /// The book without this key.
    pub fn revoke(&self, id: KeyId) -> Result<Self, Denied> {
        let mut next = self.clone();
        next.keys.remove(&id).ok_or(Denied::NoSuchKey(id))?;
        Ok(next)
    }

    /// The book in which this key has another secret.
    pub fn rotate(&self, id: KeyId, maker: Option<&Key>, hash: Hash) -> Result<Self, Denied> {
        let key = self.get(id).ok_or(Denied::NoSuchKey(id))?;
        outlasts(key.expires_at, maker)?;
        if self.find(&hash).is_some() {
            return Err(Denied::Taken);
        }
        let mut next = self.clone();
        next.keys.insert(id, Key { hash, ..key.clone() });
        Ok(next)
    }
}

/// Refuses an expiry that is later than that of the key that asks.
fn outlasts(expires_at: Option<u64>, maker: Option<&Key>) -> Result<(), Denied> {
    let Some(end) = maker.and_then(|maker| maker.expires_at) else { return Ok(()) };
    match expires_at {
        Some(at) if at <= end => Ok(()),
        Some(_) | None => Err(Denied::Outlasts),
    }
}
