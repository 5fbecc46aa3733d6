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
    /// The agent runs in a sandbox: the worker reads and writes files below the directory only.
    walled: bool,
    /// The open directory. On an error the worker reads and writes nothing in it.
    directory: Result<OwnedFd, Errno>,
    /// Paths that the session's sandbox hides.
    hidden: Vec<PathBuf>,
    /// Paths below hidden ones that the agent may write all the same.
    writable: Vec<PathBuf>,
    /// The file mode creation mask of the agent: what the worker writes for it gets the mode that it would give itself.
    umask: Mode,
}

impl Place {
    /// Opens the directory. The manager has resolved its path: a symlink in it means that the path was changed since.
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

    /// Returns true if the sandbox hides a path. Of several places around the path, the deepest decides.
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

    /// Returns true if a path names something in the session's directory.
    fn is_in_directory(&self, path: &Path) -> bool {
        self.below(path).is_some() && !path.components().any(|part| matches!(part, Component::ParentDir))
    }

    /// The path relative to the directory, by its names alone; what they lead to is the kernel's to say.
    fn below(&self, path: &Path) -> Option<PathBuf> {
        let relative = if path.is_absolute() { path.strip_prefix(&self.workdir).ok()? } else { path };
        (!relative.as_os_str().is_empty()).then(|| relative.to_owned())
    }
}

/// Reason for which a file is not read or written, for the agent.
#[derive(Debug, PartialEq)]
pub enum Refused {
    /// The worker cannot understand the request's parameters.
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

/// The party that handles a file request of the agent.
#[derive(Debug, PartialEq)]
pub enum For {
    /// A client, by this absolute path. It need not exist: an editor may know of a file that is not saved.
    Client(String),
    /// The worker: outside of the session's directory there is nothing that an editor has open.
    Worker,
}

/// Chooses the party for a file request. A client gets files below the working directory only, also by symlinks as they
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
        // A client that resolves `..` by names alone may reach another file.
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
mod tests;
