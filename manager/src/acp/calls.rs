//! Calls of the agent that the driving editor serves: files as the editor has them, terminals and forms.

use std::rc::Rc;

use agent_client_protocol::ErrorCode;
use agent_client_protocol::v1::schema;
use protocol::api::{CallRequest, ClientInfo, Role};
use protocol::wire::Offer;
use protocol::{CallId, EventId};
use serde_json::{Value, json};

use super::Editor;
use super::panel::Panel;
use crate::acp::reach::{Failure, Outcome};
use crate::client::{Events, Request, encoded};

/// Returns the calls that an editor can serve, by the capabilities in its `initialize` request.
pub fn offers(able: &schema::ClientCapabilities) -> Vec<Offer> {
    let forms = able.elicitation.as_ref().is_some_and(|able| able.form.is_some());
    let all = [
        (able.fs.read_text_file, Offer::ReadFile),
        (able.fs.write_text_file, Offer::WriteFile),
        (able.terminal, Offer::Terminal),
        (forms, Offer::Elicitation),
    ];
    all.into_iter().filter(|(can, _)| *can).map(|(_, offer)| offer).collect()
}

impl<'a> Panel<'a> {
    /// Opens the session's event stream after the last event that this view has read. An editor that can
    /// serve calls attaches as the driver, and finds its seat again after a cut. If another client drives, the editor attaches as a
    /// viewer.
    pub(super) async fn come(&self, editor: &Editor<'a>) -> Outcome<Events> {
        let offers = editor.offers.borrow().iter().map(|offer| offer.name()).collect::<Vec<_>>().join(",");
        self.client.set(None);
        self.attached.set(0);
        let id = self.id();
        let after = self.cursor();
        let seat = editor.terms.seat;
        if offers.is_empty() && seat.is_none() {
            return self.link.events(Request::get(format!("/v1/sessions/{id}/events?after={after}"))).await;
        }
        let name = encoded(&editor.name.borrow());
        let path = |role: &str, takeover| {
            format!(
                "/v1/sessions/{id}/attach?role={role}&takeover={takeover}&name={name}&offers={offers}&after={after}"
            )
        };
        if seat == Some(Role::Viewer) {
            return self.link.events(Request::get(path("viewer", false))).await;
        }
        match editor.seats.drive(id, path("driver", self.takeover.get())).await {
            // A viewer's token is no reason to show nothing.
            Err(failure) if failure.is("driven") || (seat.is_some() && failure.is("forbidden")) => {
                self.link.events(Request::get(path("viewer", false))).await
            }
            other => other,
        }
    }

    /// The editor is attached. What waits for somebody who can ask the user is asked.
    pub(super) fn attached(self: &Rc<Self>, editor: &Rc<Editor<'a>>, data: &str) {
        let info = serde_json::from_str::<ClientInfo>(data).ok();
        self.attached.set(info.as_ref().map_or(0, |info| info.client_id));
        self.takeover.set(false);
        self.came.notify_waiters();
        self.client.set(info.filter(|info| info.role == Role::Driver).map(|info| info.client_id));
        self.open_calls().into_iter().for_each(|call| self.clone().call(editor, call));
        if self.seated {
            self.open_questions().into_iter().for_each(|question| self.clone().question(editor, question));
        }
    }

    /// Another client drives, or none does: then this one does.
    pub(super) fn driven_by(&self, driver: Option<EventId>) {
        let me = self.attached.get();
        // Events from before this client attached have no effect.
        if me == 0 || self.cursor() <= me {
            return;
        }
        self.client.set(driver.filter(|driver| *driver == me));
        if self.seated && self.client.get().is_none() {
            // The driver is asked now.
            self.withdraw();
        }
        self.again.set(driver.is_none());
    }

    /// Has the editor do what the agent wants done, if it is to.
    pub(super) fn call(self: Rc<Self>, editor: &Rc<Editor<'a>>, id: CallId) {
        let Some(client) = self.client.get().filter(|_| !self.is_retired()) else { return };
        let Some((method, mut params)) = self.asked_of(client, id) else { return };
        let at = editor.clone();
        if Offer::of(&method).is_none_or(|needs| !at.offers.borrow().contains(&needs)) {
            return;
        }
        params["sessionId"] = json!(self.id());
        let Some(sent) = self.wire.ask(&method, params) else { return };
        if let Some(doubled) = self.calling.borrow_mut().insert(id, sent.cancellation_handle()) {
            crate::acp::panel::cancel(&doubled);
        }
        editor.spawn(async move {
            let (answer, _weight) = sent.answer().await;
            // It is not waited for any more.
            if self.calling.borrow_mut().remove(&id).is_none() {
                return;
            }
            let _busy = at.busy();
            let answer = match answer {
                // An editor that answers `null` has done what the call asks for.
                Ok(Value::Null) => CallRequest { result: Some(json!({})), error: None },
                Ok(result) => CallRequest { result: Some(result), error: None },
                Err(error) => {
                    refusal(i32::from(error.code), &crate::acp::refused::message(&error), error.data)
                }
            };
            let response = self.respond(client, id, &answer).await;
            let response = match response {
                Err(failure) if failure.is("body_too_large") => {
                    let why = "the editor's answer is larger than kennel passes on";
                    self.respond(client, id, &refusal(ErrorCode::INTERNAL_ERROR.into(), why, None)).await
                }
                response => response,
            };
            match response {
                // It came too late, or another client drives now.
                Err(failure)
                    if ["call_settled", "no_such_call", "not_driver"].iter().any(|code| failure.is(code)) => {
                }
                Err(failure) => self.complain("cannot answer the agent", &failure),
                Ok(()) => {}
            }
        });
    }

    async fn respond(&self, client: EventId, id: CallId, answer: &CallRequest) -> Result<(), Failure> {
        let path = format!("/v1/sessions/{}/calls/{id}", self.id());
        self.link.ask(Request::post(path).from_client(Some(client)).json(answer)).await.map(drop)
    }

    /// Withdraws the call's request from the editor: the call needs no answer any more.
    pub(super) fn call_settled(&self, id: CallId) {
        if let Some(handle) = self.calling.borrow_mut().remove(&id) {
            crate::acp::panel::cancel(&handle);
        }
    }
}

fn refusal(code: i32, message: &str, data: Option<Value>) -> CallRequest {
    let mut error = json!({ "code": code, "message": message });
    if let Some(data) = data {
        error["data"] = data;
    }
    CallRequest { result: None, error: Some(error) }
}
