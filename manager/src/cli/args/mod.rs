//! The command line's grammar: the commands, and the options that all of them take. Each subject's file holds
//! the arguments of its commands.

mod common;
mod daemon;
mod files;
mod host;
mod keys;
mod prompts;
mod search;
mod sessions;
mod shells;
mod subagents;

#[cfg(test)]
mod tests;
mod transcript;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

pub use common::Common;
pub use daemon::*;
pub use files::*;
pub use host::*;
pub use keys::*;
pub use prompts::*;
pub use search::*;
pub use sessions::*;
pub use shells::*;
pub use subagents::*;
pub use transcript::*;

const EXAMPLES: &str = "\
Examples:
  kennel start --name web              a new session; the daemon comes up by itself
  kennel send web 'make test'          a prompt; streams its output and ends with its turn
  kennel ls                            what there is
  kennel demo                          all of it, with a crash, in a directory of its own

Exit codes: 0 ok, 1 failure, 2 usage, 3 timeout, 4 no such session, 5 permission denied, 6 daemon unreachable, \
7 conflict, 130 Ctrl-C
Exit codes of a turn: 10 max_tokens, 11 max_turn_requests, 12 refusal, 13 aborted, 14 interrupted by a crash";

/// Crash-isolated hosting of AI agent sessions
#[derive(Debug, Parser)]
#[command(name = "kennel", version = crate::version::VERSION, after_help = EXAMPLES, max_term_width = 110)]
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
    /// The daemon's state directory; selects the daemon [env: KENNEL_STATE_DIR]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state_dir: Option<PathBuf>,
    /// The machine: a name of `kennel host ls`, ssh://[user@]host[:port][/state-dir], tls://host[:port], or local [env: KENNEL_HOST]
    #[arg(long, short = 'H', global = true, value_name = "HOST")]
    pub host: Option<String>,
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
    /// Print results and errors only
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
    /// Demonstrate a crash that a session survives, in a temporary directory
    ///
    /// Runs the ordinary commands in a temporary directory, shows them as they run, kills a worker, checks each
    /// promise, and leaves nothing behind. Touches no file or session of yours.
    #[command(after_help = "Example:\n  kennel demo")]
    Demo,
    /// Start a new session and print its id
    #[command(
        after_help = "Examples:\n  kennel start\n  kennel start --name build --agent claude --dir ~/src/app\n  \
        kennel start --id ci --env RUST_LOG=debug --on-crash retry"
    )]
    Start(Start),
    /// Start the session if needed, wake it if it sleeps, and print its id
    ///
    /// Without --id, kennel takes the session of a directory, whose id comes from the directory's path. Returns once
    /// the session is ready, and prints its id. Safe to repeat.
    #[command(
        after_help = "Examples:\n  kennel ensure\n  kennel ensure ~/src/app --agent claude\n  kennel ensure --id ci --timeout 1m"
    )]
    Ensure(Ensure),
    /// List sessions
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  kennel ls --all\n  kennel ls --needs --sort needs\n  kennel ls --label team=front --status idle,running\n  \
        kennel ls --tree\n  kennel ls --format '{name}'\n  kennel ls --json | jq '.[].id'"
    )]
    Ls(Ls),
    /// Print the session that has waited longest for somebody, or attach to it
    ///
    /// A session waits for an answer to a permission or a form, for a decision about an interrupted prompt, or because it has
    /// failed. Exits with 4 if none does.
    #[command(after_help = "Example:\n  kennel next")]
    Next(Next),
    /// Watch all sessions on one screen: what each does, needs and uses
    ///
    /// Live, in the order of creation. Keys attach, answer permissions, abort, stop, restart and rename; `?` lists them. Quitting
    /// ends no session.
    #[command(after_help = "Examples:\n  kennel top\n  kennel top --group label:team\n  kennel top -H box")]
    Top(Top),
    /// Show the details of a session
    #[command(after_help = "Examples:\n  kennel show session-1\n  kennel show session-1 --json | jq .pid")]
    Show(OneId),
    /// Print the id of a directory's session, or of the session that has a process
    #[command(
        after_help = "Examples:\n  kennel id --dir ~/src/app     its id, whether or not it exists\n  kennel id --pid 4711"
    )]
    Id(Id),
    /// Send a prompt, stream the agent's output, and exit when its turn ends
    ///
    /// The agent's standard output goes to standard output, everything else to standard error. A file or pipe gets
    /// the agent's bytes as they are; a terminal gets text and colours, and shows everything else as an escape. The
    /// prompt is on disk before anything is shown; Ctrl-C ends the stream and not the prompt.
    ///
    /// Options stand before the session: everything after it is the prompt, also `--json`. Standard input that is no
    /// terminal is read to its end and stands below the words; `-` alone is standard input. Inside a loop that reads,
    /// and where a program leaves standard input open, write `< /dev/null`, as for ssh.
    ///
    /// Exits with 0 if the agent succeeded, 1 if it failed, 3 after --timeout, 10 at the model's limit of tokens
    /// (`max_tokens`), 11 at the limit of requests (`max_turn_requests`), 12 if the agent refused (`refusal`), 13 if the turn
    /// was aborted, and 14 if a crash interrupted it.
    #[command(
        after_help = "Examples:\n  kennel send session-1 'make test'\n  kennel send session-1 < prompt.txt\n  \
        kennel send --timeout 10m session-1 'explain this error' < error.log\n  \
        kennel send --no-wait --when-busy reject session-1 'make test'"
    )]
    Send(Send),
    /// Start a session, send it a prompt, and stream the agent's output
    ///
    /// Does what `start` and `send` do, in one step, with the exit codes of `send`. Standard output gets the agent's text
    /// alone; the session's name goes to standard error. The session stays, and Ctrl-C ends the stream only. With
    /// --rm the session is removed when the command ends: also by Ctrl-C or another signal, after a start that fails, and
    /// when the reader of standard output has gone.
    #[command(
        after_help = "Examples:\n  kennel run 'make test'\n  kennel run --rm --agent claude 'what does this project do?'\n  \
        kennel run --rm --agent claude 'explain this error' < error.log"
    )]
    Run(Box<Run>),
    /// Show a session's conversation, follow it, and send what you type
    ///
    /// Shows the conversation so far and follows it, on the whole screen of a terminal. Enter sends a prompt; while a turn runs, the
    /// prompt waits in the queue. Answer a permission request by the number of an option, and a form field by field. While a
    /// permission waits, a word like `yes` or an option's name is not sent: attach asks for the number. F1 shows the keys.
    /// One client drives; the others can only read. Ctrl-C aborts the turn that is shown; Ctrl-P Ctrl-Q, or Ctrl-D,
    /// detaches and stops nothing. With --plain, in a pipe and with TERM=dumb, each line that you type is a prompt. At the end of a
    /// pipe or file, attach detaches once no prompt runs or waits. Without an id, a pipe means the session of the current directory, and
    /// starts it if needed.
    #[command(
        after_help = "Examples:\n  kennel attach                      the session of this directory, or the newest\n  \
        kennel attach session-1 --read-only\n  kennel attach ~/src/app --takeover"
    )]
    Attach(Attach),
    /// List, edit and remove waiting prompts
    #[command(subcommand)]
    Queue(Queue),
    /// List and answer permissions that agents ask for
    #[command(subcommand)]
    Permissions(Permissions),
    /// Answer the permission for which a session waits
    ///
    /// `kennel permissions ls` shows what the agent asks for, and the options with their numbers. A session that waits for
    /// several permissions is refused: name the permission then.
    #[command(
        after_help = "Examples:\n  kennel answer session-1 1\n  kennel answer permission-17 allow_once\n  kennel answer session-1 --deny"
    )]
    Answer(Answer),
    /// List or change the settings of a session's agent
    ///
    /// A setting outlives the agent's process: kennel sets it again in the next one.
    #[command(after_help = "Examples:\n  kennel set session-1\n  kennel set session-1 mode=plan model=gpt-5")]
    Set(Set),
    /// List the agents that sessions can be started with
    #[command(subcommand)]
    Agents(Agents),
    /// Log an agent in where the daemon runs, from wherever you are
    ///
    /// Runs the agent's own log-in on the daemon's machine (`login_command` of its profile), shows what it shows, and types what you
    /// type. Open the link that it shows in a browser here. If the browser is then sent to localhost, kennel passes that on; or
    /// paste the address here. What you type is not shown. Ctrl-C ends the log-in, and so do 15 minutes.
    #[command(after_help = "Examples:\n  kennel login codex\n  kennel login claude -H box")]
    Login(Login),
    /// Serve an editor as its ACP agent, on standard input and output
    ///
    /// For Zed, JetBrains, Neovim, Emacs and others. An editor that starts `kennel acp` in place of an agent gets
    /// that agent in a session of kennel's. The session survives crashes of the agent, and goes on when the editor is
    /// closed. Opened again, the editor shows the turns that it missed. Notes go to standard error.
    #[command(
        after_help = "Examples:\n  kennel acp --agent claude                     what an editor's settings name as its agent\n  \
        kennel acp --agent codex --workdir-session    one session for each directory, for ever"
    )]
    Acp(Acp),
    /// Retry or drop an interrupted prompt
    #[command(
        after_help = "Examples:\n  kennel resolve prompt-17 --retry\n  kennel resolve prompt-17 --drop"
    )]
    Resolve(Resolve),
    /// End the running turn and all it started; session and queue stay
    ///
    /// With a prompt's id, kennel ends that prompt's turn and no other: if the turn has ended meanwhile, the next one
    /// goes on and the exit code is 7. Without an id, kennel ends the turn that runs now.
    #[command(after_help = "Examples:\n  kennel abort session-1\n  kennel abort session-1 prompt-17")]
    Abort(Abort),
    /// Stop sessions; returns after all their processes are gone
    #[command(
        after_help = "Examples:\n  kennel stop session-1 session-2\n  kennel stop --pid 4711\n  kennel stop --all"
    )]
    Stop(Stop),
    /// Give sessions a new process and a clean slate
    ///
    /// Cuts a running turn off. --all means every session but those that are stopped or hibernated, and asks first.
    #[command(after_help = "Examples:\n  kennel restart session-1\n  kennel restart --all\n  \
        kennel restart --all --yes --label team=front")]
    Restart(Restart),
    /// Remove stopped sessions and their records
    ///
    /// Removes the git worktree of a sub-agent or fork and its branch with the last session that works there, if every change is
    /// committed and on another branch. Otherwise the worktree stays, and kennel prints the reason. --all means the sessions that are
    /// stopped or failed, with --force all sessions, and asks first.
    #[command(
        visible_alias = "remove",
        after_help = "Examples:\n  kennel rm session-1\n  kennel rm --force session-1\n  \
        kennel rm --all --status stopped\n  kennel rm --all --yes --label team=front"
    )]
    Rm(Rm),
    /// Give a session another name, or another title
    ///
    /// A name stands wherever an id does. No two sessions have the same; a title is free text.
    #[command(after_help = "Examples:\n  kennel rename session-1 web\n  kennel rename web --title landing")]
    Rename(Rename),
    /// Set, remove or list a session's labels
    #[command(
        after_help = "Examples:\n  kennel label web team=front ticket=42\n  kennel label web ticket-\n  kennel label web"
    )]
    Label(Label),
    /// Start a session that goes on from a turn of another
    ///
    /// The new session has the agent, directory and options of the other session. With its first prompt kennel tells the agent the turns
    /// until there: the newest that fit into 256 KiB. The other session does not change. Both sessions work in the same directory, unless
    /// --worktree gives the new one a directory and a branch of its own. Files stay as they are now. Prints the new session's id.
    #[command(
        after_help = "Examples:\n  kennel fork session-1\n  kennel fork session-1 --at 3 --name other-way\n  \
            kennel fork session-1 --worktree"
    )]
    Fork(Fork),
    /// Go on with a conversation that was begun outside kennel
    ///
    /// Starts a session whose agent loads a conversation that it has stored itself, by the agent's own id of it. The agent must support
    /// that, and no other program should go on with the conversation meanwhile. If the agent does not load it, the session fails: an
    /// empty conversation in its place would be a surprise. What the agent tells of earlier turns stands in `kennel transcript`. Prints
    /// the new session's id.
    #[command(after_help = "Examples:\n  kennel adopt --agent codex 019a2b3c-4d5e\n  \
        kennel adopt --agent claude 6f1c9e52-7a44 ~/src/web --name web")]
    Adopt(Adopt),
    /// Keep a session from hibernating
    #[command(after_help = "Example:\n  kennel pin session-1")]
    Pin(OneId),
    /// Let a session hibernate again
    #[command(after_help = "Example:\n  kennel unpin session-1")]
    Unpin(OneId),
    /// Print past events, or follow new ones
    ///
    /// One line an event, cut to the terminal's width; a file or pipe gets whole lines. Times are of this machine's clock.
    #[command(after_help = "Examples:\n  kennel events session-1            all of it, so far\n  \
        kennel events -f                   of all sessions, from now on\n  \
        kennel events --type session.failed,turn.interrupted --since 2d\n  \
        kennel events session-1 -n 20 -f   the newest 20, and what follows\n  \
        kennel events -f --after 0 --json  everything, one object a line")]
    Events(Events),
    /// Read a session's conversation: turns, tools with their changes, times
    ///
    /// Shown through the pager ($PAGER, else less) if standard output is a terminal. Times are of this machine's clock.
    #[command(
        visible_alias = "log",
        after_help = "Examples:\n  kennel transcript session-1\n  kennel transcript session-1 --last 3 -f\n  \
        kennel transcript session-1 --since 2h --format md"
    )]
    Transcript(Transcript),
    /// Search the conversations of all sessions
    ///
    /// Finds prompts, answers, thoughts, tool calls with the beginning of their output, and titles that have all the words, in any order and
    /// case; the newest first. Exits with 1 if nothing is found.
    #[command(
        after_help = "Examples:\n  kennel search deadlock retry\n  kennel search '\"connection refused\"' --kind tool --since 2d\n  \
        kennel search 'migrat*' --session session-1 -n 5"
    )]
    Search(Search),
    /// Write a session's conversation as a document, or its events
    #[command(
        after_help = "Examples:\n  kennel export session-1 > session-1.md\n  kennel export session-1 --format html -o session-1.html\n  \
        kennel export session-1 --format jsonl | gzip > session-1.jsonl.gz"
    )]
    Export(Export),
    /// Print what a session's worker and agent wrote to standard error
    #[command(after_help = "Examples:\n  kennel logs session-1 -n 20\n  kennel logs session-1 -f")]
    Logs(Logs),
    /// Read a session's working directory, as its agent sees it
    ///
    /// A process in the agent's sandbox reads; nothing out of the working directory is read. The session need not run.
    #[command(subcommand)]
    Files(Files),
    /// Wait until sessions are in a state
    ///
    /// Prints the id of each session that gets there, if several are waited for. Ends early where no time would help: a
    /// session was stopped or has failed, and something else is waited for. If only a person can make a session go on,
    /// kennel says what to type, and waits on.
    #[command(
        after_help = "Examples:\n  kennel wait session-1 --until idle --timeout 20s\n  kennel wait session-1 --until stopped\n  \
        kennel wait session-1 --until requires_action,idle\n  \
        kennel wait session-1 session-2 --any --timeout 20s"
    )]
    Wait(Wait),
    /// Start, list and wait for background sub-agents
    #[command(subcommand)]
    Subagent(Subagent),
    /// Offer sub-agents to an agent, over the Model Context Protocol on standard input and output
    ///
    /// kennel starts this server for agents that support MCP servers; `subagents = false` in a profile switches that
    /// off. The server acts for the session whose token is in the file that KENNEL_TOKEN_FILE names.
    #[command(after_help = "Example:\n  kennel mcp")]
    Mcp,
    /// Print a session's token, a secret
    ///
    /// The token permits everything with this session and nothing with other sessions.
    #[command(after_help = "Examples:\n  kennel token session-1\n  kennel token session-1 --viewer")]
    Token(TokenArgs),
    /// Let a device in: show an address, a fingerprint and a secret, and wait for it
    ///
    /// The device makes a key of its own and sends it with the secret, which is good for one device and ten minutes. Five wrong
    /// secrets end the pairing. Without options the device may start and drive all sessions, for ever. A daemon that is
    /// replaced knows of no pairing.
    #[command(
        after_help = "Examples:\n  kennel pair\n  kennel pair --name phone --role viewer --expires 90d\n  \
        kennel pair --address box.example:7443 --no-wait"
    )]
    Pair(Pair),
    /// Open the web page in a browser, logged in
    ///
    /// Makes a link that is good for one browser and five minutes. The browser gets a key of its own (`kennel key ls`), for 30
    /// days and with role driver unless you say otherwise. The first call opens a port for this machine alone, whose address
    /// stays the same until --stop, also with the next daemon. Without a display, and with --json, nothing is opened and the link
    /// is printed. The link is a secret.
    #[command(
        after_help = "Examples:\n  kennel web\n  kennel web --print\n  kennel web --role viewer --expires 7d\n  \
        kennel web --phone\n  kennel web --stop"
    )]
    Web(Web),
    /// List, make, revoke and rotate keys of devices
    #[command(subcommand)]
    Key(Key),
    /// Name the machines on which other daemons run
    #[command(subcommand)]
    Host(Host),
    /// Relay the requests of a kennel on another machine, over standard input and output
    ///
    /// `kennel -H ssh://...` runs it on the host, by ssh. It starts the daemon when a request needs one, and ends with its
    /// input.
    #[command(hide = true, after_help = "Example:\n  kennel connect-stdio")]
    ConnectStdio,
    /// Run, inspect and stop the daemon
    #[command(subcommand)]
    Daemon(Daemon),
    /// Show how much disk space the state directory uses, by kind and by session
    #[command(
        after_help = "Examples:\n  kennel df\n  kennel df --all\n  kennel df --json | jq '.sessions[] | select(.event_bytes > 1e6) | .id'"
    )]
    Df(Df),
    /// Remove old history and files that nothing uses any more
    ///
    /// Prints what would be removed, and asks. Removes history by whole turns, the oldest first. Keeps prompts that
    /// run, wait or may be resolved, the newest turn, and the turns that kennel replays to an agent that lost its
    /// conversation. Sessions stay; `kennel rm` removes those. The journal's file keeps its length; new records fill
    /// it again. Removes git worktrees of sub-agents and forks with their branches, if no session or process works there and
    /// every commit is on another branch. Uncommitted files keep a worktree; ignored files are removed with it.
    #[command(
        after_help = "Examples:\n  kennel prune\n  kennel prune --older-than 90d\n  kennel prune --max-size 2GiB --dry-run\n  \
        kennel prune --damaged --force"
    )]
    Prune(Prune),
    /// Check this machine for problems and print fixes
    ///
    /// Changes nothing, and starts no daemon. Exits with 1 if a check finds that kennel cannot keep a promise.
    #[command(
        after_help = "Examples:\n  kennel doctor\n  kennel doctor --json | jq '.[] | select(.health != \"ok\")'"
    )]
    Doctor,
    /// Print the script by which a shell completes kennel's command lines
    ///
    /// The shell then completes commands and options, and asks the daemon, if it runs, for sessions, agents, keys, permissions,
    /// prompts, labels and settings. The daemon of another machine is not asked. The script says where it belongs.
    #[command(
        after_help = "Examples:\n  kennel completion bash\n  kennel completion zsh > ~/.zfunc/_kennel\n  \
        kennel completion fish > ~/.config/fish/completions/kennel.fish"
    )]
    Completion(Completion),
    /// Print the manual page, or write one for each command
    #[command(after_help = "Examples:\n  kennel man > kennel.1\n  kennel man ~/.local/share/man/man1")]
    Man(Man),
}

/// `login`.
#[derive(Debug, Args)]
pub struct Login {
    /// The agent: a name of `kennel agents ls`
    #[arg(value_name = "AGENT")]
    pub agent: String,
    /// End the log-in of this agent that runs, and begin anew
    #[arg(long)]
    pub take_over: bool,
}

/// One session.
#[derive(Debug, Args)]
pub struct OneId {
    /// The session: its id, its name, or the beginning of exactly one
    #[arg(value_name = "ID")]
    pub id: String,
}
