//! Lines that are read, repaired and refused.

use serde_json::json;

use super::*;
use crate::bounds;

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
    for line in [r#"{"a":"\ud83d\ude00 \"x\" \\"}"#, "[1e308,-0.0,18446744073709551615]", r#"{"a":1,"a":2}"#]
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
    // Many brackets, and none of them deep.
    assert!(is_readable(&format!("[{}]", ["[]"; 1_000].join(","))));
    for text in [
        &nested(STORED_DEPTH as usize + 1)[..],
        &nested(100_000),
        "{\"a\":",
        "",
        "{\"a\":\"\\ud83d\"}x",
        "{\"a\":\n1}",
        "{\"a\":1\r}",
    ] {
        assert!(!is_readable(text), "{text:?}");
    }
}
