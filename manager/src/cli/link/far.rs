//! The way to the daemon of another machine, and what is different there.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::SessionId;
use serde::Deserialize;

use super::Link;
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome};
use crate::client::far::{Far, FarOptions, Greeting, News};
use crate::client::{Client, Request, encoded};
use crate::daemon::Paths;
use crate::session_manager::SessionManager;

/// The most warnings of a host that are shown.
const MAX_WARNINGS: usize = 5;
/// Codes with which an older kennel refuses something newer.
const UNKNOWN: [&str; 4] = ["invalid_body", "invalid_parameter", "method_not_allowed", "no_such_route"];

impl<'a> Link<'a> {
    /// To the daemon of another machine.
    pub fn over(ui: &'a Ui, options: FarOptions) -> Self {
        let (name, note, asked) = (options.name.clone(), ui.notes(), ui.asked.clone());
        let far = Far::new(options, move |news| match news {
            News::Lost(why) => {
                let why = Some(last_line(&why)).filter(|why| !why.is_empty());
                let why = why.unwrap_or("the other end has closed it");
                note(&format!("connection to {name} lost ({why}); reconnecting, Ctrl-C ends it"));
            }
            News::Asks(asks) => asked.store(asks, Ordering::Relaxed),
            News::Back => note(&format!("connected to {name} again")),
            News::Reached(said) => {
                if let Some(skew) = skew(&said) {
                    note(&format!("{name}: {skew}"));
                }
                said.warnings.iter().take(MAX_WARNINGS).for_each(|one| note(&format!("{name}: {one}")));
            }
        });
        Self { ui, paths: None, client: Client::over(Arc::new(far)), children: RefCell::default() }
    }

    /// The paths of the daemon's files, for what works on its own machine only.
    ///
    /// # Errors
    /// That this is another machine. `command` is what to type there.
    pub fn here(&self, command: &str) -> Outcome<&Paths> {
        self.paths.as_ref().ok_or_else(|| {
            let host = self.client.far().map_or("the host", |far| far.name());
            Failure::usage(format!("`kennel {command}` works on the machine itself; nothing was done"))
                .hint(format!("log in to {host} and run it there"))
        })
    }

    /// Names the other machine in a failure, and its version where that may be the reason.
    pub fn located(&self, failure: Failure) -> Failure {
        let Some(far) = self.client.far() else { return failure };
        let skew = far.greeting().as_ref().and_then(skew);
        let failure = match skew {
            Some(skew) if UNKNOWN.iter().any(|code| failure.is(code)) => failure.hint(skew),
            _ => failure,
        };
        failure.on(far.name())
    }

    /// The name of the other machine; none on this one.
    pub fn host(&self) -> Option<&str> {
        self.client.far().map(|far| far.name())
    }

    /// A directory of the daemon's machine, as an absolute path. Without one: the current one, or on another machine the home.
    pub async fn directory(&self, dir: Option<PathBuf>) -> Outcome<String> {
        let Some(far) = self.client.far() else { return directory(dir) };
        let home = match far.greeting() {
            Some(greeting) => greeting.home,
            None => {
                self.client.open().await.map_err(|error| self.failure(error))?;
                far.greeting().map(|greeting| greeting.home).unwrap_or_default()
            }
        };
        let dir = dir.unwrap_or_default();
        let dir = dir.strip_prefix("~").unwrap_or(&dir);
        let path = Path::new(&home).join(dir);
        if path.is_relative() {
            let what = format!("{} does not tell where its home is", far.name());
            return Err(Failure::usage(what).hint("give the directory by its absolute path there"));
        }
        // `/.` and the like have no meaning that this machine could find out.
        let path: PathBuf = path.components().collect();
        path.into_os_string().into_string().map_err(not_utf8)
    }

    /// The id of a directory's session: by the daemon's machine, which alone knows its links.
    pub async fn stable_id(&self, dir: &str) -> Outcome<SessionId> {
        if self.paths.is_some() {
            return stable_id(Path::new(dir));
        }
        self.lookup("dir", dir).await
    }

    /// The session that is meant by an id or the beginning of one.
    pub async fn find(&self, typed: &str) -> Outcome<SessionId> {
        self.lookup("id", typed).await
    }

    /// The session that the daemon finds by something.
    async fn lookup(&self, by: &str, what: &str) -> Outcome<SessionId> {
        #[derive(Deserialize)]
        struct Found {
            id: SessionId,
        }
        let request = Request::get(format!("/v1/lookup?{by}={}", encoded(what)));
        self.get::<Found>(request).await.map(|found| found.id)
    }

    /// Refuses what only a way that can start the daemon again may do.
    pub fn can_start(&self, command: &str) -> Outcome {
        match self.client.far() {
            Some(far) if !far.starts_daemons() => self.here(command).map(drop),
            _ => Ok(()),
        }
    }
}

/// The note about a host whose kennel has another version; none if it has this one.
fn skew(said: &Greeting) -> Option<String> {
    // Builds of one version are as good as the same.
    let number = |version: &str| version.split_whitespace().next().unwrap_or_default().to_owned();
    let (there, here) = (number(&said.version), number(crate::version::VERSION));
    (there != here && !there.is_empty()).then(|| {
        format!(
            "it runs kennel {there}, and this is {here}: what one of them does not know, it refuses by its name; \
             install the newer one on both, and `kennel daemon upgrade` there"
        )
    })
}

/// The last line of what a host said, which is most often the reason.
fn last_line(said: &str) -> &str {
    said.trim().lines().next_back().unwrap_or_default().trim()
}

/// A directory, or the current one, as an absolute path.
fn directory(dir: Option<PathBuf>) -> Outcome<String> {
    let found = match dir {
        None => std::env::current_dir(),
        Some(dir) => std::path::absolute(dir),
    };
    let path = found.map_err(|error| {
        Failure::usage(format!("the directory: {error}")).hint("give the absolute path of a directory")
    })?;
    path.into_os_string().into_string().map_err(not_utf8)
}

fn not_utf8(path: std::ffi::OsString) -> Failure {
    let path = path.display();
    Failure::usage(format!("`{path}` is not UTF-8; sessions need a directory whose path is"))
}

/// The id of a directory's session on this machine.
fn stable_id(dir: &Path) -> Outcome<SessionId> {
    SessionManager::stable_session_id_for_workdir(dir).map_err(|error| {
        let failure = Failure::usage(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}
