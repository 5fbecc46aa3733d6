//! [`SessionManager`]: the library's face. Every method asks the supervisor's loop and waits for its answer.

mod about;
pub(crate) mod agent_settings;
mod asker;
mod builder;
mod clients;
pub(crate) mod disk;
pub(crate) mod disk_usage;
mod files;
mod forks;
mod last_lines;
mod lists;
mod load;
mod log_ins;
mod metrics;
mod prompts;
mod refused;
mod search;
mod subagents;
mod wait;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use protocol::api::*;
use protocol::event::Timestamp;
use protocol::wire::Agent;
use protocol::{EventId, SessionId};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::asker::Asker;
pub use self::builder::Builder;
pub(crate) use self::lists::{List, Sort};
pub(crate) use self::log_ins::{Address as LogInAddress, LogInPage, LogInReader};
use self::metrics::Scrape;
pub(crate) use self::prompts::cut_to_end;
pub use self::prompts::{MAX_PROMPT, check_prompt};
pub use self::wait::WaitFor;
use self::wait::{has_pid, is_down, is_up};
use crate::config::{self, Config};
use crate::core::{Ask, Command, Fleet, Input, Refusal, Reply, Session, Spec};
use crate::error::Error;
use crate::feed::{Begin, Feed, Subscription};
use crate::journal::{IdempotencyKey, Types};
use crate::listening::Listening;
use crate::metrics::Metrics;
use crate::refusals::Refusals;
use crate::search::Search;
use crate::shares::Places;
use crate::supervisor::{self, Msg};
use crate::system::commit;
use crate::system::probe::{self, Machine};
use crate::work::{LoopWork, Work};

/// Hosts sessions, each in a process of its own, over one state directory.
///
/// Cheap to clone; all clones are one manager. When the last is dropped, or [`shutdown`](Self::shutdown) is
/// called, its processes end; the next manager over the same directory brings the sessions back.
#[derive(Clone)]
pub struct SessionManager {
    shared: Arc<Shared>,
    /// On whose behalf commands are given, if not the owner's.
    client: Option<EventId>,
    /// The client that asks, if not the owner at this machine.
    asker: Arc<Asker>,
}

struct Shared {
    inbox: mpsc::Sender<Msg>,
    feed: Arc<Feed>,
    work: Arc<Work>,
    metrics: Arc<Metrics>,
    /// The figures as they were last told, without and with those of each session. Held while they are looked at.
    scraped: tokio::sync::Mutex<[Option<Scrape>; 2]>,
    config: PathBuf,
    state_dir: PathBuf,
    started_at: Timestamp,
    machine: Machine,
    worker_path: Option<PathBuf>,
    uuid: String,
    whole_process: bool,
    /// The state directory was deleted.
    state_dir_gone: AtomicBool,
    around: Arc<Around>,
    listening: Arc<Listening>,
    refusals: Arc<Refusals>,
    search: Arc<Search>,
    /// Held while `/proc` is read for a client.
    loading: tokio::sync::Mutex<()>,
    /// Requests that look at a directory.
    looks: Arc<Places>,
}

/// Facts about sessions that clients see and the core does not know.
#[derive(Debug)]
struct Around {
    /// Agents are offered tools for sub-agents.
    offers_tools: bool,
    /// The sessions whose agent has started kennel's MCP server.
    took_tools: Mutex<BTreeSet<SessionId>>,
}

impl Around {
    /// Returns a session as clients see it.
    fn told(&self, session: &Session, now: u64) -> SessionInfo {
        let mut info = session.info(now);
        info.env_missing = config::missing_env(&session.spec.env_named, &session.spec.env);
        let offered = self.offers_tools && session.spec.subagents.offered && session.spec.walls.is_none();
        let took = || self.took_tools.lock().is_ok_and(|took| took.contains(&session.id));
        info.subagent_tools = matches!(session.spec.agent, Agent::Acp { .. }).then(|| match offered {
            false => SubagentTools::Off,
            true if took() => SubagentTools::Taken,
            true => SubagentTools::Offered,
        });
        info
    }
}

impl SessionManager {
    /// Makes a builder, which starts a manager.
    pub fn builder() -> Builder {
        Builder::default()
    }

    // --- sessions ---

