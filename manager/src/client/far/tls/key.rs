//! The key of this machine for one host: what it is, and the file that it lies in.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::client::token::Token;
use crate::system::random;

/// How each key begins.
const PREFIX: &str = "kk_";
/// Random bytes of a key.
const BYTES: usize = 32;
/// The length of their text.
const DIGITS: usize = 43;
/// The longest file that is read, in bytes.
const MAX: u64 = 4096;

/// Makes a new key.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn make() -> io::Result<String> {
    let bytes = random::bytes::<BYTES>()?;
    Ok(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

/// Returns true for a text that can be a key.
pub fn is_key(text: &str) -> bool {
    let digits = text.strip_prefix(PREFIX).unwrap_or_default();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    digits.len() == DIGITS && digits.bytes().all(fits)
}

/// Reads the lines of a file of keys.
///
/// # Errors
/// There is none, or others than its user may read it.
pub fn lines(path: &Path) -> io::Result<Vec<String>> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    if !found.is_file() {
        return Err(io::Error::other("that is no file"));
    }
    if found.mode() & 0o077 != 0 {
        let what = format!("others may read it; `chmod 600 {}` mends that", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    if found.uid() != own && own != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is another user's"));
    }
    let mut text = String::new();
    file.take(MAX).read_to_string(&mut text)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Reads the key that a file holds.
pub(super) fn read(path: &Path) -> io::Result<Token> {
    let lines = lines(path)?;
    let key = lines.first().map(String::as_str).filter(|line| is_key(line));
    key.map(Token::new).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it has no key"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_random_and_known_by_their_form() {
        let (one, two) = (make().unwrap(), make().unwrap());
        assert!(is_key(&one) && is_key(&two) && one != two);
        for text in ["", "kk_", &one[1..], &one[..45], &format!("{one}A"), &one.replace('_', ".")] {
            assert!(!is_key(text), "{text}");
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("box");
        std::fs::write(&path, format!("{}\n", make().unwrap())).unwrap();
        for (mode, is_used) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o666, false)]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_ok(), is_used, "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for text in [&b""[..], b"\n", b"nonsense\n", b"kk_short\n", b"\xff\xfe"] {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text:?}");
        }
        assert!(read(dir.path()).is_err() && read(&dir.path().join("none")).is_err());
    }
}
