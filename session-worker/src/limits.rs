//! What the programs of this worker may use: told by the manager once, set in the trampoline before it becomes one.
//!
//! `session-worker limited NICE NOFILE N FILE... exec-agent ...` is the trampoline with limits; `-` is none. The N files
//! are those of the control groups that it enters.

use std::ffi::OsString;
use std::io;
use std::sync::OnceLock;

use protocol::Limits;
use rustix::process::{Resource, Rlimit, setrlimit};

/// What the trampoline does.
#[derive(Debug, Default, PartialEq, Eq)]
struct Own {
    nice: Option<u32>,
    nofile: Option<u64>,
    /// Files that name the members of control groups.
    enter: Vec<String>,
}

/// Of this process and all that it starts: a worker has one session, a trampoline one program.
static OWN: OnceLock<Own> = OnceLock::new();

/// Takes what the manager says. It is said once.
pub fn set(limits: &Limits, enter: Vec<String>) {
    let _ = OWN.set(Own { nice: limits.nice, nofile: limits.nofile, enter });
}

/// Whether its programs are in a control group.
pub fn grouped() -> bool {
    OWN.get().is_some_and(|own| !own.enter.is_empty())
}

/// What comes before the words of the trampoline.
pub fn words() -> Vec<String> {
    let Some(Own { nice, nofile, enter }) = OWN.get().filter(|own| **own != Own::default()) else {
        return Vec::new();
    };
    let word = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    let mut words =
        vec!["limited".to_owned(), word(nice.map(u64::from)), word(*nofile), enter.len().to_string()];
    words.extend(enter.iter().cloned());
    words
}

/// Takes such words. Gives those of the trampoline.
pub fn heard(args: &[OsString]) -> Option<&[OsString]> {
    let number = |n: usize| match args.get(n)?.to_str()? {
        "-" => Some(None),
        word => word.parse::<u64>().ok().map(Some),
    };
    let (nice, nofile) = (number(0)?, number(1)?);
    let nice = nice.map(u32::try_from).transpose().ok()?;
    let files = usize::try_from(number(2)??).ok()?;
    let rest = args.get(3..)?;
    let (files, rest) = (rest.get(..files)?, rest.get(files..)?);
    let enter = files.iter().map(|file| file.to_str().map(str::to_owned)).collect::<Option<_>>()?;
    let _ = OWN.set(Own { nice, nofile, enter });
    (rest.first()?.to_str()? == "exec-agent").then(|| &rest[1..])
}

/// Puts this process in the control group whose members this file names.
pub fn enter(file: &str) -> io::Result<()> {
    let entered = std::fs::OpenOptions::new().write(true).open(file);
    // 0 is whoever writes it (cgroups(7)).
    let entered = entered.and_then(|mut file| io::Write::write_all(&mut file, b"0"));
    entered.map_err(|error| io::Error::new(error.kind(), format!("{file}: {error}")))
}

/// Sets them in this process, which is put in the control groups.
pub fn enforce() -> Result<(), (&'static str, io::Error)> {
    let Some(own) = OWN.get() else { return Ok(()) };
    for file in &own.enter {
        enter(file).map_err(|error| ("control group", error))?;
    }
    if let Some(nice) = own.nice {
        let nice = i32::try_from(nice).unwrap_or(i32::MAX);
        rustix::process::nice(nice).map_err(|error| ("nice value", error.into()))?;
    }
    if let Some(nofile) = own.nofile {
        let limit = Rlimit { current: Some(nofile), maximum: Some(nofile) };
        setrlimit(Resource::Nofile, limit).map_err(|error| ("limit of descriptors", error.into()))?;
    }
    Ok(())
}
