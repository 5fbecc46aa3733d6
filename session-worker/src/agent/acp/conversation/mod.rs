//! The client's side of the Agent Client Protocol, version 1, without any I/O: lines of the agent in, things to do
//! out (<https://agentclientprotocol.com/protocol/v1/overview>).
//!
//! This file takes each message to the file of its subject: `opening` (the way into a session), `settings`, `turn`, `update`
//! and `permission`. Only what the worker acts on is understood, with the types of the official schema where they are
//! tolerant enough. Everything else is carried as it came: an agent may be newer than this code.

mod opening;
mod permission;
mod settings;
mod told;
mod turn;
mod update;

use std::collections::{BTreeMap, BTreeSet};

use agent_client_protocol_schema::v1 as acp;
use protocol::json::{self, Read, Unread, Why};
use protocol::settings::Offered;
use protocol::wire::{Report, Setting, Transport};
use protocol::{PromptId, Restore, bounds};
use serde_json::{Map, Value, json};

use super::attachments::Takes;
use super::login::Addresses;
use super::message::{
    AUTH_REQUIRED, Do, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, beginning, died, error, is_id, notice,
    text_at, to_value, words,
};
use opening::TakesPrompt;
use settings::Asked;
use told::Told;
use turn::Turn;

pub use opening::{Opening, SystemPrompt};

/// The part of a line without a message in which the worker looks for a log-in address, in bytes.
const LOOKED_AT: usize = 8 * 1024;

#[derive(Debug, PartialEq)]
enum Stage {
    Initializing,
    LoggingIn,
    Resuming,
    Loading,
    Creating,
    /// The worker sets the recorded settings again.
    Setting,
    Ready,
}

/// A conversation with an agent.
#[derive(Debug)]
pub struct Conversation {
    opening: Opening,
    stage: Stage,
    /// Number of the request that the stage waits for.
    awaited: u64,
    next: u64,
    restore: Restore,
    can_load: bool,
    can_resume: bool,
    takes: Takes,
    takes_prompt: TakesPrompt,
    /// Transports by which the agent can reach MCP servers.
    reaches: Vec<Transport>,
    /// The agent supports MCP servers that are programs. Version 1 of the protocol demands it; an agent may still deny it.
    takes_programs: bool,
    logins: Vec<String>,
    session: String,
    /// Pid of the agent. The worker reads no answer before it knows the pid.
    pub agent_pid: u32,
    turn: Option<Turn>,
    /// Open permission requests by our number: the agent's id of the request, and whether it was asked in a turn.
    asks: BTreeMap<u64, (Value, bool)>,
    last_ask: u64,
    /// Ids of the configuration options, and whether each is a switch.
    options: BTreeMap<String, bool>,
    /// The agent has modes.
    modes: bool,
    /// Id of the option that is also the agent's mode.
    mode_option: Option<String>,
    /// Settings that the agent has told since its session was opened; empty once it takes prompts.
    offered: Offered,
    /// Size of `offered`, in bytes of JSON.
    offered_bytes: usize,
    /// Settings that remain before the agent takes prompts, the next one last.
    to_set: Vec<Setting>,
    /// Settings that the agent has not answered, by the number of the request to it.
    setting: BTreeMap<u64, Asked>,
    /// Ids of the sub-agents inside the agent.
    children: BTreeSet<String>,
    /// Turns that the agent tells while it loads.
    told: Told,
    /// Subjects of the notices of this turn, so that each is sent once.
    said: BTreeSet<&'static str>,
    /// Notices for a person that are not sent yet.
    notices: Vec<String>,
    /// Addresses at which the agent wants a person to log in.
    addresses: Addresses,
}

