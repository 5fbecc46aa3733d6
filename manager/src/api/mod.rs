//! The HTTP face: every function of [`SessionManager`] under `/v1`, on a Unix socket.
//!
//! Routes and their description in OpenAPI come from the same place, the attribute on each handler, so neither
//! can drift from the other. Errors are always a `Problem`, those of the HTTP layer itself included.

mod acp;
mod attach;
mod audit;
mod auth;
mod body;
mod caller;
mod calls;
mod codes;
mod connections;
mod cookie;
mod denied;
mod disk;
mod events;
mod files;
mod forks;
mod front;
mod held;
mod input;
mod keys;
mod last_lines;
mod limited;
mod load;
mod log;
mod log_ins;
mod lookup;
mod metrics;
mod peer;
mod permissions;
mod problem;
mod prompts;
mod rights;
mod schema;
mod search;
mod servers;
mod sessions;
mod settings;
mod stop;
mod subagents;
mod system;
#[cfg(test)]
mod tests;
mod web;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use protocol::SessionId;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::keys::Keys;
use crate::session_manager::SessionManager;
pub use connections::{Inlet, join, serve};
pub(crate) use events::MAX_NEWEST;
pub use front::{Loopback, open};
pub(crate) use input::MAX_WAIT_MS;
pub(crate) use log::MAX_TAIL;
use problem::ApiError;
pub use stop::{Leave, Stop};

/// State that every handler can reach.
#[derive(Clone)]
struct App {
    manager: SessionManager,
    stop: Stop,
    streams: events::Streams,
    keys: Keys,
    inlet: Inlet,
    fronts: acp::Fronts,
    followers: log::Followers,
    web: Loopback,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "kennel",
        description = "Crash-isolated hosting of AI-agent sessions. HTTP/1.1 over a Unix socket: \
            `curl --unix-socket PATH http://kennel/v1/sessions`. A client of the daemon's user is the owner, unless a \
            session has started it: then it has the rights of that session's agent, and in a sandbox none. A request \
            with a session's token (`Authorization: Bearer TOKEN`) has rights on that session only, and as \
            `Bearer ID:TOKEN` on the sub-agents below it too; one with a key (`Bearer kk_...`) has the rights of the key's \
            role on the sessions that the key reaches. Errors are \
            `application/problem+json` with a `code` that does not change between versions; clients go by the code, \
            people by `detail` and `hint`. An error means that nothing was changed, but for `timeout`, `key_ended` and \
            `session_failed` with status 502: there, what was asked stays asked.",
        license(name = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "sessions", description = "Sessions: start, look, stop."),
        (name = "prompts", description = "Prompts: accept, queue, abort, resolve."),
        (name = "permissions", description = "Permission requests of agents."),
        (name = "files", description = "Files of working directories."),
        (name = "events", description = "Events, live and from any point in the past."),
        (name = "sub-agents", description = "Sessions that work for others in the background."),
        (name = "log-ins", description = "Log-ins of agents, finished from afar."),
        (name = "web", description = "The web page: links, log-ins, and its port on loopback."),
        (name = "keys", description = "Keys of devices, and how a device gets one."),
        (name = "manager", description = "The manager itself.")
    ),
    components(schemas(
        protocol::api::Gap, protocol::api::LogEnd, protocol::api::LogGap, protocol::api::LogPiece, protocol::api::Problem,
        protocol::event::Event
    )),
    modifiers(&Token)
)]
struct Description;

/// The token as OpenAPI knows such things.
struct Token;

impl utoipa::Modify for Token {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A session's token, or a key."))
            .build();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("session_token", SecurityScheme::Http(scheme));
        let none = SecurityRequirement::default();
        api.security = Some(vec![none, SecurityRequirement::new("session_token", [""; 0])]);
    }
}

