// Shared by the build scripts of session-worker, manager and tests (`include!`).

/// Returns true if the program is for the glibc of the machine that builds it.
#[allow(dead_code)]
fn is_for_this_glibc() -> bool {
    let variable = |name| std::env::var(name).unwrap_or_default();
    variable("HOST") == variable("TARGET")
        && variable("CARGO_CFG_TARGET_OS") == "linux"
        && variable("CARGO_CFG_TARGET_ENV") == "gnu"
}

/// Writes the places that the start of a program must mend in a table of a twentieth of the size, where the C library reads it:
/// glibc does from 2.36 on. `kennel` has 42,000 of them.
#[allow(dead_code)]
#[allow(clippy::disallowed_methods, reason = "a build script has no reaper")]
fn pack_relocations() {
    let said = std::process::Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
    let version = said.trim().strip_prefix("glibc 2.").and_then(|minor| minor.parse::<u32>().ok());
    if is_for_this_glibc() && version.is_some_and(|minor| minor >= 36) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The path of a file of the C compiler or the C library. None if it is not installed.
#[allow(dead_code)]
#[allow(clippy::disallowed_methods, reason = "a build script has no reaper")]
fn archive(name: &str) -> Option<String> {
    let compiler = std::env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".to_owned());
    let said = std::process::Command::new(compiler).arg(format!("-print-file-name={name}")).output().ok()?;
    // A compiler that does not find it gives the name back.
    let path = String::from_utf8(said.stdout).ok()?.trim().to_owned();
    let is_there = Path::new(&path).is_absolute() && Path::new(&path).exists();
    if is_there {
        println!("cargo::rerun-if-changed={path}");
    }
    is_there.then(|| format!("\"{path}\""))
}

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
