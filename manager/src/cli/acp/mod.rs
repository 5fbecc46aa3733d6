//! `acp`: kennel as an agent for editors, over standard input and output
//! (<https://agentclientprotocol.com/protocol/v1/overview>).
//!
//! The editor's session is a kennel session under the same id. What this process does is translate: it holds
//! nothing that is not in the journal, so it may die at any instant, and with the end of its input it leaves, while
//! sessions and turns go on.

mod calls;
mod mcp;
mod panel;
mod prompt;
mod story;
mod wire;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::{Dispatch, Responder, schema};
use agent_client_protocol::{Agent, Error, ErrorCode, on_receive_dispatch};
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use protocol::api::{
    McpServersReply, McpServersRequest, PromptState, QueuedPrompt, SessionInfo, SessionOpts, SettingReply,
    SettingRequest, Status,
};
use protocol::wire::Offer;
use protocol::{EventId, PromptId, SessionId};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use crate::cli::args;
use crate::cli::link::Link;
use crate::cli::link::random_key;
use crate::cli::sessions::{options, stable_id};
use crate::cli::ui::error::words;
use crate::cli::ui::error::{Failure, Outcome};
use crate::client::{Request, encoded};
use mcp::Servers;
use panel::Panel;
use wire::{Wire, Written};

/// How long what the editor has asked for may take after it has gone.
const AFTERWARDS: Duration = Duration::from_millis(1500);
/// How long what it is told may take to be written then.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// How long an agent may take to be ready until the editor is told of its session.
const READY: Duration = Duration::from_secs(60);

/// `acp`.
pub async fn acp(link: &Link<'_>, args: args::Acp) -> Outcome {
    let written = Arc::new(Written::default());
    let (transport, all_written) = wire::stdio(written.clone());
    let (heard, mut incoming) = mpsc::unbounded_channel();
    let agent = Agent.v1().name("kennel").on_receive_dispatch(
        async move |message: Dispatch, _| {
            match message {
                Dispatch::Response(answer, router) => router.route_with_result(answer)?,
                // Nobody listens any more: the connection is being closed.
                message => drop(heard.send(message)),
            }
            Ok(())
        },
        on_receive_dispatch!(),
    );
    let served = agent.connect_with(transport, async |connection| {
        let (spawned, mut new) = mpsc::unbounded_channel();
        let editor = Rc::new(Editor {
            link,
            wire: Wire::new(connection.clone(), written.clone()),
            workdir_session: args.workdir_session,
            opts: options(args.options),
            panels: RefCell::default(),
            opening: Mutex::default(),
            initialized: Cell::new(false),
            offers: RefCell::default(),
            requests: Rc::default(),
            spawned,
        });
        let mut tasks = FuturesUnordered::new();
        let mut end = None;
        loop {
            let deadline = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(task) = new.recv() => tasks.push(task),
                Some(message) = incoming.recv() => editor.hear(message),
                Some(()) = tasks.next() => {}
                () = connection.incoming_closed(), if end.is_none() => end = Some(Instant::now() + AFTERWARDS),
                () = deadline => break,
            }
            if end.is_some() && editor.requests.get() == 0 && incoming.is_empty() && new.is_empty() {
                break;
            }
        }
        editor.leave();
        while let Some(Some(())) = tasks.next().now_or_never() {}
        Ok(())
    });
    let served = served.await;
    // An editor that does not read does not keep this process.
    let _ = timeout(LAST_WORDS, all_written).await;
    served.map_err(|error| Failure::failed("acp", format!("the connection to the editor: {}", said(&error))))
}

/// A message of the SDK, with what it says beside it.
fn said(error: &Error) -> String {
    let more = error.data.as_ref().map(|data| format!(" ({data})")).unwrap_or_default();
    format!("{}{more}", error.message)
}

/// The editor at the other end.
struct Editor<'a> {
    link: &'a Link<'a>,
    wire: Wire,
    workdir_session: bool,
    opts: SessionOpts,
    /// Sessions that it has open.
    panels: RefCell<BTreeMap<SessionId, Rc<Panel<'a>>>>,
    /// Sessions are opened one after the other: two requests may be about the same.
    opening: Mutex<()>,
    initialized: Cell<bool>,
    /// What it can do for agents.
    offers: RefCell<Vec<Offer>>,
    /// What has been asked for and is not done. A prompt is done with once it is accepted.
    requests: Rc<Cell<usize>>,
    spawned: mpsc::UnboundedSender<LocalBoxFuture<'a, ()>>,
}

