//! The route of the full-text search.

use axum::response::IntoResponse;
use axum::{Extension, Json as Reply};
use protocol::SessionId;
use protocol::api::{SearchKind, SearchReply, SearchRequest};
use protocol::event::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::caller::Caller;
use super::codes::refuses;
use super::input::Query;
use super::limited::Limited;
use super::problem::{Answer, ApiError};
use super::sessions::NO_STORE;
use crate::core::Refusal;
use crate::error::Error;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchQuery {
    /// Words that one text must all have, in any order and case. `"..."` is a phrase; `wor*` the beginning of a word. At most 1024 bytes and
    /// 32 words.
    q: String,
    /// Only this session.
    session: Option<String>,
    /// Only sessions of the agent with this name.
    agent: Option<String>,
    /// Only texts of this kind.
    kind: Option<SearchKind>,
    /// Only texts that end at this time or later, in RFC 3339.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// The most hits. Absent: 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

refuses!(SearchErrors: 400 "invalid_id", 400 "invalid_query", 404 "no_such_session");

/// Texts of conversations with these words, newest first.
///
/// Searches the titles that sessions have or had, prompts, what agents said, thought and wrote to standard error, and titles, command lines and the first 16 KiB of
/// the output of tool calls. What was said in pieces is one text, up to 64 KiB. A key finds texts of the sessions that it reaches; with
/// `Authorization: Bearer ID:TOKEN` those of that session are found.
///
/// Nothing is indexed until somebody searches. A request waits 2 s at most for the index to come up to the newest event, and searches
/// for 5 s at most: `complete` says whether that was enough, `searched_to` how far it came. kennel goes on with the index after the answer.
#[utoipa::path(get, path = "/v1/search", tag = "sessions", operation_id = "search", params(SearchQuery),
    responses((status = 200, description = "The texts.", body = SearchReply), SearchErrors))]
pub async fn search(
    Limited(app): Limited,
    Extension(caller): Extension<Caller>,
    Query(query): Query<SearchQuery>,
) -> Answer<impl IntoResponse> {
    let asked: Option<SessionId> =
        query.session.as_deref().map(str::parse).transpose().map_err(ApiError::from)?;
    let meant = match &asked {
        // Its name is as good.
        Some(name) => app.manager.named(name).await?.or_else(|| Some(name.clone())),
        None => None,
    };
    let session = match (caller.session, asked) {
        // For a token there is no other session, whatever it is called.
        (Some(own), Some(other)) if meant.as_ref() != Some(&own) => {
            return Err(Error::Refused(Refusal::NoSuchSession(other.to_string())).into());
        }
        (own, _) => own.or(meant),
    };
    let SearchQuery { q: text, agent, kind, since, limit, .. } = query;
    let request = SearchRequest { text, session, agent, kind, since, limit };
    Ok(([NO_STORE], Reply(app.manager.search(&request).await?)))
}
