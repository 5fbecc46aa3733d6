//! The screen, drawn from the state alone.

use protocol::api::Role;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};
use unicode_width::UnicodeWidthStr;

use super::face::{Face, Mode};
use super::lines::{begin_of, bold, dim};
use crate::cli::attach::view::View;
use crate::cli::permissions::offer;
use crate::cli::ui::screen::fitting;
use crate::cli::ui::wrap::wrapped;
use crate::cli::ui::{key_list, render};

/// Rows below which the keys are not named at the bottom.
const KEYS_FROM: u16 = 12;
/// Rows below which there is no heading.
const HEADING_FROM: u16 = 6;
/// Rows below which an option has one row: all of them are on the screen.
const OPTIONS_FROM: u16 = 10;
/// Prompts that wait and are shown.
const WAITING: usize = 3;
/// The bytes that are drawn of what waits.
const SHOWN: usize = 8 * 1024;
/// The mark before the prompt that is typed.
const MARK: &str = "> ";

/// Draws all of it. Whether the end is on the screen is known only once the conversation was drawn.
pub fn draw(frame: &mut Frame<'_>, face: &mut Face, view: &View<'_>) {
    if frame.area().is_empty() {
        return;
    }
    let followed = face.scroll.follows();
    draw_parts(frame, face, view);
    if face.scroll.follows() != followed {
        frame.buffer_mut().reset();
        draw_parts(frame, face, view);
    }
}

fn draw_parts(frame: &mut Frame<'_>, face: &mut Face, view: &View<'_>) {
    let area = frame.area();
    let heading = u16::from(area.height >= HEADING_FROM);
    let keys = u16::from(area.height >= KEYS_FROM);
    let width = usize::from(area.width);
    let asked = question(face, view).map(|text| wrapped(&Line::styled(text, bold()), width, ""));
    let (typed, most) = match &asked {
        // All of a question is on the screen.
        Some(lines) => (lines.len(), area.height),
        None => (face.editor.height(width.saturating_sub(MARK.len() + 1)), (area.height / 3).max(1)),
    };
    let typed = u16::try_from(typed).unwrap_or(u16::MAX).clamp(1, most);
    let room = area.height.saturating_sub(heading + keys + typed);
    let (mut waits, mut choices) = match face.mode {
        // Whoever reads the keys answers nothing meanwhile.
        Mode::Help(_) => (Vec::new(), 0),
        _ => waiting(face, view, width, area.height < OPTIONS_FROM),
    };
    if !face.scroll.follows() {
        // Whoever reads back has the screen for that.
        choices = 0;
    }
    // One line of the conversation stays, except where a question has to be answered in its place.
    let most = usize::from(room.saturating_sub(1).min((area.height / 2).max(3)).max(u16::from(room > 0)));
    let most = match face.scroll.follows() {
        true => most.max((choices + 1).min(room.into())),
        false => most.min((usize::from(room) / 2).max(1)),
    };
    if waits.len() > most {
        cut(&mut waits, most, choices);
    }
    let waits_height = u16::try_from(waits.len()).unwrap_or(u16::MAX);
    let parts = [heading, 0, waits_height, typed, keys].map(Constraint::Length);
    let parts = [parts[0], Constraint::Min(0), parts[2], parts[3], parts[4]];
    let [top, middle, below, prompt, bottom] = Layout::vertical(parts).areas(area);
    Paragraph::new(title(face, view, width)).render(top, frame.buffer_mut());
    match &mut face.mode {
        Mode::Help(from) => {
            *from = key_list::draw(frame.buffer_mut(), middle, HELP, *from).min(*from);
        }
        _ => conversation(frame.buffer_mut(), middle, face, view),
    }
    Paragraph::new(waits).render(below, frame.buffer_mut());
    match asked {
        Some(lines) => Paragraph::new(lines).render(prompt, frame.buffer_mut()),
        None => typing(frame.buffer_mut(), prompt, face),
    }
    Paragraph::new(Line::styled(footer(face, width), dim())).render(bottom, frame.buffer_mut());
}

