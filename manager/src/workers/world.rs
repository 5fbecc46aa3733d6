//! What all workers have in common.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::Walls;
use protocol::wire::Inherited;

use crate::system::cgroups::Cgroups;
use crate::system::probe::Machine;
use crate::work::Work;
use crate::workers::shelter::Shelters;
use crate::workers::tokens::McpProgram;

/// What all workers have in common.
pub struct World {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The `session-worker` program, if it was named.
    pub worker_path: Option<PathBuf>,
    /// This boot.
    pub boot_id: String,
    /// First part of every marker.
    pub uuid: String,
    /// All children of this process are ours.
    pub whole_process: bool,
    /// What agents are offered for starting sub-agents.
    pub mcp_server: Option<McpProgram>,
    /// Where workers wait for the next manager.
    pub shelters: Shelters,
    /// What agents can be held with.
    pub machine: Machine,
    /// What is done is counted here.
    pub work: Arc<Work>,
    /// The control groups of sessions.
    pub cgroups: Option<Cgroups>,
    /// What sessions' programs inherit where nothing else is set.
    pub inherited: Inherited,
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
