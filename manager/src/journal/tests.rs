#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use protocol::api::WhenBusy;
use protocol::event::EventKind;
use protocol::{EventId, Identity, PromptId};

use super::open::Opened;
use super::schema::VERSION;
use super::wal::PAGE;
use super::*;
use crate::core::{Ask, At, Command, Input, NewPrompt, Seen, Spec};
use crate::error::StartError;

const BOOT: &str = "boot";
/// Events of the newest commits, at most.
const NEWEST: u64 = 6;
const AT: At = At { mono: 1_000, wall: 1_000, closing: false };

/// A journal as a manager that was killed has left it, with sessions, a turn and prompts that wait: the file and its log.
struct Written {
    file: Vec<u8>,
    log: Vec<u8>,
    ids: Vec<String>,
    events: u64,
    waiting: Vec<(PromptId, Arc<str>)>,
}

/// A directory; where there is one, on a disk that costs no time to sync.
pub(super) fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

struct Writer {
    opened: Opened,
}

impl Writer {
    fn step(&mut self, ask: Ask) -> Reply {
        let change = self.opened.fleet.step(AT, &ask).unwrap();
        drop(self.opened.fleet.adopt(&change));
        let records: Vec<Record> = change.events.iter().map(|event| Record::new(event).unwrap()).collect();
        let changes = [change];
        self.opened.journal.write(&changes, &records, &[], None).unwrap();
        changes[0].reply.clone()
    }
}

pub(super) fn spec() -> Arc<Spec> {
    let opts = protocol::api::SessionOpts { workdir: Some("/".into()), ..Default::default() };
    Arc::new(crate::config::Config::default().resolve(&opts).unwrap())
}

fn write(checkpoint: bool) -> Written {
    let dir = in_memory();
    let path = dir.path().join("journal.db");
    let mut writer = Writer { opened: Journal::open(&path, BOOT).unwrap() };
    let spec = spec();
    for _ in 0..4 {
        writer.step(Ask::Create { id: None, spec: spec.clone() });
    }
    let ids: Vec<SessionId> = writer.opened.fleet.sessions().map(|session| session.id.clone()).collect();
    let mut waiting = Vec::new();
    for id in &ids {
        let identity = Identity { pid: 7, start_time: 1, boot_id: BOOT.into() };
        let seen = |seen| Ask::One(id.clone(), Input::Seen(1, seen));
        writer.step(seen(Seen::Spawned(identity)));
        writer.step(seen(Seen::Ready { restore: protocol::Restore::Fresh, agent_pid: None }));
        let mut running = None;
        for number in 0..3 {
            let text: Arc<str> = format!("{id} {number} {}", "text ".repeat(200)).into();
            let prompt = NewPrompt::text(text.clone(), WhenBusy::Queue);
            let reply = writer.step(Ask::One(id.clone(), Input::Command(Command::Prompt(prompt))));
            let Reply::Accepted { prompt, .. } = reply else { panic!("{reply:?}") };
            if running.is_none() {
                running = Some(prompt);
            } else {
                waiting.push((prompt, text));
            }
        }
        let prompt = running.unwrap();
        writer.step(seen(Seen::TurnStarted { prompt, agent_pid: 8 }));
        for number in 0..40 {
            let text = format!("{number} {}", "word ".repeat(100));
            writer.step(seen(Seen::Output { prompt, stream: protocol::Stream::Stdout, text }));
        }
    }
    if checkpoint {
        let sql = "PRAGMA wal_checkpoint(PASSIVE)";
        writer.opened.journal.connection.query_row(sql, [], |_| Ok(())).unwrap();
        let note = "said after the checkpoint".to_owned();
        writer.step(Ask::One(ids[0].clone(), Input::Seen(1, Seen::Notice(note))));
    }
    Written {
        file: fs::read(&path).unwrap(),
        log: fs::read(dir.path().join("journal.db-wal")).unwrap(),
        ids: ids.iter().map(ToString::to_string).collect(),
        events: writer.opened.fleet.next_event() - 1,
        waiting,
    }
}

/// A state directory with this in it.
struct Left {
    dir: tempfile::TempDir,
    file: Option<Vec<u8>>,
}

