//! The data of the core: types, their constructors and questions about them.
//!
//! These files import nothing of the rules, of inputs or of results. The rules, the views and the fleet import them.

pub(crate) mod deaths;
pub(crate) mod options;
pub(crate) mod session;
pub(crate) mod spec;
pub(crate) mod state;
pub(crate) mod turn;
