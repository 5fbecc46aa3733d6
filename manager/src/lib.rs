//! kennel's manager: crash-isolated hosting of AI-agent sessions, each in a process of its own.
//!
//! Its heart so far: [`core`], pure, which decides what a session is and what it does next.

pub mod core;

pub use protocol;
