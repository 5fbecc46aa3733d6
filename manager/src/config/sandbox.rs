//! Paths that a sandbox hides from an agent, and paths that the agent may read and write. kennel computes them when it
//! creates the session.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use protocol::{Granted, Sandbox, Walls, resolved};
use toml::Spanned;

use super::agents::programs;
use super::built_in;
use super::file::values::{HomePath, OneOf};
use super::lookup::shown;
use super::profile::{Profile, Runs};
use super::surroundings::Surroundings;
use crate::error::Error;

/// Below the home directory: keys, tokens, passwords, histories, and the state of other agents.
pub const SECRETS: &[&str] = &[
    // Keys, and who is logged in where.
    ".ssh",
    ".gnupg",
    ".pki",
    ".password-store",
    ".putty",
    ".age",
    ".step",
    ".tsh",
    ".Xauthority",
    ".ICEauthority",
    ".local/share/keyrings",
    ".local/share/kwalletd",
    ".config/op",
    ".config/1Password",
    ".config/Bitwarden",
    ".config/Bitwarden CLI",
    ".config/keybase",
    ".config/sops",
    ".config/tailscale",
    // Clouds and clusters.
    ".aws",
    ".azure",
    ".oci",
    ".kube",
    ".docker",
    ".helm",
    ".fly",
    ".boto",
    ".s3cfg",
    ".passwd-s3fs",
    ".vault-token",
    ".vault_pass",
    ".terraform.d",
    ".terraformrc",
    ".pulumi",
    ".databrickscfg",
    ".snowflake",
    ".dbt",
    ".kaggle",
    ".huggingface",
    ".cache/huggingface/token",
    ".vercel",
    ".wrangler",
    ".config/gcloud",
    ".config/doctl",
    ".config/rclone",
    ".config/containers",
    ".config/netlify",
    ".config/stripe",
    ".config/.wrangler",
    ".config/heroku",
    ".config/configstore",
    ".local/share/com.vercel.cli",
    ".local/share/containers",
    // Sources and packages.
    ".netrc",
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".pypirc",
    ".git-credentials",
    ".cache/git",
    ".subversion/auth",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".gem/credentials",
    ".m2/settings.xml",
    ".m2/settings-security.xml",
    ".gradle/gradle.properties",
    ".nuget",
    ".composer/auth.json",
    ".config/composer/auth.json",
    ".config/pypoetry/auth.toml",
    ".config/gh",
    ".config/glab-cli",
    ".config/hub",
    ".config/git/credentials",
    ".config/pip",
    ".curlrc",
    ".wgetrc",
    // Data bases, mail, money.
    ".pgpass",
    ".my.cnf",
    ".mylogin.cnf",
    ".authinfo",
    ".authinfo.gpg",
    ".msmtprc",
    ".mbsyncrc",
    ".fetchmailrc",
    ".thunderbird",
    ".electrum",
    ".bitcoin",
    ".ethereum",
    ".config/solana",
    // Browsers and messengers: their cookies log in.
    ".mozilla",
    ".librewolf",
    ".config/google-chrome",
    ".config/chromium",
    ".config/BraveSoftware",
    ".config/microsoft-edge",
    ".config/vivaldi",
    ".config/opera",
    ".config/Signal",
    ".config/Slack",
    ".config/discord",
    ".var/app",
    "snap",
    // Histories of typed commands.
    ".bash_history",
    ".zsh_history",
    ".zhistory",
    ".history",
    ".sh_history",
    ".python_history",
    ".node_repl_history",
    ".psql_history",
    ".mysql_history",
    ".sqlite_history",
    ".rediscli_history",
    ".lesshst",
    ".viminfo",
    ".local/share/fish",
    ".local/share/atuin",
    ".local/state/psql",
    // Agents: each sees its own.
    ".claude",
    ".claude.json",
    ".codex",
    ".gemini",
    ".copilot",
    ".qwen",
    ".kimi",
    ".kimi-code",
    ".pi",
    ".vibe",
    ".openhands",
    ".fast-agent",
    ".aider.conf.yml",
    ".continue",
    ".cursor",
    ".factory",
    ".windsurf",
    ".codeium",
    ".config/claude",
    ".config/codex",
    ".config/github-copilot",
    ".config/goose",
    ".config/opencode",
    ".config/amp",
    ".config/crush",
    ".config/zed",
    ".config/Cursor",
    ".config/Code",
    ".local/share/opencode",
    ".local/share/goose",
    ".local/share/amp",
    ".local/share/crush",
    ".local/state/goose",
    ".local/state/opencode",
    ".cache/opencode",
    // kennel's own.
    ".config/kennel",
    ".local/state/kennel",
];

