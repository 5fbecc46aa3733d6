//! Rules of one session whose agent lives between prompts: its permissions, its tool calls, its death.

use std::sync::Arc;

use harness::sample::{self, AT, ask, gone, id, identity, new_prompt, options, ready, turn};
use manager::core::{
    Ask, At, Change, Command, Effect, Fleet, Goal, Input, LastRestart, NewPrompt, PermissionRule,
    Permissions, Phase, Refusal, Reply, Seen, Session, Spec, State, Why, limits,
};
use protocol::api::{Failure, OnCrash, PermissionAnswer, PermissionPolicy, Role, Status, Usage, WhenBusy};
use protocol::event::{Decider, EventKind, Outcome, Resolution};
use protocol::wire::{
    Agent, AgentDetails, CallAnswer, Offer, PermissionAsk, PromptVia, Spent, TurnEnd, Update,
};
use protocol::{Exit, PermissionId, PromptId, Restore, Stream};
use serde_json::{Value, json};

const PROMPT: PromptId = PromptId(7);
/// What the worker's question is called in all of these tests: the first event of a step is number 50.
const FIRST: PermissionId = PermissionId(50);

/// A session in the middle of its first turn, with these rules about permissions.
fn works(permissions: Permissions) -> Session {
    let spec = Spec { workdir: "/srv/app".into(), permissions, ..sample::acp_spec() };
    let mut session = Session { spec: Arc::new(spec), ..sample::session("s", ready()) };
    session.turns.count = 1;
    session.turns.running = turn(Phase::Started { agent_pid: 101 });
    // Turns in which nothing is done have a test of their own.
    session.turns.running.as_mut().unwrap().acted = true;
    session
}

fn parks() -> Session {
    works(Permissions::default())
}

fn by(policy: PermissionPolicy) -> Permissions {
    Permissions { policy, ..Permissions::default() }
}

/// What one input came to.
fn give(session: &mut Session, at: At, next: u64, input: Input) -> (Vec<EventKind>, Vec<Effect>) {
    let step = session.step(at, next, &input).unwrap_or_else(|refusal| panic!("{input:?}: {refusal}"));
    *session = step.next;
    (step.events, step.effects)
}

fn see(session: &mut Session, seen: Seen) -> (Vec<EventKind>, Vec<Effect>) {
    give(session, AT, 50, Input::Seen(session.incarnation, seen))
}

fn wish(session: &mut Session, command: Command) -> (Vec<EventKind>, Vec<Effect>) {
    give(session, AT, 60, Input::Command(command))
}

fn asks(request: u64, ask: PermissionAsk) -> Seen {
    Seen::PermissionAsked { prompt: Some(PROMPT), request, ask, payload: json!({ "options": [] }) }
}

fn tells(update: Update) -> Seen {
    Seen::Updated { prompt: Some(PROMPT), update, payload: payload() }
}

fn payload() -> Value {
    json!({ "sessionUpdate": "something" })
}

fn ended(end: TurnEnd) -> Seen {
    Seen::TurnEnded { prompt: PROMPT, end, exit: None, left_behind: 0 }
}

fn requested(permission_id: PermissionId, ask: &PermissionAsk) -> EventKind {
    EventKind::PermissionRequested {
        permission_id,
        turn: Some(1),
        prompt_id: Some(PROMPT),
        tool_call_id: ask.tool_call.clone(),
        title: ask.title.clone(),
        options: ask.options.clone(),
        payload: json!({ "options": [] }),
    }
}

fn resolved(option_id: &str, by: Decider) -> EventKind {
    EventKind::PermissionResolved { permission_id: FIRST, option_id: option_id.into(), by }
}

fn expired(permission_id: PermissionId, reason: &str) -> EventKind {
    EventKind::PermissionExpired { permission_id, reason: reason.into() }
}

fn answer(request: u64, option: Option<&str>) -> Effect {
    Effect::Answer { incarnation: 1, request, option: option.map(str::to_owned) }
}

fn permit(answer: PermissionAnswer) -> Command {
    Command::Permit(FIRST, answer)
}

