//! The time limits of log-ins, on the real worker and a program that does not want to end.

use std::pin::Pin;
use std::time::Instant;

use harness::real::{BOUND, beside, mentioning, worker};

use super::*;
use crate::workers::LogInLimits;

/// A face whose agent `slow` logs in by this script of the fixture.
async fn slow(limits: LogInLimits, steps: &str) -> Face {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    let command = [beside("fixture-agent").to_str().unwrap(), "--script", steps].map(str::to_owned);
    let text = format!(
        "[agents.slow]\nkind = \"command\"\ncommand = [\"/bin/cat\"]\nlogin_command = {command:?}\nenv = {{ LOGIN = {:?} }}\n",
        dir.path()
    );
    std::fs::write(&config, text).unwrap();
    Face::with(dir, |builder| builder.worker_path(worker()).config(config).log_in_limits(limits)).await
}

impl Face {
    /// The path of a log-in that has begun.
    async fn log_in(&self) -> String {
        let (status, info) = self.ask("POST", "/v1/agents/slow/login", Value::Null).await;
        assert_eq!(status, 201, "{info}");
        format!("/v1/logins/{}", info["id"].as_str().unwrap())
    }

    /// A client that reads a log-in until it is dropped.
    async fn reader(&self, login: &str) -> Reader {
        let response = self.send(Request::get(login).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        Reader { body: Box::pin(response.into_body()), text: String::new() }
    }

    /// Waits until a log-in has ended, and reads nothing of it meanwhile.
    async fn ended(&self, login: &str) {
        let visit = || json!({"url": "http://127.0.0.1:1/"});
        let end = Instant::now() + BOUND;
        loop {
            let (_, answer) = self.ask("POST", &format!("{login}/visit"), visit()).await;
            if answer["code"] == "login_ended" {
                // At once: one that has ended has no process.
                assert_eq!(self.processes(), [0; 0]);
                return;
            }
            assert_eq!(answer["code"], "not_its_port", "{answer}");
            assert!(Instant::now() < end, "the log-in goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The processes of log-ins.
    fn processes(&self) -> Vec<u32> {
        mentioning(self.dir.path().to_str().unwrap())
    }
}

/// A client that reads a log-in, and its text so far.
struct Reader {
    body: Pin<Box<Body>>,
    text: String,
}

impl Reader {
    /// Reads until these words have come.
    async fn reads(&mut self, words: &str) {
        let end = Instant::now() + BOUND;
        while !self.text.contains(words) {
            // A stream on which nothing happens brings comments.
            let left = end.saturating_duration_since(Instant::now());
            let frame = tokio::time::timeout(left, self.body.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("no {words}: {}", self.text));
            let frame = frame.unwrap_or_else(|| panic!("the end before {words}: {}", self.text));
            self.text += std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap();
        }
    }
}

const UNREAD: &str = "{\"code\":null,\"signal\":null,\"reason\":\"nobody has read it for a minute\"}";
const TOO_LONG: &str = "{\"code\":null,\"signal\":null,\"reason\":\"15 minutes are over\"}";

#[tokio::test]
async fn a_log_in_that_nobody_reads_ends_and_leaves_no_process() {
    let limits = LogInLimits { unread_ms: 1_500, ..LogInLimits::default() };
    let face = slow(limits, "deaf; fork 3; escape; say up; sleep 2s; say later; sleep 100s").await;
    // Nobody ever comes.
    let begun = Instant::now();
    let login = face.log_in().await;
    face.ended(&login).await;
    assert!(begun.elapsed() >= Duration::from_millis(limits.unread_ms), "{:?}", begun.elapsed());
    face.reader(&login).await.reads(UNREAD).await;

    // Somebody reads for longer than that, and leaves.
    let login = face.log_in().await;
    let mut reader = face.reader(&login).await;
    reader.reads("later").await;
    assert_eq!(face.ask("POST", &format!("{login}/input"), json!({"text": "x"})).await.0, 204, "it goes on");
    assert!(face.processes().len() > 4, "{:?}", face.processes());
    let left = Instant::now();
    drop(reader);
    face.ended(&login).await;
    assert!(left.elapsed() >= Duration::from_millis(limits.unread_ms), "{:?}", left.elapsed());
    let mut late = face.reader(&login).await;
    late.reads("event: ended").await;
    late.reads(UNREAD).await;
    assert!(late.text.contains("later"), "{}", late.text);
    face.end().await;
}

#[tokio::test]
async fn a_log_in_that_is_read_ends_at_the_limit_of_the_whole() {
    let limits = LogInLimits { longest_ms: 3_000, ..LogInLimits::default() };
    let face = slow(limits, "deaf; fork 3; escape; say up; sleep 100s").await;
    let begun = Instant::now();
    let login = face.log_in().await;
    let mut reader = face.reader(&login).await;
    reader.reads("up").await;
    assert!(face.processes().len() > 4, "{:?}", face.processes());
    reader.reads(TOO_LONG).await;
    assert_eq!(face.processes(), [0; 0]);
    assert!(begun.elapsed() >= Duration::from_millis(limits.longest_ms), "{:?}", begun.elapsed());
    // Whoever comes later hears the same.
    face.reader(&login).await.reads(TOO_LONG).await;
    // Its place is free.
    let next = face.log_in().await;
    assert_ne!(next, login);
    assert_eq!(face.ask("DELETE", &next, Value::Null).await.0, 204);
    assert_eq!(face.processes(), [0; 0]);
    face.end().await;
}