/// Paths that root could read besides, and that no agent in a sandbox needs.
const OF_ROOT: &[&str] = &[
    "/root",
    "/home",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/krb5.keytab",
    "/etc/kubernetes",
    "/etc/wireguard",
    "/etc/openvpn",
    "/etc/NetworkManager/system-connections",
    "/etc/kennel",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/kubelet",
    "/var/spool/cron",
];

/// The paths of a key.
fn paths(written: &Option<Spanned<Vec<HomePath>>>) -> impl Iterator<Item = &str> {
    written.iter().flat_map(|paths| paths.get_ref()).map(|path| &path.0[..])
}

/// The sandbox of a profile; none where there is to be none. bubblewrap is looked for on the daemon's PATH. `config` is
/// the file of the configuration, which is hidden, too.
///
/// # Errors
/// `sandbox_workdir` where the working directory would show what is to be hidden.
pub(super) fn walls(
    profile: &Profile,
    name: &str,
    workdir: &str,
    config: &Path,
    around: &Surroundings,
) -> Result<Option<Walls>, Error> {
    let keys = &profile.keys;
    let sandbox = OneOf::value(&keys.sandbox).unwrap_or_default();
    if sandbox == Sandbox::None {
        return Ok(None);
    }
    let home = |path: &str| match (path.strip_prefix("~/"), &around.home) {
        (None, _) => Some(path.to_owned()),
        (Some(below), Some(home)) => home.join(below).to_str().map(str::to_owned),
        (Some(_), None) => None,
    };
    let real =
        |path: &str| home(path).and_then(|path| resolved(Path::new(&path)).to_str().map(str::to_owned));
    let of_root: &[&str] = if nix::unistd::geteuid().is_root() { OF_ROOT } else { &[] };
    let is_home = |path: &str| around.home.as_ref().is_some_and(|home| home.starts_with(path));
    let mut hidden: Vec<String> = SECRETS.iter().filter_map(|path| home(&format!("~/{path}"))).collect();
    hidden.extend(paths(&keys.sandbox_hide).filter_map(home));
    hidden.extend(of_root.iter().filter(|path| !is_home(path)).map(|path| (*path).to_owned()));
    // Where there is one, sockets of the user's session lie there: mostly below /run, which is hidden anyway.
    let holds = |directory: &Path| {
        Path::new(workdir).starts_with(directory) || is_home(&directory.display().to_string())
    };
    hidden.extend(
        around
            .runtime
            .iter()
            .filter(|runtime| !holds(runtime))
            .filter_map(|runtime| runtime.to_str().map(str::to_owned)),
    );
    hidden.extend(config.is_absolute().then(|| config.to_str().map(str::to_owned)).flatten());
    let known = state(profile, name);
    // kennel cannot grant a path that does not exist, and the agent cannot create it in a read-only parent.
    known.iter().filter_map(|path| home(path)).for_each(|path| make(Path::new(&path)));
    let state = known.iter().filter_map(|path| real(path));
    let mut writable: Vec<String> = paths(&keys.sandbox_write).filter_map(real).chain(state).collect();
    writable.sort();
    writable.dedup();
    let readable: Vec<String> = paths(&keys.sandbox_read).filter_map(real).collect();
    let empty_home = around.home.as_deref().filter(|_| sandbox == Sandbox::Strict).map(resolved);
    let granted = [workdir.to_owned()].into_iter().chain(writable.iter().chain(&readable).cloned());
    let granted =
        granted.filter_map(|path| fs::symlink_metadata(&path).ok().map(|found| Granted::of(path, &found)));
    // It runs outside: not one that the agent could put there.
    let out_of_reach = |program: &String| {
        let (named, real) = (Path::new(program), resolved(Path::new(program)));
        let mut places = writable.iter().map(String::as_str).chain([workdir]);
        !places.any(|place| named.starts_with(place) || real.starts_with(place))
    };
    let program = programs("bwrap", around.path.as_deref()).find(out_of_reach);
    let walls = Walls {
        sandbox,
        program,
        hidden,
        granted: granted.collect(),
        writable,
        readable,
        home: empty_home.and_then(|home| home.to_str().map(str::to_owned)),
        boot_id: crate::system::process::boot_id().unwrap_or_default(),
    };
    check_places(&walls, workdir)?;
    Ok(Some(walls))
}