    /// Resolves a session's options, and checks that this machine can run them.
    async fn spec(&self, opts: &SessionOpts) -> Result<Spec, Error> {
        let mut spec = self.config()?.resolve(opts)?;
        self.shared.machine.check(&spec)?;
        probe::check_sandbox(&spec, self.shared.worker_path.as_deref(), &self.shared.state_dir).await?;
        spec.start_commit = commit::checked_out(&spec.workdir).await;
        Ok(spec)
    }

    /// A new session; returns once it has a process. With a `key`, a repeated call returns the same session.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that make no sense, `id_taken`, `id_retired`, `idempotency_key_reused`,
    /// [`Error::SessionFailed`] if no process can be had.
    pub async fn start_session(&self, opts: SessionOpts, key: Option<&str>) -> Result<SessionInfo, Error> {
        let id = opts.id.as_deref().map(parse_id).transpose()?;
        let spec = self.spec(&opts).await?;
        self.may_use(id.as_ref(), &spec.workdir).await?;
        let scope = self.asker.scope_of_keys("sessions");
        let key = key.map(|key| IdempotencyKey::new(&scope, key, &opts)).transpose()?;
        let reply = self.ask_keyed(Ask::Create { id, spec: Arc::new(spec) }, key).await?;
        let id = created(reply)?;
        self.until(&id, "its process", None, has_pid).await
    }

    /// The session under `id`: as it is, or woken, waited for, or started again; else a new one under that id.
    /// Returns once it is ready; options that are given and differ from what it has are refused.
    pub async fn start_or_get_session(
        &self,
        id: &str,
        opts: SessionOpts,
        timeout: Duration,
    ) -> Result<SessionInfo, Error> {
        let id = parse_id(id)?;
        let spec = self.spec(&opts).await?;
        self.may_use(Some(&id), &spec.workdir).await?;
        let mut given = opts;
        if given.workdir.is_some() {
            given.workdir = Some(spec.workdir.clone());
        }
        let ask = Ask::Ensure { id: id.clone(), spec: Arc::new(spec), given: Box::new(given) };
        self.ask(ask).await?;
        self.until(&id, "its start", Some(timeout), is_up).await
    }

    /// Starts or wakes a session that exists, and waits until it is ready. Creates none.
    ///
    /// # Errors
    /// `no_such_session` where there is none.
    pub(crate) async fn get_ready(
        &self,
        id: &SessionId,
        mut given: SessionOpts,
        timeout: Duration,
    ) -> Result<SessionInfo, Error> {
        if given.workdir.is_some() {
            given.workdir = Some(self.spec(&given).await?.workdir);
        }
        let differing = self.with_session(id, move |session, _| session.spec.differs_from(&given)).await?;
        if !differing.is_empty() {
            return Err(Error::Refused(Refusal::SpecMismatch { id: id.clone(), fields: differing }));
        }
        self.command(id, Command::Up).await?;
        self.until(id, "its start", Some(timeout), is_up).await
    }

    /// The id that belongs to a working directory: `workdir-` and the first 16 hex digits of the SHA-256 of
    /// its absolute, normalised path. `..` and trailing slashes do not matter; symlinks are resolved as far as
    /// the path exists.
    pub fn stable_session_id_for_workdir(path: &Path) -> Result<SessionId, Error> {
        crate::config::workdir::session_id(path)
    }

    /// Ends the session's process, its whole tree, and its sub-agents unless they are to be kept. Returns
    /// after all of them are gone.
    pub async fn stop_session(&self, id: &SessionId, orphans: Orphans) -> Result<SessionInfo, Error> {
        let reply = self.ask(Ask::Stop(id.clone(), orphans)).await?;
        let Reply::Stopping(tree) = reply else {
            return Err(Error::Ended);
        };
        for id in tree.iter().rev() {
            match self.until(id, "its end", None, is_down).await {
                // A sub-agent that somebody removed meanwhile is as gone as one can be.
                Err(Error::Refused(Refusal::NoSuchSession(_))) if id != &tree[0] => {}
                other => {
                    other?;
                }
            }
        }
        self.get_session(id).await
    }

    /// [`stop_session`](Self::stop_session) for the session whose worker has this pid now.
    pub async fn stop_session_by_pid(&self, pid: u32, orphans: Orphans) -> Result<SessionInfo, Error> {
        let id = self.session_id_for_pid(pid).await?;
        self.stop_session(&id, orphans).await
    }

