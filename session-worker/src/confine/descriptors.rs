//! The choice of descriptors that a process keeps.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;

use rustix::fs::{Mode, OFlags, RawDir};

/// Closes all descriptors but 0, 1, 2 and those that are `kept`.
pub fn close_all_but(kept: &[i32]) -> io::Result<()> {
    // Not by std, whose listing takes a buffer of 32 KiB that every worker would keep.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut listing = RawDir::new(&directory, &mut buffer);
    let mut open: Vec<i32> = Vec::new();
    while let Some(entry) = listing.next() {
        open.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
    }
    drop(directory);
    for fd in open.into_iter().filter(|fd| *fd > 2 && !kept.contains(fd)) {
        // The listing's own is among them, and closed already.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}

/// Points 0, 1 and 2 at nothing.
pub fn no_standard_streams() -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    Ok(rustix::stdio::dup2_stderr(&nothing)?)
}
