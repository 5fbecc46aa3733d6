//! Completion of command lines: the script for each shell, and the candidates, for which the script runs kennel.
//!
//! The script asks `kennel __complete SHELL WORDS`, whose last word is the one to complete. The answer begins with a line `words`,
//! `files` or `dirs`. With `words` follow the candidates, one a line, each with a tab and a description where it has one. With
//! `files` and `dirs` the shell itself completes a path, because it knows how to quote one. The answer is empty where there is nothing.

mod answers;
mod places;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::engine::{self, CompletionCandidate};

use self::answers::Answers;
use super::args::{Cli, Completion, Shell};
use super::ui::error::Outcome;
use super::ui::{self, Ui};
use super::words;

/// The word by which the scripts ask. It is no command: the ordinary command line neither knows it nor pays for it.
pub const WORD: &str = "__complete";
/// The most candidates: nobody reads more, and a shell takes long to show them.
const MOST: usize = 500;
/// The longest description, in characters.
const LONGEST: usize = 80;

/// `completion`.
pub fn script(ui: &Ui, args: &Completion) -> Outcome {
    ui.print(match args.shell {
        Shell::Bash => include_str!("kennel.bash"),
        Shell::Zsh => include_str!("kennel.zsh"),
        Shell::Fish => include_str!("kennel.fish"),
    })
}

/// Answers a script. Whatever goes wrong, the answer is empty: a person who types sees no errors.
pub fn run(words: impl Iterator<Item = OsString>) -> ExitCode {
    ui::print(&answer(words.collect()).unwrap_or_default());
    ExitCode::SUCCESS
}

/// Returns the answer to a shell's name and the words of the command line.
fn answer(mut words: Vec<OsString>) -> Option<String> {
    if words.len() < 3 {
        return None;
    }
    let shell = words.remove(0);
    if shell == "bash" {
        words = unquoted(words);
    }
    let current = words.last()?.clone();
    let root = Cli::command();
    // Behind the session of `send`, all words are the prompt.
    let last = words.len() - 1;
    if current == "--" {
        // An option that is begun, and no end of options.
        words[last] = "--option".into();
    }
    let mut words = words::apart(&root, words);
    let last = words.len() - 1;
    words[last] = current.clone();
    let answers = Answers::new(&root, &words[..last]);
    let mut root = places::with_values(root, &answers);
    let found = engine::complete(&mut root, words, last, None).ok()?;
    let lines: String = found.iter().filter(|one| is_wanted(one, &current)).take(MOST).map(line).collect();
    match (lines.is_empty(), answers.path()) {
        (true, path) => path.map(|path| format!("{path}\n")),
        (false, _) => Some(format!("words\n{lines}")),
    }
}

/// Returns false for what a shell could take for more than a word, for hidden commands, and for options where none is begun.
fn is_wanted(candidate: &CompletionCandidate, current: &OsStr) -> bool {
    let value = candidate.get_value().to_string_lossy();
    let bare = value.trim_start_matches('-');
    let is_option = bare.len() < value.len();
    !candidate.is_hide_set() && is_plain(bare) && (!is_option || current.to_string_lossy().starts_with('-'))
}

/// Returns true for a value that is one word in every shell, without quotes, and one that bash does not break at `@`.
fn is_plain(value: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/=+,:".contains(&byte);
    value.len() <= 256
        && value.bytes().all(fits)
        && value.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric() || b"._".contains(&first))
}

/// A line of the answer. What the daemon said is harmless already; the rest is kennel's own help.
fn line(candidate: &CompletionCandidate) -> String {
    let value = candidate.get_value().to_string_lossy();
    let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
    match help.lines().next().unwrap_or_default() {
        "" => format!("{value}\n"),
        help => format!("{value}\t{}\n", short(help)),
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", text[..at].trim_end()),
        None => text.to_owned(),
    }
}

