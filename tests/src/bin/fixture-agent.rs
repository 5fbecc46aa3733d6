//! An agent that does exactly what its prompt asks for, including every kind of misbehaviour.
//!
//! The prompt is a script: steps with their arguments, separated by `;`. It comes on standard input, as the last
//! argument, or as `--script STEPS`, in which case standard input is never read.
//!
//! | step | effect |
//! |---|---|
//! | `say TEXT` | prints a line |
//! | `sleep 20ms` | waits |
//! | `mark FILE` | adds one byte to a file: a prompt that ran twice leaves two |
//! | `exit N` | leaves with this status |
//! | `signal NAME` | ends by this signal (`SEGV`, `ABRT`, `KILL`, `TERM`) |
//! | `deaf` | ignores SIGTERM, SIGHUP and SIGINT from here on |
//! | `flood BYTES` | prints that much text as fast as it is taken |
//! | `babble BYTES` | prints that much invalid UTF-8, with terminal escapes in it |
//! | `eat BYTES` | holds that much memory |
//! | `fork N` | starts that many children, which wait |
//! | `escape` | leaves a process in a session of its own, deaf, without its descriptors, its parent gone |
//! | `chain 200ms` | for that time, starts processes that each start a successor and exit |
//! | `shut` | closes its outputs and lives on |
//! | `http SOCKET METHOD PATH TOKEN BODY` | asks over HTTP, and prints the status and the code of an error; `-` is no token, no body |
//! | `try write FILE` | tries it, and prints `done` or `refused`; likewise `read FILE`, `list DIR`, `signal PID`, `unix SOCKET`, `tcp ADDRESS`, `umount DIR`, `sandbox PROGRAM` (within bubblewrap) |
//!
//! No process that it starts lives longer than two minutes, even if nothing ends it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a fixture fails by panicking")]

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

/// The longest that anything here lives.
const LIFE: Duration = Duration::from_secs(120);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--child"] => wait(LIFE),
        ["--leave-behind"] => {
            nix::unistd::setsid().unwrap();
            start(&["--escaped"]);
        }
        ["--escaped"] => {
            deaf();
            shut();
            wait(LIFE);
        }
        ["--chain", until] => chain(until.parse().unwrap()),
        ["--limit", pid, resource, soft] => limit(pid, resource, soft),
        ["--end-after", parent, directory] => end_after(parent, directory),
        ["--not-without", parent, program, ..] => not_without(parent, program, &args[3..]),
        ["--script", steps, ..] => play(steps),
        [] => {
            let mut script = String::new();
            std::io::stdin().read_to_string(&mut script).unwrap();
            play(&script);
        }
        [.., script] => play(script),
    }
}

fn play(script: &str) {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for step in script.split(';').map(str::trim).filter(|step| !step.is_empty()) {
        let (verb, argument) = step.split_once(' ').unwrap_or((step, ""));
        match verb {
            "say" => print(format!("{argument}\n").as_bytes()),
            "sleep" => wait(duration(argument)),
            "mark" => {
                let file = std::fs::OpenOptions::new().create(true).append(true).open(argument);
                file.unwrap().write_all(b"x").unwrap();
            }
            "exit" => std::process::exit(argument.parse().unwrap()),
            "signal" => raise(argument),
            "deaf" => deaf(),
            "flood" => {
                many(argument.parse().unwrap(), b"flood flood flood flood flood flood flood flood flood\n")
            }
            "babble" => {
                many(argument.parse().unwrap(), b"\xff\xfe\x1b]0;title\x07\x1b[2J\0\xc3\x28{\"type\":\n")
            }
            "eat" => held.push(vec![1; argument.parse().unwrap()]),
            "fork" => (0..argument.parse().unwrap()).for_each(|_| start(&["--child"])),
            "escape" => {
                let mut parent = child(&["--leave-behind"]).spawn().unwrap();
                parent.wait().unwrap();
            }
            "chain" => {
                let until = now() + duration(argument).as_millis();
                start(&["--chain", &until.to_string()]);
            }
            "shut" => shut(),
            "try" => {
                let (what, about) = argument.split_once(' ').unwrap();
                let how = if attempt(what, about) { "done" } else { "refused" };
                print(format!("{what} {how}\n").as_bytes());
            }
            "http" => {
                let answer = request(argument).unwrap_or_else(|error| format!("unreached {error}"));
                print(format!("{answer}\n").as_bytes());
            }
            _ => panic!("unknown step `{step}`"),
        }
    }
}