/// An answer, and a session to be followed once it is sent.
type Answer<'a> = Result<(Value, Option<Rc<Panel<'a>>>), Refused>;

impl<'a> Editor<'a> {
    fn spawn(&self, task: impl Future<Output = ()> + 'a) {
        // The receiver lives as long as anything runs here.
        let _ = self.spawned.send(Box::pin(task));
    }

    fn hear(self: &Rc<Self>, message: Dispatch) {
        match message {
            Dispatch::Request(request, responder) => {
                let (editor, busy) = (self.clone(), self.busy());
                let (method, params) = request.into_parts();
                if method == "session/prompt" {
                    let withdrawn = responder.cancellation();
                    return self.spawn(async move {
                        let result = editor.prompt(params, withdrawn, busy).await;
                        respond(responder, result);
                    });
                }
                if method == "initialize" {
                    return respond(responder, self.initialize(params));
                }
                self.spawn(async move {
                    let _busy = busy;
                    let (result, panel) = match editor.asked(&method, params).await {
                        Ok((result, panel)) => (Ok(editor.wire.plain(result)), panel),
                        Err(refused) => (Err(refused), None),
                    };
                    respond(responder, result);
                    if let Some(panel) = panel {
                        editor.spawn(panel.follow(editor.clone()));
                    }
                });
            }
            Dispatch::Notification(told) if told.method() == "session/cancel" => {
                let (editor, busy) = (self.clone(), self.busy());
                // Not later: an answer that comes after this is one to a prompt that was cancelled.
                let cancel = parse::<schema::CancelNotification>(told.into_parts().1);
                let panel = cancel.ok().and_then(|cancel| editor.panel(&id(&cancel.session_id).ok()?));
                let Some(panel) = panel else { return };
                self.spawn(async move {
                    panel.cancel(None).await;
                    drop(busy);
                });
            }
            // What is told and not known may be left unheard.
            Dispatch::Notification(_) | Dispatch::Response(..) => {}
        }
    }

    /// Something is in hand until this is dropped.
    fn busy(&self) -> Busy {
        self.requests.set(self.requests.get() + 1);
        Busy(self.requests.clone())
    }

