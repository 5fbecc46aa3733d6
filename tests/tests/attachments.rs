//! Attachments of a prompt, on real processes: they reach the agent whatever dies on the way, and leave
//! nothing behind.

use harness::daemon::Daemon;
use harness::real::*;
use manager::WaitFor;
use manager::protocol::api::*;
use manager::protocol::event::{EventKind, Outcome, Resolution};
use manager::protocol::wire::AttachmentKind;
use manager::protocol::{PromptId, SessionId};

/// A manager with agents that take everything, or nothing but text.
async fn host() -> Host {
    let host = Host::new().await;
    std::fs::write(host.config(), config()).unwrap();
    host
}

fn config() -> String {
    let program = beside("acp-agent");
    let program = program.display();
    format!(
        "[agents.sees]\nkind = \"acp\"\ncommand = [\"{program}\", \"--image\", \"--audio\", \"--files\"]\n\n\
         [agents.blind]\nkind = \"acp\"\ncommand = [\"{program}\"]\n"
    )
}

async fn session(host: &Host, agent: &str) -> SessionId {
    host.session_with(SessionOpts { agent: Some(agent.into()), ..host.opts() }).await
}

fn picture() -> AttachmentRequest {
    AttachmentRequest { name: "a.png".into(), data: Some("AAEC".into()), ..AttachmentRequest::default() }
}

fn notes() -> AttachmentRequest {
    AttachmentRequest { name: "notes.md".into(), text: Some("words".into()), ..AttachmentRequest::default() }
}

fn with(text: &str, attachments: Vec<AttachmentRequest>) -> PromptRequest {
    PromptRequest { attachments, ..prompt(text) }
}

async fn send(host: &Host, id: &SessionId, request: PromptRequest) -> PromptId {
    host.manager.send_prompt(id, request, None).await.unwrap().prompt_id
}

/// Returns the number of attachments in the journal.
fn kept(host: &Host) -> u64 {
    let journal = rusqlite::Connection::open(host.dir.path().join("state/journal.db")).unwrap();
    journal.query_row("SELECT count(*) FROM attachments", [], |row| row.get(0)).unwrap()
}

const SEEN: &str = "image image/png attachment:a.png AAEC, resource text/markdown attachment:notes.md words";

#[tokio::test]
async fn what_belongs_to_a_prompt_reaches_the_agent_and_is_not_kept_after_its_end() {
    let host = host().await;
    let id = session(&host, "sees").await;
    let sent = send(&host, &id, with("sleep 30ms; attached", vec![picture(), notes()])).await;
    assert_eq!(kept(&host), 2);
    host.end_of(&id, sent).await;
    assert_eq!(host.printed(&id, sent).await, SEEN);
    assert_eq!(kept(&host), 0);
    let accepted = host.events(&id).await.into_iter().find_map(|event| match event.kind {
        EventKind::PromptAccepted { attachments, .. } => Some(attachments),
        _ => None,
    });
    let of = |kind, name: &str, mime_type: &str, size| AttachmentInfo {
        kind,
        name: name.into(),
        mime_type: mime_type.into(),
        size,
    };
    let all = [
        of(AttachmentKind::Image, "a.png", "image/png", 3),
        of(AttachmentKind::File, "notes.md", "text/markdown", 5),
    ];
    assert_eq!(accepted.unwrap(), all);
    // A picture can be the whole prompt: the fixture's script is then the picture's description.
    let silent = send(&host, &id, with("", vec![picture()])).await;
    host.end_of(&id, silent).await;
    assert_eq!(host.printed(&id, silent).await, "image image/png attachment:a.png AAEC");
}

