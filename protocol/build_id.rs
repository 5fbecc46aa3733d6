// Shared by the build scripts of session-worker, manager and tests (`include!`).
//
// The build id is a hash of every source file that goes into a binary. `cargo test` rebuilds a package's
// binary only in some cases; a test that drives an old binary proves nothing, so the harness compares ids.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// Hash of all files below these directories of the workspace, and a `rerun-if-changed` line for each.
fn build_id(dirs: &[&str]) -> String {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut files = Vec::new();
    for dir in dirs {
        let dir = root.join("..").join(dir);
        println!("cargo::rerun-if-changed={}", dir.display());
        collect(&dir, &mut files);
    }
    files.sort();
    // DefaultHasher::new() has fixed keys: the same sources give the same id in every build script.
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(&file).unwrap_or_default().hash(&mut hasher);
    }
    // The harness must not take the one build for the other.
    let points = if std::env::var_os("CARGO_FEATURE_FAILPOINTS").is_some() { "-failpoints" } else { "" };
    format!("{:016x}{points}", hasher.finish())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}
