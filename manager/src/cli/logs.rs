//! `kennel logs`: the end of a session's log, and what is appended to it.

use protocol::SessionId;
use protocol::api::{LogGap, LogPiece};

use crate::cli::args;
use crate::cli::events::read_on;
use crate::cli::link::{Link, read};
use crate::cli::ui::Ui;
use crate::cli::ui::error::Outcome;
use crate::client::sse::Frame;
use crate::client::{Request, encoded};
use crate::terminal_text::{Colours, Screen};

/// `logs`.
pub async fn logs(link: &Link<'_>, args: &args::Logs) -> Outcome {
    let id = link.find(&args.id).await?;
    if args.follow {
        return follow(link, &id, args.tail).await;
    }
    let answer = link.ask(Request::get(format!("/v1/sessions/{id}/log?tail={}", args.tail))).await?;
    let text = String::from_utf8_lossy(&answer);
    link.ui.pass_on(&text)
}

/// Prints the last lines, and what is appended until the session is removed.
async fn follow(link: &Link<'_>, id: &SessionId, tail: u32) -> Outcome {
    let mut screen = Screen::new(Colours::of_output(false));
    let ask = |cursor: &String| match cursor.is_empty() {
        true => format!("/v1/sessions/{id}/log?follow=true&tail={tail}"),
        false => format!("/v1/sessions/{id}/log?follow=true&after={}", encoded(cursor)),
    };
    let mut cursor = String::new();
    read_on(link, &mut cursor, ask, true, |frame, cursor| show(link.ui, &mut screen, frame, cursor)).await?;
    // Something that was cut at the end of the last piece.
    link.ui.print(&screen.end())
}

/// Prints a frame, and takes its cursor. Returns true for the last.
fn show(ui: &Ui, screen: &mut Screen, frame: &Frame, cursor: &mut String) -> Outcome<bool> {
    match frame.event.as_str() {
        "piece" => {
            let piece: LogPiece = read(frame.data.as_bytes())?;
            match ui.json {
                true if piece.text.is_empty() => {}
                true => ui.object(frame.data.as_bytes())?,
                false => ui.pass_on_by(screen, &piece.text)?,
            }
            *cursor = piece.cursor;
        }
        "gap" => {
            let gap: LogGap = read(frame.data.as_bytes())?;
            match ui.json {
                true => ui.object(format!("{{\"gap\":{}}}", frame.data).as_bytes())?,
                false => ui.note(&gap.detail),
            }
            *cursor = gap.cursor;
        }
        "ended" => {
            if !ui.json {
                ui.note("the session was removed");
            }
            return Ok(true);
        }
        // A frame of a later version.
        _ => {}
    }
    Ok(false)
}
