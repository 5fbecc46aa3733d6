//! The named kills: who dies, when, and what must be true afterwards. On the shipped binaries, through the
//! `kennel` command.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use harness::daemon::{Daemon, finish};
use harness::history;
use harness::real::*;
use manager::protocol::api::{Accepted, SessionInfo, Status};
use manager::protocol::event::{Event, EventKind};
use manager::protocol::{PromptId, Stream};
use nix::sys::signal::Signal;

fn start(daemon: &Daemon) -> SessionInfo {
    let info: SessionInfo = daemon.json(&["start"]);
    daemon.idle(info.id.as_str())
}

/// A prompt that is accepted and not waited for.
fn send(daemon: &Daemon, id: &str, text: &str) -> PromptId {
    daemon.json::<Accepted>(&["send", "--no-wait", id, text]).prompt_id
}

/// Returns the number of ends of each accepted prompt.
fn ends(events: &[Event]) -> HashMap<PromptId, usize> {
    let mut ends = HashMap::new();
    for event in events {
        match &event.kind {
            EventKind::PromptAccepted { prompt_id, .. } => {
                ends.entry(*prompt_id).or_insert(0);
            }
            EventKind::TurnCompleted { prompt_id, .. } | EventKind::PromptRemoved { prompt_id, .. } => {
                *ends.entry(*prompt_id).or_default() += 1;
            }
            EventKind::TurnInterrupted { prompt_id, will_retry: false, .. } => {
                *ends.entry(*prompt_id).or_default() += 1;
            }
            _ => {}
        }
    }
    ends
}

fn printed(events: &[Event], prompt: PromptId) -> String {
    let chunks = events.iter().filter_map(|event| match &event.kind {
        EventKind::MessageChunk { prompt_id, stream: Stream::Stdout, text, .. } if *prompt_id == prompt => {
            Some(text.as_str())
        }
        _ => None,
    });
    chunks.collect()
}

fn interrupted(events: &[Event], prompt: PromptId) -> bool {
    let is = |kind: &EventKind| matches!(kind, EventKind::TurnInterrupted { prompt_id, .. } if *prompt_id == prompt);
    events.iter().any(|event| is(&event.kind))
}

/// Checks the state after a kill, once all sessions are at rest. No accepted prompt is lost or doubled, and
/// no other invariant violated. Pids and ids map both ways, the token is as before, and there is no orphan
/// and no zombie.
fn nothing_lost(daemon: &Daemon, before: &Before) -> Vec<Event> {
    let events = daemon.events();
    let violations = history::of(&events);
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(ends(&events).values().all(|ends| *ends == 1), "{:?}", ends(&events));
    assert_eq!(daemon.ok(&["token", &before.id]), before.token);
    let sessions: Vec<SessionInfo> = daemon.json(&["ls"]);
    let workers: BTreeSet<u32> = sessions.iter().filter_map(|info| info.pid).collect();
    for info in sessions.iter().filter(|info| info.pid.is_some()) {
        let pid = info.pid.unwrap().to_string();
        assert_eq!(daemon.ok(&["id", "--pid", &pid]).trim(), info.id.as_str());
    }
    // Zombies are children too.
    let manager = daemon.pid();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children = pids.filter(|pid| parent(*pid) == Some(manager) && !is_spare(*pid));
    let children: BTreeSet<u32> = children.collect();
    // An adopted worker is the child of the process that inherited it.
    let adopted: BTreeSet<u32> = events
        .iter()
        .filter_map(|event| match event.kind {
            EventKind::SessionAdopted { pid } => Some(pid),
            _ => None,
        })
        .collect();
    assert!(
        children.is_subset(&workers),
        "{children:?} are children of the manager, {workers:?} its workers"
    );
    let others: BTreeSet<u32> = workers.difference(&children).copied().collect();
    assert!(others.is_subset(&adopted), "{others:?} are nobody's children, and {adopted:?} were taken over");
    assert!(workers.iter().all(|pid| lives(*pid)), "{workers:?} are said to live");
    let marked: BTreeSet<u32> = marked(&before.uuid).into_iter().collect();
    assert_eq!(marked, workers, "something else carries the marker");
    events
}

/// The state that a kill must not change.
struct Before {
    id: String,
    token: String,
    uuid: String,
}

impl Before {
    fn of(daemon: &Daemon, session: &SessionInfo) -> Self {
        let id = session.id.to_string();
        Self { token: daemon.ok(&["token", &id]), uuid: uuid(session.pid.unwrap()), id }
    }
}

/// The process below the session's worker that has written its own pid, as it knows it, into a file.
fn written(daemon: &Daemon, id: &str, path: &Path) -> u32 {
    let inside = until("a pid in a file", || std::fs::read_to_string(path).ok()?.trim().parse().ok());
    outside(daemon.show(id).pid.unwrap(), inside)
}

