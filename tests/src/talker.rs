//! A session whose agent writes to standard error what a test tells it, and readers of its log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::daemon::{CommandOutput, Daemon};
use crate::real::{beside, until};

/// An agent whose standard error comes from a pipe.
pub struct Talker {
    pipe: File,
    log: PathBuf,
}

impl Talker {
    /// Starts the session `talker` of this daemon.
    pub fn start(daemon: &Daemon) -> Self {
        let path = daemon.dir.path().join("say");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Open for writing, too: the pipe never ends.
        let pipe = File::options().read(true).write(true).open(&path).unwrap();
        let script = format!("cat <>{} >&2 & exec {}", path.display(), beside("acp-agent").display());
        let profile =
            format!("\n[agents.talker]\nkind = \"acp\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n");
        let config = daemon.dir.path().join("kennel/config.toml");
        std::fs::create_dir_all(config.parent().unwrap()).unwrap();
        let mut config = File::options().create(true).append(true).open(config).unwrap();
        config.write_all(profile.as_bytes()).unwrap();
        daemon.ok(&["start", "--agent", "talker", "--id", "talker"]);
        daemon.idle("talker");
        Self { pipe, log: daemon.dir.path().join("state/logs/talker.log") }
    }

    /// Lets the agent write this. Returns once the agent's pipe has it all.
    pub fn say(&self, text: &str) {
        (&self.pipe).write_all(text.as_bytes()).unwrap();
    }

    /// Lets the agent write whole lines, and returns once the last one is in the log.
    pub fn say_all(&self, text: &str) {
        self.say(text);
        let last = format!("{}\n", text.lines().last().unwrap());
        let is_there = || -> std::io::Result<bool> {
            let mut log = File::open(&self.log)?;
            let from = log.metadata()?.len().saturating_sub(last.len() as u64);
            let mut end = Vec::new();
            log.seek(SeekFrom::Start(from))?;
            log.read_to_end(&mut end)?;
            Ok(end == last.as_bytes())
        };
        until("the last line in the log", || is_there().unwrap_or(false).then_some(()));
    }

    /// The file that the worker writes.
    pub fn log(&self) -> &PathBuf {
        &self.log
    }
}

/// So many numbered lines, from this number on, of about a hundred bytes, with characters of several bytes.
pub fn lines(from: usize, count: usize) -> String {
    (from..from + count).map(|number| format!("{number:08} {}\n", "€ä𝄞".repeat(10))).collect()
}

/// A command that prints without end, read as it prints.
pub struct Printing {
    child: Option<Child>,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
    readers: [JoinHandle<()>; 2],
}

fn collect(mut from: impl Read + Send + 'static) -> (Arc<Mutex<Vec<u8>>>, JoinHandle<()>) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let into = all.clone();
    let reader = std::thread::spawn(move || {
        let mut piece = [0; 65536];
        while let Ok(read) = from.read(&mut piece) {
            if read == 0 {
                return;
            }
            into.lock().unwrap().extend_from_slice(&piece[..read]);
        }
    });
    (all, reader)
}

impl Printing {
    /// Starts the command.
    pub fn new(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (out, first) = collect(child.stdout.take().unwrap());
        let (err, second) = collect(child.stderr.take().unwrap());
        Self { child: Some(child), out, err, readers: [first, second] }
    }

    /// The output so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out.lock().unwrap()).into_owned()
    }

    /// The notes and errors so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.err.lock().unwrap()).into_owned()
    }

    /// Waits until the output is as long as this text, and fails if it is another.
    pub fn prints(&self, what: &str, expected: &str) {
        until(what, || (self.out.lock().unwrap().len() >= expected.len()).then_some(()));
        let text = self.text();
        if text != expected {
            let differs = text.bytes().zip(expected.bytes()).take_while(|(one, other)| one == other).count();
            let around =
                |text: &str| text.bytes().skip(differs.saturating_sub(100)).take(300).collect::<Vec<_>>();
            panic!(
                "{what}: at {differs} of {} and {} bytes: {:?}, and not {:?}; {}",
                text.len(),
                expected.len(),
                String::from_utf8_lossy(&around(&text)),
                String::from_utf8_lossy(&around(expected)),
                self.said()
            );
        }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Waits for the command's end, with a bound, and returns its exit status and all that it printed.
    pub fn ends(mut self) -> CommandOutput {
        let mut child = self.child.take().unwrap();
        let status = until("the end of the command", || child.try_wait().unwrap());
        until("the end of its output", || self.readers.iter().all(JoinHandle::is_finished).then_some(()));
        CommandOutput { code: status.code(), stdout: self.text(), stderr: self.said() }
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
