//! Limits of depth, breadth and total, and the report of a sub-agent's end to its parent.

use std::sync::Arc;

use harness::daemon::Daemon;
use harness::real::*;
use harness::sample::{self, AT, gone, id, identity};
use manager::core::{Ask, Fleet, Input, Refusal, Reply, Seen, SubagentLimit, Subagents};
use manager::protocol::api::{Orphans, SessionInfo, SubagentHandle};
use manager::protocol::event::Outcome;
use manager::protocol::wire::TurnEnd;
use manager::protocol::{Exit, Restore};
use serde_json::json;

use super::client::Mcp;
use super::{configure, ends, session, token_file};

#[test]
fn limits_refuse_one_more_and_say_which() {
    let daemon = Daemon::new();
    configure(&daemon, "[defaults]\nsubagent_depth = 2\nsubagent_breadth = 2\nsubagent_total = 4\n");
    let mut boss = Mcp::over(&daemon, &session(&daemon, "boss"));
    let start = json!({ "task": "sleep 1000" });
    let first = boss.start("sleep 1000");
    let second = boss.start("sleep 1000");
    let (refusal, failed) = boss.call("start_subagent", start.clone());
    assert!(failed && refusal["code"] == "subagent_limit", "{refusal}");
    assert!(refusal["error"].as_str().unwrap().contains("has 2 sub-agents at work"), "{refusal}");
    assert_eq!(daemon.json::<Vec<SubagentHandle>>(&["subagent", "ls"]).len(), 2, "nothing was started");
    // On the command line too, with the exit status of a conflict.
    let output = daemon.run(&["subagent", "start", "--parent", "boss", "true"]);
    assert!(output.code == Some(7) && output.stderr.contains("subagent_breadth"), "{output:#?}");
    // One that has ended gives its place away.
    boss.ok("abort_subagent", json!({ "id": second, "stop": true }));
    boss.start("sleep 1000");

    let mut below = Mcp::over(&daemon, &token_file(&daemon, &first));
    let deep = below.start("true");
    below.ok("wait_subagent", json!({ "id": deep }));
    let mut deepest = Mcp::over(&daemon, &token_file(&daemon, &deep));
    let (refusal, _) = deepest.call("start_subagent", start.clone());
    assert!(refusal["error"].as_str().unwrap().contains("2 sub-agents deep"), "{refusal}");
    below.start("true");
    let (refusal, _) = below.call("start_subagent", start);
    assert!(refusal["error"].as_str().unwrap().contains("4 sub-agents below session `boss`"), "{refusal}");
    // A stop takes all below with it.
    daemon.ok(&["stop", "boss"]);
    assert_eq!(daemon.json::<Vec<SessionInfo>>(&["ls"]).len(), 0);
}

#[test]
fn a_sub_agent_is_its_parents_agent_unless_another_is_named() {
    let daemon = Daemon::new();
    configure(&daemon, "[agents.runs]\nkind = \"command\"\ncommand = [\"true\"]\n");
    daemon.ok(&["start", "--id", "boss", "--agent", "runs"]);
    let agent = |args: &[&str]| {
        let start = [&["subagent", "start", "--parent", "boss"], args].concat();
        daemon.show(&daemon.json::<SubagentHandle>(&start).session_id.to_string()).agent
    };
    assert_eq!(agent(&["a task"]), "runs");
    assert_eq!(agent(&["--agent", "shell", "true"]), "shell");
    // Without a parent there is nobody to take it from.
    let alone: SubagentHandle = daemon.json(&["subagent", "start", "true"]);
    assert_eq!(daemon.show(&alone.session_id.to_string()).agent, "shell");
}

#[test]
fn the_parent_hears_of_the_end_once_whatever_becomes_of_the_manager() {
    let daemon = Daemon::new();
    let token = session(&daemon, "boss");
    let mut mcp = Mcp::over(&daemon, &token);
    let gate = daemon.dir.path().join("gate");
    let waits = format!("until [ -e {} ]; do sleep 0.02; done", gate.display());
    let running = mcp.start(&waits);
    let mark = daemon.dir.path().join("marked");
    let ended = mcp.start(&format!("echo ended > {}", mark.display()));
    until("the turn", || (daemon.show(&running).running_prompt.is_some()).then_some(()));
    mcp.ok("wait_subagent", json!({ "id": ended }));
    // Between the start of one and its end, and after the end of the other.
    for _ in 0..2 {
        daemon.kill();
        daemon.ok(&["daemon", "start"]);
        daemon.idle("boss");
        assert!(daemon.show(&running).running_prompt.is_some(), "it goes on");
    }
    std::fs::write(&gate, "").unwrap();
    let result = mcp.ok("wait_subagent", json!({ "id": running }));
    assert_eq!(result["outcome"], "completed", "{result}");
    assert_eq!(ends(&daemon, "boss", &running), [Some(Outcome::Completed)]);
    assert_eq!(ends(&daemon, "boss", &ended), [Some(Outcome::Completed)]);
    // One that waits for a daemon that is gone goes on with the next.
    std::fs::remove_file(&gate).unwrap();
    let slow = mcp.start(&waits);
    mcp.next += 1;
    let asked = mcp.next;
    let wait = json!({ "name": "wait_subagent", "arguments": { "id": slow, "timeout": 60 } });
    mcp.say(&json!({ "jsonrpc": "2.0", "id": asked, "method": "tools/call", "params": wait }));
    until("the turn", || (daemon.show(&slow).running_prompt.is_some()).then_some(()));
    daemon.kill();
    daemon.ok(&["daemon", "start"]);
    std::fs::write(&gate, "").unwrap();
    let answer = mcp.lines.recv_timeout(BOUND).unwrap();
    assert_eq!(answer["result"]["structuredContent"]["outcome"], "completed", "{answer}");
    assert_eq!(ends(&daemon, "boss", &slow), [Some(Outcome::Completed)]);
    assert_eq!(daemon.show(&running).parent, Some(id("boss")), "the tree is as it was");
}

