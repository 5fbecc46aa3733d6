//! Every example of `README.md`, of each page in `manager/docs/` and of each `--help`, run as printed: in a
//! terminal of 40 columns, without a terminal, in cron's environment, and by another user.
//!
//! The list is read from these texts, so that an example without a row in [`FLOWS`] fails. A recorded session
//! is run whole, and its output compared.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::daemon::{CommandOutput, finish};
use harness::real::*;
use manager::protocol::api::SessionInfo;
use nix::sys::signal::Signal;

mod table;
mod world;

use table::*;
use world::World;

/// The width of the terminal, in columns.
const COLUMNS: u16 = 40;
/// Another user, who owns nothing.
const OTHER: u32 = 65_533;

/// The examples below `Example:` or `Examples:` in a help text, without what explains them.
fn examples(help: &str) -> Vec<String> {
    let below = help.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
    let lines = below.take_while(|line| line.starts_with("  "));
    lines.map(|line| line.trim_start().split("  ").next().unwrap().trim().to_owned()).collect()
}

/// All help texts, from the commands that each one lists.
fn helps(command: &[&str], all: &mut Vec<String>) {
    let printed = finish(
        Command::new(kennel())
            .args(command)
            .arg("--help")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let listed = printed.stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names: Vec<String> = listed
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|name| name != "help")
        .collect();
    for name in &names {
        helps(&[command, &[name]].concat(), all);
    }
    all.push(printed.stdout);
}

/// The console blocks of README.md and of the pages in `manager/docs/`.
fn consoles() -> Vec<String> {
    let blocks = super::documents::pages().into_iter().flat_map(|page| page.blocks("console"));
    blocks.collect()
}

/// The command of a line of a console block, without its comment; `None` for a line of output.
fn typed(line: &str) -> Option<&str> {
    Some(line.strip_prefix("$ ")?.split("  #").next().unwrap().trim())
}

/// A recorded line with what differs from run to run taken out: long numbers, ages, and the width of columns.
fn without_chance(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        match &word[digits..] {
            "" if digits > 2 => "NUMBER",
            "s" | "m" if digits > 0 => "AGE",
            _ => word,
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_recorded_session_shows_what_it_shows_when_it_is_typed() {
    let recorded: Vec<String> =
        consoles().into_iter().filter(|block| block.lines().any(|line| typed(line).is_none())).collect();
    assert!(!recorded.is_empty(), "no console block has output");
    for block in recorded {
        let world = World::new(Nothing);
        let mut shown: Vec<String> = Vec::new();
        for command in block.lines().filter_map(typed) {
            shown.push(format!("$ {command}"));
            // The pid of the recording is that of the session now.
            let pid = command.strip_prefix("kill -9 ").map(|_| world.daemon.idle("session-1").pid.unwrap());
            let printed = finish(
                world.shell(&pid.map_or(command.to_owned(), |pid| format!("kill -9 {pid}"))).spawn().unwrap(),
            );
            assert_eq!(printed.code, Some(0), "{command}: {printed:#?}");
            shown.extend(format!("{}{}", printed.stdout, printed.stderr).lines().map(str::to_owned));
            if let Some(pid) = pid {
                until("the crash", || (world.daemon.show("session-1").pid != Some(pid)).then_some(()));
                world.daemon.idle("session-1");
            }
        }
        let plain = |lines: Vec<&str>| lines.into_iter().map(without_chance).collect::<Vec<_>>();
        let (there, here) =
            (plain(block.lines().collect()), plain(shown.iter().map(String::as_str).collect()));
        assert_eq!(there, here, "{}", shown.join("\n"));
    }
}

#[test]
fn every_example_of_the_pages_and_of_each_help_is_a_flow_here_and_no_flow_is_of_another_time() {
    let mut all = Vec::new();
    helps(&[], &mut all);
    let in_pages = consoles();
    let in_pages = in_pages.iter().flat_map(|block| block.lines().filter_map(typed).map(str::to_owned));
    let written: BTreeSet<String> = all.iter().flat_map(|help| examples(help)).chain(in_pages).collect();
    assert!(written.len() > 80, "{written:#?}");
    let here: BTreeSet<String> = FLOWS.iter().map(|(line, ..)| (*line).to_owned()).collect();
    let missing: Vec<_> = written.difference(&here).collect();
    let stale: Vec<_> = here.difference(&written).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "not in FLOWS: {missing:#?}\nnowhere written: {stale:#?}"
    );
}

use harness::real::script as program;

/// Every flow in a world of its own, two at a time. All that fail are named.
fn each(run: impl Fn(&World, &str, End, &str) + Sync) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((example, before, end, shows)) =
                    FLOWS.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let one = || {
                        let world = World::new(*before);
                        run(&world, &world.line(example), *end, shows);
                    };
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(one)).is_err() {
                        failed.lock().unwrap().push(*example);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Runs a line to its end without a terminal, as far as it has one.
fn without_terminal(mut command: Command, line: &str, end: End) -> CommandOutput {
    let Interrupt(words) = end else { return finish(command.spawn().unwrap()) };
    // Its own process is the command, not a shell.
    command.args(["-c", &format!("exec {line} > said 2>&1")]);
    let directory: PathBuf = command.get_current_dir().unwrap().into();
    let mut child = command.spawn().unwrap();
    let printed = || std::fs::read_to_string(directory.join("said")).unwrap_or_default();
    until(line, || (printed().contains(words) && is_kennel(child.id())).then_some(()));
    harness::real::signal(child.id(), Signal::SIGINT);
    let status = until(line, || child.try_wait().unwrap());
    // The status as a shell reports it.
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    CommandOutput { code, stdout: printed(), stderr: String::new() }
}

/// Returns true if a process is kennel by now, and no longer the shell that becomes it.
fn is_kennel(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("kennel"))
}

