//! A single pass over the bytes of a message that measures its depth and its size in memory, and finds its id and its
//! method.

use serde_json::Value;

use super::{COST, DEPTH, Head, Why};
use crate::bounds;

/// Memory of an array's element, in bytes: a [`Value`], twice for the growth of its vector, and a small allocation.
const ELEMENT: usize = 192;
/// Memory of an object's field, in bytes: its name, its value, its place in the table.
const FIELD: usize = 352;
/// Memory of the first element of an array, or the first field of an object, in bytes: the container allocates space
/// for four.
const FIRST: usize = 640;
/// The longest name or id that [`Scan`] keeps, in bytes.
const TOKEN: usize = bounds::ID;

/// Looks at JSON as it comes, in pieces of any size, and keeps a few hundred bytes at most.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    depth: u32,
    pub(super) deepest: u32,
    /// Which of the innermost 64 levels are objects, the innermost last.
    objects: u64,
    /// The innermost level has no element yet.
    empty: bool,
    pub(super) cost: usize,
    in_string: bool,
    escaped: bool,
    is_object: bool,
    closed: bool,
    part: Part,
    key: Key,
    token: Vec<u8>,
    /// `token` is not all of it.
    over: bool,
    id: Found,
    method: Found,
}

/// Position of a scan at the outermost level.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Part {
    #[default]
    Key,
    Value,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Key {
    Id,
    Method,
    #[default]
    Other,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Found {
    #[default]
    Not,
    /// The value is there, but is too long to keep.
    Untold,
    Told(Vec<u8>),
}

impl Scan {
    /// Looks at the next piece.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if self.escaped {
                self.escaped = false;
                self.keep(&[byte]);
                rest = after;
            } else if self.in_string {
                let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
                let inside = end.unwrap_or(rest.len());
                self.keep(&rest[..inside]);
                rest = &rest[inside..];
                if let Some((&byte, after)) = rest.split_first() {
                    (self.in_string, self.escaped) = (byte != b'"', byte == b'\\');
                    self.keep(&[byte]);
                    rest = after;
                }
            } else {
                self.outside(byte);
                rest = after;
            }
        }
    }

    fn outside(&mut self, byte: u8) {
        if byte.is_ascii_whitespace() {
            return;
        }
        if !matches!(byte, b']' | b'}') && std::mem::take(&mut self.empty) {
            self.cost += FIRST;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                self.keep(b"\"");
            }
            b'{' | b'[' => {
                if self.depth == 0 && !self.closed {
                    self.is_object = byte == b'{';
                }
                self.keep(&[byte]);
                self.depth += 1;
                self.deepest = self.deepest.max(self.depth);
                self.objects = self.objects << 1 | u64::from(byte == b'{');
                self.empty = true;
            }
            b'}' | b']' => {
                if self.depth == 1 {
                    self.settle();
                    self.closed = true;
                }
                self.depth = self.depth.saturating_sub(1);
                self.objects >>= 1;
                self.empty = false;
            }
            b',' => {
                self.cost += if self.objects & 1 == 1 { FIELD } else { ELEMENT };
                if self.depth == 1 {
                    self.settle();
                }
            }
            b':' if self.depth == 1 && self.part == Part::Key => {
                self.key = match &self.token[..] {
                    b"\"id\"" => Key::Id,
                    b"\"method\"" => Key::Method,
                    _ => Key::Other,
                };
                self.part = Part::Value;
                (self.token, self.over) = (Vec::new(), false);
            }
            _ => self.keep(&[byte]),
        }
    }

    /// Keeps what may be a name, an id or a method.
    fn keep(&mut self, bytes: &[u8]) {
        let wanted = self.part == Part::Key || self.key != Key::Other;
        if self.depth != 1 || !wanted || self.over || bytes.is_empty() {
            return;
        }
        if self.token.len() + bytes.len() > TOKEN {
            self.over = true;
            self.token = Vec::new();
        } else {
            self.token.extend_from_slice(bytes);
        }
    }

    /// A field of the outermost level has come to its end.
    fn settle(&mut self) {
        let token = std::mem::take(&mut self.token);
        let (part, over) = (std::mem::take(&mut self.part), std::mem::take(&mut self.over));
        if part != Part::Value || !self.is_object {
            return;
        }
        let found = if over { Found::Untold } else { Found::Told(token) };
        match std::mem::take(&mut self.key) {
            Key::Id => self.id = found,
            Key::Method => self.method = found,
            Key::Other => {}
        }
    }

    /// The limit that the message exceeds; `None` if it exceeds none.
    pub fn excess(&self) -> Option<Why> {
        if self.deepest > DEPTH { Some(Why::TooDeep) } else { (self.cost > COST).then_some(Why::TooMuch) }
    }

    /// Returns the id and the method that the scan has found at the outermost level so far.
    pub fn head(&self) -> Box<Head> {
        let value = |found: &Found| match found {
            Found::Told(token) => serde_json::from_slice::<Value>(token).ok(),
            Found::Not | Found::Untold => None,
        };
        let (id, method) = (value(&self.id), value(&self.method));
        let is_whole = self.closed && self.depth == 0 && !self.in_string;
        let has_id = self.id != Found::Not && id != Some(Value::Null);
        Box::new(Head {
            id: id.filter(|id| id.is_string() || id.is_number()),
            method: method.as_ref().and_then(Value::as_str).map(str::to_owned),
            may_have_id: self.is_object && (has_id || !is_whole),
            calls: self.is_object && self.method != Found::Not,
        })
    }
}