impl Conversation {
    /// Begins a conversation. Returns the first message to the agent.
    pub fn begin(opening: Opening) -> (Self, Vec<Do>) {
        let mut conversation = Self {
            opening,
            stage: Stage::Initializing,
            awaited: 0,
            next: 0,
            restore: Restore::Fresh,
            can_load: false,
            can_resume: false,
            takes: Takes::default(),
            takes_prompt: TakesPrompt::default(),
            reaches: Vec::new(),
            takes_programs: true,
            logins: Vec::new(),
            session: String::new(),
            agent_pid: 0,
            turn: None,
            asks: BTreeMap::new(),
            last_ask: 0,
            options: BTreeMap::new(),
            modes: false,
            mode_option: None,
            offered: Offered::default(),
            offered_bytes: 0,
            to_set: Vec::new(),
            setting: BTreeMap::new(),
            children: BTreeSet::new(),
            told: Told::default(),
            said: BTreeSet::new(),
            notices: Vec::new(),
            addresses: Addresses::default(),
        };
        // The agent learns of the client's files once. The worker still answers file requests when that client has gone.
        let files = acp::FileSystemCapabilities::new()
            .read_text_file(conversation.opening.reads_files)
            .write_text_file(conversation.opening.writes_files);
        let forms = acp::ElicitationCapabilities::new().form(acp::ElicitationFormCapabilities::new());
        let switches =
            acp::SessionConfigOptionsCapabilities::new().boolean(acp::BooleanConfigOptionCapabilities::new());
        let sessions = acp::ClientSessionCapabilities::new().config_options(switches);
        let able =
            acp::ClientCapabilities::new().fs(files).terminal(true).elicitation(forms).session(sessions);
        let me = acp::Implementation::new("kennel", env!("CARGO_PKG_VERSION")).title("kennel".to_owned());
        let version = agent_client_protocol_schema::ProtocolVersion::V1;
        let request = acp::InitializeRequest::new(version).client_capabilities(able).client_info(me);
        let mut request = to_value(&request);
        // Stable since this schema's version, which has no type for it.
        request["clientCapabilities"]["subagents"] = json!({});
        let first = conversation.await_answer("initialize", request);
        (conversation, vec![first])
    }

    /// Returns the prompt whose turn runs.
    pub fn turn(&self) -> Option<PromptId> {
        self.turn.as_ref().map(|turn| turn.prompt)
    }

    /// Adds a notice about the agent's messages, once in a turn for each subject.
    pub fn say(&mut self, about: &'static str, text: impl FnOnce() -> String) {
        if self.said.insert(about) {
            self.notices.push(text());
        }
    }

    /// Looks for log-in addresses in what the agent prints beside the protocol.
    pub fn printed(&mut self, bytes: &[u8]) -> Vec<Do> {
        let addresses = self.addresses.hear(bytes).into_iter();
        addresses.map(|at| notice(format!("the agent asks you to log in: open {at}"))).collect()
    }

    /// Takes the notices for a person.
    pub fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Returns how much memory the agent's words take here, in bytes.
    pub fn held(&self) -> usize {
        let tools = self.turn.as_ref().map_or(0, |turn| turn.tool_bytes);
        tools + self.offered_bytes + (self.options.len() + self.asks.len() + self.children.len()) * bounds::ID
    }

    /// Takes a line of the agent, without its end.
    pub fn hear(&mut self, line: Vec<u8>) -> Vec<Do> {
        if line.trim_ascii().is_empty() {
            return Vec::new();
        }
        let read = json::read(&line);
        // Some print to the wrong output.
        let printed = match &read {
            Ok(Read { value: Value::Object(_) | Value::Array(_), .. }) => Vec::new(),
            Ok(_) | Err(_) => {
                let part = &line[..line.len().min(LOOKED_AT)];
                self.printed(&[part, b"\n"].concat())
            }
        };
        let begins = beginning(&String::from_utf8_lossy(&line[..line.len().min(400)]));
        // It may have megabytes, and so has what was made of it.
        drop(line);
        match read {
            Ok(Read { value: Value::Object(message), repaired }) => {
                if repaired {
                    self.say("repaired", || {
                        "the agent sends JSON with faults (half a character, a number that is none); what was wrong was \
                         replaced"
                            .to_owned()
                    });
                }
                self.message(message, &begins)
            }
            Ok(Read { value: Value::Array(_), .. }) => {
                let why = "several messages on one line are not taken";
                vec![Do::Log(format!("not a message: {begins}")), error(Value::Null, INVALID_REQUEST, why)]
            }
            Ok(_) => std::iter::once(Do::Log(format!("not a message: {begins}"))).chain(printed).collect(),
            Err(unread) => {
                let mut all = vec![Do::Log(format!("not a message: {begins}"))];
                all.extend(printed);
                all.extend(self.unread(unread));
                all
            }
        }
    }

    /// Answers a line that the worker cannot read, so that the agent does not wait for its answer.
    pub fn unread(&mut self, unread: Unread) -> Vec<Do> {
        let Unread { why, head } = unread;
        let is_message = head.is_message() || head.may_have_id;
        if matches!(why, Why::NotJson(_)) && !is_message {
            return Vec::new();
        }
        let about =
            head.method.as_deref().map(|method| format!(" ({})", beginning(method))).unwrap_or_default();
        let text = format!("a message{about} cannot be read: {why}");
        self.say("unread", || format!("the agent sent {text}; it was left out"));
        match (head.calls, head.id) {
            (true, Some(id)) => vec![error(id, PARSE_ERROR, &text)],
            (false, Some(id)) => self.answered(&id, Err(json!({ "code": PARSE_ERROR, "message": text }))),
            // JSON-RPC has an answer for whoever cannot be named.
            (_, None) if head.may_have_id => vec![error(Value::Null, PARSE_ERROR, &text)],
            (_, None) => Vec::new(),
        }
    }

