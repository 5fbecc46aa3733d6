//! The kill harness: a daemon with many sessions, clients that never rest, and dozens of faults each second.
//! Now and then comes a quiet moment, in which everything must be as if nothing had happened.
//!
//! The simulation's history checker judges it, too. The seed decides the schedule of faults and the clients'
//! requests. It also runs the simulation, which it replays whole.

mod audit;
mod clients;
mod errands;
pub mod faults;
mod herd;
mod host;
mod line;
mod matrix;
mod place;
mod report;
mod side;
mod subscribers;
mod tally;

pub use report::Report;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use faults::{Fault, Faults, Struck, points};
use manager::client::{Client, Request};
use protocol::api::Problem;
use protocol::event::Event;
use protocol::{PromptId, SessionId};
use tokio::sync::{RwLock, watch};
use tokio::task::JoinHandle;

use crate::history::History;
use crate::rng::Rng;
use crate::sim;
use clients::{Asker, Plan, ask};
use errands::{By, Errand, Errands};
use herd::Herd;
use host::Host;
use line::Line;
use matrix::Matrix;
use place::{DISK, alone_with_mounts, own_disk, prepare};
use subscribers::{Manner, Stopwatch, Subscriber};
use tally::{Missed, Seen, Tally};

/// The longest time until everything is at rest.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The number of clients.
const CLIENTS: usize = 8;

/// The time to wait for points that were not reached, when all else is done.
const POINTS_ONLY: Duration = Duration::from_secs(90);

/// Kills between two quiet moments.
const STORM: u64 = 250;

/// The interval between the matrix's checks of the armed points.
const MATRIX_LOOK: Duration = Duration::from_millis(2);

/// The interval between checks for processes at a point during quiet.
const LET_GO: Duration = Duration::from_millis(50);

/// In how many of 1,000 looks something happens beside the matrix.
const MATRIX_STIR: u64 = 1;

/// Steps of the simulation of the same seed.
const STEPS: usize = 2_000;

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The number of sessions.
    pub sessions: usize,
    /// The number of kills.
    pub kills: u64,
    /// Decides the schedule of faults.
    pub seed: u64,
    /// These faults or points only; else all.
    pub only: Vec<String>,
    /// Ends after so long, whatever was done.
    pub duration: Option<Duration>,
    /// As whom the daemon runs.
    pub uid: Option<u32>,
    /// The kill matrix, instead of faults at random.
    pub matrix: bool,
    /// The number of cuts of the line between the clients' machine and the daemon's; 0: both are on one machine.
    pub cuts: u64,
}

/// The behaviour of subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Storm,
    /// Read to the end and hang up, in this round.
    CatchUp(usize),
    Over,
}

/// A campaign under way.
pub struct Campaign {
    options: Options,
    host: Arc<Host>,
    /// On the daemon's machine.
    client: Client,
    line: Option<Line>,
    plans: Vec<Plan>,
    /// Requests hold it for reading, a quiet moment for writing.
    gate: RwLock<()>,
    mode: watch::Sender<Mode>,
    caught_up: AtomicUsize,
    over: AtomicBool,
    prompts: AtomicU64,
    seen: Mutex<Seen>,
    tally: Mutex<Tally>,
    stopwatch: Mutex<Stopwatch>,
    matrix: Mutex<Option<Matrix>>,
    missed: Mutex<Missed>,
    /// By the number in its text: the prompt that was accepted, and where.
    numbers: Mutex<HashMap<u64, (SessionId, PromptId)>>,
}

