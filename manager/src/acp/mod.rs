//! kennel as an agent for editors (<https://agentclientprotocol.com/protocol/v1/overview>): the front of `kennel acp`, over
//! standard input and output, and of `/v1/acp`, over a WebSocket.
//!
//! The editor's session is a kennel session under the same id. The front translates and keeps no state that is not in the
//! journal, so it may die at any instant. It ends with its input; sessions and turns go on.

mod calls;
mod content;
pub mod marks;
mod mcp;
mod panel;
mod prompt;
pub mod reach;
mod refused;
mod requests;
mod seats;
mod sessions;
mod story;
mod updates;
mod weights;
mod wire;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::v1::Dispatch;
use agent_client_protocol::{Agent, on_receive_dispatch};
use futures_util::future::FutureExt;
use futures_util::future::{LocalBoxFuture, join};
use futures_util::stream::{FuturesUnordered, StreamExt};
use protocol::SessionId;
use protocol::api::{Role, SessionOpts};
use protocol::wire::Offer;
use serde_json::Value;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout_at};

use panel::Panel;
use reach::Reach;
use refused::Refused;
use seats::Seats;
pub use weights::{Weight, Weights};
use wire::Wire;
pub use wire::Written;

/// The longest time in which requests may finish after the editor has gone.
const AFTERWARDS: Duration = Duration::from_millis(1500);
/// The longest wait for attachments that are on their way when the editor goes.
const COMING: Duration = Duration::from_secs(2);
/// The number of messages that may wait to be looked at.
const WAITING: usize = 64;

/// Terms on which the front serves an editor.
pub struct Terms {
    /// New sessions are their directory's own.
    pub workdir_session: bool,
    /// Agents may use the editor's files and terminals.
    pub tools: bool,
    /// The options of new sessions.
    pub opts: SessionOpts,
    /// The editor has a seat: it is always attached, as this at most, and what it changes is done in the name of its seat. None:
    /// it is attached only if it can serve calls, and has the rights of its user.
    pub seat: Option<Role>,
    /// The word by which the editor finds its driver's seat again after the connection to the daemon was cut. None: the end of the
    /// connection frees the seat at once.
    pub word: Option<String>,
    /// The most sessions that it may have open.
    pub sessions: usize,
    /// The most requests that may be in progress.
    pub requests: usize,
}

/// The lines of an editor.
pub struct Line {
    /// Messages from the editor. Its end ends the front.
    pub incoming: mpsc::Receiver<io::Result<String>>,
    /// Messages to the editor.
    pub outgoing: mpsc::Sender<String>,
    /// Counts those that are written.
    pub written: Arc<Written>,
    /// The memory of large ones.
    pub weights: Arc<Weights>,
}

/// Serves an editor until it is gone, or until `told` says that this process ends. The seats of the editor are free then.
///
/// # Errors
/// The connection to the editor, in words.
pub async fn serve(
    reach: &dyn Reach,
    terms: Terms,
    line: Line,
    told: impl Future<Output = ()>,
) -> Result<(), String> {
    let seats = Seats::new(reach, terms.word.clone());
    let over = Notify::new();
    let told = pin!(told);
    let conversation = async {
        let served = converse(reach, &seats, terms, line, told, &over).await;
        // The connection may have failed.
        over.notify_one();
        served
    };
    // An editor that does not read its last answers keeps no seat.
    let leaving = async {
        over.notified().await;
        seats.leave_all().await;
    };
    join(conversation, leaving).await.0
}

async fn converse<'a>(
    reach: &'a dyn Reach,
    seats: &'a Seats<'a>,
    terms: Terms,
    line: Line,
    mut told: Pin<&mut impl Future<Output = ()>>,
    over: &Notify,
) -> Result<(), String> {
    let transport = wire::transport(line.incoming, line.outgoing);
    let (received, mut incoming) = mpsc::channel(WAITING);
    let agent = Agent.v1().name("kennel").on_receive_dispatch(
        async move |message: Dispatch, _| {
            match message {
                Dispatch::Response(answer, router) => router.route_with_result(answer)?,
                // Without a receiver the connection is being closed.
                message => drop(received.send(message).await),
            }
            Ok(())
        },
        on_receive_dispatch!(),
    );
    let served = agent.connect_with(transport, async |connection| {
        let (spawned, mut new) = mpsc::unbounded_channel();
        let editor = Rc::new(Editor {
            link: reach,
            seats,
            wire: Wire::new(connection.clone(), line.written.clone(), line.weights.clone()),
            weights: line.weights.clone(),
            listing: Mutex::default(),
            terms,
            panels: RefCell::default(),
            opening: Mutex::default(),
            initialized: Cell::new(false),
            name: RefCell::new("kennel acp".to_owned()),
            offers: RefCell::default(),
            requests: Rc::default(),
            open: Rc::default(),
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
                () = &mut told => break,
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
        // The daemon must not hear of the end of a stay before its beginning.
        let last = Instant::now() + COMING;
        while seats.are_coming() && timeout_at(last, tasks.next()).await.is_ok_and(|task| task.is_some()) {}
        over.notify_one();
        Ok(())
    });
    served.await.map_err(|error| refused::message(&error))
}

/// The editor at the other end.
pub struct Editor<'a> {
    link: &'a dyn Reach,
    seats: &'a Seats<'a>,
    wire: Wire,
    weights: Arc<Weights>,
    terms: Terms,
    /// Sessions that it has open.
    panels: RefCell<BTreeMap<SessionId, Rc<Panel<'a>>>>,
    /// Sessions are opened one after the other: two requests may be about the same.
    opening: Mutex<()>,
    /// Sessions are listed one time after the other: a list may be large, and the request for it is small.
    listing: Mutex<()>,
    initialized: Cell<bool>,
    /// The name under which it is attached.
    name: RefCell<String>,
    /// Calls that it can serve for agents.
    offers: RefCell<Vec<Offer>>,
    /// The number of requests in progress. A prompt's request ends when the daemon accepts the prompt.
    requests: Rc<Cell<usize>>,
    /// The number of requests that are not answered.
    open: Rc<Cell<usize>>,
    spawned: mpsc::UnboundedSender<LocalBoxFuture<'a, ()>>,
}

/// An answer, and a session to be followed once it is sent.
type Answer<'a> = Result<(Value, Option<Rc<Panel<'a>>>), Refused>;

impl<'a> Editor<'a> {
    fn spawn(&self, task: impl Future<Output = ()> + 'a) {
        // The receiver lives as long as anything runs here.
        let _ = self.spawned.send(Box::pin(task));
    }

    /// Something is in hand until this is dropped.
    fn busy(&self) -> Busy {
        Busy::new(&self.requests, None)
    }

    fn panel(&self, id: &SessionId) -> Option<Rc<Panel<'a>>> {
        self.panels.borrow().get(id).cloned()
    }

    fn forget(&self, id: &SessionId) {
        self.panels.borrow_mut().remove(id);
    }

    /// Answers every request of an editor that has gone, though the editor may read none of the answers.
    fn leave(&self) {
        self.panels.borrow().values().for_each(|panel| panel.leave());
    }
}

/// Something is in hand, and is finished though the editor has gone.
pub struct Busy(Rc<Cell<usize>>, #[expect(dead_code, reason = "held, and given back")] Option<Weight>);

impl Busy {
    fn new(count: &Rc<Cell<usize>>, weight: Option<Weight>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone(), weight)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
