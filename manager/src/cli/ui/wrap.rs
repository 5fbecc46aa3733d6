//! Lines as wide as the screen, measured in columns.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

/// Breaks a line at blanks into lines of at most `width` columns, and a word that is wider anywhere between characters.
/// `indent` stands before each further line.
pub fn wrapped(line: &Line<'_>, width: usize, indent: &str) -> Vec<Line<'static>> {
    let width = width.max(1);
    if line.spans.iter().map(|span| span.content.len()).sum::<usize>() <= width && line.width() <= width {
        return vec![owned(line)];
    }
    // Room for the widest character stays.
    let indent = if indent.width() * 2 > width || indent.width() + 2 > width { "" } else { indent };
    let pieces: Vec<Piece<'_>> = line
        .styled_graphemes(Style::new())
        .map(|grapheme| Piece {
            text: grapheme.symbol,
            style: grapheme.style,
            columns: grapheme.symbol.width(),
            is_blank: grapheme.symbol.chars().all(char::is_whitespace),
        })
        .collect();
    let (mut rows, mut begin) = (Vec::new(), 0);
    while begin < pieces.len() {
        let room = if rows.is_empty() { width } else { width - indent.width() };
        let end = end_of(&pieces, begin, room);
        let before = if rows.is_empty() { "" } else { indent };
        rows.push(row(before, &pieces[begin..end]));
        begin = end;
    }
    if rows.is_empty() {
        rows.push(Line::default());
    }
    rows
}

/// A character as a person sees it.
struct Piece<'a> {
    text: &'a str,
    style: Style,
    columns: usize,
    is_blank: bool,
}

/// Where a row ends that begins there.
fn end_of(pieces: &[Piece<'_>], begin: usize, room: usize) -> usize {
    let (mut end, mut columns) = (begin, 0);
    while let Some(piece) = pieces.get(end) {
        columns += piece.columns;
        // A blank that does not fit is not seen.
        if columns > room && !piece.is_blank {
            break;
        }
        end += 1;
    }
    if end == begin {
        // A character that is wider than the screen has a row of its own.
        return begin + 1;
    }
    if end >= pieces.len() || pieces[end - 1].is_blank {
        return end;
    }
    let blank = (begin + 1..end).rev().find(|at| pieces[at - 1].is_blank && !pieces[*at].is_blank);
    blank.filter(|at| pieces[begin..*at].iter().any(|piece| !piece.is_blank)).unwrap_or(end)
}

fn row(before: &str, pieces: &[Piece<'_>]) -> Line<'static> {
    let mut spans: Vec<Span<'static>> = Vec::new();
    if !before.is_empty() {
        spans.push(Span::raw(before.to_owned()));
    }
    let shown = pieces.len() - pieces.iter().rev().take_while(|piece| piece.is_blank).count();
    for piece in &pieces[..shown] {
        match spans.last_mut() {
            Some(last) if last.style == piece.style => last.content.to_mut().push_str(piece.text),
            _ => spans.push(Span::styled(piece.text.to_owned(), piece.style)),
        }
    }
    Line::from(spans)
}

fn owned(line: &Line<'_>) -> Line<'static> {
    let spans = line
        .spans
        .iter()
        .map(|span| Span::styled(span.content.clone().into_owned(), line.style.patch(span.style)));
    Line::from(spans.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, width: usize, indent: &str) -> Vec<String> {
        wrapped(&Line::from(text.to_owned()), width, indent).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lines_break_at_blanks_and_words_that_are_too_wide_break_between_characters() {
        assert_eq!(rows("one two three", 7, ""), ["one two", "three"]);
        assert_eq!(rows("one two three", 8, "  "), ["one two", "  three"]);
        assert_eq!(rows("abcdefghij", 4, ""), ["abcd", "efgh", "ij"]);
        assert_eq!(rows("", 4, ""), [""]);
        assert_eq!(rows("漢字漢字", 5, ""), ["漢字", "漢字"]);
        assert_eq!(rows("e\u{301}e\u{301}e\u{301}", 2, ""), ["e\u{301}e\u{301}", "e\u{301}"]);
        assert_eq!(rows("漢", 1, ""), ["漢"]);
        assert_eq!(rows("👩‍👩‍👧 x", 2, ""), ["👩‍👩‍👧", "x"]);
    }

    proptest::proptest! {
        #[test]
        fn no_row_is_wider_than_the_screen_and_nothing_but_blanks_is_lost(
            text in "[a-z 漢é🙂\u{301}א]{0,60}", width in 2_usize..20, indent in 0_usize..4,
        ) {
            let rows = rows(&text, width, &" ".repeat(indent));
            for row in &rows {
                proptest::prop_assert!(row.width() <= width, "{row:?}");
            }
            let plain = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            proptest::prop_assert_eq!(plain(&rows.concat()), plain(&text));
        }
    }
}
