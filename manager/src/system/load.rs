//! Processor time and memory of process trees, by one reading of `/proc`.

use std::collections::HashMap;

use rustix::param::{clock_ticks_per_second, page_size};

use super::process;

/// The longest chain of parents that is followed: a list that changes meanwhile could be a circle.
const GENERATIONS: usize = 4096;

/// A process and all below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Number of processes.
    pub processes: u32,
    /// Sum of their resident memory, in bytes.
    pub memory: u64,
    /// Their processor time and that of the children that they have waited for, in milliseconds.
    pub cpu_ms: u64,
}

/// The loads of these processes, each known by its pid and start time, in the same order. A process that is gone has none.
pub fn of(roots: &[(u32, u64)]) -> Vec<Load> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let all: HashMap<u32, process::Figures> =
        pids.filter_map(|pid| Some((pid, process::figures(pid).ok()?))).collect();
    let lives = |(pid, start): &(u32, u64)| all.get(pid).is_some_and(|found| found.start_time == *start);
    let living = roots.iter().enumerate().filter(|(_, root)| lives(root));
    let places: HashMap<u32, usize> = living.map(|(place, (pid, _))| (*pid, place)).collect();
    let (tick, page) = (1_000 / clock_ticks_per_second().max(1), page_size() as u64);
    let mut loads = vec![Load::default(); roots.len()];
    for (pid, figures) in &all {
        let above = std::iter::successors(Some(*pid), |pid| all.get(pid).map(|found| found.parent));
        let Some(place) = above.take(GENERATIONS).find_map(|pid| places.get(&pid)) else { continue };
        let load = &mut loads[*place];
        load.processes += 1;
        load.memory += figures.resident_pages * page;
        load.cpu_ms += figures.cpu_ticks * tick;
    }
    loads
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_tree_has_the_processes_below_it_and_no_others() {
        let script = "sh -c 'echo up; exec sleep 1000' & wait";
        let mut child = Command::new("/bin/sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = child.id();
        let start = process::start_time(pid).unwrap();
        let me = std::process::id();
        let own = (me, process::start_time(me).unwrap());
        let [tree, replaced, this] = of(&[(pid, start), (pid, start + 1), own])[..] else { panic!() };
        assert!(tree.processes == 2 && tree.memory > 0, "{tree:?}");
        assert_eq!(replaced, Load::default(), "another process has this pid");
        // The nearest root counts a process.
        assert!(this.processes >= 1 && this.memory > 0, "{this:?}");
        let sleeps = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        for pid in sleeps.split_whitespace() {
            let _ = Command::new("kill").arg(pid).spawn().unwrap().wait();
        }
        child.wait().unwrap();
        assert_eq!(of(&[(pid, start)]), [Load::default()]);
    }
}
