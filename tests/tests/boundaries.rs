//! The two boundaries that everything else stands on: the core does nothing, and few files touch processes.

use std::path::{Path, PathBuf};

/// All that a source file says before its tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

/// The source files below a directory of the manager, tests left out, with their paths there.
fn sources(directory: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("manager/src");
    let mut left = vec![root.join(directory)];
    let mut found = Vec::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let is_code = path.extension().is_some_and(|extension| extension == "rs");
        if is_code && !name.ends_with("tests.rs") {
            found.push((name, code(&path)));
        }
    }
    assert!(!found.is_empty(), "nothing in {directory}");
    found
}

/// Where a text stands in a line that is no comment.
fn lines_with<'a>(code: &'a str, words: &[&str]) -> Vec<&'a str> {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    code.lines().filter(is_code).filter(|line| words.iter().any(|word| line.contains(word))).collect()
}

#[test]
fn the_core_uses_nothing_of_the_rest_and_nothing_of_the_system() {
    let outside = [
        "tokio",
        "rustix",
        "nix::",
        "rusqlite",
        "std::fs",
        "std::io",
        "std::net",
        "std::process",
        "std::thread",
        "Instant",
        "SystemTime",
    ];
    for (name, code) in sources("core") {
        let of_the_rest: Vec<&str> = lines_with(&code, &["crate::"])
            .into_iter()
            .filter(|line| line.matches("crate::").count() != line.matches("crate::core").count())
            .collect();
        assert!(of_the_rest.is_empty(), "core/ uses the rest of the manager, in {name}: {of_the_rest:#?}");
        let of_the_system = lines_with(&code, &outside);
        assert!(of_the_system.is_empty(), "core/ uses the system, in {name}: {of_the_system:#?}");
    }
}

#[test]
fn few_files_start_signal_or_reap_processes() {
    // The commands that a person types, and what `kennel doctor` asks the programs of this machine.
    let may = ["system/", "workers/", "supervisor/", "cli/", "daemon/doctor/"];
    let ways = ["Command::new", "waitid", "waitpid", "pidfd_send_signal", "kill_process", "killpg"];
    let of_all: Vec<(String, String)> = sources("");
    let rest = of_all.iter().filter(|(name, _)| !may.iter().any(|may| name.starts_with(may)));
    for (name, code) in rest {
        let found = lines_with(code, &ways);
        assert!(found.is_empty(), "{name} touches processes: {found:#?}");
    }
    let touches = |folder: &str| {
        of_all.iter().any(|(name, code)| name.starts_with(folder) && !lines_with(code, &ways).is_empty())
    };
    assert!(touches("system/"), "the ways are named otherwise now");
}

#[test]
fn each_folder_says_what_lives_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut left: Vec<PathBuf> =
        ["manager/src", "session-worker/src", "protocol/src"].iter().map(|at| root.join(at)).collect();
    while let Some(folder) = left.pop() {
        left.extend(
            std::fs::read_dir(&folder)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.is_dir()),
        );
        let opens =
            ["mod.rs", "lib.rs", "main.rs"].iter().map(|name| folder.join(name)).find(|path| path.is_file());
        let Some(opens) = opens else { panic!("{} has no mod.rs", folder.display()) };
        let text = std::fs::read_to_string(&opens).unwrap();
        let said = text.lines().take_while(|line| line.starts_with("//!")).count();
        assert!(said > 0, "{} does not say what lives there", opens.display());
    }
}
