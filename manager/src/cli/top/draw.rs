//! The screen, drawn from its state alone.

use protocol::api::{SessionInfo, Status};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table, TableState, Wrap};

use super::model::{Group, Line, MINUTES, Mode, Model, Row};
use crate::cli::show::{name, says};
use crate::cli::ui::render;
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

/// The columns, from left to right.
const COLUMNS: [Column; 9] = [
    Column { head: "NAME", width: Constraint::Length(18), from: 0, text: |row, _, _| plain(name(&row.info)) },
    Column {
        head: "STATUS",
        width: Constraint::Length(15),
        from: 30,
        text: |row, look, _| (row.info.status.as_str().to_owned(), look.status(row.info.status)),
    },
    Column { head: "NEEDS", width: Constraint::Fill(3), from: 44, text: needs },
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
        Mode::Help => frame.render_widget(Paragraph::new(HELP).wrap(Wrap { trim: false }), list),
        Mode::Answer(permission, skipped) => {
            let mut lines =
                vec![Text::from(format!("{} asks:", asks(model, &permission.session_id))), Text::default()];
            lines
                .extend(render::block(&permission.title).lines().map(|line| Text::from(format!("  {line}"))));
            lines.push(Text::default());
            for (number, option) in (1..).zip(&permission.options) {
                lines.push(Text::from(format!("  {number}  {}", render::line(&option.name))));
            }
            frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).scroll((*skipped, 0)), list);
        }
        Mode::List | Mode::Filter | Mode::Rename(_) | Mode::Stop(_) => {
            sessions(frame, list, model, table, look, now);
        }
    }
    if details > 0 {
        frame.render_widget(Paragraph::new(about(model)).wrap(Wrap { trim: false }), below);
    }
    frame.render_widget(Paragraph::new(footer(model)), bottom);
}

fn plain(text: &str) -> (String, Style) {
    (text.to_owned(), Style::new())
}

