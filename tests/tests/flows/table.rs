//! Each example, what it needs, how it ends, and what it shows.

/// The end of a flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// By itself, with this exit code.
    Code(i32),
    /// By Ctrl-D in a terminal, and at the end of its input without one, once it has shown this.
    Input(&'static str),
    /// The same, and it refuses to go on without an answer to what it has shown.
    Unanswered(&'static str),
    /// By Ctrl-C in a terminal, and by SIGINT without one, once it has shown this.
    Signal(&'static str),
}

pub use End::{Code, Input, Signal as Interrupt, Unanswered};

/// The state that an example needs before it works.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Before {
    /// No daemon yet.
    Nothing,
    /// `session-1` of this directory, `session-2` its sub-agent, both idle.
    Sessions,
    /// The same, in a git repository.
    Repository,
    /// The same as `Sessions`, and `session-1` is stopped.
    Stopped,
    /// The same as `Sessions`, and prompt-17 runs, prompt-18 waits.
    Running,
    /// The same, and prompt-17 was interrupted by a crash.
    Interrupted,
    /// `session-1` has an agent that asks for permission-17.
    Asking,
    /// `session-1` has an agent with settings.
    Settings,
    /// A key, key-1.
    Key,
}

pub use Before::{Asking, Interrupted, Key, Nothing, Repository, Running, Sessions, Settings, Stopped};

/// An example as it is typed, what it needs, how it ends, and what is shown.
pub const FLOWS: &[(&str, Before, End, &str)] = &[
    ("kennel start --title mine", Nothing, Code(0), "session-1"),
    ("kennel start --title demo", Nothing, Code(0), "session-1"),
    ("kennel send session-1 'make test'", Sessions, Code(0), "made test"),
    ("kennel send session-1 'echo hello'", Sessions, Code(0), "hello"),
    ("kill -9 20004", Sessions, Code(0), ""),
    ("kennel attach session-1", Sessions, Input(""), ""),
    ("kennel ls", Sessions, Code(0), "session-1"),
    ("kennel events session-1", Sessions, Code(0), "session.created"),
    ("kennel stop session-1", Sessions, Code(0), "session-1"),
    (
        "npm install -g @openai/codex @agentclientprotocol/codex-acp && codex login",
        Nothing,
        Code(0),
        "npm install",
    ),
    ("kennel start --agent codex", Nothing, Code(0), "session-1"),
    ("kennel send session-2 'what does this project do?'", Settings, Code(0), "heard"),
    (
        "curl --unix-socket \"$(cat ~/.local/state/kennel/address)\" http://kennel/v1/sessions",
        Sessions,
        Code(0),
        "session-1",
    ),
    ("kennel demo", Nothing, Code(0), "kill"),
    ("kennel start", Nothing, Code(0), "session-1"),
    ("kennel start --title build --agent claude --dir ~/src/app", Nothing, Code(0), "session-1"),
    ("kennel start --id ci --env RUST_LOG=debug --on-crash retry", Nothing, Code(0), "ci"),
    ("kennel ensure", Nothing, Code(0), "workdir-"),
    ("kennel ensure ~/src/app --agent claude", Nothing, Code(0), "workdir-"),
    ("kennel ensure --id ci --timeout 1m", Nothing, Code(0), "ci"),
    ("kennel ls --all", Sessions, Code(0), "session-1"),
    ("kennel ls --tree", Sessions, Code(0), "session-1"),
    ("kennel ls --json | jq '.[].id'", Sessions, Code(0), "\"session-1\""),
    ("kennel ls --all-hosts", Sessions, Code(0), "session-1"),
    ("kennel -H box ls", Sessions, Code(0), "session-1"),
    ("kennel -H ssh://ada@box.example ls", Sessions, Code(0), "session-1"),
    ("kennel -H ssh://ada@box.example start --dir src/app --title build", Nothing, Code(0), "session-1"),
    ("kennel attach ssh://ada@box.example/~/src/app", Sessions, Input(""), ""),
    ("kennel host add box ssh://ada@box.example", Nothing, Code(0), "box"),
    (
        "kennel host add lab ssh://lab:2222/srv/kennel --kennel /opt/kennel/bin/kennel",
        Nothing,
        Code(0),
        "lab",
    ),
    ("kennel host add work tls://kennel.work.example --ca work-ca.pem", Nothing, Code(0), "work"),
    ("kennel host pair lab", Nothing, Unanswered("ticket"), "ticket"),
    ("kennel host pair lab < ticket.txt", Nothing, Code(6), "tls://127.0.0.1:1"),
    (
        "kennel host pair lab tls://lab.example:7443 --fingerprint \
         SHA256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        Nothing,
        Unanswered("secret"),
        "secret",
    ),
    ("kennel host ls", Nothing, Code(0), "box.example"),
    ("kennel host use box", Nothing, Code(0), "box"),
    ("kennel host use local", Nothing, Code(0), "local"),
    ("kennel host rm box", Nothing, Code(0), "box"),
    ("kennel show session-1", Sessions, Code(0), "status:"),
    ("kennel show session-1 --json | jq .pid", Sessions, Code(0), ""),
    ("kennel id --dir ~/src/app", Nothing, Code(0), "workdir-"),
    ("kennel id --pid 4711", Sessions, Code(0), "session-1"),
    ("kennel send session-1 < prompt.txt", Sessions, Code(0), "from a file"),
    ("kennel send session-1 --no-wait --when-busy reject 'make test'", Sessions, Code(0), "prompt-"),
    ("kennel attach", Sessions, Input(""), ""),
    ("kennel attach session-1 --read-only", Sessions, Input(""), ""),
    ("kennel attach ~/src/app --takeover", Sessions, Input(""), ""),
    ("kennel queue ls session-1", Running, Code(0), "prompt-"),
    ("kennel queue edit session-1 prompt-17 'make check'", Running, Code(0), ""),
    ("kennel queue rm session-1 prompt-17", Running, Code(0), ""),
    ("kennel queue clear session-1", Running, Code(0), ""),
    ("kennel permissions ls", Asking, Code(0), "permission-"),
    ("kennel permissions allow permission-17", Asking, Code(0), ""),
    ("kennel permissions allow permission-17 --option always", Asking, Code(0), ""),
    ("kennel permissions deny permission-17", Asking, Code(0), ""),
    ("kennel set session-1", Settings, Code(0), "mode"),
    ("kennel set session-1 mode=plan model=gpt-5", Settings, Code(0), ""),
    ("kennel agents ls", Nothing, Code(0), "claude"),
    ("kennel agents ls codex --probe", Nothing, Code(0), "codex"),
    ("kennel login codex", Nothing, Code(0), "codex login"),
    ("kennel login claude -H box", Nothing, Code(0), "claude auth login"),
    ("kennel -H box login claude", Nothing, Code(0), "claude auth login"),
    ("kennel acp --agent claude", Nothing, Input(""), ""),
    ("kennel acp --agent codex --workdir-session", Nothing, Input(""), ""),
    ("kennel resolve prompt-17 --retry", Interrupted, Code(0), ""),
    ("kennel resolve prompt-17 --drop", Interrupted, Code(0), ""),
    ("kennel abort session-1", Running, Code(0), ""),
    ("kennel abort session-1 prompt-17", Running, Code(0), ""),
    ("kennel stop session-1 session-2", Sessions, Code(0), "session-2"),
    ("kennel stop --pid 4711", Sessions, Code(0), "session-1"),
    ("kennel stop --all", Sessions, Code(0), "session-1"),
    ("kennel restart session-1", Sessions, Code(0), "session-1"),
    ("kennel rm session-1", Stopped, Code(0), "session-1"),
    ("kennel rm --force session-1", Sessions, Code(0), "session-1"),
    ("kennel pin session-1", Sessions, Code(0), "session-1"),
    ("kennel unpin session-1", Sessions, Code(0), "session-1"),
    ("kennel transcript session-1", Sessions, Code(0), ""),
    ("kennel transcript session-1 --last 3 -f", Sessions, Interrupt(""), ""),
    ("kennel transcript session-1 --since 2h", Sessions, Code(0), ""),
    ("kennel transcript session-1 --since 2h --format md", Sessions, Code(0), "# session-1"),
    ("kennel export session-1 > session-1.md", Sessions, Code(0), ""),
    ("kennel export session-1 --format html -o session-1.html", Sessions, Code(0), ""),
    ("kennel export session-1 --format jsonl | gzip > session-1.jsonl.gz", Sessions, Code(0), ""),
    ("kennel events -f", Sessions, Interrupt(""), ""),
    ("kennel events -f --after 0 --json", Sessions, Interrupt("session.created"), ""),
    ("kennel logs session-1 -n 20", Sessions, Code(0), ""),
    ("kennel files ls session-1", Sessions, Code(0), "README.md"),
    ("kennel files ls session-1 src --json | jq '.entries[].name'", Sessions, Code(0), ""),
    ("kennel files cat session-1 README.md", Sessions, Code(0), ""),
    ("kennel files cat session-1 logo.png > logo.png", Sessions, Code(0), ""),
    ("kennel files diff session-1 --stat", Repository, Code(0), ""),
    ("kennel files diff session-1 src > changes.patch", Repository, Code(0), ""),
    ("kennel -H box files diff session-1 --stat", Repository, Code(0), ""),
    ("kennel -H box files diff session-1 src", Repository, Code(0), ""),
    ("kennel -H box files ls session-1 src", Sessions, Code(0), "app"),
    ("kennel -H box files cat session-1 README.md", Sessions, Code(0), ""),
    ("kennel wait session-1 --until idle --timeout 20s", Sessions, Code(0), ""),
    ("kennel wait session-1 --until stopped", Stopped, Code(0), ""),
    ("kennel wait session-1 --until requires_action", Asking, Code(0), ""),
    ("kennel subagent start --parent session-1 'make test'", Sessions, Code(0), "session-"),
    ("kennel subagent ls --parent session-1", Sessions, Code(0), "session-2"),
    ("kennel subagent wait session-2", Sessions, Code(0), "below"),
    ("kennel subagent result session-2", Sessions, Code(0), "below"),
    ("kennel mcp", Nothing, Code(2), "KENNEL_TOKEN_FILE"),
    ("kennel token session-1", Sessions, Code(0), ""),
    ("kennel token session-1 --viewer", Sessions, Code(0), ""),
    ("kennel key ls", Key, Code(0), "key-1"),
    ("kennel key create ci --own --expires 30d", Nothing, Code(0), "kk_"),
    ("kennel key create dashboard --role viewer", Nothing, Code(0), "kk_"),
    ("kennel key create helper --session session-1 --session session-2", Sessions, Code(0), "kk_"),
    ("kennel key revoke key-1", Key, Code(0), "key-1"),
    ("kennel key rotate key-1", Key, Code(0), "kk_"),
    // Without a port no device can come.
    ("kennel pair", Nothing, Code(1), "[listen]"),
    ("kennel pair --name phone --role viewer --expires 90d", Nothing, Code(1), "[listen]"),
    ("kennel pair --address box.example:7443 --no-wait", Nothing, Code(1), "[listen]"),
    ("kennel daemon run", Nothing, Interrupt("serves"), ""),
    ("kennel daemon start", Nothing, Code(0), "running"),
    ("kennel daemon stop", Sessions, Code(0), "stopped"),
    ("kennel daemon status", Sessions, Code(0), "running"),
    ("kennel daemon status --json | jq .pid", Sessions, Code(0), ""),
    ("kennel daemon restart", Sessions, Code(0), "running"),
    ("kennel daemon upgrade", Sessions, Code(0), "running"),
    ("kennel daemon check", Sessions, Code(0), "can be read"),
    ("kennel daemon unit > ~/.config/systemd/user/kennel.service", Nothing, Code(0), ""),
    ("kennel df", Sessions, Code(0), "journal"),
    ("kennel df --all", Sessions, Code(0), "journal"),
    ("kennel df --json | jq '.sessions[] | select(.event_bytes > 1e6) | .id'", Sessions, Code(0), ""),
    ("kennel prune", Sessions, Code(0), "nothing to remove"),
    ("kennel prune --older-than 90d", Sessions, Code(0), "nothing to remove"),
    ("kennel prune --max-size 2GiB --dry-run", Sessions, Code(0), "nothing to remove"),
    ("kennel prune --damaged --force", Sessions, Code(0), "nothing to remove"),
    ("kennel doctor", Sessions, Code(0), "journal"),
    ("kennel doctor --json | jq '.[] | select(.health != \"ok\")'", Sessions, Code(0), ""),
];

/// Those that print a list: no line is wider than the terminal.
pub const LISTS: &[&str] = &[
    "kennel ls",
    "kennel queue ls",
    "kennel permissions ls",
    "kennel agents ls",
    "kennel set session-1",
    "kennel df",
    "kennel subagent ls",
    "kennel prune",
    "kennel doctor",
    "kennel events",
];
