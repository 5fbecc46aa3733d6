//! A model server on loopback that does what the newest prompt orders, so that real agents can run offline.
//!
//! It serves OpenAI Responses (`…/responses`), OpenAI chat completions (`…/chat/completions`), Anthropic
//! Messages (`…/messages`) and Gemini (`…:generateContent`, `…:streamGenerateContent`). It answers as a
//! stream or whole, and serves lists of models. It prints its port, which the kernel chose, and lives until
//! its standard input ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a fixture fails by panicking")]

mod gemini;

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// The last line of the newest user text that begins with one of these words decides:
///
/// | line | answer |
/// |---|---|
/// | `SAY text` | that text |
/// | `SLOW n ms` | `n` pieces, `w0 w1 …`, so many milliseconds apart |
/// | `TOOL command` | a call of the agent's own shell tool; its result is then printed |
/// | `RECALL` | all earlier orders in the conversation as the agent sent it |
/// | `FAIL` | HTTP status 400 |
fn main() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // A client that goes in the middle is no fault of anybody's.
            std::thread::spawn(move || drop(serve(&connection)));
        }
    });
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

/// Answers the requests of one connection until it ends.
fn serve(connection: &TcpStream) -> Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection);
    while let Some((method, path, body)) = request(&mut reader)? {
        let path = path.split('?').next().unwrap_or_default();
        let last = path.rsplit('/').next();
        let streamed = last.is_some_and(|last| last.ends_with(":streamGenerateContent"));
        let format = match last {
            Some(last) if streamed || last.ends_with(":generateContent") => Format::Gemini,
            Some(last) if last.ends_with(":countTokens") => {
                whole(connection, 200, &json!({ "totalTokens": 10 }))?;
                continue;
            }
            Some("responses") => Format::Responses,
            Some("completions") => Format::Chat,
            Some("messages") => Format::Messages,
            Some("count_tokens") => {
                whole(connection, 200, &json!({ "input_tokens": 10 }))?;
                continue;
            }
            Some("models") => {
                whole(connection, 200, &models())?;
                continue;
            }
            _ => {
                let error = json!({ "error": { "message": format!("{method} {path} is not here") } });
                whole(connection, 404, &error)?;
                continue;
            }
        };
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        log(path, &asked);
        let reply = reply(format, &asked);
        if matches!(reply, Reply::Fail) {
            let code = if matches!(format, Format::Gemini) { json!(400) } else { json!("told") };
            let error = json!({
                "type": "invalid_request_error", "message": "the model was told to fail", "code": code, "status": "INVALID_ARGUMENT",
            });
            whole(connection, 400, &json!({ "type": "error", "error": error }))?;
        } else if streamed || asked["stream"] == true {
            // Its end is the connection's: the length is not known before.
            return stream(connection, format, &asked, &reply);
        } else {
            whole(connection, 200, &answer(format, &asked, &reply))?;
        }
    }
    Ok(())
}

/// Appends a request to the file in `KENNEL_FAKE_MODEL_LOG`, to see what an agent sends.
fn log(path: &str, asked: &Value) {
    let Some(file) = std::env::var_os("KENNEL_FAKE_MODEL_LOG") else { return };
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
    writeln!(file, "{path} {asked}").unwrap();
}

