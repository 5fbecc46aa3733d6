#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use futures_util::FutureExt;
use protocol::event::Timestamp;
use rusqlite::{Connection, params};

use super::*;
use crate::journal::Journal;

const COUNT: EventId = 5000;
const PIECE: usize = 4096;

/// A journal with events of which none is in memory.
fn history() -> (tempfile::TempDir, Connection, FeedWriter) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    drop(Journal::open(&path, "boot").unwrap());
    let mut db = Connection::open(&path).unwrap();
    let writing = db.transaction().unwrap();
    for id in 1..=COUNT {
        let json = format!(r#"{{"id":{id},"type":"system.message","data":{{"text":"{}"}}}}"#, "x".repeat(80));
        writing
            .execute("INSERT INTO events VALUES (?1, NULL, 'system.message', ?2)", params![id, json])
            .unwrap();
    }
    writing.commit().unwrap();
    let writer = Feed::over(path, COUNT);
    (dir, db, writer)
}

fn ids(frames: &str) -> impl Iterator<Item = EventId> {
    frames.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap())
}

#[tokio::test]
async fn the_past_is_read_whole_and_once_however_often_a_look_is_broken_off() {
    let (_dir, _db, writer) = history();
    let mut stream = writer.feed().subscribe(Some(0), None);
    let mut seen = Vec::new();
    let mut looks = 0;
    loop {
        looks += 1;
        let text = match looks % 3 {
            0 => stream.text(PIECE, false).await,
            // Most often the page is not there yet.
            _ => match stream.text(PIECE, false).now_or_never() {
                Some(text) => text,
                None => continue,
            },
        };
        let Some(text) = text.unwrap() else { break };
        assert!(text.frames.len() <= PIECE * 2, "{}", text.frames.len());
        seen.extend(ids(&text.frames));
    }
    assert_eq!(seen, (1..=COUNT).collect::<Vec<_>>());
}

/// Waits until so many readers rest: whoever read ahead has done so. Asks for none of them: who reads ahead ends for that.
async fn rest(feed: &Feed, readers: usize) {
    let rest = async {
        while feed.reading.available_permits() < readers {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), rest).await.unwrap();
}

#[tokio::test]
async fn two_pages_are_read_while_the_one_before_is_taken_and_no_more() {
    let (_dir, db, writer) = history();
    let feed = writer.feed();
    let mut stream = feed.subscribe(Some(0), None);
    let mut seen: Vec<EventId> = Vec::new();
    for page in 0..=AHEAD {
        if page == 1 {
            rest(&feed, READERS).await;
            db.execute("DELETE FROM events WHERE id < ?1", [COUNT]).unwrap();
        }
        let before = seen.len();
        seen.extend(ids(&stream.text(PIECE, false).await.unwrap().unwrap().frames));
        assert!(seen.len() - before < 100, "more than one page was read: {}", seen.len() - before);
    }
    assert!(seen.iter().copied().eq(1..=seen.len() as EventId), "{seen:?}");
    // No other page was read ahead of the first.
    rest(&feed, READERS).await;
    let last = stream.text(PIECE, false).await.unwrap().unwrap();
    assert_eq!(ids(&last.frames).collect::<Vec<_>>(), [COUNT]);
}

#[tokio::test]
async fn a_reader_reads_on_while_there_is_room_and_nobody_waits_for_it() {
    let (_dir, _db, writer) = history();
    let feed = writer.feed();
    for (others, expected) in [(0, &[false, true][..]), (READERS - 1, &[true])] {
        let held = feed.reading.clone().acquire_many_owned(others as u32).await.unwrap();
        let look = Look { after: 0, head: COUNT, session: None, types: None, most: PIECE, as_frames: true };
        let mut coming = feed.read_ahead(look).unwrap();
        let (mut after, mut are_last) = (0, Vec::new());
        // Nothing is taken until the reader has ended.
        rest(&feed, READERS - others).await;
        drop(held);
        while let Some(ahead) = coming.recv().await {
            let page = ahead.page.unwrap();
            assert!(ahead.after == after && page.frames.len() <= PIECE);
            after = page.reached;
            are_last.push(ahead.is_last);
        }
        assert_eq!(are_last, expected);
    }
}

#[tokio::test]
async fn records_and_frames_of_one_subscription_come_once_and_in_order() {
    let (_dir, _db, writer) = history();
    let mut stream = writer.feed().subscribe(Some(0), None);
    let mut seen: Vec<EventId> = Vec::new();
    while seen.len() < COUNT as usize {
        seen.extend(ids(&stream.text(PIECE, false).await.unwrap().unwrap().frames));
        if let Some(records) = stream.ready().await.unwrap() {
            seen.extend(records.iter().map(|record| record.id));
        }
    }
    assert_eq!(seen, (1..=COUNT).collect::<Vec<_>>());
}

