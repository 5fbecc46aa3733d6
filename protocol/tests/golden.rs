//! The bytes of every message of every protocol version, as they were when that version was new. A change that
//! alters one breaks workers of the other side's version: append a variant instead.
//!
//! `golden/vN.txt` has a line for each message that version N brought: its name, a space, the frame in hex. With
//! `UPDATE_GOLDEN=1` messages that are in no file are added to the newest; no line is ever changed.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use protocol::frame::{self, Decoder};
use protocol::wire::*;
use protocol::{
    Exit, Granted, Groups, Keeper, Level, LimitedBy, Limits, PromptId, Restore, Sandbox, SandboxBy,
    Sandboxed, SessionId, Stream, Walls, WallsOfVersion3,
};

fn frame_of<T: serde::Serialize>(message: &T) -> String {
    let mut bytes = Vec::new();
    frame::encode(message, &mut bytes).unwrap();
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn welcomes() -> Vec<(&'static str, Command)> {
    let welcome = |agent| {
        Command::Welcome(Box::new(Welcome {
            protocol: 1,
            session: "session-7".parse::<SessionId>().unwrap(),
            resume_from: 41,
            marker: "0b5e/session-7/3".into(),
            workdir: "/srv/app".into(),
            env: vec![("PATH".into(), "/usr/bin".into())],
            agent,
            grace_ms: 2000,
        }))
    };
    let command = |prompt_via, transcript| Agent::Command {
        argv: vec!["/usr/bin/claude".into(), "-p".into()],
        prompt_via,
        transcript,
    };
    let server = McpServer {
        name: "files".into(),
        command: "/usr/bin/mcp-files".into(),
        args: vec!["--read-only".into()],
        env: vec![("ROOT".into(), "/srv/app".into())],
    };
    let acp = Agent::Acp {
        argv: vec!["/usr/bin/gemini".into(), "--acp".into()],
        login: Some("oauth-personal".into()),
        mcp_servers: vec![server],
    };
    let acp_bare = Agent::Acp { argv: vec!["/usr/bin/gemini".into()], login: None, mcp_servers: Vec::new() };
    vec![
        ("welcome-shell", welcome(Agent::Shell)),
        ("welcome-command-stdin", welcome(command(PromptVia::Stdin, true))),
        ("welcome-command-argument", welcome(command(PromptVia::Argument, false))),
        ("welcome-acp", welcome(acp)),
        ("welcome-acp-bare", welcome(acp_bare)),
    ]
}

fn turns() -> Vec<(&'static str, Command)> {
    let exchange = Exchange { prompt: "before".into(), reply: "answer".into() };
    let prompt = Command::Prompt { prompt: PromptId(17), text: "echo ä".into(), history: vec![exchange] };
    let called = |answer| Command::CallAnswered { request: 4, answer };
    vec![
        ("prompt", prompt),
        ("abort", Command::Abort { prompt: PromptId(17) }),
        ("shutdown", Command::Shutdown),
        ("open-new", Command::Open { agent_session: None, conversation: false }),
        ("open-again", Command::Open { agent_session: Some("ses-ä".into()), conversation: true }),
        ("answer", Command::Answer { request: 2, option: Some("allow-once".into()) }),
        ("answer-cancelled", Command::Answer { request: 2, option: None }),
        ("driver", Command::Driver { client: Some(40), offers: Offer::ALL.to_vec() }),
        ("driver-none", Command::Driver { client: None, offers: Vec::new() }),
        ("call-result", called(CallAnswer::Result { json: "{\"content\":\"ä\"}".into() })),
        ("call-error", called(CallAnswer::Error { json: "{\"code\":-32603,\"message\":\"no\"}".into() })),
        ("call-not-asked", called(CallAnswer::NotAsked { reason: "nobody drives".into() })),
        ("call-given-up", called(CallAnswer::GivenUp { reason: "the client went".into() })),
    ]
}

fn prompts_with_attachments() -> Vec<(&'static str, Command)> {
    let attachment = |kind, content| Attachment {
        kind,
        name: "ä.png".into(),
        mime_type: "image/png".into(),
        uri: "file:///ä.png".into(),
        content,
    };
    let attachments = vec![
        attachment(AttachmentKind::Image, Content::Base64("AAEC".into())),
        attachment(AttachmentKind::Audio, Content::Base64("AA==".into())),
        attachment(AttachmentKind::File, Content::Text("words".into())),
    ];
    let (prompt, text, history) = (PromptId(17), "look".into(), Vec::new());
    vec![("prompt-with", Command::PromptWith { prompt, text, history, attachments })]
}

fn confinements() -> Vec<(&'static str, Command)> {
    let walls = WallsOfVersion3 {
        sandbox: Sandbox::Strict,
        program: Some("/usr/bin/bwrap".into()),
        hidden: vec!["/home/me/.ssh".into()],
        writable: vec!["/home/me/.agent".into()],
    };
    let read = |ask| Command::ReadFiles { request: 7, ask };
    let list = FilesAsk::List { path: Vec::new(), after: None, limit: 1000 };
    let on = FilesAsk::List { path: b"src".to_vec(), after: Some(b"caf\xe9".to_vec()), limit: 1 };
    let diff = FilesAsk::Diff { path: b"src".to_vec(), commit: "0123abcd".into(), text: true };
    let limits = Limits {
        nice: Some(5),
        nofile: Some(4096),
        memory_bytes: Some(1 << 31),
        pids: Some(200),
        milli_cpus: Some(1500),
    };
    let by = LimitedBy {
        nice: Some(Keeper::Priority),
        nofile: Some(Keeper::Rlimit),
        memory: Some(Keeper::CgroupV2),
        pids: Some(Keeper::Watched),
        cpus: None,
    };
    let groups = Groups {
        enter: vec!["/sys/fs/cgroup/k/cgroup.procs".into()],
        memory_events: Some("/sys/fs/cgroup/k/memory.events".into()),
        memory_peak: Some("/sys/fs/cgroup/k/memory.peak".into()),
    };
    let place = |device, born| Granted { path: "/home/me/work".into(), device, inode: 4711, born };
    let sandbox_of = Walls {
        sandbox: Sandbox::Strict,
        program: None,
        hidden: vec!["/home/me/.ssh".into()],
        writable: vec!["/home/me/.agent".into()],
        readable: vec!["/home/me/.local".into()],
        home: Some("/home/me".into()),
        granted: vec![place(Some(65024), Some(1_700_000_000_000_000_001)), place(None, None)],
        boot_id: "95016d5f-7739-4f61-887d-ac640019cd07".into(),
    };
    vec![
        ("contain", Command::Contain { level: Level::PidNamespace, demanded: true }),
        ("contain-less", Command::Contain { level: Level::Subreaper, demanded: false }),
        ("sandbox", Command::Sandbox(walls)),
        ("limits", Command::Limits { limits, by, groups }),
        ("sandbox-of", Command::SandboxOf(Box::new(sandbox_of))),
        ("log", Command::Log { path: "/home/me/.local/state/kennel/logs/session-1.log".into() }),
        ("read-files-list", read(list)),
        ("read-files-list-on", read(on)),
        ("read-files-read", read(FilesAsk::Read { path: b"a".to_vec(), offset: 1 << 40, length: 9 })),
        ("read-files-diff", read(diff)),
        ("log-in", Command::LogIn { argv: vec!["/usr/bin/codex".into(), "login".into()] }),
        ("log-in-input", Command::LogInInput { bytes: Unlogged(b"ABCD-1234\r".to_vec()) }),
        ("log-in-room", Command::LogInRoom { upto: 1 << 40 }),
    ]
}

fn provisions() -> Vec<(&'static str, Command)> {
    let shelter = Shelter {
        socket: "/run/k/door".into(),
        secret: [7; 32],
        spool: "/var/k/spool".into(),
        spool_bytes: 1 << 26,
        turn_ms: 3_600_000,
        idle_ms: 600_000,
    };
    let setting = || Setting { name: "mode".into(), value: "plan".into() };
    let remote = |transport| RemoteServer {
        name: "docs".into(),
        transport,
        url: "https://docs.example/mcp".into(),
        headers: vec![("Authorization".into(), "Bearer ä".into())],
    };
    let inherited = Inherited { umask: Some(0o027), open_files: Some(4096), places: vec!["TMPDIR".into()] };
    vec![
        ("settings", Command::Settings(vec![setting()])),
        ("set", Command::Set { request: 4, setting: setting() }),
        ("restore-within", Command::RestoreWithin(40_000)),
        ("probe", Command::Probe),
        ("remote-servers", Command::RemoteServers(vec![remote(Transport::Http), remote(Transport::Sse)])),
        ("shelter", Command::Shelter(shelter)),
        ("acknowledge", Command::Acknowledge),
        ("inherit", Command::Inherit(inherited)),
        ("inherit-nothing", Command::Inherit(Inherited::default())),
        ("find", Command::Find(Find { path: Some("/usr/bin".into()), program: Some("codex-acp".into()) })),
        ("find-nothing", Command::Find(Find::default())),
    ]
}

fn commands() -> Vec<(&'static str, ToWorker)> {
    let all = [welcomes(), turns(), prompts_with_attachments(), confinements(), provisions()];
    let all = all.into_iter().flatten();
    all.map(|(name, body)| (name, Envelope { incarnation: 3, seq: 5, ack: 9, body })).collect()
}

fn reports_of_turns() -> Vec<(&'static str, Report)> {
    let prompt = PromptId(17);
    let ended = |end, exit, left_behind| Report::TurnEnded { prompt, end, exit, left_behind };
    let output = |stream| Report::Output { prompt, stream, text: "ä\n".into() };
    let payload = || "{\"sessionUpdate\":\"plan\"}".to_owned();
    let id = || "call-1".to_owned();
    let update = |update| Report::Update { prompt: Some(prompt), update, payload: payload() };
    let between = Report::Update { prompt: None, update: Update::Other, payload: payload() };
    let spent = Spent { input_tokens: Some(1200), output_tokens: Some(34), cost_micro_usd: Some(5_600_000) };
    let option = PermissionOption { id: "yes".into(), name: "Allow".into(), kind: "allow_once".into() };
    let ask = PermissionAsk {
        tool_call: id(),
        title: "Write a".into(),
        kind: Some("edit".into()),
        paths: vec!["/srv/app/a".into(), "b".into()],
        options: vec![option],
    };
    let bare = PermissionAsk { kind: None, paths: Vec::new(), options: Vec::new(), ..ask.clone() };
    let asked = |ask| Report::PermissionAsked { prompt, request: 2, ask, payload: payload() };
    let call = |client, method: &str| {
        let method = method.to_owned();
        Report::CallAsked { prompt, request: 4, client, method, payload: "{\"path\":\"/a\"}".to_owned() }
    };
    let failed = TurnEnd::Failed { message: "no such program".into() };
    vec![
        ("turn-started", Report::TurnStarted { prompt, agent_pid: 4242 }),
        ("output-stdout", output(Stream::Stdout)),
        ("output-stderr", output(Stream::Stderr)),
        ("turn-ended-code", ended(TurnEnd::Finished, Some(Exit::Code(3)), 0)),
        ("turn-ended-signal", ended(TurnEnd::Aborted, Some(Exit::Signal(15)), 2)),
        ("turn-ended-unknown", ended(TurnEnd::Finished, Some(Exit::Unknown), 0)),
        ("turn-ended-failed", ended(failed, None, 0)),
        ("turn-ended-stopped", ended(TurnEnd::Stopped { reason: "max_tokens".into() }, None, 0)),
        ("turn-ended-not-run", ended(TurnEnd::NotRun { message: "cannot run /ä".into() }, None, 0)),
        ("update-message", update(Update::Message { text: "ä".into() })),
        ("update-thought", update(Update::Thought { text: "hm".into() })),
        ("update-tool-call", update(Update::ToolCall { id: id(), title: "Read a".into(), ended: false })),
        ("update-tool-call-update", update(Update::ToolCallUpdate { id: id(), ended: true })),
        ("update-plan", update(Update::Plan)),
        ("update-usage", update(Update::Usage(spent))),
        ("update-usage-untold", update(Update::Usage(Spent::default()))),
        ("update-other", update(Update::Other)),
        ("update-between-turns", between),
        ("permission-asked", asked(ask)),
        ("permission-asked-bare", asked(bare)),
        ("call-asked", call(Some(40), "fs/read_text_file")),
        ("call-asked-of-any", call(None, "elicitation/create")),
    ]
}

fn reports_of_workers() -> Vec<(&'static str, Report)> {
    let ready = |restore, agent_pid| Report::Ready { restore, agent_pid };
    let (name, version) = (Some("agent".into()), Some("1.2.3".into()));
    let details = AgentDetails { name, version, resume: false, load: true };
    vec![
        ("hello", Report::Hello { protocol: 1, build: "0.1.0 (00ff)".into(), resume_from: 2 }),
        ("ready-fresh", ready(Restore::Fresh, None)),
        ("ready-replayed", ready(Restore::Replayed, None)),
        ("ready-loaded", ready(Restore::Loaded, Some(99))),
        ("ready-resumed", ready(Restore::Resumed, Some(99))),
        ("fault", Report::Fault { message: "out of step".into() }),
        ("agent-session", Report::AgentSession { id: "ses-ä".into() }),
        ("introduced", Report::Introduced(details)),
        ("agent-died", Report::AgentDied { message: "the agent exited with status 1".into() }),
        ("not-run", Report::NotRun { message: "cannot run /usr/bin/agent".into(), passes: true }),
        ("program", Report::Program { path: "/usr/bin/agent".into() }),
        ("login-needed", Report::LoginNeeded { message: "run `gemini` and log in".into() }),
        ("notice", Report::Notice { text: "the conversation could not be found again".into() }),
        ("alive", Report::Alive { cpu_ms: 1_234_567, commands: 2 }),
        (
            "sandboxed-less",
            Report::Sandboxed(Sandboxed { sandbox: Sandbox::Strict, by: SandboxBy::Landlock }),
        ),
        (
            "limited",
            Report::Limited(LimitedBy {
                memory: Some(Keeper::CgroupV1),
                pids: Some(Keeper::None),
                ..LimitedBy::default()
            }),
        ),
        (
            "out-of-memory",
            Report::OutOfMemory { peak_bytes: Some(70_000), limit_bytes: 65_536, by: Keeper::CgroupV2 },
        ),
        (
            "out-of-memory-watched",
            Report::OutOfMemory { peak_bytes: None, limit_bytes: 65_536, by: Keeper::Watched },
        ),
        ("sandboxed", Report::Sandboxed(Sandboxed { sandbox: Sandbox::Workdir, by: SandboxBy::Bubblewrap })),
        ("contained-by-cgroup", Report::Contained { level: Level::Cgroup }),
        ("contained", Report::Contained { level: Level::PidNamespaceSharedProc }),
    ]
}

fn answers_to_clients() -> Vec<(&'static str, Report)> {
    let read = |answer| Report::FilesRead { request: 7, answer };
    let entry = |kind| FileEntry {
        name: b"caf\xe9".to_vec(),
        kind,
        size: 9,
        mode: 0o644,
        modified_ms: 1_700_000_000_000,
    };
    let kinds = [FileKind::File, FileKind::Directory, FileKind::Symlink, FileKind::Special];
    let entries = kinds.map(entry).to_vec();
    let changed = |lines| ChangedFile { path: b"src/a".to_vec(), lines };
    let files = vec![changed(Some((2, 1))), changed(None)];
    let refused = |why| read(FilesAnswer::Refused { why, message: "no".into() });
    vec![
        ("files-entries", read(FilesAnswer::Entries { entries, more: true })),
        (
            "files-piece",
            read(FilesAnswer::Piece { size: 9, modified_ms: 1_700_000_000_000, bytes: b"\0a".to_vec() }),
        ),
        (
            "files-difference",
            read(FilesAnswer::Difference { files, more: false, text: b"+a\n".to_vec(), cut: true }),
        ),
        ("files-missing", refused(FilesRefusal::Missing)),
        ("files-outside", refused(FilesRefusal::Outside)),
        ("files-wrong-kind", refused(FilesRefusal::WrongKind)),
        ("files-unreadable", refused(FilesRefusal::Unreadable)),
        ("files-too-slow", refused(FilesRefusal::TooSlow)),
        ("files-busy", refused(FilesRefusal::Busy)),
        ("files-no-commit", refused(FilesRefusal::NoCommit)),
        ("files-no-git", refused(FilesRefusal::NoGit)),
        ("files-no-reader", refused(FilesRefusal::NoReader)),
        ("log-in-output", Report::LogInOutput { bytes: Unlogged(b"open \xff\x1b[1m".to_vec()) }),
        ("log-in-ended", Report::LogInEnded { exit: Some(Exit::Code(0)), message: String::new() }),
        ("log-in-not-run", Report::LogInEnded { exit: None, message: "no such program".into() }),
    ]
}

fn reports() -> Vec<(&'static str, FromWorker)> {
    let all = reports_of_turns().into_iter().chain(reports_of_workers()).chain(answers_to_clients());
    all.map(|(name, body)| (name, Envelope { incarnation: 3, seq: 5, ack: 9, body })).collect()
}

fn check<T>(golden: &str, samples: Vec<(&'static str, T)>) -> String
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let mut missing = String::new();
    for (name, message) in samples {
        match golden.lines().find_map(|line| line.strip_prefix(&format!("{name} "))) {
            Some(hex) => {
                let mut decoder = Decoder::default();
                decoder.feed(&unhex(hex));
                let decoded: Option<T> = decoder.take().unwrap();
                assert_eq!(decoded.as_ref(), Some(&message), "the golden bytes of {name} decode otherwise");
                decoder.finish().unwrap();
                assert_eq!(frame_of(&message), hex, "{name} encodes to other bytes than before");
            }
            None => writeln!(missing, "{name} {}", frame_of(&message)).unwrap(),
        }
    }
    missing
}

#[test]
fn every_message_keeps_the_bytes_it_had_when_its_version_was_new() {
    let file =
        |version| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}.txt"));
    let read = |version| std::fs::read_to_string(file(version)).unwrap_or_default();
    let all: String = (1..=PROTOCOL_VERSION).map(read).collect();
    let names: Vec<&str> = all.lines().filter_map(|line| line.split(' ').next()).collect();
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), unique.len(), "a name stands in two lines");
    let commanded = commands().into_iter().map(|(name, _)| name);
    let sampled: BTreeSet<&str> = commanded.chain(reports().into_iter().map(|(name, _)| name)).collect();
    let unread: Vec<_> = unique.difference(&sampled).collect();
    assert!(unread.is_empty(), "earlier versions have sent these, and nothing here reads them: {unread:?}");

    let missing = check(&all, commands()) + &check(&all, reports());
    let newest = file(PROTOCOL_VERSION);
    if !missing.is_empty() && std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(newest.parent().unwrap()).unwrap();
        std::fs::write(&newest, read(PROTOCOL_VERSION) + &missing).unwrap();
    } else {
        assert!(missing.is_empty(), "not in {}, add with UPDATE_GOLDEN=1:\n{missing}", newest.display());
    }
}
