//! Sessions of another machine, by TLS.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use harness::daemon::{finish, finish_within};
use harness::door::{Door, Mood, Odd, SECRET};
use harness::real::*;
use manager::protocol::api::SessionInfo;

#[test]
fn commands_mean_the_daemon_that_this_machine_is_paired_with() {
    let door = Door::paired();
    assert_eq!(door.ok(&["start", "--title", "far"]), "session-1\n");
    assert_eq!(door.daemon.show("session-1").workdir, door.home().display().to_string());
    assert_eq!(door.ok(&["send", "session-1", "pwd"]), format!("{}\n", door.home().display()));
    assert!(door.ok(&["events", "session-1"]).contains("prompt.accepted"));
    assert!(door.ok(&["daemon", "status"]).contains("running"));
    let missing = door.run(&["show", "nobody"]);
    assert_eq!(missing.code, Some(4));
    assert!(missing.stderr.starts_with("error: box: "), "an error names the machine: {missing:#?}");
    let stop = door.run(&["daemon", "stop"]);
    assert_eq!(stop.code, Some(2), "nobody could start it again from here: {stop:#?}");
    assert!(stop.stderr.contains("works on the machine itself; nothing was done"), "{stop:#?}");
    // By its address, wherever one is taken.
    let bare = |args: &[&str]| finish(door.bare(args).spawn().unwrap());
    assert!(bare(&["-H", &door.address(), "ls"]).stdout.contains("far"));
    let by_variable = door.bare(&["ls"]).env("KENNEL_HOST", door.address()).spawn().unwrap();
    assert!(finish(by_variable).stdout.contains("far"));
    std::fs::create_dir(door.home().join("app")).unwrap();
    let address = format!("{}/~/app", door.address());
    let mut attach = door.bare(&["attach", &address]).stdin(Stdio::piped()).spawn().unwrap();
    attach.stdin.take().unwrap().write_all(b"basename $PWD\n").unwrap();
    let attached = finish(attach);
    assert!(attached.stdout.contains("app\n"), "{attached:#?}");
    let listed = bare(&["ls", "--all-hosts"]);
    assert!(listed.stdout.lines().any(|line| line.starts_with("box") && line.contains("far")), "{listed:#?}");
    for (address, says) in [
        (format!("{}/state", door.address()), "has no state directory"),
        (format!("tls://ada@{}", &door.address()[6..]), "no users"),
        ("tls://127.0.0.1:1".to_owned(), "not paired"),
    ] {
        let refused = bare(&["-H", &address, "ls"]);
        assert!(refused.code == Some(2) && refused.stderr.contains(says), "{address}: {refused:#?}");
    }
}

#[test]
fn all_requests_of_a_command_share_one_connection() {
    let door = Door::paired();
    door.ok(&["start"]);
    let before = door.count();
    door.ok(&["send", "session-1", "echo one"]);
    assert_eq!(door.count(), before + 1);
}

/// The files of keys on this machine, with their modes.
fn keys(door: &Door) -> Vec<(String, u32)> {
    let dir = door.config_dir().join("keys");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let Ok(entries) = std::fs::read_dir(&dir) else { return Vec::new() };
    assert_eq!(mode(&dir), 0o700);
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), mode(&path))).collect()
}