fn named(option: &str) -> PermissionAnswer {
    PermissionAnswer::Option(option.into())
}

fn waiting(session: &Session) -> Vec<PermissionId> {
    session.permissions().into_iter().map(|permission| permission.permission_id).collect()
}

// --- permissions ---

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

    let told = wish(&mut session, permit(PermissionAnswer::Allow));
    let counts = vec![resolved("allow_once", Decider::User)];
    assert_eq!(told, (counts, vec![answer(4, Some("allow_once"))]));
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
    for (said, offered, chosen) in cases {
        let mut session = parks();
        see(&mut session, asks(1, PermissionAsk { options: options(&offered), ..ask() }));
        assert_eq!(wish(&mut session, permit(said)).1, [answer(1, Some(chosen))], "{offered:?}");
    }
}

#[test]
fn a_question_that_is_closed_is_denied_or_cancelled_and_waits_no_longer() {
    for (offered, told) in
        [(vec!["allow_once", "reject_once"], Some("reject_once")), (vec!["allow_once"], None)]
    {
        let mut session = parks();
        see(&mut session, asks(1, PermissionAsk { options: options(&offered), ..ask() }));
        let closed = wish(&mut session, permit(PermissionAnswer::Cancel));
        let events = vec![expired(FIRST, "the question was closed without an answer")];
        assert_eq!(closed, (events, vec![answer(1, told)]));
        assert_eq!((session.status(), waiting(&session)), (Status::Running, Vec::new()));
    }
}

