//! Passes the harness the build ids that the binaries under test must have.

include!("../protocol/build_id.rs");

fn main() {
    println!("cargo::rustc-env=WORKER_BUILD_ID={}", build_id(&["protocol/src", "session-worker/src"]));
    println!("cargo::rustc-env=KENNEL_BUILD_ID={}", build_id(&["protocol/src", "manager/src"]));
}
