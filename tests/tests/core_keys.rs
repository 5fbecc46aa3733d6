//! Sessions that a key has started: to whom they belong, and what a key reaches.

use std::sync::Arc;

use harness::sample::{self, AT, id};
use manager::core::{Ask, At, Change, Edit, Fleet, Refusal, Reply, Scope, Spec, Wish};
use protocol::KeyId;
use protocol::event::EventKind;

const CLOSING: At = At { closing: true, ..AT };

fn spec() -> Arc<Spec> {
    Arc::new(sample::spec())
}

fn ask(fleet: &mut Fleet, at: At, ask: &Ask) -> Change {
    let change = fleet.step(at, ask).unwrap_or_else(|refusal| panic!("{ask:?}: {refusal}"));
    drop(fleet.adopt(&change));
    change
}

fn start(name: &str) -> Ask {
    Ask::Create { id: Some(id(name)), spec: spec() }
}

fn ensure(name: &str) -> Ask {
    Ask::Ensure { id: id(name), spec: spec(), given: Box::default() }
}

fn below(parent: &str) -> Ask {
    let (parent, id) = (Some(id(parent)), Some(id(&format!("below-{parent}"))));
    Ask::Subagent { parent, id, spec: spec(), task: "task".into(), wish: None }
}

/// The ids of the sessions within a scope.
fn within(fleet: &Fleet, scope: &Scope) -> Vec<String> {
    let within = fleet.sessions().filter(|session| fleet.is_within(session, scope));
    within.map(|session| session.id.to_string()).collect()
}

#[test]
fn what_a_key_starts_is_its_own_and_so_is_what_is_below() {
    let key = KeyId(3);
    let with_key = |scope: Scope, ask: Ask| Ask::ByKey { key, scope, ask: Box::new(ask) };
    let own = || Scope::Own(key);
    let mut fleet = Fleet::load([], [], 1, 1);
    ask(&mut fleet, AT, &start("owners"));
    let change = ask(&mut fleet, AT, &with_key(own(), start("mine")));
    let EventKind::SessionCreated { started_by, .. } = &change.events[0].kind else { panic!() };
    assert_eq!(*started_by, Some(key));
    // Whoever starts a sub-agent, it belongs to its root.
    ask(&mut fleet, AT, &below("mine"));
    ask(&mut fleet, AT, &with_key(Scope::All, below("owners")));
    let belongs = |fleet: &Fleet, name: &str| fleet.get(&id(name)).unwrap().started_by;
    assert_eq!(["mine", "below-mine"].map(|name| belongs(&fleet, name)), [Some(key); 2]);
    assert_eq!(["owners", "below-owners"].map(|name| belongs(&fleet, name)), [None; 2]);

    let listed = Scope::Ids(Arc::new([id("owners")].into()));
    for (scope, expected) in [
        (Scope::All, &["below-mine", "below-owners", "mine", "owners"][..]),
        (own(), &["below-mine", "mine"]),
        (Scope::Own(KeyId(4)), &[]),
        (listed, &["below-owners", "owners"]),
    ] {
        assert_eq!(within(&fleet, &scope), expected, "{scope:?}");
    }

    // What it does not reach does not exist, but that the id cannot be used.
    let refused = |fleet: &Fleet, ask: Ask| fleet.step(AT, &with_key(own(), ask)).map(drop);
    assert_eq!(refused(&fleet, ensure("owners")), Err(Refusal::IdUnusable(id("owners"))));
    assert_eq!(refused(&fleet, start("owners")), Err(Refusal::IdUnusable(id("owners"))));
    assert_eq!(refused(&fleet, below("owners")), Err(Refusal::NoSuchSession("owners".into())));
    assert_eq!(ask(&mut fleet, AT, &with_key(own(), ensure("mine"))).reply, Reply::Existing(id("mine")));
    assert_eq!(ask(&mut fleet, AT, &with_key(own(), ensure("new"))).reply, Reply::Created(id("new")));
    assert_eq!(belongs(&fleet, "new"), Some(key));
    // One for listed sessions starts none: who may start any session may run any command. What is below a listed one is bounded
    // by it.
    let bounded = |fleet: &Fleet, ask: Ask| {
        let ids = ["owners", "gone", "x"].map(id);
        fleet.step(AT, &with_key(Scope::Ids(Arc::new(ids.into())), ask)).map(drop)
    };
    for (what, name) in [(ensure("gone"), "gone"), (start("x"), "x"), (below("owners"), "owners")] {
        assert_eq!(bounded(&fleet, what), Err(Refusal::NoSuchSession(name.into())));
    }
    assert!(bounded(&fleet, ensure("owners")).is_ok());
    let Ask::Subagent { parent, spec, task, .. } = below("owners") else { panic!() };
    let wish = Some(Box::new(Wish::default()));
    let weaker = Ask::Subagent { parent, id: Some(id("bounded")), spec, task, wish };
    assert!(bounded(&fleet, weaker).is_ok());
    // A wrapped command of another kind does nothing, and a manager that ends starts nothing.
    let nothing = fleet.step(AT, &with_key(own(), Ask::Remove(id("mine")))).unwrap();
    assert!(nothing.sessions.is_empty() && nothing.removed.is_none());
    assert_eq!(fleet.step(CLOSING, &with_key(own(), start("x"))), Err(Refusal::Closing));
}

#[test]
fn a_key_for_labels_reaches_what_has_them_all_and_takes_none_out_of_its_reach() {
    let by_labels = |labels: &[(&str, &str)]| {
        Scope::Labels(Arc::new(
            labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        ))
    };
    let edit = |name: &str, label: &str, value: Option<&str>| {
        let labels = [(label.to_owned(), value.map(str::to_owned))].into();
        Ask::Edit(id(name), Edit { labels, ..Edit::default() })
    };
    let mut fleet = Fleet::load([], [], 1, 1);
    for made in [start("top"), below("top"), start("other"), below("other")] {
        ask(&mut fleet, AT, &made);
    }
    for (name, label, value) in
        [("top", "team", "web"), ("top", "stage", "test"), ("below-other", "team", "web")]
    {
        ask(&mut fleet, AT, &edit(name, label, Some(value)));
    }
    for (labels, expected) in [
        (&[("team", "web")][..], &["below-other", "below-top", "top"][..]),
        (&[("team", "web"), ("stage", "test")], &["below-top", "top"]),
        (&[("team", "api")], &[]),
        (&[("team", "")], &[]),
        (&[], &[]),
    ] {
        assert_eq!(within(&fleet, &by_labels(labels)), expected, "{labels:?}");
    }
    let labelled = |ask: Ask| {
        let (key, scope, ask) = (KeyId(3), by_labels(&[("team", "web")]), Box::new(ask));
        fleet.step(AT, &Ask::ByKey { key, scope, ask }).map(|change| change.sessions.len())
    };
    for (what, name) in [(ensure("gone"), "gone"), (start("x"), "x"), (below("top"), "top")] {
        assert_eq!(labelled(what), Err(Refusal::NoSuchSession(name.into())));
    }
    assert!(labelled(ensure("top")).is_ok());
    assert_eq!(labelled(edit("top", "stage", None)), Ok(1));
    for lost in [None, Some("api")] {
        assert_eq!(labelled(edit("top", "team", lost)), Err(Refusal::LabelsOfKey(id("top"))));
    }
    let foreign = labelled(edit("other", "team", Some("web")));
    assert_eq!(foreign, Err(Refusal::NoSuchSession("other".into())));
    assert_eq!(labelled(edit("below-top", "team", Some("api"))), Ok(1), "reached by its parent's");
}