#[tokio::test]
async fn an_agent_that_takes_only_text_is_given_texts_and_never_half_of_a_prompt() {
    let host = host().await;
    let id = session(&host, "blind").await;
    let sent = send(&host, &id, with("attached", vec![notes()])).await;
    host.end_of(&id, sent).await;
    assert_eq!(host.printed(&id, sent).await, "text The file notes.md (attachment:notes.md):\n\nwords");
    let sent = send(&host, &id, with("attached", vec![notes(), picture()])).await;
    let end = host.end_of(&id, sent).await;
    let EventKind::TurnCompleted { outcome: Outcome::Completed, stop_reason, .. } = end else {
        panic!("{end:?}")
    };
    assert_eq!((&*stop_reason, &*host.printed(&id, sent).await), ("error", ""));
    let output = "the agent takes no pictures (a.png); the prompt was not given to it";
    host.event(&id, output, |kind| *kind == EventKind::SystemMessage { text: output.into() }).await;
    assert_eq!(host.run(&id, "say on").await, "on");
    assert_eq!(kept(&host), 0);
}

#[tokio::test]
async fn a_new_manager_hands_on_what_belongs_to_prompts_that_waited() {
    let host = host().await;
    let id = session(&host, "sees").await;
    host.send(&id, "sleep 10000ms").await;
    let waits = send(&host, &id, with("attached", vec![picture(), notes()])).await;
    let edited = send(&host, &id, with("say no", vec![picture()])).await;
    host.manager.edit_prompt(&id, edited, "attached").await.unwrap();
    let removed = send(&host, &id, with("say no", vec![picture()])).await;
    host.manager.remove_prompt(&id, removed).await.unwrap();
    assert_eq!(kept(&host), 3);
    let host = host.restarted().await;
    host.end_of(&id, waits).await;
    host.end_of(&id, edited).await;
    assert_eq!(host.printed(&id, waits).await, SEEN);
    assert_eq!(host.printed(&id, edited).await, "image image/png attachment:a.png AAEC");
    assert_eq!(kept(&host), 0);
}

#[tokio::test]
async fn kill_worker_mid_turn_and_the_prompt_is_run_again_with_all_that_belongs_to_it() {
    let host = host().await;
    let opts = SessionOpts { on_crash: Some(OnCrash::Retry), ..host.opts() };
    let retries = host.session_with(SessionOpts { agent: Some("sees".into()), ..opts }).await;
    let asked = session(&host, "sees").await;
    for id in [&retries, &asked] {
        let sent = send(&host, id, with("say begun; sleep 300ms; attached", vec![picture(), notes()])).await;
        let begun =
            |kind: &EventKind| matches!(kind, EventKind::MessageChunk { text, .. } if text == "begun");
        host.event(id, "its beginning", begun).await;
        kill(host.pid(id).await);
        let again = if id == &retries {
            sent
        } else {
            host.end_of(id, sent).await;
            let resolved = host.manager.resolve_prompt(sent, Resolution::Retry).await.unwrap();
            resolved.retried_as.unwrap()
        };
        let completed = |kind: &EventKind| matches!(kind, EventKind::TurnCompleted { prompt_id, .. } if *prompt_id == again);
        host.event(id, "its end", completed).await;
        let printed = host.printed(id, again).await;
        assert!(printed.ends_with(&format!("begun{SEEN}")), "{printed}");
    }
    assert_eq!(kept(&host), 0);
}

#[tokio::test]
async fn what_no_agent_could_take_is_refused_and_changes_nothing() {
    let host = host().await;
    let (shell, sees) = (host.session().await, session(&host, "sees").await);
    let refused =
        async |id, request, key| host.manager.send_prompt(id, request, key).await.unwrap_err().code();
    assert_eq!(refused(&shell, with("true", vec![notes()]), None).await, "no_attachments");
    assert_eq!(refused(&sees, with("x", vec![notes(); 17]), None).await, "invalid_attachment");
    let large = AttachmentRequest { text: Some("x".repeat(8 << 20)), ..notes() };
    assert_eq!(refused(&sees, with("x", vec![large, notes()]), None).await, "attachments_too_large");
    assert_eq!(refused(&sees, with("", Vec::new()), None).await, "empty_prompt");
    assert_eq!(kept(&host), 0);
    // The attachments are part of the request behind a key.
    let first = host.manager.send_prompt(&sees, with("attached", vec![notes()]), Some("k")).await.unwrap();
    let again = host.manager.send_prompt(&sees, with("attached", vec![notes()]), Some("k")).await.unwrap();
    assert_eq!(first.prompt_id, again.prompt_id);
    assert_eq!(refused(&sees, with("attached", vec![picture()]), Some("k")).await, "idempotency_key_reused");
}

