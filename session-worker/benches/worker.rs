//! Cost of a worker by itself, beside processes of the same file that write one byte and wait.
//!
//! `KENNEL_BENCH_WORKER=FILE` measures another build, for example a static one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot be made ends")]

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, Stdio};
use std::time::{Duration, Instant};

use protocol::frame::{self, Decoder};
use protocol::wire::{Agent, Command, Envelope, FromWorker, PROTOCOL_VERSION, Report, Welcome};
use protocol::{MARKER, PromptId};

/// Rounds in which worker and floor alternate, and repetitions of each in a round.
const ROUNDS: usize = 5;
const TIMES: usize = 40;
/// Workers that live at once where memory is measured: what they share is divided by their number.
const MANY: usize = 200;

fn main() {
    // Filters are for the other benches; this one is over in seconds.
    let file = std::env::var_os("KENNEL_BENCH_WORKER").unwrap_or(env!("CARGO_BIN_EXE_session-worker").into());
    let mut rows = [const { (Vec::new(), Vec::new()) }; 3];
    for _ in 0..ROUNDS {
        let mut worker = Worker::start(&file);
        worker.welcome();
        rows[0].0.push(median(|| Worker::start(&file).hello));
        rows[0].1.push(median(|| one_byte(&file)));
        rows[1].0.push(median(|| Worker::start(&file).welcome()));
        rows[1].1.push(f64::NAN);
        rows[2].0.push(median(|| worker.turn()));
        rows[2].1.push(median(shell));
    }
    let names = [
        "spawn → Hello; floor: → one byte",
        "Welcome → Ready",
        "a turn of `true`, Prompt → TurnEnded; floor: `sh -c true` spawned and waited for",
    ];
    println!("| one worker | ours: median (least–most round) | floor | ratio |\n|---|---|---|---|");
    for (name, (ours, floor)) in names.iter().zip(&rows) {
        let ratios: Vec<f64> = ours.iter().zip(floor).map(|(ours, floor)| ours / floor).collect();
        if ratios.iter().all(|ratio| ratio.is_nan()) {
            println!("| {name} | {} µs | | |", spread(ours, 0));
        } else {
            println!(
                "| {name} | {} µs | {} µs | {}x |",
                spread(ours, 0),
                spread(floor, 0),
                spread(&ratios, 2)
            );
        }
    }
    let mut workers: Vec<Worker> = (0..MANY).map(|_| Worker::start(&file)).collect();
    for worker in &mut workers {
        worker.welcome();
    }
    let of =
        |field: &str| workers.iter().map(|worker| memory(worker.child.id(), field)).collect::<Vec<f64>>();
    println!("| memory, PSS among {MANY} | {} KiB | | |", spread(&of("Pss:"), 0));
    println!("| memory, private and written to | {} KiB | | |", spread(&of("Private_Dirty:"), 0));
}

struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    decoder: Decoder,
    sent: u64,
    /// Time until its Hello.
    hello: Duration,
}

impl Worker {
    fn start(file: &OsString) -> Self {
        let begin = Instant::now();
        let mut child = Program::new(file)
            .env_clear()
            .env(MARKER, "bench/session-1/1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut worker =
            Self { child, input, output, decoder: Decoder::default(), sent: 0, hello: Duration::ZERO };
        assert!(matches!(worker.next(), Report::Hello { .. }));
        worker.hello = begin.elapsed();
        worker
    }

    fn next(&mut self) -> Report {
        loop {
            let frame: Option<FromWorker> = self.decoder.take().unwrap();
            if let Some(frame) = frame {
                return frame.body;
            }
            let mut buffer = [0; 4096];
            let read = self.output.read(&mut buffer).unwrap();
            assert!(read > 0, "the worker has left");
            self.decoder.feed(&buffer[..read]);
        }
    }

    fn send(&mut self, body: Command) {
        let mut bytes = Vec::new();
        frame::encode(&Envelope { incarnation: 1, seq: self.sent, ack: 0, body }, &mut bytes).unwrap();
        self.sent += 1;
        self.input.as_mut().unwrap().write_all(&bytes).unwrap();
    }

    fn welcome(&mut self) -> Duration {
        let begin = Instant::now();
        self.send(Command::Welcome(Box::new(Welcome {
            protocol: PROTOCOL_VERSION,
            session: "session-1".parse().unwrap(),
            resume_from: 0,
            marker: "bench/session-1/1".into(),
            workdir: "/".into(),
            env: std::env::var("PATH").map(|path| ("PATH".into(), path)).into_iter().collect(),
            agent: Agent::Shell,
            grace_ms: 2_000,
        })));
        assert!(matches!(self.next(), Report::Ready { .. }));
        begin.elapsed()
    }

    fn turn(&mut self) -> Duration {
        let begin = Instant::now();
        self.send(Command::Prompt { prompt: PromptId(self.sent), text: "true".into(), history: Vec::new() });
        while !matches!(self.next(), Report::TurnEnded { .. }) {}
        begin.elapsed()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.input = None;
        let _ = self.child.wait();
    }
}

fn one_byte(file: &OsString) -> Duration {
    let begin = Instant::now();
    let mut child = Program::new(file)
        .arg("--one-byte")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let took = begin.elapsed();
    drop(child.stdin.take());
    child.wait().unwrap();
    took
}

fn shell() -> Duration {
    let begin = Instant::now();
    let mut child = Program::new("/bin/sh").args(["-c", "true"]).stdin(Stdio::null()).spawn().unwrap();
    child.wait().unwrap();
    begin.elapsed()
}

/// In KiB.
fn memory(pid: u32, field: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(f64::NAN)
}

/// Of several times, in microseconds.
fn median(mut time: impl FnMut() -> Duration) -> f64 {
    let mut times: Vec<Duration> = (0..TIMES).map(|_| time()).collect();
    times.sort();
    times[TIMES / 2].as_secs_f64() * 1e6
}

fn spread(rounds: &[f64], digits: usize) -> String {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    format!("{:.digits$} ({:.digits$}–{:.digits$})", sorted[last / 2], sorted[0], sorted[last])
}
