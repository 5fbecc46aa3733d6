//! Commands that people know from other programs, and the command of kennel that each is.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Error};

use super::args::Cli;
use super::words;

/// Verbs of other programs: the command below which each stands (empty: none), the verbs, and the tip.
const VERBS: &[(&str, &[&str], &str)] = &[
    ("", &["ps", "sessions", "session", "list-sessions", "list-units"], "`kennel ls` lists sessions"),
    (
        "",
        &["new", "create", "new-session", "up", "launch", "spawn", "init", "open"],
        "`kennel start` starts a session, `kennel attach` talks to it",
    ),
    (
        "",
        &["kill", "kill-session", "terminate", "close", "end"],
        "`kennel stop` stops a session, `kennel abort` ends its turn",
    ),
    (
        "",
        &["down", "shutdown", "kill-server", "quit", "exit"],
        "`kennel stop` stops a session, `kennel daemon stop` the daemon and all processes of its sessions",
    ),
    ("", &["delete", "del", "destroy", "erase"], "`kennel rm` removes a session"),
    ("", &["cancel", "interrupt"], "`kennel abort` ends a session's turn"),
    (
        "",
        &["exec", "ask", "prompt", "send-keys"],
        "`kennel send` sends a prompt, `kennel run` starts a session for it",
    ),
    ("", &["inspect", "info", "view", "describe", "get", "has-session"], "`kennel show` shows a session"),
    (
        "",
        &["chat", "connect", "enter", "join", "attach-session", "resume", "continue"],
        "`kennel attach` goes on with a session, `kennel adopt` with a conversation from outside kennel",
    ),
    (
        "",
        &["detach", "detach-client"],
        "Ctrl-P Ctrl-Q leaves `kennel attach`; the session stays, as it does when the terminal closes",
    ),
    ("", &["history", "capture-pane", "conversation"], "`kennel transcript` shows a session's conversation"),
    ("", &["journal", "journalctl"], "`kennel events` prints what has happened"),
    (
        "",
        &["tail"],
        "`kennel logs -f` follows a session's standard error, `kennel transcript -f` its conversation",
    ),
    ("", &["watch", "monitor", "stats", "htop", "dashboard", "ui"], "`kennel top` shows all sessions live"),
    ("", &["browser", "open-web", "gui"], "`kennel web` opens the web page"),
    ("", &["approve", "accept", "allow"], "`kennel answer ID --allow` allows what an agent asks for"),
    ("", &["deny", "reject"], "`kennel answer ID --deny` denies what an agent asks for"),
    ("", &["retry"], "`kennel resolve PROMPT --retry` sends an interrupted prompt again"),
    ("", &["drop", "skip"], "`kennel resolve PROMPT --drop` gives an interrupted prompt up"),
    ("", &["reset"], "`kennel restart` replaces a session's process; its conversation goes on"),
    (
        "",
        &["pause", "suspend"],
        "`kennel abort` ends a turn, `kennel stop` a session's processes; the conversation stays",
    ),
    ("", &["edit"], "`kennel queue edit` changes a prompt that waits"),
    ("", &["clear"], "`kennel queue clear` removes the prompts that wait"),
    ("", &["switch", "use"], "`kennel attach` shows a session, `kennel host use` chooses a machine"),
    ("", &["clone", "branch", "copy", "cp"], "`kennel fork` starts a session that goes on from another"),
    ("", &["mv", "rename-session", "title"], "`kennel rename` gives a session another name or title"),
    ("", &["tag"], "`kennel label` sets labels of a session"),
    ("", &["grep", "find"], "`kennel search` searches the conversations"),
    ("", &["cat"], "`kennel files cat` prints a file of a session"),
    ("", &["diff"], "`kennel files diff` shows what has changed in a session's directory"),
    ("", &["du"], "`kennel df` shows how much disk space is used"),
    ("", &["gc", "clean", "cleanup"], "`kennel prune --dry-run` prints which old history can be removed"),
    ("", &["auth", "signin"], "`kennel login` logs an agent in"),
    (
        "",
        &["config", "configure", "settings", "model"],
        "`kennel set` lists and changes the settings of a session's agent",
    ),
    (
        "",
        &["ssh", "remote", "context"],
        "`kennel -H HOST ls` asks another machine, `kennel host add` names it",
    ),
    ("", &["status", "is-active"], "`kennel daemon status` shows the daemon, `kennel ls` lists sessions"),
    ("", &["serve", "server", "service"], "`kennel daemon` has the commands about the daemon"),
    ("", &["enable"], "`kennel daemon install` writes a systemd unit for the daemon"),
    ("", &["reload", "daemon-reload"], "`kennel daemon restart` replaces the daemon; turns go on"),
    ("", &["update", "upgrade"], "`kennel daemon upgrade` lets the installed kennel take over; turns go on"),
    ("", &["check", "diagnose"], "`kennel doctor` checks this machine"),
    ("", &["version"], "`kennel --version` prints the version"),
    ("", &["manual"], "`kennel man` prints the manual page"),
    ("daemon", &["ps", "ls", "info", "show", "is-active"], "`kennel daemon status` shows the daemon"),
    ("daemon", &["up", "launch", "serve"], "`kennel daemon start` starts the daemon"),
    (
        "daemon",
        &["down", "kill", "shutdown", "quit", "exit"],
        "`kennel daemon stop` stops the daemon and all processes of its sessions",
    ),
    ("daemon", &["reload"], "`kennel daemon restart` replaces the daemon; turns go on"),
    ("daemon", &["update"], "`kennel daemon upgrade` lets the installed kennel take over; turns go on"),
    ("daemon", &["enable"], "`kennel daemon install` writes a systemd unit for the daemon"),
    ("queue", &["add", "push"], "`kennel send` queues a prompt"),
    ("queue", &["purge", "flush"], "`kennel queue clear` removes all waiting prompts"),
    ("queue", &["delete", "del", "remove"], "`kennel queue rm` removes a waiting prompt"),
    ("queue", &["show"], "`kennel queue ls` lists prompts"),
    ("key", &["list"], "`kennel key ls` lists the keys"),
    ("key", &["add", "new"], "`kennel key create` makes a key"),
    ("key", &["delete", "del", "remove", "rm"], "`kennel key revoke` revokes a key"),
    ("host", &["list"], "`kennel host ls` lists the machines"),
    ("host", &["create", "new"], "`kennel host add` names a machine"),
    ("host", &["delete", "del", "remove"], "`kennel host rm` forgets a machine's name"),
    ("permissions", &["approve", "accept"], "`kennel permissions allow` allows what an agent asks for"),
    ("permissions", &["reject"], "`kennel permissions deny` denies what an agent asks for"),
    ("files", &["list"], "`kennel files ls` lists a directory"),
    ("files", &["show", "read", "view"], "`kennel files cat` prints a file"),
    ("subagent", &["stop", "kill"], "`kennel stop` ends a session and those below it"),
    ("subagent", &["new", "create", "run", "spawn"], "`kennel subagent start` starts a sub-agent"),
];

