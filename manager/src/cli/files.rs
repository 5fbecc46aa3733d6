//! `files`: a session's working directory, as the session's agent sees it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::SessionId;
use protocol::api::{FileContent, FileDiff, FileInfo, FileList};
use protocol::wire::FileKind;

use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::render;
use crate::cli::ui::table::{Cell, Table};
use crate::client::{Request, encoded};
use crate::units::{size, time};

/// The most bytes of a file that a terminal gets unless `--length` says more.
const ON_TERMINAL: u64 = 256 * 1024;
/// The most bytes of a file that a terminal gets: they are put together before they are shown.
const MOST_ON_TERMINAL: u64 = 16 * 1024 * 1024;

/// `files`.
pub async fn files(link: &Link<'_>, args: args::Files) -> Outcome {
    match args {
        args::Files::Ls(args) => ls(link, &args).await,
        args::Files::Cat(args) => cat(link, &args).await,
        args::Files::Diff(args) => diff(link, &args).await,
    }
}

async fn ls(link: &Link<'_>, args: &args::FilesLs) -> Outcome {
    let path = args.path.as_deref().unwrap_or_default();
    let after = args.after.as_deref().map(|after| parameter("after", after));
    let query: Vec<String> = [parameter("path", path)].into_iter().chain(after).collect();
    let request = |id: &SessionId| Request::get(format!("/v1/sessions/{id}/files?{}", query.join("&")));
    let (id, answer) = link.about(&args.id, request).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let list: FileList = read(&answer)?;
    let mut table = Table::new(&["MODE", "SIZE", "CHANGED", "NAME"]);
    for entry in &list.entries {
        let FileInfo { name, name_base64, kind, size: bytes, mode, modified_at } = entry;
        let (sign, end, style) = match kind {
            FileKind::File => ('-', "", None),
            FileKind::Directory => ('d', "/", Some(render::CYAN)),
            FileKind::Symlink => ('l', "@", Some(render::DIM)),
            FileKind::Special => ('?', "|", Some(render::YELLOW)),
        };
        let name = shown(name, name_base64.as_deref()) + end;
        table.row(vec![
            format!("{sign}{}", permissions(*mode)).into(),
            size(*bytes).into(),
            time(*modified_at).into(),
            style.map_or(Cell::from(name.clone()), |style| Cell::styled(&name, style)),
        ]);
    }
    link.ui.print(&table.text(link.ui.out_colour, link.ui.columns))?;
    if let Some(last) = list.entries.last().filter(|_| list.more) {
        let name = shown(&last.name, last.name_base64.as_deref());
        link.ui.note(&format!("there are more: `kennel files ls {id} ... --after '{name}'` goes on"));
    }
    Ok(())
}

async fn cat(link: &Link<'_>, args: &args::FilesCat) -> Outcome {
    let path = parameter("path", &args.path);
    let id = link.find(&args.id).await?;
    let as_text = link.ui.out_is_terminal && !args.raw;
    let most = match args.length {
        Some(length) if as_text => length.min(MOST_ON_TERMINAL),
        None if as_text => ON_TERMINAL,
        length => length.unwrap_or(u64::MAX),
    };
    let (mut at, mut end, mut text) = (args.offset, None, Vec::new());
    let left = loop {
        let length = end.map_or(most, |end: u64| end.saturating_sub(at)).min(ON_TERMINAL);
        let request = format!("/v1/sessions/{id}/files/content?{path}&offset={at}&length={length}");
        let answer = link.ask(Request::get(request)).await?;
        if link.ui.json {
            return link.ui.object(&answer);
        }
        let piece: FileContent = read(&answer)?;
        // As long as it was at first: an agent may write it without an end.
        let end = *end.get_or_insert(args.offset.saturating_add(most).min(piece.size));
        if piece.binary && as_text {
            let what = format!("it is no text ({}); nothing of it was shown", size(piece.size));
            return Err(
                Failure::failed("binary_file", what).hint("write it to a file or pipe, or give --raw")
            );
        }
        let bytes = bytes_of(&piece)?;
        at = at.saturating_add(bytes.len() as u64);
        let is_over = bytes.is_empty() || at >= end;
        match as_text {
            true => text.extend(bytes),
            false => link.ui.bytes(&bytes)?,
        }
        if is_over {
            break piece.size.saturating_sub(at);
        }
    };
    if as_text {
        link.ui.print(&render::block(&String::from_utf8_lossy(&text)))?;
        if left > 0 {
            link.ui.note(&format!("{} more: give --offset {at}, --length, or a pipe", size(left)));
        }
    }
    Ok(())
}

