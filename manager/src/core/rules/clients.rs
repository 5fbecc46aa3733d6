//! Attached clients: one driver at most, and any number of viewers.

use protocol::EventId;
use protocol::api::{ClientOrigin, Role};
use protocol::event::EventKind;

use crate::core::at::At;
use crate::core::input::{NOBODY, Reply};
use crate::core::limits;
use crate::core::model::session::{Client, Kept, Session};
use crate::core::model::state::State;
use crate::core::out::Out;
use crate::core::refusal::Refusal;

impl Session {
    /// The client that drives, if one does.
    pub fn driver(&self) -> Option<&Client> {
        self.clients.iter().find(|client| client.role == Role::Driver)
    }

    /// Attaches a client, whose id is that of the next event.
    pub(in crate::core) fn attach(
        &mut self,
        at: At,
        client: Client,
        takeover: bool,
        out: &mut Out,
    ) -> Result<Reply, Refusal> {
        let Client { id, role, .. } = client;
        if self.clients.len() >= limits::CLIENTS {
            return Err(Refusal::TooManyClients { id: self.id.clone(), limit: limits::CLIENTS });
        }
        // Whoever comes with the seat's word is the driver that was here, and needs to take nothing over. Nor does a new client of the
        // same person, who sits here while the old one is gone.
        let returns = |seat: Option<&String>| seat.is_some() && seat == client.seat.as_ref();
        let kept = self.kept.as_ref().filter(|kept| kept.left(at).is_some());
        let driver = self.clients.iter_mut().find(|client| client.role == Role::Driver);
        match (role, driver, kept) {
            (Role::Viewer, _, _) | (Role::Driver, None, None) => {}
            (Role::Driver, Some(driver), _) if takeover || returns(driver.seat.as_ref()) => {
                driver.role = Role::Viewer;
            }
            (Role::Driver, None, Some(kept))
                if takeover || returns(Some(&kept.seat)) || is_one(&kept.origin, &client.origin) => {}
            (Role::Driver, driver, kept) => {
                let kept_ms = if driver.is_none() { kept.and_then(|kept| kept.left(at)) } else { None };
                let name = driver.map(|driver| &driver.name).or(kept.map(|kept| &kept.name));
                let name = name.cloned().unwrap_or_default();
                return Err(Refusal::Driven { id: self.id.clone(), name, kept_ms });
            }
        }
        out.emit(EventKind::ClientAttached {
            client_id: id,
            name: client.name.clone(),
            role,
            origin: client.origin.clone(),
        });
        self.had_offers |= role == Role::Driver && !client.offers.is_empty();
        self.clients.push(client);
        if role == Role::Driver {
            self.awaited.clear();
            self.kept = None;
            out.emit(EventKind::DriverChanged { driver: Some(id) });
        }
        if matches!(self.state, State::Hibernated) {
            self.wake(at, out);
        }
        Ok(Reply::Attached { client: id })
    }

    /// Detaches a client whose connection has ended. A client that is not attached is ignored. The seat of a driver with a word
    /// is kept: for a while only its own person gets it, and whoever takes over.
    pub(in crate::core) fn detach(&mut self, at: At, client: EventId, out: &mut Out) {
        let Some(index) = self.clients.iter().position(|attached| attached.id == client) else {
            return;
        };
        let Client { role, seat, name, origin, .. } = self.clients.remove(index);
        out.emit(EventKind::ClientDetached { client_id: client });
        if role == Role::Driver {
            self.kept = seat.map(|seat| Kept { seat, name, origin, since: at.mono });
            out.emit(EventKind::DriverChanged { driver: None });
        }
    }

    /// Detaches a client that leaves, and each that came with its word: after a cut a client may not know its id, and an earlier
    /// connection of it may still seem alive. Its seat is free, also one that is kept. Refuses whoever does not know the word with
    /// which the client came: ids of clients are no secrets.
    pub(in crate::core) fn leave(
        &mut self,
        at: At,
        client: EventId,
        seat: Option<&String>,
        out: &mut Out,
    ) -> Result<Reply, Refusal> {
        let is_other = |attached: &&Client| attached.id == client && attached.seat.is_some();
        if self.clients.iter().find(is_other).is_some_and(|attached| attached.seat.as_ref() != seat) {
            return Err(Refusal::NotDriver(self.id.clone()));
        }
        let leaves =
            |attached: &&Client| attached.id == client || seat.is_some() && attached.seat.as_ref() == seat;
        let leaving: Vec<EventId> = self.clients.iter().filter(leaves).map(|attached| attached.id).collect();
        let drove = self.driver().is_some_and(|driver| leaving.contains(&driver.id));
        let was_kept = self.kept.as_ref().is_some_and(|kept| Some(&kept.seat) == seat);
        leaving.into_iter().for_each(|client| self.detach(at, client, out));
        if drove || was_kept {
            self.kept = None;
        }
        Ok(Reply::Done)
    }

    /// Detaches all clients: their connections ended with their manager.
    pub(in crate::core) fn detach_all(&mut self, at: At, out: &mut Out) {
        while let Some(client) = self.clients.first() {
            self.detach(at, client.id, out);
        }
    }

    /// Refuses a client that does not drive. One that is not attached may do what a driver may while nobody drives, and no seat is
    /// kept for a driver that lost its connection.
    pub(in crate::core) fn drives(&self, at: At, client: EventId) -> Result<(), Refusal> {
        match self.driver() {
            Some(driver) if driver.id == client => Ok(()),
            None if client == NOBODY && self.kept.as_ref().is_none_or(|kept| kept.left(at).is_none()) => {
                Ok(())
            }
            _ => Err(Refusal::NotDriver(self.id.clone())),
        }
    }
}

impl Kept {
    /// Time for which the seat is still kept, in milliseconds; none if it is not. After a boot the clock begins anew, and nothing is
    /// kept from before.
    fn left(&self, at: At) -> Option<u64> {
        let gone = at.mono.checked_sub(self.since)?;
        limits::SEAT_MS.checked_sub(gone).filter(|left| *left > 0)
    }
}

/// Returns true for two clients of one person: both have the same key, or both are the owner at this machine.
fn is_one(one: &Option<ClientOrigin>, other: &Option<ClientOrigin>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.key.is_some() && one.key == other.key,
        (None, Some(_)) | (Some(_), None) => false,
    }
}
