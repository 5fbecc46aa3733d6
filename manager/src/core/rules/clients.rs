//! Attached clients: one driver at most, and any number of viewers.

use protocol::EventId;
use protocol::api::Role;
use protocol::event::EventKind;

use crate::core::at::At;
use crate::core::input::Reply;
use crate::core::limits;
use crate::core::model::session::{Client, Session};
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
        let driver = self.clients.iter_mut().find(|client| client.role == Role::Driver);
        match (role, driver) {
            (Role::Driver, Some(driver)) if !takeover => {
                let name = driver.name.clone();
                return Err(Refusal::Driven { id: self.id.clone(), name });
            }
            (Role::Driver, Some(driver)) => driver.role = Role::Viewer,
            (Role::Driver, None) | (Role::Viewer, _) => {}
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
            out.emit(EventKind::DriverChanged { driver: Some(id) });
        }
        if matches!(self.state, State::Hibernated) {
            self.wake(at, out);
        }
        Ok(Reply::Attached { client: id })
    }

    /// Detaches a client. A client that is not attached is ignored.
    pub(in crate::core) fn detach(&mut self, client: EventId, out: &mut Out) {
        let Some(index) = self.clients.iter().position(|attached| attached.id == client) else {
            return;
        };
        let Client { role, .. } = self.clients.remove(index);
        out.emit(EventKind::ClientDetached { client_id: client });
        if role == Role::Driver {
            out.emit(EventKind::DriverChanged { driver: None });
        }
    }

    /// Detaches all clients: their connections ended with their manager.
    pub(in crate::core) fn detach_all(&mut self, out: &mut Out) {
        while let Some(client) = self.clients.first() {
            self.detach(client.id, out);
        }
    }

    /// Refuses a client that does not drive.
    pub(in crate::core) fn drives(&self, client: EventId) -> Result<(), Refusal> {
        match self.driver() {
            Some(driver) if driver.id == client => Ok(()),
            _ => Err(Refusal::NotDriver(self.id.clone())),
        }
    }
}
