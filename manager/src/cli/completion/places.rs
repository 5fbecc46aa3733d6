//! Which argument takes what: the arguments of kennel whose values only the daemon, or a file, knows.

use std::ffi::OsStr;
use std::sync::Arc;

use clap::{Arg, Command, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use super::answers::{Answers, Values};

/// The command and those below it, with what their arguments take.
pub fn with_values(root: Command, answers: &Arc<Answers>) -> Command {
    below(root, &[], answers)
}

fn below(command: Command, path: &[String], answers: &Arc<Answers>) -> Command {
    let command = command.mut_args(|arg| match values(path, &arg) {
        Some(values) => {
            let answers = Arc::clone(answers);
            arg.add(ArgValueCompleter::new(move |current: &OsStr| answers.values(values, current)))
        }
        None => arg,
    });
    command.mut_subcommands(|sub| {
        let path: Vec<String> = path.iter().cloned().chain([sub.get_name().to_owned()]).collect();
        below(sub, &path, answers)
    })
}

/// Returns what an argument of the command takes; none for what clap knows by itself, and for free text.
fn values(path: &[String], arg: &Arg) -> Option<Values> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let value = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    let takes_value = matches!(arg.get_action(), clap::ArgAction::Set | clap::ArgAction::Append);
    let known = match (arg.get_long(), arg.get_id().as_str()) {
        _ if !takes_value => None,
        (Some("agent"), _) => Some(Values::Agents),
        (Some("host"), _) => Some(Values::HostsAndHere),
        (Some("label"), _) => Some(Values::Labels),
        (Some("option"), _) => Some(Values::Options),
        (Some("parent" | "session"), _) => Some(Values::Sessions),
        (Some(_), _) => None,
        (None, "ids") if path == ["stop"] => Some(Values::SessionsToStop),
        (None, "id" | "ids" | "origin") => Some(Values::Sessions),
        (None, "what") => Some(Values::SessionsOrDirs),
        (None, "names") if path == ["agents", "ls"] => Some(Values::Agents),
        (None, "agent") => Some(Values::Agents),
        (None, "key" | "keys") => Some(Values::Keys),
        (None, "permission") => Some(Values::Permissions),
        (None, "option") => Some(Values::Options),
        (None, "pairs") => Some(Values::Settings),
        (None, "prompt") if path == ["resolve"] => Some(Values::Interrupted),
        (None, "prompt") => Some(Values::Prompts),
        (None, "name") if path == ["host", "use"] => Some(Values::HostsAndHere),
        (None, "name") if path == ["host", "rm"] => Some(Values::Hosts),
        (None, _) => None,
    };
    known.or_else(|| match arg.get_value_hint() {
        ValueHint::DirPath => Some(Values::Dirs),
        ValueHint::FilePath | ValueHint::AnyPath => Some(Values::Files),
        _ if arg.get_long().is_some() && ["FILE", "PATH"].contains(&value) => Some(Values::Files),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::Cli;

    /// Arguments for which there is nothing to know, by command and id.
    const FREE: &str = "adopt conversation, files cat path, files diff path, files ls path, fork name, host add address, \
        host add name, host pair address, host pair name, key create name, label labels, queue edit text, rename name, \
        run text, search text, send text, subagent start task, completion shell";

    fn look(command: &Command, path: &[String], seen: &mut Vec<String>) {
        for arg in command.get_positionals() {
            if values(path, arg).is_none() {
                seen.push(format!("{} {}", path.join(" "), arg.get_id()));
            }
        }
        for sub in command.get_subcommands() {
            let path: Vec<String> = path.iter().cloned().chain([sub.get_name().to_owned()]).collect();
            look(sub, &path, seen);
        }
    }

    #[test]
    fn every_argument_has_its_values_or_is_free_text() {
        let mut seen = Vec::new();
        look(&Cli::command(), &[], &mut seen);
        for one in seen {
            assert!(FREE.split(", ").any(|free| free == one), "`{one}` has no values: add it here or above");
        }
    }
}
