//! The screen, drawn from its state alone.

#[cfg(test)]
mod tests;

use protocol::api::{SessionInfo, Status};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table, TableState, Wrap};

use super::model::{Deed, Group, Line, MINUTES, Mode, Model, Row};
use crate::cli::permissions::offer;
use crate::cli::show::{name, says};
use crate::cli::ui::screen::fitting;
use crate::cli::ui::{key_list, render};
use crate::units;

/// Lines below which the chosen session has no lines of its own at the bottom.
const DETAILS_FROM: u16 = 14;
/// Lines about the chosen session.
const DETAILS: u16 = 4;
/// Bars of the line of restarts, from none to many.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How the terminal shows things.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// It has colours.
    pub colour: bool,
    /// It shows characters beyond ASCII.
    pub unicode: bool,
}

impl Look {
    fn fg(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn status(self, status: Status) -> Style {
        match status {
            Status::Idle => self.fg(Color::Green),
            Status::Running | Status::RequiresAction => self.fg(Color::Cyan),
            Status::Starting | Status::Adopting | Status::Stopping | Status::Restarting => {
                self.fg(Color::Yellow)
            }
            Status::Hibernated | Status::Stopped => Style::new().add_modifier(Modifier::DIM),
            Status::Failed => self.fg(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// A column: its head, its width, and the least width of a terminal that shows it.
struct Column {
    head: &'static str,
    width: Constraint,
    from: u16,
    text: fn(&Row, Look, u64) -> (String, Style),
}

/// The least width of a terminal that shows what sessions need.
const NEEDS_FROM: u16 = 44;

/// The columns, from left to right.
const COLUMNS: [Column; 9] = [
    Column { head: "NAME", width: Constraint::Length(18), from: 0, text: |row, _, _| plain(name(&row.info)) },
    Column {
        head: "STATUS",
        width: Constraint::Length(15),
        from: 30,
        text: |row, look, _| (row.info.status.as_str().to_owned(), look.status(row.info.status)),
    },
    Column { head: "NEEDS", width: Constraint::Fill(3), from: NEEDS_FROM, text: needs },
    Column { head: "CPU", width: Constraint::Length(5), from: 84, text: |row, _, _| plain(&cpu(row)) },
    Column {
        head: "MEMORY",
        width: Constraint::Length(9),
        from: 70,
        text: |row, _, _| plain(&row.memory.map_or_else(|| "-".to_owned(), units::size)),
    },
    Column {
        head: "RESTARTS",
        width: Constraint::Length(MINUTES as u16),
        from: 120,
        text: |row, look, now| plain(&bars(&row.restarts(now), look)),
    },
    Column {
        head: "TOKENS",
        width: Constraint::Length(7),
        from: 110,
        text: |row, _, _| plain(&tokens(&row.info)),
    },
    Column {
        head: "COST",
        width: Constraint::Length(8),
        from: 140,
        text: |row, _, _| plain(&cost(&row.info)),
    },
    Column { head: "LAST LINE", width: Constraint::Fill(4), from: 100, text: |row, _, _| plain(&row.line) },
];

/// Draws all of it. `host` names another machine, `now` is Unix time in milliseconds.
pub fn draw(
    frame: &mut Frame<'_>,
    model: &Model,
    table: &mut TableState,
    look: Look,
    host: Option<&str>,
    now: u64,
) {
    let area = frame.area();
    let details = if area.height >= DETAILS_FROM { DETAILS } else { 0 };
    let parts =
        [Constraint::Length(1), Constraint::Min(1), Constraint::Length(details), Constraint::Length(1)];
    let [top, list, below, bottom] = Layout::vertical(parts).areas(area);
    frame.render_widget(Paragraph::new(heading(model, look, host)), top);
    match &model.mode {
        Mode::Help(from) => {
            key_list::draw(frame.buffer_mut(), list, HELP, *from);
        }
        Mode::Answer(permission, skipped) => {
            let mut lines =
                vec![Text::from(format!("{} asks:", asks(model, &permission.session_id))), Text::default()];
            lines
                .extend(render::block(&permission.title).lines().map(|line| Text::from(format!("  {line}"))));
            lines.push(Text::default());
            for (number, option) in (1..).zip(&permission.options) {
                lines.push(Text::from(format!("  {number}  {}", render::line(&offer(option)))));
            }
            frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).scroll((*skipped, 0)), list);
        }
        Mode::List | Mode::Filter | Mode::Rename(_) | Mode::Sure(..) => {
            sessions(frame, list, model, table, look, now);
        }
    }
    if details > 0 {
        frame.render_widget(Paragraph::new(about(model)).wrap(Wrap { trim: false }), below);
    }
    frame.render_widget(Paragraph::new(footer(model, usize::from(bottom.width))), bottom);
}

fn plain(text: &str) -> (String, Style) {
    (text.to_owned(), Style::new())
}

fn needs(row: &Row, look: Look, _: u64) -> (String, Style) {
    match row.needs() {
        None => plain("-"),
        Some((need, 0)) => (says(need), look.fg(Color::Yellow)),
        Some((need, more)) => (format!("{} (+{more})", says(need)), look.fg(Color::Yellow)),
    }
}

fn cpu(row: &Row) -> String {
    row.cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.0}%"))
}

fn tokens(info: &SessionInfo) -> String {
    let Some(usage) = &info.usage else { return "-".into() };
    match usage.input_tokens.saturating_add(usage.output_tokens) {
        few @ ..10_000 => few.to_string(),
        some @ ..10_000_000 => format!("{}k", some / 1_000),
        many => format!("{}M", many / 1_000_000),
    }
}

fn cost(info: &SessionInfo) -> String {
    let cost = info.usage.as_ref().and_then(|usage| usage.cost_usd);
    cost.map_or_else(|| "-".to_owned(), |cost| format!("${cost:.2}"))
}

fn bars(restarts: &[u64], look: Look) -> String {
    let bar = |number: &u64| match (*number, look.unicode) {
        (0, true) => '·',
        (0, false) => '.',
        (some @ 1..=8, true) => BARS[some as usize - 1],
        (_, true) => BARS[7],
        (some @ 1..=9, false) => char::from(b'0' + some as u8),
        (_, false) => '+',
    };
    restarts.iter().map(bar).collect()
}

fn asks(model: &Model, id: &protocol::SessionId) -> String {
    model.row(id.as_str()).map_or_else(|| id.to_string(), |row| format!("{} ({id})", name(&row.info)))
}

fn heading(model: &Model, look: Look, host: Option<&str>) -> Text<'static> {
    let count = match model.count() {
        1 => "1 session".to_owned(),
        count => format!("{count} sessions"),
    };
    let mut text = match host {
        None => format!("kennel: {count}"),
        Some(host) => format!("kennel on {}: {count}", render::line(host)),
    };
    if model.waiting() > 0 {
        let verb = if model.waiting() == 1 { "needs" } else { "need" };
        text += &format!(", {} {verb} somebody (n)", model.waiting());
    }
    let mut spans = vec![Span::styled(text, Style::new().add_modifier(Modifier::BOLD))];
    if model.lost {
        let style = look.fg(Color::Red).add_modifier(Modifier::BOLD);
        spans.push(Span::styled("  connection lost, trying again", style));
    }
    if !model.filter.is_empty() || model.mode == Mode::Filter {
        spans.push(Span::raw(format!("  filter: {}", render::line(&model.filter))));
    }
    match &model.group {
        Group::None => {}
        Group::Dir => spans.push(Span::raw("  by directory")),
        Group::Agent => spans.push(Span::raw("  by agent")),
        Group::Label(label) => spans.push(Span::raw(format!("  by label {}", render::line(label)))),
    }
    Text::from(spans)
}

fn sessions(frame: &mut Frame<'_>, area: Rect, model: &Model, state: &mut TableState, look: Look, now: u64) {
    let lines = model.lines();
    if lines.is_empty() {
        let text = match model.count() {
            0 => "no sessions: `kennel start` makes one".to_owned(),
            count => format!("none of {count} sessions has `{}`: Esc shows all", render::line(&model.filter)),
        };
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), area);
        return;
    }
    let shown: Vec<&Column> = COLUMNS.iter().filter(|column| column.from <= area.width).collect();
    let rows = lines.iter().map(|line| match line {
        Line::Head(head, count) => {
            let head = format!("{} ({count})", render::line(head));
            TableRow::new([Cell::from(head).column_span(shown.len() as u16)])
                .style(Style::new().add_modifier(Modifier::BOLD))
        }
        Line::Session(id) => {
            let row = model.row(id);
            let cells = shown.iter().filter_map(|column| {
                let (mut text, style) = (column.text)(row?, look, now);
                // Where needs have no column.
                if column.head == "NAME" && area.width < NEEDS_FROM && row?.needs().is_some() {
                    text.insert_str(0, "! ");
                }
                Some(Cell::from(Span::styled(render::line(&text), style)))
            });
            TableRow::new(cells)
        }
    });
    let chosen = model.chosen.as_deref();
    state.select(lines.iter().position(|line| matches!(line, Line::Session(id) if Some(*id) == chosen)));
    let head =
        TableRow::new(shown.iter().map(|column| column.head)).style(Style::new().add_modifier(Modifier::DIM));
    let table = Table::new(rows, shown.iter().map(|column| column.width))
        .header(head)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, state);
}

