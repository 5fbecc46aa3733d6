//! Answers of the daemon about the word that is typed. The daemon is asked if it runs, for half a second at most, and never started.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clap::Command;
use clap_complete::engine::CompletionCandidate;
use protocol::SessionId;
use protocol::api::{
    AgentInfo, KeyInfo, NeedKind, PermissionInfo, PromptState, QueuedPrompt, SessionInfo, SettingsInfo,
    Status,
};
use serde::de::DeserializeOwned;

use super::{description, is_plain};
use crate::cli::args::{self, ColourChoice, Global};
use crate::cli::host::{self, Target};
use crate::cli::{link, settings, words};
use crate::client::Request;
use crate::daemon::Paths;

/// The longest time for all questions together: a person waits for the next letter.
const WITHIN: Duration = Duration::from_millis(500);

/// The values that an argument takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Sessions.
    Sessions,
    /// Sessions that are not stopped.
    SessionsToStop,
    /// Sessions, or a directory.
    SessionsOrDirs,
    /// Labels of sessions, with their values.
    Labels,
    /// Agents.
    Agents,
    /// Keys of devices.
    Keys,
    /// Permissions that wait, and the sessions that ask for them.
    Permissions,
    /// The options of a permission.
    Options,
    /// The settings of a session's agent, and their values.
    Settings,
    /// A session's prompts: those that wait, or the one that runs.
    Prompts,
    /// Prompts that a crash has interrupted.
    Interrupted,
    /// Names of machines.
    Hosts,
    /// Names of machines, and this one.
    HostsAndHere,
    /// A file.
    Files,
    /// A directory.
    Dirs,
}

/// A value and its description.
type Found = (String, String);

/// Answers for one command line.
#[derive(Debug)]
pub struct Answers {
    /// The daemon of the command line; absent if it is another machine's. That one may ask for a password, or be far away.
    paths: Option<Paths>,
    /// The arguments before the word.
    before: Vec<String>,
    deadline: Instant,
    /// The kind of path that the shell is to complete by itself.
    path: OnceLock<&'static str>,
}

impl Answers {
    /// For the words before the one to complete.
    pub fn new(root: &Command, words: &[OsString]) -> Arc<Self> {
        // Any command that can mean another machine.
        let mut command = args::Command::Df(args::Df { all: false });
        let paths = match host::target(&global(words), &mut command) {
            Ok(Target::Here(paths)) => Some(paths),
            Ok(Target::There(_)) | Err(_) => None,
        };
        let before = words::arguments(root, words);
        Arc::new(Self { paths, before, deadline: Instant::now() + WITHIN, path: OnceLock::new() })
    }

