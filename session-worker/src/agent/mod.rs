//! The agent of a session: a program for each prompt (`per_prompt`), or one that lives between prompts (`acp`); how either is
//! started (`program`), and the text that is read of it and told to it (`text`).
//!
//! It uses `confine/` to start programs and says what comes of it to `worker/`, which alone uses it.

pub(crate) mod acp;
pub(crate) mod per_prompt;
pub(crate) mod program;
pub(crate) mod text;
