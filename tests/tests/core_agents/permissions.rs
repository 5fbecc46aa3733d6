//! Permissions: asked, answered once, expired, bounded in number.

use std::sync::Arc;

use harness::sample::{self, AT, ask, id, options};
use manager::core::{At, Command, Effect, Input, Permissions, Phase, Refusal, Seen, Session, Spec, limits};
use protocol::api::{PermissionAnswer, PermissionPolicy, Status};
use protocol::event::{Decider, EventKind};
use protocol::wire::{CallAnswer, PermissionAsk, TurnEnd, Update};
use protocol::{PermissionId, PromptId, Stream};
use serde_json::{Value, json};

use super::{
    FIRST, PROMPT, answer, asks, by, ended, expired, give, parks, payload, permit, requested, resolved, see,
    updated, waiting, wish, works,
};

fn named(option: &str) -> PermissionAnswer {
    PermissionAnswer::Option(option.into())
}

#[test]
fn a_parked_permission_waits_for_the_first_answer_and_refuses_the_second() {
    let mut session = parks();
    assert_eq!(see(&mut session, asks(4, ask())), (vec![requested(FIRST, &ask())], Vec::new()));
    assert_eq!((session.status(), session.deadline()), (Status::RequiresAction, None));
    let waits = &session.permissions()[0];
    assert_eq!(
        (waits.permission_id, waits.prompt_id, &*waits.title),
        (FIRST, Some(PROMPT), "Write notes.txt")
    );
    assert_eq!((waits.session_id.clone(), waits.asked_at.0), (id("s"), AT.wall));

    let received = wish(&mut session, permit(PermissionAnswer::Allow));
    let counts = vec![resolved("allow_once", Decider::User)];
    assert_eq!(received, (counts, vec![answer(4, Some("allow_once"))]));
    assert_eq!((session.status(), waiting(&session)), (Status::Running, Vec::new()));
    for second in [PermissionAnswer::Allow, PermissionAnswer::Deny, named("allow_once")] {
        let refused = session.step(AT, 60, &Input::Command(permit(second))).unwrap_err();
        assert_eq!(refused, Refusal::PermissionSettled(FIRST));
    }
    // After its turn too.
    see(&mut session, ended(TurnEnd::Finished));
    let refused = session.step(AT, 60, &Input::Command(permit(PermissionAnswer::Deny))).unwrap_err();
    assert_eq!(refused, Refusal::PermissionSettled(FIRST));
    let later = Command::Permit(PermissionId(51), PermissionAnswer::Allow);
    let refused = session.step(AT, 60, &Input::Command(later)).unwrap_err();
    assert_eq!(refused, Refusal::NoSuchPermission(PermissionId(51)));
}

#[test]
fn an_answer_that_is_not_offered_changes_nothing() {
    let mut session = parks();
    see(&mut session, asks(1, PermissionAsk { options: options(&["allow_once"]), ..ask() }));
    for wrong in [named("allow_always"), named(""), PermissionAnswer::Deny] {
        let refused = session.step(AT, 60, &Input::Command(permit(wrong))).unwrap_err();
        assert_eq!(refused, Refusal::NoSuchOption { id: FIRST, offered: vec!["allow_once".into()] });
    }
    assert_eq!(wish(&mut session, permit(named("allow_once"))).1, [answer(1, Some("allow_once"))]);
}

#[test]
fn to_allow_is_to_allow_once_where_that_is_offered() {
    let cases = [
        (PermissionAnswer::Allow, vec!["allow_always", "allow_once"], "allow_once"),
        (PermissionAnswer::Allow, vec!["reject_once", "allow_always"], "allow_always"),
        (PermissionAnswer::Deny, vec!["reject_always", "reject_once"], "reject_once"),
        (PermissionAnswer::Deny, vec!["allow_once", "reject_always"], "reject_always"),
    ];
    for (output, offered, chosen) in cases {
        let mut session = parks();
        see(&mut session, asks(1, PermissionAsk { options: options(&offered), ..ask() }));
        assert_eq!(wish(&mut session, permit(output)).1, [answer(1, Some(chosen))], "{offered:?}");
    }
}

#[test]
fn a_question_that_is_closed_is_denied_or_cancelled_and_waits_no_longer() {
    for (offered, received) in
        [(vec!["allow_once", "reject_once"], Some("reject_once")), (vec!["allow_once"], None)]
    {
        let mut session = parks();
        see(&mut session, asks(1, PermissionAsk { options: options(&offered), ..ask() }));
        let closed = wish(&mut session, permit(PermissionAnswer::Cancel));
        let events = vec![expired(FIRST, "the question was closed without an answer")];
        assert_eq!(closed, (events, vec![answer(1, received)]));
        assert_eq!((session.status(), waiting(&session)), (Status::Running, Vec::new()));
    }
}

