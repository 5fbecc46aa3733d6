//! `ls`: the sessions that are asked for, in a table; and what each waits for.

use std::collections::BTreeMap;

use hyper::body::Bytes;
use protocol::api::{ManagerInfo, Need, NeedKind, SessionInfo, Status};
use serde_json::Value;

use super::template::Template;
use super::{quiet, unmatched, waits};
use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::ui::error::Outcome;
use crate::cli::ui::render;
use crate::cli::ui::table::{Cell, Fit, Table};
use crate::client::{Request, encoded};
use crate::system::clock;
use crate::units;

/// The longest title in a table, in characters.
const MAX_TITLE: usize = 48;
/// The longest need in a table, in characters.
const MAX_NEED: usize = 60;
/// The most sessions that the note below a table names.
const NAMED: usize = 5;

const fn fit(goes: u8, least: usize) -> Fit {
    Fit { goes, least, keeps_end: false }
}

/// The columns about each session, and what becomes of each where the terminal is narrow.
pub(super) const COLUMNS: [(&str, Fit); 11] = [
    ("NAME", fit(0, 10)),
    ("ID", fit(6, 24)),
    ("STATUS", fit(1, 8)),
    ("NEEDS", fit(2, 14)),
    ("AGENT", fit(5, 6)),
    ("DIR", Fit { goes: 3, least: 12, keeps_end: true }),
    ("LAST", fit(4, 4)),
    ("PID", fit(7, 7)),
    ("RESTARTS", fit(10, 8)),
    ("QUEUE", fit(9, 5)),
    ("TITLE", fit(8, 12)),
];

/// The column of `--show-labels`.
const LABELS: (&str, Fit) = ("LABELS", fit(4, 12));
/// The most characters of that column.
const MAX_LABELS: usize = 200;

/// `ls`.
pub async fn ls(link: &Link<'_>, args: args::Ls) -> Outcome {
    let template = args.format.as_deref().map(Template::read).transpose()?;
    let answer = asked(link, &args).await?;
    // An older daemon tells all.
    let all = shows_stopped(&args);
    let up = |status: &str| all || status != "stopped";
    if !args.agents.is_empty() || !args.labels.is_empty() {
        unmatched::note(link, &args, &read::<Vec<SessionInfo>>(&answer)?).await?;
    }
    if link.ui.json || template.is_some() {
        let mut list: Vec<Value> = read(&answer)?;
        list.retain(|session| session["status"].as_str().is_none_or(up));
        if let Some(template) = &template {
            let lines: String = list.iter().map(|session| template.line(session)).collect();
            return link.ui.print(&lines);
        }
        if args.tree {
            let text = |session: &Value, name: &str| session[name].as_str().map(str::to_owned);
            let places = places(&list, |session| (text(session, "id"), text(session, "parent")));
            list = places.into_iter().map(|(place, _)| list[place].take()).collect();
        }
        return link.ui.object(serde_json::to_string(&list).unwrap_or_default().as_bytes());
    }
    let list: Vec<SessionInfo> = read(&answer)?;
    let shown: Vec<&SessionInfo> = list.iter().filter(|session| up(session.status.as_str())).collect();
    let places = match args.tree {
        true => places(&shown, |session| (Some(session.id.clone()), session.parent.clone())),
        false => (0..shown.len()).map(|place| (place, 0)).collect(),
    };
    let shown: Vec<(&SessionInfo, usize)> =
        places.into_iter().map(|(place, depth)| (shown[place], depth)).collect();
    if link.ui.quiet {
        return link
            .ui
            .print(&shown.iter().map(|(session, _)| format!("{}\n", session.id)).collect::<String>());
    }
    let table = table(&shown, home(link).as_deref(), args.show_labels, clock::wall_ms());
    link.ui.print(&table.text(link.ui.out_colour, link.ui.columns))?;
    notes(link, &shown);
    if !all && link.ui.out_is_terminal {
        let info: ManagerInfo = link.get(Request::get("/v1/manager")).await?;
        let stopped = info.sessions.get(Status::Stopped.as_str()).copied().unwrap_or(0);
        if stopped > 0 {
            link.ui.note(&format!("{stopped} more stopped: `kennel ls --all`"));
        }
    }
    Ok(())
}

/// Returns true if stopped sessions are asked for.
fn shows_stopped(args: &args::Ls) -> bool {
    args.all || args.status.contains(&Status::Stopped)
}

