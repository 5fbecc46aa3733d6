//! A view in the words of bubblewrap's command line.

use std::os::fd::AsRawFd;
use std::path::Path;

use protocol::Sandbox;

use super::{MASKED_OF_PROC, ROOTS_OF_PROC, Step};

/// The words of bubblewrap for a view, and then for what it starts. It mounts what is held by its descriptor, which must be
/// inherited.
pub fn bubblewrap(program: &str, sandbox: Sandbox, steps: &[Step]) -> Vec<String> {
    let mut words = Words(vec![program.to_owned()]);
    words.add(&["--unshare-pid", "--as-pid-1", "--die-with-parent", "--unshare-ipc"]);
    // root, too: who may unmount sees what is hidden. One right is left, without which root cannot be root in a user
    // namespace (user_namespaces(7)); init gives it up with that.
    words.add(&["--cap-drop", "ALL"]);
    if rustix::process::geteuid().is_root() {
        words.add(&["--cap-add", "CAP_SETFCAP"]);
    }
    if sandbox == Sandbox::Strict {
        words.add(&["--unshare-net"]);
    }
    words.add(&["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]);
    if rustix::process::geteuid().is_root() {
        for path in ROOTS_OF_PROC.into_iter().filter(|path| Path::new(path).exists()) {
            words.add(&["--ro-bind", path, path]);
        }
        for path in MASKED_OF_PROC.into_iter().filter(|path| Path::new(path).exists()) {
            words.add(&["--ro-bind", "/dev/null", path]);
        }
    }
    for step in steps {
        // One that is not UTF-8 was not named.
        let Some(at) = step.path().to_str() else { continue };
        match step {
            Step::Empty { .. } => words.add(&["--tmpfs", at]),
            Step::Mask { .. } => words.add(&["--ro-bind", "/dev/null", at]),
            Step::Shown { written, held, .. } => {
                let held = held.as_ref().map(|held| format!("/proc/self/fd/{}", held.as_raw_fd()));
                let option = match (written, &held) {
                    (true, _) => "--bind",
                    (false, Some(_)) => "--ro-bind",
                    // It may have gone since it was listed.
                    (false, None) => "--ro-bind-try",
                };
                words.add(&[option, held.as_deref().unwrap_or(at), at]);
            }
            Step::Link { target, .. } => {
                if let Some(target) = target.to_str() {
                    words.add(&["--symlink", target, at]);
                }
            }
        }
    }
    for step in steps {
        if let (Step::Empty { written: false, .. }, Some(at)) = (step, step.path().to_str()) {
            words.add(&["--remount-ro", at]);
        }
    }
    words.add(&["--chdir", "/", "--"]);
    words.0
}

struct Words(Vec<String>);

impl Words {
    fn add(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(|word| (*word).to_owned()));
    }
}
