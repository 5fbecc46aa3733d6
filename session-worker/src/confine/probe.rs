//! Tests of the containment that this machine supports: `session-worker probe` prints one word a line, for the manager.
//! `session-worker probe groups FILE...` prints whether a process can enter control groups. `session-worker probe BWRAP
//! workdir|strict` prints whether the worker can put agents in a sandbox.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use protocol::{Exit, Level, Sandbox, Walls};
use rustix::process::Pid;

use super::plan::{Plan, Program};
use super::{Confinement, Contain, ProgramLimits, limits, status, trampoline};
use crate::exit;

/// Instead of BWRAP: probe Landlock.
const NONE: &str = "-";

/// Prints what there is.
pub fn run(args: &[OsString]) -> u8 {
    let args: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let found = match args[..] {
        ["groups", ref files @ ..] => match files.iter().try_for_each(|file| limits::enter(file)) {
            Ok(()) => "groups entered".to_owned(),
            Err(error) => format!("groups {error}"),
        },
        [] => format!("containment {}", level(Contain::Must).unwrap_or(Level::Subreaper)),
        [program, name] => {
            let all = [Sandbox::Workdir, Sandbox::Strict];
            let Some(sandbox) = all.into_iter().find(|sandbox| sandbox.name() == name) else {
                return exit::USAGE;
            };
            let program = Some(program.to_owned()).filter(|program| program != NONE);
            let walls = Walls { sandbox, program, ..Walls::default() };
            let made = level(Contain::Within(Arc::new(walls))).is_ok_and(Level::is_namespace);
            format!("sandbox {}", if made { name } else { "none" })
        }
        _ => return exit::USAGE,
    };
    let said = writeln!(io::stdout(), "{found}").and_then(|()| io::stdout().flush());
    if said.is_err() { exit::FAULT } else { exit::DONE }
}

/// Runs a program in it, and sees how that goes.
fn level(contain: Contain) -> io::Result<Level> {
    let (ours, inherited) = status::pair()?;
    let plan = Plan {
        worker: std::process::id().cast_signed(),
        confinement: Confinement { contain, limits: ProgramLimits::default() },
        // Anything that is there; nothing is written. Not where bubblewrap lies: an agent must not be able to write that.
        workdir: "/etc".to_owned(),
        program: Program {
            own: false,
            argv: ["/bin/sh", "-c", ":"].map(str::to_owned).into(),
            env: Vec::new(),
            directory: PathBuf::new(),
        },
    };
    let (mut command, written) = trampoline::command(&plan, &inherited, "")?;
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    drop((inherited, written));
    let mut known = status::Known::default();
    while let Some(heard) = status::hear(&ours, true)? {
        if known.take(&ours, Pid::from_child(&child), heard).is_err() {
            break;
        }
    }
    drop(ours);
    child.wait()?;
    // The program must also end well: the level is useless if the kernel kills the program in its namespace.
    Ok(match (known.agent, known.exit) {
        (Some((_, true)), Some(Exit::Code(0))) => Level::PidNamespace,
        (Some((_, false)), Some(Exit::Code(0))) => Level::PidNamespaceSharedProc,
        _ => Level::Subreaper,
    })
}
