//! Addresses of the port: how they are bound, and what keeps some of them from being served.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::sockopt::{set_ip_freebind, set_ipv6_freebind};
use tokio::net::{TcpListener, TcpSocket};

use crate::system::interfaces;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// The addresses that are bound, and those that are not.
#[derive(Default)]
pub struct Bound {
    addresses: Vec<SocketAddr>,
    failed: BTreeMap<SocketAddr, String>,
}

impl Bound {
    /// A listener has this address, which was wanted as `wanted`.
    pub fn succeeded(&mut self, wanted: SocketAddr, address: SocketAddr) {
        self.failed.remove(&wanted);
        self.addresses.push(address);
    }

    /// An address cannot be had now. `again` if it is still tried.
    pub fn failed(&mut self, address: SocketAddr, error: &io::Error, again: bool) {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "another program has it".to_owned(),
            io::ErrorKind::PermissionDenied => "ports below 1024 are root's".to_owned(),
            _ => error.to_string(),
        };
        let again = if again { " (tried again for some seconds)" } else { "" };
        self.failed.insert(address, format!("cannot listen on {address}: {why}{again}"));
    }

    /// The addresses at which clients reach the port now, and what is wrong with the others.
    pub fn now(&self) -> (Vec<String>, Vec<String>) {
        let own = interfaces::addresses().ok();
        let (up, down): (Vec<&SocketAddr>, Vec<&SocketAddr>) =
            self.addresses.iter().partition(|address| is_up(address.ip(), own.as_deref()));
        let down = down.into_iter().map(|address: &SocketAddr| {
            format!(
                "no interface of this machine has {} now; {address} is served as soon as one has",
                address.ip()
            )
        });
        (
            up.into_iter().map(ToString::to_string).collect(),
            self.failed.values().cloned().chain(down).collect(),
        )
    }
}

/// Listens, also on an address that no interface has yet (ip(7), `IP_FREEBIND`): one that comes up after the daemon is served without
/// anybody looking for it.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    let freely = match address.is_ipv4() {
        true => set_ip_freebind(&socket, true),
        false => set_ipv6_freebind(&socket, true),
    };
    if let Err(error) = freely {
        tracing::debug!("an address that comes up later is not served: {error}");
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Returns true if clients can reach an address. Without a list of this machine's addresses each is taken for one.
fn is_up(ip: IpAddr, own: Option<&[IpAddr]>) -> bool {
    // All of 127.0.0.0/8 is this machine's.
    ip.is_unspecified() || ip.is_loopback() || own.is_none_or(|own| own.contains(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_not_up_is_bound_and_said_and_one_in_use_is_said_until_it_is_had() {
        let mut bound = Bound::default();
        let down: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let listener = bind(down).unwrap();
        bound.succeeded(down, listener.local_addr().unwrap());
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let taken = first.local_addr().unwrap();
        let error = bind(taken).unwrap_err();
        bound.failed(taken, &error, true);
        let (addresses, problems) = bound.now();
        assert_eq!(addresses, [""; 0]);
        assert!(problems[0].contains("another program has it (tried again"), "{problems:?}");
        assert!(problems[1].contains("no interface of this machine has 192.0.2.1"), "{problems:?}");
        drop(first);
        let listener = bind(taken).unwrap();
        bound.succeeded(taken, listener.local_addr().unwrap());
        assert_eq!(bound.now().0, [taken.to_string()]);
        assert_eq!(bound.now().1.len(), 1);
    }
}
