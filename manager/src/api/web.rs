//! The web page: links that log a browser in, the log-in, and the page's port on loopback.

use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json as Reply};
use protocol::api::{KeyInfo, PairedKey, WebCaller, WebLink, WebLogIn, WebLoggedIn, WebRequest};
use protocol::event::Timestamp;

use super::App;
use super::body::{Json, NoBody};
use super::caller::Caller;
use super::codes::{WITH_BODY, refuses};
use super::cookie::Gate;
use super::denied::bad_key;
use super::front::Unavailable;
use super::input::{Nothing, Query};
use super::limited::Limited;
use super::peer::Peer;
use super::problem::{Answer, ApiError};
use super::sessions::NO_STORE;
use crate::keys::{Grant, described, halves, hash_of_key, hash_of_ticket, new_key, new_ticket};
use crate::system::blocking;
use crate::system::clock::wall_ms;
use crate::web_files;

/// The longest ticket that is looked at, in bytes.
pub const TICKET: usize = 100;
/// Time for which a browser's key is good, unless its link says another: 30 days, in milliseconds.
const KEY_MS: u64 = 30 * 24 * 3_600 * 1_000;

refuses!(OpenErrors: 400 "invalid_key", 403 "key_outlasts", 409 "port_unavailable", 409 "too_many_keys", 507 "port_unwritten"; + WITH_BODY);

/// Makes a link that logs one browser in, and opens the page's port on loopback.
///
/// The link is `ORIGIN/#TICKET`. The ticket is good once, for five minutes, and lives in the daemon's memory. The browser
/// gets a key with the rights that the request names. The port is plain HTTP on loopback; its address stays the same until
/// it is closed, also with the next daemon.
#[utoipa::path(post, path = "/v1/web", tag = "web", operation_id = "open_web", request_body = WebRequest,
    responses((status = 201, description = "The parts of the link.", body = WebLink), OpenErrors))]
pub async fn open(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    _: Query<Nothing>,
    Json(request): Json<WebRequest>,
) -> Answer<impl IntoResponse> {
    let WebRequest { name, role, sessions, expires_at, remote } = request;
    let maker = caller.key.as_deref();
    let usual = || {
        let usual = wall_ms().saturating_add(KEY_MS);
        maker.and_then(|maker| maker.expires_at).map_or(usual, |end| end.min(usual))
    };
    let ends_at = expires_at.map_or_else(usual, |at| at.0);
    let grant = Grant { name, role, sessions, expires_at: Some(ends_at), browser: true };
    let what = described(grant.role, &grant.sessions);
    let ticket = new_ticket().map_err(ApiError::internal)?;
    // Before the port is opened: whoever may not have the key opens none.
    let until = app.keys.offer(grant, maker, hash_of_ticket(&ticket)).await?;
    let origin = match remote {
        true => None,
        false => Some(app.web.open().await?),
    };
    tracing::info!("a link to the page was made{}: {what}", caller.said());
    let (expires_at, key_expires_at) = (Timestamp(until), Timestamp(ends_at));
    Ok((StatusCode::CREATED, [NO_STORE], Reply(WebLink { origin, ticket, expires_at, key_expires_at })))
}

refuses!(CloseErrors: 507 "port_unwritten");

/// Closes the page's port on loopback, and forgets its address.
///
/// Streams and requests of browsers there end within two seconds. Their keys stay until they expire or are revoked.
#[utoipa::path(delete, path = "/v1/web", tag = "web", operation_id = "close_web",
    responses((status = 204, description = "No port on loopback is open."), CloseErrors))]
pub async fn close(Limited(app): Limited, _: Query<Nothing>, _: NoBody) -> Answer<StatusCode> {
    app.web.close().await?;
    Ok(StatusCode::NO_CONTENT)
}

refuses!(LogInErrors: 401 "bad_ticket", 409 "no_page", 409 "too_many_keys", 507 "keys_unwritten"; + WITH_BODY);

/// Logs a browser in, by the ticket of a link or by a key.
///
/// The answer's cookie is one half of the key, and `proof` the other one: neither says anything about the key by itself. The
/// page sends `proof` as `Kennel-Page` with each request. Only a port has log-ins, not the daemon's socket.
#[utoipa::path(post, path = "/v1/web/login", tag = "web", operation_id = "web_login", request_body = WebLogIn,
    responses((status = 200, description = "The browser is logged in.", body = WebLoggedIn,
        headers(("Set-Cookie" = String, description = "Half of the key, for no script and no other site."))), LogInErrors))]
pub async fn log_in(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    _: Query<Nothing>,
    Json(request): Json<WebLogIn>,
) -> Answer<impl IntoResponse> {
    let gate = gate(&peer)?;
    let from = caller.address.map_or_else(|| "socket".to_owned(), |address| address.to_string());
    let (key, info) = match request {
        WebLogIn { ticket: Some(ticket), key: None } if ticket.is_empty() || ticket.len() > TICKET => {
            let detail = format!("`ticket` has 1 to {TICKET} characters; nobody was logged in");
            return Err(ApiError::bad_request("invalid_body", detail));
        }
        WebLogIn { ticket: Some(ticket), key: None } => by_ticket(&app, &ticket, &headers, from).await?,
        WebLogIn { ticket: None, key: Some(key) } => by_key(&app, key, &from)?,
        WebLogIn { .. } => {
            let detail = "a log-in has either `ticket` or `key`; nobody was logged in";
            return Err(ApiError::bad_request("invalid_body", detail));
        }
    };
    let halves = halves(&key).map_err(ApiError::internal)?.ok_or_else(bad_key)?;
    let [cookie, proof] = halves;
    let left = info.expires_at.map(|at| at.0.saturating_sub(wall_ms()));
    tracing::info!("{} is logged in to the page", info.id);
    let cookie = [(header::SET_COOKIE, gate.set(&cookie, left))];
    Ok((cookie, [NO_STORE], Reply(WebLoggedIn { proof, key: paired(info) })))
}

