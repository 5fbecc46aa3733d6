//! The data of the core: types, their constructors and questions about them.
//!
//! These files import nothing of the rules, of inputs or of results. The rules, the views and the fleet import them.

pub(crate) mod deaths;
pub(crate) mod options;
pub(crate) mod session;
pub(crate) mod spec;
pub(crate) mod state;
pub(crate) mod turn;

/// Returns true for what a reader of a record adds by itself. Such fields are left out: what fits into one page of the journal is
/// written in a quarter of the time. Only for what is empty by default, since a default of another kind may change.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
