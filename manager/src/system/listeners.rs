//! Ports on which the processes below one process listen: proc_pid_net(5) and the descriptors of each process.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::system::process;

/// The state of a socket that listens, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// A socket that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listener {
    ip: IpAddr,
    port: u16,
    inode: u64,
}

/// The loopback address at which a process below `pid` listens on this port; none if no process below does, or if one that is not
/// below may be the one that answers there.
pub fn below(pid: u32, port: u16) -> Option<IpAddr> {
    let all: Vec<Listener> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listeners(&table).filter(|it| it.port == port).collect::<Vec<_>>())
        .collect();
    if all.is_empty() {
        return None;
    }
    let own = sockets_below(pid);
    let loopbacks = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    loopbacks.into_iter().find(|at| {
        let mut answering = all.iter().filter(|it| answers(it.ip, *at)).peekable();
        answering.peek().is_some() && answering.all(|it| own.contains(&it.inode))
    })
}

/// Returns true if a socket that is bound to `bound` may answer at `at`.
fn answers(bound: IpAddr, at: IpAddr) -> bool {
    match (bound, at) {
        (IpAddr::V6(bound), IpAddr::V4(at)) => {
            // One that is bound to all addresses takes IPv4, too, unless it says otherwise.
            bound.is_unspecified()
                || bound.to_ipv4_mapped().is_some_and(|bound| bound == at || bound.is_unspecified())
        }
        (bound, at) => bound == at || bound.is_ipv4() == at.is_ipv4() && bound.is_unspecified(),
    }
}

/// The listeners of a table.
fn listeners(table: &str) -> impl Iterator<Item = Listener> {
    table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (ip, port) = address.split_once(':')?;
        let (port, inode) = (u16::from_str_radix(port, 16).ok()?, inode.parse().ok()?);
        (*state == LISTENS).then_some(Listener { ip: address_of(ip)?, port, inode })
    })
}

/// An address as the kernel writes it: words of 32 bits, each in the byte order of the machine.
fn address_of(hex: &str) -> Option<IpAddr> {
    let words: Option<Vec<[u8; 4]>> = (0..hex.len())
        .step_by(8)
        .map(|at| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect();
    match words?.as_slice() {
        [word] => Some(IpAddr::from(*word)),
        words => Some(IpAddr::from(<[u8; 16]>::try_from(words.concat()).ok()?)),
    }
}

/// Inodes of the sockets that processes below `pid` hold.
fn sockets_below(pid: u32) -> HashSet<u64> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let below = pids.filter(|it| process::ancestors(*it).any(|ancestor| ancestor == pid));
    let descriptors = |pid| fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let inode = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    below.flat_map(descriptors).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_belongs_to_whoever_listens_below() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let parent = process::parent(std::process::id()).unwrap();
        assert_eq!(below(parent, port), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        // This process is not below itself.
        assert_eq!(below(std::process::id(), port), None);
        drop(listener);
        assert_eq!(below(parent, port), None);
    }

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:05AF 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0\n   \
            1: 00000000:05AF 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 100 0 0 10 0\n   \
            2: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 1000 0 9 1\n   \
            3: zz:zz\n";
        let found: Vec<Listener> = listeners(table).collect();
        if cfg!(target_endian = "little") {
            let v4 = Listener { ip: "127.0.0.1".parse().unwrap(), port: 1455, inode: 4711 };
            let v6 = Listener { ip: "::1".parse().unwrap(), port: 8080, inode: 9 };
            assert_eq!(found, [v4, v6]);
        }
    }

    #[test]
    fn a_socket_for_all_addresses_answers_at_each() {
        let answers = |bound: &str, at: &str| answers(bound.parse().unwrap(), at.parse().unwrap());
        assert!(
            answers("127.0.0.1", "127.0.0.1")
                && answers("0.0.0.0", "127.0.0.1")
                && answers("::", "127.0.0.1")
        );
        assert!(answers("::ffff:127.0.0.1", "127.0.0.1") && answers("::", "::1") && answers("::1", "::1"));
        assert!(
            !answers("127.0.0.2", "127.0.0.1") && !answers("::1", "127.0.0.1") && !answers("0.0.0.0", "::1")
        );
    }
}
