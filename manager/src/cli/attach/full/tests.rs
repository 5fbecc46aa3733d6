use crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyModifiers};
use proptest::prelude::*;
use protocol::PromptId;
use protocol::api::Role;
use protocol::event::Event;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::*;
use crate::cli::attach::conversation::Conversation;
use crate::cli::ui::cells;
use crate::client::sse::Frame;
use crate::terminal_text::is_tricky;

fn ui() -> Ui {
    use clap::Parser;
    Ui::new(&crate::cli::args::Cli::parse_from(["kennel", "ls"]).global)
}

/// A session to which this client is attached.
fn view(ui: &Ui) -> View<'_> {
    let mut view = View::new(ui, "session-1".parse().unwrap(), Role::Driver);
    view.chat = Some(Box::default());
    let attached = json!({ "client_id": 9, "name": "x", "role": "driver" });
    view.show(&Frame { id: None, event: "attached".into(), data: attached.to_string() }).unwrap();
    happens(&mut view, 8, "client.attached", &attached);
    view
}

fn happens(view: &mut View<'_>, id: u64, kind: &str, data: &Value) {
    let whole = json!({ "id": id, "at": "2026-01-31T12:00:00.000Z", "session": "session-1", "incarnation": 1,
        "type": kind, "data": data });
    view.show(&Frame { id: Some(id), event: kind.into(), data: whole.to_string() }).unwrap();
}

fn says(view: &mut View<'_>, id: u64, text: &str) {
    let data = json!({ "turn": 1, "prompt_id": "prompt-1", "stream": "stdout", "text": text, "payload": {} });
    happens(view, id, "message.chunk", &data);
}

fn screen(face: &mut Face, view: &View<'_>, columns: u16, rows: u16, unicode: bool) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    let draw = |frame: &mut ratatui::Frame<'_>| {
        draw::draw(frame, face, view);
        cells::make_harmless(frame.buffer_mut(), unicode);
    };
    terminal.draw(draw).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let row = |y: u16| {
        (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n"
    };
    (0..rows).map(row).collect()
}

fn press(face: &mut Face, view: &mut View<'_>, code: KeyCode, modifiers: KeyModifiers) -> Option<Typed> {
    match keys::act_on(face, view, &Input::Key(KeyEvent::new(code, modifiers)), true) {
        Act::Say(typed) => Some(typed),
        Act::Nothing | Act::Copy(_) | Act::Redraw => None,
    }
}

const NONE: KeyModifiers = KeyModifiers::NONE;
const CTRL: KeyModifiers = KeyModifiers::CONTROL;

/// Text with which an agent may try to drive the terminal, to deceive, or to nest without end.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\u{1b}]52;c;aGk=\u{7}".to_owned()),
        Just("\u{1b}[2J".to_owned()),
        Just("\u{9b}31m\u{202e}".to_owned()),
        Just("&#27;[2J &#x202e; &#155;".to_owned()),
        Just("\u{ad}\u{e0041}\u{200b}".to_owned()),
        Just("\r\u{8}".to_owned()),
        Just("漢字👩‍👩‍👧e\u{301}א".to_owned()),
        Just("\n\n".to_owned()),
        Just("# a\n- b\n  - [ ] c\n".to_owned()),
        Just("|a|b|\n|-|:-:|\n|c|漢|\n".to_owned()),
        Just("```rust\n".to_owned()),
        Just("> > > ".to_owned()),
        Just("![i](u) [l](<x>) `c` **b** ~~s~~ $m$ [^1]\n\n[^1]: f\n".to_owned()),
        Just("<b>&lt;".to_owned()),
        "[ -~]{0,20}",
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn nothing_of_an_agent_reaches_the_terminal_raw_at_any_size(
        texts in prop::collection::vec(hostile(), 8), columns in 1_u16..90, rows in 1_u16..30, unfolded: bool, unicode: bool,
    ) {
        let ui = ui();
        let mut view = view(&ui);
        let mut face = Face::new(true, Some("box\u{1b}"));
        face.look.unfolded = unfolded;
        let [one, two, three, four, five, six, seven, eight] = &texts[..] else { unreachable!() };
        let turn = |mut data: Value| { data["turn"] = json!(1); data["prompt_id"] = json!("prompt-1"); data };
        let from = json!({ "session_id": "session-9", "turn": 1, "told": 1 });
        let made = json!({ "agent": "x", "workdir": "/", "title": null, "model": null, "parent": null, "forked_from": from,
            "told": [{ "prompt": six, "reply": seven }] });
        happens(&mut view, 9, "session.created", &made);
        happens(&mut view, 10, "prompt.accepted", &json!({ "prompt_id": "prompt-1", "text": one, "disposition": "queued", "retry_of": null }));
        happens(&mut view, 11, "prompt.accepted", &json!({ "prompt_id": "prompt-2", "text": two, "disposition": "queued", "retry_of": null }));
        happens(&mut view, 12, "prompt.started", &json!({ "prompt_id": "prompt-1" }));
        says(&mut view, 13, three);
        happens(&mut view, 14, "thought.chunk", &turn(json!({ "text": four, "payload": {} })));
        happens(&mut view, 15, "message.chunk", &turn(json!({ "stream": "stdout", "text": five })));
        let content = json!([{ "type": "diff", "path": six, "oldText": five, "newText": six }, { "content": { "text": seven } }]);
        let tool = json!({ "tool_call_id": one, "title": seven, "payload": { "status": two, "rawInput": { "command": eight }, "content": content } });
        happens(&mut view, 16, "tool_call.started", &turn(tool));
        happens(&mut view, 17, "plan.updated", &turn(json!({ "payload": { "entries": [{ "content": six, "status": seven }] } })));
        let options = json!([{ "id": one, "name": two, "kind": "allow_once" }]);
        let asked = json!({ "permission_id": "permission-1", "tool_call_id": one, "title": eight, "options": options, "payload": {} });
        happens(&mut view, 18, "permission.requested", &turn(asked));
        view.show_due();
        happens(&mut view, 19, "client.attached", &json!({ "client_id": 20, "name": three, "role": "viewer" }));
        happens(&mut view, 20, "session.failed", &json!({ "reason": four, "exit": null, "last_words": [], "survivors": [] }));
        view.note(five);
        let check = |face: &mut Face, view: &View<'_>| {
            let drawn = screen(face, view, columns, rows, unicode);
            let bad: Vec<char> = drawn.chars().filter(|c| is_tricky(*c) && *c != '\n' || !unicode && !c.is_ascii()).collect();
            prop_assert!(bad.is_empty(), "{:?} in {}", bad, drawn);
            Ok(())
        };
        check(&mut face, &view)?;
        keys::act_on(&mut face, &mut view, &Input::Paste(one.clone()), true);
        view.note(six);
        check(&mut face, &view)?;
        for key in [KeyCode::PageUp, KeyCode::PageUp, KeyCode::PageDown, KeyCode::Home, KeyCode::Up, KeyCode::Up] {
            press(&mut face, &mut view, key, NONE);
            check(&mut face, &view)?;
        }
        press(&mut face, &mut view, KeyCode::Char('f'), CTRL);
        keys::act_on(&mut face, &mut view, &Input::Paste(two.clone()), true);
        press(&mut face, &mut view, KeyCode::Enter, NONE);
        check(&mut face, &view)?;
    }
}

