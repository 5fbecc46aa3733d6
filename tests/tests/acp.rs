//! Agents that live between prompts and speak ACP, on real processes: the fixture `acp-agent`, which does what its
//! prompts say.

use harness::real::*;
use manager::protocol::api::*;
use manager::protocol::event::{Decider, EventKind, Outcome};
use manager::protocol::{PermissionId, PromptId, Restore, SessionId};
use manager::{Error, WaitFor};

/// A manager with an agent of each kind: what it can, and what its profile says more.
async fn host() -> Host {
    let host = Host::new().await;
    let memory = host.dir.path().join("memory");
    std::fs::create_dir(&memory).unwrap();
    let (program, memory) = (beside("acp-agent"), memory.display().to_string());
    let mut config = String::new();
    for (name, options, more) in [
        ("plain", "", ""),
        ("loads", "--load --memory M", ""),
        ("resumes", "--resume --load --memory M", ""),
        ("forgets", "--load --forgets --memory M", ""),
        ("closed", "--login", ""),
        ("keyed", "--login", "login = \"key\""),
        ("printing", "--login --login-url https://auth.example/device?code=AB-12 --login-seen M/seen", ""),
        ("prompted", "--system-prompt --load --memory M", "env = { KENNEL_SYSTEM_PROMPT = \"be brief\" }"),
        ("own", "--own-prompt", "env = { KENNEL_SYSTEM_PROMPT_INSTEAD = \"be a poet\" }"),
        ("old", "", "env = { KENNEL_SYSTEM_PROMPT = \"be brief\" }"),
        ("leaves", "--early-exit", ""),
        ("newer", "--other-version", ""),
        ("torn", "--load --dies-loading --memory M", ""),
        ("stuck", "--resume --load --hangs-resuming --memory M", "start_timeout = \"4500ms\""),
        (
            "stuck-twice",
            "--resume --load --hangs-resuming --hangs-loading --memory M",
            "start_timeout = \"4500ms\"",
        ),
        ("mute", "--mute", "start_timeout = \"300ms\""),
        ("allows", "", "permissions = \"allow\""),
        ("denies", "", "permissions = \"deny\""),
        ("fails", "", "permissions = \"fail\""),
        ("impatient", "", "permission_timeout = \"50ms\""),
        (
            "ruled",
            "",
            "rules = [{ kind = \"read\", then = \"allow\" }, { path = \"src\", then = \"allow\" }, { then = \"deny\" }]",
        ),
    ] {
        let options = options.replace('M', &memory);
        let words: Vec<String> = options.split_whitespace().map(|word| format!(", \"{word}\"")).collect();
        let command = format!("command = [\"{}\"{}]", program.display(), words.concat());
        config += &format!("[agents.{name}]\nkind = \"acp\"\n{command}\n{more}\n\n");
    }
    std::fs::write(host.config(), config).unwrap();
    host
}

fn opts(host: &Host, agent: &str) -> SessionOpts {
    SessionOpts { agent: Some(agent.into()), grace_ms: Some(500), ..host.opts() }
}

async fn session(host: &Host, agent: &str) -> SessionId {
    host.session_with(opts(host, agent)).await
}

async fn asked(host: &Host, id: &SessionId) -> PermissionId {
    let asked = host.event(id, "the question", |kind| matches!(kind, EventKind::PermissionRequested { .. }));
    let EventKind::PermissionRequested { permission_id, .. } = asked.await.kind else { panic!() };
    permission_id
}

async fn completed(host: &Host, id: &SessionId, prompt: PromptId) -> (Outcome, String) {
    match host.end_of(id, prompt).await {
        EventKind::TurnCompleted { outcome, stop_reason, .. } => (outcome, stop_reason),
        other => panic!("{other:?}"),
    }
}

async fn restarted(host: &Host, id: &SessionId, incarnation: u32) -> (Restore, String) {
    let wanted = |kind: &EventKind| matches!(kind, EventKind::SessionRestarted { .. });
    let mut stream = host.manager.subscribe(Some(0), Some(id.clone()));
    loop {
        let records = tokio::time::timeout(BOUND, stream.next()).await.expect("in time").unwrap().unwrap();
        let events = records.iter().map(|record| record.event().unwrap());
        let found = events.into_iter().find(|event| event.incarnation >= incarnation && wanted(&event.kind));
        if let Some(EventKind::SessionRestarted { restore, reason, .. }) = found.map(|event| event.kind) {
            return (restore, reason);
        }
    }
}

