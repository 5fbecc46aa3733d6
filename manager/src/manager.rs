//! [`SessionManager`]: the library's face. Every method asks the supervisor's loop and waits for its answer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::api::*;
use protocol::event::{EventKind, Outcome, Resolution, Timestamp};
use protocol::wire::{CallAnswer, Offer, Setting};
use protocol::{CallId, EventId, PermissionId, PromptId, SessionId};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use crate::attachments;
use crate::config::{self, Config};
use crate::core::{Ask, Command, Fleet, Input, NewPrompt, Refusal, Reply, Session, State};
use crate::error::{Error, StartError};
use crate::feed::{Feed, Subscription};
use crate::journal;
use crate::settings::Offered;
use crate::supervisor::{self, IdempotencyKey, Msg, Settings};
use crate::tokens::McpProgram;

/// The longest prompt, in bytes.
pub const MAX_PROMPT: usize = 1024 * 1024;
/// The most of a turn's text that [`SessionManager::turn_result`] gives, in bytes.
const MAX_RESULT: usize = 1024 * 1024;

/// Hosts sessions, each in a process of its own, over one state directory.
///
/// Cheap to clone; all clones are one manager. When the last is dropped, or [`shutdown`](Self::shutdown) is
/// called, its processes end; the next manager over the same directory brings the sessions back.
#[derive(Clone)]
pub struct SessionManager {
    shared: Arc<Shared>,
    /// On whose behalf commands are given, if not the owner's.
    client: Option<EventId>,
}

struct Shared {
    inbox: mpsc::Sender<Msg>,
    feed: Arc<Feed>,
    config: PathBuf,
    state_dir: PathBuf,
    started_at: Timestamp,
}

/// How a manager is to be started.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    state_dir: Option<PathBuf>,
    worker_path: Option<PathBuf>,
    config: Option<PathBuf>,
    whole_process: bool,
    mcp_server: Option<McpProgram>,
}

impl Builder {
    /// Where the journal, the lock and the logs lie. Created with mode 0700. No default.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// The `session-worker` program; else the one beside this executable. Looked at anew at every spawn.
    pub fn worker_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.worker_path = Some(path.into());
        self
    }

    /// `config.toml`; else the one in the state directory. A file that does not exist is an empty one.
    pub fn config(mut self, path: impl Into<PathBuf>) -> Self {
        self.config = Some(path.into());
        self
    }

    /// The manager has the process for itself: it becomes the subreaper of everything below, and reaps and
    /// ends strangers. For the `kennel` daemon; never for a program with children of its own.
    pub fn whole_process(mut self, yes: bool) -> Self {
        self.whole_process = yes;
        self
    }

    /// Offers sub-agents to agents that take MCP servers: `command`, the `kennel` executable, is run as `kennel mcp`
    /// below such an agent and asks whoever serves this manager's API on `socket`. Without it agents are offered
    /// nothing.
    pub fn mcp_server(mut self, command: impl Into<PathBuf>, socket: impl Into<PathBuf>) -> Self {
        self.mcp_server = Some(McpProgram { command: command.into(), socket: socket.into() });
        self
    }

    /// Takes the state directory over and brings every session back that is wanted up.
    pub async fn start(self) -> Result<SessionManager, StartError> {
        let Some(state_dir) = self.state_dir else {
            return Err(StartError::Config("a manager needs a state directory".into()));
        };
        let config = self.config.unwrap_or_else(|| state_dir.join("config.toml"));
        if let Err(error) = Config::load(&config) {
            // Sessions that exist keep what they were created with and must not wait until a typing error is
            // mended; whoever starts a new one is told.
            tracing::warn!(%error, "the configuration is wrong");
        }
        let settings = Settings {
            state_dir: state_dir.clone(),
            worker_path: self.worker_path,
            whole_process: self.whole_process,
            mcp_server: self.mcp_server,
        };
        let (inbox, feed) = supervisor::start(settings).await?;
        let started_at = Timestamp(crate::clock::wall_ms());
        Ok(SessionManager {
            shared: Arc::new(Shared { inbox, feed, config, state_dir, started_at }),
            client: None,
        })
    }
}

