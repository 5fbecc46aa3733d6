//! QR codes, two modules a character.

use anstyle::{AnsiColor, Style};
use qrcode::{Color, EcLevel, QrCode};

use super::error::Outcome;
use super::{Ui, render};

/// Light modules around a code, which scanners need.
const QUIET: usize = 2;

/// Prints the QR code of a text above these lines, where all of it fits on the terminal with so many lines below, or
/// `always`.
pub fn above(ui: &Ui, text: &str, lines: &[String], below: usize, always: bool) -> Outcome {
    let code = code(text, ui.out_colour);
    let (width, height) = (modules(text), code.lines().count());
    let folded =
        |columns: usize| lines.iter().map(|line| line.chars().count().div_ceil(columns)).sum::<usize>();
    let fits = ui.columns.is_none_or(|columns| {
        width <= columns && ui.rows.is_none_or(|rows| height + folded(columns) + below <= rows)
    });
    if always || fits {
        return ui.print(&code);
    }
    ui.note(&format!(
        "its QR code is left out: with the text it needs {width} columns and {} lines; `--qr` prints it all the same",
        height + folded(width.max(ui.columns.unwrap_or(width))) + below
    ));
    Ok(())
}

fn qr_code(text: &str) -> Option<QrCode> {
    QrCode::with_error_correction_level(text, EcLevel::L).ok()
}

/// The width of a text's QR code, in columns.
fn modules(text: &str) -> usize {
    qr_code(text).map_or(0, |code| code.width() + 2 * QUIET)
}

/// A text as a QR code, two modules a character; nothing if it is too long.
fn code(text: &str, colour: bool) -> String {
    let Some(code) = qr_code(text) else { return String::new() };
    let width = code.width();
    let is_dark = |x: usize, y: usize| {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < width);
        inside(x).zip(inside(y)).is_some_and(|at| code[at] == Color::Dark)
    };
    // Dark on light is what every scanner reads. Without colours the terminal is taken for a dark one.
    let style =
        Style::new().fg_color(Some(AnsiColor::Black.into())).bg_color(Some(AnsiColor::BrightWhite.into()));
    let size = width + 2 * QUIET;
    let mut out = String::new();
    for y in (0..size).step_by(2) {
        let line: String = (0..size)
            .map(|x| match (is_dark(x, y) == colour, (is_dark(x, y + 1)) == colour) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            })
            .collect();
        out += &render::paint(&line, style, colour);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_a_square_with_light_around_it() {
        let ticket =
            format!("tls://box.example:7443 SHA256:{} 7K3M-9QXT-ABCD-EFGH", "0123456789abcdef".repeat(4));
        let plain = code(&ticket, false);
        let lines: Vec<&str> = plain.lines().collect();
        let columns = lines[0].chars().count();
        assert_eq!(columns, modules(&ticket));
        assert!(columns <= 80 && lines.len() == columns.div_ceil(2), "{columns} x {}", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() == columns), "{plain}");
        // Light is drawn where the terminal is taken for a dark one.
        assert!(lines[0].chars().all(|module| module == '█'), "{plain}");
        assert!(lines.iter().all(|line| line.starts_with("█") || line.starts_with("▀")), "{plain}");
        // The corner of the first finder: seven dark modules after the quiet zone.
        let corner: String = lines[1].chars().take(QUIET + 8).collect();
        assert_eq!(corner, "██ ▄▄▄▄▄ █", "{plain}");
        assert!(code(&ticket, true).contains('\u{1b}'));
    }
}
