//! Tickets of links to the page: each lets one browser in, once, for a few minutes. State in, state out.

use protocol::KeyId;
use subtle::ConstantTimeEq;

use super::book::Grant;
use super::secret::Hash;

/// Time for which a ticket is good, in milliseconds.
pub const VALID_MS: u64 = 5 * 60 * 1_000;
/// The most tickets at once. The oldest makes room.
pub const TICKETS: usize = 16;

/// A ticket, known by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    secret: Hash,
    until: u64,
    /// The rights of the browser's key.
    pub grant: Grant,
    /// The key that has asked for it; none: the owner has.
    pub maker: Option<KeyId>,
}

/// The tickets that are good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tickets(Vec<Ticket>);

impl Tickets {
    /// The tickets with one more.
    pub fn with(&self, now: u64, secret: Hash, grant: Grant, maker: Option<KeyId>) -> Self {
        let mut good: Vec<Ticket> = self.0.iter().filter(|ticket| ticket.until > now).cloned().collect();
        good.drain(..(good.len() + 1).saturating_sub(TICKETS));
        good.push(Ticket { secret, until: now + VALID_MS, grant, maker });
        Self(good)
    }

    /// The ticket with this hash, if it is good. Compares with every ticket, and takes as long wherever it differs.
    pub fn find(&self, now: u64, given: &Hash) -> Option<&Ticket> {
        let found = self.0.iter().fold(None, |found, ticket| match bool::from(ticket.secret.ct_eq(given)) {
            true => Some(ticket),
            false => found,
        });
        found.filter(|ticket| ticket.until > now)
    }

    /// The tickets without this one, which was used.
    pub fn without(&self, used: &Hash) -> Self {
        let others = self.0.iter().filter(|ticket| !bool::from(ticket.secret.ct_eq(used)));
        Self(others.cloned().collect())
    }

    /// The tickets without those that this key has asked for.
    pub fn without_those_of(&self, maker: KeyId) -> Self {
        Self(self.0.iter().filter(|ticket| ticket.maker != Some(maker)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use protocol::api::{KeyRole, KeySessions};

    use super::*;

    fn grant() -> Grant {
        let (role, sessions) = (KeyRole::Viewer, KeySessions::All);
        Grant { name: None, role, sessions, expires_at: Some(9), browser: true }
    }

    fn of(number: u8) -> Hash {
        [number; 32]
    }

    #[test]
    fn a_ticket_is_good_until_it_is_used_or_its_time_is_over() {
        let tickets = Tickets::default().with(1_000, of(1), grant(), None).with(2_000, of(2), grant(), None);
        assert_eq!(tickets.find(2_000, &of(1)).map(|ticket| &ticket.grant), Some(&grant()));
        assert_eq!(tickets.find(2_000, &of(3)), None);
        assert_eq!(tickets.find(1_000 + VALID_MS, &of(1)), None);
        assert!(tickets.find(1_000 + VALID_MS, &of(2)).is_some());
        let used = tickets.without(&of(1));
        assert!(used.find(2_000, &of(1)).is_none() && used.find(2_000, &of(2)).is_some());
        assert_eq!(
            tickets.with(1_000 + VALID_MS, of(4), grant(), None).0.len(),
            2,
            "the expired one is gone"
        );
    }

    #[test]
    fn too_many_tickets_put_out_the_oldest_and_a_key_takes_its_own_with_it() {
        let many = (0..100u8).fold(Tickets::default(), |all, number| {
            let maker = (number % 2 == 0).then_some(KeyId(7));
            all.with(u64::from(number), of(number), grant(), maker)
        });
        assert_eq!(many.0.len(), TICKETS);
        assert!(many.find(100, &of(99)).is_some() && many.find(100, &of(83)).is_none());
        let rest = many.without_those_of(KeyId(7));
        assert_eq!(rest.0.len(), TICKETS / 2);
        assert!(rest.find(100, &of(99)).is_some() && rest.find(100, &of(98)).is_none());
    }
}