/// Checks the properties of every command line, anywhere.
fn sound(line: &str, printed: &CommandOutput) {
    for text in [&printed.stdout, &printed.stderr] {
        assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{line}: {printed:#?}");
    }
}

fn plain(line: &str, printed: &CommandOutput, end: End, shows: &str) {
    sound(line, printed);
    let both = format!("{}{}", printed.stdout, printed.stderr);
    match end {
        Code(code) => assert_eq!(printed.code, Some(code), "{line}: {printed:#?}"),
        Input(_) => assert_eq!(printed.code, Some(0), "{line}: {printed:#?}"),
        Unanswered(_) | Screen(_) => assert_eq!(printed.code, Some(2), "{line}: {printed:#?}"),
        Interrupt(_) => assert!([Some(0), Some(130)].contains(&printed.code), "{line}: {printed:#?}"),
    }
    assert!(both.contains(shows), "{line} does not show {shows:?}: {printed:#?}");
    assert!(!both.contains('\u{1b}'), "{line}: escape codes for a pipe: {printed:#?}");
}

#[test]
fn every_flow_works_without_a_terminal_and_has_no_escape_codes_there() {
    each(|world, line, end, shows| {
        let command = match end {
            Interrupt(_) => {
                let mut command = Command::new("/bin/sh");
                world.around(&mut command);
                command
            }
            Code(_) | Input(_) | Unanswered(_) | Screen(_) => world.shell(line),
        };
        plain(line, &without_terminal(command, line, end), end, shows);
    });
}

#[test]
fn every_flow_works_in_the_environment_of_cron() {
    each(|world, line, end, shows| {
        let own = |command: &mut Command| {
            command.env_clear().env("HOME", world.home()).env("PATH", "/usr/bin:/bin");
            command.env("SHELL", "/bin/sh").env("LOGNAME", "somebody");
        };
        // cron's PATH has no kennel: a crontab names it. Nor has cron the variables that name this world's
        // directories.
        let state = world.home().join("state");
        let config = world.home().join("kennel/config.toml");
        let set = format!(
            "PATH={}; KENNEL_STATE_DIR={}; KENNEL_CONFIG={}; export PATH KENNEL_STATE_DIR KENNEL_CONFIG; ",
            world.path(),
            state.display(),
            config.display()
        );
        // There is no runtime directory, so the socket is asked of the state directory.
        let line = line.replace("\"$(cat ~/.local/state/kennel/address)\"", "\"$(cat state/address)\"");
        let command = match end {
            Interrupt(_) => {
                let mut command = Command::new("/bin/sh");
                world.around(&mut command);
                own(&mut command);
                command
                    .env("PATH", world.path())
                    .env("KENNEL_STATE_DIR", &state)
                    .env("KENNEL_CONFIG", &config);
                command
            }
            Code(_) | Input(_) | Unanswered(_) | Screen(_) => {
                let mut command = world.shell(&format!("{set}{line}"));
                own(&mut command);
                command
            }
        };
        plain(&line, &without_terminal(command, &line, end), end, shows);
    });
}

fn size(number: u16) -> std::num::NonZero<u16> {
    std::num::NonZero::new(number).unwrap()
}

/// A line that is typed at a terminal of 40 columns, and its screen.
fn in_terminal(world: &World, line: &str, end: End) -> (Option<i32>, vt100::Parser, String) {
    use std::io::{Read, Write};
    let mut command = Command::new("script");
    let typed = format!("stty cols {COLUMNS} rows 200; {line}");
    command.args(["-qec", &typed, "/dev/null"]);
    world.around(&mut command);
    let mut child = command.env("TERM", "xterm").stdin(Stdio::piped()).spawn().unwrap();
    let (mut keys, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (sender, pieces) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stdout.read(&mut buffer) {
            let _ = sender.send(buffer[..read].to_vec());
        }
    });
    let mut screen = vt100::Parser::new(size(200), size(COLUMNS), 0);
    let mut printed = Vec::new();
    let (words, key) = match end {
        Code(_) => ("", None),
        Input(words) | Unanswered(words) => (words, Some(b"\x04")),
        Interrupt(words) | Screen(words) => (words, Some(b"\x03")),
    };
    let bound = std::time::Instant::now() + BOUND;
    let mut pressed = 0;
    let status = loop {
        if let Ok(piece) = pieces.recv_timeout(std::time::Duration::from_millis(50)) {
            screen.process(&piece);
            printed.extend(piece);
            continue;
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let shown = String::from_utf8_lossy(&printed).contains(words);
        // Asked again: what is typed before the program has taken the terminal may mean nothing to it.
        if let Some(key) = key.filter(|_| shown && (pressed == 0 || words.is_empty())) {
            let _ = keys.write_all(key);
            pressed += 1;
        }
        if std::time::Instant::now() > bound {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{line} does not end: {}", String::from_utf8_lossy(&printed));
        }
    };
    while let Ok(piece) = pieces.recv_timeout(BOUND) {
        screen.process(&piece);
        printed.extend(piece);
    }
    (status.code(), screen, String::from_utf8_lossy(&printed).into_owned())
}

#[test]
fn every_flow_works_in_a_terminal_of_forty_columns_and_no_list_is_wider() {
    each(|world, line, end, shows| {
        let (code, parser, printed) = in_terminal(world, line, end);
        let screen = parser.screen();
        let text = screen.contents();
        assert!(!text.contains("panicked"), "{line}: {text}");
        match end {
            Code(expected) => assert_eq!(code, Some(expected), "{line}: {text}"),
            Input(_) | Screen(_) => assert_eq!(code, Some(0), "{line}: {text}"),
            Unanswered(_) => assert_eq!(code, Some(2), "{line}: {text}"),
            Interrupt(_) => assert!([Some(0), Some(130)].contains(&code), "{line}: {code:?} {text}"),
        }
        assert!(printed.contains(shows) || text.contains(shows), "{line} does not show {shows:?}: {text}");
        let piped = line.contains('|') || line.contains("--json");
        if !piped && LISTS.iter().any(|list| line.starts_with(list)) {
            let wrapped: Vec<u16> = (0..200).filter(|row| screen.row_wrapped(*row)).collect();
            assert!(wrapped.is_empty(), "{line}: wider than {COLUMNS} in rows {wrapped:?}:\n{text}");
        }
    });
}

#[test]
fn no_flow_of_another_user_reaches_or_harms_somebodys_daemon() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let world = World::new(Running);
    let home = world.home();
    // The other user may read everything that a careless owner opens.
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o755)).unwrap();
    let own = tempfile::tempdir().unwrap();
    publish(&[kennel(), worker()], &own.path().join("bin"));
    std::fs::write(own.path().join("prompt.txt"), "echo from a file").unwrap();
    std::fs::write(own.path().join("error.log"), "error: no rule\n").unwrap();
    std::fs::write(own.path().join("ticket.txt"), world::ticket()).unwrap();
    std::fs::write(own.path().join("work-ca.pem"), world::authority()).unwrap();
    std::fs::create_dir_all(own.path().join(".config/systemd/user")).unwrap();
    for place in ["", ".config", ".config/systemd", ".config/systemd/user"] {
        chown(own.path().join(place), Some(OTHER), Some(OTHER)).unwrap();
    }
    let before: Vec<SessionInfo> = world.daemon.json(&["ls", "--all"]);
    let pid = world.daemon.pid();
    let last = world.daemon.events().len();
    for (example, ..) in FLOWS {
        // They touch no daemon, or are about programs of others.
        let free = [
            "kennel demo",
            "npm ",
            "kennel daemon unit",
            "kennel daemon install",
            "kennel daemon uninstall",
            "kennel id --dir",
            "kennel host",
        ];
        let printed = ["kennel completion", "kennel man", "echo "];
        if free.iter().chain(&printed).any(|free| example.starts_with(free)) {
            continue;
        }
        let line = world.line(example);
        let mut command = Command::new("setpriv");
        let uid = OTHER.to_string();
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "/bin/sh", "-c", &line]);
        command.current_dir(own.path()).env_clear().env("HOME", own.path());
        command.env("PATH", format!("{}:/usr/bin:/bin", own.path().join("bin").display()));
        command.env("KENNEL_STATE_DIR", home.join("state")).env("XDG_RUNTIME_DIR", home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let printed = finish(command.spawn().unwrap());
        sound(&line, &printed);
        let refused = printed.code != Some(0) || line.contains('|');
        // Of these one only looks, and the other has been asked for nothing.
        let harmless = ["kennel doctor", "kennel acp"].iter().any(|free| line.starts_with(free));
        assert!(refused || harmless, "{line}: {printed:#?}");
        if !harmless && !line.contains('|') {
            assert!(!printed.stderr.is_empty() || !printed.stdout.is_empty(), "{line}: nothing is said");
        }
    }
    assert_eq!(world.daemon.pid(), pid);
    let after: Vec<SessionInfo> = world.daemon.json(&["ls", "--all"]);
    let same = |list: &[SessionInfo]| {
        list.iter().map(|it| (it.id.clone(), it.pid, it.status, it.queue_length)).collect::<Vec<_>>()
    };
    assert_eq!(same(&after), same(&before));
    assert_eq!(world.daemon.events().len(), last);
}
