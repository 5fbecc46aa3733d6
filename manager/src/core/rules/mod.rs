//! What a session does of itself and in answer to what happens, a subject in each file: its processes (`life`), its prompts
//! (`turns`), what its agent asks for (`permissions`, `calls`), who is attached (`clients`), what is set in its agent
//! (`settings`, `servers`), silence (`watchdog`), and what follows a death (`judge`).
//!
//! All of them are methods of [`Session`](crate::core::Session), which `Session::step` calls, and as pure as that.

pub(crate) mod calls;
pub(crate) mod clients;
pub(crate) mod judge;
pub(crate) mod life;
pub(crate) mod permissions;
pub(crate) mod servers;
pub(crate) mod settings;
pub(crate) mod turns;
pub(crate) mod watchdog;
