//! Texts as the updates that an editor shows.

use serde_json::{Value, json};

pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// A piece of what the agent says.
pub fn message(text: &str) -> Value {
    chunk("agent_message_chunk", text)
}

/// What kennel says, told from what the agent says by being quoted.
pub fn quoted(text: &str) -> Value {
    message(&format!("\n\n> kennel: {}\n\n", one_line(text)))
}

/// What the user said.
pub fn user(text: &str) -> Value {
    chunk("user_message_chunk", text)
}

fn chunk(kind: &str, text: &str) -> Value {
    json!({ "sessionUpdate": kind, "content": { "type": "text", "text": text } })
}
