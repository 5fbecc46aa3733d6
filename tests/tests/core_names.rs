//! Names and labels of sessions: the name that each is given, what no two have, and what a key learns of others'.

use std::sync::Arc;

use harness::names;
use harness::sample::{self, AT, id};
use manager::core::{Ask, Change, Edit, Fleet, Input, NOBODY, Naming, Refusal, Reply, Scope, Seen, Spec};
use protocol::api::Orphans;
use protocol::event::EventKind;
use protocol::{KeyId, SessionId, SessionName};

fn name(text: &str) -> SessionName {
    text.parse().unwrap()
}

fn spec(workdir: &str, named: Option<&str>) -> Arc<Spec> {
    Arc::new(Spec { workdir: workdir.into(), name: named.map(name), ..sample::spec() })
}

fn create(id: Option<&str>, workdir: &str, named: Option<&str>) -> Ask {
    Ask::Create { id: id.map(sample::id), spec: spec(workdir, named) }
}

fn rename(session: &str, to: &str) -> Ask {
    Ask::Edit(id(session), Edit { name: Some(name(to)), ..Edit::default() })
}

fn with_key(ask: Ask) -> Ask {
    Ask::ByKey { key: KeyId(1), scope: Scope::Own(KeyId(1)), ask: Box::new(ask) }
}

fn done(fleet: &mut Fleet, ask: &Ask) -> Change {
    let change = fleet.step(AT, ask).unwrap_or_else(|refusal| panic!("{ask:?}: {refusal}"));
    drop(fleet.adopt(&change));
    assert_eq!(names::broken(fleet), None, "{ask:?}");
    change
}

fn created(fleet: &mut Fleet, ask: &Ask) -> (SessionId, SessionName) {
    let change = done(fleet, ask);
    let Reply::Created(id) = change.reply else { panic!("{:?}", change.reply) };
    let is = fleet.get(&id).unwrap().spec.name.clone().unwrap();
    let told = change.events.iter().find_map(|event| match &event.kind {
        EventKind::SessionCreated { name, .. } => name.clone(),
        _ => None,
    });
    assert_eq!(told.as_ref(), Some(&is));
    (id, is)
}

fn remove(fleet: &mut Fleet, session: &SessionId) {
    done(fleet, &Ask::Stop(session.clone(), Orphans::Keep));
    let never_ran = Seen::SpawnFailed { error: "no".into(), no_room: false };
    done(fleet, &Ask::One(session.clone(), Input::Seen(1, never_ran)));
    done(fleet, &Ask::Remove(session.clone()));
}

fn refused(fleet: &Fleet, ask: &Ask) -> Refusal {
    fleet.step(AT, ask).err().unwrap_or_else(|| panic!("{ask:?} was not refused"))
}

fn empty() -> Fleet {
    Fleet::load([], [], 1, 1)
}

#[test]
fn a_session_is_named_by_its_maker_or_its_id_or_its_directory() {
    let mut fleet = empty();
    for (ask, expected) in [
        (create(None, "/srv/web", None), "web"),
        (create(None, "/home/me/web", None), "web-2"),
        (create(None, "/srv/web", None), "web-3"),
        (create(Some("box"), "/srv/web", None), "box"),
        (create(None, "/srv/box", None), "box-2"),
        (create(None, "/srv/web", Some("front")), "front"),
        (create(Some("session-9"), "/srv/web", None), "web-4"),
        (create(Some("workdir-0123456789abcdef"), "/", None), "root"),
    ] {
        assert_eq!(created(&mut fleet, &ask).1.as_str(), expected);
    }
    assert_eq!(fleet.named("front").unwrap().id, id("session-5"));
}

#[test]
fn a_name_that_is_another_sessions_or_was_an_id_is_refused() {
    let mut fleet = empty();
    let (web, _) = created(&mut fleet, &create(None, "/srv/web", None));
    created(&mut fleet, &create(Some("box"), "/", None));
    created(&mut fleet, &create(Some("gone"), "/", None));
    remove(&mut fleet, &id("gone"));
    let taken = Refusal::NameTaken { name: name("web"), of: web.clone(), naming: Naming::New };
    for (ask, refusal) in [
        (create(None, "/", Some("web")), taken),
        (
            rename("box", "web"),
            Refusal::NameTaken { name: name("web"), of: web.clone(), naming: Naming::Rename },
        ),
        (create(Some("5"), "/", None), Refusal::IdIsNumber(id("5"))),
        (
            rename(web.as_str(), "box"),
            Refusal::NameTaken { name: name("box"), of: id("box"), naming: Naming::Rename },
        ),
        (rename("box", "gone"), Refusal::NameIsId(name("gone"), Naming::Rename)),
        (create(Some("web"), "/", None), Refusal::IdIsName { id: id("web"), of: web.clone() }),
        (rename("nobody", "x"), Refusal::NoSuchSession("nobody".into())),
    ] {
        assert_eq!(refused(&fleet, &ask), refusal);
    }
    // Its id stays its own, whatever it is called.
    done(&mut fleet, &rename("box", "crate"));
    assert_eq!(refused(&fleet, &rename(web.as_str(), "box")), Refusal::NameIsId(name("box"), Naming::Rename));
    done(&mut fleet, &rename("box", "box"));
}

