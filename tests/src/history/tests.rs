//! Each violation is found.

use manager::core::Cause;
use protocol::event::{Decider, Disposition, Outcome, RemovedBy, Timestamp};
use protocol::{PermissionId, Restore, Stream};
use serde_json::json;

use super::*;

/// Writes a history line by line.
#[derive(Default)]
struct Story {
    history: History,
    next: EventId,
}

fn id() -> SessionId {
    SessionId::numbered(1)
}

fn child() -> SessionId {
    SessionId::numbered(2)
}

impl Story {
    fn tell_of(
        &mut self,
        session: Option<SessionId>,
        incarnation: Incarnation,
        kind: EventKind,
    ) -> Arc<Event> {
        self.next += 1;
        let event = Arc::new(Event { id: self.next, at: Timestamp(self.next), session, incarnation, kind });
        self.history.event(&event);
        event
    }

    fn tell(&mut self, incarnation: Incarnation, kind: EventKind) -> &mut Self {
        self.tell_of(Some(id()), incarnation, kind);
        self
    }

    fn created(&mut self) -> &mut Self {
        self.tell(1, created())
    }

    fn started(&mut self, incarnation: Incarnation) -> &mut Self {
        self.tell(incarnation, EventKind::SessionStarted { pid: 100 })
    }

    fn ready(&mut self, incarnation: Incarnation) -> &mut Self {
        let ready = EventKind::SessionReady { pid: 100, agent_pid: None, restore: Restore::Fresh };
        self.started(incarnation).tell(incarnation, ready)
    }

    fn restarting(&mut self, incarnation: Incarnation) -> &mut Self {
        self.tell(incarnation, restarting("worker killed by SIGKILL"))
    }

    fn restarted(&mut self, incarnation: Incarnation) -> &mut Self {
        let (old_pid, new_pid, reason) = (Some(100), 101, String::new());
        self.tell(
            incarnation,
            EventKind::SessionRestarted { old_pid, new_pid, reason, restore: Restore::Fresh },
        )
    }

    /// Accepts a prompt.
    fn prompt(&mut self, text: &str) -> PromptId {
        let prompt_id = PromptId(self.next + 1);
        let (disposition, retry_of) = (Disposition::Queued, None);
        let (text, attachments) = (text.into(), Vec::new());
        self.tell(1, EventKind::PromptAccepted { prompt_id, text, disposition, retry_of, attachments });
        prompt_id
    }

    fn turn(&mut self, incarnation: Incarnation, turn: u64, prompt_id: PromptId) -> &mut Self {
        self.tell(incarnation, EventKind::PromptStarted { prompt_id });
        self.tell(incarnation, EventKind::TurnStarted { turn, prompt_id, agent_pid: 9 })
    }

    fn completed(&mut self, incarnation: Incarnation, turn: u64, prompt_id: PromptId) -> &mut Self {
        let stop_reason = "end_turn".into();
        let outcome = Outcome::Completed;
        self.tell(incarnation, EventKind::TurnCompleted { turn, prompt_id, outcome, stop_reason, exit: None })
    }

    fn interrupted(
        &mut self,
        incarnation: Incarnation,
        turn: u64,
        prompt_id: PromptId,
        will_retry: bool,
    ) -> &mut Self {
        let reason = String::new();
        self.tell(incarnation, EventKind::TurnInterrupted { turn, prompt_id, reason, will_retry })
    }

    fn chunk(&mut self, incarnation: Incarnation, turn: u64, prompt_id: PromptId) -> &mut Self {
        let (stream, text) = (Stream::Stdout, "words".into());
        self.tell(incarnation, EventKind::MessageChunk { turn, prompt_id, stream, text, payload: None })
    }

    /// A session in the middle of its first turn.
    fn works(&mut self) -> PromptId {
        let prompt = self.created().ready(1).prompt("one");
        self.turn(1, 1, prompt);
        prompt
    }

    fn asked(&mut self, turn: u64, prompt_id: PromptId) -> PermissionId {
        self.asks(Some(turn), Some(prompt_id))
    }

    fn asked_between_turns(&mut self) -> &mut Self {
        self.asks(None, None);
        self
    }

    fn asks(&mut self, turn: Option<u64>, prompt_id: Option<PromptId>) -> PermissionId {
        let permission_id = PermissionId(self.next + 1);
        let (tool_call_id, title) = ("call".into(), "Write a file".into());
        let (options, payload) = (crate::sample::options(&["allow_once", "reject_once"]), json!({}));
        self.tell(
            1,
            EventKind::PermissionRequested {
                permission_id,
                turn,
                prompt_id,
                tool_call_id,
                title,
                options,
                payload,
            },
        );
        permission_id
    }

