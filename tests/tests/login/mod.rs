//! Log-ins of agents that a person finishes through kennel: from this machine, by ssh and by TLS.

mod hostile;
mod terminal;
mod typing;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use harness::daemon::{CommandOutput, Daemon, finish};
use harness::door::Door;
use harness::far::Far;
use harness::real::*;
use serde_json::{Value, json};

/// Asks for a code on its terminal, and writes it into a file. Its answer begins with control sequences.
const CODE: &str = r#"printf '\033]0;title\007\033[1;32mWelcome\033[0m to \342\200\256the\b\b\b\rvendor\n'
echo "Open https://vendor.example/device in a browser"
stty -echo < /dev/tty; printf 'Code: ' > /dev/tty; read -r code < /dev/tty; stty echo < /dev/tty
printf '\n'
[ -n "$code" ] || exit 3
printf '%s' "$code" > "$FILE"
printf 'Logged in\n'
"#;

/// Writes the configuration of a daemon: agents whose log-ins are these commands. `LOGIN` is in the environment of each.
fn configure(daemon: &Daemon, agents: &[(&str, &[&str])]) {
    let dir = daemon.dir.path();
    std::fs::create_dir_all(dir.join("kennel")).unwrap();
    let env = format!("LOGIN = {:?}, FILE = {:?}", mark(daemon), file(daemon).display().to_string());
    let config: String = agents
        .iter()
        .map(|(name, command)| {
            let written =
                if command.is_empty() { String::new() } else { format!("login_command = {command:?}\n") };
            format!(
                "[agents.{name}]\nkind = \"command\"\ncommand = [\"/bin/cat\"]\n{written}env = {{ {env} }}\n"
            )
        })
        .collect();
    std::fs::write(dir.join("kennel/config.toml"), config).unwrap();
}

/// The value of a variable of all programs of a log-in, and of no other process.
fn mark(daemon: &Daemon) -> String {
    format!("{}/login-of-a-test", daemon.dir.path().display())
}

/// Where a log-in keeps what it got.
fn file(daemon: &Daemon) -> PathBuf {
    daemon.dir.path().join("credentials")
}

fn script(daemon: &Daemon, name: &str, text: &str) -> String {
    let path = daemon.dir.path().join(name);
    harness::real::script(&path, &format!("#!/bin/sh\n{text}"));
    path.display().to_string()
}

fn fixture() -> String {
    beside("login-fixture").display().to_string()
}

/// A daemon with the log-ins `code` and `browser`.
fn vendors(daemon: &Daemon) {
    let (code, browser) = (script(daemon, "code.sh", CODE), fixture());
    configure(
        daemon,
        &[
            ("code", &[&code]),
            ("browser", &[&browser, "wait", file(daemon).to_str().unwrap()]),
            ("plain", &[]),
        ],
    );
}

/// Nothing of any log-in is left.
fn gone(daemon: &Daemon) {
    until("nothing is left of the log-in", || mentioning(&mark(daemon)).is_empty().then_some(()));
}

/// Status and body of an answer.
fn ask(daemon: &Daemon, method: &str, path: &str, body: Value) -> (u16, Value) {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: kennel\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// The beginning of a log-in by the API, and its id.
fn begin(daemon: &Daemon, agent: &str) -> String {
    let (status, body) = ask(daemon, "POST", &format!("/v1/agents/{agent}/login"), Value::Null);
    assert_eq!(status, 201, "{body}");
    body["id"].as_str().unwrap().to_owned()
}

/// All that a stream brings until these words are in it.
fn output(daemon: &Daemon, id: &str, after: u64, words: &str) -> String {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    write!(stream, "GET /v1/logins/{id}?after={after} HTTP/1.0\r\nHost: kennel\r\n\r\n").unwrap();
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&all);
        if text.contains(words) {
            return text.into_owned();
        }
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => all.extend(&buffer[..read]),
            other => panic!("{other:?} before {words}: {text}"),
        }
    }
}

/// Collects the text that arrives on a pipe or connection.
fn told(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let all: Arc<Mutex<String>> = Arc::default();
    let (kept, mut from) = (all.clone(), from);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    });
    all
}

/// A command that runs, and what it has printed.
struct Running {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Running {
    fn new(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (told(child.stdout.take().unwrap()), told(child.stderr.take().unwrap()));
        Self { child, stdout, stderr }
    }

