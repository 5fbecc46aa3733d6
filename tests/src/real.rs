//! Shared code of tests on real processes: the binaries under test, levels to wait for, and reads of `/proc`.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use manager::SessionManager;
use protocol::MARKER;
use protocol::api::{PromptRequest, SessionOpts};
use protocol::event::{Event, EventKind};
use protocol::{PromptId, SessionId};

/// The time after which a test gives up. Far above the usual time, for machines under load.
pub const BOUND: Duration = Duration::from_secs(30);

/// The manager's binary, of exactly these sources.
pub fn kennel() -> &'static PathBuf {
    static KENNEL: OnceLock<PathBuf> = OnceLock::new();
    KENNEL.get_or_init(|| current("kennel", "--version", env!("KENNEL_BUILD_ID")))
}

/// The worker's binary, of exactly these sources.
pub fn worker() -> &'static PathBuf {
    static WORKER: OnceLock<PathBuf> = OnceLock::new();
    WORKER.get_or_init(|| current("session-worker", "--build-id", env!("WORKER_BUILD_ID")))
}

/// The program of this name, beside this one or, for a test, one directory above it.
pub fn beside(name: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let directories = exe.ancestors().skip(1).take(2);
    let mut found = directories.map(|directory| directory.join(name)).filter(|path| path.is_file());
    found
        .next()
        .unwrap_or_else(|| panic!("there is no {name} near {}: run `cargo build --workspace`", exe.display()))
}

/// The binary beside this test. A test that drives an old one proves nothing, so its build id must be ours.
fn current(name: &str, argument: &str, id: &str) -> PathBuf {
    let path = beside(name);
    let child = Command::new(&path).arg(argument).stdout(Stdio::piped()).spawn();
    let output = child.unwrap_or_else(|error| panic!("{}: {error}", path.display())).wait_with_output();
    let result = String::from_utf8(output.unwrap().stdout).unwrap();
    let result = result.trim();
    let path_shown = path.display();
    assert!(
        result.trim_end_matches(')').ends_with(id),
        "{path_shown} is stale (`{result}` is not {id}): run `cargo test --workspace`, which builds it"
    );
    path
}

/// A new directory that a sandbox shows: one for temporary files is hidden anyway. No place beside it is hidden, so no view of a
/// sandbox lists the directories of other tests there.
pub fn dir_that_sandboxes_show() -> tempfile::TempDir {
    let place = if nix::unistd::geteuid().is_root() { "/srv".into() } else { std::env::var("HOME").unwrap() };
    tempfile::Builder::new().prefix("kennel-test-").tempdir_in(place).unwrap()
}

/// Looks until there is something, or the bound is over. For levels that nothing announces.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + BOUND;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {BOUND:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Returns true if a process lives. A zombie does not.
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Every living process whose environment carries a marker that contains `part`, but for the spares of a living daemon.
pub fn marked(part: &str) -> Vec<u32> {
    let mut marked = marked_or_spare(part);
    // A spare that ends between two looks has no log any more by which it is told from a worker, and then no marker.
    marked.retain(|pid| !is_spare(*pid) && marker_of(*pid).is_some());
    marked
}

/// Every living process whose environment carries a marker that contains `part`.
pub fn marked_or_spare(part: &str) -> Vec<u32> {
    let name = format!("{MARKER}=");
    with_variable(|variable| variable.starts_with(&name) && variable.contains(part))
}

/// Returns true for a worker that waits for a session and for a zygote, below a living daemon or a manager in this process.
pub fn is_spare(pid: u32) -> bool {
    let comm = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let waits =
        std::fs::read_link(format!("/proc/{pid}/fd/2")).is_ok_and(|log| log == Path::new("/dev/null"));
    waits
        && is_spares(&marker_of(pid).unwrap_or_default())
        && parent(pid).is_some_and(|pid| comm(pid) == "kennel\n" || pid == std::process::id())
}

/// Returns true for a zygote. A zombie has no marker any more.
pub fn is_zygote(pid: u32) -> bool {
    marker_of(pid).is_some_and(|marker| marker.ends_with("/:spare/0"))
}

/// Returns true for the marker of a process that was started as a spare.
pub fn is_spares(marker: &str) -> bool {
    marker.split('/').nth(1) == Some(":spare")
}

