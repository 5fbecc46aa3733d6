//! The client's side of the Agent Client Protocol, version 1, without any I/O: lines of the agent in, things to do
//! out (<https://agentclientprotocol.com/protocol/v1/overview>).
//!
//! Only what the worker acts on is understood, with the types of the official schema where they are tolerant
//! enough. Everything else is carried as it came: an agent may be newer than this file.

use std::collections::{BTreeMap, BTreeSet};

use agent_client_protocol_schema::v1 as acp;
use protocol::json::{self, Read, Unread, Why};
use protocol::settings::{self, Offered};
use protocol::wire::{
    AgentDetails, Attachment, Exchange, PermissionAsk, PermissionOption, RemoteServer, Report, Setting,
    SettingAnswer, Spent, Transport, TurnEnd, Update,
};
use protocol::{PromptId, Restore, bounds};
use serde_json::{Map, Value, json};

use super::McpServer;
use super::attachments::Takes;
use super::login::{Addresses, address};
use super::model_error::LastWords;
use crate::agent::text::transcript;

/// Tool calls of a turn whose titles are remembered for the questions about them.
const TOOLS: usize = 1_000;
/// What is remembered of all of them together at most, in bytes.
const TOOLS_BYTES: usize = 4 * 1024 * 1024;
/// Options that can be set in an agent; of those beyond it nothing can be.
const SETTABLE: usize = 256;
/// Ways to log in that are named to a person.
const LOGINS: usize = 32;
/// How much of a line that is no message is looked at for where to log in, in bytes.
const LOOKED_AT: usize = 8 * 1024;
/// Sub-agents that an agent can tell of, in one process.
const CHILDREN: usize = 256;
const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
/// Its parameters cannot be understood.
pub const INVALID_PARAMS: i64 = -32602;
/// It was not possible.
pub const INTERNAL: i64 = -32603;
/// There is no such file (schema: `ErrorCode::ResourceNotFound`).
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// The agent wants a log-in (schema: `ErrorCode::AuthRequired`).
const AUTH_REQUIRED: i64 = -32000;

/// What an agent is opened with.
#[derive(Debug)]
pub struct Opening {
    /// Absolute path in which it works.
    pub cwd: String,
    /// Tools that it is offered.
    pub mcp_servers: Vec<McpServer>,
    /// The same, of those that it reaches by itself, if it can.
    pub remote_servers: Vec<RemoteServer>,
    /// A client drives that reads files for it.
    pub reads_files: bool,
    /// The same for writing them.
    pub writes_files: bool,
    /// The log-in method to be used.
    pub login: Option<String>,
    /// The model to be chosen, where the agent has such a choice.
    pub model: Option<String>,
    /// What it is told of itself, where it takes that.
    pub system_prompt: Option<SystemPrompt>,
    /// Its command line names the model.
    pub started_with_model: bool,
    /// What was set before, and is to be set again.
    pub settings: Vec<Setting>,
    /// What the agent itself called the conversation.
    pub agent_session: Option<String>,
    /// There were turns before.
    pub conversation: bool,
}

/// A system prompt for an agent.
#[derive(Debug)]
pub enum SystemPrompt {
    /// Beside its own.
    Beside(String),
    /// In the place of its own.
    Instead(String),
}

/// How an agent takes a system prompt, as far as it says so (`sessionCapabilities.systemPrompt`).
#[derive(Debug, Default, PartialEq)]
enum TakesPrompt {
    /// It says nothing of it: some take it as `_meta.systemPrompt` all the same.
    #[default]
    Untold,
    /// Beside its own.
    Beside,
    /// In its place, too.
    Instead,
}

/// Something to be done.
#[derive(Debug, PartialEq)]
pub enum Do {
    /// Send the agent this message.
    Send(Value),
    /// Tell the manager.
    Report(Report),
    /// Do what the agent asks for, and answer.
    Call {
        /// The agent's id of the request.
        id: Value,
        /// What it asks for.
        method: String,
        /// With what.
        params: Value,
    },
    /// Write this into the session's log.
    Log(String),
    /// The agent cannot be worked with: end it. The text is for a person.
    Give(Report),
}

#[derive(Debug, PartialEq)]
enum Stage {
    Initializing,
    LoggingIn,
    Resuming,
    Loading,
    Creating,
    /// Something is being set again, before all else.
    Setting,
    Ready,
}

#[derive(Debug)]
struct Turn {
    prompt: PromptId,
    request: u64,
    cancelled: bool,
    /// Titles, kinds and files of its tool calls.
    tools: BTreeMap<String, Tool>,
    /// How much is in `tools`, in bytes.
    tool_bytes: usize,
    last_words: LastWords,
}

#[derive(Clone, Debug, Default)]
struct Tool {
    title: Option<String>,
    kind: Option<String>,
    paths: Vec<String>,
    /// It has more paths than are kept, or longer ones: none is known.
    has_too_many_paths: bool,
}

/// Something that an agent is to set.
#[derive(Debug)]
struct Asked {
    /// The number of the request to us; none: it was set before.
    request: Option<u64>,
    setting: Setting,
    /// What the agent has said since that it is.
    told: Option<String>,
}

