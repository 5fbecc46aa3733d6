//! The rules of a session, a subject in each file. Nearly all of them are methods of
//! [`Session`](crate::core::Session), which `Session::step` calls. They are as pure as that.
//!
//! - One input: `step`; a person's commands: `commands`; the effects of a state: `effects`.
//! - The process: `life`, `death`, `judge`, `tick`. Silence: `watchdog`.
//! - Prompts: `queue`, `turns`, `recording`. Attached clients: `clients`.
//! - Requests of the agent: `permissions`, `policy`, `calls`. Its settings: `settings`, `servers`.
//! - Sub-agents: `authority`, `children`. Requests with options: `differences`.

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
