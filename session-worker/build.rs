//! Gives the binary its build id.

include!("../protocol/build_id.rs");

fn main() {
    println!("cargo::rustc-env=KENNEL_BUILD_ID={}", build_id(&["protocol/src", "session-worker/src"]));
}
