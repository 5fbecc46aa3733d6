//! Places that are few: how many of them each sender may hold, so that nobody takes all.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::{KeyId, SessionId};

/// The sender of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    /// The owner of the daemon.
    #[default]
    Owner,
    /// Whoever shows this key.
    Key(KeyId),
    /// Whoever has rights of this session: by one of its tokens, or below its worker.
    Session(SessionId),
}

/// A number of places, and what each sender may have of them.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    all: usize,
}

impl Shares {
    /// So many places.
    pub const fn of(all: usize) -> Self {
        Self { all }
    }

    /// The most places of all senders together.
    pub const fn all(self) -> usize {
        self.all
    }

    /// The most places of all keys and sessions together. The rest is the owner's.
    pub const fn others(self) -> usize {
        self.all / 2
    }

    /// The most places of all sessions together.
    pub const fn sessions(self) -> usize {
        self.all / 4
    }

    /// The most places of one sender.
    pub fn each(self, sender: &Sender) -> usize {
        let share = match sender {
            Sender::Owner => self.all - self.all / 4,
            Sender::Key(_) => self.all / 4,
            Sender::Session(_) => self.all / 16,
        };
        share.max(1)
    }

    /// Returns whose places are full, if one more of `sender` has none beside those who hold one.
    pub fn full<'h>(
        self,
        sender: &Sender,
        holders: impl Iterator<Item = &'h Sender> + Clone,
    ) -> Option<Full> {
        let count = |is: &dyn Fn(&Sender) -> bool| holders.clone().filter(|holder| is(holder)).count();
        let is_session = |holder: &Sender| matches!(holder, Sender::Session(_));
        if count(&|holder| holder == sender) >= self.each(sender) {
            return Some(Full::Own(sender.clone()));
        }
        if is_session(sender) && count(&is_session) >= self.sessions() {
            return Some(Full::Sessions);
        }
        if *sender != Sender::Owner && count(&|holder| *holder != Sender::Owner) >= self.others() {
            return Some(Full::Others);
        }
        (count(&|_| true) >= self.all).then_some(Full::All)
    }
}

/// Places, and who holds them now.
#[derive(Debug)]
pub struct Places {
    shares: Shares,
    held: Mutex<Vec<Sender>>,
}

impl Places {
    /// So many places, all of them free.
    pub fn of(all: usize) -> Arc<Self> {
        Arc::new(Self { shares: Shares::of(all), held: Mutex::default() })
    }

    /// A place of this sender's, until it is dropped.
    ///
    /// # Errors
    /// The places that are full.
    pub fn take(self: &Arc<Self>, sender: &Sender) -> Result<Place, Full> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match self.shares.full(sender, held.iter()) {
            Some(full) => Err(full),
            None => {
                held.push(sender.clone());
                Ok(Place { of: self.clone(), sender: sender.clone() })
            }
        }
    }
}

/// A place that somebody holds.
#[derive(Debug)]
pub struct Place {
    of: Arc<Places>,
    sender: Sender,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = held.iter().position(|sender| *sender == self.sender) {
            held.swap_remove(at);
        }
    }
}

/// The places that are full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Full {
    /// The sender's own.
    Own(Sender),
    /// Those of sessions.
    Sessions,
    /// Those of keys and sessions.
    Others,
    /// All.
    All,
}

impl Full {
    /// Returns true if a place of this holder is one of those that are full.
    pub fn has(&self, holder: &Sender) -> bool {
        match self {
            Self::Own(sender) => sender == holder,
            Self::Sessions => matches!(holder, Sender::Session(_)),
            Self::Others => *holder != Sender::Owner,
            Self::All => true,
        }
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(Sender::Owner) => f.write_str("the places of this machine's user are full"),
            Self::Own(Sender::Key(key)) => write!(f, "the places of key `{key}` are full"),
            Self::Own(Sender::Session(id)) => write!(f, "the places of session `{id}` are full"),
            Self::Sessions => f.write_str("the places of all sessions together are full"),
            Self::Others => f.write_str("the places of all keys and sessions together are full"),
            Self::All => f.write_str("all places are full"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Sender {
        Sender::Key(KeyId(number))
    }

    fn session(name: &str) -> Sender {
        Sender::Session(name.parse().unwrap())
    }

    /// Lets `sender` take places until it is told why there is none, and counts those that it got.
    fn fill(held: &mut Vec<Sender>, sender: &Sender) -> (usize, String) {
        for taken in 0.. {
            match Shares::of(32).full(sender, held.iter()) {
                Some(full) => return (taken, full.to_string()),
                None => held.push(sender.clone()),
            }
        }
        unreachable!()
    }

    #[test]
    fn nobody_takes_the_places_of_others() {
        let mut held = Vec::new();
        assert_eq!(fill(&mut held, &key(1)), (8, "the places of key `key-1` are full".to_owned()));
        assert_eq!(fill(&mut held, &session("a")), (2, "the places of session `a` are full".to_owned()));
        assert_eq!(fill(&mut held, &key(2)).0, 6);
        let full = "the places of all keys and sessions together are full";
        assert_eq!(fill(&mut held, &key(3)), (0, full.to_owned()));
        assert_eq!(fill(&mut held, &Sender::Owner), (16, "all places are full".to_owned()));
    }

    #[test]
    fn sessions_leave_room_for_keys_and_the_owner_for_both() {
        let mut held = Vec::new();
        let names = ["a", "b", "c", "d", "e"];
        let taken: Vec<usize> = names.iter().map(|name| fill(&mut held, &session(name)).0).collect();
        assert_eq!(taken, [2, 2, 2, 2, 0]);
        assert_eq!(fill(&mut held, &session("f")).1, "the places of all sessions together are full");
        held.clear();
        let full = "the places of this machine's user are full";
        assert_eq!(fill(&mut held, &Sender::Owner), (24, full.to_owned()));
        assert_eq!(fill(&mut held, &key(1)).0, 8);
    }

    #[test]
    fn a_place_is_given_back_when_it_is_dropped() {
        let places = Places::of(16);
        let one = places.take(&session("a")).unwrap();
        assert_eq!(places.take(&session("a")).unwrap_err(), Full::Own(session("a")));
        drop(one);
        let taken: Vec<Place> = (0..12).map(|_| places.take(&Sender::Owner).unwrap()).collect();
        assert!(places.take(&Sender::Owner).is_err());
        let one = places.take(&session("a")).unwrap();
        drop((taken, one));
        assert_eq!(*places.held.lock().unwrap(), []);
    }
}