/// Reads one request: its method, path and body. None at the connection's end.
fn request(reader: &mut impl BufRead) -> Result<Option<(String, String, Vec<u8>)>> {
    fn line(reader: &mut impl BufRead) -> Result<String> {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
    fn bad(what: &str) -> Error {
        Error::new(ErrorKind::InvalidData, what.to_owned())
    }
    let first = line(reader)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let (mut length, mut chunked) = (0, false);
    loop {
        let header = line(reader)?.to_ascii_lowercase();
        match header.split_once(':').map(|(name, value)| (name, value.trim())) {
            Some(("content-length", value)) => length = value.parse().map_err(|_| bad("content-length"))?,
            Some(("transfer-encoding", value)) => chunked = value == "chunked",
            Some(_) => {}
            None => break,
        }
    }
    let mut body = Vec::new();
    while chunked {
        let size = usize::from_str_radix(&line(reader)?, 16).map_err(|_| bad("chunk"))?;
        reader.take(size as u64).read_to_end(&mut body)?;
        line(reader)?;
        chunked = size > 0;
    }
    reader.take(length).read_to_end(&mut body)?;
    Ok(Some((method, path, body)))
}

/// Sends a whole answer.
fn whole(mut connection: &TcpStream, status: u16, body: &Value) -> Result<()> {
    let body = body.to_string();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    connection.write_all((head + &body).as_bytes())
}

fn models() -> Value {
    let model = json!({ "id": "fake", "object": "model", "type": "model", "display_name": "fake", "owned_by": "nobody" });
    json!({ "object": "list", "data": [model], "models": [], "has_more": false })
}

#[derive(Clone, Copy)]
enum Format {
    Responses,
    Chat,
    Messages,
    Gemini,
}

/// An answer of the model.
enum Reply {
    /// These pieces, so far apart.
    Say(Vec<String>, Duration),
    /// A call of this tool.
    Call(String, Value),
    Fail,
}

/// One entry of a conversation, as far as it matters here.
enum Entry {
    User(String),
    Tool(String),
}

/// The text somewhere in a content, whatever its shape.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(text).collect::<Vec<_>>().join("\n"),
        Value::Object(fields) => ["text", "content", "output"]
            .iter()
            .find_map(|name| fields.get(*name))
            .map(text)
            .unwrap_or_default(),
        _ => String::new(),
    }
}

/// Returns the texts of users and the results of tools in a request, in order.
fn conversation(format: Format, asked: &Value) -> Vec<Entry> {
    if matches!(format, Format::Gemini) {
        return gemini::conversation(asked);
    }
    let list = if matches!(format, Format::Responses) { &asked["input"] } else { &asked["messages"] };
    let mut entries = Vec::new();
    for message in list.as_array().into_iter().flatten() {
        let kind = message["type"].as_str().unwrap_or_default();
        match message["role"].as_str() {
            Some("tool") => entries.push(Entry::Tool(text(&message["content"]))),
            Some("user") => match &message["content"] {
                Value::Array(parts) => entries.extend(parts.iter().map(|part| {
                    if part["type"] == "tool_result" {
                        Entry::Tool(text(part))
                    } else {
                        Entry::User(text(part))
                    }
                })),
                content => entries.push(Entry::User(text(content))),
            },
            None if kind.ends_with("_output") => entries.push(Entry::Tool(text(&message["output"]))),
            _ => {}
        }
    }
    entries
}

/// Returns the lines of a user's text that are orders to this server.
fn orders(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    // Agents add long texts of their own, as blocks of their own; none of their lines begins so.
    let known =
        |line: &&str| matches!(line.split(' ').next(), Some("SAY" | "SLOW" | "TOOL" | "RECALL" | "FAIL"));
    // In a replayed conversation each line begins with its author.
    text.lines().map(|line| line.trim().trim_start_matches("User: ")).filter(known)
}

fn reply(format: Format, asked: &Value) -> Reply {
    let printed = |text: String| Reply::Say(vec![text], Duration::ZERO);
    let tools = match format {
        Format::Gemini => gemini::tools(asked),
        _ => asked["tools"].as_array().cloned().unwrap_or_default(),
    };
    if tools.is_empty() {
        return printed("a title".into());
    }
    let entries = conversation(format, asked);
    let mut newest = None;
    for entry in entries.iter().rev() {
        match entry {
            Entry::Tool(result) => return printed(format!("the tool said: {result}")),
            Entry::User(text) => newest = orders(text).next_back(),
        }
        if newest.is_some() {
            break;
        }
    }
    let (order, rest) = newest.map(|line| line.split_once(' ').unwrap_or((line, ""))).unwrap_or_default();
    match order {
        "SAY" => printed(rest.into()),
        "SLOW" => {
            let mut numbers = rest.split(' ').filter_map(|word| word.parse().ok());
            let (count, apart) = (numbers.next().unwrap_or(100), numbers.next().unwrap_or(100));
            Reply::Say((0..count).map(|n| format!("w{n} ")).collect(), Duration::from_millis(apart))
        }
        "TOOL" => call(&tools, rest).unwrap_or_else(|| printed("there is no shell tool".into())),
        "RECALL" => {
            let texts = entries.iter().filter_map(|entry| match entry {
                Entry::User(text) => Some(text),
                Entry::Tool(_) => None,
            });
            let mut all: Vec<&str> = texts.flat_map(|text| orders(text)).collect();
            all.pop();
            printed(format!("remembered: [{}]", all.join("] [")))
        }
        "FAIL" => Reply::Fail,
        _ => printed("nothing was asked".into()),
    }
}

