//! Limits of memory, processes and processors, on real processes that want more.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use harness::cgroups::CgroupTree;
use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::*;
use manager::protocol::event::{Event, EventKind, Outcome};
use manager::protocol::{Exit, Keeper, Level, SessionId};
use nix::sys::signal::Signal;

use super::containment::{User, daemon_over, each_ends_with_its_session, users};

/// The limits of a session in these tests.
const MEMORY: u64 = 64 << 20;
const PIDS: u32 = 20;

/// A manager where `keeper` enforces memory and process limits, and that keeper.
struct Bounds {
    host: Host,
    keeper: Keeper,
    groups: Option<CgroupTree>,
}

impl Bounds {
    async fn over(keeper: Keeper, groups: Option<CgroupTree>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let setting = groups.as_ref().map_or("none", |groups| &groups.setting);
        std::fs::write(dir.path().join("config.toml"), daemon_section(setting)).unwrap();
        Self { host: Host::over(dir).await, keeper, groups }
    }

    /// Ends it. Nothing of it is left in its groups.
    async fn end(self) {
        self.host.manager.shutdown().await;
        if let Some(groups) = &self.groups {
            assert_eq!(groups.made(), Vec::<PathBuf>::new());
        }
    }
}

fn daemon_section(setting: &str) -> String {
    format!("[daemon]\ncgroup_root = \"{setting}\"\n")
}

/// Returns every keeper that can enforce a memory limit here. Where no control group can be made it is the
/// worker alone.
async fn all() -> Vec<Bounds> {
    let mut all = vec![Bounds::over(Keeper::Watched, None).await];
    for (keeper, groups) in CgroupTree::with_memory() {
        all.push(Bounds::over(keeper, Some(groups)).await);
    }
    all
}

fn fixture(script: &str) -> String {
    format!("{} '{script}'", beside("fixture-agent").display())
}

async fn session(host: &Host, opts: SessionOpts) -> SessionId {
    host.session_with(SessionOpts { grace_ms: Some(100), ..opts }).await
}

async fn oom_kills(host: &Host, id: &SessionId) -> Vec<Event> {
    let events = host.events(id).await.into_iter();
    events.filter(|event| matches!(event.kind, EventKind::SessionOomKilled { .. })).collect()
}

#[tokio::test]
async fn a_turn_with_too_much_memory_is_killed_and_told_and_nobody_else_notices() {
    for bounds in all().await {
        let (host, keeper) = (&bounds.host, bounds.keeper);
        let other = host.session().await;
        let meanwhile = host.send(&other, &fixture("eat 100000000; sleep 300ms; say done")).await;
        let id = session(host, SessionOpts { memory_bytes: Some(MEMORY), ..host.opts() }).await;
        // As much as it may have is no harm.
        assert_eq!(host.run(&id, &fixture("eat 10000000; sleep 300ms; say enough")).await, "enough\n");
        assert!(oom_kills(host, &id).await.is_empty(), "{keeper}");
        let prompt =
            host.send(&id, &format!("exec {}", fixture("eat 300000000; sleep 60000ms; say all"))).await;
        let EventKind::TurnCompleted { outcome, exit, .. } = host.end_of(&id, prompt).await else {
            panic!("not completed")
        };
        assert_eq!((outcome, exit), (Outcome::Completed, Some(Exit::Signal(9))), "{keeper}");
        assert_eq!(host.printed(&id, prompt).await, "");
        let kills = oom_kills(host, &id).await;
        let [Event { id: at, kind: EventKind::SessionOomKilled { peak_bytes, limit_bytes, by }, .. }] =
            &kills[..]
        else {
            panic!("{kills:?}")
        };
        assert_eq!((*limit_bytes, *by), (MEMORY, keeper));
        assert!(peak_bytes.unwrap() >= MEMORY, "{peak_bytes:?}");
        let events = host.events(&id).await;
        let end = events.iter().rfind(|event| matches!(event.kind, EventKind::TurnCompleted { .. })).unwrap();
        assert!(*at < end.id, "told after what it ended");
        let info = host.manager.get_session(&id).await.unwrap();
        assert_eq!(info.limits.memory_bytes, Some(MEMORY));
        assert_eq!(info.limited_by.unwrap().memory, Some(keeper));
        assert_eq!((info.incarnation, info.restarts.in_window), (1, 0), "its worker is not to blame");
        assert_eq!(host.run(&id, "echo on").await, "on\n");
        host.end_of(&other, meanwhile).await;
        assert_eq!(host.printed(&other, meanwhile).await, "done\n");
        bounds.end().await;
    }
}

