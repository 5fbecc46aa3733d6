//! Waiting for a session's state.

use std::time::Duration;

use protocol::SessionId;
use protocol::api::*;
use serde::Deserialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::SessionManager;
use crate::core::{Refusal, Session, State};
use crate::error::Error;
use crate::supervisor::Msg;

/// The reason given to a client that waited for a session that was stopped.
const STOPPED: &str = "was stopped meanwhile";

/// A state of a session for which a client can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// Ready, no turn runs and none waits.
    Idle,
    /// Ready, whether a turn runs or not.
    Ready,
    /// A turn runs.
    Running,
    /// A turn waits for a person's answer.
    RequiresAction,
    /// Stopped.
    Stopped,
    /// Given up.
    Failed,
    /// Without a process until something is asked of it.
    Hibernated,
}

impl WaitFor {
    /// The word of the API.
    fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::RequiresAction => "requires_action",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Hibernated => "hibernated",
        }
    }

    fn is_now(self, session: &Session) -> bool {
        let is = |status| session.status() == status;
        match self {
            Self::Idle => is(Status::Idle) && session.turns.queue.is_empty(),
            Self::Ready => matches!(session.state, State::Ready { .. }),
            Self::Running => is(Status::Running),
            Self::RequiresAction => is(Status::RequiresAction),
            Self::Stopped => is(Status::Stopped),
            Self::Failed => is(Status::Failed),
            Self::Hibernated => is(Status::Hibernated),
        }
    }
}

impl SessionManager {
    /// Waits until the session is in that state.
    pub async fn wait(
        &self,
        id: &SessionId,
        until: WaitFor,
        timeout: Option<Duration>,
    ) -> Result<SessionInfo, Error> {
        self.wait_for_one_of(id, &[until], timeout).await
    }

    /// Waits until the session is in one of these states.
    pub async fn wait_for_one_of(
        &self,
        id: &SessionId,
        states: &[WaitFor],
        timeout: Option<Duration>,
    ) -> Result<SessionInfo, Error> {
        let words: Vec<String> = states.iter().map(|state| format!("`{}`", state.word())).collect();
        let until = states.to_vec();
        let mut stopped = "is stopped";
        let reached = move |session: &Session| {
            // From the second look on it happened meanwhile.
            let stopped = std::mem::replace(&mut stopped, STOPPED);
            let reached = until.iter().any(|state| state.is_now(session));
            match &session.state {
                _ if reached => Some(Ok(())),
                // Nothing but a person's hand leads out of these.
                State::Failed(failure) => {
                    Some(Err(Error::SessionFailed { id: session.id.clone(), reason: failure.reason.clone() }))
                }
                State::Stopped => Some(Err(Error::Overtaken { id: session.id.clone(), what: stopped })),
                _ => None,
            }
        };
        self.until(id, &words.join(" or "), timeout, reached).await
    }

    /// Waits until `reached` says something of the session, looked at now and after each of its steps.
    pub(super) async fn until(
        &self,
        id: &SessionId,
        what: &str,
        timeout: Option<Duration>,
        mut reached: impl FnMut(&Session) -> Option<Result<(), Error>> + Send + 'static,
    ) -> Result<SessionInfo, Error> {
        let (reply, answer) = oneshot::channel();
        let mut reply = Some(reply);
        let (name, around) = (id.clone(), self.shared.around.clone());
        let check = move |session: Option<&Session>, now: u64| {
            let verdict = match session {
                None => Some(Err(Error::Refused(Refusal::NoSuchSession(name.to_string())))),
                Some(session) => reached(session).map(|verdict| verdict.map(|()| around.told(session, now))),
            };
            if let Some(verdict) = verdict
                && let Some(reply) = reply.take()
            {
                let _ = reply.send(verdict);
            }
            // Done, or nobody waits any more.
            reply.as_ref().is_none_or(oneshot::Sender::is_closed)
        };
        self.send(Msg::Watch { id: id.clone(), check: Box::new(check) }).await?;
        match timeout {
            None => answer.await.map_err(|_| Error::Ended)?,
            Some(after) => match tokio::time::timeout(after, answer).await {
                Ok(answer) => answer.map_err(|_| Error::Ended)?,
                Err(_) => Err(Error::Timeout { what: format!("session `{id}`: {what}"), after }),
            },
        }
    }
}

fn failed(session: &Session) -> Option<Result<(), Error>> {
    match &session.state {
        State::Failed(failure) => {
            Some(Err(Error::SessionFailed { id: session.id.clone(), reason: failure.reason.clone() }))
        }
        _ => None,
    }
}

pub(super) fn has_pid(session: &Session) -> Option<Result<(), Error>> {
    match &session.state {
        _ if session.pid().is_some() => Some(Ok(())),
        // Of a request that is repeated: it had one, and has none until something is asked of it.
        State::Hibernated => Some(Ok(())),
        State::Stopped => Some(Err(Error::Overtaken { id: session.id.clone(), what: STOPPED })),
        _ => failed(session),
    }
}

pub(super) fn is_up(session: &Session) -> Option<Result<(), Error>> {
    match &session.state {
        State::Ready { .. } => Some(Ok(())),
        State::Stopped => Some(Err(Error::Overtaken { id: session.id.clone(), what: STOPPED })),
        _ => failed(session),
    }
}

pub(super) fn is_down(session: &Session) -> Option<Result<(), Error>> {
    match &session.state {
        State::Failed(failure) if !failure.survivors.is_empty() => failed(session),
        _ if !session.has_process() => Some(Ok(())),
        _ => None,
    }
}