#[tokio::test]
async fn as_much_as_may_belong_to_a_prompt_arrives() {
    let host = host().await;
    let id = session(&host, "sees").await;
    let sound = "A".repeat((8 << 20) / 3 * 4);
    let sound = AttachmentRequest { name: "a.wav".into(), data: Some(sound), ..AttachmentRequest::default() };
    // With the longest text it has to fit into one frame to the worker.
    let text = format!("attached; {}", " ".repeat((1 << 20) - 10));
    let sent = send(&host, &id, with(&text, vec![sound])).await;
    host.end_of(&id, sent).await;
    assert_eq!(host.printed(&id, sent).await, "audio audio/wav 11184808 bytes");
}

#[tokio::test]
async fn a_journal_from_before_there_were_attachments_is_taken_over() {
    let host = host().await;
    let id = session(&host, "sees").await;
    host.run(&id, "say before").await;
    host.manager.shutdown().await;
    let journal = rusqlite::Connection::open(host.dir.path().join("state/journal.db")).unwrap();
    journal.execute_batch("DROP TABLE attachments; PRAGMA user_version = 1").unwrap();
    drop(journal);
    let host = Host::over(host.dir).await;
    host.manager.wait(&id, WaitFor::Ready, Some(BOUND)).await.unwrap();
    let sent = send(&host, &id, with("attached", vec![notes()])).await;
    host.end_of(&id, sent).await;
    assert_eq!(host.printed(&id, sent).await, "resource text/markdown attachment:notes.md words");
}

#[test]
fn files_on_the_command_line_go_with_the_prompt_as_they_are_then() {
    let daemon = Daemon::new();
    let directory = daemon.dir.path().join("kennel");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), config()).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = daemon.workdir().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (picture, notes) = (file("a picture.png", b"\x89PNG"), file("notes", b"words"));
    daemon.ok(&["start", "--agent", "sees"]);
    daemon.ok(&["send", "--no-wait", "session-1", "sleep 60s"]);
    daemon.ok(&["send", "--no-wait", "--file", &picture, "-f", &notes, "session-1", "attached"]);
    assert!(daemon.ok(&["queue", "ls", "session-1"]).contains("(attached: a picture.png)"));
    std::fs::remove_file(&picture).unwrap();
    std::fs::write(&notes, "other words").unwrap();
    daemon.ok(&["abort", "session-1"]);
    daemon.idle("session-1");
    let workdir = daemon.workdir().display().to_string();
    let output = daemon.ok(&["subagent", "result", "session-1"]);
    let seen = format!(
        "image image/png file://{workdir}/a%20picture.png iVBORw==, resource text/plain file://{workdir}/notes words"
    );
    assert!(output.contains(&seen), "{output}\n{seen}");
    for (files, code) in
        [(&picture, 2), (&file("large", &vec![b'x'; (8 << 20) + 1]), 2), (&"/dev/zero".to_owned(), 2)]
    {
        let output = daemon.run(&["send", "--file", files, "session-1", "attached"]);
        assert_eq!(output.code, Some(code), "{output:?}");
        assert!(output.stderr.contains("nothing was sent"), "{output:?}");
    }
    daemon.ok(&["start"]);
    let output = daemon.run(&["send", "--file", &notes, "session-2", "true"]);
    assert_eq!(output.code, Some(7), "{output:?}");
    assert!(output.stderr.contains("takes no attachments"), "{output:?}");
}
