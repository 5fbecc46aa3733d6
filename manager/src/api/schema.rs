//! Bounds, lengths and patterns of values in the API's description, beside their types.
//!
//! utoipa's attributes accept literals only. So this file puts the bounds into the finished description, from the
//! constants that the code enforces. The test below checks each of them against the code.

use protocol::bounds::{LOGIN_INPUT, SEARCH};
use protocol::event::EventKind;
use serde_json::{Value, json};

use axum::http::Method;

use super::input::{MAX_NUMBER, MAX_WAIT_MS};
use super::rights::is_drivers;
use super::web::TICKET;
use crate::attachments::MAX_ATTACHMENTS;
use crate::config::{bounds, mcp};
use crate::core::limits::LABELS;
use crate::core::options::NUMBERS;
use crate::keys::{IDS, NAME};

/// No control characters (Unicode's category Cc).
const PLAIN: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
/// No NUL.
const NO_NUL: &str = r"^[^\u0000]*$";
const ABSOLUTE: &str = r"^/[^\u0000]*$";
const SESSION_ID: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";
/// Something that is no white space (Unicode's property `White_Space`), and no NUL.
const PROMPT: &str = concat!(
    r"^[^\u0000]*",
    r"[^\u0000\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]",
    r"[^\u0000]*$"
);
/// Neither control characters nor white space, and no `-` at the beginning.
const MODEL: &str = concat!(
    r"^[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000-]",
    r"[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$"
);
const ENV_NAME: &str = "^[A-Za-z_][A-Za-z0-9_]*$";
const HEADER_NAME: &str = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";
const KEY: &str = "^[!-~]{1,255}$";
const OFFERS: &str =
    r"^((fs\.read|fs\.write|terminal|elicitation)?,)*(fs\.read|fs\.write|terminal|elicitation)?$";
const BASE64: &str =
    concat!("^([A-Za-z0-9+/]{4})*", "([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$");
/// 32 bytes in url-safe base64 after the prefix.
const DEVICE_KEY: &str = "^kk_[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$";
/// 16 bytes in base64.
const WEBSOCKET_KEY: &str = "^[A-Za-z0-9+/]{21}[AQgw]==$";
/// An address of a port of the server's own.
const LOOPBACK: &str = concat!(
    r"^http://(localhost|127\.0\.0\.1|\[::1\]):",
    r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])([/?][!-~]*)?$"
);
/// Texts of a name's letters that are ids: a generated id, or the number of one.
const RESERVED: &str = "^([0-9]+|session-[0-9]+|workdir-[0-9A-Fa-f]+)$";
const LABEL: &str = "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$";
const LABEL_VALUE: &str = r"^[^,\u0000-\u001f\u007f-\u009f]*$";
const WANTED: &str = "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?(=[^,\\u0000-\\u001f\\u007f-\\u009f]{0,63})?\
    (,[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?(=[^,\\u0000-\\u001f\\u007f-\\u009f]{0,63})?){0,31}$";
const STATES: &str = "^(starting|idle|running|requires_action|adopting|stopping|restarting|hibernated|stopped|failed)\
    (,(starting|idle|running|requires_action|adopting|stopping|restarting|hibernated|stopped|failed)){0,9}$";
/// A place in a log: inode, time of birth, offset.
const CURSOR: &str = "^[0-9a-f]{1,16}-[0-9a-f]{1,16}-[0-9a-f]{1,16}$";
/// The states that `until` takes, separated by commas.
const AWAITED: &str = "^(idle|ready|running|requires_action|stopped|failed|hibernated)\
    (,(idle|ready|running|requires_action|stopped|failed|hibernated)){0,9}$";
const SEAT: &str = "^[A-Za-z0-9]{16,64}$";
const MEDIA_TYPE: &str = r"^[^\u0000-\u001f\u007f-\u009f/]*/[^\u0000-\u001f\u007f-\u009f]*$";