    fn message(&mut self, mut message: Map<String, Value>, begins: &str) -> Vec<Do> {
        let id = message.remove("id").filter(|id| !id.is_null());
        let params = message.remove("params").unwrap_or(Value::Null);
        let is_request = message.contains_key("method");
        if let (Some(id), true) = (&id, is_request)
            && !is_id(id)
        {
            let what = format!("the id of a request is a text or a number of at most {} bytes", bounds::ID);
            self.say("id", || format!("a request of the agent was refused: {what}"));
            return vec![error(Value::Null, INVALID_REQUEST, &what)];
        }
        match (message.get("method").and_then(Value::as_str), id) {
            (Some(method), Some(id)) => self.asked(method.to_owned(), id, params),
            (Some("session/update"), None) => self.update(params),
            // The worker may ignore unknown notifications: `$/cancel_request`, extensions.
            (Some(method), None) => vec![Do::Log(format!("told {} and not heeded", beginning(method)))],
            (None, Some(id)) if is_request => vec![error(id, INVALID_REQUEST, "the method is no text")],
            (None, Some(id)) => {
                let answer = match (message.remove("result"), message.remove("error")) {
                    (_, Some(error)) if !error.is_null() => Err(error),
                    (result, _) => Ok(result.unwrap_or(Value::Null)),
                };
                self.answered(&id, answer)
            }
            (None, None) => vec![Do::Log(format!("not a message: {begins}"))],
        }
    }

    fn asked(&mut self, method: String, id: Value, params: Value) -> Vec<Do> {
        let known = matches!(
            method.as_str(),
            "fs/read_text_file"
                | "fs/write_text_file"
                | "terminal/create"
                | "terminal/output"
                | "terminal/wait_for_exit"
                | "terminal/kill"
                | "terminal/release"
                | "elicitation/create"
        );
        if method == "session/request_permission" {
            return self.permission(id, params);
        }
        if known {
            return vec![Do::Call { id, method, params }];
        }
        let message = format!("method not found: {}", beginning(&method));
        vec![Do::Log(message.clone()), error(id, METHOD_NOT_FOUND, &message)]
    }

    fn answered(&mut self, id: &Value, answer: Result<Value, Value>) -> Vec<Do> {
        let id = id.as_u64();
        if self.turn.as_ref().is_some_and(|turn| Some(turn.request) == id) {
            return self.turn_ended(answer);
        }
        if let Some(asked) = id.and_then(|id| self.setting.remove(&id)) {
            return match asked.request {
                Some(request) => self.set_or_not(request, asked, answer),
                None => self.set_again(asked, answer),
            };
        }
        if self.stage == Stage::Ready || id != Some(self.awaited) {
            return vec![Do::Log("an answer to nothing that was asked".to_owned())];
        }
        match (&self.stage, answer) {
            (_, Err(error)) if error["code"].as_i64() == Some(AUTH_REQUIRED) => {
                vec![Do::Give(Report::LoginNeeded { message: self.needs_login(&error) })]
            }
            (Stage::Initializing, Ok(result)) => self.initialized(result),
            (Stage::LoggingIn, Ok(_)) => self.open(),
            (Stage::Resuming, Ok(result)) => self.opened(Restore::Resumed, &result),
            (Stage::Loading, Ok(result)) => self.opened(Restore::Loaded, &result),
            (Stage::Creating, Ok(result)) => {
                let Some(session) = text_at(&result, "sessionId") else {
                    return vec![died("the agent opened a session without an id".to_owned())];
                };
                if !bounds::fits(&session, bounds::SESSION_ID) {
                    let (has, most) = (session.len(), bounds::SESSION_ID);
                    let what =
                        format!("the agent's id of its session has {has} bytes, and {most} are allowed");
                    return vec![died(what)];
                }
                self.session = session;
                let told = if self.opening.conversation { Restore::Replayed } else { Restore::Fresh };
                self.opened(told, &result)
            }
            (Stage::Resuming | Stage::Loading, Err(error)) => self.next_way(&words(&error)),
            (Stage::Initializing | Stage::LoggingIn | Stage::Creating, Err(error)) => {
                vec![died(format!("the agent refused to begin: {}", words(&error)))]
            }
            (Stage::Setting | Stage::Ready, _) => Vec::new(),
        }
    }

    fn await_answer(&mut self, method: &str, params: Value) -> Do {
        let (id, send) = self.request(method, params);
        self.awaited = id;
        send
    }

    fn request(&mut self, method: &str, params: Value) -> (u64, Do) {
        self.next += 1;
        let message = json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params });
        (self.next, Do::Send(message))
    }
}
