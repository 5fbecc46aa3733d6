//! Questions that a command puts to the daemon: no more than it needs, and other ones where the daemon is older.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use harness::daemon::{CommandOutput, Daemon, finish};
use protocol::api::SessionInfo;

/// A server in the place of a daemon. Keeps the first line of each request.
struct Server {
    dir: tempfile::TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

/// A status and a body.
type Answer = (u16, String);

impl Server {
    /// Answers a request by its method and path.
    fn new(answer: impl Fn(&str) -> Answer + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (listener, asked) = (UnixListener::bind(dir.path().join("s")).unwrap(), Arc::default());
        let server = Self { dir, asked };
        let asked = server.asked.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let said = request(&stream);
                let (status, body) = answer(&said);
                asked.lock().unwrap().push(said);
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
                (&stream).write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        server
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// Runs a command that asks this server; what it said, and what was asked.
    fn run(&self, args: &[&str]) -> (CommandOutput, Vec<String>) {
        let mut command = std::process::Command::new(harness::real::kennel());
        command
            .args(args)
            .env("KENNEL_SOCKET", self.socket())
            .env("KENNEL_STATE_DIR", self.dir.path().join("state"));
        command.env_remove("KENNEL_SESSION").env("NO_COLOR", "1").stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let said = finish(command.spawn().unwrap());
        (said, std::mem::take(&mut *self.asked.lock().unwrap()))
    }
}

/// Reads a request to its end; its method and path.
fn request(mut stream: &UnixStream) -> String {
    let mut all = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return head.split(" HTTP/").next().unwrap().to_owned();
            }
        }
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "a request without an end: {text}");
        all.extend_from_slice(&piece[..read]);
    }
}

fn problem(status: u16, code: &str) -> Answer {
    let problem = serde_json::json!({ "type": "about:blank", "title": code, "status": status, "code": code, "detail": code });
    (status, problem.to_string())
}

/// Two sessions as a daemon tells them: `up`, and `down`, which is stopped.
fn sessions() -> Vec<SessionInfo> {
    let daemon = Daemon::new();
    for id in ["up", "down"] {
        daemon.ok(&["start", "--id", id]);
        daemon.idle(id);
    }
    daemon.ok(&["stop", "down"]);
    assert_eq!(daemon.ok(&["ls", "--quiet"]), "up\n");
    assert_eq!(daemon.ok(&["ls", "--quiet", "--all"]), "up\ndown\n");
    daemon.json(&["ls", "--all"])
}

#[test]
fn ls_asks_for_what_it_shows_and_gets_along_with_a_daemon_that_tells_all() {
    let all = serde_json::to_string(&sessions()).unwrap();
    let (told, refused) = (all.clone(), all);
    let deaf = Server::new(move |_| (200, told.clone()));
    let strict = Server::new(move |said| match said.contains('?') {
        true => problem(400, "invalid_parameter"),
        false => (200, refused.clone()),
    });
    let (few, every) = ("GET /v1/sessions?all=false", "GET /v1/sessions");
    for (server, args, printed, questions) in [
        (&deaf, &["ls", "--quiet"][..], "up\n", &[few][..]),
        (&deaf, &["ls", "--quiet", "--all"], "up\ndown\n", &[every]),
        (&strict, &["ls", "--quiet"], "up\n", &[few, every]),
        (&strict, &["ls", "--quiet", "--all"], "up\ndown\n", &[every]),
    ] {
        let (said, asked) = server.run(args);
        assert_eq!((said.code, &*said.stdout), (Some(0), printed), "{said:?}");
        assert_eq!(asked, questions, "{args:?}");
    }
    let (said, _) = deaf.run(&["--json", "ls"]);
    let listed: Vec<SessionInfo> = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(listed.iter().map(|session| session.id.as_str()).collect::<Vec<_>>(), ["up"]);
}

#[test]
fn a_whole_id_takes_one_question_and_the_beginning_of_one_three() {
    let one = serde_json::to_string(&sessions().remove(0)).unwrap();
    let accepted = serde_json::json!({
        "session_id": "up", "prompt_id": "prompt-7", "event_id": 9, "disposition": "started"
    });
    let server = Server::new(move |said| match said {
        "GET /v1/sessions/up" => (200, one.clone()),
        "POST /v1/sessions/up/prompts" => (202, accepted.to_string()),
        "GET /v1/lookup?id=u" => (200, r#"{"id":"up"}"#.into()),
        _ => problem(404, "no_such_session"),
    });
    for (args, questions) in [
        (&["show", "up"][..], &["GET /v1/sessions/up"][..]),
        (&["show", "u"], &["GET /v1/sessions/u", "GET /v1/lookup?id=u", "GET /v1/sessions/up"]),
        (&["send", "--no-wait", "up", "x"], &["POST /v1/sessions/up/prompts"]),
        (
            &["send", "--no-wait", "u", "x"],
            &["POST /v1/sessions/u/prompts", "GET /v1/lookup?id=u", "POST /v1/sessions/up/prompts"],
        ),
    ] {
        let (said, asked) = server.run(args);
        assert_eq!(said.code, Some(0), "{args:?}: {said:?}");
        assert_eq!(asked, questions, "{args:?}");
    }
    let (said, asked) = server.run(&["show", "nobody"]);
    assert_eq!((said.code, asked.len()), (Some(4), 2), "{said:?} {asked:?}");
    // A text that can be no id is looked up all the same.
    assert_eq!(server.run(&["show", "no id"]).1, ["GET /v1/lookup?id=no%20id"]);
}
