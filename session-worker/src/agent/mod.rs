//! The agent of a session: a program for each prompt (`per_prompt`), or one that lives between prompts (`acp`).
//!
//! `program` starts both, `stderr` copies what they print into the session's log, and `text` decodes their output. `readers`
//! are processes of this program that read files for clients; `log_in` is a vendor's log-in, in a worker without an agent.
//! May use: `confine/`, `files/`, `tree`, `pipes`, `logfile`. Used by: `worker/`.

pub(crate) mod acp;
pub(crate) mod log_in;
pub(crate) mod per_prompt;
pub(crate) mod program;
pub(crate) mod readers;
pub(crate) mod stderr;
pub(crate) mod text;
