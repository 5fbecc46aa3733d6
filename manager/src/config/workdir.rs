//! Ids for working directories: every spelling of one path gives one id.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use protocol::{KeyId, SessionId};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::system::random::hex;

/// The kernel's own limit for a path (PATH_MAX, path_resolution(7)).
const MAX_PATH: usize = 4096;

/// `workdir-` and the first 16 hex digits of the SHA-256 of the path's bytes, after it was made absolute and
/// [normalised](normalised).
///
/// # Errors
/// `invalid_workdir` for an empty path, one with a NUL, one longer than any path can be, and a relative one
/// where the current directory is gone.
pub fn session_id(path: &Path) -> Result<SessionId, Error> {
    id_for(path, None)
}

/// Returns true if the id may be that of a directory.
pub fn is_stable(id: &SessionId) -> bool {
    let digits = id.as_str().strip_prefix("workdir-");
    digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// The same for the sessions of one key: after the path come a NUL and the key's id.
///
/// # Errors
/// Those of [`session_id`].
pub fn id_for(path: &Path, key: Option<KeyId>) -> Result<SessionId, Error> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.contains(&0) || bytes.len() > MAX_PATH {
        return Err(Error::invalid_with(
            "invalid_workdir",
            format!("a path has 1 to {MAX_PATH} bytes without NUL; this one has {}", bytes.len()),
            "give the path of a directory",
        ));
    }
    let absolute = if path.is_absolute() {
        path.to_owned()
    } else {
        let here = std::env::current_dir().map_err(|error| {
            Error::invalid_with(
                "invalid_workdir",
                format!("the current directory cannot be found: {error}"),
                "go to a directory that exists, or give an absolute path",
            )
        })?;
        here.join(path)
    };
    let mut hash = Sha256::new_with_prefix(normalised(&absolute).as_os_str().as_bytes());
    if let Some(key) = key {
        hash.update(format!("\0{key}"));
    }
    let hash = hash.finalize();
    let hex = hex(&hash[..8]);
    format!("workdir-{hex}")
        .parse()
        .map_err(|error: protocol::IdError| Error::invalid("invalid_id", error.to_string()))
}

/// The most links that lead to a place that does not exist, as the kernel follows them (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// An absolute path without `.`, `..`, double and trailing slashes, and without symlinks, also those whose target does not exist:
/// a directory that is deleted keeps its id. `..` is the directory above a symlink's target, as for the kernel. What does not
/// exist and is no symlink goes by its spelling, and so does a loop of links.
fn normalised(path: &Path) -> PathBuf {
    followed(path, &mut { MAX_LINKS })
}

