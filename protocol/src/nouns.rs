//! Small facts about processes that cross every boundary: the pipe, the journal, the API.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Identity of a process. The kernel reuses pids; it does not reuse a pid with the same start time within one boot, and the
/// boot id distinguishes boots.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Process id in the manager's pid namespace.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: clock ticks after boot (proc_pid_stat(5)).
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id` at the time (random(4)).
    pub boot_id: String,
}

/// Exit of a process, from waitid(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Exit {
    /// The process exited with this status.
    Code(i32),
    /// This signal killed the process.
    Signal(i32),
    /// Unknown: the process was not kennel's child, or no manager ran.
    Unknown,
}

impl Exit {
    /// Returns whether the process exited with status 0.
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

/// Restore level: how much of the conversation an agent has after kennel replaced its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Restore {
    /// The agent resumed its own stored session.
    Resumed,
    /// The agent loaded its own stored session, and sent all of it again.
    Loaded,
    /// The agent gets the earlier turns from kennel's journal.
    Replayed,
    /// The agent does not know the earlier turns. The journal still has them.
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

/// An output of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "api", derive(utoipa::ToSchema))]
pub enum Stream {
    /// Standard output: the agent's answer.
    Stdout,
    /// Standard error: messages beside the answer.
    Stderr,
}