#[tokio::test]
async fn frames_of_the_journal_are_those_of_its_records() {
    let (_dir, db, writer) = history();
    let large =
        format!(r#"{{"id":3,"type":"system.message","data":{{"text":"{}"}}}}"#, "y".repeat(PIECE / 2));
    let larger =
        format!(r#"{{"id":4,"type":"system.message","data":{{"text":"{}"}}}}"#, "z".repeat(PIECE * 2));
    for (id, json) in [(1, "{"), (2, "{\"a\":\n1}"), (3, &large), (4, &larger)] {
        db.execute("UPDATE events SET json = ?2 WHERE id = ?1", params![id, json]).unwrap();
    }
    db.execute("UPDATE events SET session = 's', type = 'session.deleted' WHERE id = 5", []).unwrap();
    let (mut frames, mut last) = (String::new(), 0);
    let mut stream = writer.feed().subscribe(Some(0), None).up_to(Some(50));
    while let Some(text) = stream.text(PIECE, false).await.unwrap() {
        frames += &text.frames;
        last += usize::from(text.last);
    }
    let mut stream = writer.feed().subscribe(Some(0), None).up_to(Some(50));
    let mut records = String::new();
    while let Some(page) = stream.ready().await.unwrap() {
        records.extend(page.iter().map(Record::frame));
    }
    assert_eq!(frames, records);
    assert!(frames.contains("event 1 (system.message) cannot be read") && frames.contains(&larger));
    assert_eq!(last, 1);
}

#[tokio::test]
async fn nobody_reads_ahead_of_those_who_wait_for_a_reader() {
    let (_dir, _db, writer) = history();
    let feed = writer.feed();
    let mut stream = feed.subscribe(Some(0), None);
    let all_but_one = feed.reading.clone().acquire_many_owned(READERS as u32 - 1).await.unwrap();
    stream.text(PIECE, false).await.unwrap().unwrap();
    assert!(stream.ahead.is_some());
    drop(feed.reading.acquire().await.unwrap());
    let last = feed.reading.clone().acquire_owned().await.unwrap();
    stream.text(PIECE, false).await.unwrap().unwrap();
    assert!(stream.ahead.is_none(), "there was no reader for it");
    drop((all_but_one, last));
    assert!(stream.text(PIECE, false).await.unwrap().is_some());
}

/// A journal with events of one type at every tenth place, one a second, and with the last event of the session `s`.
fn mixed(count: EventId) -> (tempfile::TempDir, FeedWriter) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    drop(Journal::open(&path, "boot").unwrap());
    let mut db = Connection::open(&path).unwrap();
    let writing = db.transaction().unwrap();
    for id in 1..=count {
        let name = match id {
            _ if id == count => "session.deleted",
            _ if id % 10 == 0 => "turn.started",
            _ => "system.message",
        };
        let at = serde_json::to_string(&Timestamp(id * 1000)).unwrap();
        let json = format!(r#"{{"id":{id},"at":{at},"type":"{name}","data":{{}}}}"#);
        writing.execute("INSERT INTO events VALUES (?1, 's', ?2, ?3)", params![id, name, json]).unwrap();
    }
    writing.commit().unwrap();
    (dir, Feed::over(path, count))
}

/// More than two looks go through.
const MANY: EventId = 70_001;

#[tokio::test]
async fn a_stream_of_some_types_has_all_of_these_and_no_others_over_any_number_of_looks() {
    let (_dir, writer) = mixed(MANY);
    let session: SessionId = "s".parse().unwrap();
    let turns: Vec<EventId> = (1..MANY).filter(|id| id % 10 == 0).collect();
    for (name, session, wanted) in [
        ("turn.started", None, turns.clone()),
        ("turn.started", Some(session.clone()), turns),
        ("session.deleted", None, vec![MANY]),
        ("manager.started", Some(session), Vec::new()),
    ] {
        let types = Types::named([name]).unwrap();
        let mut stream = writer.feed().subscribe(Some(0), session.clone()).only(Some(types));
        let (mut seen, mut ends) = (Vec::new(), false);
        while let Some(text) = stream.text(PIECE, false).await.unwrap() {
            seen.extend(ids(&text.frames));
            ends |= text.last;
        }
        assert_eq!(seen, wanted, "{name}");
        // Also where the last event itself is not asked for.
        assert!(ends || session.is_none(), "{name}");
    }
    assert_eq!(Types::named(["turn.started", "moon.landed"]), Err("moon.landed"));
}

#[tokio::test]
async fn a_stream_begins_at_a_time_or_with_the_newest_events_that_are_wanted() {
    let (_dir, writer) = mixed(MANY);
    let feed = writer.feed();
    let turns = Types::named(["turn.started"]).unwrap();
    let first = Types::named(["turn.started", "manager.started"]).unwrap();
    let session: SessionId = "s".parse().unwrap();
    let other: SessionId = "t".parse().unwrap();
    let begin = |after, since: Option<EventId>, last| Begin { after, since: since.map(Timestamp), last };
    for (begin, session, types, cursor) in [
        (begin(Some(7), None, None), None, None, 7),
        (begin(None, Some(0), None), None, None, 0),
        (begin(None, Some(1000), None), None, None, 0),
        (begin(None, Some(1001), None), None, None, 1),
        (begin(None, Some(69_000_500), None), None, None, 69_000),
        (begin(Some(69_500), Some(69_000_500), None), None, None, 69_500),
        (begin(None, Some(MANY * 1000 + 1), None), None, None, MANY),
        (begin(None, None, Some(1)), None, None, MANY - 1),
        (begin(None, None, Some(3)), None, Some(&turns), 69_979),
        (begin(None, None, Some(3)), Some(&session), Some(&first), 69_979),
        (begin(None, None, Some(7000)), None, Some(&turns), 9),
        (begin(None, None, Some(1_000_000)), None, Some(&turns), 9),
        (begin(Some(69_995), None, Some(3)), None, Some(&turns), 69_999),
        (begin(None, None, Some(3)), Some(&other), None, MANY),
        (begin(None, None, Some(1_000_000)), None, None, 0),
    ] {
        let found = feed.beginning(&begin, MANY, session, types).await.unwrap();
        assert_eq!(found, cursor, "{begin:?} {session:?} {types:?}");
    }
}
