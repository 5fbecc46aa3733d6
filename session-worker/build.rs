//! Gives the binary its build id, and links it statically where that can be done: a worker then starts in a fraction of the time,
//! and shares all of its program with the others. Decision 0049 in `manager/docs/decisions` says how, and what it brings.

include!("../protocol/build_id.rs");

/// Libraries that rustc links to by name, and the archives that stand in for each. The first of each must be there.
const LIBRARIES: [(&str, &[&str]); 7] = [
    ("gcc_s", &["libgcc_eh.a", "libgcc.a", "libc.a"]),
    ("c", &["libc.a", "libgcc_eh.a", "libgcc.a"]),
    ("m", &["libm.a"]),
    // Empty, or not there, since glibc 2.34: all of them is in the first.
    ("pthread", &["libpthread.a"]),
    ("rt", &["librt.a"]),
    ("dl", &["libdl.a"]),
    ("util", &["libutil.a"]),
];

fn main() {
    println!("cargo::rustc-env=KENNEL_BUILD_ID={}", build_id(&["protocol/src", "session-worker/src"]));
    println!("cargo::rerun-if-changed=build.rs");
    pack_relocations();
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_static = features.split(',').any(|feature| feature == "crt-static");
    if is_for_this_glibc() && !is_static && link_scripts().is_some() {
        let directory = std::env::var("OUT_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-L{directory}");
        println!("cargo::rustc-link-arg-bins=-static-pie");
    }
}

/// Writes a script for each library that names its archives. The linker finds it before the shared library. None if the
/// machine lacks an archive, or the startup code of a static program.
fn link_scripts() -> Option<()> {
    let directory = PathBuf::from(std::env::var_os("OUT_DIR")?);
    archive("rcrt1.o")?;
    for (library, archives) in LIBRARIES {
        let found: Vec<String> = archives.iter().filter_map(|name| archive(name)).collect();
        let is_whole = found.len() == archives.len() || archives.len() == 1 && library != "m";
        let names = is_whole.then(|| found.join(" "))?;
        let script =
            if names.is_empty() { "/* nothing */\n".to_owned() } else { format!("GROUP({names})\n") };
        std::fs::write(directory.join(format!("lib{library}.so")), script).ok()?;
    }
    Some(())
}
