//! Arguments of the commands that let devices in.

use std::time::Duration;

use clap::{Args, Subcommand};
use protocol::KeyId;
use protocol::api::KeyRole;

use super::values::{label, lifetime, words};

/// `key`.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// List the keys, and when and from where each was last used
    #[command(after_help = "Example:\n  kennel key ls")]
    Ls,
    /// Make a key and print it, a secret
    ///
    /// The daemon keeps a hash of the key only: it is printed once. A program sends it as `Authorization: Bearer KEY`. For a
    /// device, `kennel pair` is the better way: its key never leaves it.
    #[command(
        after_help = "Examples:\n  kennel key create ci --own --expires 30d\n  kennel key create dashboard --role viewer\n  \
        kennel key create helper --session session-1 --session session-2\n  kennel key create team-web --label team=web"
    )]
    Create(KeyCreate),
    /// Revoke keys; what they have open ends within a second
    #[command(after_help = "Example:\n  kennel key revoke key-1")]
    Revoke {
        /// The keys
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<KeyId>,
    },
    /// Give a key a new secret and print it; the old one lets nobody in any more
    #[command(after_help = "Example:\n  kennel key rotate key-1")]
    Rotate {
        /// The key
        #[arg(value_name = "KEY")]
        key: KeyId,
    },
}

/// `key create`.
#[derive(Debug, Args)]
pub struct KeyCreate {
    /// A name for people
    pub name: String,
    /// The key's rights.
    #[command(flatten)]
    pub rights: Rights,
}

/// `pair`.
#[derive(Debug, Args)]
pub struct Pair {
    /// A name for the device; else the device says it
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The rights of the device's key.
    #[command(flatten)]
    pub rights: Rights,
    /// The name and port by which devices reach this machine; else the addresses of its network interfaces
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub address: Option<String>,
    /// Print the secret and return; it stays good for ten minutes
    #[arg(long)]
    pub no_wait: bool,
    /// Print the QR code also where it does not fit, or where there is no terminal
    #[arg(long)]
    pub qr: bool,
}

/// `web`.
#[derive(Debug, Args)]
pub struct Web {
    /// A name for the browser's key; else the browser's name for itself
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The rights of the browser's key.
    #[command(flatten)]
    pub rights: Rights,
    /// Print the link, and open no browser
    #[arg(long)]
    pub print: bool,
    /// Print a link and a QR code for a browser of another machine, which comes by the TLS port
    #[arg(long)]
    pub phone: bool,
    /// With --phone: the name and port by which it reaches this machine; else the addresses of its network interfaces
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port, requires = "phone")]
    pub address: Option<String>,
    /// With --phone: print the QR code also where it does not fit, or where there is no terminal
    #[arg(long, requires = "phone")]
    pub qr: bool,
    /// Close the page's port on this machine, and forget its address; keys of browsers stay
    #[arg(long, conflicts_with_all = ["name", "role", "session", "labels", "own", "expires", "print", "phone"])]
    pub stop: bool,
}

/// The rights of a key.
#[derive(Debug, Args)]
pub struct Rights {
    /// admin (everything, keys included), driver (start and drive sessions), or viewer (read)
    #[arg(long, default_value = "driver", hide_default_value = true, hide_possible_values = true, value_parser = words::<KeyRole>(&["admin", "driver", "viewer"]))]
    pub role: KeyRole,
    /// Only this session and those below it; may be given several times
    #[arg(long, value_name = "ID", conflicts_with = "own")]
    pub session: Vec<String>,
    /// Only sessions with this label, as long as they have it, and those below them; may be given several times
    #[arg(long = "label", value_name = "LABEL=VALUE", conflicts_with_all = ["own", "session"], value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Only sessions that were started with the key, and those below them
    #[arg(long)]
    pub own: bool,
    /// Time after which it lets nobody in, such as 30d; else never, or for a browser 30 days
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    pub expires: Option<Duration>,
}

/// `HOST:PORT`, also with `tls://` before it.
fn host_and_port(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("tls://").unwrap_or(text);
    let is_host = |host: &str| {
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match inner {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
                plain && !host.is_empty() && host.len() <= 253 && !host.starts_with('-')
            }
        }
    };
    let port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    match address.rsplit_once(':') {
        Some((host, number)) if is_host(host) && port(number) => Ok(address.to_owned()),
        _ => Err("write it as HOST:PORT, such as box.example:7443 or [2001:db8::1]:7443".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["box:7443", "box.example:1", "192.0.2.7:65535", "[2001:db8::1]:7443"] {
            assert_eq!(host_and_port(good).as_deref(), Ok(good));
            assert_eq!(host_and_port(&format!("tls://{good}")).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "box",
            "box:",
            ":7443",
            "box:0",
            "box:65536",
            "-x:1",
            "a b:1",
            "2001:db8::1:7443",
            "x\u{1b}:1",
            "[x]:1",
            "https://x:1",
        ] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }
}
