//! `search`: hits by session, each with the words around it.

use std::time::{Duration, Instant};

use protocol::api::{SearchHit, SearchReply};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::render::{self, BOLD, CYAN, DIM, RED, paint};
use crate::client::{Request, encoded};
use crate::terminal_text::push;
use crate::units;

/// For so long it is asked again while the daemon's index comes up to the newest events.
const PATIENCE: Duration = Duration::from_secs(60);
/// Columns before a snippet.
const INDENT: usize = 4;

/// Runs `kennel search`.
pub async fn search(link: &Link<'_>, args: args::Search) -> Outcome {
    let path = path(link, &args).await?;
    let (answer, reply) = link.ui.waiting("searching", ask(link, &path)).await?;
    if link.ui.json {
        link.ui.object(&answer)?;
    } else {
        link.ui.print(&text(&reply, link.ui.out_colour, link.ui.columns))?;
        if let Some(note) = &reply.note {
            link.ui.note(note);
        }
        match reply.hits.first() {
            Some(SearchHit { session, event, .. }) => {
                let more = if reply.more { "there are more: give -n or more words; " } else { "" };
                link.ui.note(&format!(
                    "{more}`kennel attach {session} --at {event}` goes to the event of a number, `kennel transcript` prints its turn"
                ));
            }
            None => link.ui.note("nothing was found"),
        }
    }
    match reply.hits.is_empty() {
        true => Err(Failure::Printed(exit::FAILURE)),
        false => Ok(()),
    }
}

async fn path(link: &Link<'_>, args: &args::Search) -> Outcome<String> {
    let mut path = format!("/v1/search?q={}&limit={}", encoded(&args.text.join(" ")), args.limit);
    if let Some(typed) = &args.session {
        path += &format!("&session={}", link.find(typed).await?);
    }
    if let Some(agent) = &args.agent {
        path += &format!("&agent={}", encoded(agent));
    }
    if let Some(kind) = args.kind {
        path += &format!("&kind={}", kind.name());
    }
    if let Some(since) = args.since {
        path += &format!("&since={}", units::rfc3339(since));
    }
    Ok(path)
}

/// Asks until all was searched, for as long as the daemon's index goes on.
async fn ask(link: &Link<'_>, path: &str) -> Outcome<(hyper::body::Bytes, SearchReply)> {
    let begun = Instant::now();
    let mut before = None;
    loop {
        let answer = link.ask(Request::get(path)).await?;
        let reply: SearchReply = read(&answer)?;
        let goes_on = before.replace(reply.searched_to).is_none_or(|before| reply.searched_to > before);
        if reply.complete
            || reply.searched_to >= reply.last_event_id
            || !goes_on
            || begun.elapsed() > PATIENCE
        {
            return Ok((answer, reply));
        }
    }
}

/// The hits for people: each session with the time, kind and event of its hits, newest first.
fn text(reply: &SearchReply, colour: bool, columns: Option<usize>) -> String {
    let mut sessions: Vec<&protocol::SessionId> = Vec::new();
    for hit in &reply.hits {
        if !sessions.contains(&&hit.session) {
            sessions.push(&hit.session);
        }
    }
    let mut out = String::new();
    for session in sessions {
        if !out.is_empty() {
            out.push('\n');
        }
        let known = reply.sessions.iter().find(|known| known.id == *session);
        let called = render::session(session, known.and_then(|known| known.name.as_ref()));
        let head = match known.and_then(|known| known.title.as_deref()) {
            Some(title) => format!("{called}  {}", render::line(title)),
            None => called,
        };
        out += &paint(&cut(&head, columns), BOLD, colour);
        out.push('\n');
        for hit in reply.hits.iter().filter(|hit| hit.session == *session) {
            let at = paint(&units::local(hit.at), DIM, colour);
            out += &format!("  {at}  {}  {}\n", paint(hit.kind.name(), CYAN, colour), hit.event);
            out += &format!("{:INDENT$}{}\n", "", context(hit, colour, columns));
        }
    }
    out
}

fn cut(text: &str, columns: Option<usize>) -> String {
    let Some(columns) = columns.filter(|columns| text.width() > *columns) else { return text.to_owned() };
    let mut out = String::new();
    for c in text.chars() {
        if out.width() + c.width().unwrap_or(0) + 1 > columns {
            break;
        }
        out.push(c);
    }
    out + "…"
}

