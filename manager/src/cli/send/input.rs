//! Input of `kennel send` and `run`: the prompt's text and the attached files.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, percent_encode};
use protocol::api::AttachmentRequest;

use crate::attachments::MAX_ATTACHED;
use crate::cli::link::Link;
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::client::RESERVED;
use crate::session_manager::MAX_PROMPT;

/// Takes the text of a prompt and its files.
pub(super) fn content(
    link: &Link<'_>,
    words: Vec<String>,
    files: &[PathBuf],
) -> Outcome<(String, Vec<AttachmentRequest>)> {
    // A picture needs no text.
    let silent = words.is_empty() && !files.is_empty() && io::stdin().is_terminal();
    let text = if silent { String::new() } else { text(link.ui, words)? };
    Ok((text, files.iter().map(|path| attachment(path)).collect::<Outcome<_>>()?))
}

/// The time after which kennel says that it waits for standard input.
const PATIENCE: Duration = Duration::from_secs(1);

/// Takes the prompt's text: the words of the command line, and below them what standard input has, unless it is a terminal.
/// A single `-` reads standard input wherever it comes from.
pub fn text(ui: &Ui, words: Vec<String>) -> Outcome<String> {
    let typed = if words == ["-"] { String::new() } else { words.join(" ") };
    if io::stdin().is_terminal() && words != ["-"] {
        return match words.is_empty() {
            true => {
                Err(Failure::usage("the prompt is missing").hint("give it as words, or on standard input"))
            }
            false => Ok(typed),
        };
    }
    let piped = piped(ui, words.is_empty() || typed.is_empty())?;
    let text = match (typed.is_empty(), piped.is_empty()) {
        (true, _) => piped,
        (false, true) => typed,
        (false, false) => format!("{typed}\n{piped}"),
    };
    if text.len() > MAX_PROMPT { Err(too_large()) } else { Ok(text) }
}

/// Reads standard input to its end. Somebody may have left it open by mistake, so kennel says what it waits for.
fn piped(ui: &Ui, is_all: bool) -> Outcome<String> {
    let (done, waits) = mpsc::channel::<()>();
    let note = ui.notes();
    thread::spawn(move || {
        if waits.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            note(match is_all {
                true => "waiting for the end of standard input, which is the prompt",
                false => {
                    "waiting for the end of standard input, which is added to the prompt; `< /dev/null` sends the words alone"
                }
            });
        }
    });
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(MAX_PROMPT as u64 + 1).read_to_end(&mut bytes);
    drop(done);
    read.map_err(|error| {
        let what = format!("cannot read standard input: {error}; nothing was sent");
        Failure::failed("input", what).hint("`< /dev/null` sends the words alone")
    })?;
    if bytes.len() > MAX_PROMPT {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let what = format!("standard input is not UTF-8 (byte {at}); nothing was sent");
        Failure::new(exit::USAGE, "invalid_utf8", what)
    })
}

fn too_large() -> Failure {
    let what = format!("the prompt has more than {MAX_PROMPT} bytes; it was not sent");
    Failure::new(exit::USAGE, "prompt_too_large", what)
        .hint("put long input into a file and name the file in the prompt")
}

/// Reads a file that the prompt attaches.
fn attachment(path: &Path) -> Outcome<AttachmentRequest> {
    let failed = |error: io::Error| {
        let what = format!("cannot read {}: {error}; nothing was sent", path.display());
        Failure::new(exit::USAGE, "unreadable_file", what)
    };
    let too_large = || {
        let what = format!(
            "{} has more than {MAX_ATTACHED} bytes, which is what all attachments may have; nothing was sent",
            path.display()
        );
        Failure::new(exit::USAGE, "attachments_too_large", what)
            .hint("put it where the agent can read it, and name it in the prompt")
    };
    // A device may never end: reads one byte more than the limit at most.
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_ATTACHED as u64 + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() > MAX_ATTACHED {
        return Err(too_large());
    }
    let absolute = std::path::absolute(path).map_err(failed)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let (text, data) = match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => (Some(text), None),
        Ok(text) => (None, Some(STANDARD.encode(text))),
        Err(error) => (None, Some(STANDARD.encode(error.into_bytes()))),
    };
    Ok(AttachmentRequest {
        name: name.replace(char::is_control, "_"),
        mime_type: None,
        uri: Some(file_uri(&absolute)),
        text,
        data,
    })
}

/// Writes an absolute path as a `file:` URI (RFC 8089).
pub(super) fn file_uri(path: &Path) -> String {
    const IN_PATHS: &AsciiSet = &RESERVED.remove(b'/');
    format!("file://{}", percent_encode(path.as_os_str().as_bytes(), IN_PATHS))
}
