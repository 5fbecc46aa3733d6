//! The inputs of the table, each with its title and its time.

use harness::sample::ask;
use manager::core::{At, Command, Input, NewPrompt, Seen, Session};
use protocol::api::{PermissionAnswer, Role, WhenBusy};
use protocol::event::Resolution;
use protocol::wire::{
    AgentDetails, Attachment, AttachmentKind, Content, RemoteServer, Setting, Spent, Transport, TurnEnd,
    Update,
};
use protocol::{
    CallId, Exit, Keeper, Level, LimitedBy, PermissionId, PromptId, Restore, Sandbox, SandboxBy, Sandboxed,
    Stream,
};
use serde_json::json;

use super::sessions::{attach, gone, result, worker};
use super::{DRIVER, INCARNATION, INTERRUPTED, NOW, OPEN, OPEN_CALL, QUEUED, RUNNING, SETTLED, VIEWER, WALL};

const UNKNOWN: PromptId = PromptId(99);

const NEVER: PermissionId = PermissionId(99);

fn with_file() -> NewPrompt {
    let file = Attachment {
        kind: AttachmentKind::File,
        name: "notes".into(),
        mime_type: "text/plain".into(),
        uri: "attachment:notes".into(),
        content: Content::Text("words".into()),
    };
    NewPrompt { attachments: [file].into(), ..NewPrompt::text("new", WhenBusy::Queue) }
}

