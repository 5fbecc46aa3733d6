//! Histories that a seed decides, written into a real journal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use protocol::api::{Orphans, WhenBusy};
use protocol::event::{Event, Refused, RefusedFor, Resolution};
use protocol::wire::{TurnEnd, Update};
use protocol::{EventId, Identity, PromptId, SessionId};
use protocol::{Exit, Restore};

use super::super::open::Opened;
use super::super::tests::{in_memory, spec};
use super::super::{Journal, Reader, Record};
use crate::core::{Ask, At, Command, Input, NewPrompt, Reply, Seen, State};

pub(super) const BOOT: &str = "boot";

/// Turns that an agent receives: prompts and replies.
pub(super) type Told = Vec<(String, String)>;

/// A history that a number decides, in a real journal.
pub(super) struct Maker {
    pub(super) path: PathBuf,
    pub(super) opened: Opened,
    pub(super) at: At,
    pub(super) seed: u64,
    pub(super) pid: u32,
    _dir: tempfile::TempDir,
}

impl Maker {
    pub(super) fn new(seed: u64) -> Self {
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

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % n
    }

    pub(super) fn manager(&mut self) {
        let (version, boot_id) = ("0".into(), BOOT.into());
        self.step(Ask::ManagerStarted { pid: 1, version, boot_id, same_boot: true, lost: None });
    }

    /// Refuses somebody, and returns the event.
    pub(super) fn refuse(&mut self) -> EventId {
        let (reason, address) = (RefusedFor::BadKey, Some("192.0.2.1".into()));
        let (key, session, operation) = (None, None, None);
        self.step(Ask::AccessRefused(Refused { reason, address, key, session, operation, count: 1 }));
        self.opened.fleet.next_event() - 1
    }

    /// Ends it as a kill does, and begins again.
    pub(super) fn reopen(mut self) -> Self {
        let before = self.opened.fleet.clone();
        self.opened = Journal::open(&self.path, BOOT).unwrap();
        assert_eq!(self.opened.lost, None);
        assert_eq!(self.opened.fleet, before, "nothing but history goes");
        self
    }

    pub(super) fn step(&mut self, ask: Ask) -> Option<Reply> {
        self.at.wall += 1;
        let change = self.opened.fleet.step(self.at, &ask).ok()?;
        drop(self.opened.fleet.adopt(&change));
        let records: Vec<Record> = change.events.iter().map(|event| Record::new(event).unwrap()).collect();
        let changes = [change];
        self.opened.journal.write(&changes, &records, &[], None).unwrap();
        Some(changes[0].reply.clone())
    }

    /// Something that happens to a session.
    pub(super) fn happen(&mut self) {
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
        if self.below(30) == 0 {
            self.refuse();
        }
        if self.below(200) == 0 && self.opened.fleet.sessions().count() > 1 {
            self.step(Ask::Stop(id.clone(), Orphans::Stop));
            self.step(seen(Seen::Gone { exit: Exit::Code(0), last_words: vec![], survivors: vec![] }));
            self.step(Ask::Remove(id));
            self.step(Ask::Create { id: None, spec: spec() });
        }
    }

    pub(super) fn reader(&self) -> Reader {
        Reader::open(&self.path).unwrap()
    }

    pub(super) fn needs(&self) -> BTreeMap<SessionId, EventId> {
        self.opened.fleet.sessions().map(|session| (session.id.clone(), session.needs_from())).collect()
    }

    pub(super) fn events(&self) -> BTreeMap<EventId, Event> {
        let records =
            self.reader().events(0, EventId::MAX >> 1, None, None, 1 << 30, usize::MAX).unwrap().records;
        records.iter().map(|record| (record.id, record.event().unwrap())).collect()
    }

    /// The turns that every session's agent would receive, for each of its open prompts.
    pub(super) fn told(&self) -> Vec<(SessionId, PromptId, Told)> {
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

    pub(super) fn pruned(&self, id: Option<&SessionId>) -> Option<EventId> {
        Reader::pruned(&self.reader().0, id).unwrap()
    }

    pub(super) fn in_use(&self) -> u64 {
        let number = |name| {
            let sql = format!("PRAGMA {name}");
            self.opened.journal.connection.query_row(&sql, [], |row| row.get::<_, u64>(0)).unwrap()
        };
        (number("page_count") - number("freelist_count")) * number("page_size")
    }
}