#[tokio::test]
async fn an_agent_that_is_killed_for_its_memory_is_judged_like_any_death() {
    for bounds in all().await {
        let (host, keeper) = (&bounds.host, bounds.keeper);
        let profile = format!(
            "\n[agents.greedy]\nkind = \"acp\"\ncommand = [\"{}\"]\nmemory = \"64MiB\"\n",
            beside("acp-agent").display()
        );
        let before = std::fs::read_to_string(host.config()).unwrap_or_default();
        std::fs::write(host.config(), before + &profile).unwrap();
        let opts = SessionOpts { agent: Some("greedy".into()), intensity: Some(1), ..host.opts() };
        let id = session(host, opts).await;
        let prompt = host.send(&id, "eat 300000000; sleep 60000ms").await;
        assert!(matches!(host.end_of(&id, prompt).await, EventKind::TurnInterrupted { .. }), "{keeper}");
        let back =
            host.event(&id, "it back", |kind| matches!(kind, EventKind::SessionRestarted { .. })).await;
        let EventKind::SessionRestarted { reason, .. } = back.kind else { panic!() };
        assert!(reason.contains("out of memory"), "{reason}");
        assert_eq!(oom_kills(host, &id).await.len(), 1, "{keeper}");
        let prompt = host.send(&id, "eat 300000000; sleep 60000ms").await;
        host.end_of(&id, prompt).await;
        let failed = host.event(&id, "its end", |kind| matches!(kind, EventKind::SessionFailed { .. })).await;
        let EventKind::SessionFailed { reason, .. } = failed.kind else { panic!() };
        assert!(reason.contains("out of memory") && reason.contains("2 deaths"), "{reason}");
        assert_eq!(oom_kills(host, &id).await.len(), 2, "{keeper}");
        bounds.end().await;
    }
}

#[tokio::test]
async fn an_agent_has_no_more_processes_than_it_may_have() {
    for bounds in all().await {
        let (host, keeper) = (&bounds.host, bounds.keeper);
        let id = session(host, SessionOpts { pids: Some(PIDS), ..host.opts() }).await;
        assert_eq!(host.run(&id, &fixture("fork 5; sleep 300ms; say few")).await, "few\n");
        let prompt = host.send(&id, &fixture("fork 60; sleep 60000ms; say many")).await;
        let EventKind::TurnCompleted { exit, .. } = host.end_of(&id, prompt).await else {
            panic!("not completed")
        };
        assert!(!exit.unwrap().is_success(), "{keeper}");
        assert_eq!(host.printed(&id, prompt).await, "");
        let received = |event: &Event| matches!(&event.kind, EventKind::SystemMessage { text } if text.contains("20 are allowed"));
        assert_eq!(host.events(&id).await.iter().any(received), keeper == Keeper::Watched);
        assert!(oom_kills(host, &id).await.is_empty());
        assert_eq!(host.manager.get_session(&id).await.unwrap().limited_by.unwrap().pids, Some(keeper));
        bounds.end().await;
    }
}

#[tokio::test]
async fn what_cannot_be_kept_is_said() {
    let bounds = Bounds::over(Keeper::Watched, None).await;
    let host = &bounds.host;
    let opts = SessionOpts { milli_cpus: Some(500), nice: Some(1), nofile: Some(99), ..host.opts() };
    let id = session(host, opts).await;
    assert_eq!(host.run(&id, "echo ran").await, "ran\n");
    let by = host.manager.get_session(&id).await.unwrap().limited_by.unwrap();
    assert_eq!((by.cpus, by.memory, by.pids), (Some(Keeper::None), None, None));
    assert_eq!((by.nice, by.nofile), (Some(Keeper::Priority), Some(Keeper::Rlimit)));
    bounds.end().await;
}

#[tokio::test]
async fn processors_are_bounded_where_there_are_groups_for_it() {
    for (keeper, groups) in CgroupTree::with("cpu") {
        let bounds = Bounds::over(keeper, Some(groups)).await;
        let (host, groups) = (&bounds.host, bounds.groups.as_ref().unwrap());
        let id = session(host, SessionOpts { milli_cpus: Some(50), ..host.opts() }).await;
        host.send(&id, "while :; do :; done").await;
        // The kernel counts how often it had to wait.
        until("it has had to wait", || {
            let stat = groups.read("cpu", &id, "cpu.stat")?;
            let times: u64 =
                stat.lines().find_map(|line| line.strip_prefix("nr_throttled "))?.parse().ok()?;
            (times > 0).then_some(())
        });
        let by = host.manager.get_session(&id).await.unwrap().limited_by.unwrap();
        assert_eq!((by.cpus, by.memory, by.pids), (Some(keeper), None, None));
        bounds.end().await;
    }
}

