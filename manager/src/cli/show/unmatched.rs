//! Filters of `ls` that no session matches: a name that was perhaps mistyped.

use std::collections::BTreeSet;

use protocol::api::SessionInfo;

use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::ui::error::Outcome;

/// The most names that a note lists.
const MOST: usize = 10;

/// Notes the agents and labels that were asked for and that no session has. Asks for all sessions only if one of those listed
/// does not have them.
pub async fn note(link: &Link<'_>, args: &args::Ls, listed: &[SessionInfo]) -> Outcome {
    if !link.ui.quiet && !unmatched(args, listed).is_empty() {
        let all: Vec<SessionInfo> = read(&link.sessions(true).await?)?;
        unmatched(args, &all).iter().for_each(|note| link.ui.note(note));
    }
    Ok(())
}

/// A note for each agent and label that none of the sessions has.
fn unmatched(args: &args::Ls, sessions: &[SessionInfo]) -> Vec<String> {
    let agents: BTreeSet<&str> = sessions.iter().map(|session| session.agent.as_str()).collect();
    let labels: BTreeSet<&str> =
        sessions.iter().flat_map(|session| session.labels.keys()).map(String::as_str).collect();
    let asked = args.agents.iter().map(|agent| ("agent", agent.as_str(), &agents));
    let names = args.labels.iter().map(|label| label.split('=').next().unwrap_or_default());
    asked
        .chain(names.map(|label| ("label", label, &labels)))
        .filter(|(_, name, known)| !known.contains(name))
        .map(|(kind, name, known)| {
            let listed: Vec<String> = known.iter().take(MOST).map(|name| format!("`{name}`")).collect();
            let more = if known.len() > MOST { ", …" } else { "" };
            let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
            format!("no session has {kind} `{name}`; {kind}s: {listed}{more}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::tests::session;
    use super::*;
    use crate::cli::args::{Cli, Command};

    #[test]
    fn what_no_session_has_is_named_beside_what_there_is() {
        let notes = |line: &str, sessions: &[SessionInfo]| {
            let Command::Ls(args) = Cli::parse_from(line.split(' ')).command else { panic!("{line}") };
            unmatched(&args, sessions)
        };
        let labels = [("team".to_owned(), "front".to_owned())].into_iter().collect();
        let sessions = [SessionInfo { labels, ..session() }];
        assert_eq!(notes("kennel ls --agent shell --label team=back --label team", &sessions), [""; 0]);
        assert_eq!(
            notes("kennel ls --agent shell,shel --agent x --label tema=front", &sessions),
            [
                "no session has agent `shel`; agents: `shell`",
                "no session has agent `x`; agents: `shell`",
                "no session has label `tema`; labels: `team`"
            ]
        );
        assert_eq!(notes("kennel ls --agent x", &[]), ["no session has agent `x`; agents: none"]);
    }
}
