//! Lists a directory, in pieces.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use protocol::bounds::{FILE_NAMES, FILES};
use protocol::wire::{FileEntry, FileKind, FilesAnswer};
use rustix::fs::{AtFlags, Dir, OFlags, Stat};

use super::Refused;
use super::place::{Place, kind, modified_ms, refused, size};

/// Lists at most `limit` entries, those with the least names after `after`. Keeps no more names than that in memory, however
/// many there are.
pub fn list(place: &Place, path: &[u8], after: Option<&[u8]>, limit: u32) -> Result<FilesAnswer, Refused> {
    let path = place.relative(path)?;
    let found = place.look(&path)?;
    if kind(&found) != FileKind::Directory {
        let name = path.file_name().unwrap_or(path.as_os_str()).as_bytes().to_vec();
        return Ok(FilesAnswer::Entries { entries: vec![entry(name, &found)], more: false });
    }
    let limit = usize::try_from(limit).unwrap_or(FILES).clamp(1, FILES);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
    let directory = place.open_below(&path, flags)?;
    let (first, more) = least_names(&path, &directory, after, limit)?;
    let mut entries = Vec::new();
    for name in first {
        // What has gone meanwhile is not there.
        if let Ok(stat) = rustix::fs::statat(&directory, OsStr::from_bytes(&name), AtFlags::SYMLINK_NOFOLLOW)
        {
            entries.push(entry(name, &stat));
        }
    }
    Ok(FilesAnswer::Entries { entries, more })
}

/// The least names of a directory after `after`, and whether there are more.
fn least_names(
    path: &Path,
    directory: &std::os::fd::OwnedFd,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<(BTreeSet<Vec<u8>>, bool), Refused> {
    let (mut first, mut bytes, mut more) = (BTreeSet::new(), 0, false);
    for found in Dir::read_from(directory).map_err(|error| refused(path, error))? {
        let found = found.map_err(|error| refused(path, error))?;
        let name = found.file_name().to_bytes();
        if matches!(name, b"." | b"..") || after.is_some_and(|after| name <= after) {
            continue;
        }
        bytes += name.len();
        first.insert(name.to_vec());
        while first.len() > limit || bytes > FILE_NAMES {
            bytes -= first.pop_last().map_or(0, |last| last.len());
            more = true;
        }
    }
    Ok((first, more))
}

fn entry(name: Vec<u8>, stat: &Stat) -> FileEntry {
    let (kind, size, mode) = (kind(stat), size(stat), stat.st_mode & 0o7777);
    FileEntry { name, kind, size, mode, modified_ms: modified_ms(stat) }
}
