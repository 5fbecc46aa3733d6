//! Tools and permissions of a turn.

use protocol::PermissionId;
use serde_json::json;

use super::super::*;
use super::story::{Story, failed};

#[test]
fn a_turn_with_tools_and_permissions_is_found_without_fault() {
    let mut story = Story::default();
    let prompt = story.works();
    story.tool(1, prompt, "pending");
    let (first, second) = (story.asked(1, prompt), story.asked(1, prompt));
    story.resolved(second, "allow_once").expired(first).tool(1, prompt, "completed");
    story.tool(1, prompt, "in_progress").tool_interrupted(prompt).completed(1, 1, prompt).is_fine();
}

#[test]
fn a_permission_that_ends_twice_or_was_never_asked_is_found() {
    let asked = || {
        let mut story = Story::default();
        let prompt = story.works();
        let permission = story.asked(1, prompt);
        (story, permission)
    };
    let (mut story, permission) = asked();
    story.resolved(permission, "allow_once").is_fine();
    story.resolved(permission, "allow_once").is_wrong("has ended before");

    let (mut story, permission) = asked();
    story.expired(permission).is_fine();
    story.resolved(permission, "allow_once").is_wrong("has ended before");

    let (mut story, permission) = asked();
    story.resolved(permission, "allow_always").is_wrong("offers no allow_always");

    let (mut story, _) = asked();
    story.expired(PermissionId(2)).is_wrong("permission-2 was never asked");
}

#[test]
fn a_permission_that_is_asked_twice_is_found() {
    let mut story = Story::default();
    let prompt = story.works();
    let permission = story.asked(1, prompt);
    story.is_fine();
    let (turn, tool_call_id, title) = (1, "call".into(), String::new());
    let (permission_id, prompt_id, options, payload) = (permission, prompt, Vec::new(), json!({}));
    story.add(
        1,
        EventKind::PermissionRequested {
            permission_id,
            turn: Some(turn),
            prompt_id: Some(prompt_id),
            tool_call_id,
            title,
            options,
            payload,
        },
    );
    story.is_wrong("was asked before");
    story.is_wrong("does not have its event's number");
}

#[test]
fn a_permission_that_outlives_its_turn_is_found() {
    let mut story = Story::default();
    let prompt = story.works();
    story.asked(1, prompt);
    story.completed(1, 1, prompt).is_wrong("is still open");

    let mut story = Story::default();
    let prompt = story.works();
    story.asked(1, prompt);
    story.interrupted(1, 1, prompt, false).is_wrong("is still open");

    let mut story = Story::default();
    let prompt = story.works();
    let permission = story.asked(1, prompt);
    story.completed(1, 1, prompt).expired(permission).is_wrong("is of prompt-4, and None runs");
}

#[test]
fn a_permission_that_outlives_its_session_is_found() {
    for end in [failed(), EventKind::SessionStopped { exit: None }] {
        let mut story = Story::default();
        let prompt = story.works();
        story.asked(1, prompt);
        story.add(1, end.clone()).is_wrong("is still open");

        let mut story = Story::default();
        let prompt = story.works();
        story.completed(1, 1, prompt).asked_between_turns().add(1, end).is_wrong("is still open");
    }
}

#[test]
fn work_outside_its_turn_is_found() {
    let payload = || json!({});
    let of = |turn, prompt_id| {
        let (tool_call_id, text) = (String::from("call"), String::new());
        let (id, title, options) = (tool_call_id.clone(), text.clone(), Vec::new());
        [
            EventKind::ThoughtChunk { turn, prompt_id, text, payload: payload() },
            EventKind::PlanUpdated { turn, prompt_id, payload: payload() },
            EventKind::ToolCallStarted { turn, prompt_id, tool_call_id, title, payload: payload() },
            EventKind::ToolCallUpdated { turn, prompt_id, tool_call_id: id.clone(), payload: payload() },
            EventKind::ToolCallInterrupted { turn, prompt_id, tool_call_id: id.clone() },
            EventKind::AgentUpdated { prompt_id: Some(prompt_id), payload: payload() },
            EventKind::PermissionRequested {
                permission_id: PermissionId(8),
                turn: Some(turn),
                prompt_id: Some(prompt_id),
                tool_call_id: id,
                title: String::new(),
                options,
                payload: payload(),
            },
        ]
    };
    for kind in of(1, PromptId(4)) {
        let mut story = Story::default();
        let prompt = story.works();
        assert_eq!(prompt, PromptId(4));
        story.completed(1, 1, prompt).is_fine();
        story.add(1, kind).is_wrong("and turn 1 of None runs");
    }
    for kind in of(1, PromptId(9)) {
        let mut story = Story::default();
        story.works();
        story.add(1, kind).is_wrong("of prompt-9, and turn 1 of Some(prompt-4) runs");
    }
}

#[test]
fn an_agent_that_speaks_after_its_end_is_found() {
    let usage = protocol::api::Usage::default();
    for kind in [
        EventKind::UsageUpdated { usage, payload: json!({}) },
        EventKind::AgentUpdated { prompt_id: None, payload: json!({}) },
    ] {
        let mut story = Story::default();
        story.created().ready(1).add(1, kind.clone()).stopped(1).is_fine();
        story.add(1, kind).is_wrong("incarnation 1 speaks, and None lives");
    }
}

#[test]
fn a_tool_call_that_is_forgotten_is_found() {
    let mut story = Story::default();
    let prompt = story.works();
    story.tool(1, prompt, "pending").is_fine();
    story.completed(1, 1, prompt).is_wrong("tool call call is open, and not said to be interrupted");
}

#[test]
fn a_tool_call_that_is_interrupted_twice_or_was_not_open_is_found() {
    let mut story = Story::default();
    let prompt = story.works();
    story.tool(1, prompt, "pending").tool_interrupted(prompt).is_fine();
    story.tool_interrupted(prompt).is_wrong("was interrupted before");

    let mut story = Story::default();
    let prompt = story.works();
    story.tool(1, prompt, "pending").tool(1, prompt, "failed").is_fine();
    story.tool_interrupted(prompt).is_wrong("is not open");

    let mut story = Story::default();
    let prompt = story.works();
    story.tool_interrupted(prompt).is_wrong("is not open");
}

#[test]
fn what_a_power_cut_takes_back_of_a_turn_never_was() {
    let mut story = Story::default();
    let prompt = story.works();
    story.tool(1, prompt, "pending").tool(1, prompt, "completed");
    story.asked(1, prompt);
    let kept = story.next - 2;
    story.history.power_cut(kept);
    // The end of the tool call and the question are gone: the one is open again, the other needs no end.
    story.tool_interrupted(prompt).interrupted(1, 1, prompt, false).is_fine();
}
