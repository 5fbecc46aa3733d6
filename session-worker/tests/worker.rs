//! The real worker over real pipes.

// What clippy.toml allows in `#[test]` functions, for their helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "worker/contained.rs"]
mod contained;
#[path = "worker/ending.rs"]
mod ending;
mod harness;
#[path = "worker/life.rs"]
mod life;
#[path = "worker/log.rs"]
mod log;
#[path = "worker/program.rs"]
mod program;
#[path = "worker/shelter.rs"]
mod shelter;
#[path = "worker/turn.rs"]
mod turn;
