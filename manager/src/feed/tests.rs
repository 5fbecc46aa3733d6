#![allow(clippy::unwrap_used, reason = "tests")]

use futures_util::FutureExt;
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

#[tokio::test]
async fn a_page_is_read_while_the_one_before_is_taken_and_no_more() {
    let (_dir, db, writer) = history();
    let feed = writer.feed();
    let mut stream = feed.subscribe(Some(0), None);
    let first = stream.text(PIECE, false).await.unwrap().unwrap();
    // All readers rest: whoever read ahead has done so.
    drop(feed.reading.acquire_many(READERS as u32).await.unwrap());
    db.execute("DELETE FROM events WHERE id < ?1", [COUNT]).unwrap();
    let second = stream.text(PIECE, false).await.unwrap().unwrap();
    let (first, second): (Vec<_>, Vec<_>) = (ids(&first.frames).collect(), ids(&second.frames).collect());
    assert_eq!(second[0], first.len() as EventId + 1);
    assert!(second.len() < 100, "more than one page was read: {}", second.len());
    // A second page was not read ahead of the first.
    drop(feed.reading.acquire_many(READERS as u32).await.unwrap());
    let third = stream.text(PIECE, false).await.unwrap().unwrap();
    assert_eq!(ids(&third.frames).collect::<Vec<_>>(), [COUNT]);
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
