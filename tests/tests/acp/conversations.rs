//! Deaths of an agent, and the ways back into its conversation.

use harness::real::*;
use manager::protocol::Restore;
use manager::protocol::event::{EventKind, Outcome};

use super::{completed, host, restarted, session};

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
    // Tokens are reported for each turn, and the cost as a sum.
    let usage = host.manager.get_session(&id).await.unwrap().usage.unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.cost_usd), (200, 40, Some(0.25)));
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
        harness::real::script(path, text);
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
            install(std::path::Path::new("/bin/true"), &program);
            *busy.borrow_mut() = Some(std::fs::OpenOptions::new().append(true).open(&program).unwrap());
        }),
    ];
    for (result, away) in ways {
        away();
        kill(host.pid(&id).await);
        // More starts than the budget of restarts has.
        let mut failed = 0;
        let mut stream = host.manager.subscribe(Some(0), Some(id.clone()));
        while failed < 6 {
            let records = tokio::time::timeout(BOUND, stream.next()).await.expect(result).unwrap().unwrap();
            for record in records {
                let event = record.event().unwrap();
                if let EventKind::SessionRestarting { reason, .. } = &event.kind
                    && event.incarnation > incarnation
                {
                    assert!(reason.contains(result), "{result}: {reason}");
                    failed += 1;
                }
            }
        }
        *busy.borrow_mut() = None;
        let next = place.join("next");
        std::os::unix::fs::symlink(&kept, &next).unwrap();
        std::fs::rename(&next, &program).unwrap();
        assert_eq!(restarted(&host, &id, incarnation + 1).await.0, Restore::Loaded, "{result}");
        assert_eq!(
            host.run(&id, "recall").await.split(' ').nth(3),
            Some("0"),
            "{result}: it is told nothing anew"
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
        let result = |kind: &EventKind| matches!(kind, EventKind::SystemMessage { text } if text.contains("says nothing any more"));
        host.event(&id, "why", result).await;
    });
    let [one, two] = all;
    tokio::join!(one, two);
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
    // The setting waits for the next process.
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
