#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use protocol::Identity;
use protocol::api::{Orphans, WhenBusy};
use protocol::event::Resolution;
use protocol::wire::{TurnEnd, Update};
use protocol::{Exit, Restore};

use super::tests::{in_memory, spec};
use super::*;
use crate::core::{Ask, At, Command, Input, NewPrompt, Seen, State};

const BOOT: &str = "boot";

/// What an agent is told of turns: prompts and replies.
type Told = Vec<(String, String)>;

/// A history that a number decides, in a real journal.
struct Maker {
    path: PathBuf,
    opened: Opened,
    at: At,
    seed: u64,
    pid: u32,
    _dir: tempfile::TempDir,
}

impl Maker {
    fn new(seed: u64) -> Self {
        let dir = in_memory();
        let path = dir.path().join("journal.db");
        let opened = Journal::open(&path, BOOT).unwrap();
        let at = At { mono: 1_000, wall: 1_000_000, closing: false };
        let mut maker = Self { path, opened, at, seed, pid: 10, _dir: dir };
        maker.manager();
        for _ in 0..3 {
            maker.step(Ask::Create { id: None, spec: spec() });
        }
        maker
    }

    fn below(&mut self, n: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % n
    }

    fn manager(&mut self) {
        let (version, boot_id) = ("0".into(), BOOT.into());
        self.step(Ask::ManagerStarted { pid: 1, version, boot_id, same_boot: true, lost: None });
    }

    /// Ends it as a kill does, and begins again.
    fn reopen(mut self) -> Self {
        let before = self.opened.fleet.clone();
        self.opened = Journal::open(&self.path, BOOT).unwrap();
        assert_eq!(self.opened.lost, None);
        assert_eq!(self.opened.fleet, before, "nothing but history goes");
        self
    }

    fn step(&mut self, ask: Ask) -> Option<Reply> {
        self.at.wall += 1;
        let change = self.opened.fleet.step(self.at, &ask).ok()?;
        drop(self.opened.fleet.adopt(&change));
        let records: Vec<Record> = change.events.iter().map(|event| Record::new(event).unwrap()).collect();
        let changes = [change];
        self.opened.journal.commit(&changes, &records, &[], None, false).unwrap();
        Some(changes[0].reply.clone())
    }

