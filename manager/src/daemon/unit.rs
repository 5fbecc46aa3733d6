//! The systemd user unit that `kennel daemon unit` prints.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::paths::{Paths, resolve};

/// A systemd user unit for this program over these paths, for `~/.config/systemd/user/kennel.service`. It names the paths
/// that a user's service would not find by itself: that has the user's home directory and no other variable of this terminal.
pub fn unit(exe: &Path, paths: &Paths) -> String {
    unit_beside(exe, paths, &|name| std::env::var_os(name).filter(|_| name == "HOME"))
}

fn unit_beside(exe: &Path, paths: &Paths, env: &dyn Fn(&str) -> Option<OsString>) -> String {
    let by_itself = resolve(None, env, geteuid().as_raw(), Path::new("/tmp")).ok();
    let exe = quoted(&exe.to_string_lossy(), true);
    let is =
        |path: &Path, of: fn(&Paths) -> &PathBuf| by_itself.as_ref().is_some_and(|found| of(found) == path);
    let state_dir = match is(&paths.state_dir, |paths| &paths.state_dir) {
        true => String::new(),
        false => format!(" --state-dir {}", quoted(&paths.state_dir.to_string_lossy(), true)),
    };
    let mut environment = String::new();
    let named = [
        ("KENNEL_CONFIG", &paths.config, !is(&paths.config, |paths| &paths.config)),
        ("KENNEL_SOCKET", &paths.socket, paths.named),
    ];
    for (name, path, _) in named.into_iter().filter(|(.., write)| *write) {
        let word = quoted(&format!("{name}={}", path.to_string_lossy()), false);
        environment += &format!("Environment={word}\n");
    }
    format!(
        "\
# Written by `kennel daemon unit`. To use it:
#   kennel daemon unit > ~/.config/systemd/user/kennel.service
#   systemctl --user enable --now kennel
# and, for sessions that outlast the login, loginctl enable-linger.

[Unit]
Description=kennel, crash-isolated hosting of AI agent sessions

[Service]
Type=exec
ExecStart={exe} daemon run{state_dir}
{environment}Restart=on-failure
RestartSec=1

# Only the daemon is signalled. On SIGTERM it leaves its sessions' processes to the next daemon: they go on with their
# turns over `systemctl --user restart kennel`, and over its being killed. `kennel daemon stop` ends all of them.
# systemd's default, control-group, would signal all of them at once.
KillMode=process
TimeoutStopSec=60

# Every session is a tree of processes; systemd's default allows a user's service a few thousand.
TasksMax=infinity
# The daemon raises its own soft limit; agents keep the usual one.
LimitNOFILE=1024:524288
# Sessions get control groups of their own, in which their limits are kept.
Delegate=memory pids cpu
DelegateSubgroup=daemon
# An agent that eats all memory should be killed, and not the daemon with it.
OOMPolicy=continue

# Agents are looked for on PATH, and a user's services have a short one:
#Environment=PATH=%h/.local/bin:%h/.cargo/bin:/usr/local/bin:/usr/bin:/bin

[Install]
WantedBy=default.target
"
    )
}

/// A word in a unit (systemd.syntax(7)); on a command line `$` begins a variable (systemd.service(5), "Command lines"), in an
/// `Environment=` it does not (systemd.exec(5)).
fn quoted(word: &str, in_command: bool) -> String {
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '$' if in_command => out.extend([c, c]),
            '%' => out.extend([c, c]),
            '\n' => out.push_str("\\n"),
            _ => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::super::paths::tests::World;
    use super::*;

    #[test]
    fn the_unit_survives_odd_paths() {
        let world = World::new();
        let paths = world.resolve(None).unwrap();
        let env = |name: &str| world.env.get(name).cloned();
        let unit = unit_beside(Path::new("/opt/my \"dogs\"/100%/$x/kennel"), &paths, &env);
        assert!(
            unit.contains("\nExecStart=\"/opt/my \\\"dogs\\\"/100%%/$$x/kennel\" daemon run\nRestart="),
            "{unit}"
        );
        assert!(unit.contains("\nKillMode=process\n"));
        // The daemon sets its own; sessions of clients that say none get that of the login.
        assert!(!unit.contains("UMask"));
    }

    #[test]
    fn the_unit_names_what_a_service_would_not_find_by_itself() {
        let world = World::new().with("KENNEL_SOCKET", "/s.sock").with("XDG_CONFIG_HOME", "/a $b/100%");
        let paths = world.resolve(Some(Path::new("/my state"))).unwrap();
        let home = |name: &str| world.env.get(name).filter(|_| name == "HOME").cloned();
        let unit = unit_beside(Path::new("/kennel"), &paths, &home);
        for line in [
            "ExecStart=\"/kennel\" daemon run --state-dir \"/my state\"",
            "Environment=\"KENNEL_CONFIG=/a $b/100%%/kennel/config.toml\"",
            "Environment=\"KENNEL_SOCKET=/s.sock\"",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line}\n{unit}");
        }
    }
}