    /// A new process for the session, and a clean slate for its restart budget. Returns once it is ready.
    pub async fn restart_session(&self, id: &SessionId) -> Result<SessionInfo, Error> {
        let before = self.with_session(id, |session, _| session.incarnation).await?;
        self.command(id, Command::Restart).await?;
        self.until(id, "its restart", None, move |session| match is_up(session) {
            Some(Ok(())) if session.incarnation == before => None,
            other => other,
        })
        .await
    }

    /// Removes a session and its records. With `force` it is stopped first; without, it must have no process.
    pub async fn remove_session(&self, id: &SessionId, force: bool) -> Result<(), Error> {
        if force {
            self.stop_session(id, Orphans::Stop).await?;
        }
        self.ask(Ask::Remove(id.clone())).await?;
        self.shared.search.refresh();
        if let Ok(mut took) = self.shared.around.took_tools.lock() {
            took.remove(id);
        }
        Ok(())
    }

    /// Changes what people call a session: its name, its title, its labels.
    ///
    /// # Errors
    /// `invalid_name`, `invalid_title`, `invalid_labels`, `labels_of_key`, `name_taken`, `name_unusable`, `too_many_labels`.
    pub async fn edit_session(
        &self,
        id: &SessionId,
        edit: &EditSessionRequest,
    ) -> Result<SessionInfo, Error> {
        self.ask(Ask::Edit(id.clone(), config::edit_of(edit)?)).await?;
        self.get_session(id).await
    }

    /// Keeps the session from hibernating, or lets it again.
    pub async fn pin_session(&self, id: &SessionId, pinned: bool) -> Result<SessionInfo, Error> {
        self.command(id, Command::Pin(pinned)).await?;
        self.get_session(id).await
    }

    /// Returns one session.
    pub async fn get_session(&self, id: &SessionId) -> Result<SessionInfo, Error> {
        let around = self.shared.around.clone();
        self.with_session(id, move |session, now| around.told(session, now)).await
    }

    /// The state directory's uuid: the first part of every marker.
    pub(crate) fn uuid(&self) -> &str {
        &self.shared.uuid
    }

    /// Returns whether all children of this process are workers.
    pub(crate) fn is_whole_process(&self) -> bool {
        self.shared.whole_process
    }

