//! Tests of pruning: which turns go, in which order, and what stays.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod maker;

use std::collections::{BTreeMap, BTreeSet};

use protocol::api::WhenBusy;
use protocol::event::{Event, EventKind};
use protocol::wire::TurnEnd;
use protocol::{EventId, Identity, PromptId, Restore, SessionId};

use self::maker::{BOOT, Maker, Told};
use super::Wish;
use crate::core::{Ask, Command, Input, NewPrompt, Reply, Seen};

/// The prompt that an event is about.
fn prompt_of(event: &Event) -> Option<PromptId> {
    let json = serde_json::to_value(event).unwrap();
    serde_json::from_value(json["data"]["prompt_id"].clone()).ok()
}

/// Looks whether nothing is gone that should not be.
fn look(maker: &Maker, before: &BTreeMap<EventId, Event>, needs: &BTreeMap<SessionId, EventId>) {
    let after = maker.events();
    assert!(after.iter().all(|(id, event)| before[id] == *event), "nothing is changed");
    let gone: BTreeMap<EventId, &Event> =
        before.iter().filter(|(id, _)| !after.contains_key(id)).map(|(id, event)| (*id, event)).collect();
    // Whoever has not seen what is gone is told so, and nobody else.
    let existing = |event: &Event| event.session.clone().filter(|id| needs.contains_key(id));
    let owners: BTreeSet<SessionId> = gone.values().filter_map(|event| existing(event)).collect();
    for id in needs.keys() {
        let last =
            gone.iter().filter(|(_, event)| event.session.as_ref() == Some(id)).map(|(id, _)| *id).max();
        assert_eq!(maker.pruned(Some(id)).max(last), maker.pruned(Some(id)), "{id}");
        if !owners.contains(id) {
            assert!(last.is_none());
        }
    }
    assert!(maker.pruned(None) >= gone.keys().max().copied());
    let mut newest: BTreeMap<&SessionId, PromptId> = BTreeMap::new();
    for event in before.values() {
        if let (EventKind::PromptStarted { prompt_id }, Some(id)) = (&event.kind, &event.session) {
            newest.insert(id, *prompt_id);
        }
    }
    let is_start = |event: &&Event| matches!(event.kind, EventKind::ManagerStarted { .. });
    let started = before.values().filter(is_start).map(|event| event.id).max().unwrap_or(0);
    for (id, event) in &gone {
        let Some(session) = existing(event) else {
            assert!(*id < started || matches!(event.kind, EventKind::AccessRefused(_)), "{event:?} is new");
            continue;
        };
        assert!(*id < needs[&session], "{event:?} is needed");
        assert!(!matches!(event.kind, EventKind::SessionCreated { .. }));
        assert!(
            newest.get(&session).is_none_or(|PromptId(newest)| id < newest),
            "{event:?} is of the newest turn"
        );
    }
}

/// Of every prompt all is there or nothing, but for what outlives its turn.
fn look_at_turns(before: &BTreeMap<EventId, Event>, after: &BTreeMap<EventId, Event>) {
    let gone = before.iter().filter(|(id, _)| !after.contains_key(id));
    let gone: BTreeSet<PromptId> = gone.filter_map(|(_, event)| prompt_of(event)).collect();
    for event in after.values().filter(|event| !matches!(event.kind, EventKind::AgentUpdated { .. })) {
        let prompt = prompt_of(event);
        assert!(
            prompt.is_none_or(|prompt| !gone.contains(&prompt)),
            "of its turn something is gone: {event:?}"
        );
    }
}

