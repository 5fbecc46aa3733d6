//! The home, the profiles and the daemon of a cell, before any probe runs.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::{Sandbox, SandboxBy};

use crate::containment::User;
use crate::sandbox_matrix::kind::Kind;
use crate::sandbox_matrix::outside::{CANARY, NOBODY, give_away};
use crate::sandbox_matrix::table::{LATE, SECRETS};

/// Write a file below the test's directory, and the directories above it.
pub fn make(root: &Path, below: &str, text: &str) {
    let path = root.join(below);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Write what the probes try to reach, and what they work with.
pub fn files(root: &Path, probes: &Path, preload: &Path) {
    let make = |below: &str, text: &str| make(root, below, text);
    for directory in ["home/project", "home/.agent", "outside/victims", "run", "elsewhere"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    for secret in SECRETS {
        make(&format!("home/{secret}"), CANARY);
    }
    for file in [
        "home/readable",
        "home/mine/canary",
        "home/mine2/file",
        "home/mine3/canary",
        "home/mine4/canary",
        "home/sibling/canary",
        "outside/canary",
        "elsewhere/canary",
    ] {
        make(file, CANARY);
    }
    for directory in ["pre-terminal", "pre-profile", "pre-audit", "pre-kin", "pre-exe"] {
        make(&format!("home/project/{directory}/none"), "");
        std::fs::copy(preload, root.join(format!("home/project/{directory}/preload.so"))).unwrap();
    }
    std::fs::copy(probes, root.join("home/project/probes")).unwrap();
    make("home/project/canary-of-its-own", CANARY);
    make("home/project/interpreted", "#!/proc/self/exe\n");
    let interpreted = root.join("home/project/interpreted");
    std::fs::set_permissions(interpreted, PermissionsExt::from_mode(0o755)).unwrap();
    make("home/.agent/deep/secret/canary", CANARY);
    // For races: a directory, and a link that takes its place.
    make("home/project/swap/none", "");
    for (to, link) in [("home/.ssh", "swapped"), ("home/.ssh", "link"), ("outside", "out")] {
        std::os::unix::fs::symlink(root.join(to), root.join("home/project").join(link)).unwrap();
    }
}

/// Returns the configuration: profiles in the cell's sandbox, and one without.
pub fn profiles(kind: Kind, root: &Path, agent: &Path) -> String {
    let sandbox = kind.sandbox.name();
    let containment = if kind.sandbox == Sandbox::None { "subreaper" } else { "auto" };
    let agent = agent.display().to_string();
    let at = root.display().to_string();
    let profile = |name: &str, env: &str| {
        format!(
            "[agents.{name}]\nkind = \"acp\"\ncommand = [\"{agent}\"]\nsandbox = \"{sandbox}\"\n\
             containment = \"{containment}\"\nsandbox_hide = [\"~/mine\", \"~/mine2\", \"~/mine3\", \"~/mine4\", \"~/late\", \
             \"~/.agent/deep/secret\", \"~/.agent/plant/hidden\"]\nsandbox_write = [\"~/.agent\"]\n{env}\n"
        )
    };
    let preloaded = format!("env = {{ LD_PRELOAD = \"{at}/home/project/pre-profile/preload.so\" }}");
    let shell = |name: &str, sandbox: &str, more: &str| {
        format!(
            "[agents.{name}]\nkind = \"shell\"\nsandbox = \"{sandbox}\"\ncontainment = \"{containment}\"\n{more}\n"
        )
    };
    let shells = [
        shell("walled", sandbox, r#"sandbox_hide = ["~/mine"]"#),
        shell("open", sandbox, r#"sandbox_write = ["~/mine4"]"#),
    ];
    format!(
        "{}{}{}[agents.free]\nkind = \"shell\"\n[defaults]\ngrace = \"100ms\"\n# {CANARY}\n",
        profile("hostile", ""),
        profile("preloaded", &preloaded),
        shells.concat()
    )
}

/// Set the daemon's environment.
pub fn environment(kind: Kind, root: &Path, daemon: &mut Daemon) {
    let at = root.display().to_string();
    let home = format!("{at}/home");
    for (name, value) in [
        ("HOME", home.as_str()),
        ("XDG_CONFIG_HOME", &format!("{home}/.config")),
        ("XDG_RUNTIME_DIR", &format!("{at}/run")),
        ("KENNEL_SOCKET", &format!("{at}/elsewhere/door.sock")),
        ("DAEMON_SECRET", CANARY),
    ] {
        daemon.set(name, value);
    }
    let mut path = format!("{home}/project/bin:{}", std::env::var("PATH").unwrap());
    std::fs::create_dir(root.join("home/project/bin")).unwrap();
    if kind.user == User::Nobody {
        chown(root.join("home/project/bin"), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    if kind.by == SandboxBy::Landlock {
        // A PATH with every needed program except bubblewrap.
        let tools = root.join("tools");
        std::fs::create_dir(&tools).unwrap();
        for tool in ["setpriv", "umount", "cat"] {
            std::os::unix::fs::symlink(format!("/usr/bin/{tool}"), tools.join(tool)).unwrap();
        }
        path = format!("{home}/project/bin:{}", tools.display());
    }
    daemon.set("PATH", &path);
}

/// Run the daemon in the foreground, and wait until it answers.
pub fn start(root: &Path, daemon: &Daemon) {
    // In the foreground it keeps the session keyring of its login, as a unit's does: only a sandbox is between it and agents.
    let mut running =
        daemon.command(&["daemon", "run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::spawn(move || running.wait());
    let door = root.join("elsewhere/door.sock");
    until("a daemon", || UnixStream::connect(&door).ok());
}

/// Write a log of the daemon's, which it does not have in the foreground.
pub fn write_log(kind: Kind, root: &Path) {
    let log = root.join("state/daemon.log");
    std::fs::write(&log, "its log\n").unwrap();
    std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o600)).unwrap();
    if kind.user == User::Nobody {
        chown(&log, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// Write the secrets that come after the session's start.
pub fn late_secrets(kind: Kind, root: &Path) {
    for late in LATE {
        make(root, &format!("home/{late}"), CANARY);
        if kind.user == User::Nobody {
            give_away(root.join("home").join(late).parent().unwrap());
        }
    }
}
