//! The side of the line on which the clients are: a mark in the environment of this process and of what connects from it.

/// In the environment of those, and of nothing else. Its value is the directory of their files.
pub const SIDE: &str = "KENNEL_TEST_SIDE";

/// Returns true for a process that connects, or did.
pub fn connects(pid: u32) -> bool {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environ.split(|byte| *byte == 0).any(|one| one.starts_with(SIDE.as_bytes()))
}
