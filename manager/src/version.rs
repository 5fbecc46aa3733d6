//! The version of this kennel, for every folder that prints it or compares it.

/// Version and build of this kennel.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("KENNEL_BUILD_ID"), ")");
