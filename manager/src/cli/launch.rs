//! Starting the daemon in the background, and running it there.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use protocol::MARKER;

use crate::cli::host;
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::daemon::{self, DaemonOptions, Paths, RunError};
use crate::error::StartError;
use crate::supervisor;
use crate::system::owned::{self, How};
use crate::system::service;

/// The exit code of a daemon that found another one serving its state directory.
pub const LOST: i32 = exit::CONFLICT as i32;
/// From this length on a log is put aside when a daemon is started.
const MAX_LOG: u64 = 8 * 1024 * 1024;
/// The number of log lines in the error about a daemon that could not start.
const TAIL_LINES: usize = 10;

/// Where a daemon that was started in the background writes its log.
pub fn log_path(paths: &Paths) -> PathBuf {
    paths.state_dir.join(crate::workers::logs::DAEMON)
}

/// Returns the present length of the log, in bytes.
pub fn log_length(paths: &Paths) -> u64 {
    fs::metadata(log_path(paths)).map_or(0, |found| found.len())
}

/// The last lines that the log has got since it was so long.
pub fn log_since(paths: &Paths, begin: u64) -> String {
    let read = || -> io::Result<String> {
        let state_dir = fs::canonicalize(&paths.state_dir)?;
        let mut file = owned::open(&state_dir.join(crate::workers::logs::DAEMON), How::Read)?;
        file.seek(SeekFrom::Start(begin.min(file.metadata()?.len())))?;
        let mut text = Vec::new();
        file.take(MAX_LOG).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    if last.is_empty() { String::new() } else { format!(":\n{}", last.join("\n")) }
}

/// Starts `kennel daemon run` in the background.
pub fn spawn(paths: &Paths) -> Outcome<Child> {
    let cannot = |what: &str, error: io::Error| {
        Failure::unreachable(format!("no daemon runs, and none can be started: {what}: {error}"))
    };
    paths.check_config().map_err(|error| Failure::unreachable(error.to_string()))?;
    let exe = std::env::current_exe().map_err(|error| cannot("this program's own path", error))?;
    let state_dir = supervisor::take(&paths.state_dir)
        .map_err(|error| Failure::unreachable(format!("no daemon runs, and none can be started: {error}")))?;
    let log = open_log(&state_dir).map_err(|error| cannot(&state_dir.display().to_string(), error))?;
    let second = log.try_clone().map_err(|error| cannot("the log", error))?;
    let mut command = Command::new(&exe);
    command.args(["daemon", "run", "--detached", "--state-dir"]).arg(&paths.state_dir);
    // A service manager means them for the program that started this command.
    service::VARIABLES.iter().for_each(|name| _ = command.env_remove(name));
    command.env_remove(MARKER).env_remove(host::VARIABLE).stdin(Stdio::null()).stdout(log).stderr(second);
    command.spawn().map_err(|error| cannot(&exe.display().to_string(), error))
}

fn open_log(state_dir: &Path) -> io::Result<File> {
    let path = state_dir.join(crate::workers::logs::DAEMON);
    if fs::symlink_metadata(&path).is_ok_and(|found| found.len() > MAX_LOG) {
        fs::rename(&path, path.with_extension("log.old"))?;
    }
    owned::open(&path, How::Append)
}

/// Runs the daemon in this process.
pub fn run(ui: &Ui, paths: Paths, worker_path: Option<PathBuf>, detached: bool) -> ExitCode {
    if detached {
        close_inherited();
        // Leaves the terminal of the user whose command needed a daemon. This fails only for the leader of a
        // process group; a process that was just spawned is none.
        let _ = rustix::process::setsid();
        for stays in daemon::aloof::reset() {
            ui.write_err(&format!("sessions inherit from the client that started this daemon: {stays}"));
        }
    }
    if let Err(error) = paths.check_config() {
        let failure = Failure::failed("paths", error.to_string());
        if let Some(text) = failure.text(ui.json, ui.err_colour) {
            ui.write_err(&text);
        }
        return ExitCode::from(failure.exit());
    }
    let Paths { state_dir, socket, config, .. } = paths;
    let ended = daemon::run(DaemonOptions { state_dir, socket, config, worker_path });
    let Err(error) = ended else {
        return ExitCode::SUCCESS;
    };
    let failure = match &error {
        RunError::Start(StartError::Locked { .. }) => {
            Failure::new(exit::CONFLICT, "already_running", error.to_string())
        }
        RunError::InsideSession => Failure::unreachable(error.to_string()),
        _ => Failure::failed("daemon", error.to_string()),
    };
    if let Some(text) = failure.text(ui.json, ui.err_colour) {
        ui.write_err(&text);
    }
    ExitCode::from(failure.exit())
}

/// Closes every descriptor but the first three. The first command's caller may have left a lock or a pipe's
/// end open. The daemon must not keep a lock, or a reader of that pipe, waiting.
fn close_inherited() {
    let Ok(entries) = fs::read_dir(Path::new("/proc/self/fd")) else {
        return;
    };
    let names: Vec<i32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // Nothing in this process has opened one yet but the list itself, which is closed again.
    for descriptor in names.into_iter().filter(|descriptor| *descriptor > 2) {
        let _ = nix::unistd::close(descriptor);
    }
}
