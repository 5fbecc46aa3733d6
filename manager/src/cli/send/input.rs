//! Input of `kennel send`: the prompt's text and the attached files.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, percent_encode};
use protocol::api::AttachmentRequest;

use crate::attachments::MAX_ATTACHED;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::client::RESERVED;
use crate::session_manager::MAX_PROMPT;

/// Takes the prompt's text from the command line or from standard input.
pub fn text(words: Vec<String>) -> Outcome<String> {
    let from_stdin = match &words[..] {
        [] if io::stdin().is_terminal() => {
            return Err(
                Failure::usage("the prompt is missing").hint("give it as words, or on standard input")
            );
        }
        [] => true,
        [one] => one == "-",
        _ => false,
    };
    if !from_stdin {
        return Ok(words.join(" "));
    }
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(MAX_PROMPT as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::failed("input", format!("cannot read standard input: {error}")))?;
    if bytes.len() > MAX_PROMPT {
        let what = format!("the prompt has more than {MAX_PROMPT} bytes; it was not sent");
        return Err(Failure::new(exit::USAGE, "prompt_too_large", what)
            .hint("put long input into a file and name the file in the prompt"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(
            exit::USAGE,
            "invalid_utf8",
            format!("the prompt is not UTF-8 (byte {at}); it was not sent"),
        )
    })
}

/// Reads a file that the prompt attaches.
pub(super) fn attachment(path: &Path) -> Outcome<AttachmentRequest> {
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
