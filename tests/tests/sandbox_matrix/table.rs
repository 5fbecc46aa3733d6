//! The probes, and what must come of each in which sandbox.
//!
//! In the steps `{home}`, `{work}`, `{secret}` and others stand for places, numbers and names of `outside.rs`. `{victim}` is a
//! file of the outside of the probe's own, `{new}` a name there that nothing has: whether such a probe has reached anything is
//! seen from outside, whatever the agent says, as with `{=PATH}`, which must not come to be. `{tmp}` is a name of its own in the working directory.

use manager::protocol::{Sandbox, SandboxBy};

/// Where a probe reaches what it is after.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// Nowhere.
    Never,
    /// In the sandbox `workdir` only.
    Workdir,
    /// Everywhere: it is what the agent is to have.
    Always,
    /// In sandboxes by bubblewrap.
    Bubblewrap,
    /// Where it is root's agent: files that are no secrets of kennel's user, but of the machine.
    Root,
    /// In sandboxes of an ordinary user by bubblewrap: what is covered there lets no other sandbox nest.
    BubblewrapUser,
}

impl Expect {
    pub fn reaches(self, by: SandboxBy, sandbox: Sandbox, root: bool) -> bool {
        match self {
            Expect::Never => false,
            Expect::Workdir => sandbox == Sandbox::Workdir,
            Expect::Always => true,
            Expect::Bubblewrap => by == SandboxBy::Bubblewrap,
            Expect::Root => root,
            Expect::BubblewrapUser => by == SandboxBy::Bubblewrap && !root,
        }
    }
}

