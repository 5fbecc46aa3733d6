//! The rules of a session, a subject in each file: one input (`step`), a person's commands (`commands`), its process
//! (`life`, `death`, `judge`, `tick`), its prompts (`queue`, `turns`, `recording`), requests of its agent (`permissions`,
//! `policy`, `calls`), attached clients (`clients`), its agent's settings (`settings`, `servers`), silence (`watchdog`),
//! its sub-agents (`authority`, `children`), requests with options (`differences`), and the effects of a state (`effects`).
//!
//! Nearly all of them are methods of [`Session`](crate::core::Session), which `Session::step` calls. They are as pure as
//! that.

mod authority;
mod calls;
mod children;
mod clients;
mod commands;
mod death;
mod differences;
mod effects;
pub(crate) mod judge;
mod life;
mod permissions;
mod policy;
mod queue;
mod recording;
mod servers;
mod settings;
mod step;
mod tick;
mod turns;
mod watchdog;
