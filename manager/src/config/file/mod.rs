//! `config.toml` as it is written: every key known, every value within its bounds, every complaint with its line.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use protocol::SessionId;

use self::listen::listen;
use self::profile::profile;
use self::raw::{RawDaemon, RawFile, RawRetention};
use self::values::Within;
use super::agents::SHELL;
use super::lookup::shown;
use super::{Config, Connections, Retention, built_in};
use crate::error::Error;
use crate::system::owned;

mod listen;
mod profile;
pub(super) mod raw;
#[cfg(test)]
mod tests;
pub(super) mod values;
mod words;

/// The largest `config.toml`, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads the file; none where there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    let failed = |why: String| {
        Error::invalid_with(
            "invalid_config",
            format!("cannot read {}: {why}", path.display()),
            "make it a readable text file, or move it away",
        )
    };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    // Opening one would wait for somebody to write into it.
    if metadata.file_type().is_fifo() {
        return Err(failed("it is a pipe".into()));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| owned::believed(path, &file).map(|()| file))
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(format!("it has more than {MAX_FILE} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
        Error::invalid_with(
            "invalid_config",
            format!("{}:{line}: not UTF-8", path.display()),
            "save the file as UTF-8",
        )
    })
}

/// Understands the file's text.
pub(super) fn parse(path: &Path, text: &str) -> Result<Config, Error> {
    let complain = |at: Option<usize>, what: &str| {
        let line = at.map(|at| format!(":{}", line_of(text.as_bytes(), at))).unwrap_or_default();
        Error::invalid_with(
            "invalid_config",
            format!("{}{line}: {}", path.display(), shown(what, 500)),
            "correct that line; until then no session is created and nothing was changed",
        )
    };
    let raw: RawFile = toml::from_str(text).map_err(|error| {
        let at = error.span().map(|span| span.start);
        let key = at.and_then(|at| words::key_before(text, at));
        let said = words::plain(key, error.message());
        let key = key.map(|key| format!("`{key}`: ")).unwrap_or_default();
        complain(at, &(key + &said))
    })?;
    let mut agents = BTreeMap::new();
    for (name, agent) in raw.agents {
        let at = name.span().start;
        let name = name.into_inner();
        // A name is shown, typed and journaled: what is good for a session's id is good for it.
        if name.parse::<SessionId>().is_err() {
            let what = "an agent's name has 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or digit";
            return Err(complain(Some(at), what));
        }
        let profile = profile(&name, at, agent, text).map_err(|(at, what)| complain(Some(at), &what))?;
        agents.insert(name, profile);
    }
    let defaults = raw.defaults;
    if let Some(agent) = &defaults.agent
        && agent.get_ref() != SHELL
        && !agents.contains_key(agent.get_ref())
        && built_in::named(agent.get_ref()).is_none()
    {
        let what = format!("no agent `{}` is defined; write an [agents.NAME] for it", agent.get_ref());
        return Err(complain(Some(agent.span().start), &what));
    }
    let listen = listen(raw.listen).map_err(|(at, what)| complain(Some(at), &what))?;
    Ok(Config {
        path: path.to_owned(),
        agents,
        listen,
        cgroup_root: Within::value(&raw.daemon.cgroup_root).unwrap_or_default(),
        spare_workers: Within::value(&raw.daemon.spare_workers),
        connections: connections(raw.daemon),
        retention: retention(raw.retention),
        defaults,
    })
}

fn connections(raw: RawDaemon) -> Connections {
    let usual = Connections::default();
    Connections {
        most: Within::value(&raw.connections).unwrap_or(usual.most),
        head_ms: Within::value(&raw.head_timeout).unwrap_or(usual.head_ms),
        idle_ms: Within::value(&raw.idle_timeout).unwrap_or(usual.idle_ms),
        stall_ms: Within::value(&raw.stall_timeout).unwrap_or(usual.stall_ms),
    }
}

/// 0 stands for no limit.
fn retention(raw: RawRetention) -> Retention {
    Retention {
        max_age_ms: Within::value(&raw.max_age).filter(|millis| *millis > 0),
        max_bytes: Within::value(&raw.max_size).filter(|bytes| *bytes > 0),
        every_ms: Within::value(&raw.every).unwrap_or(Retention::default().every_ms),
    }
}

/// The line of the byte `at`, counted from 1.
fn line_of(text: &[u8], at: usize) -> usize {
    1 + text[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count()
}
