//! Keys: what each does to the state, and what is to be asked of the daemon.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use protocol::api::{
    AnswerRequest, EditSessionRequest, Need, NeedKind, PermissionAnswer, PermissionInfo, Status,
};

use super::model::{Deed, Mode, Model};
use crate::cli::show::name;
use crate::cli::ui::key_list;
use crate::client::Request;

/// Sessions of a page.
const PAGE: isize = 10;
/// The most rows of the list of keys above the screen: on the narrowest one it has fewer.
const HELP_ROWS: usize = 100;
/// The longest text that is typed, in characters.
const TYPED: usize = 200;

/// An action that a key asks for beyond the state.
#[derive(Debug)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// The end.
    Quit,
    /// The shell, for a while.
    Suspend,
    /// This request, and what is noted when it is done.
    Ask(String, Request),
    /// All of the permission with this id.
    Permission(String),
    /// The conversation of the session with this id.
    Attach(String),
}

/// Does what a key means.
pub fn act_on(model: &mut Model, event: &Event) -> Act {
    let Event::Key(key) = event else { return Act::Nothing };
    if key.kind == KeyEventKind::Release {
        return Act::Nothing;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Act::Quit,
            KeyCode::Char('z') => Act::Suspend,
            _ => Act::Nothing,
        };
    }
    if key.modifiers.contains(KeyModifiers::ALT) {
        // A terminal sends Esc and a key that follow each other closely like this.
        let _ = act_on(model, &Event::Key(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE)));
        return act_on(model, &Event::Key(KeyEvent::new(key.code, key.modifiers - KeyModifiers::ALT)));
    }
    model.note.clear();
    match std::mem::take(&mut model.mode) {
        Mode::List => listed(model, key),
        Mode::Help(from) => helped(model, key, from),
        Mode::Filter => filtered(model, key),
        Mode::Rename(text) => renamed(model, key, text),
        Mode::Answer(permission, skipped) => answered(model, key, permission, skipped),
        Mode::Sure(deed, id) => match key.code {
            KeyCode::Char('y' | 'Y') => done(model, deed, &id),
            _ => Act::Nothing,
        },
    }
}

fn listed(model: &mut Model, key: &KeyEvent) -> Act {
    match key.code {
        KeyCode::Char('q') => return Act::Quit,
        KeyCode::Up | KeyCode::Char('k') => model.step(-1),
        KeyCode::Down | KeyCode::Char('j') => model.step(1),
        KeyCode::PageUp => model.step(-PAGE),
        KeyCode::PageDown => model.step(PAGE),
        KeyCode::Home => model.step(isize::MIN),
        KeyCode::End => model.step(isize::MAX),
        KeyCode::Char('/') => model.mode = Mode::Filter,
        KeyCode::Char('?' | 'h') => model.mode = Mode::Help(0),
        KeyCode::Char('g') => model.regroup(),
        KeyCode::Esc => {
            model.filter.clear();
            model.keep_choice();
        }
        KeyCode::Char('n') if !model.choose_waiting() => {
            model.note("no session that is shown waits for somebody")
        }
        _ => return on_chosen(model, key.code),
    }
    Act::Nothing
}

/// Does what a key means for the session that is chosen.
fn on_chosen(model: &mut Model, key: KeyCode) -> Act {
    let Some(row) = model.chosen() else { return Act::Nothing };
    let (id, called) = (row.info.id.to_string(), name(&row.info).to_owned());
    // A slip of the finger costs a turn otherwise.
    let runs = matches!(row.info.status, Status::Running | Status::RequiresAction);
    match key {
        KeyCode::Enter => Act::Attach(id),
        KeyCode::Char('a') => match model.permission() {
            Some(permission) => Act::Permission(permission.to_owned()),
            None => {
                let is_cut_off = |need: &Need| need.kind == NeedKind::Interrupted;
                let note = match model.chosen().is_some_and(|row| row.info.needs.iter().any(is_cut_off)) {
                    true => "a prompt was interrupted: Enter attaches, and Ctrl-R decides there".to_owned(),
                    false => format!("{called} waits for no permission"),
                };
                model.note(&note);
                Act::Nothing
            }
        },
        KeyCode::Char('x') if runs => sure(model, Deed::Abort, id),
        KeyCode::Char('x') => done(model, Deed::Abort, &id),
        KeyCode::Char('r') if runs => sure(model, Deed::Restart, id),
        KeyCode::Char('r') => done(model, Deed::Restart, &id),
        KeyCode::Char('s') => sure(model, Deed::Stop, id),
        KeyCode::Char('R') => {
            model.mode = Mode::Rename(String::new());
            Act::Nothing
        }
        _ => Act::Nothing,
    }
}

