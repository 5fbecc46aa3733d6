//! Sessions for tests of the core.

use manager::core::{RestartPolicy, Spec};
use protocol::api::OnCrash;
use protocol::wire::Agent;

/// A shell with the settings that most tests want.
pub fn spec() -> Spec {
    Spec {
        agent_name: "shell".into(),
        agent: Agent::Shell,
        title: None,
        model: None,
        workdir: "/".into(),
        env: Default::default(),
        env_pass: Default::default(),
        restart: RestartPolicy::default(),
        on_crash: OnCrash::Interrupt,
        hibernate_after_ms: 600_000,
        grace_ms: 2_000,
    }
}
