//! Tests of whose files are believed.

use super::*;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn why<T: fmt::Debug>(result: io::Result<T>) -> String {
    let error = result.unwrap_err();
    assert!(error.get_ref().is_some_and(|inner| inner.is::<Untrusted>()), "{error}");
    error.to_string()
}

#[test]
fn a_directory_is_made_for_its_owner_alone_and_links_above_it_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    assert_eq!(existing(&root.join("a/b")).unwrap(), None);
    assert!(!root.join("a").exists());
    assert_eq!(directory(&root.join("a/b")).unwrap(), root.join("a/b"));
    for made in ["a", "a/b"] {
        assert_eq!(fs::metadata(root.join(made)).unwrap().mode() & 0o777, 0o700);
    }
    symlink(root.join("a"), root.join("link")).unwrap();
    symlink("link/../a/b", root.join("relative")).unwrap();
    for spelled in ["link/b", "relative", "a/../link/./b", "a/b/"] {
        assert_eq!(directory(&root.join(spelled)).unwrap(), root.join("a/b"), "{spelled}");
    }
    symlink("circle", root.join("circle")).unwrap();
    assert!(directory(&root.join("circle")).unwrap_err().to_string().contains("too many links"));
    mode(&root.join("a/b"), 0o755);
    assert!(directory(&root.join("a/b")).is_ok(), "one that others can look into was always taken");
}

#[test]
fn a_directory_that_others_can_write_or_replace_is_refused_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let (above, below) = (dir.path().join("above"), dir.path().join("above/below"));
    fs::create_dir_all(&below).unwrap();
    for open in [0o777, 0o1777, 0o702, 0o733] {
        mode(&below, open);
        assert!(why(directory(&below)).contains("other users can write"), "{open:o}");
    }
    mode(&below, 0o700);
    mode(&above, 0o777);
    assert!(why(directory(&below)).contains("above has mode 0777"));
    assert!(why(directory(&above.join("new"))).contains("above has mode 0777"));
    assert!(!above.join("new").exists());
    mode(&above, 0o1777);
    assert!(directory(&below).is_ok() && directory(&above.join("new")).is_ok());
    // A group of others.
    if chown(&below, None, Some(65534)).is_ok() {
        mode(&below, 0o770);
        assert!(why(directory(&below)).contains("mode 0770"));
    }
}

#[test]
fn what_another_user_has_put_there_is_refused() {
    if !geteuid().is_root() {
        // Nothing can be given away; what is root's is another's.
        assert!(why(directory(Path::new("/"))).contains("belongs to user 0"));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tmp = dir.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    mode(&tmp, 0o1777);
    let mine = dir.path().join("mine");
    fs::create_dir(&mine).unwrap();
    let (planted, link) = (tmp.join("planted"), tmp.join("link"));
    fs::create_dir(&planted).unwrap();
    chown(&planted, Some(65534), None).unwrap();
    symlink(&mine, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
    for (path, named) in [(&planted, "planted"), (&planted.join("below"), "planted"), (&link, "link")] {
        let why = why(directory(path));
        assert!(why.contains(&format!("{named} belongs to user 65534, and kennel runs as user 0")), "{why}");
    }
    assert_eq!(fs::read_dir(&mine).unwrap().count() + fs::read_dir(&planted).unwrap().count(), 0);
    let file = mine.join("file");
    fs::write(&file, "x").unwrap();
    chown(&file, Some(65534), None).unwrap();
    assert!(why(contents(&mine, |_| true)).contains("file belongs to user 65534"));
    assert!(why(open(&file, How::Anew)).contains("file belongs to user 65534"));
    assert_eq!(fs::read(&file).unwrap(), b"x");
    assert!(why(believed(&file, &File::open(&file).unwrap())).contains("belongs to user 65534"));
}

#[test]
fn no_file_is_opened_through_a_link_of_any_kind_nor_what_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (own, victim) = (dir.path().join("own"), dir.path().join("victim"));
    fs::create_dir(&own).unwrap();
    fs::create_dir(dir.path().join("place")).unwrap();
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, own.join("soft")).unwrap();
    fs::hard_link(&victim, own.join("hard")).unwrap();
    symlink(dir.path().join("place"), own.join("logs")).unwrap();
    fs::create_dir(own.join("directory")).unwrap();
    nix::unistd::mkfifo(&own.join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    for how in [How::Read, How::Keep, How::Anew, How::Append] {
        assert!(why(open(&own.join("soft"), how)).contains("soft is a symbolic link"));
        assert!(why(open(&own.join("hard"), how)).contains("hard has 2 names"));
        assert!(why(open(&own.join("logs/one.log"), how)).contains("logs is a symbolic link"));
        assert!(open(&own.join("directory"), how).is_err());
        assert!(open(&own.join("pipe"), how).is_err());
    }
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert_eq!(fs::read_dir(dir.path().join("place")).unwrap().count(), 0);
    for name in ["soft", "hard", "logs", "pipe"] {
        assert!(why(contents(&own, |found| found == name)).contains(name));
    }
    assert!(contents(&own, |found| found == "directory").is_ok());
}

#[test]
fn files_are_opened_as_they_are_meant_to_be() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    assert_eq!(open(&path, How::Read).unwrap_err().kind(), io::ErrorKind::NotFound);
    open(&path, How::Append).unwrap().write_all(b"one").unwrap();
    open(&path, How::Append).unwrap().write_all(b"two").unwrap();
    let mut text = String::new();
    open(&path, How::Keep).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "onetwo");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    open(&path, How::Anew).unwrap().write_all(b"x").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"x");
    mode(&path, 0o606);
    assert!(why(open(&path, How::Read)).contains("mode 0606"));
}
