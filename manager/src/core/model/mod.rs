//! The data of the core: what the journal keeps of a session, and what a session is made from.
//!
//! These files hold types, their constructors and questions about them. They import nothing of the rules, of inputs or of
//! what a step gives; the rules, the views and the fleet import them.

pub(crate) mod deaths;
pub(crate) mod session;
pub(crate) mod spec;
pub(crate) mod state;
pub(crate) mod turn;