impl Campaign {
    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap()
    }

    /// All kills and cuts that were asked for are done.
    fn has_struck(&self) -> bool {
        let tally = self.tally();
        tally.kills >= self.options.kills && tally.cuts >= self.options.cuts
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn stopwatch(&self) -> MutexGuard<'_, Stopwatch> {
        self.stopwatch.lock().unwrap()
    }

    /// Returns an errand that leads to a point of the matrix, or to a point that was missed.
    fn errand(&self, by: By) -> Option<Errand> {
        match &mut *self.matrix() {
            Some(matrix) => matrix.errand(by),
            None => self.missed.lock().unwrap().errand(by),
        }
    }

    fn matrix(&self) -> MutexGuard<'_, Option<Matrix>> {
        self.matrix.lock().unwrap()
    }

    /// A number for the next prompt's text.
    fn numbered(&self) -> u64 {
        self.prompts.fetch_add(1, Ordering::Relaxed)
    }

    fn acknowledged(&self, id: &SessionId, prompt: PromptId, key: &str, number: u64) {
        self.numbers.lock().unwrap().insert(number, (id.clone(), prompt));
        self.seen().acknowledged.push((id.clone(), prompt, key.to_owned()));
    }

    fn token(&self, id: &SessionId, token: String) {
        self.seen().tokens.push((id.clone(), token));
    }

    /// Counts a refusal of a client's request. It must carry a message. A daemon without descriptors may
    /// refuse.
    fn refused(&self, id: Option<&SessionId>, problem: &Problem) {
        if problem.status == 0 || problem.status >= 500 && problem.code != "overloaded" {
            self.violation(id, format!("{}: {}", problem.code, problem.detail));
        }
        *self.tally().refusals.entry(problem.code.clone()).or_default() += 1;
    }

    fn violation(&self, id: Option<&SessionId>, what: String) {
        self.seen().violations.push((id.cloned(), what));
    }

    fn recorded(&self, event: Arc<Event>) {
        self.stopwatch().event(&event);
        if let Some(matrix) = &mut *self.matrix() {
            matrix.event(&event);
        }
        self.seen().events.push(event);
    }

    fn saw(&self, name: &str, event: Arc<Event>) {
        self.seen().views.push((name.to_owned(), event));
    }

    fn caught_up(&self) {
        self.caught_up.fetch_add(1, Ordering::Relaxed);
    }

    /// The faults of this campaign, and the points.
    fn arsenal(&self, points_exist: bool, disk: bool) -> (Vec<Fault>, Vec<String>) {
        let points = if points_exist { points() } else { Vec::new() };
        let only = &self.options.only;
        if only.is_empty() {
            let possible = |fault: &&Fault| match fault {
                Fault::Point => points_exist,
                // setrlimit(2): root is not bound by it.
                Fault::NoProcess => self.options.uid.is_some() || !nix::unistd::geteuid().is_root(),
                Fault::DiskFull => disk,
                fault if fault.cuts() => self.line.is_some(),
                _ => true,
            };
            return (Fault::ALL.iter().filter(possible).copied().collect(), points);
        }
        let chosen: Vec<String> = points.into_iter().filter(|name| only.contains(name)).collect();
        let wanted = |fault: &&Fault| {
            only.iter().any(|name| name == fault.name()) || (**fault == Fault::Point && !chosen.is_empty())
        };
        let faults = Fault::ALL.iter().filter(wanted).copied().collect();
        let points = if chosen.is_empty() && points_exist { faults::points() } else { chosen };
        (faults, points)
    }
}

