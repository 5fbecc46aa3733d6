//! Clients: who is attached to a session, and what agents ask of them.

use std::collections::BTreeSet;

use protocol::api::*;
use protocol::event::EventKind;
use protocol::wire::{CallAnswer, Offer};
use protocol::{CallId, EventId, PermissionId, SessionId};

use super::SessionManager;
use crate::core::{Ask, Command, Input, NOBODY, Reply};
use crate::error::Error;

impl SessionManager {
    /// Acts on behalf of an attached client: refuses every change of a session that the client does not drive.
    pub fn on_behalf_of(&self, client: Option<EventId>) -> Self {
        Self { shared: self.shared.clone(), client, asker: self.asker.clone() }
    }

    /// Attaches a client and gives its id. It stays until it is detached, or until the manager ends. With a `seat`, a word that only
    /// this client knows, it drives again when it comes back with the same word after its connection was lost; for 30 s only its own
    /// person gets the seat (the same key, or the owner at this machine), and whoever takes over.
    ///
    /// # Errors
    /// `driven` if it wants to drive, another does, and it does not take over; `too_many_clients`; `invalid_client`
    /// for a name that is empty, longer than 100 characters, or has control characters, and for a seat that has not 16 to 64 letters
    /// and digits.
    pub async fn attach(
        &self,
        id: &SessionId,
        name: &str,
        role: Role,
        takeover: bool,
        offers: &[Offer],
        seat: Option<&str>,
    ) -> Result<EventId, Error> {
        if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
            let what = "`name`: a client's name has 1 to 100 characters, none of them control characters; you were not attached";
            return Err(Error::invalid("invalid_client", what));
        }
        check_seat(seat, "you were not attached")?;
        let offers: BTreeSet<Offer> = offers.iter().copied().collect();
        let offers = offers.into_iter().collect();
        let origin = self.asker.origin.clone();
        let seat = seat.map(str::to_owned);
        let attach = Command::Attach { name: name.to_owned(), role, takeover, offers, origin, seat };
        match self.ask(Ask::One(id.clone(), Input::Command(attach))).await? {
            Reply::Attached { client } => Ok(client),
            _ => Err(Error::Ended),
        }
    }

    /// Detaches a client whose connection has ended. One that is not attached is not missed.
    pub async fn detach(&self, id: &SessionId, client: EventId) -> Result<(), Error> {
        self.ask(Ask::One(id.clone(), Input::Command(Command::Detach(client)))).await.map(drop)
    }

    /// Detaches a client that leaves: its seat is free at once, also one that is kept. `client` is its id; without one, each client
    /// leaves that came with the word `seat`.
    ///
    /// # Errors
    /// `not_driver` if the client came with another word: somebody else asks in its name. `invalid_client` with neither an id nor a
    /// word, and for a word that has not 16 to 64 letters and digits.
    pub async fn leave(
        &self,
        id: &SessionId,
        client: Option<EventId>,
        seat: Option<&str>,
    ) -> Result<(), Error> {
        check_seat(seat, "nobody was detached")?;
        if client.is_none() && seat.is_none() {
            let what = "`Kennel-Client` and `Kennel-Seat` are missing; nobody was detached";
            return Err(Error::invalid("invalid_client", what));
        }
        let leave = Command::Leave { client: client.unwrap_or(NOBODY), seat: seat.map(str::to_owned) };
        self.ask(Ask::One(id.clone(), Input::Command(leave))).await.map(drop)
    }

    /// Answers what the agent wants done by the client on whose behalf this manager is, which must drive. The first
    /// answer counts.
    pub async fn answer_call(&self, id: &SessionId, call: CallId, answer: CallAnswer) -> Result<(), Error> {
        self.command(id, Command::AnswerCall(call, answer)).await.map(drop)
    }

    /// Calls of a session that wait for an answer, oldest first.
    pub async fn calls(&self, id: &SessionId) -> Result<Vec<CallInfo>, Error> {
        let open = self.with_session(id, |session, _| session.calls()).await?;
        let mut all = Vec::new();
        for (call, client_id) in open {
            let CallId(event) = call;
            let mut events =
                self.subscribe(Some(event.saturating_sub(1)), Some(id.clone())).of_what_is_left();
            let record = events.ready().await?.and_then(|records| records.into_iter().next());
            let Some(record) = record else { continue };
            let event = record.event()?;
            let EventKind::CallRequested { call_id, prompt_id, method, payload, .. } = event.kind else {
                continue;
            };
            let (session_id, asked_at) = (id.clone(), event.at);
            all.push(CallInfo { call_id, session_id, prompt_id, client_id, method, payload, asked_at });
        }
        Ok(all)
    }

    /// Permissions that wait for an answer, in one session or in all, oldest first.
    pub async fn permissions(&self, id: Option<&SessionId>) -> Result<Vec<PermissionInfo>, Error> {
        if let Some(id) = id {
            return self.with_session(id, |session, _| session.permissions()).await;
        }
        let reach = self.reach();
        let all = self.read(move |fleet, _| {
            let reached = fleet.sessions().filter(|session| reach(fleet, session));
            reached.flat_map(|session| session.permissions()).collect()
        });
        let mut all: Vec<PermissionInfo> = all.await?;
        all.sort_by_key(|permission| permission.permission_id);
        Ok(all)
    }

    /// Answers a permission. The first answer counts.
    pub async fn answer_permission(
        &self,
        id: &SessionId,
        permission: PermissionId,
        answer: PermissionAnswer,
    ) -> Result<(), Error> {
        self.command(id, Command::Permit(permission, answer)).await.map(drop)
    }
}

/// Refuses a word of a seat that is none. `unchanged`: what was not done.
fn check_seat(seat: Option<&str>, unchanged: &str) -> Result<(), Error> {
    let is_seat =
        |seat: &str| (16..=64).contains(&seat.len()) && seat.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match seat.is_none_or(is_seat) {
        true => Ok(()),
        false => {
            let what = format!("`Kennel-Seat` has 16 to 64 letters and digits; {unchanged}");
            Err(Error::invalid("invalid_client", what))
        }
    }
}