/// What [`SessionManager::wait`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// Ready, no turn runs and none waits.
    Idle,
    /// Ready, whether a turn runs or not.
    Ready,
    /// A turn runs.
    Running,
    /// Stopped.
    Stopped,
    /// Given up.
    Failed,
    /// Without a process until something is asked of it.
    Hibernated,
}

impl SessionManager {
    /// Begins to say how a manager is to be started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    // --- sessions ---

    /// A new session; returns once it has a process. With a `key`, a repeated call returns the same session.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that make no sense, `id_taken`, `id_retired`, `idempotency_key_reused`,
    /// [`Error::SessionFailed`] if no process can be had.
    pub async fn start_session(&self, opts: SessionOpts, key: Option<&str>) -> Result<SessionInfo, Error> {
        let id = opts.id.as_deref().map(parse_id).transpose()?;
        let spec = self.config()?.resolve(&opts)?;
        let key = key.map(|key| IdempotencyKey::new("sessions", key, &opts)).transpose()?;
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
        let spec = self.config()?.resolve(&opts)?;
        let mut given = opts;
        if given.workdir.is_some() {
            given.workdir = Some(spec.workdir.clone());
        }
        let ask = Ask::Ensure { id: id.clone(), spec: Arc::new(spec), given: Box::new(given) };
        self.ask(ask).await?;
        self.until(&id, "its start", Some(timeout), is_up).await
    }

    /// The id that belongs to a working directory: `workdir-` and the first 16 hex digits of the SHA-256 of
    /// its absolute, normalised path. `..` and trailing slashes do not matter; symlinks are resolved as far as
    /// the path exists.
    pub fn stable_session_id_for_workdir(path: &Path) -> Result<SessionId, Error> {
        crate::workdir::session_id(path)
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
        self.ask(Ask::Remove(id.clone())).await.map(drop)
    }

    /// Keeps the session from hibernating, or lets it again.
    pub async fn pin_session(&self, id: &SessionId, pinned: bool) -> Result<SessionInfo, Error> {
        self.command(id, Command::Pin(pinned)).await?;
        self.get_session(id).await
    }

    /// All sessions, in the order of their creation.
    pub async fn list_sessions(&self) -> Result<Vec<SessionInfo>, Error> {
        let mut list: Vec<SessionInfo> =
            self.read(|fleet, now| fleet.sessions().map(|session| session.info(now)).collect()).await?;
        list.sort_by(|a, b| (a.created_at, a.id.number(), &a.id).cmp(&(b.created_at, b.id.number(), &b.id)));
        Ok(list)
    }

    /// One session.
    pub async fn get_session(&self, id: &SessionId) -> Result<SessionInfo, Error> {
        self.with_session(id, |session, now| session.info(now)).await
    }

    /// The session whose worker, or whose agent, has this pid now.
    pub async fn session_id_for_pid(&self, pid: u32) -> Result<SessionId, Error> {
        let found = self.read(move |fleet, now| {
            let holds = |session: &&Arc<Session>| {
                session.pid() == Some(pid) || session.info(now).agent_pid == Some(pid)
            };
            fleet.sessions().find(holds).map(|session| session.id.clone())
        });
        found.await?.ok_or(Error::Refused(Refusal::NoSuchPid(pid)))
    }

    /// The session that a person means: this id, or the only one that begins so.
    ///
    /// # Errors
    /// `no_such_session` with the nearest id as a hint; `ambiguous_id`.
    pub async fn lookup(&self, text: &str) -> Result<SessionId, Error> {
        let typed = text.to_owned();
        let ids: Vec<SessionId> =
            self.read(|fleet, _| fleet.sessions().map(|session| session.id.clone()).collect()).await?;
        config::lookup(&typed, &ids)
    }

