//! The setting `cgroup_root`.

/// The place where kennel makes control groups for sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CgroupRoot {
    /// In the control group that the service manager has delegated to this process, if any.
    #[default]
    Auto,
    /// kennel makes no control groups.
    None,
    /// In this directory of a control group file system. A path with `{controller}` names a directory for each controller.
    At(String),
}
