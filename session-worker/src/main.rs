//! The process that runs one kennel session: frames from the manager on standard input, frames to it on
//! standard output, one agent below. `worker/mod.rs` is the story; start there.
//!
//! Only `kennel` starts it.

mod agent;
mod confine;
mod exit;
mod files;
mod find;
mod link;
mod logfile;
mod owned;
mod packet;
mod pipes;
mod tree;
mod version;
mod worker;
mod zygote;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let first = args.first().map(|arg| arg.to_string_lossy());
    match (first.as_deref(), args.len()) {
        (None, _) => {}
        (Some("exec-agent"), _) => return confine::trampoline::run(&args[1..]).into(),
        (Some("init"), _) => return confine::namespace::init(&args[1..]).into(),
        (Some("log-in"), _) => return confine::terminal::run(&args[1..]).into(),
        (Some("read-files"), 1) => return files::run().into(),
        (Some("probe"), _) => return confine::probe::run(&args[1..]).into(),
        (Some("--version"), 1) => {
            println!("session-worker {}", version::NAME);
            return exit::DONE.into();
        }
        // The floor of the benchmarks: what a process of this very file costs that does nothing but live.
        (Some("--one-byte"), 1) => return one_byte().into(),
        (Some("--build-id"), 1) => {
            println!("{}", version::BUILD);
            return exit::DONE.into();
        }
        _ => {
            eprintln!(
                "usage: session-worker [--version | --build-id]\nWithout arguments it is started by `kennel`."
            );
            return exit::USAGE.into();
        }
    }
    if std::io::stdin().is_terminal() {
        eprintln!("session-worker is started by `kennel`, not from a terminal; try `kennel start`");
        return exit::USAGE.into();
    }
    if zygote::is_meant()
        && let zygote::Born::Zygote(code) = zygote::run()
    {
        return code.into();
    }
    match worker::run() {
        Ok(code) => code.into(),
        Err(error) => {
            logfile::log(&error.to_string());
            error.exit_code().into()
        }
    }
}

fn one_byte() -> u8 {
    let said = std::io::stdout().write_all(b"1").and_then(|()| std::io::stdout().flush());
    let _ = said.and_then(|()| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    exit::DONE
}
