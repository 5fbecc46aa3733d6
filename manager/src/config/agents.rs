//! The agents that sessions can name: profiles, built-in agents, and where their programs are.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use protocol::api::{AgentInfo, AgentKind};
use protocol::wire::{Agent, McpServer};

use super::lookup::{listed, nearest, shown};
use super::profile::{Mcp, Profile, Runs};
use super::surroundings::Surroundings;
use super::{Config, built_in, env};
use crate::error::Error;

/// Name of the profile that is always there.
pub(super) const SHELL: &str = "shell";
/// Stands for the model in a command.
pub(super) const MODEL: &str = "{model}";

impl Config {
    pub(super) fn profile(&self, name: &str) -> Result<Profile, Error> {
        if let Some(profile) = self.agents.get(name) {
            return Ok(profile.clone());
        }
        if name == SHELL {
            return Ok(Profile::default());
        }
        if let Some(known) = built_in::named(name) {
            let argv = known.argv.iter().map(|word| (*word).to_owned()).collect();
            return Ok(Profile {
                runs: Runs::Acp { argv, line: 0, login: None, mcp: Vec::new() },
                env_pass: known.env_pass.iter().map(|name| (*name).to_owned()).collect(),
                login_command: known.login_argv(),
                ..Profile::default()
            });
        }
        let mut known: Vec<&str> = self.agents.keys().map(String::as_str).collect();
        known.extend(built_in::BUILT_IN.iter().map(|agent| agent.name).chain([SHELL]));
        known.sort_unstable();
        known.dedup();
        let near = nearest(name, known.iter().copied());
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write an [agents.NAME] for it into {}", self.path.display()),
        };
        let message = format!("no such agent `{}`; there are {}", shown(name, 80), listed(&known, 20));
        Err(Error::invalid_with("no_such_agent", message, hint))
    }

    pub(super) fn agent(
        &self,
        name: &str,
        runs: &Runs,
        model: Option<&String>,
        path: Option<OsString>,
    ) -> Result<Agent, Error> {
        let (argv, line) = match runs {
            Runs::Shell => return Ok(Agent::Shell),
            Runs::Command { argv, line, .. } | Runs::Acp { argv, line, .. } => (argv, *line),
        };
        if model.is_none() && argv.iter().any(|word| word.contains(MODEL)) {
            return Err(Error::invalid_with(
                "model_required",
                format!("agent `{name}` is run with a model, and none was given"),
                format!("name one, or write model = \"...\" into [agents.{name}] in {}", self.path.display()),
            ));
        }
        let mut argv = argv.clone();
        if let Some(model) = model {
            argv.iter_mut().for_each(|word| *word = word.replace(MODEL, model));
        }
        argv[0] = self.program(name, &argv[0], line, path.clone())?;
        Ok(match runs {
            Runs::Shell => Agent::Shell,
            Runs::Command { prompt_via, transcript, .. } => {
                Agent::Command { argv, prompt_via: *prompt_via, transcript: *transcript }
            }
            Runs::Acp { login, mcp, .. } => {
                let programs = mcp.iter().filter_map(|server| match server {
                    Mcp::Program { name, argv, env } => Some((name, argv, env)),
                    Mcp::Remote(_) => None,
                });
                let servers = programs.map(|(its_name, argv, env)| {
                    let mut argv = argv.clone();
                    let command = self.program(name, &argv.remove(0), line, path.clone())?;
                    let env = env.clone().into_iter().collect();
                    Ok(McpServer { name: its_name.clone(), command, args: argv, env })
                });
                let mcp_servers = servers.collect::<Result<_, Error>>()?;
                Agent::Acp { argv, login: login.clone(), mcp_servers }
            }
        })
    }

    /// The absolute path of an agent's program, or of one that it needs.
    fn program(
        &self,
        agent: &str,
        program: &str,
        line: usize,
        path: Option<OsString>,
    ) -> Result<String, Error> {
        find_program(program, path).ok_or_else(|| {
            let named = shown(program, 200);
            let message = match named.starts_with('/') {
                true => format!("agent `{agent}`: {named} is not an executable file"),
                false => format!("agent `{agent}`: there is no program `{named}` on the daemon's PATH"),
            };
            let absolute = match line {
                0 => format!("write its absolute path into an [agents.{agent}] in {}", self.path.display()),
                line => format!("write its absolute path into `command` at {}:{line}", self.path.display()),
            };
            let hint = match built_in::named(agent).filter(|known| known.argv[0] == program) {
                Some(known) => format!("install it ({}), or {absolute}", known.install),
                None => format!("install it, or {absolute}"),
            };
            Error::invalid_with("agent_not_found", message, hint)
        })
    }

    /// Every agent that can be named, with its program if it is there.
    pub fn agents(&self) -> Vec<AgentInfo> {
        let around = Surroundings::of_this_process();
        let mut names: Vec<&str> = self.agents.keys().map(String::as_str).collect();
        names.extend(built_in::BUILT_IN.iter().map(|agent| agent.name).chain([SHELL]));
        names.sort_unstable();
        names.dedup();
        let info = |name: &str| {
            let profile = self.profile(name).ok()?;
            let known = match &profile.runs {
                Runs::Acp { argv, .. } => built_in::extended(name, argv.first().map(String::as_str)),
                _ => None,
            };
            let (kind, program) = match &profile.runs {
                Runs::Shell => (AgentKind::Shell, "/bin/sh".to_owned()),
                Runs::Command { argv, .. } => (AgentKind::Command, argv[0].clone()),
                Runs::Acp { argv, .. } => (AgentKind::Acp, argv[0].clone()),
            };
            let path = profile.env.get("PATH").map(OsString::from).or_else(|| around.path.clone());
            Some(AgentInfo {
                name: name.to_owned(),
                kind,
                path: find_program(&program, path),
                program,
                built_in: !self.agents.contains_key(name),
                login: known.map(|known| known.login.to_owned()),
                logs_in: !profile.login_command.is_empty(),
                install: known.map(|known| known.install.to_owned()),
                env_missing: env::missing(&self.with_defaults(&profile.env_named), &profile.env),
                details: None,
            })
        };
        names.into_iter().filter_map(info).collect()
    }
}

/// The program's absolute path.
pub(super) fn find_program(program: &str, path: Option<OsString>) -> Option<String> {
    programs(program, path.as_deref()).next()
}

/// The absolute paths of all programs of this name on PATH, in its order. Relative entries of PATH are passed over: what they
/// mean depends on where the daemon was started.
pub(super) fn programs(program: &str, path: Option<&OsStr>) -> impl Iterator<Item = String> {
    let executable = |file: &PathBuf| {
        let runs = rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok();
        runs && std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file())
    };
    let candidates: Vec<PathBuf> = match program.starts_with('/') {
        true => vec![PathBuf::from(program)],
        false => {
            let dirs = path.map(std::env::split_paths).into_iter().flatten();
            dirs.filter(|dir| dir.is_absolute()).map(|dir| dir.join(program)).collect()
        }
    };
    candidates.into_iter().filter(executable).filter_map(|file| file.into_os_string().into_string().ok())
}