#[tokio::test]
async fn an_agent_lives_between_prompts_and_all_it_tells_is_recorded() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let agent = host.manager.get_session(&id).await.unwrap().agent_pid.expect("an agent");
    let script = "think hm; say hello ; say world; plan; usage; tool t1 make it; done t1; news; elsewhere; \
                  noise not json; stray; unknown; stop max_tokens";
    let prompt = host.send(&id, script).await;
    assert_eq!(completed(&host, &id, prompt).await, (Outcome::Completed, "max_tokens".into()));
    assert_eq!(host.printed(&id, prompt).await, "helloworldrefused -32601");
    let names: Vec<&str> = host.events(&id).await.iter().map(|event| event.kind.name()).collect();
    for name in ["thought.chunk", "plan.updated", "usage.updated", "tool_call.started", "tool_call.updated"] {
        assert_eq!(
            names.iter().filter(|found| **found == name).count(),
            1 + usize::from(name == "usage.updated"),
            "{name}"
        );
    }
    let news = host.events(&id).await.into_iter().find_map(|event| match event.kind {
        EventKind::AgentUpdated { prompt_id: Some(_), payload } => Some(payload),
        _ => None,
    });
    assert_eq!(news.unwrap()["x"][1]["y"], "z", "what is unknown is carried as it came");
    let info = host.manager.get_session(&id).await.unwrap();
    let usage = info.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.cost_usd), (100, 20, Some(0.25)));
    assert_eq!((info.agent_pid, info.restore), (Some(agent), Some(Restore::Fresh)));
    assert_eq!(host.run(&id, "recall").await, format!("remembered 1 told 0 last [{script}]"));
    host.manager.shutdown().await;
    assert!(!lives(agent));
}

#[tokio::test]
async fn kill_worker_mid_turn_restores_the_conversation_as_well_as_the_agent_can() {
    let host = host().await;
    for (agent, restore, recalled) in [
        ("resumes", Restore::Resumed, "remembered 1 told 0 last [say one]"),
        ("loads", Restore::Loaded, "remembered 1 told 0 last [say one]"),
        ("forgets", Restore::Replayed, "remembered 0 told 2 last []"),
        ("plain", Restore::Replayed, "remembered 0 told 2 last []"),
    ] {
        let id = session(&host, agent).await;
        assert_eq!(host.run(&id, "say one").await, "one");
        let cut = host.send(&id, "tool t9 saw; say two; sleep 60000ms").await;
        host.event(
            &id,
            "the words",
            |kind| matches!(kind, EventKind::MessageChunk { text, .. } if text == "two"),
        )
        .await;
        let agent_pid = host.manager.get_session(&id).await.unwrap().agent_pid.unwrap();
        kill(host.pid(&id).await);
        assert!(matches!(host.end_of(&id, cut).await, EventKind::TurnInterrupted { .. }), "{agent}");
        assert_eq!(restarted(&host, &id, 2).await.0, restore, "{agent}");
        assert!(!lives(agent_pid), "{agent}: the old agent lives beside the new one");
        let torn = host.events(&id).await.into_iter().filter(|event| {
            matches!(&event.kind, EventKind::ToolCallInterrupted { tool_call_id, .. } if tool_call_id == "t9")
        });
        assert_eq!(torn.count(), 1, "{agent}");
        assert_eq!(host.run(&id, "recall").await, recalled, "{agent}");
        let is_replayed = |payload: &serde_json::Value| payload["content"]["text"] == "replayed";
        let replayed = host.events(&id).await.into_iter().any(|event| match event.kind {
            EventKind::MessageChunk { payload: Some(payload), .. }
            | EventKind::AgentUpdated { payload, .. } => is_replayed(&payload),
            _ => false,
        });
        assert!(!replayed, "{agent}: the journal has what the agent replays");
    }
    host.manager.shutdown().await;
}

