//! The service manager that started this process: systemd, or a program that speaks like it. sd_notify(3) and
//! sd_watchdog_enabled(3) define the words.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The address to which a service sends its state.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The time in microseconds within which the service manager expects each sign of life.
const WATCHDOG: &str = "WATCHDOG_USEC";
/// The process of which the service manager expects signs of life.
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Variables that a service manager means for one process. kennel gives them to no program that it starts.
pub const VARIABLES: [&str; 8] = [
    SOCKET,
    WATCHDOG,
    WATCHDOG_PID,
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "LISTEN_FDS_FIRST_FD",
];

/// The way to the service manager.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notify {
    /// The service manager that `NOTIFY_SOCKET` names; none without that variable.
    ///
    /// # Errors
    /// The variable names no Unix socket, or the system gives no socket.
    pub fn from_env() -> io::Result<Option<Self>> {
        std::env::var_os(SOCKET).filter(|name| !name.is_empty()).map(|name| Self::to(&name)).transpose()
    }

    /// The service manager at this address.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn to(name: &OsStr) -> io::Result<Self> {
        // `@` stands for the zero byte with which an abstract address begins.
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::other("neither a path nor an abstract address")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    /// Sends one message: lines of `NAME=value`.
    ///
    /// # Errors
    /// `WouldBlock` while the service manager reads nothing; else the service manager is not there.
    pub fn send(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(drop)
    }
}

/// The time within which the service manager expects each sign of life of this process; none if it expects none.
pub fn watchdog() -> Option<Duration> {
    watchdog_of(&|name| std::env::var(name).ok(), std::process::id())
}

fn watchdog_of(env: &dyn Fn(&str) -> Option<String>, own: u32) -> Option<Duration> {
    let within: u64 = env(WATCHDOG)?.parse().ok()?;
    let is_meant = env(WATCHDOG_PID).is_none_or(|pid| pid.parse() == Ok(own));
    (is_meant && within > 0).then(|| Duration::from_micros(within))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_at_a_path_and_at_an_abstract_address() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("kennel-notify-{}", std::process::id());
        let hidden = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, name) in [(by_path, path.into_os_string()), (hidden, format!("@{name}").into())] {
            Notify::to(&name).unwrap().send("READY=1\n").unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1\n");
        }
        assert!(Notify::to(OsStr::new("vsock:2:1")).is_err());
        assert!(Notify::to(OsStr::new("/nobody/there")).unwrap().send("READY=1").is_err());
    }

    #[test]
    fn signs_of_life_are_given_where_they_are_asked_of_this_process() {
        let asked = |pairs: &[(&str, &str)]| {
            let env = |name: &str| Some((*pairs.iter().find(|(key, _)| *key == name)?.1).to_owned());
            watchdog_of(&env, 7)
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(asked(&[(WATCHDOG, "1000000"), (WATCHDOG_PID, "7")]), second);
        assert_eq!(asked(&[(WATCHDOG, "1000000")]), second);
        assert_eq!(asked(&[(WATCHDOG, "1000000"), (WATCHDOG_PID, "8")]), None);
        assert_eq!(asked(&[(WATCHDOG, "0"), (WATCHDOG_PID, "7")]), None);
        assert_eq!(asked(&[(WATCHDOG_PID, "7")]), None);
    }
}
