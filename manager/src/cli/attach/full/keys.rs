//! Keys: what each does to the screen, and what it asks of the rest of `attach`.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use protocol::PromptId;
use protocol::api::Role;
use protocol::event::Resolution;
use tokio::time::Instant;

use super::face::{Act, Face, Mode};
use super::lines::begin_of;
use crate::cli::attach::conversation::{Conversation, Kind, Source};
use crate::cli::attach::keyboard::Typed;
use crate::cli::attach::view::View;
use crate::cli::ui::{key_list, render};

/// The longest text that is searched for, in characters.
const SEARCHED: usize = 200;
/// The bytes that are copied at most: terminals take no more.
const COPIED: usize = 64 * 1024;

/// Does what a key means.
pub fn act_on(face: &mut Face, view: &mut View<'_>, event: &Event, may_type: bool) -> Act {
    let key = match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        Event::Paste(text) => return pasted(face, view, text),
        _ => return Act::Nothing,
    };
    view.notice.clear();
    if face.editor.is_empty() {
        face.began = Instant::now();
    }
    let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
    if let Some(act) = detaches(face, key, ctrl) {
        return act;
    }
    match (key.code, ctrl) {
        (KeyCode::Char('c'), true) => return interrupted(face, view),
        (KeyCode::Char('z'), true) => return Act::Say(Typed::Suspend),
        (KeyCode::Char('l'), true) => return Act::Redraw,
        _ => {}
    }
    match std::mem::replace(&mut face.mode, Mode::Write) {
        Mode::Write => written(face, view, key, ctrl, may_type),
        Mode::Search(text) => searched(face, view, key, ctrl, text),
        Mode::Help(from) => helped(face, key, from),
        Mode::Detach if is_yes(key) => Act::Say(Typed::Detach),
        Mode::TakeOver if is_yes(key) => Act::Say(Typed::TakeOver),
        Mode::Resolve(prompt) => resolved(view, key, prompt),
        Mode::Detach | Mode::TakeOver => Act::Nothing,
    }
}

/// Decides what becomes of a prompt whose turn was cut off.
fn resolved(view: &View<'_>, key: &KeyEvent, prompt: PromptId) -> Act {
    let action = match key.code {
        // Ctrl-R twice decides nothing.
        _ if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => return Act::Nothing,
        KeyCode::Char('r' | 'R') => Resolution::Retry,
        KeyCode::Char('d' | 'D') => Resolution::Drop,
        _ => return Act::Nothing,
    };
    // Somebody else may have decided meanwhile.
    match view.interrupted.contains_key(&prompt) {
        true => Act::Say(Typed::Resolve(prompt, action)),
        false => Act::Nothing,
    }
}

/// Reads on in the list of keys, or goes back.
fn helped(face: &mut Face, key: &KeyEvent, from: usize) -> Act {
    let page = face.scroll.height.saturating_sub(1).max(1);
    if let Some(to) = key_list::after(key.code, page, from) {
        face.mode = Mode::Help(to);
    }
    Act::Nothing
}

fn is_yes(key: &KeyEvent) -> bool {
    matches!(key.code, KeyCode::Char('y' | 'Y'))
}

/// The keys that detach: Ctrl-P Ctrl-Q, Ctrl-B d. The first of them has no meaning of its own.
fn detaches(face: &mut Face, key: &KeyEvent, ctrl: bool) -> Option<Act> {
    let before = face.prefix.take();
    match (before, key.code, ctrl) {
        (Some('p'), KeyCode::Char('q'), true) | (Some('b'), KeyCode::Char('d'), _) => {
            Some(Act::Say(Typed::Detach))
        }
        (_, KeyCode::Char(c @ ('p' | 'b')), true) => {
            face.prefix = Some(c);
            Some(Act::Nothing)
        }
        _ => None,
    }
}

/// Ctrl-C: ends the turn that runs, once. Then it asks whether to detach.
fn interrupted(face: &mut Face, view: &View<'_>) -> Act {
    match view.running() {
        Some(prompt) if face.aborted != Some(prompt) && view.role == Role::Driver && !view.lost => {
            face.aborted = Some(prompt);
            face.mode = Mode::Write;
            Act::Say(Typed::Abort(prompt))
        }
        _ => {
            face.mode = Mode::Detach;
            Act::Nothing
        }
    }
}