/// The session of a process: by its marker, and of a worker that was a spare by its log.
pub fn session_of(pid: u32) -> Option<SessionId> {
    let marker = marker_of(pid)?;
    if !is_spares(&marker) {
        return marker.split('/').nth(1)?.parse().ok();
    }
    let log = std::fs::read_link(format!("/proc/{pid}/fd/2")).ok()?;
    log.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()
}

/// Every living process in whose environment a variable mentions `text`.
pub fn mentioning(text: &str) -> Vec<u32> {
    with_variable(|variable| variable.contains(text))
}

fn with_variable(wanted: impl Fn(&str) -> bool) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environ.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        variables.any(|variable| wanted(&variable)) && lives(*pid)
    })
    .collect()
}

/// The marker in the environment of a process that lives.
pub fn marker(pid: u32) -> String {
    marker_of(pid).unwrap_or_else(|| panic!("{pid} has no marker"))
}

/// The marker in a process's environment, if there are both.
pub fn marker_of(pid: u32) -> Option<String> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables =
        environ.split(|byte| *byte == 0).map(|variable| String::from_utf8_lossy(variable).into_owned());
    variables.find_map(|variable| Some(variable.strip_prefix(&format!("{MARKER}="))?.to_owned()))
}

/// The part of a worker's marker that all processes below its manager share.
pub fn uuid(pid: u32) -> String {
    marker(pid).split('/').next().unwrap().to_owned()
}

/// Sends a signal to a process that the test knows to be kennel's.
pub fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

/// Kills a process outright.
pub fn kill(pid: u32) {
    signal(pid, nix::sys::signal::Signal::SIGKILL);
}

/// Copies a program to where anybody may run it. Another process writes: a thread of this one that starts a program meanwhile would hold
/// the file open for writing, and the kernel runs no such file (execve(2), ETXTBSY).
pub fn install(program: &Path, to: &Path) {
    let mut command = Command::new("install");
    let mut copy = command.args(["-m", "755", "--"]).args([program, to]).spawn().unwrap();
    assert!(copy.wait().unwrap().success(), "{} to {}", program.display(), to.display());
}

/// Writes a script that anybody may run, by another process as well.
pub fn script(path: &Path, text: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", "cat >\"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{}", path.display());
}

/// A copy of the programs where anybody may run them.
pub fn publish(programs: &[&Path], to: &Path) -> Vec<PathBuf> {
    std::fs::create_dir_all(to).unwrap();
    let published = programs.iter().map(|program| {
        let copy = to.join(program.file_name().unwrap());
        install(program, &copy);
        copy
    });
    published.collect()
}

/// A manager inside the test, over a directory of its own.
pub struct Host {
    /// The directory: the state in `state`, and room for the sessions.
    pub dir: tempfile::TempDir,
    /// The manager.
    pub manager: SessionManager,
}

