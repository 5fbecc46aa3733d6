//! The editor's end of the line: what is sent over it, and how far ahead of the editor.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use agent_client_protocol::v1::{ConnectionTo, SentRequest};
use agent_client_protocol::{
    Agent, Client, ConnectTo, Error, Lines, RequestCancellationHandle, UntypedMessage,
};
use futures_util::{sink, stream};
use protocol::SessionId;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use super::marks::Mark;
use super::weights::{Weight, Weights};

/// The number of unwritten updates at which the reading of the journal pauses.
const AHEAD: u64 = 256;
/// The bytes of unwritten messages at which it pauses, and at which requests wait.
const AHEAD_BYTES: usize = 8 * 1024 * 1024;
/// The bytes of unwritten messages of all connections at which those pause that have more than [`FEW_BYTES`].
const ALL_BYTES: usize = 64 * 1024 * 1024;
/// The bytes of unwritten messages that a connection may always have.
const FEW_BYTES: usize = 1024 * 1024;
/// By this text an update's line is known. Within a text of JSON its quotes would be escaped.
const UPDATE: &str = r#""method":"session/update""#;

/// The messages that are sent to an editor and not written yet.
#[derive(Debug, Default)]
pub struct Written {
    /// The number of updates that were sent.
    sent: AtomicU64,
    /// The number of updates that were written.
    updates: AtomicU64,
    /// Bytes of all messages.
    bytes: AtomicUsize,
    /// The same of all connections together.
    all: Arc<AtomicUsize>,
    more: Notify,
}

impl Written {
    /// One of these connections.
    pub fn among(all: Arc<AtomicUsize>) -> Self {
        let mut written = Self::default();
        written.all = all;
        written
    }

    /// A message with so many bytes is sent.
    fn sends(&self, size: usize) {
        self.bytes.fetch_add(size, Relaxed);
        self.all.fetch_add(size, Relaxed);
    }

    fn sends_update(&self, size: usize) {
        self.sent.fetch_add(1, Relaxed);
        self.sends(size);
    }

    /// This line is written.
    pub fn wrote(&self, line: &str) {
        if line.contains(UPDATE) {
            self.updates.fetch_add(1, Relaxed);
        }
        // A line has more bytes than were counted for it, and a few lines were not counted.
        let mut written = 0;
        let _ = self.bytes.fetch_update(Relaxed, Relaxed, |bytes| {
            written = line.len().min(bytes);
            Some(bytes - written)
        });
        self.all.fetch_sub(written, Relaxed);
        self.more.notify_one();
    }

    fn is_far(&self) -> bool {
        let ahead = self.sent.load(Relaxed).saturating_sub(self.updates.load(Relaxed));
        let bytes = self.bytes.load(Relaxed);
        ahead > AHEAD || bytes > AHEAD_BYTES || bytes > FEW_BYTES && self.all.load(Relaxed) > ALL_BYTES
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes.load(Relaxed), Relaxed);
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
    written: Arc<Written>,
    weights: Arc<Weights>,
    switches: Rc<Cell<bool>>,
    children: Rc<Cell<bool>>,
}

impl Wire {
    /// Over this connection.
    pub fn new(connection: ConnectionTo<Client>, written: Arc<Written>, weights: Arc<Weights>) -> Self {
        let (switches, children) = Default::default();
        Self { connection, written, weights, switches, children }
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
        while self.written.is_far() {
            self.written.more.notified().await;
        }
        // Others may wait as well.
        self.written.more.notify_one();
    }

    /// Counts an answer that is about to be sent.
    pub fn answers(&self, result: &Value) {
        self.written.sends(size_of(result));
    }

    /// Sends an update, as the editor can take it.
    pub fn update(&self, session: &SessionId, update: Value, mark: Mark) {
        let Some((session, update)) = self.addressed(session, update) else { return };
        let mut params = json!({ "sessionId": session, "update": self.plain(update) });
        if let Some(meta) = mark.meta() {
            params["_meta"] = Value::Object(meta);
        }
        let size = size_of(&params);
        if let Ok(message) = UntypedMessage::new("session/update", params) {
            // Before: another thread may write it at once. To an editor that has gone nothing is sent any more.
            self.written.sends_update(size);
            let _ = self.connection.send_notification(message);
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
    pub fn ask(&self, method: &str, params: Value) -> Option<Asked> {
        self.written.sends(size_of(&params));
        let message = UntypedMessage::new(method, params).ok()?;
        let sent = self.connection.send_request(message);
        let id = serde_json::to_value(sent.id()).ok()?;
        self.weights.asks(&id);
        Some(Asked { sent, id, weights: self.weights.clone() })
    }
}

/// A question to the editor.
pub struct Asked {
    sent: SentRequest<Value>,
    id: Value,
    weights: Arc<Weights>,
}

impl Asked {
    /// Withdraws the question.
    pub fn cancellation_handle(&self) -> RequestCancellationHandle {
        self.sent.cancellation_handle()
    }

    /// The editor's answer, and what it takes of the memory for large messages.
    pub async fn answer(self) -> (Result<Value, Error>, Option<Weight>) {
        let answer = self.sent.block_task().await;
        (answer, self.weights.answered(&self.id))
    }
}

/// The bytes of a value in JSON.
fn size_of(value: &Value) -> usize {
    let mut size = Size(0);
    // A count of bytes cannot fail.
    let _ = serde_json::to_writer(&mut size, value);
    size.0
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

    const LINE: &str = r#"{"jsonrpc":"2.0","method":"session/update","params":{}}"#;

    #[test]
    fn an_editor_is_ahead_of_by_updates_and_by_bytes() {
        let written = Written::default();
        for _ in 0..=AHEAD {
            assert!(!written.is_far());
            written.sends_update(LINE.len());
        }
        assert!(written.is_far());
        written.wrote(LINE);
        assert!(!written.is_far());
        // An answer counts as an update does.
        written.sends(AHEAD_BYTES);
        assert!(written.is_far());
        written.wrote(&"x".repeat(AHEAD_BYTES));
        assert!(!written.is_far());
    }

    #[test]
    fn only_updates_count_as_updates_and_no_line_counts_twice() {
        let written = Written::default();
        written.wrote(LINE);
        written.wrote(r#"{"jsonrpc":"2.0","id":1,"result":{"x":"\"method\":\"session/update\""}}"#);
        assert_eq!((written.updates.load(Relaxed), written.bytes.load(Relaxed)), (1, 0));
        written.sends(10);
        written.wrote("a line with more than was counted for it");
        assert_eq!((written.bytes.load(Relaxed), written.all.load(Relaxed)), (0, 0));
    }

    #[test]
    fn all_editors_together_are_ahead_of_by_bytes() {
        let all = Arc::new(AtomicUsize::new(0));
        let mut many: Vec<_> = (0..8).map(|_| Written::among(all.clone())).collect();
        many.iter().for_each(|written| written.sends(AHEAD_BYTES));
        let (few, more) = (Written::among(all.clone()), Written::among(all.clone()));
        few.sends(FEW_BYTES);
        more.sends(FEW_BYTES + 1);
        assert!(!few.is_far() && more.is_far());
        // One that goes takes with it what it had not read.
        many.pop();
        assert!(!more.is_far());
        drop((few, more, many));
        assert_eq!(all.load(Relaxed), 0);
    }
}
