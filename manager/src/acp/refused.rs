//! Reads an editor's requests, and refuses the ones that kennel cannot serve.

use agent_client_protocol::v1::{Responder, schema};
use agent_client_protocol::{Error, ErrorCode};
use protocol::SessionId;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::acp::reach::Failure;
use crate::plain;

/// Why an editor does not get what it asks for.
pub struct Refused {
    pub(super) code: ErrorCode,
    pub(super) why: String,
    /// kennel's name of the problem.
    pub(super) problem: Option<String>,
}

impl Refused {
    pub(super) fn new(code: ErrorCode, why: String) -> Self {
        Self { code, why, problem: None }
    }

    pub(super) fn internal(why: String) -> Self {
        Self::new(ErrorCode::INTERNAL_ERROR, why)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let why = failure.text();
        let Failure(Some(problem)) = failure else {
            return Self::internal(why);
        };
        let code = match (problem.status, problem.code.as_str()) {
            (_, "no_such_session") => ErrorCode::RESOURCE_NOT_FOUND,
            (400 | 413, _) => ErrorCode::INVALID_PARAMS,
            _ => ErrorCode::INTERNAL_ERROR,
        };
        Self { code, why, problem: Some(problem.code) }
    }
}

/// Reads the parameters of `session/set_config_option`: session, option and value.
pub(super) fn setting(params: &Value) -> Result<(schema::SessionId, &str, String), Refused> {
    let value = match &params["value"] {
        Value::String(value) => Some(value.clone()),
        Value::Bool(on) => Some(on.to_string()),
        _ => None,
    };
    match (&params["sessionId"], &params["configId"], value) {
        (Value::String(session), Value::String(option), Some(value)) => {
            Ok((schema::SessionId::new(session.clone()), option, value))
        }
        _ => {
            let what = "`sessionId` and `configId` are texts, `value` is a text, true or false";
            Err(Refused::new(ErrorCode::INVALID_PARAMS, what.to_owned()))
        }
    }
}

/// An editor that has gone needs no answer.
pub(super) fn respond(responder: Responder, result: Result<Value, Refused>) {
    let _ = match result {
        Ok(result) => responder.respond(result),
        Err(refused) => {
            let data = refused.problem.map(|problem| json!({ "code": problem }));
            responder.respond_with_error(Error::new(refused.code, refused.why).data(data))
        }
    };
}

pub(super) fn parse<T: DeserializeOwned>(params: Value) -> Result<T, Refused> {
    serde_json::from_value(params)
        .map_err(|error| Refused::new(ErrorCode::INVALID_PARAMS, plain::said(&error.to_string())))
}

pub(super) fn id(asked: &schema::SessionId) -> Result<SessionId, Refused> {
    asked.0.parse().map_err(|_| {
        let why = format!("there is no session `{}`", asked.0);
        Refused {
            problem: Some("no_such_session".to_owned()),
            ..Refused::new(ErrorCode::RESOURCE_NOT_FOUND, why)
        }
    })
}

/// Returns the SDK's message, and after it the text in the error's data.
pub(super) fn message(error: &Error) -> String {
    let more = error.data.as_ref().map(|data| format!(" ({data})")).unwrap_or_default();
    format!("{}{more}", error.message)
}
