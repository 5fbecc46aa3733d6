//! What an agent in a sandbox can see and write, as bubblewrap is told it, or `walls.rs` where there is none.
//!
//! The whole machine is there to be read, but for what is hidden. Written can be the working directory, what the profile
//! names, and temporary files that nobody else sees. `/run` is empty but for what names are resolved with: sockets there
//! (of the session bus, of key agents, of docker) are ways out.

use std::path::{Path, PathBuf};

use protocol::{Sandbox, Walls};

use crate::walls;

/// Empty, and the agent's own.
pub const EMPTY: [&str; 3] = ["/tmp", "/var/tmp", "/run"];
/// What stays of `/run`.
const OF_RUN: [&str; 4] =
    ["/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/run/current-system"];

/// How a sandbox is made: what the trampoline is told, and the words that come before the program.
pub fn words(walls: &Walls, workdir: &str, argv: &[String]) -> (String, Vec<String>) {
    let strict = walls.sandbox == Sandbox::Strict;
    let (how, words) = match &walls.program {
        Some(program) => ("sandbox", bubblewrap(program, strict, places(walls, workdir, argv, &[], &[]))),
        None => {
            let places = places(walls, workdir, argv, &["/dev"], &walls::DEVICES);
            let words = places.iter().filter_map(|(path, place)| Some(walls::word(place, path.to_str()?)));
            (if strict { "mounts-strict" } else { "mounts" }, words.collect())
        }
    };
    (format!("{how}-{}", words.len()), words)
}

fn bubblewrap(program: &str, strict: bool, places: Vec<(PathBuf, Place)>) -> Vec<String> {
    let mut words = Words(vec![program.to_owned()]);
    words.add(&["--unshare-pid", "--as-pid-1", "--die-with-parent", "--unshare-ipc"]);
    // root, too: who may unmount sees what is hidden. One right is left, without which root cannot be root in a user
    // namespace (user_namespaces(7)); init gives it up with that.
    words.add(&["--cap-drop", "ALL"]);
    if rustix::process::geteuid().is_root() {
        words.add(&["--cap-add", "CAP_SETFCAP"]);
    }
    if strict {
        words.add(&["--unshare-net"]);
    }
    words.add(&["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]);
    for (path, place) in &places {
        // One that is not UTF-8 was not named.
        let Some(path) = path.to_str() else { continue };
        match place {
            Place::Hidden if Path::new(path).is_dir() => words.add(&["--tmpfs", path]),
            Place::Hidden => words.add(&["--ro-bind", "/dev/null", path]),
            Place::Seen => words.add(&["--ro-bind", path, path]),
            Place::Written => words.add(&["--bind", path, path]),
        }
    }
    words.add(&["--setenv", "TMPDIR", "/tmp", "--chdir", "/", "--"]);
    words.0
}

/// What is said of which path, the shorter paths first: what is said of a directory holds for what is below it, until
/// something else is said of that.
fn places(
    walls: &Walls,
    workdir: &str,
    argv: &[String],
    also_empty: &[&str],
    also_seen: &[&str],
) -> Vec<(PathBuf, Place)> {
    // Where it really is: a symlink would be a way round.
    let real = |paths: &[String]| -> Vec<PathBuf> {
        paths.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect()
    };
    let named: Vec<String> = EMPTY.iter().chain(also_empty).map(|path| (*path).to_owned()).collect();
    let empty = real(&named);
    let within = |path: &Path| empty.iter().any(|above| path.starts_with(above));
    let mut places: Vec<(PathBuf, Place)> = empty.iter().map(|path| (path.clone(), Place::Hidden)).collect();
    let seen: Vec<String> = OF_RUN.iter().chain(also_seen).map(|path| (*path).to_owned()).collect();
    places.extend(real(&seen).into_iter().map(|path| (path, Place::Seen)));
    places.extend(real(&walls.hidden).into_iter().map(|path| (path, Place::Hidden)));
    places.extend(real(&walls.writable).into_iter().map(|path| (path, Place::Written)));
    let program = argv.first().map(PathBuf::from).filter(|program| program.is_absolute());
    let program = program.filter(|program| within(program) && program.is_file());
    places.extend(program.map(|program| (program, Place::Seen)));
    places.push((PathBuf::from(workdir), Place::Written));
    places.sort_by_key(|(path, _)| path.components().count());
    let mut kept: Vec<(PathBuf, Place)> = Vec::new();
    for (path, place) in places {
        // What is in a hidden place is hidden with it.
        let above = kept.iter().rev().find(|(above, _)| path.starts_with(above));
        if !matches!((&place, above), (Place::Hidden, Some((_, Place::Hidden)))) {
            kept.push((path, place));
        }
    }
    kept
}

/// What is said of a path.
pub enum Place {
    /// It is not to be seen.
    Hidden,
    /// It can be read.
    Seen,
    /// It can be written.
    Written,
}

struct Words(Vec<String>);

impl Words {
    fn add(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(|word| (*word).to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deeper_path_decides() {
        let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        for below in ["state/worktrees/one", "home/.config/agent"] {
            std::fs::create_dir_all(root.join(below)).unwrap();
        }
        let at = |below: &str| root.join(below).to_str().unwrap().to_owned();
        let walls = Walls {
            sandbox: Sandbox::Workdir,
            program: Some("/usr/bin/bwrap".into()),
            hidden: vec![at("state"), at("home/.config"), at("home/.ssh")],
            writable: vec![at("home/.config/agent"), at("home")],
        };
        let (how, words) = words(&walls, &at("state/worktrees/one"), &["/bin/sh".into()]);
        assert_eq!(how, format!("sandbox-{}", words.len()));
        let place = |option: &str, path: String| {
            let found = words.windows(2).position(|pair| pair == [option, path.as_str()]);
            found.unwrap_or_else(|| panic!("no {option} {path} in {words:?}"))
        };
        let in_tmp = root.starts_with("/tmp") || root.starts_with("/var/tmp");
        if !in_tmp {
            assert!(place("--tmpfs", at("state")) < place("--bind", at("state/worktrees/one")));
            assert!(place("--tmpfs", at("home/.config")) < place("--bind", at("home/.config/agent")));
            assert!(place("--bind", at("home")) < place("--tmpfs", at("home/.config")));
        }
        assert!(place("--tmpfs", "/tmp".into()) < place("--bind", at("state/worktrees/one")));
        assert!(!words.contains(&at("home/.ssh")), "what is not there need not be hidden");
        assert!(!words.contains(&"--unshare-net".to_owned()));
    }
}
