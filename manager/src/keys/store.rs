//! `STATE/keys.json`: the book on disk, with the hash of each key and never a key.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use protocol::KeyId;
use protocol::api::{KeyRole, KeySessions};
use protocol::event::Timestamp;
use serde::{Deserialize, Serialize};

use super::book::{Book, Key, Use};
use super::secret::Hash;
use crate::plain;
use crate::system::owned::{self, How};
use crate::system::random::hex;

/// The file's name in the state directory.
pub const FILE: &str = "keys.json";
/// The file while it is written.
const NEW: &str = ".keys.json.new";
/// The largest file, in bytes: 1,000 keys with 100 sessions each fit.
const MOST: u64 = 16 * 1024 * 1024;
/// The file's layout.
const VERSION: u32 = 1;
/// The layout of a file with a key for labels: a kennel that knows none of those refuses the file by its number.
const WITH_LABELS: u32 = 2;
/// The layout of a file with a key of a browser, for the same reason.
const WITH_BROWSERS: u32 = 3;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    /// The number of the newest key that was ever made.
    last: u64,
    keys: Vec<KeptKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptKey {
    id: KeyId,
    name: String,
    role: KeyRole,
    sessions: KeySessions,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    browser: bool,
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_used_from: Option<String>,
}

/// The book and the last use of each key. A file that is not there is an empty book.
///
/// # Errors
/// The file cannot be read, others can read it, or it is none: then no key is known.
pub fn load(path: &Path) -> io::Result<(Book, BTreeMap<KeyId, Use>)> {
    let file = match owned::open(path, How::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => return Err(error),
    };
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::other("others can read it; its mode is to be 0600"));
    }
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST {
        return Err(io::Error::other(format!("it has more than {MOST} bytes")));
    }
    let Kept { version, last, keys } =
        serde_json::from_str(&text).map_err(|error| io::Error::other(plain::said(&error.to_string())))?;
    if !(VERSION..=WITH_BROWSERS).contains(&version) {
        let known = format!("{VERSION} to {WITH_BROWSERS}");
        return Err(io::Error::other(format!("its version is {version}, and this kennel reads {known}")));
    }
    let (mut all, mut uses) = (Vec::new(), BTreeMap::new());
    for kept in keys {
        let hash = unhex(&kept.sha256).ok_or_else(|| io::Error::other("a hash has not 64 digits"))?;
        if let (Some(Timestamp(at)), Some(from)) = (kept.last_used_at, kept.last_used_from) {
            uses.insert(kept.id, Use { at, from });
        }
        all.push(Key {
            id: kept.id,
            name: kept.name,
            role: kept.role,
            sessions: kept.sessions,
            expires_at: kept.expires_at.map(|at| at.0),
            created_at: kept.created_at.0,
            browser: kept.browser,
            hash,
        });
    }
    Ok((Book::load(last, all).map_err(io::Error::other)?, uses))
}

/// Writes the book: afterwards the whole new file is there, or the one before.
pub fn save(path: &Path, book: &Book, uses: &BTreeMap<KeyId, Use>) -> io::Result<()> {
    let keys = book.keys().map(|key| KeptKey {
        id: key.id,
        name: key.name.clone(),
        role: key.role,
        sessions: key.sessions.clone(),
        expires_at: key.expires_at.map(Timestamp),
        created_at: Timestamp(key.created_at),
        browser: key.browser,
        sha256: hex(&key.hash),
        last_used_at: uses.get(&key.id).map(|last| Timestamp(last.at)),
        last_used_from: uses.get(&key.id).map(|last| last.from.clone()),
    });
    let has_labels = book.keys().any(|key| matches!(key.sessions, KeySessions::Labels(_)));
    let version = match (book.keys().any(|key| key.browser), has_labels) {
        (true, _) => WITH_BROWSERS,
        (false, true) => WITH_LABELS,
        (false, false) => VERSION,
    };
    let kept = Kept { version, last: book.last(), keys: keys.collect() };
    let text = serde_json::to_string_pretty(&kept).map_err(io::Error::other)? + "\n";
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let new = directory.join(NEW);
    // A manager that was killed may have left one, with whatever mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // A key that somebody holds, or one that was revoked, must be so after a crash of the machine as well.
    File::open(directory)?.sync_all()
}

/// Bytes of 64 hexadecimal digits.
fn unhex(text: &str) -> Option<Hash> {
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = Hash::default();
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(hash)
}
