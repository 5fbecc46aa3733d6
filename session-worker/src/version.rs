//! The version and the build of this program.

/// The build, as `--build-id` prints it.
pub const BUILD: &str = env!("KENNEL_BUILD_ID");
/// Version and build, as `--version` prints them and `Hello` says them.
pub const NAME: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("KENNEL_BUILD_ID"), ")");
