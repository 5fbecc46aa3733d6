//! Real agents behind the shipped binaries, and real clients before `kennel acp`: software from outside this
//! project.
//!
//! `tests/real/run` installs them and starts this. Everything runs offline, against `fake-model`, each agent
//! with a daemon, a home and a directory of its own. A failure names the agent and the step. The table at the
//! end is the one in `tests/results.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod acpx;
mod agents;
mod clients;
mod homes;
mod model;
mod session;
mod table;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Parser;

use manager::protocol::Sandbox;

use crate::agents::{Agent, Installed};

/// Tries real agents and real clients, as `tests/real/run` has installed them.
///
/// Ends with status 1 if anything fails.
#[derive(Parser)]
struct Args {
    /// Where they are installed: `node_modules`, and virtual environments of Python
    #[arg(long, value_name = "DIR", required_unless_present = "built_ins")]
    installed: Option<PathBuf>,
    /// Try nothing; print kennel's built-in agents, one JSON object a line
    #[arg(long)]
    built_ins: bool,
    /// Only this agent or client; can be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Without this agent, which could not be installed; can be given several times
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
    /// Agents only in this sandbox: `none`, `workdir` or `strict`; can be given several times. Otherwise all are tried in
    /// `workdir` and `strict`, and the two quickest without one
    #[arg(long, value_name = "SANDBOX", value_parser = sandbox)]
    sandbox: Vec<Sandbox>,
    /// The number of trials at a time
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Start each agent, and each `kennel acp`, through this program, which is given the command line: for listening
    /// on the wire
    #[arg(long, value_name = "PROGRAM")]
    through: Option<PathBuf>,
}

fn sandbox(name: &str) -> Result<Sandbox, String> {
    let all = [Sandbox::None, Sandbox::Workdir, Sandbox::Strict];
    all.into_iter()
        .find(|sandbox| sandbox.name() == name)
        .ok_or_else(|| format!("no sandbox is named {name}"))
}

/// The result of a trial.
enum Tried {
    Agent(Option<Option<trial::Life>>),
    Client(Option<()>),
}

/// One that is to be tried.
enum Job {
    Agent(Agent),
    Client(clients::Client),
    Acpx,
}

impl Job {
    fn name(&self) -> &'static str {
        match self {
            Self::Agent(agent) => agent.name,
            Self::Client(client) => client.name,
            Self::Acpx => acpx::NAME,
        }
    }

    fn run(&self, installed: &Installed, model: &model::Model, sandboxes: &[Sandbox]) -> Tried {
        match self {
            Self::Agent(agent) => Tried::Agent(catch(agent.name, || {
                let mut life = None;
                for sandbox in agent.sandboxes(sandboxes) {
                    match sandbox {
                        Sandbox::Strict => trial::without_network(agent, installed, model),
                        _ => life = Some(trial::life(agent, installed, model, sandbox)),
                    }
                }
                life
            })),
            Self::Client(client) => {
                let behind = installed.agent("codex");
                Tried::Client(catch(client.name, || clients::trial(client, &behind, installed, model)))
            }
            Self::Acpx => {
                let behind = installed.agent("codex");
                Tried::Client(catch(acpx::NAME, || acpx::trial(&behind, installed, model)))
            }
        }
    }
}

fn main() -> ExitCode {
    let Args { installed, built_ins, only, without, sandbox, jobs, through } = Args::parse();
    let Some(installed) = installed.filter(|_| !built_ins) else {
        agents::built_ins().for_each(|agent| println!("{agent}"));
        return ExitCode::SUCCESS;
    };
    let wanted = |job: &Job| {
        let named = |names: &[String]| names.iter().any(|name| name == job.name());
        (only.is_empty() || named(&only)) && !named(&without)
    };
    let model = model::Model::start();
    // The clients are what is listened on, if anything, and not the agents behind them.
    let clients = clients::all(&installed, through.as_deref()).into_iter().map(Job::Client);
    let installed = Installed { directory: installed, through };
    let all: Vec<Job> =
        installed.all().into_iter().map(Job::Agent).chain(clients).chain([Job::Acpx]).collect();
    let names: Vec<&str> = all.iter().map(Job::name).collect();
    let names = names.join(", ");
    let all: Vec<Job> = all.into_iter().filter(wanted).collect();
    if all.is_empty() {
        eprintln!("real agents: nothing of that name; there are {names}");
        return ExitCode::from(2);
    }
    let (next, tried) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((n, job)) = at(&all, next.fetch_add(1, Ordering::Relaxed)) {
                    let result = job.run(&installed, &model, &sandbox);
                    tried.lock().unwrap().push((n, result));
                }
            });
        }
    });
    let mut tried = tried.into_inner().unwrap();
    tried.sort_by_key(|(n, _)| *n);
    let mut failed = Vec::new();
    let mut lives = Vec::new();
    for (job, (_, result)) in all.iter().zip(&tried) {
        if let (Job::Agent(agent), Tried::Agent(life)) = (job, result) {
            lives.push((agent, life.as_ref().and_then(Option::as_ref)));
        }
        if matches!(result, Tried::Agent(None) | Tried::Client(None)) {
            failed.push(job.name());
        }
    }
    println!("\n{}", table::of(&lives));
    let results = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/results.md")).unwrap();
    let stale = table::stale(&lives, &results);
    if !stale.is_empty() {
        eprintln!("real agents: tests/results.md says otherwise; write there:\n{}", stale.concat());
        failed.push("tests/results.md");
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("real agents: FAILED: {}", failed.join(", "));
    ExitCode::FAILURE
}

fn at(all: &[Job], n: usize) -> Option<(usize, &Job)> {
    Some((n, all.get(n)?))
}

/// Runs one trial. A panic is its failure, and is already printed.
fn catch<T: Send>(name: &str, trial: impl FnOnce() -> T + Send) -> Option<T> {
    let began = Instant::now();
    let result = std::thread::scope(|scope| scope.spawn(trial).join());
    eprintln!("{name}: {} after {:.1?}", if result.is_ok() { "well" } else { "FAILED" }, began.elapsed());
    result.ok()
}

/// One step of a trial: printed when it is done, and named when it fails.
struct Step {
    name: String,
    began: Instant,
}

impl Step {
    fn new(who: &str, what: &str) -> Self {
        Self { name: format!("{who}: {what}"), began: Instant::now() }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let Self { name, began } = self;
        let result = if std::thread::panicking() { "FAILED in this step" } else { "ok" };
        eprintln!("{name}: {result}, {:.1?}", began.elapsed());
    }
}