/// Makes the state of an agent that kennel knows, where it is missing: a directory, or a file of JSON with nothing in it. What
/// cannot be made is not granted, and the agent says so itself.
fn make(path: &Path) {
    if fs::symlink_metadata(path).is_ok() {
        return;
    }
    // Under sudo it may be somebody else's home, who could not write there afterwards.
    let above = path.ancestors().skip(1).find_map(|above| fs::metadata(above).ok());
    if above.is_none_or(|above| above.uid() != rustix::process::geteuid().as_raw()) {
        return;
    }
    let directory = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    let made = match path.extension().is_some_and(|kind| kind == "json") {
        false => directory(path),
        true => {
            let file = fs::File::options().write(true).create_new(true).mode(0o600).open(path);
            file.and_then(|mut file| file.write_all(b"{}\n"))
        }
    };
    if let Err(error) = made {
        tracing::warn!(path = %path.display(), %error, "the state of an agent is not made");
    }
}

/// Paths in which an agent that kennel knows keeps its state. kennel recognises the agent by the profile's name or its
/// program.
fn state(profile: &Profile, name: &str) -> &'static [&'static str] {
    let program = match &profile.runs {
        Runs::Shell => None,
        Runs::Command { argv, .. } | Runs::Acp { argv, .. } => argv.first(),
    };
    built_in::extended(name, program.map(String::as_str)).map_or(&[], |known| known.state)
}

/// Refuses a working directory that has in it, or is in, what is to be hidden: all of it can be read and written.
fn check_places(walls: &Walls, workdir: &str) -> Result<(), Error> {
    let special = ["/tmp", "/var/tmp", "/run", "/dev", "/proc", "/sys"];
    if special.contains(&workdir) {
        return Err(shows(workdir, Path::new(workdir)));
    }
    let of_root = |path: &Path| OF_ROOT.iter().any(|of_root| path == Path::new(of_root));
    for hidden in walls.hidden.iter().map(|path| resolved(Path::new(path))) {
        check_workdir(workdir, &hidden)?;
        // Below /home there is everybody's work; a key's directory is no place for work.
        if Path::new(workdir).starts_with(&hidden) && !of_root(&hidden) {
            return Err(shows(workdir, &hidden));
        }
    }
    if let Some(home) = &walls.home {
        check_workdir(workdir, Path::new(home))?;
    }
    // kennel's own programs run outside of every sandbox.
    if let Ok(own) = std::env::current_exe() {
        check_workdir(workdir, &own)?;
        if let Some(place) = walls.writable.iter().find(|place| own.starts_with(place)) {
            return Err(Error::invalid_with(
                "sandbox_workdir",
                format!(
                    "an agent that may write {place} could change kennel's own program; nothing was started"
                ),
                "name narrower directories in the profile's sandbox_write",
            ));
        }
    }
    check_workdir(workdir, Path::new("/"))
}

/// Refuses a working directory that has in it what is to be hidden.
pub fn check_workdir(workdir: &str, hidden: &Path) -> Result<(), Error> {
    if hidden.starts_with(workdir) { Err(shows(workdir, hidden)) } else { Ok(()) }
}

fn shows(workdir: &str, hidden: &Path) -> Error {
    Error::invalid_with(
        "sandbox_workdir",
        format!(
            "in {} an agent in a sandbox could reach {}, which is to be hidden; nothing was started",
            shown(workdir, 300),
            shown(&hidden.display().to_string(), 300)
        ),
        "name a directory that holds the work alone: kennel start --dir DIR",
    )
}

