//! Facts of no event: tokens, sub-agents, subscribers, power cuts.

use protocol::event::Outcome;

use super::super::*;
use super::story::{Story, child, created, id};

#[test]
fn a_sub_agents_end_that_is_told_twice_or_never_is_found() {
    let mut story = Story::default();
    story.created().tell_of(Some(child()), 1, created());
    let started = EventKind::SubagentStarted { child: child(), task: String::new(), model: None };
    let ended = EventKind::SubagentCompleted { child: child(), outcome: Outcome::Completed };
    story.add(1, started.clone()).add(1, ended).is_fine();
    story
        .add(1, EventKind::SubagentLost { child: child(), reason: String::new() })
        .is_wrong("was told before");

    let mut story = Story::default();
    story.created().tell_of(Some(child()), 1, created());
    story.add(1, started).tell_of(Some(child()), 1, EventKind::SessionDeleted {});
    story.is_wrong("the end of its task was not told");
}

#[test]
fn what_a_subscriber_misses_or_sees_twice_is_found() {
    let lived = || {
        let mut story = Story::default();
        story.created();
        let other = story.tell_of(Some(child()), 1, created());
        let third = story.tell_of(Some(id()), 1, EventKind::SessionStarted { pid: 100 });
        let (name, title, labels) = (None, None, Default::default());
        let updated = EventKind::SessionUpdated { pinned: true, name, title, labels };
        let fourth = story.tell_of(Some(id()), 1, updated);
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
