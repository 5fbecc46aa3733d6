//! The way to the daemon: asking it, asking again when it went away, starting it when there is none.

mod far;

use std::cell::RefCell;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Child;
use std::time::Duration;

use hyper::body::Bytes;
use protocol::api::ManagerInfo;
use protocol::{MARKER, SessionId};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use crate::address::{self, Found};
use crate::cli::launch;
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome};
use crate::client::relay;
use crate::client::{Client, ClientError, Events, Request, SILENCE};
use crate::daemon::Paths;
use crate::system::random;

/// The longest time until a daemon answers.
const START: Duration = Duration::from_secs(10);
/// The longest time until a stopping daemon has ended.
const END: Duration = Duration::from_secs(60);
/// The time to wait for another daemon after one was stopped.
const SUCCESSION: Duration = Duration::from_secs(5);
/// The interval between checks of a condition.
const LOOK: Duration = Duration::from_millis(10);
/// The pause before the next start after a starting daemon was killed; it doubles each time.
const KILLED: Duration = Duration::from_millis(20);
/// How long a request may take until this command looks whether the daemon answers anything at all.
const MOMENT: Duration = Duration::from_secs(1);
/// The number of attempts at a request whose connection was lost.
const REPEATS: u32 = 10;
/// The number of daemons that may be started for one request, and end before they answer it.
const STARTS: u32 = 100;
/// A connection that lived so long was none that is lost at once.
const LONG: Duration = Duration::from_secs(5);

/// The daemon of one state directory, whether it runs or not.
pub struct Link<'a> {
    /// Where results and notes go.
    pub ui: &'a Ui,
    /// Where the daemon's files lie; none if it is on another machine.
    pub paths: Option<Paths>,
    /// Asks it, if it runs.
    pub(crate) client: Client,
    /// Daemons that were started here and may have ended since.
    children: RefCell<Vec<Child>>,
}

impl<'a> Link<'a> {
    /// To the daemon with these files.
    pub fn new(ui: &'a Ui, paths: Paths) -> Self {
        let client = client(&paths);
        Self { ui, paths: Some(paths), client, children: RefCell::default() }
    }

    /// Asks, and starts the daemon if there is none.
    pub(crate) async fn ask(&self, request: Request) -> Outcome<Bytes> {
        self.ui.also_waiting("waiting for the daemon", self.ask_now(request)).await
    }