/// Without a sandbox.
#[derive(Clone, Copy, Debug)]
pub enum Control {
    /// Everybody reaches it.
    Everybody,
    /// Root does.
    Root,
    /// It is not tried, and why.
    None(&'static str),
}

pub struct Probe {
    pub name: String,
    /// None: `outside.rs` finds out.
    pub steps: String,
    pub expect: Expect,
    pub control: Control,
    /// It is tried once the daemon has been replaced.
    pub after_restart: bool,
}

impl Probe {
    /// Its name as the name of a file.
    pub fn slug(&self) -> String {
        self.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
    }
}

/// Below the home directory, there from the beginning. All of them are hidden in every sandbox.
pub const SECRETS: &[&str] = &[
    ".ssh/id_ed25519",
    ".ssh/canary",
    ".gnupg/private-keys-v1.d/key",
    ".aws/credentials",
    ".azure/tokens.json",
    ".oci/config",
    ".kube/config",
    ".docker/config.json",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".password-store/mail.gpg",
    ".pgpass",
    ".my.cnf",
    ".vault-token",
    ".terraform.d/credentials.tfrc.json",
    ".claude/.credentials.json",
    ".claude.json",
    ".codex/auth.json",
    ".gemini/oauth_creds.json",
    ".copilot/config.json",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".gem/credentials",
    ".config/gcloud/credentials.db",
    ".config/gh/hosts.yml",
    ".config/git/credentials",
    ".config/op/config",
    ".config/sops/age/keys.txt",
    ".config/rclone/rclone.conf",
    ".config/containers/auth.json",
    ".config/google-chrome/Default/Cookies",
    ".config/chromium/Default/Cookies",
    ".config/BraveSoftware/Brave-Browser/Default/Cookies",
    ".mozilla/firefox/x/logins.json",
    ".local/share/keyrings/login.keyring",
    ".local/share/opencode/auth.json",
    ".Xauthority",
    ".bash_history",
    ".zsh_history",
    ".local/share/fish/fish_history",
    ".python_history",
    ".node_repl_history",
    ".psql_history",
    ".mysql_history",
    ".sqlite_history",
    ".lesshst",
    ".viminfo",
];

/// Made once the session runs. They are secret all the same, and the profile hides `~/late`.
pub const LATE: &[&str] = &["late/canary", ".config/doctl/canary", ".s3cfg/canary", ".thunderbird/canary"];

const BOTH: Control = Control::Everybody;
const ROOT: Control = Control::Root;
const TREE: Control = Control::None("without a mount namespace it would change the machine's mounts");
const INSIDE: Control = Control::None("there is no first process of a namespace without one");
const SAFE: Control = Control::None("without a sandbox it would break the session that is to tell");
const PIPE: Control = Control::None("every agent writes its log into a pipe");
const AGENT: Control =
    Control::None("without a sandbox it is an agent, too: rights_of_agents.rs shows that the owner may");
const NO_FD: Control = Control::None("without a sandbox nothing is inherited either");

use Expect::{Always, Bubblewrap, BubblewrapUser, Never, Root, Workdir};

type Row = (&'static str, &'static str, Expect, Control);

/// What an agent is to have.
const OWN: &[Row] = &[
    ("own: write in the working directory", "put {work}/file", Always, BOTH),
    ("own: write where the profile lets it", "put {home}/.agent/file", Always, BOTH),
    ("own: temporary files", "put /tmp/{mine} | unlink /tmp/{mine}", Always, BOTH),
    ("own: memory that processes share", "put /dev/shm/{mine} | unlink /dev/shm/{mine}", Always, BOTH),
    ("own: read the system", "open /etc/passwd", Always, BOTH),
    ("own: the null device", "write /dev/null", Always, BOTH),
    ("own: random numbers", "open /dev/urandom", Always, BOTH),
    ("own: commands in terminals", "terminal {work} - /bin/cat {work}/canary-of-its-own", Always, BOTH),
    (
        "own: commands in terminals, by a relative path",
        "terminal - - /bin/cat canary-of-its-own",
        Always,
        BOTH,
    ),
    ("own: a sandbox within", "nest", Bubblewrap, BOTH),
    ("own: Landlock within", "landlock", Always, BOTH),
    ("own: a terminal", "openpty", Always, BOTH),
];

/// What lies on the disk.
const FILES: &[Row] = &[
    ("read: another file of the home directory", "read {home}/readable", Workdir, BOTH),
    ("read: the home directory's names", "list {home}/mine", Never, BOTH),
    ("read: what the profile hides", "read {home}/mine/canary", Never, BOTH),
    ("read: kennel's configuration", "read {home}/.config/kennel/config.toml", Never, BOTH),
    ("read: another session's directory", "read {sibling}/canary", Workdir, BOTH),
    ("read: the journal", "open {state}/journal.db", Never, BOTH),
    ("read: the journal's log", "open {state}/journal.db-wal", Never, BOTH),
    ("read: the own log", "open {state}/logs/canary-main.log", Never, BOTH),
    ("read: another session's log", "open {state}/logs/sibling.log", Never, BOTH),
    ("list: the state's logs", "list {state}/logs", Never, BOTH),
    ("list: the state's workers", "open {state}/workers", Never, BOTH),
    ("read: the daemon's log", "open {state}/daemon.log", Never, BOTH),
    ("read: the lock", "open {state}/lock", Never, BOTH),
    ("read: temporary files of the outside", "read {tmpfile}", Never, BOTH),
    ("read: shared memory of the outside", "read {shmfile}", Never, BOTH),
    ("read: root's directory", "open /root", Root, ROOT),
    ("read: passwords of the machine", "open /etc/shadow", Never, ROOT),
    (
        "read: passwords of the machine, as they were",
        "open /etc/shadow-",
        Never,
        Control::None("the machine may have none"),
    ),
    ("read: passwords of groups", "open /etc/gshadow", Never, ROOT),
    (
        "read: the machine's own key",
        "open /etc/ssh/ssh_host_ed25519_key",
        Never,
        Control::None("the machine may have none"),
    ),
    (
        "read: keys of the machine's certificates",
        "anything /etc/ssl/private",
        Never,
        Control::None("the machine may have none"),
    ),
    ("read: through /proc/self/root", "read /proc/self/root{secret}", Never, BOTH),
    ("read: through /proc/self/cwd", "read /proc/self/cwd/../.ssh/id_ed25519", Never, BOTH),
    ("read: through a symlink within", "symlink {secret} {tmp} | read {tmp}", Never, BOTH),
    (
        "read: through a symlink to the directory",
        "symlink {home}/.ssh {tmp} | read {tmp}/id_ed25519",
        Never,
        BOTH,
    ),
    ("read: through a hard link", "link {secret} {tmp} | read {tmp}", Never, BOTH),
    ("read: moved here", "rename {home}/mine2/file {tmp} | read {tmp}", Never, BOTH),
    ("read: the directory moved here", "rename {home}/mine3 {tmp} | read {tmp}/canary", Never, BOTH),
    ("read: by a handle that was made outside", "handle {handle} {work}", Never, ROOT),
    ("read: by a handle, through the root", "handle {handle} /", Never, ROOT),
    ("read: by io_uring", "uringread {secret}", Never, BOTH),
    ("watch: a hidden directory by inotify", "inotify {home}/.ssh/canary", Never, BOTH),
    ("watch: a hidden file by fanotify", "fanotify {secret}", Never, ROOT),
    ("watch: all of the disk by fanotify", "fanotify {work} all", Never, ROOT),
    ("write: a file outside", "write {victim}", Never, BOTH),
    ("write: a new file outside", "create {new}", Never, BOTH),
    ("write: a file without a name, linked outside", "tmpfile {work} {new}", Never, BOTH),
    ("write: cut a file short", "trunc {victim}", Never, BOTH),
    ("write: cut a file short by opening", "otrunc {victim}", Never, BOTH),
    ("write: move one out", "put {tmp} | rename {tmp} {new}", Never, BOTH),
    ("write: exchange one", "put {tmp} | exchange {tmp} {victim}", Never, BOTH),
    ("write: a hard link of an outer one here", "link {victim} {tmp} | write {tmp}", Never, BOTH),
    ("write: a hard link of an inner one there", "put {tmp} | link {tmp} {new}", Never, BOTH),
    ("write: a symlink there", "symlink x {new}", Never, BOTH),
    ("write: through a symlink here", "symlink {victim} {tmp} | write {tmp}", Never, BOTH),
    ("write: through a symlink to a new name", "symlink {new} {tmp} | put {tmp}", Never, BOTH),
    ("write: through `..`", "write {work}/../../outside/victims/../../home/readable", Never, BOTH),
    ("write: through /proc/self/root", "write /proc/self/root{victim}", Never, BOTH),
    ("write: through /proc/self/cwd", "write /proc/self/cwd/../readable", Never, BOTH),
    ("write: a path reopened", "opath {victim}", Never, BOTH),
    ("write: a reader reopened", "roreopen {victim}", Never, BOTH),
    ("write: by memory", "mmapwrite {victim}", Never, BOTH),
    ("write: by io_uring", "uringwrite {victim}", Never, BOTH),
    ("write: move one out by io_uring", "put {tmp} | uringlink {tmp} {new}", Never, BOTH),
    ("write: remove a file", "unlink {victim}", Never, BOTH),
    ("write: a directory", "mkdir {new}", Never, BOTH),
    ("write: a pipe", "fifo {new}", Never, BOTH),
    ("write: a device outside", "device {new}", Never, ROOT),
    ("write: a device here", "device {tmp}", Never, ROOT),
    ("write: mode", "chmod {victim} 777", Never, BOTH),
    ("write: mode, set-user-ID", "chmod {victim} 4755", Never, BOTH),
    ("write: mode, through a path", "opathchmod {victim}", Never, BOTH),
    ("write: owner", "chown {victim} 12", Never, ROOT),
    ("write: times", "utimes {victim}", Never, BOTH),
    ("write: attributes", "xattr {victim}", Never, BOTH),
    ("write: flags", "chattr {victim} | trunc {victim}", Never, BOTH),
    ("write: the home directory's start-up file", "put {=home/.profile}", Never, BOTH),
    ("write: another session's directory", "put {=home/sibling/hook}", Never, BOTH),
    (
        "write: the programs that run it",
        "openw {root}/bin/session-worker",
        Never,
        Control::None("a program that runs cannot be written"),
    ),
    ("write: the programs' directory", "put {=bin/planted}", Never, BOTH),
    ("write: a key that logs in", "put {=home/.ssh/authorized_keys}", Never, BOTH),
    ("write: the journal", "openw {state}/journal.db", Never, BOTH),
    ("write: the own log", "openw {state}/logs/canary-main.log", Never, BOTH),
    ("write: kennel's configuration", "openw {home}/.config/kennel/config.toml", Never, BOTH),
    ("write: a program start of the machine", "openw /etc/ld.so.preload | openw /etc/passwd", Never, ROOT),
    ("read: up from the working directory by descriptors", "opathhere {secret}", Never, BOTH),
    (
        "read: a directory in the place of a hidden one",
        "exchangedir {home}/.ssh {work}/decoy/id_ed25519",
        Never,
        SAFE,
    ),
    ("read: by a thread of io_uring's", "uringsqpoll {secret}", Never, BOTH),
    ("write: mode, of an open file", "fchmod {victim}", Never, BOTH),
    ("write: times, of an open file", "futimes {victim}", Never, BOTH),
    ("write: attributes, of an open file", "fxattr {victim}", Never, BOTH),
    ("write: room for a file", "fallocate {victim}", Never, BOTH),
    ("write: a directory by io_uring", "uringmkdir {new}", Never, BOTH),
    ("write: remove a file by io_uring", "uringunlink {victim}", Never, BOTH),
];

/// Mounts, and namespaces of the agent's own in which it is root.
const MOUNTS: &[Row] = &[
    ("mount: unmount what hides", "umount {home}/.ssh | read {secret}", Never, TREE),
    ("mount: unmount lazily", "detach {home}/.ssh | read {secret}", Never, TREE),
    (
        "mount: unmount what hides, in a namespace of its own",
        "unshare user mnt | umount {home}/.ssh | read {secret}",
        Never,
        BOTH,
    ),
    (
        "mount: unmount lazily, in a namespace of its own",
        "unshare user mnt | detach {home}/.ssh | read {secret}",
        Never,
        BOTH,
    ),
    ("mount: unmount the home directory", "unshare user mnt | detach {home} | read {secret}", Never, BOTH),
    ("mount: unmount the state", "unshare user mnt | detach {state} | open {state}/journal.db", Never, BOTH),
    ("mount: unmount /tmp", "unshare user mnt | detach /tmp | read {tmpfile}", Never, BOTH),
    ("mount: unmount everything", "unshare user mnt | detach / | read {secret}", Never, BOTH),
    (
        "mount: bind the hidden elsewhere",
        "mkdir {tmp} | unshare user mnt | bind {home}/.ssh {tmp} | read {tmp}/id_ed25519",
        Never,
        BOTH,
    ),
    (
        "mount: bind the home alone, without what covers it",
        "mkdir {tmp} | unshare user mnt | bind1 {home} {tmp} | read {tmp}/.ssh/id_ed25519",
        Never,
        BOTH,
    ),
    (
        "mount: bind the root alone",
        "mkdir {tmp} | unshare user mnt | bind1 / {tmp} | read {tmp}{secret}",
        Never,
        Control::None("what is mounted below is uncovered for nobody"),
    ),
    (
        "mount: bind the outside here to write",
        "mkdir {tmp} | unshare user mnt | bind {outside} {tmp} | remount {tmp} | write {victim}",
        Never,
        BOTH,
    ),
    ("mount: bind without a namespace", "mkdir {tmp} | bind1 / {tmp} | read {tmp}{secret}", Never, TREE),
    ("mount: remount to write", "remount / | write {victim}", Never, TREE),
    (
        "mount: remount to write, in a namespace of its own",
        "unshare user mnt | remount / | write {victim}",
        Never,
        BOTH,
    ),
    ("mount: mount_setattr to write", "setattr / | write {victim}", Never, TREE),
    (
        "mount: mount_setattr in a namespace of its own",
        "unshare user mnt | setattr / | write {victim}",
        Never,
        BOTH,
    ),
    ("mount: open_tree of the home alone", "unshare user mnt | treeread {home} .ssh/id_ed25519", Never, BOTH),
    (
        "mount: open_tree and move_mount",
        "mkdir {tmp} | unshare user mnt | opentree {home} {tmp} | read {tmp}/.ssh/id_ed25519",
        Never,
        BOTH,
    ),
    (
        "mount: move_mount of what covers",
        "mkdir {tmp} | unshare user mnt | movemount {home}/.ssh {tmp} | read {secret}",
        Never,
        BOTH,
    ),
    (
        "mount: move what covers without a namespace",
        "mkdir {tmp} | movemount {home}/.ssh {tmp} | read {secret}",
        Never,
        TREE,
    ),
    (
        "mount: overlay over the hidden",
        "mkdir {tmp} | unshare user mnt | overlay {home} {work}/{tmp}u {work}/{tmp}w {tmp} | read {tmp}/.ssh/id_ed25519",
        Never,
        Control::None("an overlay of an ordinary user's is not to be had everywhere"),
    ),
    (
        "mount: a new proc, and its first process's root",
        "mkdir {tmp} | unshare user mnt pid | mount proc {tmp} | read {tmp}/1/root{secret}",
        Never,
        Control::None("in the namespace the first process is the probe itself"),
    ),
    (
        "mount: a new proc, to write the machine's settings",
        "mkdir {tmp} | unshare user mnt pid | mount proc {tmp} | openw {tmp}/sys/kernel/core_pattern",
        Never,
        ROOT,
    ),
    (
        "mount: a new sysfs, to write",
        "mkdir {tmp} | unshare user mnt net | mount sysfs {tmp} | openw {tmp}/power/state | openw {tmp}/kernel/uevent_helper",
        Never,
        Control::None("the machine may have no such setting"),
    ),
    (
        "mount: fsopen of proc",
        "mkdir {tmp} | unshare user mnt pid | fsopen proc {tmp} | openw {tmp}/sys/kernel/core_pattern",
        Never,
        ROOT,
    ),
    ("mount: fsopen of a tmpfs without a namespace", "mkdir {tmp} | fsopen tmpfs {tmp}", Never, TREE),
    (
        "mount: a control group's file system",
        "mkdir {tmp} | unshare user mnt cgroup | mount cgroup2 {tmp} | openw {tmp}/cgroup.procs",
        Never,
        Control::None("it may be mounted already, of another version"),
    ),
    ("mount: pivot_root", "pivot {work} {work} | read {secret}", Never, TREE),
    (
        "mount: pivot_root in a namespace of its own",
        "mkdir {tmp} | unshare user mnt | private / | bind1 / {tmp} | pivot {tmp} {tmp}/mnt | read /mnt{secret}",
        Never,
        Control::None("the machine may have no /mnt"),
    ),
    ("mount: out of a chroot", "unshare user mnt | chrootout {secret}", Never, BOTH),
    ("mount: chroot without a namespace", "chrootout {secret}", Never, ROOT),
    ("mount: the disk itself", "mkdir {tmp} | mount ext4 {tmp} | read {secret}", Never, TREE),
    ("namespace: PIDs, and the daemon is seen", "unshare user pid | seen {daemon} kennel", Never, BOTH),
    (
        "namespace: network of its own, and back",
        "unshare user net | tcp {tcp}",
        Never,
        Control::None("there the outside is not reached by anybody"),
    ),
    (
        "namespace: memory of the outside from another",
        "unshare user ipc | shm {shm}",
        Never,
        Control::None("there the outside is not reached by anybody"),
    ),
    ("namespace: root of one, and the outside's files", "unshare user | write {victim}", Never, BOTH),
    ("namespace: root of one, and modes", "unshare user | chmod {victim} 4755", Never, BOTH),
    ("namespace: enter the daemon's mounts", "setns /proc/{daemon}/ns/mnt", Never, ROOT),
    ("namespace: enter the worker's mounts", "setns /proc/{worker}/ns/mnt {ns_mnt}", Never, ROOT),
    ("namespace: enter the worker's network", "setns /proc/{worker}/ns/net {ns_net}", Never, ROOT),
    ("namespace: enter init's mounts", "setns /proc/{init}/ns/mnt {ns_mnt}", Never, ROOT),
    ("namespace: enter init's network", "setns /proc/{init}/ns/net {ns_net}", Never, ROOT),
    ("namespace: enter init's PIDs", "setns /proc/{init}/ns/pid {ns_pid}", Never, ROOT),
    ("namespace: enter the worker's by pidfd", "pidfdns {worker} ipc", Never, ROOT),
    ("namespace: that of the machine's memory", "samens ipc {ns_ipc}", Never, BOTH),
    ("namespace: that of the machine's mounts", "samens mnt {ns_mnt}", Never, BOTH),
    ("namespace: that of the machine's PIDs", "samens pid {ns_pid}", Never, BOTH),
    ("namespace: that of the machine's network", "interfaces {ns_net}", Workdir, BOTH),
    (
        "mount: control groups of version 1",
        "mkdir {tmp} | unshare user mnt cgroup | mountopt cgroup {tmp} pids | openw {tmp}/cgroup.procs",
        Never,
        Control::None("the machine may have control groups of another version"),
    ),
    (
        "mount: limits of its control group",
        "mkdir {tmp} | unshare user mnt cgroup | mountopt cgroup {tmp} pids | openw {tmp}/pids.max",
        Never,
        Control::None("the machine may have control groups of another version"),
    ),
];

/// Processes, and what they have open.
const PROCESSES: &[Row] = &[
    ("process: the daemon is seen", "seen {daemon} kennel", Never, BOTH),
    ("process: the worker is seen", "seen {worker} session-worker", Never, BOTH),
    ("process: another agent is seen", "seen {siblingagent} hostile-agent", Never, BOTH),
    ("process: signal to the daemon", "kill {daemon} kennel 0", Never, BOTH),
    ("process: signal to the worker", "kill {worker} session-worker 0", Never, BOTH),
    ("process: signal to the keeper", "kill {keeper} / 0", Never, BOTH),
    ("process: signal to a stranger", "kill {outsider} outside 0", Never, BOTH),
    ("process: signal to the other agent", "kill {siblingagent} hostile-agent 0", Never, BOTH),
    ("process: signal by pidfd", "pidfdkill {outsider} outside", Never, BOTH),
    ("process: trace the daemon", "ptrace {daemon} kennel", Never, BOTH),
    ("process: trace the other agent", "ptrace {siblingagent} hostile-agent", Never, BOTH),
    ("process: trace init", "ptrace {init} session-worker", Never, BOTH),
    ("process: read init's memory", "vmread {init} session-worker", Never, BOTH),
    ("process: write init's memory", "vmwrite {init} session-worker", Never, BOTH),
    ("process: init's memory as a file", "openw /proc/{init}/mem", Never, BOTH),
    ("process: init's memory map", "dumpable {init} maps", Never, BOTH),
    ("process: init's environment", "dumpable {init} environ", Never, BOTH),
    ("process: what compares with init", "kcmp {init} session-worker", Never, BOTH),
    ("process: take a descriptor of init", "getfd {init} session-worker", Never, BOTH),
    ("process: init's root", "read /proc/{init}/root{secret}", Never, BOTH),
    ("process: init's directory", "follow /proc/{init}/cwd", Never, BOTH),
    ("process: init's descriptors", "entries /proc/{init}/fd", Never, BOTH),
    ("process: init's program", "follow /proc/{init}/exe", Never, BOTH),
    ("process: init's mapped files", "entries /proc/{init}/map_files", Never, BOTH),
    ("process: init's namespaces", "follow /proc/{init}/ns/user", Never, BOTH),
    (
        "process: init's descriptors, each opened and lied to",
        "procfds /proc/{init}/fd {outsider}",
        Never,
        SAFE,
    ),
    (
        "process: own parent's descriptors, in a namespace",
        "unshare user | procfds /proc/{init}/fd {outsider}",
        Never,
        SAFE,
    ),
    ("process: init's /proc of outside", "openw /proc/{init}/fd/3/sys/kernel/core_pattern", Never, INSIDE),
    (
        "process: the daemon's environment in the own",
        "read /proc/self/environ",
        Never,
        Control::None("kennel does not hand it on to anybody"),
    ),
    ("process: limits of another", "prlimit {outsider} outside", Never, BOTH),
    ("process: processors of another", "affinity {outsider} outside", Never, BOTH),
    ("process: priority of another", "renice {outsider} outside", Never, BOTH),
    ("process: priority above others'", "nicer", Never, ROOT),
    ("process: real time", "rtprio", Never, ROOT),
    ("process: real-time I/O", "ioprio", Never, ROOT),
    (
        "process: more descriptors than its limit",
        "rlimitup",
        Never,
        Control::None("root may lack the right to, in a virtual machine"),
    ),
    (
        "process: not killed for memory",
        "oomscore",
        Never,
        Control::None("root may lack the right to, in a virtual machine"),
    ),
    ("descriptor: any that is inherited", "fds", Never, NO_FD),
    (
        "descriptor: one that leads out",
        "fdescape .ssh/id_ed25519 {secret}",
        Never,
        Control::None("without a sandbox nothing is inherited either"),
    ),
    ("descriptor: the log opened again", "reopen 2", Never, PIPE),
    ("descriptor: the log opened again and emptied", "reopen 2 truncate", Never, PIPE),
    ("descriptor: the log cut short", "truncfd 2", Never, PIPE),
    ("descriptor: the log written over", "seekfd 2", Never, PIPE),
    ("process: rights that a program gives", "newprivs", Never, BOTH),
    ("process: rights over the machine", "rights {ns_user}", Never, ROOT),
    ("process: counters of another", "perf {outsider}", Never, ROOT),
    (
        "process: trace init, as root of a namespace",
        "unshare user | ptrace {init} session-worker",
        Never,
        Control::None("without a sandbox that is another namespace's process"),
    ),
    (
        "process: write init's memory, as root of a namespace",
        "unshare user | vmwrite {init} session-worker",
        Never,
        Control::None("without a sandbox that is another namespace's process"),
    ),
    (
        "process: take a descriptor of init, as root of a namespace",
        "unshare user | getfd {init} session-worker",
        Never,
        Control::None("without a sandbox that is another namespace's process"),
    ),
];

/// The kernel and the machine.
const MACHINE: &[Row] = &[
    ("machine: what happens to cores", "openw /proc/sys/kernel/core_pattern", Never, ROOT),
    (
        "machine: how modules are loaded",
        "openw /proc/sys/kernel/modprobe | openw /proc/sys/kernel/printk",
        Never,
        ROOT,
    ),
    ("machine: how memory is given", "openw /proc/sys/vm/overcommit_memory", Never, ROOT),
    (
        "machine: formats of programs",
        "openw /proc/sys/fs/binfmt_misc/register",
        Never,
        Control::None("it may not be mounted"),
    ),
    ("machine: magic keys", "openw /proc/sysrq-trigger", Never, Control::None("the machine may have none")),
    ("machine: memory, as a core", "open /proc/kcore", Never, Control::None("the machine may have none")),
    ("machine: /sys", "openw /sys/kernel/mm/transparent_hugepage/enabled", Never, ROOT),
    ("machine: interrupts", "openw /proc/irq/default_smp_affinity", Never, ROOT),
    (
        "machine: leave the control group",
        "openw /sys/fs/cgroup/pids/cgroup.procs",
        Never,
        Control::None("the machine may have control groups of another version"),
    ),
    (
        "machine: leave the control group of version 2",
        "openw /sys/fs/cgroup/cgroup.procs",
        Never,
        Control::None("the machine may have control groups of another version"),
    ),
    (
        "machine: what is run when a group is empty",
        "openw /sys/fs/cgroup/memory/release_agent",
        Never,
        Control::None("the machine may have control groups of another version"),
    ),
    ("machine: /dev/mem", "open /dev/mem", Never, Control::None("the machine may have none")),
    ("machine: the kernel's messages", "open /dev/kmsg", Never, ROOT),
    ("machine: the kernel's messages by syslog", "syslog", Never, ROOT),
    ("machine: disks", "open /dev/vda", Never, Control::None("the machine may have another")),
    ("machine: loop devices", "open /dev/loop-control", Never, ROOT),
    ("machine: virtual machines", "open /dev/kvm", Never, Control::None("the machine may have none")),
    ("machine: network devices", "open /dev/net/tun", Never, Control::None("the machine may have none")),
    ("machine: consoles", "open /dev/tty1", Never, ROOT),
    ("machine: fuse", "open /dev/fuse", Never, Control::None("the machine may have none")),
    ("machine: load a kernel", "kexec", Never, ROOT),
    ("machine: load a module", "module", Never, ROOT),
    ("machine: load a module from a file", "finitmodule", Never, ROOT),
    ("machine: remove a module", "delmodule", Never, ROOT),
    ("machine: restart", "reboot", Never, ROOT),
    ("machine: swap", "swapon", Never, ROOT),
    ("machine: stop swapping", "swapoff", Never, ROOT),
    ("machine: accounting", "acct", Never, ROOT),
    ("machine: ports of the processor", "iopl", Never, Control::None("the kernel may refuse it to root")),
    ("machine: the clock", "settime", Never, ROOT),
    ("machine: its name", "hostname {ns_uts}", Never, ROOT),
    ("machine: programs in the kernel", "bpf", Never, ROOT),
    ("machine: look at programs in the kernel", "bpfprog", Never, ROOT),
    ("machine: counters of all processes", "perf", Never, ROOT),
    ("machine: faults of the kernel by userfaultfd", "uffd", Never, ROOT),
    (
        "machine: as root of a namespace, load a module",
        "unshare user | module",
        Never,
        Control::None("the right of a namespace is not that of the machine"),
    ),
    (
        "machine: as root of a namespace, restart",
        "unshare user | reboot",
        Never,
        Control::None("the right of a namespace is not that of the machine"),
    ),
    (
        "machine: as root of a namespace, core_pattern",
        "unshare user | openw /proc/sys/kernel/core_pattern",
        Never,
        ROOT,
    ),
    ("machine: the kernel's messages by /proc", "open /proc/kmsg", Never, ROOT),
    ("machine: where packets go", "openw /proc/sys/net/ipv4/ip_forward", Never, ROOT),
    (
        "machine: how many namespaces there may be",
        "openw /proc/sys/user/max_user_namespaces",
        Never,
        Control::None("it takes a right that root may lack in a virtual machine"),
    ),
    ("machine: how keys are kept", "openw /proc/sys/kernel/keys/maxkeys", Never, ROOT),
    ("machine: what all processes do", "connector {ns_net}", Never, BOTH),
];

/// Other processes' ears: sockets, memory, keys, terminals.
const TALK: &[Row] = &[
    ("talk: TCP", "tcp {tcp}", Workdir, BOTH),
    ("talk: TCP, IPv6", "tcp6 {tcp6}", Workdir, BOTH),
    ("talk: UDP", "udp {udp}", Workdir, BOTH),
    ("talk: an abstract socket", "abstract {abstract}", Workdir, BOTH),
    ("talk: an abstract socket by io_uring", "uringunix {abstract}", Never, BOTH),
    ("talk: a socket in a directory that is seen", "unix {seensock}", Always, BOTH),
    ("talk: a datagram to a socket that is seen", "dgram {slot}", Always, BOTH),
    ("talk: a socket in /tmp", "unix {tmpsock}", Never, BOTH),
    ("talk: kennel's socket", "ask {socket}", Never, AGENT),
    ("talk: kennel's socket by a descriptor", "unixfd {socket}", Never, BOTH),
    ("talk: kennel's socket through /proc/self/root", "unixfd /proc/self/root{socket}", Never, BOTH),
    ("talk: kennel's directory of sockets", "read {root}/elsewhere/canary", Never, BOTH),
    ("talk: raw IP", "raw", Never, ROOT),
    ("talk: packets", "packet", Never, ROOT),
    ("talk: netlink of the machine", "netlink {ns_net}", Workdir, BOTH),
    ("talk: vsock", "vsock", Never, Control::None("the machine may be no virtual one")),
    ("talk: SysV shared memory", "shm {shm}", Never, BOTH),
    ("talk: SysV semaphores", "sem {sem}", Never, BOTH),
    ("talk: SysV messages", "msg {msg}", Never, BOTH),
    ("talk: POSIX messages", "mq {mq}", Never, BOTH),
    (
        "talk: POSIX messages, mounted",
        "unshare user mnt | mqueuefs {mq}",
        Never,
        Control::None("the right to mount is that of the namespace of messages"),
    ),
    ("talk: the user's terminal", "pty {pty}", Never, BOTH),
    ("talk: type into the user's terminal", "tiocsti {pty}", Never, ROOT),
    ("talk: the user's terminal as the own", "ctty {pty}", Never, BOTH),
    (
        "talk: the machine's terminals mounted anew",
        "unshare user mnt | devpts {pty}",
        Never,
        Control::None("they are another instance for everybody"),
    ),
    ("key: the login's session, by number", "keyread {skey}", Never, BOTH),
    ("key: the login's session, searched", "keysearch -3 canary-4711-session", Never, BOTH),
    ("key: the login's session, requested", "keyrequest canary-4711-session", Never, BOTH),
    ("key: the login's session, described", "keydescribe {skey}", Never, BOTH),
    ("key: the login's session, changed", "keyupdate {skey}", Never, BOTH),
    ("key: the login's session, linked", "keylink {skey} | keyread {skey}", Never, BOTH),
    ("key: the user's, by number", "keyread {ukey}", Never, BOTH),
    ("key: the user's, searched", "keysearch -4 {ukeyname}", Never, BOTH),
    ("key: the user's session, searched", "keysearch -5 {ukeyname}", Never, BOTH),
    ("key: the user's, requested", "keyrequest {ukeyname}", Never, BOTH),
    ("key: the user's, changed", "keyupdate {ukey}", Never, BOTH),
    ("key: one that is open to the user, by number", "keyread {okey}", Never, BOTH),
    ("key: the names of keys", "read /proc/keys", BubblewrapUser, BOTH),
    ("key: the user's, as root of a namespace", "unshare user | keyread {ukey}", Never, BOTH),
    ("talk: TCP by io_uring", "uringsocket {tcp}", Never, BOTH),
    ("talk: a socket in /run", "unix {runsock}", Never, ROOT),
    ("talk: a socket in the runtime directory", "unix {root}/run/bus", Never, BOTH),
    ("talk: a key agent in a hidden directory", "unix {home}/.gnupg/S.gpg-agent", Never, BOTH),
    ("talk: the machine's log", "dgram /dev/log", Never, Control::None("the machine may have none")),
    ("talk: vsock by io_uring", "uringvsock", Never, BOTH),
    ("talk: what all processes do, by io_uring", "uringconnector {ns_net}", Never, BOTH),
    (
        "talk: the kernel's ciphers by io_uring",
        "uringpacket",
        Never,
        Control::None("the kernel may have none"),
    ),
    ("talk: vsock by the 32-bit calls", "vsock32", Never, Control::None("the kernel may have no such calls")),
    (
        "key: the user's, by the 32-bit calls",
        "key32 {okey}",
        Never,
        Control::None("the kernel may have no such calls"),
    ),
    (
        "key: the user's, by the x32 calls",
        "keyx32 {okey}",
        Never,
        Control::None("the kernel may have no such calls"),
    ),
    (
        "mount: control groups in a clone",
        "clonecgroup {tmp}",
        Never,
        Control::None("it may be mounted already, of another version"),
    ),
];

/// By way of the client, and of kennel itself.
const CLIENT: &[Row] = &[
    ("terminal: in a hidden directory", "terminal {home}/.ssh - /bin/cat id_ed25519", Never, BOTH),
    ("terminal: in the root", "terminal / - /bin/cat {secret}", Never, BOTH),
    ("terminal: in the home directory", "terminal {home} - /bin/cat .ssh/id_ed25519", Never, BOTH),
    (
        "terminal: in another session's directory, to write",
        "terminal {outside} - /bin/cp canary {new}",
        Never,
        BOTH,
    ),
    (
        "terminal: in the directory above, to write",
        "terminal {root} - /bin/cp outside/canary {new}",
        Never,
        BOTH,
    ),
    ("terminal: through a symlink", "terminal {work}/link - /bin/cat id_ed25519", Never, BOTH),
    ("terminal: through `..`", "terminal {work}/../.ssh - /bin/cat id_ed25519", Never, BOTH),
    (
        "terminal: a relative directory",
        "terminal ../.ssh - /bin/cat id_ed25519",
        Never,
        Control::None("it is relative to where the worker is, which is nowhere in particular"),
    ),
    (
        "terminal: through /proc/self/root",
        "terminal /proc/self/root{home}/.ssh - /bin/cat id_ed25519",
        Never,
        BOTH,
    ),
    (
        "terminal: through the worker's root",
        "terminal /proc/{worker}/root{home}/.ssh - /bin/cat id_ed25519",
        Never,
        BOTH,
    ),
    ("terminal: the state", "terminal {state}/logs - /bin/cat canary-main.log {secret}", Never, BOTH),
    (
        "terminal: a file as the directory",
        "terminal {secret} - /bin/cat {secret}",
        Never,
        Control::None("nobody can enter a file"),
    ),
    ("terminal: a secret named outright", "terminal - - /bin/cat {secret}", Never, BOTH),
    ("terminal: a file outside named outright", "terminal - - /bin/cp canary-of-its-own {new}", Never, BOTH),
    ("terminal: unmounted", "terminal - - /bin/sh -c umount~-l~/;cat~{secret}", Never, TREE),
    ("terminal: HOME as it was", "terminal - HOME={home} /bin/sh -c cat~$HOME/.ssh/id_ed25519", Never, BOTH),
    (
        "terminal: LD_PRELOAD",
        "terminal - LD_PRELOAD={work}/pre-terminal/preload.so /bin/cat {secret}",
        Never,
        BOTH,
    ),
    ("terminal: LD_AUDIT", "terminal - LD_AUDIT={work}/pre-audit/preload.so /bin/cat {secret}", Never, BOTH),
    ("terminal: another marker", "terminal - KENNEL_SESSION=x/y/1 /bin/cat {secret}", Never, BOTH),
    (
        "terminal: race for the directory",
        "race {work}/swap {work}/swapped 1000 terminals 40 {work}/swap /bin/cat id_ed25519",
        Never,
        BOTH,
    ),
    (
        "files: a secret",
        "fs-read {secret}",
        Never,
        Control::None("the client gives what is in the working directory only"),
    ),
    (
        "files: through a symlink",
        "fs-read {work}/link/id_ed25519",
        Never,
        Control::None("the client gives what is in the working directory only"),
    ),
    (
        "files: through `..`",
        "fs-read {work}/../.ssh/id_ed25519",
        Never,
        Control::None("the client gives what is in the working directory only"),
    ),
    (
        "files: through /proc/self/root",
        "fs-read /proc/self/root{secret}",
        Never,
        Control::None("the client gives what is in the working directory only"),
    ),
    (
        "files: write outside",
        "fs-write {victim}",
        Never,
        Control::None("the client writes what is in the working directory only"),
    ),
    (
        "files: write through a symlink",
        "fs-write {work}/out/{=outside/fs-written}",
        Never,
        Control::None("the client writes what is in the working directory only"),
    ),
    (
        "files: race to read",
        "race {work}/swap {work}/swapped 600 fs-reads 2000 {work}/swap/id_ed25519",
        Never,
        Control::None("the client gives what is in the working directory only"),
    ),
    (
        "files: race to write",
        "race {work}/swap {work}/swapped 600 fs-writes 2000 {work}/swap/{=home/.ssh/raced}",
        Never,
        Control::None("the client writes what is in the working directory only"),
    ),
    ("kennel: a way to it is given", "offered", Never, BOTH),
    ("kennel: its command from inside", "env KENNEL_SOCKET {socket} | spawn {kennel} ls", Never, AGENT),
    (
        "nested: bubblewrap within, over the secret",
        "spawn bwrap --bind / / cat {secret}",
        Never,
        Control::None("bubblewrap may not be there"),
    ),
    (
        "terminal: words that bubblewrap would take",
        "terminal - - --bind / / /bin/cat {secret}",
        Never,
        Control::None("there is no such command"),
    ),
    (
        "terminal: init's descriptors, lied to",
        "terminal - - {work}/probes try procfds /proc/1/fd {outsider}",
        Never,
        SAFE,
    ),
    ("terminal: init is traced", "terminal - - {work}/probes try ptrace {init} session-worker", Never, BOTH),
    ("terminal: any descriptor that is inherited", "terminal - - {work}/probes try fds", Never, NO_FD),
    (
        "terminal: the agent of the same session is seen",
        "terminal - - {work}/probes try seen {agent} hostile-agent",
        Never,
        BOTH,
    ),
    ("terminal: a key of the login", "terminal - - {work}/probes try keyread {skey}", Never, BOTH),
    ("terminal: shared memory of the outside", "terminal - - {work}/probes try shm {shm}", Never, BOTH),
    ("terminal: the user's terminal", "terminal - - {work}/probes try pty {pty}", Never, BOTH),
    ("terminal: TCP", "terminal - - {work}/probes try tcp {tcp}", Workdir, BOTH),
    ("terminal: a secret that was made later", "terminal - - /bin/cat {home}/late/canary", Never, BOTH),
    ("terminal: kennel's socket", "terminal - - {work}/probes try ask {socket}", Never, AGENT),
    (
        "terminal: what happens to cores",
        "terminal - - {work}/probes try openw /proc/sys/kernel/core_pattern",
        Never,
        ROOT,
    ),
    (
        "terminal: an empty directory name",
        "terminal  - /bin/cat {secret}",
        Never,
        Control::None("there is no such directory"),
    ),
    ("hidden: below what may be written", "read {home}/.agent/deep/secret/canary", Never, BOTH),
    (
        "hidden: below what may be written, its parent moved",
        "rename {home}/.agent/deep {home}/.agent/moved | read {home}/.agent/moved/secret/canary",
        Never,
        BOTH,
    ),
    (
        "terminal: a hidden place whose parent was moved",
        "terminal - - /bin/cat {home}/.agent/moved/secret/canary",
        Never,
        BOTH,
    ),
    (
        "hidden: a symlink is planted above what is to be hidden",
        "symlink {outside} {home}/.agent/plant | list {work}",
        Always,
        Control::None("it is seen at the next start"),
    ),
    (
        "terminal: kennel's own program, with a library",
        "terminal - LD_PRELOAD={work}/pre-exe/preload.so /proc/self/exe",
        Never,
        Control::None("`exe` says what it came to"),
    ),
    (
        "terminal: kennel's own program, as an interpreter",
        "terminal - LD_PRELOAD={work}/pre-exe/preload.so {work}/interpreted",
        Never,
        Control::None("`exe` says what it came to"),
    ),
];

/// Once the daemon has been replaced: the sockets are new ones.
const LATER: &[Row] = &[
    ("later: kennel's new socket", "ask {socket}", Never, AGENT),
    ("later: kennel's new socket by a descriptor", "unixfd {socket}", Never, AGENT),
    ("later: the directory of sockets", "read {root}/elsewhere/canary", Never, BOTH),
    ("later: the journal", "open {state}/journal.db", Never, BOTH),
    ("later: a hidden place whose parent was moved", "read {home}/.agent/moved/secret/canary", Never, BOTH),
];

/// What the test finds out by itself.
const FOUND: &[Row] = &[
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

pub fn probes() -> Vec<Probe> {
    let probe = |(name, steps, expect, control): (String, String, Expect, Control), after_restart| Probe {
        name,
        steps,
        expect,
        control,
        after_restart,
    };
    let row =
        |(name, steps, expect, control): &Row| ((*name).to_owned(), (*steps).to_owned(), *expect, *control);
    let secrets = SECRETS
        .iter()
        .map(|path| (format!("secret: ~/{path}"), format!("read {{home}}/{path}"), Never, BOTH));
    let late = LATE
        .iter()
        .map(|path| (format!("secret, made later: ~/{path}"), format!("read {{home}}/{path}"), Never, BOTH));
    let rows = [OWN, FILES, MOUNTS, PROCESSES, MACHINE, TALK, CLIENT, FOUND];
    let now = rows.into_iter().flatten().map(row).chain(secrets).chain(late).map(|row| probe(row, false));
    now.chain(LATER.iter().map(row).map(|row| probe(row, true))).collect()
}