/// A stranger's text as a description, with nothing that a shell or a terminal could take for more than text.
fn description(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let shown = |c: char| if c.is_alphanumeric() || " .,-_/+@".contains(c) { c } else { ' ' };
    let text: String = first.chars().map(shown).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The words as bash runs them. bash gives them as they are typed, with quotes.
fn unquoted(words: Vec<OsString>) -> Vec<OsString> {
    let last = words.len() - 1;
    let word = |(at, word): (usize, OsString)| {
        let Some(text) = word.to_str() else { return word };
        if at == last {
            // Its quote is still open.
            return text.strip_prefix(['\'', '"']).unwrap_or(text).into();
        }
        match shlex::split(text).as_deref() {
            Some([one]) => one.into(),
            _ => word,
        }
    };
    words.into_iter().enumerate().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The candidates for a line, without a daemon.
    fn candidates(line: &[&str]) -> Vec<String> {
        let words = ["zsh", "kennel", "--state-dir", "/nonexistent/kennel"].iter().chain(line);
        let answer = answer(words.map(Into::into).collect()).unwrap_or_default();
        answer.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn commands_options_and_their_values_are_completed() {
        for (line, expected) in [
            (&["sta"][..], &["words", "start"][..]),
            (&["daemon", "st"], &["words", "start", "stop", "status"]),
            (&["start", "--turn-t"], &["words", "--turn-timeout"]),
            (&["start", "--on-crash", ""], &["words", "interrupt", "retry"]),
            (&["ls", "--status", "idle,run"], &["words", "idle,running"]),
            (&["ls", "--status=idle,run"], &["words", "--status=idle,running"]),
            (&["start", "--dir", "x"], &["dirs"]),
            (&["start", "--dir=x"], &["dirs"]),
            (&["ensure", ""], &["dirs"]),
            (&["send", "--file", ""], &["files"]),
            (&["man", ""], &["dirs"]),
            // Nothing is known without a daemon.
            (&["show", ""], &[]),
            (&["connect-st"], &[]),
            // All of this is the prompt.
            (&["send", "web", "--"], &[]),
            (&["send", "web", ""], &[]),
            (&["send", "web", "--fi"], &[]),
            (&["run", "--fi"], &["words", "--file"]),
            (&["run", "ls", "--fi"], &[]),
        ] {
            assert_eq!(candidates(line), expected, "{line:?}");
        }
        assert!(candidates(&[""]).iter().all(|word| !word.starts_with('-')));
        for line in [&["-"][..], &["run", "--"], &["subagent", "start", "--"], &["send", "--"]] {
            assert!(candidates(line).contains(&"--json".to_owned()), "{line:?}");
        }
    }

    #[test]
    fn nothing_is_said_about_nonsense() {
        for words in
            [&[][..], &["bash"], &["bash", "kennel"], &["bash", "kennel", "$(x)", "`y`", "show", "z"]]
        {
            assert_eq!(answer(words.iter().map(Into::into).collect()), None, "{words:?}");
        }
    }

    #[test]
    fn only_what_is_one_word_in_every_shell_is_a_candidate() {
        for good in ["web", "session-1", "a.b_c", "mode=plan", "permission-17", "x/y:z=1+2,3"] {
            assert!(is_plain(good), "{good}");
        }
        let long = "x".repeat(257);
        for bad in [
            "", "-x", "~x", "=x", "a b", "$(x)", "`x`", "a;b", "a'b", "a\"b", "a\\b", "a*", "a\nb",
            "a\u{1b}", "é", "a@b", &long,
        ] {
            assert!(!is_plain(bad), "{bad:?}");
        }
        assert_eq!(description("\u{1b}]0;t\u{7} `x` $(y)\u{202e} été\nz"), "0 t x y été");
    }

    #[test]
    fn quotes_of_bash_are_taken_off() {
        let words = ["k", "'a b'", "a\\ b", "\"it's\"", "'open", "'we"].map(Into::into).to_vec();
        let expected = ["k", "a b", "a b", "it's", "'open", "we"].map(OsString::from).to_vec();
        assert_eq!(unquoted(words), expected);
    }
}
