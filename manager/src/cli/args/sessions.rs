//! Arguments of the commands that start, list, watch and end sessions.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{ArgGroup, Args, ValueHint};
use protocol::SessionId;
use protocol::api::{OnCrash, Orphans, PermissionPolicy, RestartType, SessionOpts, Status};
use protocol::event::Timestamp;

use crate::cli::args::values::{label, label_change, limit, lines, option, variable, wait, words};
use crate::core::options;
use crate::units::{parse_duration, parse_since};

/// The options of a new session, apart from its directory.
#[derive(Debug, Args)]
pub struct Options {
    /// A label, by which lists find the session
    #[arg(long = "label", value_name = "LABEL=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Free text for people
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// The agent's profile in config.toml, or `shell`
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// The model, for agents with {model} in their command
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Add a variable to the agent's environment; the journal keeps it, so no secrets
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// Restart after every exit, after every exit but 0, or never
    #[arg(long, value_name = "TYPE", value_parser = words::<RestartType>(&["permanent", "transient", "temporary"]))]
    pub restart: Option<RestartType>,
    /// The session fails after more deaths than this within the period
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = option::<options::Intensity>)]
    pub intensity: Option<u32>,
    /// The restart period
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub period: Option<Duration>,
    /// Mark a prompt as interrupted when its turn crashes, or retry it
    #[arg(long, value_name = "WHAT", value_parser = words::<OnCrash>(&["interrupt", "retry"]))]
    pub on_crash: Option<OnCrash>,
    /// Hibernate the session after this idle time; 0 = never
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    pub hibernate_after: Option<Duration>,
    /// Time between SIGTERM and SIGKILL for the session's processes
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub grace: Option<Duration>,
    /// Abort a turn that takes longer than this; 0 = no limit
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    pub turn_timeout: Option<Duration>,
    /// Added to the nice value of its agent's processes, 0 to 19
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = option::<options::Nice>)]
    pub nice: Option<u32>,
    /// Limit of open descriptors for each of the agent's processes
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = option::<options::Nofile>)]
    pub nofile: Option<u64>,
    /// Memory limit of its agent's processes together: 512M, 2G or 2GiB (powers of 1024); kennel kills them above it
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = crate::config::parse_size)]
    pub memory: Option<u64>,
    /// Limit of the agent's processes and threads at one time
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = option::<options::Pids>)]
    pub pids: Option<u32>,
    /// CPU limit of the agent's processes together, in processors, like 1.5
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = crate::config::parse_cpus)]
    pub cpus: Option<u32>,
    /// When the agent asks for a permission: wait for you, allow, deny, or abort the turn
    #[arg(long, value_name = "WHAT",
        value_parser = words::<PermissionPolicy>(&["park", "allow", "deny", "fail"]))]
    pub permissions: Option<PermissionPolicy>,
    /// Deny a permission that waits longer than this; 0 = wait without limit
    #[arg(long, value_name = "DURATION", value_parser = limit)]
    pub permission_timeout: Option<Duration>,
}

impl Options {
    /// The options as the API takes them, without id and directory.
    pub fn given(self) -> SessionOpts {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        SessionOpts {
            id: None,
            name: None,
            labels: self.labels.into_iter().collect(),
            title: self.title,
            agent: self.agent,
            model: self.model,
            workdir: None,
            env: self.env.into_iter().collect(),
            restart: self.restart,
            intensity: self.intensity,
            period_ms: self.period.map(ms),
            on_crash: self.on_crash,
            hibernate_after_ms: self.hibernate_after.map(ms),
            grace_ms: self.grace.map(ms),
            turn_timeout_ms: self.turn_timeout.map(ms),
            nice: self.nice,
            nofile: self.nofile,
            memory_bytes: self.memory,
            pids: self.pids,
            milli_cpus: self.cpus,
            permissions: self.permissions,
            permission_timeout_ms: self.permission_timeout.map(ms),
            umask: None,
            mcp_servers: Vec::new(),
            mcp_remote_servers: Vec::new(),
            conversation: None,
            offers: Vec::new(),
        }
    }

    /// The flag that an error code is about; none if it is about something else. The code of a refused option has the
    /// flag's name.
    pub fn refused(code: &str) -> Option<String> {
        let name = match code.strip_prefix("invalid_")? {
            "name" => return Some("--name".to_owned()),
            "labels" => "label".to_owned(),
            name => name.replace('_', "-"),
        };
        let flags = Self::augment_args(clap::Command::new("kennel"));
        flags.get_arguments().any(|arg| arg.get_long() == Some(&name)).then(|| format!("--{name}"))
    }
}

/// `start`.
#[derive(Debug, Args)]
pub struct Start {
    /// The session's id, not a number alone; else session-N
    #[arg(long)]
    pub id: Option<SessionId>,
    /// The session's name, which stands wherever an id does; else made of the directory's
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The agent's directory; else the current directory, and with --host the home there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// The session's options.
    #[command(flatten)]
    pub options: Options,
}

