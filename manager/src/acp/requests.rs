//! The requests of an editor, and the functions that answer them.

use std::rc::Rc;

use agent_client_protocol::ErrorCode;
use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::{Dispatch, schema};
use protocol::api::{SettingReply, SettingRequest};
use protocol::{EventId, SessionId};
use serde_json::{Value, json};

use super::marks::{self, Wishes};
use super::panel::Show;
use super::refused::id;
use super::refused::parse;
use super::refused::respond;
use super::refused::setting;
use super::{Answer, Busy, Editor};
use super::{calls, prompt};
use crate::acp::refused::Refused;
use crate::client::{Request, encoded};
use crate::core::NOBODY;

/// The most characters of an editor's name.
const MAX_NAME: usize = 60;

impl<'a> Editor<'a> {
    pub(super) fn hear(self: &Rc<Self>, message: Dispatch) {
        let asked = if let Dispatch::Request(_, responder) = &message { Some(responder.id()) } else { None };
        let weight = asked
            .filter(|_| self.weights.has_requests())
            .and_then(|id| self.weights.take(&serde_json::to_value(id).ok()?));
        match message {
            Dispatch::Request(_, responder) if self.open.get() >= self.terms.requests => {
                let most = self.terms.requests;
                let why =
                    format!("{most} requests wait for their answers, and no more may; nothing was done");
                let problem = Some("too_many_requests".to_owned());
                respond(responder, Err(Refused { problem, ..Refused::internal(why) }));
            }
            Dispatch::Request(request, responder) => {
                let busy = Busy::new(&self.requests, weight);
                let (editor, open) = (self.clone(), Busy::new(&self.open, None));
                let (method, params) = request.into_parts();
                if method == "session/prompt" {
                    let withdrawn = responder.cancellation();
                    return self.spawn(async move {
                        let result = editor.prompt(params, withdrawn, busy).await;
                        respond(responder, result);
                        drop(open);
                    });
                }
                if method == "initialize" {
                    return respond(responder, self.initialize(params));
                }
                self.spawn(async move {
                    let _in_hand = (busy, open);
                    // An editor that does not read gets no answers, and its requests are not begun.
                    editor.wire.room().await;
                    let (result, panel) = match editor.asked(&method, params).await {
                        Ok((result, panel)) => (Ok(editor.wire.plain(result)), panel),
                        Err(refused) => (Err(refused), None),
                    };
                    if let Ok(result) = &result {
                        editor.wire.answers(result);
                    }
                    respond(responder, result);
                    if let Some(panel) = panel {
                        editor.spawn(panel.follow(editor.clone()));
                    }
                });
            }
            Dispatch::Notification(notification) if notification.method() == "session/cancel" => {
                let (editor, busy) = (self.clone(), self.busy());
                // Not later: an answer that comes after this is one to a prompt that was cancelled.
                let cancel = parse::<schema::CancelNotification>(notification.into_parts().1);
                let panel = cancel.ok().and_then(|cancel| editor.panel(&id(&cancel.session_id).ok()?));
                let Some(panel) = panel else { return };
                self.spawn(async move {
                    panel.cancel(None).await;
                    drop(busy);
                });
            }
            // Unknown notifications may be ignored.
            Dispatch::Notification(_) | Dispatch::Response(..) => {}
        }
    }

    pub(super) fn initialize(&self, params: Value) -> Result<Value, Refused> {
        self.wire.shows_children(params["clientCapabilities"]["subagents"].is_object());
        let request: schema::InitializeRequest = parse(params)?;
        self.initialized.set(true);
        let mut offers = calls::offers(&request.client_capabilities);
        // Forms have no paths.
        offers.retain(|offer| self.terms.tools || *offer == protocol::wire::Offer::Elicitation);
        *self.offers.borrow_mut() = offers;
        if let (Some(_), Some(named)) = (self.terms.seat, &request.client_info) {
            let name = named.title.as_deref().unwrap_or(&named.name);
            let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
            *self.name.borrow_mut() = format!("{} (acp)", name.trim());
        }
        let session = request.client_capabilities.session.as_ref();
        let switches = session.and_then(|able| able.config_options.as_ref()?.boolean.as_ref());
        self.wire.shows_switches(switches.is_some());
        // An editor that cannot do with this version leaves; that is how the protocol has it.
        if request.protocol_version != ProtocolVersion::V1 {
            self.link.note(&format!(
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

    pub(super) async fn asked(self: &Rc<Self>, method: &str, params: Value) -> Answer<'a> {
        self.begun()?;
        match method {
            "session/new" => {
                let prompt = prompt::of(&params)?;
                self.new_session(parse(params)?, prompt).await
            }
            "session/load" => {
                let wishes = marks::wishes(&params)?;
                let request: schema::LoadSessionRequest = parse(params)?;
                self.reopen(&request.session_id, Show::of(wishes, Show::All), wishes, request.mcp_servers)
                    .await
            }
            "session/resume" => {
                let wishes = marks::wishes(&params)?;
                let request: schema::ResumeSessionRequest = parse(params)?;
                self.reopen(&request.session_id, Show::of(wishes, Show::Nothing), wishes, request.mcp_servers)
                    .await
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

    /// Sets an option of the agent, and returns the agent's answer.
    pub(super) async fn set(
        &self,
        session: &schema::SessionId,
        name: &str,
        value: &str,
    ) -> Result<Value, Refused> {
        let id = id(session)?;
        let path = format!("/v1/sessions/{id}/settings/{}", encoded(name));
        let request = Request::put(path).json(&SettingRequest { value: value.to_owned() }).patient();
        let request = request.from_client(self.speaks_as(&id).await);
        let reply: SettingReply = self.link.get(request).await?;
        let what =
            || Refused::internal(format!("the agent has not answered yet; {name} is set when it is ready"));
        reply.answer.ok_or_else(what)
    }

    /// The client in whose name the editor changes this session; none without seats.
    pub(super) async fn speaks_as(&self, id: &SessionId) -> Option<EventId> {
        self.terms.seat?;
        let Some(panel) = self.panel(id) else { return Some(NOBODY) };
        panel.comes().await;
        Some(panel.attached.get())
    }

    pub(super) fn begun(&self) -> Result<(), Refused> {
        let what = "`initialize` comes first";
        if self.initialized.get() {
            Ok(())
        } else {
            Err(Refused::new(ErrorCode::INVALID_REQUEST, what.to_owned()))
        }
    }

    pub(super) async fn prompt(
        self: &Rc<Self>,
        params: Value,
        withdrawn: agent_client_protocol::RequestCancellation,
        busy: Busy,
    ) -> Result<Value, Refused> {
        self.begun()?;
        let key = marks::key(&params)?;
        let request: schema::PromptRequest = parse(params)?;
        let content = crate::acp::content::read(&request.prompt)
            .map_err(|why| Refused::new(ErrorCode::INVALID_PARAMS, why))?;
        let id = id(&request.session_id)?;
        let panel = match self.panel(&id) {
            Some(panel) => panel,
            // An editor that was started again may know of it without having opened it.
            None => {
                let wishes = Wishes::default();
                let opened = self.reopen(&request.session_id, Show::Nothing, wishes, Vec::new()).await?;
                let panel = opened.1;
                let panel = panel.ok_or_else(|| Refused::internal("the session is not open".to_owned()))?;
                self.spawn(panel.clone().follow(self.clone()));
                panel
            }
        };
        panel.prompt(self, content, key, withdrawn, busy).await
    }
}
