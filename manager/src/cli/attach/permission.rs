//! One permission that waits for an attached person, and the text of its decision.

use protocol::PermissionId;
use protocol::event::Decider;
use protocol::wire::PermissionOption;
use tokio::time::Instant;

/// A permission that waits. Its options keep their numbers: an answer that is typed late still means the option that
/// the person read.
pub(super) struct Asked {
    pub(super) id: PermissionId,
    pub(super) title: String,
    pub(super) options: Vec<PermissionOption>,
    /// The number of its first option; absent until this client is offered the options.
    pub(super) first: Option<usize>,
    /// Since when the person can have read it.
    pub(super) offered: Option<Instant>,
    pub(super) shown: bool,
}

/// Names the option that answered a permission, and the policy where one chose the option. `asked` is absent
/// if this client has not seen the request.
pub(super) fn answered(id: PermissionId, asked: Option<&Asked>, option: &str, by: Decider) -> String {
    let by = match by {
        Decider::User => "",
        Decider::Policy => ", by the session's policy",
    };
    match asked {
        Some(Asked { title, .. }) => format!("{id}: the agent asked: {title}: {option}{by}"),
        None => format!("{id} was answered with `{option}`{by}"),
    }
}