#[test]
fn what_is_nested_without_end_is_drawn_in_time() {
    let ui = ui();
    let mut view = view(&ui);
    let mut face = Face::new(true, None);
    for (id, text) in
        [">".repeat(4_000), "- ".repeat(2_000), "[".repeat(4_000), "*a ".repeat(1_300), "1. ".repeat(1_300)]
            .iter()
            .enumerate()
    {
        says(&mut view, 20 + id as u64, &format!("{text}\n{}\n\n", "x\n".repeat(1_000)));
    }
    let begun = std::time::Instant::now();
    screen(&mut face, &view, 80, 24, true);
    press(&mut face, &mut view, KeyCode::Home, CTRL);
    screen(&mut face, &view, 80, 24, true);
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn the_screen_follows_the_end_until_somebody_scrolls_and_stays_where_they_read() {
    let ui = ui();
    let mut view = view(&ui);
    let mut face = Face::new(true, None);
    for id in 0..100 {
        says(&mut view, 20 + id, &format!("line {id}\n\n"));
    }
    assert!(screen(&mut face, &view, 60, 14, true).contains("line 99"));
    press(&mut face, &mut view, KeyCode::PageUp, NONE);
    let before = screen(&mut face, &view, 60, 14, true);
    assert!(!before.contains("line 99") && before.contains("the end is further down"), "{before}");
    let first = |screen: &str| screen.lines().nth(1).unwrap().to_owned();
    for id in 100..200 {
        says(&mut view, 200 + id, &format!("line {id}\n\n"));
    }
    assert_eq!(first(&screen(&mut face, &view, 60, 14, true)), first(&before), "it stays where it is read");
    assert_eq!(press(&mut face, &mut view, KeyCode::Home, CTRL), Some(Typed::Older));
    assert!(screen(&mut face, &view, 60, 14, true).contains("line 0"));
    press(&mut face, &mut view, KeyCode::Esc, NONE);
    assert!(screen(&mut face, &view, 60, 14, true).contains("line 199"));
    // A search goes to older ones, and back.
    press(&mut face, &mut view, KeyCode::Char('f'), CTRL);
    for c in "line 15".chars() {
        press(&mut face, &mut view, KeyCode::Char(c), NONE);
    }
    let seen = |face: &mut Face, view: &mut View<'_>, key| {
        press(face, view, key, NONE);
        screen(face, view, 60, 14, true)
    };
    assert!(seen(&mut face, &mut view, KeyCode::Enter).contains("line 159"));
    assert!(seen(&mut face, &mut view, KeyCode::Enter).contains("line 158"));
    for _ in 0..9 {
        seen(&mut face, &mut view, KeyCode::Enter);
    }
    assert!(seen(&mut face, &mut view, KeyCode::Down).contains("line 150"));
}

