//! Gives the binary its build id, and packs its relocations.

#![allow(clippy::disallowed_macros, reason = "cargo reads what a build script prints")]

include!("../protocol/build_id.rs");

fn main() {
    println!("cargo::rustc-env=KENNEL_BUILD_ID={}", build_id(&["protocol/src", "manager/src"]));
    pack_relocations();
}
