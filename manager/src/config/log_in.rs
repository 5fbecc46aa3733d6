//! The command of a log-in: what an agent's vendor has for it, or what the profile says.

use std::ffi::OsString;

use super::agents::find_program;
use super::lookup::shown;
use super::profile::Runs;
use super::surroundings::{Surroundings, workdir};
use super::{Config, built_in, env};
use crate::error::Error;

/// The program of a log-in.
#[derive(Clone, Debug)]
pub struct LogInPlan {
    /// The agent's profile.
    pub agent: String,
    /// The program's absolute path and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment, without the marker.
    pub env: Vec<(String, String)>,
    /// The directory in which it starts, absolute.
    pub home: String,
}

impl Config {
    /// Resolves the log-in of an agent.
    ///
    /// # Errors
    /// `no_such_agent`, `no_login_command`, `agent_not_found` (the program), and those of a directory: the home.
    pub fn log_in(&self, name: &str) -> Result<LogInPlan, Error> {
        let profile = self.profile(name)?;
        let around = Surroundings::of_this_process();
        if matches!(profile.runs, Runs::Shell) {
            let message = format!("`{name}` runs a shell, which has no log-in; nothing was started");
            let hint = "`kennel agents ls` lists the agents";
            return Err(Error::invalid_with("no_login_command", message, hint));
        }
        let Some((program, args)) = profile.login_command.split_first() else {
            let message = format!("kennel knows no command by which `{name}` logs in; nothing was started");
            let known = built_in::extended(name, profile.runs.program().map(String::as_str));
            let written = format!("write `login_command` into [agents.{name}] in {}", self.path.display());
            let hint = match known {
                Some(known) => {
                    format!("on that machine: {}; if it has such a command, {written}", known.login)
                }
                None => written,
            };
            return Err(Error::invalid_with("no_login_command", message, hint));
        };
        let path = profile.env.get("PATH").map(OsString::from).or_else(|| around.path.clone());
        let Some(found) = find_program(program, path) else {
            let program = shown(program, 200);
            let message = format!(
                "the log-in of `{name}` is `{program}`, and no such program is on the daemon's PATH; nothing was started"
            );
            let hint = format!(
                "install it, or write `login_command` into [agents.{name}] in {}",
                self.path.display()
            );
            return Err(Error::invalid_with("agent_not_found", message, hint));
        };
        Ok(LogInPlan {
            agent: name.to_owned(),
            argv: std::iter::once(found).chain(args.iter().cloned()).collect(),
            env: env::log_in_env(&self.with_defaults(&profile.env_pass), &profile.env),
            home: workdir(None, &around)?,
        })
    }
}
