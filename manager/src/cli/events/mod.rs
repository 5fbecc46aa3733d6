//! `kennel events`: prints past events and follows new ones. Texts that `send`, `attach` and `acp` share are here, too.

use std::time::Duration;

use protocol::api::{Gap, ManagerInfo};
use protocol::event::{Event, Timestamp};
use serde::Deserialize;

use crate::cli::args;
use crate::cli::link::Link;
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::render;
use crate::cli::ui::table::within;
use crate::client::sse::Frame;
use crate::client::{ClientError, Request};
use crate::units;

mod text;
mod words;

pub use text::{decider, queued, restarting};
pub use words::words;

/// Runs `kennel events`.
pub async fn events(link: &Link<'_>, args: args::Events) -> Outcome {
    let path = match &args.id {
        Some(typed) => format!("/v1/sessions/{}/events", link.find(typed).await?),
        None => "/v1/events".into(),
    };
    let begins = args.since.is_some() || args.last.is_some();
    let after = match args.after {
        Some(after) => after,
        None if args.follow && !begins => {
            link.get::<ManagerInfo>(Request::get("/v1/manager")).await?.last_event_id
        }
        None => 0,
    };
    // Nothing that is read later is before an event that was read.
    let (mut place, only) = ((after, begin(&args)), only(&args));
    let ask =
        |(after, begin): &(u64, String)| format!("{path}?after={after}&follow={}{begin}{only}", args.follow);
    let read = read_on(link, &mut place, ask, args.follow, |frame, place| {
        if let Some(id) = frame.id {
            *place = (id, String::new());
        }
        let is_end = frame.event == DELETED && args.id.is_some();
        if !is_end || args.types.is_empty() || args.types.contains(&frame.event) {
            show(link.ui, frame)?;
        }
        Ok(is_end)
    });
    read.await.map_err(|failure| replaced(link, failure))
}

/// The type of a session's last event.
const DELETED: &str = "session.deleted";

/// The parameters for the beginning.
fn begin(args: &args::Events) -> String {
    let since = args.since.map(|since| format!("&since={}", units::rfc3339(since))).unwrap_or_default();
    let last = args.last.map(|last| format!("&last={last}")).unwrap_or_default();
    since + &last
}

/// The parameter for the types. A stream of one session has its last event, too, which ends it.
fn only(args: &args::Events) -> String {
    if args.types.is_empty() {
        return String::new();
    }
    let end = args.id.is_some() && !args.types.iter().any(|name| name == DELETED);
    format!("&type={}{}", args.types.join(","), if end { format!(",{DELETED}") } else { String::new() })
}

/// The hint about an event that is not there yet.
fn replaced(link: &Link<'_>, failure: Failure) -> Failure {
    match failure.is("invalid_cursor") && !link.ui.json {
        true => failure.hint("was the state directory replaced? `--after 0` begins at the beginning"),
        false => failure,
    }
}

/// Reads the stream at this path from `after` on, over all connections that it takes, until its end or until `take` returns true.
/// `follow`: also what happens from now on.
pub async fn read(
    link: &Link<'_>,
    path: &str,
    after: &mut u64,
    follow: bool,
    mut take: impl FnMut(&Frame) -> Outcome<bool>,
) -> Outcome {
    let ask = |after: &u64| format!("{path}?after={after}&follow={follow}");
    let read = read_on(link, after, ask, follow, |frame, after| {
        *after = frame.id.unwrap_or(*after);
        take(frame)
    });
    read.await.map_err(|failure| replaced(link, failure))
}

