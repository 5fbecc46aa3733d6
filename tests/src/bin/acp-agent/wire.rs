//! Lines of JSON on standard output.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

pub(crate) fn text_block(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

pub(crate) fn answer(id: Value, result: Value) {
    raw(&json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string());
}

pub(crate) fn refuse(id: Value, code: i64, message: &str) {
    raw(&json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }).to_string());
}

pub(crate) fn notify(method: &str, params: Value) {
    raw(&json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
}

/// A client that is gone is the end.
pub(crate) fn raw(line: &str) {
    write(format!("{line}\n").as_bytes());
}

pub(crate) fn write(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

pub(crate) fn shown(block: &Value) -> String {
    let inner = if block["type"] == "resource" { &block["resource"] } else { block };
    let all =
        [&block["type"], &inner["mimeType"], &inner["uri"], &inner["text"], &inner["data"], &inner["blob"]];
    let words = all.iter().filter_map(|value| value.as_str());
    // A long line is shortened in the log.
    let words =
        words.map(|word| if word.len() > 1_000 { format!("{} bytes", word.len()) } else { word.to_owned() });
    words.collect::<Vec<_>>().join(" ")
}

pub(crate) fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}
