//! The command line of `ssh`, and of the host's shell.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::{Attempt, SshOptions};

/// Starts the rest of its words as a program that ends together with the process of this number: the first word of kennel's own
/// command line.
pub const BELOW: &str = "exec-below";
/// The longest that `ssh` may take to reach a machine and agree on keys, in seconds.
const CONNECT_S: u64 = 30;
/// Runs its first word with the others as arguments, in the home: relative paths begin there. A shell without a login has a short
/// `PATH`, and cargo installs beside it.
const REMOTE: &str = r#"cd; PATH="$PATH:$HOME/.cargo/bin:$HOME/.local/bin:/usr/local/bin"; exec "$0" "$@""#;
/// Ctrl-C and Ctrl-\ are for this command, and `ssh` belongs to it. `ssh` leaves signals ignored that it finds ignored.
const QUIETLY: &str = r#"trap "" INT QUIT; exec "$@""#;

/// Returns true if there is an `ssh`.
pub(super) fn is_there() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let is_program = |file: std::path::PathBuf| {
        file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&path).any(|dir| is_program(dir.join("ssh")))
}

/// Returns true if there is a terminal on which `ssh` could ask.
pub(in crate::client::far) fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// `ssh` to a machine. Within a time, it asks nobody.
pub(super) fn of(options: &SshOptions, attempt: Attempt) -> Command {
    let SshOptions { address, kennel, below } = options;
    let Attempt { within, alone } = attempt;
    let mut command = match below {
        Some(kennel) => {
            let mut command = Command::new(kennel);
            command.arg(BELOW).arg(std::process::id().to_string()).arg("/bin/sh");
            command
        }
        None => Command::new("/bin/sh"),
    };
    command.args(["-c", QUIETLY, "sh", "ssh", "-T"]);
    // What the user's configuration wants of an `ssh` that a person types is not for this one: another command, forwarded ports and
    // keys. It joins a shared connection, and is none that others join, since it ends with this command.
    command.args(["-a", "-x", "-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none"]);
    command.args(["-o", "PermitLocalCommand=no", "-o", "ControlMaster=no"]);
    if alone {
        command.args(["-o", "ControlPath=none"]);
    }
    // A connection that carries nothing any more is noticed within 45 s.
    command.args(["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"]);
    let connect = within.map_or(CONNECT_S, |within| within.as_secs().clamp(1, CONNECT_S));
    command.arg("-o").arg(format!("ConnectTimeout={connect}"));
    if within.is_some() {
        command.args(["-o", "BatchMode=yes"]);
    }
    if let Some(user) = &address.user {
        command.args(["-l", user]);
    }
    if let Some(port) = address.port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", &address.host]).arg(remote(kennel.as_deref(), address.path.as_deref()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The command line for the host's shell. Its words are quoted in the way that all shells understand.
fn remote(kennel: Option<&str>, state_dir: Option<&str>) -> String {
    let mut words =
        ["sh", "-c", REMOTE, kennel.unwrap_or("kennel"), "connect-stdio"].map(str::to_owned).to_vec();
    words.extend(state_dir.map(|state_dir| format!("--state-dir={state_dir}")));
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_shared_connection_is_left_aside_when_asked_to() {
        let options = SshOptions { address: "ssh://box".parse().unwrap(), kennel: None, below: None };
        for alone in [false, true] {
            let command = of(&options, Attempt { within: None, alone });
            assert_eq!(command.get_args().any(|word| word == "ControlPath=none"), alone);
        }
    }

    #[test]
    fn a_word_reaches_the_program_as_it_is_whatever_shell_reads_it() {
        for word in ["a b", "it's", "$(reboot)", "`x`", "a\\b", "\"", "*", ";&|<>", "~", "-x", "!", "#", ""] {
            let script = format!("printf %s {}", quoted(word));
            let mut shell = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
            let mut shown = String::new();
            shell.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
            shell.wait().unwrap();
            assert_eq!(shown, word, "{script}");
        }
    }
}