#[test]
fn permissions_are_answered_in_any_order() {
    let mut session = parks();
    see(&mut session, asks(1, ask()));
    let second = PermissionId(51);
    give(&mut session, AT, 51, Input::Seen(1, asks(2, ask())));
    assert_eq!(waiting(&session), [FIRST, second]);
    let received = wish(&mut session, Command::Permit(second, PermissionAnswer::Deny));
    assert_eq!(received.1, [answer(2, Some("reject_once"))]);
    assert_eq!(waiting(&session), [FIRST]);
    assert_eq!(wish(&mut session, permit(PermissionAnswer::Allow)).1, [answer(1, Some("allow_once"))]);
}

#[test]
fn a_permission_nobody_answers_is_denied_at_its_deadline_and_not_before() {
    let mut session = works(Permissions { timeout_ms: 3_000, ..Permissions::default() });
    see(&mut session, asks(1, ask()));
    let later = At { mono: AT.mono + 1_000, ..AT };
    give(&mut session, later, 51, Input::Seen(1, asks(2, ask())));
    assert_eq!(session.deadline(), Some(AT.mono + 3_000));
    let early = At { mono: AT.mono + 2_999, ..AT };
    assert_eq!(give(&mut session, early, 60, Input::Tick), (Vec::new(), Vec::new()));
    assert_eq!(waiting(&session), [FIRST, PermissionId(51)]);

    let due = At { mono: AT.mono + 3_000, ..AT };
    let reason = "nobody answered within 3 s";
    let received = give(&mut session, due, 60, Input::Tick);
    assert_eq!(received, (vec![expired(FIRST, reason)], vec![answer(1, Some("reject_once"))]));
    assert_eq!((waiting(&session), session.deadline()), (vec![PermissionId(51)], Some(AT.mono + 4_000)));
    let refused = session.step(due, 60, &Input::Command(permit(PermissionAnswer::Allow))).unwrap_err();
    assert_eq!(refused, Refusal::PermissionSettled(FIRST));
    // The turn goes on.
    assert!(matches!(&session.turns.running, Some(turn) if turn.phase == Phase::Started { agent_pid: 101 }));
}

#[test]
fn an_agent_that_offers_no_way_to_deny_is_told_that_its_question_is_cancelled() {
    let mut session = works(Permissions { timeout_ms: 1, ..Permissions::default() });
    see(&mut session, asks(1, PermissionAsk { options: options(&["allow_once"]), ..ask() }));
    let due = At { mono: AT.mono + 1, ..AT };
    assert_eq!(give(&mut session, due, 60, Input::Tick).1, [answer(1, None)]);
}

#[test]
fn an_abort_expires_open_permissions() {
    let mut session = parks();
    see(&mut session, asks(1, ask()));
    let (events, effects) = wish(&mut session, Command::Abort);
    assert_eq!(events, [expired(FIRST, "the turn is being aborted")]);
    // The worker cancels them with the turn.
    assert_eq!(effects, [Effect::Abort { incarnation: 1, prompt: PROMPT }]);
    assert_eq!(session.status(), Status::Running);
    let refused = session.step(AT, 60, &Input::Command(permit(PermissionAnswer::Allow))).unwrap_err();
    assert_eq!(refused, Refusal::PermissionSettled(FIRST));
    // The worker cancels a question from before it learned of the abort.
    assert_eq!(see(&mut session, asks(2, ask())), (Vec::new(), Vec::new()));
}

#[test]
fn a_question_of_another_turn_is_none() {
    let mut session = parks();
    let seen =
        Seen::PermissionAsked { prompt: Some(PromptId(6)), request: 1, ask: ask(), payload: Value::Null };
    assert_eq!(see(&mut session, seen), (Vec::new(), Vec::new()));
    assert_eq!(session.last_permission, None);
}

#[test]
fn whoever_asks_without_end_is_told_no() {
    let mut session = parks();
    for request in 0..limits::PERMISSIONS as u64 {
        let next = 50 + request;
        give(&mut session, AT, next, Input::Seen(1, asks(request, ask())));
    }
    assert_eq!(session.permissions().len(), limits::PERMISSIONS);
    let (events, effects) = give(&mut session, AT, 900, Input::Seen(1, asks(900, ask())));
    assert_eq!(events[1..], [expired(PermissionId(900), "too many permissions wait already")]);
    assert_eq!(effects, [answer(900, Some("reject_once"))]);
    assert_eq!(session.permissions().len(), limits::PERMISSIONS);
}

