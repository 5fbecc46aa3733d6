//! A program that ends together with the command that needs it, however that command ends.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::cli::ui;

/// Becomes the program of the words after the first. The first is the process with which it ends: that which has started this one.
pub fn run(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let parent = words.next().and_then(|word| word.to_str()?.parse::<i32>().ok());
    let Some(program) = words.next() else {
        ui::write_err("this command is kennel's own\n");
        return ExitCode::from(ui::error::exit::USAGE);
    };
    // The kernel keeps this when the process becomes another program (PR_SET_PDEATHSIG(2const)).
    let bound = set_parent_process_death_signal(Some(Signal::TERM));
    // It may have ended before.
    if bound.is_ok() && getppid().map(|pid| pid.as_raw_nonzero().get()) != parent {
        return ExitCode::FAILURE;
    }
    let error = Command::new(program).args(words).exec();
    ui::write_err(&format!("{error}\n"));
    ExitCode::FAILURE
}