    fn panel(&self, id: &SessionId) -> Option<Rc<Panel<'a>>> {
        self.panels.borrow().get(id).cloned()
    }

    fn forget(&self, id: &SessionId) {
        self.panels.borrow_mut().remove(id);
    }

    /// The editor has gone. Every request gets its answer, though nobody may read it.
    fn leave(&self) {
        self.panels.borrow().values().for_each(|panel| panel.leave());
    }

    // --- what an editor asks ---

    fn initialize(&self, params: Value) -> Result<Value, Refused> {
        self.wire.shows_children(params["clientCapabilities"]["subagents"].is_object());
        let request: schema::InitializeRequest = parse(params)?;
        self.initialized.set(true);
        *self.offers.borrow_mut() = calls::offers(&request.client_capabilities);
        let session = request.client_capabilities.session.as_ref();
        let switches = session.and_then(|able| able.config_options.as_ref()?.boolean.as_ref());
        self.wire.shows_switches(switches.is_some());
        // An editor that cannot do with this version leaves; that is how the protocol has it.
        if request.protocol_version != ProtocolVersion::V1 {
            self.link.ui.note(&format!(
                "the editor asks for version {} of ACP, kennel speaks 1",
                request.protocol_version
            ));
        }
        let sessions = schema::SessionCapabilities::new()
            .list(schema::SessionListCapabilities::new())
            .resume(schema::SessionResumeCapabilities::new())
            .close(schema::SessionCloseCapabilities::new())
            .delete(schema::SessionDeleteCapabilities::new());
        let able = schema::AgentCapabilities::new()
            .load_session(true)
            .prompt_capabilities(
                schema::PromptCapabilities::new().embedded_context(true).image(true).audio(true),
            )
            .mcp_capabilities(schema::McpCapabilities::new().http(true).sse(true))
            .session_capabilities(sessions);
        let me = schema::Implementation::new("kennel", env!("CARGO_PKG_VERSION")).title("kennel".to_owned());
        let answer =
            schema::InitializeResponse::new(ProtocolVersion::V1).agent_capabilities(able).agent_info(me);
        serde_json::to_value(answer).map_err(|error| Refused::internal(error.to_string()))
    }

    async fn asked(self: &Rc<Self>, method: &str, params: Value) -> Answer<'a> {
        self.begun()?;
        match method {
            "session/new" => {
                let prompt = prompt::of(&params)?;
                self.new_session(parse(params)?, prompt).await
            }
            "session/load" => {
                let request: schema::LoadSessionRequest = parse(params)?;
                self.reopen(&request.session_id, true, request.mcp_servers).await
            }
            "session/resume" => {
                let request: schema::ResumeSessionRequest = parse(params)?;
                self.reopen(&request.session_id, false, request.mcp_servers).await
            }
            "session/close" => {
                self.close(id(&parse::<schema::CloseSessionRequest>(params)?.session_id)?).await?;
                Ok((json!({}), None))
            }
            "session/delete" => {
                self.delete(id(&parse::<schema::DeleteSessionRequest>(params)?.session_id)?).await?;
                Ok((json!({}), None))
            }
            "session/list" => Ok((self.list(parse(params)?).await?, None)),
            "session/set_mode" => {
                let request: schema::SetSessionModeRequest = parse(params)?;
                self.set(&request.session_id, "mode", &request.mode_id.to_string()).await?;
                Ok((json!({}), None))
            }
            "session/set_config_option" => {
                let (session, option, value) = setting(&params)?;
                Ok((self.set(&session, option, &value).await?, None))
            }
            _ => Err(Refused::new(ErrorCode::METHOD_NOT_FOUND, format!("kennel does not know `{method}`"))),
        }
    }

    /// Sets something in the agent below, and gives what it says to that.
    async fn set(&self, session: &schema::SessionId, name: &str, value: &str) -> Result<Value, Refused> {
        let path = format!("/v1/sessions/{}/settings/{}", id(session)?, encoded(name));
        let request = Request::put(path).json(&SettingRequest { value: value.to_owned() }).patient();
        let reply: SettingReply = self.link.get(request).await?;
        let what =
            || Refused::internal(format!("the agent has not answered yet; {name} is set when it is ready"));
        reply.answer.ok_or_else(what)
    }

    fn begun(&self) -> Result<(), Refused> {
        let what = "`initialize` comes first";
        if self.initialized.get() {
            Ok(())
        } else {
            Err(Refused::new(ErrorCode::INVALID_REQUEST, what.to_owned()))
        }
    }

    /// Gives a session that exists the editor's servers beside those that it has, and says what came of it where that is
    /// not what the editor expects.
    async fn give(&self, path: &str, servers: Vec<schema::McpServer>) -> Vec<String> {
        let servers = mcp::servers(servers);
        let mut notes = Vec::new();
        if !servers.left.is_empty() {
            notes.push(mcp::left_out(&servers.left, mcp::UNKNOWN));
        }
        let given = without_the_bad(servers, &mut notes, async |servers| {
            if servers.names().is_empty() {
                return Ok(None);
            }
            let Servers { programs: mcp_servers, remote: mcp_remote_servers, .. } = servers;
            let request = McpServersRequest { mcp_servers, mcp_remote_servers };
            let request = Request::put(format!("{path}/mcp_servers")).json(&request);
            self.link.get::<McpServersReply>(request).await.map(Some)
        });
        match given.await {
            Ok(Some(reply)) if reply.next_process => notes.push(mcp::next_process(&reply.changed)),
            Ok(_) => {}
            Err((failure, names)) => notes.push(mcp::left_out(&names, &words(&failure))),
        }
        notes
    }

    async fn new_session(
        self: &Rc<Self>,
        request: schema::NewSessionRequest,
        prompt: Option<prompt::Variable>,
    ) -> Answer<'a> {
        let servers = mcp::servers(request.mcp_servers);
        let mut notes = Vec::new();
        if !servers.left.is_empty() {
            notes.push(mcp::left_out(&servers.left, mcp::UNKNOWN));
        }
        let started = without_the_bad(servers, &mut notes, async |servers| {
            self.start(&request.cwd, servers, &prompt).await
        });
        let session = match started.await {
            Ok(session) => session,
            // An editor says them to every agent; for want of a tool no session is refused.
            Err((failure, names)) if failure.is("spec_mismatch") || is_about_servers(&failure) => {
                let session = self.start(&request.cwd, Servers::default(), &None).await?;
                if prompt.is_some() {
                    notes.push(
                        "the editor's system prompt was left out: the session exists without it".to_owned(),
                    );
                }
                if !names.is_empty() {
                    notes.push(mcp::left_out(&names, &words(&failure)));
                }
                session
            }
            Err((failure, _)) => return Err(failure.into()),
        };
        let panel = self.open(session.id.clone(), false).await?;
        if let Some(panel) = &panel.1 {
            // What was said while it came up nobody has heard yet.
            let told = panel.told_before();
            notes.extend(told.into_iter().filter(|_| session.turn_count == 0 && session.incarnation == 1));
            panel.remark(notes);
        }
        let mut result = panel.0;
        result["sessionId"] = json!(session.id);
        Ok((result, panel.1))
    }

    /// A session in this directory, whose agent is ready.
    async fn start(
        &self,
        cwd: &Path,
        servers: Servers,
        prompt: &Option<prompt::Variable>,
    ) -> Outcome<SessionInfo> {
        let ready = READY.as_millis();
        let Some(dir) = cwd.to_str().map(str::to_owned) else {
            return Err(Failure::usage(format!(
                "`{}` is not UTF-8; sessions need a directory whose path is",
                cwd.display()
            )));
        };
        let Servers { programs: mcp_servers, remote: mcp_remote_servers, .. } = servers;
        let offers = self.offers.borrow().clone();
        let opts =
            SessionOpts { workdir: Some(dir), mcp_servers, mcp_remote_servers, offers, ..self.opts.clone() };
        let mut opts = opts;
        opts.env.extend(prompt.clone());
        if self.workdir_session {
            let id = stable_id(cwd)?;
            return self
                .link
                .get(Request::put(format!("/v1/sessions/{id}?timeout_ms={ready}")).json(&opts))
                .await;
        }
        let session: SessionInfo =
            self.link.get(Request::post("/v1/sessions").key(&random_key()?).json(&opts)).await?;
        let wait = format!("/v1/sessions/{}/wait?until=ready&timeout_ms={ready}", session.id);
        match self.link.get(Request::get(wait).patient()).await {
            // It may need longer, and prompts wait for it.
            Err(failure) if failure.is("timeout") => Ok(session),
            Err(failure) if failure.is("session_failed") => Err(self.stillborn(&session.id, failure).await),
            other => other,
        }
    }

    /// A session that was made for the editor and never came up: the editor hears why, and nothing of it stays.
    async fn stillborn(&self, id: &SessionId, failure: Failure) -> Failure {
        let path = format!("/v1/sessions/{id}");
        let found = self.link.get::<SessionInfo>(Request::get(&path)).await;
        let last_words = found.ok().and_then(|found| found.failure).map(|failure| failure.last_words);
        if let Err(failure) = self.link.ask(Request::delete(format!("{path}?force=true"))).await {
            self.link.ui.note(&format!("{id} has failed and cannot be removed: {}", words(&failure)));
            return failure;
        }
        match failure {
            Failure::Problem(mut problem, exit) => {
                for word in last_words.unwrap_or_default() {
                    problem.detail = format!("{}\n{word}", problem.detail.trim_end());
                }
                problem.hint = Some("the session was removed again".to_owned());
                Failure::Problem(problem, exit)
            }
            other => other,
        }
    }

    /// The editor is done with a session: its prompts end, and so do the processes, unless somebody else is there too.
    async fn close(&self, id: SessionId) -> Outcome {
        let path = format!("/v1/sessions/{id}");
        let session: SessionInfo = self.link.get(Request::get(&path)).await?;
        let (me, mine) = self.leave_session(&id).await;
        let queue: Vec<QueuedPrompt> = self.link.get(Request::get(format!("{path}/queue"))).await?;
        let theirs = |queued: &QueuedPrompt| {
            queued.state != PromptState::Interrupted && !mine.contains(&queued.prompt_id)
        };
        if session.clients.iter().any(|client| client.client_id != me) || queue.iter().any(theirs) {
            self.link.ui.note(&format!("{id} goes on: somebody else uses it"));
            return Ok(());
        }
        self.link.ask(Request::post(format!("{path}/stop")).repeatable()).await.map(drop)
    }

    /// Nothing of the session stays.
    async fn delete(&self, id: SessionId) -> Outcome {
        self.leave_session(&id).await;
        self.link.ask(Request::delete(format!("/v1/sessions/{id}?force=true"))).await.map(drop)
    }

    /// The editor has the session open no longer. Under which id it was attached, and which prompts it waited for.
    async fn leave_session(&self, id: &SessionId) -> (EventId, BTreeSet<PromptId>) {
        let Some(panel) = self.panel(id) else { return Default::default() };
        let prompts = panel.close().await;
        self.forget(id);
        (panel.attached.get(), prompts)
    }

    /// A session that exists. One that was stopped, or has failed, is started again.
    async fn reopen(
        self: &Rc<Self>,
        asked: &schema::SessionId,
        show: bool,
        servers: Vec<schema::McpServer>,
    ) -> Answer<'a> {
        let id = id(asked)?;
        let path = format!("/v1/sessions/{id}");
        let session: SessionInfo = self.link.get(Request::get(&path)).await?;
        // Before it is started or woken, so that this process of the agent has them already.
        let notes = self.give(&path, servers).await;
        if matches!(session.status, Status::Stopped | Status::Failed) {
            let opts = SessionOpts { offers: self.offers.borrow().clone(), ..SessionOpts::default() };
            let request = Request::put(format!("{path}?timeout_ms={}", READY.as_millis())).json(&opts);
            self.link.get::<SessionInfo>(request).await?;
        }
        let opened = self.open(id, show).await?;
        if let Some(panel) = &opened.1 {
            panel.remark(notes);
        }
        Ok(opened)
    }

    async fn open(self: &Rc<Self>, id: SessionId, show: bool) -> Answer<'a> {
        let _alone = self.opening.lock().await;
        let old = self.panel(&id);
        if let Some(old) = &old {
            old.retire();
        }
        let opened = Panel::open(self, id.clone(), show, old.as_deref()).await;
        let panel = match opened {
            Ok(panel) => Rc::new(panel),
            Err(failure) => {
                self.forget(&id);
                return Err(failure.into());
            }
        };
        self.panels.borrow_mut().insert(id, panel.clone());
        Ok((Value::Object(panel.settings()), Some(panel)))
    }

    async fn prompt(
        self: &Rc<Self>,
        params: Value,
        withdrawn: agent_client_protocol::RequestCancellation,
        busy: Busy,
    ) -> Result<Value, Refused> {
        self.begun()?;
        let request: schema::PromptRequest = parse(params)?;
        let said =
            story::said(&request.prompt).map_err(|why| Refused::new(ErrorCode::INVALID_PARAMS, why))?;
        let id = id(&request.session_id)?;
        let panel = match self.panel(&id) {
            Some(panel) => panel,
            // An editor that was started again may know of it without having opened it.
            None => {
                let (_, panel) = self.reopen(&request.session_id, false, Vec::new()).await?;
                let panel = panel.ok_or_else(|| Refused::internal("the session is not open".to_owned()))?;
                self.spawn(panel.clone().follow(self.clone()));
                panel
            }
        };
        panel.prompt(self, said, withdrawn, busy).await
    }

    async fn list(&self, request: schema::ListSessionsRequest) -> Result<Value, Refused> {
        if let Some(cursor) = request.cursor {
            return Err(Refused::new(
                ErrorCode::INVALID_PARAMS,
                format!("`{cursor}` is not a cursor: lists are whole"),
            ));
        }
        let mut sessions: Vec<SessionInfo> = self.link.get(Request::get("/v1/sessions")).await?;
        if let Some(cwd) = request.cwd {
            sessions.retain(|session| Path::new(&session.workdir) == cwd);
        }
        let told = |session: &SessionInfo| session.last_message_at.unwrap_or(session.created_at);
        sessions.sort_by_key(|session| std::cmp::Reverse(told(session)));
        let sessions = sessions.iter().map(|session| {
            let title = session.title.as_ref().or(session.first_prompt.as_ref());
            json!({ "sessionId": session.id, "cwd": session.workdir, "title": title, "updatedAt": told(session) })
        });
        Ok(json!({ "sessions": sessions.collect::<Vec<_>>() }))
    }
}

