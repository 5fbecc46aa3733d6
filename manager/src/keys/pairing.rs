//! A pairing: a secret that lets one device in, once, for a few minutes. State in, state out.

use protocol::KeyId;
use protocol::api::PairingState;
use subtle::ConstantTimeEq;

use super::book::Grant;
use super::secret::Hash;

/// Time for which a secret is good, in milliseconds.
pub const VALID_MS: u64 = 10 * 60 * 1_000;
/// Wrong secrets after which a pairing takes none any more.
pub const MISSES: u8 = 5;

/// The newest pairing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairing {
    /// Its number; 0: there was none yet.
    pub number: u64,
    phase: Phase,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// A device may come.
    Open {
        secret: Hash,
        until: u64,
        misses: u8,
        grant: Grant,
        /// The key that has begun it; none: the owner has.
        maker: Option<KeyId>,
    },
    /// A device has come with this key. Its request may be repeated.
    Paired {
        secret: Hash,
        until: u64,
        key: Hash,
        id: KeyId,
    },
    Locked,
    Expired,
    #[default]
    Ended,
}

/// The decision about a device's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The device gets a key with these rights.
    Grant(Grant),
    /// The same request as before: the device has this key.
    Again(KeyId),
    /// The secret is wrong.
    Wrong,
    /// No pairing takes a secret.
    Closed(Closed),
}

/// Reason for which no secret is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// No pairing was begun since the daemon's start, or it was ended.
    None,
    /// A device has used the secret.
    Used,
    /// The time is over.
    Expired,
    /// Too many wrong secrets were sent.
    Locked,
}

impl Pairing {
    /// A new pairing, which takes the place of this one.
    pub fn begin(&self, now: u64, secret: Hash, grant: Grant, maker: Option<KeyId>) -> Self {
        let until = now + VALID_MS;
        Self { number: self.number + 1, phase: Phase::Open { secret, until, misses: 0, grant, maker } }
    }

    /// The key that has begun the pairing that is open, if one is and a key has.
    pub fn maker(&self) -> Option<KeyId> {
        match &self.phase {
            Phase::Open { maker, .. } => *maker,
            Phase::Paired { .. } | Phase::Locked | Phase::Expired | Phase::Ended => None,
        }
    }

    /// The pairing after a device's request, and what becomes of the request. With [`Verdict::Grant`] the pairing is as it was,
    /// until the key is kept: [`paired`](Self::paired).
    pub fn finish(&self, now: u64, given: &Hash, device: &Hash) -> (Self, Verdict) {
        let at = |phase, verdict| (Self { number: self.number, phase }, verdict);
        match &self.phase {
            Phase::Open { until, .. } if now >= *until => {
                at(Phase::Expired, Verdict::Closed(Closed::Expired))
            }
            Phase::Open { secret, grant, .. } if bool::from(secret.ct_eq(given)) => {
                at(self.phase.clone(), Verdict::Grant(grant.clone()))
            }
            Phase::Open { misses, .. } if misses + 1 >= MISSES => at(Phase::Locked, Verdict::Wrong),
            Phase::Open { secret, until, misses, grant, maker } => {
                let (secret, until, misses, maker) = (*secret, *until, misses + 1, *maker);
                let phase = Phase::Open { secret, until, misses, grant: grant.clone(), maker };
                at(phase, Verdict::Wrong)
            }
            Phase::Paired { secret, until, key, id } => {
                let is_same = bool::from(secret.ct_eq(given) & key.ct_eq(device)) && now < *until;
                let verdict = if is_same { Verdict::Again(*id) } else { Verdict::Closed(Closed::Used) };
                at(self.phase.clone(), verdict)
            }
            Phase::Locked => at(Phase::Locked, Verdict::Closed(Closed::Locked)),
            Phase::Expired => at(Phase::Expired, Verdict::Closed(Closed::Expired)),
            Phase::Ended => at(Phase::Ended, Verdict::Closed(Closed::None)),
        }
    }

    /// The device's key is kept: the secret is used up.
    pub fn paired(&self, key: Hash, id: KeyId) -> Self {
        let phase = match &self.phase {
            Phase::Open { secret, until, .. } => Phase::Paired { secret: *secret, until: *until, key, id },
            other => other.clone(),
        };
        Self { number: self.number, phase }
    }

    /// The pairing is wanted no more. One that a device has used stays, so that the device may repeat its request.
    pub fn end(&self) -> Self {
        let phase = match &self.phase {
            Phase::Open { .. } => Phase::Ended,
            other => other.clone(),
        };
        Self { number: self.number, phase }
    }

    /// The state of the pairing with this number, and the device's key.
    pub fn state(&self, number: u64, now: u64) -> (PairingState, Option<KeyId>) {
        if number != self.number {
            return (PairingState::Ended, None);
        }
        match &self.phase {
            Phase::Open { until, .. } if now >= *until => (PairingState::Expired, None),
            Phase::Open { .. } => (PairingState::Open, None),
            Phase::Paired { id, .. } => (PairingState::Paired, Some(*id)),
            Phase::Locked => (PairingState::Locked, None),
            Phase::Expired => (PairingState::Expired, None),
            Phase::Ended => (PairingState::Ended, None),
        }
    }

    /// Time until the pairing with this number expires, in milliseconds; 0 if it is over.
    pub fn left(&self, number: u64, now: u64) -> u64 {
        match &self.phase {
            Phase::Open { until, .. } if number == self.number => until.saturating_sub(now),
            _ => 0,
        }
    }
}
