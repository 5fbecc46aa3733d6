//! Environment of an agent.
//!
//! Not the daemon's whole environment: it was started from somebody's terminal, with whatever secrets lay
//! there. An agent gets
//!
//! 1. what a program needs to find itself at home ([`base_env`]): who and where the user is, the language, the
//!    time zone, the XDG directories, and how the network is reached (proxies, certificates). A path of these that no
//!    longer exists ([`places`]) is left out at each start of a program: the daemon outlives the client that started it;
//! 2. what `env_pass` names in `config.toml`: `ANTHROPIC_API_KEY`, `SSH_AUTH_SOCK` and the like. Only the names
//!    are in the journal; the values are read from the daemon's environment at each start of a worker, and a
//!    name that is not there is left out;
//! 3. `KENNEL_MODEL`, where a model was asked for;
//! 4. what `env` says in the profile and in the session's own options. This is in the journal, a file that only
//!    its owner can read, but a file: `env_pass` is the better place for a secret.
//!
//! `KENNEL_SYSTEM_PROMPT` and `KENNEL_SYSTEM_PROMPT_INSTEAD` among these are also for the worker, which gives them to an agent
//! that speaks ACP as its system prompt. As variables they reach workers and programs of every version.
//!
//! Later ones replace earlier ones. The marker ([`protocol::MARKER`]) is set by the worker and by nobody else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use crate::core::Spec;
use crate::system::service;

/// Names that are passed on, beside `LC_*`.
const BASE: &[&str] = &[
    // Who and where.
    "HOME",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TMPDIR",
    "USER",
    // Language, time. Not TERM: an agent has no terminal, and that of the client which started the daemon is not its own.
    "LANG",
    "LANGUAGE",
    "TZ",
    // https://specifications.freedesktop.org/basedir-spec/latest/
    "XDG_CACHE_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    // The way to the network: without it an agent behind a proxy cannot reach its model.
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// Of these the ones whose value is a path that must exist: a program that is given a wrong one fails, and without one it
/// finds its own.
const PLACES: &[&str] =
    &["NODE_EXTRA_CA_CERTS", "SHELL", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "XDG_RUNTIME_DIR"];

/// Name of the variable that tells an agent which model was asked for.
const MODEL: &str = "KENNEL_MODEL";

/// Of `vars`, those that every agent inherits. Values that are not UTF-8 are left out.
pub fn base_env(vars: impl Iterator<Item = (OsString, OsString)>) -> Vec<(String, String)> {
    vars.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("LC_") || BASE.contains(&name.as_str()))
        .collect()
}

/// Names of variables that a program gets from this process's environment only if their paths exist. What the session itself
/// says is not looked at.
pub fn places(spec: &Spec) -> Vec<String> {
    PLACES.iter().filter(|name| !spec.env.contains_key(**name)).map(|name| (*name).to_owned()).collect()
}

/// The PATH by which a session's programs are found: its own, or this process's as it is now.
pub fn path_of(spec: &Spec) -> Option<String> {
    spec.env.get("PATH").cloned().or_else(|| std::env::var("PATH").ok())
}

/// The whole environment of a session's agent but for the marker, from this process's environment as it is now.
pub fn agent_env(spec: &Spec) -> Vec<(String, String)> {
    compose(spec, std::env::vars_os)
}

/// Of `names`, those that this process's environment lacks, has empty, or has with a value that is not UTF-8, and that `env` does
/// not give a value.
pub fn missing(names: &[String], env: &BTreeMap<String, String>) -> Vec<String> {
    missing_from(names, env, |name| std::env::var(name).is_ok_and(|value| !value.is_empty()))
}

fn missing_from(names: &[String], env: &BTreeMap<String, String>, has: impl Fn(&str) -> bool) -> Vec<String> {
    let is_there = |name: &str| is_passed(name) && has(name);
    names.iter().filter(|name| !env.contains_key(*name) && !is_there(name)).cloned().collect()
}

/// Returns true if `env_pass` can name this variable: what the service manager says to the daemon is for the daemon alone.
fn is_passed(name: &str) -> bool {
    !service::VARIABLES.contains(&name)
}