    /// Returns what the shell is to complete by itself: `files`, `dirs` or nothing.
    pub fn path(&self) -> Option<&'static str> {
        self.path.get().copied()
    }

    /// The values that begin like the word.
    pub fn values(&self, values: Values, current: &OsStr) -> Vec<CompletionCandidate> {
        let Some(current) = current.to_str() else { return Vec::new() };
        let found = self.found(values, current).unwrap_or_default();
        let fits = |(value, _): &Found| {
            value.starts_with(current) && is_plain(value) && !self.before.contains(value)
        };
        let candidate = |(value, help): Found| {
            let help = description(&help);
            CompletionCandidate::new(value).help((!help.is_empty()).then(|| help.into()))
        };
        found.into_iter().filter(fits).map(candidate).collect()
    }

    fn found(&self, values: Values, current: &str) -> Option<Vec<Found>> {
        match values {
            Values::Sessions => self.sessions(current, |_| true),
            Values::SessionsToStop => self.sessions(current, |session| session.status != Status::Stopped),
            Values::SessionsOrDirs if current.starts_with(['/', '.', '~']) => self.by_shell("dirs"),
            Values::SessionsOrDirs => self.sessions(current, |_| true),
            Values::Labels => Some(labels(self.get("/v1/sessions")?)),
            Values::Agents => Some(agents(self.get("/v1/agents")?)),
            Values::Keys => Some(keys(self.get("/v1/keys")?)),
            Values::Permissions => Some(permissions(self.get("/v1/permissions")?)),
            Values::Options => self.options(),
            Values::Settings => self.settings(current),
            Values::Prompts => self.prompts(),
            Values::Interrupted => Some(interrupted(self.get("/v1/sessions")?)),
            Values::Hosts => Some(hosts()),
            Values::HostsAndHere => {
                Some([(host::LOCAL.to_owned(), String::new())].into_iter().chain(hosts()).collect())
            }
            Values::Files => self.by_shell("files"),
            Values::Dirs => self.by_shell("dirs"),
        }
    }

    fn by_shell(&self, what: &'static str) -> Option<Vec<Found>> {
        let _ = self.path.set(what);
        None
    }

    /// Sessions by name; by id, too, once something is typed, and where there is no name.
    fn sessions(&self, current: &str, wanted: impl Fn(&SessionInfo) -> bool) -> Option<Vec<Found>> {
        let sessions: Vec<SessionInfo> = self.get("/v1/sessions")?;
        let mut found = Vec::new();
        for session in sessions.iter().filter(|session| wanted(session)) {
            let title = session.title.as_deref().unwrap_or_default();
            let help = format!("{} {} {title}", session.status.as_str(), session.agent);
            let name = session.name.as_ref().map(|name| name.as_str());
            found.extend(name.map(|name| (name.to_owned(), help.clone())));
            let is_other = name != Some(session.id.as_str());
            if is_other && (!current.is_empty() || name.is_none()) {
                found.push((session.id.to_string(), help));
            }
        }
        Some(found)
    }

    /// The session that the first argument names.
    fn session(&self) -> Option<SessionId> {
        let typed = self.before.first()?;
        let sessions: Vec<SessionInfo> = self.get("/v1/sessions")?;
        let is_named =
            |session: &&SessionInfo| session.name.as_ref().is_some_and(|name| name.as_str() == typed);
        let is_it = |session: &&SessionInfo| session.id.as_str() == typed;
        let found = sessions.iter().find(is_it).or_else(|| sessions.iter().find(is_named));
        found.map(|session| session.id.clone())
    }

    /// The options of the permission that the first argument names, or of the only one of that session, by id.
    fn options(&self) -> Option<Vec<Found>> {
        let typed = self.before.first()?;
        let permissions: Vec<PermissionInfo> = self.get("/v1/permissions")?;
        let is_it = |permission: &PermissionInfo| {
            permission.permission_id.to_string() == *typed
                || permission.session_id.as_str() == typed
                || permission.session_name.as_ref().is_some_and(|name| name.as_str() == typed)
        };
        let mut meant = permissions.into_iter().filter(is_it);
        let (Some(permission), None) = (meant.next(), meant.next()) else { return None };
        let options = permission.options.into_iter();
        Some(options.map(|option| (option.id, format!("{}, {}", option.name, option.kind))).collect())
    }

    /// Names of settings; their values once `=` is typed.
    fn settings(&self, current: &str) -> Option<Vec<Found>> {
        let settings: SettingsInfo = self.get(&format!("/v1/sessions/{}/settings", self.session()?))?;
        let choices = settings::choices(&settings);
        let Some((typed, _)) = current.split_once('=') else {
            return Some(choices.into_iter().map(|(name, _)| (format!("{name}="), String::new())).collect());
        };
        let (name, values) = choices.into_iter().find(|(name, _)| name == typed)?;
        Some(values.into_iter().map(|value| (format!("{name}={value}"), String::new())).collect())
    }

    fn prompts(&self) -> Option<Vec<Found>> {
        let prompts: Vec<QueuedPrompt> = self.get(&format!("/v1/sessions/{}/queue", self.session()?))?;
        let open = prompts.into_iter().filter(|prompt| prompt.state != PromptState::Interrupted);
        Some(open.map(|prompt| (prompt.prompt_id.to_string(), prompt.text)).collect())
    }

    /// Asks the daemon; none if it does not run, refuses, or takes too long.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let client = link::client(self.paths.as_ref()?);
        let left = self.deadline.checked_duration_since(Instant::now())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let request = Request::get(path);
        let answer = runtime.block_on(async { tokio::time::timeout(left, client.ask(&request)).await });
        serde_json::from_slice(&answer.ok()?.ok()?).ok()
    }
}