fn chars(least: usize, most: usize) -> Value {
    json!({ "minLength": least, "maxLength": most, "pattern": PLAIN })
}

/// Bounds the sessions that a key lists, or their labels.
fn bound_sessions_of_key(properties: &mut Value) {
    if let Some(ids) = properties.get_mut("ids") {
        add(ids, &json!({ "minItems": 1, "maxItems": IDS }));
    }
    if let Some(own) = properties.get_mut("labels") {
        let mut bounds = labels(&json!("string"));
        bounds["minProperties"] = 1.into();
        add(own, &bounds);
    }
}

/// Bounds of labels, whose values are of these kinds.
fn labels(kinds: &Value) -> Value {
    json!({
        "maxProperties": LABELS,
        "propertyNames": { "type": "string", "pattern": LABEL },
        "additionalProperties": { "type": kinds, "pattern": LABEL_VALUE, "maxLength": 63 },
    })
}

fn pattern(pattern: &str) -> Value {
    json!({ "pattern": pattern })
}

/// By schema and property.
fn properties() -> Vec<(&'static str, &'static str, Value)> {
    let number = json!({ "maximum": MAX_NUMBER });
    let env = json!({
        "propertyNames": { "type": "string", "pattern": ENV_NAME, "not": { "const": protocol::MARKER } },
        "additionalProperties": { "type": "string", "pattern": NO_NUL },
    });
    let program_env = json!({
        "propertyNames": { "type": "string", "pattern": r"^[^=\u0000]+$" },
        "additionalProperties": { "type": "string", "pattern": NO_NUL },
    });
    let headers = json!({
        "propertyNames": { "type": "string", "pattern": HEADER_NAME },
        "additionalProperties": { "type": "string", "pattern": PLAIN },
    });
    let servers = json!({ "maxItems": mcp::MOST });
    let name = json!({ "pattern": SESSION_ID, "not": { "type": "string", "pattern": RESERVED } });
    let numbers = NUMBERS.iter().map(|number| {
        let bounds = json!({ "minimum": number.bounds.start(), "maximum": number.bounds.end() });
        ("SessionOpts", number.name, bounds)
    });
    let others = [
        ("SessionOpts", "id", pattern(SESSION_ID)),
        ("SessionOpts", "name", name.clone()),
        ("SessionOpts", "labels", labels(&json!("string"))),
        ("ForkRequest", "session", pattern(SESSION_ID)),
        ("ForkRequest", "turn", json!({ "maximum": MAX_NUMBER })),
        ("ForkRequest", "id", pattern(SESSION_ID)),
        ("ForkRequest", "name", name.clone()),
        ("ForkRequest", "title", chars(0, bounds::TEXT_CHARS)),
        ("ForkRequest", "labels", labels(&json!("string"))),
        ("ForkRequest", "workdir", pattern(ABSOLUTE)),
        ("EditSessionRequest", "name", name),
        ("EditSessionRequest", "labels", labels(&json!(["string", "null"]))),
        ("EditSessionRequest", "title", chars(0, bounds::TEXT_CHARS)),
        ("SessionOpts", "title", chars(0, bounds::TEXT_CHARS)),
        ("SessionOpts", "conversation", chars(1, bounds::CONVERSATION_CHARS)),
        ("SessionOpts", "model", json!({ "pattern": MODEL, "maxLength": bounds::TEXT_CHARS })),
        ("SessionOpts", "workdir", pattern(ABSOLUTE)),
        ("SessionOpts", "env", env),
        ("SessionOpts", "mcp_servers", servers.clone()),
        ("SessionOpts", "mcp_remote_servers", servers.clone()),
        ("McpServersRequest", "mcp_servers", servers.clone()),
        ("McpServersRequest", "mcp_remote_servers", servers),
        ("McpServerOpts", "name", chars(1, mcp::NAME_CHARS)),
        ("McpServerOpts", "args", json!({ "items": { "type": "string", "pattern": NO_NUL } })),
        ("McpServerOpts", "env", program_env),
        ("McpRemoteServerOpts", "name", chars(1, mcp::NAME_CHARS)),
        ("McpRemoteServerOpts", "url", pattern("^https?://[!-~]+$")),
        ("McpRemoteServerOpts", "headers", headers),
        ("BootstrapRequest", "workdir", pattern(ABSOLUTE)),
        ("PromptRequest", "text", pattern(PROMPT)),
        ("PromptRequest", "attachments", json!({ "maxItems": MAX_ATTACHMENTS })),
        ("EditRequest", "text", pattern(PROMPT)),
        ("SubagentRequest", "task", pattern(PROMPT)),
        ("SubagentRequest", "parent", pattern(SESSION_ID)),
        ("SettingRequest", "value", chars(1, 200)),
        ("AttachmentRequest", "name", chars(1, 200)),
        ("AttachmentRequest", "mime_type", json!({ "pattern": MEDIA_TYPE, "maxLength": 100 })),
        ("AttachmentRequest", "uri", chars(1, 2_000)),
        ("AttachmentRequest", "data", pattern(BASE64)),
        ("KeyRequest", "name", chars(1, NAME)),
        ("PairRequest", "name", chars(1, NAME)),
        ("PairRequest", "key", pattern(DEVICE_KEY)),
        ("PairingRequest", "name", chars(1, NAME)),
        ("WebRequest", "name", chars(1, NAME)),
        ("WebLogIn", "ticket", json!({ "minLength": 1, "maxLength": TICKET })),
        ("WebLogIn", "key", pattern(DEVICE_KEY)),
        ("LogInInput", "text", json!({ "minLength": 1, "maxLength": LOGIN_INPUT })),
        ("LogInVisit", "url", json!({ "pattern": LOOPBACK, "maxLength": 8192 })),
        ("PruneRequest", "older_than_ms", number),
        ("PruneRequest", "max_bytes", json!({ "minimum": bounds::SMALLEST_JOURNAL, "maximum": MAX_NUMBER })),
    ];
    numbers.chain(others).collect()
}

