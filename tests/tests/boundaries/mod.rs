//! The two boundaries that everything else stands on: the core does nothing, and few files touch processes. Beside
//! them the rules of the layout.

mod layout;
mod modules;
mod source;

use modules::Tree;

/// Crates and parts of the standard library that the core does not use.
const OUTSIDE: &[&str] = &[
    "tokio",
    "rustix",
    "nix",
    "rusqlite",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
];

#[test]
fn the_core_uses_nothing_of_the_rest_and_nothing_of_the_system() {
    let tree = Tree::get();
    let core = tree.files.iter().filter(|(file, _)| file.starts_with("manager/src/core/"));
    let mut count = 0;
    for (file, source) in core {
        count += 1;
        for named in &source.named {
            let written = named.path.join("::");
            match tree.absolute(file, named) {
                Some(path) => assert!(
                    path.first().is_some_and(|first| first == "core"),
                    "core/ uses the rest of the manager, in {file}: {written}"
                ),
                None => {
                    let is =
                        |outside: &str| written == outside || written.starts_with(&format!("{outside}::"));
                    let of_the_system = OUTSIDE.iter().any(|outside| is(outside));
                    assert!(!of_the_system, "core/ uses the system, in {file}: {written}");
                }
            }
        }
        for clock in ["Instant", "SystemTime"] {
            assert!(!source.words.contains(clock), "core/ uses the system, in {file}: {clock}");
        }
    }
    assert!(count > 20, "{count} files in core/");
}

#[test]
fn few_files_start_signal_or_reap_processes() {
    // The commands that a person types, what `kennel doctor` asks the programs of this machine, and `ssh`.
    let may = ["system/", "workers/", "supervisor/", "cli/", "daemon/doctor/", "client/far/ssh/"];
    let ways = ["waitid", "waitpid", "pidfd_send_signal", "kill_process", "killpg"];
    let tree = Tree::get();
    let mut touched = Vec::new();
    for (file, source) in &tree.files {
        let Some(name) = file.strip_prefix("manager/src/") else { continue };
        let starts = source.named.iter().any(|named| named.path.ends_with(&["Command".into(), "new".into()]));
        let way = ways.iter().find(|way| source.words.iter().any(|word| word.starts_with(**way)));
        if let Some(way) = way.copied().or(starts.then_some("Command::new")) {
            assert!(may.iter().any(|may| name.starts_with(may)), "{name} touches processes: {way}");
            touched.push(name);
        }
    }
    assert!(touched.iter().any(|name| name.starts_with("system/")), "the ways are named otherwise now");
}

#[test]
fn the_api_refuses_access_with_a_reason_that_the_journal_records() {
    let tree = Tree::get();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut with, mut without) = (0, Vec::new());
    for file in tree.files.keys().filter(|file| file.starts_with("manager/src/api/")) {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let words: String = text.split_whitespace().collect();
        for (way, is_recorded) in [("::denied(StatusCode::", true), ("::new(StatusCode::", false)] {
            for status in words.split(way).skip(1) {
                if status.starts_with("UNAUTHORIZED") || status.starts_with("FORBIDDEN") {
                    with += usize::from(is_recorded);
                    without.extend((!is_recorded).then_some(file.as_str()));
                }
            }
        }
    }
    // A key that rotates itself may do what it asks for, and is told a better way.
    assert_eq!(without, ["manager/src/api/keys.rs"], "`ApiError::denied` records it");
    assert!(with > 15, "{with} refusals: are they made otherwise now?");
}