impl Host {
    /// A new one.
    pub async fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap()).await
    }

    /// One over a directory that another has left.
    pub async fn over(dir: tempfile::TempDir) -> Self {
        let builder = SessionManager::builder().state_dir(dir.path().join("state"));
        let builder = builder.config(dir.path().join("config.toml"));
        let manager = builder.worker_path(worker()).start().await.unwrap();
        Self { dir, manager }
    }

    /// Ends the manager and begins another over the same directory.
    pub async fn restarted(self) -> Self {
        self.manager.shutdown().await;
        Self::over(self.dir).await
    }

    /// Its configuration, which is read at each start of a session.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    /// Options for a session in this directory.
    pub fn opts(&self) -> SessionOpts {
        SessionOpts { workdir: Some(self.dir.path().to_str().unwrap().into()), ..SessionOpts::default() }
    }

    /// A session that is ready.
    pub async fn session(&self) -> SessionId {
        self.session_with(self.opts()).await
    }

    /// A session that is ready, with these options.
    pub async fn session_with(&self, opts: SessionOpts) -> SessionId {
        let id = self.manager.start_session(opts, None).await.unwrap().id;
        self.manager.wait(&id, manager::WaitFor::Ready, Some(BOUND)).await.unwrap();
        id
    }

    /// Sends a prompt that is accepted.
    pub async fn send(&self, id: &SessionId, text: &str) -> PromptId {
        self.manager.send_prompt(id, prompt(text), None).await.unwrap().prompt_id
    }

    /// All events of a session so far.
    pub async fn events(&self, id: &SessionId) -> Vec<Event> {
        let mut stream = self.manager.subscribe(Some(0), Some(id.clone()));
        let mut events = Vec::new();
        while let Some(records) = stream.ready().await.unwrap() {
            events.extend(records.iter().map(|record| record.event().unwrap()));
        }
        events
    }

    /// Waits for an event of a session, from its beginning on.
    pub async fn event(&self, id: &SessionId, what: &str, wanted: impl Fn(&EventKind) -> bool) -> Event {
        let mut stream = self.manager.subscribe(Some(0), Some(id.clone()));
        let found = async {
            loop {
                let records = stream.next().await.unwrap().expect("the manager lives");
                let events = records.iter().map(|record| record.event().unwrap());
                if let Some(event) = events.into_iter().find(|event| wanted(&event.kind)) {
                    return event;
                }
            }
        };
        let found = tokio::time::timeout(BOUND, found).await;
        match found {
            Ok(event) => event,
            Err(_) => panic!("not within {BOUND:?}: {what}\n{:#?}", self.events(id).await),
        }
    }

    /// Waits until a prompt's turn is over, and returns the event of its end.
    pub async fn end_of(&self, id: &SessionId, prompt: PromptId) -> EventKind {
        let ended = |kind: &EventKind| match kind {
            EventKind::TurnCompleted { prompt_id, .. } | EventKind::PromptRemoved { prompt_id, .. } => {
                *prompt_id == prompt
            }
            EventKind::TurnInterrupted { prompt_id, will_retry, .. } => *prompt_id == prompt && !will_retry,
            _ => false,
        };
        self.event(id, &format!("the end of {prompt}"), ended).await.kind
    }

    /// Everything a prompt's turn has printed on standard output so far.
    pub async fn printed(&self, id: &SessionId, prompt: PromptId) -> String {
        let events = self.events(id).await;
        let chunks = events.iter().filter_map(|event| match &event.kind {
            EventKind::MessageChunk { prompt_id, stream: protocol::Stream::Stdout, text, .. }
                if *prompt_id == prompt =>
            {
                Some(text.as_str())
            }
            _ => None,
        });
        chunks.collect()
    }

    /// Runs a prompt to its end and gives what it printed on standard output.
    pub async fn run(&self, id: &SessionId, text: &str) -> String {
        let prompt = self.send(id, text).await;
        self.end_of(id, prompt).await;
        self.printed(id, prompt).await
    }

    /// The session's worker, which must exist.
    pub async fn pid(&self, id: &SessionId) -> u32 {
        self.manager.get_session(id).await.unwrap().pid.expect("a process")
    }
}

/// A prompt with nothing special about it.
pub fn prompt(text: &str) -> PromptRequest {
    PromptRequest { text: text.into(), when_busy: Default::default(), attachments: Vec::new() }
}

/// The pid that a process below another has here, by the one that it has in its own namespace.
pub fn outside(above: u32, inside: u32) -> u32 {
    let named = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let own = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().last()?.parse().ok());
        own == Some(inside)
    };
    until("a process of that number", || below(above).into_iter().find(|pid| named(pid) && lives(*pid)))
}

/// Every process below another, with those that are dead and not reaped.
pub fn below(above: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| path_to(*pid, above).is_some()).collect()
}

/// The processes from one up to another above it, both left out; none if it is not above it.
pub fn path_to(pid: u32, above: u32) -> Option<Vec<u32>> {
    let mut path = Vec::new();
    let mut at = parent(pid)?;
    while at != above {
        path.push(at);
        at = parent(at).filter(|parent| *parent != 0)?;
    }
    Some(path)
}

/// A process's parent.
pub fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The files of a directory with their content. A file that goes away meanwhile is left out: others write here, under names that
/// they exchange.
pub fn contents(directory: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let paths = std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    paths
        .filter(|path| path.is_file())
        .filter_map(|path| match std::fs::read(&path) {
            Ok(bytes) => Some((path, bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("{}: {error}", path.display()),
        })
        .collect()
}

/// Everything that a connection brings until the other end closes it. A reset after the last byte does not matter, nor an end of
/// TLS without a word.
pub fn rest(mut stream: impl std::io::Read) -> String {
    let mut all = Vec::new();
    let mut piece = [0; 65536];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => all.extend_from_slice(&piece[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => {
                break;
            }
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&all)),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}
