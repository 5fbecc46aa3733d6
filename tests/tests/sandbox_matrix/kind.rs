//! The kinds of cells, and what a cell finds.

use std::collections::BTreeMap;

use manager::protocol::{Sandbox, SandboxBy};

use crate::containment::User;

/// A sandbox or none, what makes it, and the user who runs it.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub user: User,
    pub by: SandboxBy,
    pub sandbox: Sandbox,
}

impl Kind {
    pub fn is_root(self) -> bool {
        self.user == User::Own && nix::unistd::geteuid().is_root()
    }

    pub fn name(self) -> String {
        let user = if self.is_root() { "root" } else { "user" };
        match self.sandbox {
            Sandbox::None => format!("none/{user}"),
            sandbox => format!("{:?}/{}/{user}", self.by, sandbox.name()),
        }
    }
}

/// The result of each probe, by its name: a word and its reason.
pub type Results = BTreeMap<String, (String, String)>;