    /// Waits until its standard output has these words.
    fn shows(&self, words: &str) {
        until(words, || self.stdout.lock().unwrap().contains(words).then_some(()));
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn end(mut self) -> CommandOutput {
        let status = until("the command's end", || self.child.try_wait().unwrap());
        // Its pipes have ended with it, but for what is still on the way here.
        let all = |text: Arc<Mutex<String>>| {
            until("the rest", || (Arc::strong_count(&text) == 1).then_some(()));
            std::mem::take(&mut *text.lock().unwrap())
        };
        CommandOutput { code: status.code(), stdout: all(self.stdout), stderr: all(self.stderr) }
    }
}

/// Finishes `login browser`: pastes the address to which a browser on the server would be sent.
fn paste_address(command: Command) -> CommandOutput {
    let mut running = Running::new(command);
    let port = port_of(&running.stdout);
    running.type_line(&format!("http://localhost:{port}/callback?code=PASTED-1"));
    running.end()
}

/// The port in a link that was shown.
fn port_of(shown: &Mutex<String>) -> u16 {
    until("a link", || {
        let text = shown.lock().unwrap();
        let (_, rest) = text.split_once("localhost%3A")?;
        rest.split_once('%')?.0.parse().ok()
    })
}

fn typed(mut command: Command, line: &str) -> CommandOutput {
    let mut child: Child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    finish(child)
}

fn contains(path: &Path, secret: &str) -> bool {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut paths = entries.map(|entry| entry.path());
    paths.any(|path| match path.is_dir() {
        true => contains(&path, secret),
        false => std::fs::read(path)
            .is_ok_and(|bytes| bytes.windows(secret.len()).any(|it| it == secret.as_bytes())),
    })
}

#[test]
fn a_code_is_pasted_and_nobody_else_has_it() {
    let daemon = Daemon::new();
    vendors(&daemon);
    let output = typed(daemon.command(&["login", "code"]), "SECRET-CODE-1\n");
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert_eq!(std::fs::read_to_string(file(&daemon)).unwrap(), "SECRET-CODE-1");
    assert!(output.stdout.contains("Open https://vendor.example/device in a browser\n"), "{output:#?}");
    assert!(output.stdout.contains("Code: ") && output.stdout.ends_with("Logged in\n"), "{output:#?}");
    assert!(output.stdout.starts_with("vendor\n"), "without control sequences: {output:#?}");
    assert!(output.stderr.contains("the log-in program of code ended well"), "{output:#?}");
    assert!(!output.stdout.contains("SECRET") && !output.stderr.contains("SECRET"), "{output:#?}");
    gone(&daemon);
    assert!(!contains(&daemon.dir.path().join("state"), "SECRET-CODE-1"), "it is in no log and no record");
    assert!(!daemon.events().iter().any(|event| format!("{event:?}").contains("login")));
    // The program says that it has not logged in.
    let output = typed(daemon.command(&["login", "code"]), "\n");
    assert_eq!(output.code, Some(1), "{output:#?}");
    assert!(output.stderr.contains("ended with status 3"), "{output:#?}");
    gone(&daemon);
}

#[test]
fn a_browser_that_is_sent_to_the_server_may_be_anywhere() {
    let daemon = Daemon::new();
    vendors(&daemon);
    let output = paste_address(daemon.command(&["login", "browser"]));
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert_eq!(std::fs::read_to_string(file(&daemon)).unwrap(), "PASTED-1");
    assert!(
        output.stderr.contains("answered: 200 Signed in to the vendor"),
        "with its redirect: {output:#?}"
    );
    assert!(output.stdout.ends_with("Logged in\n"), "{output:#?}");
    gone(&daemon);
}

#[test]
fn a_log_in_is_finished_over_ssh() {
    let far = Far::new();
    vendors(&far.daemon);
    let output = typed(far.command(&["login", "code"]), "FROM-AFAR\n");
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert_eq!(std::fs::read_to_string(file(&far.daemon)).unwrap(), "FROM-AFAR");
    let output = paste_address(far.command(&["login", "browser"]));
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert_eq!(std::fs::read_to_string(file(&far.daemon)).unwrap(), "PASTED-1");
    // On one machine the port is taken by the program itself.
    assert!(output.stderr.contains("paste here the address"), "{output:#?}");
    gone(&far.daemon);
}

#[test]
fn a_log_in_is_finished_over_tls_and_goes_on_when_the_connection_is_cut() {
    let door = Door::paired();
    vendors(&door.daemon);
    let mut running = Running::new(door.command(&["login", "code"]));
    running.shows("Code: ");
    door.cut();
    running.type_line("BY-TLS");
    let output = running.end();
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert_eq!(std::fs::read_to_string(file(&door.daemon)).unwrap(), "BY-TLS");
    assert_eq!(
        output.stdout.matches("https://vendor.example").count(),
        1,
        "nothing is shown twice: {output:#?}"
    );
    let output = paste_address(door.command(&["login", "browser"]));
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert_eq!(std::fs::read_to_string(file(&door.daemon)).unwrap(), "PASTED-1");
    gone(&door.daemon);
}

/// Runs a command of a machine of its own: in a network of its own, with a loopback device of its own.
fn elsewhere(command: &Command) -> Command {
    let mut there = Command::new("unshare");
    let set_up = "ip link set lo up && exec \"$0\" \"$@\"";
    there.args(["--user", "--map-root-user", "--net", "sh", "-c", set_up]);
    there.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => there.env(name, value),
            None => there.env_remove(name),
        };
    }
    there.current_dir(command.get_current_dir().unwrap());
    there.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    there
}