impl Left {
    fn new(written: &Written, file: Option<&[u8]>, log: &[u8]) -> Self {
        let dir = in_memory();
        fs::create_dir(dir.path().join("logs")).unwrap();
        for id in &written.ids {
            fs::write(dir.path().join("logs").join(format!("{id}.log")), "").unwrap();
        }
        if let Some(file) = file {
            fs::write(dir.path().join("journal.db"), file).unwrap();
        }
        if !log.is_empty() {
            fs::write(dir.path().join("journal.db-wal"), log).unwrap();
        }
        Self { dir, file: file.map(<[u8]>::to_vec) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("journal.db")
    }

    /// Opens it, and looks for what must be so whatever is damaged.
    fn open(&self, written: &Written) -> Opened {
        self.look(written, Journal::open(&self.path(), BOOT).unwrap())
    }

    fn look(&self, written: &Written, opened: Opened) -> Opened {
        let events = count(&opened, "events");
        let Some(lost) = &opened.lost else {
            // Nothing is lost in silence.
            let sessions = opened.fleet.sessions().count();
            // The newest commit may be there in parts, and nobody can tell from a kill what did that.
            assert!(sessions == written.ids.len() && events + NEWEST >= written.events, "{events} events");
            return opened;
        };
        for id in &written.ids {
            let id = id.parse().unwrap();
            let known = opened.fleet.get(&id).is_some() || opened.fleet.retired().contains_key(&id);
            assert!(known, "`{id}` would be given out again: {lost}");
        }
        assert!(opened.fleet.next_number() > 4, "{lost}");
        if let Some(file) = &self.file {
            let kept = fs::read(self.dir.path().join("journal.db.damaged-1")).unwrap();
            assert!(kept == *file, "what is kept is not what was there: {lost}");
        }
        for session in opened.fleet.sessions() {
            for prompt in &session.turns.queue {
                let was = written.waiting.iter().find(|(id, _)| *id == prompt.id);
                assert!(was.is_some() && !prompt.text.is_empty(), "{}: {lost}", prompt.id);
            }
        }
        opened
    }

    /// Opens it; something is lost, and the sessions and waiting prompts are not.
    fn keeps_sessions(&self, written: &Written) -> (u64, String) {
        let opened = self.open(written);
        assert_eq!(opened.fleet.sessions().count(), written.ids.len(), "{:?}", opened.lost);
        let queued = opened.fleet.sessions().flat_map(|session| session.turns.queue.iter().cloned());
        let queued: BTreeMap<PromptId, Arc<str>> = queued.map(|prompt| (prompt.id, prompt.text)).collect();
        assert_eq!(queued, written.waiting.iter().cloned().collect());
        (count(&opened, "events"), opened.lost.expect("something is lost"))
    }
}

fn count(opened: &Opened, table: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM {table}");
    opened.journal.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_whole_journal_is_opened_as_it_is() {
    for checkpoint in [false, true] {
        let written = write(checkpoint);
        let opened = Left::new(&written, Some(&written.file), &written.log).open(&written);
        assert_eq!(opened.lost, None);
    }
}

#[test]
fn a_journal_without_its_beginning_keeps_everything() {
    let written = write(true);
    for garbage in [16, 100, PAGE] {
        let mut file = written.file.clone();
        file[..garbage].fill(0x5a);
        let (events, lost) = Left::new(&written, Some(&file), &written.log).keeps_sessions(&written);
        assert_eq!(events, written.events, "{lost}");
        assert!(lost.contains("damaged-1"), "{lost}");
    }
}

#[test]
fn a_page_in_the_middle_costs_what_was_on_it() {
    let written = write(true);
    // A leaf of the table of events: its kind of page, and what they hold.
    let of_events = |page: &[u8]| page[0] == 13 && page.windows(13).any(|bytes| bytes == b"message.chunk");
    let pages: Vec<usize> =
        written.file.chunks(PAGE).enumerate().filter(|(_, page)| of_events(page)).map(|(at, _)| at).collect();
    // The newest one is in the log as well.
    let page = pages[pages.len() / 2] * PAGE;
    let mut file = written.file.clone();
    file[page..page + PAGE].fill(0);
    let (events, lost) = Left::new(&written, Some(&file), &written.log).keeps_sessions(&written);
    assert!(
        events < written.events && events + 30 > written.events,
        "{events} of {}: {lost}",
        written.events
    );
}

#[test]
fn a_journal_that_is_cut_short_is_brought_over_as_far_as_it_goes() {
    let written = write(true);
    let file = &written.file[..written.file.len() / 2];
    let opened = Left::new(&written, Some(file), &[]).open(&written);
    assert!(opened.lost.is_some());
    assert!(count(&opened, "events") > 0);
}

#[test]
fn a_log_whose_beginning_is_garbage_is_not_taken_for_an_empty_one() {
    let written = write(false);
    let mut log = written.log.clone();
    log[..32].fill(0x5a);
    let (events, lost) = Left::new(&written, Some(&written.file), &log).keeps_sessions(&written);
    assert_eq!(events, written.events, "{lost}");
}

#[test]
fn a_frame_of_the_log_that_is_wrong_does_not_hide_those_after_it() {
    let written = write(false);
    let mut log = written.log.clone();
    let middle = log.len() / 2;
    log[middle] ^= 0xff;
    let (events, lost) = Left::new(&written, Some(&written.file), &log).keeps_sessions(&written);
    assert!(events + 40 > written.events, "{events} of {}: {lost}", written.events);
    assert!(lost.contains("pages of the newest commits"), "{lost}");
}

#[test]
fn a_commit_that_its_writer_was_killed_over_was_never_made_and_is_no_damage() {
    let written = write(false);
    let before = {
        let opened = Left::new(&written, Some(&written.file), &written.log).open(&written);
        opened.fleet.sessions().cloned().collect::<Vec<_>>()
    };
    let mut left = Left::new(&written, Some(&written.file), &written.log);
    let ended = {
        let mut writer = Writer { opened: Journal::open(&left.path(), BOOT).unwrap() };
        let id = before[0].id.clone();
        writer.step(Ask::One(id, Input::Seen(1, Seen::Notice("never committed".into()))));
        fs::read(left.dir.path().join("journal.db-wal")).unwrap()
    };
    // Its frames one after the other, and of each the head before the page.
    let added = (ended.len() - written.log.len()) / (PAGE + 24);
    assert!(added > 1, "{added} frames");
    for frame in 0..added {
        for part in [0, 24, 24 + PAGE / 2] {
            let end = written.log.len() + frame * (PAGE + 24) + part;
            let mut log = ended[..end].to_vec();
            // The rest is what was there before.
            log.resize(ended.len(), 0x5a);
            left = Left::new(&written, Some(&written.file), &log);
            let opened = left.open(&written);
            assert_eq!(opened.lost, None, "frame {frame} of {added}, {part} bytes of it");
            assert_eq!(count(&opened, "events"), written.events);
            let after = opened.fleet.sessions().cloned().collect::<Vec<_>>();
            assert_eq!(after, before);
        }
    }
}

#[test]
fn garbage_an_empty_file_and_no_file_say_which_sessions_are_lost() {
    let written = write(true);
    let garbage = vec![0x5a; 100_000];
    for file in [Some(&garbage[..]), Some(&[][..]), None] {
        let opened = Left::new(&written, file, &[]).open(&written);
        let lost = opened.lost.expect("something is lost");
        assert_eq!(opened.fleet.sessions().count(), 0);
        for id in &written.ids {
            assert!(lost.contains(id.as_str()), "{lost}");
        }
    }
}

#[test]
fn what_was_lost_is_said_once() {
    let written = write(true);
    let mut file = written.file.clone();
    file[..16].fill(0);
    let left = Left::new(&written, Some(&file), &written.log);
    let mut opened = left.open(&written);
    let lost = opened.lost.clone();
    drop(opened);
    // Nobody has said it yet.
    opened = Journal::open(&left.path(), BOOT).unwrap();
    assert_eq!(opened.lost, lost);
    let started = Ask::ManagerStarted {
        pid: 1,
        version: String::new(),
        boot_id: BOOT.into(),
        same_boot: true,
        lost: opened.lost.clone(),
    };
    let change = opened.fleet.step(AT, &started).unwrap();
    let said =
        |kind: &EventKind| matches!(kind, EventKind::SystemMessage { text } if Some(text) == lost.as_ref());
    assert!(change.events.iter().any(|event| said(&event.kind)));
    // Nobody who has seen an event that is lost sees its number again.
    assert!(change.events[0].id > written.events + 100_000);
    let records: Vec<Record> = change.events.iter().map(|event| Record::new(event).unwrap()).collect();
    opened.journal.write(&[change], &records, &[], Some(BOOT)).unwrap();
    drop(opened);
    assert_eq!(Journal::open(&left.path(), BOOT).unwrap().lost, None);
}

#[test]
fn a_manager_that_dies_while_it_puts_the_new_journal_in_place_is_followed_by_one_that_goes_on() {
    let written = write(true);
    let mut file = written.file.clone();
    file[..16].fill(0);
    let whole = Left::new(&written, Some(&file), &written.log);
    let done = whole.open(&written);
    let lost = done.lost.clone();
    drop(done);
    let salvaged = fs::read(whole.path()).unwrap();
    // Before anything is moved, after the log is, and after both are.
    for moved in 0..3 {
        let left = Left::new(&written, Some(&file), &written.log);
        fs::write(left.dir.path().join("journal.db.salvaged"), &salvaged).unwrap();
        let parts = ["-wal", ""];
        for part in &parts[..moved] {
            let from = left.dir.path().join(format!("journal.db{part}"));
            fs::rename(from, left.dir.path().join(format!("journal.db.damaged-1{part}"))).unwrap();
        }
        let opened = left.open(&written);
        assert_eq!(opened.lost.is_some(), lost.is_some());
        assert_eq!(count(&opened, "events"), written.events);
        assert!(!left.dir.path().join("journal.db.salvaged").exists());
        assert_eq!(fs::read(left.dir.path().join("journal.db.damaged-1-wal")).unwrap(), written.log);
    }
}

#[test]
fn a_newer_journal_is_refused_and_not_touched() {
    let written = write(true);
    let mut file = written.file.clone();
    file[60..64].copy_from_slice(&(VERSION + 1).to_be_bytes());
    let left = Left::new(&written, Some(&file), &[]);
    let refused = Journal::open(&left.path(), BOOT).map(drop).unwrap_err();
    assert!(matches!(refused, StartError::NewerJournal { .. }), "{refused}");
    assert!(fs::read(left.path()).unwrap() == file);
}

/// Numbers that look like chance, from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn whatever_bytes_are_wrong_nothing_panics_and_nothing_is_lost_in_silence() {
    let written = [write(false), write(true)];
    let mut found = 0;
    for seed in 1..=100u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let written = &written[dice.below(2)];
        let (mut file, mut log) = (written.file.clone(), written.log.clone());
        let in_log = dice.below(3) == 0;
        let bytes = if in_log { &mut log } else { &mut file };
        let length = bytes.len();
        match dice.below(4) {
            0 => (0..1 + dice.below(8)).for_each(|_| bytes[dice.below(length)] ^= 1 << dice.below(8)),
            1 => {
                let (from, most) = (dice.below(length), 1 + dice.below(3 * PAGE));
                let to = (from + most).min(length);
                bytes[from..to].iter_mut().for_each(|byte| *byte = dice.below(256) as u8);
            }
            2 => {
                let page = dice.below(length / PAGE) * PAGE;
                bytes[page..page + PAGE].fill(0);
            }
            // The end of a log may be cut off by the power, and nobody can tell.
            _ if in_log => log[..16].fill(0),
            _ => file.truncate(dice.below(length)),
        }
        let left = Left::new(written, Some(&file), &log);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // A version that is too new by chance is refused, which loses nothing.
            match Journal::open(&left.path(), BOOT) {
                Err(StartError::NewerJournal { .. }) => {
                    assert!(fs::read(left.path()).unwrap() == file);
                    0
                }
                opened => usize::from(left.look(written, opened.unwrap()).lost.is_some()),
            }
        }));
        found += outcome.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(found > 30, "only {found} of 100 were damaged so that it was seen");
}

