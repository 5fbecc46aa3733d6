//! `/v1/acp`: the [front for editors](crate::acp) over a WebSocket, one JSON-RPC message a text frame
//! (<https://agentclientprotocol.com/rfds/streamable-http-websocket-transport>).
//!
//! The route decides no rights. The front asks the API over connections of its own, as the same peer and with the same
//! `Authorization` as the request that was upgraded.

mod budget;
mod front;
mod handshake;
mod socket;

use std::sync::Arc;

use axum::Extension;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header;
use axum::response::Response;
use protocol::api::{Role, SessionOpts};
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;

pub use self::front::Fronts;
use self::front::Inside;
use self::handshake::Handshake;
use super::App;
use super::caller::Caller;
use super::codes::refuses;
use super::connections::Origin;
use super::input::Query;
use super::peer::Peer;
use super::problem::{Answer, ApiError};
use crate::acp::{Line, Terms, Weights};

/// The number of messages that may wait between the socket and the front.
const BUFFER: usize = 16;
/// The most sessions that one connection may have open.
const SESSIONS: usize = 32;
/// The most requests of one connection that may wait for their answers.
const REQUESTS: usize = 128;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AcpQuery {
    /// Agent of new sessions. Absent: the configuration's default.
    agent: Option<String>,
    /// Most that the client is on a session: it drives where nobody else does, or only views. Absent: it drives.
    role: Option<Role>,
    /// `true`: agents may use the files and terminals that the client offers. Their paths are the client's machine's.
    editor_tools: Option<bool>,
    /// `true`: a new session is the one of its directory.
    workdir_session: Option<bool>,
}

refuses!(AcpErrors: 400 "invalid_websocket", 400 "unexpected_body", 426 "upgrade_required", 426 "websocket_version");

/// Speaks the Agent Client Protocol over a WebSocket.
///
/// Each text frame is one JSON-RPC message; binary frames are ignored. The connection has the rights of this request: every
/// refusal of the API comes as the error of the request that needed more. kennel pings every 15 s and closes a connection that
/// is silent for 45 s. A connection that ends ends no session and no turn.
#[utoipa::path(get, path = "/v1/acp", tag = "sessions", operation_id = "acp",
    params(AcpQuery,
        ("Upgrade" = String, Header, description = "`websocket`."),
        ("Sec-WebSocket-Version" = String, Header, description = "`13`."),
        ("Sec-WebSocket-Key" = String, Header, description = "16 random bytes in base64.")),
    responses((status = 101, description = "The connection is a WebSocket. `Acp-Connection-Id` names it."), AcpErrors))]
pub async fn acp(
    State(app): State<App>,
    Query(query): Query<AcpQuery>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Extension(caller): Extension<Caller>,
    mut request: Request,
) -> Answer<Response> {
    let handshake = Handshake::of(&mut request)?;
    let sender = caller.sender();
    let place = app.fronts.place(&sender)?;
    let part = app.fronts.part(&sender);
    let origin = request.extensions().get::<Origin>().cloned();
    // Checked before: it is `Bearer` and a token.
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.split_once(' ')).map(|(_, token)| token.trim().to_owned());
    let seat = if caller.role == Role::Viewer { Role::Viewer } else { query.role.unwrap_or(Role::Driver) };
    let terms = Terms {
        workdir_session: query.workdir_session.unwrap_or(false),
        tools: query.editor_tools.unwrap_or(false),
        opts: SessionOpts { agent: query.agent, ..SessionOpts::default() },
        seat: Some(seat),
        // Nobody could come back with it: the front ends with its client's connection.
        word: None,
        sessions: SESSIONS,
        requests: REQUESTS,
    };
    let (response, upgrade) = handshake.accept()?;
    let inside = Inside::new(app.inlet.clone(), peer, token.as_deref());
    let (to_front, incoming) = mpsc::channel(BUFFER);
    let (outgoing, from_front) = mpsc::channel(BUFFER);
    let (written, weights) = (app.fronts.written(), Arc::<Weights>::default());
    let line = Line { incoming, outgoing, written: written.clone(), weights: weights.clone() };
    app.fronts.start(inside, terms, line).map_err(ApiError::internal)?;
    let ends = socket::Ends { to_front, from_front, written, weights };
    tokio::spawn(async move {
        let stopped = async { _ = app.stop.requested().await };
        let key_ends = async {
            match &caller.key {
                Some(key) => app.keys.ended(key).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = socket::carry(upgrade, origin, part, ends, stopped) => {}
            // The connection is closed. Each request of it would be refused from now on, too.
            () = key_ends => {}
        }
        drop(place);
    });
    Ok(response)
}