#[test]
fn a_name_that_is_given_up_is_free() {
    let mut fleet = empty();
    let (first, _) = created(&mut fleet, &create(None, "/srv/web", None));
    done(&mut fleet, &rename(first.as_str(), "old"));
    let (second, is) = created(&mut fleet, &create(None, "/srv/web", None));
    assert_eq!(is.as_str(), "web");
    // What was not committed is taken back.
    let before = fleet.clone();
    let change = fleet.step(AT, &rename(second.as_str(), "new")).unwrap();
    let undo = fleet.adopt(&change);
    assert!(fleet.named("new").is_some() && fleet.named("web").is_none());
    fleet.take_back(undo);
    assert_eq!(fleet, before);
    remove(&mut fleet, &first);
    assert!(fleet.named("old").is_none());
    done(&mut fleet, &rename(second.as_str(), "old"));
}

#[test]
fn a_journal_without_names_is_given_them_once() {
    let mut fleet = empty();
    created(&mut fleet, &create(None, "/srv/web", None));
    created(&mut fleet, &create(None, "/srv/web", None));
    let nameless = fleet.sessions().map(|session| {
        let mut session = (**session).clone();
        Arc::make_mut(&mut session.spec).name = None;
        session
    });
    let mut fleet = Fleet::load(nameless.collect::<Vec<_>>(), [], fleet.next_number(), fleet.next_event());
    let (version, boot_id) = (String::from("v"), String::from("boot"));
    let began = Ask::ManagerStarted { pid: 1, version, boot_id, same_boot: true, lost: None };
    let change = done(&mut fleet, &began);
    assert_eq!(change.sessions.len(), 2, "they are recorded");
    let told = |fleet: &Fleet| fleet.sessions().map(|session| session.spec.name.clone()).collect::<Vec<_>>();
    assert_eq!(told(&fleet), [Some(name("web")), Some(name("web-2"))]);
    let before = told(&fleet);
    done(&mut fleet, &began);
    assert_eq!(told(&fleet), before);
}

#[test]
fn a_name_that_became_anothers_id_while_an_earlier_version_ran_is_given_up() {
    let mut fleet = empty();
    created(&mut fleet, &create(None, "/srv/web", None));
    created(&mut fleet, &create(Some("box"), "/srv/box", None));
    let as_written = fleet.sessions().map(|session| {
        let mut session = (**session).clone();
        // An earlier version knows no names, and let somebody have `web` as an id.
        if session.id == id("box") {
            session.id = id("web");
            Arc::make_mut(&mut session.spec).name = None;
        }
        session
    });
    let mut fleet = Fleet::load(as_written.collect::<Vec<_>>(), [], fleet.next_number(), fleet.next_event());
    assert!(names::broken(&fleet).is_some());
    let (version, boot_id) = (String::from("v"), String::from("boot"));
    done(&mut fleet, &Ask::ManagerStarted { pid: 1, version, boot_id, same_boot: true, lost: None });
    assert_eq!(fleet.get(&id("session-1")).unwrap().spec.name, Some(name("web-2")));
    assert_eq!(fleet.get(&id("web")).unwrap().spec.name, Some(name("box")));
}

#[test]
fn a_sub_agent_that_a_session_starts_learns_of_no_name() {
    let mut fleet = empty();
    created(&mut fleet, &create(None, "/srv/web", None));
    created(&mut fleet, &create(Some("box"), "/srv/web", None));
    let below = |named: Option<&str>| Ask::Subagent {
        parent: Some(id("box")),
        id: None,
        spec: spec("/srv/web", named),
        task: "task".into(),
        wish: Some(Box::default()),
    };
    assert_eq!(refused(&fleet, &below(Some("web"))), Refusal::NameUnusable(name("web"), Naming::New));
    assert_eq!(refused(&fleet, &below(Some("box"))), Refusal::NameUnusable(name("box"), Naming::New));
    // The number is its own id's.
    assert_eq!(created(&mut fleet, &below(None)).1.as_str(), "web-2");
    assert_eq!(created(&mut fleet, &below(None)).1.as_str(), "web-3");
    done(&mut fleet, &rename("session-2", "other"));
    assert_eq!(created(&mut fleet, &below(None)).1.as_str(), "web-4");
}

