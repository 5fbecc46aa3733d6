//! What an agent in a sandbox is not to see, and what it may write.

use std::path::Path;

use protocol::{Sandbox, Walls};

use super::{Profile, Surroundings, find_program, shown};
use crate::error::Error;

/// Below the home directory: keys, tokens, passwords, and what a shell runs. Listed in README.md.
pub const SECRETS: [&str; 24] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".oci",
    ".kube",
    ".docker",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".password-store",
    ".pgpass",
    ".vault-token",
    ".terraform.d",
    ".cargo/credentials.toml",
    ".config/gcloud",
    ".config/gh",
    ".config/git/credentials",
    ".config/op",
    ".config/sops",
    ".local/share/keyrings",
    ".mozilla",
    ".config/google-chrome",
];

/// The sandbox of a profile; none where there is to be none. bubblewrap is looked for on the daemon's PATH.
///
/// # Errors
/// `sandbox_workdir` where the working directory would show what is to be hidden.
pub(super) fn walls(profile: &Profile, workdir: &str, around: &Surroundings) -> Result<Option<Walls>, Error> {
    let sandbox = profile.sandbox.unwrap_or_default();
    if sandbox == Sandbox::None {
        return Ok(None);
    }
    let program = find_program("bwrap", around.path.clone());
    let home = |path: &str| match (path.strip_prefix("~/"), &around.home) {
        (None, _) => Some(path.to_owned()),
        (Some(below), Some(home)) => home.join(below).to_str().map(str::to_owned),
        (Some(_), None) => None,
    };
    let secrets = SECRETS.iter().map(|path| format!("~/{path}"));
    let hidden: Vec<String> =
        secrets.chain(profile.sandbox_hide.iter().cloned()).filter_map(|path| home(&path)).collect();
    let writable = profile.sandbox_write.iter().filter_map(|path| home(path)).collect();
    let walls = Walls { sandbox, program, hidden, writable };
    check_places(&walls, workdir)?;
    Ok(Some(walls))
}

/// Refuses a working directory that has in it, or is in, what is to be hidden: all of it can be read and written.
fn check_places(walls: &Walls, workdir: &str) -> Result<(), Error> {
    let special = ["/tmp", "/var/tmp", "/run", "/dev", "/proc", "/sys"];
    if special.contains(&workdir) {
        return Err(shows(workdir, Path::new(workdir)));
    }
    for hidden in walls.hidden.iter().filter_map(|path| std::fs::canonicalize(path).ok()) {
        check_workdir(workdir, &hidden)?;
        if Path::new(workdir).starts_with(&hidden) {
            return Err(shows(workdir, &hidden));
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

/// It cannot be made here.
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

    fn made(
        profile: &Profile,
        workdir: &str,
        path: Option<&str>,
        home: &Path,
    ) -> Result<Option<Walls>, Error> {
        let around = Surroundings { path: path.map(Into::into), home: Some(home.to_owned()) };
        walls(profile, workdir, &around)
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
        let profile = Profile {
            sandbox: Some(Sandbox::Strict),
            sandbox_hide: vec!["~/mine".into(), "/srv/keys".into()],
            sandbox_write: vec!["~/.agent".into()],
            ..Profile::default()
        };
        let at = |below: &str| home.join(below).to_str().unwrap().to_owned();
        let walls = made(&profile, &at("work"), bin.to_str(), &home).unwrap().unwrap();
        assert_eq!((walls.sandbox, &walls.writable), (Sandbox::Strict, &vec![at(".agent")]));
        for hidden in [at(".ssh"), at(".aws"), at("mine"), "/srv/keys".to_owned()] {
            assert!(walls.hidden.contains(&hidden), "{hidden}");
        }
        for workdir in [at(""), at(".ssh"), at("mine/in"), "/".into(), "/tmp".into()] {
            let workdir = workdir.trim_end_matches('/').to_owned();
            let workdir = if workdir.is_empty() { "/" } else { &workdir };
            let refused = made(&profile, workdir, bin.to_str(), &home).unwrap_err();
            assert_eq!(refused.code(), "sandbox_workdir", "{workdir}");
        }
        assert_eq!(walls.program.as_deref(), bin.join("bwrap").to_str());
        let without = made(&profile, &at("work"), Some("/nonexistent"), &home).unwrap().unwrap();
        assert_eq!(without.program, None);
        assert_eq!(made(&Profile::default(), &at(""), None, &home), Ok(None));
    }
}
