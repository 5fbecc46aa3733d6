//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use protocol::api::{OnCrash, Orphans, PermissionPolicy, RestartType, WhenBusy};
use protocol::{PermissionId, PromptId, SessionId};
use serde::de::DeserializeOwned;

use crate::cli::ui::render::parse_duration;

const EXAMPLES: &str = "\
Examples:
  kennel start --title demo            a new session; the daemon comes up by itself
  kennel send session-1 'make test'    a prompt; streams its output and ends with its turn
  kennel ls                            what there is
  kennel demo                          all of it, with a crash, in a directory of its own

Exit codes: 0 ok, 1 failure, 2 usage, 3 timeout, 4 no such session, 5 permission denied, 6 daemon unreachable, \
7 conflict, 130 interrupted";

/// Crash-isolated hosting of AI agent sessions
#[derive(Debug, Parser)]
#[command(name = "kennel", version = crate::VERSION, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    /// For every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where the daemon keeps its state, and so which daemon is meant [env: KENNEL_STATE_DIR]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state_dir: Option<PathBuf>,
    /// Print the API's own objects, and errors as problem+json on standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// Colours: auto (respects NO_COLOR), always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub color: ColourChoice,
    /// Nothing but results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// When there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColourChoice {
    /// On a terminal.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what kennel is for: a crash, survived, in a directory of its own
    ///
    /// Runs the ordinary commands in a temporary directory, shows them as they run, kills a worker, checks what is
    /// promised, and leaves nothing behind. Nothing of yours is touched.
    #[command(after_help = "Example:\n  kennel demo")]
    Demo,
    /// Start a new session and print its id
    #[command(
        after_help = "Examples:\n  kennel start\n  kennel start --title build --agent claude --dir ~/src/app\n  \
        kennel start --id ci --env RUST_LOG=debug --on-crash retry"
    )]
    Start(Start),
    /// Have a session, whatever its state: find it, wake it, start it again, or start it anew
    ///
    /// Without --id it is the session of a directory, whose id comes from the directory's path. Returns once the
    /// session is ready, and prints its id. May be repeated at will.
    #[command(
        after_help = "Examples:\n  kennel ensure\n  kennel ensure ~/src/app --agent claude\n  kennel ensure --id ci --timeout 1m"
    )]
    Ensure(Ensure),
    /// List sessions
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  kennel ls --all\n  kennel ls --tree\n  kennel ls --json | jq '.[].id'"
    )]
    Ls(Ls),
    /// Show all about a session
    #[command(after_help = "Examples:\n  kennel show session-1\n  kennel show session-1 --json | jq .pid")]
    Show(OneId),
    /// Print the id of a directory's session, or of the session that has a process
    #[command(
        after_help = "Examples:\n  kennel id --dir ~/src/app     its id, whether or not it exists\n  kennel id --pid 4711"
    )]
    Id(Id),
    /// Send a prompt, stream what the agent says, and end with its turn
    ///
    /// The agent's standard output goes to standard output, everything else to standard error. A file or pipe gets the
    /// agent's bytes as they are; a terminal gets text and colours, and shows everything else as an escape. The prompt is on disk
    /// before anything is shown; Ctrl-C ends the stream and not the prompt. Exits with 0 if the agent succeeded, with 1
    /// if it failed, refused (`refusal`), ended early (`max_tokens`, `max_turn_requests`), or its turn was aborted or
    /// interrupted. From the first word that begins with `-` and is no option of kennel, all is the prompt; after `--`, too.
    #[command(
        after_help = "Examples:\n  kennel send session-1 'make test'\n  kennel send session-1 < prompt.txt\n  \
        kennel send session-1 --no-wait --when-busy reject 'make test'"
    )]
    Send(Send),
    /// Talk to a session: what was said, what is said, and what you say to it
    ///
    /// Shows the conversation so far and follows it. Each line that you type is a prompt; while a turn runs it waits its
    /// turn. A permission that the agent asks for is answered by the number of an option, a form field by field. One client
    /// drives; a second one looks on. Ctrl-C ends the turn that is shown; Ctrl-P Ctrl-Q, or Ctrl-D, detaches and stops
    /// nothing. At the end of a pipe or file, attach detaches once no prompt runs or waits.
    #[command(
        after_help = "Examples:\n  kennel attach                      the session of this directory\n  \
        kennel attach session-1 --read-only\n  kennel attach ~/src/app --takeover"
    )]
    Attach(Attach),
    /// List, edit and remove waiting prompts
    #[command(subcommand)]
    Queue(Queue),
    /// List and answer permissions that agents ask for
    #[command(subcommand)]
    Permissions(Permissions),
    /// List what can be set in a session's agent, or set it
    ///
    /// It stays set, whatever becomes of the agent's process.
    #[command(after_help = "Examples:\n  kennel set session-1\n  kennel set session-1 mode=plan model=gpt-5")]
    Set(Set),
    /// List the agents that sessions can be started with
    #[command(subcommand)]
    Agents(Agents),
    /// Be the agent of an editor that speaks ACP, on standard input and output
    ///
    /// For Zed, JetBrains, Neovim, Emacs and others: an editor that starts `kennel acp` in place of an agent gets that
    /// agent in a session of kennel's. The session survives crashes of the agent, and it goes on when the editor is
    /// closed; opened again, the editor shows what it has missed. Notes go to standard error.
    #[command(
        after_help = "Examples:\n  kennel acp --agent claude                     what an editor's settings name as its agent\n  \
        kennel acp --agent codex --workdir-session    one session for each directory, for ever"
    )]
    Acp(Acp),
    /// Decide what becomes of an interrupted prompt
    #[command(
        after_help = "Examples:\n  kennel resolve prompt-17 --retry\n  kennel resolve prompt-17 --drop"
    )]
    Resolve(Resolve),
    /// End the running turn and all it started; session and queue stay
    ///
    /// With a prompt's id, kennel ends that prompt's turn and no other: where it has ended meanwhile, the next one goes on
    /// and the exit code is 7. Without one, it is the prompt that runs when kennel looks.
    #[command(after_help = "Examples:\n  kennel abort session-1\n  kennel abort session-1 prompt-17")]
    Abort(Abort),
    /// Stop sessions; returns after all their processes are gone
    #[command(
        after_help = "Examples:\n  kennel stop session-1 session-2\n  kennel stop --pid 4711\n  kennel stop --all"
    )]
    Stop(Stop),
    /// Give sessions a new process and a clean slate
    #[command(after_help = "Example:\n  kennel restart session-1")]
    Restart(Ids),
    /// Remove stopped sessions and their records
    ///
    /// A git worktree of a sub-agent goes with the last session that works in it, and its branch too, if all is committed
    /// and on another branch. Otherwise it stays, and kennel says why.
    #[command(
        visible_alias = "remove",
        after_help = "Examples:\n  kennel rm session-1\n  kennel rm --force session-1"
    )]
    Rm(Rm),
    /// Keep a session from hibernating
    #[command(after_help = "Example:\n  kennel pin session-1")]
    Pin(OneId),
    /// Let a session hibernate again
    #[command(after_help = "Example:\n  kennel unpin session-1")]
    Unpin(OneId),
    /// Print what has happened, or follow what happens
    #[command(after_help = "Examples:\n  kennel events session-1            all of it, so far\n  \
        kennel events -f                   of all sessions, from now on\n  \
        kennel events -f --after 0 --json  everything, one object a line")]
    Events(Events),
    /// Print what a session's worker and agent wrote to standard error
    #[command(after_help = "Example:\n  kennel logs session-1 -n 20")]
    Logs(Logs),
    /// Wait until a session is in a state
    #[command(
        after_help = "Examples:\n  kennel wait session-1 --until idle --timeout 20s\n  kennel wait session-1 --until stopped\n  \
        kennel wait session-1 --until requires_action"
    )]
    Wait(Wait),
    /// Start, list and wait for background sub-agents
    #[command(subcommand)]
    Subagent(Subagent),
    /// Offer sub-agents to an agent, over the Model Context Protocol on standard input and output
    ///
    /// kennel gives this server to agents that take MCP servers by itself; `subagents = false` in a profile switches
    /// that off. It acts for the session whose token is in the file that KENNEL_TOKEN_FILE names.
    #[command(after_help = "Example:\n  kennel mcp")]
    Mcp,
    /// Print a session's token, a secret
    ///
    /// Who has it may do everything with the session, and nothing with others.
    #[command(after_help = "Examples:\n  kennel token session-1\n  kennel token session-1 --viewer")]
    Token(TokenArgs),
    /// Run, look at and end the daemon
    #[command(subcommand)]
    Daemon(Daemon),
    /// Show what the state directory takes of the disk, by what and by which session
    #[command(
        after_help = "Examples:\n  kennel df\n  kennel df --all\n  kennel df --json | jq '.sessions[] | select(.event_bytes > 1e6) | .id'"
    )]
    Df(Df),
    /// Remove history that is old, and files that belong to nothing any more
    ///
    /// Tells what would go, and asks. History goes by whole turns, the oldest first; what a session needs stays: prompts that
    /// run, wait or may be resolved, the newest turn, and the turns that an agent is told where its conversation is lost.
    /// Sessions stay; `kennel rm` removes those. The journal's file keeps its length and is filled again. Git worktrees of
    /// sub-agents go with their branches once no session or process is in them, all is committed, and every commit is on another
    /// branch; what git ignores goes with them.
    #[command(
        after_help = "Examples:\n  kennel prune\n  kennel prune --older-than 90d\n  kennel prune --max-size 2GiB --dry-run\n  \
        kennel prune --damaged --force"
    )]
    Prune(Prune),
    /// Look whether this machine lets kennel keep its promise, and how to mend what does not
    ///
    /// Changes nothing, and starts no daemon. Exits with 1 if something that kennel promises does not hold.
    #[command(
        after_help = "Examples:\n  kennel doctor\n  kennel doctor --json | jq '.[] | select(.health != \"ok\")'"
    )]
    Doctor,
}

