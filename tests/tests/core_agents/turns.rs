//! Turns: what the agent reports in one, how it ends, what a crash leaves of it.

use std::sync::Arc;

use harness::sample::{self, AT, ask, gone, identity, new_prompt, ready, turn};
use manager::core::{Command, Effect, Goal, Input, NewPrompt, Phase, Reply, Seen, Session, Spec, State};
use protocol::api::{Failure, OnCrash, PermissionAnswer, Usage, WhenBusy};
use protocol::event::{EventKind, Outcome, Resolution, Timestamp};
use protocol::wire::{Agent, AgentDetails, PromptVia, Spent, TurnEnd, Update};
use protocol::{Exit, PermissionId, PromptId, Restore};
use serde_json::{Value, json};

use super::{PROMPT, asks, ended, give, parks, payload, permit, see, starts, updated, wish};

#[test]
fn what_an_agent_tells_of_its_sub_agents_is_kept_in_bounds_and_begins_anew_with_its_process() {
    let mut session = parks();
    let tell = |session: &mut Session, received: Value| {
        see(session, Seen::Updated { prompt: Some(PROMPT), update: Update::Other, payload: received });
        session.info(AT.mono).children
    };
    let child = |id: &str, title: Value| json!({ "sessionUpdate": "subagent_update", "sessionId": id, "title": title });
    for number in 0..40 {
        tell(&mut session, child(&format!("c{number}"), json!("t".repeat(5000))));
    }
    let mut received = child("c39", Value::Null);
    received["state"] = json!({ "state": "running" });
    let children = tell(&mut session, received);
    assert_eq!((children.len(), &*children[0].id, &*children[31].id), (32, "c8", "c39"));
    assert!(children[0].title.as_ref().unwrap().len() < 300);
    assert_eq!((children[31].title.as_deref(), children[31].state.as_deref()), (None, Some("running")));
    // Not its name: nothing.
    assert_eq!(tell(&mut session, child(&"x".repeat(500), json!("long"))), children);
    assert_eq!(tell(&mut session, json!({ "sessionUpdate": "subagent_update", "sessionId": 5 })), children);
    let details = AgentDetails { name: None, version: None, resume: false, load: false };
    see(&mut session, Seen::Introduced(details));
    assert_eq!(session.info(AT.mono).children, []);
}

#[test]
fn a_turn_ends_with_the_reason_that_the_agent_gives() {
    for reason in ["end_turn", "max_tokens", "refusal"] {
        let mut session = parks();
        let (events, _) = see(&mut session, ended(TurnEnd::Stopped { reason: reason.into() }));
        let (outcome, stop_reason) = (Outcome::Completed, reason.to_owned());
        assert_eq!(
            events,
            [EventKind::TurnCompleted { turn: 1, prompt_id: PROMPT, outcome, stop_reason, exit: None }]
        );
        assert!(matches!(session.state, State::Ready { .. }), "it lives on");
    }
}

#[test]
fn usage_is_kept_in_the_session() {
    let mut session = parks();
    assert_eq!(session.info(AT.mono).usage, None);
    let spent = Spent { input_tokens: Some(100), output_tokens: Some(7), cost_micro_usd: None };
    let (events, _) = see(&mut session, updated(Update::Usage(spent)));
    let usage = Usage { input_tokens: 100, output_tokens: 7, cost_usd: None };
    assert_eq!(events, [EventKind::UsageUpdated { usage: usage.clone(), payload: payload() }]);
    assert_eq!(session.info(AT.mono).usage, Some(usage));

    // Tokens are those of a turn, and the cost is a sum. A missing value stays as it was; it belongs to no turn.
    let spent = Spent { input_tokens: Some(250), cost_micro_usd: Some(1_250_000), ..Spent::default() };
    see(&mut session, ended(TurnEnd::Finished));
    see(&mut session, Seen::Updated { prompt: None, update: Update::Usage(spent), payload: payload() });
    let usage = Usage { input_tokens: 350, output_tokens: 7, cost_usd: Some(1.25) };
    assert_eq!(session.info(AT.mono).usage, Some(usage.clone()));
    // It outlives the process.
    see(&mut session, gone(Exit::Signal(9)));
    assert_eq!(session.info(AT.mono).usage, Some(usage));
}

#[test]
fn a_tool_call_open_at_a_crash_is_said_to_be_interrupted() {
    let mut session = parks();
    let begins = |id: &str, ended| updated(Update::ToolCall { id: id.into(), title: "Run".into(), ended });
    let goes_on = |id: &str, ended| updated(Update::ToolCallUpdate { id: id.into(), ended });
    for seen in [
        begins("done", false),
        begins("open", false),
        begins("done at once", true),
        goes_on("never begun", false),
        goes_on("open", false),
        goes_on("done", true),
    ] {
        see(&mut session, seen);
    }
    let (events, _) = see(&mut session, gone(Exit::Signal(9)));
    let interrupted =
        |id: &str| EventKind::ToolCallInterrupted { turn: 1, prompt_id: PROMPT, tool_call_id: id.into() };
    let reason = "worker killed by SIGKILL".to_owned();
    assert_eq!(
        events[..3],
        [
            interrupted("open"),
            interrupted("never begun"),
            EventKind::TurnInterrupted { turn: 1, prompt_id: PROMPT, reason, will_retry: false },
        ]
    );
}

