//! JSON from outside: a line that an agent, an editor or an MCP client wrote.
//!
//! [`read`] takes a line if what it makes of it can be written and read again, by this program and by common clients.
//! Depth and size are checked by one pass over the bytes before anything is built. What strict parsers refuse and agents
//! send all the same (half of a surrogate pair, `NaN`, bytes that are not UTF-8) is repaired; the strict parser goes first,
//! so that well-formed lines pay nothing for this.
//!
//! Of a line that is not taken, [`Head`] still tells who waits for an answer.

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::bounds;

/// The deepest nesting of a message, in levels. Readers stop at 128 (`serde_json`), and events wrap messages in a few more.
pub const DEPTH: u32 = 64;
/// The deepest nesting of a stored event, in levels.
const STORED_DEPTH: u32 = 120;
/// The most memory that a parsed message may take beside its texts, in bytes, as [`Scan`] estimates it.
pub const COST: usize = 32 * 1024 * 1024;

/// What an element of an array takes: a [`Value`], twice for the growth of its vector, and a small allocation.
const ELEMENT: usize = 192;
/// What a field of an object takes: its name, its value, its place in the table.
const FIELD: usize = 352;
/// What the first element of an array, or the first field of an object, takes: room is made for four.
const FIRST: usize = 640;
/// The longest name or id that [`Scan`] keeps, in bytes.
const TOKEN: usize = bounds::ID;

/// A message that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The message.
    pub value: Value,
    /// The line was not JSON, and was repaired.
    pub repaired: bool,
}

/// Why a line is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The line is not JSON, and no repair makes JSON of it.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// The nesting is too deep.
    #[error("it is nested deeper than {DEPTH} levels")]
    TooDeep,
    /// The line has too many elements.
    #[error("it has too many elements to be held in memory")]
    TooMuch,
    /// The line is too long.
    #[error("it has {0} bytes, and {1} are allowed")]
    TooLong(usize, usize),
}

/// A line that is not taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Unread {
    /// Why.
    pub why: Why,
    /// What it says of itself all the same.
    pub head: Box<Head>,
}

/// What a JSON-RPC message says of itself at its outermost level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// The id: a text or a number of at most [`bounds::ID`] bytes.
    pub id: Option<Value>,
    /// The method, where it has at most [`bounds::ID`] bytes.
    pub method: Option<String>,
    /// There is an id, also where it cannot be told, or there may be one in what is missing of the line.
    pub may_have_id: bool,
    /// There is a method, also where it cannot be told.
    pub calls: bool,
}

impl Head {
    /// Whether it can be one of a JSON-RPC message, and not any other output of a program.
    pub fn is_message(&self) -> bool {
        self.id.is_some() || self.calls
    }
}

