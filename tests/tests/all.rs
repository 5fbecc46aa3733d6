//! One binary of tests: one link instead of many.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod acp;
mod acp_side;
mod address;
mod attach;
mod attachments;
mod bounds;
mod bulk;
mod calls;
mod campaign;
mod cli;
#[cfg(feature = "failpoints")]
mod clock;
mod containment;
mod core_adoption;
mod core_agents;
mod core_fleet;
mod core_properties;
mod core_rules;
mod core_stalls;
mod core_table;
mod core_views;
mod daemon;
mod damage;
mod disk;
mod doctor;
mod documents;
mod edges;
mod flows;
mod fuzz;
mod granted;
mod handover;
mod hangs;
mod http;
mod inheritance;
mod kills;
mod leftovers;
mod library;
mod limits;
mod links;
mod mcp;
mod mcp_side;
mod moved;
mod owned;
mod retention;
mod rights;
mod rights_of_agents;
mod sandbox;
mod sandbox_matrix;
mod security_page;
mod shown;
mod simulation;
mod stalls;
mod terminal;
mod worktrees;
