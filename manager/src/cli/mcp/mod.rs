//! `mcp`: the tools by which an agent starts sub-agents, served over the Model Context Protocol on standard
//! input and output.
//!
//! kennel passes this program to agents that support MCP servers, and they run it as a child. It is a client
//! of the API like any other, with the token of its session. The token decides whose sub-agents these are;
//! the agent's arguments do not.

#[cfg(test)]
mod tests;
mod tools;
mod ways;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use hyper::body::Bytes;
use protocol::SessionId;
use protocol::api::{
    PromptRequest, SessionInfo, SessionOpts, Status, SubagentHandle, SubagentRequest, TurnResult,
};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::{RequestContext, ServerInitializeError};
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::cli::link::random_key;
use crate::cli::link::read;
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::worktree::Worktree;
use crate::client::{Client, ClientError, Request, encoded};
use crate::daemon::Paths;
use crate::session_manager::cut_to_end;
use tools::Abort;
use tools::Nothing;
use tools::One;
use tools::Start;
use tools::WAIT_S;
use tools::Wait;
use tools::tools;
use tools::understood;
use ways::credentials;
use ways::stdio;

/// The time to wait for a daemon that has just gone away. This process runs in a session and never starts a
/// daemon.
const PATIENCE: Duration = Duration::from_secs(5);
/// The interval between checks for the daemon.
const LOOK: Duration = Duration::from_millis(50);
/// The longest single wait, so that no lost connection costs more than that.
const ROUND: Duration = Duration::from_secs(10);
/// The longest text of a sub-agent that an agent receives, in bytes: it has to fit into the agent's context.
const MAX_TEXT: usize = 100_000;
/// The longest time for writing the last answers at the end.
const LAST_WORDS: Duration = Duration::from_millis(300);
const INSTRUCTIONS: &str = "Sub-agents work in the background, each in a process of its own that outlives crashes. \
    Start one with a task, go on with your own work, wait for it, and read what it has said.";

/// Serves the tools until standard input ends.
pub async fn mcp(paths: Paths) -> Outcome {
    let (own, bearer) = credentials()?;
    // A daemon whose socket had to move is found by its state directory, not by the path that the agent's
    // server once received.
    let client = Client::of_state_dir(paths.state_dir.clone(), paths.socket).with_token(&bearer);
    let inherited = std::env::var(protocol::MCP_FD).ok().and_then(|number| number.parse().ok());
    let client = inherited.into_iter().fold(client, Client::by_descriptor);
    let (asks, name) = (client.clone(), own.clone());
    let server = Server { client, own, state_dir: paths.state_dir };
    let failed = |what: String| Failure::failed("mcp", format!("the MCP client cannot be served: {what}"));
    let (lines, written) = stdio();
    let running = match server.serve(lines).await {
        Ok(running) => running,
        // The client left before its first request.
        Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => return Ok(()),
        Err(error) => return Err(failed(error.to_string())),
    };
    // A first request, so that the daemon knows that the agent has these tools. If the daemon is gone, the
    // next tool call reports that.
    tokio::spawn(async move {
        let _ = asks.ask(&Request::get(format!("/v1/sessions/{name}"))).await;
    });
    let served = running.waiting().await;
    // A client that does not read does not keep this process.
    let _ = timeout(LAST_WORDS, written).await;
    served.map(drop).map_err(|error| failed(error.to_string()))
}

/// The tools, for one session.
struct Server {
    client: Client,
    own: SessionId,
    state_dir: PathBuf,
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("kennel", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> impl Future<Output = Result<ListToolsResult, ErrorData>> + std::marker::Send + '_ {
        std::future::ready(Ok(ListToolsResult::with_all_items(tools())))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let work = self.call(&request.name, arguments);
        let outcome = tokio::select! {
            outcome = work => outcome,
            // The client cancelled the call. The daemon completes the request all the same.
            () = context.ct.cancelled() => Err(Failure::failed("cancelled", "the call was cancelled")),
        };
        let result = match outcome {
            Ok(value) => CallToolResult::structured(value),
            // For the agent to read: an error of the protocol it would not see.
            Err(Failure::Problem(problem, _)) => CallToolResult::structured_error(
                json!({ "code": problem.code, "error": problem.detail, "hint": problem.hint }),
            ),
            Err(Failure::Printed(_) | Failure::Unread) => CallToolResult::structured_error(json!({})),
        };
        Ok(result.into())
    }
}

impl Server {
    async fn call(&self, tool: &str, arguments: Value) -> Outcome<Value> {
        match tool {
            "start_subagent" => self.start(understood(arguments)?).await,
            "list_subagents" => {
                let Nothing {} = understood(arguments)?;
                let list: Value = self.get("/v1/subagents".into()).await?;
                Ok(json!({ "subagents": list }))
            }
            "read_result" => {
                let One { id } = understood(arguments)?;
                self.result(&id).await
            }
            "wait_subagent" => self.wait(understood(arguments)?).await,
            "send_to_subagent" => {
                let tools::Send { id, text, when_busy } = understood(arguments)?;
                let request = Request::post(format!("/v1/sessions/{}/prompts", encoded(&id)));
                let prompt = PromptRequest { text, when_busy, attachments: Vec::new() };
                let request = request.key(&random_key()?).json(&prompt);
                read(&self.ask(request).await?)
            }
            "abort_subagent" => {
                let Abort { id, stop } = understood(arguments)?;
                let id = encoded(&id);
                if !stop {
                    return read(&self.ask(Request::post(format!("/v1/sessions/{id}/abort"))).await?);
                }
                let request = Request::post(format!("/v1/sessions/{id}/stop")).repeatable();
                let info: SessionInfo = read(&self.ask(request).await?)?;
                Ok(json!({ "session_id": info.id, "status": info.status }))
            }
            other => Err(Failure::usage(format!("there is no tool `{other}`"))),
        }
    }

