//! Resolution of a session's settings: its options, its agent's profile and `[defaults]`, in this order.

use std::collections::BTreeSet;
use std::ffi::OsString;

use protocol::Limits;
use protocol::api::{OnCrash, SessionOpts};
use protocol::wire::Agent;

use super::agents::{MODEL, SHELL};
use super::file::raw::RawRule;
use super::file::values::{OneOf, Within};
use super::surroundings::{Surroundings, workdir};
use super::{Config, bounds, mcp, sandbox};
use crate::core::options::NUMBERS;
use crate::core::{PermissionRule, Permissions, RestartPolicy, Spec, Subagents, WORKER_TIMEOUT_MS};
use crate::error::Error;

const HIBERNATE_AFTER_MS: u64 = 4 * 60 * 60 * 1000;
const GRACE_MS: u64 = 2000;

impl Config {
    /// Resolves a session's options to a complete specification, every default filled in.
    ///
    /// # Errors
    /// `no_such_agent`, `agent_not_found` (its program), `model_required`, `workdir_not_absolute`,
    /// `no_such_workdir`, `workdir_not_a_directory`, `workdir_not_accessible`, `workdir_not_utf8`, and
    /// `invalid_` with the option's name for values out of bounds.
    pub fn resolve(&self, opts: &SessionOpts) -> Result<Spec, Error> {
        self.resolve_within(opts, &Surroundings::of_this_process())
    }

    pub(super) fn resolve_within(&self, opts: &SessionOpts, around: &Surroundings) -> Result<Spec, Error> {
        check_options(opts)?;
        let defaults = &self.defaults;
        let usual = defaults.agent.as_ref().map_or(SHELL, |agent| agent.get_ref());
        let agent_name = opts.agent.as_deref().unwrap_or(usual);
        let profile = self.profile(agent_name)?;
        let keys = &profile.keys;
        let model = opts.model.as_ref().or(keys.model.as_ref().map(|model| &model.0));
        let mut env = profile.env.clone();
        env.extend(opts.env.clone());
        bounds::env(&env).map_err(|what| out_of_bounds("invalid_env", "env", &what))?;
        let env_pass = self.with_defaults(&profile.env_pass);
        let env_named = self.with_defaults(&profile.env_named);
        let path = env.get("PATH").map(OsString::from).or_else(|| around.path.clone());
        let mut agent = self.agent(agent_name, &profile.runs, model, path.clone())?;
        let conversation = conversation(opts, agent_name, &agent)?;
        mcp::add(&mut agent, &opts.mcp_servers, path)?;
        let mut remote_servers = mcp::remote(&mut agent, opts)?;
        remote_servers.extend(profile.remote_servers().filter(|server| !mcp::names(opts, &server.name)));
        let workdir = workdir(opts.workdir.as_deref(), around)?;
        let walls = sandbox::walls(&profile, agent_name, &workdir, &self.path, around)?;
        let model_in = |word: &String| model.map_or(word.clone(), |model| word.replace(MODEL, model));
        let program = profile.runs.program().map(model_in);
        Ok(Spec {
            agent_name: agent_name.to_owned(),
            agent,
            program,
            name: opts.name.as_deref().and_then(|name| name.parse().ok()),
            labels: opts.labels.clone(),
            title: opts.title.clone(),
            model: model.cloned(),
            workdir,
            // The caller looks: it takes a file system.
            start_commit: None,
            forked_from: None,
            conversation,
            env,
            env_pass,
            env_named,
            restart: self.restart(opts),
            on_crash: opts
                .on_crash
                .or(OneOf::value(&keys.on_crash))
                .or(OneOf::value(&defaults.on_crash))
                .unwrap_or(OnCrash::Interrupt),
            hibernate_after_ms: opts
                .hibernate_after_ms
                .or(Within::value(&defaults.hibernate_after))
                .unwrap_or(HIBERNATE_AFTER_MS),
            start_timeout_ms: Within::value(&keys.start_timeout),
            grace_ms: opts.grace_ms.or(Within::value(&defaults.grace)).unwrap_or(GRACE_MS),
            worker_timeout_ms: Within::value(&keys.worker_timeout)
                .or(Within::value(&defaults.worker_timeout))
                .unwrap_or(WORKER_TIMEOUT_MS),
            stall_timeout_ms: Within::value(&keys.stall_timeout),
            turn_timeout_ms: opts.turn_timeout_ms.or(Within::value(&keys.turn_timeout)).unwrap_or(0),
            limits: Limits {
                nice: opts.nice.or(Within::value(&keys.nice)),
                nofile: opts.nofile.or(Within::value(&keys.nofile)),
                memory_bytes: opts.memory_bytes.or(Within::value(&keys.memory)),
                pids: opts.pids.or(Within::value(&keys.pids)),
                milli_cpus: opts.milli_cpus.or(Within::value(&keys.cpus)),
            },
            umask: Within::value(&keys.umask).or(Within::value(&defaults.umask)).or(opts.umask),
            permissions: Permissions {
                policy: opts.permissions.or(OneOf::value(&keys.permissions)).unwrap_or_default(),
                rules: keys.rules.iter().map(rule).collect(),
                timeout_ms: opts
                    .permission_timeout_ms
                    .or(Within::value(&keys.permission_timeout))
                    .unwrap_or(0),
                above: None,
            },
            subagents: self.subagents(keys.subagents.as_ref().map(|offered| *offered.get_ref())),
            remote_servers,
            containment: OneOf::value(&keys.containment).unwrap_or_default(),
            walls,
            offers: opts.offers.iter().copied().collect::<BTreeSet<_>>().into_iter().collect(),
        })
    }

