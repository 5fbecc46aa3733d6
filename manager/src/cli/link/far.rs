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
use crate::client::ssh::{Greeting, News, Ssh, SshOptions};
use crate::client::{Client, Request, encoded};
use crate::daemon::Paths;
use crate::session_manager::SessionManager;

/// The most warnings of a host that are shown.
const MAX_WARNINGS: usize = 5;
/// Codes with which an older kennel refuses something newer.
const UNKNOWN: [&str; 4] = ["invalid_body", "invalid_parameter", "method_not_allowed", "no_such_route"];

impl<'a> Link<'a> {
    /// To the daemon of another machine.
    pub fn over(ui: &'a Ui, options: SshOptions) -> Self {
        let (name, note, asked) = (options.name.clone(), ui.notes(), ui.asked.clone());
        let ssh = Ssh::new(options, move |news| match news {
            News::Lost(why) => {
                note(&format!(
                    "connection to {name} lost ({}); reconnecting, Ctrl-C ends it",
                    last_line(&why)
                ));
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
        Self { ui, paths: None, client: Client::over(Arc::new(ssh)), children: RefCell::default() }
    }

    /// The paths of the daemon's files, for what works on its own machine only.
    ///
    /// # Errors
    /// That this is another machine. `command` is what to type there.
    pub fn here(&self, command: &str) -> Outcome<&Paths> {
        self.paths.as_ref().ok_or_else(|| {
            let host = self.client.ssh().map_or("the host", |ssh| ssh.name());
            Failure::usage(format!("`kennel {command}` works on the machine itself; nothing was done"))
                .hint(format!("log in to {host} and run it there"))
        })
    }

    /// Names the other machine in a failure, and its version where that may be the reason.
    pub fn located(&self, failure: Failure) -> Failure {
        let Some(ssh) = self.client.ssh() else { return failure };
        let skew = ssh.greeting().as_ref().and_then(skew);
        let failure = match skew {
            Some(skew) if UNKNOWN.iter().any(|code| failure.is(code)) => failure.hint(skew),
            _ => failure,
        };
        failure.on(ssh.name())
    }

    /// The name of the other machine; none on this one.
    pub fn host(&self) -> Option<&str> {
        self.client.ssh().map(|ssh| ssh.name())
    }

    /// A directory of the daemon's machine, as an absolute path. Without one: the current one, or on another machine the home.
    pub async fn directory(&self, dir: Option<PathBuf>) -> Outcome<String> {
        let Some(ssh) = self.client.ssh() else { return directory(dir) };
        let home = match ssh.greeting() {
            Some(greeting) => greeting.home,
            None => {
                self.client.open().await.map_err(|error| self.failure(error))?;
                ssh.greeting().map(|greeting| greeting.home).unwrap_or_default()
            }
        };
        let dir = dir.unwrap_or_default();
        let dir = dir.strip_prefix("~").unwrap_or(&dir);
        let path = Path::new(&home).join(dir);
        // `/.` and the like have no meaning that this machine could find out.
        let path: PathBuf = path.components().collect();
        path.into_os_string().into_string().map_err(not_utf8)
    }

    /// The id of a directory's session: by the daemon's machine, which alone knows its links.
    pub async fn stable_id(&self, dir: &str) -> Outcome<SessionId> {
        if self.paths.is_some() {
            return stable_id(Path::new(dir));
        }
        #[derive(Deserialize)]
        struct Found {
            id: SessionId,
        }
        let request = Request::get(format!("/v1/lookup?dir={}", encoded(dir)));
        self.get::<Found>(request).await.map(|found| found.id)
    }
}

/// The note about a host whose kennel has another version; none if it has this one.
fn skew(said: &Greeting) -> Option<String> {
    // Builds of one version are as good as the same.
    let number = |version: &str| version.split_whitespace().next().unwrap_or_default().to_owned();
    let (there, here) = (number(&said.version), number(crate::version::VERSION));
    (there != here).then(|| {
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
