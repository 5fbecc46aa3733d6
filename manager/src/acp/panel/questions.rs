//! Permissions that the agent asks for, asked of the editor.

use std::rc::Rc;

use protocol::api::{AnswerRequest, PermissionAnswer, PermissionInfo};
use protocol::{PermissionId, PromptId};
use serde_json::{Value, json};

use super::Panel;
use crate::acp::Editor;
use crate::acp::marks::Mark;
use crate::acp::updates;
use crate::client::Request;

impl<'a> Panel<'a> {
    /// Asks the editor what the agent asks, if it still waits for an answer: a policy may have given it.
    pub(in crate::acp) fn question(self: Rc<Self>, editor: &Rc<Editor<'a>>, permission: PermissionId) {
        let at = editor.clone();
        editor.spawn(async move {
            let request = Request::get(format!("/v1/sessions/{}/permissions", self.id));
            match self.link.get::<Vec<PermissionInfo>>(request).await {
                Ok(open) if open.iter().all(|open| open.permission_id != permission) => return,
                Ok(_) => {}
                Err(failure) => return self.complain("cannot ask", &failure),
            }
            let Some((prompt, title, mut params)) = self.asks(permission) else { return };
            if self.state.borrow().asked.contains_key(&permission) {
                return;
            }
            params["sessionId"] = json!(self.id);
            let Some(sent) = self.wire.ask("session/request_permission", params) else { return };
            self.state.borrow_mut().asked.insert(permission, sent.cancellation_handle());
            let (answer, _weight) = sent.answer().await;
            // Somebody else has answered, or the session was opened anew.
            if self.state.borrow_mut().asked.remove(&permission).is_none() {
                return;
            }
            let _busy = at.busy();
            let outcome = answer.ok().map(|mut answer| answer["outcome"].take()).unwrap_or_default();
            match (outcome["optionId"].as_str(), outcome["outcome"].as_str()) {
                (Some(option), _) => {
                    self.answer(permission, PermissionAnswer::Option(option.to_owned())).await;
                }
                // The user closed the question.
                (None, Some("cancelled")) => self.answer(permission, PermissionAnswer::Cancel).await,
                _ => self.unanswered(permission, prompt, &title),
            }
        });
    }

    pub(super) fn asks(&self, permission: PermissionId) -> Option<(Option<PromptId>, String, Value)> {
        let state = self.state.borrow();
        let question = state.story.questions().get(&permission)?;
        // Every editor sees a question that belongs to no turn.
        let shown = |prompt: PromptId| state.ours.contains_key(&prompt) || state.followed.contains(&prompt);
        let visible = match self.seated {
            true => self.client.get().is_some(),
            false => question.prompt.is_none_or(shown),
        };
        let asked = visible && question.params.is_object() && !self.retired.get();
        asked.then(|| (question.prompt, question.title.clone(), question.params.clone()))
    }

    pub(super) async fn answer(&self, permission: PermissionId, answer: PermissionAnswer) {
        let answer = AnswerRequest { answer };
        let path = format!("/v1/sessions/{}/permissions/{permission}", self.id);
        match self.link.ask(Request::post(path).from_client(self.speaks_as()).json(&answer)).await {
            Ok(_) => {}
            // The first answer counts, from any client.
            Err(failure) if failure.is("permission_settled") || failure.is("no_such_permission") => {}
            Err(failure) => {
                let why = failure.text();
                self.wire.update(
                    &self.id,
                    updates::quoted(&format!("{permission} was not answered: {why}")),
                    Mark::default(),
                );
            }
        }
    }

    /// Notes that the editor gave no answer. The permission stays open for other clients.
    pub(super) fn unanswered(&self, permission: PermissionId, prompt: Option<PromptId>, title: &str) {
        let state = self.state.borrow();
        let waits = state.story.questions().contains_key(&permission)
            && prompt.is_none_or(|prompt| match state.ours.get(&prompt) {
                Some(ours) => !ours.cancelled,
                None => state.followed.contains(&prompt),
            });
        if waits {
            let what =
                format!("{title} waits for an answer: `kennel permissions allow {permission}` or `deny`");
            self.wire.update(&self.id, updates::quoted(&what), Mark::default());
        }
    }
}
