//! The rights that a session can give to its sub-agents: none that it does not have.
//!
//! An agent that holds its session's token can start sub-agents. [`Spec::below`] makes such a sub-agent no weaker than its
//! parent: options that the agent did not name come from the parent, and weaker ones are refused. [`Spec::weaker_than`]
//! asks the same question. kennel asks it again before a session sends a prompt to a session below it, because the owner
//! may start weaker ones, and an older journal may hold some.

use std::path::Path;

use protocol::api::{PermissionPolicy, SessionOpts};
use protocol::wire::Agent;
use protocol::{Containment, Walls};

use crate::core::input::Wish;
use crate::core::model::options::{Below, NUMBERS};
use crate::core::model::spec::{Above, Permissions, Spec};

/// Names of variables that the loader and the shells obey before a program's first instruction, by their beginnings.
const LOADER: [&str; 9] =
    ["LD_", "GLIBC_", "GCONV_", "LOCPATH", "MALLOC_", "BASH_", "SHELLOPTS", "KENNEL_", "BWRAP_"];

impl Spec {
    /// The spec of a sub-agent that a session asks for, made no weaker than this one, its parent's.
    ///
    /// # Errors
    /// The options that the session named and that are weaker, each with the reason.
    pub fn below(&self, child: &Spec, wish: &Wish) -> Result<Spec, Vec<String>> {
        let mut refused = self.refused(child, wish);
        let mut child = child.clone();
        child.walls = match (&self.walls, child.walls.take()) {
            (None, own) => own,
            (Some(parent), None) => Some(parent.clone()),
            (Some(parent), Some(own)) => Some(own.within(parent)),
        };
        child.containment = stronger(child.containment, self.containment);
        for number in NUMBERS {
            let weaker = number.is_weaker((number.held)(&child), (number.held)(self));
            match number.below {
                Below::AtMost(copy) | Below::AtLeast(copy) if weaker => copy(&mut child, self),
                Below::Any | Below::AtMost(_) | Below::AtLeast(_) => {}
            }
        }
        child.subagents.offered &= self.subagents.offered;
        if !self.asks_nobody() {
            let (permissions, workdir) = (self.permissions.clone(), self.workdir.clone());
            child.permissions.above = Some(Box::new(Above { permissions, workdir }));
        }
        if self.walls.is_some() {
            self.keep_secrets(&mut child, &wish.given);
        }
        // The rules above have lowered every option that they can. Any option that is still weaker is
        // refused.
        for what in child.weaker_than(self) {
            if !refused.iter().any(|known| known.starts_with(what)) {
                refused.push(format!("{what}: the parent has less"));
            }
        }
        if refused.is_empty() { Ok(child) } else { Err(refused) }
    }

    /// The options that the session named and may not have, each with the reason.
    fn refused(&self, child: &Spec, wish: &Wish) -> Vec<String> {
        let given = &wish.given;
        let mut refused = Vec::new();
        let mut refuse = |name: &str, why: String| refused.push(format!("{name}: {why}"));
        for number in NUMBERS {
            let (given, parent) = ((number.given)(given), (number.held)(self));
            if let (Some(_), Some(has)) = (given, parent)
                && number.is_weaker(given, parent)
            {
                refuse(number.name, format!("the parent has {has}"));
            }
        }
        let own = is_at_or_below(&child.workdir, &self.workdir);
        let worktrees = wish.worktrees.as_deref().filter(|_| self.walls.is_none());
        let worktree =
            worktrees.is_some_and(|all| child.workdir != all && is_at_or_below(&child.workdir, all));
        if !own && !worktree {
            refuse("workdir", format!("it is not below the parent's, {}", self.workdir));
        }
        if self.walls.is_some() {
            let loader =
                |name: &&String| name.as_str() == "ENV" || LOADER.iter().any(|start| name.starts_with(start));
            for name in given.env.keys().filter(loader) {
                refuse("env", format!("`{name}` is not for a sandboxed session to set"));
            }
        }
        if !self.asks_nobody() {
            // Each of these is a way to run a program without the question that the parent's agent would ask.
            if child.agent.never_asks() {
                let agent = &child.agent_name;
                refuse("agent", format!("`{agent}` never asks for permission, and the parent's agent must"));
            }
            if !given.env.is_empty() {
                refuse(
                    "env",
                    "the parent's agent must ask for permission, and an environment can change that".into(),
                );
            }
            if !given.mcp_servers.is_empty() {
                refuse(
                    "mcp_servers",
                    "the parent's agent must ask for permission, and a server is a program".into(),
                );
            }
            if given.permissions.is_some() {
                refuse("permissions", "they are the parent's".into());
            }
        }
        refused
    }

