//! A person's query, as an expression of SQLite's full-text search in which every word is quoted.

use protocol::bounds::SEARCH;

use crate::error::Error;

/// The most words and phrases of a query.
const WORDS: usize = 32;
/// The fewest letters of the beginning of a word: a shorter one would be that of half of all words.
const PREFIX: usize = 2;

/// An expression that holds words and phrases, and no operator of a stranger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query(String);

/// A word or phrase as it was typed.
#[derive(Default)]
struct Term {
    text: String,
    is_prefix: bool,
}

impl Query {
    /// Reads words (all of them must occur), `"phrases"`, and beginnings of words (`word*`).
    ///
    /// # Errors
    /// `invalid_query` if there is nothing to search for, or something that would not be understood.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > SEARCH {
            return Err(wrong(&format!("it has {} bytes; a query has at most {SEARCH}", text.len())));
        }
        if text.contains('\0') {
            return Err(wrong("it contains a NUL byte"));
        }
        let mut terms = terms(text)?;
        // What has neither letters nor digits is in no index.
        terms.retain(|term| term.text.contains(char::is_alphanumeric));
        if terms.is_empty() {
            return Err(wrong("there is no word in it"));
        }
        if terms.len() > WORDS {
            return Err(wrong(&format!("it has {} words and phrases; at most {WORDS}", terms.len())));
        }
        let letters = |term: &Term| term.text.chars().rev().take_while(|c| c.is_alphanumeric()).count();
        if let Some(short) = terms.iter().find(|term| term.is_prefix && letters(term) < PREFIX) {
            let what = format!("`{}*` has fewer than {PREFIX} letters before the `*`", short.text);
            return Err(wrong(&what));
        }
        // Inside of quotation marks nothing means anything, but a quotation mark, which is doubled.
        let quoted = |term: &Term| {
            format!("\"{}\"{}", term.text.replace('"', "\"\""), if term.is_prefix { " *" } else { "" })
        };
        let all: Vec<String> = terms.iter().map(quoted).collect();
        Ok(Self(all.join(" ")))
    }

    /// The expression over a column, and if there are any, over one of these words in the column `owner`.
    pub fn expression(&self, owners: Option<&[String]>) -> String {
        let text = format!("text : ({})", self.0);
        match owners {
            None => text,
            Some(owners) => format!("({text}) AND (owner : ({}))", owners.join(" OR ")),
        }
    }
}

fn terms(text: &str) -> Result<Vec<Term>, Error> {
    let mut terms = Vec::new();
    let mut term = Term::default();
    let mut in_phrase = false;
    let mut next = text.chars().peekable();
    while let Some(c) = next.next() {
        match c {
            '"' => {
                in_phrase = !in_phrase;
                terms.push(std::mem::take(&mut term));
            }
            c if c.is_whitespace() && !in_phrase => terms.push(std::mem::take(&mut term)),
            '*' if !in_phrase && next.peek().is_none_or(|c| c.is_whitespace()) => term.is_prefix = true,
            c => term.text.push(c),
        }
    }
    if in_phrase {
        return Err(wrong("a quotation mark is not closed"));
    }
    terms.push(term);
    Ok(terms)
}

fn wrong(what: &str) -> Error {
    let hint = "write words that must all occur, \"a phrase\" in quotation marks, or the beginning of a word: `wor*`";
    Error::invalid_with("invalid_query", format!("the query cannot be searched for: {what}"), hint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> String {
        Query::parse(text).unwrap().0
    }

    #[test]
    fn words_are_quoted_and_phrases_and_beginnings_are_known() {
        assert_eq!(read("  all   words "), r#""all" "words""#);
        assert_eq!(read(r#"one "two  three" four"#), r#""one" "two  three" "four""#);
        assert_eq!(read("wor* a*b foo-ba*"), r#""wor" * "a*b" "foo-ba" *"#);
        assert_eq!(read("a OR b AND NOT NEAR(c, 2) text:x ^y {z}"), {
            r#""a" "OR" "b" "AND" "NOT" "NEAR(c," "2)" "text:x" "^y" "{z}""#
        });
        assert_eq!(read("-- word"), r#""word""#);
        let owned = Query::parse("a").unwrap().expression(Some(&["s1".into(), "s2".into()]));
        assert_eq!(owned, r#"(text : ("a")) AND (owner : (s1 OR s2))"#);
    }

    #[test]
    fn what_cannot_be_searched_for_is_refused() {
        let long = "x".repeat(SEARCH + 1);
        let many = "ab ".repeat(WORDS + 1);
        for wrong in
            ["", "  ", "--", r#""""#, r#"" OR NEAR("#, r#"a "b"#, "a\0b", "*", "a*", "foo-a*", &long, &many]
        {
            let error = Query::parse(wrong).unwrap_err();
            assert_eq!(error.code(), "invalid_query", "{wrong:?}");
        }
        assert!(Query::parse(&"x".repeat(SEARCH)).is_ok() && Query::parse(&"ab ".repeat(WORDS)).is_ok());
    }

    proptest! {
        /// Whatever is typed, SQLite reads it as words.
        #[test]
        fn no_text_is_an_expression_of_its_own(text in "[a-c\"*():^+{}\\-ORANDEt .,'\\[\\]\u{202e}\u{1b}漢ä]{0,40}") {
            let Ok(query) = Query::parse(&text) else { return Ok(()) };
            let connection = rusqlite::Connection::open_in_memory().unwrap();
            connection.execute_batch("CREATE VIRTUAL TABLE words USING fts5(text, owner)").unwrap();
            connection.execute("INSERT INTO words VALUES (?1, 's1')", [&text]).unwrap();
            for owners in [None, Some(&["s1".to_owned()][..])] {
                let found: u32 = connection
                    .query_row("SELECT count(*) FROM words WHERE words MATCH ?1", [query.expression(owners)], |row| row.get(0))
                    .unwrap();
                // It holds what it was made of, but for the order of words, which a phrase keeps.
                prop_assert!(found == 1, "{text:?} does not find itself: {query:?}");
            }
        }
    }
}
