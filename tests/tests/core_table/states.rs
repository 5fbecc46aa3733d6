//! The states of the table, each with its title.

use manager::core::{Goal, Phase, Session, State, Was, Why};
use protocol::api::{OnCrash, PermissionPolicy, RestartType};
use protocol::event::StallStep;

use super::NOW;
use super::sessions::{
    adopting, asking, base, calling, driven, exhausted, failed, permitting, quiet, ready, running, started,
    stopping, timed, with_spec, with_tool, worker,
};

type States = Vec<(&'static str, Session)>;

/// Returns all states of the table, in its order.
pub fn states() -> States {
    [idle(), working(), asking_somebody(), permitting_all(), being_adopted(), being_stopped(), at_rest()]
        .concat()
}

fn restarted(mut session: Session) -> Session {
    session.recovering = true;
    session
}

/// States without a turn: starting, or ready and idle.
fn idle() -> States {
    let starting = |worker| State::Starting { worker, deadline: NOW + 500 };
    let idle = ready(None);
    vec![
        ("starting, not spawned", base(starting(None), true)),
        ("starting, spawned", base(starting(Some(worker())), true)),
        ("starting, spawned, after a death", restarted(base(starting(Some(worker())), true))),
        ("ready, idle", idle.clone()),
        ("ready, idle, never to hibernate", Session { pinned: true, ..idle.clone() }),
        ("ready, idle, driven", driven(idle.clone())),
        ("ready, idle, with a sub-agent at work", Session { open_tasks: 1, ..idle.clone() }),
        ("ready, idle, one death short of too many", exhausted(base(idle.state.clone(), false))),
        (
            "ready, idle, restart type permanent",
            with_spec(idle.clone(), |s| s.restart.kind = RestartType::Permanent),
        ),
        ("ready, idle, restart type temporary", with_spec(idle, |s| s.restart.kind = RestartType::Temporary)),
    ]
}

/// Turns that run, with their limits of time.
fn working() -> States {
    let aborting = Phase::Aborting { deadline: NOW + 500, agent_pid: Some(401) };
    vec![
        ("ready, turn sent", ready(Some(Phase::Sent { deadline: NOW + 500 }))),
        ("ready, turn started", ready(Some(Phase::Started { agent_pid: 401 }))),
        (
            "ready, turn started, on_crash retry",
            with_spec(ready(Some(Phase::Started { agent_pid: 401 })), |s| s.on_crash = OnCrash::Retry),
        ),
        (
            "ready, turn sent, which may take so long",
            with_spec(ready(Some(Phase::Sent { deadline: NOW + 500 })), |s| s.turn_timeout_ms = 60_000),
        ),
        (
            "ready, turn started, soon quiet for long",
            quiet(ready(Some(Phase::Started { agent_pid: 401 })), 55_000, None),
        ),
        (
            "ready, turn started, soon quiet for long, with a tool in use",
            quiet(with_tool(ready(Some(Phase::Started { agent_pid: 401 }))), 55_000, None),
        ),
        (
            "ready, turn started, soon quiet for too long",
            quiet(ready(Some(Phase::Started { agent_pid: 401 })), 85_000, Some(StallStep::Noticed)),
        ),
        (
            "ready, aborting what was quiet for too long, on_crash retry",
            with_spec(
                quiet(
                    ready(Some(Phase::Aborting { deadline: NOW + 500, agent_pid: Some(401) })),
                    90_000,
                    Some(StallStep::Cancelled),
                ),
                |s| s.on_crash = OnCrash::Retry,
            ),
        ),
        ("ready, turn started, its time soon up", timed(ready(Some(Phase::Started { agent_pid: 401 })))),
        (
            "ready, turn started, its time soon up while a permission waits",
            timed(asking(started(ready(None)), None)),
        ),
        ("ready, turn aborting, its time was up", {
            let mut session = timed(ready(Some(aborting.clone())));
            session.turns.running.iter_mut().for_each(|turn| turn.timed_out = true);
            session
        }),
        ("ready, turn aborting", ready(Some(aborting))),
    ]
}

/// Turns that wait for an answer, or have clients.
fn asking_somebody() -> States {
    vec![
        (
            "ready, turn started, a permission waits for so long",
            with_spec(asking(started(ready(None)), Some(NOW + 500)), |s| s.permissions.timeout_ms = 60_000),
        ),
        ("ready, turn started, a permission waits", asking(started(ready(None)), None)),
        ("ready, turn started, a client is asked", calling(started(ready(None)), Some(NOW + 500))),
        (
            "ready, turn started, a client is asked, policy is deny",
            with_spec(calling(started(ready(None)), None), |s| s.permissions.policy = PermissionPolicy::Deny),
        ),
        ("ready, turn started, driven", driven(started(ready(None)))),
        ("hibernated, driven", driven(base(State::Hibernated, false))),
        ("ready, turn started, a tool call is open", with_tool(started(ready(None)))),
    ]
}

/// Turns whose permissions a policy answers.
fn permitting_all() -> States {
    vec![
        (
            "ready, turn started, permissions allowed",
            permitting(started(ready(None)), PermissionPolicy::Allow),
        ),
        ("ready, turn started, permissions denied", permitting(started(ready(None)), PermissionPolicy::Deny)),
        (
            "ready, turn started, permissions end the turn",
            permitting(started(ready(None)), PermissionPolicy::Fail),
        ),
    ]
}

/// Workers that a new manager has not linked to yet.
fn being_adopted() -> States {
    let adopting_start =
        State::Adopting { worker: worker(), was: Was::Starting, after: Why::Lost, deadline: NOW + 500 };
    vec![
        ("adopting, lost, not ready yet", base(adopting_start.clone(), true)),
        ("adopting, lost, not ready yet, after a death", restarted(base(adopting_start, true))),
        ("adopting, lost, idle", Session { turns: Default::default(), ..adopting(Why::Lost) }),
        (
            "adopting, lost, with a turn sent",
            running(adopting(Why::Lost), Phase::Sent { deadline: NOW - 500 }),
        ),
        (
            "adopting, lost, with a turn aborting",
            running(adopting(Why::Lost), Phase::Aborting { deadline: NOW - 500, agent_pid: Some(401) }),
        ),
        ("adopting, lost, with a turn", started(adopting(Why::Lost))),
        ("adopting, stop, with a turn", started(adopting(Why::Stop))),
        ("adopting, hibernate", adopting(Why::Hibernate)),
        ("adopting, restart, with a turn", started(adopting(Why::Restart))),
        ("adopting, shutdown, with a turn", started(adopting(Why::Shutdown))),
        ("adopting, fault, with a turn", started(adopting(Why::Fault("it babbled".into())))),
        (
            "adopting, lost, with a turn, a permission waits and a tool call is open",
            with_tool(asking(started(adopting(Why::Lost)), None)),
        ),
        ("adopting, hopeless", adopting(Why::Hopeless("log in".into()))),
    ]
}

/// Workers that are being ended, each for its reason.
fn being_stopped() -> States {
    vec![
        ("stopping, stop, not spawned yet", stopping(Why::Stop, 0, false)),
        ("stopping, stop, asked, with a turn", started(stopping(Why::Stop, 0, true))),
        ("stopping, stop, killed twice, with a turn", started(stopping(Why::Stop, 2, true))),
        ("stopping, stop, deadline is the last", {
            let mut session = started(stopping(Why::Stop, 9, true));
            if let State::Stopping { give_up, .. } = &mut session.state {
                *give_up = NOW + 500;
            }
            session
        }),
        ("stopping, stop, killed at rest", Session { was_ready: true, ..stopping(Why::Stop, 1, true) }),
        ("stopping, hibernate", stopping(Why::Hibernate, 0, true)),
        ("stopping, restart, not spawned yet", stopping(Why::Restart, 0, false)),
        ("stopping, restart, with a turn", started(stopping(Why::Restart, 0, true))),
        ("stopping, outdated", stopping(Why::Outdated, 0, true)),
        ("stopping, shutdown, not spawned yet", stopping(Why::Shutdown, 0, false)),
        ("stopping, shutdown, with a turn", started(stopping(Why::Shutdown, 0, true))),
        ("stopping, lost, killed once, with a turn", started(stopping(Why::Lost, 1, true))),
        ("stopping, fault, not spawned yet", stopping(Why::Fault("it babbled".into()), 1, false)),
        (
            "stopping, fault, killed once, with a turn",
            started(stopping(Why::Fault("it babbled".into()), 1, true)),
        ),
        (
            "stopping, agent died, with a turn, a permission waits and a tool call is open",
            with_tool(asking(started(stopping(Why::AgentDied("the agent ended".into()), 0, true)), None)),
        ),
        (
            "stopping, not run, and that may pass",
            stopping(Why::NotRun { message: "no program".into(), passes: true }, 0, true),
        ),
        (
            "stopping, not run, and that will not pass",
            stopping(Why::NotRun { message: "no sandbox".into(), passes: false }, 0, true),
        ),
        ("stopping, hopeless", stopping(Why::Hopeless("log in".into()), 0, true)),
        ("stopping, hopeless, with a turn", started(stopping(Why::Hopeless("log in".into()), 0, true))),
    ]
}

/// States without a process.
fn at_rest() -> States {
    vec![
        ("restarting", base(State::Restarting { until: NOW + 500 }, true)),
        ("hibernated", base(State::Hibernated, false)),
        ("stopped", Session { goal: Goal::Down, ..base(State::Stopped, false) }),
        ("failed", failed(Vec::new())),
        ("failed, with survivors", failed(vec![402])),
    ]
}
