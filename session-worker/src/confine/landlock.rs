//! The kernel's Landlock (landlock(7)), beside the mounts of a sandbox that is made without bubblewrap: what is not granted
//! is not written, whatever is mounted. Below it nobody mounts, so that no sandbox of the agent's own nests in it.

use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
    path_beneath_rules,
};

use super::sandbox::{Step, View};

/// The least that Landlock must be able to, or there is no sandbox: to keep from truncating, too.
const NEEDED: ABI = ABI::V3;
/// Devices that an agent may write, beside files below [`super::mounts::SHM`].
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/pts",
    "/dev/mqueue",
];

/// Paths that the agent may write in a view.
pub fn written(view: &View) -> Vec<PathBuf> {
    let written = view.steps.iter().filter_map(|step| match step {
        Step::Empty { path, written: true } | Step::Shown { path, written: true, .. } => Some(path.clone()),
        Step::Empty { .. } | Step::Shown { .. } | Step::Mask { .. } | Step::Link { .. } => None,
    });
    written.collect()
}

/// Restricts this process and its children for good: they write only these places and the usual devices.
pub fn keep_from_writing(written: &[PathBuf]) -> io::Result<()> {
    let places = written.iter().cloned();
    let places = places.chain(DEVICES.iter().chain([&super::mounts::SHM]).map(PathBuf::from));
    let writes: BitFlags<AccessFs> = AccessFs::from_write(NEEDED);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(writes)
        // Signals do not leave the PID namespace; where the kernel knows of scopes they do not even try.
        .and_then(|ruleset| ruleset.set_compatibility(CompatLevel::BestEffort).scope(Scope::Signal))
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(places, writes)))
        .and_then(|ruleset| ruleset.restrict_self());
    ruleset.map(drop).map_err(io::Error::other)
}