#[test]
fn history_goes_by_whole_turns_and_nothing_that_is_needed_goes() {
    let (mut runs_that_removed, mut killed) = (0, 0);
    for seed in 0..12 {
        let mut maker = Maker::new(seed);
        for _ in 0..3 {
            for _ in 0..120 {
                maker.happen();
            }
            let (before, needs, told) = (maker.events(), maker.needs(), maker.told());
            // Often all that may go.
            let cutoff = maker.at.wall + 1 - maker.below(2) * maker.below(300);
            let most = maker.in_use() * maker.below(2) * maker.below(100) / 100;
            let wish = match maker.below(3) {
                0 => Wish { before: Some(cutoff), most: None },
                1 => Wish { before: None, most: Some(most) },
                _ => Wish { before: Some(cutoff), most: Some(most) },
            };
            let cuts = maker.reader().to_prune(&needs, wish).unwrap();
            let dies_at = if maker.below(3) == 0 { maker.below(10) } else { u64::MAX };
            let (mut bites, mut events, mut bytes, mut dead) = (0, 0, 0, false);
            'cuts: for cut in &cuts {
                let mut at = 0;
                loop {
                    if bites == dies_at {
                        dead = true;
                        break 'cuts;
                    }
                    let bite = maker.opened.journal.bite(cut, at).unwrap();
                    (bites, events, bytes) = (bites + 1, events + bite.events, bytes + bite.bytes);
                    match bite.upto.filter(|upto| *upto < cut.upto) {
                        Some(upto) => at = upto,
                        None => break,
                    }
                }
            }
            maker = maker.reopen();
            look(&maker, &before, &needs);
            assert_eq!(maker.told(), told, "seed {seed}: what an agent is told");
            let gone = before.len() - maker.events().len();
            assert_eq!(events, gone as u64);
            if dead {
                killed += 1;
                continue;
            }
            look_at_turns(&before, &maker.events());
            runs_that_removed += u32::from(gone > 0);
            let planned =
                cuts.iter().fold((0, 0), |(events, bytes), cut| (events + cut.events, bytes + cut.bytes));
            assert_eq!(planned, (events, bytes), "seed {seed}: what was told would go is what is gone");
            if wish.most.is_none() {
                let old = |event: &&Event| event.at.0 < cutoff;
                let after = maker.events();
                let gone = before.iter().filter(|(id, _)| !after.contains_key(id));
                assert!(
                    gone.map(|(_, event)| event).all(|event| old(&event)),
                    "seed {seed}: it is too young"
                );
            }
            // What is over is not found again.
            assert_eq!(maker.reader().to_prune(&maker.needs(), Wish { most: None, ..wish }).unwrap(), []);
        }
    }
    assert!(runs_that_removed > 10 && killed > 1, "{runs_that_removed} removed, {killed} killed");
}

#[test]
fn as_much_goes_as_is_too_much_and_the_oldest_first() {
    let mut maker = Maker::new(7);
    for _ in 0..1_500 {
        maker.happen();
    }
    let in_use = maker.in_use();
    let needs = maker.needs();
    let all = maker.reader().to_prune(&needs, Wish { before: None, most: Some(0) }).unwrap();
    let all: u64 = all.iter().map(|cut| cut.bytes).sum();
    assert!(all > in_use / 3, "{all} of {in_use} can go");
    assert_eq!(maker.reader().to_prune(&needs, Wish { before: None, most: Some(in_use) }).unwrap(), []);
    let most = in_use - all / 2;
    let before = maker.events();
    for cut in maker.reader().to_prune(&needs, Wish { before: None, most: Some(most) }).unwrap() {
        let mut at = 0;
        while let Some(upto) =
            maker.opened.journal.bite(&cut, at).unwrap().upto.filter(|upto| *upto < cut.upto)
        {
            at = upto;
        }
    }
    let now = maker.in_use();
    assert!(now <= most && now > most - all / 4, "{now} of {in_use} is left, {most} was wished");
    // The oldest of what is left is younger than all that went.
    let after = maker.events();
    let last = before.keys().filter(|id| !after.contains_key(id)).max().unwrap();
    let reader = maker.reader();
    let left = needs.iter().filter_map(|(id, needed)| {
        Some(super::prune::turns(&reader.0, id, *needed, EventId::MAX).unwrap().first()?.upto)
    });
    let left: Vec<EventId> = left.collect();
    assert!(!left.is_empty() && left.iter().all(|upto| upto > last), "{left:?}, {last} is gone");
}