/// A call of the agent's shell tool, whatever it is called there, with everything that it requires.
fn call(tools: &[Value], command: &str) -> Option<Reply> {
    tools.iter().find_map(|tool| {
        let tool = if tool["function"].is_object() { &tool["function"] } else { tool };
        let name = tool["name"].as_str()?;
        const SHELLS: [&str; 6] =
            ["bash", "shell", "shell_command", "exec_command", "run_shell_command", "execute"];
        if !SHELLS.contains(&name.to_ascii_lowercase().as_str()) {
            return None;
        }
        let schema =
            if tool["input_schema"].is_object() { &tool["input_schema"] } else { &tool["parameters"] };
        let properties = schema["properties"].as_object()?;
        let key = ["command", "cmd"].into_iter().find(|key| properties.contains_key(*key))?;
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let some = |name: &str| match properties[name]["type"].as_str() {
            Some("boolean") => json!(false),
            Some("number" | "integer") => json!(1),
            Some("array") => json!([]),
            _ => json!("a test"),
        };
        let mut arguments: Value =
            required.map(|name| (name.to_owned(), some(name))).collect::<serde_json::Map<_, _>>().into();
        // codex does not ask otherwise: it tries in its own sandbox.
        if properties.contains_key("sandbox_permissions") {
            arguments["sandbox_permissions"] = json!("require_escalated");
            arguments["justification"] = json!("a test");
        }
        let list = properties[key]["type"] == "array";
        arguments[key] = if list { json!(["sh", "-c", command]) } else { json!(command) };
        Some(Reply::Call(name.into(), arguments))
    })
}

/// A number that no other answer has.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An answer that is not streamed.
fn answer(format: Format, asked: &Value, reply: &Reply) -> Value {
    let (model, id) = (&asked["model"], number());
    let text = match reply {
        Reply::Say(pieces, _) => pieces.concat(),
        Reply::Call(..) | Reply::Fail => String::new(),
    };
    match format {
        Format::Responses => response(model, id, "completed", vec![message(id, &text)]),
        Format::Chat => json!({
            "id": format!("chat-{id}"), "object": "chat.completion", "created": 0, "model": model, "usage": usage(),
            "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } }],
        }),
        Format::Messages => json!({
            "id": format!("msg_{id}"), "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn",
            "stop_sequence": null, "usage": usage(), "content": [{ "type": "text", "text": text }],
        }),
        Format::Gemini => gemini::answer(reply),
    }
}

