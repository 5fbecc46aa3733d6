use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use protocol::SessionId;
use protocol::api::{SearchHit, SearchKind};
use protocol::event::{Event, EventKind, Outcome, Timestamp};
use protocol::{EventId, PromptId, Stream};
use serde_json::{Value, json};

use super::find::{Page, Wanted, find};
use super::index::{Index, NAME};
use super::query::Query;
use super::schema::Fault;
use super::text::PIECE;
use crate::journal::{Mark, Stretch, Told};

const PROMPT: PromptId = PromptId(1);

/// Events of sessions, in their order.
#[derive(Default)]
struct Story {
    told: Vec<Told>,
    last: EventId,
}

impl Story {
    fn add(&mut self, session: &str, kind: EventKind) -> EventId {
        self.last += 1;
        let (id, at) = (self.last, Timestamp(self.last * 1000));
        let name = kind.name().to_owned();
        let event = Event { id, at, session: session.parse().ok(), incarnation: 1, kind };
        let json = serde_json::to_string(&event).unwrap();
        self.told.push(Told { id, session: session.to_owned(), kind: name, json });
        id
    }

    fn say(&mut self, session: &str, text: &str) -> EventId {
        let (text, payload) = (text.into(), None);
        self.add(
            session,
            EventKind::MessageChunk { turn: 1, prompt_id: PROMPT, stream: Stream::Stdout, text, payload },
        )
    }

    fn think(&mut self, session: &str, text: &str) -> EventId {
        let text = text.into();
        self.add(session, EventKind::ThoughtChunk { turn: 1, prompt_id: PROMPT, text, payload: json!({}) })
    }

    fn complain(&mut self, session: &str, text: &str) -> EventId {
        let (text, payload) = (text.into(), None);
        self.add(
            session,
            EventKind::MessageChunk { turn: 1, prompt_id: PROMPT, stream: Stream::Stderr, text, payload },
        )
    }

    fn tool(&mut self, session: &str, title: &str, payload: Value) -> EventId {
        let (tool_call_id, title) = ("t".into(), title.into());
        self.add(
            session,
            EventKind::ToolCallStarted { turn: 1, prompt_id: PROMPT, tool_call_id, title, payload },
        )
    }

    fn update(&mut self, session: &str, payload: Value) -> EventId {
        let tool_call_id = "t".into();
        self.add(session, EventKind::ToolCallUpdated { turn: 1, prompt_id: PROMPT, tool_call_id, payload })
    }

    fn begin(&mut self, session: &str) {
        self.add(session, EventKind::PromptStarted { prompt_id: PROMPT });
    }

    fn end(&mut self, session: &str) {
        let (outcome, stop_reason) = (Outcome::Completed, "end_turn".into());
        self.add(
            session,
            EventKind::TurnCompleted { turn: 1, prompt_id: PROMPT, outcome, stop_reason, exit: None },
        );
    }

    /// Adds all of it to an index, so many events a step.
    fn into_index(self, dir: &Path, step: usize) {
        let mut index = open(dir, self.last);
        let mut left = self.told.into_iter().peekable();
        while left.peek().is_some() {
            let told: Vec<Told> = left.by_ref().take(step).collect();
            let reached = told.last().unwrap().id;
            index.add(&Stretch { told, reached }).unwrap();
        }
    }
}

fn open(dir: &Path, last: EventId) -> Index {
    Index::open(dir, "uuid", last, false).unwrap()
}

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

fn wanted(text: &str, sessions: &[&str]) -> Wanted {
    let sessions: BTreeSet<SessionId> = sessions.iter().map(|id| id.parse().unwrap()).collect();
    Wanted { query: Query::parse(text).unwrap(), sessions, all: false, kind: None, since: None }
}

fn page(dir: &Path, wanted: &Wanted) -> Page {
    let index = Index::read(dir, Instant::now() + Duration::from_secs(60)).unwrap().unwrap();
    find(&index, wanted, i64::MAX, 1000).unwrap()
}

fn hits(dir: &Path, text: &str) -> Vec<SearchHit> {
    page(dir, &wanted(text, &["a", "b"])).hits
}

/// Event, kind and snippet of each hit.
fn told(dir: &Path, text: &str) -> Vec<(EventId, SearchKind, String)> {
    hits(dir, text).into_iter().map(|hit| (hit.event, hit.kind, hit.snippet)).collect()
}

