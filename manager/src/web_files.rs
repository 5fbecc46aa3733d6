//! Files of the web page in the state directory: the address that a daemon keeps for it, and the file by which `kennel web`
//! opens a browser.

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::system::owned::{self, How};

/// The file with the address of the page's port on loopback.
const ADDRESS: &str = "web";
/// The beginning and the end of the name of a file that leads a browser to a link; the hash of the link's ticket stands between. Others may
/// see the arguments of a browser, and not this file.
const REDIRECT: [&str; 2] = ["web-", ".html"];
/// Time after which such a file is of no use: a link is good for five minutes.
const STALE: Duration = Duration::from_secs(5 * 60);
/// The longest address that is read, in bytes.
const MOST: u64 = 64;

/// The address that this daemon or one before has opened; none without one.
///
/// # Errors
/// The file cannot be read, or has no address of loopback in it.
pub fn address(state_dir: &Path) -> io::Result<Option<SocketAddr>> {
    let file = match owned::open(&state_dir.join(ADDRESS), How::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text)?;
    let address = text.trim_end().parse().ok();
    let ours = address.filter(|address: &SocketAddr| {
        address.ip().is_loopback() && address.is_ipv4() && address.port() != 0
    });
    ours.map(Some).ok_or_else(|| io::Error::other("it has no address of loopback in it"))
}

/// Keeps the address for the next daemon: the whole of it or what was there before.
pub fn keep_address(state_dir: &Path, address: SocketAddr) -> io::Result<()> {
    let path = state_dir.join(ADDRESS);
    let new = path.with_extension("new");
    let mut file = owned::open(&new, How::Anew)?;
    file.write_all(format!("{address}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)
}

/// Forgets the address, and what leads a browser there.
pub fn forget(state_dir: &Path) -> io::Result<()> {
    remove_redirects(state_dir, Duration::ZERO)?;
    removed(&state_dir.join(ADDRESS))
}

/// An address of loopback that no other service is likely to use: browsers send the cookies of an address to all of its
/// ports.
pub fn own_address(state_dir: &Path) -> [u8; 4] {
    let hash = Sha256::digest(state_dir.as_os_str().as_encoded_bytes());
    // The lowest are in use: 127.0.0.1, 127.0.0.53, 127.0.1.1.
    [127, 64 + hash[0] % 191, hash[1], 1 + hash[2] % 254]
}

/// Path of the file for the link with this ticket. The beginning of the hash says nothing about the ticket.
fn redirect_path(state_dir: &Path, ticket: &str) -> PathBuf {
    let [begin, end] = REDIRECT;
    let hash: String = Sha256::digest(ticket)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    state_dir.join(format!("{begin}{hash}{end}"))
}

/// Writes the file that leads a browser to this link, which has this ticket. Only this user can read it. Removes those of links that are over.
pub fn redirect(state_dir: &Path, link: &str, ticket: &str) -> io::Result<PathBuf> {
    remove_redirects(state_dir, STALE)?;
    let path = redirect_path(state_dir, ticket);
    // Letters, digits and the marks of a URL: nothing in a link ends the attribute.
    let is_plain = link.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/.#-_[]".contains(&byte));
    if !is_plain {
        return Err(io::Error::other("the link has a character that no link has"));
    }
    let text = format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta http-equiv=\"refresh\" content=\"0; url={link}\">\n<title>kennel</title>\n<a href=\"{link}\">kennel</a>\n"
    );
    owned::open(&path, How::Anew)?.write_all(text.as_bytes())?;
    Ok(path)
}

/// Removes the file for the link with this ticket, and no other.
pub fn remove_redirect(state_dir: &Path, ticket: &str) -> io::Result<()> {
    removed(&redirect_path(state_dir, ticket))
}

/// Removes all such files that are as old as this.
fn remove_redirects(state_dir: &Path, age: Duration) -> io::Result<()> {
    let [begin, end] = REDIRECT;
    for entry in fs::read_dir(state_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_one = name.to_str().is_some_and(|name| name.starts_with(begin) && name.ends_with(end));
        // A clock that was set back makes a file that is not old yet.
        let is_old = || {
            let changed = entry.metadata().and_then(|file| file.modified());
            changed.is_ok_and(|changed| changed.elapsed().unwrap_or_default() >= age)
        };
        if is_one && is_old() {
            removed(&entry.path())?;
        }
    }
    Ok(())
}

fn removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_address_is_kept_and_forgotten_and_only_loopback_is_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(address(dir.path()).unwrap(), None);
        let kept = SocketAddr::from((own_address(dir.path()), 4711));
        keep_address(dir.path(), kept).unwrap();
        assert_eq!(address(dir.path()).unwrap(), Some(kept));
        forget(dir.path()).unwrap();
        assert_eq!(address(dir.path()).unwrap(), None);
        for wrong in ["", "x", "127.0.0.1", "127.0.0.1:0", "0.0.0.0:80", "192.0.2.7:80", "[::1]:80"] {
            fs::write(dir.path().join(ADDRESS), wrong).unwrap();
            assert!(address(dir.path()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_state_directory_has_an_address_of_its_own() {
        let of = |path: &str| own_address(Path::new(path));
        assert_eq!(of("/a"), of("/a"));
        assert_ne!(of("/a"), of("/b"));
        for number in 0..1_000 {
            let [first, second, _, last] = of(&format!("/home/{number}/.local/state/kennel"));
            assert!(first == 127 && (64..255).contains(&second) && (1..255).contains(&last));
        }
    }

    #[test]
    fn a_link_is_for_its_owners_eyes_and_nothing_else_stands_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = redirect(dir.path(), "http://127.64.1.2:4711/#abc-_9", "abc-_9").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&path).unwrap().contains("url=http://127.64.1.2:4711/#abc-_9\""));
        assert!(!path.to_str().unwrap().contains("abc-_9"));
        assert!(redirect(dir.path(), "http://x/\"><script>", "x").is_err());
        remove_redirect(dir.path(), "abc-_9").unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn each_link_has_a_file_of_its_own_and_the_next_one_removes_those_that_are_over() {
        let dir = tempfile::tempdir().unwrap();
        let lead = |ticket: &str| {
            redirect(dir.path(), &format!("http://127.64.1.2:4711/#{ticket}"), ticket).unwrap()
        };
        let (over, good) = (lead("over"), lead("good"));
        let foreign = dir.path().join("web-notes.txt");
        fs::write(&foreign, "").unwrap();
        for file in [&over, &foreign] {
            let long_ago = std::time::SystemTime::now() - STALE;
            fs::File::options().write(true).open(file).unwrap().set_modified(long_ago).unwrap();
        }
        let next = lead("next");
        assert!(!over.exists() && good.exists() && next.exists() && foreign.exists());
        remove_redirect(dir.path(), "next").unwrap();
        assert!(good.exists() && !next.exists());
        forget(dir.path()).unwrap();
        assert!(!good.exists() && foreign.exists());
    }
}