#[test]
fn pairing_makes_a_key_for_this_machine_that_is_shown_nowhere() {
    let door = Door::new();
    let paired = door.typed(&["host", "pair", "box"], &door.ticket());
    assert_eq!(paired.code, Some(0), "{paired:#?}");
    for fact in ["key:", "key-1", "driver", "all", "never"] {
        assert!(paired.stdout.contains(fact), "{fact}: {paired:#?}");
    }
    assert_eq!(keys(&door), [("box".to_owned(), 0o600)]);
    let (_, body) = door.pairs();
    let asked: serde_json::Value = serde_json::from_str(&body).unwrap();
    let key = asked["key"].as_str().unwrap();
    assert!(key.starts_with("kk_") && key.len() == 46, "{key}");
    assert_eq!(door.keys(), [key]);
    let hosts = std::fs::read_to_string(door.config_dir().join("hosts.toml")).unwrap();
    assert!(hosts.contains(&door.address()) && hosts.contains(&door.pin()), "{hosts}");
    let listed = finish(door.bare(&["host", "ls"]).spawn().unwrap());
    assert!(listed.stdout.contains(&door.pin()), "{listed:#?}");
    let json = finish(door.bare(&["host", "ls", "--json"]).spawn().unwrap());
    for text in [&paired.stdout, &paired.stderr, &hosts, &listed.stdout, &json.stdout] {
        assert!(!text.contains(key) && !text.contains(SECRET), "{text}");
    }
    // With an address, the secret alone; and a second time, for a machine that has a name.
    let alone = ["host", "pair", "two", &door.address(), "--fingerprint", &door.pin(), "--device", "laptop"];
    assert_eq!(door.typed(&alone, SECRET).code, Some(0));
    assert!(door.pairs().1.contains(r#""name":"laptop""#));
    assert_eq!(door.typed(&["host", "pair", "two"], SECRET).code, Some(0));
    assert_eq!(door.keys().len(), 3, "each pairing has a key of its own");
    // A whole ticket is as good, in whichever shape, if it agrees with what was typed.
    let (address, pin) = (door.address(), door.pin());
    for text in [
        format!("{SECRET}\n{pin}\n{address}"),
        format!("ticket  {address} {}\n{} {SECRET}", &pin[..30], &pin[30..]),
    ] {
        assert_eq!(door.typed(&["host", "pair", "two"], &text).code, Some(0), "{text}");
        assert_eq!(door.typed(&alone, &text).code, Some(0), "{text}");
    }
    let other = typed_for(&door, "SHA256:".to_owned() + &"ab".repeat(32));
    assert!(other.code == Some(2) && other.stderr.contains("the ticket's fingerprint is"), "{other:#?}");
    // A ticket is no argument, and what is wrong with one repeats nothing of it.
    for argument in [&*door.ticket(), SECRET] {
        let output = door.typed(&["host", "pair", "three", argument], "");
        assert!(output.code == Some(2) && !output.stderr.contains(SECRET), "{output:#?}");
    }
    let missing = finish(door.bare(&["host", "add", "four", "tls://box", "--ca", "/nope"]).spawn().unwrap());
    assert!(missing.code == Some(2) && missing.stderr.contains("/nope"), "{missing:#?}");
    let json = door.typed(&["--json", "host", "pair", "two"], SECRET);
    let object: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(object["key"]["role"], "driver", "{json:#?}");
    let rm = finish(door.bare(&["host", "rm", "two"]).spawn().unwrap());
    assert!(rm.code == Some(0) && rm.stderr.contains("kennel key revoke"), "{rm:#?}");
    assert_eq!(keys(&door), [("box".to_owned(), 0o600)]);
    // Only its user may read a key that is used.
    let path = door.config_dir().join("keys/box");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = door.run(&["ls"]);
    assert!(open.code == Some(6) && open.stderr.contains("chmod 600"), "{open:#?}");
}

/// Pairs by an address, a fingerprint and the whole ticket.
fn typed_for(door: &Door, pin: String) -> harness::daemon::CommandOutput {
    door.typed(&["host", "pair", "two", &door.address(), "--fingerprint", &pin], &door.ticket())
}

#[test]
fn a_ticket_that_is_typed_on_a_terminal_is_not_shown() {
    let door = Door::new();
    let pair = door.bare(&["host", "pair", "box"]);
    let words = [pair.get_program()].into_iter().chain(pair.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &line.join(" "), "/dev/null"]).current_dir(door.daemon.workdir());
    script.envs(pair.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut terminal = script.spawn().unwrap();
    let (mut keys, mut screen) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let mut shown = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&shown).contains("prints it: ") {
        let read = screen.read(&mut piece).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&piece[..read]);
    }
    writeln!(keys, "{}", door.ticket()).unwrap();
    screen.read_to_end(&mut shown).unwrap();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(terminal.wait().unwrap().code(), Some(0), "{shown}");
    assert!(shown.contains("key-1") && !shown.contains(SECRET), "{shown}");
}

/// Fails unless nothing is kept of a pairing.
fn nothing_is_kept(door: &Door) {
    assert_eq!(keys(door), []);
    let hosts = std::fs::read_to_string(door.config_dir().join("hosts.toml")).unwrap_or_default();
    assert!(!hosts.contains("box"), "{hosts}");
}