/// `set`.
#[derive(Debug, Args)]
pub struct Set {
    /// The session's id, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub id: String,
    /// The agent's name of a setting, or `mode`, and the value; without any, all are listed
    #[arg(value_name = "NAME=VALUE")]
    pub pairs: Vec<String>,
}

/// `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The session's id, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub id: String,
    /// The one with which one may look on and nothing else
    #[arg(long)]
    pub viewer: bool,
}

/// One session.
#[derive(Debug, Args)]
pub struct OneId {
    /// The session's id, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub id: String,
}

/// `abort`.
#[derive(Debug, Args)]
pub struct Abort {
    /// The session's id, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub id: String,
    /// The prompt whose turn is to end; else the one that runs now
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<PromptId>,
}

/// Some sessions.
#[derive(Debug, Args)]
pub struct Ids {
    /// Sessions' ids, or beginnings of exactly one each
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
}

/// What a session is started with, beside its directory.
#[derive(Debug, Args)]
pub struct Options {
    /// A name for people
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// The agent's profile in config.toml, or `shell`
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// The model, for agents whose command says {model}
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Added to the agent's environment; is journaled, so no secrets
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// Which deaths are answered with a restart: all, all but exit 0, or none
    #[arg(long, value_name = "TYPE", value_parser = words::<RestartType>(&["permanent", "transient", "temporary"]))]
    pub restart: Option<RestartType>,
    /// More deaths than this within the period, and the session has failed
    #[arg(long, value_name = "N")]
    pub intensity: Option<u32>,
    /// The restart period
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub period: Option<Duration>,
    /// What becomes of a prompt whose turn a crash cut off
    #[arg(long, value_name = "WHAT", value_parser = words::<OnCrash>(&["interrupt", "retry"]))]
    pub on_crash: Option<OnCrash>,
    /// Idle time after which it hibernates; 0 = never
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub hibernate_after: Option<Duration>,
    /// How long its processes have between SIGTERM and SIGKILL
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub grace: Option<Duration>,
    /// How long a turn may take; then it is aborted. 0 = as long as it wants
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub turn_timeout: Option<Duration>,
    /// Added to the nice value of its agent's processes, 0 to 19
    #[arg(long, value_name = "N")]
    pub nice: Option<u32>,
    /// Descriptors that each of its agent's processes may have open
    #[arg(long, value_name = "N")]
    pub nofile: Option<u64>,
    /// Memory that its agent's processes may have together, like 2GiB; with more they are killed
    #[arg(long, value_name = "SIZE", value_parser = crate::config::parse_size)]
    pub memory: Option<u64>,
    /// Processes and threads that there may be of its agent at once
    #[arg(long, value_name = "N")]
    pub pids: Option<u32>,
    /// Processors' time that its agent's processes may have together, like 1.5
    #[arg(long, value_name = "N", value_parser = crate::config::parse_cpus)]
    pub cpus: Option<u32>,
    /// What becomes of permissions that the agent asks for: wait for you, allow, deny, or abort the turn
    #[arg(long, value_name = "WHAT",
        value_parser = words::<PermissionPolicy>(&["park", "allow", "deny", "fail"]))]
    pub permissions: Option<PermissionPolicy>,
    /// How long a permission may wait for you; then it is denied. 0 = for ever
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub permission_timeout: Option<Duration>,
}

