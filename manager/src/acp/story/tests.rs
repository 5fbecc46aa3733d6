//! A session's events as an editor sees them, one by one.

use super::*;

fn accepted(story: &mut Story, number: u64) -> PromptId {
    let prompt_id = PromptId(number);
    let disposition = protocol::event::Disposition::Started;
    let (text, attachments) = ("do it".into(), Vec::new());
    let kind = EventKind::PromptAccepted { prompt_id, text, disposition, retry_of: None, attachments };
    assert_eq!(story.translate(&kind), []);
    prompt_id
}

fn interrupted(prompt_id: PromptId, will_retry: bool) -> EventKind {
    EventKind::TurnInterrupted { turn: 1, prompt_id, reason: "killed by SIGKILL".into(), will_retry }
}

fn ended(shown: &[Shown]) -> Vec<(PromptId, End)> {
    let ended = shown.iter().filter_map(|shown| match shown {
        Shown::Ended(prompt, end) => Some((*prompt, end.clone())),
        _ => None,
    });
    ended.collect()
}

#[test]
fn a_crash_is_told_when_the_session_is_back_and_ends_the_turn() {
    let mut story = Story::default();
    let prompt = accepted(&mut story, 1);
    assert_eq!(story.translate(&interrupted(prompt, false)), []);
    assert!(story.is_down() && story.open().contains(&prompt));
    let back = EventKind::SessionRestarted {
        old_pid: None,
        new_pid: 2,
        reason: "x".into(),
        restore: Restore::Loaded,
    };
    let shown = story.translate(&back);
    assert!(matches!(&shown[0], Shown::Note(text) if text.contains("SIGKILL") && text.contains("`loaded`")));
    assert_eq!(ended(&shown), [(prompt, End::Stop("end_turn"))]);
    assert!(story.open().is_empty() && !story.is_down());
}

#[test]
fn a_turn_that_is_tried_again_has_not_ended_and_is_not_said_twice() {
    let mut story = Story::default();
    let prompt = accepted(&mut story, 1);
    let started = EventKind::PromptStarted { prompt_id: prompt };
    assert_eq!(story.translate(&started), [Shown::User(prompt, "do it".into())]);
    assert_eq!(ended(&story.translate(&interrupted(prompt, true))), []);
    assert_eq!(story.translate(&started), []);
    assert!(story.open().contains(&prompt));
}

#[test]
fn nobody_waits_for_a_session_that_has_failed() {
    let mut story = Story::default();
    let (one, two) = (accepted(&mut story, 1), accepted(&mut story, 2));
    story.translate(&interrupted(one, false));
    let failed = EventKind::SessionFailed {
        reason: "too many deaths".into(),
        exit: None,
        last_words: vec!["a\u{7}b".into()],
        survivors: vec![],
    };
    let shown = ended(&story.translate(&failed));
    assert_eq!(shown.iter().map(|(prompt, _)| *prompt).collect::<Vec<_>>(), [one, two]);
    assert!(matches!(&shown[0].1, End::Error(why) if why.contains("too many deaths: a b")));
}

#[test]
fn stop_reasons_are_those_that_clients_know() {
    let mut story = Story::default();
    for (outcome, reason, end) in [
        (Outcome::Completed, "end_turn", End::Stop("end_turn")),
        (Outcome::Completed, "max_tokens", End::Stop("max_tokens")),
        (Outcome::Completed, "bored", End::Stop("end_turn")),
        (Outcome::Aborted, "cancelled", End::Stop("cancelled")),
        (Outcome::Completed, "error", End::Error("the agent failed".into())),
    ] {
        let prompt_id = accepted(&mut story, 1);
        let stop_reason = reason.to_owned();
        let kind = EventKind::TurnCompleted { turn: 1, prompt_id, outcome, stop_reason, exit: None };
        assert_eq!(ended(&story.translate(&kind)), [(prompt_id, end)], "{reason}");
    }
}

#[test]
fn settings_follow_what_the_agent_tells() {
    let mut story = Story::default();
    let mut tell = |payload| story.translate(&EventKind::AgentUpdated { prompt_id: None, payload });
    let modes = json!({ "currentModeId": "ask", "availableModes": [] });
    assert_eq!(tell(json!({ "sessionUpdate": "session_opened", "modes": modes })), []);
    assert_eq!(tell(json!({ "sessionUpdate": "current_mode_update", "currentModeId": "code" })).len(), 1);
    assert_eq!(tell(json!({ "inputTokens": 1 })), []);
    // The next process starts in another mode, which no client has set.
    let modes = json!({ "currentModeId": "ask", "availableModes": [] });
    let shown = tell(json!({ "sessionUpdate": "session_opened", "modes": modes }));
    let ask = json!({ "sessionUpdate": "current_mode_update", "currentModeId": "ask" });
    assert_eq!(shown, [Shown::Update(None, ask)]);
    assert_eq!(story.settings()["modes"]["currentModeId"], "ask");
}

#[test]
fn an_editor_hears_of_a_mode_in_each_form_that_the_agent_has_it_in() {
    let mut story = Story::default();
    let mode = |mode: &str| {
        let values = json!([{ "value": "ask" }, { "value": "yolo" }]);
        json!([{ "id": "approvals", "category": "mode", "currentValue": mode, "options": values }])
    };
    let modes = json!({ "currentModeId": "ask", "availableModes": [{ "id": "ask" }, { "id": "yolo" }] });
    let opened = json!({ "sessionUpdate": "session_opened", "modes": modes, "configOptions": mode("ask") });
    story.translate(&EventKind::AgentUpdated { prompt_id: None, payload: opened });
    let payload = json!({ "configOptions": mode("yolo") });
    let (name, value) = ("mode".to_owned(), "yolo".to_owned());
    let set = EventKind::SettingChanged { setting_id: 1, name, value, payload };
    let both = [
        json!({ "sessionUpdate": "current_mode_update", "currentModeId": "yolo" }),
        json!({ "sessionUpdate": "config_option_update", "configOptions": mode("yolo") }),
    ];
    let both = both.map(|update| Shown::Update(None, update));
    assert_eq!(story.translate(&set), both);
    // A client that sets the value that is set already receives an update.
    assert_eq!(story.translate(&set), both[1..]);
    let payload = json!({ "sessionUpdate": "current_mode_update", "currentModeId": "ask" });
    let updates = story.translate(&EventKind::AgentUpdated { prompt_id: None, payload: payload.clone() });
    let options = json!({ "sessionUpdate": "config_option_update", "configOptions": mode("ask") });
    assert_eq!(updates, [Shown::Update(None, payload), Shown::Update(None, options)]);
}
