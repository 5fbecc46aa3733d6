//! Wrong requests and files are answered in kennel's words: none of serde's reaches a person.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use harness::daemon::Daemon;
use harness::real::*;

/// Words of serde and of its readers.
const THEIRS: [&str; 14] = [
    "unknown variant",
    "unknown field",
    "missing field",
    "duplicate field",
    "invalid type",
    "invalid value",
    "expected one of",
    "expected struct",
    "struct ",
    "EOF",
    "at line 1",
    "u32",
    "u64",
    "untagged",
];

fn ask(daemon: &Daemon, method: &str, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: kennel\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn no_answer_of_the_api_has_the_words_of_its_json_reader() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    for (method, path) in [
        ("POST", "/v1/sessions"),
        ("PUT", "/v1/sessions/s"),
        ("PATCH", "/v1/sessions/s"),
        ("POST", "/v1/sessions/s/prompts"),
        ("POST", "/v1/bootstrap"),
        ("POST", "/v1/subagents"),
        ("POST", "/v1/manager/prune"),
        ("POST", "/v1/keys"),
        ("POST", "/v1/pairings"),
        ("POST", "/v1/prompts/prompt-1/resolve"),
    ] {
        for body in [
            "",
            "{",
            "[]",
            "3",
            "null",
            "nonsense",
            r#"{"zzz":1}"#,
            r#"{"text":3}"#,
            r#"{"text":"a","text":"b"}"#,
            r#"{"text":"a","when_busy":"later"}"#,
            r#"{"restart":"sometimes"}"#,
            r#"{"nice":-1}"#,
            r#"{"env":[]}"#,
            r#"{"action":"again"}"#,
            r#"{"role":"king"}"#,
            r#"{"max_bytes":"x"}"#,
            r#"{"labels":3}"#,
            r#"{"a":1,}"#,
        ] {
            let answer = ask(&daemon, method, path, body);
            for theirs in THEIRS {
                assert!(!answer.contains(theirs), "{method} {path} {body}: `{theirs}` in {answer}");
            }
        }
    }
    for (path, part) in [
        ("/v1/sessions/s/wait?until=dawn", "`until`: `dawn` may not stand here"),
        ("/v1/sessions/s/wait", "`until` is missing"),
        ("/v1/sessions/s/wait?until=idle&timeout_ms=soon", "`timeout_ms`: it is not a whole number"),
        ("/v1/sessions?status=happy", "`status`: `happy` may not stand here"),
        ("/v1/sessions?needs=perhaps", "`needs`: it is true or false"),
        ("/v1/sessions?colour=red", "query: there is no `colour`"),
        ("/v1/sessions?limit=-1", "`limit`: it is not a whole number"),
        ("/v1/events?after=x", "is not an event id"),
    ] {
        let answer = ask(&daemon, "GET", path, "");
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(part), "{path}: {answer}");
        for theirs in THEIRS {
            assert!(!answer.contains(theirs), "{path}: `{theirs}` in {answer}");
        }
    }
}

#[test]
fn no_complaint_about_a_file_has_the_words_of_its_reader() {
    let daemon = Daemon::new();
    let directory = daemon.dir.path().join("kennel");
    std::fs::create_dir_all(&directory).unwrap();
    daemon.ok(&["daemon", "start"]);
    let check = |file: &str, text: &str, args: &[&str], part: &str| {
        std::fs::write(directory.join(file), text).unwrap();
        let output = daemon.run(args);
        assert_eq!(output.code, Some(2), "{text}: {output:?}");
        assert!(output.stderr.contains(part), "{text}: {output:?}");
        for theirs in THEIRS {
            assert!(!output.stderr.contains(theirs), "{text}: `{theirs}` in {output:?}");
        }
    };
    for (text, part) in [
        ("[hosts.a]\naddress = 3\n", "line 2: a text belongs here, not 3"),
        ("[hosts.a]\nadress = \"ssh://a\"\n", "did you mean `address`?"),
        ("[hosts.a]\n", "`address` is missing"),
        ("hosts = 3\n", "line 1: "),
    ] {
        check("hosts.toml", text, &["-H", "a", "ls"], part);
    }
    std::fs::remove_file(directory.join("hosts.toml")).unwrap();
    for (text, part) in [
        ("[defaults]\nnice = -1\n", "config.toml:2"),
        ("[defaults]\nrestart = \"sometimes\"\n", "is not a value of this key"),
        ("[defaults]\nnice = \"x\"\n", "config.toml:2"),
        ("[daemon]\nconnections = 1.5\n", "config.toml:2"),
    ] {
        check("config.toml", text, &["start"], part);
    }
}