/// `acp`.
#[derive(Debug, Args)]
pub struct Acp {
    /// The editor's new sessions are the directory's own, as with `ensure`
    #[arg(long)]
    pub workdir_session: bool,
    /// What sessions are started with.
    #[command(flatten)]
    pub options: Options,
}

/// `start`.
#[derive(Debug, Args)]
pub struct Start {
    /// Its id; else session-N
    #[arg(long)]
    pub id: Option<SessionId>,
    /// Where the agent runs; else the current directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// The rest.
    #[command(flatten)]
    pub options: Options,
}

/// `ensure`.
#[derive(Debug, Args)]
pub struct Ensure {
    /// The directory; else the current one
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// The session's id; else the directory's
    #[arg(long)]
    pub id: Option<SessionId>,
    /// How long to wait until it is ready
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// The rest.
    #[command(flatten)]
    pub options: Options,
}

/// `ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Stopped and failed sessions too
    #[arg(long, short)]
    pub all: bool,
    /// Sub-agents below their parents
    #[arg(long, short)]
    pub tree: bool,
}

/// `id`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what"))]
pub struct Id {
    /// A directory; else the current one
    #[arg(long, group = "what", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// A worker's or agent's process
    #[arg(long, group = "what")]
    pub pid: Option<u32>,
}