/// The session, its state, and who drives.
fn title(face: &Face, view: &View<'_>, width: usize) -> Line<'static> {
    let host = face.host.as_ref().map(|host| format!(" on {}", render::line(host))).unwrap_or_default();
    let called = format!("{}{host}", render::line(&view.called));
    let mut spans = vec![Span::styled(called.clone(), bold()), Span::raw("  ")];
    if let Some(why) = &view.ended_by {
        let style = face.look.fg(Color::Red).add_modifier(Modifier::BOLD);
        return Line::styled(format!("{}: Ctrl-P Ctrl-Q leaves", render::line(why)), style);
    }
    if view.lost {
        let style = face.look.fg(Color::Red).add_modifier(Modifier::BOLD);
        spans.push(Span::styled("connection lost, trying again", style));
        return Line::from(spans);
    }
    let status = view.status();
    let style = match status {
        "running" | "needs you" => face.look.fg(Color::Cyan),
        "failed" => face.look.fg(Color::Red).add_modifier(Modifier::BOLD),
        "idle" => face.look.fg(Color::Green),
        _ => face.look.fg(Color::Yellow),
    };
    spans.push(Span::styled(status.to_owned(), style));
    let driver = view.clients.iter().find(|(_, (_, role))| *role == Role::Driver);
    let others = view.clients.keys().filter(|client| Some(**client) != view.client).count();
    // The long words, and those that say enough where there is no room.
    let (drives, short) = match driver {
        _ if !view.live => ("connecting".to_owned(), "connecting"),
        _ if view.drives => match others {
            0 => ("you drive".to_owned(), "you drive"),
            1 => ("you drive, 1 other looks on".to_owned(), "you drive"),
            _ => (format!("you drive, {others} others look on"), "you drive"),
        },
        Some((_, (name, _))) => (format!("{} drives, you look on", render::line(name)), "you look on"),
        None => ("nobody drives".to_owned(), "nobody drives"),
    };
    let room = |words: &str| width.saturating_sub(status.len() + words.width() + 4);
    let drives = if room(&drives) >= called.width() { drives } else { short.to_owned() };
    spans[0].content = render::short(&called, room(&drives).max(1)).into();
    spans.push(Span::raw(format!("  {drives}")));
    Line::from(spans)
}

fn conversation(buffer: &mut Buffer, area: Rect, face: &mut Face, view: &View<'_>) {
    let Some(chat) = &view.chat else { return };
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    if width == 0 || height == 0 {
        return;
    }
    let lines = face.scroll.visible(chat, width, height, face.look);
    if lines.is_empty() && view.live {
        Paragraph::new(Line::styled("nothing was said yet: type a prompt", dim())).render(area, buffer);
    }
    Paragraph::new(lines).render(area, buffer);
    if let Mode::Search(text) = &face.mode {
        marked(buffer, area, &text.to_lowercase());
    }
}

/// Marks what is searched for on the screen.
fn marked(buffer: &mut Buffer, area: Rect, text: &str) {
    if text.is_empty() {
        return;
    }
    for y in area.rows().map(|row| row.y) {
        let (mut row, mut columns) = (String::new(), Vec::new());
        for x in area.left()..area.right() {
            let symbol = buffer[(x, y)].symbol().to_lowercase();
            columns.extend(std::iter::repeat_n(x, symbol.len()));
            row.push_str(&symbol);
        }
        let found: Vec<usize> = row.match_indices(text).flat_map(|(at, it)| at..at + it.len()).collect();
        for x in found.into_iter().filter_map(|at| columns.get(at)) {
            buffer[(*x, y)].set_style(Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}

/// Lines of what waits, as wide as the screen.
struct Waits {
    lines: Vec<Line<'static>>,
    width: usize,
}

impl Waits {
    fn put(&mut self, line: Line<'static>, indent: &str) {
        self.lines.extend(wrapped(&line, self.width, indent));
    }
}

/// All that waits: prompts in the queue, questions of the agent, and the newest note. The most urgent stands last. And how many of the
/// last lines tell what can be chosen.
fn waiting(face: &Face, view: &View<'_>, width: usize, is_low: bool) -> (Vec<Line<'static>>, usize) {
    let mut waits = Waits { lines: Vec::new(), width };
    let queued: Vec<_> = view.waiting().collect();
    for (id, text) in queued.iter().take(WAITING) {
        let text = render::line(begin_of(text.unwrap_or("a prompt"), SHOWN));
        let line = format!("waits: {text} ({id})");
        let line = render::short(&line, width.max(1));
        waits.put(Line::styled(line, dim()), "");
    }
    if let Some(more) = queued.len().checked_sub(WAITING).filter(|more| *more > 0) {
        waits.put(Line::styled(format!("waits: {more} more"), dim()), "");
    }
    let cyan = face.look.fg(Color::Cyan).add_modifier(Modifier::BOLD);
    // The first line of what can be chosen for the last question.
    let mut choices = None;
    for asked in view.asked().filter(|_| view.form_shown().is_none()) {
        let title = render::block(begin_of(&asked.title, SHOWN));
        waits.put(
            Line::from(vec![Span::styled("asks: ", cyan), Span::raw(title.replace(['\n', '\t'], " "))]),
            "  ",
        );
        let Some(first) = asked.first.filter(|_| view.drives) else {
            waits.put(Line::styled("  it is for the one who drives to answer", dim()), "  ");
            continue;
        };
        let options = asked.options.iter().enumerate();
        choices = Some(waits.lines.len());
        // One a line: a name could look like the next option.
        for (at, option) in options {
            let how = if at == 0 && width >= 40 { "   (number, Enter)" } else { "" };
            let mut text = format!("  {}) {}{how}", first + at, render::line(&offer(option)));
            if is_low {
                text = render::short(&text, width);
            }
            waits.put(Line::styled(text, bold()), "     ");
        }
    }
    if let Some((form, count)) = view.form_shown() {
        let more = if count > 1 { format!(" ({} more wait)", count - 1) } else { String::new() };
        let message = render::line(begin_of(form.message(), SHOWN));
        waits
            .put(Line::from(vec![Span::styled("asks: ", cyan), Span::raw(format!("{message}{more}"))]), "  ");
        for line in form.lines().into_iter().chain(form.question()) {
            waits.put(Line::from(render::block(begin_of(&line, SHOWN)).replace(['\n', '\t'], " ")), "    ");
        }
    }
    for (id, text) in view.interrupted.iter().take(WAITING) {
        let text = text.as_deref().map(|text| format!(": {}", render::line(begin_of(text, SHOWN))));
        let line = format!("{id} was interrupted{}", text.unwrap_or_default());
        let keys = if view.drives { "   (Ctrl-R)" } else { "" };
        let line = render::short(&line, width.saturating_sub(keys.len()).max(1));
        waits.put(Line::styled(line + keys, bold()), "");
    }
    if !face.scroll.follows() || view.chat.as_ref().is_some_and(|chat| chat.cut) {
        waits.put(Line::styled("the end is further down: Esc goes there", face.look.fg(Color::Yellow)), "");
    }
    if !view.notice.is_empty() {
        waits.put(Line::styled(view.notice.clone(), face.look.fg(Color::Yellow)), "  ");
    }
    let choices = choices.map_or(0, |from: usize| waits.lines.len() - from);
    (waits.lines, choices)
}

/// Keeps beginning and end of what waits: a question begins with what it is about, and ends with its options. So many of the last lines
/// go before the beginning.
fn cut(waits: &mut Vec<Line<'static>>, most: usize, last: usize) {
    let Some(kept) = most.checked_sub(1) else { return waits.clear() };
    let (first, gone) = (kept.div_ceil(2).min(kept.saturating_sub(last)), waits.len() - kept);
    let mark = Line::styled(format!("… {gone} lines are not shown: the conversation has them"), bold());
    waits.splice(first..first + gone, [mark]);
}

/// The question that stands where a prompt is typed otherwise; none while one is typed.
fn question(face: &Face, view: &View<'_>) -> Option<String> {
    Some(match &face.mode {
        Mode::Detach => "detach? The session goes on. y/n".to_owned(),
        Mode::TakeOver => "drive instead of the other client? y/n".to_owned(),
        Mode::Resolve(id) => {
            let text = view.interrupted.get(id).cloned().flatten();
            let text = text.map(|text| format!(" ({})", render::line(begin_of(&text, SHOWN))));
            format!("r sends {id} again, d gives it up{}", text.unwrap_or_default())
        }
        Mode::Search(text) => format!("search: {}_", render::line(text)),
        Mode::Write | Mode::Help(_) => {
            let bytes = face.editor.hidden()?;
            format!("{MARK}({bytes} bytes are typed; Enter sends them, Ctrl-U drops them)")
        }
    })
}

/// The prompt that is typed.
fn typing(buffer: &mut Buffer, area: Rect, face: &Face) {
    Paragraph::new(Span::styled(MARK, bold())).render(area, buffer);
    let mark = u16::try_from(MARK.width()).unwrap_or(0).min(area.width);
    let inner = Rect { x: area.x + mark, width: area.width - mark, ..area };
    if !inner.is_empty() {
        face.editor.widget().render(inner, buffer);
    }
}

/// The keys that do most now, the most needed first: as many as have room.
fn footer(face: &Face, width: usize) -> String {
    let keys: &[&str] = match face.mode {
        Mode::Write => &[
            "F1 help",
            "Ctrl-P Ctrl-Q detach",
            "Ctrl-C ends the turn",
            "Ctrl-J new line",
            "PgUp scroll",
            "Ctrl-F search",
            "Ctrl-O unfold",
        ],
        Mode::Search(_) => &["Enter, Up: older", "Down: newer", "Ctrl-U: clear", "Esc: back"],
        Mode::Detach | Mode::TakeOver => &["y, or any other key"],
        Mode::Resolve(_) => &["r, d, or any other key"],
        Mode::Help(_) => &["Up, Down: read on", "any other key goes back"],
    };
    fitting(keys, width)
}

const HELP: &str = "\
Enter             send the prompt; while a turn runs it waits in the queue
Ctrl-J Alt-Enter  new line; a text that is pasted stays one prompt
Up Down           within the prompt, then earlier prompts
number, Enter     answer a permission; a form is filled in line by line
PgUp PgDn         scroll; Shift-Up, Shift-Down by a line; Ctrl-Home, Ctrl-End
Esc               back to the end
Ctrl-F            search
Ctrl-O            show tools whole, or one line each
Ctrl-Y            copy the newest answer
Ctrl-R            send an interrupted prompt again, or give it up
Ctrl-T            drive instead of another client
Ctrl-C            end the running turn; again: detach?
Ctrl-P Ctrl-Q     detach, as Ctrl-B d, and Ctrl-D where nothing is typed
Ctrl-Z            suspend; `fg` comes back
Ctrl-L            draw anew";
