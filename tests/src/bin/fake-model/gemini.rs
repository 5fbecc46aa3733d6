//! Gemini's `generateContent`: what differs from the other three forms.

use std::io::Result;

use serde_json::{Map, Value, json};

use crate::{Entry, Reply, Send, paced, text};

/// Returns the texts of users and the results of tools in a request, in order.
pub fn conversation(asked: &Value) -> Vec<Entry> {
    let messages =
        asked["contents"].as_array().into_iter().flatten().filter(|output| output["role"] != "model");
    let parts = messages.flat_map(|output| output["parts"].as_array().into_iter().flatten());
    let entry = |part: &Value| match &part["functionResponse"] {
        Value::Object(result) => Entry::Tool(text(&result["response"])),
        _ => Entry::User(text(part)),
    };
    parts.map(entry).collect()
}

/// The tools of a request, in the form of the others.
pub fn tools(asked: &Value) -> Vec<Value> {
    let tools = asked["tools"].as_array().into_iter().flatten();
    let declared = tools.flat_map(|tool| tool["functionDeclarations"].as_array().into_iter().flatten());
    declared
        .map(|tool| {
            let schema = ["parametersJsonSchema", "parameters"].into_iter().find_map(|name| tool.get(name));
            json!({ "name": tool["name"], "parameters": lower(schema.unwrap_or(&Value::Null)) })
        })
        .collect()
}

/// A schema whose types are written as JSON Schema writes them: Gemini also takes `STRING` for `string`.
fn lower(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| match value.as_str().filter(|_| name == "type") {
                Some(kind) => (name.clone(), json!(kind.to_ascii_lowercase())),
                None => (name.clone(), lower(value)),
            };
            fields.iter().map(field).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// An answer that is not streamed.
pub fn answer(reply: &Reply) -> Value {
    match reply {
        Reply::Say(pieces, _) => piece(&json!({ "text": pieces.concat() }), true),
        Reply::Call(name, arguments) => called(name, arguments),
        Reply::Fail => piece(&json!({ "text": "" }), true),
    }
}

/// An answer as a stream.
pub fn stream(send: Send, reply: &Reply) -> Result<()> {
    paced(reply, |output| send(piece(&json!({ "text": output }), false)))?;
    match reply {
        Reply::Call(name, arguments) => send(called(name, arguments)),
        Reply::Say(..) | Reply::Fail => send(piece(&json!({ "text": "" }), true)),
    }
}

fn called(name: &str, arguments: &Value) -> Value {
    piece(&json!({ "functionCall": { "name": name, "args": arguments } }), true)
}

fn piece(part: &Value, last: bool) -> Value {
    let mut candidate = json!({ "index": 0, "content": { "role": "model", "parts": [part] } });
    if last {
        candidate["finishReason"] = json!("STOP");
    }
    let usage = json!({ "promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15 });
    json!({ "candidates": [candidate], "usageMetadata": usage, "modelVersion": "fake" })
}