/// `send`.
#[derive(Debug, Args)]
pub struct Send {
    /// The session's id, or the beginning of exactly one
    pub id: String,
    /// The prompt, words joined by spaces; `-`, or nothing where standard input is no terminal: standard input
    #[arg(value_name = "TEXT")]
    pub text: Vec<String>,
    /// A file that goes with it, as it is now: text, picture or sound; 16 at most, with 8 MiB together
    #[arg(long = "file", short, value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Print the prompt's id and do not wait for its turn
    #[arg(long)]
    pub no_wait: bool,
    /// What to do if a turn runs or others wait
    #[arg(long, value_name = "WHAT", default_value = "queue",
        value_parser = words::<WhenBusy>(&["queue", "reject", "interrupt"]))]
    pub when_busy: WhenBusy,
    /// A key of your own: sent again under the same key, the prompt is accepted once
    #[arg(long)]
    pub key: Option<String>,
}

/// `attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// The session's id, or the beginning of exactly one, or a directory; else the current directory
    #[arg(value_name = "ID|DIR")]
    pub what: Option<String>,
    /// Look on, and change nothing
    #[arg(long, conflicts_with = "takeover")]
    pub read_only: bool,
    /// Drive, also if somebody else does
    #[arg(long)]
    pub takeover: bool,
    /// Begin with what happens from now on, without the conversation so far
    #[arg(long)]
    pub no_history: bool,
}

