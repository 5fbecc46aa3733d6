//! The editor's end of the line: what is sent over it, and how far ahead of the editor.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_client_protocol::v1::{ConnectionTo, SentRequest};
use agent_client_protocol::{Agent, Client, ConnectTo, Lines, UntypedMessage};
use futures_util::{sink, stream};
use protocol::SessionId;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use super::marks::Mark;

/// The number of unwritten updates at which the reading of the journal pauses.
const AHEAD: usize = 256;
/// Their bytes at which it pauses.
const AHEAD_BYTES: usize = 8 * 1024 * 1024;
/// By this text an update's line is known. Within a text of JSON its quotes would be escaped.
const UPDATE: &str = r#""method":"session/update""#;

/// The number of updates that were written to the editor.
#[derive(Debug, Default)]
pub struct Written {
    updates: AtomicU64,
    more: Notify,
}

impl Written {
    /// This line is written.
    pub fn wrote(&self, line: &str) {
        if line.contains(UPDATE) {
            self.updates.fetch_add(1, Ordering::Relaxed);
            self.more.notify_one();
        }
    }
}

/// Lines from an editor and to it, as a transport.
pub fn transport(
    incoming: mpsc::Receiver<io::Result<String>>,
    outgoing: mpsc::Sender<String>,
) -> impl ConnectTo<Agent> + 'static {
    let incoming =
        stream::unfold(incoming, |mut lines| async move { lines.recv().await.map(|line| (line, lines)) });
    let outgoing = sink::unfold(outgoing, |lines, line: String| async move {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        lines.send(line).await.map(|()| lines).map_err(gone)
    });
    Lines::new(outgoing, incoming)
}

/// Sends to the editor. A send to an editor that has gone fails silently; the end of the input ends the
/// process.
#[derive(Clone)]
pub struct Wire {
    connection: ConnectionTo<Client>,
    ahead: Rc<RefCell<Ahead>>,
    written: Arc<Written>,
    switches: Rc<Cell<bool>>,
    children: Rc<Cell<bool>>,
}

/// Updates that are sent and not written yet.
#[derive(Default)]
struct Ahead {
    sizes: VecDeque<usize>,
    bytes: usize,
    /// The updates that were written when this was looked at last.
    written: u64,
}

impl Ahead {
    fn push(&mut self, size: usize) {
        self.sizes.push_back(size);
        self.bytes += size;
    }

    /// Takes out what is written by now.
    fn settle(&mut self, written: u64) {
        for _ in self.written..written {
            self.bytes -= self.sizes.pop_front().unwrap_or(0);
        }
        self.written = written;
    }

    fn is_far(&self) -> bool {
        self.sizes.len() > AHEAD || self.bytes > AHEAD_BYTES
    }
}

impl Wire {
    /// Over this connection.
    pub fn new(connection: ConnectionTo<Client>, written: Arc<Written>) -> Self {
        let (ahead, switches, children) = Default::default();
        Self { connection, ahead, written, switches, children }
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
        while self.is_far() {
            self.written.more.notified().await;
        }
        // Others may wait as well.
        self.written.more.notify_one();
    }

    fn is_far(&self) -> bool {
        let mut ahead = self.ahead.borrow_mut();
        ahead.settle(self.written.updates.load(Ordering::Relaxed));
        ahead.is_far()
    }

    /// Sends an update, as the editor can take it.
    pub fn update(&self, session: &SessionId, update: Value, mark: Mark) {
        let Some((session, update)) = self.addressed(session, update) else { return };
        let mut params = json!({ "sessionId": session, "update": self.plain(update) });
        if let Some(meta) = mark.meta() {
            params["_meta"] = Value::Object(meta);
        }
        let mut size = Size(0);
        // A count of bytes cannot fail.
        let _ = serde_json::to_writer(&mut size, &params);
        if let Ok(message) = UntypedMessage::new("session/update", params)
            && self.connection.send_notification(message).is_ok()
        {
            self.ahead.borrow_mut().push(size.0);
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
        Some(self.connection.send_request(message))
    }
}

/// Counts the bytes that are written to it.
struct Size(usize);

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_editor_is_ahead_of_by_updates_and_by_bytes() {
        let mut ahead = Ahead::default();
        for _ in 0..=AHEAD {
            assert!(!ahead.is_far());
            ahead.push(1);
        }
        assert!(ahead.is_far());
        ahead.settle(1);
        assert_eq!((ahead.is_far(), ahead.bytes), (false, AHEAD));
        ahead.push(AHEAD_BYTES);
        assert!(ahead.is_far());
        // One that is as large goes through alone.
        ahead.settle(AHEAD as u64 + 2);
        assert_eq!((ahead.is_far(), ahead.bytes), (false, 0));
    }

    #[test]
    fn only_updates_count_as_written() {
        let written = Written::default();
        written.wrote(r#"{"jsonrpc":"2.0","method":"session/update","params":{}}"#);
        written.wrote(r#"{"jsonrpc":"2.0","id":1,"result":{"x":"\"method\":\"session/update\""}}"#);
        assert_eq!(written.updates.load(Ordering::Relaxed), 1);
    }
}
