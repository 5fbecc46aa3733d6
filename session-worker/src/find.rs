//! Search for the current paths of a session's programs. The manager found them when the session was created; an
//! upgrade may have moved them, and a version manager keeps each version in its own directory.

use std::path::{Path, PathBuf};

use protocol::wire::Find;
use rustix::fs::{Access, access};

/// Puts the agent's program, as it is found now, in front of its arguments, and gives its path.
pub fn agent(argv: &mut [String], find: &Find) -> Option<String> {
    let first = argv.first_mut()?;
    *first = program(find.program.as_deref(), first, find.path.as_deref());
    Some(first.clone())
}

/// The absolute path of a program: `named` in a profile, a name or an absolute path; `recorded` where it was last. A name is
/// looked for on PATH, before the place where it was: what is on PATH now is what its user has installed. An absolute path is
/// taken where it is a program; else the program of its name on PATH. What is nowhere stays where it was, so that the error names a path.
pub fn program(named: Option<&str>, recorded: &str, path: Option<&str>) -> String {
    let named = named.unwrap_or(recorded);
    let is_program = |file: &Path| file.is_file() && access(file, Access::EXEC_OK).is_ok();
    let on_path = |name: &Path| -> Option<PathBuf> {
        let directories = path.map(std::env::split_paths)?.filter(|directory| directory.is_absolute());
        directories.map(|directory| directory.join(name)).find(|file| is_program(file))
    };
    let absolute = [named, recorded].into_iter().map(Path::new).filter(|path| path.is_absolute());
    let mut there = absolute.filter(|path| is_program(path)).map(Path::to_owned);
    let name = Path::new(named).file_name().map(Path::new);
    let found = match Path::new(named).is_absolute() {
        true => there.next().or_else(|| on_path(name?)),
        false => on_path(Path::new(named)).or_else(|| there.next()),
    };
    found.and_then(|path| path.into_os_string().into_string().ok()).unwrap_or_else(|| recorded.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_is_found_where_it_is_now() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        let at = |below: &str| format!("{root}/{below}");
        let install = |below: &str, mode: u32| {
            let file = at(below);
            std::fs::create_dir_all(Path::new(&file).parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            file
        };
        let (old, new) = (install("v1/agent", 0o755), install("v2/agent", 0o755));
        install("v0/agent", 0o644);
        let path = format!("relative:{root}/none:{root}/v0:{root}/v2:{root}/v1");
        let path = Some(path.as_str());
        assert_eq!(program(Some("agent"), &old, path), new, "PATH decides about a name");
        assert_eq!(program(Some(&old), &old, path), old, "an absolute path is meant");
        assert_eq!(program(None, &old, path), old, "so it was recorded before names were");
        assert_eq!(program(Some("agent"), &old, None), old);
        std::fs::remove_file(&old).unwrap();
        for named in [None, Some(old.as_str()), Some("agent")] {
            assert_eq!(program(named, &old, path), new, "{named:?}");
        }
        // It is nowhere: the error is to name where it was.
        assert_eq!(program(Some("gone"), &at("v1/gone"), path), at("v1/gone"));
        assert_eq!(program(Some(&at("v1")), &old, path), old, "a directory is no program");
    }
}
