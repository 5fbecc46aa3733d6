//! The kinds of faults, and the named points at which a process can die.

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $weight:literal;)+) => {
        /// A way to make life hard.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $variant,)+ }

        impl Fault {
            /// All of them.
            pub const ALL: &[Fault] = &[$(Fault::$variant),+];

            /// Its name, as `--only` takes it.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name),+ }
            }

            /// Returns the fault's share among all faults.
            pub fn weight(self) -> u64 {
                match self { $(Fault::$variant => $weight),+ }
            }
        }
    };
}

faults! {
    /// SIGKILL to a worker.
    WorkerKill = "worker-kill", 30;
    /// SIGSEGV to a worker.
    WorkerSegv = "worker-segv", 8;
    /// SIGABRT to a worker.
    WorkerAbrt = "worker-abrt", 8;
    /// SIGTERM to a worker: it ends its tree and leaves.
    WorkerTerm = "worker-term", 8;
    /// SIGSTOP to a worker, later SIGCONT.
    WorkerStop = "worker-stop-cont", 6;
    /// SIGKILL to a stopped worker.
    WorkerStopKill = "worker-stop-kill", 4;
    /// SIGSTOP to a worker, until somebody finds that it does nothing more.
    WorkerFreeze = "worker-freeze", 1;
    /// Bytes that are no frame in the pipe from a worker.
    GarbageReport = "garbage-report", 4;
    /// Bytes that are no frame in the pipe to a worker.
    GarbageCommand = "garbage-command", 4;
    /// Half a frame from a worker, and its death.
    Truncated = "truncated-report", 4;
    /// SIGKILL to two workers.
    WorkerPair = "two-workers-kill", 4;
    /// SIGKILL to an agent.
    AgentKill = "agent-kill", 10;
    /// SIGSEGV to an agent.
    AgentSegv = "agent-segv", 3;
    /// SIGABRT to an agent.
    AgentAbrt = "agent-abrt", 3;
    /// SIGTERM to an agent.
    AgentTerm = "agent-term", 3;
    /// SIGSTOP to an agent, later SIGCONT.
    AgentStop = "agent-stop-cont", 3;
    /// SIGKILL to what an agent has started.
    ChildKill = "child-kill", 5;
    /// SIGKILL to a worker and its agent.
    WorkerAgent = "worker-agent-kill", 4;
    /// SIGKILL to the manager.
    ManagerKill = "manager-kill", 3;
    /// SIGSEGV to the manager.
    ManagerSegv = "manager-segv", 1;
    /// SIGABRT to the manager.
    ManagerAbrt = "manager-abrt", 1;
    /// SIGTERM to the manager: it leaves its workers to the next.
    ManagerTerm = "manager-term", 2;
    /// SIGINT to the manager: it ends all processes and leaves.
    ManagerInt = "manager-int", 2;
    /// SIGSTOP to the manager, later SIGCONT.
    ManagerStop = "manager-stop-cont", 1;
    /// SIGKILL to the manager and a stopped worker.
    ManagerWorker = "manager-worker-kill", 2;
    /// The manager can open no descriptor for a while.
    NoDescriptor = "emfile", 2;
    /// The manager can start no process for a while.
    NoProcess = "eagain", 2;
    /// The journal's file system is full for a while.
    DiskFull = "disk-full", 1;
    /// The cable between the machines is cut for a moment, or for some seconds.
    LinkDown = "link-down", 30;
    /// SIGKILL to a process of `ssh`.
    SshKill = "ssh-kill", 12;
    /// SIGKILL to the server's process for one connection.
    SshdKill = "sshd-kill", 8;
    /// SIGKILL to a `connect-stdio`.
    RelayKill = "relay-kill", 10;
    /// All TCP connections between the machines are ended at the clients' end.
    TcpReset = "tcp-reset", 10;
    /// A named point in the programs is armed.
    Point = "point", 40;
}

impl Fault {
    /// Returns true if the manager may die of it.
    pub fn strikes_manager(self) -> bool {
        matches!(
            self,
            Fault::ManagerKill
                | Fault::ManagerSegv
                | Fault::ManagerAbrt
                | Fault::ManagerTerm
                | Fault::ManagerInt
                | Fault::ManagerWorker
                | Fault::Point
        )
    }

    /// Returns true if it cuts the connection between two machines.
    pub fn cuts(self) -> bool {
        matches!(
            self,
            Fault::LinkDown | Fault::SshKill | Fault::SshdKill | Fault::RelayKill | Fault::TcpReset
        )
    }

    /// Returns true if a process dies of it at once.
    pub fn kills(self) -> bool {
        !matches!(
            self,
            Fault::WorkerStop
                | Fault::AgentStop
                | Fault::ManagerStop
                | Fault::NoDescriptor
                | Fault::NoProcess
                | Fault::DiskFull
                | Fault::LinkDown
                | Fault::TcpReset
                | Fault::Point
        )
    }
}

/// The points at which a process may die ([`protocol::failpoint`]), apart from the names of events and
/// effects.
pub const POINTS: &[&str] = &[
    "daemon.locked",
    "daemon.swept",
    "spare.spawned",
    "spare.taken",
    "zygote.started",
    "zygote.forked",
    "zygote.answered",
    "daemon.listening",
    "after.answer",
    "batch.written",
    "batch.unsynced",
    "dead.undrained",
    "dead.drained",
    "dead.unreaped",
    "half.command",
    "half.report",
    "worker.hello",
    "hello.outdated",
    "worker.welcome",
    "worker.turn",
    "worker.ending",
    "worker.gone",
    "worker.leave",
    "worker.shut",
    "worker.sheltered",
    "worker.alone",
    "worker.visited",
    "worker.taken-over",
    "adopt.found",
    "adopt.visited",
    "daemon.handing-over",
    "daemon.handed-over",
    "acp.initialize",
    "acp.new",
    "acp.load",
    "acp.resume",
    "acp.prompt",
    "acp.cancel",
    "acp.update",
    "acp.permission",
    "acp.call",
    "acp.terminal",
];

/// Points at which something else than the process breaks.
pub const BREAKS: &[&str] = &["half.command", "half.report", "hello.outdated", "worker.shut"];

/// Every point: before and after each event is recorded, before and after each effect, and the rest.
pub fn points() -> Vec<String> {
    let around = crate::kinds::EVENTS.iter().chain(crate::kinds::EFFECTS);
    let around = around.flat_map(|name| [format!("before.{name}"), format!("after.{name}")]);
    POINTS.iter().map(|name| (*name).to_owned()).chain(around).collect()
}
