//! Real agents behind the shipped binaries, and real clients before `kennel acp`: parts that nobody here wrote.
//!
//! `tests/real/run` installs them and starts this. Everything runs offline, against `fake-model`, each agent with a daemon, a
//! home and a directory of its own. A failure says which agent and which step; the table at the end is the one in
//! `tests/README.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod agents;
mod clients;
mod model;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

/// Tries real agents and real clients, as `tests/real/run` has installed them.
///
/// Ends with status 1 if anything fails.
#[derive(Parser)]
struct Args {
    /// Where they are installed: `node_modules` and `venv`
    #[arg(long, value_name = "DIR")]
    installed: PathBuf,
    /// Only this agent or client; can be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Start each agent, and each `kennel acp`, through this program, which is given the command line: for listening
    /// on the wire
    #[arg(long, value_name = "PROGRAM")]
    through: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Args { installed, only, through } = Args::parse();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let model = model::Model::start();
    let agents = || {
        let agents =
            agents::all(&installed, through.as_deref()).into_iter().filter(|agent| wanted(agent.name));
        let tried = agents.map(|agent| (agent.name, catch(agent.name, || trial::of(&agent, &model))));
        tried.collect::<Vec<_>>()
    };
    let clients = || {
        let behind = agents::codex(&installed, None);
        let clients =
            clients::all(&installed, through.as_deref()).into_iter().filter(|client| wanted(client.name));
        let tried = clients
            .map(|client| (client.name, catch(client.name, || clients::trial(&client, &behind, &model))));
        tried.collect::<Vec<_>>()
    };
    // At the same time, because agents take long to start.
    let (agents, clients) = std::thread::scope(|scope| {
        let clients = scope.spawn(clients);
        (agents(), clients.join().unwrap())
    });
    let rows: Vec<&trial::Row> = agents.iter().filter_map(|(_, row)| row.as_ref()).collect();
    println!("\n{}", trial::Row::table(&rows));
    let agents = agents.iter().map(|(name, row)| (*name, row.is_some()));
    let results: Vec<_> = agents.chain(clients.iter().map(|(name, done)| (*name, done.is_some()))).collect();
    let failed: Vec<&str> = results.iter().filter(|(_, well)| !well).map(|(name, _)| *name).collect();
    if !failed.is_empty() {
        eprintln!("real agents: FAILED: {}", failed.join(", "));
        return ExitCode::FAILURE;
    }
    if results.is_empty() {
        eprintln!(
            "real agents: nothing of that name; there are codex, claude, opencode, client.mjs, client.py"
        );
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}

/// Runs one trial; a panic is its failure, and has been told.
fn catch<T: Send>(name: &str, trial: impl FnOnce() -> T + Send) -> Option<T> {
    let began = Instant::now();
    let result = std::thread::scope(|scope| scope.spawn(trial).join());
    eprintln!("{name}: {} after {:.1?}", if result.is_ok() { "well" } else { "FAILED" }, began.elapsed());
    result.ok()
}

/// One step of a trial: told when it is done, and named when it fails.
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
