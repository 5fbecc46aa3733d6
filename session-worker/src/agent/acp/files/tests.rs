//! Tests of the files that an agent reads and writes through its client, with a sandbox and without.

use super::*;

fn place() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().canonicalize().unwrap().join("work");
    std::fs::create_dir(&work).unwrap();
    std::fs::write(dir.path().join("secret"), "secret").unwrap();
    (dir, work.to_str().unwrap().to_owned())
}

fn walls() -> Walls {
    Walls { sandbox: protocol::Sandbox::Workdir, ..Walls::default() }
}

fn text(refused: Refused) -> String {
    match refused {
        Refused::Wrong(text) | Refused::Failed(text) => text,
        Refused::Missing(path) => format!("{path} is missing"),
    }
}

fn reads_at(place: &Place, path: &str) -> Result<String, String> {
    let answer = read(place, json!({ "sessionId": "s", "path": path })).map_err(text)?;
    Ok(answer["content"].as_str().unwrap().to_owned())
}

fn reads(work: &str, path: &str) -> Result<String, String> {
    reads_at(&Place::open(work, None, 0o022), path)
}

fn writes_at(place: &Place, path: &str, content: &str) -> Result<Value, Refused> {
    write(place, json!({ "sessionId": "s", "path": path, "content": content }))
}

fn writes(work: &str, path: &str, content: &str) -> Result<Value, Refused> {
    writes_at(&Place::open(work, None, 0o022), path, content)
}

#[test]
fn without_a_sandbox_whatever_the_agents_own_shell_reaches_is_read_and_written() {
    let (dir, work) = place();
    let outside = dir.path().canonicalize().unwrap();
    let secret = outside.join("secret").display().to_string();
    std::os::unix::fs::symlink(&outside, format!("{work}/out")).unwrap();
    for path in [&secret, "../secret", "out/secret"] {
        assert_eq!(reads(&work, path).as_deref(), Ok("secret"), "{path}");
    }
    let new = outside.join("new/er/file");
    writes(&work, new.to_str().unwrap(), "far").unwrap();
    assert_eq!(std::fs::read_to_string(new).unwrap(), "far");
    // What is the worker's own is not the agent's.
    for path in ["/proc/self/environ", "/proc/self/mem", "/proc/self/fd/0"] {
        assert!(reads(&work, path).is_err(), "{path} was read");
    }
}

#[test]
fn a_missing_file_is_said_to_be_missing_and_new_directories_are_made() {
    let (_dir, work) = place();
    for walls in [None, Some(walls())] {
        let place = Place::open(&work, walls.as_ref(), 0o022);
        let name = if walls.is_some() { "walled" } else { "open" };
        let path = format!("{work}/{name}/deep/a.txt");
        let missing = read(&place, json!({ "sessionId": "s", "path": path })).unwrap_err();
        assert_eq!(missing, Refused::Missing(path.clone()));
        let Do::Send(answer) = missing.error(json!(7)) else { panic!() };
        assert_eq!(answer["error"]["code"], -32002);
        assert_eq!(answer["error"]["data"]["uri"], json!(path));
        writes_at(&place, &path, "one").unwrap();
        writes_at(&place, &format!("{name}/other/b.txt"), "two").unwrap();
        assert_eq!(reads_at(&place, &path).unwrap(), "one");
        assert_eq!(reads_at(&place, &format!("{work}/{name}/other/b.txt")).unwrap(), "two");
        let up = format!("{name}/none/../../c");
        assert!(matches!(writes_at(&place, &up, "").unwrap_err(), Refused::Missing(_)));
        assert!(!std::path::Path::new(&format!("{work}/{name}/none")).exists());
    }
}

#[test]
fn files_below_the_directory_are_read_and_written() {
    let (_dir, work) = place();
    let path = format!("{work}/a.txt");
    writes(&work, &path, "one\ntwo\nthree\n").unwrap();
    assert_eq!(reads(&work, &path).unwrap(), "one\ntwo\nthree\n");
    let part = read(
        &Place::open(&work, None, 0o022),
        json!({ "sessionId": "s", "path": path, "line": 2, "limit": 1 }),
    )
    .unwrap();
    assert_eq!(part["content"], "two\n");
    writes(&work, &path, "short").unwrap();
    assert_eq!(reads(&work, &path).unwrap(), "short");
}

