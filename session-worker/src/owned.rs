//! Files of this user alone: the log and the spool. Another program may have put something else in their places.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens a file to append to; makes it, with mode 0600, where it is missing. Through a link, or in a directory that others can
/// write, another program could read the session's output, or have another file overwritten.
///
/// # Errors
/// The directory or the file is a link, another user's, or others may write it; or the file is not a regular one with one name.
/// Nothing was written then.
pub fn append(path: &Path) -> io::Result<File> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags | OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    let directory = File::from(directory);
    if !is_ours_alone(&directory)? {
        let what = "its directory is another user's, or others may write there";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    // Else the opening of a pipe would wait for its other end.
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
    let file = File::from(rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o600))?);
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() != 1 || !is_ours_alone(&file)? {
        let what = "it is no file of this user's alone with one name";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    Ok(file)
}

fn is_ours_alone(file: &File) -> io::Result<bool> {
    let found = file.metadata()?;
    Ok(found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_can_have_planted_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        let real = dir.path().join("workers");
        std::fs::create_dir(&real).unwrap();
        mode(&real, 0o755);
        symlink(&victim, real.join("soft")).unwrap();
        std::fs::hard_link(&victim, real.join("hard")).unwrap();
        symlink(&real, dir.path().join("link")).unwrap();
        std::fs::write(real.join("shared"), "").unwrap();
        mode(&real.join("shared"), 0o622);
        rustix::fs::mkfifoat(rustix::fs::CWD, real.join("pipe"), Mode::from_raw_mode(0o600)).unwrap();
        for path in ["workers/soft", "workers/hard", "workers/shared", "workers/pipe", "link/new", "workers"]
        {
            assert!(append(&dir.path().join(path)).is_err(), "{path}");
        }
        for open in [0o775, 0o757, 0o1777] {
            mode(&real, open);
            let refused = append(&real.join("new")).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{open:o}");
        }
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
        assert!(!real.join("new").exists());
        mode(&real, 0o755);
        let opened = append(&real.join("new")).unwrap();
        assert_eq!(opened.metadata().unwrap().mode() & 0o777, 0o600);
    }
}