    fn resolved(&mut self, permission_id: PermissionId, option_id: &str) -> &mut Self {
        let (option_id, by) = (option_id.into(), Decider::User);
        self.tell(1, EventKind::PermissionResolved { permission_id, option_id, by })
    }

    fn expired(&mut self, permission_id: PermissionId) -> &mut Self {
        self.tell(1, EventKind::PermissionExpired { permission_id, reason: String::new() })
    }

    fn tool(&mut self, turn: u64, prompt_id: PromptId, status: &str) -> &mut Self {
        let (tool_call_id, payload) = ("call".into(), json!({ "status": status }));
        self.tell(1, EventKind::ToolCallUpdated { turn, prompt_id, tool_call_id, payload })
    }

    fn tool_interrupted(&mut self, prompt_id: PromptId) -> &mut Self {
        self.tell(1, EventKind::ToolCallInterrupted { turn: 1, prompt_id, tool_call_id: "call".into() })
    }

    fn removed(&mut self, prompt_id: PromptId) -> &mut Self {
        self.tell(1, EventKind::PromptRemoved { prompt_id, reason: RemovedBy::Cleared })
    }

    fn stopped(&mut self, incarnation: Incarnation) -> &mut Self {
        self.tell(incarnation, EventKind::SessionStopped { exit: Some(Exit::Code(0)) })
    }

    fn finish(&mut self, open: &[PromptId]) {
        self.history.finish(&open.iter().copied().collect());
    }

    #[track_caller]
    fn is_fine(&self) {
        assert!(self.history.violations().is_empty(), "{}", self.history.violations()[0]);
    }

    /// The last line broke a promise, and none did before.
    #[track_caller]
    fn is_wrong(&self, what: &str) {
        let found = self.history.violations();
        assert!(found.iter().any(|violation| violation.what.contains(what)), "{what}: {found:?}");
    }
}

fn created() -> EventKind {
    let (agent, workdir) = ("shell".into(), "/".into());
    EventKind::SessionCreated { agent, workdir, title: None, model: None, parent: None }
}

fn restarting(reason: &str) -> EventKind {
    let (old_pid, exit) = (Some(100), Some(Exit::Signal(9)));
    let last_words = Vec::new();
    EventKind::SessionRestarting { reason: reason.into(), old_pid, exit, delay_ms: 0, deaths: 1, last_words }
}

fn failed() -> EventKind {
    let (reason, exit) = (String::new(), Some(Exit::Code(1)));
    EventKind::SessionFailed { reason, exit, last_words: Vec::new(), survivors: Vec::new() }
}

#[test]
fn a_life_without_fault_is_found_without_fault() {
    let mut story = Story::default();
    story.history.texts_are_unique();
    story.created().ready(1);
    let first = story.prompt("one");
    story.turn(1, 1, first).chunk(1, 1, first);
    let second = story.prompt("two");
    story.history.acknowledged(&id(), second, Some("key"));
    story.interrupted(1, 1, first, true).restarting(1).ready(2).restarted(2);
    story.turn(2, 2, first).completed(2, 2, first).turn(2, 3, second).interrupted(2, 3, second, false);
    story.stopped(2).tell(2, EventKind::SessionDeleted {});
    story.tell(3, created()).ready(3);
    let open = story.prompt("one");
    story.finish(&[open]);
    story.is_fine();
}

#[test]
fn event_ids_that_do_not_grow_are_found() {
    let mut story = Story::default();
    story.created();
    story.next -= 1;
    story.started(1).is_wrong("recorded after");
}

#[test]
fn a_prompt_that_ends_twice_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story.turn(1, 1, prompt).completed(1, 1, prompt).is_fine();
    story.removed(prompt).is_wrong("is Ended and not Queued");
}

#[test]
fn a_prompt_that_runs_again_after_its_end_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story.turn(1, 1, prompt).interrupted(1, 1, prompt, false).is_fine();
    story.turn(1, 2, prompt).is_wrong("is Interrupted and not Queued");
}

#[test]
fn a_prompt_that_is_forgotten_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story.finish(&[]);
    story.is_wrong(&format!("{prompt} was accepted, has not ended, and is forgotten"));
}

#[test]
fn a_prompt_that_has_ended_and_still_waits_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story.turn(1, 1, prompt).completed(1, 1, prompt).finish(&[prompt]);
    story.is_wrong("has ended and still stands");
}