    /// The session's token: 32 random bytes in url-safe base64, the same for as long as the session exists.
    /// A secret.
    pub async fn session_token(&self, id: &SessionId) -> Result<String, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Msg::Token { id: id.clone(), reply }).await?;
        answer.await.map_err(|_| Error::Ended)?
    }

    // --- events ---

    /// Subscribes to the events after `after` (`None`: from now on), of one session or of all: first from the journal, then
    /// live. Events arrive without gap or repeat; a slow reader slows no other. A gap event marks [pruned](Self::prune) events.
    pub fn subscribe(&self, after: Option<EventId>, session: Option<SessionId>) -> Subscription {
        self.shared.feed.subscribe(after, session)
    }

    /// The cursor before the first event that is wished for, up to `head`.
    pub(crate) async fn beginning(
        &self,
        begin: &Begin,
        head: EventId,
        session: Option<&SessionId>,
        types: Option<&Types>,
    ) -> Result<EventId, Error> {
        self.shared.feed.beginning(begin, head, session, types).await
    }

    // --- the manager itself ---

    /// Returns counters of the work that the manager's loop has done so far.
    pub fn work(&self) -> LoopWork {
        self.shared.work.so_far()
    }

    /// The file with what the session's workers wrote to standard error.
    pub fn log_path(&self, id: &SessionId) -> PathBuf {
        supervisor::log_path(&self.shared.state_dir, id)
    }

    /// Ends all processes, keeps all goals, and returns when nothing is left. The next manager over this
    /// directory brings every session back that is wanted up.
    pub async fn shutdown(&self) {
        self.record_last_refusals().await;
        let (reply, done) = oneshot::channel();
        if self.send(Msg::Shutdown { reply }).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Leaves, and lets all processes go on: the next manager over this directory takes them over, with their turns.
    /// Without one they end by themselves, a running turn after an hour at most, an idle session after ten minutes.
    pub async fn hand_over(&self) {
        self.record_last_refusals().await;
        let (reply, done) = oneshot::channel();
        if self.send(Msg::HandOver { reply }).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Returns true once the manager's loop has answered; false if the loop has ended.
    pub(crate) async fn answers(&self) -> bool {
        self.read(|_, _| ()).await.is_ok()
    }

    /// The id of the newest event, to be watched.
    pub(crate) fn news(&self) -> watch::Receiver<EventId> {
        self.shared.feed.news()
    }

    /// Returns once the manager's loop has ended, for whatever reason.
    pub async fn ended(&self) {
        self.shared.inbox.closed().await;
    }

    // --- plumbing ---

    fn config(&self) -> Result<Config, Error> {
        Config::load(&self.shared.config)
    }

    /// The state directory, without links.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.shared.state_dir
    }

    /// Takes note that the state directory was deleted: no next manager will know of what happens from now on.
    pub(crate) fn lose_state_dir(&self) {
        self.shared.state_dir_gone.store(true, Ordering::Relaxed);
    }

    /// Returns whether the state directory was deleted.
    pub(crate) fn state_dir_gone(&self) -> bool {
        self.shared.state_dir_gone.load(Ordering::Relaxed)
    }

    /// Takes note that a session's agent has started kennel's MCP server.
    pub(crate) fn took_tools(&self, id: &SessionId) {
        if let Ok(mut took) = self.shared.around.took_tools.lock() {
            took.insert(id.clone());
        }
    }

    /// Returns the limits of connections for the daemon around this manager.
    pub(crate) fn connections(&self) -> config::Connections {
        // A wrong configuration is an error of the request that starts a session.
        self.config().map(|config| config.connections()).unwrap_or_default()
    }

    /// Returns the TLS port that the configuration wants.
    ///
    /// # Errors
    /// The configuration cannot be read.
    pub(crate) fn listen(&self) -> Result<config::Listen, Error> {
        self.config().map(|config| config.listen().clone())
    }

    async fn send(&self, msg: Msg) -> Result<(), Error> {
        self.shared.inbox.send(msg).await.map_err(|_| Error::Ended)
    }

    async fn ask(&self, ask: Ask) -> Result<Reply, Error> {
        self.ask_keyed(ask, None).await
    }

    async fn ask_keyed(&self, ask: Ask, key: Option<IdempotencyKey>) -> Result<Reply, Error> {
        let (reply, answer) = oneshot::channel();
        let ask = match (self.client, self.asker.asks(ask)) {
            // A command says itself by whom it is.
            (None, ask) | (Some(_), ask @ Ask::One(..)) => Box::new(ask),
            (Some(client), ask) => Box::new(Ask::ByClient { client, ask: Box::new(ask) }),
        };
        self.send(Msg::Ask { ask, key, reply }).await?;
        answer.await.map_err(|_| Error::Ended)?
    }

    async fn command(&self, id: &SessionId, command: Command) -> Result<Reply, Error> {
        self.ask(Ask::One(id.clone(), self.input(command))).await
    }

    fn input(&self, command: Command) -> Input {
        match self.client {
            Some(client) => Input::CommandBy(client, command),
            None => Input::Command(command),
        }
    }

    /// Looks at the manager's table between two steps. `now` is in milliseconds since boot.
    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Fleet, u64) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Msg::Read(Box::new(move |fleet, at| {
            // The caller may have gone.
            let _ = reply.send(look(fleet, at.mono));
        })))
        .await?;
        answer.await.map_err(|_| Error::Ended)
    }

    async fn with_session<T: Send + 'static>(
        &self,
        id: &SessionId,
        look: impl FnOnce(&Session, u64) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (id, reach) = (id.clone(), self.reach());
        let found = self.read(move |fleet, now| {
            let found = fleet.get(&id).filter(|session| reach(fleet, session));
            found.map(|session| look(session, now)).ok_or_else(|| Refusal::NoSuchSession(id.to_string()))
        });
        found.await?.map_err(Error::Refused)
    }
}

fn parse_id(text: &str) -> Result<SessionId, Error> {
    text.parse().map_err(|error: protocol::IdError| Error::invalid("invalid_id", error.to_string()))
}

fn created(reply: Reply) -> Result<SessionId, Error> {
    match reply {
        Reply::Created(id) | Reply::Existing(id) => Ok(id),
        _ => Err(Error::Ended),
    }
}
