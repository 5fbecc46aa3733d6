//! The prompt that is being typed: many lines, a history, and pastes that stay whole.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::{Modifier, Style};
use ratatui_textarea::{CursorMove, TextArea, WrapMode};
use unicode_width::UnicodeWidthStr;

use crate::session_manager::MAX_PROMPT;

/// Prompts that can be called back.
const HISTORY: usize = 200;
/// Steps that can be undone.
const UNDO: usize = 50;
/// A longer text is kept and sent as it is, and is not shown, in bytes: each key would measure all of it again.
const SHOWN: usize = 64 * 1024;

/// A prompt that is being typed.
pub struct Editor {
    area: TextArea<'static>,
    /// A text that is too long to be shown.
    long: Option<String>,
    /// Prompts that were sent from here, the oldest first.
    sent: Vec<String>,
    /// The prompt of the history that is shown, counted from the newest, and all of them.
    recalled: Option<(usize, Vec<String>)>,
    /// The text that was typed before the history was called.
    draft: String,
}

/// The text is longer than a prompt may be.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl Editor {
    /// An empty one.
    pub fn new() -> Self {
        Self { area: area(""), long: None, sent: Vec::new(), recalled: None, draft: String::new() }
    }

    /// The text.
    pub fn text(&self) -> String {
        self.long.clone().unwrap_or_else(|| self.area.lines().join("\n"))
    }

    /// The text that was typed and not sent: not a prompt that was called back.
    pub fn unsent(&self) -> String {
        match &self.recalled {
            Some((at, all)) if all.get(*at) == Some(&self.text()) => self.draft.clone(),
            _ => self.text(),
        }
    }

    /// Returns true if nothing is typed.
    pub fn is_empty(&self) -> bool {
        self.long.is_none() && self.area.lines().iter().all(String::is_empty)
    }

    /// Replaces the text.
    pub fn set(&mut self, text: &str) {
        (self.long, self.area) = match text.len() {
            ..=SHOWN => (None, area(text)),
            _ => (Some(text.to_owned()), area("")),
        };
    }

    /// Takes the text out, to be sent.
    pub fn take(&mut self) -> String {
        let text = self.text();
        self.set("");
        self.recalled = None;
        if self.sent.last() != Some(&text) {
            self.sent.push(text.clone());
        }
        if self.sent.len() > HISTORY {
            self.sent.remove(0);
        }
        text
    }

    /// Inserts a text that was pasted.
    ///
    /// # Errors
    /// That it would be longer than a prompt may be: nothing changes.
    pub fn paste(&mut self, text: &str) -> Result<(), TooLong> {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let length = self.text().len() + text.len();
        match &mut self.long {
            _ if length > MAX_PROMPT => return Err(TooLong),
            Some(long) => long.push_str(&text),
            None if length > SHOWN => {
                let mut parts = self.parts();
                parts.0.push_str(&text);
                self.set(&(parts.0 + &parts.1));
            }
            None => drop(self.area.insert_str(&text)),
        }
        Ok(())
    }

    /// The text before the cursor and behind it.
    fn parts(&self) -> (String, String) {
        let cursor = self.area.cursor();
        let (row, column) = (cursor.0, cursor.1);
        let lines = self.area.lines();
        let at = lines[row].char_indices().nth(column).map_or(lines[row].len(), |(at, _)| at);
        let (before, behind) = lines[row].split_at(at);
        let before: Vec<&str> = lines[..row].iter().map(String::as_str).chain([before]).collect();
        let behind: Vec<&str> =
            [behind].into_iter().chain(lines[row + 1..].iter().map(String::as_str)).collect();
        (before.join("\n"), behind.join("\n"))
    }

    /// Does what a key means. `prompts` are those of the conversation, the newest first.
    ///
    /// # Errors
    /// That the text is as long as a prompt may be.
    pub fn key<'a>(&mut self, key: KeyEvent, prompts: impl Iterator<Item = &'a str>) -> Result<(), TooLong> {
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('j') if ctrl => return self.paste("\n"),
            KeyCode::Enter => return self.paste("\n"),
            KeyCode::Char('u') if ctrl && self.long.is_some() => self.set(""),
            KeyCode::Char('u') if ctrl => drop(self.area.delete_line_by_head()),
            KeyCode::Char(c) if self.long.is_some() && !ctrl => {
                return self.paste(c.encode_utf8(&mut [0; 4]));
            }
            KeyCode::Backspace if self.long.is_some() => {
                let mut text = self.text();
                text.pop();
                self.set(&text);
            }
            KeyCode::Up if self.area.screen_cursor().row == 0 => self.recall(1, prompts),
            KeyCode::Down => {
                let before = self.area.cursor();
                self.area.move_cursor(CursorMove::Down);
                if self.area.cursor() == before {
                    self.recall(-1, prompts);
                }
            }
            _ if self.long.is_some() => {}
            KeyCode::Char(c) if !ctrl && self.text().len() + c.len_utf8() > MAX_PROMPT => {
                return Err(TooLong);
            }
            _ => drop(self.area.input(key)),
        }
        if self.long.is_none() && self.area.lines().iter().map(|line| line.len() + 1).sum::<usize>() > SHOWN {
            self.set(&self.text());
        }
        Ok(())
    }

    /// Calls an older prompt back, or a newer one.
    fn recall<'a>(&mut self, by: isize, prompts: impl Iterator<Item = &'a str>) {
        let (at, all) = match self.recalled.take() {
            Some((at, all)) => (at.checked_add_signed(by), all),
            None if by < 0 => return,
            None => {
                let mut all: Vec<String> = self.sent.iter().rev().cloned().collect();
                for prompt in prompts.take(HISTORY) {
                    if !all.iter().any(|known| known == prompt) {
                        all.push(prompt.to_owned());
                    }
                }
                self.draft = self.text();
                (Some(0), all)
            }
        };
        match at {
            Some(at) if at < all.len() => {
                self.set(&all[at]);
                self.recalled = Some((at, all));
            }
            Some(_) => self.recalled = all.len().checked_sub(1).map(|last| (last, all)),
            None => {
                let draft = std::mem::take(&mut self.draft);
                self.set(&draft);
            }
        }
    }

    /// Lines that the text takes on a screen of this width.
    pub fn height(&self, width: usize) -> usize {
        let width = width.max(1);
        self.area.lines().iter().map(|line| line.width() / width + 1).sum()
    }

    /// The widget that shows the text.
    pub fn widget(&self) -> &TextArea<'static> {
        &self.area
    }

    /// The length of a text that is not shown, in bytes.
    pub fn hidden(&self) -> Option<usize> {
        self.long.as_ref().map(String::len)
    }
}

