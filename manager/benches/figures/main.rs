//! kennel's figures, each as a ratio to a floor that is measured in the same run, in alternating rounds.
//! `manager/benches/README.md` says what each of them is.
//!
//! `cargo bench` measures all of them; `cargo bench -p kennel-manager --bench figures -- prompts` those whose
//! group's name contains a word. Nothing here fails because something is slow.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that cannot be made ends")]
#![allow(clippy::disallowed_macros, reason = "no word of a stranger's is printed here")]

mod bulk;
mod commands;
mod desk;
mod events;
mod floor;
mod host;
mod idle;
mod prompts;
mod reach;
mod restart;
mod stopped;
mod table;
mod thousand;

use rustix::process::{Resource, getrlimit, setrlimit};
use table::Table;

/// How often ours and the floor take turns.
const ROUNDS: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "--say") {
        return events::say(&args[1..]);
    }
    if args.first().is_some_and(|arg| arg == "--bulk-agent") {
        return bulk::agent();
    }
    if args.first().is_some_and(|arg| arg == "--relay") {
        return bulk::relay(&args[1..]);
    }
    if args.first().is_some_and(|arg| arg == "--spin") {
        return bulk::spin();
    }
    if let [word, address] = &args[..]
        && word == reach::ASK
    {
        return reach::ask(address);
    }
    // Before there is any other thread.
    floor::block_sigchld();
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();

    let words: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut table = Table::default();
    runtime.block_on(async {
        if wanted("restart") {
            restart::measure(&mut table).await;
        }
        if wanted("thousand") {
            thousand::measure(&mut table).await;
        }
        if wanted("idle") {
            idle::measure(&mut table).await;
        }
        if wanted("commands") {
            commands::measure(&mut table).await;
        }
        if wanted("desk") {
            desk::measure(&mut table).await;
        }
        if wanted("reach") {
            reach::measure(&mut table).await;
        }
        if wanted("prompts") {
            prompts::measure(&mut table).await;
        }
        if wanted("events") {
            events::measure(&mut table).await;
        }
        if wanted("stopped") {
            stopped::measure(&mut table).await;
        }
        if wanted("link") {
            bulk::link(&mut table).await;
        }
        if wanted("history") {
            bulk::history(&mut table).await;
        }
        if wanted("permissions") {
            bulk::permissions(&mut table).await;
        }
        if wanted("readers") {
            bulk::readers(&mut table).await;
        }
    });
    print!("{}", table.text());
}

/// Milliseconds.
fn ms(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Microseconds.
fn us(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
