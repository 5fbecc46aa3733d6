//! Gives the binary its build id, packs its relocations, and links it to one library less. Decision 0052 in
//! `manager/docs/decisions` says why.

#![allow(clippy::disallowed_macros, reason = "cargo reads what a build script prints")]

include!("../protocol/build_id.rs");

fn main() {
    println!("cargo::rustc-env=KENNEL_BUILD_ID={}", build_id(&["protocol/src", "manager/src"]));
    println!("cargo::rerun-if-changed=build.rs");
    pack_relocations();
    if is_for_this_glibc() && link_script().is_some() {
        let directory = std::env::var("OUT_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-L{directory}");
    }
}

/// Writes a script for the linker that names the archives in place of `libgcc_s.so`, which the linker finds first. The library asks
/// the processor for its abilities at each start, which is slow in a virtual machine, and nothing uses the answers. None if the
/// machine lacks an archive.
fn link_script() -> Option<()> {
    let directory = PathBuf::from(std::env::var_os("OUT_DIR")?);
    let names = [archive("libgcc_eh.a")?, archive("libgcc.a")?].join(" ");
    std::fs::write(directory.join("libgcc_s.so"), format!("GROUP({names})\n")).ok()
}
