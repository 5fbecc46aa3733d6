//! Limits for the size of an agent's messages, in one table. The worker enforces them on input; the manager checks them
//! again, because it does not trust its workers.
//!
//! Sizes are in bytes as JSON writes them, without quotes, since the journal stores JSON. kennel cuts a text that is
//! too long and marks the cut. kennel never cuts an id, because a cut id is another id: the worker refuses a message
//! with an id that is too long, and the manager leaves it out.

/// The longest argument of a program, in bytes: the kernel's MAX_ARG_STRLEN (execve(2)), less the NUL byte at its end.
pub const ARGUMENT: usize = 128 * 1024 - 1;
/// The longest line of an agent.
pub const LINE: usize = 8 * 1024 * 1024;
/// The longest payload or text that is carried as it came. Two of them fit into a frame.
pub const PAYLOAD: usize = 8 * 1024 * 1024 - 1024;
/// The longest id: of a JSON-RPC request, an option, a mode, a setting, a way to log in.
pub const ID: usize = 256;
/// The longest id of a tool call. Some agents join several ids of their model into one.
pub const TOOL_ID: usize = 1024;
/// The longest name that an agent gives its session.
pub const SESSION_ID: usize = 1024;
/// The longest name of something.
pub const NAME: usize = 256;
/// The longest name of a kind.
pub const KIND: usize = 64;
/// The longest title of a tool call or a question.
pub const TITLE: usize = 1024;
/// The longest text for a person: an error, a reason, a message.
pub const TEXT: usize = 8 * 1024;
/// The longest path of a file that a tool call touches.
pub const PATH: usize = 4 * 1024;
/// The most paths of one tool call.
pub const PATHS: usize = 256;
/// The most that all paths of one tool call may have together.
pub const PATHS_BYTES: usize = 64 * 1024;
/// The most options of one question.
pub const OPTIONS: usize = 32;
/// The most questions that may wait for an answer at once.
pub const PERMISSIONS: usize = 100;
/// The most calls that may wait for a client at once.
pub const CALLS: usize = 100;

/// The most entries of one list of files, and the most changed files of one difference.
pub const FILES: usize = 1000;
/// The longest piece of a file in one answer.
pub const FILE_PIECE: usize = 256 * 1024;
/// The longest text of a difference.
pub const DIFFERENCE: usize = 512 * 1024;
/// The most that the names in one answer about files may have together.
pub const FILE_NAMES: usize = 256 * 1024;

/// The longest text to search for.
pub const SEARCH: usize = 1024;
/// The most hits of one search.
pub const HITS: usize = 200;

/// The most that a person types at once into a log-in.
pub const LOGIN_INPUT: usize = 16 * 1024;
/// The longest line of it, without its end. A terminal that collects lines cuts a longer one, and says nothing (termios(3)).
pub const LOGIN_LINE: usize = 4095;
/// The longest piece of a log-in's output in one message.
pub const LOGIN_PIECE: usize = 16 * 1024;
/// The most of a log-in's output that no client has taken yet.
pub const LOGIN_WINDOW: usize = 64 * 1024;

/// The length of a text in JSON, without quotes.
pub fn length(text: &str) -> usize {
    text.chars().map(length_of).sum()
}

fn length_of(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}

/// Returns true if a text has at most `most` bytes in JSON.
pub fn fits(text: &str, most: usize) -> bool {
    // No character takes more than six, nor less than one.
    text.len() <= most && (text.len() * 6 <= most || length(text) <= most)
}

/// Cuts a text to so many bytes in JSON, with a mark that tells how long it was. Whether it was cut.
pub fn cut(text: &mut String, most: usize) -> bool {
    if fits(text, most) {
        return false;
    }
    let mark = format!("… ({} bytes, cut)", grouped(text.len()));
    let mut room = most.saturating_sub(mark.len());
    let end = text.char_indices().find(|(_, c)| match room.checked_sub(length_of(*c)) {
        Some(left) => {
            room = left;
            false
        }
        None => true,
    });
    text.truncate(end.map_or(text.len(), |(at, _)| at));
    text.push_str(&mark);
    text.shrink_to_fit();
    true
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns true if the paths of a tool call are within their limits.
pub fn paths_fit(paths: &[String]) -> bool {
    paths.len() <= PATHS
        && paths.iter().all(|path| fits(path, PATH))
        && paths.iter().map(String::len).sum::<usize>() <= PATHS_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_the_mark_tells_how_long_it_was() {
        for unit in ["x", "ä", "😀", "\"", "\u{1}", "\n", "a😀\u{1}\"ä"] {
            for most in [64, 65, 66, 67, 100, 1024] {
                let mut text = unit.repeat(7_000_000 / unit.len());
                let before = text.clone();
                let bytes = text.len();
                assert!(cut(&mut text, most), "{unit:?}");
                assert!(
                    length(&text) <= most && length(&text) + 12 > most,
                    "{unit:?} {most}: {}",
                    length(&text)
                );
                let kept = text.strip_suffix(&format!("… ({} bytes, cut)", grouped(bytes))).unwrap();
                assert!(before.starts_with(kept));
                assert_eq!(serde_json::to_string(&text).unwrap().len(), length(&text) + 2);
            }
        }
        assert_eq!(
            (grouped(7), grouped(1_000), grouped(7_340_032)),
            ("7".into(), "1,000".into(), "7,340,032".into())
        );
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        for text in ["", "x", "\u{1}", &"ä".repeat(128), &"\"".repeat(128)] {
            let mut kept = text.to_owned();
            assert!(!cut(&mut kept, 256) && kept == text);
        }
        // Short, and long in JSON.
        let mut long = "\u{1}".repeat(43);
        assert!(cut(&mut long, 256) && length(&long) <= 256, "{long:?}");
        assert!(fits(&"\u{1}".repeat(42), 256) && !fits(&"\u{1}".repeat(43), 256));
        assert!(fits(&"x".repeat(256), 256) && !fits(&"x".repeat(257), 256));
    }
}
