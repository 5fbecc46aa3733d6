//! Memory that was needed once.
#![allow(
    unsafe_code,
    reason = "a function of the C library that no crate wraps; it takes and gives a number"
)]

/// Gives the pages between what is in use back to the system (malloc_trim(3)). A start takes some megabytes for a moment, and the
/// C library would keep them for good.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches only what is free, under the allocator's own locks.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