#[tokio::test]
async fn the_programs_of_a_session_are_in_its_group_and_its_worker_is_not() {
    for (keeper, groups) in CgroupTree::each() {
        let bounds = Bounds::over(keeper, Some(groups)).await;
        let (host, groups) = (&bounds.host, bounds.groups.as_ref().unwrap());
        let id = session(host, host.opts()).await;
        let seen = host.run(&id, "cat /proc/self/cgroup").await;
        let group = format!("/{id}.session");
        assert!(seen.lines().any(|line| line.ends_with(&group) && line.contains(groups.name())), "{seen}");
        let worker = host.pid(&id).await;
        let outside = std::fs::read_to_string(format!("/proc/{worker}/cgroup")).unwrap();
        assert!(!outside.contains(&group), "{outside}");
        assert!(!groups.made().is_empty());
        host.manager.stop_session(&id, Orphans::Stop).await.unwrap();
        assert_eq!(groups.made(), Vec::<PathBuf>::new(), "removed with its session");
        bounds.end().await;
    }
}

#[tokio::test]
async fn where_the_root_cannot_be_used_the_worker_watches_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    std::fs::write(dir.path().join("config.toml"), daemon_section(absent.to_str().unwrap())).unwrap();
    let host = Host::over(dir).await;
    let id = session(&host, SessionOpts { memory_bytes: Some(MEMORY), ..host.opts() }).await;
    assert_eq!(host.run(&id, "echo ran").await, "ran\n");
    let by = host.manager.get_session(&id).await.unwrap().limited_by.unwrap();
    assert_eq!(by.memory, Some(Keeper::Watched));
    assert!(!absent.exists());
    host.manager.shutdown().await;
}

/// A daemon with these groups.
fn daemon(user: User, groups: &CgroupTree, more: &str) -> Daemon {
    let daemon = daemon_over(tempfile::tempdir().unwrap(), user, more);
    let file = daemon.dir.path().join("kennel/config.toml");
    let text = std::fs::read_to_string(&file).unwrap() + "\n" + &daemon_section(&groups.setting);
    std::fs::write(file, text).unwrap();
    daemon
}

#[test]
fn an_ordinary_user_has_what_was_given_to_it_and_show_says_what_is_in_force() {
    for user in users() {
        for (keeper, groups) in CgroupTree::with_memory() {
            // In version 2, only the owner of a group can move processes out of it.
            let theirs = *user == User::Own || keeper == Keeper::CgroupV1;
            let keeper = if theirs { keeper } else { Keeper::Watched };
            if *user == User::Nobody {
                groups.give(65534);
            }
            let daemon = daemon(*user, &groups, "memory = \"64MiB\"");
            daemon.ok(&["start", "--id", "greedy", "--agent", "fixture"]);
            daemon.idle("greedy");
            let shown = daemon.ok(&["show", "greedy"]);
            assert!(shown.contains(&format!("memory:      64MiB ({keeper})\n")), "{shown}");
            let output = daemon.run(&["send", "greedy", "eat 300000000; sleep 60000ms"]);
            assert_eq!(output.code, Some(1), "{output:?}");
            assert!(output.stderr.contains("killed for their memory"), "{output:?}");
            assert!(output.stderr.contains(&format!("the limit is 64MiB ({keeper})")), "{output:?}");
            let doctor = daemon.run(&["doctor"]).stdout;
            assert_eq!(doctor.contains("`cgroup_root` cannot be used"), !theirs, "{doctor}");
            daemon.ok(&["daemon", "stop"]);
            assert_eq!(groups.made(), Vec::<PathBuf>::new());
        }
    }
}

/// Leaves its parents, its session and its marker.
const ESCAPES: &str = "(env -i setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!); exec sleep 1000";

