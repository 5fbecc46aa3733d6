//! Resources and settings that all workers share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::Walls;
use protocol::wire::Inherited;

use crate::system::cgroups::Cgroups;
use crate::system::probe::Machine;
use crate::work::Work;
use crate::workers::log_ins::Limits;
use crate::workers::shelter::Shelters;
use crate::workers::tokens::McpProgram;

/// The resources and settings that all workers share.
pub struct World {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The `session-worker` program, if it was named.
    pub worker_path: Option<PathBuf>,
    /// The machine's boot id.
    pub boot_id: String,
    /// First part of every marker.
    pub uuid: String,
    /// All children of this process are workers or orphans of workers.
    pub whole_process: bool,
    /// The MCP server for sub-agents that agents are offered.
    pub mcp_server: Option<McpProgram>,
    /// The sockets where workers wait for the next manager.
    pub shelters: Shelters,
    /// The containment that this machine offers.
    pub machine: Machine,
    /// The counters of work done.
    pub work: Arc<Work>,
    /// The number of spare workers to keep while there is a worker.
    pub spare_workers: usize,
    /// The control groups of sessions.
    pub cgroups: Option<Cgroups>,
    /// The umask, environment and places that programs of sessions inherit unless something else is set.
    pub inherited: Inherited,
    /// The time limits of log-ins.
    pub log_in_limits: Limits,
}

impl World {
    /// Hides the manager's own files, too, and says in which boot this is.
    pub(super) fn hide(&self, mut walls: Walls) -> Walls {
        let socket = self.mcp_server.as_ref().map(|program| program.socket.as_path());
        // With its directory: the next manager makes another socket there.
        let place = socket.and_then(Path::parent);
        let own = [Some(self.state_dir.as_path()), place].into_iter().flatten();
        walls.hidden.extend(own.filter_map(|path| path.to_str().map(str::to_owned)));
        if walls.boot_id != self.boot_id {
            // Some devices have other numbers since then; inodes and the time of birth stay.
            walls.granted.iter_mut().for_each(|granted| granted.device = None);
        }
        walls
    }
}
