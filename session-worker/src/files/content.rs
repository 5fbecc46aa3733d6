//! Reads a piece of a regular file.

use protocol::bounds::FILE_PIECE;
use protocol::wire::{FileKind, FilesAnswer};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Refused;
use super::place::{Place, kind, modified_ms, refused, size, wrong_kind};

/// Reads at most `length` bytes from `offset`.
pub fn read(place: &Place, path: &[u8], offset: u64, length: u32) -> Result<FilesAnswer, Refused> {
    let path = place.relative(path)?;
    let needed = "a regular file";
    // Before it is opened: to open a device can do something.
    let before = kind(&place.look(&path)?);
    if before != FileKind::File {
        return Err(wrong_kind(&path, before, needed));
    }
    // Something else may stand there by now. A pipe is not waited for.
    let file = place.open_below(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let stat = rustix::fs::fstat(&file).map_err(|error| refused(&path, error))?;
    if kind(&stat) != FileKind::File {
        return Err(wrong_kind(&path, kind(&stat), needed));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(FILE_PIECE).min(FILE_PIECE)];
    let mut filled = 0;
    // Beyond its end there is nothing, also where the kernel takes no such number.
    while filled < bytes.len() && offset <= size(&stat) {
        let at = offset.saturating_add(filled as u64);
        match rustix::io::pread(&file, &mut bytes[filled..], at) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(refused(&path, error)),
        }
    }
    bytes.truncate(filled);
    Ok(FilesAnswer::Piece { size: size(&stat), modified_ms: modified_ms(&stat), bytes })
}
