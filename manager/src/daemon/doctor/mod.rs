//! `kennel doctor`: checks this machine for problems and prints fixes. Changes nothing; works with or without a daemon.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use protocol::Level;
use protocol::api::{AgentInfo, ListenInfo, WebInfo};
use rusqlite::OpenFlags;
use serde::Serialize;

use crate::config::Config;
use crate::daemon::paths::{Paths, same_file};
use crate::error::StartError;
use crate::system::cgroups::Root;
use crate::system::owned::Untrusted;
use crate::system::probe::Machine;
use crate::system::sweep::Holder;
use crate::system::{process, sweep};
use crate::{journal, supervisor};

mod machine;

/// Less room than this on the journal's file system is trouble at once, in bytes.
const NO_ROOM: u64 = 64 << 20;
/// Less room than this is worth a word, in bytes.
const LITTLE_ROOM: u64 = 1 << 30;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Ok,
    /// kennel keeps its promise, and something is weaker or smaller than it could be.
    Warning,
    /// Something that kennel promises does not hold.
    Problem,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub name: &'static str,
    /// The severity.
    pub health: Health,
    /// The result, for a person.
    pub found: String,
    /// The fix, for a person; none if nothing has to be done.
    pub mend: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, health: Health::Ok, found: found.into(), mend: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, health: Health::Warning, found: found.into(), mend: Some(mend.into()) }
    }

    fn problem(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, health: Health::Problem, found: found.into(), mend: Some(mend.into()) }
    }
}

/// Facts that the running daemon reports about itself.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Why one that runs told nothing, and the way out; none if it told, or if none runs.
    pub mute: Option<(String, String)>,
    /// Its process; none if none runs.
    pub pid: Option<u32>,
    /// Its version and build.
    pub version: Option<String>,
    /// Its state directory was deleted under it.
    pub state_dir_gone: bool,
    /// The processes of its sessions.
    pub workers: Vec<u32>,
    /// The configuration that it reads.
    pub config: Option<PathBuf>,
    /// Its agents; none if it does not say.
    pub agents: Option<Vec<AgentInfo>>,
    /// Its TLS port; none if it has none.
    pub listen: Option<ListenInfo>,
    /// The page's port on loopback; none if it has none.
    pub web: Option<WebInfo>,
}

/// Looks at everything.
pub async fn examine(paths: &Paths, told: &Told) -> Vec<Finding> {
    let mut findings = vec![daemon(told), state_dir(&paths.state_dir), machine::worker_program()];
    // Another finding reports errors of the configuration.
    let config = told.config.as_deref().unwrap_or(&paths.config);
    let setting = Config::load(config).map(|config| config.cgroup_root().clone()).unwrap_or_default();
    let root = Root::find(&setting, None).await;
    let level = match Machine::probe(None).await.level {
        Level::Subreaper if matches!(root, Ok(Some(_))) => Level::Cgroup,
        level => level,
    };
    findings.push(machine::containment(level));
    findings.push(configuration(config));
    findings.extend(own_configuration(config, &paths.config));
    // A daemon that is started from here has this environment.
    let agents = told.agents.clone().or_else(|| Some(Config::load(config).ok()?.agents()));
    findings.extend(agents.as_deref().and_then(environment));
    findings.extend(told.listen.as_ref().map(port));
    findings.extend(told.web.as_ref().map(page));
    findings.extend([journal(&paths.state_dir), room(&paths.state_dir)]);
    findings.push(leftovers(&paths.state_dir, told));
    findings.extend([machine::user_namespaces(), machine::bubblewrap(), machine::cgroups(&setting, root)]);
    findings.extend([machine::descriptors(), machine::processes()]);
    findings.extend(told.pid.and_then(machine::oom_score));
    findings.extend(told.pid.and_then(machine::service_manager));
    findings
}

fn daemon(told: &Told) -> Finding {
    if let Some((found, mend)) = &told.mute {
        return Finding::problem("daemon", found, mend);
    }
    match (told.pid, &told.version) {
        (Some(pid), _) if told.state_dir_gone => Finding::problem(
            "daemon",
            format!("runs, pid {pid}, and its state directory was deleted: no new work is taken"),
            "`kennel daemon stop` ends its sessions; the next daemon begins anew, or with a backup that you put there",
        ),
        (Some(pid), Some(version)) if version != crate::version::VERSION => Finding::warning(
            "daemon",
            format!("runs, pid {pid}, version {version}; this is {}", crate::version::VERSION),
            "`kennel daemon upgrade` replaces it and interrupts no turn",
        ),
        (Some(pid), _) => Finding::ok("daemon", format!("runs, pid {pid}")),
        (None, _) => Finding::ok("daemon", "none runs; the next command that needs one starts it"),
    }
}

