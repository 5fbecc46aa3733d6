//! Line breaks and indents of an agent's text, kept: Markdown joins the lines of a paragraph, and a traceback would be one line.

/// A blank that Markdown leaves where it is.
pub const BLANK: char = '\u{a0}';

/// The text so that Markdown keeps its lines, and the blanks before them: two blanks at an end are a line break (CommonMark, section 6.7),
/// and [`BLANK`] stands for the blanks at the beginning of a line that goes on with a paragraph. Code stays as it is, in fences or
/// indented.
pub fn kept(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 32);
    let (mut fence, mut before) = (None, Before::Nothing);
    for line in text.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        let content = body.trim_start_matches([' ', '\t']);
        let blanks: usize = body[..body.len() - content.len()].chars().map(width).sum();
        let own = fence_of(content);
        if let Some((mark, length)) = fence {
            if own.is_some_and(|(own, more, rest)| own == mark && more >= length && rest.trim().is_empty()) {
                fence = None;
            }
            out.push_str(line);
            continue;
        }
        // Between marks of code in a line stands no such mark. Far to the right, it stands in a list only.
        let begins = own.filter(|(mark, _, rest)| *mark != '`' || !rest.contains('`'));
        if let Some((mark, length, _)) = begins.filter(|_| blanks < CODE || before == Before::Item) {
            (fence, before) = (Some((mark, length)), Before::Nothing);
            out.push_str(line);
            continue;
        }
        if content.trim().is_empty() {
            before = Before::Nothing;
            out.push_str(line);
            continue;
        }
        if before == Before::Nothing && blanks >= CODE && !is_item(content) {
            // Code that is indented. What follows it is no paragraph of its.
            out.push_str(line);
            continue;
        }
        match before != Before::Nothing && !is_block(content) {
            true => out.extend(std::iter::repeat_n(BLANK, blanks)),
            false => out.push_str(&body[..body.len() - content.len()]),
        }
        push_names(&mut out, content);
        if !end.is_empty() && !content.starts_with(['|', '#']) {
            out.push_str("  ");
        }
        out.push_str(end);
        before = match is_item(content) || before == Before::Item {
            true => Before::Item,
            false => Before::Paragraph,
        };
    }
    out
}

/// Adds a line of text. Names like `__init__` stay names: Markdown would make them bold. Within marks of code nothing is escaped.
fn push_names(out: &mut String, line: &str) {
    let (mut rest, mut ticks) = (line, 0);
    while let Some(found) = rest.find("__") {
        ticks += rest[..found].matches('`').count();
        let name = &rest[found + 2..];
        let length = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
        let is_name = length > 2 && name[..length].trim_end_matches('_').len() + 2 == length;
        out.extend([&rest[..found], if is_name && ticks % 2 == 0 { r"\_\_" } else { "__" }]);
        rest = name;
    }
    out.push_str(rest);
}

/// The blanks from which on a line is code (CommonMark, section 4.4).
const CODE: usize = 4;

/// The columns that a blank takes, about: a tab goes to the next multiple of four.
fn width(blank: char) -> usize {
    if blank == '\t' { CODE } else { 1 }
}

/// The block that the line before belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    Nothing,
    Paragraph,
    /// A list's item.
    Item,
}

/// The mark of a line that begins or ends code, its length, and what stands behind it.
fn fence_of(content: &str) -> Option<(char, usize, &str)> {
    ['`', '~'].into_iter().find_map(|mark| {
        let rest = content.trim_start_matches(mark);
        let length = content.len() - rest.len();
        (length >= 3).then_some((mark, length, rest))
    })
}

/// Returns true if a line begins something that is no paragraph: a list's item, a quotation, a heading, a table's row.
fn is_block(content: &str) -> bool {
    content.starts_with(['#', '>', '|']) || is_item(content)
}

/// Returns true if a line begins a list's item.
fn is_item(content: &str) -> bool {
    let number = content.trim_start_matches(|c: char| c.is_ascii_digit());
    ["- ", "* ", "+ "].iter().any(|mark| content.starts_with(mark))
        || number.len() < content.len() && (number.starts_with(". ") || number.starts_with(") "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_paragraph_stay_lines_with_their_indents() {
        let text = "Traceback:\n  File \"a.py\", line 3\n    boom()\nError: x\n\nnext";
        let wanted = "Traceback:  \n\u{a0}\u{a0}File \"a.py\", line 3  \n\u{a0}\u{a0}\u{a0}\u{a0}boom()  \nError: x  \n\nnext";
        assert_eq!(kept(text), wanted);
    }

    #[test]
    fn names_with_two_bars_are_not_bold() {
        for (text, wanted) in [
            ("in __init__", r"in \_\_init__"),
            ("a.__eq__(b.__x1_y__)", r"a.\_\_eq__(b.\_\_x1_y__)"),
            ("`__init__` and __del__", r"`__init__` and \_\_del__"),
            ("__two words__", "__two words__"),
            ("____ __ a__", "____ __ a__"),
            ("漢__é__漢", r"漢__é__漢"),
        ] {
            assert_eq!(kept(text), wanted);
        }
    }

    #[test]
    fn what_is_no_paragraph_stays_as_it_is() {
        for text in [
            "```py\n  a\n    b\n```\n",
            "~~~\n  a\n```\n  b\n~~~\n",
            "````\n```\n  a\n````\n",
            "| a | b |\n|---|---|\n| 1 | 2 |\n",
            "# title\n",
            "    code\n",
            "    int main() {\n        return 0;\n    }\n",
            "1. a\n    ```\n      b\n    ```\n",
            "",
            "\n\n",
            "one line",
        ] {
            assert_eq!(kept(text).replace("  \n", "\n"), text, "{text:?}");
            assert!(!kept(text).contains(BLANK), "{text:?}");
        }
        // Far to the right, and in a paragraph: no fence.
        assert_eq!(kept("a\n    ```\n  b"), "a  \n\u{a0}\u{a0}\u{a0}\u{a0}```  \n\u{a0}\u{a0}b");
        assert_eq!(kept("x\n\tat y\n"), "x  \n\u{a0}\u{a0}\u{a0}\u{a0}at y  \n");
        assert_eq!(kept("- a\n  - b\n  2. c\n"), "- a  \n  - b  \n  2. c  \n");
        assert_eq!(kept("```a``` b\n  c"), "```a``` b  \n\u{a0}\u{a0}c");
        assert_eq!(kept("- a\n  goes on\n"), "- a  \n\u{a0}\u{a0}goes on  \n");
    }
}
