//! Sessions for tests of the core.

use std::sync::Arc;

use manager::core::{
    Ask, At, Command, Edit, Fork, NewPrompt, Permissions, Phase, Prompt, RestartPolicy, Seen, Session, Spec,
    State, Turn,
};
use protocol::api::{OnCrash, ToldTurn, WhenBusy};
use protocol::wire::{Agent, PermissionAsk, PermissionOption};
use protocol::{Exit, Identity, PromptId, SessionId};

/// A moment. The two clocks differ, so that a mix-up of them fails a test.
pub const AT: At = At { mono: 5_000_000, wall: 1_700_000_000_000, closing: false };

/// A shell with the settings that most tests want.
pub fn spec() -> Spec {
    Spec {
        agent_name: "shell".into(),
        agent: Agent::Shell,
        program: None,
        name: None,
        labels: Default::default(),
        title: None,
        model: None,
        workdir: "/".into(),
        start_commit: None,
        forked_from: None,
        conversation: None,
        env: Default::default(),
        env_pass: Default::default(),
        env_named: Default::default(),
        restart: RestartPolicy::default(),
        on_crash: OnCrash::Interrupt,
        hibernate_after_ms: 600_000,
        grace_ms: 2_000,
        worker_timeout_ms: 30_000,
        start_timeout_ms: None,
        turn_timeout_ms: 0,
        stall_timeout_ms: None,
        limits: Default::default(),
        umask: None,
        permissions: Permissions::default(),
        subagents: Default::default(),
        remote_servers: Vec::new(),
        containment: Default::default(),
        walls: None,
        offers: Vec::new(),
    }
}

/// The same, with an agent that lives between prompts.
pub fn acp_spec() -> Spec {
    let agent = Agent::Acp { argv: vec!["/usr/bin/agent".into()], login: None, mcp_servers: Vec::new() };
    Spec { agent_name: "agent".into(), agent, ..spec() }
}

/// Options of these kinds, each with its kind for an id.
pub fn options(kinds: &[&str]) -> Vec<PermissionOption> {
    let option = |kind: &&str| {
        let (id, name, kind) = ((*kind).into(), format!("to {kind}"), (*kind).into());
        PermissionOption { id, name, kind }
    };
    kinds.iter().map(option).collect()
}

/// Returns an agent's request before it writes a file.
pub fn ask() -> PermissionAsk {
    PermissionAsk {
        tool_call: "call-1".into(),
        title: "Write notes.txt".into(),
        kind: Some("edit".into()),
        paths: vec!["/srv/app/notes.txt".into()],
        options: options(&["allow_once", "allow_always", "reject_once", "reject_always"]),
    }
}

/// The id of this name.
pub fn id(name: &str) -> SessionId {
    name.parse().unwrap()
}

/// A request for a fork at a turn, with something to tell of it or nothing.
pub fn fork(origin: SessionId, turn: u64, is_on_record: bool) -> Ask {
    let turns = vec![ToldTurn { prompt: "before".into(), reply: "said".into() }];
    let told = is_on_record.then_some(turns);
    let (workdir, start_commit, id, called) = (None, None, None, Edit::default());
    Ask::Fork(Box::new(Fork { origin, turn, told, workdir, start_commit, id, called }))
}

/// A process.
pub fn identity(pid: u32) -> Identity {
    Identity { pid, start_time: 1, boot_id: "boot".into() }
}

/// A session of this name that came to this state in its first incarnation.
pub fn session(name: &str, state: State) -> Session {
    Session { state, ..Session::new(id(name), Arc::new(spec()), AT, 0) }
}

/// Idle, with the worker 100.
pub fn ready() -> State {
    State::Ready { worker: identity(100), agent_pid: None, idle_since: AT.mono }
}

/// A prompt that was accepted.
pub fn prompt(id: u64, text: &str) -> Prompt {
    Prompt::text(PromptId(id), text)
}

/// The wish that a prompt be accepted.
pub fn new_prompt(text: &str) -> Command {
    Command::Prompt(NewPrompt::text(text, WhenBusy::Queue))
}

/// A session's first turn, of prompt 7.
pub fn turn(phase: Phase) -> Option<Turn> {
    let (open, answers, tools) = (Vec::new(), Vec::new(), Vec::new());
    Some(Turn {
        number: 1,
        prompt: prompt(7, "runs"),
        phase,
        spoke: false,
        acted: false,
        open,
        answers,
        tools,
        calls: Default::default(),
        until: None,
        timed_out: false,
        recorded: 0,
        asked: 0,
        quiet: Default::default(),
    })
}

/// The end of a process that leaves nothing.
pub fn gone(exit: Exit) -> Seen {
    Seen::Gone { exit, last_words: Vec::new(), survivors: Vec::new() }
}
