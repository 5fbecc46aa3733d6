//! Exit of a process that is not our child. Until its parent reaps it, `/proc` has the exit; afterwards
//! `PIDFD_GET_INFO` has it (`linux/pidfd.h`; the exit status since Linux 6.15).
//!
//! This, `memory.rs` and `daemon/aloof.rs` are the files with `unsafe`: the call is an ioctl, for which no crate has a safe
//! function.
#![allow(
    unsafe_code,
    reason = "an ioctl that no crate wraps; the kernel writes into a structure of known size"
)]

use std::ffi::c_void;
use std::os::fd::BorrowedFd;

use protocol::{Exit, Identity};
use rustix::io;

use crate::system::process;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

/// `PIDFD_INFO_EXIT`.
const EXIT: u64 = 1 << 3;

/// `struct pidfd_info` in its first size, `PIDFD_INFO_SIZE_VER0`: the kernel takes the size from the number of the call,
/// and writes no more than that.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    /// pid, tgid, ppid, and the ids of users and groups.
    ids: [u32; 11],
    exit_code: i32,
}

const _: () = assert!(size_of::<Info>() == 64);

struct GetInfo(Info);

// SAFETY: the number is that of an ioctl that reads and writes a `struct pidfd_info` of this size and no other memory,
// and any bytes in it are a valid `Info`.
unsafe impl Ioctl for GetInfo {
    type Output = Info;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<Info>(0xff, 11)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, info: *mut c_void) -> io::Result<Info> {
        // SAFETY: this is the pointer of `as_ptr`.
        Ok(unsafe { *info.cast::<Info>() })
    }
}

/// Exit of a dead process, as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// The exit is known.
    Exit(Exit),
    /// Unknown at this moment: the parent is reaping the process.
    NotYet,
    /// Unknown for good: the process is reaped, and the kernel is older than 6.15.
    Never,
}

/// Reads the exit of a process whose pidfd was opened before its end.
pub fn exit_info(pidfd: BorrowedFd<'_>, identity: &Identity) -> Known {
    match process::unreaped(identity) {
        Some(status) => Known::Exit(decoded(status)),
        None => told(pidfd),
    }
}

fn told(pidfd: BorrowedFd<'_>) -> Known {
    // SAFETY: `GetInfo` says what the call does; on a descriptor that is no pidfd it is refused.
    let info = unsafe { ioctl(pidfd, GetInfo(Info { mask: EXIT, ..Info::default() })) };
    match info {
        Ok(info) if info.mask & EXIT != 0 => Known::Exit(decoded(info.exit_code)),
        Ok(_) => Known::NotYet,
        Err(_) => Known::Never,
    }
}

/// A wait status: wait(2).
fn decoded(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code((status >> 8) & 0xff),
        signal => Exit::Signal(signal),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use rustix::process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
    };

    use super::*;

    /// The kernel's version, as far as it matters.
    fn kernel() -> (u32, u32) {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(['.', '-']).map(|number| number.trim().parse().unwrap_or(0));
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    #[test]
    #[allow(clippy::zombie_processes, reason = "waited for by its pidfd")]
    fn the_end_of_a_process_is_known_before_it_is_reaped_and_after_where_the_kernel_tells_it() {
        for (script, signal, end) in
            [("read _; exit 7", None, Exit::Code(7)), ("read _", Some(Signal::TERM), Exit::Signal(15))]
        {
            let mut child =
                Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
            let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
            let start_time = process::start_time(child.id()).unwrap();
            let identity = Identity { pid: child.id(), start_time, boot_id: String::new() };
            let known = || exit_info(pidfd.as_fd(), &identity);
            assert_eq!(process::unreaped(&identity), None, "it lives");
            match signal {
                Some(signal) => pidfd_send_signal(&pidfd, signal).unwrap(),
                None => drop(child.stdin.take()),
            }
            let id = WaitId::PidFd(pidfd.as_fd());
            waitid(id.clone(), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
            assert_eq!(known(), Known::Exit(end));
            let another = Identity { start_time: start_time + 1, ..identity.clone() };
            assert_ne!(exit_info(pidfd.as_fd(), &another), Known::Exit(end), "another had its pid");
            waitid(id, WaitIdOptions::EXITED).unwrap();
            assert_eq!(known(), if kernel() >= (6, 15) { Known::Exit(end) } else { Known::Never });
        }
    }

    #[test]
    fn what_is_no_pidfd_says_nothing() {
        assert_eq!(told(std::io::stdin().as_fd()), Known::Never);
    }
}
