//! The systemd units that `kennel daemon unit` prints.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::unistd::User;
use rustix::process::geteuid;

use super::paths::{Paths, resolve};

/// The first line of each unit. By this line kennel knows the units that it wrote.
const MARK: &str = "# Written by `kennel daemon unit`.";
/// The state directory of a system's service, where the caller names no other.
const SYSTEM_STATE: &str = "/var/lib/kennel";

/// Returns true for the text of a unit that kennel wrote.
pub fn is_ours(text: &str) -> bool {
    text.starts_with(MARK)
}

/// The first version of systemd with `DelegateSubgroup`.
const SUBGROUPS: u32 = 254;

/// The service manager that runs a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// The user's own, from the first login to the last logout.
    User,
    /// The system's, from boot to shutdown.
    System,
}

/// The systemd service for this program over these paths. It names its state directory, and the other paths that the service
/// would not find by itself: that has the user's home directory and no other variable of this terminal.
///
/// `version`: that of this machine's systemd, if it is known. systemd complains about settings that it does not know.
pub fn unit(exe: &Path, paths: &Paths, runner: Runner, version: Option<u32>) -> String {
    let text = unit_beside(exe, paths, runner, &only_home);
    match version {
        Some(version) if version < SUBGROUPS => text.replace(
            "\nDelegateSubgroup=",
            "\n# systemd 254 or newer is needed for that; then remove the mark of this comment.\n#DelegateSubgroup=",
        ),
        _ => text,
    }
}

fn only_home(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|_| name == "HOME")
}

/// The paths of a service that was given no path.
fn by_itself(env: &dyn Fn(&str) -> Option<OsString>) -> Option<Paths> {
    resolve(None, env, geteuid().as_raw(), Path::new("/tmp")).ok()
}

/// The state directory of the unit: the caller's, or that of the system's service.
fn state_dir_of(paths: &Paths, runner: Runner) -> PathBuf {
    match runner {
        Runner::System if !paths.state_dir_named => SYSTEM_STATE.into(),
        _ => paths.state_dir.clone(),
    }
}

fn unit_beside(exe: &Path, paths: &Paths, runner: Runner, env: &dyn Fn(&str) -> Option<OsString>) -> String {
    let by_itself = by_itself(env);
    let exe = quoted(&exe.to_string_lossy(), true);
    let state_dir = state_dir_of(paths, runner);
    let mut settings = environment(paths, by_itself.as_ref());
    let (how, target) = match runner {
        Runner::User => (
            "\
#   kennel daemon install
#   kennel daemon stop
#   systemctl --user daemon-reload
#   systemctl --user enable --now kennel
# and, for sessions that outlast the login, loginctl enable-linger.",
            "default.target",
        ),
        Runner::System => {
            settings += &of_system(&state_dir);
            (
                "\
#   kennel daemon unit --system | sudo tee /etc/systemd/system/kennel.service
#   sudo systemctl enable --now kennel
# Commands find its daemon by KENNEL_STATE_DIR or --state-dir.",
                "multi-user.target",
            )
        }
    };
    let state_dir = quoted(&state_dir.to_string_lossy(), true);
    format!(
        "\
{MARK} To use it:
{how}

[Unit]
Description=kennel, crash-isolated hosting of AI agent sessions
# While a daemon outside of the service has the state directory, a start fails; it is tried until that one has ended.
StartLimitIntervalSec=0

[Service]
# The daemon says when it takes requests, what its sessions do, and that it lives.
Type=notify
ExecStart={exe} daemon run --state-dir {state_dir}
{settings}Restart=on-failure
RestartSec=1
# A large journal takes its time at the first start after an upgrade.
TimeoutStartSec=300
# A daemon whose loop answers nobody for so long is killed and started anew; its sessions' processes go on meanwhile.
WatchdogSec=120
WatchdogSignal=SIGKILL

# Only the daemon is signalled. On SIGTERM it leaves its sessions' processes to the next daemon: they go on with their
# turns over `systemctl restart`, and over its being killed. `kennel daemon stop` ends all of them.
# systemd's default, control-group, would signal all of them at once.
KillMode=process
TimeoutStopSec=60

# Every session is a tree of processes; systemd's default allows a service a few thousand.
TasksMax=infinity
# The daemon raises its own soft limit; agents keep the usual one.
LimitNOFILE=1024:524288
# Sessions get control groups of their own, in which their limits are kept.
Delegate=memory pids cpu
DelegateSubgroup=daemon
# An agent that eats all memory should be killed, and not the daemon with it.
OOMPolicy=continue

# Agents are looked for on PATH, and services have a short one:
#Environment=PATH=/home/you/.local/bin:/home/you/.cargo/bin:/usr/local/bin:/usr/bin:/bin

[Install]
WantedBy={target}
"
    )
}

