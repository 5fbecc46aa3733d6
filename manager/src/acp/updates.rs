//! Texts as the updates that an editor shows.

use serde_json::{Value, json};

pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// Returns the update for a piece of the agent's text.
pub fn message(text: &str) -> Value {
    chunk("agent_message_chunk", text)
}

/// Returns the update for a note of kennel's. Quoting sets it apart from the agent's text.
pub fn quoted(text: &str) -> Value {
    message(&format!("\n\n> kennel: {}\n\n", one_line(text)))
}

/// Returns the update for the user's text.
pub fn user(text: &str) -> Value {
    chunk("user_message_chunk", text)
}

fn chunk(kind: &str, text: &str) -> Value {
    json!({ "sessionUpdate": kind, "content": { "type": "text", "text": text } })
}