#[test]
fn what_an_agent_tells_of_its_sub_agents_is_kept_in_bounds_and_begins_anew_with_its_process() {
    let mut session = parks();
    let tell = |session: &mut Session, told: Value| {
        see(session, Seen::Updated { prompt: Some(PROMPT), update: Update::Other, payload: told });
        session.info(AT.mono).children
    };
    let child = |id: &str, title: Value| json!({ "sessionUpdate": "subagent_update", "sessionId": id, "title": title });
    for number in 0..40 {
        tell(&mut session, child(&format!("c{number}"), json!("t".repeat(5000))));
    }
    let mut told = child("c39", Value::Null);
    told["state"] = json!({ "state": "running" });
    let children = tell(&mut session, told);
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
fn permissions_are_answered_in_any_order() {
    let mut session = parks();
    see(&mut session, asks(1, ask()));
    let second = PermissionId(51);
    give(&mut session, AT, 51, Input::Seen(1, asks(2, ask())));
    assert_eq!(waiting(&session), [FIRST, second]);
    let told = wish(&mut session, Command::Permit(second, PermissionAnswer::Deny));
    assert_eq!(told.1, [answer(2, Some("reject_once"))]);
    assert_eq!(waiting(&session), [FIRST]);
    assert_eq!(wish(&mut session, permit(PermissionAnswer::Allow)).1, [answer(1, Some("allow_once"))]);
}

#[test]
fn policy_allow_answers_at_once_with_the_option_that_allows_once() {
    let mut session = works(by(PermissionPolicy::Allow));
    let told = see(&mut session, asks(3, ask()));
    let events = vec![requested(FIRST, &ask()), resolved("allow_once", Decider::Policy)];
    assert_eq!(told, (events, vec![answer(3, Some("allow_once"))]));
    assert_eq!((waiting(&session), session.status()), (Vec::new(), Status::Running));
}

#[test]
fn policy_deny_answers_at_once_with_the_option_that_denies_once() {
    let mut session = works(by(PermissionPolicy::Deny));
    let told = see(&mut session, asks(3, ask()));
    let events = vec![requested(FIRST, &ask()), resolved("reject_once", Decider::Policy)];
    assert_eq!(told, (events, vec![answer(3, Some("reject_once"))]));
}

#[test]
fn a_policy_that_no_option_fits_denies_or_cancels() {
    for (policy, offered, chosen, reason) in [
        (
            PermissionPolicy::Allow,
            vec!["reject_once"],
            Some("reject_once"),
            "the agent offers no way to allow it",
        ),
        (PermissionPolicy::Allow, vec!["what"], None, "the agent offers no way to allow it"),
        (PermissionPolicy::Deny, vec!["allow_once"], None, "the agent offers no way to deny it"),
    ] {
        let mut session = works(by(policy));
        let (events, effects) =
            see(&mut session, asks(1, PermissionAsk { options: options(&offered), ..ask() }));
        assert_eq!(events[1..], [expired(FIRST, reason)]);
        assert_eq!(effects, [answer(1, chosen)]);
    }
}

#[test]
fn policy_fail_aborts_the_turn() {
    let mut session = works(by(PermissionPolicy::Fail));
    let (events, effects) = see(&mut session, asks(1, ask()));
    let reason = "the session's policy ends the turn";
    assert_eq!(events, [requested(FIRST, &ask()), expired(FIRST, reason)]);
    let abort = Effect::Abort { incarnation: 1, prompt: PROMPT };
    assert_eq!(effects, [answer(1, Some("reject_once")), abort]);
    let deadline = AT.mono + session.spec.grace_ms + limits::ABORT_SLACK_MS;
    let phase = session.turns.running.as_ref().map(|turn| turn.phase.clone());
    assert_eq!(phase, Some(Phase::Aborting { deadline, agent_pid: Some(101) }));
    let (events, _) = see(&mut session, ended(TurnEnd::Stopped { reason: "end_turn".into() }));
    let (outcome, stop_reason) = (Outcome::Aborted, "cancelled".into());
    assert_eq!(
        events,
        [EventKind::TurnCompleted { turn: 1, prompt_id: PROMPT, outcome, stop_reason, exit: None }]
    );
}

#[test]
fn the_first_rule_that_fits_decides() {
    let rule = |kind: Option<&str>, path: Option<&str>, then| PermissionRule {
        kind: kind.map(str::to_owned),
        path: path.map(str::to_owned),
        then,
    };
    let permissions = Permissions {
        policy: PermissionPolicy::Park,
        rules: vec![
            rule(Some("edit"), Some("secret"), PermissionPolicy::Deny),
            rule(Some("edit"), None, PermissionPolicy::Allow),
            rule(None, Some("/tmp"), PermissionPolicy::Fail),
        ],
        ..Permissions::default()
    };
    let about = |kind: Option<&str>, paths: &[&str]| {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let ask = PermissionAsk { kind: kind.map(str::to_owned), paths, ..ask() };
        permissions.policy_for(&ask, "/srv/app")
    };
    assert_eq!(about(Some("edit"), &["secret/key"]), PermissionPolicy::Deny);
    assert_eq!(about(Some("edit"), &["notes.txt"]), PermissionPolicy::Allow);
    assert_eq!(about(Some("edit"), &["secret/key", "notes.txt"]), PermissionPolicy::Allow);
    assert_eq!(about(Some("read"), &["/tmp/x"]), PermissionPolicy::Fail);
    assert_eq!(about(None, &["/tmp/x"]), PermissionPolicy::Fail);
    assert_eq!(about(None, &["notes.txt"]), PermissionPolicy::Park);
    assert_eq!(about(Some("read"), &[]), PermissionPolicy::Park);
}

#[test]
fn a_rule_about_a_path_does_not_fit_a_path_that_climbs_out() {
    let allows = |below: &str, paths: &[&str]| {
        let rule = PermissionRule { kind: None, path: Some(below.into()), then: PermissionPolicy::Allow };
        let permissions = Permissions { rules: vec![rule], ..Permissions::default() };
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        permissions.policy_for(&PermissionAsk { paths, ..ask() }, "/srv/app") == PermissionPolicy::Allow
    };
    for inside in [
        "src",
        "src/",
        "./src/main.rs",
        "/srv/app/src/main.rs",
        "src/a/../b",
        "other/../src/b",
        "/srv//app/./src/b",
        "../app/src/b",
    ] {
        assert!(allows("src", &[inside]), "{inside}");
        assert!(allows("/srv/app/src", &[inside]), "{inside}");
        assert!(allows("./src/", &[inside]), "{inside}");
    }
    for outside in [
        "src/../secret",
        "src/../../../etc/passwd",
        "../src",
        "/src/main.rs",
        "srcs",
        "src.rs",
        "",
        ".",
        "/",
        "../../../../src",
        "/../srv/app/src",
    ] {
        assert!(!allows("src", &[outside]), "{outside}");
    }
    // All of them must lie below it, and of what touches no file that is told nothing is known.
    assert!(allows("src", &["src/a", "src/b"]));
    assert!(!allows("src", &["src/a", "b"]));
    assert!(!allows("src", &[]));
    // Whoever means everything says so.
    assert!(allows("/", &["/etc/passwd"]));
    assert!(allows(".", &["src/a"]) && !allows(".", &["../b"]));
    assert!(!allows("../../..", &["src/a"]), "a rule that climbs above the root fits nothing");
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
    let told = give(&mut session, due, 60, Input::Tick);
    assert_eq!(told, (vec![expired(FIRST, reason)], vec![answer(1, Some("reject_once"))]));
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
    // What it asked before it heard of that is the worker's to cancel.
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
    // That it is full is said first, and the question is recorded without its payload.
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
    // What a client is to do it reads in the record: it is not asked.
    let (prompt, client, payload) = (PROMPT, None, json!({}));
    let form = Seen::CallAsked { prompt, request: 1, client, method: "elicitation/create".into(), payload };
    let cancelled = CallAnswer::Result { json: r#"{"action":"cancel"}"#.into() };
    let told = Effect::AnswerCall { incarnation: 1, request: 1, answer: cancelled };
    assert_eq!(see(&mut session, form), (Vec::new(), vec![told]));
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

/// There is nobody any more to tell it to.
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

// --- what it tells ---

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
        assert_eq!(see(&mut session, tells(update)).0, [event]);
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
    let (events, _) = see(&mut session, tells(Update::Usage(spent)));
    let usage = Usage { input_tokens: 100, output_tokens: 7, cost_usd: None };
    assert_eq!(events, [EventKind::UsageUpdated { usage: usage.clone(), payload: payload() }]);
    assert_eq!(session.info(AT.mono).usage, Some(usage));

    // What is not told stays as it was; it belongs to no turn.
    let spent = Spent { input_tokens: Some(250), cost_micro_usd: Some(1_250_000), ..Spent::default() };
    see(&mut session, ended(TurnEnd::Finished));
    see(&mut session, Seen::Updated { prompt: None, update: Update::Usage(spent), payload: payload() });
    let usage = Usage { input_tokens: 250, output_tokens: 7, cost_usd: Some(1.25) };
    assert_eq!(session.info(AT.mono).usage, Some(usage.clone()));
    // It outlives the process.
    see(&mut session, gone(Exit::Signal(9)));
    assert_eq!(session.info(AT.mono).usage, Some(usage));
}

#[test]
fn a_tool_call_open_at_a_crash_is_said_to_be_interrupted() {
    let mut session = parks();
    let begins = |id: &str, ended| tells(Update::ToolCall { id: id.into(), title: "Run".into(), ended });
    let goes_on = |id: &str, ended| tells(Update::ToolCallUpdate { id: id.into(), ended });
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
        see(&mut session, tells(Update::ToolCall { id: "open".into(), title: "Run".into(), ended: false }));
        if abort {
            wish(&mut session, Command::Abort);
        }
        let (events, _) = see(&mut session, ended(TurnEnd::Stopped { reason: end.into() }));
        let tool_call_id = "open".to_owned();
        assert_eq!(events[0], EventKind::ToolCallInterrupted { turn: 1, prompt_id: PROMPT, tool_call_id });
    }
}

#[test]
fn what_the_agent_calls_its_conversation_is_kept_for_the_next() {
    let mut session = parks();
    see(&mut session, Seen::AgentSession("conversation-1".into()));
    see(&mut session, gone(Exit::Signal(9)));
    assert_eq!((session.incarnation, session.agent_session.as_deref()), (2, Some("conversation-1")));
}

#[test]
fn a_notice_is_said_to_whoever_reads() {
    let text = "there is a newer agent".to_owned();
    let told = see(&mut parks(), Seen::Notice(text.clone()));
    assert_eq!(told, (vec![EventKind::SystemMessage { text }], Vec::new()));
}

// --- how it ends ---

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
    let failure =
        Failure { reason: why.into(), exit: Some(exit), last_words: Vec::new(), survivors: Vec::new() };
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
fn a_dead_agent_restarts_its_session_with_its_own_words_as_the_reason() {
    let why = "the agent ended: exit status 3";
    let mut session = parks();
    see(&mut session, asks(1, ask()));
    let (_, effects) = see(&mut session, Seen::AgentDied(why.into()));
    assert!(effects.contains(&Effect::Terminate { incarnation: 1 }), "{effects:?}");
    assert!(matches!(&session.state, State::Stopping { why: Why::AgentDied(_), kills: 0, .. }));
    // That the worker itself came to a good end is no good end.
    let (events, _) = see(&mut session, gone(Exit::Code(0)));
    let interrupted =
        EventKind::TurnInterrupted { turn: 1, prompt_id: PROMPT, reason: why.into(), will_retry: false };
    assert!(events.contains(&interrupted), "{events:?}");
    let restarting = EventKind::SessionRestarting {
        reason: why.into(),
        old_pid: Some(100),
        exit: Some(Exit::Code(0)),
        delay_ms: 0,
        deaths: 1,
        last_words: Vec::new(),
    };
    assert_eq!(events.last(), Some(&restarting));
    assert_eq!(session.last_restart, Some(LastRestart { reason: why.into(), old_pid: Some(100) }));
    assert!(matches!(session.state, State::Starting { .. }));
    // Whoever stopped it meanwhile gets what was asked for.
    let mut session = parks();
    see(&mut session, Seen::AgentDied(why.into()));
    wish(&mut session, Command::Stop);
    see(&mut session, gone(Exit::Code(0)));
    assert_eq!(session.state, State::Stopped);
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
fn an_agent_that_lives_between_prompts_has_longer_to_start() {
    let session = Session::new(id("s"), Arc::new(sample::acp_spec()), AT, 0);
    assert_eq!(session.deadline(), Some(AT.mono + limits::START_ACP_MS));
    let mut session = session;
    see(&mut session, Seen::Spawned(identity(100)));
    let due = At { mono: AT.mono + limits::START_ACP_MS, ..AT };
    give(&mut session, due, 50, Input::Tick);
    let State::Stopping { why, .. } = &session.state else { panic!("{:?}", session.state) };
    assert_eq!(*why, Why::Fault("the worker was not ready within 120 s".into()));
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

/// One start of an agent that has a conversation to take up.
fn starts(session: &mut Session) {
    session.state = State::Starting { worker: Some(sample::identity(100)), deadline: AT.mono + 1 };
}

#[test]
fn an_agent_that_dies_again_and_again_over_its_conversation_is_given_a_new_one() {
    let mut session = parks();
    session.turns.running = None;
    session.agent_session = Some("conversation-1".into());
    session.was_ready = true;
    // Its death in the middle of its work is none of those.
    see(&mut session, sample::gone(Exit::Signal(9)));
    assert_eq!((session.lost_starts, session.was_ready), (0, false));
    for lost in 1..limits::LOST_STARTS {
        starts(&mut session);
        see(&mut session, sample::gone(Exit::Signal(9)));
        assert_eq!(session.lost_starts, lost);
    }
    assert!(session.agent_session.is_some());
    starts(&mut session);
    let (events, _) = see(&mut session, sample::gone(Exit::Signal(9)));
    assert!(
        events
            .iter()
            .any(|event| matches!(event, EventKind::SystemMessage { text } if text.contains("begins anew")))
    );
    assert_eq!((session.agent_session.as_ref(), session.lost_starts), (None, 0));
}

#[test]
fn a_start_that_comes_to_something_ends_the_row_of_those_that_did_not() {
    let mut session = parks();
    session.turns.running = None;
    session.agent_session = Some("conversation-1".into());
    session.lost_starts = limits::LOST_STARTS - 1;
    starts(&mut session);
    see(&mut session, Seen::Ready { restore: Restore::Loaded, agent_pid: Some(7) });
    assert_eq!((session.lost_starts, session.was_ready), (0, true));
}

/// Starts whose worker says that the agent's program did not come to run, from `AT` on, until the session is no more
/// started. Gives the waits between them, in milliseconds.
fn starts_without_a_program(session: &mut Session, passes: bool) -> Vec<u64> {
    let (mut at, mut waits) = (AT, Vec::new());
    loop {
        session.state = State::Starting { worker: Some(sample::identity(100)), deadline: at.mono + 1 };
        let not_run = Seen::NotRun { message: "cannot run /bin/agent".into(), passes };
        give(session, at, 50, Input::Seen(session.incarnation, not_run));
        assert!(matches!(session.state, State::Stopping { why: Why::NotRun { .. }, .. }));
        give(session, at, 50, Input::Seen(session.incarnation, gone(Exit::Code(0))));
        match session.state {
            State::Restarting { until } => waits.push(until - at.mono),
            State::Starting { .. } => waits.push(0),
            _ => return waits,
        }
        at.mono += waits.last().unwrap();
    }
}

/// An idle session with a conversation.
fn has_conversation() -> Session {
    let mut session = parks();
    session.turns.running = None;
    session.agent_session = Some("conversation-1".into());
    session
}

#[test]
fn a_program_that_is_missing_is_waited_for_and_costs_neither_budget_nor_conversation() {
    let mut session = has_conversation();
    let waits = starts_without_a_program(&mut session, true);
    let State::Failed(failure) = &session.state else { panic!("{:?}", session.state) };
    assert!(
        failure.reason.contains("cannot run /bin/agent") && failure.reason.contains("60 s"),
        "{failure:?}"
    );
    assert_eq!(waits.iter().sum::<u64>(), 60_000, "{waits:?}");
    assert!(
        (10..40).contains(&waits.len()) && waits.iter().all(|wait| (1..7_000).contains(wait)),
        "{waits:?}"
    );
    assert_eq!(session.deaths.within(AT.mono, u64::MAX / 2), 0);
    assert_eq!((session.agent_session.as_deref(), session.lost_starts), (Some("conversation-1"), 0));
    // Whoever starts it again has the whole minute again.
    wish(&mut session, Command::Restart);
    assert_eq!(starts_without_a_program(&mut session, true).iter().sum::<u64>(), 60_000);
}

#[test]
fn a_program_that_comes_back_is_run_with_its_conversation_and_the_next_absence_is_another() {
    let mut session = has_conversation();
    starts(&mut session);
    see(&mut session, Seen::NotRun { message: "cannot run /bin/agent".into(), passes: true });
    let (events, _) = see(&mut session, gone(Exit::Code(0)));
    let restarting = |event: &EventKind| {
        matches!(event, EventKind::SessionRestarting { reason, deaths: 0, delay_ms: 75..=125, .. }
            if reason == "cannot run /bin/agent")
    };
    assert!(events.iter().any(restarting), "{events:?}");
    assert_eq!(session.status(), Status::Restarting);
    starts(&mut session);
    let (events, _) = see(&mut session, Seen::Ready { restore: Restore::Resumed, agent_pid: Some(7) });
    let restarted =
        |event: &EventKind| matches!(event, EventKind::SessionRestarted { restore: Restore::Resumed, .. });
    assert!(events.iter().any(restarted), "{events:?}");
    assert_eq!((session.absence.as_ref(), session.agent_session.as_deref()), (None, Some("conversation-1")));
    // A worker that was ready has run the program, whatever it says.
    see(&mut session, Seen::NotRun { message: "cannot run /bin/agent".into(), passes: true });
    assert!(matches!(session.state, State::Stopping { why: Why::AgentDied(_), .. }));
}

#[test]
fn a_start_that_cannot_be_prepared_is_judged_as_a_death_and_keeps_the_conversation() {
    let mut session = has_conversation();
    let waits = starts_without_a_program(&mut session, false);
    assert_eq!(waits.len() as u32, session.spec.restart.intensity);
    assert!(matches!(session.state, State::Failed(_)));
    assert_eq!((session.agent_session.as_deref(), session.lost_starts), (Some("conversation-1"), 0));
}

#[test]
fn a_worker_that_cannot_be_spawned_is_waited_for_as_long() {
    let mut session = has_conversation();
    let mut at = AT;
    let failed = Seen::SpawnFailed { error: "No such file or directory".into(), no_room: false };
    while !matches!(session.state, State::Failed(_)) {
        session.state = State::Starting { worker: None, deadline: at.mono + 1 };
        let seen = Input::Seen(session.incarnation, failed.clone());
        give(&mut session, at, 50, seen);
        if let State::Restarting { until } = session.state {
            at.mono = until;
        }
    }
    assert_eq!(at.mono, AT.mono + 60_000);
    assert_eq!(session.agent_session.as_deref(), Some("conversation-1"));
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
fn an_agent_that_starts_hears_of_a_client_that_drives_or_is_on_its_way() {
    let made_by_editor = Spec { offers: vec![Offer::ReadFile], ..sample::acp_spec() };
    let spec = Arc::new(made_by_editor.clone());
    let Change { sessions, .. } = Fleet::default()
        .step(AT, &Ask::Create { id: Some(id("s")), spec })
        .unwrap_or_else(|refusal| panic!("{refusal}"));
    let mut session = Session::clone(&sessions[0]);
    assert_eq!(session.offered_at_start(), (None, vec![Offer::ReadFile]));
    // What comes is what counts.
    let offers = vec![Offer::WriteFile];
    let attach = Command::Attach { name: "e".into(), role: Role::Driver, takeover: false, offers };
    let mut driven = session.clone();
    wish(&mut driven, attach);
    let client = driven.clients[0].id;
    assert_eq!(driven.offered_at_start(), (Some(client), vec![Offer::WriteFile]));
    wish(&mut driven, Command::Detach(client));
    assert_eq!(driven.offered_at_start(), (None, Vec::new()));
    // Whoever has not come by the time that the agent is ready is not waited for any more.
    see(&mut session, Seen::Spawned(identity(100)));
    see(&mut session, Seen::Ready { restore: Restore::Fresh, agent_pid: Some(101) });
    assert_eq!(session.offered_at_start(), (None, Vec::new()));
    // In a sandbox no client opens files.
    let walls = Some(protocol::Walls::default());
    let walled = Spec { walls, ..made_by_editor };
    let session = Session { spec: Arc::new(walled), awaited: vec![Offer::ReadFile], ..session };
    assert_eq!(session.offered_at_start(), (None, Vec::new()));
}

/// The same session after its turn.
fn rests(permissions: Permissions) -> Session {
    let mut session = works(permissions);
    see(&mut session, ended(TurnEnd::Stopped { reason: "end_turn".into() }));
    session
}

fn asks_between(request: u64) -> Seen {
    Seen::PermissionAsked { prompt: None, request, ask: ask(), payload: json!({ "options": [] }) }
}

#[test]
fn what_is_asked_between_turns_follows_the_policy() {
    let told = |option: &str| Effect::Answer { incarnation: 1, request: 1, option: Some(option.into()) };
    for (policy, option) in [
        (PermissionPolicy::Allow, "allow_once"),
        (PermissionPolicy::Deny, "reject_once"),
        (PermissionPolicy::Fail, "reject_once"),
    ] {
        let mut session = rests(by(policy));
        let (events, effects) = see(&mut session, asks_between(1));
        let EventKind::PermissionRequested { turn: None, prompt_id: None, permission_id: FIRST, .. } =
            &events[0]
        else {
            panic!("{policy:?}: {events:?}")
        };
        assert_eq!(events.len(), 2, "{policy:?}");
        assert_eq!(effects, [told(option)], "{policy:?}");
        assert_eq!(session.status(), Status::Idle, "{policy:?}");
    }
}

#[test]
fn what_is_asked_between_turns_waits_as_in_a_turn_and_outlives_the_next_one() {
    let mut session = rests(Permissions { timeout_ms: 1_000, ..Permissions::default() });
    see(&mut session, asks_between(1));
    assert_eq!((session.status(), session.deadline()), (Status::RequiresAction, Some(AT.mono + 1_000)));
    let [open] = &session.permissions()[..] else { panic!() };
    assert_eq!((open.permission_id, open.prompt_id), (FIRST, None));
    // A turn comes and goes.
    wish(&mut session, new_prompt("more"));
    let prompt = session.turns.running.as_ref().unwrap().prompt.id;
    see(&mut session, Seen::TurnStarted { prompt, agent_pid: 101 });
    assert_eq!((session.status(), session.deadline()), (Status::RequiresAction, Some(AT.mono + 1_000)));
    let end = TurnEnd::Stopped { reason: "end_turn".into() };
    see(&mut session, Seen::TurnEnded { prompt, end, exit: None, left_behind: 0 });
    assert_eq!(session.permissions().len(), 1);
    let mut answered = session.clone();
    let (events, effects) = wish(&mut answered, Command::Permit(FIRST, PermissionAnswer::Allow));
    assert_eq!(events, [resolved("allow_once", Decider::User)]);
    assert_eq!(effects, [Effect::Answer { incarnation: 1, request: 1, option: Some("allow_once".into()) }]);
    assert_eq!(answered.status(), Status::Idle);
    let again = answered.step(AT, 99, &Input::Command(Command::Permit(FIRST, PermissionAnswer::Deny)));
    assert_eq!(again.unwrap_err(), Refusal::PermissionSettled(FIRST));
    // Time denies it, and its worker's end closes it.
    let mut expired = session.clone();
    let (events, _) = give(&mut expired, At { mono: AT.mono + 1_000, ..AT }, 70, Input::Tick);
    assert!(matches!(&events[..], [EventKind::PermissionExpired { permission_id: FIRST, .. }]), "{events:?}");
    assert!(matches!(expired.state, State::Ready { .. }), "it is no rest that has ended");
    let (events, _) = see(&mut session, gone(Exit::Signal(9)));
    assert!(
        events.iter().any(|event| matches!(event, EventKind::PermissionExpired { permission_id: FIRST, .. }))
    );
    assert!(session.permissions().is_empty() && session.turns.asked.answers.is_empty());
}

#[test]
fn of_many_questions_that_expire_at_once_without_a_turn_each_denial_reaches_the_worker() {
    let mut session = rests(Permissions { timeout_ms: 1_000, ..Permissions::default() });
    let asked = limits::ANSWERS as u64 + 4;
    for request in 1..=asked {
        give(&mut session, AT, 100 + request, Input::Seen(1, asks_between(request)));
    }
    assert_eq!(session.permissions().len() as u64, asked);
    let mut told = Vec::new();
    let mut at = At { mono: AT.mono + 1_000, ..AT };
    for round in 0..2 {
        let (_, effects) = give(&mut session, at, 500 + 100 * round, Input::Tick);
        told.extend(effects.iter().filter_map(|effect| match effect {
            Effect::Answer { request, .. } => Some(*request),
            _ => None,
        }));
        at.mono += 1;
    }
    told.sort();
    assert_eq!(told, Vec::from_iter(1..=asked));
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
        // The next one begins anew, and one that is aborted or says why it ended is another matter.
        wish(&mut session, new_prompt("more"));
        assert!(!session.info(0).empty_turn);
    }
    let mut session = parks();
    session.turns.running.as_mut().unwrap().acted = false;
    let (events, _) = see(&mut session, ended(TurnEnd::Stopped { reason: "max_tokens".into() }));
    assert!(events.iter().all(|event| !matches!(event, EventKind::SystemMessage { .. })), "{events:?}");
}
