//! The manual pages, which say what `--help` says.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::args::{self, Cli};
use super::ui::Ui;
use super::ui::error::{Failure, Outcome};

/// `man`.
pub fn man(ui: &Ui, args: &args::Man) -> Outcome {
    let dir = match &args.dir {
        None => return page(ui, Cli::command()),
        // Who types `man send` means the page.
        Some(word) => match word.to_str().and_then(named) {
            Some(command) => return page(ui, command),
            None => word,
        },
    };
    written(dir).map_err(|error| {
        Failure::failed("man", format!("{}: {error}; some pages may be missing there", dir.display()))
            .hint("give a directory that you may write to, and run it again")
    })?;
    ui.note(&format!(
        "`man kennel` finds the pages if {} is one of the directories of `manpath`",
        dir.display()
    ));
    Ok(())
}

/// The command of this name; `kennel` is all of them.
fn named(word: &str) -> Option<Command> {
    let mut root = Cli::command().disable_help_subcommand(true);
    // Gives the commands below their whole names.
    root.build();
    match word {
        "kennel" => Some(root),
        _ => root.find_subcommand(word).cloned(),
    }
}

fn page(ui: &Ui, command: Command) -> Outcome {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    ui.bytes(&page)
}

fn written(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}
