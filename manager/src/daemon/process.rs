//! Settings that the daemon makes for its own process: its limit of open files and its OOM score.

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard limit: each session needs a few descriptors, and the usual soft limit of
/// 1024 is meant for programs that call select(2).
pub(super) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit on open files stays as it is: {error}");
    }
}

/// The daemon's `oom_score_adj` (proc_pid_oom_score_adj(5)): when memory runs out, the kernel kills most other processes
/// first, but the daemon stays killable. Workers inherit the score; agents get a higher one.
const OOM_SCORE: i32 = -500;
/// Holds this process's `oom_score_adj`.
const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// Lowers the daemon's OOM score, so that the kernel kills agents before the daemon. Needs CAP_SYS_RESOURCE.
pub(super) fn protect() {
    if let Err(error) = lower_oom_score(OOM_SCORE) {
        tracing::debug!(%error, "the kernel may kill this process as well as others when memory runs out");
    }
}

/// Lowers this process's `oom_score_adj` to `most`. A lower score stays as it is.
///
/// # Errors
/// The kernel refuses a score below the one that the process started with, unless it has CAP_SYS_RESOURCE.
pub(super) fn lower_oom_score(most: i32) -> io::Result<()> {
    let score: i32 = std::fs::read_to_string(OOM_SCORE_ADJ)?.trim().parse().map_err(io::Error::other)?;
    if score > most { std::fs::write(OOM_SCORE_ADJ, most.to_string()) } else { Ok(()) }
}
