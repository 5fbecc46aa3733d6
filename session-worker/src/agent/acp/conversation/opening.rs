//! The way into a session with the agent: `initialize`, a log-in, and the best way back into the conversation that the agent
//! offers.

use agent_client_protocol_schema::v1 as acp;
use protocol::settings::Offered;
use protocol::wire::{AgentDetails, McpServer, RemoteServer, Report, Setting, Transport, Update};
use protocol::{Restore, bounds};
use serde_json::{Value, json};

use super::told::Told;
use super::{Conversation, Stage};
use crate::agent::acp::attachments::Takes;
use crate::agent::acp::login::address;
use crate::agent::acp::message::{Do, beginning, died, notice, text_at, words};

/// Limit of the log-in methods that a message names.
const LOGINS: usize = 32;

/// Parameters with which the worker opens the agent's session.
#[derive(Debug)]
pub struct Opening {
    /// Working directory, absolute.
    pub cwd: String,
    /// MCP servers that are programs.
    pub mcp_servers: Vec<McpServer>,
    /// MCP servers that the agent reaches by HTTP, if it supports that.
    pub remote_servers: Vec<RemoteServer>,
    /// The driver reads files for the agent.
    pub reads_files: bool,
    /// The driver writes files for the agent.
    pub writes_files: bool,
    /// Log-in method from the profile.
    pub login: Option<String>,
    /// Model from the options, set if the agent offers a choice.
    pub model: Option<String>,
    /// System prompt from the profile.
    pub system_prompt: Option<SystemPrompt>,
    /// The agent's command line names the model.
    pub started_with_model: bool,
    /// Recorded settings, set again before the first prompt.
    pub settings: Vec<Setting>,
    /// The agent's own id of the conversation.
    pub agent_session: Option<String>,
    /// The session had turns before.
    pub conversation: bool,
}

/// A system prompt for an agent.
#[derive(Debug)]
pub enum SystemPrompt {
    /// Appended to the agent's own system prompt.
    Beside(String),
    /// The text replaces the agent's own system prompt.
    Instead(String),
}

/// Support of an agent for a system prompt (`sessionCapabilities.systemPrompt`).
#[derive(Debug, Default, PartialEq)]
pub(super) enum TakesPrompt {
    /// The agent does not say. Some agents then take `_meta.systemPrompt`.
    #[default]
    Untold,
    /// The agent appends it to its own.
    Beside,
    /// The agent appends it, or takes it in the place of its own.
    Instead,
}

impl Conversation {
    pub(super) fn initialized(&mut self, result: Value) -> Vec<Do> {
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

    /// Returns whether the agent restores its conversation now.
    pub fn is_taken_up(&self) -> bool {
        matches!(self.stage, Stage::Resuming | Stage::Loading)
    }

    /// Tries the next way to restore the conversation: the agent has said nothing for too long. A late answer is ignored.
    pub fn too_slow(&mut self) -> Vec<Do> {
        self.next_way("it says nothing any more")
    }

    /// Tries the next way to restore the conversation.
    pub(super) fn next_way(&mut self, why: &str) -> Vec<Do> {
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

    /// Restores the conversation in the best way that the agent supports, or opens a new session.
    pub(super) fn open(&mut self) -> Vec<Do> {
        let mut all: Vec<Do> =
            self.prompt_not_taken().map(|why| notice(why.to_owned())).into_iter().collect();
        all.extend(match self.opening.agent_session.clone() {
            Some(session) if self.can_resume || self.can_load => {
                self.session = session;
                // kennel's journal has nothing of the conversation, so what the agent says again while it loads is new.
                let loads = self.can_load && !self.opening.conversation;
                if self.can_resume && !loads { self.resume() } else { self.load() }
            }
            _ => self.create(),
        });
        all
    }

    /// Returns why the agent may not take its system prompt.
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

    /// Adds the system prompt, in the form that the agent supports.
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
        self.told = Told::default();
        self.session.clear();
        let params = self.params(false);
        let mut all = self.out_of_reach();
        all.push(self.await_answer("session/new", params));
        all
    }

    /// Makes notices about the MCP servers that the agent does not support.
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

    pub(super) fn opened(&mut self, restore: Restore, result: &Value) -> Vec<Do> {
        self.restore = restore;
        let mut all = vec![Do::Report(Report::AgentSession { id: self.session.clone() })];
        self.offered = Offered::opened(result);
        self.count_offered();
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
        // Settings of clients take precedence over the profile's model.
        self.to_set = self.opening.settings.iter().rev().cloned().chain(model).collect();
        all.extend(self.set_next());
        all
    }

    pub(super) fn ready(&mut self) -> Vec<Do> {
        self.stage = Stage::Ready;
        // The report contains the values that the agent has confirmed by now, not its first ones.
        self.offered_bytes = 0;
        let mut payload = Value::Object(std::mem::take(&mut self.offered).into_known());
        payload["sessionUpdate"] = json!("session_opened");
        let (prompt, update, payload) = (None, Update::Other, payload.to_string());
        let (restore, agent_pid) = (self.restore, Some(self.agent_pid));
        let told = std::mem::take(&mut self.told).update();
        let told =
            told.map(|told| Report::Update { prompt, update: Update::Other, payload: told.to_string() });
        let opened = Report::Update { prompt, update, payload };
        let reports = told.into_iter().chain([opened, Report::Ready { restore, agent_pid }]);
        reports.map(Do::Report).collect()
    }

    /// Makes the text about a log-in: the agent's words, its address and its methods.
    pub(super) fn needs_login(&self, error: &Value) -> String {
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
            "the agent asks for a log-in ({}).{at}{ways} Run `kennel login AGENT`, where AGENT is its profile, or \
             name one of its ways as `login` in its profile, then restart the session",
            words(error)
        )
    }
}