/// A conversation with an agent.
#[derive(Debug)]
pub struct Conversation {
    opening: Opening,
    stage: Stage,
    /// The request that the stage waits for.
    awaited: u64,
    next: u64,
    restore: Restore,
    can_load: bool,
    can_resume: bool,
    takes: Takes,
    takes_prompt: TakesPrompt,
    /// Ways by which it can reach MCP servers by itself.
    reaches: Vec<Transport>,
    /// It takes MCP servers that are programs. Version 1 of the protocol wants every agent to; one that says no is believed.
    takes_programs: bool,
    logins: Vec<String>,
    session: String,
    /// The agent's process. It has answered nothing before that is known.
    pub agent_pid: u32,
    turn: Option<Turn>,
    /// Questions that wait for an answer, by our number: the agent's id of the request, and whether it was asked in a turn.
    asks: BTreeMap<u64, (Value, bool)>,
    last_ask: u64,
    /// Ids of what can be set: configuration options, and whether they are switches.
    options: BTreeMap<String, bool>,
    /// It has modes.
    modes: bool,
    /// The option that is its mode, too.
    mode_option: Option<String>,
    /// What it has said of all that since its session was opened; kept until it takes prompts.
    offered: Offered,
    /// How much is in that, in bytes.
    offered_bytes: usize,
    /// What is still to be set before it takes prompts, the next one last.
    to_set: Vec<Setting>,
    /// What it was asked to set and has not answered, by the number of the request to it.
    setting: BTreeMap<u64, Asked>,
    /// Sub-agents that it has told of, by its ids of them.
    children: BTreeSet<String>,
    /// What a person was told in this turn of what the agent sends, so that it is told once.
    said: BTreeSet<&'static str>,
    /// What a person is still to be told.
    notices: Vec<String>,
    /// Where it wants somebody to log in.
    addresses: Addresses,
}