#[test]
fn the_last_event_stays_so_that_no_id_is_given_out_twice() {
    let mut maker = Maker::new(1);
    let id: SessionId = "session-1".parse().unwrap();
    let prompt = NewPrompt::text("never run".to_owned(), WhenBusy::Queue);
    maker.step(Ask::One(id.clone(), Input::Command(Command::Prompt(prompt))));
    maker.step(Ask::One(id, Input::Command(Command::Clear)));
    let last = maker.opened.fleet.next_event() - 1;
    let everything = Wish { before: Some(u64::MAX), most: Some(0) };
    for cut in maker.reader().to_prune(&maker.needs(), everything).unwrap() {
        maker.opened.journal.bite(&cut, 0).unwrap();
    }
    let maker = maker.reopen();
    assert!(maker.events().contains_key(&last));
}

#[test]
fn refusals_go_with_their_age_also_those_of_a_manager_that_never_ends() {
    let mut maker = Maker::new(1);
    let started = 1;
    let refused: Vec<EventId> = (0..600).map(|_| maker.refuse()).collect();
    let (old, new) = refused.split_at(500);
    let before = maker.events()[&new[0]].at.0;
    let prune = |maker: &mut Maker, before| {
        let cuts = maker.reader().to_prune(&maker.needs(), Wish { before: Some(before), most: None });
        for cut in cuts.unwrap() {
            let mut after = 0;
            while let Some(upto) = maker.opened.journal.bite(&cut, after).unwrap().upto {
                after = upto;
            }
        }
    };
    prune(&mut maker, before);
    let left = maker.events();
    assert!(old.iter().all(|id| !left.contains_key(id)) && new.iter().all(|id| left.contains_key(id)));
    assert!(matches!(left[&started].kind, EventKind::ManagerStarted { .. }));
    assert_eq!(maker.pruned(None), old.last().copied(), "a subscriber hears of the gap");
    // All of them are old: the last event of all stays.
    prune(&mut maker, u64::MAX);
    let left: Vec<EventId> = maker.reopen().events().into_keys().collect();
    assert_eq!(left.iter().filter(|id| refused.contains(id)).collect::<Vec<_>>(), [&refused[599]]);
    assert!(left.contains(&started));
}

#[test]
fn the_newest_turn_stays_also_if_it_is_more_than_an_agent_is_told() {
    let mut maker = Maker::new(1);
    let id: SessionId = "session-1".parse().unwrap();
    let seen = |seen| Ask::One(id.clone(), Input::Seen(1, seen));
    let identity = Identity { pid: 7, start_time: 1, boot_id: BOOT.into() };
    maker.step(seen(Seen::Spawned(identity)));
    maker.step(seen(Seen::Ready { restore: Restore::Fresh, agent_pid: None }));
    let mut prompts = Vec::new();
    for _ in 0..2 {
        let new = NewPrompt::text("much".to_owned(), WhenBusy::Queue);
        let reply = maker.step(Ask::One(id.clone(), Input::Command(Command::Prompt(new))));
        let Some(Reply::Accepted { prompt, .. }) = reply else { panic!("{reply:?}") };
        let text = "x".repeat(crate::journal::transcript::MOST_BYTES + 1);
        maker.step(seen(Seen::Output { prompt, stream: protocol::Stream::Stdout, text }));
        maker.step(seen(Seen::TurnEnded { prompt, end: TurnEnd::Finished, exit: None, left_behind: 0 }));
        prompts.push(prompt);
    }
    maker.manager();
    for cut in maker.reader().to_prune(&maker.needs(), Wish { before: Some(u64::MAX), most: None }).unwrap() {
        let mut at = 0;
        while let Some(upto) =
            maker.opened.journal.bite(&cut, at).unwrap().upto.filter(|upto| *upto < cut.upto)
        {
            at = upto;
        }
    }
    let left: BTreeSet<PromptId> = maker.events().values().filter_map(prompt_of).collect();
    assert_eq!(left, BTreeSet::from([prompts[1]]));
}