/// `ensure`.
#[derive(Debug, Args)]
pub struct Ensure {
    /// The directory; else the current one, and with --host the home there
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// The session's id; else the directory's
    #[arg(long)]
    pub id: Option<SessionId>,
    /// The name of a new session; else the directory's
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The longest wait until the session is ready
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = wait)]
    pub timeout: Duration,
    /// The session's options.
    #[command(flatten)]
    pub options: Options,
}

/// `acp`.
#[derive(Debug, Args)]
pub struct Acp {
    /// The editor's new sessions are the directory's own, as with `ensure`
    #[arg(long)]
    pub workdir_session: bool,
    /// The directory of new sessions, relative to the home on another machine; else the editor's
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// On another machine: let agents use files and terminals of the editor, whose paths are the editor's
    #[arg(long)]
    pub editor_tools: bool,
    /// The options of the sessions.
    #[command(flatten)]
    pub options: Options,
}

/// The states of a session.
const STATES: [&str; 10] = [
    "starting",
    "idle",
    "running",
    "requires_action",
    "adopting",
    "stopping",
    "restarting",
    "hibernated",
    "stopped",
    "failed",
];

/// `ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Include stopped sessions
    #[arg(long, short)]
    pub all: bool,
    /// Sessions that wait for somebody
    #[arg(long)]
    pub needs: bool,
    /// Sessions with one of these states
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = words::<Status>(&STATES))]
    pub status: Vec<Status>,
    /// Sessions with this label, or with this value of it
    #[arg(long = "label", value_name = "LABEL[=VALUE]", value_parser = crate::config::label_wanted)]
    pub labels: Vec<String>,
    /// Sessions of one of these agents
    #[arg(long = "agent", value_name = "NAME", value_delimiter = ',')]
    pub agents: Vec<String>,
    /// Sessions that work in this directory or below it
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// Sessions with a message since then: `2h`, `14:30`, `2026-11-29`
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<Timestamp>,
    /// The order: oldest first, newest message first, by name, or the longest wait first
    #[arg(long, value_name = "ORDER", value_parser = ["created", "last", "name", "needs"])]
    pub sort: Option<String>,
    /// A line for each session: `{name} {labels.team}`, with fields of --json, \\t and \\n
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["tree", "json"])]
    pub format: Option<String>,
    /// A column with the sessions' labels
    #[arg(long)]
    pub show_labels: bool,
    /// Sub-agents below their parents
    #[arg(long, short)]
    pub tree: bool,
    /// Of this machine and of every machine of `kennel host ls`
    #[arg(long, conflicts_with_all = ["tree", "host", "state_dir", "needs", "status", "labels", "agents", "dir", "since", "sort", "format", "show_labels"])]
    pub all_hosts: bool,
}

/// `top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Include stopped sessions
    #[arg(long, short)]
    pub all: bool,
    /// Groups: dir, agent, or label:NAME
    #[arg(long, value_name = "GROUP", value_parser = group)]
    pub group: Option<String>,
}

fn group(text: &str) -> Result<String, String> {
    match text.strip_prefix("label:") {
        Some(label) if !label.contains('=') => crate::config::label_wanted(label).map(|_| text.to_owned()),
        None if ["dir", "agent"].contains(&text) => Ok(text.to_owned()),
        Some(_) | None => Err("groups are `dir`, `agent` and `label:NAME`".into()),
    }
}

/// `next`.
#[derive(Debug, Args)]
pub struct Next {
    /// Attach to it
    #[arg(long, short)]
    pub attach: bool,
}

/// `id`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what"))]
pub struct Id {
    /// A directory; else the current one, and with --host the home there
    #[arg(long, group = "what", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// A worker's or agent's process
    #[arg(long, group = "what")]
    pub pid: Option<u32>,
}

/// `stop`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true))]
pub struct Stop {
    /// The sessions: ids, names, or beginnings of exactly one each
    #[arg(value_name = "ID", group = "which")]
    pub ids: Vec<String>,
    /// The session that has this process
    #[arg(long, group = "which")]
    pub pid: Option<u32>,
    /// All sessions
    #[arg(long, group = "which")]
    pub all: bool,
    /// Stop the sessions' sub-agents, too, or keep them
    #[arg(long, value_name = "WHAT", default_value = "stop", value_parser = words::<Orphans>(&["stop", "keep"]))]
    pub orphans: Orphans,
}

/// `rename`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true))]
pub struct Rename {
    /// The session: its id, its name, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub id: String,
    /// The new name: letters, digits, `.`, `_` and `-`
    #[arg(value_name = "NAME", group = "what")]
    pub name: Option<String>,
    /// The new title, free text for people; empty: none
    #[arg(long, value_name = "TEXT", group = "what")]
    pub title: Option<String>,
}

/// `label`.
#[derive(Debug, Args)]
pub struct Label {
    /// The session: its id, its name, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub id: String,
    /// Labels to set, and with a `-` at the end to remove; without any, lists the session's labels
    #[arg(value_name = "LABEL=VALUE|LABEL-", value_parser = label_change, allow_hyphen_values = false)]
    pub labels: Vec<(String, Option<String>)>,
}

