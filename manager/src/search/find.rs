//! Searching the index: the newest texts first, and of each the part around its first match.

use std::collections::BTreeSet;

use protocol::SessionId;
use protocol::api::{SearchHit, SearchKind, SearchMatch};
use protocol::event::Timestamp;
use rusqlite::{Connection, params};

use super::index::Index;
use super::query::Query;
use super::schema::{Fault, event_of, number_of};
use crate::system::random;

/// The most characters of a snippet.
const SNIPPET: usize = 240;
/// Characters before the first match.
const BEFORE: usize = 60;
/// The most matches of a snippet.
const MATCHES: usize = 32;
/// Up to so many sessions are named to the index, which then looks at no texts of others.
const NAMED: usize = 64;

/// The texts to find.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The words.
    pub query: Query,
    /// The sessions whose texts are looked for: all that the client reaches, but for those that it does not want.
    pub sessions: BTreeSet<SessionId>,
    /// All sessions are among them.
    pub all: bool,
    /// The kind of the texts; none: all.
    pub kind: Option<SearchKind>,
    /// The time after which they ended; none: all.
    pub since: Option<Timestamp>,
}

/// A part of the result.
#[derive(Debug, Default)]
pub struct Page {
    /// The texts, newest first.
    pub hits: Vec<SearchHit>,
    /// The last text that was looked at; none: there are no others.
    pub last: Option<i64>,
    /// The time limit ended it.
    pub slow: bool,
}

/// Finds `most` texts before this one. What it finds may have been removed from the journal since.
pub fn find(index: &Index, wanted: &Wanted, before: i64, most: usize) -> Result<Page, Fault> {
    let mut page = Page { last: Some(before), ..Page::default() };
    match collect(&index.connection, wanted, most, &mut page) {
        Ok(()) => {}
        Err(Fault::Slow) => page.slow = true,
        Err(fault) => return Err(fault),
    }
    Ok(page)
}

fn collect(index: &Connection, wanted: &Wanted, most: usize, page: &mut Page) -> Result<(), Fault> {
    let nonce = random::hex(&random::bytes::<16>().map_err(|error| Fault::Other(error.to_string()))?);
    // No text has them in it: nobody knows them before.
    let (open, close) = (format!("<{nonce}>"), format!("</{nonce}>"));
    let mut owners = Vec::new();
    if !wanted.all && wanted.sessions.len() <= NAMED {
        for session in &wanted.sessions {
            owners.extend(number_of(index, session.as_str())?.map(|number| format!("s{number}")));
        }
        if owners.is_empty() {
            page.last = None;
            return Ok(());
        }
    }
    let expression = wanted.query.expression((!owners.is_empty()).then_some(&owners[..]));
    let mut select = index.prepare(
        "SELECT docs.id, sessions.name, docs.kind, docs.at
         FROM words CROSS JOIN docs ON docs.id = words.rowid CROSS JOIN sessions ON sessions.number = docs.session
         WHERE words MATCH ?1 AND words.rowid < ?2 AND docs.at >= ?3 AND (?4 IS NULL OR docs.kind = ?4)
               AND sessions.gone = 0
         ORDER BY words.rowid DESC",
    )?;
    let mut text =
        index.prepare("SELECT highlight(words, 0, ?1, ?2) FROM words WHERE words MATCH ?3 AND rowid = ?4")?;
    let since = wanted.since.map_or(0, |since| i64::try_from(since.0).unwrap_or(i64::MAX));
    let kind = wanted.kind.map(|kind| kind as u8);
    let mut rows = select.query(params![expression, page.last, since, kind])?;
    while let Some(row) = rows.next()? {
        let doc: i64 = row.get(0)?;
        let session = row.get_ref(1)?.as_str().ok().and_then(|name| name.parse::<SessionId>().ok());
        let kind = row.get::<_, usize>(2).ok().and_then(|kind| SearchKind::ALL.get(kind));
        page.last = Some(doc);
        let Some(session) = session.filter(|session| wanted.sessions.contains(session)) else { continue };
        let Some(kind) = kind.copied() else { continue };
        let marked: String = text.query_row(params![open, close, expression, doc], |row| row.get(0))?;
        let (snippet, matches) = snippet(&marked, &open, &close);
        let at = Timestamp(row.get::<_, u64>(3)?);
        page.hits.push(SearchHit { session, event: event_of(doc), kind, at, snippet, matches });
        if page.hits.len() == most {
            return Ok(());
        }
    }
    page.last = None;
    Ok(())
}