#[tokio::test]
async fn kill_agent_is_a_death_of_its_incarnation_and_the_session_comes_back() {
    let host = host().await;
    let id = session(&host, "loads").await;
    host.run(&id, "say one").await;
    let prompt = host.send(&id, "fork; say begun; sleep 60000ms").await;
    host.event(&id, "begun", |kind| matches!(kind, EventKind::MessageChunk { text, .. } if text == "begun"))
        .await;
    let forked: u32 = host
        .printed(&id, prompt)
        .await
        .trim_start_matches("forked ")
        .trim_end_matches("begun")
        .parse()
        .unwrap();
    let forked = outside(host.pid(&id).await, forked);
    kill(host.manager.get_session(&id).await.unwrap().agent_pid.unwrap());
    let EventKind::TurnInterrupted { reason, .. } = host.end_of(&id, prompt).await else { panic!() };
    assert!(reason.contains("in the middle of a turn: killed by SIGKILL"), "{reason}");
    let (restore, reason) = restarted(&host, &id, 2).await;
    assert_eq!(restore, Restore::Loaded);
    assert!(reason.contains("SIGKILL"), "{reason}");
    assert!(!lives(forked), "what the agent had started outlived it");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_leaves_in_a_turn_or_closes_its_output_is_replaced() {
    let host = host().await;
    for (script, words) in [
        ("say x; exit 0", "in the middle of a turn: exit status 0"),
        ("say x; shut", "closed its standard output"),
    ] {
        let id = session(&host, "plain").await;
        let prompt = host.send(&id, script).await;
        let EventKind::TurnInterrupted { reason, .. } = host.end_of(&id, prompt).await else {
            panic!("{script}")
        };
        assert!(reason.contains(words), "{script}: {reason}");
        assert_eq!(restarted(&host, &id, 2).await.0, Restore::Replayed, "{script}");
        assert_eq!(host.run(&id, "say still here").await, "still here", "{script}");
    }
    host.manager.shutdown().await;
}

#[tokio::test]
async fn abort_asks_the_agent_to_end_its_turn_and_ends_one_that_does_not() {
    let host = host().await;
    let id = session(&host, "loads").await;
    let pid = host.manager.get_session(&id).await.unwrap().agent_pid;
    let prompt = host.send(&id, "say x; sleep 60000ms").await;
    host.event(&id, "x", |kind| matches!(kind, EventKind::MessageChunk { .. })).await;
    host.manager.abort(&id).await.unwrap();
    assert_eq!(completed(&host, &id, prompt).await, (Outcome::Aborted, "cancelled".into()));
    assert_eq!(host.manager.get_session(&id).await.unwrap().agent_pid, pid, "the agent lives on");
    let deaf = host.send(&id, "deaf; say y; sleep 60000ms").await;
    host.event(&id, "y", |kind| matches!(kind, EventKind::MessageChunk { text, .. } if text == "y")).await;
    host.manager.abort(&id).await.unwrap();
    assert_eq!(completed(&host, &id, deaf).await.0, Outcome::Aborted);
    let (restore, reason) = restarted(&host, &id, 2).await;
    assert_eq!(restore, Restore::Loaded);
    assert!(reason.contains("did not end the turn"), "{reason}");
    let half = host.send(&id, "half").await;
    host.manager.abort(&id).await.unwrap();
    assert_eq!(completed(&host, &id, half).await.0, Outcome::Aborted);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_parked_permission_waits_for_the_first_answer_and_survives_nobody_looking() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let prompt = host.send(&id, "tool t1 rm -rf; ask t1; done t1").await;
    let permission = asked(&host, &id).await;
    assert_eq!(host.manager.get_session(&id).await.unwrap().status, Status::RequiresAction);
    let open = host.manager.permissions(None).await.unwrap();
    assert_eq!((open.len(), open[0].permission_id, open[0].options.len()), (1, permission, 3));
    let wrong =
        host.manager.answer_permission(&id, permission, PermissionAnswer::Option("maybe".into())).await;
    assert_eq!(wrong.unwrap_err().code(), "no_such_option");
    host.manager.answer_permission(&id, permission, PermissionAnswer::Option("always".into())).await.unwrap();
    let late = host.manager.answer_permission(&id, permission, PermissionAnswer::Deny).await;
    assert_eq!(late.unwrap_err().code(), "permission_settled");
    host.end_of(&id, prompt).await;
    assert_eq!(host.printed(&id, prompt).await, "answered always");
    let unknown = host.manager.answer_permission(&id, PermissionId(1 << 40), PermissionAnswer::Deny).await;
    assert_eq!(unknown.unwrap_err().code(), "no_such_permission");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn the_policy_of_a_session_answers_for_everybody() {
    let host = host().await;
    for (agent, script, said) in [
        ("allows", "ask t1", "answered yes"),
        ("denies", "ask t1", "answered no"),
        ("ruled", "ask t1 read /etc/passwd", "answered yes"),
        ("ruled", "ask t1 edit src/main.rs", "answered yes"),
        ("ruled", "ask t1 edit src/../../x", "answered no"),
        ("ruled", "ask t1 execute elsewhere", "answered no"),
        ("impatient", "ask t1", "answered no"),
    ] {
        let id = session(&host, agent).await;
        assert_eq!(host.run(&id, script).await, said, "{agent}: {script}");
        let by = host.events(&id).await.into_iter().find_map(|event| match event.kind {
            EventKind::PermissionResolved { by, .. } => Some(by),
            _ => None,
        });
        assert_eq!(by, (agent != "impatient").then_some(Decider::Policy), "{agent}");
    }
    let id = session(&host, "fails").await;
    let prompt = host.send(&id, "ask t1; say went on").await;
    assert_eq!(completed(&host, &id, prompt).await.0, Outcome::Aborted);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_abort_cancels_open_permissions_and_a_crash_expires_them() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let prompt = host.send(&id, "ask t1").await;
    let permission = asked(&host, &id).await;
    host.manager.abort(&id).await.unwrap();
    assert_eq!(completed(&host, &id, prompt).await.0, Outcome::Aborted);
    assert_eq!(host.printed(&id, prompt).await, "answered cancelled");
    let expired = |wanted: PermissionId| move |kind: &EventKind| matches!(kind, EventKind::PermissionExpired { permission_id, .. } if *permission_id == wanted);
    host.event(&id, "its end", expired(permission)).await;
    let other = session(&host, "plain").await;
    host.send(&other, "ask t1").await;
    let permission = asked(&host, &other).await;
    kill(host.pid(&other).await);
    host.event(&other, "its end", expired(permission)).await;
    assert_eq!(host.manager.permissions(None).await.unwrap(), []);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_permission_is_answered_by_a_manager_that_came_later() {
    let host = host().await;
    let id = session(&host, "loads").await;
    host.run(&id, "say one").await;
    host.send(&id, "ask t1").await;
    asked(&host, &id).await;
    let host = host.restarted().await;
    // Its worker ended with the manager: the question is said to be over, and the session is there again.
    host.event(&id, "its end", |kind| matches!(kind, EventKind::PermissionExpired { .. })).await;
    host.manager.wait(&id, WaitFor::Idle, Some(BOUND)).await.unwrap();
    assert_eq!(host.manager.get_session(&id).await.unwrap().restore, Some(Restore::Loaded));
    host.manager.shutdown().await;
}

#[tokio::test]
async fn files_and_commands_go_by_way_of_the_worker_and_reach_what_the_agents_own_shell_reaches() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let here = host.dir.path().canonicalize().unwrap();
    let here = here.display();
    assert_eq!(
        host.run(&id, &format!("write {here}/a.txt some words; read {here}/a.txt")).await,
        "writtensome words"
    );
    assert!(host.run(&id, "read /etc/passwd").await.contains("root:"));
    assert!(host.run(&id, "read none.txt").await.contains("Resource not found: none.txt"));
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().join("new/er.txt");
    assert_eq!(host.run(&id, &format!("write {} far", outside.display())).await, "written");
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "far");
    assert_eq!(host.run(&id, "run echo out && false").await, "out\n{\"exitCode\":1}");
    assert_eq!(host.run(&id, "run kill -9 $$").await, "{\"signal\":\"SIGKILL\"}");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn commands_of_an_agent_end_with_its_session() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let file = host.dir.path().join("pid");
    host.send(&id, &format!("start touch {} && exec sleep 1001; sleep 60s", file.display())).await;
    let worker = host.pid(&id).await;
    let is_it = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001001\0")
    };
    let pid = until("the command", || below(worker).into_iter().find(is_it));
    assert!(lives(pid) && file.exists());
    host.manager.stop_session(&id, Orphans::Stop).await.unwrap();
    assert!(!lives(pid));
    host.manager.shutdown().await;
}

