//! The place of a campaign: its directory, configuration and disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Options;
use super::host::Place;
use crate::real;

/// The journal's own file system, where the disk may be full, in bytes.
pub(crate) const DISK: u64 = 4 << 30;

/// Moves this process into a mount namespace of its own. Its later mounts are invisible outside and end with
/// it. Needs rights.
pub(crate) fn alone_with_mounts() -> bool {
    use nix::mount::{MsFlags, mount};
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_ok()
        && mount(None::<&str>, "/", None::<&str>, private, None::<&str>).is_ok()
}

/// Gives the state a file system of its own.
pub(crate) fn own_disk(place: &Place) -> bool {
    use nix::mount::{MsFlags, mount};
    let options = format!("size={DISK},mode=700,uid={}", place.uid.unwrap_or(0));
    mount(Some("kennel"), &place.state(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).is_ok()
}

/// Directories, programs and configuration.
pub(crate) fn prepare(dir: &Path, options: &Options) -> Place {
    let (agent, acp) = (real::beside("fixture-agent"), real::beside("acp-agent"));
    let (kennel, worker, agent, acp) = match options.uid {
        None => (real::kennel().clone(), real::worker().clone(), agent, acp),
        Some(_) => {
            let copies = real::publish(&[real::kennel(), real::worker(), &agent, &acp], &dir.join("bin"));
            (copies[0].clone(), copies[1].clone(), copies[2].clone(), copies[3].clone())
        }
    };
    let place = Place { dir: dir.to_owned(), kennel, worker, agent, uid: options.uid, network: None };
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    for (made, mode) in [
        ("state", 0o700),
        ("run", 0o700),
        ("work", 0o700),
        ("memory", 0o700),
        ("points", 0o777),
        ("marks", 0o777),
    ] {
        let made = dir.join(made);
        fs::create_dir(&made).unwrap();
        fs::set_permissions(&made, fs::Permissions::from_mode(mode)).unwrap();
        if options.uid.is_some() && mode == 0o700 {
            std::os::unix::fs::chown(&made, options.uid, options.uid).unwrap();
        }
    }
    let (program, acp, memory) = (place.agent.display(), acp.display(), dir.join("memory"));
    let memory = memory.display();
    let impatient = "worker_timeout = \"1s\"\nstall_timeout = \"500ms\"\n";
    let config = format!(
        "[agents.fixture]\nkind = \"command\"\nmemory = \"100MiB\"\ncommand = [\"{program}\"]\n\n\
         [agents.argument]\nkind = \"command\"\ncommand = [\"{program}\"]\nprompt_via = \"argument\"\n\n\
         [agents.unread]\nkind = \"command\"\ncommand = [\"{program}\", \"--script\", \"say unread; sleep 30ms\"]\n\n\
         [agents.loads]\nkind = \"acp\"\npermission_timeout = \"200ms\"\n{impatient}\
         command = [\"{acp}\", \"--load\", \"--memory\", \"{memory}\"]\n\n\
         [agents.resumes]\nkind = \"acp\"\npermission_timeout = \"200ms\"\n{impatient}\
         command = [\"{acp}\", \"--resume\", \"--load\", \"--memory\", \"{memory}\"]\n"
    );
    fs::write(dir.join("config.toml"), config).unwrap();
    place
}
