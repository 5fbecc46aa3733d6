//! The test harness of kennel: the history checker, the simulation, and the means to drive real processes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test harness fails by panicking")]

pub mod campaign;
pub mod cgroups;
pub mod daemon;
pub mod disk;
pub mod door;
pub mod far;
pub mod fuzz;
pub mod history;
pub mod kinds;
pub mod names;
pub mod real;
pub mod rng;
pub mod sample;
pub mod scopes;
pub mod sim;
pub mod talker;
pub mod websocket;
