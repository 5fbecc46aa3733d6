//! Small facts about processes that cross every boundary: the pipe, the journal, the API.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which process this is, beyond doubt: a pid alone is reused by the kernel, a pid with its start time is not
/// within one boot, and the boot id tells boots apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Process id in the manager's pid namespace.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: clock ticks after boot (proc_pid_stat(5)).
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id` at the time (random(4)).
    pub boot_id: String,
}

/// How a process ended, as waitid(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It is gone and nobody saw how: it was not our child, or the manager was not there.
    Unknown,
}

impl Exit {
    /// Whether the process ended of itself and reported success.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit status {code}"),
            Exit::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "killed by {name}"),
                None => write!(f, "killed by signal {signal}"),
            },
            Exit::Unknown => f.write_str("gone, exit status unknown"),
        }
    }
}

/// Names of the signals that people meet, by their Linux numbers on x86-64 and arm64 (signal(7)).
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// How much of the conversation an agent has after its process was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Restore {
    /// The agent took up its own stored session.
    Resumed,
    /// The agent read its stored session again.
    Loaded,
    /// The agent is told the turns before from kennel's journal.
    Replayed,
    /// The agent knows nothing of the turns before; the journal still has them for people.
    Fresh,
}

impl fmt::Display for Restore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Restore::Resumed => "resumed",
            Restore::Loaded => "loaded",
            Restore::Replayed => "replayed",
            Restore::Fresh => "fresh",
        })
    }
}

/// Which of a program's two outputs a piece of text came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Stream {
    /// Standard output: the agent's answer.
    Stdout,
    /// Standard error: what it says beside the answer.
    Stderr,
}
