//! Prompts on the command line: words of a prompt that begin with `-` are the prompt's, and no options.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{ArgAction, Command};

/// Commands whose last words are a prompt, how many arguments come before these, and where their options end.
const WITH_TEXT: [(&[&str], usize, OptionsEnd); 4] = [
    (&["send"], 1, OptionsEnd::Here),
    (&["queue", "edit"], 2, OptionsEnd::Here),
    (&["run"], 0, OptionsEnd::Here),
    (&["subagent", "start"], 0, OptionsEnd::AtTheUnknown),
];

/// The place from which on all words are the prompt.
#[derive(Clone, Copy, PartialEq)]
enum OptionsEnd {
    /// Right behind the arguments before the prompt.
    Here,
    /// At the first word that begins with `-` and is no option.
    AtTheUnknown,
}

/// The command line with a `--` before the first word of a prompt from which on no word is an option of `root`.
pub fn apart(root: &Command, mut args: Vec<OsString>) -> Vec<OsString> {
    let Some(Begun { path, at, options }) = begun(root, &args) else { return args };
    let Some((_, before, end)) = WITH_TEXT.iter().find(|(words, ..)| *words == path) else { return args };
    let text = match end {
        OptionsEnd::Here => behind_arguments(&options, &args, at, *before),
        OptionsEnd::AtTheUnknown => at_the_unknown(&options, &args, at),
    };
    if let Some(text) = text {
        args.insert(text, "--".into());
    }
    args
}

/// The arguments on a command line, without the command and without options. The line may be unfinished.
pub fn arguments(root: &Command, args: &[OsString]) -> Vec<String> {
    let Some(Begun { mut at, options, .. }) = begun(root, args) else { return Vec::new() };
    let mut all = Vec::new();
    while let Some(word) = args.get(at).map(|word| word.to_string_lossy()) {
        match taken(&options, &word) {
            Some(taken) => at += taken,
            None => {
                at += 1;
                if !word.starts_with('-') {
                    all.push(word.into_owned());
                }
            }
        }
    }
    all
}

/// The command on a command line, its words apart by blanks: as far as the line names one.
pub fn command(root: &Command, args: &[OsString]) -> String {
    begun(root, args).map(|begun| begun.path.join(" ")).unwrap_or_default()
}

/// The command of a command line.
struct Begun<'a> {
    /// Its words.
    path: Vec<&'a str>,
    /// The place of the first word behind it.
    at: usize,
    /// The options that it takes, and whether each takes a value.
    options: BTreeMap<String, bool>,
}

/// Returns the command of a command line, behind global options; none if `--` stands before it.
fn begun<'a>(root: &'a Command, args: &[OsString]) -> Option<Begun<'a>> {
    let mut options = options(root);
    let mut at = 1;
    let mut path = Vec::new();
    let mut command = root;
    while let Some(word) = args.get(at).and_then(|word| word.to_str()) {
        if word == "--" {
            return None;
        }
        match taken(&options, word) {
            Some(taken) => at += taken,
            None => {
                let Some(below) = command.find_subcommand(word) else { break };
                (command, at) = (below, at + 1);
                options.extend(self::options(below));
                path.push(below.get_name());
            }
        }
    }
    Some(Begun { path, at, options })
}

/// Returns the place of the first word of the prompt; none if the words are apart already, or the line makes no sense.
fn behind_arguments(
    options: &BTreeMap<String, bool>,
    args: &[OsString],
    mut at: usize,
    before: usize,
) -> Option<usize> {
    let mut arguments = 0;
    loop {
        let word = args.get(at)?.to_string_lossy();
        if word == "--" {
            return None;
        }
        if before > 0 && arguments == before {
            // Nobody sends an agent only this.
            let asks_for_help = matches!(&args[at..], [word] if word == "--help" || word == "-h");
            return (!asks_for_help).then_some(at);
        }
        match taken(options, &word) {
            Some(taken) => at += taken,
            // A mistyped option is no prompt, and a list with dashes is.
            None if before == 0 => {
                let is_text = !word.starts_with('-') || word.len() == 1 || word.contains(char::is_whitespace);
                return is_text.then_some(at);
            }
            None => (arguments, at) = (arguments + 1, at + 1),
        }
    }
}

/// Returns the place of the first word that begins with `-` and is no option.
fn at_the_unknown(options: &BTreeMap<String, bool>, args: &[OsString], mut at: usize) -> Option<usize> {
    let mut arguments = 0;
    loop {
        let word = args.get(at)?.to_string_lossy();
        match taken(options, &word) {
            _ if word == "--" => return None,
            Some(taken) => at += taken,
            // No word stands before a task: `--agnet codex` is a mistyped option.
            None if arguments == 0 && is_like_an_option(&word) => return None,
            None if word.len() > 1 && word.starts_with('-') => return Some(at),
            None => (arguments, at) = (arguments + 1, at + 1),
        }
    }
}

/// Returns true for `--` and a name, with a value or without.
fn is_like_an_option(word: &str) -> bool {
    let name = word.strip_prefix("--").map(|word| word.split('=').next().unwrap_or_default());
    name.is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    })
}