#[test]
fn a_pairing_that_is_refused_leaves_nothing() {
    let door = Door::new();
    let answer = |status, head: &[(&'static str, &str)], body: &[u8]| {
        Odd::Answer(
            status,
            head.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            body.to_vec(),
        )
    };
    for (odd, says) in [
        (answer(302, &[("location", "https://127.0.0.1:1/v1/pair")], b""), "302"),
        (answer(307, &[("location", "/v1/pair")], b""), "307"),
        (answer(200, &[], b"\xff\xfe garbage"), "makes no sense"),
        (answer(201, &[], b"{}"), "makes no sense"),
        (answer(201, &[], b"[1,2,3]"), "makes no sense"),
        (answer(500, &[], b"oops"), "500"),
        (answer(404, &[], b""), "404"),
        (answer(200, &[("x", &"y".repeat(60_000))], b""), ""),
        (Odd::Endless, "more than"),
    ] {
        door.answer_pairings(Some(odd.clone()));
        let output = door.typed(&["host", "pair", "box"], &door.ticket());
        let refused = output.code != Some(0) && output.stderr.contains(says) && output.stderr.len() < 4_000;
        assert!(refused, "{odd:?}: {output:#?}");
        if !says.is_empty() {
            nothing_is_kept(&door);
        }
    }
    door.answer_pairings(None);
    let wrong = door.typed(&["host", "pair", "box"], &door.ticket().replace(SECRET, "wrong-secret-1"));
    assert!(wrong.code == Some(5) && wrong.stderr.contains("no key and no name are kept here"), "{wrong:#?}");
    nothing_is_kept(&door);
    let asked = door.pairs().0;
    let another = Door::new();
    for (line, says) in [
        (String::new(), "nothing was typed"),
        ("hello".to_owned(), "no ticket"),
        (SECRET.to_owned(), "no ticket"),
        (format!("{} {}", door.address(), door.pin()), "no ticket"),
        (format!("{} {} {SECRET} x", door.address(), door.pin()), "no ticket"),
        (format!("{} SHA256:00 {SECRET}", door.address()), "64 hexadecimal"),
        (format!("ssh://box {} {SECRET}", door.pin()), "ssh needs no pairing"),
        ("x".repeat(100_000), "no"),
        (format!("{} {} {SECRET}", door.address(), another.pin()), "Do not go on"),
        (format!("tls://127.0.0.1:1 {} {SECRET}", door.pin()), "Connection refused"),
    ] {
        let output = door.typed(&["host", "pair", "box"], &line);
        assert!(output.code != Some(0) && output.stderr.contains(says), "{line}: {output:#?}");
        assert!(!output.stderr.contains(SECRET), "{output:#?}");
        nothing_is_kept(&door);
    }
    assert_eq!(door.pairs().0, asked, "nothing was sent");
}

#[test]
fn an_answer_to_a_pairing_that_is_lost_costs_nothing() {
    let door = Door::new();
    door.answer_pairings(Some(Odd::Lost(2)));
    let paired = door.typed(&["host", "pair", "box"], &door.ticket());
    assert_eq!((paired.code, door.keys().len()), (Some(0), 1), "{paired:#?}");
    assert!(paired.stdout.contains("key-1"));
    // One that is not there any more: the key waits for the same command.
    door.answer_pairings(Some(Odd::Lost(100)));
    let lost = door.typed(&["host", "pair", "lab"], &door.ticket());
    assert!(lost.code == Some(6) && lost.stderr.contains("run the same command again"), "{lost:#?}");
    assert_eq!(door.keys().len(), 2);
    door.answer_pairings(None);
    assert_eq!(door.typed(&["host", "pair", "lab"], &door.ticket()).code, Some(0));
    assert_eq!(door.keys().len(), 2, "the same key");
    let output = finish(door.bare(&["-H", "lab", "ls"]).spawn().unwrap());
    assert_eq!(output.code, Some(0), "{output:#?}");
}

#[test]
fn another_certificate_ends_it_and_says_why() {
    let door = Door::paired();
    door.ok(&["start"]);
    let mut follower = door.command(&["--json", "events", "-f", "--after", "0"]).spawn().unwrap();
    let mut first = [0; 1];
    follower.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let right = door.pin();
    door.change_certificate();
    door.cut();
    // A command that goes on after cuts does not go on here.
    let follower = finish(follower);
    let fresh = door.run(&["send", "session-1", "touch pwned"]);
    for output in [follower, fresh] {
        assert_eq!(output.code, Some(6), "{output:#?}");
        for part in [&right, &door.pin(), "Do not go on", "the key neither"] {
            assert!(output.stderr.contains(part), "{part}: {output:#?}");
        }
    }
    assert!(!door.home().join("pwned").exists());
    let listed = finish(door.bare(&["ls", "--all-hosts"]).spawn().unwrap());
    assert!(listed.stdout.contains("unreachable"), "{listed:#?}");
    // Replaced on purpose: a new ticket.
    assert_eq!(door.typed(&["host", "pair", "box"], &door.ticket()).code, Some(0));
    door.ok(&["ls"]);
}

#[test]
fn a_key_that_is_revoked_is_an_error_and_not_asked_with_for_ever() {
    let door = Door::paired();
    door.ok(&["start"]);
    let mut follower = door.command(&["--json", "events", "-f", "--after", "0"]).spawn().unwrap();
    let mut first = [0; 1];
    follower.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    door.revoke();
    door.cut();
    let follower = finish(follower);
    let fresh = door.run(&["ls"]);
    for output in [follower, fresh] {
        assert_eq!(output.code, Some(5), "{output:#?}");
        assert!(output.stderr.contains("the key is not valid"), "{output:#?}");
        assert!(output.stderr.contains("kennel host pair box"), "{output:#?}");
    }
}

#[test]
fn a_certificate_that_an_authority_has_signed_needs_no_fingerprint() {
    let door = Door::new();
    let ca = door.config_dir().join("ca.pem");
    std::fs::create_dir_all(door.config_dir()).unwrap();
    std::fs::write(&ca, &door.certificate).unwrap();
    let bare = |args: &[&str]| finish(door.bare(args).spawn().unwrap());
    let add = bare(&["host", "add", "box", &door.address(), "--ca", ca.to_str().unwrap()]);
    assert!(add.code == Some(0) && add.stderr.contains("kennel host pair box"), "{add:#?}");
    let unpaired = door.run(&["ls"]);
    assert!(unpaired.code == Some(6) && unpaired.stderr.contains("not paired"), "{unpaired:#?}");
    assert_eq!(door.typed(&["host", "pair", "box"], SECRET).code, Some(0));
    assert_eq!(door.ok(&["start"]), "session-1\n");
    // Neither another authority nor those of the system.
    door.change_certificate();
    let other = door.run(&["ls"]);
    assert!(other.code == Some(6) && other.stderr.contains("not accepted"), "{other:#?}");
    assert_eq!(bare(&["host", "add", "sys", &door.address()]).code, Some(0));
    let system = door.typed(&["host", "pair", "sys"], SECRET);
    assert_eq!(system.code, Some(6), "{system:#?}");
    for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&ca, text).unwrap();
        let output = door.run(&["ls"]);
        assert!(output.code == Some(6) && !output.stderr.contains("panic"), "{text}: {output:#?}");
    }
    std::fs::remove_file(&ca).unwrap();
    assert!(door.run(&["ls"]).stderr.contains("ca.pem"));
}