    /// Something that happens to a session.
    fn happen(&mut self) {
        let ids: Vec<SessionId> = self.opened.fleet.sessions().map(|session| session.id.clone()).collect();
        let id = ids[self.below(ids.len() as u64) as usize].clone();
        let session = self.opened.fleet.get(&id).unwrap().clone();
        let incarnation = session.incarnation;
        let seen = |seen| Ask::One(id.clone(), Input::Seen(incarnation, seen));
        let command = |command| Ask::One(id.clone(), Input::Command(command));
        self.at.mono += 20_000;
        self.pid += 1;
        let prompt = session.turns.running.as_ref().map(|turn| turn.prompt.id);
        let identity = Identity { pid: self.pid, start_time: 1, boot_id: BOOT.into() };
        // One such turn now and then is more than an agent is told.
        let size = if self.below(15) == 0 { 300_000 } else { self.below(60_000) as usize };
        let number = self.pid;
        let text: Arc<str> = format!("{number} {}", "text ".repeat(size % 300)).into();
        let ask = match (&session.state, prompt, self.below(20)) {
            (State::Starting { worker: None, .. }, ..) => seen(Seen::Spawned(identity)),
            (State::Starting { .. }, ..) => seen(Seen::Ready { restore: Restore::Fresh, agent_pid: None }),
            (State::Stopped | State::Failed(_), ..) => command(Command::Up),
            (State::Stopping { .. }, ..) => {
                seen(Seen::Gone { exit: Exit::Code(0), last_words: vec![], survivors: vec![] })
            }
            (State::Restarting { .. } | State::Hibernated | State::Adopting { .. }, ..) => {
                Ask::One(id.clone(), Input::Tick)
            }
            (State::Ready { .. }, None, 0..15) | (State::Ready { .. }, Some(_), 0..2) => {
                command(Command::Prompt(NewPrompt::text(text, WhenBusy::Queue)))
            }
            (State::Ready { .. }, None, _) => {
                let payload = serde_json::json!({ "sessionUpdate": "session_opened", "modes": number });
                seen(Seen::Updated { prompt: None, update: Update::Other, payload })
            }
            (State::Ready { .. }, Some(prompt), 2..4) => seen(Seen::TurnStarted { prompt, agent_pid: 8 }),
            (State::Ready { .. }, Some(prompt), 4..12) => {
                let text = format!("{number} {}", "x".repeat(size));
                seen(Seen::Output { prompt, stream: protocol::Stream::Stdout, text })
            }
            (State::Ready { .. }, Some(_), 12..14) if self.below(2) == 0 => {
                seen(Seen::Gone { exit: Exit::Code(1), last_words: vec![], survivors: vec![] })
            }
            (State::Ready { .. }, Some(_), 12) if self.below(2) == 0 => Ask::Stop(id.clone(), Orphans::Stop),
            (State::Ready { .. }, Some(_), 12) => command(Command::Clear),
            (State::Ready { .. }, Some(prompt), _) => {
                seen(Seen::TurnEnded { prompt, end: TurnEnd::Finished, exit: None, left_behind: 0 })
            }
        };
        self.step(ask);
        let interrupted =
            self.opened.fleet.get(&id).and_then(|session| Some(session.turns.interrupted.first()?.id));
        if let Some(prompt) = interrupted
            && self.below(2) > 0
        {
            let action = if self.below(2) == 0 { Resolution::Retry } else { Resolution::Drop };
            self.step(Ask::One(id.clone(), Input::Command(Command::Resolve(prompt, action))));
        }
        if self.below(150) == 0 {
            self.manager();
        }
        if self.below(200) == 0 && self.opened.fleet.sessions().count() > 1 {
            self.step(Ask::Stop(id.clone(), Orphans::Stop));
            self.step(seen(Seen::Gone { exit: Exit::Code(0), last_words: vec![], survivors: vec![] }));
            self.step(Ask::Remove(id));
            self.step(Ask::Create { id: None, spec: spec() });
        }
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.path).unwrap()
    }

    fn needs(&self) -> BTreeMap<SessionId, EventId> {
        self.opened.fleet.sessions().map(|session| (session.id.clone(), session.needs_from())).collect()
    }

    fn events(&self) -> BTreeMap<EventId, Event> {
        let records = self.reader().events(0, EventId::MAX >> 1, None, 1 << 30, usize::MAX).unwrap().records;
        records.iter().map(|record| (record.id, record.event().unwrap())).collect()
    }

    /// What every session's agent would be told, whichever of its open prompts it is told it for.
    fn told(&self) -> Vec<(SessionId, PromptId, Told)> {
        let sessions = self.opened.fleet.sessions();
        let of = sessions.flat_map(|session| {
            let turns = &session.turns;
            let open =
                turns.running.iter().map(|turn| &turn.prompt).chain(&turns.queue).chain(&turns.interrupted);
            let open = open.map(|prompt| prompt.id).chain([PromptId(EventId::MAX)]);
            open.map(|prompt| (session.id.clone(), prompt)).collect::<Vec<_>>()
        });
        of.map(|(id, prompt)| {
            let told = self.reader().history(&id, prompt).unwrap();
            (id, prompt, told.into_iter().map(|turn| (turn.prompt, turn.reply)).collect())
        })
        .collect()
    }

    fn pruned(&self, id: Option<&SessionId>) -> Option<EventId> {
        Reader::pruned(&self.reader().0, id).unwrap()
    }

    fn in_use(&self) -> u64 {
        let number = |name| {
            let sql = format!("PRAGMA {name}");
            self.opened.journal.connection.query_row(&sql, [], |row| row.get::<_, u64>(0)).unwrap()
        };
        (number("page_count") - number("freelist_count")) * number("page_size")
    }
}

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
    for (id, event) in &gone {
        let Some(session) = existing(event) else { continue };
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
        let text = "x".repeat(super::transcript::MOST_BYTES + 1);
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
    let mut room = super::transcript::MOST_BYTES;
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