fn pasted(face: &mut Face, view: &mut View<'_>, text: &str) -> Act {
    if let Mode::Search(searched) = &mut face.mode {
        searched.extend(text.chars().take(SEARCHED));
        return Act::Nothing;
    }
    face.mode = Mode::Write;
    if face.editor.is_empty() {
        face.began = Instant::now();
    }
    if face.editor.paste(text).is_err() {
        view.note("the text is longer than a prompt may be (1 MiB); nothing was pasted");
    }
    Act::Nothing
}

fn written(face: &mut Face, view: &mut View<'_>, key: &KeyEvent, ctrl: bool, may_type: bool) -> Act {
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    let shift = key.modifiers.contains(KeyModifiers::SHIFT);
    let page = face.scroll.height.saturating_sub(1).max(1);
    let by = |lines: usize| isize::try_from(lines).unwrap_or(isize::MAX);
    match key.code {
        KeyCode::PageUp => return scrolled(face, view, -by(page)),
        KeyCode::PageDown => return scrolled(face, view, by(page)),
        KeyCode::Up if shift => return scrolled(face, view, -1),
        KeyCode::Down if shift => return scrolled(face, view, 1),
        KeyCode::Home if ctrl => return to_beginning(face, view),
        KeyCode::End if ctrl => return to_end(face, view),
        KeyCode::Esc => return to_end(face, view),
        KeyCode::F(1) => face.mode = Mode::Help(0),
        KeyCode::Char('h') if alt => face.mode = Mode::Help(0),
        KeyCode::Char('f') if ctrl => {
            face.scroll.search_anew();
            face.mode = Mode::Search(String::new());
        }
        KeyCode::Char('o') if ctrl => face.look.unfolded = !face.look.unfolded,
        KeyCode::Char('y') if ctrl => return copied(view),
        KeyCode::Char('t') if ctrl => {
            if view.drives {
                view.note("you drive already");
            } else if view.wanted == Role::Viewer {
                view.note("`--read-only` changes nothing; attach without it to drive");
            } else {
                face.mode = Mode::TakeOver;
            }
        }
        KeyCode::Char('r') if ctrl => match view.interrupted.keys().next() {
            None => view.note("no prompt was interrupted"),
            Some(_) if !view.drives => view.note("it is for the one who drives to decide"),
            Some(prompt) => face.mode = Mode::Resolve(*prompt),
        },
        KeyCode::Char('d') if ctrl && face.editor.is_empty() => return Act::Say(Typed::Detach),
        KeyCode::Enter if !alt && !shift => return entered(face, view, may_type),
        _ => {
            let sent = view.chat.iter().flat_map(|chat| chat.prompts());
            let prompts = face.unsent.iter().map(String::as_str).chain(sent);
            if face.editor.key(*key, prompts).is_err() {
                view.note("the text is as long as a prompt may be (1 MiB)");
            }
        }
    }
    Act::Nothing
}

fn entered(face: &mut Face, view: &mut View<'_>, may_type: bool) -> Act {
    if let Some(why) = &view.ended_by {
        let note = format!("{why}; your text is printed when you leave");
        view.note(&note);
        return Act::Nothing;
    }
    if view.lost || !view.live {
        view.note("not connected yet: your text stays here; Enter sends it once the connection is back");
        return Act::Nothing;
    }
    if !may_type {
        view.note("too much is being sent already: your text stays here");
        return Act::Nothing;
    }
    // An empty line answers a field of a form.
    if face.editor.is_empty() && view.form_shown().is_none() {
        return to_end(face, view);
    }
    if let Ok(number) = face.editor.text().parse()
        && let Some(id) = view.came_later(number, face.began)
    {
        view.says_too_early(id, number);
        // The person may send it once it is read.
        face.began = Instant::now();
        return Act::Nothing;
    }
    let text = face.editor.take();
    face.scroll.go_to_end();
    Act::Say(Typed::Line(text))
}

