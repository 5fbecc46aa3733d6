//! Files that an agent reads and writes by way of its client.
//!
//! Without a sandbox they are those that its own shell reaches: whatever its user may read and write. For the agent of a
//! sandbox they are those below the session's directory, and the kernel keeps them there: openat2(2) with `RESOLVE_BENEATH`
//! refuses `..` and symlinks that lead out, whatever is moved meanwhile. The worker opens the directory once, before its
//! agent runs: a symlink that somebody puts in the directory's place later leads nowhere. What the sandbox hides is not read
//! or written here either.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use agent_client_protocol_schema::v1 as acp;
use protocol::Walls;
use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::message::{Do, INTERNAL, INVALID_PARAMS, RESOURCE_NOT_FOUND, error, error_about};

/// The largest file that is read or written, in bytes: it has to fit into a line of the protocol.
const LARGEST: u64 = 8 * 1024 * 1024;

/// The directory of a session, as it was before its agent ran.
#[derive(Debug)]
pub struct Place {
    workdir: String,
    /// Its agent runs in a sandbox: nothing but what is below the directory is read or written.
    walled: bool,
    /// None: it could not be opened, and nothing in it is read or written.
    directory: Result<OwnedFd, Errno>,
    /// What the session's sandbox hides.
    hidden: Vec<PathBuf>,
    /// What is written all the same, below something that is hidden.
    writable: Vec<PathBuf>,
    /// The file mode creation mask of the agent: what the worker writes for it gets the mode that it would give itself.
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
        Self { workdir: workdir.to_owned(), walled: walls.is_some(), directory, hidden, writable, umask }
    }

    /// Whether a path is in what the sandbox hides. Of two places the deeper one decides.
    fn hides(&self, path: &Path) -> bool {
        let deepest = |places: &[PathBuf]| {
            let depths = places.iter().filter(|place| path.starts_with(place));
            depths.map(|place| place.components().count()).max()
        };
        deepest(&self.hidden) > deepest(&self.writable)
    }

    /// Opens a path. For the agent of a sandbox one that leads out of the directory is `XDEV` or `LOOP`, one that is hidden
    /// `ACCESS`.
    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        if !self.walled {
            let opened = match &self.directory {
                _ if path.is_absolute() => {
                    rustix::fs::openat2(rustix::fs::CWD, path, flags, mode, ResolveFlags::NO_MAGICLINKS)
                }
                Ok(at) => rustix::fs::openat2(at, path, flags, mode, ResolveFlags::NO_MAGICLINKS),
                Err(error) => Err(*error),
            }?;
            // `/proc/self` would be the worker, which is more than the agent's own shell reaches.
            return match rustix::fs::fstatfs(&opened)?.f_type == PROC_SUPER_MAGIC {
                true => Err(Errno::ACCESS),
                false => Ok(opened),
            };
        }
        let directory = self.directory.as_ref().map_err(|error| *error)?;
        let below = self.below(path).ok_or(Errno::XDEV)?;
        if self.hides(&Path::new(&self.workdir).join(&below)) {
            return Err(Errno::ACCESS);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(directory, below, flags, mode, resolve)?;
        if !self.hidden.is_empty() {
            // By way of a symlink within the directory. Nothing was read or written yet.
            let real = std::fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()));
            if real.map_or(true, |real| self.hides(&real)) {
                return Err(Errno::ACCESS);
            }
        }
        Ok(opened)
    }

    /// Makes the directories that a file is to be in, each within the one before, which was opened: nothing that is
    /// exchanged meanwhile leads elsewhere.
    fn make_parents(&self, path: &Path) -> Result<(), Errno> {
        let is_here = |path: &Path| path.as_os_str().is_empty() || path == Path::new(&self.workdir);
        let Some(parent) = path.parent().filter(|parent| !is_here(parent)) else { return Ok(()) };
        if parent.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(Errno::NOENT);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.resolve(parent, flags, Mode::empty()) {
            Ok(_) => return Ok(()),
            Err(Errno::NOENT) => self.make_parents(parent)?,
            Err(error) => return Err(error),
        }
        let (Some(name), Some(above)) = (parent.file_name(), parent.parent()) else {
            return Err(Errno::NOENT);
        };
        if self.walled && self.hides(&Path::new(&self.workdir).join(self.below(parent).ok_or(Errno::XDEV)?)) {
            return Err(Errno::ACCESS);
        }
        let within = match is_here(above) {
            true => self.directory.as_ref().map_err(|error| *error)?.try_clone().map_err(|_| Errno::MFILE)?,
            false => self.resolve(above, flags, Mode::empty())?,
        };
        match self.as_the_agent(|| rustix::fs::mkdirat(&within, name, Mode::from_raw_mode(0o777))) {
            // Somebody else has made it meanwhile; what it is the next look says.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes something with the agent's mask. The worker has one thread, and makes nothing of its own meanwhile.
    fn as_the_agent<T>(&self, make: impl FnOnce() -> T) -> T {
        let own = rustix::process::umask(self.umask);
        let made = make();
        rustix::process::umask(own);
        made
    }

    /// Whether a path names something in the session's directory.
    fn is_in_directory(&self, path: &Path) -> bool {
        self.below(path).is_some() && !path.components().any(|part| matches!(part, Component::ParentDir))
    }

    /// The path relative to the directory, by its names alone; what they lead to is the kernel's to say.
    fn below(&self, path: &Path) -> Option<PathBuf> {
        let relative = if path.is_absolute() { path.strip_prefix(&self.workdir).ok()? } else { path };
        (!relative.as_os_str().is_empty()).then(|| relative.to_owned())
    }
}

/// Why a file is not read or written, for the agent.
#[derive(Debug, PartialEq)]
pub enum Refused {
    /// What it asks for cannot be understood.
    Wrong(String),
    /// There is no file under this path: agents make one then.
    Missing(String),
    /// Anything else.
    Failed(String),
}

impl Refused {
    /// As ACP has it: its code, its text, and what it is about.
    pub fn error(self, id: Value) -> Do {
        match self {
            Refused::Wrong(why) => error(id, INVALID_PARAMS, &why),
            // Some agents look for these words.
            Refused::Missing(path) => {
                let message = format!("Resource not found: {path}: No such file or directory");
                error_about(id, RESOURCE_NOT_FOUND, &message, json!({ "uri": path }))
            }
            Refused::Failed(why) => error(id, INTERNAL, &why),
        }
    }
}

/// `fs/read_text_file`. The error is for the agent.
pub fn read(place: &Place, params: Value) -> Result<Value, Refused> {
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

/// `fs/write_text_file`: the file, and the directories that it is in, are made if they are not there. The error is for the
/// agent.
pub fn write(place: &Place, params: Value) -> Result<Value, Refused> {
    let request: acp::WriteTextFileRequest = parse(params)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK;
    let opened = match open(place, &request.path, flags) {
        Err(Refused::Missing(_)) => {
            place.make_parents(&request.path).map_err(|error| refused(place, &request.path, error))?;
            open(place, &request.path, flags)
        }
        opened => opened,
    };
    let mut file = opened?;
    regular(&request.path, &file)?;
    let written = file.set_len(0).and_then(|()| file.write_all(request.content.as_bytes()));
    written.map_err(|error| failed(&request.path, &error.to_string()))?;
    Ok(json!({}))
}

/// Who is to see to a file that an agent asks for.
#[derive(Debug, PartialEq)]
pub enum For {
    /// A client, by this absolute path. It need not exist: an editor may know of a file that is not saved.
    Client(String),
    /// The worker: outside of the session's directory there is nothing that an editor has open.
    Worker,
}

/// Whether a client may be asked for the file of a request: one below the working directory, also by way of symlinks as they
/// are now. The error is for the agent.
pub fn whose(place: &Place, params: &Value) -> Result<For, Refused> {
    let wrong = || Refused::Wrong("wrong parameters: no `path`".to_owned());
    let path = Path::new(params["path"].as_str().ok_or_else(wrong)?);
    if !place.walled && !place.is_in_directory(path) {
        return Ok(For::Worker);
    }
    let plain = !path.components().any(|part| matches!(part, Component::ParentDir));
    match place.resolve(path, OFlags::PATH, Mode::empty()) {
        Ok(_) if plain => {}
        Err(Errno::NOENT) if plain => {}
        // Whoever resolves it by its names alone may arrive elsewhere.
        Ok(_) | Err(Errno::NOENT) => return Err(outside(path)),
        Err(error) => return Err(refused(place, path, error)),
    }
    let absolute = Path::new(&place.workdir).join(path);
    absolute.to_str().map(|path| For::Client(path.to_owned())).ok_or_else(|| failed(path, "it is not UTF-8"))
}

fn parse<T: serde::de::DeserializeOwned>(params: Value) -> Result<T, Refused> {
    serde_json::from_value(params).map_err(|error| Refused::Wrong(format!("wrong parameters: {error}")))
}

fn open(place: &Place, path: &Path, flags: OFlags) -> Result<File, Refused> {
    let opened = match flags.contains(OFlags::CREATE) {
        true => place.as_the_agent(|| place.resolve(path, flags, Mode::from_raw_mode(0o666))),
        false => place.resolve(path, flags, Mode::empty()),
    };
    opened.map(File::from).map_err(|error| refused(place, path, error))
}

fn regular(path: &Path, file: &File) -> Result<(), Refused> {
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(failed(path, "it is not a regular file")),
        Err(error) => Err(failed(path, &error.to_string())),
    }
}

fn refused(place: &Place, path: &Path, error: Errno) -> Refused {
    match error {
        Errno::NOENT => Refused::Missing(path.display().to_string()),
        Errno::XDEV | Errno::LOOP if place.walled => outside(path),
        error => failed(path, &std::io::Error::from(error).to_string()),
    }
}

fn outside(path: &Path) -> Refused {
    failed(path, "it is not below the session's working directory, and its agent runs in a sandbox")
}

fn failed(path: &Path, why: &str) -> Refused {
    Refused::Failed(format!("{}: {why}", path.display()))
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
            let reach =
                |path: &str| whose(&Place::open(&work, walls.as_ref(), 0o022), &json!({ "path": path }));
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
}