#[test]
fn questions_count_against_the_record_of_their_turn_and_what_is_on_no_record_is_denied() {
    let mut session = works(by(PermissionPolicy::Allow));
    let long = PermissionAsk { title: "t".repeat(1 << 20), ..ask() };
    let fills = json!({ "x": "x".repeat(limits::TURN_BYTES as usize) });
    let first = Seen::PermissionAsked { prompt: Some(PROMPT), request: 1, ask: long.clone(), payload: fills };
    let (events, effects) = see(&mut session, first);
    // An event reports first that the record is full, and the question is recorded without its payload.
    let [
        EventKind::SystemMessage { .. },
        EventKind::PermissionRequested { permission_id, payload, .. },
        resolved,
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((*permission_id, payload), (PermissionId(51), &json!({})), "its id is its event's");
    assert!(matches!(resolved, EventKind::PermissionResolved { permission_id: PermissionId(51), .. }));
    assert_eq!(effects, [answer(1, Some("allow_once"))]);
    let most = limits::ASKS_BYTES >> 20;
    for request in 2..most {
        let (events, effects) = see(&mut session, asks(request, long.clone()));
        assert!(matches!(
            events[..],
            [EventKind::PermissionRequested { .. }, EventKind::PermissionResolved { .. }]
        ));
        assert_eq!(effects, [answer(request, Some("allow_once"))]);
    }
    let (events, effects) = see(&mut session, asks(70, long.clone()));
    assert!(
        matches!(&events[..], [EventKind::SystemMessage { text }] if text.contains("allowed nothing more"))
    );
    assert_eq!(effects, [answer(70, Some("reject_once"))]);
    assert_eq!(see(&mut session, asks(71, ask())), (Vec::new(), vec![answer(71, Some("reject_once"))]));
    // A client would read the call in the record, so it is not asked.
    let (prompt, client, payload) = (PROMPT, None, json!({}));
    let form = Seen::CallAsked { prompt, request: 1, client, method: "elicitation/create".into(), payload };
    let cancelled = CallAnswer::Result { json: r#"{"action":"cancel"}"#.into() };
    let received = Effect::AnswerCall { incarnation: 1, request: 1, answer: cancelled };
    assert_eq!(see(&mut session, form), (Vec::new(), vec![received]));
}

#[test]
fn what_was_answered_is_told_again_by_the_next_manager_until_the_turn_ends() {
    let mut session = parks();
    see(&mut session, asks(1, ask()));
    wish(&mut session, permit(PermissionAnswer::Allow));
    let deliver = Effect::Deliver { incarnation: 1, prompt: PROMPT };
    assert_eq!(session.effects(), [deliver, answer(1, Some("allow_once"))]);
    let written = serde_json::to_string(&session).unwrap();
    let read: Session = serde_json::from_str(&written).unwrap();
    assert_eq!(read.effects(), session.effects());
    see(&mut session, ended(TurnEnd::Stopped { reason: "end_turn".into() }));
    assert_eq!(session.effects(), []);
}

/// No process is left to receive it.
#[test]
fn an_answer_to_an_agent_that_is_being_ended_does_not_count() {
    let stops = |session: &mut Session| drop(wish(session, Command::Stop));
    let restarts = |session: &mut Session| drop(wish(session, Command::Restart));
    let dies = |session: &mut Session| drop(see(session, Seen::AgentDied("the agent ended".into())));
    let babbles = |session: &mut Session| drop(see(session, Seen::Faulted("it babbled".into())));
    let ends: [fn(&mut Session); 4] = [stops, restarts, dies, babbles];
    for (case, end) in ends.into_iter().enumerate() {
        let mut session = parks();
        see(&mut session, asks(1, ask()));
        end(&mut session);
        assert_eq!(waiting(&session), [], "case {case}");
        let refused = session.step(AT, 60, &Input::Command(permit(PermissionAnswer::Allow)));
        assert_eq!(refused.map(|step| step.reply), Err(Refusal::PermissionSettled(FIRST)), "case {case}");
        // Nor does what it asks now wait for anybody.
        let session = &mut session;
        session.spec = Arc::new(Spec { permissions: by(PermissionPolicy::Allow), ..sample::acp_spec() });
        let (events, effects) = see(session, asks(2, ask()));
        assert!(!events.iter().any(|event| matches!(event, EventKind::PermissionResolved { .. })));
        assert_eq!((waiting(session), effects), (Vec::new(), Vec::new()), "case {case}");
    }
}

#[test]
fn an_agents_words_are_kept_with_what_it_sent() {
    let mut session = parks();
    let text = || "words".to_owned();
    let (turn, prompt_id) = (1, PROMPT);
    for (update, event) in [
        (
            Update::Message { text: text() },
            EventKind::MessageChunk {
                turn,
                prompt_id,
                stream: Stream::Stdout,
                text: text(),
                payload: Some(payload()),
            },
        ),
        (
            Update::Thought { text: text() },
            EventKind::ThoughtChunk { turn, prompt_id, text: text(), payload: payload() },
        ),
        (Update::Plan, EventKind::PlanUpdated { turn, prompt_id, payload: payload() }),
        (Update::Other, EventKind::AgentUpdated { prompt_id: Some(prompt_id), payload: payload() }),
    ] {
        assert_eq!(see(&mut session, updated(update)).0, [event]);
    }
    // An answer is one message, and thoughts are none.
    assert_eq!(session.turns.messages, 1);
    let before = session.clone();
    for prompt in [None, Some(PromptId(6))] {
        for update in [Update::Message { text: text() }, Update::Plan, Update::Other] {
            let late = Seen::Updated { prompt, update, payload: payload() };
            let untold = EventKind::AgentUpdated { prompt_id: None, payload: payload() };
            assert_eq!(see(&mut session, late).0, [untold], "it belongs to no turn");
        }
    }
    // But for what it takes on record.
    assert!(session.turns.between > 0);
    session.turns.between = 0;
    assert_eq!(session, before);
}

#[test]
fn permissions_that_expire_at_once_are_all_answered_however_many_they_are() {
    let mut session = works(Permissions { timeout_ms: 1_000, ..Permissions::default() });
    let count = 3 * limits::ANSWERS as u64;
    for request in 1..=count {
        let incarnation = session.incarnation;
        let seen = Input::Seen(incarnation, asks(request, sample::ask()));
        give(&mut session, AT, 100 + request, seen);
    }
    let late = At { mono: AT.mono + 1_000, ..AT };
    let mut answered = Vec::new();
    while session.deadline().is_some_and(|due| due <= late.mono) {
        let (_, effects) = give(&mut session, late, 1_000, Input::Tick);
        assert!(!effects.is_empty(), "a tick that does nothing");
        answered.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::Answer { request, .. } => Some(request),
            _ => None,
        }));
    }
    assert_eq!(answered, (1..=count).collect::<Vec<_>>());
}

