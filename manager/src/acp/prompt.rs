//! The system prompt that an editor gives with a session: as in ACP's schema (`systemPrompt`), or as older
//! editors give it (`_meta.systemPrompt`).

use agent_client_protocol::ErrorCode;
use serde_json::Value;

use super::refused::Refused;

/// The longest, in bytes: it becomes a variable in the agent's environment.
const LONGEST: usize = 32 * 1024;

/// A variable of the agent's environment, by which the worker knows of the prompt.
pub type Variable = (String, String);

/// Reads the system prompt from an editor's parameters.
pub fn of(params: &Value) -> Result<Option<Variable>, Refused> {
    let (beside, instead) = ("KENNEL_SYSTEM_PROMPT", "KENNEL_SYSTEM_PROMPT_INSTEAD");
    let (plain, old) = (&params["systemPrompt"], &params["_meta"]["systemPrompt"]);
    let (name, text) = match (plain["mode"].as_str(), old) {
        (Some("append"), _) => (beside, content(plain)?),
        (Some("override"), _) => (instead, content(plain)?),
        (Some(_), _) => return Err(wrong("`systemPrompt.mode` is `append` or `override`")),
        (None, _) if !plain.is_null() => return Err(wrong("`systemPrompt` has a `mode` and a `content`")),
        (None, Value::String(text)) => (instead, text.clone()),
        (None, Value::Object(old)) => match old.get("append").and_then(Value::as_str) {
            Some(text) => (beside, text.to_owned()),
            None => return Ok(None),
        },
        (None, _) => return Ok(None),
    };
    if text.len() > LONGEST || text.contains('\0') {
        return Err(wrong(&format!("a system prompt has at most {LONGEST} bytes, and no NUL")));
    }
    Ok((!text.trim().is_empty()).then(|| (name.to_owned(), text)))
}

fn content(prompt: &Value) -> Result<String, Refused> {
    let blocks = prompt["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = blocks.iter().map(|block| block["text"].as_str().filter(|_| block["type"] == "text"));
    let texts: Option<Vec<&str>> = texts.collect();
    texts.map(|texts| texts.join("\n")).ok_or_else(|| wrong("a system prompt is made of texts"))
}

fn wrong(what: &str) -> Refused {
    Refused::new(ErrorCode::INVALID_PARAMS, format!("{what}; no session was made"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_system_prompt_is_understood_in_each_form_that_editors_use() {
        let is = |params: Value| of(&params).map_err(|refused| refused.why);
        let beside = |text: &str| Ok(Some(("KENNEL_SYSTEM_PROMPT".to_owned(), text.to_owned())));
        let instead = |text: &str| Ok(Some(("KENNEL_SYSTEM_PROMPT_INSTEAD".to_owned(), text.to_owned())));
        let meta = |prompt: Value| json!({ "cwd": "/", "_meta": { "systemPrompt": prompt } });
        assert_eq!(is(json!({ "cwd": "/" })), Ok(None));
        assert_eq!(is(meta(json!({ "append": "be brief" }))), beside("be brief"));
        assert_eq!(is(meta(json!("be a poet"))), instead("be a poet"));
        assert_eq!(is(meta(json!(" "))), Ok(None));
        let plain = |mode: &str| json!({ "systemPrompt": { "mode": mode, "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] } });
        assert_eq!(is(plain("append")), beside("a\nb"));
        assert_eq!(is(plain("override")), instead("a\nb"));
        assert!(is(plain("whisper")).is_err() && is(json!({ "systemPrompt": "x" })).is_err());
        assert!(
            is(json!({ "systemPrompt": { "mode": "append", "content": [{ "type": "image" }] } })).is_err()
        );
        assert!(is(meta(json!("x".repeat(LONGEST + 1)))).is_err());
    }
}
