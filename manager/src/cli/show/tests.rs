//! Sessions as people read them.

use protocol::Exit;
use protocol::api::{Failure, Need, NeedKind, Restarts};
use protocol::event::Timestamp;
use protocol::{Keeper, Level, LimitedBy, Limits, Sandbox, SandboxBy, Sandboxed};

use super::*;

pub fn session() -> SessionInfo {
    SessionInfo {
        id: "session-1".parse().unwrap(),
        name: "web".parse().ok(),
        labels: Default::default(),
        title: Some("\u{1b}]0;evil\u{7}\nname".into()),
        agent: "shell".into(),
        agent_details: None,
        env_missing: Vec::new(),
        subagent_tools: None,
        model: None,
        agent_model: None,
        start_notice: None,
        empty_turn: false,
        status: Status::Failed,
        workdir: "/tmp/\u{202e}x".into(),
        start_commit: None,
        pid: None,
        agent_pid: None,
        program: Some("/usr/bin/agent".into()),
        containment: Some(Level::PidNamespace),
        sandbox: Some(Sandboxed { sandbox: Sandbox::Strict, by: SandboxBy::Bubblewrap }),
        limits: Limits {
            nice: Some(5),
            nofile: Some(64),
            memory_bytes: Some(3 << 29),
            pids: None,
            milli_cpus: Some(1500),
        },
        limited_by: Some(LimitedBy {
            nice: Some(Keeper::Priority),
            nofile: Some(Keeper::Rlimit),
            memory: Some(Keeper::Watched),
            pids: None,
            cpus: Some(Keeper::None),
        }),
        incarnation: 3,
        forked_from: None,
        conversation: None,
        restore: None,
        created_at: Timestamp(1_769_860_800_000),
        last_message_at: None,
        message_count: 2,
        turn_count: 1,
        first_prompt: Some("echo".into()),
        queue_length: 4,
        waits_for: None,
        running_prompt: None,
        usage: None,
        restarts: Restarts {
            in_window: 5,
            intensity: 5,
            period_ms: 60_000,
            last_reason: None,
            last_pid: None,
        },
        failure: Some(Failure {
            reason: "too many deaths".into(),
            exit: Some(Exit::Signal(9)),
            last_words: vec!["one".into(), "\u{9b}2J".into()],
            survivors: vec![],
            failed_at: Some(Timestamp(1_769_860_800_000)),
        }),
        needs: vec![Need {
            kind: NeedKind::Failed,
            id: None,
            text: "too many\ndeaths".into(),
            since: Timestamp(1_769_860_800_000),
        }],
        pinned: false,
        clients: Vec::new(),
        started_by: None,
        parent: None,
        children: Vec::new(),
    }
}

#[test]
fn a_model_that_the_agent_has_not_confirmed_is_not_claimed() {
    let says = |asked: Option<&str>, now: Option<&str>| {
        let (asked, now) = (asked.map(str::to_owned), now.map(str::to_owned));
        model(&SessionInfo { model: asked, agent_model: now, ..session() })
    };
    assert_eq!(says(None, None), None);
    assert_eq!(
        says(Some("big"), None).as_deref(),
        Some("- (big was asked for; the agent does not say what it uses)")
    );
    assert_eq!(says(Some("big"), Some("big")).as_deref(), Some("big"));
    assert_eq!(says(Some("big"), Some("small")).as_deref(), Some("small (big was asked for)"));
    assert_eq!(says(None, Some("small")).as_deref(), Some("small"));
}

#[test]
fn a_turn_without_a_sign_for_long_says_what_it_waits_for() {
    let Timestamp(begun) = session().created_at;
    let running =
        SessionInfo { status: Status::Running, last_message_at: Some(Timestamp(begun)), ..session() };
    assert_eq!(quiet(&running, begun + 29_999), None);
    let note = quiet(&running, begun + 31_000).unwrap();
    assert!(note.contains("no sign for 31s") && note.contains("its model"), "{note}");
    let asks = SessionInfo { status: Status::RequiresAction, ..running };
    assert_eq!(quiet(&asks, begun + 99_000), None, "it is known what that waits for");
    assert!(events::quiet(events::QUIET, Some("make")).ends_with("its tool: make"));
}

#[test]
fn a_session_is_shown_with_what_there_is() {
    let text = pairs(&facts(&session(), 1_769_860_860_000), false);
    assert_eq!(
        text,
        "id:           session-1\n\
         name:         web\n\
         status:       failed\n\
         title:        \\u{1b}]0;evil\\u{7} name\n\
         pid:          -\n\
         agent:        shell\n\
         workdir:      /tmp/\\u{202e}x\n\
         incarnation:  3\n\
         restarts:     5 in the last 1m, 5 allowed\n\
         turns:        1\n\
         messages:     2\n\
         queue:        4\n\
         created:      2026-01-31T12:00:00Z (1m ago)\n\
         program:      /usr/bin/agent\n\
         containment:  pid_namespace\n\
         sandbox:      strict (by bubblewrap)\n\
         nice:         +5 (priority)\n\
         nofile:       64 (rlimit)\n\
         memory:       1.5GiB (watched)\n\
         cpus:         1.5 (none)\n\
         first prompt: echo\n\
         failure:      too many deaths\n\
         worker exit:  killed by SIGKILL\n\
         last words:   one\n\
         last words:   \\u{9b}2J\n"
    );
}