#[test]
fn an_acknowledged_prompt_that_is_in_no_journal_is_found() {
    let mut story = Story::default();
    story.created().history.acknowledged(&id(), PromptId(7), None);
    story.finish(&[]);
    story.is_wrong("in no journal");
}

#[test]
fn a_prompt_that_is_accepted_twice_is_found() {
    let mut story = Story::default();
    story.history.texts_are_unique();
    story.created().prompt("one");
    story.prompt("one");
    story.is_wrong("`one` was accepted before");
}

#[test]
fn a_key_that_stands_for_two_prompts_is_found() {
    let mut story = Story::default();
    let (first, second) = (story.created().prompt("one"), story.prompt("two"));
    story.history.acknowledged(&id(), first, Some("key"));
    story.history.acknowledged(&id(), first, Some("key"));
    story.is_fine();
    story.history.acknowledged(&id(), second, Some("key"));
    story.is_wrong("key `key` stood for");
}

#[test]
fn a_key_that_created_two_sessions_is_found() {
    let mut story = Story::default();
    story.history.created(&id(), Some("key"));
    story.history.created(&child(), Some("key"));
    story.is_wrong("key `key` stood for session-1");
}

#[test]
fn output_of_a_dead_incarnation_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story
        .turn(1, 1, prompt)
        .interrupted(1, 1, prompt, true)
        .restarting(1)
        .ready(2)
        .turn(2, 2, prompt)
        .is_fine();
    story.chunk(1, 2, prompt).is_wrong("incarnation 1 speaks");
}

#[test]
fn a_word_after_the_exit_is_found() {
    let mut story = Story::default();
    story.created().started(1).restarting(1).is_fine();
    let ready = EventKind::SessionReady { pid: 100, agent_pid: None, restore: Restore::Fresh };
    story.tell(1, ready).is_wrong("incarnation 1 speaks, and None lives");
}

#[test]
fn a_turn_that_outlives_its_process_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story.turn(1, 1, prompt).restarting(1).is_wrong("has not ended");
}

#[test]
fn two_turns_at_once_are_found() {
    let mut story = Story::default();
    let (first, second) = (story.created().ready(1).prompt("one"), story.prompt("two"));
    story.turn(1, 1, first).turn(1, 2, second).is_wrong("the turn of");
}

#[test]
fn a_turn_of_a_prompt_that_was_not_started_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story
        .tell(1, EventKind::TurnStarted { turn: 1, prompt_id: prompt, agent_pid: 9 })
        .is_wrong("began where None");
}

#[test]
fn an_exit_that_is_told_twice_is_found() {
    let mut story = Story::default();
    story.created().started(1).restarting(1).is_fine();
    story.tell(1, failed()).is_wrong("was told before");
}

#[test]
fn an_exit_that_is_not_told_is_found() {
    let mut story = Story::default();
    story.created().started(1).started(2).is_wrong("the end of incarnation 1 was not told");
}

#[test]
fn an_incarnation_that_is_used_again_is_found() {
    let mut story = Story::default();
    story.created().started(1).restarting(1).started(1).is_wrong("incarnation 1 began after 1");
}

#[test]
fn an_incarnation_of_a_removed_session_that_is_used_again_is_found() {
    let mut story = Story::default();
    story.created().started(1).stopped(1).tell(1, EventKind::SessionDeleted {}).is_fine();
    story.created().is_wrong("was that of a removed session");
}

#[test]
fn a_restart_that_nobody_announced_is_found() {
    let mut story = Story::default();
    story.created().ready(1).restarted(1).is_wrong("nothing was being restarted");
}

#[test]
fn prompts_that_wait_in_a_stopped_session_are_found() {
    let mut story = Story::default();
    story.created().ready(1).prompt("one");
    story.stopped(1).is_wrong("still waits");
}

#[test]
fn two_workers_of_one_session_are_found() {
    let mut story = Story::default();
    story.created().history.worker_began(&id(), 1);
    story.history.worker_ended(&id(), 1, Exit::Unknown);
    story.history.worker_began(&id(), 2);
    story.is_fine();
    story.history.worker_began(&id(), 3);
    story.is_wrong("live at once");
}

#[test]
fn too_many_restarts_are_found() {
    let mut story = Story::default();
    story.created().history.policy(&id(), 2, 60_000);
    story.started(1).restarting(1).started(2).restarting(2).started(3);
    story.tell(3, restarting(&Cause::ManagerLost.to_string())).started(4).is_fine();
    story.restarting(4).is_wrong("restart 3 within 60000 ms");
}