/// The sessions that `--all` means, and whether to ask.
#[derive(Debug, Args)]
pub struct Choice {
    /// With --all: sessions with one of these states
    #[arg(long, value_name = "STATE", conflicts_with = "ids", value_delimiter = ',', value_parser = words::<Status>(&STATES))]
    pub status: Vec<Status>,
    /// With --all: sessions with this label, or with this value of it
    #[arg(long = "label", value_name = "LABEL[=VALUE]", conflicts_with = "ids", value_parser = crate::config::label_wanted)]
    pub labels: Vec<String>,
    /// With --all: do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `restart`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true))]
pub struct Restart {
    /// The sessions: ids, names, or beginnings of exactly one each
    #[arg(value_name = "ID", group = "which")]
    pub ids: Vec<String>,
    /// All sessions that --status and --label mean; else all but those that are stopped or hibernated
    #[arg(long, group = "which")]
    pub all: bool,
    /// Which, and whether to ask.
    #[command(flatten)]
    pub choice: Choice,
}

/// `fork`.
#[derive(Debug, Args)]
pub struct Fork {
    /// The session to go on from: its id, its name, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub origin: String,
    /// The last turn that both have in common, as `kennel transcript` numbers them; else the newest
    #[arg(long, value_name = "TURN", value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    pub at: Option<u64>,
    /// Work in a new git worktree of the session's repository, on a new branch from what is checked out there
    #[arg(long)]
    pub worktree: bool,
    /// Id of the new session; else session-N
    #[arg(long = "id", value_name = "NEW-ID")]
    pub new_id: Option<String>,
    /// Name of the new session, which stands wherever its id does
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Free text for people; else the origin's title
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// A label more than the origin has
    #[arg(long = "label", value_name = "LABEL=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
}

/// `adopt`.
#[derive(Debug, Args)]
pub struct Adopt {
    /// The agent's own id of the conversation
    #[arg(value_name = "CONVERSATION")]
    pub conversation: String,
    /// The directory in which the conversation began; else the current directory, and with --host the home there
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// The session's id, not a number alone; else session-N
    #[arg(long)]
    pub id: Option<SessionId>,
    /// The session's name, which stands wherever an id does; else made of the directory's
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The session's options.
    #[command(flatten)]
    pub options: Options,
}

/// `rm`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true))]
pub struct Rm {
    /// The sessions: whole ids or names
    #[arg(value_name = "ID", group = "which")]
    pub ids: Vec<String>,
    /// All sessions that --status and --label mean; without --status those that are stopped or failed, with --force all
    #[arg(long, group = "which")]
    pub all: bool,
    /// Which, and whether to ask.
    #[command(flatten)]
    pub choice: Choice,
    /// Stop them first
    #[arg(long, short)]
    pub force: bool,
}

/// The states that `wait --until` takes. They are those of the API's `until`.
fn awaited() -> PossibleValuesParser {
    let states = [
        ("idle", "The agent takes prompts; no turn runs and no prompt waits"),
        ("ready", "The agent takes prompts; a turn may run"),
        ("running", "A turn runs"),
        ("requires_action", "The agent waits for an answer to a permission or a form"),
        ("stopped", "The session was stopped and has no process"),
        ("failed", "kennel gave up restarting the session; only `kennel restart` starts it again"),
        ("hibernated", "The session has no process; the next prompt wakes it"),
    ];
    PossibleValuesParser::new(states.map(|(state, help)| PossibleValue::new(state).help(help)))
}

/// `wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// The sessions: ids, names, or beginnings of exactly one each
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// The states to wait for: the first of them that a session is in is enough
    #[arg(long, value_name = "STATE", default_value = "idle", value_delimiter = ',', value_parser = awaited())]
    pub until: Vec<String>,
    /// Wait for all of the sessions, as without this
    #[arg(long, conflicts_with = "any")]
    pub all: bool,
    /// Wait for the first of the sessions
    #[arg(long)]
    pub any: bool,
    /// Give up after this, with exit code 3
    #[arg(long, value_name = "DURATION", value_parser = wait)]
    pub timeout: Option<Duration>,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// The session: its id, its name, or the beginning of exactly one
    pub id: String,
    /// The number of lines from the end
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 100, allow_negative_numbers = true, value_parser = lines)]
    pub tail: u32,
    /// Go on with what is appended, until the session is removed; with --json one object a piece
    #[arg(long, short)]
    pub follow: bool,
}

/// `set`.
#[derive(Debug, Args)]
pub struct Set {
    /// The session: its id, its name, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub id: String,
    /// The agent's name of a setting, or `mode`, and the value; without both, lists all settings
    #[arg(value_name = "NAME=VALUE")]
    pub pairs: Vec<String>,
}

/// `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The session: its id, its name, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub id: String,
    /// The viewer token, which can read the session and change nothing
    #[arg(long)]
    pub viewer: bool,
}
