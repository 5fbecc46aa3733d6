//! The rules of a session, a subject in each file.
//!
//! - One input: `step`. A person's commands: `commands`.
//! - The process: `life`, `death`, `judge`, `tick`.
//! - Prompts: `queue`, `turns`, `recording`. Silence: `watchdog`.
//! - Requests of the agent: `permissions`, `policy`, `calls`. Attached clients: `clients`.
//! - The agent's settings: `settings`, `servers`. Sub-agents: `authority`, `children`.
//! - Requests with options: `differences`.
//! - The effects of a state: `effects`.
//!
//! Nearly all of them are methods of [`Session`](crate::core::Session), which `Session::step` calls. They are
//! as pure as that.

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
