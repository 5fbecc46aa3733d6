//! One binary of tests: one link instead of many.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod acp;
mod acp_side;
mod attach;
mod attachments;
mod calls;
mod campaign;
mod cli;
mod core_adoption;
mod core_agents;
mod core_fleet;
mod core_properties;
mod core_rules;
mod core_table;
mod core_views;
mod handover;
mod kills;
mod library;
mod mcp;
mod mcp_side;
mod simulation;
