//! What this machine can hold agents with, found by doing it: `session-worker probe` prints a word a line, for the manager.
//! `session-worker probe groups FILE...` whether it can put itself in control groups.
//! `session-worker probe BWRAP workdir|strict` prints whether agents can be put in a sandbox.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::sync::Arc;

use protocol::{Exit, Level, Sandbox, Walls};
use rustix::io::FdFlags;
use rustix::pipe::PipeFlags;

use crate::exec_agent::Contain;
use crate::namespace::Word;
use crate::program::trampoline;

/// In the place of BWRAP: Landlock is to do.
const NONE: &str = "-";

/// Prints what there is.
pub fn run(args: &[OsString]) -> u8 {
    let args: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let found = match args[..] {
        ["groups", ref files @ ..] => match files.iter().try_for_each(|file| crate::limits::enter(file)) {
            Ok(()) => "groups entered".to_owned(),
            Err(error) => format!("groups {error}"),
        },
        [] => format!("containment {}", level(&Contain::Must).unwrap_or(Level::Subreaper)),
        [program, name] => {
            let all = [Sandbox::Workdir, Sandbox::Strict];
            let Some(sandbox) = all.into_iter().find(|sandbox| sandbox.name() == name) else {
                return crate::exit::USAGE;
            };
            let program = Some(program.to_owned()).filter(|program| program != NONE);
            let (hidden, writable) = (Vec::new(), Vec::new());
            let walls = Walls { sandbox, program, hidden, writable };
            let made = level(&Contain::Within(Arc::new(walls))).is_ok_and(Level::is_namespace);
            format!("sandbox {}", if made { name } else { "none" })
        }
        _ => return crate::exit::USAGE,
    };
    let said = writeln!(io::stdout(), "{found}").and_then(|()| io::stdout().flush());
    if said.is_err() { crate::exit::FAULT } else { crate::exit::DONE }
}

/// Runs a program in it, and sees how that goes.
fn level(contain: &Contain) -> io::Result<Level> {
    let (mut said, inherited) = {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        (std::fs::File::from(reader), writer)
    };
    rustix::io::fcntl_setfd(&inherited, FdFlags::empty())?;
    let argv = ["/bin/sh".to_owned(), "-c".to_owned(), ":".to_owned()];
    let mut command = trampoline(inherited.as_raw_fd(), contain, "/usr", &argv);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    drop(inherited);
    let mut text = String::new();
    said.read_to_string(&mut text)?;
    child.wait()?;
    // Whether the program was found to have done well counts, too: one that the kernel kills has no use of its namespace.
    let mut words = text.lines().filter_map(Word::parse);
    let runs = words.next();
    let done = words.any(|word| word == Word::Ended(Exit::Code(0)));
    Ok(match runs {
        Some(Word::Runs { own_proc: true, .. }) if done => Level::PidNamespace,
        Some(Word::Runs { own_proc: false, .. }) if done => Level::PidNamespaceSharedProc,
        _ => Level::Subreaper,
    })
}
