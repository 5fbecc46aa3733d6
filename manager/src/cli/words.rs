//! Prompts on the command line: words of a prompt that begin with `-` are the prompt's, and no options.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{ArgAction, Command};

/// Commands whose last words are a prompt, and how many arguments come before these.
const WITH_TEXT: [(&[&str], usize); 3] =
    [(&["send"], 1), (&["queue", "edit"], 2), (&["subagent", "start"], 0)];

/// The command line with a `--` before the first word that begins with `-`, belongs to a prompt, and is no option of
/// `root`. From there on all words are the prompt.
pub fn apart(root: &Command, args: Vec<OsString>) -> Vec<OsString> {
    let mut options = options(root);
    let mut at = 1;
    let mut path = Vec::new();
    let mut command = root;
    // The command, behind global options.
    while let Some(word) = args.get(at).and_then(|word| word.to_str()) {
        if word == "--" {
            return args;
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
    let Some((_, before)) = WITH_TEXT.iter().find(|(words, _)| *words == path) else { return args };
    let mut arguments = 0;
    while let Some(word) = args.get(at) {
        let word = word.to_string_lossy();
        match taken(&options, &word) {
            _ if word == "--" => return args,
            Some(taken) => at += taken,
            // A task of a sub-agent has no word before it: `--agnet codex` is a mistyped option.
            None if *before + arguments == 0 && is_like_an_option(&word) => return args,
            None if word.len() > 1 && word.starts_with('-') && arguments >= *before => {
                let mut apart = args;
                apart.insert(at, "--".into());
                return apart;
            }
            None => (arguments, at) = (arguments + 1, at + 1),
        }
    }
    args
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
    fn words_that_begin_with_a_dash_are_the_prompt() {
        for (words, text) in [
            (&["send", "s", "-la"][..], "-la"),
            (&["send", "s", "ls", "-la", "--no-wait"], "ls -la --no-wait"),
            (&["send", "s", "- one\n- two"], "- one\n- two"),
            (&["send", "s", "--no-such-option", "x"], "--no-such-option x"),
            (&["send", "s", "--no-wait please"], "--no-wait please"),
            (&["send", "s", "-file is gone"], "-file is gone"),
            (&["send", "s", "--", "--no-wait"], "--no-wait"),
            (&["--json", "--state-dir", "send", "send", "s", "-x"], "-x"),
        ] {
            let send = send(words).unwrap_or_else(|| panic!("{words:?}"));
            assert_eq!((send.text.join(" "), send.no_wait), (text.to_owned(), false), "{words:?}");
        }
    }

    #[test]
    fn options_stay_options() {
        let sent = send(&["send", "s", "--no-wait", "--key=k", "a", "--file", "x", "-q", "-b"]).unwrap();
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
}