#[test]
fn a_tool_call_that_a_turn_leaves_open_is_said_to_be_interrupted_too() {
    for (abort, end) in [(false, "end_turn"), (true, "cancelled")] {
        let mut session = parks();
        see(&mut session, updated(Update::ToolCall { id: "open".into(), title: "Run".into(), ended: false }));
        if abort {
            wish(&mut session, Command::Abort);
        }
        let (events, _) = see(&mut session, ended(TurnEnd::Stopped { reason: end.into() }));
        let tool_call_id = "open".to_owned();
        assert_eq!(events[0], EventKind::ToolCallInterrupted { turn: 1, prompt_id: PROMPT, tool_call_id });
    }
}

#[test]
fn a_notice_is_said_to_whoever_reads() {
    let text = "there is a newer agent".to_owned();
    let received = see(&mut parks(), Seen::Notice(text.clone()));
    assert_eq!(received, (vec![EventKind::SystemMessage { text }], Vec::new()));
}

#[test]
fn an_agent_that_wants_a_log_in_fails_its_session_at_once() {
    let why = "log in with `agent login`";
    let starting = State::Starting { worker: Some(identity(100)), deadline: AT.mono + 1 };
    let spec = Arc::new(sample::acp_spec());
    let mut session = Session { spec, ..sample::session("s", starting) };
    wish(&mut session, new_prompt("text"));
    let (events, effects) = see(&mut session, Seen::LoginNeeded(why.into()));
    assert_eq!((events, effects), (Vec::new(), vec![Effect::Terminate { incarnation: 1 }]));
    let exit = Exit::Code(0);
    let (events, _) = see(&mut session, gone(exit));
    let failure = Failure {
        reason: why.into(),
        exit: Some(exit),
        last_words: Vec::new(),
        survivors: Vec::new(),
        failed_at: Some(Timestamp(AT.wall)),
    };
    let failed = EventKind::SessionFailed {
        reason: why.into(),
        exit: Some(exit),
        last_words: Vec::new(),
        survivors: Vec::new(),
    };
    assert_eq!(events, [failed], "it is not started again to the same end");
    assert_eq!((&session.state, session.goal), (&State::Failed(failure), Goal::Up));
    // Somebody has logged in.
    assert_eq!(session.step(AT, 60, &Input::Command(Command::Restart)).unwrap().reply, Reply::Done);
    wish(&mut session, Command::Restart);
    assert!(matches!(session.state, State::Starting { .. }));
    assert_eq!(session.turns.queue.len(), 1, "what was accepted waits");
}

#[test]
fn a_turn_that_is_repeated_asks_anew() {
    let mut session = parks();
    session.spec = Arc::new(Spec { on_crash: OnCrash::Retry, ..(*session.spec).clone() });
    see(&mut session, asks(1, ask()));
    wish(&mut session, permit(PermissionAnswer::Allow));
    see(&mut session, gone(Exit::Signal(9)));
    see(&mut session, Seen::Spawned(identity(101)));
    see(&mut session, Seen::Ready { restore: Restore::Loaded, agent_pid: Some(102) });
    let deliver = Effect::Deliver { incarnation: 2, prompt: PROMPT };
    assert_eq!(session.effects(), [deliver], "the answer was to another question");
    let (events, _) = give(&mut session, AT, 90, Input::Seen(2, asks(1, ask())));
    assert!(matches!(&events[..], [EventKind::PermissionRequested { permission_id: PermissionId(90), .. }]));
}

#[test]
fn a_prompt_that_an_agents_death_cut_off_can_be_decided_about() {
    let mut session = parks();
    see(&mut session, Seen::AgentDied("the agent ended".into()));
    see(&mut session, gone(Exit::Code(0)));
    let (events, _) = wish(&mut session, Command::Resolve(PROMPT, Resolution::Drop));
    let action = Resolution::Drop;
    assert_eq!(events, [EventKind::PromptResolved { prompt_id: PROMPT, action, retried_as: None }]);
}

#[test]
fn a_turn_that_the_agent_itself_cancels_is_aborted_and_nothing_is_restarted() {
    let mut session = parks();
    let (events, effects) = see(&mut session, ended(TurnEnd::Stopped { reason: "cancelled".into() }));
    let [EventKind::TurnCompleted { outcome, stop_reason, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*outcome, stop_reason.as_str()), (Outcome::Aborted, "cancelled"));
    assert!(effects.is_empty() && session.turns.running.is_none() && session.turns.queue.is_empty());
    assert!(matches!(session.state, State::Ready { .. }));
}