    /// Removes the daemon's secrets that the child's profile has and this session has not.
    fn keep_secrets(&self, child: &mut Spec, given: &SessionOpts) {
        child.env_pass.retain(|name| self.env_pass.contains(name));
        child.env_named.retain(|name| self.env_pass.contains(name));
        child
            .env
            .retain(|name, value| self.env.get(name) == Some(value) || given.env.get(name) == Some(value));
        let named = |name: &str| {
            let local = given.mcp_servers.iter().any(|server| server.name == name);
            local || given.mcp_remote_servers.iter().any(|server| server.name == name)
        };
        let own = match &self.agent {
            Agent::Acp { mcp_servers, .. } => mcp_servers.as_slice(),
            Agent::Shell | Agent::Command { .. } => &[],
        };
        if let Agent::Acp { mcp_servers, .. } = &mut child.agent {
            mcp_servers.retain(|server| own.contains(server) || named(&server.name));
        }
        child.remote_servers.retain(|server| self.remote_servers.contains(server) || named(&server.name));
    }

    /// The options in which this session is weaker than `parent`; empty if it can do no more than `parent`.
    pub fn weaker_than(&self, parent: &Spec) -> Vec<&'static str> {
        let walls = match (&self.walls, &parent.walls) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(parent)) => own.is_at_least(parent),
        };
        let inside = |path: &str| is_at_or_below(path, &parent.workdir);
        let secrets =
            parent.walls.is_none() || self.env_pass.iter().all(|name| parent.env_pass.contains(name));
        let holds = [
            ("sandbox", walls),
            ("workdir", parent.walls.is_none() || inside(&self.workdir)),
            ("containment", strength(self.containment) >= strength(parent.containment)),
            ("permissions", parent.asks_nobody() || self.asks_as(parent)),
            ("env_pass", secrets),
        ];
        let numbers = NUMBERS.iter().map(|number| {
            let weaker = number.is_weaker((number.held)(self), (number.held)(parent));
            (number.name, !weaker)
        });
        holds.into_iter().chain(numbers).filter(|(_, holds)| !holds).map(|(name, _)| name).collect()
    }

    /// Returns true if the agent does everything without asking for permission.
    fn asks_nobody(&self) -> bool {
        self.agent.never_asks() || self.permissions.allows_all()
    }

    /// Returns true if `parent` may do without asking all that this session may do without asking.
    fn asks_as(&self, parent: &Spec) -> bool {
        if self.agent.never_asks() {
            return false;
        }
        let same = self.workdir == parent.workdir && self.permissions == parent.permissions;
        let mut above = self.permissions.above.as_deref();
        while let Some(one) = above {
            if one.workdir == parent.workdir && one.permissions == parent.permissions {
                return true;
            }
            above = one.permissions.above.as_deref();
        }
        same || self.permissions.allows_nothing()
    }
}

trait NeverAsks {
    fn never_asks(&self) -> bool;
}

impl NeverAsks for Agent {
    /// Returns true if kennel gets no permission requests of such an agent.
    fn never_asks(&self) -> bool {
        match self {
            Agent::Shell | Agent::Command { .. } => true,
            Agent::Acp { .. } => false,
        }
    }
}

impl Permissions {
    fn allows_all(&self) -> bool {
        let allows = |policy| policy == PermissionPolicy::Allow;
        let own = allows(self.policy) && self.rules.iter().all(|rule| allows(rule.then));
        own && self.above.as_ref().is_none_or(|above| above.permissions.allows_all())
    }

    fn allows_nothing(&self) -> bool {
        let denies = |policy| matches!(policy, PermissionPolicy::Deny | PermissionPolicy::Fail);
        denies(self.policy) && self.rules.iter().all(|rule| denies(rule.then))
    }
}

/// The policy of the two that allows less; the first, if both allow as much.
pub(in crate::core) fn stricter(own: PermissionPolicy, above: PermissionPolicy) -> PermissionPolicy {
    let rank = |policy| match policy {
        PermissionPolicy::Allow => 0,
        PermissionPolicy::Park => 1,
        PermissionPolicy::Deny | PermissionPolicy::Fail => 2,
    };
    if rank(above) > rank(own) { above } else { own }
}

fn strength(containment: Containment) -> u8 {
    match containment {
        Containment::Subreaper => 0,
        Containment::Auto => 1,
        Containment::PidNamespace => 2,
    }
}

fn stronger(one: Containment, other: Containment) -> Containment {
    if strength(one) >= strength(other) { one } else { other }
}

/// Returns true if a path is `place` or below it, by their names. Both were resolved before: neither has `..` or a symlink in it.
fn is_at_or_below(path: &str, place: &str) -> bool {
    Walls::is_plain(path) && Path::new(path).starts_with(place)
}
