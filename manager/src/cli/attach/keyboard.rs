//! Input: lines from a terminal or a pipe, and the keys that detach.
//!
//! A terminal that edits lines by itself keeps 4,095 bytes of a line and drops the rest silently
//! (termios(3)). So a terminal hands over each key here, and [`Editor`] edits the line.

use std::io::{self, BufRead, ErrorKind, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol::PromptId;
use protocol::event::Resolution;
use rustix::termios::{InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use signal_hook::consts::SIGINT;
use tokio::sync::mpsc;
use unicode_width::UnicodeWidthStr;

use crate::cli::ui;
use crate::session_manager::MAX_PROMPT;
use crate::terminal_text as sgr;

/// Ctrl-P Ctrl-Q, as docker has it.
const DETACH: [u8; 2] = [0x10, 0x11];
/// Lines that are typed ahead.
const AHEAD: usize = 64;
/// The character that clears a line, whatever the terminal calls it.
const ESCAPE: u8 = 0x1b;

/// Input of a person or a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// A line, without its end.
    Line(String),
    /// A line with more than [`MAX_PROMPT`] bytes. Its text is gone.
    TooLong,
    /// The keys that detach, or the end of what is typed at a terminal.
    Detach,
    /// A pipe or file has come to its end.
    End,
    /// End the turn of this prompt, in which the key was pressed.
    Abort(PromptId),
    /// Drive instead of whoever drives.
    TakeOver,
    /// Older events are to be loaded.
    Older,
    /// The events behind those on the screen are to be loaded.
    Later,
    /// The newest events are to be loaded again.
    Newest,
    /// Decide what becomes of a prompt whose turn was cut off.
    Resolve(PromptId, Resolution),
    /// Stop this process, as Ctrl-Z does.
    Suspend,
}

/// Reads standard input in a thread of its own, which ends with the process.
pub fn typed(terminal: Option<&Terminal>) -> mpsc::Receiver<Typed> {
    let (sender, lines) = mpsc::channel(AHEAD);
    let is_terminal = io::stdin().is_terminal();
    let editor = terminal.map(Terminal::editor);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        match editor {
            Some(editor) => edited(&mut stdin, editor, &sender),
            None => plain(&mut stdin, is_terminal, &sender),
        };
    });
    lines
}

type Sender = mpsc::Sender<Typed>;

/// Sends the input line by line. Returns at the end of the input or when the receiver is gone.
fn plain(from: &mut impl BufRead, is_terminal: bool, to: &Sender) {
    let end = || if is_terminal { Typed::Detach } else { Typed::End };
    loop {
        let typed = read_line(from).unwrap_or_else(end);
        let last = matches!(typed, Typed::Detach | Typed::End);
        if to.blocking_send(typed).is_err() || last {
            return;
        }
    }
}

/// Reads to the end of a line, or to the keys that detach. Returns none at the end of the input.
fn read_line(from: &mut impl BufRead) -> Option<Typed> {
    let (mut line, mut before, mut any, mut too_long) = (Vec::new(), 0, false, false);
    loop {
        let buffer = match from.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return None,
        };
        let is_last = buffer.is_empty();
        let mut taken = 0;
        let mut whole = is_last && any;
        for byte in buffer {
            taken += 1;
            if [before, *byte] == DETACH {
                return Some(Typed::Detach);
            }
            before = *byte;
            any = true;
            match byte {
                b'\n' => {
                    whole = true;
                    break;
                }
                _ if line.len() > MAX_PROMPT => too_long = true,
                byte => line.push(*byte),
            }
        }
        from.consume(taken);
        if whole {
            return Some(line_of(line, too_long));
        }
        if is_last {
            return None;
        }
    }
}