#[tokio::test]
async fn commands_of_an_agent_end_with_the_turn_that_started_them_however_it_ends() {
    let host = host().await;
    let config = std::fs::read_to_string(host.config()).unwrap();
    let bare = config.replacen("[agents.plain]", "[agents.bare]\ncontainment = \"subreaper\"", 1);
    let bare = &bare[..bare.find("\n\n").unwrap() + 2];
    std::fs::write(host.config(), format!("{config}{bare}")).unwrap();
    for agent in ["plain", "bare"] {
        let id = session(&host, agent).await;
        let worker = host.pid(&id).await;
        let named = |seconds: u32| {
            let line = format!("sleep\0{seconds}\0");
            let is_it = |pid: &u32| {
                std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|found| found == line.as_bytes())
            };
            below(worker).into_iter().filter(is_it).filter(|pid| lives(*pid)).count()
        };
        for (end, outcome, seconds) in [
            ("stop end_turn", Outcome::Completed, 2001),
            ("fail no", Outcome::Completed, 2002),
            ("sleep 60s", Outcome::Aborted, 2003),
        ] {
            // One that waits, one that its command leaves behind, and one that escapes.
            let all = format!("sleep {seconds} & (setsid sleep {seconds} &) ; exec sleep {seconds}");
            let left = format!("(setsid sleep {seconds} &) ; sleep {seconds} & true");
            // ';' separates the steps of the script.
            let [all, left] = [all, left].map(|line| line.replace(';', "\n"));
            let prompt = host.send(&id, &format!("start {all}; run {left}; say up; {end}")).await;
            let up = |kind: &EventKind| matches!(kind, EventKind::MessageChunk { prompt_id, text, .. } if *prompt_id == prompt && text == "up");
            host.event(&id, "its commands", up).await;
            if outcome == Outcome::Aborted {
                until("its commands", || (named(seconds) == 3).then_some(()));
                host.manager.abort(&id).await.unwrap();
            }
            assert_eq!(completed(&host, &id, prompt).await.0, outcome, "{agent}");
            until("the end of its commands", || (named(seconds) == 0).then_some(()));
        }
        let info = host.manager.get_session(&id).await.unwrap();
        assert_eq!((info.incarnation, info.pid), (1, Some(worker)), "{agent}: the agent lives");
        let said = |kind: &EventKind| matches!(kind, EventKind::SystemMessage { text } if text.contains("1 process"));
        host.event(&id, "what was left behind", said).await;
    }
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_wants_a_log_in_says_so_and_is_not_started_over_and_over() {
    let host = host().await;
    let info = host.manager.start_session(opts(&host, "closed"), None).await.unwrap();
    let failed = host.manager.wait(&info.id, WaitFor::Ready, Some(BOUND)).await;
    assert!(matches!(failed, Err(Error::SessionFailed { .. })), "{failed:?}");
    let info = host.manager.get_session(&info.id).await.unwrap();
    let reason = info.failure.unwrap().reason;
    assert!(reason.contains("log-in") && reason.contains("key"), "{reason}");
    assert_eq!(info.incarnation, 1);
    let id = session(&host, "keyed").await;
    assert_eq!(host.run(&id, "say in").await, "in");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_system_prompt_is_given_in_the_form_that_the_agent_takes_or_that_it_does_not_is_said() {
    let host = host().await;
    let brief = r#"[{"mode":"append","content":[{"type":"text","text":"be brief"}]},null]"#;
    let id = session(&host, "prompted").await;
    assert_eq!(host.run(&id, "system").await, brief);
    kill(host.pid(&id).await);
    restarted(&host, &id, 2).await;
    assert_eq!(host.run(&id, "system").await, brief, "the next process is told it, too");
    for (agent, system, words) in [
        ("own", "[null,null]", "no system prompt in the place of its own"),
        ("old", r#"[null,{"append":"be brief"}]"#, "does not say that it takes a system prompt"),
    ] {
        let id = session(&host, agent).await;
        assert_eq!(host.run(&id, "system").await, system, "{agent}");
        host.event(
            &id,
            words,
            |kind| matches!(kind, EventKind::SystemMessage { text } if text.contains(words)),
        )
        .await;
    }
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_address_to_log_in_at_is_shown_where_a_person_looks() {
    let host = host().await;
    let id = host.manager.start_session(opts(&host, "printing"), None).await.unwrap().id;
    let at = "open https://auth.example/device?code=AB-12";
    let says = |text: &str| text.contains(at) && !text.contains('\u{1b}') && !text.contains("[2J");
    host.event(&id, "where", |kind| matches!(kind, EventKind::SystemMessage { text } if says(text))).await;
    // While it waits for its user.
    let info = host.manager.get_session(&id).await.unwrap();
    assert!(info.start_notice.is_some_and(|text| says(&text)));
    std::fs::write(host.dir.path().join("memory/seen"), "").unwrap();
    let failed = host.manager.wait(&id, WaitFor::Failed, Some(BOUND)).await.unwrap();
    let reason = failed.failure.unwrap().reason;
    assert!(reason.contains("Open https://auth.example/device?code=AB-12 to log in."), "{reason}");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_cannot_begin_fails_its_session_with_its_words() {
    let host = host().await;
    for (agent, words) in
        [("leaves", "exit status 3"), ("newer", "version 7"), ("mute", "was not ready within 0.3 s")]
    {
        let mut opts = opts(&host, agent);
        opts.intensity = Some(1);
        let id = host.manager.start_session(opts, None).await.unwrap().id;
        let failed =
            host.event(&id, "its failure", |kind| matches!(kind, EventKind::SessionFailed { .. })).await;
        let EventKind::SessionFailed { reason, .. } = failed.kind else { panic!() };
        assert!(reason.contains(words), "{agent}: {reason}");
    }
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_error_of_the_agent_is_said_and_is_no_crash() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let prompt = host.send(&id, "fail the model is down").await;
    assert_eq!(completed(&host, &id, prompt).await, (Outcome::Completed, "error".into()));
    let said = |kind: &EventKind| matches!(kind, EventKind::SystemMessage { text } if text.contains("the model is down"));
    host.event(&id, "its words", said).await;
    assert_eq!(host.run(&id, "say fine").await, "fine");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_error_of_its_model_that_an_agent_gives_as_its_answer_is_said() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let prompt = host.send(&id, "say API Error: 529 overloaded").await;
    assert_eq!(completed(&host, &id, prompt).await, (Outcome::Completed, "end_turn".into()));
    let words = "an error of its model: API Error: 529 overloaded";
    let said = |kind: &EventKind| matches!(kind, EventKind::SystemMessage { text } if text.ends_with(words));
    host.event(&id, "that it is an error", said).await;
    host.manager.shutdown().await;
}

#[tokio::test]
async fn a_turn_that_the_agent_itself_cancels_is_no_crash() {
    let host = host().await;
    let id = session(&host, "plain").await;
    let prompt = host.send(&id, "say no; stop cancelled").await;
    assert_eq!(completed(&host, &id, prompt).await, (Outcome::Aborted, "cancelled".into()));
    assert_eq!(host.run(&id, "say on").await, "on");
    assert_eq!(host.manager.get_session(&id).await.unwrap().incarnation, 1);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_dies_whenever_it_loads_its_conversation_is_told_it_instead() {
    let host = host().await;
    let id = session(&host, "torn").await;
    assert_eq!(host.run(&id, "say one").await, "one");
    kill(host.pid(&id).await);
    let replayed =
        |kind: &EventKind| matches!(kind, EventKind::SessionReady { restore: Restore::Replayed, .. });
    host.event(&id, "that it is told the turns before", replayed).await;
    assert_eq!(host.run(&id, "recall").await, "remembered 0 told 1 last []");
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_agent_whose_program_is_missing_for_a_while_is_waited_for_and_keeps_its_conversation() {
    use std::os::unix::fs::PermissionsExt;
    let host = host().await;
    let (place, kept) = (host.dir.path().join("bin"), host.dir.path().join("kept"));
    let memory = host.dir.path().join("memory");
    std::fs::create_dir(&place).unwrap();
    let (program, aside) = (place.join("agent"), place.join("aside"));
    let script = |path: &std::path::Path, text: &str| {
        let _ = std::fs::remove_file(path);
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    script(&kept, &format!("#!/bin/sh\nexec {} \"$@\"\n", beside("acp-agent").display()));
    std::os::unix::fs::symlink(&kept, &program).unwrap();
    let command = format!("[\"{}\", \"--load\", \"--memory\", \"{}\"]", program.display(), memory.display());
    let profile = format!("[agents.moved]\nkind = \"acp\"\ncommand = {command}\n");
    std::fs::write(host.config(), profile).unwrap();
    let id = session(&host, "moved").await;
    assert_eq!(host.run(&id, "say one").await, "one");
    // Missing; a wrapper that does not find its program; one that cannot be executed; one that is being written.
    let mut incarnation = 1;
    let busy = std::cell::RefCell::new(None);
    let ways: [(&str, &dyn Fn()); 4] = [
        ("No such file", &|| std::fs::rename(&program, &aside).unwrap()),
        ("exit status 127", &|| script(&program, "#!/bin/sh\nexec /nonexistent/node\n")),
        ("ermission denied", &|| {
            script(&program, "#!/bin/sh\n");
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("Text file busy", &|| {
            std::fs::remove_file(&program).unwrap();
            std::fs::copy("/bin/true", &program).unwrap();
            *busy.borrow_mut() = Some(std::fs::OpenOptions::new().append(true).open(&program).unwrap());
        }),
    ];
    for (said, away) in ways {
        away();
        kill(host.pid(&id).await);
        // More starts than the budget of restarts has.
        let mut failed = 0;
        let mut stream = host.manager.subscribe(Some(0), Some(id.clone()));
        while failed < 6 {
            let records = tokio::time::timeout(BOUND, stream.next()).await.expect(said).unwrap().unwrap();
            for record in records {
                let event = record.event().unwrap();
                if let EventKind::SessionRestarting { reason, .. } = &event.kind
                    && event.incarnation > incarnation
                {
                    assert!(reason.contains(said), "{said}: {reason}");
                    failed += 1;
                }
            }
        }
        *busy.borrow_mut() = None;
        let next = place.join("next");
        std::os::unix::fs::symlink(&kept, &next).unwrap();
        std::fs::rename(&next, &program).unwrap();
        assert_eq!(restarted(&host, &id, incarnation + 1).await.0, Restore::Loaded, "{said}");
        assert_eq!(
            host.run(&id, "recall").await.split(' ').nth(3),
            Some("0"),
            "{said}: it is told nothing anew"
        );
        incarnation = host.manager.get_session(&id).await.unwrap().incarnation;
    }
    let given_up = |event: &manager::protocol::event::Event| matches!(&event.kind, EventKind::SystemMessage { text } if text.contains("begins anew"));
    assert!(!host.events(&id).await.iter().any(given_up));
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_hangs_over_its_conversation_takes_the_next_way_back_into_it() {
    let host = host().await;
    let all = [
        ("stuck", Restore::Loaded, "remembered 1 told 0 last [say one]"),
        ("stuck-twice", Restore::Replayed, "remembered 0 told 1 last []"),
    ];
    let all = all.map(async |(agent, restore, recalled)| {
        let id = session(&host, agent).await;
        assert_eq!(host.run(&id, "say one").await, "one");
        kill(host.pid(&id).await);
        assert_eq!(restarted(&host, &id, 2).await.0, restore, "{agent}");
        assert_eq!(host.run(&id, "recall").await, recalled, "{agent}");
        assert_eq!(host.manager.get_session(&id).await.unwrap().incarnation, 2, "{agent}: it took one process");
        let said = |kind: &EventKind| matches!(kind, EventKind::SystemMessage { text } if text.contains("says nothing any more"));
        host.event(&id, "why", said).await;
    });
    let [one, two] = all;
    tokio::join!(one, two);
    host.manager.shutdown().await;
}

#[tokio::test]
async fn an_agent_that_asks_without_reading_waits_and_its_worker_does_not_grow() {
    let host = host().await;
    let here = host.dir.path().to_owned();
    std::fs::write(here.join("big.txt"), "x".repeat(1 << 20)).unwrap();
    let id = session(&host, "plain").await;
    let info = host.manager.get_session(&id).await.unwrap();
    let (worker, agent) = (info.pid.unwrap(), info.agent_pid.unwrap());
    let prompt = host.send(&id, &format!("greedy 64 big.txt {}", here.join("go").display())).await;
    let stopped = move || {
        // The pipe to the agent is full, and the worker waits.
        let stdin = std::fs::File::open(format!("/proc/{agent}/fd/0")).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        let full = rustix::io::ioctl_fionread(&stdin).unwrap() >= 64 * 1024 - 4096;
        (full && status.contains("State:\tS")).then_some(status)
    };
    let status = tokio::task::spawn_blocking(move || until("that the worker waits", stopped)).await.unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 32 * 1024, "the worker has taken {peak} KiB for an agent that reads nothing");
    std::fs::write(here.join("go"), "").unwrap();
    host.end_of(&id, prompt).await;
    assert_eq!(host.printed(&id, prompt).await, format!("64 answers of {} bytes", 64 << 20));
    host.manager.shutdown().await;
}

#[tokio::test]
async fn what_is_set_in_an_agent_stays_set_whoever_dies() {
    let host = host().await;
    let id = session(&host, "loads").await;
    let set = async |name: &str, value: &str| host.manager.set(&id, name, value, BOUND).await;
    assert_eq!(host.run(&id, "settings").await, "mode ask effort low brief false");
    assert_eq!(set("mode", "code").await.unwrap().answer, Some(serde_json::json!({})));
    let options = set("effort", "high").await.unwrap().answer.unwrap();
    assert_eq!(options["configOptions"][0]["currentValue"], "high");
    let options = set("brief", "true").await.unwrap().answer.unwrap();
    assert_eq!(options["configOptions"][1]["currentValue"], true);
    assert_eq!(host.run(&id, "settings").await, "mode code effort high brief true");
    for (name, value, words) in [
        ("mode", "none", "no such mode"),
        ("effort", "none", "no such value"),
        ("brief", "yes", "true or false"),
        ("colour", "red", "it has brief, effort, mode"),
    ] {
        let refused = set(name, value).await.unwrap_err();
        assert!(refused.code() == "setting_refused" && refused.to_string().contains(words), "{refused}");
    }
    let info = host.manager.settings(&id).await.unwrap();
    assert_eq!(info.modes.unwrap()["currentModeId"], "code");
    assert_eq!(info.config_options.unwrap()[0]["currentValue"], "high");
    assert_eq!(
        info.set.into_iter().collect::<Vec<_>>(),
        [("brief", "true"), ("effort", "high"), ("mode", "code")]
            .map(|(name, value)| (name.into(), value.into()))
    );
    kill(host.pid(&id).await);
    restarted(&host, &id, 2).await;
    assert_eq!(host.run(&id, "settings").await, "mode code effort high brief true");
    // While nobody is there to set it, it waits.
    host.manager.stop_session(&id, Default::default()).await.unwrap();
    assert_eq!(set("effort", "low").await.unwrap().answer, None);
    assert_eq!(host.manager.settings(&id).await.unwrap().waiting["effort"], "low");
    let host = host.restarted().await;
    host.manager.restart_session(&id).await.unwrap();
    let low = |kind: &EventKind| matches!(kind, EventKind::SettingChanged { value, .. } if value == "low");
    host.event(&id, "that it is set", low).await;
    assert_eq!(host.run(&id, "settings").await, "mode code effort low brief true");
    let shell = host.session().await;
    let none = host.manager.set(&shell, "mode", "code", BOUND).await.unwrap_err();
    assert_eq!(none.code(), "no_settings");
    host.manager.shutdown().await;
}