/// Reads a stream from a place on, over all connections that it takes, until its end or until `take` returns true. `ask` makes the
/// path and query for a place. `take` moves the place on. `follow`: the stream has no end while the daemon lives.
pub async fn read_on<P>(
    link: &Link<'_>,
    place: &mut P,
    ask: impl Fn(&P) -> String,
    follow: bool,
    mut take: impl FnMut(&Frame, &mut P) -> Outcome<bool>,
) -> Outcome {
    loop {
        let mut events = link.events(&ask(place)).await?;
        let ended = loop {
            match events.next().await {
                Ok(Some(frame)) => {
                    refuse_problem(&frame)?;
                    if take(&frame, place)? {
                        return Ok(());
                    }
                }
                Ok(None) => break true,
                Err(ClientError::Lost(_)) => break false,
                Err(error) => return Err(error.into()),
            }
        };
        if ended && !follow {
            return Ok(());
        }
        if ended && !link.comes_back().await {
            link.ui.note("the daemon was stopped");
            return Ok(());
        }
    }
}

/// A stream may end with the reason for its end.
fn refuse_problem(frame: &Frame) -> Outcome {
    if frame.event != "problem" {
        return Ok(());
    }
    let problem = serde_json::from_str(&frame.data)
        .map_err(|error| Failure::from(ClientError::Garbage(error.to_string())))?;
    Err(Failure::from(Box::<protocol::api::Problem>::new(problem)))
}

fn show(ui: &Ui, frame: &Frame) -> Outcome {
    if frame.event == "gap" {
        return show_gap(ui, &frame.data);
    }
    if ui.json {
        return ui.object(frame.data.as_bytes());
    }
    ui.line(&line(&frame.data, ui.out_colour, ui.columns))
}

/// Prints that events before this point were pruned. A gap is no event: in JSON it is an object with the key `gap`.
pub fn show_gap(ui: &Ui, data: &str) -> Outcome {
    if ui.json {
        return ui.object(format!("{{\"gap\":{data}}}").as_bytes());
    }
    if let Ok(Gap { first_available }) = serde_json::from_str(data) {
        ui.note(&format!("events before {first_available} were pruned; what is left of them follows"));
    }
    Ok(())
}

/// Fields that every event has, also an event of a later version.
#[derive(Deserialize)]
struct Head {
    id: u64,
    at: Timestamp,
    session: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    data: serde_json::Value,
}

/// With fewer columns the terminal has no room for days.
const NARROW: usize = 80;

/// Writes an event for people on one line, cut to so many columns.
fn line(json: &str, colour: bool, columns: Option<usize>) -> String {
    let cut = |line: &str| columns.map_or_else(|| line.to_owned(), |columns| within(line, columns));
    let Ok(head) = serde_json::from_str::<Head>(json) else {
        return cut(&render::line(json));
    };
    let shown = match serde_json::from_str::<Event>(json) {
        Ok(event) => text::text(&event.kind),
        Err(_) => head.data.to_string(),
    };
    let session = render::line(head.session.as_deref().unwrap_or("-"));
    let style = match head.kind.as_str() {
        "turn.interrupted" | "session.restarting" | "session.failed" | "subagent.lost" => render::RED,
        "turn.completed" | "session.restarted" | "session.ready" => render::GREEN,
        _ => render::CYAN,
    };
    let (kind, at, shown) = (render::line(&head.kind), units::local(head.at), render::line(&shown));
    // Without the day and without columns a narrow terminal has room for the type.
    let is_narrow = columns.is_some_and(|columns| columns < NARROW);
    let (before, head, whole) = match is_narrow {
        true => {
            let before = format!("{} {}", head.id, at.split_once(' ').map_or(at.as_str(), |(_, time)| time));
            let start = format!("{before} {session} ");
            let whole = format!("{start}{kind} {shown}");
            (before, start, whole)
        }
        false => {
            let before = format!("{:>5}  {at}", head.id);
            let start = format!("{before}  {session:<10}  ");
            let whole = format!("{start}{kind:<18}  {shown}");
            (before, start, whole)
        }
    };
    let line = cut(whole.trim_end());
    let named = head.len() + kind.len();
    // What is cut within its head has no colours.
    match line.get(..named).filter(|start| colour && whole.starts_with(start)) {
        Some(_) => {
            let (kind, rest) = (&line[head.len()..named], &line[named..]);
            let between = &head[before.len()..];
            format!(
                "{}{between}{}{rest}",
                render::paint(&before, render::DIM, true),
                render::paint(kind, style, true)
            )
        }
        None => line,
    }
}