/// `links` is what is left for the whole path: links to links would otherwise double the work with each level.
fn followed(path: &Path, links: &mut u32) -> PathBuf {
    if let Ok(real) = std::fs::canonicalize(path) {
        return real;
    }
    let mut real = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                real.push(name);
                // A `..` may lead back from what does not exist to what does.
                if let Ok(target) = std::fs::canonicalize(&real) {
                    real = target;
                } else if *links > 0
                    && let Ok(target) = std::fs::read_link(&real)
                {
                    *links -= 1;
                    real.pop();
                    real = followed(&real.join(target), links);
                }
            }
            // No symlink is left in it, so its parent by spelling is its parent.
            Component::ParentDir => {
                real.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    fn id(path: impl AsRef<Path>) -> String {
        session_id(path.as_ref()).unwrap().to_string()
    }

    #[test]
    fn the_id_is_the_first_16_digits_of_the_paths_sha256() {
        // printf %s /no/such/place | sha256sum
        assert_eq!(id("/no/such/place"), "workdir-19d2e6097cf8790c");
        // printf %s / | sha256sum
        assert_eq!(id("/"), "workdir-8a5edab282632443");
    }

    #[test]
    fn each_key_has_an_id_of_its_own_for_a_directory() {
        let path = Path::new("/no/such/place");
        let of = |key| id_for(path, key).unwrap();
        // printf '%s\0%s' /no/such/place key-1 | sha256sum
        assert_eq!(of(Some(KeyId(1))).as_str(), "workdir-e6773639dfe77a12");
        assert_ne!(of(Some(KeyId(1))), of(Some(KeyId(2))));
        assert!(is_stable(&of(None)) && is_stable(&of(Some(KeyId(1)))));
        for other in ["workdir-1", "session-19d2e6097cf8790c", "workdir-19d2e6097cf8790x"] {
            assert!(!is_stable(&other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn spellings_of_a_path_that_does_not_exist_share_one_id() {
        for spelling in [
            "/no/such/place/",
            "//no///such/place",
            "/no/./such/place/.",
            "/no/such/other/../place",
            "/../no/such/place",
            "/no/such/place/x/..",
        ] {
            assert_eq!(id(spelling), id("/no/such/place"), "{spelling}");
        }
        assert_ne!(id("/no/such/Place"), id("/no/such/place"));
    }

    #[test]
    fn a_relative_path_counts_from_the_current_directory() {
        let here = std::env::current_dir().unwrap();
        for (relative, absolute) in
            [(".", here.clone()), ("src/..", here.clone()), ("no-such", here.join("no-such"))]
        {
            assert_eq!(id(relative), id(absolute), "{relative}");
        }
    }

    #[test]
    fn symlinks_count_as_what_they_point_to_and_dot_dot_goes_above_the_target() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::create_dir(at("c")).unwrap();
        symlink(at("a/b"), at("c/link")).unwrap();
        symlink("loop", at("c/loop")).unwrap();
        symlink("nowhere", at("c/dangling")).unwrap();
        assert_eq!(id(at("c/link")), id(at("a/b")));
        assert_eq!(id(at("c/link/..")), id(at("a")));
        assert_eq!(id(at("c/link/new/dir")), id(at("a/b/new/dir")));
        assert_eq!(id(at("c/link/../new")), id(at("a/new")));
        assert_eq!(id(at("c/no-such/../link/new")), id(at("a/b/new")));
        assert_eq!(id(at("c/loop/x/..")), id(at("c/loop")));
        assert_eq!(id(at("c/dangling/")), id(at("c/nowhere")));
        assert_eq!(id(at("c/dangling/new")), id(at("c/nowhere/new")));
        symlink(at("a/gone"), at("c/far")).unwrap();
        symlink("far", at("c/farther")).unwrap();
        assert_eq!(id(at("c/farther")), id(at("a/gone")));
    }

    #[test]
    fn links_that_each_name_the_next_one_twice_are_followed_within_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        for level in 0..36 {
            let next = level + 1;
            symlink(format!("l{next}/../l{next}"), dir.path().join(format!("l{level}"))).unwrap();
        }
        symlink("nowhere", dir.path().join("l36")).unwrap();
        assert!(id(dir.path().join("l0")).starts_with("workdir-"));
    }

    #[test]
    fn a_directory_keeps_its_id_when_it_comes_to_exist() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later");
        let before = id(&path);
        std::fs::create_dir(&path).unwrap();
        assert_eq!(id(&path), before);
    }

    #[test]
    fn paths_that_no_kernel_takes_are_refused() {
        let long = format!("/{}", "x/".repeat(MAX_PATH));
        for path in [OsStr::new(""), OsStr::new("/a\0b"), OsStr::new(&long)] {
            assert_eq!(session_id(Path::new(path)).unwrap_err().code(), "invalid_workdir");
        }
        let odd = OsStr::from_bytes(b"/no/\xff/such");
        assert!(session_id(Path::new(odd)).is_ok());
    }

    /// Another way to write the same path: `noise` says what is put before each name.
    fn respelt(path: &str, noise: &[u8]) -> String {
        let mut spelt = String::new();
        for (index, name) in path.split('/').skip(1).enumerate() {
            spelt.push_str(match noise.get(index).copied().unwrap_or(0) % 5 {
                0 => "/",
                1 => "//",
                2 => "/./",
                3 => "/no-such-name/../",
                _ => "/no/such/../../",
            });
            spelt.push_str(name);
        }
        spelt + if noise.first().copied().unwrap_or(0) >= 128 { "/" } else { "" }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_spelling_of_a_path_gives_the_same_id(
            names in prop::collection::vec("[a-z]{1,3}", 1..6),
            exist in 0usize..6,
            linked in 0usize..6,
            noise in prop::collection::vec(any::<u8>(), 12),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let root = std::fs::canonicalize(dir.path()).unwrap();
            // Some of the names exist, and one of those may be reached by a symlink from elsewhere.
            let existing: PathBuf = names.iter().take(exist).collect();
            std::fs::create_dir_all(root.join(&existing)).unwrap();
            let linked = linked.min(exist).min(names.len());
            let (target, rest) = names.split_at(linked);
            symlink(root.join(target.iter().collect::<PathBuf>()), root.join("LINK")).unwrap();

            let plain = root.join(names.iter().collect::<PathBuf>());
            let by_link = root.join("LINK").join(rest.iter().collect::<PathBuf>());
            let expected = id(&plain);
            for path in [&plain, &by_link] {
                let spelt = respelt(path.to_str().unwrap(), &noise);
                prop_assert_eq!(&id(&spelt), &expected, "{}", spelt);
            }
        }

        #[test]
        fn normalising_twice_changes_nothing(path in "(/(\\.|\\.\\.|[a-z]{1,2}|)){1,12}") {
            let once = normalised(Path::new(&path));
            prop_assert!(once.is_absolute());
            prop_assert_eq!(normalised(&once), once);
        }
    }
}