#[test]
fn what_is_said_in_pieces_is_one_text_whoever_reads_them() {
    for step in [1, 2, 3, 1000] {
        let dir = directory();
        let mut story = Story::default();
        story.begin("a");
        let first = story.say("a", "the quick br");
        story.say("b", "elsewhere");
        story.complain("a", "warn");
        story.say("a", "own fox");
        story.complain("a", "ing: none");
        let thought = story.think("a", "hm, fo");
        story.think("a", "xes");
        let last = story.say("a", "jumps");
        story.end("a");
        let late = json!({ "sessionUpdate": "agent_message_chunk", "content": { "text": " over" } });
        story.add("a", EventKind::AgentUpdated { prompt_id: None, payload: late });
        story.begin("a");
        story.say("a", "a dog");
        story.into_index(dir.path(), step);
        let of = |text: &str| told(dir.path(), text);
        assert_eq!(
            of(r#""quick brown fox""#),
            [(first, SearchKind::Message, "the quick brown fox".into())],
            "{step}"
        );
        assert_eq!(of("foxes"), [(thought, SearchKind::Thought, "hm, foxes".into())], "{step}");
        assert_eq!(of(r#""jumps over""#), [(last, SearchKind::Message, "jumps over".into())], "{step}");
        assert_eq!(of("warning")[0].1, SearchKind::Stderr, "{step}");
        // Another turn is another text.
        assert_eq!(of(r#""over a dog""#), [], "{step}");
        assert_eq!(of("fo*").len(), 2, "{step}");
        assert_eq!(of("QUICK").len(), 1, "{step}");
    }
}

#[test]
fn a_tool_call_is_one_text_with_what_was_told_of_it_last() {
    for step in [1, 1000] {
        let dir = directory();
        let mut story = Story::default();
        story.say("a", "before");
        let call = story.tool("a", "Run it", json!({ "rawInput": { "command": ["make", "check"] } }));
        let content =
            |text: &str| json!([{ "type": "content", "content": { "type": "text", "text": text } }]);
        story.update("a", json!({ "content": content("one") }));
        story.update("a", json!({ "title": "Ran it", "content": content("one two"), "status": "completed" }));
        // It has ended, and this is of another that nobody has begun.
        let other = story.update("a", json!({ "content": content("three") }));
        story.into_index(dir.path(), step);
        let of = |text: &str| told(dir.path(), text);
        assert_eq!(of("one"), [(call, SearchKind::Tool, "Ran it make check one two".into())], "{step}");
        assert_eq!(of("make").len(), 1);
        assert_eq!(of(r#""Run it""#), []);
        assert_eq!(of("three"), [(other, SearchKind::Tool, "three".into())]);
        assert_eq!(of("before").len(), 1);
    }
}

#[test]
fn long_texts_are_found_in_pieces_of_bounded_size() {
    let dir = directory();
    let mut story = Story::default();
    let words = |from: usize| (from..from + 20_000).map(|word| format!("w{word} ")).collect::<String>();
    let at_once = story.say("a", &words(0));
    for word in 100_000..120_000 {
        story.say("a", &format!("w{word} "));
    }
    story.into_index(dir.path(), 4096);
    for word in ["w0", "w9999", "w19999", "w100000", "w119999"] {
        assert_eq!(hits(dir.path(), word).len(), 1, "{word}");
    }
    assert_eq!(told(dir.path(), "w15000")[0].0, at_once);
    let index = open(dir.path(), EventId::MAX);
    let (longest, all): (usize, usize) = index
        .connection
        .query_row("SELECT max(octet_length(text)), sum(octet_length(text)) FROM words", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert!(longest <= PIECE && all == words(0).len() + words(100_000).len(), "{longest} {all}");
}

#[test]
fn a_removed_session_and_its_successor_are_two() {
    let dir = directory();
    let mut story = Story::default();
    story.say("a", "old word");
    story.say("b", "other word");
    story.add("a", EventKind::SessionDeleted {});
    story.say("a", "new word");
    story.into_index(dir.path(), 2);
    let found: Vec<String> = hits(dir.path(), "word").into_iter().map(|hit| hit.snippet).collect();
    assert_eq!(found, ["new word", "other word"]);
    assert_eq!(page(dir.path(), &wanted("word", &["b"])).hits.len(), 1);
    let mut index = open(dir.path(), 100);
    assert_eq!(index.tidy(&[]).unwrap(), Vec::<String>::new());
    let count = |index: &Index, what: &str| -> u32 {
        index.connection.query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!((count(&index, "docs"), count(&index, "words"), count(&index, "sessions")), (2, 2, 2));
    // Of what the journal prunes nothing stays but titles.
    let mark = |session: Option<&str>, upto| Mark { session: session.map(str::to_owned), upto };
    let marks = [mark(Some("b"), 2), mark(None, 3)];
    assert_eq!(index.tidy(&marks).unwrap(), ["a", "b"]);
    assert_eq!(count(&index, "docs"), 1);
    index.gone(&["a".into()], &marks).unwrap();
    assert_eq!((count(&index, "docs"), count(&index, "words"), count(&index, "sessions")), (0, 0, 1));
    assert_eq!(index.tidy(&marks).unwrap(), Vec::<String>::new());
}

#[test]
fn kinds_times_and_sessions_choose() {
    let dir = directory();
    let mut story = Story::default();
    let (title, agent) = (Some("a word".to_owned()), "shell".to_owned());
    let created = EventKind::SessionCreated {
        name: None,
        labels: Default::default(),
        agent,
        title,
        workdir: "/".into(),
        model: None,
        parent: None,
        started_by: None,
        forked_from: None,
        conversation: None,
        told: Vec::new(),
    };
    story.add("a", created);
    story.say("a", "word");
    story.say("b", "word");
    story.into_index(dir.path(), 1000);
    let find =
        |wanted: &Wanted| page(dir.path(), wanted).hits.iter().map(|hit| hit.event).collect::<Vec<_>>();
    let all = wanted("word", &["a", "b"]);
    assert_eq!(find(&all), [3, 2, 1]);
    assert_eq!(find(&Wanted { all: true, ..all.clone() }), [3, 2, 1]);
    assert_eq!(find(&Wanted { kind: Some(SearchKind::Title), ..all.clone() }), [1]);
    assert_eq!(find(&Wanted { since: Some(Timestamp(2000)), ..all.clone() }), [3, 2]);
    assert_eq!(find(&wanted("word", &["b"])), [3]);
    // A session that is not wanted is not told of, even where the index was not asked for some only.
    assert_eq!(find(&Wanted { all: true, ..wanted("word", &["b"]) }), [3]);
    assert_eq!(find(&wanted("word", &["c"])), [0_u64; 0]);
    assert_eq!(find(&wanted("s1", &["a", "b"])), [0_u64; 0], "the number of a session is no word");
}

#[test]
fn hostile_texts_are_texts() {
    let dir = directory();
    let mut story = Story::default();
    let hostile = "\u{1b}[31mred\u{1b}[0m \u{202e}word\0after <b>\" OR NEAR( '; DROP TABLE docs; --";
    story.say("a", hostile);
    story.told.push(Told { id: 2, session: "a".into(), kind: "message.chunk".into(), json: "{".into() });
    story.told.push(Told { id: 3, session: "a".into(), kind: "prompt.accepted".into(), json: "[]".into() });
    story.last = 3;
    story.into_index(dir.path(), 1000);
    for word in ["red", "word", "after", "drop table", "near", "OR"] {
        let found = hits(dir.path(), word);
        assert_eq!(found.len(), 1, "{word}");
        assert!(!found[0].snippet.contains(['\0', '\u{1b}']), "{:?}", found[0].snippet);
        let chars: Vec<char> = found[0].snippet.chars().collect();
        let of = &found[0].matches[0];
        let shown: String = chars[of.start as usize..of.end as usize].iter().collect();
        assert!(word.to_lowercase().starts_with(&shown.to_lowercase()), "{word}: {shown}");
    }
}

#[test]
fn an_index_that_is_no_good_is_made_anew() {
    let dir = directory();
    let path = dir.path().join(NAME);
    let fill = |last: EventId| {
        let mut story = Story::default();
        story.say("a", "word");
        let mut index = open(dir.path(), last);
        assert_eq!(index.reached, 0);
        index.add(&Stretch { told: story.told, reached: 1 }).unwrap();
    };
    fill(1);
    assert_eq!(open(dir.path(), 1).reached, 1);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // Of another journal, ahead of it, with a table or a trigger of a stranger, garbage, empty, and gone.
    assert_eq!(Index::open(dir.path(), "other", 1, false).unwrap().reached, 0);
    std::fs::remove_file(&path).unwrap();
    fill(1);
    assert_eq!(open(dir.path(), 0).reached, 0);
    for sql in [
        "CREATE TABLE strange (x)",
        "CREATE TRIGGER strange AFTER INSERT ON docs BEGIN DELETE FROM meta; END",
        "DROP TABLE open",
        "PRAGMA user_version = 77",
    ] {
        fill(1);
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        assert_eq!(open(dir.path(), 1).reached, 0, "{sql}");
    }
    for garbage in [vec![0x5a; 50_000], Vec::new()] {
        fill(1);
        std::fs::write(&path, garbage).unwrap();
        assert_eq!(open(dir.path(), 1).reached, 0);
    }
    fill(1);
    assert_eq!(hits(dir.path(), "word").len(), 1);
    assert_eq!(Index::open(dir.path(), "uuid", 1, true).unwrap().reached, 0);
}

#[test]
fn an_index_that_is_a_link_is_neither_followed_nor_removed() {
    let dir = directory();
    let elsewhere = directory();
    let target = elsewhere.path().join("target");
    std::fs::write(&target, "precious").unwrap();
    for name in [NAME, "search.db-wal", "search.db-shm"] {
        let path = dir.path().join(name);
        symlink(&target, &path).unwrap();
        for anew in [false, true] {
            let Err(Fault::Other(why)) = Index::open(dir.path(), "uuid", 1, anew) else { panic!("{name}") };
            assert!(why.contains("symbolic link"), "{why}");
            assert!(Index::read(dir.path(), Instant::now()).is_err());
        }
        assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
        std::fs::remove_file(&path).unwrap();
        _ = std::fs::remove_file(dir.path().join(NAME));
    }
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
}

#[test]
fn a_search_that_takes_too_long_ends() {
    let dir = directory();
    let mut story = Story::default();
    for _ in 0..3000 {
        story.begin("a");
        story.say("a", "word");
    }
    story.into_index(dir.path(), 4096);
    let index = Index::read(dir.path(), Instant::now()).unwrap().unwrap();
    let page = find(&index, &wanted("word", &["a"]), i64::MAX, 10_000).unwrap();
    assert!(page.slow && page.hits.len() < 3000, "{}", page.hits.len());
}
