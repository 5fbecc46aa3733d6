//! What README.md shows works as it stands there.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::daemon::finish;
use harness::real::{beside, worker};
use manager::config::Config;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The fenced blocks of README.md in this language.
fn blocks(language: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let fence = format!("```{language}\n");
    let of_it: Vec<String> = readme
        .split(&fence)
        .skip(1)
        .map(|rest| rest.split_once("```").expect("a block that ends").0.to_owned())
        .collect();
    assert!(!of_it.is_empty(), "README.md has no block in {language}");
    of_it
}

#[test]
fn the_library_example_is_a_program_that_builds_and_runs() {
    let source = std::fs::read_to_string(root().join("manager/examples/embed.rs")).unwrap();
    let [shown] = &blocks("rust")[..] else { panic!("README.md shows one program") };
    assert!(source.ends_with(shown), "README.md and manager/examples/embed.rs differ");
    let dir = tempfile::tempdir().unwrap();
    symlink(worker(), dir.path().join("session-worker")).unwrap();
    let mut embed = Command::new(beside("embed"));
    let embed =
        embed.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = finish(embed.spawn().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "hello\n"), "{ran:?}");
}

#[test]
fn each_configuration_that_is_shown_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    };
    for block in blocks("toml") {
        load(&block).unwrap_or_else(|error| panic!("{error}\n{block}"));
        load(&format!("{block}\nnobody_knows = 1\n")).expect_err("it is not looked at");
    }
}

#[test]
fn what_is_shown_for_an_editor_is_json() {
    for block in blocks("json") {
        let shown: Value = serde_json::from_str(&block).unwrap_or_else(|error| panic!("{error}:\n{block}"));
        assert!(shown["agent_servers"].is_object(), "{shown}");
    }
}
