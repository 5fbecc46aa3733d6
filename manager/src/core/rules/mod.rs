//! What a session does of itself and in answer to what happens, a subject in each file: one input (`step`), a person's
//! commands (`commands`), its process (`life`, `death`, `judge`, `tick`), its prompts (`queue`, `turns`, `recording`), what its
//! agent asks for (`permissions`, `policy`, `calls`), who is attached (`clients`), what is set in its agent (`settings`,
//! `servers`), silence (`watchdog`), its sub-agents (`authority`, `children`), and the effects of a state (`effects`).
//!
//! All of them are methods of [`Session`](crate::core::Session), which `Session::step` calls, and as pure as that.

mod authority;
mod calls;
mod children;
mod clients;
mod commands;
mod death;
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