/// Whether it is about what an editor says of its MCP servers.
fn is_about_servers(failure: &Failure) -> bool {
    failure.is("invalid_mcp_servers") || failure.is("mcp_servers_refused")
}

/// Does something with the editor's servers, and again without one that is refused by itself, which is noted. A failure comes
/// with the names of those that were left.
async fn without_the_bad<T>(
    mut servers: Servers,
    notes: &mut Vec<String>,
    mut act: impl AsyncFnMut(Servers) -> Outcome<T>,
) -> Result<T, (Failure, Vec<String>)> {
    loop {
        let failure = match act(servers.clone()).await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        match &failure {
            Failure::Problem(problem, _) if is_about_servers(&failure) => match &problem.subject {
                Some(bad) if servers.without(bad) => {
                    notes.push(mcp::left_out(std::slice::from_ref(bad), &problem.detail));
                }
                _ => return Err((failure, servers.names())),
            },
            _ => return Err((failure, servers.names())),
        }
    }
}

/// Something is in hand, and is finished though the editor has gone.
struct Busy(Rc<Cell<usize>>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Why an editor does not get what it asks for.
struct Refused {
    code: ErrorCode,
    why: String,
    /// kennel's name of the problem.
    problem: Option<String>,
}

impl Refused {
    fn new(code: ErrorCode, why: String) -> Self {
        Self { code, why, problem: None }
    }

    fn internal(why: String) -> Self {
        Self::new(ErrorCode::INTERNAL_ERROR, why)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let why = words(&failure);
        let Failure::Problem(problem, _) = failure else {
            return Self::internal(why);
        };
        let code = match (problem.status, problem.code.as_str()) {
            (_, "no_such_session") => ErrorCode::RESOURCE_NOT_FOUND,
            (400 | 413, _) => ErrorCode::INVALID_PARAMS,
            _ => ErrorCode::INTERNAL_ERROR,
        };
        Self { code, why, problem: Some(problem.code) }
    }
}

/// What `session/set_config_option` asks for.
fn setting(params: &Value) -> Result<(schema::SessionId, &str, String), Refused> {
    let value = match &params["value"] {
        Value::String(value) => Some(value.clone()),
        Value::Bool(on) => Some(on.to_string()),
        _ => None,
    };
    match (&params["sessionId"], &params["configId"], value) {
        (Value::String(session), Value::String(option), Some(value)) => {
            Ok((schema::SessionId::new(session.clone()), option, value))
        }
        _ => {
            let what = "`sessionId` and `configId` are texts, `value` is a text, true or false";
            Err(Refused::new(ErrorCode::INVALID_PARAMS, what.to_owned()))
        }
    }
}

/// An editor that has gone needs no answer.
fn respond(responder: Responder, result: Result<Value, Refused>) {
    let _ = match result {
        Ok(result) => responder.respond(result),
        Err(refused) => {
            let data = refused.problem.map(|problem| json!({ "code": problem }));
            responder.respond_with_error(Error::new(refused.code, refused.why).data(data))
        }
    };
}

fn parse<T: DeserializeOwned>(params: Value) -> Result<T, Refused> {
    serde_json::from_value(params).map_err(|error| Refused::new(ErrorCode::INVALID_PARAMS, error.to_string()))
}

fn id(asked: &schema::SessionId) -> Result<SessionId, Refused> {
    asked.0.parse().map_err(|_| {
        let why = format!("there is no session `{}`", asked.0);
        Refused {
            problem: Some("no_such_session".to_owned()),
            ..Refused::new(ErrorCode::RESOURCE_NOT_FOUND, why)
        }
    })
}