/// The error for a sandbox that this machine cannot make.
pub fn unavailable(agent: &str, sandbox: Sandbox, why: &str) -> Error {
    Error::invalid_with(
        "sandbox_unavailable",
        format!(
            "agent `{agent}` is to run in the sandbox \"{}\", and none can be made here: {why}; nothing was started",
            sandbox.name()
        ),
        "install bubblewrap, and let users make user namespaces (sysctl user.max_user_namespaces, \
         kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::raw::AgentKeys;

    fn made(
        profile: &Profile,
        workdir: &str,
        path: Option<&str>,
        home: &Path,
    ) -> Result<Option<Walls>, Error> {
        let around = Surroundings { path: path.map(Into::into), home: Some(home.to_owned()), runtime: None };
        walls(profile, "x", workdir, Path::new(""), &around)
    }

    #[test]
    fn a_sandbox_hides_secrets_and_refuses_to_work_where_they_lie() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        let (home, bin) = (root.join("home"), root.join("bin"));
        for below in ["home/.ssh", "home/work", "home/mine/in", "bin"] {
            std::fs::create_dir_all(root.join(below)).unwrap();
        }
        std::fs::write(bin.join("bwrap"), "").unwrap();
        std::fs::set_permissions(bin.join("bwrap"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let paths = |paths: &[&str]| {
            Some(Spanned::new(0..0, paths.iter().map(|path| HomePath((*path).into())).collect()))
        };
        let keys = AgentKeys {
            sandbox: Some(OneOf(Sandbox::Strict)),
            sandbox_hide: paths(&["~/mine", "/srv/keys"]),
            sandbox_write: paths(&["~/.agent"]),
            ..AgentKeys::default()
        };
        let profile = Profile { keys, ..Profile::default() };
        let at = |below: &str| home.join(below).to_str().unwrap().to_owned();
        let walls = made(&profile, &at("work"), bin.to_str(), &home).unwrap().unwrap();
        assert_eq!((walls.sandbox, &walls.writable), (Sandbox::Strict, &vec![at(".agent")]));
        for hidden in [at(".ssh"), at(".aws"), at("mine"), "/srv/keys".to_owned()] {
            assert!(walls.hidden.contains(&hidden), "{hidden}");
        }
        assert_eq!(walls.home, Some(at("").trim_end_matches('/').to_owned()));
        let granted: Vec<&str> = walls.granted.iter().map(|granted| granted.path.as_str()).collect();
        assert_eq!(granted, [at("work")], "what is there when the session is created");
        for workdir in [at(""), at(".ssh"), at("mine/in"), "/".into(), "/tmp".into()] {
            let workdir = workdir.trim_end_matches('/').to_owned();
            let workdir = if workdir.is_empty() { "/" } else { &workdir };
            let refused = made(&profile, workdir, bin.to_str(), &home).unwrap_err();
            assert_eq!(refused.code(), "sandbox_workdir", "{workdir}");
        }
        assert_eq!(walls.program.as_deref(), bin.join("bwrap").to_str());
        // One that the agent could put there is none.
        std::fs::copy(bin.join("bwrap"), home.join("work/bwrap")).unwrap();
        let path = format!("{}:{}", at("work"), bin.display());
        let walls = made(&profile, &at("work"), Some(&path), &home).unwrap().unwrap();
        assert_eq!(walls.program.as_deref(), bin.join("bwrap").to_str());
        let without = made(&profile, &at("work"), Some("/nonexistent"), &home).unwrap().unwrap();
        assert_eq!(without.program, None);
        assert_eq!(made(&Profile::default(), &at(""), None, &home), Ok(None));
        let keys = AgentKeys { sandbox: Some(OneOf(Sandbox::Workdir)), ..profile.keys };
        let workdir = Profile { keys, ..Profile::default() };
        assert_eq!(made(&workdir, &at("work"), None, &home).unwrap().unwrap().home, None);
    }

    #[test]
    fn an_agent_that_kennel_knows_sees_and_writes_its_own_state_and_no_other_agents() {
        let dir = tempfile::tempdir().unwrap();
        let home = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(home.join("work")).unwrap();
        let at = |below: &str| home.join(below).to_str().unwrap().to_owned();
        let around = Surroundings { path: None, home: Some(home.clone()), runtime: None };
        let runs = |argv: &str| Runs::Acp { argv: vec![argv.into()], line: 0, login: None, mcp: Vec::new() };
        for (name, argv) in [("codex", "codex-acp"), ("mine", "/opt/bin/codex-acp")] {
            let keys = AgentKeys { sandbox: Some(OneOf(Sandbox::Strict)), ..AgentKeys::default() };
            let profile = Profile { keys, runs: runs(argv), ..Profile::default() };
            let walls =
                walls(&profile, name, &at("work"), Path::new("/etc/k.toml"), &around).unwrap().unwrap();
            assert_eq!(walls.writable, [at(".codex")], "{name}");
            // It is there from the first session on, or nothing could be granted.
            assert!(
                Path::new(&at(".codex")).is_dir()
                    && walls.granted.iter().any(|granted| granted.path == at(".codex"))
            );
            assert!(!Path::new(&at(".claude")).exists());
            assert!(
                walls.hidden.contains(&at(".claude")) && walls.hidden.contains(&"/etc/k.toml".to_owned())
            );
        }
    }
}