impl Conversation {
    /// Begins: what to send first.
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
            said: BTreeSet::new(),
            notices: Vec::new(),
            addresses: Addresses::default(),
        };
        // It is told once, and the worker has nothing to add to what it reads and writes by itself. What it asks for all the
        // same, or asks for after that client has gone, is seen to.
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

    /// The prompt whose turn runs.
    pub fn turn(&self) -> Option<PromptId> {
        self.turn.as_ref().map(|turn| turn.prompt)
    }

    /// Tells a person something about what the agent sends, once in a turn.
    pub fn say(&mut self, about: &'static str, text: impl FnOnce() -> String) {
        if self.said.insert(about) {
            self.notices.push(text());
        }
    }

    /// Hears what the agent prints beside the protocol.
    pub fn printed(&mut self, bytes: &[u8]) -> Vec<Do> {
        let addresses = self.addresses.hear(bytes).into_iter();
        addresses.map(|at| notice(format!("the agent asks you to log in: open {at}"))).collect()
    }

    /// What a person is to be told.
    pub fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// What is held here of what the agent has said, in bytes.
    pub fn held(&self) -> usize {
        let tools = self.turn.as_ref().map_or(0, |turn| turn.tool_bytes);
        tools + self.offered_bytes + (self.options.len() + self.asks.len() + self.children.len()) * bounds::ID
    }

    /// Takes a line that the agent wrote, without its end.
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

    /// A line that cannot be read: whoever waits for an answer gets one.
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
            // What is told and needs no answer may be unknown: `$/cancel_request`, extensions.
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

    /// Gives the agent a prompt. `history` is what it has to be told of the turns before.
    pub fn prompt(
        &mut self,
        prompt: PromptId,
        text: String,
        history: &[Exchange],
        attachments: &[Attachment],
    ) -> Vec<Do> {
        let attached = match self.takes.blocks(attachments) {
            Ok(attached) => attached,
            Err(message) => {
                let (end, exit, left_behind) = (TurnEnd::Failed { message }, None, 0);
                return vec![Do::Report(Report::TurnEnded { prompt, end, exit, left_behind })];
            }
        };
        let text = transcript(history, text);
        let text = (!text.is_empty()).then(|| json!({ "type": "text", "text": text }));
        let blocks: Vec<Value> = text.into_iter().chain(attached).collect();
        let params = json!({ "sessionId": self.session, "prompt": blocks });
        let (request, send) = self.request("session/prompt", params);
        self.said.clear();
        self.turn = Some(Turn {
            prompt,
            request,
            cancelled: false,
            tools: BTreeMap::new(),
            tool_bytes: 0,
            last_words: LastWords::default(),
        });
        let agent_pid = self.agent_pid;
        vec![Do::Report(Report::TurnStarted { prompt, agent_pid }), send]
    }

    /// Asks the agent to end the turn. Its open questions are answered: agents wait for that, some for ever.
    pub fn cancel(&mut self) -> Vec<Do> {
        let Some(turn) = self.turn.as_mut().filter(|turn| !turn.cancelled) else {
            return Vec::new();
        };
        turn.cancelled = true;
        let cancel = notification("session/cancel", json!({ "sessionId": self.session }));
        let asks = self.close_asks();
        std::iter::once(Do::Send(cancel)).chain(asks).collect()
    }

    /// Answers the questions of the turn. What was asked between turns is not its.
    fn close_asks(&mut self) -> Vec<Do> {
        let (in_turn, between) =
            std::mem::take(&mut self.asks).into_iter().partition(|(_, (_, in_turn))| *in_turn);
        self.asks = between;
        let in_turn: BTreeMap<u64, (Value, bool)> = in_turn;
        in_turn.into_values().map(|(id, _)| cancelled(id)).collect()
    }

    /// Somebody has decided about a question.
    pub fn answer(&mut self, request: u64, option: Option<String>) -> Vec<Do> {
        let Some((id, _)) = self.asks.remove(&request) else {
            return Vec::new();
        };
        vec![match option {
            Some(option) => result(id, json!({ "outcome": { "outcome": "selected", "optionId": option } })),
            None => cancelled(id),
        }]
    }

    // --- what the agent asks ---

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

    fn permission(&mut self, id: Value, params: Value) -> Vec<Do> {
        let tool = &params["toolCall"];
        let tool_call = text_at(tool, "toolCallId").unwrap_or_default();
        let in_turn = match (&self.turn, &self.stage) {
            (Some(turn), _) if turn.cancelled => return vec![cancelled(id)],
            (Some(turn), _) => Some(turn),
            (None, Stage::Ready) => None,
            // Whoever could answer does not know of the agent yet.
            (None, _) => {
                let what = beginning(&text_at(tool, "title").unwrap_or_else(|| "use a tool".to_owned()));
                let text = format!(
                    "while it started the agent asked: {what}; nobody could answer, and it was not allowed"
                );
                return vec![notice(text), cancelled(id)];
            }
        };
        let mut about = in_turn.and_then(|turn| turn.tools.get(&tool_call).cloned()).unwrap_or_default();
        about.learn(tool);
        let prompt = in_turn.map_or(PromptId::NONE, |turn| turn.prompt);
        let options = params["options"].as_array().map(Vec::as_slice).unwrap_or_default();
        let count = options.len();
        let options = options.iter().filter_map(|option| {
            let id = text_at(option, "optionId")?;
            let name = text_at(option, "name").unwrap_or_else(|| id.clone());
            let kind = text_at(option, "kind").unwrap_or_default();
            Some(PermissionOption { id, name, kind })
        });
        let options: Vec<PermissionOption> = options.take(bounds::OPTIONS + 1).collect();
        let refused = if self.asks.len() >= bounds::PERMISSIONS {
            Some((INTERNAL, format!("{} questions wait for an answer already", bounds::PERMISSIONS)))
        } else if count > bounds::OPTIONS {
            Some((INVALID_PARAMS, format!("a question has at most {} options", bounds::OPTIONS)))
        } else if !bounds::fits(&tool_call, bounds::TOOL_ID) {
            Some((INVALID_PARAMS, format!("the id of a tool call has at most {} bytes", bounds::TOOL_ID)))
        } else if !options.iter().all(|option| bounds::fits(&option.id, bounds::ID)) {
            Some((INVALID_PARAMS, format!("the id of an option has at most {} bytes", bounds::ID)))
        } else if about.has_too_many_paths {
            Some((INVALID_PARAMS, format!("a tool call has at most {} locations", bounds::PATHS)))
        } else {
            None
        };
        if let Some((code, why)) = refused {
            self.say("permission", || format!("a question of the agent was refused: {why}"));
            return vec![error(id, code, &why)];
        }
        let ask = PermissionAsk {
            tool_call,
            title: about.title.unwrap_or_else(|| "use a tool".to_owned()),
            kind: about.kind,
            paths: about.paths,
            options,
        };
        self.last_ask += 1;
        self.asks.insert(self.last_ask, (id, prompt != PromptId::NONE));
        let (request, payload) = (self.last_ask, params.to_string());
        vec![Do::Report(Report::PermissionAsked { prompt, request, ask, payload })]
    }

    fn update(&mut self, mut params: Value) -> Vec<Do> {
        let session = text_at(&params, "sessionId").unwrap_or_default();
        let payload = params["update"].take();
        if !self.session.is_empty() && session != self.session {
            return self.child_update(session, payload);
        }
        self.learn_options(&payload);
        self.learn_settings(&payload);
        if !payload.is_object() {
            return vec![Do::Log("an update without content".to_owned())];
        }
        let kind = text_at(&payload, "sessionUpdate").unwrap_or_default();
        // What the agent tells of the conversation that it loads is in the journal already.
        let present = matches!(
            kind.as_str(),
            "available_commands_update" | "current_mode_update" | "config_option_update"
        );
        if self.stage != Stage::Ready && !present {
            return Vec::new();
        }
        self.learn_child(&payload);
        let update = self.understand(&kind, &payload);
        let prompt = self.turn();
        vec![Do::Report(Report::Update { prompt, update, payload: payload.to_string() })]
    }

    /// A sub-agent within the agent tells something. It is recorded with its id, and is no part of what the agent says.
    fn child_update(&mut self, child: String, update: Value) -> Vec<Do> {
        if !self.children.contains(&child) {
            return vec![Do::Log(format!("an update for another session, {}", beginning(&child)))];
        }
        self.learn_child(&update);
        if self.stage != Stage::Ready || !update.is_object() {
            return Vec::new();
        }
        let payload = json!({ "sessionUpdate": "child_update", "sessionId": child, "update": update });
        let (prompt, update) = (self.turn(), Update::Other);
        vec![Do::Report(Report::Update { prompt, update, payload: payload.to_string() })]
    }

    /// A child is told of before anything is told with its id.
    fn learn_child(&mut self, update: &Value) {
        if update["sessionUpdate"] != "subagent_update" {
            return;
        }
        let Some(id) = text_at(update, "sessionId").filter(|id| bounds::fits(id, bounds::ID)) else { return };
        if self.children.len() < CHILDREN {
            self.children.insert(id);
        } else if !self.children.contains(&id) {
            self.say("children", || {
                format!("the agent has more than {CHILDREN} sub-agents; of others nothing is recorded")
            });
        }
    }

    fn understand(&mut self, kind: &str, payload: &Value) -> Update {
        let text = || text_at(&payload["content"], "text").unwrap_or_default();
        match kind {
            "agent_message_chunk" => {
                let text = text();
                if let Some(turn) = &mut self.turn {
                    turn.last_words.say(&text);
                }
                Update::Message { text }
            }
            "agent_thought_chunk" => Update::Thought { text: text() },
            "tool_call" | "tool_call_update" => {
                let Some(id) = text_at(payload, "toolCallId") else { return Update::Other };
                let ended = matches!(payload["status"].as_str(), Some("completed" | "failed"));
                if !bounds::fits(&id, bounds::TOOL_ID) {
                    self.say("tool", || {
                        let most = bounds::TOOL_ID;
                        format!("a tool call of the agent is not followed: its id has more than {most} bytes")
                    });
                    return Update::Other;
                }
                let title = self.turn.as_mut().and_then(|turn| {
                    turn.last_words.forget();
                    turn.learn(&id, payload)
                });
                match kind {
                    "tool_call" => Update::ToolCall { title: title.unwrap_or_else(|| id.clone()), id, ended },
                    _ => Update::ToolCallUpdate { id, ended },
                }
            }
            "plan" | "plan_update" | "plan_removed" => Update::Plan,
            "usage_update" => Update::Usage(Spent {
                cost_micro_usd: match payload["cost"]["currency"].as_str() {
                    Some("USD") => payload["cost"]["amount"].as_f64().map(|cost| (cost * 1e6) as u64),
                    _ => None,
                },
                ..Spent::default()
            }),
            _ => Update::Other,
        }
    }

    // --- what the agent answers ---

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

    fn initialized(&mut self, result: Value) -> Vec<Do> {
        let answer = match serde_json::from_value::<acp::InitializeResponse>(result.clone()) {
            Ok(answer) => answer,
            Err(error) => return vec![died(format!("the agent's first answer is not one: {error}"))],
        };
        if answer.protocol_version != agent_client_protocol_schema::ProtocolVersion::V1 {
            let version = answer.protocol_version;
            return vec![died(format!("the agent speaks version {version} of the protocol, kennel 1"))];
        }
        self.can_load = answer.agent_capabilities.load_session;
        self.can_resume = result["agentCapabilities"]["sessionCapabilities"]["resume"].is_object();
        self.takes = Takes::told(&result["agentCapabilities"]["promptCapabilities"]);
        let prompt = &result["agentCapabilities"]["sessionCapabilities"]["systemPrompt"];
        self.takes_prompt = match (prompt.is_object(), prompt["mode"]["override"].is_object()) {
            (true, true) => TakesPrompt::Instead,
            (true, false) => TakesPrompt::Beside,
            (false, _) => TakesPrompt::Untold,
        };
        let able = &answer.agent_capabilities.mcp_capabilities;
        let ways = [(able.http, Transport::Http), (able.sse, Transport::Sse)];
        self.reaches = ways.into_iter().filter(|(can, _)| *can).map(|(_, way)| way).collect();
        let programs = result["agentCapabilities"]["mcpCapabilities"].get("stdio");
        self.takes_programs = !matches!(programs, Some(Value::Null | Value::Bool(false)));
        let about = |name| text_at(&result["agentInfo"], name).map(|text| beginning(&text));
        let (name, version) = (about("name"), about("version"));
        let details = AgentDetails { name, version, resume: self.can_resume, load: self.can_load };
        let mut all = vec![Do::Report(Report::Introduced(details))];
        let methods = result["authMethods"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ways = methods.iter().filter_map(|method| text_at(method, "id"));
        self.logins = ways.filter(|id| bounds::fits(id, bounds::ID)).take(LOGINS).collect();
        match self.opening.login.clone() {
            Some(method) => {
                self.stage = Stage::LoggingIn;
                all.push(self.await_answer("authenticate", json!({ "methodId": method })));
            }
            None => all.extend(self.open()),
        }
        all
    }

    /// Whether it takes up its conversation now.
    pub fn is_taken_up(&self) -> bool {
        matches!(self.stage, Stage::Resuming | Stage::Loading)
    }

    /// It takes up its conversation, and has said nothing for too long. An answer that comes after all is one to nothing.
    pub fn too_slow(&mut self) -> Vec<Do> {
        self.next_way("it says nothing any more")
    }

    /// This way back into the conversation leads nowhere; tries the next.
    fn next_way(&mut self, why: &str) -> Vec<Do> {
        let (what, next) = match self.stage {
            Stage::Resuming if self.can_load => ("resume", self.load()),
            Stage::Resuming => ("resume", self.create()),
            Stage::Loading => ("load", self.create()),
            Stage::Initializing | Stage::LoggingIn | Stage::Creating | Stage::Setting | Stage::Ready => {
                return Vec::new();
            }
        };
        let failed = notice(format!("the agent could not {what} its conversation: {why}"));
        std::iter::once(failed).chain(next).collect()
    }

    /// The best way back into the conversation that the agent offers.
    fn open(&mut self) -> Vec<Do> {
        let mut all: Vec<Do> =
            self.prompt_not_taken().map(|why| notice(why.to_owned())).into_iter().collect();
        all.extend(match self.opening.agent_session.clone() {
            Some(session) if self.can_resume || self.can_load => {
                self.session = session;
                if self.can_resume { self.resume() } else { self.load() }
            }
            _ => self.create(),
        });
        all
    }

    /// Why it is not certain that the agent takes its system prompt.
    fn prompt_not_taken(&self) -> Option<&'static str> {
        match (self.opening.system_prompt.as_ref()?, &self.takes_prompt) {
            (_, TakesPrompt::Untold) => Some(
                "the agent does not say that it takes a system prompt; it is given one as `_meta.systemPrompt`, which it may pass over",
            ),
            (SystemPrompt::Instead(_), TakesPrompt::Beside) => {
                Some("the agent takes no system prompt in the place of its own, and is not given one")
            }
            _ => None,
        }
    }

    /// Gives the agent its system prompt, in the form in which it takes it.
    fn add_prompt(&self, params: &mut Value) {
        let Some(prompt) = &self.opening.system_prompt else { return };
        let content = |text: &str| json!([{ "type": "text", "text": text }]);
        match (prompt, &self.takes_prompt) {
            (SystemPrompt::Beside(text), TakesPrompt::Untold) => {
                params["_meta"] = json!({ "systemPrompt": { "append": text } });
            }
            (SystemPrompt::Instead(text), TakesPrompt::Untold) => {
                params["_meta"] = json!({ "systemPrompt": text });
            }
            (SystemPrompt::Beside(text), _) => {
                params["systemPrompt"] = json!({ "mode": "append", "content": content(text) });
            }
            (SystemPrompt::Instead(text), TakesPrompt::Instead) => {
                params["systemPrompt"] = json!({ "mode": "override", "content": content(text) });
            }
            (SystemPrompt::Instead(_), TakesPrompt::Beside) => {}
        }
    }

    fn resume(&mut self) -> Vec<Do> {
        self.stage = Stage::Resuming;
        let params = self.params(true);
        vec![self.await_answer("session/resume", params)]
    }

    fn load(&mut self) -> Vec<Do> {
        self.stage = Stage::Loading;
        let params = self.params(true);
        vec![self.await_answer("session/load", params)]
    }

    fn create(&mut self) -> Vec<Do> {
        self.stage = Stage::Creating;
        self.session.clear();
        let params = self.params(false);
        let mut all = self.out_of_reach();
        all.push(self.await_answer("session/new", params));
        all
    }

    /// Names the servers that the agent cannot be given.
    fn out_of_reach(&self) -> Vec<Do> {
        let ways = [Transport::Http, Transport::Sse].into_iter().filter(|way| !self.reaches.contains(way));
        let said = ways.filter_map(|way| {
            let of_it = self.opening.remote_servers.iter().filter(|server| server.transport == way);
            let names: Vec<String> = of_it.map(|server| beginning(&server.name)).collect();
            let (how, names) = (way.name(), names.join(", "));
            let text = format!("the agent takes no MCP servers by {how}, and is not given these: {names}");
            (!names.is_empty()).then(|| notice(text))
        });
        let programs: Vec<String> =
            self.opening.mcp_servers.iter().map(|server| beginning(&server.name)).collect();
        let no_programs = (!self.takes_programs && !programs.is_empty()).then(|| {
            let names = programs.join(", ");
            let tools = match programs.iter().any(|name| name == protocol::MCP_SERVER) {
                true => "; so it has no tools for sub-agents",
                false => "",
            };
            notice(format!(
                "the agent takes no MCP servers that are programs, and is not given these: {names}{tools}"
            ))
        });
        said.chain(no_programs).collect()
    }

    fn params(&self, known: bool) -> Value {
        let programs = self.opening.mcp_servers.iter().filter(|_| self.takes_programs);
        let servers = programs.map(|server| {
            let env = server.env.iter().map(|(name, value)| json!({ "name": name, "value": value }));
            json!({ "name": server.name, "command": server.command, "args": server.args, "env": env.collect::<Vec<_>>() })
        });
        let remote =
            self.opening.remote_servers.iter().filter(|server| self.reaches.contains(&server.transport));
        let remote = remote.map(|server| {
            let headers = server.headers.iter().map(|(name, value)| json!({ "name": name, "value": value }));
            json!({ "type": server.transport.name(), "name": server.name, "url": server.url, "headers": headers.collect::<Vec<_>>() })
        });
        let servers = servers.chain(remote);
        let mut params = json!({ "cwd": self.opening.cwd, "mcpServers": servers.collect::<Vec<_>>() });
        if known {
            params["sessionId"] = json!(self.session);
        }
        self.add_prompt(&mut params);
        params
    }

    fn opened(&mut self, restore: Restore, result: &Value) -> Vec<Do> {
        self.restore = restore;
        let mut all = vec![Do::Report(Report::AgentSession { id: self.session.clone() })];
        self.offered = Offered::opened(result);
        self.offered_bytes = result.to_string().len();
        self.learn_options(result);
        self.modes |= result["modes"].is_object();
        let options = result["configOptions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let choice = options.iter().find(|option| option["category"] == "model");
        let choice = choice.and_then(|option| text_at(option, "id"));
        if let (Some(model), None, false) = (&self.opening.model, &choice, self.opening.started_with_model) {
            let model = beginning(model);
            all.push(notice(format!(
                "the agent offers no choice of its model: `{model}` was asked for and is not set (its command line can name \
                 it with {{model}})"
            )));
        }
        let model = self.opening.model.clone().zip(choice).map(|(value, name)| Setting { name, value });
        // What was set later goes before what the profile says.
        self.to_set = self.opening.settings.iter().rev().cloned().chain(model).collect();
        all.extend(self.set_next());
        all
    }

    // --- settings ---

    fn learn_options(&mut self, told: &Value) {
        if let Some(options) = told["configOptions"].as_array() {
            let all =
                options.iter().map(|option| Some((text_at(option, "id")?, option["type"] == "boolean")));
            let all = all.flatten().filter(|(id, _)| bounds::fits(id, bounds::ID));
            self.options = all.take(SETTABLE).collect();
            let mode = settings::mode_option(&told["configOptions"]).and_then(|option| text_at(option, "id"));
            self.mode_option = mode.filter(|id| self.options.contains_key(id));
            if self.options.len() < options.len() {
                self.say("options", || {
                    let (most, ids) = (SETTABLE, bounds::ID);
                    format!("not all that the agent offers can be set: {most} options at most, ids of {ids} bytes at most")
                });
            }
        }
    }

    /// Sets again what was set before, one after the other: it may depend on what goes before it.
    fn set_next(&mut self) -> Vec<Do> {
        let mut all = Vec::new();
        while let Some(setting) = self.to_set.pop() {
            match self.setting_request(&setting) {
                Ok((method, params)) => {
                    self.stage = Stage::Setting;
                    let (id, send) = self.request(method, params);
                    self.setting.insert(id, Asked { request: None, setting, told: None });
                    all.push(send);
                    return all;
                }
                Err(why) => all.push(notice(format!(
                    "{} is not set any more: {why}",
                    beginning(&format!("{}={}", setting.name, setting.value))
                ))),
            }
        }
        all.extend(self.ready());
        all
    }

    /// Sets something in the agent, whether a turn runs or not.
    pub fn set(&mut self, request: u64, setting: Setting) -> Vec<Do> {
        match self.setting_request(&setting) {
            Ok((method, params)) => {
                let (id, send) = self.request(method, params);
                self.setting.insert(id, Asked { request: Some(request), setting, told: None });
                vec![send]
            }
            Err(reason) => {
                let answer = SettingAnswer::Refused { reason };
                vec![Do::Report(Report::SettingAnswered { request, answer })]
            }
        }
    }

    /// What to ask the agent for, or why it is not asked.
    fn setting_request(&self, setting: &Setting) -> Result<(&'static str, Value), String> {
        let Setting { name, value } = setting;
        // An agent that has its mode in two forms has one mode.
        let name = match &self.mode_option {
            Some(option) if name == "mode" => option,
            Some(_) | None => name,
        };
        let mut params = json!({ "sessionId": self.session, "configId": name, "value": value });
        match self.options.get(name) {
            Some(true) => {
                let on: bool = value.parse().map_err(|_| "it can be true or false".to_owned())?;
                params["type"] = json!("boolean");
                params["value"] = json!(on);
                Ok(("session/set_config_option", params))
            }
            Some(false) => Ok(("session/set_config_option", params)),
            None if name == "mode" && self.modes => {
                Ok(("session/set_mode", json!({ "sessionId": self.session, "modeId": value })))
            }
            None => {
                let mut known: Vec<&str> = self.options.keys().map(String::as_str).collect();
                known.extend(self.modes.then_some("mode"));
                let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
                Err(format!("the agent has no such setting; it has {}", beginning(&known)))
            }
        }
    }

    /// Takes to heart what the agent tells of its settings, for those that were asked for and are not answered.
    fn learn_settings(&mut self, told: &Value) {
        if self.stage != Stage::Ready {
            self.offered.update(told);
        }
        for asked in self.setting.values_mut() {
            let name = &asked.setting.name;
            let mode = (told["sessionUpdate"] == "current_mode_update")
                .then(|| text_at(told, "currentModeId"))
                .flatten()
                .filter(|_| name == "mode" || self.mode_option.as_ref() == Some(name));
            asked.told = mode.or_else(|| settings::now(&told["configOptions"], name)).or(asked.told.take());
        }
    }

    /// What the agent has set by its answer, which is given as it holds; and what a person is told if that is not what it was
    /// asked for.
    fn confirmed(&mut self, asked: &Asked, mut answer: Value) -> (Value, Vec<Do>) {
        self.learn_options(&answer);
        let Setting { name, value } = &asked.setting;
        let answered = settings::now(&answer["configOptions"], name);
        let is_it = |told: &&String| *told == value;
        // Some have two places for one setting, and only one of them is up to date.
        let holds = asked.told.as_ref().filter(is_it).or(answered.as_ref()).or(asked.told.as_ref());
        let holds = holds.map_or_else(|| value.clone(), String::clone);
        if answered.as_ref().is_some_and(|answered| *answered != holds) {
            let mut mended = Offered::opened(&answer);
            mended.set(name, &holds, &Value::Null);
            answer["configOptions"] = mended.known()["configOptions"].clone();
        }
        if !answer.is_object() {
            answer = json!({});
        }
        if holds == *value {
            return (answer, Vec::new());
        }
        if answered.is_none() {
            answer["currentModeId"] = json!(holds);
        }
        let (asked, holds) = (beginning(&format!("{name}={value}")), beginning(&holds));
        (answer, vec![notice(format!("the agent was asked to set {asked}, and says that it is {holds}"))])
    }

    fn set_or_not(&mut self, request: u64, asked: Asked, answer: Result<Value, Value>) -> Vec<Do> {
        let (answer, mut all) = match answer {
            Ok(result) => {
                let (payload, said) = self.confirmed(&asked, result);
                (SettingAnswer::Set { payload: payload.to_string() }, said)
            }
            Err(error) => (SettingAnswer::Refused { reason: words(&error) }, Vec::new()),
        };
        all.push(Do::Report(Report::SettingAnswered { request, answer }));
        all
    }

    /// The agent has answered something that was set before.
    fn set_again(&mut self, asked: Asked, answer: Result<Value, Value>) -> Vec<Do> {
        let Setting { name, value } = &asked.setting;
        let mut all = match answer {
            Ok(result) => {
                let (answer, said) = self.confirmed(&asked, result);
                self.offered.set(name, value, &answer);
                said
            }
            Err(error) if error["code"].as_i64() == Some(AUTH_REQUIRED) => {
                return vec![Do::Give(Report::LoginNeeded { message: self.needs_login(&error) })];
            }
            Err(error) => {
                let what = beginning(&format!("{name}={value}"));
                let why = words(&error);
                vec![notice(format!("the agent did not set {what}: {why}"))]
            }
        };
        all.extend(self.set_next());
        all
    }

    fn ready(&mut self) -> Vec<Do> {
        self.stage = Stage::Ready;
        // What it has confirmed by now, and not what it began with.
        self.offered_bytes = 0;
        let mut payload = Value::Object(std::mem::take(&mut self.offered).into_known());
        payload["sessionUpdate"] = json!("session_opened");
        let (prompt, update, payload) = (None, Update::Other, payload.to_string());
        let (restore, agent_pid) = (self.restore, Some(self.agent_pid));
        vec![
            Do::Report(Report::Update { prompt, update, payload }),
            Do::Report(Report::Ready { restore, agent_pid }),
        ]
    }

    fn turn_ended(&mut self, answer: Result<Value, Value>) -> Vec<Do> {
        let Some(turn) = self.turn.take() else { return Vec::new() };
        let mut all = self.close_asks();
        let end = match answer {
            Ok(result) => {
                let usage = &result["usage"];
                if usage.is_object() {
                    let spent = Spent {
                        input_tokens: usage["inputTokens"].as_u64(),
                        output_tokens: usage["outputTokens"].as_u64(),
                        cost_micro_usd: None,
                    };
                    let (update, payload) = (Update::Usage(spent), usage.to_string());
                    all.push(Do::Report(Report::Update { prompt: Some(turn.prompt), update, payload }));
                }
                let reason = text_at(&result, "stopReason").unwrap_or_else(|| "unknown".to_owned());
                if let Some(error) = turn.last_words.error() {
                    let error = beginning(error);
                    all.push(notice(format!(
                        "the agent ended its turn with what looks like an error of its model: {error}"
                    )));
                }
                TurnEnd::Stopped { reason }
            }
            // Agents answer so when they were asked to cancel, too.
            Err(_) if turn.cancelled => TurnEnd::Stopped { reason: "cancelled".to_owned() },
            Err(error) if error["code"].as_i64() == Some(AUTH_REQUIRED) => {
                TurnEnd::Failed { message: self.needs_login(&error) }
            }
            Err(error) => TurnEnd::Failed { message: format!("the agent failed: {}", words(&error)) },
        };
        let (prompt, exit, left_behind) = (turn.prompt, None, 0);
        all.push(Do::Report(Report::TurnEnded { prompt, end, exit, left_behind }));
        all
    }

    /// What a person can do about it.
    fn needs_login(&self, error: &Value) -> String {
        let ways = match &self.logins[..] {
            [] => String::new(),
            ways => format!(
                " It offers: {}.",
                ways.iter().map(|way| beginning(way)).collect::<Vec<_>>().join(", ")
            ),
        };
        // Whole, however long the agent's words are.
        let said = [&error["message"], &error["data"]].map(|text| text.as_str().and_then(address));
        let at = said.into_iter().flatten().next().or_else(|| self.addresses.newest().map(str::to_owned));
        let at = at.map(|at| format!(" Open {at} to log in.")).unwrap_or_default();
        format!(
            "the agent asks for a log-in ({}).{at}{ways} Log in as `kennel agents ls --json` says for this agent, or \
             name one of its ways as `login` in its profile, then restart the session",
            words(error)
        )
    }

    // --- messages ---

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

impl Turn {
    /// Remembers what is told of a tool call, as far as there is room; its title, if it has told one.
    fn learn(&mut self, id: &str, payload: &Value) -> Option<String> {
        let known = self.tools.remove(id);
        self.tool_bytes -= known.as_ref().map_or(0, |tool| id.len() + tool.bytes());
        let mut tool = known.unwrap_or_default();
        tool.learn(payload);
        let title = tool.title.clone();
        let bytes = id.len() + tool.bytes();
        if self.tools.len() < TOOLS && self.tool_bytes + bytes <= TOOLS_BYTES {
            self.tool_bytes += bytes;
            self.tools.insert(id.to_owned(), tool);
        }
        title
    }
}

impl Tool {
    /// What is told of it may come in parts.
    fn learn(&mut self, payload: &Value) {
        let part = |name, most| {
            let mut text = text_at(payload, name)?;
            bounds::cut(&mut text, most);
            Some(text)
        };
        self.title = part("title", bounds::TITLE).or(self.title.take());
        self.kind = part("kind", bounds::KIND).or(self.kind.take());
        if let Some(locations) = payload["locations"].as_array() {
            let paths = locations.iter().filter_map(|location| text_at(location, "path"));
            self.paths = paths.take(bounds::PATHS + 1).collect();
            self.has_too_many_paths = !bounds::paths_fit(&self.paths);
            if self.has_too_many_paths {
                self.paths = Vec::new();
            }
        }
    }

    fn bytes(&self) -> usize {
        let texts = [&self.title, &self.kind].into_iter().flatten().chain(&self.paths);
        size_of::<Self>() + texts.map(|text| text.len() + size_of::<String>()).sum::<usize>()
    }
}

/// Whether JSON-RPC takes it for an id, and it is not too long to be kept.
fn is_id(id: &Value) -> bool {
    match id {
        Value::String(id) => bounds::fits(id, bounds::ID),
        Value::Number(_) => true,
        _ => false,
    }
}

fn notification(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

/// The answer to a request of the agent.
pub fn result(id: Value, result: Value) -> Do {
    Do::Send(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

/// The refusal of a request of the agent.
pub fn error(id: Value, code: i64, message: &str) -> Do {
    error_about(id, code, message, Value::Null)
}

/// The same with what it is about, for programs.
pub fn error_about(id: Value, code: i64, message: &str, data: Value) -> Do {
    let mut error = json!({ "code": code, "message": message });
    if !data.is_null() {
        error["data"] = data;
    }
    Do::Send(json!({ "jsonrpc": "2.0", "id": id, "error": error }))
}

fn cancelled(id: Value) -> Do {
    result(id, json!({ "outcome": { "outcome": "cancelled" } }))
}

fn notice(text: String) -> Do {
    Do::Report(Report::Notice { text })
}

/// The agent is to be ended.
pub fn died(message: String) -> Do {
    Do::Give(Report::AgentDied { message })
}

fn to_value<T: serde::Serialize>(value: &T) -> Value {
    // Types of the schema always can be.
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// A text in an object.
pub fn text_at(value: &Value, name: &str) -> Option<String> {
    value[name].as_str().map(str::to_owned)
}

/// An error as the agent words it.
fn words(error: &Value) -> String {
    let message = error["message"].as_str().unwrap_or("no reason given");
    match &error["data"] {
        Value::Null => beginning(message),
        Value::String(data) => format!("{}: {}", beginning(message), beginning(data)),
        data => format!("{}: {}", beginning(message), beginning(&data.to_string())),
    }
}

/// The beginning of a text from outside, on one line and without control characters.
pub fn beginning(text: &str) -> String {
    const CHARS: usize = 300;
    let mut shown: String = text.chars().take(CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_of_tool_calls_is_bounded_whatever_they_say() {
        let mut turn = Turn {
            prompt: PromptId(1),
            request: 1,
            cancelled: false,
            tools: BTreeMap::new(),
            tool_bytes: 0,
            last_words: LastWords::default(),
        };
        let path = "p".repeat(200);
        let locations: Vec<Value> = (0..bounds::PATHS).map(|_| json!({ "path": path })).collect();
        for round in 0..3 {
            for number in 0..TOOLS {
                let told = json!({ "title": "t".repeat(20_000), "kind": "k".repeat(20_000), "locations": locations });
                let title = turn.learn(&format!("call-{number}"), &told).unwrap();
                assert!(bounds::fits(&title, bounds::TITLE), "round {round}");
            }
            let held: usize = turn.tools.iter().map(|(id, tool)| id.len() + tool.bytes()).sum();
            assert_eq!(held, turn.tool_bytes);
            assert!(held <= TOOLS_BYTES && held > TOOLS_BYTES / 2, "{held} bytes");
        }
        // What is told in parts is one tool call, and what is forgotten is not counted.
        let before = turn.tool_bytes;
        turn.learn("call-0", &json!({ "title": "short" }));
        assert!(turn.tool_bytes < before);
    }

    #[test]
    fn a_tool_call_with_more_paths_than_are_kept_has_none_and_says_so() {
        let mut tool = Tool::default();
        let told = |count: usize| {
            let locations: Vec<Value> = (0..count).map(|at| json!({ "path": format!("/{at}") })).collect();
            json!({ "locations": locations })
        };
        tool.learn(&told(bounds::PATHS));
        assert!(tool.paths.len() == bounds::PATHS && !tool.has_too_many_paths);
        tool.learn(&told(bounds::PATHS + 1));
        assert!(tool.paths.is_empty() && tool.has_too_many_paths, "rules by path see none of them");
    }
}
