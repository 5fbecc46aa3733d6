//! Each violation is found.

mod outside;
mod processes;
mod prompts;
mod story;
mod work;