/// A question about a command.
fn asks_to_run(request: u64, command: Value) -> Seen {
    let payload = json!({ "toolCall": { "rawInput": { "command": command } } });
    Seen::PermissionAsked { prompt: Some(PROMPT), request, ask: ask(), payload }
}

#[test]
fn a_permission_has_the_command_that_it_is_about_and_says_where_it_is_cut() {
    let kept = |command: Value| {
        let mut session = parks();
        see(&mut session, asks_to_run(1, command));
        session.permissions().remove(0).command
    };
    assert_eq!(kept(json!("cargo test")), Some("cargo test".into()));
    assert_eq!(kept(json!(["rm", "a b"])), Some("rm 'a b'".into()));
    assert_eq!(kept(json!(["git", "push", 7])), Some("git push 7".into()));
    for none in [json!(null), json!(7), json!(""), json!([]), json!({ "a": "b" })] {
        assert_eq!(kept(none.clone()), None, "{none}");
    }
    let most = "x".repeat(limits::COMMANDS_BYTES / 4);
    assert_eq!(kept(json!(most)), Some(most.clone()));
    let cut = kept(json!(format!("{most}x"))).unwrap();
    assert!(cut.len() <= most.len() && cut.ends_with("x… (16,385 bytes, cut)"), "{}", &cut[cut.len() - 40..]);
}

#[test]
fn commands_that_take_all_the_room_are_cut_and_nobody_is_denied_for_their_length() {
    let mut session = parks();
    let long = "x".repeat(1 << 20);
    for request in 0..limits::PERMISSIONS as u64 {
        let asked = asks_to_run(request, json!(long));
        give(&mut session, AT, 50 + request, Input::Seen(1, asked));
    }
    let waiting = session.permissions();
    assert_eq!(waiting.len(), limits::PERMISSIONS);
    let kept: Vec<_> = waiting.into_iter().filter_map(|waits| waits.command).collect();
    assert!(kept.iter().all(|line| line.ends_with("… (1,048,576 bytes, cut)")));
    let bytes: usize = kept.iter().map(|line| line.len()).sum();
    // The last ones are no more than the mark.
    assert!(bytes <= limits::COMMANDS_BYTES + 4096 && bytes > limits::COMMANDS_BYTES * 9 / 10, "{bytes}");
}
