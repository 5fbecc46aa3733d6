//! Named places at which the kill harness lets a process die, stop or misbehave. Without the feature
//! `failpoints` there is nothing of it in any program.
//!
//! A point is armed by a file of its name in the directory that [`DIRECTORY`] names. Whoever reaches the point
//! first takes the file away, and with it the right to act: each file is one act, of one process. What the file
//! says is the act: `kill` or `stop`; a point that breaks something of its own ([`armed`]) ignores it.

/// Environment variable: the directory of armed points.
pub const DIRECTORY: &str = "KENNEL_FAILPOINTS";

/// Dies or stops here, if this point is armed. A point's name is `place.what`.
#[inline]
pub fn hit(place: &str, what: &str) {
    #[cfg(feature = "failpoints")]
    real::hit(place, what);
    #[cfg(not(feature = "failpoints"))]
    let _ = (place, what);
}

/// Whether something of the caller's own is to break here, once.
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
    use std::path::PathBuf;
    use std::sync::OnceLock;

    use rustix::process::{Signal, getpid, kill_process};

    pub fn claim(place: &str, what: &str) -> Option<String> {
        static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
        let directory = DIRECTORY.get_or_init(|| std::env::var_os(super::DIRECTORY).map(PathBuf::from));
        let file = directory.as_ref()?.join(format!("{place}.{what}"));
        let act = std::fs::read_to_string(&file).ok()?;
        std::fs::remove_file(&file).ok()?;
        Some(act)
    }

    pub fn hit(place: &str, what: &str) {
        match claim(place, what).as_deref().map(str::trim) {
            None => {}
            Some("stop") => act(Signal::STOP),
            Some(_) => act(Signal::KILL),
        }
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