/// Asks for the sessions. Which and in which order is the daemon's work.
async fn asked(link: &Link<'_>, args: &args::Ls) -> Outcome<Bytes> {
    let mut query = Vec::new();
    let mut add = |name: &str, value: &str| query.push(format!("{name}={}", encoded(value)));
    if !args.status.is_empty() {
        add("status", &args.status.iter().map(|status| status.as_str()).collect::<Vec<_>>().join(","));
    }
    if args.needs {
        add("needs", "true");
    }
    if !args.labels.is_empty() {
        add("label", &args.labels.join(","));
    }
    if !args.agents.is_empty() {
        add("agent", &args.agents.join(","));
    }
    args.sort.iter().for_each(|sort| add("sort", sort));
    if let Some(since) = args.since {
        add("since", &units::time(since));
    }
    if let Some(dir) = &args.dir {
        add("dir", &link.directory(Some(dir.clone())).await?);
    }
    if query.is_empty() {
        return link.sessions(args.all).await;
    }
    if !shows_stopped(args) {
        query.push("all=false".to_owned());
    }
    link.ask(Request::get(format!("/v1/sessions?{}", query.join("&")))).await
}

/// Says below the table what is to be done, and what stands still.
fn notes(link: &Link<'_>, shown: &[(&SessionInfo, usize)]) {
    let need: Vec<&str> = shown
        .iter()
        .filter(|(session, _)| !session.needs.is_empty())
        .map(|(session, _)| name(session))
        .collect();
    if !need.is_empty() {
        let verb = if need.len() == 1 { "waits" } else { "wait" };
        let more = need.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let names = need[..need.len().min(NAMED)].join(", ");
        link.ui.note(&format!(
            "{names}{more} {verb} for somebody: `kennel next` says for what, `kennel next --attach` goes there"
        ));
    }
    for (session, _) in shown {
        if let Some(trouble) = waits(session) {
            link.ui.note(&trouble);
        }
        if let Some(quiet) = quiet(session, clock::wall_ms()) {
            link.ui.note(&format!(
                "{}: {quiet}; `kennel logs {}` may show more",
                called(session),
                name(session)
            ));
        }
    }
}

/// The command that answers a need.
pub fn answered_by(session: &SessionInfo, need: &Need) -> String {
    let (name, id) = (name(session), need.id.as_deref().unwrap_or_default());
    match need.kind {
        NeedKind::Permission => format!("; `kennel permissions allow {id}` or `deny`"),
        NeedKind::Form => format!("; `kennel attach {name}`"),
        NeedKind::Interrupted => format!("; `kennel resolve {id} --retry` or `--drop`"),
        NeedKind::Failed => format!("; `kennel restart {name}`"),
    }
}

/// One need of a session, in one line.
pub fn says(need: &Need) -> String {
    let text = render::line(&need.text);
    match need.kind {
        NeedKind::Permission => format!("permission: {text}"),
        NeedKind::Form => text,
        NeedKind::Interrupted => format!("interrupted: {text}"),
        NeedKind::Failed => format!("failed: {text}"),
    }
}

/// The session as people read it: `web (session-7)`.
pub fn called(session: &SessionInfo) -> String {
    render::session(&session.id, session.name.as_ref())
}

/// The session's name, or the id of one that has none.
pub fn name(session: &SessionInfo) -> &str {
    session.name.as_ref().map_or(session.id.as_str(), |name| name.as_str())
}

/// The home directory of this machine's sessions; none for another machine's.
fn home(link: &Link<'_>) -> Option<String> {
    let home = std::env::var("HOME").ok().filter(|home| home.starts_with('/') && home.len() > 1);
    home.filter(|_| link.host().is_none())
}

/// The order in which sessions stand if each is right below its parent, and how many of those shown are above each.
/// One whose parent is not shown stands by itself.
fn places<T, K: Ord>(sessions: &[T], family: impl Fn(&T) -> (Option<K>, Option<K>)) -> Vec<(usize, usize)> {
    let families: Vec<(Option<K>, Option<K>)> = sessions.iter().map(family).collect();
    let named = families.iter().enumerate().filter_map(|(place, (id, _))| Some((id.as_ref()?, place)));
    let by_id: BTreeMap<&K, usize> = named.collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); sessions.len()];
    let mut ahead = Vec::new();
    for (place, (_, parent)) in families.iter().enumerate().rev() {
        match parent.as_ref().and_then(|parent| by_id.get(parent)) {
            Some(parent) => children[*parent].push(place),
            None => ahead.push((place, 0)),
        }
    }
    let mut places = Vec::new();
    while let Some((session, depth)) = ahead.pop() {
        places.push((session, depth));
        ahead.extend(children[session].drain(..).map(|child| (child, depth + 1)));
    }
    places
}