/// Commands, at every level, that end, remove or cut off something. No mistyped word is answered with one of them: whoever repeats
/// a tip without reading it loses nothing.
const HARMFUL: &[&str] = &[
    "abort",
    "clear",
    "prune",
    "remove",
    "resolve",
    "restart",
    "revoke",
    "rm",
    "rotate",
    "stop",
    "uninstall",
];

/// The error about an unknown command, with the right tip: for a command of other programs the one that does the same, and never a
/// harmful command for a similar word.
pub fn tipped(mut error: Error, args: &[OsString]) -> Error {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    if error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let typed = typed.clone();
    if let Some(tip) = known(args, &typed) {
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        return error;
    }
    let similar = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(some)) => some.clone(),
        _ => return error,
    };
    let harmless: Vec<String> =
        similar.into_iter().filter(|word| !HARMFUL.contains(&word.as_str())).collect();
    match harmless.is_empty() {
        true => error.remove(ContextKind::SuggestedSubcommand),
        false => error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(harmless)),
    };
    error
}

/// Returns the tip for a verb of other programs, by the command below which it was typed.
fn known(args: &[OsString], typed: &str) -> Option<&'static str> {
    // `kennel help daemon kill` asks for the same.
    let args: Vec<OsString> = args.iter().filter(|word| *word != "help").cloned().collect();
    let root = Cli::command();
    let below = words::command(&root, &args);
    let found = VERBS.iter().find(|(at, verbs, _)| *at == below && verbs.contains(&typed));
    found.map(|(.., tip)| *tip)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// Commands that end and remove nothing.
    const HARMLESS: &str = "acp add adopt agents allow answer attach cat check completion connect-stdio create daemon demo deny df \
        diff doctor edit ensure events export files fork host id install key label list log login logs ls man mcp next pair permissions pin \
        queue rename result run search send set show start status subagent token top transcript unit unpin upgrade use wait web";

    fn said(line: &str) -> String {
        let args: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let error = Cli::try_parse_from(&args).err().unwrap_or_else(|| panic!("`{line}` is a command"));
        assert_eq!(error.kind(), ErrorKind::InvalidSubcommand, "{line}");
        tipped(error, &args).to_string()
    }

    #[test]
    fn a_command_of_other_programs_gets_the_command_that_does_the_same() {
        for (below, verbs, tip) in VERBS {
            for verb in *verbs {
                let command = format!("{below} {verb}").trim().to_owned();
                for line in [format!("kennel {command}"), format!("kennel --json {command} web")] {
                    let said = said(&line);
                    assert!(said.contains(&format!("tip: {tip}")), "{said}");
                    assert_eq!(said.matches("tip:").count(), 1, "{said}");
                }
            }
        }
        assert!(!said("kennel queue delete").contains("kennel rm"));
        assert!(!said("kennel queue kill").contains("tip:"));
    }

    /// The commands that a tip names are commands.
    #[test]
    fn every_tip_names_commands_that_there_are() {
        let mut root = Cli::command();
        root.build();
        for (.., tip) in VERBS {
            for typed in tip.split('`').skip(1).step_by(2) {
                let mut words =
                    typed.split(' ').skip(1).filter(|word| !word.starts_with('-') && *word != "HOST");
                let first = words.next();
                let command = first.and_then(|word| root.find_subcommand(word));
                assert!(first.is_none() || command.is_some(), "{typed}");
                let below = command.filter(|command| command.has_subcommands()).zip(words.next());
                assert!(
                    below.is_none_or(|(command, word)| command.find_subcommand(word).is_some()),
                    "{typed}"
                );
            }
        }
    }

    /// The names of all commands, at every level.
    fn names(command: &clap::Command, into: &mut Vec<(String, String)>, path: &str) {
        for below in command.get_subcommands() {
            into.extend(
                below
                    .get_name_and_visible_aliases()
                    .into_iter()
                    .map(|name| (path.to_owned(), name.to_owned())),
            );
            names(below, into, &format!("{path} {}", below.get_name()));
        }
    }

    #[test]
    fn every_command_is_known_to_be_harmful_or_harmless() {
        let mut all = Vec::new();
        names(&Cli::command(), &mut all, "");
        for (path, name) in all {
            let (harmful, harmless) =
                (HARMFUL.contains(&name.as_str()), HARMLESS.split_whitespace().any(|one| one == name));
            assert!(harmful != harmless, "`kennel{path} {name}`: put it into one of the two lists");
        }
    }

    #[test]
    fn a_mistyped_word_is_never_answered_with_a_harmful_command() {
        let root = Cli::command();
        let mut all = Vec::new();
        names(&root, &mut all, "");
        let letters = || "abcdefghijklmnopqrstuvwxyz".chars();
        for (path, harmful) in all.iter().filter(|(_, name)| HARMFUL.contains(&name.as_str())) {
            for at in 0..harmful.len() {
                for c in letters().map(Some).chain([None]) {
                    let (before, after) = (&harmful[..at], &harmful[at + 1..]);
                    let typo = format!("{before}{}{after}", c.map(String::from).unwrap_or_default());
                    let is_there = all.iter().any(|(other, name)| other == path && *name == typo);
                    let is_alias = path.is_empty() && root.find_subcommand(&typo).is_some();
                    if typo.is_empty() || is_there || is_alias {
                        continue;
                    }
                    let said = said(&format!("kennel{path} {typo}"));
                    let tip = said.lines().find(|line| line.contains("similar")).unwrap_or_default();
                    for harmful in HARMFUL {
                        assert!(!tip.contains(&format!("'{harmful}'")), "{typo}: {said}");
                    }
                }
            }
        }
        assert!(said("kennel strat").contains("'start'") && said("kennel shw").contains("'show'"));
        for line in ["kennel daemon stpo", "kennel daemon stp", "kennel daemon restat", "kennel key revok"] {
            let said = said(line);
            let tip = said.lines().find(|line| line.contains("similar")).unwrap_or_default();
            assert!(HARMFUL.iter().all(|harmful| !tip.contains(&format!("'{harmful}'"))), "{line}: {said}");
        }
    }
}
