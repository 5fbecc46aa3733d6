//! Refused access, as `manager/src/session_manager/refused.rs` records it: one count, which is taken and may come back.

use manager::core::Ask;
use protocol::event::{Refused, RefusedFor};

use super::super::Sim;
use super::Room;

impl Sim {
    /// Refuses somebody now and then. Returns what is to be recorded of it; none while the journal has no room.
    pub(super) fn refused(&mut self) -> Option<Ask> {
        if self.rng.chance(20) {
            let more = self.rng.between(1, 5);
            self.m().refused += more;
        }
        let manager = self.m();
        if manager.refused == 0 || manager.room != Room::Plenty {
            return None;
        }
        let count = std::mem::take(&mut manager.refused);
        let reason = RefusedFor::ALL[count as usize % RefusedFor::ALL.len()];
        let (address, key, operation) = (None, None, None);
        let session = manager.fleet.sessions().next().map(|session| session.id.clone());
        Some(Ask::AccessRefused(Refused { reason, address, key, session, operation, count }))
    }

    /// Returns true for refusals, which wait on in their count.
    pub(super) fn waits_on(&mut self, ask: &Ask) -> bool {
        let Ask::AccessRefused(refused) = ask else { return false };
        self.m().refused += refused.count;
        true
    }
}
