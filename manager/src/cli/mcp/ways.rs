//! The ways in and out of `kennel mcp`: standard input and output, and the session's token.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use protocol::SessionId;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::oneshot;

use crate::cli::lines;
use crate::cli::ui::error::{Failure, Outcome};
use crate::workers::tokens::TOKEN_FILE;

/// The largest token file, in bytes.
pub(super) const MAX_TOKEN: u64 = 1024;
/// The longest line that is read, in bytes. A task has at most 1 MiB, in JSON up to six times that.
pub(super) const MAX_LINE: usize = 8 * 1024 * 1024;
/// The number of lines that may wait between two threads.
pub(super) const AHEAD: usize = 4;
/// The capacity of a pipe within this process, in bytes.
pub(super) const PIPE: usize = 64 * 1024;

/// Returns standard input and output as pipes within this process, with bounded and readable lines. The
/// receiver fires once everything is written, after the pipes are closed.
pub(super) fn stdio() -> ((DuplexStream, DuplexStream), oneshot::Receiver<()>) {
    let (outgoing, written) = lines::to_stdout(AHEAD, |_| {});
    let mut incoming = lines::from_stdin(MAX_LINE, AHEAD, &outgoing);
    let (theirs, mut input) = tokio::io::duplex(PIPE);
    let (output, ours) = tokio::io::duplex(PIPE);
    tokio::spawn(async move {
        while let Some(Ok(mut line)) = incoming.recv().await {
            line.push('\n');
            if input.write_all(line.as_bytes()).await.is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        let mut lines = BufReader::new(ours).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if outgoing.send(line).await.is_err() {
                break;
            }
        }
    });
    ((theirs, output), written)
}

/// The session's id, and `ID:TOKEN` as the API takes it.
pub(super) fn credentials() -> Outcome<(SessionId, String)> {
    let usage = |what: String| {
        Failure::usage(what)
            .hint("kennel gives this server to its agents by itself; people use `kennel subagent`")
    };
    let path = std::env::var_os(TOKEN_FILE)
        .map(PathBuf::from)
        .ok_or_else(|| usage(format!("{TOKEN_FILE} does not say where the session's token is")))?;
    let text = secret(&path).map_err(|why| usage(format!("{TOKEN_FILE}, {}: {why}", path.display())))?;
    let id = text.split_once(':').and_then(|(id, _)| id.parse().ok());
    let id = id.ok_or_else(|| usage(format!("{}: there is no ID:TOKEN in it", path.display())))?;
    Ok((id, text))
}

/// Reads a file that no other user can read. `/dev/fd/N` names an inherited descriptor.
pub(super) fn secret(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if found.is_file() && found.mode() & 0o077 != 0 {
        return Err("others can read it; its mode must be 0600".into());
    }
    let mut text = String::new();
    file.take(MAX_TOKEN).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text.trim().to_owned())
}
