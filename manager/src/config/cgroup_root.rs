//! The setting `cgroup_root`.

/// The place where kennel makes control groups for sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CgroupRoot {
    /// In what the service manager has delegated to this process, if it has.
    #[default]
    Auto,
    /// Nowhere.
    None,
    /// In this directory of a control group file system; with `{controller}` in it, in one for each controller.
    At(String),
}