#[test]
fn older_events_stand_before_those_that_are_read() {
    let ui = ui();
    let mut view = view(&ui);
    let mut face = Face::new(true, None);
    for id in 0..30 {
        says(&mut view, 200 + id, &format!("new {id}\n\n"));
    }
    screen(&mut face, &view, 40, 10, true);
    press(&mut face, &mut view, KeyCode::Home, CTRL);
    let before = screen(&mut face, &view, 40, 10, true);
    assert!(before.contains("new 0"), "{before}");
    let mut older = Conversation::default();
    for id in 0..30_u64 {
        let text =
            json!({ "turn": 1, "prompt_id": "prompt-1", "text": format!("old {id}\n"), "payload": {} });
        let event = json!({ "id": id + 1, "at": "2026-01-31T12:00:00.000Z", "session": "session-1", "incarnation": 1,
            "type": "thought.chunk", "data": text });
        older.take(&serde_json::from_value::<Event>(event).unwrap());
    }
    older.whole = true;
    view.chat.as_mut().unwrap().prepend(older);
    face.loads = false;
    assert_eq!(screen(&mut face, &view, 40, 10, true), before);
    press(&mut face, &mut view, KeyCode::PageUp, NONE);
    assert!(screen(&mut face, &view, 40, 10, true).contains("old 29"));
}

#[test]
fn ctrl_c_ends_the_turn_in_which_it_was_pressed_once_and_asks_then() {
    let ui = ui();
    let mut view = view(&ui);
    let mut face = Face::new(true, None);
    happens(&mut view, 12, "prompt.started", &json!({ "prompt_id": "prompt-3" }));
    let prompt: PromptId = "prompt-3".parse().unwrap();
    assert_eq!(press(&mut face, &mut view, KeyCode::Char('c'), CTRL), Some(Typed::Abort(prompt)));
    assert_eq!(press(&mut face, &mut view, KeyCode::Char('c'), CTRL), None);
    assert!(screen(&mut face, &view, 80, 24, true).contains("detach? The session goes on. y/n"));
    assert_eq!(press(&mut face, &mut view, KeyCode::Char('n'), NONE), None);
    happens(
        &mut view,
        13,
        "turn.completed",
        &json!({ "turn": 1, "prompt_id": "prompt-3", "outcome": "aborted", "stop_reason": "cancelled", "exit": null }),
    );
    assert_eq!(press(&mut face, &mut view, KeyCode::Char('c'), CTRL), None, "no turn runs");
    assert_eq!(press(&mut face, &mut view, KeyCode::Char('y'), NONE), Some(Typed::Detach));
    happens(&mut view, 14, "prompt.started", &json!({ "prompt_id": "prompt-4" }));
    let next: PromptId = "prompt-4".parse().unwrap();
    assert_eq!(press(&mut face, &mut view, KeyCode::Char('c'), CTRL), Some(Typed::Abort(next)));
}

#[test]
fn the_keys_of_docker_and_tmux_detach_and_nothing_like_them() {
    let ui = ui();
    let mut view = view(&ui);
    let mut face = Face::new(true, None);
    let mut press = |code, modifiers| press(&mut face, &mut view, code, modifiers);
    assert_eq!(press(KeyCode::Char('p'), CTRL), None);
    assert_eq!(press(KeyCode::Char('q'), CTRL), Some(Typed::Detach));
    assert_eq!(press(KeyCode::Char('b'), CTRL), None);
    assert_eq!(press(KeyCode::Char('d'), NONE), Some(Typed::Detach));
    assert_eq!(press(KeyCode::Char('p'), CTRL), None);
    assert_eq!(press(KeyCode::Char('x'), NONE), None);
    assert_eq!(press(KeyCode::Char('q'), CTRL), None);
    assert_eq!(press(KeyCode::Char('d'), NONE), None);
    assert_eq!(press(KeyCode::Char('d'), CTRL), None, "something is typed");
    assert_eq!(press(KeyCode::Enter, NONE), Some(Typed::Line("xd".into())));
    assert_eq!(press(KeyCode::Char('d'), CTRL), Some(Typed::Detach));
}