/// Asks over HTTP, and gives the status and the code of the error, if it is one. `-` is no token, and no body.
fn request(argument: &str) -> std::io::Result<String> {
    let words: Vec<&str> = argument.split(' ').collect();
    let &[socket, method, path, token, body] = &words[..] else {
        panic!("http SOCKET METHOD PATH TOKEN BODY")
    };
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    if token != "-" {
        head += &format!("Authorization: Bearer {token}\r\n");
    }
    if body != "-" {
        head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    let body = if body == "-" { "" } else { body };
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).unwrap_or("none").to_owned();
    let code = answer.split_once("\"code\":\"").and_then(|(_, rest)| rest.split('"').next());
    Ok(match code {
        Some(code) if status.starts_with(['4', '5']) => format!("{status} {code}"),
        _ => status,
    })
}

fn attempt(what: &str, about: &str) -> bool {
    match what {
        "write" => std::fs::write(about, "x").is_ok(),
        "read" => std::fs::read(about).is_ok_and(|bytes| !bytes.is_empty()),
        "list" => std::fs::read_dir(about).is_ok_and(|mut entries| entries.next().is_some()),
        "signal" => nix::sys::signal::kill(nix::unistd::Pid::from_raw(about.parse().unwrap()), None).is_ok(),
        "unix" => std::os::unix::net::UnixStream::connect(about).is_ok(),
        "tcp" => std::net::TcpStream::connect(about).is_ok(),
        "ask" => is_told(about).unwrap_or(false),
        "udp" => is_answered(about).unwrap_or(false),
        "abstract" => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(about).unwrap();
            std::os::unix::net::UnixStream::connect_addr(&address).is_ok()
        }
        "umount" => runs(&["umount", about]),
        "sandbox" => {
            let words = "bwrap --ro-bind / / --dev /dev --unshare-pid --unshare-net --die-with-parent --";
            runs(&words.split(' ').chain([about]).collect::<Vec<_>>())
        }
        _ => panic!("unknown attempt `{what}`"),
    }
}

/// Returns true if a server at this path answers an HTTP request.
fn is_told(path: &str) -> std::io::Result<bool> {
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.write_all(b"GET /v1/manager HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.contains(" 200 "))
}

/// Returns true if a process at this address answers a datagram.
fn is_answered(address: &str) -> std::io::Result<bool> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.connect(address)?;
    socket.send(b"hello")?;
    Ok(socket.recv(&mut [0; 8])? > 0)
}

fn runs(words: &[&str]) -> bool {
    Command::new(words[0]).args(&words[1..]).spawn().unwrap().wait().unwrap().success()
}

fn duration(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap()
}

/// Milliseconds by a clock that all processes share.
fn now() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
}

fn wait(how_long: Duration) {
    let end = Instant::now() + how_long;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// A reader that is gone is no reason to stop.
fn print(bytes: &[u8]) {
    let _ = std::io::stdout().write_all(bytes);
    let _ = std::io::stdout().flush();
}

fn many(bytes: usize, piece: &[u8]) {
    for _ in 0..bytes.div_ceil(piece.len()) {
        print(piece);
    }
}

fn raise(name: &str) {
    let signal: Signal = format!("SIG{name}").parse().unwrap();
    loop {
        // Twice: the Rust runtime takes the first SIGSEGV for a fault at an address, finds none and goes on.
        nix::sys::signal::raise(signal).unwrap();
    }
}

fn deaf() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        signal_hook::flag::register(signal as i32, Arc::new(AtomicBool::new(false))).unwrap();
    }
}