fn table(sessions: &[(&SessionInfo, usize)], home: Option<&str>, with_labels: bool, now: u64) -> Table {
    let extra = with_labels.then_some(LABELS);
    let (heads, fits): (Vec<&str>, Vec<Fit>) = COLUMNS.into_iter().chain(extra).unzip();
    let mut table = Table::new(&heads).fits(&fits);
    for (session, depth) in sessions {
        let labels = with_labels.then(|| render::short(&labels(session), MAX_LABELS).into());
        table.row(row(session, *depth, home, now).into_iter().chain(labels).collect());
    }
    table
}

/// A session's labels, as they are typed.
pub fn labels(session: &SessionInfo) -> String {
    let labels: Vec<String> =
        session.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    labels.join(",")
}

pub(super) fn row(session: &SessionInfo, depth: usize, home: Option<&str>, now: u64) -> Vec<Cell> {
    let title = session.title.as_deref().or(session.first_prompt.as_deref()).unwrap_or_default();
    let more = session.needs.len().saturating_sub(1);
    let needs = match session.needs.first() {
        None => Cell::from("-"),
        Some(need) => {
            let more = if more > 0 { format!(" (+{more})") } else { String::new() };
            Cell::styled(render::short(&says(need), MAX_NEED) + &more, render::YELLOW)
        }
    };
    let below = home.and_then(|home| session.workdir.strip_prefix(home));
    let dir =
        below.filter(|below| below.is_empty() || below.starts_with('/')).map(|below| format!("~{below}"));
    vec![
        format!("{}{}", "  ".repeat(depth), name(session)).into(),
        session.id.as_str().into(),
        Cell::styled(session.status.as_str(), render::status_style(session.status)),
        needs,
        render::short(&render::line(&session.agent), 20).into(),
        render::line(&dir.unwrap_or_else(|| session.workdir.clone())).into(),
        units::age(session.last_message_at.unwrap_or(session.created_at), now).into(),
        session.pid.map_or("-".into(), |pid| pid.to_string()).into(),
        session.restarts.in_window.to_string().into(),
        session.queue_length.to_string().into(),
        render::short(&render::line(title), MAX_TITLE).into(),
    ]
}

#[cfg(test)]
mod tests {
    use protocol::event::Timestamp;

    use super::super::tests::session;
    use super::*;

    #[test]
    fn children_stand_below_their_parents_and_orphans_by_themselves() {
        let families = [("a", ""), ("b", ""), ("c", "a"), ("d", "c"), ("e", "gone"), ("f", "a"), ("g", "b")];
        let order: Vec<(&str, usize)> = places(&families, |(id, parent)| (Some(*id), Some(*parent)))
            .into_iter()
            .map(|(place, depth)| (families[place].0, depth))
            .collect();
        assert_eq!(order, [("a", 0), ("c", 1), ("d", 2), ("f", 1), ("b", 0), ("g", 1), ("e", 0)]);
    }

    #[test]
    fn a_list_has_one_harmless_line_a_session() {
        let Timestamp(made) = session().created_at;
        let text = table(&[(&session(), 0)], None, false, made + 60_000).text(false, None);
        assert_eq!(
            text,
            "NAME  ID         STATUS  NEEDS                    AGENT  DIR             LAST  PID  RESTARTS  QUEUE  TITLE\n\
             web   session-1  failed  failed: too many deaths  shell  /tmp/\\u{202e}x  1m    -    5         4      \\u{1b}]0;evil\\u{7} name\n"
        );
        let in_home = SessionInfo { workdir: "/home/me/src".into(), ..session() };
        let shown = |home: &str| table(&[(&in_home, 0)], Some(home), false, made).text(false, None);
        assert!(shown("/home/me").contains(" ~/src ") && shown("/home/m").contains(" /home/me/src "));
        let labels = [("team".to_owned(), "front".to_owned()), ("x".to_owned(), String::new())];
        let labelled = SessionInfo { labels: labels.into_iter().collect(), ..session() };
        let text = table(&[(&labelled, 0)], None, true, made).text(false, None);
        assert!(
            text.lines().next().unwrap().ends_with("  LABELS") && text.ends_with("  team=front,x=\n"),
            "{text}"
        );
        for columns in 1..120 {
            let narrow = table(&[(&session(), 3)], None, true, made).text(false, Some(columns));
            assert_eq!(narrow.lines().count(), 2, "{narrow}");
        }
    }
}