#[test]
fn who_has_lost_marker_and_parents_is_found_by_the_group_when_worker_and_manager_are_killed_together() {
    for (_, groups) in CgroupTree::each() {
        let more = "[agents.bare]\nkind = \"shell\"\ncontainment = \"subreaper\"";
        let daemon = daemon(User::Own, &groups, more);
        daemon.ok(&["start", "--id", "one", "--agent", "bare"]);
        let info = daemon.idle("one");
        let worker = info.pid.unwrap();
        assert_eq!(info.containment, Some(Level::Cgroup));
        let doctor = daemon.run(&["doctor"]).stdout;
        assert!(doctor.contains("pid_namespace") || doctor.contains("cgroup: "), "{doctor}");
        daemon.ok(&["send", "--no-wait", "one", ESCAPES]);
        let escaped = until("it has escaped", || {
            // The process prints its pid; before its `exec` nothing else tells it from the agent.
            let pid = daemon.events().into_iter().find_map(|event| match event.kind {
                EventKind::MessageChunk { text, .. } => text.trim().parse::<u32>().ok(),
                _ => None,
            })?;
            let escaped = lives(pid) && marker_of(pid).is_none() && is_sleep(pid);
            (escaped && groups.members("one").contains(&pid)).then_some(pid)
        });
        let manager = daemon.pid();
        signal(worker, Signal::SIGSTOP);
        kill(manager);
        kill(worker);
        until("they are dead", || (!lives(worker) && !lives(manager)).then_some(()));
        assert!(lives(escaped), "it was to be left behind");
        assert_ne!(daemon.idle("one").pid, Some(worker));
        assert!(!lives(escaped), "it was left behind");
        assert_eq!(daemon.ok(&["send", "one", "echo on"]), "on\n");
        assert_eq!(daemon.idle("one").containment, Some(Level::Cgroup));
        daemon.ok(&["daemon", "stop"]);
        assert_eq!(groups.made(), Vec::<PathBuf>::new());
    }
}

fn is_sleep(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.starts_with(b"sleep\0"))
}

#[test]
fn each_ends_with_its_session_in_a_control_group() {
    for user in users() {
        for (keeper, groups) in CgroupTree::each() {
            if *user == User::Nobody {
                // In version 2, only the owner of a group can move processes out of it.
                if keeper != Keeper::CgroupV1 {
                    continue;
                }
                groups.give(65534);
            }
            let daemon = daemon(*user, &groups, "containment = \"subreaper\"");
            each_ends_with_its_session(&daemon, Level::Cgroup);
            daemon.ok(&["daemon", "stop"]);
            assert_eq!(groups.made(), Vec::<PathBuf>::new());
        }
    }
}

#[test]
fn groups_of_sessions_that_nobody_knows_are_emptied_and_removed_at_the_next_start() {
    for (_, groups) in CgroupTree::each() {
        let daemon = daemon(User::Own, &groups, "");
        daemon.ok(&["start", "--id", "one"]);
        let worker = daemon.idle("one").pid.unwrap();
        let uuid = uuid(worker);
        daemon.ok(&["daemon", "stop"]);
        assert!(!lives(worker));
        // As a manager has left it that died when it had forgotten the session, and not yet removed its group.
        let mut sleep = Command::new("/bin/sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let mut bystander = Command::new("/bin/sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        groups.put(&uuid, "ghost", sleep.id());
        assert_eq!(groups.members("ghost"), [sleep.id()]);
        daemon.idle("one");
        let status = until("its end", || sleep.try_wait().unwrap());
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        assert!(lives(bystander.id()));
        bystander.kill().unwrap();
        bystander.wait().unwrap();
        daemon.ok(&["daemon", "stop"]);
        assert_eq!(groups.made(), Vec::<PathBuf>::new());
    }
}

#[test]
fn when_memory_runs_out_agents_go_before_workers_and_the_manager() {
    let score = |pid: u32| -> i32 {
        std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
    };
    // Tests whether this user may: root cannot everywhere.
    let lower = ["-c", "echo -500 > /proc/self/oom_score_adj"];
    let mut lowers = Command::new("/bin/sh").args(lower).stderr(Stdio::null()).spawn().unwrap();
    let lowers = lowers.wait().unwrap().success();
    let own = score(std::process::id());
    for user in users() {
        let daemon = daemon_over(tempfile::tempdir().unwrap(), *user, "");
        daemon.ok(&["start", "--id", "one"]);
        let worker = daemon.idle("one").pid.unwrap();
        let expected = if lowers && *user == User::Own { own.min(-500) } else { own };
        assert_eq!((score(daemon.pid()), score(worker)), (expected, expected), "{user:?}");
        let agent: i32 = daemon.ok(&["send", "one", "cat /proc/self/oom_score_adj"]).trim().parse().unwrap();
        assert_eq!(agent, own.max(300), "{user:?}");
        let doctor = daemon.run(&["doctor"]).stdout;
        let output = doctor.lines().find(|line| line.contains("OOM score")).unwrap();
        assert!(output.contains(&format!(" {expected}: ")), "{output}");
    }
}

#[test]
fn a_daemon_that_can_begin_no_thread_says_so_and_touches_nothing() {
    // Root is not bound by that limit.
    let user = *users().last().unwrap();
    let mut daemon = daemon_over(tempfile::tempdir().unwrap(), user, "");
    daemon.limit(&["--nproc=0:0"]);
    let output = daemon.run(&["daemon", "run"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("cannot start the supervisor's thread: Resource temp"), "{output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
}
