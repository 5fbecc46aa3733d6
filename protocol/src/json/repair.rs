//! JSON out of what is nearly JSON.

/// Makes JSON of what is nearly JSON: replaces bytes that are no text and halves of surrogate pairs by U+FFFD, escapes control
/// characters, and replaces numbers that are none (`NaN`, `Infinity`, `1e999`) by `null`. Nothing, where that takes many times
/// the length of the line: it is no text then.
pub(super) fn repair(line: &[u8]) -> Option<String> {
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

/// Returns true if programs write this word for a number that JSON cannot express.
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