/// A turn that shows nothing for this long gets a line that names what the turn waits for.
pub const QUIET: Duration = Duration::from_secs(30);

/// Names what a turn waits for that has shown nothing for `since`. `tool` is the title of a tool call that has not
/// ended.
pub fn quiet(since: Duration, tool: Option<&str>) -> String {
    let since = format!("{}s", since.as_secs());
    match tool {
        Some(tool) => format!("no sign for {since}; the turn waits for its tool: {tool}"),
        None => format!("no sign for {since}; the turn waits for its agent, or the agent for its model"),
    }
}

/// Returns the line about a form that this command cannot show; none for other calls.
pub fn asked_of_user(method: &str, payload: &serde_json::Value) -> Option<String> {
    let message = payload["message"].as_str().unwrap_or("something");
    let asks = method == "elicitation/create";
    asks.then(|| {
        format!("the agent asks: {message}; `kennel attach`, or an editor that shows forms, can answer")
    })
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    /// The time of an event by this machine's clock, as it is shown.
    fn noon() -> String {
        units::local(Timestamp(1_769_860_800_000))
    }

    #[test]
    fn events_are_one_harmless_line_each() {
        let chunk = r#"{"id":12,"at":"2026-01-31T12:00:00.000Z","session":"session-1","incarnation":1,
            "type":"message.chunk","data":{"turn":1,"prompt_id":"prompt-7","stream":"stdout","text":"a\u001b[2J\nb\n"}}"#;
        assert_eq!(
            line(chunk, false, None),
            format!("   12  {}  session-1   message.chunk       a\\u{{1b}}[2J b", noon())
        );
        let restarted = r#"{"id":3,"at":"2026-01-31T12:00:00.000Z","session":"s","incarnation":2,"type":"session.restarted",
            "data":{"old_pid":10,"new_pid":11,"reason":"killed by SIGKILL","restore":"fresh"}}"#;
        let whole = format!(
            "    3  {}  s           session.restarted   pid 10 -> 11, fresh: killed by SIGKILL",
            noon()
        );
        assert_eq!(line(restarted, false, None), whole);
        let painted = line(restarted, true, Some(80));
        let plain = anstream::adapter::strip_str(&painted).to_string();
        assert_eq!(plain, line(restarted, false, Some(80)));
        assert!(painted.contains("\u{1b}[32msession.restarted\u{1b}[0m"), "{painted:?}");
    }

    #[test]
    fn an_event_is_one_line_no_wider_than_the_terminal() {
        let said = r#"{"id":3,"at":"2026-01-31T12:00:00.000Z","session":"s","incarnation":2,"type":"message.chunk",
            "data":{"turn":1,"prompt_id":"prompt-7","stream":"stdout","text":"漢字漢字漢字漢字漢字漢字漢字漢字漢字 and more"}}"#;
        assert!(line(said, false, None).ends_with("and more"));
        for columns in 1..130 {
            let whole = match columns < NARROW {
                true => format!("3 {} s message.chunk {}", &noon()[11..], &line(said, false, None)[60..]),
                false => line(said, false, None),
            };
            for colour in [false, true] {
                let text = anstream::adapter::strip_str(&line(said, colour, Some(columns))).to_string();
                assert!(text.width() <= columns && text.lines().count() == 1, "{columns}: {text}");
                let kept = text.strip_suffix('…').unwrap_or(&text);
                assert!(
                    whole.starts_with(kept) && (text == whole) == (columns >= whole.width()),
                    "{columns}: {text}"
                );
            }
        }
    }

    #[test]
    fn events_of_later_versions_are_shown_as_they_are() {
        let later = r#"{"id":1,"at":"2026-01-31T12:00:00.000Z","type":"moon.landed","data":{"x":"\u009b"}}"#;
        assert_eq!(
            line(later, false, None),
            format!("    1  {}  -           moon.landed         {{\"x\":\"\\u{{9b}}\"}}", noon())
        );
        assert_eq!(line("\u{1b}[2J", false, None), "\\u{1b}[2J");
    }
}