fn state_dir(path: &Path) -> Finding {
    const NAME: &str = "state directory";
    let mode = match supervisor::trusted(path) {
        Ok(None) => return Finding::ok(NAME, format!("{} is not there yet", path.display())),
        Ok(Some(real)) => fs::symlink_metadata(real).map_or(0, |meta| meta.permissions().mode() & 0o7777),
        Err(error) => {
            if let Some(found) = untrusted(&error) {
                return Finding::problem(
                    NAME,
                    format!("{} {}", found.path.display(), found.why),
                    found.mend.clone(),
                );
            }
            return Finding::problem(
                NAME,
                error.to_string(),
                "choose another with --state-dir or KENNEL_STATE_DIR",
            );
        }
    };
    if mode & 0o077 != 0 {
        let found = format!("{} has mode {mode:04o}: others can look into it", path.display());
        return Finding::problem(NAME, found, format!("chmod 0700 {}", path.display()));
    }
    Finding::ok(NAME, format!("{}, yours alone", path.display()))
}

fn untrusted(error: &StartError) -> Option<&Untrusted> {
    match error {
        StartError::StateDir { source, .. } => source.get_ref()?.downcast_ref(),
        _ => None,
    }
}

fn configuration(path: &Path) -> Finding {
    const NAME: &str = "configuration";
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            return Finding::problem(NAME, error.to_string(), "mend that line; running sessions go on");
        }
    };
    let absent = config.agents().into_iter().filter(|agent| !agent.built_in && agent.path.is_none());
    let absent: Vec<String> = absent.map(|agent| format!("{} ({})", agent.name, agent.program)).collect();
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Finding::ok(
            NAME,
            format!("{} is not there; the built-in agents and defaults apply", path.display()),
        );
    }
    if absent.is_empty() {
        return Finding::ok(NAME, format!("{} can be read", path.display()));
    }
    let found =
        format!("{}: the programs of these agents are not there: {}", path.display(), absent.join(", "));
    Finding::warning(NAME, found, "install them, or correct their `command`")
}

/// Warns if the caller's environment names another configuration than the daemon reads.
fn own_configuration(read: &Path, own: &Path) -> Option<Finding> {
    let (read_by_daemon, named_here) = (read.display(), own.display());
    (!same_file(read, own)).then(|| {
        Finding::warning(
            "your configuration",
            format!("this environment names {named_here}; the daemon reads {read_by_daemon}"),
            "`kennel daemon restart` starts a daemon that reads yours, and interrupts no turn",
        )
    })
}

/// The remedy for a port that is not served as the configuration wants it.
pub const PORT_MEND: &str = "mend the files that [listen] names, which are read again by themselves; where an address or port cannot be had, mend \
                             [listen] or end the program that has it (`ss -ltnp` shows it), then run `kennel daemon restart`";

fn port(told: &ListenInfo) -> Finding {
    const NAME: &str = "TLS port";
    let addresses = match told.addresses.is_empty() {
        true => "closed".to_owned(),
        false => told.addresses.join(", "),
    };
    match (&told.problem, &told.warning) {
        (Some(problem), _) => Finding::problem(NAME, format!("{addresses}: {problem}"), PORT_MEND),
        (None, Some(warning)) => Finding::warning(
            NAME,
            format!("{addresses}: {warning}"),
            "renew it; the new file is read by itself",
        ),
        (None, None) => {
            Finding::ok(NAME, format!("{addresses}, {}", told.fingerprint.as_deref().unwrap_or_default()))
        }
    }
}

/// Reports the page's port on loopback.
fn page(told: &WebInfo) -> Finding {
    const NAME: &str = "page";
    match &told.problem {
        Some(problem) => Finding::problem(
            NAME,
            format!("{} is not served: {problem}", told.origin),
            "end that program (`ss -ltnp` shows it), then run `kennel web`; or have another address: `kennel web --stop`, then `kennel web`",
        ),
        None => Finding::ok(NAME, told.origin.clone()),
    }
}

/// Variables of `env_pass` that the daemon's environment lacks, or has empty.
fn environment(agents: &[AgentInfo]) -> Option<Finding> {
    let mut lacking: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for agent in agents {
        for name in &agent.env_missing {
            lacking.entry(name).or_default().push(&agent.name);
        }
    }
    let told = |(name, agents): (&str, Vec<&str>)| match agents.len() {
        1..=3 => format!("{name} ({})", agents.join(", ")),
        count => format!("{name} ({count} agents)"),
    };
    let lacking: Vec<String> = lacking.into_iter().map(told).collect();
    (!lacking.is_empty()).then(|| {
        Finding::warning(
            "environment",
            format!("`env_pass` names variables that are not set, or empty: {}", lacking.join("; ")),
            "set them where the daemon is started, then `kennel daemon restart`",
        )
    })
}

