//! The agent's bytes as text, and the conversation before as plain text.

use std::borrow::Cow;

use protocol::wire::Exchange;

/// Makes text of bytes that come in pieces: what is not UTF-8 becomes U+FFFD, but a character that two
/// pieces share comes out whole.
#[derive(Debug, Default)]
pub struct Utf8 {
    /// The beginning of a character whose rest has not come yet: at most three bytes.
    tail: Vec<u8>,
}

impl Utf8 {
    /// The text of `bytes`, without a last character that is still incomplete.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let bytes: Cow<[u8]> = if self.tail.is_empty() {
            bytes.into()
        } else {
            let mut joined = std::mem::take(&mut self.tail);
            joined.extend_from_slice(bytes);
            joined.into()
        };
        let mut text = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let bad = chunk.invalid();
            // At the very end, no `error_len` means: could still become a character.
            match std::str::from_utf8(bad) {
                Ok(_) => {}
                Err(error) if error.error_len().is_none() && chunks.peek().is_none() => {
                    self.tail = bad.to_vec();
                }
                Err(_) => text.push(char::REPLACEMENT_CHARACTER),
            }
        }
        text
    }

    /// Ends the stream: returns U+FFFD for an incomplete character at its end, otherwise nothing.
    pub fn finish(&mut self) -> &'static str {
        if self.tail.is_empty() {
            return "";
        }
        self.tail = Vec::new();
        "\u{FFFD}"
    }
}

/// Cuts `text` into pieces of at most `limit` bytes (at least 4), between characters.
pub fn pieces(text: &str, limit: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut cut = limit.min(rest.len());
        while !rest.is_char_boundary(cut) {
            cut -= 1;
        }
        let (piece, after) = rest.split_at(cut);
        rest = after;
        Some(piece)
    })
}

/// Input for an agent with a transcript: the turns before as plain text, then the new prompt.
///
/// ```text
/// The conversation so far:
///
/// User: first prompt
///
/// Assistant: first reply
///
/// The conversation goes on.
///
/// User: new prompt
/// ```
///
/// A turn without a reply says `Assistant: (no reply)`. Without turns before it is the prompt alone, unchanged.
pub fn transcript(history: &[Exchange], prompt: String) -> String {
    if history.is_empty() {
        return prompt;
    }
    let mut text = String::from("The conversation so far:\n\n");
    for Exchange { prompt, reply } in history {
        let reply = match reply.trim_end_matches('\n') {
            "" => "(no reply)",
            reply => reply,
        };
        text.push_str("User: ");
        text.push_str(prompt.trim_end_matches('\n'));
        text.push_str("\n\nAssistant: ");
        text.push_str(reply);
        text.push_str("\n\n");
    }
    text.push_str("The conversation goes on.\n\nUser: ");
    text.push_str(&prompt);
    text
}

/// The most that a [`Tail`] keeps, in bytes.
const TAIL: usize = 8 * 1024;

/// The end of what was written.
#[derive(Debug, Default)]
pub struct Tail(Vec<u8>);

impl Tail {
    /// Something more was written.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        self.0.drain(..self.0.len().saturating_sub(TAIL));
    }

    /// The text that is kept, lossily decoded.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(bytes: &[u8], size: usize) -> String {
        let mut utf8 = Utf8::default();
        let mut text = String::new();
        for piece in bytes.chunks(size) {
            text += &utf8.push(piece);
            assert!(utf8.tail.len() <= 3);
        }
        text + utf8.finish()
    }

    #[test]
    fn characters_come_out_whole_however_the_bytes_are_cut() {
        let text = "aä€𝄞 z".repeat(5);
        for size in 1..text.len() {
            assert_eq!(cut(text.as_bytes(), size), text, "cut in {size}");
        }
    }

    #[test]
    fn bad_bytes_are_replaced_the_same_way_however_they_are_cut() {
        for bytes in [
            &b"a\xffb"[..],
            b"\xf0\x9d\x84",
            b"\xe2\x82x\xe2\x82",
            b"\xed\xa0\x80",
            b"\xc3\xc3\xa4\x80",
            b"\xf0\x9d\xf0\x9d\x84\x9e",
        ] {
            let whole = String::from_utf8_lossy(bytes);
            for size in 1..=bytes.len() {
                assert_eq!(cut(bytes, size), whole, "{bytes:?} cut in {size}");
            }
        }
    }

    #[test]
    fn pieces_are_bounded_and_join_to_the_whole() {
        let text = "aä€𝄞".repeat(9);
        for limit in 4..text.len() + 2 {
            let pieces: Vec<_> = pieces(&text, limit).collect();
            assert!(pieces.iter().all(|piece| (1..=limit).contains(&piece.len())));
            assert_eq!(pieces.concat(), text);
        }
        assert_eq!(pieces("", 4).count(), 0);
    }

    #[test]
    fn a_prompt_without_turns_before_is_left_as_it_is() {
        assert_eq!(transcript(&[], "hi\n".into()), "hi\n");
    }

    #[test]
    fn a_transcript_is_plain_text_that_ends_in_the_prompt() {
        let turn = |prompt: &str, reply: &str| Exchange { prompt: prompt.into(), reply: reply.into() };
        assert_eq!(
            transcript(&[turn("one", "1\n"), turn("two", "")], "three".into()),
            "The conversation so far:\n\nUser: one\n\nAssistant: 1\n\nUser: two\n\nAssistant: (no reply)\n\n\
             The conversation goes on.\n\nUser: three"
        );
    }
}
