//! One permission that waits for an attached person, and the text of its decision.

use protocol::PermissionId;
use protocol::event::Decider;
use protocol::wire::PermissionOption;

/// A permission that waits. Its options keep their numbers: an answer that is typed late still means the option that
/// the person read.
pub(super) struct Asked {
    pub(super) id: PermissionId,
    pub(super) title: String,
    pub(super) options: Vec<PermissionOption>,
    /// The number of its first option; absent until this client is offered the options.
    pub(super) first: Option<usize>,
    pub(super) shown: bool,
}

/// Names the option and, where a policy chose it, the policy.
pub(super) fn decided(option: &str, by: Decider) -> String {
    match by {
        Decider::User => option.to_owned(),
        Decider::Policy => format!("{option}, by the session's policy"),
    }
}
