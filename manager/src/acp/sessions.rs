//! Sessions that an editor starts, opens, lists and closes.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use agent_client_protocol::ErrorCode;
use agent_client_protocol::v1::schema;
use protocol::api::{
    ClientInfo, McpServersReply, McpServersRequest, PromptState, QueuedPrompt, Role, SessionInfo,
    SessionOpts, Status,
};
use protocol::{EventId, PromptId, SessionId};
use serde_json::{Value, json};

use super::Answer;
use super::Editor;
use super::marks::{CURSOR, Wishes};
use super::mcp::{self, Servers};
use super::panel::{Panel, Show};
use super::prompt;
use super::refused::id;
use crate::acp::reach::random_key;
use crate::acp::reach::{Failure, Outcome};
use crate::acp::refused::Refused;
use crate::client::Request;
use crate::core::NOBODY;

/// The longest time for which an editor waits until the agent of its session is ready.
const READY: Duration = Duration::from_secs(60);

impl<'a> Editor<'a> {
    /// Adds the editor's servers to those of an existing session. Returns a note for each outcome that the
    /// editor does not expect.
    pub(super) async fn give(
        &self,
        path: &str,
        servers: Vec<schema::McpServer>,
        client: Option<EventId>,
    ) -> Vec<String> {
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
            let request = Request::put(format!("{path}/mcp_servers")).json(&request).from_client(client);
            self.link.get::<McpServersReply>(request).await.map(Some)
        });
        match given.await {
            Ok(Some(reply)) if reply.next_process => notes.push(mcp::next_process(&reply.changed)),
            Ok(_) => {}
            Err((failure, names)) => notes.push(mcp::left_out(&names, &failure.text())),
        }
        notes
    }

    pub(super) async fn new_session(
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
            // An editor sends these with every session; a missing tool is no reason to refuse one.
            Err((failure, names)) if failure.is("spec_mismatch") || is_about_servers(&failure) => {
                let session = self.start(&request.cwd, Servers::default(), &None).await?;
                if prompt.is_some() {
                    notes.push(
                        "the editor's system prompt was left out: the session exists without it".to_owned(),
                    );
                }
                if !names.is_empty() {
                    notes.push(mcp::left_out(&names, &failure.text()));
                }
                session
            }
            Err((failure, _)) => return Err(failure.into()),
        };
        let panel = self.open(session.id.clone(), Show::Nothing, Wishes::default()).await?;
        if let Some(panel) = &panel.1 {
            // The editor has not seen the notes from the agent's start.
            let earlier = panel.earlier_notes();
            notes.extend(earlier.into_iter().filter(|_| session.turn_count == 0 && session.incarnation == 1));
            panel.remark(notes);
        }
        let mut result = panel.0;
        result["sessionId"] = json!(session.id);
        Ok((result, panel.1))
    }

    /// A session in this directory, whose agent is ready.
    pub(super) async fn start(
        &self,
        cwd: &Path,
        servers: Servers,
        prompt: &Option<prompt::Variable>,
    ) -> Outcome<SessionInfo> {
        let ready = READY.as_millis();
        let dir = self.link.directory(cwd).await?;
        let Servers { programs: mcp_servers, remote: mcp_remote_servers, .. } = servers;
        let offers = self.offers.borrow().clone();
        let opts = SessionOpts {
            workdir: Some(dir),
            mcp_servers,
            mcp_remote_servers,
            offers,
            ..self.terms.opts.clone()
        };
        let mut opts = opts;
        opts.env.extend(prompt.clone());
        if self.terms.workdir_session {
            let id = self.link.stable_id(&opts.workdir.clone().unwrap_or_default()).await?;
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

    /// Removes a session that was made for the editor and never came up. Returns the reason, which the editor
    /// receives.
    pub(super) async fn stillborn(&self, id: &SessionId, failure: Failure) -> Failure {
        let path = format!("/v1/sessions/{id}");
        let found = self.link.get::<SessionInfo>(Request::get(&path)).await;
        let last_words = found.ok().and_then(|found| found.failure).map(|failure| failure.last_words);
        if let Err(failure) = self.link.ask(Request::delete(format!("{path}?force=true"))).await {
            self.link.note(&format!("{id} has failed and cannot be removed: {}", failure.text()));
            return failure;
        }
        let Failure(Some(mut problem)) = failure else { return failure };
        for word in last_words.unwrap_or_default() {
            problem.detail = format!("{}\n{word}", problem.detail.trim_end());
        }
        problem.hint = Some("the session was removed again".to_owned());
        Failure(Some(problem))
    }

    /// The editor is done with a session: its prompts end, and so do the processes, unless somebody else is there too.
    pub(super) async fn close(&self, id: SessionId) -> Outcome {
        let path = format!("/v1/sessions/{id}");
        let session: SessionInfo = self.link.get(Request::get(&path)).await?;
        let (me, mine) = self.leave_session(&id).await;
        let queue: Vec<QueuedPrompt> = self.link.get(Request::get(format!("{path}/queue"))).await?;
        let theirs = |queued: &QueuedPrompt| {
            queued.state != PromptState::Interrupted && !mine.contains(&queued.prompt_id)
        };
        if session.clients.iter().any(|client| client.client_id != me) || queue.iter().any(theirs) {
            self.link.note(&format!("{id} goes on: somebody else uses it"));
            return Ok(());
        }
        match self.as_former(me, || Request::post(format!("{path}/stop")).repeatable()).await {
            Err(failure) if failure.is("not_driver") => {
                self.link.note(&format!("{id} goes on: somebody else drives it"));
                Ok(())
            }
            other => other,
        }
    }

    /// Asks as the client that has left its seat a moment ago. The daemon may or may not know that it is gone.
    async fn as_former(&self, me: EventId, request: impl Fn() -> Request) -> Outcome {
        if self.terms.seat.is_none() {
            return self.link.ask(request()).await.map(drop);
        }
        match self.link.ask(request().from_client(Some(me))).await {
            Err(failure) if failure.is("not_driver") && me != NOBODY => {
                self.link.ask(request().from_client(Some(NOBODY))).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Nothing of the session stays.
    pub(super) async fn delete(&self, id: SessionId) -> Outcome {
        if let Some(me) = self.speaks_as(&id).await {
            let session: SessionInfo = self.link.get(Request::get(format!("/v1/sessions/{id}"))).await?;
            let drives = |client: &ClientInfo| client.role == Role::Driver && client.client_id != me;
            if let Some(driver) = session.clients.iter().find(|client| drives(client)) {
                let what = format!("{} drives {id}; nothing was removed", driver.name);
                return Err(Failure::new(409, "not_driver", what));
            }
        }
        let (me, _) = self.leave_session(&id).await;
        self.as_former(me, || Request::delete(format!("/v1/sessions/{id}?force=true"))).await
    }

    /// The editor has the session open no longer. Under which id it was attached, and which prompts it waited for.
    pub(super) async fn leave_session(&self, id: &SessionId) -> (EventId, BTreeSet<PromptId>) {
        let Some(panel) = self.panel(id) else { return Default::default() };
        let prompts = panel.close().await;
        self.forget(id);
        self.seats.leave(id).await;
        (panel.attached.get(), prompts)
    }

    /// A session that exists. One that was stopped, or has failed, is started again.
    pub(super) async fn reopen(
        self: &Rc<Self>,
        asked: &schema::SessionId,
        show: Show,
        wishes: Wishes,
        servers: Vec<schema::McpServer>,
    ) -> Answer<'a> {
        let id = id(asked)?;
        let path = format!("/v1/sessions/{id}");
        let session: SessionInfo = self.link.get(Request::get(&path)).await?;
        // Before it is started or woken, so that this process of the agent has them already.
        let client = match wishes.takeover {
            // It is about to drive.
            true => None,
            false => self.speaks_as(&id).await,
        };
        let mut notes = self.give(&path, servers, client).await;
        if matches!(session.status, Status::Stopped | Status::Failed) {
            let opts = SessionOpts { offers: self.offers.borrow().clone(), ..SessionOpts::default() };
            let request = Request::put(format!("{path}?timeout_ms={}", READY.as_millis())).json(&opts);
            match self.link.get::<SessionInfo>(request.from_client(client)).await {
                Err(failure) if failure.is("not_driver") => {
                    notes.push(format!("the session was not started: {}", failure.text()));
                }
                other => drop(other?),
            }
        }
        let opened = self.open(id, show, wishes).await?;
        if let Some(panel) = &opened.1 {
            panel.remark(notes);
        }
        Ok(opened)
    }

    pub(super) async fn open(self: &Rc<Self>, id: SessionId, show: Show, wishes: Wishes) -> Answer<'a> {
        let _alone = self.opening.lock().await;
        let old = self.panel(&id);
        let most = self.terms.sessions;
        if old.is_none() && self.panels.borrow().len() >= most {
            let why =
                format!("{most} sessions are open on this connection, and no more may; `session/close` one");
            return Err(Refused { problem: Some("too_many_sessions".to_owned()), ..Refused::internal(why) });
        }
        if let Some(old) = &old {
            old.retire();
        }
        let opened = Panel::open(self, id.clone(), show, wishes, old.as_deref()).await;
        let panel = match opened {
            Ok(panel) => Rc::new(panel),
            Err(failure) => {
                self.forget(&id);
                self.seats.leave(&id).await;
                return Err(failure.into());
            }
        };
        self.panels.borrow_mut().insert(id, panel.clone());
        let mut answer = panel.settings();
        answer.insert("_meta".to_owned(), json!({ CURSOR: panel.cursor().to_string() }));
        Ok((Value::Object(answer), Some(panel)))
    }

    pub(super) async fn list(&self, request: schema::ListSessionsRequest) -> Result<Value, Refused> {
        if let Some(cursor) = request.cursor {
            return Err(Refused::new(
                ErrorCode::INVALID_PARAMS,
                format!("`{cursor}` is not a cursor: lists are whole"),
            ));
        }
        let _alone = self.listing.lock().await;
        self.wire.room().await;
        let mut sessions: Vec<SessionInfo> = self.link.get(Request::get("/v1/sessions")).await?;
        if let Some(cwd) = request.cwd {
            let dir = self.link.directory(&cwd).await?;
            sessions.retain(|session| Path::new(&session.workdir) == Path::new(&dir));
        }
        let updated_at = |session: &SessionInfo| session.last_message_at.unwrap_or(session.created_at);
        sessions.sort_by_key(|session| std::cmp::Reverse(updated_at(session)));
        let sessions = sessions.iter().map(|session| {
            let title = session.title.as_ref().or(session.first_prompt.as_ref());
            json!({ "sessionId": session.id, "cwd": session.workdir, "title": title, "updatedAt": updated_at(session) })
        });
        Ok(json!({ "sessions": sessions.collect::<Vec<_>>() }))
    }
}

/// Returns true if the failure is about the editor's MCP servers.
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
            Failure(Some(problem)) if is_about_servers(&failure) => match &problem.subject {
                Some(bad) if servers.without(bad) => {
                    notes.push(mcp::left_out(std::slice::from_ref(bad), &problem.detail));
                }
                _ => return Err((failure, servers.names())),
            },
            _ => return Err((failure, servers.names())),
        }
    }
}