/// The part of a text around its first match, on one line, and where its matches are in it.
fn snippet(marked: &str, open: &str, close: &str) -> (String, Vec<SearchMatch>) {
    let mut all: Vec<(char, bool)> = Vec::new();
    let mut put = |text: &str, is_match: bool| {
        for c in text.chars() {
            match (c.is_whitespace(), all.last()) {
                (true, None | Some((' ', _))) => {}
                (true, _) => all.push((' ', is_match)),
                (false, _) => all.push((c, is_match)),
            }
        }
    };
    let mut parts = marked.split(open);
    put(parts.next().unwrap_or_default(), false);
    for part in parts {
        let (inside, after) = part.split_once(close).unwrap_or((part, ""));
        put(inside, true);
        put(after, false);
    }
    if all.last().is_some_and(|(c, _)| *c == ' ') {
        all.pop();
    }
    let first = all.iter().position(|(_, is_match)| *is_match).unwrap_or(0);
    let mut from = first.saturating_sub(BEFORE);
    if from > 0 {
        // From a word's beginning, if one is near.
        from += all[from..first].iter().position(|(c, _)| *c == ' ').map_or(0, |gap| gap + 1);
    }
    let upto = all.len().min(from + SNIPPET);
    let mut text = String::new();
    let mut matches: Vec<SearchMatch> = Vec::new();
    let mut count = 0;
    if from > 0 {
        text.push('…');
        count += 1;
    }
    let mut before = false;
    for (c, is_match) in &all[from..upto] {
        let has_room = matches.len() < MATCHES;
        match matches.last_mut() {
            Some(last) if *is_match && before => last.end = count + 1,
            _ if *is_match && has_room => {
                matches.push(SearchMatch { start: count, end: count + 1 });
            }
            _ => {}
        }
        before = *is_match && matches.last().is_some_and(|last| last.end == count + 1);
        text.push(*c);
        count += 1;
    }
    if upto < all.len() {
        text.push('…');
    }
    (text, matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(marked: &str) -> (String, Vec<String>) {
        let (text, matches) = snippet(marked, "<1>", "</1>");
        let chars: Vec<char> = text.chars().collect();
        let of = |found: &SearchMatch| chars[found.start as usize..found.end as usize].iter().collect();
        (text, matches.iter().map(of).collect())
    }

    #[test]
    fn a_snippet_is_one_line_around_the_first_match() {
        let of = |marked: &str, text: &str, found: &[&str]| {
            let (own, matches) = shown(marked);
            assert_eq!(
                (own.as_str(), matches),
                (text, found.iter().map(|it| (*it).to_owned()).collect()),
                "{marked:?}"
            );
        };
        of("all is <1>built</1> now", "all is built now", &["built"]);
        of(" \n<1>all\n  is</1>\t<1>ä漢</1>\n", "all is ä漢", &["all is", "ä漢"]);
        of("nothing", "nothing", &[]);
        of("<1>a", "a", &["a"]);
        of("", "", &[]);
        let long = format!("{}<1>here</1>{}", "word ".repeat(100), " more".repeat(100));
        let (text, matches) = shown(&long);
        assert!(text.starts_with("…word ") && text.ends_with('…'), "{text}");
        assert_eq!(matches, ["here"]);
        let count = text.chars().count();
        assert!(count <= SNIPPET + 2 && text.find("here").unwrap() < BEFORE + 3, "{count}");
        let one = format!("{}<1>{}</1>", "x".repeat(500), "y".repeat(500));
        let (text, matches) = shown(&one);
        assert_eq!(matches.len(), 1);
        assert!(text.chars().count() <= SNIPPET + 2);
        let many = "<1>a</1> ".repeat(100);
        assert_eq!(shown(&many).1.len(), MATCHES);
    }
}
