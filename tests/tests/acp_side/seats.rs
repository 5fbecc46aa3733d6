//! The driver's seat of an editor: kept over a cut, and free once the editor leaves.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use harness::daemon::Daemon;
use harness::door::{Door, Mood};
use harness::real::{BOUND, signal, until};
use manager::protocol::api::Role;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Editor, kennel};

/// Somebody else, with a token of the session: no seat is kept for them, and they get none of another's.
pub(crate) struct Stranger {
    socket: PathBuf,
    id: String,
    token: String,
}

/// The answer to a stranger who asks to drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// They drove, and have left again.
    Drove,
    /// Somebody drives.
    Driven,
    /// Nobody drives, and the seat is kept for somebody.
    Kept,
}

impl Stranger {
    pub(crate) fn of(daemon: &Daemon, id: &str) -> Self {
        let token = daemon.ok(&["token", id]).trim().to_owned();
        Self { socket: daemon.socket(), id: id.to_owned(), token }
    }

    /// Asks to drive.
    pub(crate) fn asks(&self) -> Answer {
        let Self { socket, id, token } = self;
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let request = format!(
            "GET /v1/sessions/{id}/attach?role=driver&name=stranger HTTP/1.1\r\nHost: kennel\r\n\
             Authorization: Bearer {id}:{token}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let mut piece = [0; 4096];
        loop {
            let read = stream.read(&mut piece).unwrap();
            answer += &String::from_utf8_lossy(&piece[..read]);
            if answer.contains("event: attached") {
                return Answer::Drove;
            }
            if read == 0 {
                assert!(answer.starts_with("HTTP/1.1 409 ") && answer.contains("\"driven\""), "{answer}");
                return if answer.contains("the seat is kept for ") { Answer::Kept } else { Answer::Driven };
            }
        }
    }
}

fn drives(daemon: &Daemon, id: &str) -> bool {
    daemon.show(id).clients.iter().any(|client| client.role == Role::Driver)
}

/// An agent's question for a file is answered by the editor, which drives.
fn serves(editor: &mut Editor, daemon: &Daemon, id: &str) {
    let prompt =
        editor.prompt(id, &format!("read {}", daemon.workdir().join("only-in-the-editor").display()));
    let answer = editor.serves(prompt, |asked| {
        assert_eq!(asked["method"], "fs/read_text_file");
        json!({ "content": "unsaved" })
    });
    assert_eq!(answer["result"]["stopReason"], "end_turn", "{answer}");
    assert!(editor.updates().iter().any(|update| update.contains("unsaved")), "{:?}", editor.updates());
}

#[test]
fn an_editor_whose_connection_is_cut_finds_its_seat_and_nobody_takes_it_meanwhile() {
    let door = Door::before(kennel());
    door.pair();
    let daemon = &door.daemon;
    let command = door.command(&["acp", "--agent", "plain", "--editor-tools"]);
    let mut editor = Editor::below(command, daemon).hello_with_files();
    let id = editor.session(daemon);
    until("it drives", || drives(daemon, &id).then_some(()));
    let stranger = Stranger::of(daemon, &id);
    assert_eq!(stranger.asks(), Answer::Driven);
    door.be(Mood::Closed);
    door.cut();
    until("the daemon misses it", || daemon.show(&id).clients.is_empty().then_some(()));
    assert_eq!(stranger.asks(), Answer::Kept);
    door.be(Mood::Open);
    until("it drives again", || drives(daemon, &id).then_some(()));
    assert_eq!(stranger.asks(), Answer::Driven);
    serves(&mut editor, daemon, &id);
    editor.close();
    assert_eq!(stranger.asks(), Answer::Drove);
}

#[test]
fn an_editor_that_leaves_in_order_frees_its_seat_at_once() {
    let daemon = kennel();
    let new = || Editor::silent(&daemon, &["--agent", "plain"]).hello_with_files();
    let mut editor = new();
    let id = editor.session(&daemon);
    let stranger = Stranger::of(&daemon, &id);
    let comes = |editor: &mut Editor| {
        until("the stranger is gone", || daemon.show(&id).clients.is_empty().then_some(()));
        let loaded = editor.load(&daemon, &id);
        assert!(loaded["error"].is_null(), "{loaded}");
        until("it drives", || drives(&daemon, &id).then_some(()));
        assert_eq!(stranger.asks(), Answer::Driven);
    };
    until("it drives", || drives(&daemon, &id).then_some(()));
    // It opens the session anew, and is the same driver.
    assert!(editor.load(&daemon, &id)["error"].is_null());
    serves(&mut editor, &daemon, &id);
    let closed = editor.ask("session/close", json!({ "sessionId": id }));
    assert_eq!(closed["error"], Value::Null);
    assert_eq!(stranger.asks(), Answer::Drove, "after session/close");
    comes(&mut editor);
    editor.close();
    assert_eq!(stranger.asks(), Answer::Drove, "after the end of its input");
    for by in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut editor = new();
        comes(&mut editor);
        editor.ended_by(by);
        assert_eq!(stranger.asks(), Answer::Drove, "after {by}");
    }
}

#[test]
fn an_editor_leaves_a_daemon_that_does_not_answer() {
    let daemon = kennel();
    let mut editors = Vec::new();
    for _ in 0..2 {
        let mut editor = Editor::silent(&daemon, &["--agent", "plain"]).hello_with_files();
        let id = editor.session(&daemon);
        until("it drives", || drives(&daemon, &id).then_some(()));
        editors.push(editor);
    }
    let pid = daemon.pid();
    signal(pid, Signal::SIGSTOP);
    editors.pop().unwrap().ended_by(Signal::SIGTERM);
    editors.pop().unwrap().close();
    signal(pid, Signal::SIGCONT);
}
