//! Lines of JSON-RPC on standard input, for `kennel acp` and `kennel mcp`. Lines are bounded, and repaired if
//! they are nearly JSON. A request that cannot be read receives an error.

use std::io::{self, BufRead, Read, Write};

use protocol::json::{Scan, Unread, Why};
use tokio::sync::{mpsc, oneshot};

use crate::cli::ui;
use crate::jsonrpc::{Line, refused, understood};

/// The next line without its end; none at the end of the input. One of more than `most` bytes is not kept in memory.
pub fn next(input: &mut impl BufRead, most: usize) -> Option<io::Result<Line>> {
    match line(input, most) {
        Ok(Some(Ok(bytes))) => Some(Ok(understood(bytes))),
        Ok(Some(Err(unread))) => Some(Ok(refused(unread, String::new))),
        Ok(None) => None,
        Err(error) => Some(Err(error)),
    }
}

fn line(input: &mut impl BufRead, most: usize) -> io::Result<Option<Result<Vec<u8>, Unread>>> {
    let mut bytes = Vec::new();
    input.take(most as u64 + 1).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.pop_if(|byte| *byte == b'\n').is_some() || bytes.len() <= most {
        return Ok(Some(Ok(bytes)));
    }
    let (mut scan, mut length) = (Scan::default(), bytes.len());
    scan.push(&bytes);
    drop(bytes);
    loop {
        let more = match input.fill_buf() {
            Ok(more) => more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = more.iter().position(|byte| *byte == b'\n');
        let inside = end.unwrap_or(more.len());
        scan.push(&more[..inside]);
        length += inside;
        let (over, taken) = (end.is_some() || more.is_empty(), inside + usize::from(end.is_some()));
        input.consume(taken);
        if over {
            return Ok(Some(Err(Unread { why: Why::TooLong(length, most), head: scan.head() })));
        }
    }
}

/// Reads standard input on a thread of its own. Standard input can be any kind of file, and other processes
/// share it, so kennel must not make it non-blocking. Answers go to `answers` for as long as another sender
/// exists.
pub fn from_stdin(
    most: usize,
    ahead: usize,
    answers: &mpsc::Sender<String>,
) -> mpsc::Receiver<io::Result<String>> {
    let (lines, incoming) = mpsc::channel(ahead);
    let answers = answers.downgrade();
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut noted = false;
        while let Some(line) = next(&mut stdin, most) {
            let received = match line {
                Ok(Line::Message(text)) => lines.blocking_send(Ok(text)).is_ok(),
                Ok(Line::Repaired(text)) => {
                    if !std::mem::replace(&mut noted, true) {
                        ui::write_err(
                            "kennel: a message was no JSON (half a character, a number that is none); what was wrong was replaced\n",
                        );
                    }
                    lines.blocking_send(Ok(text)).is_ok()
                }
                Ok(Line::Answer(text)) => {
                    answers.upgrade().is_some_and(|answers| answers.blocking_send(text).is_ok())
                }
                Ok(Line::Nothing) => true,
                Err(error) => {
                    let _ = lines.blocking_send(Err(error));
                    false
                }
            };
            if !received {
                break;
            }
        }
    });
    incoming
}

/// Writes lines to standard output on a thread of its own, and calls `written` after each. The receiver fires
/// once everything is written.
pub fn to_stdout(
    ahead: usize,
    mut written: impl FnMut(&str) + Send + 'static,
) -> (mpsc::Sender<String>, oneshot::Receiver<()>) {
    let (outgoing, mut to_write) = mpsc::channel::<String>(ahead);
    let (done, finished) = oneshot::channel();
    std::thread::spawn(move || {
        #[allow(
            clippy::disallowed_methods,
            reason = "a program reads it, and no terminal: JSON, with its controls escaped"
        )]
        let mut stdout = io::stdout().lock();
        while let Some(mut line) = to_write.blocking_recv() {
            line.push('\n');
            if stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).is_err() {
                break;
            }
            written(&line);
        }
        // The receiver may be gone.
        let _ = done.send(());
    });
    (outgoing, finished)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::jsonrpc::PARSE_ERROR;

    fn lines(mut input: &[u8], most: usize) -> Vec<Line> {
        std::iter::from_fn(|| next(&mut input, most)).map(|line| line.unwrap()).collect()
    }

    fn message(text: &str) -> Line {
        Line::Message(text.into())
    }

    /// The id that an answer names, and that it is an error.
    fn answered(line: &Line) -> Value {
        let Line::Answer(text) = line else { panic!("{line:?}") };
        let answer: Value = serde_json::from_str(text).unwrap();
        assert_eq!(answer["error"]["code"], PARSE_ERROR, "{answer}");
        answer["id"].clone()
    }

    #[test]
    fn lines_are_read_whole_and_the_last_needs_no_end() {
        let all = lines(b"{\"id\":1}\n\n\xffthree", 100);
        assert_eq!(all, [message("{\"id\":1}"), message(""), message("\u{fffd}three")]);
    }

    #[test]
    fn a_line_of_the_longest_length_is_taken_and_a_longer_one_is_answered_and_skipped() {
        let long = |length: usize| {
            let front = r#"{"id":"a","method":"m","params":""#;
            format!("{front}{}\"}}\n", "x".repeat(length - front.len() - 2))
        };
        let input = [long(100), long(101), long(100_000), "{\"id\":2}\n".into()].concat();
        let all = lines(input.as_bytes(), 100);
        assert_eq!(all.len(), 4);
        assert_eq!(all[0], message(long(100).trim_end()));
        assert_eq!((answered(&all[1]), answered(&all[2])), (json!("a"), json!("a")));
        assert_eq!(all[3], message("{\"id\":2}"));
        // One that has no end either.
        assert_eq!(answered(&lines(&long(101).as_bytes()[..101], 100)[0]), json!("a"));
    }

    #[test]
    fn what_cannot_be_read_is_answered_if_somebody_may_wait() {
        let deep = format!(r#"{{"id":7,"method":"m","params":{}}}"#, "[".repeat(200) + &"]".repeat(200));
        for (line, id) in [
            (&deep[..], json!(7)),
            (r#"{"id":"x","method":"m","params":{]}"#, json!("x")),
            (r#"{"method":"m","params":{"#, Value::Null),
        ] {
            assert_eq!(answered(&lines(line.as_bytes(), 10_000)[0]), id, "{line}");
        }
        assert_eq!(lines(br#"{"method":"told","params":{],}}"#, 1000), [Line::Nothing]);
        // An answer to a question: the question is answered, with an error.
        let Line::Message(text) = &lines(br#"{"id":3,"result":{,}}"#, 1000)[0] else { panic!() };
        let answer: Value = serde_json::from_str(text).unwrap();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(3), &json!(PARSE_ERROR)));
        let repaired = lines(br#"{"id":1,"method":"m","params":"\ud83d"}"#, 1000);
        let text = "{\"id\":1,\"method\":\"m\",\"params\":\"\u{fffd}\"}";
        assert_eq!(repaired, [Line::Repaired(text.into())]);
    }
}
