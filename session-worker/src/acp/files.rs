//! Files that an agent reads and writes by way of its client, within the session's directory.
//!
//! The kernel keeps them there: openat2(2) with `RESOLVE_BENEATH` refuses `..` and symlinks that lead out, whatever
//! is moved meanwhile. The worker opens the directory once, before its agent runs: a symlink that somebody puts in the
//! directory's place later leads nowhere. What the session's sandbox hides is not read or written here either.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use agent_client_protocol_schema::v1 as acp;
use protocol::Walls;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde_json::{Value, json};

/// The largest file that is read or written, in bytes: it has to fit into a line of the protocol.
const LARGEST: u64 = 8 * 1024 * 1024;

/// The directory of a session, as it was before its agent ran.
#[derive(Debug)]
pub struct Place {
    workdir: String,
    /// None: it could not be opened, and nothing in it is read or written.
    directory: Result<OwnedFd, Errno>,
    /// What the session's sandbox hides.
    hidden: Vec<PathBuf>,
    /// What is written all the same, below something that is hidden.
    writable: Vec<PathBuf>,
    /// The file mode creation mask of the agent: what it has written by the worker gets the mode that it would give itself.
    umask: Mode,
}

impl Place {
    /// Opens the directory. The manager has resolved its path: no part of it is a symlink, or somebody has changed it.
    pub fn open(workdir: &str, walls: Option<&Walls>, umask: u32) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let directory = rustix::fs::openat2(rustix::fs::CWD, workdir, flags, Mode::empty(), resolve);
        let paths = |of: fn(&Walls) -> &[String]| {
            walls.map(of).unwrap_or_default().iter().map(PathBuf::from).collect()
        };
        let hidden = paths(|walls| &walls.hidden);
        let mut writable: Vec<PathBuf> = paths(|walls| &walls.writable);
        writable.push(workdir.into());
        let umask = Mode::from_raw_mode(umask & 0o777);
        Self { workdir: workdir.to_owned(), directory, hidden, writable, umask }
    }

    /// Whether a path is in what the sandbox hides. Of two places the deeper one decides.
    fn hides(&self, path: &Path) -> bool {
        let deepest = |places: &[PathBuf]| {
            let depths = places.iter().filter(|place| path.starts_with(place));
            depths.map(|place| place.components().count()).max()
        };
        deepest(&self.hidden) > deepest(&self.writable)
    }

    /// Opens a path below the directory; one that leads elsewhere is `XDEV` or `LOOP`, one that is hidden `ACCESS`.
    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let directory = self.directory.as_ref().map_err(|error| *error)?;
        let below = self.below(path).ok_or(Errno::XDEV)?;
        if self.hides(&Path::new(&self.workdir).join(&below)) {
            return Err(Errno::ACCESS);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(directory, below, flags | OFlags::CLOEXEC, mode, resolve)?;
        if !self.hidden.is_empty() {
            // By way of a symlink within the directory. Nothing was read or written yet.
            let real = std::fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()));
            if real.map_or(true, |real| self.hides(&real)) {
                return Err(Errno::ACCESS);
            }
        }
        Ok(opened)
    }

    /// The path relative to the directory, by its names alone; what they lead to is the kernel's to say.
    fn below(&self, path: &Path) -> Option<PathBuf> {
        let relative = if path.is_absolute() { path.strip_prefix(&self.workdir).ok()? } else { path };
        (!relative.as_os_str().is_empty()).then(|| relative.to_owned())
    }
}