    /// Sets something in the agent of a session: its `mode`, or one of its options. It stays set, whatever becomes of
    /// the agent's process. Returns with the agent's answer, or once it is on record if the agent is not there now or
    /// does not answer within `timeout`.
    ///
    /// # Errors
    /// `no_settings` where the agent has none; `setting_refused` with what the agent says.
    pub async fn set(
        &self,
        id: &SessionId,
        name: &str,
        value: &str,
        timeout: Duration,
    ) -> Result<SettingReply, Error> {
        for text in [name, value] {
            if text.is_empty() || text.chars().count() > 200 || text.chars().any(char::is_control) {
                let what =
                    "a setting's name and value have 1 to 200 characters, none of them control characters";
                return Err(Error::invalid("invalid_setting", what));
            }
        }
        let mut events = self.subscribe(None, Some(id.clone()));
        let setting = Setting { name: name.to_owned(), value: value.to_owned() };
        let Reply::Setting { number } = self.command(id, Command::Set(setting)).await? else {
            return Err(Error::Ended);
        };
        let mut reply = SettingReply { name: name.to_owned(), value: value.to_owned(), answer: None };
        // Until the agent has answered, or is not there to answer.
        let waited = self.until(id, "the agent's answer", Some(timeout), move |session| {
            let waits = session.settings.asked.iter().any(|asked| asked.number == number);
            let over = !waits || !matches!(session.state, State::Ready { .. });
            over.then_some(Ok(()))
        });
        match waited.await {
            Ok(_) | Err(Error::Timeout { .. }) => {}
            Err(error) => return Err(error),
        }
        while let Some(records) = events.ready().await? {
            for record in records {
                let event = record.event().map_err(|error| Error::Journal(error.to_string()))?;
                match event.kind {
                    EventKind::SettingChanged { setting_id, payload, .. } if setting_id == number => {
                        reply.answer = Some(payload);
                    }
                    EventKind::SettingRefused { setting_id, name, reason, .. } if setting_id == number => {
                        return Err(Error::SettingRefused { name, reason });
                    }
                    _ => {}
                }
            }
        }
        Ok(reply)
    }

    /// Gives the agent of a session MCP servers beside those that it has; one of the same name is replaced. An agent that
    /// runs is not told: its next process has them.
    ///
    /// # Errors
    /// `invalid_mcp_servers`, also where the agent takes none, or would have too many.
    pub async fn add_mcp_servers(
        &self,
        id: &SessionId,
        request: McpServersRequest,
    ) -> Result<McpServersReply, Error> {
        let spec = self.with_session(id, |session, _| session.spec.clone()).await?;
        let (programs, remote) = config::added_servers(&spec, request)?;
        match self.command(id, Command::AddServers { programs, remote }).await? {
            Reply::Servers { changed, next_process } => Ok(McpServersReply { changed, next_process }),
            _ => Err(Error::Ended),
        }
    }

    /// What can be set in the agent of a session, as it has told it, and what was.
    pub async fn settings(&self, id: &SessionId) -> Result<SettingsInfo, Error> {
        let settings = self.with_session(id, |session, _| session.settings.clone()).await?;
        let mut offered = Offered::default();
        let mut events = self.subscribe(Some(0), Some(id.clone()));
        while let Some(records) = events.ready().await? {
            for record in records {
                offered.tell(&record.event().map_err(|error| Error::Journal(error.to_string()))?.kind);
            }
        }
        let waiting = settings.asked.into_iter().map(|asked| (asked.setting.name, asked.setting.value));
        Ok(SettingsInfo {
            modes: offered.known().get("modes").cloned(),
            config_options: offered.known().get("configOptions").cloned(),
            set: settings.set,
            waiting: waiting.collect(),
        })
    }

    /// What the session's newest turn has said, from the journal, and how it stands.
    pub async fn turn_result(&self, id: &SessionId) -> Result<TurnResult, Error> {
        let mut result = TurnResult {
            session_id: id.clone(),
            // Before the events: what has ended by now is found to have ended there.
            status: self.with_session(id, |session, _| session.status()).await?,
            prompt_id: None,
            outcome: None,
            stop_reason: None,
            exit: None,
            text: String::new(),
            truncated: false,
        };
        let mut events = self.subscribe(Some(0), Some(id.clone()));
        while let Some(records) = events.ready().await? {
            for record in records {
                let event = record.event().map_err(|error| Error::Journal(error.to_string()))?;
                add_to(&mut result, event.kind);
            }
        }
        keep_end(&mut result);
        Ok(result)
    }

    /// Whether `id` is a sub-agent of `root`, or of one that is.
    pub(crate) async fn is_below(&self, id: &SessionId, root: &SessionId) -> Result<bool, Error> {
        let (id, root) = (id.clone(), root.clone());
        self.read(move |fleet, _| fleet.above(&id).any(|session| session.id == root)).await
    }