fn line_of(line: Vec<u8>, too_long: bool) -> Typed {
    if too_long || line.len() > MAX_PROMPT {
        return Typed::TooLong;
    }
    Typed::Line(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
}

/// Sends the lines that are edited here. Returns at the end of the input or when the receiver is gone.
fn edited(from: &mut impl BufRead, mut editor: Editor, to: &Sender) {
    let interrupted = Arc::new(AtomicBool::new(false));
    // Without it Ctrl-C leaves what was typed where it is.
    let _ = signal_hook::flag::register(SIGINT, interrupted.clone());
    loop {
        let bytes = match from.fill_buf() {
            Ok(bytes) if !bytes.is_empty() => bytes.to_vec(),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(_) | Err(_) => {
                // A receiver that is gone needs no message.
                let _ = to.blocking_send(Typed::Detach);
                return;
            }
        };
        from.consume(bytes.len());
        if interrupted.swap(false, Ordering::SeqCst) {
            editor.clear();
        }
        for byte in bytes {
            let Some(typed) = editor.take(byte) else { continue };
            editor.flush();
            let last = typed == Typed::Detach;
            if to.blocking_send(typed).is_err() || last {
                return;
            }
        }
        editor.flush();
    }
}

/// Edits a line as terminals do: erase a character, erase a word, erase all. What it cannot do with a key, it ignores.
struct Editor {
    line: Vec<u8>,
    too_long: bool,
    before: u8,
    /// The position within the escape sequence of an arrow or function key.
    sequence: Sequence,
    keys: Keys,
    echo: Option<Echo>,
}

/// The characters that edit, as the person has set them (stty(1)).
#[derive(Clone, Copy)]
struct Keys {
    erase: u8,
    word: u8,
    all: u8,
    end: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sequence {
    None,
    Begun,
    Inside,
}

/// Bytes for the terminal, until they are flushed.
#[derive(Default)]
struct Echo {
    text: Vec<u8>,
    erase: usize,
}

impl Editor {
    fn new(keys: Keys, echoes: bool) -> Self {
        let echo = echoes.then(Echo::default);
        Self { line: Vec::new(), too_long: false, before: 0, sequence: Sequence::None, keys, echo }
    }

    /// Takes a key. Returns what it completes.
    fn take(&mut self, byte: u8) -> Option<Typed> {
        let before = std::mem::replace(&mut self.before, byte);
        if [before, byte] == DETACH {
            return Some(Typed::Detach);
        }
        match self.sequence {
            Sequence::None if byte == ESCAPE => self.sequence = Sequence::Begun,
            Sequence::Begun if matches!(byte, b'[' | b'O') => self.sequence = Sequence::Inside,
            Sequence::Begun => self.sequence = Sequence::None,
            Sequence::Inside if matches!(byte, 0x40..=0x7e) => self.sequence = Sequence::None,
            Sequence::Inside => {}
            Sequence::None => return self.edit(byte),
        }
        None
    }

    fn edit(&mut self, byte: u8) -> Option<Typed> {
        match byte {
            b'\n' | b'\r' => {
                self.show(b"\n");
                let too_long = std::mem::take(&mut self.too_long);
                return Some(line_of(std::mem::take(&mut self.line), too_long));
            }
            byte if byte == self.keys.end && self.line.is_empty() => return Some(Typed::Detach),
            byte if byte == self.keys.end => {}
            byte if byte == self.keys.erase || matches!(byte, 0x7f | 0x08) => self.erase_one(),
            byte if byte == self.keys.all => {
                while !self.line.is_empty() {
                    self.erase_one();
                }
                self.too_long = false;
            }
            byte if byte == self.keys.word => {
                let blank = |line: &[u8]| line.last().is_none_or(u8::is_ascii_whitespace);
                while blank(&self.line) && !self.line.is_empty() {
                    self.erase_one();
                }
                while !blank(&self.line) {
                    self.erase_one();
                }
            }
            b'\t' | 0x20.. if self.line.len() > MAX_PROMPT => self.too_long = true,
            b'\t' | 0x20.. => {
                self.line.push(byte);
                let shown = if byte == b'\t' { b' ' } else { byte };
                self.show(&[shown]);
            }
            // Other controls are keys of nothing here.
            _ => {}
        }
        None
    }

    fn erase_one(&mut self) {
        let tail = &self.line[self.line.len().saturating_sub(4)..];
        let last = (0..tail.len()).rev().find_map(|at| std::str::from_utf8(&tail[at..]).ok()?.chars().next());
        let (bytes, width) = match last {
            Some(c) => (c.len_utf8(), width(c)),
            // Not UTF-8, and shown as one replacement character.
            None => (tail.len().min(1), 1),
        };
        self.line.truncate(self.line.len() - bytes);
        if let Some(echo) = &mut self.echo
            && bytes > 0
        {
            if !echo.text.is_empty() {
                echo.flush();
            }
            echo.erase += width;
        }
    }

    fn show(&mut self, bytes: &[u8]) {
        if let Some(echo) = &mut self.echo {
            echo.text.extend_from_slice(bytes);
        }
    }

    /// Forgets what was typed of a line.
    fn clear(&mut self) {
        self.line.clear();
        (self.too_long, self.before, self.sequence) = (false, 0, Sequence::None);
        self.show(b"\n");
    }

    /// Shows on the terminal what there is to be shown.
    fn flush(&mut self) {
        if let Some(echo) = &mut self.echo {
            echo.flush();
        }
    }
}

impl Echo {
    fn flush(&mut self) {
        if self.erase > 0 {
            ui::erase(std::mem::take(&mut self.erase));
        }
        // A character may be typed by several bytes.
        let whole = match std::str::from_utf8(&self.text) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => self.text.len(),
        };
        if whole > 0 {
            ui::echo(&String::from_utf8_lossy(&self.text[..whole]));
            self.text.drain(..whole);
        }
    }
}

/// Returns the number of columns that a character takes on a terminal, as it is shown.
fn width(c: char) -> usize {
    let mut shown = String::new();
    sgr::push(&mut shown, c);
    shown.width()
}

/// A terminal that hands over every key, until this is dropped. Ctrl-C, Ctrl-Z and Ctrl-\ stay signals.
pub struct Terminal {
    before: Termios,
    echoes: bool,
}

impl Terminal {
    /// Of standard input, if that is a terminal and there is one to show on what is typed.
    pub fn new() -> Option<Self> {
        let before = rustix::termios::tcgetattr(io::stdin()).ok()?;
        if !ui::has_terminal() {
            return None;
        }
        let echoes = before.local_modes.contains(LocalModes::ECHO);
        let terminal = Self { before, echoes };
        terminal.take();
        Some(terminal)
    }

    /// Has every key handed over. A shell may have set the terminal otherwise while this process was stopped.
    pub fn take(&self) {
        let mut with = self.before.clone();
        with.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        // Without this the terminal takes Ctrl-Q for itself, to go on after Ctrl-S.
        with.input_modes.remove(InputModes::IXON);
        with.special_codes[SpecialCodeIndex::VMIN] = 1;
        with.special_codes[SpecialCodeIndex::VTIME] = 0;
        self.set(&with);
    }

    /// Puts the terminal back as it was.
    pub fn give_back(&self) {
        self.set(&self.before);
    }

    fn set(&self, to: &Termios) {
        let stdin = io::stdin();
        // The kernel stops a background process that sets the terminal.
        let ours = rustix::termios::tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp());
        if ours {
            // A terminal that is gone needs nothing.
            let _ = rustix::termios::tcsetattr(&stdin, OptionalActions::Now, to);
        }
    }

    fn editor(&self) -> Editor {
        let code = |index| self.before.special_codes[index];
        let keys = Keys {
            erase: code(SpecialCodeIndex::VERASE),
            word: code(SpecialCodeIndex::VWERASE),
            all: code(SpecialCodeIndex::VKILL),
            end: code(SpecialCodeIndex::VEOF),
        };
        Editor::new(keys, self.echoes)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Stops this process as Ctrl-Z does, if a shell is there that can let it go on. Returns false if there is none.
pub fn stop() -> bool {
    let parent = rustix::process::getppid();
    let session = rustix::process::getsid(None).ok();
    let in_session = parent.is_some() && rustix::process::getsid(parent).ok() == session;
    let other_group = rustix::process::getpgid(parent).ok() != Some(rustix::process::getpgrp());
    if in_session && other_group {
        // A process that cannot be stopped goes on.
        let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP);
    }
    in_session && other_group
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(typed: &[u8]) -> Vec<Typed> {
        let mut from = typed;
        let mut all: Vec<Typed> = Vec::new();
        while all.last() != Some(&Typed::Detach)
            && let Some(typed) = read_line(&mut from)
        {
            all.push(typed);
        }
        all
    }

    fn line(text: &str) -> Typed {
        Typed::Line(text.into())
    }

    #[test]
    fn the_keys_that_detach_end_what_is_typed_wherever_they_come() {
        assert_eq!(lines(b"one\ntwo\r\n"), [line("one"), line("two")]);
        assert_eq!(lines(b"one\n\x10\x11two\n"), [line("one"), Typed::Detach]);
        assert_eq!(lines(b"half a li\x10\x11"), [Typed::Detach]);
        assert_eq!(lines(b"ctrl-q \x11 alone\n"), [line("ctrl-q \x11 alone")]);
        assert_eq!(lines(b"no end"), [line("no end")]);
        assert_eq!(lines(b"\n\n"), [line(""), line("")]);
        let mut long = vec![b'x'; MAX_PROMPT];
        long.extend(b"\nafter\n");
        assert_eq!(lines(&long)[1], line("after"));
        long.insert(0, b'x');
        assert_eq!(lines(&long), [Typed::TooLong, line("after")]);
    }

    fn edit(keys: &[u8]) -> Vec<Typed> {
        let mut editor = Editor::new(Keys { erase: 0x7f, word: 0x17, all: 0x15, end: 4 }, false);
        keys.iter().filter_map(|byte| editor.take(*byte)).collect()
    }

    #[test]
    fn a_line_is_edited_as_terminals_do() {
        assert_eq!(edit(b"hellp\x7fo\n"), [line("hello")]);
        assert_eq!(edit("Ä\u{7f}Öl\u{7f}\u{7f}\u{7f}\u{7f}ok\n".as_bytes()), [line("ok")]);
        assert_eq!(edit(b"one two  \x17\x17three\n"), [line("three")]);
        assert_eq!(edit(b"gone\x15kept\n"), [line("kept")]);
        assert_eq!(edit(b"\x7f\x17\x15a\n"), [line("a")]);
        assert_eq!(edit(b"ab\xff\x7f\x7fc\n"), [line("ac")]);
        assert_eq!(edit(b"a\x1b[1;5Cb\x1bOPc\x01\n"), [line("abc")]);
        assert_eq!(edit(b"a\x04b\n\x04"), [line("ab"), Typed::Detach]);
        assert_eq!(edit(b"a\x10\x11"), [Typed::Detach]);
        let mut long = vec![b'x'; MAX_PROMPT + 2];
        long.extend(b"\nafter\n");
        assert_eq!(edit(&long), [Typed::TooLong, line("after")]);
    }

    #[test]
    fn what_is_erased_on_the_screen_is_as_wide_as_what_was_shown() {
        assert_eq!(['a', 'ä', '漢', '🙂', '\u{301}'].map(width), [1, 1, 2, 2, 0]);
        assert_eq!(width('\u{202e}'), "\\u{202e}".len());
    }
}