async fn diff(link: &Link<'_>, args: &args::FilesDiff) -> Outcome {
    let path = args.path.as_deref().unwrap_or_default();
    let Some(path) = path.to_str() else {
        return Err(Failure::usage("a path that is not UTF-8 cannot be compared")
            .hint("compare the directory that it is in"));
    };
    let query = format!("path={}&diff={}", encoded(path), !args.stat);
    let request = |id: &SessionId| Request::get(format!("/v1/sessions/{id}/files/diff?{query}"));
    let (_, answer) = link.about(&args.id, request).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let found: FileDiff = read(&answer)?;
    if found.files.is_empty() && !found.more {
        let short = found.commit.chars().take(12).collect::<String>();
        link.ui.note(&format!("nothing has changed since {}", render::line(&short)));
        return Ok(());
    }
    if args.stat {
        let mut table = Table::new(&["ADDED", "REMOVED", "FILE"]);
        for file in &found.files {
            let lines = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
            let path = shown(&file.path, file.path_base64.as_deref());
            table.row(vec![lines(file.added).into(), lines(file.removed).into(), path.into()]);
        }
        link.ui.print(&table.text(link.ui.out_colour, link.ui.columns))?;
    } else if link.ui.out_is_terminal {
        link.ui.print(&painted(&found.diff, link.ui.out_colour))?;
    } else {
        link.ui.bytes(found.diff.as_bytes())?;
    }
    if found.more {
        link.ui.note("not all changes are here: give a directory or file, to see the rest of it");
    }
    if found.cut {
        link.ui.note("the differences are cut at 512 KiB: --stat lists the files; give one of them");
    }
    Ok(())
}

/// The differences for a terminal, each line in its colour.
fn painted(diff: &str, colour: bool) -> String {
    let lines = diff.split_inclusive('\n').map(|line| {
        let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
        let style = match text.as_bytes() {
            [b'+', ..] if !text.starts_with("+++ ") => Some(render::GREEN),
            [b'-', ..] if !text.starts_with("--- ") => Some(render::RED),
            [b'@', b'@', ..] => Some(render::CYAN),
            [b' ', ..] => None,
            _ => Some(render::BOLD),
        };
        let text = render::block(text);
        style.map_or(text.clone(), |style| render::paint(&text, style, colour)) + end
    });
    lines.collect()
}

/// A query parameter for a path or name: as text, or in base64 where it is not UTF-8.
fn parameter(name: &str, path: &OsStr) -> String {
    match path.to_str() {
        Some(text) => format!("{name}={}", encoded(text)),
        None => format!("{name}_base64={}", encoded(&STANDARD.encode(path.as_bytes()))),
    }
}

fn bytes_of(piece: &FileContent) -> Outcome<Vec<u8>> {
    match (&piece.text, &piece.base64) {
        (Some(text), _) => Ok(text.clone().into_bytes()),
        (None, Some(base64)) => STANDARD
            .decode(base64)
            .map_err(|error| Failure::failed("json", format!("the daemon's answer is no base64: {error}"))),
        (None, None) => Ok(Vec::new()),
    }
}

/// A name as a person can read and tell it: what is not text, and what could control a terminal, as escapes.
fn shown(name: &str, base64: Option<&str>) -> String {
    let bytes = base64.and_then(|base64| STANDARD.decode(base64).ok());
    let bytes = bytes.unwrap_or_else(|| name.as_bytes().to_vec());
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c.is_control() {
                true => out.extend(c.escape_default()),
                false => out.push(c),
            }
        }
        out.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    render::line(&out)
}

/// Permission bits as `ls` shows them.
fn permissions(mode: u32) -> String {
    let sign = |bit: u32, letter: char| if mode & bit != 0 { letter } else { '-' };
    let execute = |bit: u32, special: u32, letter: char| match (mode & bit != 0, mode & special != 0) {
        (true, true) => letter,
        (false, true) => letter.to_ascii_uppercase(),
        (executable, false) => {
            if executable {
                'x'
            } else {
                '-'
            }
        }
    };
    [
        sign(0o400, 'r'),
        sign(0o200, 'w'),
        execute(0o100, 0o4000, 's'),
        sign(0o040, 'r'),
        sign(0o020, 'w'),
        execute(0o010, 0o2000, 's'),
        sign(0o004, 'r'),
        sign(0o002, 'w'),
        execute(0o001, 0o1000, 't'),
    ]
    .into_iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_control_no_terminal() {
        for (bytes, expected) in [
            (&b"plain.rs"[..], "plain.rs"),
            (b"a\x1b[2J\nb", "a\\u{1b}[2J\\nb"),
            (b"caf\xe9", "caf\\xe9"),
            ("\u{202e}txt.exe".as_bytes(), "\\u{202e}txt.exe"),
        ] {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let base64 = std::str::from_utf8(bytes).is_err().then(|| STANDARD.encode(bytes));
            assert_eq!(shown(&text, base64.as_deref()), expected);
        }
    }

    #[test]
    fn permission_bits_are_shown_as_ls_shows_them() {
        for (mode, expected) in [
            (0o644, "rw-r--r--"),
            (0o755, "rwxr-xr-x"),
            (0o4755, "rwsr-xr-x"),
            (0o1777, "rwxrwxrwt"),
            (0o2040, "---r-S---"),
        ] {
            assert_eq!(permissions(mode), expected);
        }
    }

    #[test]
    fn a_difference_controls_no_terminal() {
        let shown = painted("diff --git a/x b/x\n@@ -1 +1 @@\n-old\r\n+\u{1b}]0;evil\u{7}\n same\n", true);
        assert!(
            !shown.contains("\u{1b}]") && !shown.contains('\u{7}') && shown.contains("same\n"),
            "{shown:?}"
        );
        assert!(!painted("+\u{1b}[31m\n", false).contains('\u{1b}'));
    }
}
