//! `hosts.toml`: the names of other machines.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::client::far::ssh::SshOptions;
use crate::client::far::tls::{Fingerprint, TlsOptions, Trust};
use crate::client::far::{FarOptions, Way};
use crate::client::host::{HostAddress, Scheme, TLS_PORT};
use crate::plain;

/// The name of this machine.
pub const LOCAL: &str = "local";
/// The longest file that is read, in bytes.
const MAX: u64 = 1024 * 1024;
/// The longest name.
const MAX_NAME: usize = 64;

/// The file's content.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    /// The machine that commands mean; none: this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Other machines by name.
    #[serde(default)]
    pub hosts: BTreeMap<String, Entry>,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where it is.
    #[serde(with = "as_text")]
    pub address: HostAddress,
    /// By ssh: the path of kennel there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kennel: Option<String>,
    /// By TLS: what its certificate is known by. Without one, an authority must have signed it.
    #[serde(default, with = "as_text_if_any", skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// By TLS: the file of the authority; none: those that this machine knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// By TLS: the file of this machine's own certificate, for a server that asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// By TLS: the file of its private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_key: Option<PathBuf>,
}

impl Entry {
    /// A machine of which nothing but the address is known.
    pub fn at(address: HostAddress) -> Self {
        Self { address, kennel: None, fingerprint: None, ca: None, cert: None, cert_key: None }
    }

    /// How it is reached. `key` is the file of this machine's key there.
    pub fn options(&self, name: &str, key: Option<PathBuf>) -> FarOptions {
        let address = self.address.clone();
        let way = match address.scheme {
            Scheme::Ssh => {
                // Without its own path `ssh` still ends with its input.
                let below = std::env::current_exe().ok();
                Way::Ssh(SshOptions { address, kennel: self.kennel.clone(), below })
            }
            Scheme::Tls => {
                let port = address.port.unwrap_or(TLS_PORT);
                let own = self.cert.clone().zip(self.cert_key.clone());
                Way::Tls(TlsOptions { host: address.host, port, trust: self.trust(), key, own })
            }
        };
        FarOptions { name: name.to_owned(), way, within: None }
    }

    fn trust(&self) -> Trust {
        match (self.fingerprint, &self.ca) {
            (Some(pin), _) => Trust::Pin(pin),
            (None, Some(file)) => Trust::Authority(file.clone()),
            (None, None) => Trust::System,
        }
    }
}

mod as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::client::host::HostAddress;

    pub fn serialize<S: Serializer>(address: &HostAddress, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(address)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<HostAddress, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

mod as_text_if_any {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::client::far::tls::Fingerprint;

    pub fn serialize<S: Serializer>(fingerprint: &Option<Fingerprint>, to: S) -> Result<S::Ok, S::Error> {
        match fingerprint {
            Some(fingerprint) => to.collect_str(fingerprint),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Fingerprint>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// Returns whether a text can be a machine's name.
pub fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.len() <= MAX_NAME
        && text.bytes().all(fits)
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

/// Where the file is.
pub fn path() -> Outcome<PathBuf> {
    crate::daemon::hosts().map_err(|error| Failure::failed("paths", error.to_string()))
}

/// Reads the file; a missing one has no names.
pub fn read(path: &Path) -> Outcome<Hosts> {
    let wrong = |what: String| {
        Failure::new(exit::USAGE, "invalid_hosts", format!("{}: {what}", path.display()))
            .hint("mend the file, or remove it and name the machines anew with `kennel host add`")
    };
    let text = match fs::metadata(path) {
        Ok(found) if found.len() > MAX => return Err(wrong(format!("it has more than {MAX} bytes"))),
        Ok(_) => fs::read_to_string(path),
        Err(error) => Err(error),
    };
    let text = match text {
        Ok(text) => text,
        // Below what is no directory there is no file either.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Hosts::default());
        }
        Err(error) => return Err(wrong(error.to_string())),
    };
    let hosts: Hosts = toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        wrong(format!("line {line}: {}", plain::said(error.message())))
    })?;
    match hosts.hosts.keys().find(|name| !is_name(name) || *name == LOCAL) {
        Some(name) => Err(wrong(format!("`{name}` cannot be a name"))),
        None => Ok(hosts),
    }
}

/// Changes the file: the whole new one is there afterwards, or the one before.
pub fn change<T>(path: &Path, change: impl FnOnce(&mut Hosts) -> Outcome<T>) -> Outcome<T> {
    let failed = |error: io::Error| {
        Failure::failed("hosts", format!("{}: {error}; nothing was changed", path.display()))
    };
    // The file may be a link, as those who keep such files elsewhere make them.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput.into()).map_err(failed)?;
    private(directory).map_err(failed)?;
    // One change at a time.
    let lock = File::open(directory).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let mut hosts = read(path)?;
    let done = change(&mut hosts)?;
    let text = toml::to_string(&hosts).map_err(|error| failed(io::Error::other(error)))?;
    let write = || -> io::Result<()> {
        let mut new = tempfile::NamedTempFile::new_in(directory)?;
        new.write_all(text.as_bytes())?;
        new.as_file().sync_all()?;
        new.persist(path)?;
        Ok(())
    };
    write().map_err(failed)?;
    Ok(done)
}

/// Makes a directory that only its user can use, unless it is there.
pub fn private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn names_are_kept_in_a_file_for_its_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kennel/hosts.toml");
        assert_eq!(read(&path).unwrap(), Hosts::default());
        let address = "ssh://ada@box:22/srv".parse().unwrap();
        let entry = Entry { kennel: Some("/k".into()), ..Entry::at(address) };
        let paired = Entry {
            fingerprint: Some(Fingerprint::of(b"x")),
            ..Entry::at("tls://box.example".parse().unwrap())
        };
        change(&path, |hosts| Ok(hosts.hosts.insert("lab".into(), paired.clone()))).unwrap();
        change(&path, |hosts| Ok(hosts.hosts.insert("box".into(), entry.clone()))).unwrap();
        change(&path, |hosts| {
            hosts.default = Some("box".into());
            Ok(())
        })
        .unwrap();
        let hosts = read(&path).unwrap();
        assert_eq!((hosts.default.as_deref(), &hosts.hosts["box"]), (Some("box"), &entry));
        assert_eq!(hosts.hosts["lab"], paired);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let refused = change(&path, |_| Err::<(), _>(Failure::usage("no")));
        assert!(refused.is_err() && read(&path).unwrap() == hosts);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts.toml");
        for text in [
            "default = 1",
            "[hosts.local]\naddress = 'ssh://x'",
            "[hosts.'-x']\naddress = 'ssh://x'",
            "[hosts.x]\naddress = 'ssh://-x'",
            "[hosts.x]\naddress = 'http://x'",
            "[hosts.x]",
            "[hosts.x]\naddress = 'tls://x'\nfingerprint = 'SHA256:00'",
            "[hosts.x]\naddress = 'tls://a@x'",
            "nonsense",
        ] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text}");
            assert!(change(&path, |_| Ok(())).is_err(), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
