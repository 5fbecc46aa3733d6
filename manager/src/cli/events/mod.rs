//! `kennel events`: prints past events and follows new ones. Texts that `send`, `attach` and `acp` share are here, too.

use std::time::Duration;

use protocol::api::{Gap, ManagerInfo};
use protocol::event::{Event, Timestamp};
use serde::Deserialize;
use unicode_width::UnicodeWidthStr;

use crate::cli::args;
use crate::cli::link::Link;
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::render;
use crate::cli::ui::table::broken;
use crate::client::sse::Frame;
use crate::client::{ClientError, Request};
use crate::units;

mod text;

pub use text::{decider, queued, restarting, told};

/// Runs `kennel events`.
pub async fn events(link: &Link<'_>, args: args::Events) -> Outcome {
    let path = match &args.id {
        Some(typed) => format!("/v1/sessions/{}/events", link.find(typed).await?),
        None => "/v1/events".into(),
    };
    let mut after = match args.after {
        Some(after) => after,
        None if args.follow => link.get::<ManagerInfo>(Request::get("/v1/manager")).await?.last_event_id,
        None => 0,
    };
    read(link, &path, &mut after, args.follow, |frame| {
        show(link.ui, frame)?;
        Ok(frame.event == "session.deleted" && args.id.is_some())
    })
    .await
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
    read.await.map_err(|failure| match failure.is("invalid_cursor") && !link.ui.json {
        true => failure.hint("was the state directory replaced? `--after 0` begins at the beginning"),
        false => failure,
    })
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

/// Indent of an event's further lines.
const INDENT: usize = 4;
/// With fewer columns the terminal has no room for an event on one line.
const NARROW: usize = 80;

/// Writes an event for people: on one line, or on some where the terminal is narrow.
fn line(json: &str, colour: bool, columns: Option<usize>) -> String {
    let Ok(head) = serde_json::from_str::<Head>(json) else {
        return render::line(json);
    };
    let shown = match serde_json::from_str::<Event>(json) {
        Ok(event) => text::text(&event.kind),
        Err(_) => head.data.to_string(),
    };
    let before = format!("{:>5}  {}", head.id, units::time(head.at));
    let (session, shown) = (render::line(head.session.as_deref().unwrap_or("-")), render::line(&shown));
    let style = match head.kind.as_str() {
        "turn.interrupted" | "session.restarting" | "session.failed" | "subagent.lost" => render::RED,
        "turn.completed" | "session.restarted" | "session.ready" => render::GREEN,
        _ => render::CYAN,
    };
    let (kind, painted) = (render::line(&head.kind), render::paint(&before, render::DIM, colour));
    let line = match columns.filter(|columns| *columns < NARROW) {
        Some(columns) => {
            let session = broken(&session, before.len() + 2, columns, INDENT);
            let shown = broken(&shown, INDENT + kind.width() + 2, columns, INDENT);
            let kind = render::paint(&kind, style, colour);
            format!("{painted}  {session}\n{:INDENT$}{kind}  {shown}", "")
        }
        None => {
            let kind = render::paint(&format!("{kind:<18}"), style, colour);
            format!("{painted}  {session:<10}  {kind}  {shown}")
        }
    };
    line.trim_end().to_owned()
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
    use super::*;

    #[test]
    fn events_are_one_harmless_line_each() {
        let chunk = r#"{"id":12,"at":"2026-01-31T12:00:00.000Z","session":"session-1","incarnation":1,
            "type":"message.chunk","data":{"turn":1,"prompt_id":"prompt-7","stream":"stdout","text":"a\u001b[2J\nb\n"}}"#;
        assert_eq!(
            line(chunk, false, None),
            "   12  2026-01-31T12:00:00Z  session-1   message.chunk       a\\u{1b}[2J b"
        );
        let restarted = r#"{"id":3,"at":"2026-01-31T12:00:00.000Z","session":"s","incarnation":2,"type":"session.restarted",
            "data":{"old_pid":10,"new_pid":11,"reason":"killed by SIGKILL","restore":"fresh"}}"#;
        assert_eq!(
            line(restarted, false, Some(80)),
            "    3  2026-01-31T12:00:00Z  s           session.restarted   pid 10 -> 11, fresh: killed by SIGKILL"
        );
    }

    #[test]
    fn events_are_no_wider_than_a_narrow_terminal() {
        let restarted = r#"{"id":3,"at":"2026-01-31T12:00:00.000Z","session":"s","incarnation":2,"type":"session.restarted",
            "data":{"old_pid":10,"new_pid":11,"reason":"killed by SIGKILL","restore":"fresh"}}"#;
        assert_eq!(
            line(restarted, false, Some(40)),
            "    3  2026-01-31T12:00:00Z  s\n    session.restarted  pid 10 -> 11,\n    fresh: killed by SIGKILL"
        );
        for columns in 30..80 {
            let text = line(restarted, false, Some(columns));
            assert!(text.lines().all(|line| line.width() <= columns), "{columns}: {text}");
        }
    }

    #[test]
    fn events_of_later_versions_are_shown_as_they_are() {
        let later = r#"{"id":1,"at":"2026-01-31T12:00:00.000Z","type":"moon.landed","data":{"x":"\u009b"}}"#;
        assert_eq!(
            line(later, false, None),
            "    1  2026-01-31T12:00:00Z  -           moon.landed         {\"x\":\"\\u{9b}\"}"
        );
        assert_eq!(line("\u{1b}[2J", false, None), "\\u{1b}[2J");
    }
}