#[test]
fn what_is_no_kennel_is_an_error_and_never_a_hang() {
    let door = Door::paired();
    door.be(Mood::Closed);
    let closed = door.run(&["ls"]);
    assert!(closed.code == Some(6) && closed.stderr.contains("ended the connection"), "{closed:#?}");
    // HTTP without TLS; noise; the alert of a server that speaks nothing newer than TLS 1.2.
    for (answer, says) in [
        (&b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..], "does not speak TLS"),
        (b"SSH-2.0-x\r\n", "does not speak TLS"),
        (b"\x16\x03\x03\x00\x05abcde", "TLS"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "does not speak TLS 1.3"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tls://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(answer).unwrap();
            // Until the client has ended it.
            let _ = stream.read(&mut [0; 4096]);
        });
        let ticket = format!("{address} {} {SECRET}", door.pin());
        let output = door.typed(&["host", "pair", "other"], &ticket);
        assert!(output.code == Some(6) && output.stderr.contains(says), "{answer:?}: {output:#?}");
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let door = Door::paired();
    door.be(Mood::Silent);
    let output = finish_within(door.command(&["ls"]).spawn().unwrap(), BOUND * 2);
    assert!(output.code == Some(6) && output.stderr.contains("no answer within"), "{output:#?}");
    let listed = finish(door.bare(&["ls", "--all-hosts"]).spawn().unwrap());
    assert!(listed.stdout.contains("unreachable"), "{listed:#?}");
}

#[test]
fn a_connection_that_carries_nothing_any_more_is_made_anew() {
    let door = Door::paired();
    door.ok(&["start"]);
    door.daemon.ok(&["send", "--no-wait", "session-1", "while ! [ -e go ]; do sleep 0.01; done"]);
    let before = door.count();
    let wait = door.command(&["wait", "session-1", "--until", "idle"]).spawn().unwrap();
    until("the wait's connection", || (door.count() > before).then_some(()));
    std::thread::park_timeout(std::time::Duration::from_millis(300));
    door.be(Mood::Silent);
    std::fs::write(door.home().join("go"), "").unwrap();
    // It has been noticed once another connection is tried.
    let tried = door.count();
    let within = std::time::Instant::now() + BOUND * 4;
    while door.count() == tried && std::time::Instant::now() < within {
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    assert!(door.count() > tried, "nobody has noticed");
    door.be(Mood::Open);
    let output = finish_within(wait, BOUND * 4);
    assert_eq!(output.code, Some(0), "{output:#?}");
}

#[test]
fn an_editor_here_works_with_an_agent_there() {
    let door = Door::paired();
    std::fs::create_dir(door.home().join("app")).unwrap();
    let mut editor = door.command(&["acp", "--dir", "app"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = editor.stdin.take().unwrap();
    for line in [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1,"clientCapabilities":{}}}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"session/new","params":{"cwd":"/only/here","mcpServers":[]}}"#,
    ] {
        writeln!(stdin, "{line}").unwrap();
    }
    let session = until("the editor's session", || door.daemon.json::<Vec<SessionInfo>>(&["ls"]).pop());
    drop(stdin);
    let output = finish(editor);
    assert!(output.stdout.contains(session.id.as_str()), "{output:#?}");
}