/// Runs a campaign to its end. An error is bad usage; what went wrong in it is in the report.
pub fn run(options: Options) -> Result<Report, String> {
    let points_exist = cfg!(feature = "failpoints");
    let known = |name: &String| {
        Fault::ALL.iter().any(|fault| fault.name() == name) || (points_exist && points().contains(name))
    };
    if options.matrix && !points_exist {
        return Err("this build has no points to die at: build it with --all-features".into());
    }
    if let Some(name) = options.only.iter().find(|name| !known(name)) {
        return Err(format!("`{name}` is neither a fault nor a point of this build; --list names them"));
    }
    let harmless = |name: &String| {
        Fault::ALL.iter().any(|fault| fault.name() == name && !fault.kills() && *fault != Fault::Point)
    };
    if !options.only.is_empty() && options.only.iter().all(harmless) && options.duration.is_none() {
        return Err("none of these faults kills: say with --duration when it is to end".into());
    }
    sim::run(options.seed, STEPS)
        .map_err(|problem| format!("the simulation of this seed fails: {problem}"))?;
    // Before there are threads.
    if options.cuts > 0 {
        line::stand_alone()?;
    }
    let private = alone_with_mounts();
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut place = prepare(dir.path(), &options);
    // Without rights to mount there is no disk to be filled.
    let disk = private && own_disk(&place);
    let line = (options.cuts > 0).then(|| Line::to(&mut place)).transpose()?;
    let host = Host::new(place, points_exist);
    if let Some(line) = &line {
        host.keep_server(line.server());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let campaign = Arc::new(Campaign::new(options, host, line));
    Ok(runtime.block_on(campaign.run(points_exist, disk)))
}

impl Campaign {
    fn new(options: Options, host: Arc<Host>, line: Option<Line>) -> Self {
        let client = Client::new(host.place.socket());
        let workdir = host.place.dir.join("work");
        let plans = (1..=options.sessions).map(|n| Plan::numbered(n, workdir.to_str().unwrap())).collect();
        let matrix = options.matrix.then(|| Matrix::new(options.seed));
        let rng = Rng::new(options.seed);
        let missed = Mutex::new(Missed { rng, points: Vec::new(), errands: Errands::default() });
        Self {
            options,
            host,
            client,
            line,
            plans,
            gate: RwLock::new(()),
            mode: watch::Sender::new(Mode::Storm),
            caught_up: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            prompts: AtomicU64::new(0),
            seen: Mutex::default(),
            tally: Mutex::default(),
            stopwatch: Mutex::default(),
            matrix: Mutex::new(matrix),
            missed,
            numbers: Mutex::default(),
        }
    }

    async fn run(self: Arc<Self>, points_exist: bool, disk: bool) -> Report {
        let begun = Instant::now();
        self.host.keep_daemon();
        self.create_sessions().await;
        self.pair().await;
        let subscribers = self.subscribers();
        let names: Vec<(String, Option<SessionId>)> =
            subscribers[1..].iter().map(|(name, session, _)| (name.clone(), session.clone())).collect();
        let tasks = self.start_tasks(subscribers);
        let mut history = History::new();
        history.texts_are_unique();
        for (name, session) in &names {
            history.subscribe(name, session.as_ref(), 0);
        }
        let mut audit = audit::Audit::new(&self, history, names);
        audit.quiet().await;
        let (faults, points) = self.arsenal(points_exist, disk);
        let disk = disk.then_some(DISK);
        let herd = Herd::new(&self.host, &audit.uuid.clone());
        let points = if self.options.matrix { Vec::new() } else { points };
        let mut strikes = Faults::new(&herd, self.options.seed, points, disk, self.line.as_ref());
        let spare = if points_exist { 4 } else { 2 };
        let ends_at = self.options.duration.map(|duration| begun + duration);
        // The rarest points need work that goes on for a while: at last nothing else strikes.
        let mut points_only: Option<Instant> = None;
        let mut over = |strikes: &Faults<'_>| {
            if self.has_struck() && points_only.is_none() {
                points_only = Some(Instant::now() + POINTS_ONLY);
            }
            let missed = faults.contains(&Fault::Point) && !strikes.missed().is_empty();
            let ends_at =
                points_only.map(|at| if missed { at } else { begun }).into_iter().chain(ends_at).min();
            ends_at.is_some_and(|at| Instant::now() >= at)
        };
        while !over(&strikes) && audit.is_fine() {
            let until = self.tally().kills + STORM;
            let storm_ends = Instant::now() + Duration::from_secs(20);
            // A manager that is killed takes its faults with it: in some storms it lives, to show them.
            let spared =
                audit.storms().is_multiple_of(spare) && self.options.only.is_empty() && !self.options.matrix;
            strikes.missed_only = self.has_struck();
            let chosen = |fault: &&Fault| match strikes.missed_only {
                true => **fault == Fault::Point,
                false => !spared || !fault.strikes_manager(),
            };
            let faults: Vec<Fault> = faults.iter().filter(chosen).copied().collect();
            while self.tally().kills < until && !over(&strikes) && Instant::now() < storm_ends {
                if self.options.matrix {
                    tokio::time::sleep(MATRIX_LOOK).await;
                    self.host.turn_bystanders();
                    self.step_matrix(&herd, &mut strikes);
                    continue;
                }
                let (pause, fault) = strikes.next(&faults);
                tokio::time::sleep(pause).await;
                self.host.turn_bystanders();
                let fault = self.make_up(&strikes).unwrap_or(fault);
                self.strike(&mut strikes, fault);
                self.tally().kills += strikes.tend(false);
            }
            self.tally().kills += strikes.tend(true);
            if let Some(matrix) = &mut *self.matrix() {
                matrix.rest(&herd);
            }
            tokio::select! {
                () = audit.quiet() => {}
                () = self.let_go(&herd) => {}
            }
        }
        self.over.store(true, Ordering::Relaxed);
        self.mode.send_replace(Mode::Over);
        self.wait_for(tasks).await;
        audit.end().await;
        self.hang_up();
        self.host.dismiss_bystanders();
        audit.report(begun.elapsed(), strikes.reached().clone())
    }

    async fn create_sessions(&self) {
        for plan in &self.plans {
            let request = Request::post("/v1/sessions").json(&plan.opts).key(plan.id.as_str());
            if let Err(problem) = ask(&self.client, &request).await {
                self.violation(None, format!("{} was not created: {}", plan.id, problem.detail));
            }
        }
    }

    /// The subscribers: name, session (all sessions when absent) and manner. The first records.
    fn subscribers(&self) -> Vec<(String, Option<SessionId>, Manner)> {
        let mut subscribers = vec![
            ("recorder".to_owned(), None, Manner::Recorder),
            ("fickle of all".to_owned(), None, Manner::Fickle),
            ("slow reader of all".to_owned(), None, Manner::Slow),
        ];
        for (plan, manner) in self.plans.iter().zip([Manner::Slow, Manner::Fickle].iter().cycle()).take(4) {
            subscribers.push((format!("{manner:?} of {}", plan.id), Some(plan.id.clone()), *manner));
        }
        subscribers
    }

    /// Starts the subscribers and the clients, each in a task of its own.
    fn start_tasks(
        self: &Arc<Self>,
        subscribers: Vec<(String, Option<SessionId>, Manner)>,
    ) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        for (number, (name, session, manner)) in subscribers.into_iter().enumerate() {
            let campaign = self.clone();
            tasks.push(tokio::spawn(async move {
                let seed = campaign.options.seed;
                Subscriber::new(&campaign, number, &name, session, manner, seed).live().await;
            }));
        }
        for name in 0..CLIENTS {
            let campaign = self.clone();
            tasks.push(tokio::spawn(async move {
                Asker::new(&campaign, name, campaign.options.seed).live().await;
            }));
        }
        tasks
    }

    /// Waits for these tasks; a panic or a task that does not end is a violation.
    async fn wait_for(&self, tasks: Vec<JoinHandle<()>>) {
        for task in tasks {
            match tokio::time::timeout(PATIENCE * 2, task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.violation(None, format!("a client or subscriber fell: {error}")),
                Err(_) => self.violation(None, format!("a client waits for more than {:?}", PATIENCE * 2)),
            }
        }
    }

    /// Lets every process go on that stops at a point of the matrix, however late.
    async fn let_go(&self, herd: &Herd<'_>) {
        loop {
            tokio::time::sleep(LET_GO).await;
            if let Some(matrix) = &mut *self.matrix() {
                matrix.let_go(herd);
            }
        }
    }

    /// One look of the matrix, at the armed points and those who have come to one.
    fn step_matrix(&self, herd: &Herd<'_>, strikes: &mut Faults<'_>) {
        let mut matrix = self.matrix();
        let Some(matrix) = &mut *matrix else {
            return;
        };
        let plan = |id: &SessionId| self.plans.iter().find(|plan| plan.id == *id);
        let (killed, manager) = matrix.tend(herd, |id| plan(id).is_some_and(|plan| plan.lives_on()));
        if manager {
            self.stopwatch().manager_struck();
        }
        self.tally().kills += killed;
        matrix.arm(&self.host.place.points());
        let errand = matrix.errand(By::Blow).and_then(Errand::blow);
        let stir = || strikes.rng.chance(MATRIX_STIR).then_some(Fault::WorkerTerm);
        if let Some(fault) = errand.or_else(stir) {
            matrix.spoilt();
            self.strike(strikes, fault);
        }
        self.tally().kills += strikes.tend(false);
    }

    /// At last: what the harness itself can do so that somebody comes to a point that was missed. Clients do the rest.
    fn make_up(&self, strikes: &Faults<'_>) -> Option<Fault> {
        if !strikes.missed_only {
            return None;
        }
        self.missed.lock().unwrap().points = strikes.missed();
        self.errand(By::Blow)?.blow()
    }

    fn strike(&self, strikes: &mut Faults<'_>, fault: Fault) {
        // The hands of the watch are set before the blow, which may be felt at once.
        if fault.strikes_manager() && fault.kills() {
            self.stopwatch().manager_struck();
        }
        let Struck::Pids(pids) = strikes.strike(fault) else {
            return;
        };
        if matches!(fault, Fault::WorkerKill | Fault::WorkerAbrt | Fault::WorkerSegv) {
            pids.iter().for_each(|pid| self.stopwatch().struck(*pid));
        }
        let mut tally = self.tally();
        *tally.struck.entry(fault.name().to_owned()).or_default() += 1;
        tally.cuts += u64::from(fault.cuts());
        if fault.kills() {
            tally.kills += pids.len() as u64;
        }
    }
}
