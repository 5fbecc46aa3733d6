//! The part of the conversation that is on the screen. Items are drawn only when they are shown, and kept until they change.

use std::collections::HashMap;
use std::rc::Rc;

use protocol::EventId;
use ratatui::text::Line;

use super::lines::{Look, lines};
use crate::cli::attach::conversation::{Conversation, Item, Kind};

/// Lines of items that are kept drawn.
const KEPT: usize = 50_000;
/// Lines that stay above what a search has found.
const ABOVE: usize = 2;

/// A line of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    number: i64,
    line: usize,
}

/// The lines of an item, and its revision.
type Drawn = (u32, Rc<Vec<Line<'static>>>);

/// The position in the conversation.
#[derive(Debug)]
pub struct Scroll {
    /// The first line on the screen; none while the screen follows the end.
    first: Option<Place>,
    /// An event that is to be on the screen.
    wanted: Option<EventId>,
    /// The first line that was drawn last.
    top: Place,
    /// The line that a search found last.
    found: Option<Place>,
    width: usize,
    look: Look,
    drawn: HashMap<i64, Drawn>,
    kept: usize,
    /// Lines on the screen.
    pub height: usize,
}

impl Scroll {
    /// Follows the end.
    pub fn new(look: Look) -> Self {
        let top = Place::default();
        let (first, wanted, found, drawn) = (None, None, None, HashMap::new());
        Self { first, wanted, top, found, width: 80, look, drawn, kept: 0, height: 0 }
    }

    /// Returns true while the end is on the screen.
    pub fn follows(&self) -> bool {
        self.first.is_none() && self.wanted.is_none()
    }

    /// Shows the item of an event, or the one before it, near the upper end.
    pub fn show(&mut self, event: EventId) {
        self.wanted = Some(event);
    }

    /// Goes to the event that is wanted, now that the size is known. A prompt has the number of the event that accepted it, and its item
    /// stands where it began.
    fn go_to_wanted(&mut self, chat: &Conversation) {
        let Some(event) = self.wanted.take() else { return };
        let is_prompt = |item: &Item| matches!(item.kind, Kind::Prompt(id, _) if id.0 == event);
        let items = chat.items();
        let at =
            items.iter().position(is_prompt).or_else(|| items.iter().rposition(|item| item.first <= event));
        if let Some(item) = items.get(at.unwrap_or(0)) {
            self.top = Place { number: item.number, line: 0 };
            self.up(chat, ABOVE);
        }
    }

    /// The lines on a screen of this size.
    pub fn visible(
        &mut self,
        chat: &Conversation,
        width: usize,
        height: usize,
        look: Look,
    ) -> Vec<Line<'static>> {
        if (self.width, self.look) != (width, look) || self.kept > KEPT {
            self.drawn.clear();
            self.kept = 0;
        }
        (self.width, self.look, self.height) = (width, look, height);
        self.go_to_wanted(chat);
        if let Some(first) = self.first {
            let (shown, is_end) = self.from(chat, first);
            if is_end {
                self.first = None;
            }
            if shown.len() == height {
                return shown;
            }
        }
        self.last(chat)
    }

    /// The lines from there on, and whether they reach the end.
    fn from(&mut self, chat: &Conversation, first: Place) -> (Vec<Line<'static>>, bool) {
        let mut shown = Vec::new();
        let mut at = chat.index(first.number);
        let mut skip = match chat.items().get(at) {
            Some(item) if item.number == first.number => first.line,
            _ => 0,
        };
        self.top = Place { number: chat.items().get(at).map_or(0, |item| item.number), line: skip };
        while at < chat.items().len() {
            let lines = self.lines(chat, at);
            let room = self.height - shown.len();
            shown.extend(lines.iter().skip(skip).take(room).cloned());
            if lines.len().saturating_sub(skip) > room {
                return (shown, false);
            }
            (at, skip) = (at + 1, 0);
        }
        (shown, true)
    }

    /// The last lines.
    fn last(&mut self, chat: &Conversation) -> Vec<Line<'static>> {
        let (mut at, mut left) = (chat.items().len(), self.height);
        let mut top = Place::default();
        while left > 0 && at > 0 {
            at -= 1;
            let count = self.lines(chat, at).len();
            top = Place { number: chat.items()[at].number, line: count.saturating_sub(left) };
            left = left.saturating_sub(count);
        }
        self.from(chat, top).0
    }

    fn lines(&mut self, chat: &Conversation, at: usize) -> Rc<Vec<Line<'static>>> {
        let item = &chat.items()[at];
        if let Some((revision, known)) = self.drawn.get(&item.number)
            && *revision == item.revision
        {
            return known.clone();
        }
        let drawn = Rc::new(lines(item, self.width, self.look));
        self.kept += drawn.len();
        self.drawn.insert(item.number, (item.revision, drawn.clone()));
        drawn
    }

    /// Goes up by so many lines. Returns true if the beginning of the items is reached.
    pub fn up(&mut self, chat: &Conversation, lines: usize) -> bool {
        let (mut place, mut left) = (self.top, lines);
        let mut is_beginning = false;
        while place.line < left {
            left -= place.line;
            let Some(at) = chat.index(place.number).checked_sub(1) else {
                (is_beginning, left, place.line) = (true, 0, 0);
                break;
            };
            place = Place { number: chat.items()[at].number, line: self.lines(chat, at).len() };
        }
        place.line -= left;
        self.first = Some(place);
        self.top = place;
        is_beginning
    }

    /// Goes down by so many lines, at most to the end.
    pub fn down(&mut self, chat: &Conversation, lines: usize) {
        let Some(mut place) = self.first else { return };
        place.line += lines;
        let mut at = chat.index(place.number);
        while at < chat.items().len() {
            let count = self.lines(chat, at).len();
            place.number = chat.items()[at].number;
            if place.line < count {
                self.first = Some(place);
                return;
            }
            place.line -= count;
            at += 1;
        }
        self.first = None;
    }

    /// Goes on by a page from what is on the screen, once more was loaded behind it.
    pub fn go_on(&mut self, chat: &Conversation) {
        if self.follows() {
            self.first = Some(self.top);
            self.down(chat, self.height.saturating_sub(1).max(1));
        }
    }

    /// Goes to the first line of all items.
    pub fn go_to_beginning(&mut self, chat: &Conversation) {
        self.first = chat.items().front().map(|item| Place { number: item.number, line: 0 });
    }

    /// Follows the end.
    pub fn go_to_end(&mut self) {
        (self.first, self.wanted, self.found) = (None, None, None);
    }

    /// Forgets what a search has found.
    pub fn search_anew(&mut self) {
        self.found = None;
    }

    /// Goes to the next line that has this text, without regard to case: an older one, or a newer one. Returns false if there is none.
    pub fn find(&mut self, chat: &Conversation, text: &str, older: bool) -> bool {
        let text = text.to_lowercase();
        let count = chat.items().len();
        if text.is_empty() || count == 0 {
            return false;
        }
        let from = self.found.unwrap_or(Place { number: i64::MAX, line: 0 });
        let begin = chat.index(from.number);
        let order: Vec<usize> =
            if older { (0..=begin.min(count - 1)).rev().collect() } else { (begin..count).collect() };
        for at in order {
            let item = &chat.items()[at];
            if !item.kind.searched().to_lowercase().contains(&text) {
                continue;
            }
            let (number, lines) = (item.number, self.lines(chat, at));
            let is_next = |line: &usize| {
                let place = Place { number, line: *line };
                if older { place < from } else { place > from }
            };
            let has = |line: &usize| lines[*line].to_string().to_lowercase().contains(&text);
            // A text that is broken between two lines is shown from the item's first line on.
            let is_broken = !(0..lines.len()).any(|line| has(&line));
            let mut found =
                (0..lines.len()).filter(|line| (has(line) || is_broken && *line == 0) && is_next(line));
            let found = if older { found.next_back() } else { found.next() };
            if let Some(line) = found {
                let place = Place { number, line };
                (self.found, self.top) = (Some(place), place);
                self.up(chat, ABOVE);
                return true;
            }
        }
        false
    }
}
