//! The command line in what an agent gives to a tool. Whoever shows one reads it here, so that a person decides on the same text
//! everywhere; the web page has the same rule (`told.js`), and both are tried on one table.

use std::borrow::Cow;

use serde_json::Value;

/// The command line in a tool's input, if the tool runs commands.
///
/// `rawInput` of the [Agent Client Protocol](https://agentclientprotocol.com/protocol/tool-calls) is free. Agents put a `command`
/// there, or a `cmd`: a text, or a list of words. Words are quoted where a shell would need it: `["rm", "a b"]` is not `rm a b`.
pub fn line(input: &Value) -> Option<String> {
    let given = input.get("command").filter(|given| !given.is_null()).or_else(|| input.get("cmd"))?;
    let line = match given {
        Value::String(line) => line.clone(),
        Value::Array(words) => words.iter().map(text).collect::<Vec<_>>().join(" "),
        _ => return None,
    };
    (!line.is_empty()).then_some(line)
}

/// One word of a list. What is no text stands there as JSON.
fn text(word: &Value) -> String {
    match word {
        Value::String(word) => quoted(word).into_owned(),
        other => quoted(&other.to_string()).into_owned(),
    }
}

/// A word as a shell (POSIX, section 2.2) needs it to be one word.
pub fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_command_is_shown_as_a_shell_would_need_it() {
        let cases: Vec<(Value, Option<String>)> = serde_json::from_str(include_str!("cases.json")).unwrap();
        assert!(cases.len() > 10);
        for (input, wanted) in cases {
            assert_eq!(line(&input), wanted, "{input}");
        }
    }

    #[test]
    fn a_shell_reads_a_quoted_word_as_that_word() {
        for word in [
            "", "a b", "it's", "$HOME", "`id`", "a\nb", "~", "*", "\\", "!x", "'", "''", "-n", "é", "a;b",
            "#",
        ] {
            let script = format!("printf %s {}", quoted(word));
            let mut command = Command::new("sh");
            let mut shell = command.args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
            let mut read = String::new();
            shell.stdout.take().unwrap().read_to_string(&mut read).unwrap();
            assert!(shell.wait().unwrap().success() && read == word, "{script}: {read:?}");
        }
    }
}