/// Variables that keep a program of a log-in from the server's screen: nobody sits there.
const SCREENS: [&str; 2] = ["DISPLAY", "WAYLAND_DISPLAY"];

/// The whole environment of a log-in's program but for the marker, from this process's environment as it is now.
pub fn log_in_env(env_pass: &[String], profile: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut env: BTreeMap<String, String> = base_env(std::env::vars_os()).into_iter().collect();
    env.retain(|name, value| !PLACES.contains(&name.as_str()) || Path::new(value).exists());
    let passed = env_pass.iter().filter(|name| is_passed(name));
    env.extend(passed.filter_map(|name| Some((name.clone(), std::env::var(name).ok()?))));
    // Links are to be printed, and in one piece; the person's browser is on another machine.
    let plain = [("TERM", "dumb"), ("NO_COLOR", "1"), ("BROWSER", "/bin/false")];
    env.extend(plain.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env.extend(profile.clone());
    SCREENS.into_iter().chain([protocol::MARKER]).for_each(|name| drop(env.remove(name)));
    env.into_iter().collect()
}

fn compose<I: Iterator<Item = (OsString, OsString)>>(
    spec: &Spec,
    vars: impl Fn() -> I,
) -> Vec<(String, String)> {
    let mut env: BTreeMap<String, String> = base_env(vars()).into_iter().collect();
    for (name, value) in vars() {
        let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else {
            continue;
        };
        if spec.env_pass.contains(&name) && is_passed(&name) {
            env.insert(name, value);
        }
    }
    if let Some(model) = &spec.model {
        env.insert(MODEL.to_owned(), model.clone());
    }
    env.extend(spec.env.clone());
    env.remove(protocol::MARKER);
    env.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::config::Config;

    fn vars(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn spec() -> Spec {
        let opts = protocol::api::SessionOpts { workdir: Some("/".into()), ..Default::default() };
        Config::default().resolve(&opts).unwrap()
    }

    #[test]
    fn secrets_of_the_terminal_that_started_the_daemon_stay_there() {
        let all = vars(&[
            ("PATH", "/bin"),
            ("LC_ALL", "C.UTF-8"),
            ("https_proxy", "http://proxy:3128"),
            ("ANTHROPIC_API_KEY", "secret"),
            ("SSH_AUTH_SOCK", "/run/agent"),
            ("KENNEL_SESSION", "u/session-1/1"),
            ("LCX", "no"),
        ]);
        let names: Vec<String> = base_env(all.into_iter()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["PATH", "LC_ALL", "https_proxy"]);
    }

    #[test]
    fn values_that_are_not_utf8_are_left_out() {
        let odd = OsString::from_vec(b"/bin:\xff".to_vec());
        assert_eq!(base_env([("PATH".into(), odd)].into_iter()), []);
    }

    #[test]
    fn a_variable_is_missing_if_neither_the_daemon_nor_the_profile_has_it() {
        let names = ["A", "B", "C"].map(str::to_owned);
        let env = [("B".to_owned(), "1".to_owned())].into();
        assert_eq!(missing_from(&names, &env, |name| name == "A"), ["C"]);
    }

    #[test]
    fn later_sources_replace_earlier_ones_and_each_name_comes_once() {
        let mut spec = spec();
        spec.env_pass = vec!["API_KEY".into(), "NOT_THERE".into(), "PATH".into()];
        spec.env = [("PATH".into(), "/own".into()), ("EXTRA".into(), "1".into())].into();
        spec.model = Some("small".into());
        let daemon = vars(&[("PATH", "/bin"), ("API_KEY", "k"), ("HOME", "/home/u"), ("OTHER", "x")]);
        let env = compose(&spec, || daemon.clone().into_iter());
        let expected = [
            ("API_KEY", "k"),
            ("EXTRA", "1"),
            ("HOME", "/home/u"),
            ("KENNEL_MODEL", "small"),
            ("PATH", "/own"),
        ];
        assert_eq!(env, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