#[test]
fn a_key_learns_of_no_name_that_it_does_not_reach() {
    let mut fleet = empty();
    let (web, _) = created(&mut fleet, &create(None, "/srv/web", None));
    created(&mut fleet, &create(Some("box"), "/", None));
    // Its number is its own id's, not that of sessions of this directory.
    let (mine, is) = created(&mut fleet, &with_key(create(None, "/srv/web", None)));
    assert_eq!((mine.as_str(), is.as_str()), ("session-2", "web-2"));
    let (mine, is) = created(&mut fleet, &with_key(create(None, "/srv/other", None)));
    assert_eq!((mine.as_str(), is.as_str()), ("session-3", "other-3"));
    for taken in ["web", "box"] {
        let unusable = |naming| Refusal::NameUnusable(name(taken), naming);
        let start = with_key(create(None, "/", Some(taken)));
        assert_eq!(refused(&fleet, &start), unusable(Naming::New));
        assert_eq!(refused(&fleet, &with_key(rename(mine.as_str(), taken))), unusable(Naming::Rename));
    }
    assert_eq!(refused(&fleet, &with_key(create(Some("web"), "/", None))), Refusal::IdUnusable(id("web")));
    let absent = Refusal::NoSuchSession(web.to_string());
    assert_eq!(refused(&fleet, &with_key(rename(web.as_str(), "x"))), absent);
    done(&mut fleet, &with_key(rename(mine.as_str(), "its-own")));
    let taken = Refusal::NameTaken { name: name("its-own"), of: mine, naming: Naming::Rename };
    assert_eq!(refused(&fleet, &with_key(rename("session-2", "its-own"))), taken);
}

#[test]
fn labels_and_title_change_one_by_one_and_what_changes_nothing_is_no_event() {
    let mut fleet = empty();
    created(&mut fleet, &create(Some("s"), "/", None));
    let edit = |title: Option<&str>, labels: &[(&str, Option<&str>)]| {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), value.map(str::to_owned)));
        Ask::Edit(id("s"), Edit { name: None, title: title.map(str::to_owned), labels: labels.collect() })
    };
    let shown = |change: &Change| match &change.events[..] {
        [event] => match &event.kind {
            EventKind::SessionUpdated { title, labels, .. } => (title.clone(), labels.clone()),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let change = done(&mut fleet, &edit(Some("a title"), &[("team", Some("front")), ("ticket", Some("1"))]));
    let both = [("team".to_owned(), "front".to_owned()), ("ticket".to_owned(), "1".to_owned())];
    assert_eq!(shown(&change), (Some("a title".to_owned()), both.into()));
    let change = done(&mut fleet, &edit(None, &[("ticket", None), ("none", None)]));
    assert_eq!(
        shown(&change),
        (Some("a title".to_owned()), [("team".to_owned(), "front".to_owned())].into())
    );
    let change = done(&mut fleet, &edit(Some("a title"), &[("team", Some("front"))]));
    assert!(change.events.is_empty() && change.sessions.is_empty());
    let change = done(&mut fleet, &edit(Some(""), &[]));
    assert_eq!(shown(&change).0, None);
    let many: Vec<(String, Option<String>)> =
        (0..32).map(|n| (format!("l{n}"), Some(String::new()))).collect();
    let many = Ask::Edit(id("s"), Edit { labels: many.into_iter().collect(), ..Edit::default() });
    assert_eq!(refused(&fleet, &many), Refusal::TooManyLabels { id: id("s"), limit: 32 });
    let by_another = Ask::ByClient { client: NOBODY + 1, ask: Box::new(edit(Some("theirs"), &[])) };
    assert_eq!(refused(&fleet, &by_another), Refusal::NotDriver(id("s")));
}

#[test]
fn an_earlier_versions_session_with_a_number_as_its_id_goes_on() {
    let mut five = sample::session("5", sample::ready());
    Arc::make_mut(&mut five.spec).name = Some(name("five"));
    let mut fleet = Fleet::load([five], [], 1, 1);
    let ensure = Ask::Ensure { id: id("5"), spec: spec("/", None), given: Box::default() };
    assert!(fleet.step(AT, &ensure).is_ok());
    done(&mut fleet, &Ask::Stop(id("5"), Orphans::Keep));
    for new in ["6", "0", "007"] {
        let ensure = Ask::Ensure { id: id(new), spec: spec("/", None), given: Box::default() };
        assert_eq!(refused(&fleet, &ensure), Refusal::IdIsNumber(id(new)));
        assert_eq!(refused(&fleet, &create(Some(new), "/", None)), Refusal::IdIsNumber(id(new)));
    }
}
