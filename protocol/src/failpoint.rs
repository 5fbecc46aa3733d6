//! Named places at which the kill harness lets a process die, stop or misbehave. Without the feature
//! `failpoints` there is nothing of it in any program.
//!
//! A test arms a point by a file with the point's name in the directory that [`DIRECTORY`] names. The first process at the
//! point removes the file and acts: each file is one act, of one process. The file contains the act: `kill`, `stop`, or `tell`.
//! `tell` stops, too, and first writes a file with the prefix [`TOLD`] and the point's name. That file contains the pid, and
//! after a space the session if the caller knows it. A point that breaks
//! something of its own ([`armed`]) ignores the act.

use std::fmt::Display;

/// Environment variable: the directory of armed points.
pub const DIRECTORY: &str = "KENNEL_FAILPOINTS";
/// Prefix of the file that names the process that stopped at a point.
pub const TOLD: &str = ".at.";

/// Dies or stops here, if this point is armed. A point's name is `place.what`.
#[inline]
pub fn hit(place: &str, what: &str) {
    #[cfg(feature = "failpoints")]
    real::hit(place, what, None);
    #[cfg(not(feature = "failpoints"))]
    let _ = (place, what);
}

/// Like [`hit`], for one session of a process that has many.
#[inline]
pub fn hit_about(place: &str, what: &str, session: &dyn Display) {
    #[cfg(feature = "failpoints")]
    real::hit(place, what, Some(session));
    #[cfg(not(feature = "failpoints"))]
    let _ = (place, what, session);
}

/// Returns true once if a test has armed this point; the caller then fails in its own way.
#[inline]
#[must_use]
pub fn armed(place: &str, what: &str) -> bool {
    #[cfg(feature = "failpoints")]
    return real::claim(place, what).is_some();
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = (place, what);
        false
    }
}

/// Offset of a clock in milliseconds: the content of the file `clock.NAME` in the directory. 0 without the file.
#[inline]
#[must_use]
pub fn set_by(clock: &str) -> i64 {
    #[cfg(feature = "failpoints")]
    return real::set_by(clock).unwrap_or(0);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = clock;
        0
    }
}

/// Dies here.
#[inline]
pub fn die() {
    #[cfg(feature = "failpoints")]
    real::act(rustix::process::Signal::KILL);
}

/// Hands the directory on to a child whose environment is otherwise its own.
#[inline]
pub fn inherit(command: &mut std::process::Command) {
    #[cfg(feature = "failpoints")]
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        command.env(DIRECTORY, directory);
    }
    #[cfg(not(feature = "failpoints"))]
    let _ = command;
}

#[cfg(feature = "failpoints")]
mod real {
    use std::fmt::Display;
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;

    use rustix::process::{Signal, getpid, kill_process};

    fn directory() -> Option<&'static Path> {
        static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
        DIRECTORY.get_or_init(|| std::env::var_os(super::DIRECTORY).map(PathBuf::from)).as_deref()
    }

    pub fn claim(place: &str, what: &str) -> Option<String> {
        let file = directory()?.join(format!("{place}.{what}"));
        let act = std::fs::read_to_string(&file).ok()?;
        std::fs::remove_file(&file).ok()?;
        Some(act)
    }

    pub fn set_by(clock: &str) -> Option<i64> {
        std::fs::read_to_string(directory()?.join(format!("clock.{clock}"))).ok()?.trim().parse().ok()
    }

    pub fn hit(place: &str, what: &str, session: Option<&dyn Display>) {
        match claim(place, what).as_deref().map(str::trim) {
            None => {}
            Some("stop") => act(Signal::STOP),
            // A process that cannot write the file goes on: no test would continue it.
            Some("tell") => drop(tell(&format!("{place}.{what}"), session).map(|()| act(Signal::STOP))),
            Some(_) => act(Signal::KILL),
        }
    }

    fn tell(point: &str, session: Option<&dyn Display>) -> Option<()> {
        let session = session.map(|session| format!(" {session}")).unwrap_or_default();
        let (new, file) = (format!(".new.{point}"), format!("{}{point}", super::TOLD));
        let directory = directory()?;
        // Appears whole.
        std::fs::write(directory.join(&new), format!("{}{session}", std::process::id())).ok()?;
        std::fs::rename(directory.join(new), directory.join(file)).ok()
    }

    pub fn act(signal: Signal) {
        let _ = kill_process(getpid(), signal);
        if signal == Signal::KILL {
            // Another thread may be the one that the signal is given to; this one goes no further.
            loop {
                std::thread::park();
            }
        }
    }
}
