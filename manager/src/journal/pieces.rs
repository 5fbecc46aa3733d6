//! A text of an agent, put together from its pieces as they are read: backwards. Texts on both sides of a use of a tool, a
//! thought or a question are paragraphs of their own, as `kennel send` prints them.

/// Pieces of a text, the newest first.
#[derive(Debug, Default)]
pub struct Pieces {
    pieces: Vec<String>,
    /// Something stands between the oldest piece and what comes next.
    is_apart: bool,
}

impl Pieces {
    /// Adds the piece before all others.
    pub fn push(&mut self, text: String) {
        if text.is_empty() {
            return;
        }
        if std::mem::take(&mut self.is_apart) && are_glued(&text, self.pieces.last()) {
            self.pieces.push("\n\n".to_owned());
        }
        self.pieces.push(text);
    }

    /// Before all pieces that are there, the agent did something else.
    pub fn part(&mut self) {
        self.is_apart = true;
    }

    /// The whole text.
    pub fn text(self) -> String {
        self.pieces.into_iter().rev().collect()
    }
}

fn are_glued(before: &str, after: Option<&String>) -> bool {
    !before.ends_with('\n') && after.is_some_and(|after| !after.starts_with('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of these pieces, in the order in which they were said. An empty one is something else.
    fn text(said: &[&str]) -> String {
        let mut pieces = Pieces::default();
        for piece in said.iter().rev() {
            if piece.is_empty() { pieces.part() } else { pieces.push((*piece).to_owned()) }
        }
        pieces.text()
    }

    #[test]
    fn texts_on_both_sides_of_a_tool_are_paragraphs() {
        assert_eq!(text(&["I ", "look.", "", "", "Done", "."]), "I look.\n\nDone.");
        assert_eq!(text(&["I look.\n", "", "Done."]), "I look.\nDone.");
        assert_eq!(text(&["I look.", "", "\nDone."]), "I look.\nDone.");
        assert_eq!(text(&["", "Done.", ""]), "Done.");
        assert_eq!(text(&[]), "");
    }
}