#[test]
fn without_a_connection_what_is_typed_stays() {
    let ui = ui();
    let mut view = view(&ui);
    let mut face = Face::new(true, None);
    press(&mut face, &mut view, KeyCode::Char('x'), NONE);
    view.lost = true;
    assert_eq!(press(&mut face, &mut view, KeyCode::Enter, NONE), None);
    let drawn = screen(&mut face, &view, 90, 24, true);
    assert!(
        drawn.contains("connection lost") && drawn.contains("> x") && drawn.contains("your text stays"),
        "{drawn}"
    );
    view.lost = false;
    assert_eq!(press(&mut face, &mut view, KeyCode::Enter, NONE), Some(Typed::Line("x".into())));
}

#[test]
fn a_traceback_without_marks_keeps_its_lines_and_indents() {
    let ui = ui();
    let (mut view, mut face) = (view(&ui), Face::new(false, None));
    says(&mut view, 10, "It failed:\n\nTraceback:\n  File \"a.py\", line 3\n    boom()\nError: x\n");
    let drawn = screen(&mut face, &view, 40, 14, true);
    assert!(drawn.contains("\nTraceback:\n  File \"a.py\", line 3\n    boom()\nError: x\n"), "{drawn}");
}

#[test]
fn the_keys_can_be_read_to_their_end_on_the_smallest_screen() {
    let ui = ui();
    let (mut view, mut face) = (view(&ui), Face::new(false, None));
    press(&mut face, &mut view, KeyCode::F(1), NONE);
    let mut read = screen(&mut face, &view, 20, 5, true);
    for _ in 0..60 {
        press(&mut face, &mut view, KeyCode::Down, NONE);
        read += &screen(&mut face, &view, 20, 5, true);
    }
    assert!(read.contains("Enter") && read.contains("Ctrl-L"), "{read}");
    // It has stayed at the end: one step up shows another line.
    let end = screen(&mut face, &view, 20, 5, true);
    press(&mut face, &mut view, KeyCode::Up, NONE);
    assert_ne!(screen(&mut face, &view, 20, 5, true), end);
    press(&mut face, &mut view, KeyCode::Esc, NONE);
    assert_eq!(face.mode, face::Mode::Write);
}

#[test]
fn the_bottom_names_whole_keys_at_any_width() {
    let ui = ui();
    let (view, mut face) = (view(&ui), Face::new(false, None));
    for columns in 7..130 {
        let drawn = screen(&mut face, &view, columns, 14, true);
        let last = drawn.lines().last().unwrap();
        let ends = ["help", "detach", "turn", "line", "scroll", "search", "unfold"];
        assert!(ends.iter().any(|end| last.ends_with(end)), "{columns}: {last}");
    }
}

#[test]
fn on_the_smallest_screen_every_option_of_a_question_can_be_read() {
    let ui = ui();
    let mut view = view(&ui);
    let mut face = Face::new(true, None);
    says(&mut view, 10, "before\n");
    let option = |name: &str| json!({ "id": name, "name": name, "kind": "allow_once" });
    let asked = json!({ "permission_id": "permission-11", "tool_call_id": "t", "title": "may I run a command that is longer than a line of this screen?",
        "options": [option("Yes"), option("Always"), option("No")], "payload": {} });
    happens(&mut view, 11, "permission.requested", &asked);
    view.show_due();
    for (columns, rows) in [(20, 5), (20, 6), (30, 8), (80, 24)] {
        let shown = screen(&mut face, &view, columns, rows, true);
        for wanted in ["1) Yes", "2) Always", "3) No"] {
            assert!(shown.contains(wanted), "{columns}x{rows}: {shown}");
        }
    }
}

#[test]
fn a_narrow_heading_says_who_drives() {
    let ui = ui();
    let mut view = view(&ui);
    let mut face = Face::new(true, None);
    view.called = "a-long-name-of-a-session (session-1)".into();
    let other = json!({ "client_id": 12, "name": "kennel attach somebody", "role": "driver" });
    happens(&mut view, 12, "client.attached", &other);
    for width in [30, 44, 60] {
        let shown = screen(&mut face, &view, width, 10, true);
        assert!(shown.lines().next().unwrap().ends_with("  idle  you drive"), "{shown}");
    }
    assert!(screen(&mut face, &view, 80, 10, true).contains("you drive, 1 other looks on"));
    happens(&mut view, 13, "driver.changed", &json!({ "driver": 12 }));
    for width in [30, 44, 60] {
        let shown = screen(&mut face, &view, width, 10, true);
        assert!(shown.lines().next().unwrap().ends_with("  idle  you look on"), "{shown}");
    }
    assert!(screen(&mut face, &view, 110, 10, true).contains("kennel attach somebody drives, you look on"));
}
