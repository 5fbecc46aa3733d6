//! Ports of this machine that stand for those of the server, for as long as the log-in runs.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

use super::forward::{Forward, Visit};
use super::shown::Named;

/// The most ports that are passed on.
const PORTS: usize = 4;
/// The most that are named because they are not passed on. A program may name thousands.
const LEFT_OUT: usize = 16;
/// Ports below are of services of the machine: nobody's log-in has them.
const FIRST: u16 = 1024;

/// The ports that a program has named.
pub struct Ports {
    visits: mpsc::Sender<Visit>,
    open: BTreeMap<u16, Open>,
    /// Those that the person was told of and that are not passed on.
    left_out: BTreeSet<u16>,
    /// Number of the last that was opened.
    count: u64,
    /// The words for the person.
    notes: Vec<String>,
}

/// A port that is passed on.
struct Open {
    /// Dropped with it.
    _forward: Forward,
    named: Named,
    is_visited: bool,
    number: u64,
}

impl Ports {
    /// None yet. What browsers ask for goes to `visits`.
    pub fn new(visits: mpsc::Sender<Visit>) -> Self {
        Self { visits, open: BTreeMap::new(), left_out: BTreeSet::new(), count: 0, notes: Vec::new() }
    }

    /// Notes that a browser has come to a port.
    pub fn visited(&mut self, port: u16) {
        if let Some(open) = self.open.get_mut(&port) {
            open.is_visited = true;
        }
    }

    /// Listens on those of the ports that may be passed on to `host`, and gives what is to be said of
    /// them, also what to do for the others.
    pub async fn open(&mut self, named: BTreeMap<u16, Named>, host: &str) -> Vec<String> {
        // A vendor sends the browser to the one in its link, so that those come first.
        let mut named: Vec<(u16, Named)> = named.into_iter().collect();
        named.sort_by_key(|(port, named)| (std::cmp::Reverse(*named), *port));
        for (port, named) in named {
            match self.open.get_mut(&port) {
                Some(open) => open.named = open.named.max(named),
                None => self.open_one(port, named, host).await,
            }
        }
        std::mem::take(&mut self.notes)
    }

    async fn open_one(&mut self, port: u16, named: Named, host: &str) {
        if port < FIRST {
            return self.leave_out(port, &format!("kennel passes on no port below {FIRST}"));
        }
        if self.open.len() >= PORTS {
            let Some(other) = self.displaced_by(named) else {
                return self.leave_out(port, &format!("{PORTS} others are passed on already"));
            };
            self.open.remove(&other);
            self.leave_out(other, "the log-in has named another one since");
        }
        match Forward::listen(port, &self.visits).await {
            Ok(forward) => {
                self.notes.push(format!(
                    "the browser here may be sent to localhost:{port}: kennel passes that on to {host}"
                ));
                self.count += 1;
                self.left_out.remove(&port);
                let open = Open { _forward: forward, named, is_visited: false, number: self.count };
                self.open.insert(port, open);
            }
            Err(error) => self.leave_out(port, &error.to_string()),
        }
    }

    /// The port that one which was named so may displace: the oldest that no browser has come to, those in a link last.
    fn displaced_by(&self, named: Named) -> Option<u16> {
        let may = self.open.iter().filter(|(_, open)| !open.is_visited && named == Named::InRedirect);
        may.min_by_key(|(_, open)| (open.named, open.number)).map(|(port, _)| *port)
    }

    /// Says once what to do for a port that is not passed on.
    fn leave_out(&mut self, port: u16, why: &str) {
        if self.left_out.len() < LEFT_OUT && self.left_out.insert(port) {
            self.notes.push(format!(
                "port {port} of this machine is not passed on ({why}): if the browser is sent there, paste here the address, \
                 http://localhost:{port}/..."
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    async fn open(ports: &mut Ports, port: u16, named: Named) {
        ports.open([(port, named)].into(), "box").await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_port_to_which_a_vendor_sends_a_browser_is_not_kept_from_it() {
        let (visits, _visitors) = mpsc::channel(1);
        let mut ports = Ports::new(visits);
        open(&mut ports, 80, Named::InRedirect).await;
        assert!(ports.open.is_empty() && ports.left_out.contains(&80));
        // A port is free until somebody takes it: the next one is asked for at once.
        let mut named = Vec::new();
        while ports.open.len() < PORTS {
            named.push(free());
            open(&mut ports, named[named.len() - 1], Named::Alone).await;
        }
        let kept: Vec<u16> = ports.open.keys().copied().collect();
        let other = free();
        open(&mut ports, other, Named::Alone).await;
        assert!(!ports.open.contains_key(&other) && ports.left_out.contains(&other));
        ports.visited(kept[0]);
        for _ in 0..8 {
            open(&mut ports, free(), Named::InRedirect).await;
        }
        assert!(ports.open.len() == PORTS && ports.open.contains_key(&kept[0]), "one was visited");
        assert_eq!(ports.open.values().filter(|open| open.named == Named::InRedirect).count(), PORTS - 1);
    }
}
