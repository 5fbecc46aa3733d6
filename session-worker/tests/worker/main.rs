//! The real worker over real pipes.

// What clippy.toml allows in `#[test]` functions, for their helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod contained;
mod ending;
mod harness;
mod life;
mod log;
mod program;
mod shelter;
mod turn;
