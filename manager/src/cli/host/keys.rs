//! The files of this machine's keys: `keys/NAME` beside `hosts.toml`, for its user alone.
//!
//! A key that no server has confirmed yet lies in `keys/.NAME.new`, with what it was made for. So an answer that was lost costs nothing:
//! the same pairing, typed again, sends the same key. For another server, or with another secret, it is never sent.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::file;
use crate::client::far::tls::{is_key, lines, make};
use crate::system::random::hex;

/// The keys beside this `hosts.toml`.
pub struct Keys(PathBuf);

impl Keys {
    /// Beside this file.
    pub fn beside(hosts: &Path) -> Self {
        Self(hosts.with_file_name("keys"))
    }

    /// The file of a machine's key.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns true if there is a key for a machine.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// No name of a machine begins with a dot.
    fn unconfirmed(&self, name: &str) -> PathBuf {
        self.0.join(format!(".{name}.new"))
    }

    /// The key for a pairing: the one that was made for the same pairing before, or a new one, which is on disk then. `what` is all that
    /// the pairing is known by.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn prepare(&self, name: &str, what: &[&str]) -> io::Result<String> {
        let made_for = hex(&Sha256::digest(what.join("\n")));
        let path = self.unconfirmed(name);
        let before = lines(&path).unwrap_or_default();
        if let [key, before_for] = &before[..]
            && is_key(key)
            && *before_for == made_for
        {
            return Ok(key.clone());
        }
        let key = make()?;
        file::private(&self.0)?;
        let mut new = tempfile::NamedTempFile::new_in(&self.0)?;
        new.write_all(format!("{key}\n{made_for}\n").as_bytes())?;
        new.as_file().sync_all()?;
        new.persist(path)?;
        self.sync()?;
        Ok(key)
    }

    /// Makes the prepared key the machine's.
    pub fn confirm(&self, name: &str) -> io::Result<()> {
        fs::rename(self.unconfirmed(name), self.path(name))?;
        self.sync()
    }

    /// Removes what was prepared.
    pub fn give_up(&self, name: &str) -> io::Result<()> {
        removed(&self.unconfirmed(name)).map(drop)
    }

    /// Removes every key of a machine. Returns true if there was one.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        let unconfirmed = removed(&self.unconfirmed(name))?;
        Ok(removed(&self.path(name))? || unconfirmed)
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()
    }
}

fn removed(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_prepared_key_is_the_same_for_the_same_pairing_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::beside(&dir.path().join("kennel/hosts.toml"));
        let one = keys.prepare("box", &["tls://box:7443", "secret"]).unwrap();
        assert_eq!(keys.prepare("box", &["tls://box:7443", "secret"]).unwrap(), one);
        let other = keys.prepare("box", &["tls://evil:7443", "secret"]).unwrap();
        assert_ne!(other, one);
        assert_ne!(keys.prepare("box", &["tls://box:7443", "secret"]).unwrap(), one, "one at a time");
        assert!(!keys.has("box"));
        keys.confirm("box").unwrap();
        assert!(keys.has("box") && keys.confirm("box").is_err());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&keys.path("box")), mode(keys.path("box").parent().unwrap())), (0o600, 0o700));
        assert_eq!((keys.remove("box").unwrap(), keys.remove("box").unwrap()), (true, false));
        keys.prepare("box", &["x"]).unwrap();
        keys.give_up("box").unwrap();
        assert_eq!(fs::read_dir(keys.path("box").parent().unwrap()).unwrap().count(), 0);
    }
}
