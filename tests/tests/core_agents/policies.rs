//! Policies and rules that answer permissions without a person.

use harness::sample::{AT, ask, options};
use manager::core::{Effect, PermissionRule, Permissions, Phase, limits};
use protocol::api::{PermissionPolicy, Status};
use protocol::event::{Decider, EventKind, Outcome};
use protocol::wire::{PermissionAsk, TurnEnd};

use super::{FIRST, PROMPT, answer, asks, by, ended, expired, requested, resolved, see, waiting, works};

#[test]
fn policy_allow_answers_at_once_with_the_option_that_allows_once() {
    let mut session = works(by(PermissionPolicy::Allow));
    let received = see(&mut session, asks(3, ask()));
    let events = vec![requested(FIRST, &ask()), resolved("allow_once", Decider::Policy)];
    assert_eq!(received, (events, vec![answer(3, Some("allow_once"))]));
    assert_eq!((waiting(&session), session.status()), (Vec::new(), Status::Running));
}

#[test]
fn policy_deny_answers_at_once_with_the_option_that_denies_once() {
    let mut session = works(by(PermissionPolicy::Deny));
    let received = see(&mut session, asks(3, ask()));
    let events = vec![requested(FIRST, &ask()), resolved("reject_once", Decider::Policy)];
    assert_eq!(received, (events, vec![answer(3, Some("reject_once"))]));
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
    // All of them must lie below it. A request without paths matches no rule about paths.
    assert!(allows("src", &["src/a", "src/b"]));
    assert!(!allows("src", &["src/a", "b"]));
    assert!(!allows("src", &[]));
    // A rule about `/` matches everything.
    assert!(allows("/", &["/etc/passwd"]));
    assert!(allows(".", &["src/a"]) && !allows(".", &["../b"]));
    assert!(!allows("../../..", &["src/a"]), "a rule that climbs above the root fits nothing");
}