/// By a parameter's name, wherever it is one.
fn parameters() -> Vec<(&'static str, Value)> {
    vec![
        ("Idempotency-Key", pattern(KEY)),
        ("Last-Event-ID", json!({ "maximum": MAX_NUMBER })),
        ("Kennel-Seat", pattern(SEAT)),
        ("Upgrade", json!({ "enum": ["websocket"] })),
        ("Sec-WebSocket-Version", json!({ "enum": ["13"] })),
        ("Sec-WebSocket-Key", pattern(WEBSOCKET_KEY)),
        ("path_base64", pattern(BASE64)),
        ("after_base64", pattern(BASE64)),
        ("path", pattern(NO_NUL)),
        ("q", json!({ "minLength": 1, "maxLength": SEARCH, "pattern": NO_NUL })),
        ("session", pattern(SESSION_ID)),
        ("after", json!({ "maximum": MAX_NUMBER })),
        ("label", pattern(WANTED)),
        ("status", pattern(STATES)),
        ("until", pattern(AWAITED)),
        ("type", pattern(&types())),
        ("timeout_ms", json!({ "maximum": MAX_WAIT_MS })),
        ("offers", pattern(OFFERS)),
        ("pairing", json!({ "maximum": MAX_NUMBER })),
        ("parent", pattern(SESSION_ID)),
        ("dir", pattern(ABSOLUTE)),
    ]
}

/// The pattern of types of events, separated by commas.
fn types() -> String {
    let one = EventKind::NAMES.join("|").replace('.', "\\.");
    format!("^({one})(,({one})){{0,{}}}$", EventKind::NAMES.len() - 1)
}