#[test]
fn a_browser_beside_the_person_reaches_the_program_through_the_same_port() {
    let far = Far::new();
    vendors(&far.daemon);
    // The daemon is on the other machine before anybody asks from here.
    far.daemon.ok(&["ls"]);
    // The stand-in for `ssh`, which needs no network of this machine.
    let (home, dir) = (far.home(), far.daemon.dir.path().display().to_string());
    far.replace(&format!(
        "for last; do :; done\ncd {} && exec env HOME={} XDG_RUNTIME_DIR={dir} XDG_CONFIG_HOME={dir} sh -c \"$last\"",
        home.display(),
        home.display()
    ));
    let running = Running::new(elsewhere(&far.command(&["login", "browser"])));
    let port = port_of(&running.stdout);
    until("the port", || {
        let text = running.stderr.lock().unwrap();
        assert!(!text.contains("paste here"), "{text}");
        text.contains(&format!("localhost:{port}")).then_some(())
    });
    // Beside it, in the same network: `unshare` has become the command.
    let client = running.child.id();
    let browse = |url: String| {
        let mut browser = Command::new("nsenter");
        browser.args(["--preserve-credentials", "--user", "--net", "-t", &client.to_string()]);
        browser.args([fixture(), "browse".into(), url]);
        browser.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(browser.spawn().unwrap())
    };
    let stranger = browse(format!("http://127.0.0.1:{port}/favicon.ico"));
    assert!(stranger.stdout.contains("no icon"), "{stranger:#?}");
    let page = browse(format!("http://localhost:{port}/callback?code=FORWARDED"));
    assert_eq!(page.code, Some(0), "{page:#?}");
    assert!(page.stdout.starts_with("Signed in to the vendor\n"), "{page:#?}");
    let output = running.end();
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert_eq!(std::fs::read_to_string(file(&far.daemon)).unwrap(), "FORWARDED");
    gone(&far.daemon);
}

#[test]
fn output_goes_on_from_any_byte_and_a_log_in_of_an_agent_is_one() {
    let daemon = Daemon::new();
    vendors(&daemon);
    daemon.ok(&["ls"]);
    let id = begin(&daemon, "code");
    let all = output(&daemon, &id, 0, "Code: ");
    let end: u64 =
        all.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap().parse().unwrap();
    assert!(all.contains("\"offset\":0"), "{all}");
    let (status, body) = ask(&daemon, "POST", "/v1/agents/code/login", Value::Null);
    assert_eq!((status, &body["code"]), (409, &json!("login_running")), "{body}");
    let long = json!({ "text": "x".repeat(16 * 1024 + 1) });
    for (body, code) in [(json!({ "text": "" }), "invalid_login_input"), (long, "invalid_login_input")] {
        let (status, answer) = ask(&daemon, "POST", &format!("/v1/logins/{id}/input"), body);
        assert_eq!((status, &answer["code"]), (400, &json!(code)));
    }
    assert_eq!(ask(&daemon, "POST", &format!("/v1/logins/{id}/input"), json!({ "text": "later\r" })).0, 204);
    let rest = output(&daemon, &id, end, "event: ended");
    assert!(!rest.contains("Welcome") && rest.contains("Logged in"), "{rest}");
    assert!(rest.contains("\"code\":0"), "{rest}");
    // Its last words are there for a while, and nothing can be typed any more.
    assert!(output(&daemon, &id, 0, "event: ended").contains("Welcome"));
    let (status, body) = ask(&daemon, "POST", &format!("/v1/logins/{id}/input"), json!({ "text": "SECRET" }));
    assert_eq!((status, &body["code"]), (409, &json!("login_ended")), "{body}");
    assert!(!body.to_string().contains("SECRET"));
    assert_eq!(ask(&daemon, "DELETE", &format!("/v1/logins/{id}"), Value::Null).0, 204);
    gone(&daemon);
}

#[test]
fn an_agent_without_such_a_command_says_what_to_do() {
    let daemon = Daemon::new();
    vendors(&daemon);
    for (agent, code, says) in [
        ("plain", 7, "login_command"),
        ("gemini", 7, "run `gemini` and log in"),
        ("shell", 7, "a shell, which has no log-in"),
        ("nobody", 2, "no such agent"),
    ] {
        let output = daemon.run(&["login", agent]);
        assert_eq!(output.code, Some(code), "{agent}: {output:#?}");
        assert!(output.stderr.contains(says), "{agent}: {output:#?}");
    }
}