/// `queue`.
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// List prompts that run, wait, or were interrupted
    #[command(visible_alias = "list", after_help = "Example:\n  kennel queue ls session-1")]
    Ls(OneId),
    /// Replace the text of a waiting prompt
    #[command(after_help = "Example:\n  kennel queue edit session-1 prompt-17 'make check'")]
    Edit {
        /// The session's id, or the beginning of exactly one
        id: String,
        /// The prompt's id
        prompt: PromptId,
        /// The new text; `-` or nothing: standard input
        text: Vec<String>,
    },
    /// Take a waiting prompt out
    #[command(after_help = "Example:\n  kennel queue rm session-1 prompt-17")]
    Rm {
        /// The session's id, or the beginning of exactly one
        id: String,
        /// The prompt's id
        prompt: PromptId,
    },
    /// Take all waiting prompts out
    #[command(after_help = "Example:\n  kennel queue clear session-1")]
    Clear(OneId),
}

/// `permissions`.
#[derive(Debug, Subcommand)]
pub enum Permissions {
    /// List permissions that wait for an answer
    #[command(visible_alias = "list", after_help = "Example:\n  kennel permissions ls")]
    Ls {
        /// The session's id, or the beginning of exactly one; else all sessions
        id: Option<String>,
    },
    /// Allow what an agent asks for: once, unless --option says otherwise
    #[command(
        after_help = "Examples:\n  kennel permissions allow permission-17\n  kennel permissions allow permission-17 --option always"
    )]
    Allow {
        /// The permission's id
        permission: PermissionId,
        /// One of the agent's own options
        #[arg(long, value_name = "OPTION")]
        option: Option<String>,
    },
    /// Deny what an agent asks for
    #[command(after_help = "Example:\n  kennel permissions deny permission-17")]
    Deny {
        /// The permission's id
        permission: PermissionId,
    },
}

/// `agents`.
#[derive(Debug, Subcommand)]
pub enum Agents {
    /// List agents, whether they are installed, and how to install them
    ///
    /// Version and what an agent offers (to resume a conversation, to load it) are what it said of itself in the newest
    /// session with it.
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  kennel agents ls\n  kennel agents ls codex --probe"
    )]
    Ls {
        /// These agents only
        #[arg(value_name = "AGENT")]
        names: Vec<String>,
        /// Start each of them that is installed, one after the other, to hear what it is
        #[arg(long)]
        probe: bool,
    },
}

/// `resolve`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true))]
pub struct Resolve {
    /// The prompt's id
    pub prompt: PromptId,
    /// The same text again, at the head of the queue
    #[arg(long, group = "what")]
    pub retry: bool,
    /// Leave it at that
    #[arg(long, group = "what")]
    pub drop: bool,
}

/// `stop`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true))]
pub struct Stop {
    /// Sessions' ids, or beginnings of exactly one each
    #[arg(value_name = "ID", group = "which")]
    pub ids: Vec<String>,
    /// The session that has this process
    #[arg(long, group = "which")]
    pub pid: Option<u32>,
    /// All sessions
    #[arg(long, group = "which")]
    pub all: bool,
    /// What becomes of their sub-agents
    #[arg(long, value_name = "WHAT", default_value = "stop", value_parser = words::<Orphans>(&["stop", "keep"]))]
    pub orphans: Orphans,
}

/// `rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// Which.
    #[command(flatten)]
    pub ids: Ids,
    /// Stop them first
    #[arg(long, short)]
    pub force: bool,
}

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// One session only: its id, or the beginning of exactly one
    pub id: Option<String>,
    /// Go on with what happens
    #[arg(long, short)]
    pub follow: bool,
    /// Begin after this event; else at the beginning, with --follow now
    #[arg(long, value_name = "EVENT")]
    pub after: Option<u64>,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// The session's id, or the beginning of exactly one
    pub id: String,
    /// How many lines from the end
    #[arg(long, short = 'n', value_name = "LINES", default_value_t = 100)]
    pub tail: u32,
}

/// `wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// The session's id, or the beginning of exactly one
    pub id: String,
    /// The state
    #[arg(long, value_name = "STATE", default_value = "idle",
        value_parser = PossibleValuesParser::new(["idle", "ready", "running", "requires_action", "stopped", "failed", "hibernated"]))]
    pub until: String,
    /// Give up after this, with exit code 3
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// `df`.
#[derive(Debug, Args)]
pub struct Df {
    /// All sessions; else the largest ten
    #[arg(long, short)]
    pub all: bool,
}

