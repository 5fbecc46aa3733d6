//! The state of the screen, without the terminal.

use protocol::PromptId;
use tokio::time::Instant;

use super::editor::Editor;
use super::lines::Look;
use super::scroll::Scroll;
use crate::cli::attach::keyboard::Typed;

/// Texts that were not sent and are kept.
const UNSENT: usize = 8;

/// The state of the screen, without the terminal.
pub struct Face {
    /// The prompt that is typed.
    pub editor: Editor,
    /// When somebody began to type it.
    pub began: Instant,
    /// The position in the conversation.
    pub scroll: Scroll,
    /// The meaning of keys.
    pub mode: Mode,
    /// The look.
    pub look: Look,
    /// The first of two keys that detach: Ctrl-P of Ctrl-P Ctrl-Q, or Ctrl-B of Ctrl-B d.
    pub prefix: Option<char>,
    /// The prompt whose turn Ctrl-C has ended.
    pub aborted: Option<PromptId>,
    /// Older events are being loaded.
    pub loads: bool,
    /// Texts that were not sent, the newest first.
    pub unsent: Vec<String>,
    /// The other machine.
    pub host: Option<String>,
}

/// The meaning of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A prompt is typed.
    Write,
    /// A text is typed to be searched for.
    Search(String),
    /// The person is asked whether to detach.
    Detach,
    /// The person is asked whether to drive instead of another client.
    TakeOver,
    /// The person is asked what becomes of a prompt whose turn was cut off.
    Resolve(PromptId),
    /// The keys are shown, from this line on.
    Help(usize),
}

/// A request of a key beyond the screen.
pub enum Act {
    /// Nothing.
    Nothing,
    /// For the rest of `attach`.
    Say(Typed),
    /// Put this into the clipboard.
    Copy(String),
    /// Draw everything anew.
    Redraw,
}

impl Face {
    /// Nothing is typed, and the end is followed. `host` names another machine.
    pub fn new(colour: bool, host: Option<&str>) -> Self {
        let look = Look { colour, unfolded: false };
        Self {
            editor: Editor::new(),
            began: Instant::now(),
            scroll: Scroll::new(look),
            mode: Mode::Write,
            look,
            prefix: None,
            aborted: None,
            loads: false,
            unsent: Vec::new(),
            host: host.map(str::to_owned),
        }
    }

    /// Gives a text back that was not sent. Where something else is typed already, Up brings it.
    pub fn give_back(&mut self, text: &str) {
        self.unsent.truncate(UNSENT - 1);
        self.unsent.insert(0, text.to_owned());
        if self.editor.is_empty() {
            self.editor.set(text);
        }
    }
}