type Inputs = Vec<(&'static str, At, Input)>;

const HERE: At = At { mono: NOW, wall: WALL, closing: false };

fn command(name: &'static str, command: Command) -> (&'static str, At, Input) {
    (name, HERE, Input::Command(command))
}

fn seen(name: &'static str, seen: Seen) -> (&'static str, At, Input) {
    (name, HERE, Input::Seen(INCARNATION, seen))
}

/// Returns all inputs of the table, in its order.
pub fn inputs(session: &Session) -> Inputs {
    [
        of_the_operator(),
        of_clients(),
        of_turns(),
        of_the_agent(),
        of_updates(),
        of_its_life(),
        of_the_link(),
        of_the_manager(session),
    ]
    .concat()
}

/// Commands about the session and its prompts.
fn of_the_operator() -> Inputs {
    let named = |option: &str| PermissionAnswer::Option(option.into());
    let new = |when_busy| Command::Prompt(NewPrompt::text("new", when_busy));
    vec![
        command("up", Command::Up),
        command("stop", Command::Stop),
        command("restart", Command::Restart),
        command("prompt", new(WhenBusy::Queue)),
        command("prompt, reject if busy", new(WhenBusy::Reject)),
        command("prompt, interrupt if busy", new(WhenBusy::Interrupt)),
        command("prompt, with a file", Command::Prompt(with_file())),
        command("abort", Command::Abort),
        command("abort prompt-7", Command::AbortOnly(RUNNING)),
        command("abort prompt-8, which waits", Command::AbortOnly(QUEUED)),
        command("pin", Command::Pin(true)),
        command("unpin", Command::Pin(false)),
        command("edit prompt-8", Command::Edit(QUEUED, "new".into())),
        command("edit prompt-7", Command::Edit(RUNNING, "new".into())),
        command("remove prompt-8", Command::Remove(QUEUED)),
        command("remove prompt-99", Command::Remove(UNKNOWN)),
        command("clear", Command::Clear),
        command("resolve prompt-3, retry", Command::Resolve(INTERRUPTED, Resolution::Retry)),
        command("resolve prompt-3, drop", Command::Resolve(INTERRUPTED, Resolution::Drop)),
        command("resolve prompt-8, drop", Command::Resolve(QUEUED, Resolution::Drop)),
        command("permit permission-12, allow", Command::Permit(OPEN, PermissionAnswer::Allow)),
        command("permit permission-12, deny", Command::Permit(OPEN, PermissionAnswer::Deny)),
        command("permit permission-12, an option it has", Command::Permit(OPEN, named("reject_once"))),
        command("permit permission-12, an option it has not", Command::Permit(OPEN, named("allow_always"))),
        command("permit permission-11, allow", Command::Permit(SETTLED, PermissionAnswer::Allow)),
        command("permit permission-99, allow", Command::Permit(NEVER, PermissionAnswer::Allow)),
        command("attach, to drive", attach(Role::Driver, false)),
        command("attach, to drive instead", attach(Role::Driver, true)),
        command("attach, to look on", attach(Role::Viewer, false)),
        command("detach client 20", Command::Detach(DRIVER)),
        command("client 20 leaves", Command::Leave { client: DRIVER, seat: None }),
        command("set", Command::Set(setting())),
        command("add servers", servers()),
        command("answer call-13, by nobody", Command::AnswerCall(OPEN_CALL, result())),
    ]
}

/// Commands of attached clients.
fn of_clients() -> Inputs {
    vec![
        (
            "answer call-13 by client 20",
            HERE,
            Input::CommandBy(DRIVER, Command::AnswerCall(OPEN_CALL, result())),
        ),
        (
            "answer call-13 by client 21",
            HERE,
            Input::CommandBy(VIEWER, Command::AnswerCall(OPEN_CALL, result())),
        ),
        (
            "answer call-99 by client 20",
            HERE,
            Input::CommandBy(DRIVER, Command::AnswerCall(CallId(99), result())),
        ),
        ("abort by client 20", HERE, Input::CommandBy(DRIVER, Command::Abort)),
        ("abort by client 21", HERE, Input::CommandBy(VIEWER, Command::Abort)),
    ]
}

/// Reports about starts, output and ends of turns.
fn of_turns() -> Inputs {
    let ended =
        |end, left_behind| Seen::TurnEnded { prompt: RUNNING, end, exit: Some(Exit::Code(0)), left_behind };
    let other_ended = Seen::TurnEnded {
        prompt: UNKNOWN,
        end: TurnEnd::Finished,
        exit: Some(Exit::Code(0)),
        left_behind: 1,
    };
    let output = |prompt| Seen::Output { prompt, stream: Stream::Stdout, text: "hi".into() };
    let failed = |no_room| Seen::SpawnFailed { error: "no".into(), no_room };
    vec![
        seen("spawned", Seen::Spawned(worker())),
        seen("spawn failed", failed(false)),
        seen("spawn failed, no room", failed(true)),
        seen("spare lost", Seen::SpareLost),
        seen("ready", Seen::Ready { restore: Restore::Fresh, agent_pid: None }),
        seen("turn started", Seen::TurnStarted { prompt: RUNNING, agent_pid: 401 }),
        seen("turn started, another prompt", Seen::TurnStarted { prompt: UNKNOWN, agent_pid: 401 }),
        seen("output", output(RUNNING)),
        seen("output, another prompt", output(UNKNOWN)),
        seen("turn finished", ended(TurnEnd::Finished, 0)),
        seen("turn finished, another prompt", other_ended),
        seen("turn finished, processes left", ended(TurnEnd::Finished, 2)),
        seen("turn aborted", ended(TurnEnd::Aborted, 0)),
        seen("turn failed", ended(TurnEnd::Failed { message: "no agent".into() }, 0)),
        seen("turn whose program did not run", ended(TurnEnd::NotRun { message: "no program".into() }, 0)),
        seen("turn stopped by the agent", ended(TurnEnd::Stopped { reason: "max_tokens".into() }, 0)),
    ]
}

/// Reports of what the agent asks of clients, and of what it is.
fn of_the_agent() -> Inputs {
    let called = |client, method: &str| {
        let method = method.to_owned();
        Seen::CallAsked { prompt: RUNNING, request: 4, client, method, payload: json!({}) }
    };
    vec![
        seen("call, of client 20", called(Some(DRIVER), "fs/read_text_file")),
        seen("call, of client 19, which went", called(Some(19), "fs/read_text_file")),
        seen("call, of client 20, which did not offer it", called(Some(DRIVER), "terminal/create")),
        seen("call, a question to the user", called(None, "elicitation/create")),
        seen("setting 3 is set", Seen::SettingAnswered { request: 3, answer: Ok(json!({})) }),
        seen("setting 3 is refused", Seen::SettingAnswered { request: 3, answer: Err("no".into()) }),
        seen(
            "setting 9 is set, of which nobody knows",
            Seen::SettingAnswered { request: 9, answer: Ok(json!({})) },
        ),
        seen("agent session", Seen::AgentSession("conversation-1".into())),
        seen("contained by a namespace", Seen::Contained(Level::PidNamespace)),
        seen(
            "in a sandbox",
            Seen::Sandboxed(Sandboxed { sandbox: Sandbox::Strict, by: SandboxBy::Bubblewrap }),
        ),
        seen(
            "limited by a control group",
            Seen::Limited(LimitedBy { memory: Some(Keeper::CgroupV2), ..LimitedBy::default() }),
        ),
        seen(
            "out of memory",
            Seen::OutOfMemory { peak_bytes: Some(70_000), limit_bytes: 65_536, by: Keeper::CgroupV2 },
        ),
        seen(
            "introduced",
            Seen::Introduced(AgentDetails {
                name: None,
                version: Some("1.2".into()),
                resume: true,
                load: true,
            }),
        ),
    ]
}

/// Updates and permissions of the agent.
fn of_updates() -> Inputs {
    let updated = |prompt, update| Seen::Updated { prompt, update, payload: json!({}) };
    let tool = Update::ToolCall { id: "call-1".into(), title: "Write notes.txt".into(), ended: false };
    let tool_goes_on = |ended| Update::ToolCallUpdate { id: "call-1".into(), ended };
    let usage = Update::Usage(Spent { input_tokens: Some(5), ..Spent::default() });
    let asked = |prompt| {
        let payload = json!({ "toolCall": { "rawInput": { "command": "tee notes.txt" } } });
        Seen::PermissionAsked { prompt: Some(prompt), request: 3, ask: ask(), payload }
    };
    vec![
        seen("message", updated(Some(RUNNING), Update::Message { text: "hi".into() })),
        seen("message, no prompt", updated(None, Update::Message { text: "hi".into() })),
        seen("thought", updated(Some(RUNNING), Update::Thought { text: "hm".into() })),
        seen("tool call", updated(Some(RUNNING), tool)),
        seen("tool call goes on", updated(Some(RUNNING), tool_goes_on(false))),
        seen("tool call ends", updated(Some(RUNNING), tool_goes_on(true))),
        seen("plan", updated(Some(RUNNING), Update::Plan)),
        seen("usage", updated(Some(RUNNING), usage)),
        seen("another update, no prompt", updated(None, Update::Other)),
        seen("permission asked", asked(RUNNING)),
        seen("permission asked, another prompt", asked(UNKNOWN)),
        seen(
            "permission asked, between turns",
            Seen::PermissionAsked { prompt: None, request: 3, ask: ask(), payload: json!({}) },
        ),
    ]
}

/// Reports about the agent's life.
fn of_its_life() -> Inputs {
    vec![
        seen("alive, and used the processor", Seen::Alive { cpu_ms: 7_200, commands: 0 }),
        seen("alive, and used it hardly", Seen::Alive { cpu_ms: 7_100, commands: 0 }),
        seen("alive, and runs a command", Seen::Alive { cpu_ms: 7_000, commands: 1 }),
        seen("notice", Seen::Notice("there is a newer agent".into())),
        seen("agent died", Seen::AgentDied("the agent ended".into())),
        seen("not run, and that may pass", Seen::NotRun { message: "no program".into(), passes: true }),
        seen("program found elsewhere", Seen::Program("/opt/v2/agent".into())),
        seen("login needed", Seen::LoginNeeded("log in".into())),
    ]
}

/// Reports about the worker's link and death.
fn of_the_link() -> Inputs {
    let closing = At { closing: true, ..HERE };
    vec![
        seen("linked", Seen::Linked { outdated: false }),
        seen("linked, of another version", Seen::Linked { outdated: true }),
        seen("handed over", Seen::Handed(RUNNING)),
        seen("handed over, another prompt", Seen::Handed(UNKNOWN)),
        seen("heard", Seen::Heard(6)),
        seen("faulted", Seen::Faulted("it babbled".into())),
        seen("gone, exit status 0", gone(Exit::Code(0))),
        seen("gone, SIGKILL", gone(Exit::Signal(9))),
        seen(
            "gone, survivors",
            Seen::Gone { exit: Exit::Unknown, last_words: Vec::new(), survivors: vec![402] },
        ),
        ("gone, an earlier incarnation", HERE, Input::Seen(INCARNATION - 1, gone(Exit::Signal(9)))),
        ("gone, SIGKILL, manager closing", closing, Input::Seen(INCARNATION, gone(Exit::Signal(9)))),
    ]
}

/// Inputs of the manager itself, and of time.
fn of_the_manager(session: &Session) -> Inputs {
    let closing = At { closing: true, ..HERE };
    let deadline = session.deadline();
    let early = At { mono: deadline.map_or(NOW, |deadline| deadline - 1), ..HERE };
    let due = At { mono: deadline.unwrap_or(NOW + 86_400_000), ..HERE };
    vec![
        ("manager started, same boot", HERE, Input::Recovered { same_boot: true }),
        ("manager started, other boot", HERE, Input::Recovered { same_boot: false }),
        ("manager shuts down", closing, Input::Shutdown),
        ("time, before the deadline", early, Input::Tick),
        ("time", due, Input::Tick),
        ("time, manager closing", At { closing: true, ..due }, Input::Tick),
        ("a sub-agent begins", HERE, Input::OpenTasks(1)),
        ("a sub-agent ends", HERE, Input::OpenTasks(-1)),
    ]
}

pub fn servers() -> Command {
    let remote = RemoteServer {
        name: "docs".into(),
        transport: Transport::Http,
        url: "https://docs.example".into(),
        headers: Vec::new(),
    };
    Command::AddServers { programs: Vec::new(), remote: vec![remote] }
}

fn setting() -> Setting {
    Setting { name: "mode".into(), value: "code".into() }
}