fn journal(state_dir: &Path) -> Finding {
    const NAME: &str = "journal";
    let path = state_dir.join(supervisor::JOURNAL);
    if let Err(error) = supervisor::trusted(state_dir) {
        let why = match untrusted(&error) {
            Some(_) => "not opened: see the state directory".to_owned(),
            None => error.to_string(),
        };
        return Finding::problem(NAME, why, "mend the state directory first");
    }
    if !path.exists() {
        return Finding::ok(NAME, "there is none yet");
    }
    let size = |path: PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
    let bytes = size(path.clone()) + size(state_dir.join(format!("{}-wal", supervisor::JOURNAL)));
    if let Err(error) = supervisor::check(state_dir) {
        return Finding::problem(NAME, error.to_string(), "use the kennel that wrote it, or a newer one");
    }
    match quick_check(&path) {
        Ok(faults) if faults.is_empty() => Finding::ok(NAME, format!("whole, {}", mebibytes(bytes))),
        Ok(faults) => {
            let found = format!("{} is damaged: {}", path.display(), faults.join("; "));
            Finding::problem(NAME, found, "make a copy of the state directory before anything else is done")
        }
        Err(error) => {
            let found = format!("{} cannot be looked at: {error}", path.display());
            Finding::problem(NAME, found, "make a copy of the state directory before anything else is done")
        }
    }
}

/// The first faults in the file, in SQLite's words.
fn quick_check(path: &Path) -> Result<Vec<String>, rusqlite::Error> {
    let connection = journal::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let mut check = connection.prepare("PRAGMA quick_check(3)")?;
    let lines: Result<Vec<String>, rusqlite::Error> = check.query_map([], |row| row.get(0))?.collect();
    Ok(lines?.into_iter().filter(|line| line != "ok").collect())
}

fn room(state_dir: &Path) -> Finding {
    const NAME: &str = "disk";
    // Of a directory that is not there yet the nearest that is.
    let place = state_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let room = match rustix::fs::statvfs(place) {
        Ok(room) => room.f_bavail.saturating_mul(room.f_frsize),
        Err(error) => {
            return Finding::problem(NAME, format!("{}: {error}", place.display()), "look at the disk");
        }
    };
    let found = format!("{} free at {}", mebibytes(room), place.display());
    const MEND: &str = "make room: on a full disk no prompt is accepted";
    if room < NO_ROOM {
        Finding::problem(NAME, found, MEND)
    } else if room < LITTLE_ROOM {
        Finding::warning(NAME, found, MEND)
    } else {
        Finding::ok(NAME, found)
    }
}

/// Processes with this state directory's marker that are nobody's: neither a worker in the daemon's table nor below one.
fn leftovers(state_dir: &Path, told: &Told) -> Finding {
    const NAME: &str = "leftovers";
    let marked = match uuid(state_dir) {
        Some(uuid) => sweep::marked(&uuid),
        None => return Finding::ok(NAME, "none"),
    };
    if told.mute.is_some() {
        return Finding::ok(NAME, "not looked for: only the daemon knows which processes are its own");
    }
    if told.pid.is_none() {
        return match marked.len() {
            0 => Finding::ok(NAME, "none"),
            count => Finding::ok(
                NAME,
                format!("{count} processes wait for the next daemon, which takes them over"),
            ),
        };
    }
    let known = |(pid, of): &(u32, Holder)| {
        if matches!(of, Holder::Spare(_)) && process::parent(*pid).ok() == told.pid {
            return true;
        }
        let pid = *pid;
        let mut line = [pid].into_iter().chain(process::ancestors(pid));
        line.any(|pid| told.workers.contains(&pid) || Some(pid) == told.pid)
    };
    let stray: Vec<String> =
        marked.into_iter().filter(|one| !known(one)).map(|(pid, _)| pid.to_string()).collect();
    if stray.is_empty() {
        return Finding::ok(NAME, "none");
    }
    Finding::problem(
        NAME,
        format!("processes of ended sessions still live: {}", stray.join(", ")),
        "`kennel daemon restart` ends them and interrupts no turn",
    )
}

fn uuid(state_dir: &Path) -> Option<String> {
    let journal = supervisor::trusted(state_dir).ok()??.join(supervisor::JOURNAL);
    let connection = journal::connect(&journal, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    connection.query_row("SELECT value FROM meta WHERE name = 'uuid'", [], |row| row.get(0)).ok()
}

fn mebibytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes >> 10) & 1023) * 10 / 1024)
}