#[test]
fn restarts_by_hand_begin_a_new_budget() {
    let mut story = Story::default();
    story.created().history.policy(&id(), 1, 60_000);
    story.started(1).restarting(1).history.restarted_by_hand(&id());
    story.started(2).restarting(2).is_fine();
}

#[test]
fn a_token_that_changes_is_found() {
    let mut story = Story::default();
    story.created().history.token(&id(), "one");
    story.history.token(&id(), "one");
    story.is_fine();
    story.history.token(&id(), "two");
    story.is_wrong("token has changed");
}

#[test]
fn a_sub_agents_end_that_is_told_twice_or_never_is_found() {
    let mut story = Story::default();
    story.created().tell_of(Some(child()), 1, created());
    let started = EventKind::SubagentStarted { child: child(), task: String::new(), model: None };
    let ended = EventKind::SubagentCompleted { child: child(), outcome: Outcome::Completed };
    story.tell(1, started.clone()).tell(1, ended).is_fine();
    story
        .tell(1, EventKind::SubagentLost { child: child(), reason: String::new() })
        .is_wrong("was told before");

    let mut story = Story::default();
    story.created().tell_of(Some(child()), 1, created());
    story.tell(1, started).tell_of(Some(child()), 1, EventKind::SessionDeleted {});
    story.is_wrong("the end of its task was not told");
}

#[test]
fn what_a_subscriber_misses_or_sees_twice_is_found() {
    let lived = || {
        let mut story = Story::default();
        story.created();
        let other = story.tell_of(Some(child()), 1, created());
        let third = story.tell_of(Some(id()), 1, EventKind::SessionStarted { pid: 100 });
        let fourth = story.tell_of(Some(id()), 1, EventKind::SessionUpdated { pinned: true });
        story.history.subscribe("s", Some(&id()), 1);
        (story, other, third, fourth)
    };
    let (mut story, _, third, fourth) = lived();
    story.history.saw("s", &third);
    story.history.saw("s", &fourth);
    story.history.caught_up("s", 4);
    story.is_fine();
    story.history.saw("s", &fourth);
    story.is_wrong("was shown event 4 after 4");

    let (mut story, _, _, fourth) = lived();
    story.history.saw("s", &fourth);
    story.is_wrong("event 4 and not 3 before it");

    let (mut story, other, ..) = lived();
    story.history.saw("s", &other);
    story.is_wrong("not recorded or not its own");

    let (mut story, _, third, _) = lived();
    story.history.saw("s", &Arc::new(Event { incarnation: 9, ..(*third).clone() }));
    story.is_wrong("another event 3 than is recorded");

    let (mut story, _, third, _) = lived();
    story.history.saw("s", &third);
    story.history.caught_up("s", 4);
    story.is_wrong("was not shown event 4");

    let (mut story, _, third, fourth) = lived();
    story.history.saw("s", &third);
    story.history.saw("s", &fourth);
    story.history.saw("s", &Arc::new(Event { id: 5, ..(*fourth).clone() }));
    story.is_fine();
    story.finish(&[]);
    story.is_wrong("event 5, which is not recorded");
}

#[test]
fn a_promise_that_a_power_cut_takes_back_is_found() {
    let mut story = Story::default();
    let prompt = story.created().ready(1).prompt("one");
    story.turn(1, 1, prompt).chunk(1, 1, prompt).history.power_cut(5);
    story.interrupted(1, 1, prompt, true).is_fine();
    story.history.power_cut(4);
    story.is_wrong("prompt.started), a promise, was lost");
}

#[test]
fn a_violation_shows_its_own_session_only() {
    let mut story = Story::default();
    story.created().tell_of(Some(child()), 1, created());
    story.tell_of(None, 0, EventKind::ManagerStopping {});
    story.started(1).started(2);
    let shown = story.history.violations()[0].to_string();
    assert!(shown.contains("session-1/1 session.created") && shown.contains("manager.stopping"), "{shown}");
    assert!(!shown.contains("session-2"), "{shown}");
}

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
    story.tell(
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
        story.tell(1, end.clone()).is_wrong("is still open");

        let mut story = Story::default();
        let prompt = story.works();
        story.completed(1, 1, prompt).asked_between_turns().tell(1, end).is_wrong("is still open");
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
        story.tell(1, kind).is_wrong("and turn 1 of None runs");
    }
    for kind in of(1, PromptId(9)) {
        let mut story = Story::default();
        story.works();
        story.tell(1, kind).is_wrong("of prompt-9, and turn 1 of Some(prompt-4) runs");
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
        story.created().ready(1).tell(1, kind.clone()).stopped(1).is_fine();
        story.tell(1, kind).is_wrong("incarnation 1 speaks, and None lives");
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
