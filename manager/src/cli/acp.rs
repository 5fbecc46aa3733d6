//! `acp`: kennel as an agent for editors, over standard input and output. The front itself is [`crate::acp`].

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use hyper::body::Bytes;
use protocol::SessionId;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::acp::reach::{self, Reach};
use crate::acp::{Line, Terms, Written, serve};
use crate::cli::link::{Link, random_key};
use crate::cli::signals;
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::{args, lines};
use crate::client::{ClientError, Events, Request};

/// The longest line that is read. A prompt has at most 1 MiB, in JSON up to six times that; what an editor embeds
/// beyond it is refused.
const MAX_LINE: usize = 64 * 1024 * 1024;
/// The number of lines that may wait between two threads.
const BUFFER: usize = 16;
/// The longest time for writing the last lines.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// The longest time from a signal to the end of this process.
const SIGNALLED: Duration = Duration::from_secs(3);

/// `acp`.
pub async fn acp(link: &Link<'_>, args: args::Acp) -> Outcome {
    let written = Arc::new(Written::default());
    let counted = written.clone();
    let (outgoing, all_written) = lines::to_stdout(BUFFER, move |line| counted.wrote(line));
    let incoming = lines::from_stdin(MAX_LINE, BUFFER, &outgoing);
    let terms = Terms {
        workdir_session: args.workdir_session,
        tools: args.editor_tools || link.host().is_none(),
        opts: args.options.given(),
        seat: None,
        word: Some(random_key()?),
        sessions: usize::MAX,
        requests: usize::MAX,
    };
    let way = Way { link, dir: args.dir };
    let line = Line { incoming, outgoing, written, weights: Arc::default() };
    let (signal, arrived) = (Cell::new(None), Notify::new());
    let told = async {
        signal.set(Some(signals::ending().await));
        arrived.notify_one();
    };
    let overdue = async {
        arrived.notified().await;
        sleep(SIGNALLED).await;
    };
    let served = tokio::select! {
        served = serve(&way, terms, line, told) => served,
        () = overdue => Ok(()),
    };
    // An editor that does not read does not keep this process.
    let _ = timeout(LAST_WORDS, all_written).await;
    if let Some(signal) = signal.get() {
        // It does not return.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    served.map_err(|error| Failure::failed("acp", format!("the connection to the editor: {error}")))
}

/// The command line's way to the API.
struct Way<'a> {
    link: &'a Link<'a>,
    /// The directory of new sessions, in place of the editor's.
    dir: Option<PathBuf>,
}

impl Reach for Way<'_> {
    fn ask(&self, request: Request) -> LocalBoxFuture<'_, reach::Outcome<Bytes>> {
        Box::pin(async move { Ok(self.link.ask(request).await?) })
    }

    fn events(&self, request: Request) -> LocalBoxFuture<'_, reach::Outcome<Events>> {
        Box::pin(async move { Ok(self.link.stream(&request).await?) })
    }

    fn tell(&self, request: Request) -> LocalBoxFuture<'_, ()> {
        Box::pin(async move { self.link.client.tell(&request).await })
    }

    fn comes_back(&self) -> LocalBoxFuture<'_, bool> {
        Box::pin(self.link.comes_back())
    }

    fn directory<'s>(&'s self, cwd: &'s Path) -> LocalBoxFuture<'s, reach::Outcome<String>> {
        Box::pin(async move {
            if let (None, None, Some(cwd)) = (&self.dir, self.link.host(), cwd.to_str()) {
                return Ok(cwd.to_owned());
            }
            let dir = self.dir.clone().unwrap_or_else(|| cwd.to_owned());
            Ok(self.link.directory(Some(dir)).await?)
        })
    }

    fn stable_id<'s>(&'s self, dir: &'s str) -> LocalBoxFuture<'s, reach::Outcome<SessionId>> {
        Box::pin(async move { Ok(self.link.stable_id(dir).await?) })
    }

    fn failure(&self, error: ClientError) -> reach::Failure {
        Failure::from(error).into()
    }

    fn note(&self, text: &str) {
        self.link.ui.note(text);
    }
}

impl From<Failure> for reach::Failure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Problem(problem, _) => Self(Some(problem)),
            Failure::Printed(_) | Failure::Unread => Self(None),
        }
    }
}
