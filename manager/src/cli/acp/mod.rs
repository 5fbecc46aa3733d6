//! `acp`: kennel as an agent for editors, over standard input and output
//! (<https://agentclientprotocol.com/protocol/v1/overview>).
//!
//! The editor's session is a kennel session under the same id. This process translates and keeps no state
//! that is not in the journal, so it may die at any instant. It exits at the end of its input; sessions and
//! turns go on.

mod calls;
mod content;
mod mcp;
mod panel;
mod prompt;
mod refused;
mod requests;
mod sessions;
mod story;
mod updates;
mod wire;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::v1::Dispatch;
use agent_client_protocol::{Agent, on_receive_dispatch};
use futures_util::future::FutureExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use protocol::SessionId;
use protocol::api::SessionOpts;
use protocol::wire::Offer;
use serde_json::Value;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use crate::cli::acp::refused::Refused;
use crate::cli::args;
use crate::cli::link::Link;
use crate::cli::ui::error::{Failure, Outcome};
use panel::Panel;
use wire::{Wire, Written};

/// The longest time in which requests may finish after the editor has gone.
const AFTERWARDS: Duration = Duration::from_millis(1500);
/// The longest time for writing the last lines then.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// `acp`.
pub async fn acp(link: &Link<'_>, args: args::Acp) -> Outcome {
    let written = Arc::new(Written::default());
    let (transport, all_written) = wire::stdio(written.clone());
    let (received, mut incoming) = mpsc::unbounded_channel();
    let agent = Agent.v1().name("kennel").on_receive_dispatch(
        async move |message: Dispatch, _| {
            match message {
                Dispatch::Response(answer, router) => router.route_with_result(answer)?,
                // Without a receiver the connection is being closed.
                message => drop(received.send(message)),
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
            dir: args.dir,
            tools: args.editor_tools || link.host().is_none(),
            opts: args.options.given(),
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
    served.map_err(|error| {
        Failure::failed("acp", format!("the connection to the editor: {}", refused::message(&error)))
    })
}

/// The editor at the other end.
pub struct Editor<'a> {
    link: &'a Link<'a>,
    wire: Wire,
    workdir_session: bool,
    /// The directory of new sessions, in place of the editor's.
    dir: Option<PathBuf>,
    /// Agents may use its files and terminals.
    tools: bool,
    opts: SessionOpts,
    /// Sessions that it has open.
    panels: RefCell<BTreeMap<SessionId, Rc<Panel<'a>>>>,
    /// Sessions are opened one after the other: two requests may be about the same.
    opening: Mutex<()>,
    initialized: Cell<bool>,
    /// Calls that it can serve for agents.
    offers: RefCell<Vec<Offer>>,
    /// The number of requests in progress. A prompt's request ends when the daemon accepts the prompt.
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

    /// Answers every request of an editor that has gone, though the editor may read none of the answers.
    fn leave(&self) {
        self.panels.borrow().values().for_each(|panel| panel.leave());
    }
}

/// Something is in hand, and is finished though the editor has gone.
pub struct Busy(Rc<Cell<usize>>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
