//! The editor's end of the line: standard input and output, and what is sent over them.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_client_protocol::v1::{ConnectionTo, SentRequest};
use agent_client_protocol::{Agent, Client, ConnectTo, Lines, UntypedMessage};
use futures_util::{sink, stream};
use protocol::SessionId;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use crate::cli::lines;

/// The longest line that is read. A prompt has at most 1 MiB, in JSON up to six times that; what an editor embeds
/// beyond it is refused.
const MAX_LINE: usize = 64 * 1024 * 1024;
/// The number of unwritten lines at which the reading of the journal pauses.
const AHEAD: u64 = 256;
/// The number of lines that may wait between two threads.
const BUFFER: usize = 16;

/// The number of lines that were written to the editor.
#[derive(Debug, Default)]
pub struct Written {
    lines: AtomicU64,
    more: Notify,
}

/// Returns standard input and output as a transport, and a receiver that fires once everything is written.
pub fn stdio(written: Arc<Written>) -> (impl ConnectTo<Agent> + 'static, oneshot::Receiver<()>) {
    let (outgoing, finished) = lines::to_stdout(BUFFER, move || {
        written.lines.fetch_add(1, Ordering::Relaxed);
        written.more.notify_one();
    });
    let incoming = lines::from_stdin(MAX_LINE, BUFFER, &outgoing);
    let incoming =
        stream::unfold(incoming, |mut lines| async move { lines.recv().await.map(|line| (line, lines)) });
    let outgoing = sink::unfold(outgoing, |lines, line: String| async move {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        lines.send(line).await.map(|()| lines).map_err(gone)
    });
    (Lines::new(outgoing, incoming), finished)
}

/// Sends to the editor. A send to an editor that has gone fails silently; the end of the input ends the
/// process.
#[derive(Clone)]
pub struct Wire {
    connection: ConnectionTo<Client>,
    sent: Rc<Cell<u64>>,
    written: Arc<Written>,
    switches: Rc<Cell<bool>>,
    children: Rc<Cell<bool>>,
}

impl Wire {
    /// Over this connection.
    pub fn new(connection: ConnectionTo<Client>, written: Arc<Written>) -> Self {
        Self { connection, sent: Rc::default(), written, switches: Rc::default(), children: Rc::default() }
    }

    /// Sets whether the editor knows options that are true or false.
    pub fn shows_switches(&self, yes: bool) {
        self.switches.set(yes);
    }

    /// Sets whether the editor knows sub-agents within an agent.
    pub fn shows_children(&self, yes: bool) {
        self.children.set(yes);
    }

    /// Leaves out the options that the editor does not know.
    pub fn plain(&self, mut reported: Value) -> Value {
        if !self.switches.get()
            && let Some(Value::Array(options)) = reported.get_mut("configOptions")
        {
            options.retain(|option| option["type"] != "boolean");
        }
        reported
    }

    /// Waits while the editor is far behind: what it has not read yet is safer in the journal.
    pub async fn room(&self) {
        while self.sent.get() > self.written.lines.load(Ordering::Relaxed) + AHEAD {
            self.written.more.notified().await;
        }
        // Others may wait as well.
        self.written.more.notify_one();
    }

    /// Sends an update, as the editor can take it.
    pub fn update(&self, session: &SessionId, update: Value) {
        let Some((session, update)) = self.addressed(session, update) else { return };
        let params = json!({ "sessionId": session, "update": self.plain(update) });
        if let Ok(message) = UntypedMessage::new("session/update", params)
            && self.connection.send_notification(message).is_ok()
        {
            self.sent.set(self.sent.get() + 1);
        }
    }

    /// Returns the session id under which the editor receives the update; none if the editor does not know
    /// such updates. A child's id begins with the session's, so that no agent can write into another session.
    fn addressed(&self, session: &SessionId, mut update: Value) -> Option<(String, Value)> {
        let child = |update: &Value| Some(format!("{session}/{}", update["sessionId"].as_str()?));
        match update["sessionUpdate"].as_str() {
            Some("child_update") => {
                let (inside, of) = (update["update"].take(), child(&update)?);
                let (_, inside) = self.addressed(session, inside)?;
                self.children.get().then_some((of, inside))
            }
            Some("subagent_update") => {
                update["sessionId"] = child(&update)?.into();
                self.children.get().then(|| (session.to_string(), update))
            }
            // They name sessions by the agent's ids.
            Some("session_message" | "session_message_chunk") => None,
            _ => Some((session.to_string(), update)),
        }
    }

    /// Asks the editor.
    pub fn ask(&self, method: &str, params: Value) -> Option<SentRequest<Value>> {
        let message = UntypedMessage::new(method, params).ok()?;
        self.sent.set(self.sent.get() + 1);
        Some(self.connection.send_request(message))
    }
}