/// `prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Turns that ended longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub older_than: Option<Duration>,
    /// The oldest turns, until the journal has no more than this in use
    #[arg(long, value_name = "SIZE", value_parser = crate::config::parse_size)]
    pub max_size: Option<u64>,
    /// Damaged journals that were kept
    #[arg(long)]
    pub damaged: bool,
    /// Tell what would go, and remove nothing
    #[arg(long, conflicts_with = "force")]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub force: bool,
}

/// `subagent`.
#[derive(Debug, Subcommand)]
pub enum Subagent {
    /// Start a session with a task, and print its id
    #[command(after_help = "Example:\n  kennel subagent start --parent session-1 'make test'")]
    Start(Box<SubagentStart>),
    /// List sub-agents, oldest first
    #[command(visible_alias = "list", after_help = "Example:\n  kennel subagent ls --parent session-1")]
    Ls {
        /// Those of this session only: its id, or its worker's pid
        #[arg(long, value_name = "ID|PID")]
        parent: Option<String>,
    },
    /// Print what a sub-agent has said and says, and end with its task
    #[command(after_help = "Example:\n  kennel subagent wait session-2")]
    Wait {
        /// The sub-agent's id, or the beginning of exactly one
        id: String,
        /// Give up after this, with exit code 3
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        timeout: Option<Duration>,
    },
    /// Print what a sub-agent's newest turn has said, without waiting
    ///
    /// Exits with 0 if the turn has ended well or still runs, with 1 if it failed or was aborted or interrupted.
    #[command(after_help = "Example:\n  kennel subagent result session-2")]
    Result {
        /// The sub-agent's id, or the beginning of exactly one
        id: String,
    },
}

/// `subagent start`.
#[derive(Debug, Args)]
pub struct SubagentStart {
    /// What it is to do; `-`, or nothing where standard input is no terminal: standard input
    #[arg(value_name = "TASK")]
    pub task: Vec<String>,
    /// Whose sub-agent it is: a session's id, or its worker's pid
    #[arg(long, value_name = "ID|PID")]
    pub parent: Option<String>,
    /// Its id; else session-N
    #[arg(long)]
    pub id: Option<SessionId>,
    /// Where it runs; else the current directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// The rest.
    #[command(flatten)]
    pub options: Options,
}

/// `daemon`.
#[derive(Debug, Subcommand)]
pub enum Daemon {
    /// Run it here, in the foreground
    ///
    /// SIGTERM and SIGHUP end it and leave its sessions' processes to the next daemon: their turns go on. SIGINT (Ctrl-C) ends
    /// it and all processes of its sessions; the next daemon brings the sessions back. A second SIGINT ends it at once.
    #[command(after_help = "Example:\n  kennel daemon run")]
    Run {
        /// The session-worker program; else the one beside this executable
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        worker: Option<PathBuf>,
        /// As the other commands start it
        #[arg(long, hide = true)]
        detached: bool,
    },
    /// Start it in the background, if it does not run yet
    #[command(after_help = "Example:\n  kennel daemon start")]
    Start,
    /// End it and all processes of its sessions; the next one brings them back
    #[command(after_help = "Example:\n  kennel daemon stop")]
    Stop,
    /// Tell whether it runs, and how it is
    #[command(after_help = "Examples:\n  kennel daemon status\n  kennel daemon status --json | jq .pid")]
    Status,
    /// Replace it by a new one, which takes its sessions over: their turns go on
    #[command(after_help = "Example:\n  kennel daemon restart")]
    Restart,
    /// Look whether this kennel can go on where the daemon is; then replace the daemon by it
    #[command(after_help = "Example:\n  kennel daemon upgrade")]
    Upgrade,
    /// Look whether this kennel can read the journal, and change nothing
    #[command(after_help = "Example:\n  kennel daemon check")]
    Check,
    /// Print a systemd user unit that runs it
    #[command(after_help = "Example:\n  kennel daemon unit > ~/.config/systemd/user/kennel.service")]
    Unit,
}