#[test]
fn what_an_agent_said_can_be_set_outlives_the_turns_around_it() {
    let mut maker = Maker::new(3);
    for _ in 0..800 {
        maker.happen();
    }
    let offered = |maker: &Maker| {
        let mut offered: BTreeMap<Option<SessionId>, crate::offered::Offered> = BTreeMap::new();
        for event in maker.events().values() {
            offered.entry(event.session.clone()).or_default().tell(&event.kind);
        }
        let known = offered.into_iter().filter(|(_, offered)| !offered.known().is_empty());
        known.map(|(id, offered)| (id, offered.known().clone())).collect::<Vec<_>>()
    };
    let before = offered(&maker);
    assert!(!before.is_empty());
    for cut in maker.reader().to_prune(&maker.needs(), Wish { before: Some(u64::MAX), most: None }).unwrap() {
        let mut at = 0;
        while let Some(upto) =
            maker.opened.journal.bite(&cut, at).unwrap().upto.filter(|upto| *upto < cut.upto)
        {
            at = upto;
        }
    }
    assert_eq!(offered(&maker), before);
}

/// The same turns as [`transcript::exchanges`] finds, read from the beginning of the history.
fn forwards(events: &[Event], without: PromptId) -> Told {
    let (mut texts, mut turns) = (std::collections::HashMap::new(), Vec::<(PromptId, String, String)>::new());
    for event in events {
        match &event.kind {
            EventKind::PromptAccepted { prompt_id, text, .. }
            | EventKind::PromptEdited { prompt_id, text } => {
                texts.insert(*prompt_id, text.clone());
            }
            EventKind::PromptStarted { prompt_id } if *prompt_id != without => {
                turns.retain(|(id, ..)| id != prompt_id);
                turns.push((*prompt_id, texts.get(prompt_id).cloned().unwrap_or_default(), String::new()));
            }
            EventKind::MessageChunk { prompt_id, stream: protocol::Stream::Stdout, text, .. } => {
                if let Some((.., reply)) = turns.iter_mut().rfind(|(id, ..)| id == prompt_id) {
                    reply.push_str(text);
                }
            }
            _ => {}
        }
    }
    let mut room = crate::journal::transcript::MOST_BYTES;
    let newest = turns.into_iter().rev();
    let mut told: Told = newest
        .map_while(|(_, prompt, reply)| {
            room = room.checked_sub(prompt.len() + reply.len())?;
            Some((prompt, reply))
        })
        .collect();
    told.reverse();
    told
}

#[test]
fn a_conversation_read_from_its_end_is_the_one_that_is_read_from_its_beginning() {
    let (mut compared, mut edited, mut cut) = (0, 0, 0);
    for seed in 0..6 {
        let mut maker = Maker::new(seed);
        for step in 0..300 {
            maker.happen();
            let queued = maker
                .opened
                .fleet
                .sessions()
                .find_map(|session| Some((session.id.clone(), session.turns.queue.front()?.id)));
            if let Some((id, prompt)) = queued.filter(|_| step % 7 == 0) {
                let edit = Command::Edit(prompt, format!("edited in step {step}").into());
                maker.step(Ask::One(id, Input::Command(edit)));
                edited += 1;
            }
            if step % 10 > 0 {
                continue;
            }
            let events: Vec<Event> = maker.events().into_values().collect();
            for (id, prompt, told) in maker.told() {
                let of: Vec<Event> =
                    events.iter().filter(|event| event.session.as_ref() == Some(&id)).cloned().collect();
                let expected = forwards(&of, prompt);
                cut += usize::from(expected.len() < forwards_all(&of));
                assert_eq!(told, expected, "seed {seed}, step {step}, {id}, {prompt}");
                compared += 1;
            }
        }
    }
    assert!(compared > 200 && edited > 20 && cut > 20, "{compared} compared, {edited} edited, {cut} cut");
}

fn forwards_all(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event.kind, EventKind::PromptStarted { .. })).count()
}