/// A process in a session of its own, deaf to every polite signal, that writes its pid to `file`. With `env`
/// empty it has dropped its marker too.
fn escapee(file: &Path, env: &str) -> String {
    let file = file.display();
    format!(
        r#"{env} setsid sh -c 'trap "" TERM HUP INT; echo $$ > {file}; while :; do sleep 1000; done' & exec sleep 1000"#
    )
}

#[test]
fn kill_manager_idle_keeps_every_sessions_process_for_the_next_command() {
    let daemon = Daemon::new();
    let (first, second) = (start(&daemon), start(&daemon));
    let stopped = start(&daemon);
    daemon.ok(&["stop", stopped.id.as_str()]);
    assert_eq!(daemon.ok(&["send", first.id.as_str(), "echo before"]), "before\n");
    let kept = Before::of(&daemon, &first);
    let manager = daemon.kill();

    for before in [&first, &second] {
        let after = daemon.idle(before.id.as_str());
        assert_eq!(after.pid, before.pid, "its worker was replaced");
        assert_eq!(after.restarts.in_window, 0, "a manager's death is no fault of its sessions");
    }
    assert_ne!(daemon.pid(), manager);
    assert_eq!(daemon.show(stopped.id.as_str()).status, Status::Stopped);
    assert_eq!(daemon.ok(&["send", first.id.as_str(), "echo after"]), "after\n");
    assert_eq!(start(&daemon).id.as_str(), "session-4");
    nothing_lost(&daemon, &kept);
    daemon.ok(&["daemon", "stop"]);
    assert!(marked(&kept.uuid).is_empty(), "left behind: {:?}", marked(&kept.uuid));
}

#[test]
fn kill_manager_mid_turn_leaves_the_turn_running_and_goes_on_with_the_queue() {
    let daemon = Daemon::new();
    let session = start(&daemon);
    let id = session.id.as_str();
    let (file, go_on) = (daemon.workdir().join("agent"), daemon.workdir().join("go-on"));
    let waits = format!("until test -e {}; do sleep 0.02; done", go_on.display());
    let runs = send(&daemon, id, &format!("echo begun; echo $$ > {}; {waits}; echo done", file.display()));
    let queued = send(&daemon, id, "echo queued");
    let agent = written(&daemon, id, &file);
    let kept = Before::of(&daemon, &session);
    daemon.kill();
    assert!(lives(agent), "the turn's process ended with the manager");
    // The end reaches no manager, or the next one.
    std::fs::write(go_on, "").unwrap();
    assert_eq!(daemon.idle(id).pid, session.pid, "its worker was replaced");
    let events = nothing_lost(&daemon, &kept);
    assert!(!interrupted(&events, runs));
    assert_eq!(printed(&events, runs), "begun\ndone\n");
    assert_eq!(printed(&events, queued), "queued\n");
}

#[test]
fn kill_manager_between_accept_and_delivery_loses_and_doubles_nothing() {
    let daemon = Daemon::new();
    let session = start(&daemon);
    let id = session.id.as_str();
    let kept = Before::of(&daemon, &session);
    let mut sent = Vec::new();
    for round in 0..8 {
        // The command returns with the acceptance; the manager dies before, while or after it delivers.
        let file = daemon.workdir().join(format!("round-{round}"));
        let prompt = send(&daemon, id, &format!("echo ran >> {}", file.display()));
        daemon.kill();
        sent.push((prompt, file));
    }
    daemon.idle(id);
    let events = nothing_lost(&daemon, &kept);
    let ends = ends(&events);
    for (prompt, file) in sent {
        assert_eq!(ends.get(&prompt), Some(&1), "{prompt}");
        let runs = std::fs::read_to_string(file).unwrap_or_default().lines().count();
        // A prompt that was delivered may be cut off before or after its effect; it never runs twice.
        assert!(runs == 1 || (runs == 0 && interrupted(&events, prompt)), "{prompt} ran {runs} times");
    }
}

#[test]
fn kill_manager_while_it_commits_keeps_every_acknowledged_prompt() {
    let daemon = Daemon::new();
    let session = start(&daemon);
    let id = session.id.as_str();
    let kept = Before::of(&daemon, &session);
    let mut acknowledged = Vec::new();
    let go_on = daemon.workdir().join("go-on");
    for round in 0..3 {
        // A turn that holds the queue, so that all that is accepted waits; and clients that send all the while.
        send(&daemon, id, &format!("until test -e {}; do sleep 0.05; done", go_on.display()));
        let senders: Vec<_> = (0..8)
            .map(|n| {
                daemon.spawn(&["--json", "send", "--no-wait", "--key", &format!("{round}-{n}"), id, "true"])
            })
            .collect();
        // Somewhere among their commits.
        daemon.kill();
        for sender in senders {
            // Each finds the manager gone or not, starts the next one if it must, and sends again under its key.
            let output = finish(sender);
            assert_eq!(output.code, Some(0), "{output:#?}");
            acknowledged.push(serde_json::from_str::<Accepted>(&output.stdout).unwrap().prompt_id);
        }
    }
    std::fs::write(go_on, "").unwrap();
    daemon.idle(id);
    let ends = ends(&nothing_lost(&daemon, &kept));
    for prompt in &acknowledged {
        assert_eq!(ends.get(prompt), Some(&1), "{prompt}");
    }
    // One prompt a key, however often it was sent.
    assert_eq!(ends.len(), acknowledged.len() + 3);
}

