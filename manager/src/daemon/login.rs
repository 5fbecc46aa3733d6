//! Log-outs that end the daemon: a login manager may kill what a session of a login leaves
//! (`KillUserProcesses=` in logind.conf(5)).

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::address::{self, Found};

/// Where the login manager reads its settings, the strongest last.
const MAIN: [&str; 3] =
    ["/usr/lib/systemd/logind.conf", "/run/systemd/logind.conf", "/etc/systemd/logind.conf"];
const PARTS: [&str; 3] =
    ["/usr/lib/systemd/logind.conf.d", "/run/systemd/logind.conf.d", "/etc/systemd/logind.conf.d"];

/// The warning for a person who reaches this state directory's daemon over a login; none if a log-out ends nothing.
pub fn warning(state_dir: &Path) -> Option<String> {
    let daemon = match address::find(state_dir) {
        Found::Served { pid, .. } => pid,
        // The next command starts it where this process is.
        Found::Free | Found::Unknown => None,
    };
    let process = daemon.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let ends = is_in_login(&groups) && kills(&settings(), geteuid().is_root());
    ends.then(|| {
        "logging out ends the daemon and its sessions (KillUserProcesses=yes); `kennel daemon unit` prints a unit that stays, \
         and `loginctl enable-linger` keeps it running"
            .to_owned()
    })
}

/// Returns true for a process of a login's own group.
fn is_in_login(groups: &str) -> bool {
    groups
        .lines()
        .filter_map(|line| line.rsplit('/').find(|part| part.ends_with(".scope")))
        .any(|scope| scope.strip_prefix("session-").is_some_and(|scope| !scope.starts_with('.')))
}

/// All settings, the strongest last.
fn settings() -> String {
    let mut files: Vec<PathBuf> = MAIN.iter().map(PathBuf::from).collect();
    let entries = PARTS.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
    let mut parts: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    parts.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    parts.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    files.extend(parts);
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect::<Vec<_>>().join("\n")
}

/// Returns true if the login manager kills this user's processes. It leaves root's alone unless it is told otherwise.
fn kills(settings: &str, root: bool) -> bool {
    let last = |key: &str| {
        let mut lines = settings
            .lines()
            .rev()
            .filter_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='));
        lines.next().map(|value| value.trim().to_lowercase())
    };
    let yes = |value: String| ["yes", "true", "on", "1", "y", "t"].contains(&&*value);
    let spared = root
        && last("KillExcludeUsers").is_none_or(|users| users.split_whitespace().any(|user| user == "root"));
    last("KillUserProcesses").is_some_and(yes) && !spared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_ends_what_it_began_is_noticed() {
        assert!(is_in_login("0::/user.slice/user-1000.slice/session-3.scope\n"));
        assert!(!is_in_login("0::/user.slice/user-1000.slice/user@1000.service/app.slice/kennel.service\n"));
        assert!(!is_in_login("0::/\n") && !is_in_login(""));
        for (settings, root, ends) in [
            ("", false, false),
            ("[Login]\n#KillUserProcesses=yes", false, false),
            ("[Login]\nKillUserProcesses=yes", false, true),
            ("KillUserProcesses = True", false, true),
            ("KillUserProcesses=yes\nKillUserProcesses=no", false, false),
            ("KillUserProcesses=yes", true, false),
            ("KillUserProcesses=yes\nKillExcludeUsers=", true, true),
        ] {
            assert_eq!(kills(settings, root), ends, "{settings:?} root {root}");
        }
    }
}