fn sure(model: &mut Model, deed: Deed, id: String) -> Act {
    model.mode = Mode::Sure(deed, id);
    Act::Nothing
}

fn done(model: &Model, deed: Deed, id: &str) -> Act {
    let called = model.row(id).map_or(id, |row| name(&row.info)).to_owned();
    let post = |path: &str| Request::post(format!("/v1/sessions/{id}/{path}"));
    match deed {
        Deed::Abort => Act::Ask(format!("the turn of {called} is ended"), post("abort")),
        Deed::Restart => Act::Ask(format!("{called} is restarted"), post("restart").repeatable()),
        Deed::Stop => Act::Ask(format!("{called} is stopped"), post("stop?orphans=stop").repeatable()),
    }
}

/// Reads on in the list of keys, or goes back.
fn helped(model: &mut Model, key: &KeyEvent, from: usize) -> Act {
    if let Some(to) = key_list::after(key.code, PAGE.unsigned_abs(), from) {
        model.mode = Mode::Help(to.min(HELP_ROWS));
    }
    Act::Nothing
}

fn filtered(model: &mut Model, key: &KeyEvent) -> Act {
    match key.code {
        KeyCode::Enter => {}
        KeyCode::Esc => model.filter.clear(),
        code => {
            edit(&mut model.filter, code);
            model.mode = Mode::Filter;
        }
    }
    model.keep_choice();
    Act::Nothing
}

fn renamed(model: &mut Model, key: &KeyEvent, mut text: String) -> Act {
    let id = model.chosen().map(|row| row.info.id.to_string());
    match (key.code, id) {
        (KeyCode::Enter, Some(id)) if !text.is_empty() => {
            let edit = EditSessionRequest { name: Some(text.clone()), ..EditSessionRequest::default() };
            let request = Request::patch(format!("/v1/sessions/{id}")).json(&edit);
            Act::Ask(format!("{id} is called {text}"), request)
        }
        (KeyCode::Enter | KeyCode::Esc, _) | (_, None) => Act::Nothing,
        (code, Some(_)) => {
            edit(&mut text, code);
            model.mode = Mode::Rename(text);
            Act::Nothing
        }
    }
}

fn answered(model: &mut Model, key: &KeyEvent, permission: Box<PermissionInfo>, skipped: u16) -> Act {
    let mut skipped = skipped;
    let number = match key.code {
        KeyCode::Up => {
            skipped = skipped.saturating_sub(1);
            None
        }
        KeyCode::Down => {
            skipped = skipped.saturating_add(1);
            None
        }
        KeyCode::Esc => return Act::Nothing,
        KeyCode::Char(digit) => digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok()),
        _ => None,
    };
    let option = number.and_then(|number| permission.options.get(number.checked_sub(1)?));
    let Some(option) = option else {
        model.mode = Mode::Answer(permission, skipped);
        return Act::Nothing;
    };
    let path = format!("/v1/sessions/{}/permissions/{}", permission.session_id, permission.permission_id);
    let answer = PermissionAnswer::Option(option.id.clone());
    let told = format!("{}: {}", permission.permission_id, option.name);
    Act::Ask(told, Request::post(path).json(&AnswerRequest { answer }))
}

fn edit(text: &mut String, code: KeyCode) {
    match code {
        KeyCode::Backspace => drop(text.pop()),
        KeyCode::Char(c) if text.chars().count() < TYPED => text.push(c),
        _ => {}
    }
}