/// `fs/read_text_file`. The error is for the agent.
pub fn read(place: &Place, params: Value) -> Result<Value, String> {
    let request: acp::ReadTextFileRequest = parse(params)?;
    // A pipe must not be waited for.
    let file = open(place, &request.path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let mut bytes = Vec::new();
    regular(&request.path, &file)?;
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(&request.path, &error.to_string()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(failed(&request.path, &format!("it has more than {LARGEST} bytes")));
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    let content = match (request.line, request.limit) {
        (None, None) => text,
        (line, limit) => {
            let skip = line.unwrap_or(1).saturating_sub(1) as usize;
            let take = limit.map_or(usize::MAX, |limit| limit as usize);
            text.split_inclusive('\n').skip(skip).take(take).collect()
        }
    };
    // Control characters are six times as long there.
    if protocol::bounds::length(&content) as u64 > LARGEST {
        return Err(failed(&request.path, &format!("it has more than {LARGEST} bytes in JSON")));
    }
    Ok(json!({ "content": content }))
}

/// `fs/write_text_file`. The error is for the agent.
pub fn write(place: &Place, params: Value) -> Result<Value, String> {
    let request: acp::WriteTextFileRequest = parse(params)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK;
    let mut file = open(place, &request.path, flags)?;
    regular(&request.path, &file)?;
    let written = file.set_len(0).and_then(|()| file.write_all(request.content.as_bytes()));
    written.map_err(|error| failed(&request.path, &error.to_string()))?;
    Ok(json!({}))
}

/// The absolute path of a request, if the worker would touch it: below the working directory, also by way of symlinks
/// as they are now. It need not exist: an editor may know of a file that is not saved. The error is for the agent.
pub fn may_be_reached(place: &Place, params: &Value) -> Result<String, String> {
    let path = Path::new(params["path"].as_str().ok_or("wrong parameters: no `path`")?);
    let plain = !path.components().any(|part| matches!(part, Component::ParentDir));
    match place.resolve(path, OFlags::PATH, Mode::empty()) {
        Ok(_) if plain => {}
        Err(Errno::NOENT) if plain => {}
        // Whoever resolves it by its names alone may arrive elsewhere.
        Ok(_) | Err(Errno::NOENT | Errno::XDEV | Errno::LOOP) => return Err(outside(path)),
        Err(error) => return Err(failed(path, &std::io::Error::from(error).to_string())),
    }
    let absolute = Path::new(&place.workdir).join(path);
    absolute.to_str().map(str::to_owned).ok_or_else(|| failed(path, "it is not UTF-8"))
}

fn parse<T: serde::de::DeserializeOwned>(params: Value) -> Result<T, String> {
    serde_json::from_value(params).map_err(|error| format!("wrong parameters: {error}"))
}

fn open(place: &Place, path: &Path, flags: OFlags) -> Result<File, String> {
    let creates = flags.contains(OFlags::CREATE);
    let mode = if creates { Mode::from_raw_mode(0o666) } else { Mode::empty() };
    // The worker has one thread, and makes nothing of its own meanwhile.
    let own = creates.then(|| rustix::process::umask(place.umask));
    let resolved = place.resolve(path, flags, mode);
    own.map(rustix::process::umask);
    match resolved {
        Ok(file) => Ok(file.into()),
        Err(Errno::XDEV | Errno::LOOP) => Err(outside(path)),
        Err(error) => Err(failed(path, &std::io::Error::from(error).to_string())),
    }
}

fn regular(path: &Path, file: &File) -> Result<(), String> {
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(failed(path, "it is not a regular file")),
        Err(error) => Err(failed(path, &error.to_string())),
    }
}

fn outside(path: &Path) -> String {
    failed(path, "it is not below the session's working directory")
}

fn failed(path: &Path, why: &str) -> String {
    format!("{}: {why}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().canonicalize().unwrap().join("work");
        std::fs::create_dir(&work).unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        (dir, work.to_str().unwrap().to_owned())
    }

    fn reads(work: &str, path: &str) -> Result<String, String> {
        let answer = read(&Place::open(work, None, 0o022), json!({ "sessionId": "s", "path": path }))?;
        Ok(answer["content"].as_str().unwrap().to_owned())
    }

    fn writes(work: &str, path: &str, content: &str) -> Result<Value, String> {
        write(&Place::open(work, None, 0o022), json!({ "sessionId": "s", "path": path, "content": content }))
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
    fn nothing_outside_the_directory_is_reached() {
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
            assert!(reads(&work, path).is_err(), "{path} was read");
            let handed_over = may_be_reached(&Place::open(&work, None, 0o022), &json!({ "path": path }));
            assert!(handed_over.is_err(), "{path} was handed over");
            assert!(writes(&work, path, "spoiled").is_err(), "{path} was written");
        }
        assert_eq!(std::fs::read_to_string(secret).unwrap(), "secret");
    }

    #[test]
    fn a_file_that_is_not_saved_may_be_asked_for_and_a_way_out_through_it_not() {
        let (_dir, work) = place();
        let reach = |path: &str| may_be_reached(&Place::open(&work, None, 0o022), &json!({ "path": path }));
        assert_eq!(reach("new.txt"), Ok(format!("{work}/new.txt")));
        assert_eq!(reach(&format!("{work}/a/new.txt")), Ok(format!("{work}/a/new.txt")));
        assert!(reach(&format!("{work}/none/../../secret")).is_err());
        assert!(may_be_reached(&Place::open(&work, None, 0o022), &json!({})).is_err());
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
        assert!(reads(&work, &format!("{work}/none")).unwrap_err().contains("No such file"));
    }

    #[test]
    fn a_directory_that_is_swapped_for_a_symlink_is_still_the_one_that_was_opened() {
        let (dir, work) = place();
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        std::fs::write(dir.path().join("keys/id"), "secret").unwrap();
        std::fs::write(format!("{work}/own"), "mine").unwrap();
        let before = Place::open(&work, None, 0o022);
        std::fs::rename(&work, dir.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("keys"), &work).unwrap();
        let asks = |place: &Place, name: &str| read(place, json!({ "sessionId": "s", "path": name }));
        assert_eq!(asks(&before, "own").unwrap()["content"], "mine");
        for path in ["id", &format!("{work}/id")] {
            assert!(asks(&before, path).is_err());
            assert!(may_be_reached(&Place::open(&work, None, 0o022), &json!({ "path": path })).is_err());
            assert!(
                asks(&Place::open(&work, None, 0o022), path).is_err(),
                "a symlink is not the session's directory"
            );
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
            assert!(asks(name).unwrap_err().contains("denied"), "{name}");
        }
        let written = |name: &str| write(&place, json!({ "sessionId": "s", "path": name, "content": "" }));
        assert!(written("link").is_err() && written("keys/new").is_err() && written("c").is_ok());
        assert_eq!(std::fs::read_to_string(format!("{work}/keys/id")).unwrap(), "text");
    }
}