    /// The session's token: 32 random bytes in url-safe base64, the same for as long as the session exists.
    /// A secret.
    pub async fn session_token(&self, id: &SessionId) -> Result<String, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Msg::Token { id: id.clone(), reply }).await?;
        answer.await.map_err(|_| Error::Ended)?
    }

    // --- prompts ---

    /// Accepts a prompt: when this returns it is on disk. It runs now or waits.
    ///
    /// # Errors
    /// `session_stopped`, `session_failed`, `session_stopping`, `busy`, `queue_full`, `prompt_too_large`,
    /// `invalid_attachment`, `attachments_too_large`, `no_attachments` where the agent takes none,
    /// `empty_prompt`, `idempotency_key_reused`, `journal_full`.
    pub async fn send_prompt(
        &self,
        id: &SessionId,
        prompt: PromptRequest,
        key: Option<&str>,
    ) -> Result<Accepted, Error> {
        // A picture may say it all.
        if prompt.attachments.is_empty() || !prompt.text.is_empty() {
            check_prompt(&prompt.text)?;
        }
        let scope = journal::session_scope(id);
        let key = key.map(|key| IdempotencyKey::new(&scope, key, &prompt)).transpose()?;
        let PromptRequest { text, when_busy, attachments } = prompt;
        let attachments = attachments::check(attachments)?;
        let new = NewPrompt { text: text.into(), when_busy, attachments };
        let ask = Ask::One(id.clone(), self.input(Command::Prompt(new)));
        let Reply::Accepted { prompt, disposition } = self.ask_keyed(ask, key).await? else {
            return Err(Error::Ended);
        };
        Ok(Accepted { session_id: id.clone(), prompt_id: prompt, event_id: prompt.0, disposition })
    }

    /// Ends the running turn as aborted, and everything it started. The session and its queue stay. Returns
    /// once the turn is over.
    pub async fn abort(&self, id: &SessionId) -> Result<Aborted, Error> {
        self.abort_by(id, Command::Abort).await
    }

    /// The same, if it is this prompt's turn that runs; `no_turn` if not.
    pub async fn abort_prompt(&self, id: &SessionId, prompt: PromptId) -> Result<Aborted, Error> {
        self.abort_by(id, Command::AbortOnly(prompt)).await
    }

    async fn abort_by(&self, id: &SessionId, command: Command) -> Result<Aborted, Error> {
        let Reply::Aborting { prompt } = self.command(id, command).await? else {
            return Err(Error::Ended);
        };
        self.until(id, "the end of the turn", None, move |session| {
            let runs = session.turns.running.as_ref().is_some_and(|turn| turn.prompt.id == prompt);
            (!runs).then_some(Ok(()))
        })
        .await?;
        Ok(Aborted { prompt_id: prompt })
    }

    /// Prompts that have not ended, and those that were interrupted and not resolved.
    pub async fn queue(&self, id: &SessionId) -> Result<Vec<QueuedPrompt>, Error> {
        self.with_session(id, |session, _| session.queue()).await
    }

    /// Replaces the text of a waiting prompt.
    pub async fn edit_prompt(&self, id: &SessionId, prompt: PromptId, text: &str) -> Result<(), Error> {
        check_prompt(text)?;
        self.command(id, Command::Edit(prompt, text.into())).await.map(drop)
    }

    /// Takes a waiting prompt out of the queue; it ends as aborted.
    pub async fn remove_prompt(&self, id: &SessionId, prompt: PromptId) -> Result<(), Error> {
        self.command(id, Command::Remove(prompt)).await.map(drop)
    }

    /// Takes all waiting prompts out of the queue; they end as aborted. Returns how many.
    pub async fn clear_queue(&self, id: &SessionId) -> Result<u32, Error> {
        match self.command(id, Command::Clear).await? {
            Reply::Cleared { removed } => Ok(removed),
            _ => Err(Error::Ended),
        }
    }

    /// Decides what becomes of an interrupted prompt: the same again at the head of the queue, or nothing.
    pub async fn resolve_prompt(&self, prompt: PromptId, action: Resolution) -> Result<Resolved, Error> {
        let session = self.read(move |fleet, _| {
            let has =
                |session: &&Arc<Session>| session.queue().iter().any(|queued| queued.prompt_id == prompt);
            fleet.sessions().find(has).map(|session| session.id.clone())
        });
        let session = session.await?.ok_or(Error::Refused(Refusal::NotInterrupted(prompt)))?;
        match self.command(&session, Command::Resolve(prompt, action)).await? {
            Reply::Resolved { retried_as } => Ok(Resolved { prompt_id: prompt, retried_as }),
            _ => Err(Error::Ended),
        }
    }

    // --- clients ---

    /// The same manager on behalf of an attached client: what changes a session is refused unless the client drives
    /// it.
    pub fn on_behalf_of(&self, client: Option<EventId>) -> Self {
        Self { shared: self.shared.clone(), client }
    }

    /// Attaches a client and gives its id. It stays until it is detached, or until the manager ends.
    ///
    /// # Errors
    /// `driven` if it wants to drive, another does, and it does not take over; `too_many_clients`; `invalid_client`
    /// for a name that is empty, longer than 100 characters, or has control characters.
    pub async fn attach(
        &self,
        id: &SessionId,
        name: &str,
        role: Role,
        takeover: bool,
        offers: &[Offer],
    ) -> Result<EventId, Error> {
        if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
            let what = "a client's name has 1 to 100 characters, none of them control characters";
            return Err(Error::invalid("invalid_client", what));
        }
        let offers: BTreeSet<Offer> = offers.iter().copied().collect();
        let offers = offers.into_iter().collect();
        let attach = Command::Attach { name: name.to_owned(), role, takeover, offers };
        match self.ask(Ask::One(id.clone(), Input::Command(attach))).await? {
            Reply::Attached { client } => Ok(client),
            _ => Err(Error::Ended),
        }
    }

    /// Detaches a client. One that is not attached is not missed.
    pub async fn detach(&self, id: &SessionId, client: EventId) -> Result<(), Error> {
        self.ask(Ask::One(id.clone(), Input::Command(Command::Detach(client)))).await.map(drop)
    }

    /// Answers what the agent wants done by the client on whose behalf this manager is, which must drive. The first
    /// answer counts.
    pub async fn answer_call(&self, id: &SessionId, call: CallId, answer: CallAnswer) -> Result<(), Error> {
        self.command(id, Command::AnswerCall(call, answer)).await.map(drop)
    }

    // --- permissions, agents ---

    /// Permissions that wait for an answer, in one session or in all, oldest first.
    pub async fn permissions(&self, id: Option<&SessionId>) -> Result<Vec<PermissionInfo>, Error> {
        if let Some(id) = id {
            return self.with_session(id, |session, _| session.permissions()).await;
        }
        let all = self.read(|fleet, _| fleet.sessions().flat_map(|session| session.permissions()).collect());
        let mut all: Vec<PermissionInfo> = all.await?;
        all.sort_by_key(|permission| permission.permission_id);
        Ok(all)
    }

    /// Calls of a session that wait for an answer, oldest first.
    pub async fn calls(&self, id: &SessionId) -> Result<Vec<CallInfo>, Error> {
        let open = self.with_session(id, |session, _| session.calls()).await?;
        let mut all = Vec::new();
        for (call, client_id) in open {
            let CallId(event) = call;
            let mut events = self.subscribe(Some(event.saturating_sub(1)), Some(id.clone()));
            let record = events.ready().await?.and_then(|records| records.into_iter().next());
            let Some(record) = record else { continue };
            let event = record.event().map_err(|error| Error::Journal(error.to_string()))?;
            let EventKind::CallRequested { call_id, prompt_id, method, payload, .. } = event.kind else {
                continue;
            };
            let (session_id, asked_at) = (id.clone(), event.at);
            all.push(CallInfo { call_id, session_id, prompt_id, client_id, method, payload, asked_at });
        }
        Ok(all)
    }

    /// Answers a permission. The first answer counts.
    pub async fn answer_permission(
        &self,
        id: &SessionId,
        permission: PermissionId,
        answer: PermissionAnswer,
    ) -> Result<(), Error> {
        self.command(id, Command::Permit(permission, answer)).await.map(drop)
    }

    /// Every agent that sessions can be started with.
    pub async fn agents(&self) -> Result<Vec<AgentInfo>, Error> {
        let mut all = self.config()?.agents();
        self.read(move |fleet, _| {
            for agent in &mut all {
                // Another program may be meant by the name by now.
                let runs = |session: &&Arc<Session>| {
                    session.agent_details.is_some()
                        && session.spec.agent_name == agent.name
                        && session.spec.agent.program() == agent.path.as_deref()
                };
                let newest = fleet.sessions().filter(runs).max_by_key(|session| session.created_at);
                agent.details = newest.and_then(|session| session.agent_details.clone());
            }
            all
        })
        .await
    }

    // --- sub-agents ---

    /// Starts a session with a first prompt, below `parent` (a session id, or its worker's current pid). The
    /// handle comes at once; the task is on disk and is delivered as soon as the child is ready.
    ///
    /// # Errors
    /// Those of [`start_session`](Self::start_session) and [`send_prompt`](Self::send_prompt), and `subagent_limit`
    /// where a parent has as many sub-agents as it may, or is as deep.
    pub async fn start_background_subagent(
        &self,
        parent: Option<&str>,
        task: &str,
        opts: SessionOpts,
        key: Option<&str>,
    ) -> Result<SubagentHandle, Error> {
        check_prompt(task)?;
        let parent = self.parent(parent).await?;
        let id = opts.id.as_deref().map(parse_id).transpose()?;
        let key =
            key.map(|key| IdempotencyKey::new("subagents", key, &(&parent, task, &opts))).transpose()?;
        let spec = Arc::new(self.config()?.resolve(&opts)?);
        let reply = self.ask_keyed(Ask::Subagent { parent, id, spec, task: task.into() }, key).await?;
        let id = created(reply)?;
        self.until(&id, "its process", None, has_pid).await?;
        let handle =
            self.read(move |fleet, _| fleet.get(&id).map(|child| subagent_handle(fleet, child))).await?;
        handle.ok_or(Error::Ended)
    }

    /// The sub-agents of `parent` (a session id, or its worker's current pid), or all; oldest first.
    pub async fn list_background_subagents(
        &self,
        parent: Option<&str>,
    ) -> Result<Vec<SubagentHandle>, Error> {
        let parent = self.parent(parent).await?;
        self.read(move |fleet, _| {
            let subagents = fleet.subagents(parent.as_ref());
            subagents.into_iter().map(|child| subagent_handle(fleet, child)).collect()
        })
        .await
    }

    async fn parent(&self, parent: Option<&str>) -> Result<Option<SessionId>, Error> {
        let Some(parent) = parent else { return Ok(None) };
        if let Ok(pid) = parent.parse::<u32>() {
            return self.session_id_for_pid(pid).await.map(Some);
        }
        let id = parse_id(parent)?;
        self.with_session(&id, |_, _| ()).await?;
        Ok(Some(id))
    }

    // --- events ---

    /// All events after `after` (none: from now on), of one session or of all: first from the journal, then as
    /// they come. No gap, no repeat; a slow reader slows nobody.
    pub fn subscribe(&self, after: Option<EventId>, session: Option<SessionId>) -> Subscription {
        self.shared.feed.subscribe(after, session)
    }

    /// Waits until the session is in that state.
    pub async fn wait(
        &self,
        id: &SessionId,
        until: WaitFor,
        timeout: Option<Duration>,
    ) -> Result<SessionInfo, Error> {
        let reached = move |session: &Session| {
            let idle = session.status() == Status::Idle && session.turns.queue.is_empty();
            let reached = match until {
                WaitFor::Idle => idle,
                WaitFor::Ready => matches!(session.state, State::Ready { .. }),
                WaitFor::Running => session.status() == Status::Running,
                WaitFor::Stopped => session.status() == Status::Stopped,
                WaitFor::Failed => session.status() == Status::Failed,
                WaitFor::Hibernated => session.status() == Status::Hibernated,
            };
            match &session.state {
                _ if reached => Some(Ok(())),
                // Nothing but a person's hand leads out of these.
                State::Failed(failure) => {
                    Some(Err(Error::SessionFailed { id: session.id.clone(), reason: failure.reason.clone() }))
                }
                State::Stopped => Some(Err(Error::Overtaken { id: session.id.clone(), what: "was stopped" })),
                _ => None,
            }
        };
        self.until(id, &format!("`{until:?}`").to_lowercase(), timeout, reached).await
    }

    // --- the manager itself ---

    /// The manager's own figures.
    pub async fn info(&self) -> Result<ManagerInfo, Error> {
        let (sessions, last_event_id, stopping) = {
            let (reply, answer) = oneshot::channel();
            self.send(Msg::Read(Box::new(move |fleet, at| {
                let mut sessions = std::collections::BTreeMap::new();
                for session in fleet.sessions() {
                    *sessions.entry(session.status().to_string()).or_default() += 1;
                }
                let _ = reply.send((sessions, fleet.next_event() - 1, at.closing));
            })))
            .await?;
            answer.await.map_err(|_| Error::Ended)?
        };
        Ok(ManagerInfo {
            pid: std::process::id(),
            state: if stopping { "stopping" } else { "running" }.into(),
            version: crate::VERSION.into(),
            state_dir: self.shared.state_dir.display().to_string(),
            started_at: self.shared.started_at,
            sessions,
            last_event_id,
        })
    }

    /// The file with what the session's workers wrote to standard error.
    pub fn log_path(&self, id: &SessionId) -> PathBuf {
        supervisor::log_path(&self.shared.state_dir, id)
    }

    /// Ends all processes, keeps all goals, and returns when nothing is left. The next manager over this
    /// directory brings every session back that is wanted up.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        if self.send(Msg::Shutdown { reply }).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Leaves, and lets all processes go on: the next manager over this directory takes them over, with their turns.
    /// Without one they end by themselves, a running turn after an hour at most, an idle session after ten minutes.
    pub async fn hand_over(&self) {
        let (reply, done) = oneshot::channel();
        if self.send(Msg::HandOver { reply }).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Returns once the manager's loop has ended, for whatever reason.
    pub async fn ended(&self) {
        self.shared.inbox.closed().await;
    }

    // --- plumbing ---

    fn config(&self) -> Result<Config, Error> {
        Config::load(&self.shared.config)
    }

    async fn send(&self, msg: Msg) -> Result<(), Error> {
        self.shared.inbox.send(msg).await.map_err(|_| Error::Ended)
    }

    async fn ask(&self, ask: Ask) -> Result<Reply, Error> {
        self.ask_keyed(ask, None).await
    }

    async fn ask_keyed(&self, ask: Ask, key: Option<IdempotencyKey>) -> Result<Reply, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Msg::Ask { ask: Box::new(ask), key, reply }).await?;
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
            // Whoever asked may have gone.
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
        let id = id.clone();
        let found = self.read(move |fleet, now| fleet.expect(&id).map(|session| look(session, now))).await?;
        found.map_err(Error::Refused)
    }

    /// Waits until `reached` says something of the session, looked at now and after each of its steps.
    async fn until(
        &self,
        id: &SessionId,
        what: &str,
        timeout: Option<Duration>,
        mut reached: impl FnMut(&Session) -> Option<Result<(), Error>> + Send + 'static,
    ) -> Result<SessionInfo, Error> {
        let (reply, answer) = oneshot::channel();
        let mut reply = Some(reply);
        let name = id.clone();
        let check = move |session: Option<&Session>, now: u64| {
            let verdict = match session {
                None => Some(Err(Error::Refused(Refusal::NoSuchSession(name.to_string())))),
                Some(session) => reached(session).map(|verdict| verdict.map(|()| session.info(now))),
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

fn parse_id(text: &str) -> Result<SessionId, Error> {
    text.parse().map_err(|error: protocol::IdError| Error::invalid("invalid_id", error.to_string()))
}

fn created(reply: Reply) -> Result<SessionId, Error> {
    match reply {
        Reply::Created(id) | Reply::Existing(id) => Ok(id),
        _ => Err(Error::Ended),
    }
}

/// What an event adds to what is known of the newest turn.
fn add_to(result: &mut TurnResult, kind: EventKind) {
    match kind {
        // One that a crash cut off and that goes to the agent again begins anew.
        EventKind::PromptStarted { prompt_id } => {
            *result = TurnResult {
                session_id: result.session_id.clone(),
                status: result.status,
                prompt_id: Some(prompt_id),
                outcome: None,
                stop_reason: None,
                exit: None,
                text: String::new(),
                truncated: false,
            };
        }
        EventKind::MessageChunk { stream: protocol::Stream::Stdout, text, .. } => {
            result.text.push_str(&text);
            // Twice the limit, so that long texts are not moved with every piece.
            if result.text.len() > 2 * MAX_RESULT {
                keep_end(result);
            }
        }
        EventKind::TurnCompleted { outcome, stop_reason, exit, .. } => {
            keep_end(result);
            (result.outcome, result.stop_reason, result.exit) = (Some(outcome), Some(stop_reason), exit);
        }
        EventKind::TurnInterrupted { reason, will_retry: false, .. } => {
            keep_end(result);
            (result.outcome, result.stop_reason) = (Some(Outcome::Interrupted), Some(reason));
        }
        _ => {}
    }
}

fn keep_end(result: &mut TurnResult) {
    result.truncated |= cut_to_end(&mut result.text, MAX_RESULT);
}

/// Leaves so many bytes at most of the end of a text, and says whether that was less than all.
pub(crate) fn cut_to_end(text: &mut String, most: usize) -> bool {
    let excess = text.len().saturating_sub(most);
    let start = (excess..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text.drain(..start);
    start > 0
}

/// Bounds a prompt's text: 1 byte to [`MAX_PROMPT`], without NUL, which no command line can carry.
pub fn check_prompt(text: &str) -> Result<(), Error> {
    if text.trim().is_empty() {
        return Err(Error::invalid("empty_prompt", "the prompt is empty; it was not accepted"));
    }
    if text.len() > MAX_PROMPT {
        return Err(Error::invalid_with(
            "prompt_too_large",
            format!("the prompt has {} bytes, the limit is {MAX_PROMPT}; it was not accepted", text.len()),
            "put long input into a file and name the file in the prompt",
        ));
    }
    if text.contains('\0') {
        return Err(Error::invalid("invalid_prompt", "the prompt contains a NUL byte; it was not accepted"));
    }
    Ok(())
}

fn failed(session: &Session) -> Option<Result<(), Error>> {
    match &session.state {
        State::Failed(failure) => {
            Some(Err(Error::SessionFailed { id: session.id.clone(), reason: failure.reason.clone() }))
        }
        _ => None,
    }
}

fn has_pid(session: &Session) -> Option<Result<(), Error>> {
    match &session.state {
        _ if session.pid().is_some() => Some(Ok(())),
        State::Stopped => Some(Err(Error::Overtaken { id: session.id.clone(), what: "was stopped" })),
        _ => failed(session),
    }
}

fn is_up(session: &Session) -> Option<Result<(), Error>> {
    match &session.state {
        State::Ready { .. } => Some(Ok(())),
        State::Stopped => Some(Err(Error::Overtaken { id: session.id.clone(), what: "was stopped" })),
        _ => failed(session),
    }
}

fn is_down(session: &Session) -> Option<Result<(), Error>> {
    match &session.state {
        State::Failed(failure) if !failure.survivors.is_empty() => failed(session),
        _ if !session.has_process() => Some(Ok(())),
        _ => None,
    }
}

fn subagent_handle(fleet: &Fleet, child: &Session) -> SubagentHandle {
    let parent = child.parent.as_ref().and_then(|id| fleet.get(id));
    SubagentHandle {
        session_id: child.id.clone(),
        pid: child.pid(),
        parent_session_id: child.parent.clone(),
        parent_pid: parent.and_then(|parent| parent.pid()),
        task: child.task.as_ref().map(|task| task.text.to_string()).unwrap_or_default(),
        model: child.spec.model.clone(),
        started_at: Timestamp(child.created_at),
        status: child.status(),
    }
}

impl IdempotencyKey {
    /// A key within its scope, and a hash of the request it stands for.
    pub(crate) fn new(scope: &str, key: &str, request: &impl serde::Serialize) -> Result<Self, Error> {
        let plain = !key.is_empty() && key.len() <= 255 && key.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain {
            return Err(Error::invalid(
                "invalid_idempotency_key",
                "an idempotency key is 1 to 255 printable ASCII characters without spaces",
            ));
        }
        let request = serde_json::to_vec(request).map_err(|error| {
            Error::invalid("invalid_request", format!("the request cannot be read: {error}"))
        })?;
        let hash = Sha256::digest(&request).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { scope: scope.to_owned(), key: key.to_owned(), request: hash })
    }
}
