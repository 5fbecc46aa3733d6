//! TODO

pub(crate) mod acp;
pub(crate) mod per_prompt;
pub(crate) mod program;
pub(crate) mod text;