fn area(text: &str) -> TextArea<'static> {
    let mut area = TextArea::new(text.split('\n').map(str::to_owned).collect());
    area.set_wrap_mode(WrapMode::WordOrGlyph);
    area.set_cursor_line_style(Style::new());
    area.set_cursor_style(Style::new().add_modifier(Modifier::REVERSED));
    area.set_max_histories(UNDO);
    area.move_cursor(CursorMove::Bottom);
    area.move_cursor(CursorMove::End);
    area
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(editor: &mut Editor, code: KeyCode, modifiers: KeyModifiers) {
        editor.key(KeyEvent::new(code, modifiers), ["older", "oldest"].into_iter()).unwrap();
    }

    #[test]
    fn a_paste_stays_whole_whatever_its_length_and_its_ends_of_lines() {
        let mut editor = Editor::new();
        editor.paste("one\r\ntwo\rthree\n\tfour").unwrap();
        assert_eq!(editor.take(), "one\ntwo\nthree\n\tfour");
        let long = "x".repeat(6_000);
        editor.paste(&long).unwrap();
        assert_eq!(editor.take(), long);
        let longer = "y".repeat(MAX_PROMPT);
        editor.paste(&longer).unwrap();
        assert_eq!(editor.hidden(), Some(MAX_PROMPT));
        assert_eq!(editor.paste("z"), Err(TooLong));
        press(&mut editor, KeyCode::Backspace, KeyModifiers::NONE);
        press(&mut editor, KeyCode::Char('é'), KeyModifiers::CONTROL);
        assert_eq!(editor.take(), longer[1..]);
        assert!(editor.is_empty());
    }

    #[test]
    fn a_long_paste_goes_where_the_cursor_is() {
        let mut editor = Editor::new();
        editor.set("head\ntail");
        press(&mut editor, KeyCode::Up, KeyModifiers::NONE);
        press(&mut editor, KeyCode::Char('e'), KeyModifiers::CONTROL);
        editor.paste(&"x".repeat(SHOWN)).unwrap();
        let text = editor.take();
        assert!(text.starts_with("headx") && text.ends_with("x\ntail"), "{}", text.len());
    }

    #[test]
    fn the_history_keeps_what_was_being_typed() {
        let mut editor = Editor::new();
        editor.set("sent");
        editor.take();
        editor.set("draft");
        for expected in ["sent", "older", "oldest", "oldest"] {
            press(&mut editor, KeyCode::Up, KeyModifiers::NONE);
            assert_eq!(editor.text(), expected);
        }
        for expected in ["older", "sent", "draft", "draft"] {
            press(&mut editor, KeyCode::Down, KeyModifiers::NONE);
            assert_eq!(editor.text(), expected);
        }
    }

    #[test]
    fn keys_edit_as_shells_do() {
        let mut editor = Editor::new();
        editor.set("one two");
        press(&mut editor, KeyCode::Char('w'), KeyModifiers::CONTROL);
        assert_eq!(editor.text(), "one ");
        press(&mut editor, KeyCode::Char('j'), KeyModifiers::CONTROL);
        press(&mut editor, KeyCode::Char('x'), KeyModifiers::NONE);
        assert_eq!(editor.text(), "one \nx");
        press(&mut editor, KeyCode::Char('u'), KeyModifiers::CONTROL);
        assert_eq!(editor.text(), "one \n");
    }
}