fn agents(agents: Vec<AgentInfo>) -> Vec<Found> {
    let help =
        |agent: &AgentInfo| if agent.path.is_some() { String::new() } else { "not installed".to_owned() };
    agents.into_iter().map(|agent| (agent.name.clone(), help(&agent))).collect()
}

fn keys(keys: Vec<KeyInfo>) -> Vec<Found> {
    keys.into_iter().map(|key| (key.id.to_string(), key.name)).collect()
}

fn labels(sessions: Vec<SessionInfo>) -> Vec<Found> {
    let labels = sessions.into_iter().flat_map(|session| session.labels);
    let mut labels: Vec<Found> =
        labels.map(|(label, value)| (format!("{label}={value}"), String::new())).collect();
    labels.sort();
    labels.dedup();
    labels
}

fn permissions(permissions: Vec<PermissionInfo>) -> Vec<Found> {
    let mut found = Vec::new();
    for permission in permissions {
        let session = match permission.session_name {
            Some(name) => name.to_string(),
            None => permission.session_id.to_string(),
        };
        found.push((permission.permission_id.to_string(), format!("{session} {}", permission.title)));
        if found.iter().all(|(value, _)| *value != session) {
            found.push((session, permission.title));
        }
    }
    found
}

fn interrupted(sessions: Vec<SessionInfo>) -> Vec<Found> {
    let needs = sessions.into_iter().flat_map(|session| session.needs);
    let cut = needs.filter(|need| need.kind == NeedKind::Interrupted);
    cut.filter_map(|need| Some((need.id?, need.text))).collect()
}

fn hosts() -> Vec<Found> {
    host::names().into_iter().map(|name| (name, String::new())).collect()
}

/// The options that choose the daemon. The shell gives `~` as it is typed.
fn global(words: &[OsString]) -> Global {
    let (mut state_dir, mut host) = (None, None);
    let mut words = words.iter().take_while(|word| *word != "--").map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (&*word, None),
        };
        let mut value = || value.clone().or_else(|| words.next().map(Into::into));
        match name {
            "--state-dir" => state_dir = value(),
            "--host" | "-H" => host = value(),
            // `-Hbox`, `-qHbox`: what it names is not this machine.
            _ if !name.starts_with("--") && name.starts_with('-') && name.contains('H') => {
                let behind =
                    word.split_once('H').map(|(_, behind)| behind.trim_start_matches('=').to_owned());
                host = behind.filter(|behind| !behind.is_empty()).or_else(|| words.next().map(Into::into));
            }
            _ => {}
        }
    }
    let state_dir = state_dir.map(|dir| match (dir.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(below), Some(home)) => PathBuf::from(home).join(below),
        _ => PathBuf::from(dir),
    });
    Global { state_dir, host, json: false, color: ColourChoice::Never, quiet: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_found_in_each_way_to_write_it() {
        let host = |words: &[&str]| global(&words.iter().map(Into::into).collect::<Vec<_>>()).host;
        for words in
            [&["-H", "box"][..], &["-Hbox"], &["-H=box"], &["-qHbox"], &["-qH", "box"], &["--host=box"]]
        {
            assert_eq!(host(words).as_deref(), Some("box"), "{words:?}");
        }
        assert_eq!((host(&["ls", "-q"]), host(&["send", "--", "-Hbox"])), (None, None));
    }
}