/// The options of a command as they are typed, and whether each takes a value.
fn options(command: &Command) -> BTreeMap<String, bool> {
    let mut all: BTreeMap<String, bool> =
        ["-h", "--help", "-V", "--version"].map(|name| (name.to_owned(), false)).into();
    for arg in command.get_arguments() {
        let value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        all.extend(arg.get_long().map(|long| (format!("--{long}"), value)));
        all.extend(arg.get_short().map(|short| (format!("-{short}"), value)));
    }
    all
}

/// Returns the number of arguments that an option takes with its value; none for an unknown option.
fn taken(options: &BTreeMap<String, bool>, word: &str) -> Option<usize> {
    match word.split_once('=') {
        Some((name, _)) if name.starts_with("--") => options.get(name).filter(|value| **value).map(|_| 1),
        _ => options.get(word).map(|value| 1 + usize::from(*value)),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::args::{self, Cli};

    fn send(words: &[&str]) -> Option<args::Send> {
        let args = ["kennel"].iter().chain(words).map(Into::into).collect();
        match Cli::try_parse_from(apart(&Cli::command(), args)).ok()?.command {
            args::Command::Send(send) => Some(send),
            _ => None,
        }
    }

    #[test]
    fn all_words_behind_the_session_are_the_prompt() {
        for (words, text) in [
            (&["send", "s", "-la"][..], "-la"),
            (&["send", "s", "ls", "-la", "--no-wait"], "ls -la --no-wait"),
            (&["send", "s", "--no-wait", "--json"], "--no-wait --json"),
            (&["send", "s", "--help", "me"], "--help me"),
            (&["send", "s", "- one\n- two"], "- one\n- two"),
            (&["send", "s", "--no-such-option", "x"], "--no-such-option x"),
            (&["send", "s", "-file is gone"], "-file is gone"),
            (&["send", "s", "--", "--no-wait"], "--no-wait"),
            (&["send", "s", "cargo", "test", "--", "--nocapture"], "cargo test -- --nocapture"),
            (&["--json", "--state-dir", "send", "send", "s", "-x"], "-x"),
        ] {
            let send = send(words).unwrap_or_else(|| panic!("{words:?}"));
            assert_eq!((send.text.join(" "), send.no_wait), (text.to_owned(), false), "{words:?}");
        }
        for words in [&["send", "s", "--help"], &["send", "s", "-h"]] {
            assert!(send(words).is_none(), "{words:?} asks for help");
        }
    }

    #[test]
    fn options_before_the_session_stay_options() {
        let sent = send(&["send", "--no-wait", "--key=k", "--file", "x", "-q", "s", "a", "-b"]).unwrap();
        assert_eq!(
            (sent.no_wait, sent.key.as_deref(), sent.text.join(" ")),
            (true, Some("k"), "a -b".into())
        );
        assert_eq!(sent.files, [std::path::PathBuf::from("x")]);
        assert!(send(&["send", "-x", "s"]).is_none());
        let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let apart = |words: &[&str]| apart(&Cli::command(), args(words));
        assert_eq!(apart(&["k", "start", "-x"]), args(&["k", "start", "-x"]));
        let edit = ["k", "queue", "edit", "s", "prompt-1", "-x"];
        assert_eq!(apart(&edit)[5..], args(&["--", "-x"]));
        assert_eq!(apart(&["k", "subagent", "start", "--parent", "s", "-x"])[5..], args(&["--", "-x"]));
        for typo in ["--agnet", "--agnet=codex"] {
            let typed = ["k", "subagent", "start", typo, "codex", "task"];
            assert_eq!(apart(&typed), args(&typed));
        }
        let said = ["k", "subagent", "start", "run", "--fast"];
        assert_eq!(apart(&said)[3..], args(&["run", "--", "--fast"]));
    }

    #[test]
    fn the_prompt_of_run_begins_with_the_first_word_that_is_no_option() {
        let run = |words: &[&str]| {
            let args = ["kennel", "run"].iter().chain(words).map(Into::into).collect();
            match Cli::try_parse_from(apart(&Cli::command(), args)).ok()?.command {
                args::Command::Run(run) => Some((run.rm, run.start.name, run.text.join(" "))),
                _ => None,
            }
        };
        let is = |rm, name: Option<&str>, text: &str| Some((rm, name.map(str::to_owned), text.to_owned()));
        assert_eq!(run(&["--rm", "ls", "-la", "--rm"]), is(true, None, "ls -la --rm"));
        assert_eq!(run(&["ls", "--name", "x"]), is(false, None, "ls --name x"));
        assert_eq!(run(&["--name", "x", "- one\n- two"]), is(false, Some("x"), "- one\n- two"));
        assert_eq!(run(&["--", "--rm"]), is(false, None, "--rm"));
        assert_eq!(run(&["-"]), is(false, None, "-"));
        for typo in [&["--agnet", "codex", "x"][..], &["-la", "x"], &["--rm", "--id", "s", "x"]] {
            assert_eq!(run(typo), None, "{typo:?}");
        }
    }
}