    /// Names of variables, with those of `[defaults]`, each once.
    pub(super) fn with_defaults(&self, names: &[String]) -> Vec<String> {
        let mut all = names.to_vec();
        all.extend(self.defaults.env_pass.iter().map(|name| name.0.clone()));
        all.sort();
        all.dedup();
        all
    }

    fn restart(&self, opts: &SessionOpts) -> RestartPolicy {
        let (built_in, defaults) = (RestartPolicy::default(), &self.defaults);
        RestartPolicy {
            kind: opts.restart.or(OneOf::value(&defaults.restart)).unwrap_or(built_in.kind),
            intensity: opts.intensity.or(Within::value(&defaults.intensity)).unwrap_or(built_in.intensity),
            period_ms: opts.period_ms.or(Within::value(&defaults.period)).unwrap_or(built_in.period_ms),
        }
    }

    fn subagents(&self, offered: Option<bool>) -> Subagents {
        let built_in = Subagents::default();
        Subagents {
            offered: offered.unwrap_or(built_in.offered),
            depth: Within::value(&self.defaults.subagent_depth).unwrap_or(built_in.depth),
            breadth: Within::value(&self.defaults.subagent_breadth).unwrap_or(built_in.breadth),
            total: Within::value(&self.defaults.subagent_total).unwrap_or(built_in.total),
        }
    }
}

fn rule(written: &RawRule) -> PermissionRule {
    PermissionRule {
        kind: OneOf::value(&written.kind).map(|kind| kind.name().to_owned()),
        path: written.path.clone(),
        then: written.then.0,
    }
}

/// Checks the bounds of a client's options. A complaint names the field as the API has it.
fn check_options(opts: &SessionOpts) -> Result<(), Error> {
    fn check<T>(
        (field, code): (&str, &'static str),
        value: Option<T>,
        check: impl FnOnce(T) -> Result<(), String>,
    ) -> Result<(), Error> {
        value.map_or(Ok(()), check).map_err(|what| out_of_bounds(code, field, &what))
    }
    opts.name.as_deref().map(|name| super::names::name(name, "nothing was started")).transpose()?;
    check(("labels", "invalid_labels"), Some(&opts.labels), super::names::labels)?;
    check(("title", "invalid_title"), opts.title.as_deref(), bounds::title)?;
    check(("conversation", "invalid_conversation"), opts.conversation.as_deref(), bounds::conversation)?;
    check(("model", "invalid_model"), opts.model.as_deref(), bounds::model)?;
    for number in NUMBERS {
        check((number.name, number.code), (number.given)(opts), |value| number.check(value))?;
    }
    check(("umask", "invalid_umask"), opts.umask, bounds::umask_number)
}

/// The conversation that the agent is to take up, which it can if it speaks ACP.
fn conversation(opts: &SessionOpts, agent_name: &str, agent: &Agent) -> Result<Option<String>, Error> {
    if opts.conversation.is_some() && !matches!(agent, Agent::Acp { .. }) {
        let message = format!(
            "`{agent_name}` does not speak the Agent Client Protocol, and keeps no conversation; nothing was started"
        );
        let hint = "name another agent; `kennel agents ls` lists them";
        return Err(Error::invalid_with("no_conversations", message, hint));
    }
    Ok(opts.conversation.clone())
}

fn out_of_bounds(code: &'static str, field: &str, what: &str) -> Error {
    Error::invalid(code, format!("`{field}`: {what}; nothing was started"))
}