/// Reads a line, without its end.
pub fn read(line: &[u8]) -> Result<Read, Unread> {
    let mut scan = Scan::default();
    scan.push(line);
    if let Some(why) = scan.excess() {
        return Err(Unread { why, head: scan.head() });
    }
    let strict = match std::str::from_utf8(line) {
        Ok(text) => serde_json::from_str(text).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let unread = |why| Unread { why, head: scan.head() };
    let message = match strict {
        Ok(value) => return Ok(Read { value, repaired: false }),
        Err(message) => message,
    };
    let Some(repaired) = repair(line) else { return Err(unread(Why::TooMuch)) };
    let mut again = Scan::default();
    again.push(repaired.as_bytes());
    if let Some(why) = again.excess() {
        return Err(unread(why));
    }
    match serde_json::from_str(&repaired) {
        Ok(value) => Ok(Read { value, repaired: true }),
        Err(_) => Err(unread(Why::NotJson(message))),
    }
}

/// Whether the JSON of a stored event can be read by everybody.
pub fn is_readable(text: &str) -> bool {
    let mut scan = Scan::default();
    scan.push(text.as_bytes());
    // Skips what it reads: no depth is too much for it.
    scan.deepest <= STORED_DEPTH && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Looks at JSON as it comes, in pieces of any size, and keeps a few hundred bytes at most.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    depth: u32,
    deepest: u32,
    /// Which of the innermost 64 levels are objects, the innermost last.
    objects: u64,
    /// Nothing was seen yet of what the innermost level holds.
    empty: bool,
    cost: usize,
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

/// Where a scan is, at the outermost level.
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
    /// It is there, and cannot be told.
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

    /// Why a message that looks so is not to be built.
    pub fn excess(&self) -> Option<Why> {
        if self.deepest > DEPTH { Some(Why::TooDeep) } else { (self.cost > COST).then_some(Why::TooMuch) }
    }

    /// What was found at the outermost level so far.
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

/// Makes JSON of what is nearly JSON: replaces bytes that are no text and halves of surrogate pairs by U+FFFD, escapes control
/// characters, and replaces numbers that are none (`NaN`, `Infinity`, `1e999`) by `null`. Nothing, where that takes many times
/// the length of the line: it is no text then.
fn repair(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line));
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest: &str = &text;
    let mut in_string = false;
    let most = 3 * line.len() + 1024;
    while let Some(first) = rest.chars().next() {
        if out.len() > most {
            return None;
        }
        let taken = match (in_string, first) {
            (_, '"') => {
                in_string = !in_string;
                out.push('"');
                1
            }
            (true, '\\') => escape(rest, &mut out),
            (true, first) if first < ' ' => {
                out.push_str(&format!("\\u{:04x}", u32::from(first)));
                1
            }
            (true, _) => {
                let plain = rest.find(|c| matches!(c, '"' | '\\') || c < ' ').unwrap_or(rest.len());
                out.push_str(&rest[..plain]);
                plain
            }
            (false, _) if is_of_word(first) => {
                let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
                let word = &rest[..end];
                out.push_str(if is_no_number(word) { "null" } else { word });
                end
            }
            (false, _) => {
                out.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    Some(out)
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')
}

/// Whether a word is what programs write for a number that JSON has not.
fn is_no_number(word: &str) -> bool {
    let begins = |c: char| c.is_ascii_digit() || c == '-';
    let bare = word.strip_prefix('-').unwrap_or(word);
    matches!(bare, "NaN" | "nan" | "Infinity" | "inf" | "Inf")
        || word.starts_with(begins)
            && bare.starts_with(|c: char| c.is_ascii_digit())
            && word.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// Writes what the escape at the beginning of `rest` means, and tells how long it is, in bytes.
fn escape(rest: &str, out: &mut String) -> usize {
    let unit = |at: usize| {
        let digits = rest.get(at..at + 6)?.strip_prefix("\\u")?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
        u16::from_str_radix(digits, 16).ok()
    };
    match (rest.as_bytes().get(1), unit(0), unit(6)) {
        (_, Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => {
            out.push_str(&rest[..12]);
            12
        }
        (_, Some(0xd800..=0xdfff), _) => {
            out.push(char::REPLACEMENT_CHARACTER);
            6
        }
        (_, Some(_), _) => {
            out.push_str(&rest[..6]);
            6
        }
        (Some(b'u'), None, _) => {
            out.push(char::REPLACEMENT_CHARACTER);
            2
        }
        (Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't'), ..) => {
            out.push_str(&rest[..2]);
            2
        }
        // No escape at all: the backslash itself is meant, as in `C:\windows`.
        (_, None, _) => {
            out.push_str("\\\\");
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn repaired(line: &[u8]) -> Value {
        let read = read(line).unwrap();
        assert!(read.repaired, "{}", read.value);
        read.value
    }

    fn refused(line: &[u8]) -> Unread {
        read(line).unwrap_err()
    }

    #[test]
    fn what_agents_send_and_strict_parsers_refuse_is_repaired() {
        for (line, wanted) in [
            (&br#"{"a":"cut \ud83d"}"#[..], json!({ "a": "cut \u{fffd}" })),
            (
                br#"["\ud83d\u0041", "\udc00", "\ud83d\ude00", "\ud83d\ud83d\ude00"]"#,
                json!(["\u{fffd}A", "\u{fffd}", "😀", "\u{fffd}😀"]),
            ),
            (br#"[NaN, -Infinity, Infinity, 1e999, -1e999, 1]"#, json!([null, null, null, null, null, 1])),
            (b"{\"a\":\"tab\there\"}", json!({ "a": "tab\there" })),
            (b"[\"\xff\xfe ok\"]", json!(["\u{fffd}\u{fffd} ok"])),
            (b"\xef\xbb\xbf{\"a\":1}", json!({ "a": 1 })),
            (br#"["C:\windows\x", "\u12"]"#, json!(["C:\\windows\\x", "\u{fffd}12"])),
            (br#"["NaN is no number", NaN]"#, json!(["NaN is no number", null])),
        ] {
            assert_eq!(repaired(line), wanted, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn what_is_well_formed_is_taken_as_it_is() {
        for line in
            [r#"{"a":"\ud83d\ude00 \"x\" \\"}"#, "[1e308,-0.0,18446744073709551615]", r#"{"a":1,"a":2}"#]
        {
            let taken = read(line.as_bytes()).unwrap();
            assert_eq!((taken.value, taken.repaired), (serde_json::from_str(line).unwrap(), false));
        }
    }

    #[test]
    fn nesting_is_taken_up_to_the_bound_and_not_beyond() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(nested(DEPTH as usize).as_bytes()).is_ok());
        assert_eq!(refused(nested(DEPTH as usize + 1).as_bytes()).why, Why::TooDeep);
        assert_eq!(refused("[".repeat(8 << 20).as_bytes()).why, Why::TooDeep);
        let in_a_text = format!("[\"{}\"]", "[".repeat(1000));
        assert!(read(in_a_text.as_bytes()).is_ok(), "brackets within a text are no nesting");
        let message = format!(r#"{{"id":"x","method":"m","params":{}}}"#, nested(5_000));
        let head = refused(message.as_bytes()).head;
        assert_eq!((head.id, head.method.as_deref(), head.calls), (Some(json!("x")), Some("m"), true));
    }

    #[test]
    fn what_takes_many_times_its_length_in_memory_is_refused() {
        for piece in ["1,", "{\"a\":0},", "[0],", "\"\","] {
            let line = format!("[{}1]", piece.repeat((8 << 20) / piece.len()));
            assert_eq!(refused(line.as_bytes()).why, Why::TooMuch, "{piece}");
        }
        let text = format!("[\"{}\"]", "x".repeat(8 << 20));
        assert!(read(text.as_bytes()).is_ok());
        let no_text = format!("[\"{}\"]", "\u{1}".repeat(1 << 20));
        assert_eq!(refused(no_text.as_bytes()).why, Why::TooMuch);
        let many = format!("[{}1]", "1,".repeat(100_000));
        assert!(read(many.as_bytes()).is_ok());
    }

    #[test]
    fn of_a_line_that_cannot_be_read_it_is_known_who_waits() {
        let head = |line: &str| refused(line.as_bytes()).head;
        let found = head(r#"{"jsonrpc":"2.0","params":{"id":9,"method":"no"},"method":"fs/read","id":12,}"#);
        assert_eq!((&found.id, found.method.as_deref()), (&Some(json!(12)), Some("fs/read")));
        assert!(found.is_message() && found.calls && found.may_have_id);
        let cut = head(r#"{"id":"a\"b","method":"x","params":{"text":"no end"#);
        assert_eq!((cut.id, cut.calls), (Some(json!("a\"b")), true));
        let cut = head(r#"{"method":"x","params":{"text":"no end"#);
        assert_eq!((cut.id, cut.calls, cut.may_have_id), (None, true, true));
        let answer = head(r#"{"id":3,"result":{,}}"#);
        assert_eq!((answer.is_message(), answer.id, answer.calls), (true, Some(json!(3)), false));
        let told = head(r#"{"method":"session/update","params":}"#);
        assert_eq!((told.id, told.calls, told.may_have_id), (None, true, false));
        let long = format!(r#"{{"id":"{}","method":"x",}}"#, "i".repeat(bounds::ID));
        let long = head(&long);
        assert_eq!((long.id, long.may_have_id, long.calls), (None, true, true));
        for noise in ["starting the agent", "[INFO] ready", "{", "{}x", ""] {
            assert!(!head(noise).is_message(), "{noise}");
        }
    }

    #[test]
    fn a_line_may_come_in_pieces_of_any_size() {
        let line = br#" {"params":{"a":["\"id\":1",{}],"id":5},"id" : "sev\"en","method":"m"}  "#;
        let mut whole = Scan::default();
        whole.push(line);
        for size in 1..line.len() {
            let mut scan = Scan::default();
            line.chunks(size).for_each(|piece| scan.push(piece));
            assert_eq!(scan.head(), whole.head(), "in pieces of {size}");
            assert_eq!((scan.deepest, scan.cost), (whole.deepest, whole.cost));
        }
        assert_eq!(whole.head().id, Some(json!("sev\"en")));
        assert_eq!(whole.deepest, 4);
    }

    /// Numbers without a pattern, the same at each run.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, most: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % most
        }
    }

    #[test]
    fn whatever_is_taken_is_written_and_read_again_as_the_same() {
        const PIECES: [&[u8]; 40] = [
            b"{",
            b"}",
            b"[",
            b"]",
            b"\"",
            b"\"a\"",
            b"\"id\"",
            b"\"method\"",
            b":",
            b",",
            b"1",
            b"-",
            b"0",
            b"1e999",
            b"1e-7",
            b"0.1",
            b"123456789012345678901234567890",
            b"5e-324",
            b"1.7976931348623157e308",
            b"NaN",
            b"-Infinity",
            b"null",
            b"true",
            b"\\",
            b"\\u",
            b"\\ud83d",
            b"\\ude00",
            b"\\n",
            b"\\\"",
            b"\xff",
            b"\xed\xa0\x80",
            b"\xf0\x9f\x98\x80",
            b"\x00",
            b"\x1f",
            b" ",
            b"\t",
            b"\xef\xbb\xbf",
            b"x",
            b"\\u00",
            b"/",
        ];
        let (mut dice, mut taken, mut mended) = (Dice(7), 0, 0);
        for _ in 0..200_000 {
            let mut line = Vec::new();
            for _ in 0..dice.below(12) {
                line.extend_from_slice(PIECES[dice.below(PIECES.len())]);
            }
            // What would be JSON but for what is in it: else most of these are not.
            if dice.below(2) == 0 {
                line = [&b"{\"id\":7,\"x\":[\""[..], &line, b"\"]}"].concat();
            }
            check(&line, &mut taken, &mut mended);
        }
        for _ in 0..200_000 {
            let line: Vec<u8> = (0..dice.below(24)).map(|_| dice.below(256) as u8).collect();
            check(&[&b"[\""[..], &line, b"\"]"].concat(), &mut taken, &mut mended);
            check(&line, &mut taken, &mut mended);
        }
        assert!(taken > 50_000 && mended > 50_000, "{taken} {mended}");
    }

    fn check(line: &[u8], taken: &mut u32, mended: &mut u32) {
        let strict = std::str::from_utf8(line).ok().and_then(|text| serde_json::from_str::<Value>(text).ok());
        match read(line) {
            Ok(read) => {
                let again: Value = serde_json::from_str(&read.value.to_string()).unwrap();
                assert_eq!(again, read.value, "{}", String::from_utf8_lossy(line));
                assert_eq!(strict.is_none(), read.repaired);
                *taken += 1;
                *mended += u32::from(read.repaired);
            }
            Err(_) => assert_eq!(strict, None, "{}", String::from_utf8_lossy(line)),
        }
    }

    #[test]
    fn a_stored_event_is_readable_if_common_readers_can_read_it() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(is_readable(&nested(STORED_DEPTH as usize)));
        serde_json::from_str::<Value>(&nested(STORED_DEPTH as usize)).unwrap();
        for text in
            [&nested(STORED_DEPTH as usize + 1)[..], &nested(100_000), "{\"a\":", "", "{\"a\":\"\\ud83d\"}x"]
        {
            assert!(!is_readable(text));
        }
    }
}