/// A new key for the browser that has this ticket.
async fn by_ticket(app: &App, ticket: &str, headers: &HeaderMap, from: String) -> Answer<(String, KeyInfo)> {
    let key = new_key().map_err(ApiError::internal)?;
    let hash = hash_of_key(&key).ok_or_else(|| ApiError::internal("a new key is none"))?;
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let (keys, shown, name) = (app.keys.clone(), hash_of_ticket(ticket), browser(agent));
    // A task of its own: a browser that goes meanwhile leaves nothing half done.
    let made = tokio::spawn(async move { keys.log_in(&shown, &name, hash, &from).await });
    let info = made.await.map_err(ApiError::internal)??;
    tracing::info!("{} was made for a browser: {}", info.id, described(info.role, &info.sessions));
    let (directory, ticket) = (app.manager.state_dir().to_owned(), ticket.to_owned());
    // The file that led a browser to this link has done its work; files of other links have not. The next call removes one that stays.
    blocking::run(move || _ = web_files::remove_redirect(&directory, &ticket)).await;
    Ok((key, info))
}

/// The key that a person has typed.
fn by_key(app: &App, key: String, from: &str) -> Answer<(String, KeyInfo)> {
    let found = match hash_of_key(&key) {
        Some(hash) => app.keys.find(&hash)?,
        None => None,
    };
    let found = found.filter(|key| !key.has_expired(wall_ms())).ok_or_else(bad_key)?;
    app.keys.used(found.id, from);
    Ok((key, app.keys.info(&found)))
}

refuses!(LogOutErrors: 409 "no_page", 507 "keys_unwritten");

/// Logs a browser out.
///
/// The cookie ends. A key that a link has made for the browser is revoked; a key that a person has typed stays.
#[utoipa::path(post, path = "/v1/web/logout", tag = "web", operation_id = "web_logout",
    responses((status = 204, description = "The browser is logged out.",
        headers(("Set-Cookie" = String, description = "No cookie any more."))), LogOutErrors))]
pub async fn log_out(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    _: Query<Nothing>,
    _: NoBody,
) -> Answer<impl IntoResponse> {
    let gate = gate(&peer)?;
    if let Some(key) = caller.key.filter(|key| key.browser) {
        let (keys, id) = (app.keys.clone(), key.id);
        let revoked = tokio::spawn(async move { keys.revoke(id).await });
        revoked.await.map_err(ApiError::internal)??;
        tracing::info!("{id} was revoked: its browser has logged out");
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, gate.clear())]))
}

refuses!(MeErrors:);

/// The caller, as the page shows it.
#[utoipa::path(get, path = "/v1/web/me", tag = "web", operation_id = "web_me",
    responses((status = 200, description = "The caller's key.", body = WebCaller), MeErrors))]
pub async fn me(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    _: Query<Nothing>,
) -> Answer<impl IntoResponse> {
    let key = caller.key.map(|key| paired(app.keys.info(&key)));
    Ok(([NO_STORE], Reply(WebCaller { key })))
}

/// The port by which a browser has come.
fn gate(peer: &Peer) -> Answer<Gate> {
    let none = || {
        let detail = "the daemon's socket has no page and no log-ins; nothing was changed";
        ApiError::new(StatusCode::CONFLICT, "no_page", detail)
            .hint("`kennel web` opens the page; on the socket no log-in is needed")
    };
    peer.gate().ok_or_else(none)
}

fn paired(info: KeyInfo) -> PairedKey {
    let KeyInfo { id, name, role, sessions, expires_at, .. } = info;
    PairedKey { id, name, role, sessions, expires_at }
}

/// A name for the key of a browser that calls itself so. Nothing of it is the browser's own text.
fn browser(agent: &str) -> String {
    let find = |words: &[(&str, &'static str)]| {
        words.iter().find(|(word, _)| agent.contains(word)).map(|(_, name)| *name)
    };
    // Many call themselves like others as well: the rarer words stand first.
    let program = find(&[
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("FxiOS/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("CriOS/", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = find(&[
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("Macintosh", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (program, system) {
        (Some(program), Some(system)) => format!("browser: {program} on {system}"),
        (Some(name), None) | (None, Some(name)) => format!("browser: {name}"),
        (None, None) => "browser".to_owned(),
    }
}

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> Self {
        match error {
            Unavailable::Address(why) => {
                let detail = format!("the page cannot be served: {why}; no link was made");
                Self::new(StatusCode::CONFLICT, "port_unavailable", detail).hint(
                    "end that program (`ss -ltnp` shows it), or have another address: `kennel web --stop`, then `kennel web`; tabs that are \
                     open lose their log-in by that",
                )
            }
            Unavailable::File(error) => {
                let detail = format!(
                    "the page's address is in the file `web` of the state directory, which failed: {error}; the port was left as it is"
                );
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "port_unwritten", detail)
                    .hint("make room on the disk, or remove the file; then ask again")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_has_a_name_and_none_of_its_own_words() {
        for (agent, name) in [
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36",
                "browser: Chrome on Android",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
                "browser: Firefox on Linux",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Safari/604.1",
                "browser: Safari on iPhone",
            ),
            ("curl/8.0", "browser"),
            ("\u{1b}[31mevil", "browser"),
            ("", "browser"),
        ] {
            assert_eq!(browser(agent), name);
        }
    }
}