fn scrolled(face: &mut Face, view: &mut View<'_>, by: isize) -> Act {
    let Some(chat) = &view.chat else { return Act::Nothing };
    if by > 0 {
        face.scroll.down(chat, by.unsigned_abs());
        return loads(face, chat, Typed::Later);
    }
    let is_beginning = face.scroll.up(chat, by.unsigned_abs());
    older(face, chat, is_beginning)
}

fn to_beginning(face: &mut Face, view: &mut View<'_>) -> Act {
    let Some(chat) = &view.chat else { return Act::Nothing };
    face.scroll.go_to_beginning(chat);
    older(face, chat, true)
}

fn to_end(face: &mut Face, view: &mut View<'_>) -> Act {
    let Some(chat) = &view.chat else { return Act::Nothing };
    face.scroll.go_to_end();
    loads(face, chat, Typed::Newest)
}

/// Asks for older events where the screen has reached the oldest that are loaded.
fn older(face: &mut Face, chat: &Conversation, is_beginning: bool) -> Act {
    if !is_beginning || chat.whole || face.loads {
        return Act::Nothing;
    }
    face.loads = true;
    Act::Say(Typed::Older)
}

/// Asks for newer events where the screen has reached the newest that are loaded.
fn loads(face: &mut Face, chat: &Conversation, which: Typed) -> Act {
    // The newest go before whatever else is being loaded.
    let is_free = !face.loads || which == Typed::Newest;
    if !chat.cut || !face.scroll.follows() || !is_free {
        return Act::Nothing;
    }
    face.loads = true;
    Act::Say(which)
}

fn searched(face: &mut Face, view: &mut View<'_>, key: &KeyEvent, ctrl: bool, mut text: String) -> Act {
    let mut act = Act::Nothing;
    match key.code {
        KeyCode::Esc => return Act::Nothing,
        KeyCode::PageUp | KeyCode::PageDown => {
            let page = isize::try_from(face.scroll.height.max(2) - 1).unwrap_or(1);
            act = scrolled(face, view, if key.code == KeyCode::PageUp { -page } else { page });
        }
        KeyCode::Enter | KeyCode::Up | KeyCode::Down => {
            let is_older = key.code != KeyCode::Down;
            if let Some(chat) = &view.chat
                && !face.scroll.find(chat, &text, is_older)
                && !text.is_empty()
            {
                let note = match is_older {
                    true if chat.whole => "there is no more",
                    true => "not in what is loaded; older events are being loaded: Enter searches on",
                    false if chat.cut => "not in what is loaded; Esc goes to the end",
                    false => "there is no more",
                };
                act = older(face, chat, is_older);
                view.note(note);
            }
        }
        KeyCode::Backspace => drop(text.pop()),
        KeyCode::Char('f' | 'u') if ctrl => text.clear(),
        KeyCode::Char(c) if !ctrl && text.chars().count() < SEARCHED => {
            face.scroll.search_anew();
            text.push(c);
        }
        _ => {}
    }
    face.mode = Mode::Search(text);
    act
}

/// Copies the agent's newest answer.
fn copied(view: &mut View<'_>) -> Act {
    let Some(chat) = &view.chat else { return Act::Nothing };
    if chat.cut {
        view.note("the newest answer is not loaded: Esc goes to the end");
        return Act::Nothing;
    }
    let mut pieces: Vec<&str> = Vec::new();
    for item in chat.items().iter().rev() {
        match &item.kind {
            Kind::Text(text) if matches!(text.source, Source::Answer | Source::Output) => {
                pieces.push(&text.text)
            }
            _ if pieces.is_empty() => {}
            _ => break,
        }
    }
    if pieces.is_empty() {
        view.note("there is no answer to copy");
        return Act::Nothing;
    }
    let whole = render::output(&pieces.into_iter().rev().collect::<String>());
    let text = begin_of(&whole, COPIED);
    let cut = if text.len() < whole.len() { ", its beginning" } else { "" };
    view.note(&format!(
        "the newest answer was given to the terminal's clipboard ({} characters{cut}); some terminals do not take it",
        text.chars().count()
    ));
    Act::Copy(text.to_owned())
}
