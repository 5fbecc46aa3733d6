//! Seats of drivers whose connections were lost.

use harness::sample::{AT, ready, session};
use manager::core::{At, Command, Input, NOBODY, Refusal, Reply, Session, limits};
use protocol::api::{ClientOrigin, Role};
use protocol::event::EventKind;
use protocol::wire::CallAnswer;
use protocol::{CallId, EventId, KeyId};

use super::{give, wish};

const WORD: &str = "thewordoftheseat";

/// A person with a key of their own asks to drive.
fn comes(name: &str, seat: Option<&str>, takeover: bool) -> Command {
    let key = Some(KeyId(name.bytes().map(u64::from).sum()));
    comes_from(name, Some(ClientOrigin { key, ..ClientOrigin::default() }), seat, takeover)
}

fn comes_from(name: &str, origin: Option<ClientOrigin>, seat: Option<&str>, takeover: bool) -> Command {
    let (seat, role, offers) = (seat.map(str::to_owned), Role::Driver, Vec::new());
    Command::Attach { name: name.into(), role, takeover, offers, origin, seat }
}

fn leaves(client: EventId, seat: Option<&str>) -> Command {
    Command::Leave { client, seat: seat.map(str::to_owned) }
}

fn later(ms: u64) -> At {
    At { mono: AT.mono + ms, ..AT }
}

/// Attaches a driver; gives its id.
fn drives(session: &mut Session, at: At, command: Command) -> EventId {
    match give(session, at, Input::Command(command)).1 {
        Reply::Attached { client } => client,
        other => panic!("{other:?}"),
    }
}