#[test]
fn a_session_of_many_events_is_gone_at_once_and_cleared_away_later_whoever_has_its_name_then() {
    let dir = in_memory();
    let path = dir.path().join("journal.db");
    let mut writer = Writer { opened: Journal::open(&path, BOOT).unwrap() };
    let id: SessionId = "large".parse().unwrap();
    let seen = |incarnation, seen| Ask::One(id.clone(), Input::Seen(incarnation, seen));
    writer.step(Ask::Create { id: Some(id.clone()), spec: spec() });
    let identity = Identity { pid: 7, start_time: 1, boot_id: BOOT.into() };
    writer.step(seen(1, Seen::Spawned(identity.clone())));
    for number in 0..2_000 {
        writer.step(seen(1, Seen::Notice(format!("number {number}"))));
    }
    writer.step(Ask::Stop(id.clone(), protocol::api::Orphans::Stop));
    let gone = Seen::Gone { exit: protocol::Exit::Code(0), last_words: vec![], survivors: vec![] };
    writer.step(seen(1, gone));
    writer.step(Ask::Remove(id.clone()));
    let names = || -> Vec<String> {
        let reader = Reader::open(&path).unwrap();
        let all =
            |session| reader.events(0, EventId::MAX >> 1, session, None, 1 << 20, 1 << 30).unwrap().records;
        let (of_it, of_all) = (all(Some(&id)), all(None));
        let names = |records: &[Record]| -> Vec<String> {
            records.iter().map(|record| record.event().unwrap().kind.name().to_owned()).collect()
        };
        assert_eq!(names(&of_it), names(&of_all));
        names(&of_it)
    };
    assert_eq!(names(), ["session.deleted"]);
    let left = count(&writer.opened, "events");
    assert!((1_000..2_000).contains(&left), "one bite was taken: {left}");
    // Its name begins anew, and the manager is replaced.
    writer.step(Ask::Ensure { id: id.clone(), spec: spec(), given: Box::default() });
    let incarnation = writer.opened.fleet.get(&id).unwrap().incarnation;
    writer.step(seen(incarnation, Seen::Spawned(identity)));
    writer.step(seen(incarnation, Seen::Notice("the new one".into())));
    let new = names();
    assert!(new.contains(&"session.created".to_owned()) && new.len() < 10, "{new:?}");
    drop(writer);
    let mut opened = Journal::open(&path, BOOT).unwrap();
    let mut bites = 0;
    while opened.journal.clear_away().unwrap() {
        bites += 1;
    }
    assert!(bites >= 2, "{bites}");
    assert_eq!(names(), new);
    assert_eq!(count(&opened, "events"), new.len() as u64);
}
