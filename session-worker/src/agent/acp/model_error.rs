//! Errors of its model that an agent tells as if they were its answer.
//!
//! Of fourteen agents that were tried, five end a turn with `end_turn` when their model cannot be reached or refuses,
//! and give the error as text. The turn has ended all the same; but a person should not have to read the answer of
//! every turn to learn that the account is empty.

/// Longer answers are not errors, whatever they are about, in bytes.
const LONGEST: usize = 2_048;
/// Words beside which a number from 400 to 599 is the status of an HTTP response.
const WORDS: [&str; 6] = ["error", "status", "http", "failed", "request", "unauthorized"];

/// Phrases by which agents report a cut stream of their model, in lines about nothing else.
const CUT: [&str; 16] = [
    "stream disconnected",
    "stream error",
    "stream closed",
    "stream ended",
    "stream was cut",
    "premature close",
    "connection error",
    "connection closed",
    "connection reset",
    "socket hang up",
    "econnreset",
    "fetch failed",
    "network error",
    "incomplete chunked read",
    "response ended prematurely",
    "error decoding response body",
];
/// A longer line is no bare error, in bytes.
const BARE: usize = 300;

/// The last thing that an agent said in a turn, since its last tool call.
#[derive(Debug, Default)]
pub struct LastWords {
    text: String,
    too_long: bool,
}

impl LastWords {
    /// Adds a piece of the agent's text.
    pub fn say(&mut self, text: &str) {
        if self.too_long || self.text.len() + text.len() > LONGEST {
            self.too_long = true;
            self.text.clear();
        } else {
            self.text.push_str(text);
        }
    }

    /// Forgets the text: the agent has done something after it.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// The line that looks like an error of the model.
    pub fn error(&self) -> Option<&str> {
        self.text.lines().map(str::trim).find(|line| is_error(line))
    }
}

fn is_error(line: &str) -> bool {
    let line = line.to_lowercase();
    let line = line.trim_start_matches(|c: char| !c.is_alphanumeric());
    // An answer about such errors seldom begins with one.
    let cut = |rest: &str| CUT.iter().any(|words| rest.starts_with(words));
    let after_error = line
        .split_once("error")
        .map(|(before, rest)| (before.len() < 20, rest.trim_start_matches([':', ' '])));
    if line.len() <= BARE && (cut(line) || after_error.is_some_and(|(begins, rest)| begins && cut(rest))) {
        return true;
    }
    let numbers = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    let status = numbers.filter_map(|word| word.trim_end_matches('.').parse::<u16>().ok());
    line.starts_with("api error")
        || (status.into_iter().any(|number| (400..600).contains(&number))
            && WORDS.iter().any(|word| line.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> Option<String> {
        let mut words = LastWords::default();
        text.split_inclusive(' ').for_each(|piece| words.say(piece));
        words.error().map(str::to_owned)
    }

    #[test]
    fn errors_as_agents_word_them_are_seen() {
        for text in [
            "API Error: 529 {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}",
            "API Error: Connection refused",
            "unexpected status 500 Internal Server Error: no model, url: http://127.0.0.1:1/v1/responses",
            "Error code: 401 - invalid x-api-key",
            "exceeded retry limit, last status: 429 Too Many Requests",
            "HTTP 503.",
            "stream disconnected before completion: error sending request",
            "Error: Premature close",
            "⚠ Internal error: connection reset by peer",
        ] {
            assert_eq!(error(text).as_deref(), Some(text), "{text}");
            assert_eq!(error(&format!("I look at it.\n  {text}\n")).as_deref(), Some(text));
        }
    }

    #[test]
    fn answers_are_not_taken_for_errors() {
        for text in [
            "There are 404 files in the directory.",
            "I fixed the error in line 4500 of http.rs.",
            "The request took 1.500 s and failed once.",
            "I fixed the socket hang up: the connection error came from a proxy.",
            "The stream ended when the file did.",
            "",
        ] {
            assert_eq!(error(text), None, "{text}");
        }
        let essay = format!("HTTP 404 means that nothing was found. {}", "It is a long story. ".repeat(200));
        assert_eq!(error(&essay), None);
    }

    #[test]
    fn what_was_said_before_a_tool_call_is_not_the_last() {
        let mut words = LastWords::default();
        words.say(&"x".repeat(LONGEST + 1));
        words.forget();
        words.say("API Error: 500");
        assert!(words.error().is_some());
        words.forget();
        assert_eq!(words.error(), None);
    }
}