/// The name of the driver in whose way it would be.
fn refused(session: &Session, at: At, command: Command) -> String {
    match session.step(at, 50, &Input::Command(command)) {
        Err(Refusal::Driven { name, .. }) => name,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_driver_that_lost_its_connection_finds_its_seat() {
    let mut session = session("s", ready());
    let first = drives(&mut session, AT, comes("ann", Some(WORD), false));
    wish(&mut session, Command::Detach(first));
    assert!(session.driver().is_none());
    let last = later(limits::SEAT_MS - 1);
    assert_eq!(refused(&session, last, comes("bob", None, false)), "ann");
    assert_eq!(refused(&session, last, comes("bob", Some("anotherwordofhis"), false)), "ann");
    let again = drives(&mut session, last, comes("ann", Some(WORD), false));
    assert_eq!(session.driver().map(|driver| driver.id), Some(again));
    assert_eq!(session.kept, None);
}

#[test]
fn a_connection_that_is_not_known_to_be_lost_gives_way_to_its_own_client() {
    let mut session = session("s", ready());
    drives(&mut session, AT, comes("ann", Some(WORD), false));
    let again = drives(&mut session, AT, comes("ann", Some(WORD), false));
    assert_eq!(session.driver().map(|driver| driver.id), Some(again));
    assert_eq!(session.clients.len(), 2);
}

#[test]
fn a_seat_is_free_when_its_time_is_over_and_when_its_driver_leaves() {
    let mut session = session("s", ready());
    let first = drives(&mut session, AT, comes("ann", Some(WORD), false));
    wish(&mut session, Command::Detach(first));
    let bob = drives(&mut session, later(limits::SEAT_MS), comes("bob", None, false));
    assert_eq!(refused(&session, later(limits::SEAT_MS), comes("ann", Some(WORD), false)), "bob");
    let (events, _) = give(&mut session, AT, Input::Command(leaves(bob, None)));
    let gone = [EventKind::ClientDetached { client_id: bob }, EventKind::DriverChanged { driver: None }];
    assert_eq!(events, gone);
    let ann = drives(&mut session, AT, comes("ann", Some(WORD), false));
    let stranger = session.step(AT, 50, &Input::Command(leaves(ann, Some("anotherwordofhis"))));
    assert_eq!(stranger, Err(Refusal::NotDriver(session.id.clone())), "nobody leaves in another's place");
    assert!(session.step(AT, 50, &Input::Command(leaves(ann, None))).is_err());
    wish(&mut session, leaves(ann, Some(WORD)));
    drives(&mut session, AT, comes("bob", None, false));
}

#[test]
fn a_client_leaves_by_its_word_wherever_its_connections_are() {
    let bob = |session: &Session| session.step(AT, 50, &Input::Command(comes("bob", None, false))).is_ok();
    // Its connection was cut, and it leaves before it has come back.
    let mut session = session("s", ready());
    let first = drives(&mut session, AT, comes("ann", Some(WORD), false));
    wish(&mut session, Command::Detach(first));
    assert_eq!(give(&mut session, AT, Input::Command(leaves(NOBODY, Some("anotherwordofhis")))).0, []);
    assert_eq!(give(&mut session, AT, Input::Command(leaves(first, None))).0, []);
    assert!(!bob(&session));
    wish(&mut session, leaves(first, Some(WORD)));
    assert!(session.kept.is_none() && bob(&session));
    // A connection that is not known to be lost, and the one after it.
    let old = drives(&mut session, AT, comes("ann", Some(WORD), false));
    let new = drives(&mut session, AT, comes("ann", Some(WORD), false));
    let (events, _) = give(&mut session, AT, Input::Command(leaves(NOBODY, Some(WORD))));
    let gone = [
        EventKind::ClientDetached { client_id: old },
        EventKind::ClientDetached { client_id: new },
        EventKind::DriverChanged { driver: None },
    ];
    assert_eq!(events, gone);
    assert!(session.kept.is_none() && bob(&session));
    // Another's stay goes on.
    let carl = drives(&mut session, AT, comes("carl", None, false));
    wish(&mut session, leaves(NOBODY, Some(WORD)));
    assert_eq!(session.driver().map(|driver| driver.id), Some(carl));
}

#[test]
fn a_seat_that_is_kept_is_its_persons_at_once_and_others_hear_for_how_long() {
    let at = |key: Option<u64>, address: &str| {
        let address = Some(address.to_owned());
        Some(ClientOrigin { key: key.map(KeyId), address, ..ClientOrigin::default() })
    };
    let token = || Some(ClientOrigin { token: true, ..ClientOrigin::default() });
    // Whoever was there, who comes, and whether that is one person.
    let cases = [
        (None, None, true),
        (at(Some(1), "a"), at(Some(1), "b"), true),
        (at(Some(1), "a"), at(Some(2), "a"), false),
        (at(Some(1), "a"), None, false),
        (None, at(Some(1), "a"), false),
        // One with a session's token at this machine is not the owner.
        (None, token(), false),
        (token(), None, false),
        (token(), token(), false),
        // Clients with a session's token, from the same address: it is not known who they are.
        (at(None, "a"), at(None, "a"), false),
    ];
    for (was, comes, is_one) in cases {
        let mut session = session("s", ready());
        let first = drives(&mut session, AT, comes_from("ann", was.clone(), Some(WORD), false));
        let again = comes_from("again", comes.clone(), Some("anotherwordofhis"), false);
        assert_eq!(refused(&session, AT, again.clone()), "ann", "one that is there keeps its seat");
        wish(&mut session, Command::Detach(first));
        let now = later(4_000);
        let answer = session.step(now, 50, &Input::Command(again));
        match answer {
            Ok(_) => assert!(is_one, "{was:?} {comes:?}"),
            Err(refusal @ Refusal::Driven { kept_ms, .. }) => {
                assert!(!is_one && kept_ms == Some(limits::SEAT_MS - 4_000), "{was:?} {comes:?}");
                assert!(refusal.to_string().contains("kept for 26 s more"), "{refusal}");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_takeover_takes_a_kept_seat_too_and_its_driver_does_not_take_it_back() {
    let mut session = session("s", ready());
    let first = drives(&mut session, AT, comes("ann", Some(WORD), false));
    wish(&mut session, Command::Detach(first));
    drives(&mut session, AT, comes("bob", None, true));
    assert_eq!(refused(&session, AT, comes("ann", Some(WORD), false)), "bob");
}

#[test]
fn a_viewer_and_a_driver_without_a_word_keep_nothing() {
    let mut session = session("s", ready());
    let ann = drives(&mut session, AT, comes("ann", None, false));
    wish(&mut session, Command::Detach(ann));
    assert_eq!(session.kept, None);
    drives(&mut session, AT, comes("bob", None, false));
}

#[test]
fn a_seat_outlives_the_manager_and_not_the_boot() {
    let mut session = session("s", ready());
    drives(&mut session, AT, comes("ann", Some(WORD), false));
    give(&mut session, AT, Input::Recovered { same_boot: true });
    assert_eq!(refused(&session, AT, comes("bob", None, false)), "ann");
    let before = At { mono: AT.mono - 1, ..AT };
    drives(&mut session, before, comes("bob", None, false));
}

#[test]
fn a_client_that_is_not_attached_changes_what_nobody_drives_and_answers_no_call() {
    let mut session = session("s", ready());
    let not_driver = Err(Refusal::NotDriver(session.id.clone()));
    let by_nobody = |session: &Session, at, command| {
        session.step(at, 50, &Input::CommandBy(NOBODY, command)).map(|step| step.next.pinned)
    };
    assert_eq!(by_nobody(&session, AT, Command::Pin(true)), Ok(true));
    let answer = Command::AnswerCall(CallId(1), CallAnswer::Result { json: "{}".into() });
    assert_eq!(by_nobody(&session, AT, answer), not_driver);
    let ann = drives(&mut session, AT, comes("ann", Some(WORD), false));
    assert_eq!(by_nobody(&session, AT, Command::Pin(true)), not_driver);
    // Her seat is kept.
    wish(&mut session, Command::Detach(ann));
    assert_eq!(by_nobody(&session, AT, Command::Pin(true)), not_driver);
    assert_eq!(by_nobody(&session, later(limits::SEAT_MS), Command::Pin(true)), Ok(true));
}