    async fn ask_now(&self, request: Request) -> Outcome<Bytes> {
        let (mut losses, mut starts) = (Losses::none(), 0);
        loop {
            let error = match self.answer(&request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let was_sent = request.changes() && losses.any();
            match error {
                ClientError::Absent(_) if starts < STARTS => self.start_after(&mut starts).await?,
                ClientError::Lost(_) if request.repeatable && losses.bear().await => {}
                ClientError::Problem(problem) if request.repeatable && problem.code == "manager_stopping" => {
                    if !request.passive {
                        self.gone().await?;
                    } else if !self.comes_back().await {
                        return Err(Failure::unreachable("the daemon was stopped"));
                    }
                }
                ClientError::Silent(_) if request.changes() => {
                    return Err(self.failure(error).but("what was asked may be done once it goes on"));
                }
                error if was_sent && !matches!(error, ClientError::Lost(_)) => {
                    return Err(self
                        .failure(error)
                        .although("what was asked before the connection was lost may be done"));
                }
                error => return Err(self.failure(error)),
            }
        }
    }

    /// Asks. What may take long ends, too, once the daemon answers nothing else either.
    async fn answer(&self, request: &Request) -> Result<Bytes, ClientError> {
        let mut answer = pin!(self.client.ask(request));
        if request.within.is_some() {
            return answer.await;
        }
        let mut pause = MOMENT;
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                () = sleep(pause) => {}
            }
            let sign = Request::get("/healthz");
            tokio::select! {
                answer = &mut answer => return answer,
                sign = self.client.ask(&sign) => if let Err(silent @ ClientError::Silent(_)) = sign {
                    return Err(silent);
                }
            }
            pause = SILENCE;
        }
    }

    /// An error of the client's. Of a daemon that is silent it names the process and the way out.
    pub fn failure(&self, error: ClientError) -> Failure {
        let failure = match (&error, self.pid()) {
            (ClientError::Silent(within), Some(pid)) => Failure::silent(*within, Some(pid)),
            (ClientError::Lost(what), _) if self.host().is_some() => Failure::unreachable(format!(
                "the connection was lost before the answer came ({what}); what was asked may or may not have been done"
            ))
            .hint("look with `kennel ls`, then try again"),
            _ => error.into(),
        };
        self.located(failure)
    }

    /// The process of the daemon that is asked, by its own word; none if that is not known.
    pub fn pid(&self) -> Option<u32> {
        let paths = self.paths.as_ref()?;
        match address::find(&paths.state_dir) {
            // `KENNEL_SOCKET` may name another's.
            Found::Served { socket, .. } if paths.named && socket.as_ref() != Some(&paths.socket) => None,
            Found::Served { pid, .. } => pid,
            Found::Free | Found::Unknown => None,
        }
    }

    /// Asks, and reads the answer.
    pub(crate) async fn get<T: DeserializeOwned>(&self, request: Request) -> Outcome<T> {
        read(&self.ask(request).await?)
    }

    /// Opens a stream of events, and starts the daemon if there is none.
    pub(crate) async fn events(&self, path: &str) -> Outcome<Events> {
        self.stream(&Request::get(path)).await
    }

    /// The same, by a request.
    pub(crate) async fn stream(&self, request: &Request) -> Outcome<Events> {
        self.ui.also_waiting("waiting for the daemon", self.stream_now(request)).await
    }

    async fn stream_now(&self, request: &Request) -> Outcome<Events> {
        let (mut losses, mut starts) = (Losses::none(), 0);
        loop {
            match self.client.stream(request).await {
                Ok(events) => return Ok(events),
                Err(ClientError::Absent(_)) if starts < STARTS => self.start_after(&mut starts).await?,
                Err(ClientError::Lost(_)) if losses.bear().await => {}
                Err(ClientError::Problem(problem)) if problem.code == "manager_stopping" => {
                    self.gone().await?
                }
                Err(error) => return Err(self.failure(error)),
            }
        }
    }

    /// Asks about the session that is meant by an id or the beginning of one.
    pub async fn about(
        &self,
        typed: &str,
        request: impl Fn(&SessionId) -> Request,
    ) -> Outcome<(SessionId, Bytes)> {
        // Most often it is the whole id, and one question is enough.
        if let Ok(id) = typed.parse::<SessionId>() {
            match self.ask(request(&id)).await {
                Err(failure) if failure.is("no_such_session") => {}
                answer => return answer.map(|answer| (id, answer)),
            }
        }
        let id = self.find(typed).await?;
        let answer = self.ask(request(&id)).await?;
        Ok((id, answer))
    }

    /// The sessions, as the daemon tells them. Without `all` the daemon leaves out stopped sessions; an older one may tell them, too.
    pub async fn sessions(&self, all: bool) -> Outcome<Bytes> {
        if !all {
            match self.ask(Request::get("/v1/sessions?all=false")).await {
                Err(failure) if failure.is("invalid_parameter") => {}
                answer => return answer,
            }
        }
        self.ask(Request::get("/v1/sessions")).await
    }

    /// Makes sure that a daemon answers, after so many that ended before they did. Each time it waits longer.
    async fn start_after(&self, starts: &mut u32) -> Outcome {
        if let Some(again) = starts.checked_sub(1) {
            sleep((KILLED * 2u32.pow(again.min(8))).min(MOMENT)).await;
        }
        *starts += 1;
        self.start().await
    }

    /// Makes sure that a daemon answers.
    pub async fn start(&self) -> Outcome {
        self.ui.waiting("starting the daemon", self.start_now()).await
    }

    async fn start_now(&self) -> Outcome {
        let Some(paths) = &self.paths else {
            let started = self.client.ask(&Request::post(relay::START)).await;
            return started.map(drop).map_err(|error| self.failure(error));
        };
        let deadline = Instant::now() + START;
        let begin = launch::log_length(paths);
        let mut child: Option<Child> = None;
        let mut holder = None;
        let mut pause = KILLED;
        loop {
            match self.client.connect().await {
                Ok(connection) => {
                    let serving = connection.peer_cred().ok().and_then(|peer| peer.pid());
                    if let Some(child) = child {
                        self.keep(child, serving);
                    }
                    return Ok(());
                }
                Err(ClientError::Absent(error)) if std::env::var_os(MARKER).is_some() => {
                    let what = format!("no daemon answers on {} ({error})", self.socket_shown());
                    return Err(Failure::unreachable(what).hint(
                        "a command inside a session does not start one; `kennel daemon start` from outside does",
                    ));
                }
                Err(ClientError::Absent(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let ended = child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            match ended {
                None if child.is_none() => match self.holder().await? {
                    None => child = Some(launch::spawn(paths)?),
                    // One that is starting, or leaving, or whose socket has vanished. Another would lose against it.
                    Some(pid) => holder = pid,
                },
                // It has lost against another, which will answer, or which is just ending and then gives way.
                Some(status) if status.code() == Some(launch::LOST) => child = None,
                // A kill from outside is no reason to expect that the next daemon fails.
                Some(status) if status.code().is_none() && Instant::now() + pause < deadline => {
                    child = None;
                    sleep(pause).await;
                    pause *= 2;
                }
                Some(status) => {
                    let log = launch::log_since(paths, begin);
                    return Err(Failure::unreachable(format!(
                        "the daemon could not be started ({status}){log}"
                    ))
                    .hint(format!("its log is {}", launch::log_path(paths).display())));
                }
                None => {}
            }
            if Instant::now() > deadline {
                self.children.borrow_mut().extend(child);
                return Err(self.silent(paths, holder));
            }
            sleep(LOOK).await;
        }
    }

    /// The socket that is asked, as it is now; none on another machine.
    pub fn socket(&self) -> Option<PathBuf> {
        let paths = self.paths.as_ref()?;
        Some(self.client.socket().unwrap_or_else(|_| paths.socket.clone()))
    }

    /// The socket that is asked, for a person.
    pub fn socket_shown(&self) -> String {
        self.socket().map_or_else(|| "-".to_owned(), |socket| socket.display().to_string())
    }

    /// The process of the daemon that serves the state directory, by its own word, if one does. Asks that daemon to look
    /// after its socket.
    ///
    /// # Errors
    /// If `KENNEL_SOCKET` names another socket than the one where it listens.
    pub async fn holder(&self) -> Outcome<Option<Option<u32>>> {
        let Some(paths) = &self.paths else { return Ok(None) };
        let Found::Served { pid, socket } = address::find(&paths.state_dir) else { return Ok(None) };
        match socket {
            // One that is just dead has its lock for a moment longer, and does not answer.
            Some(socket)
                if paths.named
                    && socket != paths.socket
                    && Client::new(socket.clone()).ask(&Request::get("/healthz")).await.is_ok() =>
            {
                Err(Failure::unreachable(format!(
                    "KENNEL_SOCKET names {}, and nobody listens there; the daemon{} of {} listens on {}",
                    paths.socket.display(),
                    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
                    paths.state_dir.display(),
                    socket.display()
                ))
                .hint("unset KENNEL_SOCKET: the state directory has the daemon's address"))
            }
            _ => {
                address::knock(&paths.state_dir);
                Ok(Some(pid))
            }
        }
    }

    /// Of a daemon that does not answer in time.
    fn silent(&self, paths: &Paths, holder: Option<u32>) -> Failure {
        let log = launch::log_path(paths);
        let within = humantime::format_duration(START);
        match holder {
            Some(pid) => {
                let (state_dir, socket) = (paths.state_dir.display(), self.socket_shown());
                Failure::unreachable(format!(
                    "the daemon (pid {pid}) holds {state_dir} and does not answer on {socket} within {within}"
                ))
                .hint(format!("`kill -9 {pid}` ends it and harms no session; its log is {}", log.display()))
            }
            None => Failure::unreachable(format!("no daemon answered within {within}"))
                .hint(format!("its log is {}", log.display())),
        }
    }

    /// Keeps a daemon that was started here, if it is the one that answers. Another that still tries to get
    /// the state directory would get it when the first is stopped, unasked.
    fn keep(&self, mut child: Child, serving: Option<i32>) {
        if serving.is_some_and(|pid| pid > 0 && pid.cast_unsigned() != child.id()) {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        } else {
            self.children.borrow_mut().push(child);
        }
    }

    /// Waits until the daemon that is ending is gone.
    pub async fn gone(&self) -> Outcome {
        // Where nothing passes requests on, nobody answers for a daemon that is gone.
        if self.client.far().is_some_and(|far| !far.starts_daemons()) {
            return match self.comes_back().await {
                true => Ok(()),
                false => Err(Failure::unreachable("the daemon was stopped")),
            };
        }
        let waiting = async {
            let deadline = Instant::now() + END;
            while !matches!(self.client.reach().await, Err(ClientError::Absent(_))) {
                if Instant::now() > deadline {
                    let what = format!("the daemon did not end within {}", humantime::format_duration(END));
                    return Err(Failure::unreachable(what).hint(crate::cli::ui::error::way_out(self.pid())));
                }
                sleep(LOOK).await;
            }
            Ok(())
        };
        self.ui.waiting("the daemon is stopping", waiting).await
    }

    /// After the daemon was stopped on purpose, which is not to be thwarted: whether somebody starts another one
    /// soon. `kennel daemon restart` does.
    pub async fn comes_back(&self) -> bool {
        let waiting = async {
            let last = Instant::now() + END;
            let mut deadline = Instant::now() + SUCCESSION;
            loop {
                match self.client.ask(&Request::get("/v1/manager")).await {
                    Ok(answer) if read(&answer).is_ok_and(|info: ManagerInfo| info.state == "running") => {
                        return true;
                    }
                    Err(ClientError::Absent(_)) => {}
                    // Whoever asks for something will hear it, too.
                    Err(ClientError::Host { .. }) => return true,
                    Err(ClientError::Problem(problem)) if matches!(problem.status, 401 | 403) => return true,
                    // The old one, still.
                    _ => deadline = last.min(Instant::now() + SUCCESSION),
                }
                if Instant::now() > deadline {
                    return false;
                }
                sleep(LOOK).await;
            }
        };
        self.ui.waiting("the daemon was stopped; waiting for the next", waiting).await
    }
}

/// A client of the daemon with these files. It starts none.
pub fn client(paths: &Paths) -> Client {
    let (state_dir, socket) = (paths.state_dir.clone(), paths.socket.clone());
    if paths.named { Client::new(socket) } else { Client::of_state_dir(state_dir, socket) }
}

/// Counts the losses of what is asked again.
struct Losses {
    count: u32,
    asked: Instant,
}

impl Losses {
    fn none() -> Self {
        Self { count: 0, asked: Instant::now() }
    }

    /// Returns true if there was one.
    fn any(&self) -> bool {
        self.count > 0
    }

    /// Waits, and returns true if it is worth asking again: a connection that lived long may be lost as often as it likes.
    async fn bear(&mut self) -> bool {
        self.count = if self.asked.elapsed() > LONG { 1 } else { self.count + 1 };
        sleep(LOOK).await;
        self.asked = Instant::now();
        self.count <= REPEATS
    }
}

/// An answer as one of the API's types.
pub fn read<T: DeserializeOwned>(answer: &[u8]) -> Outcome<T> {
    serde_json::from_slice(answer).map_err(|error| ClientError::Garbage(error.to_string()).into())
}

/// Makes an idempotency key: the daemon does requests with one key once, however often they arrive.
pub fn random_key() -> Outcome<String> {
    let bytes = random::bytes::<16>().map_err(|error| {
        Failure::failed("random", format!("the kernel gave no random bytes: {error}; nothing was sent"))
    })?;
    Ok(random::hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_random() {
        let (one, two) = (random_key().unwrap(), random_key().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
