//! Changes and command lines of a tool, as the agent tells them.

use std::time::Duration;

use protocol::command::line;
use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;

/// Texts with more bytes together are not compared.
const MOST: usize = 1 << 20;
/// Within this time lines are compared well, after it only fast.
const PATIENCE: Duration = Duration::from_millis(200);
/// The bytes of a command line that are shown.
const LONGEST_COMMAND: usize = 16 * 1024;
/// Lines around a change.
const CONTEXT: usize = 3;

/// A change of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The file, as the agent names it.
    pub path: String,
    /// The differences in the unified form; none: the file is too large.
    pub diff: Option<String>,
}

/// The changes among the content of a tool call.
pub fn of(content: &Value) -> Vec<Change> {
    let items = content.as_array().into_iter().flatten();
    items.filter(|item| item["type"] == "diff").map(change).collect()
}

fn change(item: &Value) -> Change {
    let text = |name: &str| item[name].as_str().unwrap_or_default();
    let (path, old, new) = (text("path"), text("oldText"), text("newText"));
    let diff = (old.len() + new.len() <= MOST).then(|| {
        let compared = TextDiff::configure().timeout(PATIENCE).diff_lines(old, new);
        compared.unified_diff().context_radius(CONTEXT).to_string()
    });
    Change { path: path.to_owned(), diff }
}

/// The command line in what a tool was given, if it is one that runs commands; its beginning, if it is very long.
pub fn command(input: &Value) -> Option<String> {
    let mut line = line(input)?;
    if let Some(cut) = (LONGEST_COMMAND..line.len()).find(|at| line.is_char_boundary(*at)) {
        line.truncate(cut);
        line.push('…');
    }
    Some(line)
}
