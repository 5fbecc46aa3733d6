//! `restart --all` and `rm --all`: which sessions they mean, the question before anything is done, and the summary.

use std::io::{self, BufRead, IsTerminal};

use protocol::api::{SessionInfo, Status};

use crate::cli::args;
use crate::cli::link::Link;
use crate::cli::show::name;
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::render;
use crate::client::{Request, encoded};

/// The most names in the question; the others are counted.
const NAMED: usize = 10;

/// The deed that a command does to the sessions, in words.
#[derive(Clone, Copy, Debug)]
pub struct Deed {
    /// At the beginning of the question.
    pub asked: &'static str,
    /// After it is done.
    pub done: &'static str,
    /// The states of the sessions that are meant where none is given; none: all sessions.
    pub means: &'static [Status],
}

/// Returns the ids of the sessions that are meant, after a person has agreed. There are none after a no.
pub async fn chosen(link: &Link<'_>, choice: &args::Choice, deed: Deed) -> Outcome<Vec<String>> {
    let states = if choice.status.is_empty() { deed.means } else { &choice.status };
    let mut query = Vec::new();
    if !states.is_empty() {
        let states: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
        query.push(format!("status={}", states.join(",")));
    }
    if !choice.labels.is_empty() {
        query.push(format!("label={}", encoded(&choice.labels.join(","))));
    }
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let sessions: Vec<SessionInfo> = link.get(Request::get(format!("/v1/sessions{query}"))).await?;
    let ids = sessions.iter().map(|session| session.id.to_string()).collect();
    if sessions.is_empty() {
        link.ui.note(&format!("there is no such session; nothing was {}", deed.done));
        return Ok(ids);
    }
    if choice.yes {
        return Ok(ids);
    }
    if link.ui.json || !link.ui.err_is_terminal || !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("nobody can be asked here; nothing was {}", deed.done))
            .hint("`--yes` does it without a question; `kennel ls --all` lists the sessions"));
    }
    link.ui.write_err(&format!("{} [y/N] ", question(&sessions, deed)));
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    if matches!(typed.trim(), "y" | "Y" | "yes") {
        return Ok(ids);
    }
    link.ui.note(&format!("nothing was {}", deed.done));
    Ok(Vec::new())
}

/// The question, with the names of the first sessions.
fn question(sessions: &[SessionInfo], deed: Deed) -> String {
    let names = sessions.iter().take(NAMED).map(|session| render::line(name(session)));
    let mut names: Vec<String> = names.collect();
    if let Some(more) = sessions.len().checked_sub(NAMED).filter(|more| *more > 0) {
        names.push(format!("{more} more"));
    }
    let runs = |session: &&SessionInfo| matches!(session.status, Status::Running | Status::RequiresAction);
    let cut = match sessions.iter().filter(runs).count() {
        0 => String::new(),
        1 => " and cut off 1 running turn".to_owned(),
        cut => format!(" and cut off {cut} running turns"),
    };
    let count = match sessions.len() {
        1 => "1 session".to_owned(),
        count => format!("{count} sessions"),
    };
    format!("{} {count} ({}){cut}?", deed.asked, names.join(", "))
}

/// Says how many of the sessions it was done to.
pub fn summary(link: &Link<'_>, all: usize, done: usize, deed: Deed) {
    let of = |count| if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") };
    if !link.ui.json {
        link.ui.note(&match all - done {
            0 => format!("{} {}", of(done), deed.done),
            left => format!("{} {}; {} not: the reasons stand above", of(done), deed.done, of(left)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::tests::session;

    #[test]
    fn the_question_names_some_sessions_and_counts_the_rest() {
        let deed = Deed { asked: "Remove", done: "removed", means: &[] };
        let mut sessions: Vec<SessionInfo> = (0..12).map(|_| session()).collect();
        sessions.iter_mut().for_each(|session| session.status = Status::Stopped);
        sessions[0].status = Status::Running;
        let asked = question(&sessions, deed);
        assert!(
            asked.starts_with("Remove 12 sessions (")
                && asked.ends_with("2 more) and cut off 1 running turn?"),
            "{asked}"
        );
    }
}
