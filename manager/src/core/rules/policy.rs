//! The policy of a session for a permission request.

use protocol::api::PermissionPolicy;
use protocol::wire::PermissionAsk;

use crate::core::model::spec::{PermissionRule, Permissions};
use crate::core::rules::authority::stricter;

impl Permissions {
    /// The policy for a permission request: the first rule that matches decides, and sessions above can only make it
    /// stricter.
    pub fn policy_for(&self, ask: &PermissionAsk, workdir: &str) -> PermissionPolicy {
        let rule = self.rules.iter().find(|rule| rule.fits(ask, workdir));
        let own = rule.map_or(self.policy, |rule| rule.then);
        match &self.above {
            None => own,
            Some(above) => stricter(own, above.permissions.policy_for(ask, &above.workdir)),
        }
    }
}

impl PermissionRule {
    fn fits(&self, ask: &PermissionAsk, workdir: &str) -> bool {
        let kind = self.kind.as_ref().is_none_or(|kind| ask.kind.as_ref() == Some(kind));
        let path = self.path.as_ref().is_none_or(|below| {
            // A request without paths matches no rule about paths.
            !ask.paths.is_empty() && ask.paths.iter().all(|path| is_below(path, below, workdir))
        });
        kind && path
    }
}

/// Returns true if `path` is `below` or beneath it, both relative to `workdir` unless absolute. Compares
/// names alone: a symlink can lead elsewhere.
fn is_below(path: &str, below: &str, workdir: &str) -> bool {
    match (names(path, workdir), names(below, workdir)) {
        (Some(path), Some(below)) => path.starts_with(&below),
        _ => false,
    }
}

/// The names along a path; none if it climbs above the root.
fn names<'a>(path: &'a str, workdir: &'a str) -> Option<Vec<&'a str>> {
    let base = if path.starts_with('/') { "" } else { workdir };
    let mut names = Vec::new();
    for name in base.split('/').chain(path.split('/')) {
        match name {
            "" | "." => {}
            ".." => {
                names.pop()?;
            }
            name => names.push(name),
        }
    }
    Some(names)
}