#[test]
fn kill_worker_and_manager_together_leaves_no_process_behind() {
    let daemon = Daemon::new();
    let session = start(&daemon);
    let id = session.id.as_str();
    let file = daemon.workdir().join("escapee");
    let cut = send(&daemon, id, &escapee(&file, ""));
    let escapee = written(&daemon, id, &file);
    let kept = Before::of(&daemon, &session);
    let manager = daemon.pid();
    // Stopped, it cannot end its tree when its manager dies a moment before it.
    signal(session.pid.unwrap(), Signal::SIGSTOP);
    kill(manager);
    kill(session.pid.unwrap());
    daemon.idle(id);
    assert!(!lives(escapee), "the escapee outlived worker and manager");
    assert!(interrupted(&nothing_lost(&daemon, &kept), cut));
}

#[test]
fn kill_worker_ends_even_an_escapee_that_dropped_its_marker() {
    let daemon = Daemon::new();
    let session = start(&daemon);
    let id = session.id.as_str();
    let file = daemon.workdir().join("escapee");
    send(&daemon, id, &escapee(&file, "env -i PATH=$PATH"));
    let escapee = written(&daemon, id, &file);
    let kept = Before::of(&daemon, &session);
    assert!(!marked(&kept.uuid).contains(&escapee));
    kill(session.pid.unwrap());
    let after = daemon.idle(id);
    assert_ne!(after.pid, session.pid);
    assert!(!lives(escapee), "the daemon is its subreaper and let it live");
    nothing_lost(&daemon, &kept);
}

#[test]
fn kill_worker_idle_mid_turn_or_below_it_loses_nothing() {
    let daemon = Daemon::new();
    let session = start(&daemon);
    let id = session.id.as_str();
    let kept = Before::of(&daemon, &session);
    kill(session.pid.unwrap());
    // Until its death is noticed it receives prompts, and afterwards it is unknown whether it had begun with
    // them.
    until("its death is seen", || (daemon.show(id).pid != session.pid).then_some(()));
    daemon.ok(&["send", id, "echo after an idle death"]);
    let idle = daemon.idle(id);
    assert_eq!((idle.incarnation, idle.restarts.in_window), (2, 1));
    nothing_lost(&daemon, &kept);

    let file = daemon.workdir().join("mid-turn");
    let cut = send(&daemon, id, &escapee(&file, ""));
    written(&daemon, id, &file);
    kill(idle.pid.unwrap());
    let after = daemon.idle(id);
    assert_ne!(after.pid, idle.pid);
    assert!(interrupted(&nothing_lost(&daemon, &kept), cut));

    let file = daemon.workdir().join("below");
    let prompt = send(&daemon, id, &escapee(&file, ""));
    let below = written(&daemon, id, &file);
    kill(below);
    kill(daemon.show(id).agent_pid.unwrap());
    assert_eq!(daemon.idle(id).pid, after.pid, "the worker outlives what runs below it");
    assert!(!interrupted(&nothing_lost(&daemon, &kept), prompt));
}

#[test]
fn ten_commands_at_once_start_one_daemon() {
    let daemon = Daemon::new();
    let commands: Vec<_> = (0..10).map(|_| daemon.spawn(&["--json", "daemon", "start"])).collect();
    let mut pids = Vec::new();
    for command in commands {
        let output = finish(command);
        assert_eq!(output.code, Some(0), "{output:#?}");
        pids.push(daemon.pid());
    }
    pids.dedup();
    assert_eq!(pids.len(), 1, "{pids:?}");
}

#[test]
fn what_is_used_of_the_restart_budget_and_a_failure_outlive_the_managers_death() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "one", "--intensity", "2", "--period", "1h"]);
    let dies = || {
        let pid = daemon.idle("one").pid.unwrap();
        kill(pid);
        until("its death is seen", || (daemon.show("one").pid != Some(pid)).then_some(()));
    };
    dies();
    daemon.kill();
    dies();
    daemon.kill();
    dies();
    let failed = |what| until(what, || Some(daemon.show("one")).filter(|info| info.status == Status::Failed));
    let reason = failed("the third death within the hour").failure.unwrap().reason;
    assert!(reason.contains("3 deaths"), "{reason}");
    daemon.kill();
    assert_eq!(failed("that it is on record").failure.unwrap().reason, reason);
    let output = daemon.run(&["send", "one", "echo"]);
    assert!(output.code == Some(7) && output.stderr.contains("kennel restart"), "{output:?}");
    daemon.ok(&["restart", "one"]);
    // With all of its budget.
    dies();
    dies();
    daemon.idle("one");
    let found = history::of(&daemon.events());
    assert!(found.is_empty(), "{found:#?}");
}