/// All routes and their description.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(metrics::metrics))
        .routes(routes!(system::openapi))
        .routes(routes!(system::info))
        .routes(routes!(system::stop))
        .routes(routes!(disk::usage))
        .routes(routes!(disk::prune))
        .routes(routes!(sessions::list, sessions::create))
        .routes(routes!(sessions::get, sessions::ensure, sessions::edit, sessions::remove))
        .routes(routes!(sessions::stop))
        .routes(routes!(sessions::restart))
        .routes(routes!(sessions::pin))
        .routes(routes!(sessions::unpin))
        .routes(routes!(sessions::wait))
        .routes(routes!(sessions::result))
        .routes(routes!(sessions::token))
        .routes(routes!(log::log))
        .routes(routes!(files::list))
        .routes(routes!(files::content))
        .routes(routes!(files::diff))
        .routes(routes!(sessions::stop_by_pid))
        .routes(routes!(lookup::lookup))
        .routes(routes!(search::search))
        .routes(routes!(load::load))
        .routes(routes!(last_lines::last_lines))
        .routes(routes!(lookup::bootstrap))
        .routes(routes!(prompts::send))
        .routes(routes!(prompts::abort))
        .routes(routes!(prompts::queue, prompts::clear))
        .routes(routes!(prompts::edit, prompts::remove))
        .routes(routes!(prompts::resolve))
        .routes(routes!(attach::attach, attach::leave))
        .routes(routes!(acp::acp))
        .routes(routes!(calls::of_session))
        .routes(routes!(calls::answer))
        .routes(routes!(servers::add))
        .routes(routes!(settings::all))
        .routes(routes!(settings::set))
        .routes(routes!(permissions::all))
        .routes(routes!(permissions::of_session))
        .routes(routes!(permissions::answer))
        .routes(routes!(permissions::agents))
        .routes(routes!(events::all))
        .routes(routes!(events::of_session))
        .routes(routes!(forks::fork))
        .routes(routes!(subagents::start, subagents::list))
        .routes(routes!(log_ins::begin))
        .routes(routes!(log_ins::output, log_ins::end))
        .routes(routes!(log_ins::input))
        .routes(routes!(log_ins::visit))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::rotate))
        .routes(routes!(keys::begin, keys::end))
        .routes(routes!(keys::pairing))
        .routes(routes!(keys::pair))
        .routes(routes!(web::open, web::close))
        .routes(routes!(web::log_in))
        .routes(routes!(web::log_out))
        .routes(routes!(web::me))
}

/// The API's description in OpenAPI 3.1, as `manager/openapi.json` has it.
pub fn openapi_json() -> String {
    // A description that cannot be written fails the test that compares it, long before anybody asks for it.
    let Ok(mut description) = serde_json::to_value(routes().into_openapi()) else { return String::new() };
    schema::bound(&mut description);
    serde_json::to_string_pretty(&description).map(|json| json + "\n").unwrap_or_default()
}

/// Makes the API of a manager. The API answers only peers that [`serve`] has examined.
/// `inlet` is the way by which parts of it ask it for their clients.
/// `keys` let clients in that are not the owner at this machine, `web` is the page's port.
pub fn router(manager: SessionManager, stop: Stop, keys: Keys, inlet: Inlet, web: Loopback) -> Router {
    let (streams, fronts, followers) = Default::default();
    let app = App { manager, stop, streams, keys, inlet, fronts, followers, web };
    let (router, _) = routes().split_for_parts();
    router
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        // After the routes are matched and before they run, so that it sees the parameters that they see.
        .layer(axum::middleware::from_fn_with_state(app.clone(), auth::check))
        .layer(axum::middleware::from_fn_with_state(app.clone(), audit::record))
        .with_state(app)
}

async fn no_such_route(method: Method, uri: Uri) -> ApiError {
    let path = uri.path();
    // An id with a slash falls apart into segments, and `..` does not become an id by having others after it.
    if let Some(rest) = path.strip_prefix("/v1/sessions/") {
        let first = rest.split('/').next().unwrap_or_default();
        if let Err(error) = first.parse::<SessionId>() {
            return error.into();
        }
    }
    let path: String = path.chars().take(200).collect();
    ApiError::new(StatusCode::NOT_FOUND, "no_such_route", format!("there is no route `{method} {path}`"))
        .hint("`GET /v1/openapi.json` lists all routes; session ids have no `/`")
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    let detail = format!("`{path}` has no method `{method}`");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        .hint("the header `Allow` lists the methods it has")
}