/// Puts them into the description.
pub fn bound(api: &mut Value) {
    for (schema, property, more) in properties() {
        let at = &mut api["components"]["schemas"][schema]["properties"][property];
        add(at, &more);
    }
    let schemas = &mut api["components"]["schemas"];
    // Which of several fields there are.
    schemas["AttachmentRequest"]["oneOf"] = json!([one_of("text", "data"), one_of("data", "text")]);
    schemas["WebLogIn"]["oneOf"] = json!([one_of("ticket", "key"), one_of("key", "ticket")]);
    for request in ["KeyRequest", "PairingRequest", "WebRequest"] {
        schemas[request]["if"] = json!({ "properties": { "role": { "const": "admin" } } });
        schemas[request]["then"] = json!({ "properties": { "sessions": { "const": "all" } } });
    }
    schemas["CallRequest"]["oneOf"] = json!([one_of("result", "error"), one_of("error", "result")]);
    let error = json!({
        "type": ["object", "null"],
        "required": ["code", "message"],
        "properties": { "code": { "type": "integer", "format": "int64" }, "message": { "type": "string" } },
    });
    add(&mut schemas["CallRequest"]["properties"]["error"], &error);
    if let Some(answers) = schemas["PermissionAnswer"]["oneOf"].as_array_mut() {
        for answer in answers.iter_mut().filter(|answer| answer["type"] == "object") {
            answer["additionalProperties"] = false.into();
        }
    }
    if let Some(kinds) = schemas["KeySessions"]["oneOf"].as_array_mut() {
        for kind in kinds.iter_mut().filter(|kind| kind["type"] == "object") {
            kind["additionalProperties"] = false.into();
            bound_sessions_of_key(&mut kind["properties"]);
        }
    }
    let parameters = parameters();
    let Some(paths) = api["paths"].as_object_mut() else { return };
    for (path, methods) in paths {
        let Some(methods) = methods.as_object_mut() else { continue };
        for (name, method) in methods {
            if Method::from_bytes(name.to_uppercase().as_bytes()).is_ok_and(|name| is_drivers(&name, path)) {
                by_client(method);
            }
            let Some(listed) = method.get_mut("parameters").and_then(Value::as_array_mut) else { continue };
            for parameter in listed {
                let name = parameter["name"].as_str().unwrap_or_default().to_owned();
                let schema = &mut parameter["schema"];
                // An absent value is left out: a parameter has no null.
                if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
                    kinds.retain(|kind| kind != "null");
                    if let [kind] = &kinds[..] {
                        schema["type"] = kind.clone();
                    }
                }
                let is_setting = path.contains("/settings/");
                let is_text = schema["type"] == "string";
                for (_, more) in parameters.iter().filter(|(bounded, _)| *bounded == name) {
                    add(schema, more);
                }
                match name.as_str() {
                    // Here it is no event's id, but a name.
                    "after" if path.ends_with("/log") => {
                        *schema = json!({ "type": "string", "pattern": CURSOR });
                    }
                    "after" if is_text => *schema = json!({ "type": "string", "pattern": NO_NUL }),
                    // Here it is a place in a log.
                    "Last-Event-ID" if is_text => {
                        // An empty one says nothing.
                        let pattern = format!("{CURSOR}|^$");
                        *schema = json!({ "type": "string", "pattern": pattern });
                        parameter["required"] = false.into();
                    }
                    "name" if is_setting => add(schema, &chars(1, 200)),
                    "name" => add(schema, &chars(1, 100)),
                    "Idempotency-Key" | "Last-Event-ID" | "Kennel-Seat" | "Kennel-Comments" => {
                        parameter["required"] = false.into()
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Adds the header that says in whose name an operation changes a session.
fn by_client(operation: &mut Value) {
    let header = json!({
        "name": "Kennel-Client",
        "in": "header",
        "description": "Attached client in whose name the request is made: refused unless it drives. 0 is a client that is not attached: \
            refused if any drives. Absent: nobody is asked.",
        "required": false,
        "schema": { "type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_NUMBER },
    });
    match operation.get_mut("parameters").and_then(Value::as_array_mut) {
        Some(listed) => listed.push(header),
        None => operation["parameters"] = json!([header]),
    }
}

/// An object that has the one and not the other.
fn one_of(one: &str, other: &str) -> Value {
    json!({
        "required": [one],
        "properties": { one: { "not": { "type": "null" } }, other: { "type": "null" } },
    })
}

fn add(schema: &mut Value, more: &Value) {
    let (Some(schema), Some(more)) = (schema.as_object_mut(), more.as_object()) else { return };
    for (name, value) in more {
        schema.insert(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use protocol::api::SessionOpts;

    use super::*;
    use crate::config::Config;

    fn described() -> Value {
        serde_json::from_str(&super::super::openapi_json()).unwrap()
    }

    #[test]
    fn what_is_bounded_is_there_and_is_bounded() {
        let api = described();
        for (schema, property, more) in properties() {
            let found = &api["components"]["schemas"][schema]["properties"][property];
            assert!(found["type"] != Value::Null, "{schema}.{property} is not described");
            for (name, value) in more.as_object().unwrap() {
                assert_eq!(&found[name], value, "{schema}.{property}");
            }
        }
        let listed =
            api["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
        let all: Vec<&Value> =
            listed.flat_map(|method| method["parameters"].as_array().into_iter().flatten()).collect();
        for (name, more) in parameters() {
            let mut found = all.iter().filter(|parameter| parameter["name"] == name).peekable();
            assert!(found.peek().is_some(), "{name} is no parameter");
            // The `after` of files is a name, and that of a log a place, no event's id.
            let may_be_text = |name: &str| ["after", "Last-Event-ID"].contains(&name);
            for parameter in
                found.filter(|parameter| !may_be_text(name) || parameter["schema"]["type"] != "string")
            {
                let (name, value) = more.as_object().unwrap().iter().next().unwrap();
                assert_eq!(&parameter["schema"][name], value, "{parameter}");
            }
        }
        // A parameter has no null.
        let null = |parameter: &&&Value| parameter["schema"]["type"].as_array().is_some();
        assert_eq!(all.iter().filter(null).count(), 0);
    }

    #[test]
    fn each_type_of_events_is_in_the_list_of_their_names_and_no_other() {
        let api = described();
        let kinds = api["components"]["schemas"]["EventKind"]["oneOf"].as_array().unwrap();
        let name = |kind: &Value| kind["properties"]["type"]["enum"][0].as_str().unwrap().to_owned();
        let mut names: Vec<String> = kinds.iter().map(name).collect();
        names.sort_unstable();
        assert_eq!(names, EventKind::NAMES);
    }

    #[test]
    fn every_number_of_a_sessions_options_is_taken_up_to_its_bounds_and_not_beyond() {
        let config = Config::load(std::path::Path::new("/no/such/config.toml")).unwrap();
        let judged = |property: &str, value: u64| {
            let opts: SessionOpts = serde_json::from_value(json!({ property: value })).unwrap();
            config.resolve(&opts).map(drop).map_err(|error| error.code())
        };
        let api = described();
        let properties = api["components"]["schemas"]["SessionOpts"]["properties"].as_object().unwrap();
        let mut numbers = 0;
        for (property, schema) in properties.iter().filter(|(_, schema)| !schema["format"].is_null()) {
            let bound =
                |name: &str| schema[name].as_u64().unwrap_or_else(|| panic!("{property} has no {name}"));
            let (least, most) = (bound("minimum"), bound("maximum"));
            assert_eq!(judged(property, least), Ok(()), "{property}");
            assert_eq!(judged(property, most), Ok(()), "{property}");
            let beyond = [least.checked_sub(1), most.checked_add(1)];
            for value in beyond.into_iter().flatten() {
                let code = judged(property, value).expect_err(property);
                assert!(code.starts_with("invalid_"), "{property}: {code}");
            }
            numbers += 1;
        }
        assert_eq!(numbers, NUMBERS.len());
    }
}