#[test]
fn a_prompt_that_cannot_become_an_argument_is_refused_before_it_is_accepted() {
    let argument =
        |prompt_via| Agent::Command { argv: vec!["/bin/agent".into()], prompt_via, transcript: true };
    let acp = sample::acp_spec().agent;
    for (agent, is_bounded) in [
        (Agent::Shell, true),
        (argument(PromptVia::Argument), true),
        (argument(PromptVia::Stdin), false),
        (acp, false),
    ] {
        let spec = Arc::new(Spec { agent, ..sample::acp_spec() });
        let mut session = Session { spec, ..sample::session("s", State::Hibernated) };
        session.turns.queue.push_back(sample::prompt(8, "waits"));
        let text = |bytes| "x".repeat(bytes);
        let prompt = |bytes| Command::Prompt(NewPrompt::text(&*text(bytes), WhenBusy::Queue));
        let edit = |bytes| Command::Edit(PromptId(8), text(bytes).into());
        for command in [prompt(131_071), edit(131_071)] {
            let refused = session.step(AT, 60, &Input::Command(command)).err();
            assert_eq!(refused.map(|refusal| refusal.code()), is_bounded.then_some("prompt_too_large"));
        }
        assert!(session.step(AT, 60, &Input::Command(edit(131_070))).is_ok());
        wish(&mut session, prompt(131_070));
    }
}

#[test]
fn a_transcript_is_owed_until_a_turn_that_began_with_it_has_come_to_its_end() {
    let mut session = parks();
    session.turns.running = None;
    starts(&mut session);
    see(&mut session, Seen::Ready { restore: Restore::Replayed, agent_pid: Some(7) });
    assert!(session.owes_transcript);
    // It loads what it began then, which is nothing yet.
    starts(&mut session);
    see(&mut session, Seen::Ready { restore: Restore::Loaded, agent_pid: Some(7) });
    assert!(session.owes_transcript);
    for (end, owed) in [(TurnEnd::Aborted, true), (TurnEnd::Stopped { reason: "end_turn".into() }, false)] {
        session.state = ready();
        session.turns.running = turn(Phase::Started { agent_pid: 7 });
        see(&mut session, ended(end));
        assert_eq!(session.owes_transcript, owed);
    }
}

#[test]
fn an_answer_that_comes_after_the_end_of_its_turn_makes_the_turn_no_empty_one() {
    let mut session = parks();
    session.turns.running.as_mut().unwrap().acted = false;
    see(&mut session, ended(TurnEnd::Stopped { reason: "end_turn".into() }));
    assert!(session.info(0).empty_turn);
    let update = Update::Message { text: "late".into() };
    see(&mut session, Seen::Updated { prompt: None, update, payload: payload() });
    assert!(!session.info(0).empty_turn);
}

#[test]
fn a_turn_that_ends_without_an_answer_or_a_tool_call_is_said_to_be_empty() {
    let text = |text: &str| Update::Message { text: text.into() };
    let tool = Update::ToolCall { id: "t".into(), title: "t".into(), ended: true };
    for (update, payload, empty) in [
        (None, json!({}), true),
        (Some(text("")), json!({ "content": { "type": "text", "text": "" } }), true),
        (Some(Update::Thought { text: "hm".into() }), payload(), true),
        (Some(text("a word")), json!({ "content": { "type": "text", "text": "a word" } }), false),
        (Some(text("")), json!({ "content": { "type": "image" } }), false),
        (Some(tool), payload(), false),
        (Some(Update::Plan), payload(), false),
    ] {
        let mut session = parks();
        session.turns.running.as_mut().unwrap().acted = false;
        if let Some(update) = update.clone() {
            see(&mut session, Seen::Updated { prompt: Some(PROMPT), update, payload });
        }
        let (events, _) = see(&mut session, ended(TurnEnd::Stopped { reason: "end_turn".into() }));
        let is_said = events.iter().any(
            |event| matches!(event, EventKind::SystemMessage { text } if text.starts_with("the turn is empty")),
        );
        assert_eq!((is_said, session.info(0).empty_turn), (empty, empty), "{update:?}");
        // The next turn begins anew. An aborted turn, or one that reports why it ended, is different.
        wish(&mut session, new_prompt("more"));
        assert!(!session.info(0).empty_turn);
    }
    let mut session = parks();
    session.turns.running.as_mut().unwrap().acted = false;
    let (events, _) = see(&mut session, ended(TurnEnd::Stopped { reason: "max_tokens".into() }));
    assert!(events.iter().all(|event| !matches!(event, EventKind::SystemMessage { .. })), "{events:?}");
}
