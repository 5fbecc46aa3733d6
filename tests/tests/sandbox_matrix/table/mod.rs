//! The probes, and the expected result of each in each sandbox.
//!
//! In the steps `{home}`, `{work}`, `{secret}` and others stand for places, numbers and names of
//! `outside.rs`. `{victim}` is a file outside for this probe alone, `{new}` an unused name there. The test
//! checks from outside whether such a probe has reached anything, independent of the agent's report. The same
//! holds for `{=PATH}`, which must not be created. `{tmp}` is a name of its own in the working directory.

mod client;
mod files;
mod later;
mod machine;
mod mounts;
mod processes;
mod talk;

use manager::protocol::{Sandbox, SandboxBy};

use client::CLIENT;
use files::{FILES, OWN};
use later::{FOUND, LATER};
use machine::MACHINE;
use mounts::MOUNTS;
use processes::PROCESSES;
use talk::TALK;

/// Where a probe reaches what it is after.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// Nowhere.
    Never,
    /// In the sandbox `workdir` only.
    Workdir,
    /// Everywhere: it is what the agent is to have.
    Always,
    /// In sandboxes by bubblewrap.
    Bubblewrap,
    /// Where it is root's agent: files that are no secrets of kennel's user, but of the machine.
    Root,
    /// In sandboxes of an ordinary user by bubblewrap: what is covered there lets no other sandbox nest.
    BubblewrapUser,
}

impl Expect {
    pub fn reaches(self, by: SandboxBy, sandbox: Sandbox, root: bool) -> bool {
        match self {
            Expect::Never => false,
            Expect::Workdir => sandbox == Sandbox::Workdir,
            Expect::Always => true,
            Expect::Bubblewrap => by == SandboxBy::Bubblewrap,
            Expect::Root => root,
            Expect::BubblewrapUser => by == SandboxBy::Bubblewrap && !root,
        }
    }
}

/// Without a sandbox.
#[derive(Clone, Copy, Debug)]
pub enum Control {
    /// Everybody reaches it.
    Everybody,
    /// Root does.
    Root,
    /// It is not tried, and why.
    None(&'static str),
}

pub struct Probe {
    pub name: String,
    /// None: `outside.rs` finds out.
    pub steps: String,
    pub expect: Expect,
    pub control: Control,
    /// It is tried once the daemon has been replaced.
    pub after_restart: bool,
}

impl Probe {
    /// Its name as the name of a file.
    pub fn slug(&self) -> String {
        self.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
    }
}

/// Below the home directory, there from the beginning. All of them are hidden in every sandbox.
pub const SECRETS: &[&str] = &[
    ".ssh/id_ed25519",
    ".ssh/canary",
    ".gnupg/private-keys-v1.d/key",
    ".aws/credentials",
    ".azure/tokens.json",
    ".oci/config",
    ".kube/config",
    ".docker/config.json",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".password-store/mail.gpg",
    ".pgpass",
    ".my.cnf",
    ".vault-token",
    ".terraform.d/credentials.tfrc.json",
    ".claude/.credentials.json",
    ".claude.json",
    ".codex/auth.json",
    ".gemini/oauth_creds.json",
    ".copilot/config.json",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".gem/credentials",
    ".config/gcloud/credentials.db",
    ".config/gh/hosts.yml",
    ".config/git/credentials",
    ".config/op/config",
    ".config/sops/age/keys.txt",
    ".config/rclone/rclone.conf",
    ".config/containers/auth.json",
    ".config/google-chrome/Default/Cookies",
    ".config/chromium/Default/Cookies",
    ".config/BraveSoftware/Brave-Browser/Default/Cookies",
    ".mozilla/firefox/x/logins.json",
    ".local/share/keyrings/login.keyring",
    ".local/share/opencode/auth.json",
    ".Xauthority",
    ".bash_history",
    ".zsh_history",
    ".local/share/fish/fish_history",
    ".python_history",
    ".node_repl_history",
    ".psql_history",
    ".mysql_history",
    ".sqlite_history",
    ".lesshst",
    ".viminfo",
];

/// Made once the session runs. They are secret all the same, and the profile hides `~/late`.
pub const LATE: &[&str] = &["late/canary", ".config/doctl/canary", ".s3cfg/canary", ".thunderbird/canary"];

const BOTH: Control = Control::Everybody;
const ROOT: Control = Control::Root;
const TREE: Control = Control::None("without a mount namespace it would change the machine's mounts");
const INSIDE: Control = Control::None("there is no first process of a namespace without one");
const SAFE: Control = Control::None("without a sandbox it would break the session that is to tell");
const PIPE: Control = Control::None("every agent writes its log into a pipe");
const AGENT: Control =
    Control::None("without a sandbox it is an agent, too: `rights_of_agents` shows that the owner may");
const NO_FD: Control = Control::None("without a sandbox nothing is inherited either");

use Expect::Never;

type Row = (&'static str, &'static str, Expect, Control);

pub fn probes() -> Vec<Probe> {
    let probe = |(name, steps, expect, control): (String, String, Expect, Control), after_restart| Probe {
        name,
        steps,
        expect,
        control,
        after_restart,
    };
    let row =
        |(name, steps, expect, control): &Row| ((*name).to_owned(), (*steps).to_owned(), *expect, *control);
    let secrets = SECRETS
        .iter()
        .map(|path| (format!("secret: ~/{path}"), format!("read {{home}}/{path}"), Never, BOTH));
    let late = LATE
        .iter()
        .map(|path| (format!("secret, made later: ~/{path}"), format!("read {{home}}/{path}"), Never, BOTH));
    let rows = [OWN, FILES, MOUNTS, PROCESSES, MACHINE, TALK, CLIENT, FOUND];
    let now = rows.into_iter().flatten().map(row).chain(secrets).chain(late).map(|row| probe(row, false));
    now.chain(LATER.iter().map(row).map(|row| probe(row, true))).collect()
}
