//! Kills processes of a running kennel by the thousand, and looks whether anything was lost.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use harness::campaign::{self, Options, faults};

/// Runs a kennel of its own with many sessions and kills its processes in every way. Checks that no session,
/// accepted prompt or recorded event is lost, and no process left behind.
///
/// Exits with status 1 if a check fails, and shows the history that leads to it.
#[derive(Parser)]
#[command(after_help = "Example:\n  kill-harness --sessions 40 --kills 10000 --seed 1")]
struct Args {
    /// Sessions
    #[arg(long, default_value_t = 20)]
    sessions: usize,
    /// Processes to kill
    #[arg(long, default_value_t = 1000)]
    kills: u64,
    /// Decides the schedule of faults; the simulation of the same seed is run first
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// This fault or point only; can be given several times
    #[arg(long, value_name = "FAULT")]
    only: Vec<String>,
    /// End after this time at the latest, e.g. 5m
    #[arg(long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Run the daemon as this user; needed by root for `eagain`, whom the limit on processes does not bind
    #[arg(long)]
    uid: Option<u32>,
    /// The kill matrix: at every point, kill the agent, the worker, the manager, both, and all processes at
    /// once. Needs a build with the feature `failpoints`
    #[arg(long, conflicts_with = "only")]
    matrix: bool,
    /// Put the clients on another machine, a network namespace, from which they reach the daemon by ssh, and cut that line
    /// so often, too. Needs root and OpenSSH
    #[arg(long, default_value_t = 0)]
    cuts: u64,
    /// Name all faults and points of this build
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let Args { sessions, kills, seed, only, duration, uid, matrix, cuts, list } = Args::parse();
    if list {
        faults::Fault::ALL.iter().for_each(|fault| println!("{}", fault.name()));
        if cfg!(feature = "failpoints") {
            faults::points().iter().for_each(|point| println!("{point}"));
        }
        return ExitCode::SUCCESS;
    }
    match campaign::run(Options { sessions, kills, seed, only, duration, uid, matrix, cuts }) {
        Ok(report) => {
            println!("{report}");
            if report.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("kill-harness: {error}");
            ExitCode::from(2)
        }
    }
}
