//! The manual pages, which say what `--help` says.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;

use super::args::{self, Cli};
use super::ui::Ui;
use super::ui::error::{Failure, Outcome};

/// `man`.
pub fn man(ui: &Ui, args: &args::Man) -> Outcome {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        return ui.bytes(&page);
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

fn written(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}
