//! kennel's manager: crash-isolated hosting of AI-agent sessions, each in a process of its own.
//!
//! [`SessionManager`] is the library; the `kennel` binary is a daemon and a command line around it. Inside,
//! four words: **step** ([`core`]: pure, decides), **commit** (the journal remembers), **act** (processes and
//! links do), **observe** (they report back as input). `supervisor/` is the loop that turns them.

mod acp;
mod address;
pub mod api;
mod attachments;
pub mod cli;
pub mod client;
pub mod config;
pub mod core;
mod daemon;
mod error;
mod event_text;
mod feed;
mod fetch;
mod hints;
mod journal;
mod jsonrpc;
mod keys;
mod listening;
mod metrics;
mod offered;
mod pace;
mod pass;
mod plain;
mod refusals;
mod search;
mod session_manager;
mod shares;
mod supervisor;
mod system;
mod terminal_text;
mod units;
mod version;
mod web_files;
mod web_handover;
mod work;
mod workers;
mod worktrees;

pub use error::{Error, StartError};
pub use feed::Subscription;
pub use journal::Record;
pub use protocol;
pub use session_manager::{Builder, MAX_PROMPT, SessionManager, WaitFor, check_prompt};
pub use version::VERSION;
pub use work::LoopWork;