/// Lines about the chosen session.
fn about(model: &Model) -> Vec<Text<'static>> {
    let Some(row) = model.chosen() else { return Vec::new() };
    let info = &row.info;
    let title = info.title.as_deref().or(info.first_prompt.as_deref()).unwrap_or_default();
    let mut lines = vec![
        Text::styled(
            render::line(&format!("{} ({}), {}: {title}", name(info), info.id, info.agent)),
            Style::new().add_modifier(Modifier::BOLD),
        ),
        Text::from(render::line(&info.workdir)),
    ];
    lines.extend(row.needs().map(|(need, _)| Text::from(says(need))));
    lines.push(Text::from(render::line(&row.line)));
    lines
}

fn footer(model: &Model, width: usize) -> String {
    match &model.mode {
        Mode::List if !model.note.is_empty() => model.note.clone(),
        Mode::List => fitting(&KEYS, width),
        Mode::Filter => format!("/{}  (Enter keeps it, Esc shows all)", render::line(&model.filter)),
        Mode::Rename(text) => format!("new name: {}  (Enter, Esc)", render::line(text)),
        Mode::Answer(..) => "a number answers; Up and Down read on; Esc goes back".into(),
        Mode::Sure(deed, id) => {
            let called = model.row(id).map_or(id.as_str(), |row| name(&row.info));
            match deed {
                Deed::Stop => format!("stop {called}, and what is below it? y/n"),
                Deed::Restart => format!("restart {called}, and cut its turn off? y/n"),
                Deed::Abort => format!("end the turn of {called}? y/n"),
            }
        }
        Mode::Help(_) => fitting(&["Up, Down: read on", "any other key goes back"], width),
    }
}

/// The keys of the list, the most needed first.
const KEYS: [&str; 11] = [
    "? help",
    "q quit",
    "Enter attach",
    "a answer",
    "n next",
    "x abort",
    "s stop",
    "r restart",
    "R rename",
    "/ filter",
    "g group",
];

const HELP: &str = "\
Up Down j k       choose a session; PgUp, PgDn, Home, End
Enter             attach to it; Ctrl-P Ctrl-Q comes back here
a                 answer its permission: shows all of it, and asks
x                 abort its turn
s r               stop it; restart it
R                 rename it
n                 choose the one that has waited longest for somebody
/                 filter by name, id, status, agent, directory, title, label or need
g                 group by directory, by agent, by label
Ctrl-Z            suspend; `fg` comes back
q Ctrl-C          quit: sessions go on

CPU is in percent of one processor, MEMORY the sum over the session's processes.
RESTARTS are those of each of the last ten minutes since this screen was opened.
A wider terminal shows more columns: MEMORY from 70 on, CPU from 84, the last
line from 100, TOKENS from 110, RESTARTS from 120, COST from 140.
The order is that of creation and does not change.";
