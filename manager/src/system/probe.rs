//! Containment that this machine supports: `session-worker probe` tests it, once for each manager.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use protocol::{Containment, Level};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::core::Spec;
use crate::error::Error;
use crate::system::process::worker_program;

/// Time limit of a probe. A probe took 10 ms where it was measured.
const PROBE: Duration = Duration::from_secs(5);
/// The most that is read of what was found, in bytes.
const MOST: u64 = 4096;

/// Result of the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The best that agents can be held with.
    pub level: Level,
}

/// Returns true if a process that we start can enter the control groups with these `cgroup.procs` files.
pub async fn can_enter(named: Option<&Path>, files: &[String]) -> bool {
    let args: Vec<&str> = ["probe", "groups"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let asked = tokio::time::timeout(PROBE, ask(named, &args)).await;
    matches!(asked, Ok(Ok(said)) if said == "groups entered\n")
}

/// Finds out, with the worker's program, whether agents can be put in this sandbox.
///
/// # Errors
/// `sandbox_unavailable`; `sandbox_workdir` where the manager's own files lie in the working directory.
pub async fn check_sandbox(spec: &Spec, named: Option<&Path>, state_dir: &Path) -> Result<(), Error> {
    let Some(walls) = &spec.walls else { return Ok(()) };
    let state_dir = std::fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    crate::config::check_sandbox_workdir(&spec.workdir, &state_dir)?;
    let name = walls.sandbox.name();
    // `-`: Landlock is to do.
    let program = walls.program.as_deref().unwrap_or("-");
    let asked = tokio::time::timeout(PROBE, ask(named, &["probe", program, name])).await;
    let why = match asked {
        Ok(Ok(said)) if said == format!("sandbox {name}\n") => return Ok(()),
        Ok(Ok(_)) => match &walls.program {
            Some(program) => format!("{program} makes none"),
            None => "there is no bubblewrap, and namespaces with Landlock cannot be had".into(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => "to try it takes too long".into(),
    };
    Err(crate::config::sandbox_unavailable(&spec.agent_name, walls.sandbox, &why))
}

impl Machine {
    /// Finds out, with the `session-worker` program, which is at `named` or beside this one. What cannot be found out is
    /// taken as not there: an agent that does not demand it runs all the same.
    pub async fn probe(named: Option<&Path>) -> Self {
        let said = match tokio::time::timeout(PROBE, ask(named, &["probe"])).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => {
                tracing::warn!(%error, "what this machine can hold agents with is not known");
                String::new()
            }
            Err(_) => {
                tracing::warn!("what this machine can hold agents with is not known: session-worker hangs");
                String::new()
            }
        };
        Self::from_words(&said)
    }

    fn from_words(said: &str) -> Self {
        let fact = |name| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let level = fact("containment")
            .and_then(|found| Level::ALL.into_iter().find(|level| level.name() == found))
            .unwrap_or(Level::Subreaper);
        Self { level }
    }

    /// The containment level of a session's agent, and true if the agent must not run at a lower level.
    pub fn level_for(&self, spec: &Spec) -> (Level, bool) {
        match spec.containment {
            Containment::Auto => (self.level, false),
            // Found anew by its worker: something may have changed since.
            Containment::PidNamespace if !self.level.is_namespace() => (Level::PidNamespace, true),
            Containment::PidNamespace => (self.level, true),
            Containment::Subreaper => (Level::Subreaper, false),
        }
    }

    /// Refuses what this machine cannot do.
    ///
    /// # Errors
    /// `containment_unavailable`.
    pub fn check(&self, spec: &Spec) -> Result<(), Error> {
        if spec.containment == Containment::PidNamespace && !self.level.is_namespace() {
            let message = format!(
                "agent `{}` is to run in a PID namespace, and none can be made here; nothing was started",
                spec.agent_name
            );
            return Err(Error::invalid_with("containment_unavailable", message, UNAVAILABLE));
        }
        Ok(())
    }
}

const UNAVAILABLE: &str = "run the daemon as root, or let users make user namespaces (sysctl user.max_user_namespaces, \
     kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns) and restart it; or write \
     containment = \"auto\" into the agent's profile";

async fn ask(named: Option<&Path>, args: &[&str]) -> std::io::Result<String> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let mut command = Command::new(worker_program(named)?);
    command.args(args).env_clear().stdin(Stdio::null()).stdout(theirs).stderr(Stdio::null());
    let mut child = Ended(command.spawn()?);
    // The writing end that is ours.
    drop(command);
    let mut said = String::new();
    pipe::Receiver::from_owned_fd(ours)?.take(MOST).read_to_string(&mut said).await?;
    let _ = child.0.kill();
    child.0.wait()?;
    Ok(said)
}

/// A child process that dies with this value.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // No other code reaps the child, so the pid is still its own.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(containment: Containment) -> Spec {
        let opts = protocol::api::SessionOpts { workdir: Some("/".into()), ..Default::default() };
        Spec { containment, ..crate::config::Config::default().resolve(&opts).unwrap() }
    }

    #[test]
    fn what_is_not_understood_is_not_there() {
        for (said, level) in [
            ("containment pid_namespace\nmore 1\n", Level::PidNamespace),
            ("more\ncontainment pid_namespace_shared_proc\n", Level::PidNamespaceSharedProc),
            ("containment cages\n", Level::Subreaper),
            ("", Level::Subreaper),
        ] {
            assert_eq!(Machine::from_words(said), Machine { level }, "{said}");
        }
    }

    #[test]
    fn what_is_demanded_is_had_or_refused() {
        let (able, unable) = (Level::PidNamespace, Level::Subreaper);
        for (machine, asked, expected) in [
            (able, Containment::Auto, Some((Level::PidNamespace, false))),
            (able, Containment::PidNamespace, Some((Level::PidNamespace, true))),
            (able, Containment::Subreaper, Some((Level::Subreaper, false))),
            (unable, Containment::Auto, Some((Level::Subreaper, false))),
            (unable, Containment::PidNamespace, None),
            (unable, Containment::Subreaper, Some((Level::Subreaper, false))),
        ] {
            let (machine, spec) = (Machine { level: machine }, spec(asked));
            match expected {
                Some(expected) => {
                    assert_eq!(machine.check(&spec), Ok(()));
                    assert_eq!(machine.level_for(&spec), expected);
                }
                None => {
                    assert_eq!(machine.check(&spec).unwrap_err().code(), "containment_unavailable");
                    // One that was created before, when it could.
                    assert!(machine.level_for(&spec).1);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_or_no_worker_finds_nothing() {
        for program in ["/nonexistent", "/usr/bin/wc"] {
            assert_eq!(Machine::probe(Some(Path::new(program))).await.level, Level::Subreaper);
        }
    }
}
