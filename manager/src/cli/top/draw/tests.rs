use protocol::api::{Need, NeedKind, SessionLoad};
use protocol::event::{Event, EventKind, Timestamp};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::cli::show::tests::session;

const NOW: u64 = 1_700_000_000_000;

fn some(count: usize) -> Model {
    let one = |number: usize| SessionInfo {
        id: format!("session-{number}").parse().unwrap(),
        name: format!("web-{number}x").parse().ok(),
        needs: Vec::new(),
        ..session()
    };
    let mut model = Model::default();
    model.sessions((1..=count).map(one).collect());
    model
}

fn screen(model: &Model, columns: u16, rows: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    let look = Look { colour: true, unicode: true };
    let mut table = TableState::default();
    terminal.draw(|frame| draw(frame, model, &mut table, look, None, NOW)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn nothing_of_an_agent_is_drawn_as_it_is_and_no_size_is_too_small() {
    let mut model = some(30);
    let chunk = EventKind::MessageChunk {
        turn: 1,
        prompt_id: protocol::PromptId(1),
        stream: protocol::Stream::Stdout,
        text: "evil \u{1b}[2J\u{202e}\u{7}\nnext 世界 line".into(),
        payload: None,
    };
    let id = Some("session-1".parse().unwrap());
    model.heard(&Event { id: 1, at: Timestamp(NOW), session: id, incarnation: 1, kind: chunk });
    for mode in [
        Mode::List,
        Mode::Filter,
        Mode::Rename("\u{1b}x".into()),
        Mode::Sure(Deed::Stop, "s".into()),
        Mode::Help(3),
    ] {
        model.mode = mode;
        for (columns, rows) in [(200, 60), (80, 24), (40, 10), (20, 5), (3, 2), (1, 1)] {
            let drawn = screen(&model, columns, rows);
            for bad in ['\u{1b}', '\u{7}', '\u{202e}', '\u{9b}'] {
                assert!(!drawn.contains(bad), "{drawn}");
            }
        }
    }
    model.mode = Mode::List;
    assert!(screen(&model, 200, 60).contains("next 世"), "{}", screen(&model, 200, 60));
}

#[test]
fn the_order_stays_and_a_filter_that_hides_all_says_so() {
    let mut model = some(3);
    model.sessions(vec![]);
    assert!(screen(&model, 80, 24).contains("kennel start"));
    let mut model = some(3);
    model.step(1);
    assert_eq!(model.chosen.as_deref(), Some("session-2"));
    let waits = SessionInfo {
        needs: vec![Need { kind: NeedKind::Permission, id: None, text: "rm".into(), since: Timestamp(5) }],
        ..model.row("session-3").unwrap().info.clone()
    };
    let others = ["session-1", "session-2"].map(|id| model.row(id).unwrap().info.clone());
    model.sessions(others.into_iter().chain([waits]).collect());
    let order: Vec<Line<'_>> = model.lines();
    assert_eq!(order, ["session-1", "session-2", "session-3"].map(Line::Session));
    assert_eq!(model.chosen.as_deref(), Some("session-2"), "the choice stays as well");
    assert!(screen(&model, 100, 24).contains("1 needs somebody"));
    assert!(model.choose_waiting());
    assert_eq!(model.chosen.as_deref(), Some("session-3"));
    model.filter = "NONESUCH".into();
    model.keep_choice();
    assert_eq!(model.chosen, None);
    assert!(screen(&model, 100, 24).contains("none of 3 sessions has `NONESUCH`"));
    model.filter = "web-2X".into();
    model.keep_choice();
    assert_eq!(model.chosen.as_deref(), Some("session-2"));
}

#[test]
fn a_permission_longer_than_the_screen_is_read_to_its_end() {
    let mut model = some(1);
    let option = protocol::wire::PermissionOption {
        id: "yes".into(),
        name: "Yes, once".into(),
        kind: "allow_once".into(),
    };
    let permission = protocol::api::PermissionInfo {
        permission_id: protocol::PermissionId(7),
        session_id: "session-1".parse().unwrap(),
        session_name: None,
        prompt_id: None,
        command: None,
        title: (1..=40).map(|line| format!("step {line}\n")).collect(),
        options: vec![option],
        asked_at: Timestamp(NOW),
    };
    model.mode = Mode::Answer(Box::new(permission), 0);
    assert!(!screen(&model, 60, 20).contains("1  Yes, once"));
    let down = crossterm::event::KeyCode::Down;
    for _ in 0..40 {
        let key = crossterm::event::KeyEvent::new(down, crossterm::event::KeyModifiers::NONE);
        crate::cli::top::keys::act_on(&mut model, &crossterm::event::Event::Key(key));
    }
    let read = screen(&model, 60, 20);
    assert!(read.contains("step 40") && read.contains("1  Yes, once"), "{read}");
}

#[test]
fn who_needs_somebody_is_marked_at_any_width_and_what_an_agent_waits_for_comes_first() {
    let mut model = some(2);
    let need = |kind, text: &str| Need { kind, id: None, text: text.to_owned(), since: Timestamp(NOW) };
    let needs = vec![need(NeedKind::Interrupted, "left over"), need(NeedKind::Permission, "may I?")];
    model.sessions(vec![
        SessionInfo {
            name: "calm".parse().ok(),
            id: "session-1".parse().unwrap(),
            needs: Vec::new(),
            ..session()
        },
        SessionInfo { name: "asks".parse().ok(), id: "session-2".parse().unwrap(), needs, ..session() },
    ]);
    for columns in [20, 30, 43] {
        let drawn = screen(&model, columns, 8);
        assert!(drawn.contains("! asks") && !drawn.contains("! calm"), "{columns}: {drawn}");
    }
    let wide = screen(&model, 140, 24);
    assert!(wide.contains("may I? (+1)") && !wide.contains("left over"), "{wide}");
}

#[test]
fn the_keys_are_read_to_their_end_on_a_small_screen() {
    let mut model = some(1);
    let mut read = String::new();
    let press = |model: &mut Model, code| {
        let key = crossterm::event::KeyEvent::new(code, crossterm::event::KeyModifiers::NONE);
        crate::cli::top::keys::act_on(model, &crossterm::event::Event::Key(key));
    };
    press(&mut model, crossterm::event::KeyCode::Char('?'));
    for _ in 0..80 {
        read += &screen(&model, 20, 5);
        press(&mut model, crossterm::event::KeyCode::Down);
    }
    assert!(read.contains("Up Down") && screen(&model, 20, 5).contains("change."), "{read}");
    press(&mut model, crossterm::event::KeyCode::Esc);
    assert_eq!(model.mode, Mode::List);
}

#[test]
fn figures_are_those_of_the_time_between_two_looks() {
    let mut model = some(2);
    let load = |cpu_ms| SessionLoad {
        session_id: "session-1".parse().unwrap(),
        processes: 2,
        memory_bytes: 3 << 20,
        cpu_ms,
    };
    assert!(model.loads(&[load(1_000)], NOW), "the first look");
    assert_eq!(model.row("session-1").unwrap().cpu, None);
    assert!(model.loads(&[load(2_500)], NOW + 2_000));
    assert_eq!(model.row("session-1").unwrap().cpu, Some(75.0));
    assert!(screen(&model, 120, 24).contains("75%"));
    assert!(model.loads(&[load(100)], NOW + 4_000));
    assert_eq!(model.row("session-1").unwrap().cpu, Some(0.0), "processes have ended");
    assert!(!model.loads(&[load(120)], NOW + 6_000), "a hundredth of a processor is rest");
    assert!(model.loads(&[load(141)], NOW + 8_000));
    assert!(!model.loads(&[], NOW + 10_000));
    assert_eq!(model.row("session-1").unwrap().memory, None);
}

#[test]
fn restarts_stand_in_their_minutes() {
    let mut model = some(1);
    let mut restart = |at: u64| {
        let kind = EventKind::SessionRestarted {
            old_pid: None,
            new_pid: 1,
            reason: String::new(),
            restore: protocol::Restore::Fresh,
        };
        let session = Some("session-1".parse().unwrap());
        model.heard(&Event { id: 1, at: Timestamp(at), session, incarnation: 1, kind })
    };
    for at in [0, 0, 60_000, 180_000, 170_000] {
        assert!(restart(NOW + at));
    }
    let row = model.row("session-1").unwrap();
    assert_eq!(row.restarts(NOW + 240_000), [0, 0, 0, 0, 0, 2, 1, 0, 2, 0]);
    assert_eq!(row.restarts(NOW + 3_600_000), [0; 10]);
    let look = |unicode| Look { colour: false, unicode };
    assert_eq!(bars(&[0, 1, 8, 90], look(true)), "·▁██");
    assert_eq!(bars(&[0, 1, 8, 90], look(false)), ".18+");
}