/// Closes every inherited descriptor: nothing but its environment shows the process's origin.
fn shut() {
    let nothing = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    rustix::stdio::dup2_stdin(&nothing).unwrap();
    rustix::stdio::dup2_stdout(&nothing).unwrap();
    rustix::stdio::dup2_stderr(&nothing).unwrap();
}

fn child(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(args).stdin(Stdio::null());
    command
}

fn start(args: &[&str]) {
    drop(child(args).spawn().unwrap());
}

/// Gives a process of the same user another soft limit. For a harness that runs as root and yet may not.
fn limit(pid: &str, resource: &str, soft: &str) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let resource = if resource == "nofile" { Resource::Nofile } else { Resource::Nproc };
    let maximum = rustix::process::getrlimit(resource).maximum;
    let current = soft.parse().ok().or(maximum);
    prlimit(Pid::from_raw(pid.parse().unwrap()), resource, Rlimit { current, maximum }).unwrap();
}

/// Becomes a program that the kernel signals once the thread that started it is gone. So a killed harness
/// leaves nothing behind. The signal is SIGINT: on SIGTERM a daemon leaves its workers to the next one.
fn not_without(parent: &str, program: &str, args: &[String]) {
    nix::sys::prctl::set_pdeathsig(Signal::SIGINT).unwrap();
    // It may have died before there was a signal for it.
    if std::os::unix::process::parent_id().to_string() == parent {
        use std::os::unix::process::CommandExt;
        panic!("{program} cannot be run: {}", Command::new(program).args(args).exec());
    }
}

/// Once the thread that started it is gone, ends every process of a directory. A process belongs to it by its
/// environment, its arguments, an open file, or the marker of such a process.
fn end_after(parent: &str, directory: &str) {
    use rustix::process::{Pid, PidfdFlags, Signal as Raw, pidfd_open, pidfd_send_signal};
    let gone = nix::sys::signal::SigSet::from(Signal::SIGTERM);
    gone.thread_block().unwrap();
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).unwrap();
    if std::os::unix::process::parent_id().to_string() == parent {
        gone.wait().unwrap();
    }
    let mut names = vec![directory.to_owned()];
    loop {
        let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
        let pids = all.filter_map(|name| name.to_str()?.parse::<i32>().ok());
        let mut found = false;
        for pid in pids.filter(|pid| pid.unsigned_abs() != std::process::id()) {
            let Some(marker) = is_about(pid, &names) else { continue };
            let Ok(pidfd) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else { continue };
            // The pidfd is open now, so check again: the first check may have seen another process under that
            // pid.
            if is_about(pid, &names).is_some() {
                found = true;
                let _ = pidfd_send_signal(&pidfd, Raw::KILL);
                names.extend(marker.filter(|marker| !names.contains(marker)));
            }
        }
        if !found {
            return;
        }
    }
}

/// If it is, the marker that it has in common with others of its state directory, where it has one.
fn is_about(pid: i32, names: &[String]) -> Option<Option<String>> {
    let read = |file| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (environ, cmdline) = (read("environ")?, read("cmdline")?);
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let open: Vec<_> = open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    let has = |name: &String| {
        environ.contains(name) || cmdline.contains(name) || open.iter().any(|path| path.starts_with(name))
    };
    let marker = environ.split('\0').find(|variable| variable.starts_with("KENNEL_SESSION="));
    let marker = marker.and_then(|marker| Some(format!("{}/", marker.split_once('/')?.0)));
    names.iter().any(has).then_some(marker)
}

fn chain(until: u128) {
    if now() < until {
        start(&["--chain", &until.to_string()]);
    }
}