fn needs(row: &Row, look: Look, _: u64) -> (String, Style) {
    match row.info.needs.first() {
        None => plain("-"),
        Some(need) => (says(need), look.fg(Color::Yellow)),
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
                let (text, style) = (column.text)(row?, look, now);
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
    lines.extend(info.needs.iter().take(1).map(|need| Text::from(says(need))));
    lines.push(Text::from(render::line(&row.line)));
    lines
}

fn footer(model: &Model) -> String {
    match &model.mode {
        Mode::List if !model.note.is_empty() => model.note.clone(),
        Mode::List => "Enter attach  a answer  x abort  s stop  r restart  R rename  / filter  g group  n next  ? help  q quit".into(),
        Mode::Filter => format!("/{}  (Enter keeps it, Esc shows all)", render::line(&model.filter)),
        Mode::Rename(text) => format!("new name: {}  (Enter, Esc)", render::line(text)),
        Mode::Answer(..) => "a number answers; Up and Down read on; Esc goes back".into(),
        Mode::Stop(id) => format!("stop {id}, and what is below it? y/n"),
        Mode::Help => "any key goes back".into(),
    }
}

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

CPU is in percent of one processor, MEMORY the sum over the session's processes, RESTARTS those of each of the last ten
minutes since this screen was opened. The order is that of creation and does not change.";

#[cfg(test)]
mod tests {
    use protocol::api::{Need, NeedKind, SessionLoad};
    use protocol::event::{Event, EventKind, Timestamp};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::cli::show::tests::session;

    const NOW: u64 = 1_700_000_000_000;

    fn some(count: usize) -> Model {
        let one = |number: usize| SessionInfo {
            id: format!("session-{number}").parse().unwrap(),
            name: format!("web-{number}x").parse().ok(),
            needs: Vec::new(),
            ..session()
        };
        let mut model = Model::default();
        model.sessions((1..=count).map(one).collect());
        model
    }

    fn screen(model: &Model, columns: u16, rows: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        let look = Look { colour: true, unicode: true };
        let mut table = TableState::default();
        terminal.draw(|frame| draw(frame, model, &mut table, look, None, NOW)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn nothing_of_an_agent_is_drawn_as_it_is_and_no_size_is_too_small() {
        let mut model = some(30);
        let chunk = EventKind::MessageChunk {
            turn: 1,
            prompt_id: protocol::PromptId(1),
            stream: protocol::Stream::Stdout,
            text: "evil \u{1b}[2J\u{202e}\u{7}\nnext 世界 line".into(),
            payload: None,
        };
        let id = Some("session-1".parse().unwrap());
        model.heard(&Event { id: 1, at: Timestamp(NOW), session: id, incarnation: 1, kind: chunk });
        for mode in
            [Mode::List, Mode::Filter, Mode::Rename("\u{1b}x".into()), Mode::Stop("s".into()), Mode::Help]
        {
            model.mode = mode;
            for (columns, rows) in [(200, 60), (80, 24), (40, 10), (20, 5), (3, 2), (1, 1)] {
                let drawn = screen(&model, columns, rows);
                for bad in ['\u{1b}', '\u{7}', '\u{202e}', '\u{9b}'] {
                    assert!(!drawn.contains(bad), "{drawn}");
                }
            }
        }
        model.mode = Mode::List;
        assert!(screen(&model, 200, 60).contains("next 世"), "{}", screen(&model, 200, 60));
    }

    #[test]
    fn the_order_stays_and_a_filter_that_hides_all_says_so() {
        let mut model = some(3);
        model.sessions(vec![]);
        assert!(screen(&model, 80, 24).contains("kennel start"));
        let mut model = some(3);
        model.step(1);
        assert_eq!(model.chosen.as_deref(), Some("session-2"));
        let waits = SessionInfo {
            needs: vec![Need {
                kind: NeedKind::Permission,
                id: None,
                text: "rm".into(),
                since: Timestamp(5),
            }],
            ..model.row("session-3").unwrap().info.clone()
        };
        let others = ["session-1", "session-2"].map(|id| model.row(id).unwrap().info.clone());
        model.sessions(others.into_iter().chain([waits]).collect());
        let order: Vec<Line<'_>> = model.lines();
        assert_eq!(order, ["session-1", "session-2", "session-3"].map(Line::Session));
        assert_eq!(model.chosen.as_deref(), Some("session-2"), "the choice stays as well");
        assert!(screen(&model, 100, 24).contains("1 needs somebody"));
        assert!(model.choose_waiting());
        assert_eq!(model.chosen.as_deref(), Some("session-3"));
        model.filter = "NONESUCH".into();
        model.keep_choice();
        assert_eq!(model.chosen, None);
        assert!(screen(&model, 100, 24).contains("none of 3 sessions has `NONESUCH`"));
        model.filter = "web-2X".into();
        model.keep_choice();
        assert_eq!(model.chosen.as_deref(), Some("session-2"));
    }

    #[test]
    fn a_permission_longer_than_the_screen_is_read_to_its_end() {
        let mut model = some(1);
        let option = protocol::wire::PermissionOption {
            id: "yes".into(),
            name: "Yes, once".into(),
            kind: "allow_once".into(),
        };
        let permission = protocol::api::PermissionInfo {
            permission_id: protocol::PermissionId(7),
            session_id: "session-1".parse().unwrap(),
            session_name: None,
            prompt_id: None,
            title: (1..=40).map(|line| format!("step {line}\n")).collect(),
            options: vec![option],
            asked_at: Timestamp(NOW),
        };
        model.mode = Mode::Answer(Box::new(permission), 0);
        assert!(!screen(&model, 60, 20).contains("1  Yes, once"));
        let down = crossterm::event::KeyCode::Down;
        for _ in 0..40 {
            let key = crossterm::event::KeyEvent::new(down, crossterm::event::KeyModifiers::NONE);
            super::super::keys::act_on(&mut model, &crossterm::event::Event::Key(key));
        }
        let read = screen(&model, 60, 20);
        assert!(read.contains("step 40") && read.contains("1  Yes, once"), "{read}");
    }

    #[test]
    fn figures_are_those_of_the_time_between_two_looks() {
        let mut model = some(2);
        let load = |cpu_ms| SessionLoad {
            session_id: "session-1".parse().unwrap(),
            processes: 2,
            memory_bytes: 3 << 20,
            cpu_ms,
        };
        model.loads(&[load(1_000)], NOW);
        assert_eq!(model.row("session-1").unwrap().cpu, None);
        model.loads(&[load(2_500)], NOW + 2_000);
        assert_eq!(model.row("session-1").unwrap().cpu, Some(75.0));
        assert!(screen(&model, 120, 24).contains("75%"));
        model.loads(&[load(100)], NOW + 4_000);
        assert_eq!(model.row("session-1").unwrap().cpu, Some(0.0), "processes have ended");
        model.loads(&[], NOW + 6_000);
        assert_eq!(model.row("session-1").unwrap().memory, None);
    }

    #[test]
    fn restarts_stand_in_their_minutes() {
        let mut model = some(1);
        let mut restart = |at: u64| {
            let kind = EventKind::SessionRestarted {
                old_pid: None,
                new_pid: 1,
                reason: String::new(),
                restore: protocol::Restore::Fresh,
            };
            let session = Some("session-1".parse().unwrap());
            model.heard(&Event { id: 1, at: Timestamp(at), session, incarnation: 1, kind })
        };
        for at in [0, 0, 60_000, 180_000, 170_000] {
            assert!(restart(NOW + at));
        }
        let row = model.row("session-1").unwrap();
        assert_eq!(row.restarts(NOW + 240_000), [0, 0, 0, 0, 0, 2, 1, 0, 2, 0]);
        assert_eq!(row.restarts(NOW + 3_600_000), [0; 10]);
        let look = |unicode| Look { colour: false, unicode };
        assert_eq!(bars(&[0, 1, 8, 90], look(true)), "·▁██");
        assert_eq!(bars(&[0, 1, 8, 90], look(false)), ".18+");
    }
}
