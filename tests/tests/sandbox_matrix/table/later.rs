//! Probes after a restart of the daemon, and those that the test itself observes.

use super::Expect::Never;
use super::{AGENT, BOTH, Control, Row, SAFE};

/// Once the daemon has been replaced: the sockets are new ones.
pub const LATER: &[Row] = &[
    ("later: kennel's new socket", "ask {socket}", Never, AGENT),
    ("later: kennel's new socket by a descriptor", "unixfd {socket}", Never, AGENT),
    ("later: the directory of sockets", "read {root}/elsewhere/canary", Never, BOTH),
    ("later: the journal", "open {state}/journal.db", Never, BOTH),
    ("later: a hidden place whose parent was moved", "read {home}/.agent/moved/secret/canary", Never, BOTH),
];

/// Results that the test itself finds out.
pub const FOUND: &[Row] = &[
    ("forge: agent_pid of the session", "", Never, SAFE),
    ("environment: LD_PRELOAD of the profile", "", Never, BOTH),
    ("environment: LD_PRELOAD of terminal/create", "", Never, BOTH),
    ("environment: LD_AUDIT of terminal/create", "", Never, BOTH),
    ("kin: by its token, of a profile without a sandbox", "", Never, AGENT),
    ("kin: by its token, with less hidden", "", Never, AGENT),
    ("kin: by its token, in another directory", "", Never, AGENT),
    ("kin: by its token, in the directory above", "", Never, AGENT),
    ("kin: by its token, LD_PRELOAD", "", Never, AGENT),
    ("environment: LD_PRELOAD of a sub-agent", "", Never, AGENT),
    ("exe: kennel's own program is as it was", "", Never, SAFE),
    (
        "hidden: nothing is made through a planted symlink",
        "",
        Never,
        Control::None("without a sandbox nothing is hidden"),
    ),
    (
        "plant: programs where PATH leads first",
        "",
        Never,
        Control::None("without a sandbox none of them is run"),
    ),
];
