//! Arguments of the commands that name machines.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::client::far::tls::Fingerprint;
use crate::client::host::HostAddress;

/// `host`.
#[derive(Debug, Subcommand)]
pub enum Host {
    /// Name a machine
    ///
    /// Nothing is asked of the machine, and nothing is installed there. By ssh it must have kennel, and an account that `ssh` can log
    /// in to. By TLS a daemon must listen there, and `kennel host pair` gets this machine a key. The names are in hosts.toml, beside
    /// config.toml.
    #[command(
        after_help = "Examples:\n  kennel host add box ssh://ada@box.example\n  kennel host add lab ssh://lab:2222/srv/kennel --kennel /opt/kennel/bin/kennel\n  \
        kennel host add work tls://kennel.work.example --ca work-ca.pem"
    )]
    Add(HostAdd),
    /// Pair this machine with a daemon that listens, and name it
    ///
    /// `kennel pair` on the server prints a ticket: address, fingerprint and secret. This command asks for it on the terminal, without
    /// showing it, or reads it from standard input: the line `ticket`, or all that `kennel pair` prints, also where a narrow terminal
    /// has folded it, or the three values in any order. With an address, or for a machine that `kennel host add` has named, the
    /// secret is enough. It makes a key for this machine, which the server keeps a hash of, and prints what the key may do. A pairing that
    /// was refused leaves no key and no name. After an answer that was lost, run the same command again.
    #[command(after_help = "Examples:\n  kennel host pair lab\n  kennel host pair lab < ticket.txt\n  \
        kennel host pair lab tls://lab.example:7443 --fingerprint SHA256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    Pair(HostPair),
    /// List the named machines
    #[command(after_help = "Example:\n  kennel host ls")]
    Ls,
    /// Make a machine the one that commands mean; `local` is this one
    #[command(after_help = "Examples:\n  kennel host use box\n  kennel host use local")]
    Use {
        /// Its name
        name: String,
    },
    /// Forget a name, and remove the key for it; the machine and its sessions stay as they are
    ///
    /// The server goes on to take the key until `kennel key revoke` there.
    #[command(after_help = "Example:\n  kennel host rm box")]
    Rm {
        /// Its name
        name: String,
    },
}

/// `host add`.
#[derive(Debug, Args)]
pub struct HostAdd {
    /// Its name: letters, digits, `.`, `_` and `-`
    pub name: String,
    /// ssh://[user@]host[:port][/state-dir], where the host may be an alias of ssh's configuration; or tls://host[:port]
    pub address: HostAddress,
    /// By ssh: the path of kennel there; else it is looked for in PATH, ~/.cargo/bin, ~/.local/bin and /usr/local/bin
    #[arg(long, value_name = "FILE")]
    pub kennel: Option<String>,
    /// The proof by which a machine reached by TLS is known.
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// `host pair`.
#[derive(Debug, Args)]
pub struct HostPair {
    /// Its name: letters, digits, `.`, `_` and `-`
    pub name: String,
    /// tls://host[:port]; without it, the ticket tells it
    // A text until it is known to be no ticket: the command line's own errors would show it.
    pub address: Option<String>,
    /// How the server lists the key; else this machine's name
    #[arg(long, value_name = "TEXT")]
    pub device: Option<String>,
    /// The proof by which the server is known.
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// The proof by which a machine reached by TLS is known.
#[derive(Debug, Default, Args)]
pub struct TrustArgs {
    /// By TLS: the fingerprint of its certificate, as `kennel pair` prints it there
    #[arg(long, value_name = "SHA256:...", conflicts_with = "ca")]
    pub fingerprint: Option<Fingerprint>,
    /// By TLS: the PEM file of the authority that has signed its certificate; else those that this machine knows
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// By TLS: the PEM file of this machine's own certificate, for a server that asks for one
    #[arg(long, value_name = "FILE", requires = "cert_key")]
    pub cert: Option<PathBuf>,
    /// By TLS: the PEM file of its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub cert_key: Option<PathBuf>,
}

impl TrustArgs {
    /// Returns true if anything of it is typed.
    pub fn is_given(&self) -> bool {
        self.fingerprint.is_some() || self.ca.is_some() || self.cert.is_some()
    }
}