#[test]
fn nothing_outside_the_directory_is_reached_in_a_sandbox() {
    let (dir, work) = place();
    std::os::unix::fs::symlink(dir.path().join("secret"), format!("{work}/link")).unwrap();
    std::os::unix::fs::symlink(dir.path(), format!("{work}/out")).unwrap();
    std::os::unix::fs::symlink("/proc/self/cwd", format!("{work}/magic")).unwrap();
    let secret = dir.path().join("secret");
    for path in [
        secret.to_str().unwrap(),
        &format!("{work}/../secret"),
        &format!("{work}/link"),
        &format!("{work}/out/secret"),
        &format!("{work}/magic/Cargo.toml"),
        "../secret",
        "/etc/passwd",
    ] {
        let place = Place::open(&work, Some(&walls()), 0o022);
        assert!(reads_at(&place, path).is_err(), "{path} was read");
        assert!(whose(&place, &json!({ "path": path })).is_err(), "{path} was handed over");
        assert!(writes_at(&place, path, "spoiled").is_err(), "{path} was written");
        // The same for what is to be made beside it.
        let beside = format!("{path}-new/file");
        assert!(writes_at(&place, &beside, "spoiled").is_err() || !path.contains("secret"), "{beside}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "something was made outside");
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "secret");
}

#[test]
fn a_file_that_is_not_saved_may_be_asked_for_and_a_way_out_through_it_not() {
    let (_dir, work) = place();
    for walls in [None, Some(walls())] {
        let reach = |path: &str| whose(&Place::open(&work, walls.as_ref(), 0o022), &json!({ "path": path }));
        assert_eq!(reach("new.txt"), Ok(For::Client(format!("{work}/new.txt"))));
        let below = format!("{work}/a/new.txt");
        assert_eq!(reach(&below), Ok(For::Client(below)));
        for outside in [format!("{work}/none/../../secret"), "/etc/passwd".to_owned()] {
            match &walls {
                Some(_) => assert!(reach(&outside).is_err(), "{outside}"),
                None => assert_eq!(reach(&outside), Ok(For::Worker)),
            }
        }
        assert!(whose(&Place::open(&work, walls.as_ref(), 0o022), &json!({})).is_err());
    }
}

#[test]
fn nobody_waits_for_a_pipe_or_reads_without_end() {
    let (_dir, work) = place();
    let pipe = format!("{work}/pipe");
    nix::unistd::mkfifo(Path::new(&pipe), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(reads(&work, &pipe).unwrap_err().contains("not a regular file"));
    let large = File::create(format!("{work}/large")).unwrap();
    large.set_len(LARGEST + 1).unwrap();
    assert!(reads(&work, &format!("{work}/large")).unwrap_err().contains("more than"));
    assert!(reads(&work, &work).is_err());
}

#[test]
fn a_directory_that_is_swapped_for_a_symlink_is_still_the_one_that_was_opened() {
    let (dir, work) = place();
    std::fs::create_dir(dir.path().join("keys")).unwrap();
    std::fs::write(dir.path().join("keys/id"), "secret").unwrap();
    std::fs::write(format!("{work}/own"), "mine").unwrap();
    let before = Place::open(&work, Some(&walls()), 0o022);
    std::fs::rename(&work, dir.path().join("moved")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("keys"), &work).unwrap();
    let asks = |place: &Place, name: &str| read(place, json!({ "sessionId": "s", "path": name }));
    assert_eq!(asks(&before, "own").unwrap()["content"], "mine");
    for path in ["id", &format!("{work}/id")] {
        assert!(asks(&before, path).is_err());
        let after = Place::open(&work, Some(&walls()), 0o022);
        assert!(whose(&after, &json!({ "path": path })).is_err());
        assert!(asks(&after, path).is_err(), "a symlink is not the session's directory");
    }
    write(&before, json!({ "sessionId": "s", "path": "authorized_keys", "content": "x" })).unwrap();
    assert!(!dir.path().join("keys/authorized_keys").exists());
}

#[test]
fn what_the_sandbox_hides_is_hidden_here_too() {
    let (_dir, work) = place();
    std::fs::create_dir_all(format!("{work}/keys/open")).unwrap();
    for name in ["keys/id", "keys/open/a", "b"] {
        std::fs::write(format!("{work}/{name}"), "text").unwrap();
    }
    std::os::unix::fs::symlink("keys/id", format!("{work}/link")).unwrap();
    let walls = Walls {
        sandbox: protocol::Sandbox::Workdir,
        program: None,
        hidden: vec![format!("{work}/keys")],
        writable: vec![format!("{work}/keys/open")],
        ..Walls::default()
    };
    let place = Place::open(&work, Some(&walls), 0o022);
    let asks = |name: &str| read(&place, json!({ "sessionId": "s", "path": name }));
    assert!(asks("b").is_ok() && asks("keys/open/a").is_ok());
    for name in ["keys/id", "link", "./keys/id"] {
        assert!(text(asks(name).unwrap_err()).contains("denied"), "{name}");
    }
    let written = |name: &str| write(&place, json!({ "sessionId": "s", "path": name, "content": "" }));
    assert!(written("link").is_err() && written("keys/new").is_err() && written("keys/new/er").is_err());
    assert!(written("c").is_ok() && written("keys/open/new/er").is_ok());
    assert_eq!(std::fs::read_to_string(format!("{work}/keys/id")).unwrap(), "text");
}
