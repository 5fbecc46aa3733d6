//! The bytes of every message of every protocol version, as they were when that version was new. A change that
//! alters one breaks workers of the other side's version: append a variant instead.
//!
//! `golden/vN.txt` has a line a message: its name, a space, the frame in hex. With `UPDATE_GOLDEN=1` lines that
//! are missing from the newest file are added; none is ever changed.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::path::PathBuf;

use protocol::frame::{self, Decoder};
use protocol::wire::*;
use protocol::{Exit, PromptId, Restore, SessionId, Stream};

fn frame_of<T: serde::Serialize>(message: &T) -> String {
    let mut bytes = Vec::new();
    frame::encode(message, &mut bytes).unwrap();
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn commands() -> Vec<(&'static str, ToWorker)> {
    let welcome = |agent| {
        Command::Welcome(Box::new(Welcome {
            protocol: 1,
            session: "session-7".parse::<SessionId>().unwrap(),
            resume_from: 41,
            marker: "0b5e/session-7/3".into(),
            workdir: "/srv/app".into(),
            env: vec![("PATH".into(), "/usr/bin".into())],
            agent,
            grace_ms: 2000,
        }))
    };
    let command = |prompt_via, transcript| Agent::Command {
        argv: vec!["/usr/bin/claude".into(), "-p".into()],
        prompt_via,
        transcript,
    };
    let exchange = Exchange { prompt: "before".into(), reply: "answer".into() };
    let prompt = Command::Prompt { prompt: PromptId(17), text: "echo ä".into(), history: vec![exchange] };
    let bodies = [
        ("welcome-shell", welcome(Agent::Shell)),
        ("welcome-command-stdin", welcome(command(PromptVia::Stdin, true))),
        ("welcome-command-argument", welcome(command(PromptVia::Argument, false))),
        ("prompt", prompt),
        ("abort", Command::Abort { prompt: PromptId(17) }),
        ("shutdown", Command::Shutdown),
    ];
    bodies.into_iter().map(|(name, body)| (name, Envelope { incarnation: 3, seq: 5, ack: 9, body })).collect()
}

fn reports() -> Vec<(&'static str, FromWorker)> {
    let prompt = PromptId(17);
    let ended = |end, exit, left_behind| Report::TurnEnded { prompt, end, exit, left_behind };
    let output = |stream| Report::Output { prompt, stream, text: "ä\n".into() };
    let ready = |restore, agent_pid| Report::Ready { restore, agent_pid };
    let failed = TurnEnd::Failed { message: "no such program".into() };
    let bodies = [
        ("hello", Report::Hello { protocol: 1, build: "0.1.0 (00ff)".into(), resume_from: 2 }),
        ("ready-fresh", ready(Restore::Fresh, None)),
        ("ready-replayed", ready(Restore::Replayed, None)),
        ("ready-loaded", ready(Restore::Loaded, Some(99))),
        ("ready-resumed", ready(Restore::Resumed, Some(99))),
        ("turn-started", Report::TurnStarted { prompt, agent_pid: 4242 }),
        ("output-stdout", output(Stream::Stdout)),
        ("output-stderr", output(Stream::Stderr)),
        ("turn-ended-code", ended(TurnEnd::Finished, Some(Exit::Code(3)), 0)),
        ("turn-ended-signal", ended(TurnEnd::Aborted, Some(Exit::Signal(15)), 2)),
        ("turn-ended-unknown", ended(TurnEnd::Finished, Some(Exit::Unknown), 0)),
        ("turn-ended-failed", ended(failed, None, 0)),
        ("fault", Report::Fault { message: "out of step".into() }),
    ];
    bodies.into_iter().map(|(name, body)| (name, Envelope { incarnation: 3, seq: 5, ack: 9, body })).collect()
}

fn check<T>(golden: &str, samples: Vec<(&'static str, T)>) -> String
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let mut missing = String::new();
    for (name, message) in samples {
        match golden.lines().find_map(|line| line.strip_prefix(&format!("{name} "))) {
            Some(hex) => {
                let mut decoder = Decoder::default();
                decoder.feed(&unhex(hex));
                let decoded: Option<T> = decoder.take().unwrap();
                assert_eq!(decoded.as_ref(), Some(&message), "the golden bytes of {name} decode otherwise");
                decoder.finish().unwrap();
                assert_eq!(frame_of(&message), hex, "{name} encodes to other bytes than before");
            }
            None => writeln!(missing, "{name} {}", frame_of(&message)).unwrap(),
        }
    }
    missing
}

#[test]
fn every_message_keeps_the_bytes_it_had_when_its_version_was_new() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1.txt");
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let missing = check(&golden, commands()) + &check(&golden, reports());
    if !missing.is_empty() && std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, golden + &missing).unwrap();
    } else {
        assert!(missing.is_empty(), "not in {}, add with UPDATE_GOLDEN=1:\n{missing}", path.display());
    }
}
