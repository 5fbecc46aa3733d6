//! `ls`: the sessions that are asked for, in a table; and what each waits for.

use std::collections::BTreeMap;
use std::fmt::Write;

use hyper::body::Bytes;
use protocol::api::{ManagerInfo, Need, NeedKind, SessionInfo, Status};
use serde_json::Value;

use super::{quiet, waits};
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

const fn fit(goes: u8, least: usize) -> Fit {
    Fit { goes, least, keeps_end: false }
}

/// The columns about each session, and what becomes of each where the terminal is narrow.
pub(super) const COLUMNS: [(&str, Fit); 10] = [
    ("NAME", fit(0, 10)),
    ("STATUS", fit(1, 8)),
    ("NEEDS", fit(2, 14)),
    ("AGENT", fit(5, 6)),
    ("DIR", Fit { goes: 3, least: 12, keeps_end: true }),
    ("LAST", fit(4, 4)),
    ("PID", fit(6, 7)),
    ("RESTARTS", fit(9, 8)),
    ("QUEUE", fit(8, 5)),
    ("TITLE", fit(7, 12)),
];

/// `ls`.
pub async fn ls(link: &Link<'_>, args: args::Ls) -> Outcome {
    let answer = asked(link, &args).await?;
    // An older daemon tells all.
    let all = shows_stopped(&args);
    let up = |status: &str| all || status != "stopped";
    if link.ui.json || args.format.is_some() {
        let mut list: Vec<Value> = read(&answer)?;
        list.retain(|session| session["status"].as_str().is_none_or(up));
        if let Some(template) = &args.format {
            let lines: String = list.iter().map(|session| filled(template, session)).collect();
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
    let table = table(&shown, home(link).as_deref(), clock::wall_ms());
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
    for (name, value) in [("agent", &args.agent), ("sort", &args.sort)] {
        value.iter().for_each(|value| add(name, value));
    }
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

/// A template with the fields of a session in the place of their names in braces.
fn filled(template: &str, session: &Value) -> String {
    let mut line = String::new();
    let mut rest = template.replace("\\t", "\t").replace("\\n", "\n");
    while let Some((before, after)) = rest.split_once('{') {
        line += before;
        match after.split_once('}') {
            Some((name, tail)) => {
                match &session[name] {
                    Value::Null => {}
                    Value::String(text) => line += &render::line(text),
                    value => {
                        let _ = write!(line, "{}", render::json(&value.to_string()));
                    }
                }
                rest = tail.to_owned();
            }
            None => {
                line.push('{');
                rest = after.to_owned();
            }
        }
    }
    line + &rest + "\n"
}

/// Says below the table what is to be done, and what stands still.
fn notes(link: &Link<'_>, shown: &[(&SessionInfo, usize)]) {
    let asks = shown.iter().filter(|(session, _)| session.status == Status::RequiresAction);
    let asks: Vec<&str> = asks.map(|(session, _)| name(session)).collect();
    if !asks.is_empty() {
        let verb = if asks.len() == 1 { "waits" } else { "wait" };
        link.ui.note(&format!(
            "{} {verb} for somebody's answer: `kennel permissions ls`, `kennel attach {}`",
            asks.join(", "),
            asks[0]
        ));
    }
    for (session, _) in shown {
        if let Some(trouble) = waits(session) {
            link.ui.note(&trouble);
        }
        if let Some(quiet) = quiet(session, clock::wall_ms()) {
            link.ui.note(&format!("{}: {quiet}; `kennel logs {0}` may show more", session.id));
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

/// What a session waits for, in one line.
pub fn says(need: &Need) -> String {
    let text = render::line(&need.text);
    match need.kind {
        NeedKind::Permission => format!("permission: {text}"),
        NeedKind::Form => text,
        NeedKind::Interrupted => format!("interrupted: {text}"),
        NeedKind::Failed => format!("failed: {text}"),
    }
}

/// What people call the session.
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

fn table(sessions: &[(&SessionInfo, usize)], home: Option<&str>, now: u64) -> Table {
    let mut table = Table::new(&COLUMNS.map(|(head, _)| head)).fits(&COLUMNS.map(|(_, fit)| fit));
    for (session, depth) in sessions {
        table.row(row(session, *depth, home, now));
    }
    table
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
        let text = table(&[(&session(), 0)], None, made + 60_000).text(false, None);
        assert_eq!(
            text,
            "NAME  STATUS  NEEDS                    AGENT  DIR             LAST  PID  RESTARTS  QUEUE  TITLE\n\
             web   failed  failed: too many deaths  shell  /tmp/\\u{202e}x  1m    -    5         4      \\u{1b}]0;evil\\u{7} name\n"
        );
        let in_home = SessionInfo { workdir: "/home/me/src".into(), ..session() };
        let shown = |home: &str| table(&[(&in_home, 0)], Some(home), made).text(false, None);
        assert!(shown("/home/me").contains(" ~/src ") && shown("/home/m").contains(" /home/me/src "));
        for columns in 1..120 {
            let narrow = table(&[(&session(), 3)], None, made).text(false, Some(columns));
            assert_eq!(narrow.lines().count(), 2, "{narrow}");
        }
    }

    #[test]
    fn a_template_takes_fields_and_leaves_the_rest() {
        let session = serde_json::to_value(session()).unwrap();
        for (template, line) in [
            ("{name} {status}", "web failed\n"),
            ("{id}\\t{queue_length}", "session-1\t4\n"),
            ("{title}", "\\u{1b}]0;evil\\u{7} name\n"),
            ("{none}{model}|{", "|{\n"),
            ("{restarts", "{restarts\n"),
        ] {
            assert_eq!(filled(template, &session), line, "{template}");
        }
    }
}