/// The paths that the service would not find by itself.
fn environment(paths: &Paths, by_itself: Option<&Paths>) -> String {
    let named = [
        ("KENNEL_CONFIG", &paths.config, by_itself.is_none_or(|found| found.config != paths.config)),
        ("KENNEL_SOCKET", &paths.socket, paths.named),
    ];
    let written = named.into_iter().filter(|(.., write)| *write);
    let line = |(name, path, _): (&str, &PathBuf, bool)| {
        format!("Environment={}\n", quoted(&format!("{name}={}", path.to_string_lossy()), false))
    };
    written.map(line).collect()
}

/// The settings that only a system's service needs: its user, and a state directory that systemd makes for that user.
fn of_system(state_dir: &Path) -> String {
    let uid = nix::unistd::geteuid();
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let mut settings = format!("User={name}\n");
    if state_dir == Path::new(SYSTEM_STATE) {
        settings += "StateDirectory=kennel\nStateDirectoryMode=0700\n";
    }
    settings
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
        let unit = unit_beside(Path::new("/opt/my \"dogs\"/100%/$x/kennel"), &paths, Runner::User, &env);
        let state_dir = paths.state_dir.display();
        let line = format!(
            "\nExecStart=\"/opt/my \\\"dogs\\\"/100%%/$$x/kennel\" daemon run --state-dir \"{state_dir}\"\nRestart="
        );
        assert!(unit.contains(&line), "{unit}");
        assert!(unit.contains("\nKillMode=process\n"));
        // The daemon sets its own; sessions of clients that say none get that of the login.
        assert!(!unit.contains("UMask"));
    }

    #[test]
    fn the_unit_names_what_a_service_would_not_find_by_itself() {
        let world = World::new().with("KENNEL_SOCKET", "/s.sock").with("XDG_CONFIG_HOME", "/a $b/100%");
        let paths = world.resolve(Some(Path::new("/my state"))).unwrap();
        let home = |name: &str| world.env.get(name).filter(|_| name == "HOME").cloned();
        let unit = unit_beside(Path::new("/kennel"), &paths, Runner::User, &home);
        for line in [
            "ExecStart=\"/kennel\" daemon run --state-dir \"/my state\"",
            "Environment=\"KENNEL_CONFIG=/a $b/100%%/kennel/config.toml\"",
            "Environment=\"KENNEL_SOCKET=/s.sock\"",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line}\n{unit}");
        }
    }

    #[test]
    fn the_systems_unit_has_a_user_and_a_state_directory_of_the_systems() {
        // What the caller's environment has, and does not name, is not meant.
        let world = World::new().with("XDG_STATE_HOME", "/elsewhere");
        let home = |name: &str| world.env.get(name).cloned();
        let unit = |flag: Option<&str>| {
            let paths = world.resolve(flag.map(Path::new)).unwrap();
            unit_beside(Path::new("/kennel"), &paths, Runner::System, &home)
        };
        let own = unit(None);
        for line in [
            "ExecStart=\"/kennel\" daemon run --state-dir \"/var/lib/kennel\"",
            "StateDirectory=kennel",
            "WantedBy=multi-user.target",
        ] {
            assert!(own.lines().any(|found| found == line), "{line}\n{own}");
        }
        assert!(own.contains("\nUser="), "{own}");
        let named = unit(Some("/srv/agents"));
        assert!(
            named.contains("--state-dir \"/srv/agents\"") && !named.contains("StateDirectory="),
            "{named}"
        );
        // The user's own directory, named by hand, is meant.
        let own = world.path("home/.local/state/kennel");
        assert!(unit(own.to_str()).contains(&format!("--state-dir {:?}", own)));
    }
}