/// Runs the session's task to its end.
fn end_task(fleet: &mut Fleet, name: &str) {
    let prompt = fleet.get(&id(name)).unwrap().task.as_ref().unwrap().prompt;
    let exit = Some(Exit::Code(0));
    for seen in [
        Seen::Spawned(identity(100)),
        Seen::Ready { restore: Restore::Fresh, agent_pid: None },
        Seen::TurnStarted { prompt, agent_pid: 101 },
        Seen::TurnEnded { prompt, end: TurnEnd::Finished, exit, left_behind: 0 },
    ] {
        ask(fleet, &Ask::One(id(name), Input::Seen(1, seen))).unwrap();
    }
}

fn ask(fleet: &mut Fleet, wish: &Ask) -> Result<Reply, Refusal> {
    let change = fleet.step(AT, wish)?;
    drop(fleet.adopt(&change));
    Ok(change.reply)
}

fn limited(depth: u32, breadth: u32, total: u32) -> Arc<manager::core::Spec> {
    let subagents = Subagents { depth, breadth, total, ..Subagents::default() };
    Arc::new(manager::core::Spec { subagents, ..sample::spec() })
}

fn below(fleet: &mut Fleet, parent: &str, name: &str) -> Result<Reply, Refusal> {
    // A child's own limits have no effect: its root's count.
    let (spec, task) = (limited(99, 99, 99), "task".into());
    ask(fleet, &Ask::Subagent { parent: Some(id(parent)), id: Some(id(name)), spec, task, wish: None })
}

fn root(limits: Arc<manager::core::Spec>) -> Fleet {
    let mut fleet = Fleet::load([], [], 1, 1);
    ask(&mut fleet, &Ask::Create { id: Some(id("root")), spec: limits }).unwrap();
    fleet
}

fn refused(result: Result<Reply, Refusal>) -> (String, SubagentLimit, u32) {
    match result {
        Err(Refusal::SubagentLimit { id, what, limit }) => (id.to_string(), what, limit),
        other => panic!("{other:?}"),
    }
}

#[test]
fn depth_is_counted_from_the_root() {
    let mut fleet = root(limited(2, 9, 9));
    below(&mut fleet, "root", "one").unwrap();
    below(&mut fleet, "one", "two").unwrap();
    let before = fleet.clone();
    assert_eq!(refused(below(&mut fleet, "two", "three")), ("two".into(), SubagentLimit::Depth, 2));
    assert_eq!(fleet, before, "a refusal changes nothing");
    assert_eq!(refused(below(&mut root(limited(0, 9, 9)), "root", "one")).1, SubagentLimit::Depth);
    let above: Vec<String> = fleet.above(&id("two")).map(|session| session.id.to_string()).collect();
    assert_eq!(above, ["one", "root"]);
}

#[test]
fn breadth_counts_tasks_that_are_open() {
    let mut fleet = root(limited(9, 2, 9));
    below(&mut fleet, "root", "a").unwrap();
    below(&mut fleet, "root", "b").unwrap();
    assert_eq!(refused(below(&mut fleet, "root", "c")), ("root".into(), SubagentLimit::Breadth, 2));
    below(&mut fleet, "a", "aa").unwrap();
    end_task(&mut fleet, "b");
    below(&mut fleet, "root", "c").unwrap();
    assert_eq!(refused(below(&mut fleet, "root", "d")).1, SubagentLimit::Breadth);
    ask(&mut fleet, &Ask::Stop(id("c"), Orphans::Stop)).unwrap();
    below(&mut fleet, "root", "d").unwrap();
}

#[test]
fn the_total_counts_what_could_still_work() {
    let mut fleet = root(limited(9, 9, 3));
    below(&mut fleet, "root", "a").unwrap();
    below(&mut fleet, "a", "b").unwrap();
    below(&mut fleet, "b", "c").unwrap();
    // One that is idle has a process, and counts.
    end_task(&mut fleet, "c");
    for parent in ["root", "a", "c"] {
        assert_eq!(refused(below(&mut fleet, parent, "d")), ("root".into(), SubagentLimit::Total, 3));
    }
    ask(&mut fleet, &Ask::Stop(id("c"), Orphans::Stop)).unwrap();
    assert_eq!(refused(below(&mut fleet, "a", "d")).1, SubagentLimit::Total, "it is not gone yet");
    ask(&mut fleet, &Ask::One(id("c"), Input::Seen(1, gone(Exit::Signal(15))))).unwrap();
    below(&mut fleet, "a", "d").unwrap();
    // A sub-agent without a parent is a root of its own.
    let alone = Ask::Subagent {
        parent: None,
        id: Some(id("z")),
        spec: limited(1, 1, 1),
        task: "task".into(),
        wish: None,
    };
    ask(&mut fleet, &alone).unwrap();
    below(&mut fleet, "z", "zz").unwrap();
}