    async fn start(&self, wish: Start) -> Outcome<Value> {
        let own: SessionInfo = self.get(format!("/v1/sessions/{}", self.own)).await?;
        let here = PathBuf::from(&own.workdir);
        let worktree = match (wish.worktree, &wish.workdir) {
            (false, _) => None,
            (true, Some(_)) => {
                return Err(Failure::usage(
                    "`workdir` and `worktree` exclude each other; nothing was started",
                ));
            }
            (true, None) => {
                let (state_dir, own, here) = (self.state_dir.clone(), self.own.clone(), here.clone());
                let made = tokio::task::spawn_blocking(move || Worktree::make(&state_dir, &own, &here)).await;
                Some(made.map_err(|error| Failure::failed("worktree", error.to_string()))??)
            }
        };
        let workdir = match (&worktree, wish.workdir) {
            (Some(worktree), _) => worktree.workdir.clone(),
            (None, Some(given)) => here.join(given),
            (None, None) => here,
        };
        let started = self.start_in(&own, workdir, wish.task, wish.agent, wish.title, wish.model).await;
        match (started, worktree) {
            (Ok(handle), None) => Ok(json!(handle)),
            (Ok(handle), Some(worktree)) => {
                let mut value = json!(handle);
                value["worktree"] = json!(worktree.path);
                value["branch"] = json!(worktree.branch);
                Ok(value)
            }
            (Err(failure), None) => Err(failure),
            (Err(failure), Some(worktree)) => {
                // After a refusal no sub-agent works in the worktree.
                if failure.has_started_nothing() {
                    let _ = tokio::task::spawn_blocking(move || worktree.remove()).await;
                }
                Err(failure)
            }
        }
    }

    async fn start_in(
        &self,
        own: &SessionInfo,
        workdir: PathBuf,
        task: String,
        agent: Option<String>,
        title: Option<String>,
        model: Option<String>,
    ) -> Outcome<SubagentHandle> {
        let workdir = workdir.into_os_string().into_string().map_err(|path| {
            Failure::usage(format!("the path `{}` is not UTF-8; nothing was started", path.display()))
        })?;
        let same = agent.as_ref().is_none_or(|agent| *agent == own.agent);
        let opts = SessionOpts {
            title,
            agent: Some(agent.unwrap_or_else(|| own.agent.clone())),
            // The same agent again is run with the same model, unless another is named.
            model: model.or_else(|| own.model.clone().filter(|_| same)),
            workdir: Some(workdir),
            ..SessionOpts::default()
        };
        let request = Request::post("/v1/subagents").key(&random_key()?);
        read(&self.ask(request.json(&SubagentRequest { parent: None, task, opts })).await?)
    }

    async fn result(&self, id: &str) -> Outcome<Value> {
        let mut result: TurnResult = self.get(format!("/v1/sessions/{}/result", encoded(id))).await?;
        result.truncated |= cut_to_end(&mut result.text, MAX_TEXT);
        Ok(json!(result))
    }

    async fn wait(&self, wish: Wait) -> Outcome<Value> {
        let seconds = wish.timeout.unwrap_or(WAIT_S.0).min(WAIT_S.1);
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let id = encoded(&wish.id);
        let ended = loop {
            let info: SessionInfo = self.get(format!("/v1/sessions/{id}")).await?;
            if is_at_rest(&info) {
                break true;
            }
            let left = deadline.saturating_duration_since(Instant::now()).min(ROUND);
            if left.is_zero() {
                break false;
            }
            let path = format!("/v1/sessions/{id}/wait?until=idle&timeout_ms={}", left.as_millis().max(1));
            match self.ask(Request::get(path).passive().patient()).await {
                Ok(_) => {}
                // The next round reads the state.
                Err(failure)
                    if ["timeout", "session_failed", "overtaken"].iter().any(|code| failure.is(code)) => {}
                Err(failure) => return Err(failure),
            }
        };
        let mut result = self.result(&wish.id).await?;
        result["ended"] = json!(ended);
        Ok(result)
    }

    async fn get<T: DeserializeOwned>(&self, path: String) -> Outcome<T> {
        read(&self.ask(Request::get(path)).await?)
    }

    /// Asks, and again for a while if the daemon is just gone: another comes back with the next command of a person.
    async fn ask(&self, request: Request) -> Outcome<Bytes> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match self.client.ask(&request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let again = match &error {
                ClientError::Absent(_) => true,
                ClientError::Lost(_) => request.repeatable,
                ClientError::Problem(problem) => request.repeatable && problem.code == "manager_stopping",
                _ => false,
            };
            if !again || Instant::now() > deadline {
                return Err(error.into());
            }
            sleep(LOOK).await;
        }
    }
}

/// Returns true if the session does nothing until a client sends a request.
fn is_at_rest(session: &SessionInfo) -> bool {
    match session.status {
        Status::Stopped | Status::Failed => true,
        Status::Idle | Status::Hibernated => session.queue_length == 0,
        Status::Starting
        | Status::Running
        | Status::RequiresAction
        | Status::Adopting
        | Status::Stopping
        | Status::Restarting => false,
    }
}
