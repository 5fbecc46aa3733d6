//! Which system calls are refused in a sandbox: those that reach past every namespace. A filter of the kernel (seccomp(2)),
//! which stays with all that the program starts.
//!
//! - Sockets of families that no network namespace bounds: to the hypervisor (vsock(7)), for one.
//! - The kernel's news of all processes (`NETLINK_CONNECTOR`).
//! - Control group namespaces, in which root could mount the group that it is in, and change its limits (cgroup_namespaces(7)).
//!   `clone3` hides its flags from a filter: it is answered as by a kernel that has none, and programs take `clone`.
//! - Keys: a key that its owner may read is read by its number, whatever keyring it is in (keyrings(7)).
//!
//! - Rings of calls (io_uring(7)): what is asked by a ring passes every filter. They are answered as by a kernel without them.
//!
//! Where the processor's architecture is not known to the filter's maker, no sandbox can be had.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Families of sockets that stay within the namespaces.
const FAMILIES: [libc::c_int; 5] =
    [libc::AF_UNSPEC, libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// Refused whatever they are asked.
const KEYS: [libc::c_long; 3] = [libc::SYS_add_key, libc::SYS_keyctl, libc::SYS_request_key];

/// Forbids these calls to this process and its children for good.
pub fn refuse() -> io::Result<()> {
    for filter in [filter(refused(), libc::EPERM), filter(hidden(), libc::ENOSYS)] {
        seccompiler::apply_filter(&filter.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    Ok(())
}

type Rules = Result<BTreeMap<libc::c_long, Vec<SeccompRule>>, BackendError>;

fn filter(rules: Rules, errno: libc::c_int) -> Result<BpfProgram, BackendError> {
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules?, SeccompAction::Allow, answer, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// Any rule of a call refuses it; all conditions of a rule hold together.
fn refused() -> Rules {
    let argument = |index, operator, value: libc::c_int| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, u64::from(value.unsigned_abs()))
    };
    let other =
        FAMILIES.iter().map(|family| argument(0, SeccompCmpOp::Ne, *family)).collect::<Result<_, _>>()?;
    let news = vec![
        argument(0, SeccompCmpOp::Eq, libc::AF_NETLINK)?,
        argument(2, SeccompCmpOp::Eq, libc::NETLINK_CONNECTOR)?,
    ];
    let groups = u64::from(libc::CLONE_NEWCGROUP.unsigned_abs());
    let groups = || argument(0, SeccompCmpOp::MaskedEq(groups), libc::CLONE_NEWCGROUP);
    let mut rules = BTreeMap::from([
        (libc::SYS_socket, vec![SeccompRule::new(other)?, SeccompRule::new(news)?]),
        (libc::SYS_unshare, vec![SeccompRule::new(vec![groups()?])?]),
        (libc::SYS_clone, vec![SeccompRule::new(vec![groups()?])?]),
    ]);
    rules.extend(KEYS.map(|call| (call, Vec::new())));
    Ok(rules)
}

/// System calls that the filter hides: they seem not to exist.
fn hidden() -> Rules {
    let calls =
        [libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    Ok(calls.into_iter().map(|call| (call, Vec::new())).collect())
}