/// The snippet on one line that has room in the terminal, its matches painted. Each character is made harmless by itself: the
/// positions are those of the characters that the daemon sent.
fn context(hit: &SearchHit, colour: bool, columns: Option<usize>) -> String {
    let is_match =
        |at: usize| hit.matches.iter().any(|found| (found.start as usize..found.end as usize).contains(&at));
    let all: Vec<(String, bool)> = hit
        .snippet
        .chars()
        .enumerate()
        .map(|(at, c)| {
            let mut shown = String::new();
            push(&mut shown, if c.is_whitespace() { ' ' } else { c });
            (shown, is_match(at))
        })
        .collect();
    let room = columns.map_or(usize::MAX, |columns| columns.saturating_sub(INDENT).max(16));
    let (from, upto) = window(&all, room);
    let mut out = String::new();
    let mut run = String::new();
    let mut is_run = false;
    for (text, is_match) in &all[from..upto] {
        if *is_match != is_run {
            out += &paint(&run, RED, colour && is_run);
            run.clear();
            is_run = *is_match;
        }
        run.push_str(text);
    }
    out += &paint(&run, RED, colour && is_run);
    let (before, after) = (if from > 0 { "…" } else { "" }, if upto < all.len() { "…" } else { "" });
    format!("{before}{}{after}", if colour { out } else { out.trim().to_owned() })
}

/// The part of a line that has room, with the first match in it.
fn window(all: &[(String, bool)], room: usize) -> (usize, usize) {
    let width = |at: usize| all[at].0.width();
    if (0..all.len()).map(width).sum::<usize>() <= room {
        return (0, all.len());
    }
    // Marks for what is left out.
    let room = room.saturating_sub(2);
    let first = all.iter().position(|(_, is_match)| *is_match).unwrap_or(0);
    let (mut from, mut used) = (first, 0);
    while from > 0 && used + width(from - 1) <= room / 3 {
        from -= 1;
        used += width(from);
    }
    let mut upto = from;
    used = 0;
    while upto < all.len() && used + width(upto) <= room {
        used += width(upto);
        upto += 1;
    }
    (from, upto)
}

#[cfg(test)]
mod tests {
    use protocol::api::{SearchKind, SearchMatch, SearchedSession};

    use protocol::event::Timestamp;

    use super::*;
    use crate::terminal_text::is_tricky;

    fn reply(snippet: &str, matches: &[(u32, u32)]) -> SearchReply {
        let hit = SearchHit {
            session: "session-1".parse().unwrap(),
            event: 12,
            kind: SearchKind::Message,
            at: Timestamp(1_769_860_800_000),
            snippet: snippet.into(),
            matches: matches.iter().map(|(start, end)| SearchMatch { start: *start, end: *end }).collect(),
        };
        let session = SearchedSession {
            id: hit.session.clone(),
            name: "web".parse().ok(),
            title: Some("m\u{1b}[2Jine".into()),
            agent: "shell".into(),
        };
        SearchReply { hits: vec![hit.clone(), hit], sessions: vec![session], ..SearchReply::default() }
    }

    #[test]
    fn hits_stand_below_their_session_and_matches_are_painted() {
        let plain = text(&reply("all is built", &[(7, 12)]), false, None);
        let lines: Vec<&str> = plain.lines().collect();
        assert_eq!(lines.len(), 5, "{plain}");
        assert_eq!((lines[0], lines[2]), ("web (session-1)  m\\u{1b}[2Jine", "    all is built"));
        assert!(lines[1].ends_with("  message  12"), "{plain}");
        let painted = text(&reply("all is built", &[(7, 12)]), true, None);
        assert!(painted.contains(&format!("all is {RED}built{RED:#}")), "{painted:?}");
    }

    #[test]
    fn what_a_daemon_sends_drives_no_terminal_and_is_no_wider_than_it() {
        let hostile = "\u{1b}]52;c;x\u{7} word\r\n\u{202e}漢字 \u{9b}2J word".repeat(9);
        for matches in [&[][..], &[(4, 9)], &[(0, u32::MAX)], &[(9, 2), (u32::MAX, u32::MAX)]] {
            for columns in 20..120 {
                let shown = text(&reply(&hostile, matches), false, Some(columns));
                assert!(!shown.chars().any(|c| is_tricky(c) && c != '\n'), "{shown:?}");
                let widest = shown.lines().skip(2).step_by(2).map(UnicodeWidthStr::width).max();
                assert!(widest <= Some(columns), "{columns}: {shown}");
            }
        }
    }
}