/// Tokens, under the names of all three.
fn usage() -> Value {
    json!({ "input_tokens": 10, "output_tokens": 5, "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 })
}

fn response(model: &Value, id: u64, status: &str, output: Vec<Value>) -> Value {
    json!({
        "id": format!("resp_{id}"), "object": "response", "created_at": 0, "status": status, "model": model,
        "output": output, "usage": usage(),
    })
}

fn message(id: u64, text: &str) -> Value {
    let content = json!([{ "type": "output_text", "text": text, "annotations": [] }]);
    json!({ "type": "message", "id": format!("msg_{id}"), "role": "assistant", "status": "completed", "content": content })
}

/// An answer as a stream of events.
fn stream(mut connection: &TcpStream, format: Format, asked: &Value, reply: &Reply) -> Result<()> {
    connection
        .write_all(b"HTTP/1.1 200 -\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
    let mut send = |data: Value| {
        let name = data["type"].as_str().map(|name| format!("event: {name}\n")).unwrap_or_default();
        connection.write_all(format!("{name}data: {data}\n\n").as_bytes())
    };
    match format {
        Format::Responses => stream_responses(&mut send, asked, reply),
        Format::Chat => {
            stream_chat(&mut send, asked, reply)?;
            connection.write_all(b"data: [DONE]\n\n")
        }
        Format::Messages => stream_messages(&mut send, asked, reply),
        Format::Gemini => gemini::stream(&mut send, reply),
    }
}

/// Sends the pieces of a text reply.
fn paced(reply: &Reply, mut send: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let Reply::Say(pieces, apart) = reply else { return Ok(()) };
    for piece in pieces {
        send(piece)?;
        std::thread::park_timeout(*apart);
    }
    Ok(())
}

type Send<'a> = &'a mut dyn FnMut(Value) -> Result<()>;

fn stream_responses(send: Send, asked: &Value, reply: &Reply) -> Result<()> {
    let (model, id) = (&asked["model"], number());
    let whole = |status, output| response(model, id, status, output);
    send(json!({ "type": "response.created", "response": whole("in_progress", vec![]) }))?;
    let item = match reply {
        Reply::Call(name, arguments) => json!({
            "type": "function_call", "id": format!("fc_{id}"), "call_id": format!("call_{id}"), "status": "completed",
            "name": name, "arguments": arguments.to_string(),
        }),
        Reply::Say(pieces, _) => message(id, &pieces.concat()),
        Reply::Fail => message(id, ""),
    };
    send(json!({ "type": "response.output_item.added", "output_index": 0, "item": item }))?;
    paced(reply, |piece| {
        send(json!({
            "type": "response.output_text.delta", "item_id": item["id"], "output_index": 0, "content_index": 0, "delta": piece,
        }))
    })?;
    send(json!({ "type": "response.output_item.done", "output_index": 0, "item": item }))?;
    send(json!({ "type": "response.completed", "response": whole("completed", vec![item]) }))
}

fn stream_chat(send: Send, asked: &Value, reply: &Reply) -> Result<()> {
    let id = number();
    let mut chunk = |delta: Value, finish: Value| {
        send(json!({
            "id": format!("chat-{id}"), "object": "chat.completion.chunk", "created": 0, "model": asked["model"],
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        }))
    };
    paced(reply, |piece| chunk(json!({ "role": "assistant", "content": piece }), Value::Null))?;
    let Reply::Call(name, arguments) = reply else { return chunk(json!({}), json!("stop")) };
    let function = json!({ "name": name, "arguments": arguments.to_string() });
    let call = json!({ "index": 0, "id": format!("call_{id}"), "type": "function", "function": function });
    chunk(json!({ "role": "assistant", "tool_calls": [call] }), Value::Null)?;
    chunk(json!({}), json!("tool_calls"))
}

fn stream_messages(send: Send, asked: &Value, reply: &Reply) -> Result<()> {
    let id = number();
    send(json!({ "type": "message_start", "message": {
        "id": format!("msg_{id}"), "type": "message", "role": "assistant", "model": asked["model"], "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage(),
    } }))?;
    let (block, stop) = match reply {
        Reply::Call(name, _) => (
            json!({ "type": "tool_use", "id": format!("toolu_{id}"), "name": name, "input": {} }),
            "tool_use",
        ),
        Reply::Say(..) | Reply::Fail => (json!({ "type": "text", "text": "" }), "end_turn"),
    };
    send(json!({ "type": "content_block_start", "index": 0, "content_block": block }))?;
    let mut delta = |delta: Value| send(json!({ "type": "content_block_delta", "index": 0, "delta": delta }));
    paced(reply, |piece| delta(json!({ "type": "text_delta", "text": piece })))?;
    if let Reply::Call(_, arguments) = reply {
        delta(json!({ "type": "input_json_delta", "partial_json": arguments.to_string() }))?;
    }
    send(json!({ "type": "content_block_stop", "index": 0 }))?;
    let end = json!({ "stop_reason": stop, "stop_sequence": null });
    send(json!({ "type": "message_delta", "delta": end, "usage": usage() }))?;
    send(json!({ "type": "message_stop" }))
}
