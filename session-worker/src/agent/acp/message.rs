//! JSON-RPC messages to the agent, the other actions that a conversation asks for, and helpers that read texts from the
//! agent's messages.

use protocol::bounds;
use protocol::wire::Report;
use serde_json::{Value, json};

/// The code of a message that is not JSON (JSON-RPC).
pub const PARSE_ERROR: i64 = -32700;
/// The code of a message that is no request (JSON-RPC).
pub const INVALID_REQUEST: i64 = -32600;
/// The code of a method that the worker does not have (JSON-RPC).
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The code of parameters that the worker does not understand (JSON-RPC).
pub const INVALID_PARAMS: i64 = -32602;
/// The code of a request that failed (JSON-RPC).
pub const INTERNAL: i64 = -32603;
/// The code of a missing file (schema: `ErrorCode::ResourceNotFound`).
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// The code by which the agent asks for a log-in (schema: `ErrorCode::AuthRequired`).
pub const AUTH_REQUIRED: i64 = -32000;

/// An action that a conversation asks for.
#[derive(Debug, PartialEq)]
pub enum Do {
    /// Send the agent this message.
    Send(Value),
    /// Send the manager this report.
    Report(Report),
    /// Carry out a request of the agent, and answer it.
    Call {
        /// The agent's id of the request.
        id: Value,
        /// Method of the request.
        method: String,
        /// Parameters of the request.
        params: Value,
    },
    /// Write this into the session's log.
    Log(String),
    /// End the agent, and send the manager this report.
    Give(Report),
}

/// Returns whether a value is an id of JSON-RPC within its limit.
pub fn is_id(id: &Value) -> bool {
    match id {
        Value::String(id) => bounds::fits(id, bounds::ID),
        Value::Number(_) => true,
        _ => false,
    }
}

pub fn notification(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

/// Makes the answer to a request of the agent.
pub fn result(id: Value, result: Value) -> Do {
    Do::Send(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

/// Makes the refusal of a request of the agent.
pub fn error(id: Value, code: i64, message: &str) -> Do {
    error_about(id, code, message, Value::Null)
}

/// Makes a refusal with `data` for programs.
pub fn error_about(id: Value, code: i64, message: &str, data: Value) -> Do {
    let mut error = json!({ "code": code, "message": message });
    if !data.is_null() {
        error["data"] = data;
    }
    Do::Send(json!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

pub fn cancelled(id: Value) -> Do {
    result(id, json!({ "outcome": { "outcome": "cancelled" } }))
}

pub fn notice(text: String) -> Do {
    Do::Report(Report::Notice { text })
}

/// Ends the agent, with this message for a person.
pub fn died(message: String) -> Do {
    Do::Give(Report::AgentDied { message })
}

pub fn to_value<T: serde::Serialize>(value: &T) -> Value {
    // Types of the schema always can be.
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// Returns the text of a field.
pub fn text_at(value: &Value, name: &str) -> Option<String> {
    value[name].as_str().map(str::to_owned)
}

/// Returns an error in the agent's words.
pub fn words(error: &Value) -> String {
    let message = error["message"].as_str().unwrap_or("no reason given");
    match &error["data"] {
        Value::Null => beginning(message),
        Value::String(data) => format!("{}: {}", beginning(message), beginning(data)),
        data => format!("{}: {}", beginning(message), beginning(&data.to_string())),
    }
}

/// Returns the beginning of a text from outside, on one line and without control characters.
pub fn beginning(text: &str) -> String {
    const CHARS: usize = 300;
    let mut shown: String = text.chars().take(CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(CHARS).is_some() {
        shown.push('…');
    }
    shown
}
