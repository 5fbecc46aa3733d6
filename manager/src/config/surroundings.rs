//! Values that sessions take from the manager's own process: PATH, the home directory, the working directory.

use std::ffi::OsString;
use std::path::PathBuf;

use super::lookup::shown;
use crate::error::Error;

/// Variables and directories of the manager's own process.
pub(super) struct Surroundings {
    pub(super) path: Option<OsString>,
    pub(super) home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub(super) runtime: Option<PathBuf>,
}

impl Surroundings {
    pub(super) fn of_this_process() -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let home = home.or_else(|| {
            let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok()??;
            Some(user.dir)
        });
        let runtime =
            std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|runtime| runtime.is_absolute());
        Self { path: std::env::var_os("PATH"), home, runtime }
    }
}

/// Refuses a directory that is not there any more, or that a session could not run in.
///
/// # Errors
/// Those of [`Config::resolve`](super::Config::resolve) about the working directory.
pub fn existing_directory(path: &str) -> Result<String, Error> {
    workdir(Some(path), &Surroundings { path: None, home: None, runtime: None })
}

/// An existing directory's path without symlinks.
pub(super) fn workdir(given: Option<&str>, around: &Surroundings) -> Result<String, Error> {
    let path = match (given, &around.home) {
        (Some(given), _) => PathBuf::from(given),
        (None, Some(home)) => home.clone(),
        (None, None) => {
            return Err(Error::invalid_with(
                "no_such_workdir",
                "this user has no home directory to run the session in",
                "name a working directory",
            ));
        }
    };
    let name = shown(&path.to_string_lossy(), 300);
    let absolute = "give the absolute path of a directory that exists";
    if !path.is_absolute() {
        let message = format!("the working directory `{name}` is not an absolute path");
        return Err(Error::invalid_with("workdir_not_absolute", message, absolute));
    }
    let real = std::fs::canonicalize(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidInput => {
            let message = format!("there is no directory `{name}`");
            Error::invalid_with("no_such_workdir", message, "create it first, or name another")
        }
        std::io::ErrorKind::NotADirectory => not_a_directory(&name),
        _ => not_accessible(&name, &error.to_string()),
    })?;
    if !real.is_dir() {
        return Err(not_a_directory(&name));
    }
    if let Err(error) = rustix::fs::access(&real, rustix::fs::Access::EXEC_OK) {
        return Err(not_accessible(&name, &std::io::Error::from(error).to_string()));
    }
    real.into_os_string().into_string().map_err(|_| {
        let message = format!("the path of the directory `{name}` is not UTF-8");
        Error::invalid_with("workdir_not_utf8", message, "rename it, or name another")
    })
}

fn not_a_directory(name: &str) -> Error {
    Error::invalid_with("workdir_not_a_directory", format!("`{name}` is not a directory"), "name a directory")
}

fn not_accessible(name: &str, why: &str) -> Error {
    let message = format!("the working directory `{name}` cannot be entered: {why}");
    Error::invalid_with("workdir_not_accessible", message, "name a directory that this user can enter")
}