/// Words of the API.
fn words<T: DeserializeOwned + Clone + std::marker::Send + Sync + 'static>(
    words: &'static [&'static str],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words)
        .try_map(|word| serde_json::from_value::<T>(serde_json::Value::String(word)))
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// Every command, those below others too, with its whole name.
    fn commands(command: clap::Command, name: &str) -> Vec<(String, clap::Command)> {
        let below = command.get_subcommands().filter(|below| below.get_name() != "help").cloned();
        let below: Vec<_> = below
            .flat_map(|below| {
                let name = format!("{name} {}", below.get_name());
                commands(below, &name)
            })
            .collect();
        if below.is_empty() { vec![(name.to_owned(), command)] } else { below }
    }

    #[test]
    fn every_command_has_an_example_that_parses() {
        for (name, command) in commands(Cli::command(), "kennel") {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let mut examples = 0;
            for line in help.lines().filter_map(|line| line.strip_prefix("  ")) {
                assert!(line.starts_with(&name), "{name}: {line}");
                // Words as a shell would make them, without what the shell keeps for itself.
                let words = line.split("  ").next().unwrap().split(['|', '<', '>']).next().unwrap();
                let words = words.replace("'make test'", "x").replace("'make check'", "x");
                let parsed = Cli::try_parse_from(words.split_whitespace());
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                examples += 1;
            }
            assert!(examples > 0, "{name} has no example");
        }
    }

    #[test]
    fn options_become_what_they_say() {
        let Ok(Command::Start(start)) = parse(
            "kennel start --env A=b=c --env D= --period 1m30s --hibernate-after 0 --restart permanent --on-crash retry",
        ) else {
            panic!()
        };
        assert_eq!(start.options.env, [("A".into(), "b=c".into()), ("D".into(), "".into())]);
        assert_eq!(start.options.period, Some(Duration::from_secs(90)));
        assert_eq!(start.options.hibernate_after, Some(Duration::ZERO));
        assert_eq!(start.options.restart, Some(RestartType::Permanent));
        assert_eq!(start.options.on_crash, Some(OnCrash::Retry));
        let Ok(Command::Send(send)) = parse("kennel send s --when-busy interrupt a b --no-wait c") else {
            panic!()
        };
        assert_eq!(
            (send.text.join(" "), send.no_wait, send.when_busy),
            ("a b c".into(), true, WhenBusy::Interrupt)
        );
        let Ok(Command::Stop(stop)) = parse("kennel stop a b --orphans keep") else { panic!() };
        assert_eq!((stop.ids.len(), stop.orphans), (2, Orphans::Keep));
    }

    #[test]
    fn nonsense_is_refused() {
        for (line, kind) in [
            ("kennel", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("kennel strat", ErrorKind::InvalidSubcommand),
            ("kennel start --env A", ErrorKind::ValueValidation),
            ("kennel start --env =b", ErrorKind::ValueValidation),
            ("kennel start --id a/b", ErrorKind::ValueValidation),
            ("kennel start --id ..", ErrorKind::ValueValidation),
            ("kennel start --period 5", ErrorKind::ValueValidation),
            ("kennel start --restart sometimes", ErrorKind::InvalidValue),
            ("kennel stop", ErrorKind::MissingRequiredArgument),
            ("kennel stop a --all", ErrorKind::ArgumentConflict),
            ("kennel prune --max-size 5", ErrorKind::ValueValidation),
            ("kennel prune --dry-run --force", ErrorKind::ArgumentConflict),
            ("kennel resolve prompt-1", ErrorKind::MissingRequiredArgument),
            ("kennel resolve prompt-1 --retry --drop", ErrorKind::ArgumentConflict),
            ("kennel resolve 1 --drop", ErrorKind::ValueValidation),
            ("kennel wait s --until bored", ErrorKind::InvalidValue),
            ("kennel id --dir . --pid 1", ErrorKind::ArgumentConflict),
        ] {
            assert_eq!(parse(line).map(|_| ()).unwrap_err().kind(), kind, "{line}");
        }
    }
}
