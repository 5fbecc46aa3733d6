//! Attached clients: a session's events for as long as the client stays, and the right to drive.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream;
use protocol::api::{ClientInfo, Role};
use protocol::wire::Offer;
use protocol::{EventId, SessionId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::caller::Caller;
use super::codes::refuses;
use super::denied::{looks_on, not_for_role};
use super::events::{EventsQuery, Frame, stream_of};
use super::input::{Client, Id, Nothing, Query, single};
use super::limited::Limited;
use super::problem::{Answer, ApiError};
use crate::error::Error;
use crate::session_manager::SessionManager;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AttachQuery {
    /// Role of the client: it drives or views. Absent: it views.
    role: Option<Role>,
    /// `true`: it drives, even if another client does. That client can only read from then on.
    takeover: Option<bool>,
    /// Name of the client, 1 to 100 characters.
    name: Option<String>,
    /// Abilities of the client that the agent may use while the client drives, with commas between: `fs.read`,
    /// `fs.write`, `terminal`, `elicitation`. The event `call.requested` with the client's id asks for it.
    offers: Option<String>,
    /// Event id: the stream begins with the first event after it; 0 is the beginning. Without it, and without
    /// `Last-Event-ID`, the stream begins now.
    #[param(value_type = u64, required = false)]
    after: Option<String>,
}

refuses!(AttachErrors: 400 "invalid_client", 400 "invalid_cursor", 409 "invalid_cursor", 400 "invalid_id", 403 "forbidden", 404 "no_such_session", 409 "driven",
    409 "too_many_clients", 507 "journal_full");

/// Attaches a client for as long as it reads.
///
/// The stream is the session's, as `/v1/sessions/{id}/events` gives it, after one frame `event: attached` without an id,
/// whose data is a `ClientInfo`. At most one client drives. A request that changes the session and carries
/// `Kennel-Client: CLIENT_ID` is refused with `not_driver` unless that client drives. When the connection ends, the client is
/// detached. A hibernated session is woken. A driver that leaves for good says so (`DELETE` on the same path).
#[utoipa::path(get, path = "/v1/sessions/{id}/attach", tag = "sessions", operation_id = "attach",
    params(("id" = SessionId, Path, description = "The session."), AttachQuery,
        ("Last-Event-ID" = u64, Header, description = "Event id: as `after`, and wins over it."),
        ("Kennel-Seat" = String, Header, description = "A word that only this client knows, 16 to 64 letters and digits: a driver \
            that comes back with it drives again. For 30 s after its connection ended, others get its seat by a takeover only, \
            unless they have the same key, or both are the owner at this machine.")),
    responses((status = 200, description = "The events.", body = Frame, content_type = "text/event-stream"), AttachErrors))]
pub async fn attach(
    Limited(app): Limited,
    Id(id): Id,
    Query(query): Query<AttachQuery>,
    headers: HeaderMap,
    Extension(caller): Extension<Caller>,
) -> Answer<Response> {
    let role = query.role.unwrap_or(Role::Viewer);
    if caller.role == Role::Viewer && (role == Role::Driver || query.takeover == Some(true)) {
        return Err(match caller.key {
            Some(_) => not_for_role("viewer", "driver"),
            None => looks_on(),
        });
    }
    let name = query.name.unwrap_or_else(|| "somebody".to_owned());
    let seat = single(&headers, "kennel-seat")
        .map_err(|what| ApiError::bad_request("invalid_client", format!("{what}; you were not attached")))?;
    let seat = seat.map(str::to_owned);
    let offers = offers(query.offers.as_deref().unwrap_or_default())?;
    // Refuse everything that can be refused before the client is attached.
    let events = EventsQuery::after(query.after);
    app.manager.get_session(&id).await?;
    let stream = stream_of(app.clone(), events, &headers, Some(id.clone())).await?;
    let (takeover, called, able) = (query.takeover.unwrap_or(false), name.clone(), offers.clone());
    // In a task of its own: a client that goes meanwhile is attached all the same, and must be detached.
    let attached = tokio::spawn(async move {
        let client = app.manager.attach(&id, &called, role, takeover, &able, seat.as_deref()).await?;
        Ok::<_, Error>(Stay { manager: app.manager.clone(), id, client })
    });
    let stay = attached.await.map_err(ApiError::internal)??;
    let (client, origin) = (stay.client, caller.asker().origin);
    let info = serde_json::to_string(&ClientInfo { client_id: client, name, role, offers, origin })
        .unwrap_or_default();
    let first = stream::once(async move { Ok(format!("event: attached\ndata: {info}\n\n").into()) });
    let (parts, body) = stream.into_parts();
    let rest = body.into_data_stream().map(move |frames| {
        // Detached when the stream is dropped.
        let _ = &stay;
        frames
    });
    Ok(Response::from_parts(parts, Body::from_stream(first.chain(rest))))
}

refuses!(LeaveErrors: 409 "not_driver", 400 "invalid_client", 400 "invalid_id", 403 "forbidden", 404 "no_such_session", 507 "journal_full");

/// Detaches the client of `Kennel-Client`, which leaves, and each client that came with this `Kennel-Seat`.
///
/// Its seat is free at once, also one that is kept. Its stream goes on until it is closed. A client that is not attached is not
/// missed. One that came with `Kennel-Seat` leaves with the same word: nobody else ends its stay. One of the two headers is needed.
#[utoipa::path(delete, path = "/v1/sessions/{id}/attach", tag = "sessions", operation_id = "leave",
    params(("id" = SessionId, Path, description = "The session."),
        ("Kennel-Client" = Option<u64>, Header, description = "The client's id. Not needed with `Kennel-Seat`: after a cut a client may \
            not know it."),
        ("Kennel-Seat" = Option<String>, Header, description = "The word with which the client came, if it came with one.")),
    responses((status = 204, description = "It is detached."), LeaveErrors))]
pub async fn leave(
    Limited(app): Limited,
    Id(id): Id,
    _: Query<Nothing>,
    headers: HeaderMap,
    Client(client): Client,
) -> Answer<StatusCode> {
    let seat = single(&headers, "kennel-seat")
        .map_err(|what| ApiError::bad_request("invalid_client", format!("{what}; nobody was detached")))?;
    app.manager.leave(&id, client, seat).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn offers(listed: &str) -> Answer<Vec<Offer>> {
    let names = listed.split(',').filter(|name| !name.is_empty());
    let known = names.map(|name| {
        let offer = Offer::ALL.into_iter().find(|offer| offer.name() == name);
        offer.ok_or_else(|| {
            let all = Offer::ALL.map(Offer::name).join(", ");
            ApiError::bad_request(
                "invalid_parameter",
                format!("query: `{name}` cannot be offered; you were not attached"),
            )
            .hint(format!("it is one of {all}"))
        })
    });
    known.collect()
}

/// Time between two tries to detach a client while the journal takes nothing.
const AGAIN: Duration = Duration::from_secs(1);

/// A client's stay, for as long as its connection.
struct Stay {
    manager: SessionManager,
    id: SessionId,
    client: EventId,
}

impl Drop for Stay {
    fn drop(&mut self) {
        let (manager, id, client) = (self.manager.clone(), self.id.clone(), self.client);
        // Without a runtime the manager ends, and takes all clients with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                while let Err(error) = manager.detach(&id, client).await {
                    if !matches!(error, Error::Journal(_)) {
                        tracing::debug!(session = %id, client, "not detached: {error}");
                        break;
                    }
                    // The disk is full. A client that is gone must not drive for ever.
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
    }
}
