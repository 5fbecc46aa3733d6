//! `kennel search` on real processes.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::daemon::Daemon;
use harness::disk::{SmallDisk, alone};
use harness::real::*;
use manager::protocol::api::{IssuedKey, SearchKind, SearchReply};
use serde_json::Value;

/// A daemon with a session of an agent that speaks ACP.
fn daemon() -> Daemon {
    let daemon = Daemon::with_acp("plain");
    daemon.ok(&["start", "--agent", "plain", "--title", "mine"]);
    daemon
}

fn index(daemon: &Daemon) -> PathBuf {
    daemon.dir.path().join("state/search.db")
}

/// Status and body of an answer.
fn ask(daemon: &Daemon, path: &str, bearer: Option<&str>) -> (u16, Value) {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let bearer = bearer.map(|bearer| format!("Authorization: Bearer {bearer}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: kennel\r\n{bearer}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
}

/// The snippets of what is found, newest first.
fn found(daemon: &Daemon, args: &[&str]) -> Vec<String> {
    let args: Vec<&str> = ["--json", "search"].iter().chain(args).copied().collect();
    let output = daemon.run(&args);
    let reply: SearchReply = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert!(reply.complete && reply.note.is_none(), "{reply:?}");
    assert_eq!(output.code, Some(if reply.hits.is_empty() { 1 } else { 0 }), "{output:?}");
    reply.hits.into_iter().map(|hit| hit.snippet).collect()
}

/// Ends the daemon, writes so many events into its journal, each of them a text of its own with `needle` in it, and starts the next one.
fn grow(daemon: &Daemon, count: u64) {
    daemon.ok(&["daemon", "stop"]);
    let mut journal = rusqlite::Connection::open(daemon.dir.path().join("state/journal.db")).unwrap();
    let last: u64 = journal.query_row("SELECT max(id) FROM events", [], |row| row.get(0)).unwrap();
    let all = journal.transaction().unwrap();
    {
        let mut insert = all.prepare("INSERT INTO events VALUES (?1, 'session-1', ?2, ?3)").unwrap();
        for id in last + 1..=last + count {
            // What the agent says and thinks in turns: nothing goes on.
            let kind = if id % 2 == 0 { "message.chunk" } else { "thought.chunk" };
            let data = if id % 2 == 0 { r#""stream":"stdout""# } else { r#""payload":{}"# };
            let json = format!(
                r#"{{"id":{id},"at":"2026-01-31T12:00:00.000Z","session":"session-1","incarnation":1,"type":"{kind}","data":{{"turn":1,"prompt_id":"prompt-1","text":"needle {id} in a haystack of some words",{data}}}}}"#
            );
            insert.execute((id, kind, json)).unwrap();
        }
    }
    all.commit().unwrap();
    drop(journal);
    daemon.ok(&["daemon", "start"]);
}

#[test]
fn a_title_that_was_changed_is_found_and_a_title_that_was_not_is_found_once() {
    let daemon = daemon();
    assert_eq!(found(&daemon, &["mine", "--kind", "title"]), ["mine"]);
    daemon.ok(&["rename", "session-1", "--title", "landing page"]);
    // Events that tell the same title again.
    daemon.ok(&["rename", "session-1", "web"]);
    daemon.ok(&["pin", "web"]);
    assert_eq!(found(&daemon, &["landing"]), ["landing page"]);
    assert_eq!(found(&daemon, &["mine", "--kind", "title"]), ["mine"]);
    // Also where the index has ended in between.
    daemon.ok(&["label", "web", "team=front"]);
    daemon.ok(&["rename", "web", "--title", "footer"]);
    assert_eq!(found(&daemon, &["landing"]), ["landing page"]);
    assert_eq!(found(&daemon, &["footer"]), ["footer"]);
    let shown = daemon.ok(&["search", "footer"]);
    assert!(shown.starts_with("web (session-1)  footer\n"), "{shown}");
}

#[test]
fn words_and_phrases_are_found_in_all_sessions_and_stand_below_them() {
    let daemon = daemon();
    daemon.ok(&["start", "--id", "plain", "--title", "the shell"]);
    daemon.ok(&[
        "send",
        "session-1",
        "think of foxes; say the quick br; say own fox; tool t Build it; done t; say jumps",
    ]);
    daemon.ok(&["send", "plain", "echo a quick hare; echo red fox >&2"]);

    // A phrase over two pieces, and what is no phrase.
    assert_eq!(found(&daemon, &["\"quick brown fox\""]), ["the quick brown fox"]);
    assert_eq!(found(&daemon, &["\"fox quick\"", "--kind", "message"]), [""; 0]);
    // Words in any order and case, and beginnings.
    assert_eq!(found(&daemon, &["FOX", "quick", "--kind", "message"]), ["the quick brown fox"]);
    assert_eq!(found(&daemon, &["jum*", "--kind", "message"]), ["jumps"]);
    for (kind, word, count) in [
        ("prompt", "quick", 2),
        ("message", "quick", 2),
        ("stderr", "fox", 1),
        ("thought", "foxes", 1),
        ("tool", "build", 1),
        ("title", "shell", 1),
    ] {
        assert_eq!(found(&daemon, &[word, "--kind", kind]).len(), count, "{kind}");
    }
    assert_eq!(found(&daemon, &["quick", "--session", "plain", "--kind", "message"]), ["a quick hare"]);
    assert_eq!(found(&daemon, &["quick", "--agent", "plain", "--kind", "message"]), ["the quick brown fox"]);
    assert_eq!(found(&daemon, &["quick", "--since", "1h"]).len(), 4);
    assert_eq!(found(&daemon, &["quick", "--since", "2999-01-01"]), [""; 0]);
    let first: SearchReply = daemon.json(&["search", "quick", "-n", "1"]);
    assert!(first.more && first.hits.len() == 1 && first.sessions.len() == 1, "{first:?}");
    assert_eq!(first.hits[0].session.as_str(), "plain");

    let shown = daemon.run(&["search", "quick", "--kind", "message"]);
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert_eq!((lines[0], lines[2], lines[3]), ("plain  the shell", "    a quick hare", ""), "{shown:?}");
    assert!(lines[1].contains("  message  ") && lines[4].ends_with(" (session-1)  mine"), "{shown:?}");
    assert!(shown.stderr.contains("`kennel attach plain --at "), "{shown:?}");
    let painted =
        daemon.ok(&["--color", "always", "search", "quick", "--session", "plain", "--kind", "message"]);
    assert!(painted.contains("a \u{1b}[1m\u{1b}[31mquick\u{1b}[0m hare"), "{painted:?}");
    let nothing = daemon.run(&["search", "nowhere"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(1), ""), "{nothing:?}");
    assert!(nothing.stderr.contains("nothing was found"), "{nothing:?}");
}

#[test]
fn a_transcript_begins_with_the_turn_of_an_event() {
    let daemon = daemon();
    for word in ["one", "two", "three"] {
        daemon.ok(&["send", "session-1", &format!("say {word}; say !")]);
    }
    let reply: SearchReply = daemon.json(&["search", "two"]);
    let kinds: Vec<SearchKind> = reply.hits.iter().map(|hit| hit.kind).collect();
    assert_eq!(kinds, [SearchKind::Message, SearchKind::Prompt]);
    for hit in reply.hits {
        let shown = daemon.ok(&["transcript", "session-1", "--at", &hit.event.to_string()]);
        assert!(!shown.contains("one") && shown.contains("> say two") && shown.contains("three"), "{shown}");
    }
    let late = daemon.run(&["transcript", "session-1", "--at", "999999"]);
    assert!(late.stdout.is_empty() && late.stderr.contains("no turns at event 999999"), "{late:?}");
    assert!(daemon.ok(&["transcript", "session-1", "--at", "1"]).contains("> say one"));
}

#[test]
fn what_was_removed_or_pruned_is_found_no_more() {
    let daemon = daemon();
    daemon.ok(&["start", "--id", "other"]);
    daemon.ok(&["send", "other", "echo the word is kept"]);
    daemon.ok(&["send", "session-1", "say the word is old"]);
    // Of a conversation an agent is told so much again, and that is not pruned.
    daemon.ok(&["send", "session-1", "messages 4 100000"]);
    daemon.ok(&["send", "session-1", "say nothing"]);
    assert_eq!(found(&daemon, &["\"the word is\""]).len(), 4);
    let index = rusqlite::Connection::open(index(&daemon)).unwrap();
    let texts = |like: &str| -> u32 {
        index.query_row("SELECT count(*) FROM words WHERE text LIKE ?1", [like], |row| row.get(0)).unwrap()
    };
    assert_eq!((texts("%is kept%"), texts("%is old%")), (2, 2));
    // The index soon has no more than the journal, also if nobody searches.
    daemon.ok(&["rm", "--force", "other"]);
    until("the removal", || (texts("%is kept%") == 0).then_some(()));
    assert_eq!(found(&daemon, &["\"the word is\""]).len(), 2);
    // A session under the same id is another.
    daemon.ok(&["ensure", "--id", "other"]);
    daemon.ok(&["send", "other", "echo the word is new"]);
    assert_eq!(found(&daemon, &["word", "--session", "other", "--kind", "message"]), ["the word is new"]);
    daemon.ok(&["prune", "--all", "--force"]);
    let kept = daemon.ok(&["--json", "events", "session-1"]);
    assert!(!kept.contains("is old") && kept.contains("nothing"), "{} bytes", kept.len());
    assert_eq!(found(&daemon, &["old"]), [""; 0]);
    until("the removal", || (texts("%is old%") == 0).then_some(()));
    assert_eq!(found(&daemon, &["mine", "--kind", "title"]), ["mine"]);
}

#[test]
fn a_text_that_is_in_the_index_alone_is_not_told() {
    let daemon = daemon();
    daemon.ok(&["send", "session-1", "say a word"]);
    assert_eq!(found(&daemon, &["word"]), ["a word", "say a word"]);
    daemon.ok(&["daemon", "stop"]);
    let journal = rusqlite::Connection::open(daemon.dir.path().join("state/journal.db")).unwrap();
    assert_eq!(journal.execute("DELETE FROM events WHERE type = 'message.chunk'", []).unwrap(), 1);
    drop(journal);
    daemon.ok(&["daemon", "start"]);
    assert_eq!(found(&daemon, &["word"]), ["say a word"]);
}

fn a_disk_that_is_nearly_full() {
    let daemon = Daemon::new();
    let disk = SmallDisk::at(&daemon.workdir().join("state"), 12 * 1024 * 1024);
    daemon.ok(&["start", "--id", "one"]);
    daemon.ok(&["send", "one", "echo a word"]);
    let output = daemon.run(&["search", "word"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("not searched yet: less than 64 MiB"), "{output:?}");
    assert!(!index(&daemon).exists());
    // Without its disk it could not be reached any more.
    drop(daemon);
    drop(disk);
}

#[test]
fn the_index_leaves_the_last_of_the_disk_to_the_journal() {
    alone("search::the_index_leaves_the_last_of_the_disk_to_the_journal", a_disk_that_is_nearly_full);
}

#[test]
fn a_key_and_a_token_find_what_they_reach() {
    let daemon = daemon();
    daemon.ok(&["send", "session-1", "say a secret word"]);
    daemon.ok(&["start", "--id", "listed"]);
    daemon.ok(&["send", "listed", "echo a listed word"]);
    let key: IssuedKey = daemon.json(&["key", "create", "x", "--session", "listed", "--role", "viewer"]);
    let own: IssuedKey = daemon.json(&["key", "create", "y", "--own"]);
    let token = format!("listed:{}", daemon.ok(&["token", "listed", "--viewer"]).trim());
    let sessions = |reply: &Value| -> Vec<String> {
        let hits = reply["hits"].as_array().unwrap().iter();
        hits.map(|hit| hit["session"].as_str().unwrap().to_owned()).collect()
    };
    let (status, all) = ask(&daemon, "/v1/search?q=word", None);
    assert_eq!((status, sessions(&all).len(), all["sessions"].as_array().unwrap().len()), (200, 4, 2));
    for bearer in [key.key.as_str(), token.as_str()] {
        let (status, reply) = ask(&daemon, "/v1/search?q=word", Some(bearer));
        assert_eq!((status, sessions(&reply)), (200, vec!["listed".to_owned(); 2]), "{reply}");
        assert!(!reply.to_string().contains("session-1"), "{reply}");
        // What it does not reach does not exist.
        let heard = ["session-1", "session-9"].map(|id| {
            let (status, reply) = ask(&daemon, &format!("/v1/search?q=word&session={id}"), Some(bearer));
            (status, reply.to_string().replace(id, "ID"))
        });
        assert_eq!(heard[0], heard[1]);
        assert_eq!(heard[0].0, 404);
    }
    let (status, none) = ask(&daemon, "/v1/search?q=word", Some(&own.key));
    assert_eq!((status, sessions(&none)), (200, Vec::new()), "{none}");
}

#[test]
fn an_index_that_is_deleted_or_damaged_is_made_anew() {
    let daemon = daemon();
    daemon.ok(&["send", "session-1", "say a word"]);
    assert_eq!(found(&daemon, &["word"]).len(), 2);
    let path = index(&daemon);
    until("its rest", || (!path.with_extension("db-wal").exists()).then_some(()));
    fs::remove_file(&path).unwrap();
    assert_eq!(found(&daemon, &["word"]).len(), 2);
    until("its rest", || (!path.with_extension("db-wal").exists()).then_some(()));
    fs::write(&path, vec![0x5a; 50_000]).unwrap();
    assert_eq!(found(&daemon, &["word"]).len(), 2);
    // A page in the midst of it.
    until("its rest", || (!path.with_extension("db-wal").exists()).then_some(()));
    let mut bytes = fs::read(&path).unwrap();
    let pages = bytes.len() / 4096;
    bytes[4096..pages * 4096].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    assert_eq!(found(&daemon, &["word"]).len(), 2);
    assert_eq!(daemon.ok(&["send", "session-1", "say fine"]), "fine");
}

#[test]
fn an_index_that_is_a_link_is_not_followed() {
    let daemon = daemon();
    daemon.ok(&["send", "session-1", "say a word"]);
    let target = daemon.dir.path().join("precious");
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, index(&daemon)).unwrap();
    let refused = daemon.run(&["search", "word"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("search.db is a symbolic link"), "{refused:?}");
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    // Nothing else minds.
    assert_eq!(daemon.ok(&["send", "session-1", "say fine"]), "fine");
    fs::remove_file(index(&daemon)).unwrap();
    assert_eq!(found(&daemon, &["word"]).len(), 2);
}

#[test]
fn no_text_and_no_query_drives_a_terminal_or_the_index() {
    let daemon = daemon();
    daemon.ok(&["start", "--id", "plain", "--title", "a \u{202e}title"]);
    let script = "printf '\\033[31mred\\033[0m word \\033]52;c;eA==\\007\\342\\200\\256 end\\0after\\n'";
    daemon.ok(&["send", "plain", script]);
    let shown = daemon.ok(&["--color", "always", "search", "red", "--kind", "message"]);
    assert!(shown.contains("\u{1b}[1m\u{1b}[31mred\u{1b}[0m word"), "{shown:?}");
    assert!(
        shown.contains("\\u{202e} end") && !shown.contains("]52") && !shown.contains('\u{202e}'),
        "{shown:?}"
    );
    for wrong in ["\" OR NEAR(", "\"", "--", "*", "a*", &"x".repeat(1025)] {
        let refused = daemon.run(&["search", "--", wrong]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("cannot be searched for"), "{refused:?}");
    }
    // Operators are words.
    for text in ["red OR nowhere", "NOT red", "red NEAR word", "text:red", "owner:s1", "s1", "{owner}:s1"] {
        assert_eq!(found(&daemon, &[text, "--kind", "message"]), [""; 0], "{text}");
    }
    assert_eq!(found(&daemon, &["(red)", "^word'", "--kind", "message"]).len(), 1);
    assert_eq!(ask(&daemon, "/v1/search?q=a%00b", None).1["code"], "invalid_query");
    assert_eq!(ask(&daemon, "/v1/search?q=%ff", None).0, 400);
}

#[test]
fn a_first_search_over_a_long_history_says_how_far_it_came_and_goes_on() {
    const EVENTS: u64 = 40_000;
    let daemon = daemon();
    grow(&daemon, EVENTS);
    let begun = Instant::now();
    let mut asked = 0;
    let last = until("all of it", || {
        let (status, reply) = ask(&daemon, "/v1/search?q=needle&limit=200", None);
        assert_eq!(status, 200, "{reply}");
        asked += 1;
        let reply: SearchReply = serde_json::from_value(reply).unwrap();
        assert_eq!(reply.complete, reply.note.is_none(), "{reply:?}");
        assert!(reply.complete || reply.note.as_ref().unwrap().contains("not searched yet"), "{reply:?}");
        // Others are served meanwhile.
        let looked = Instant::now();
        assert_eq!(ask(&daemon, "/v1/sessions", None).0, 200);
        assert!(looked.elapsed() < Duration::from_secs(2), "{:?}", looked.elapsed());
        reply.complete.then_some(reply)
    });
    assert!(
        begun.elapsed() < Duration::from_secs(3 + 8 * asked),
        "{asked} requests took {:?}",
        begun.elapsed()
    );
    assert!(last.more && last.hits.len() == 200 && last.hits.is_sorted_by(|a, b| a.event > b.event));
}

#[test]
fn a_daemon_that_is_killed_while_it_fills_the_index_loses_nothing_of_it() {
    const EVENTS: u64 = 60_000;
    let daemon = daemon();
    grow(&daemon, EVENTS);
    let search = daemon.spawn(&["--json", "search", "needle"]);
    let path = index(&daemon);
    let reached = || -> Option<u64> {
        let index =
            rusqlite::Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        let select = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'reached'";
        index.query_row(select, [], |row| row.get(0)).ok()
    };
    until("the first texts", || reached().filter(|reached| *reached > 0));
    daemon.kill();
    let part = reached().unwrap();
    // The command asks again, and the next daemon goes on.
    let output = harness::daemon::finish_within(search, BOUND * 4);
    assert_eq!(output.code, Some(0), "{output:?}");
    until("all of it", || {
        let (_, reply) = ask(&daemon, "/v1/search?q=needle&limit=1", None);
        (reply["complete"] == true).then_some(())
    });
    let index = rusqlite::Connection::open(&path).unwrap();
    let texts: u64 = index
        .query_row("SELECT count(*) FROM words WHERE words MATCH 'needle AND haystack'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(texts, EVENTS, "{part} events were in it when the daemon died");
}

/// What a process has done so far: its threads, and how often they were switched.
fn work(pid: u32) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let mut all: Vec<(String, String)> = tasks
        .filter_map(|task| {
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let switches: Vec<&str> = status.lines().filter(|line| line.contains("ctxt_switches")).collect();
            Some((task.file_name().to_string_lossy().into_owned(), switches.join(" ")))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_daemon_rests_after_a_search() {
    let daemon = daemon();
    daemon.ok(&["send", "session-1", "say a word"]);
    assert_eq!(found(&daemon, &["word"]).len(), 2);
    let pid = daemon.pid();
    until("a while in which nothing wakes", || {
        let before = work(pid);
        std::thread::park_timeout(Duration::from_millis(1500));
        (work(pid) == before).then_some(())
    });
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let open: Vec<PathBuf> = open.filter_map(|fd| fs::read_link(fd.path()).ok()).collect();
    assert!(!open.iter().any(|path| path.to_string_lossy().contains("search.db")), "{open:?}");
}
