//! Agents in a PID namespace of their own, for every user that the tests can be.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::process::Command as Program;

use protocol::wire::{Agent, Command, PromptVia, Report, TurnEnd};
use protocol::{Exit, Level};
use rustix::process::Signal;

use super::harness::*;

/// Uid of the user nobody, who owns nothing and may do nothing.
const NOBODY: u32 = 65534;
/// In a process group and a session of its own, deaf, with nothing open, its parents gone.
const ESCAPES: &str = r#"(setsid sh -c 'trap "" TERM HUP INT; exec <&- >&- 2>&-; setsid sh -c "trap \"\" TERM HUP INT; while :; do sleep 1000; done" & ' &)"#;
/// A script that starts its successor and exits, for ever.
const CHAIN: &str = "trap '' TERM; setsid ./chain & exit";

/// A worker whose agents are contained, of a user; `say` wants to know whose in a message.
fn contained(user: &str, grace_ms: u64, agent: Agent) -> Worker {
    let mut worker = worker_of(user);
    worker.welcome(agent, grace_ms);
    worker.send(Command::Contain { level: Level::PidNamespace, demanded: true });
    assert_eq!(worker.report(), Report::Contained { level: Level::PidNamespace });
    worker
}

/// Users as which the tests can run.
fn users() -> Vec<&'static str> {
    match rustix::process::geteuid().is_root() {
        true => vec!["root", "nobody"],
        false => vec!["myself"],
    }
}

fn worker_of(user: &str) -> Worker {
    if user != "nobody" {
        return Worker::spawn();
    }
    // Where this program lies may be nobody's to look into.
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("session-worker");
    copy_worker(&copy);
    for (path, mode) in [(place.path(), 0o755), (copy.as_path(), 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut program = Program::new("setpriv");
    program.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy);
    let worker = Worker::spawn_by(program);
    chown(worker.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    until("the worker is itself", || {
        fs::read_link(format!("/proc/{}/exe", worker.pid())).is_ok_and(|exe| exe == copy)
    });
    worker
}

#[test]
fn what_runs_in_it_sees_itself_alone_and_keeps_its_user() {
    for user in users() {
        let mut worker = contained(user, LONG, Agent::Shell);
        let turn = worker
            .run(1, "echo $$; ls /proc >all; grep -c '^[0-9]' all; id -u; ls /proc/self/fd | wc -l; umask");
        let id = if user == "nobody" { NOBODY } else { rustix::process::geteuid().as_raw() };
        // The first process, the shell, and ls.
        let expected = format!("2\n3\n{id}\n4\n0022\n");
        assert_eq!(turn.stdout, expected, "{user}");
        assert_eq!((turn.exit, turn.left_behind), (Some(Exit::Code(0)), 0));
        let stat = worker.run(2, "cut -d' ' -f1,5,6,7 /proc/$$/stat; readlink /proc/$$/fd/0; true");
        assert_eq!(stat.stdout, "2 2 1 0\n/dev/null\n", "{user}: its group, its session, its terminal");
    }
}

#[test]
fn how_it_ended_is_told_exactly() {
    for user in users() {
        let mut worker = contained(user, LONG, Agent::Shell);
        for (n, text, exit) in [
            (1, "exit 0", Exit::Code(0)),
            (2, "exit 127", Exit::Code(127)),
            (3, "kill -SEGV $$", Exit::Signal(11)),
            (4, "kill -KILL $$", Exit::Signal(9)),
            (5, "kill -TERM $$", Exit::Signal(15)),
        ] {
            let turn = worker.run(n, text);
            assert_eq!((turn.end, turn.exit), (Some(TurnEnd::Finished), Some(exit)), "{user}: {text}");
        }
        let mut missing = contained(user, LONG, command(&["/nonexistent"], PromptVia::Stdin, false));
        let Some(TurnEnd::NotRun { message }) = missing.run(1, "").end else { panic!("it ran") };
        assert!(message.contains("cannot run /nonexistent: No such file"), "{message}");
    }
}

#[test]
fn the_agents_pid_is_the_one_that_it_has_outside() {
    for user in users() {
        let mut worker = contained(user, LONG, Agent::Shell);
        worker.prompt(1, "echo up; while :; do sleep 1000; done");
        let agent = worker.turn_until(|out| out == "up\n").pid.unwrap();
        let command_line = fs::read_to_string(format!("/proc/{agent}/cmdline")).unwrap();
        assert!(command_line.starts_with("/bin/sh\0-c\0echo up"), "{user}: {command_line:?}");
        Watch::pid(agent).signal(Signal::KILL);
        let turn = worker.turn();
        assert_eq!((turn.end, turn.exit), (Some(TurnEnd::Finished), Some(Exit::Signal(9))), "{user}");
        assert_eq!(worker.run(2, "echo next").stdout, "next\n");
    }
}

#[test]
fn a_script_without_an_interpreter_and_a_program_on_its_path_run_as_they_do_without() {
    let mut worker = contained("myself", LONG, Agent::Shell);
    let bare = worker.dir.path().join("bare");
    script(&bare, "echo bare \"$1\"\n");
    let argv = [bare.to_str().unwrap(), "with"];
    assert_eq!(worker.run(1, "echo here").stdout, "here\n");
    let mut worker = contained("myself", LONG, command(&argv, PromptVia::Stdin, false));
    assert_eq!(worker.run(1, "").stdout, "bare with\n");
}

#[test]
fn abort_lets_it_end_well_and_then_kills_all_of_it() {
    for user in users() {
        let mut worker = contained(user, LONG, Agent::Shell);
        worker.prompt(1, "trap 'echo bye; exit 5' TERM; echo up; while :; do :; done");
        worker.turn_until(|out| out == "up\n");
        worker.abort(1);
        let turn = worker.turn();
        assert_eq!((turn.stdout.as_str(), turn.exit), ("bye\n", Some(Exit::Code(5))), "{user}");
        let mut worker = contained(user, 50, Agent::Shell);
        worker.prompt(
            1,
            &format!("trap '' TERM; {ESCAPES}; sleep 1000 & echo up; while :; do sleep 1000; done"),
        );
        worker.turn_until(|out| out == "up\n");
        worker.abort(1);
        let turn = worker.turn();
        assert_eq!((turn.end, turn.exit), (Some(TurnEnd::Aborted), Some(Exit::Signal(9))), "{user}");
        assert_eq!(children(worker.pid()), [], "{user}");
    }
}

#[test]
fn what_a_finished_turn_leaves_behind_is_counted_and_ended_with_it() {
    for user in users() {
        let mut worker = contained(user, LONG, Agent::Shell);
        let turn = worker.run(1, "sleep 1000 & (setsid sleep 1000 &) ; echo done");
        assert_eq!((turn.exit, turn.left_behind), (Some(Exit::Code(0)), 2), "{user}");
        let escaped = worker.run(2, &format!("{ESCAPES}; echo done"));
        assert_eq!((escaped.end, escaped.exit), (Some(TurnEnd::Finished), Some(Exit::Code(0))), "{user}");
        assert!(escaped.left_behind > 0, "{user}");
        assert_eq!(children(worker.pid()), [], "{user}");
    }
}

#[test]
fn nothing_outlives_a_worker_that_is_killed_and_nobody_comes_to_sweep() {
    for user in users() {
        for what in [ESCAPES, "./chain", "sleep 1000 & true"] {
            let mut worker = contained(user, LONG, Agent::Shell);
            script(&worker.dir.path().join("chain"), &format!("#!/bin/sh\n{CHAIN}\n"));
            worker.prompt(1, &format!("{what}; echo up; while :; do sleep 1000; done"));
            worker.turn_until(|out| out == "up\n");
            Watch::pid(worker.pid()).signal(Signal::KILL);
            until("nothing is left", || worker.left().is_empty());
            assert_eq!(worker.exit().signal(), Some(9), "{user}");
        }
    }
}

#[test]
fn nothing_outlives_a_worker_that_no_manager_comes_back_for() {
    for user in users() {
        for contained_by in [Level::PidNamespace, Level::Subreaper] {
            let mut worker = worker_of(user);
            worker.welcome(Agent::Shell, 50);
            let demanded = contained_by.is_namespace();
            worker.send(Command::Contain { level: contained_by, demanded });
            worker.report();
            let mut papers = worker.shelter();
            papers.turn_ms = 50;
            worker.send(Command::Shelter(papers));
            script(&worker.dir.path().join("chain"), &format!("#!/bin/sh\n{CHAIN}\n"));
            worker.prompt(
                1,
                &format!("{ESCAPES}; ./chain; sleep 1000 & echo up; while :; do sleep 1000; done"),
            );
            worker.turn_until(|out| out == "up\n");
            worker.desert(0);
            // Nothing is left once it has ended.
            assert_eq!(worker.code(), 75, "{user} {contained_by}");
        }
    }
}

#[test]
fn nothing_outlives_an_agent_that_is_killed_or_what_keeps_its_namespace() {
    for user in users() {
        let mut worker = contained(user, 50, Agent::Shell);
        for n in [1, 2] {
            worker.prompt(n, &format!("{ESCAPES}; echo up; while :; do sleep 1000; done"));
            let agent = worker.turn_until(|out| out == "up\n").pid.unwrap();
            let keeper = children(worker.pid())[0].0 as u32;
            Watch::pid(if n == 1 { agent } else { keeper }).signal(Signal::KILL);
            let turn = worker.turn();
            assert_eq!((turn.end, turn.exit), (Some(TurnEnd::Finished), Some(Exit::Signal(9))), "{user}");
            assert_eq!(children(worker.pid()), [], "{user}");
        }
    }
}

#[test]
fn turns_leave_no_descriptor_and_no_zombie() {
    for user in users() {
        let mut worker = contained(user, LONG, Agent::Shell);
        worker.run(1, "true");
        let before = descriptors(worker.pid());
        for n in 2..12 {
            worker.run(n, "(true &); sleep 1000 & echo x");
        }
        assert_eq!((descriptors(worker.pid()), children(worker.pid())), (before, vec![]), "{user}");
    }
}

/// Starts a worker where no PID namespace can be made. Such a bound counts in its own user namespace only.
fn without_namespaces() -> Worker {
    let mut program = Program::new("unshare");
    let bound = "echo 0 > /proc/sys/user/max_pid_namespaces && exec \"$0\"";
    program.args(["--user", "--map-root-user", "sh", "-c", bound, binary()]);
    Worker::spawn_by(program)
}

#[test]
fn where_no_namespace_can_be_made_it_runs_without_or_not_at_all() {
    let mut worker = without_namespaces();
    worker.welcome(Agent::Shell, LONG);
    worker.send(Command::Contain { level: Level::PidNamespace, demanded: false });
    assert_eq!(worker.report(), Report::Contained { level: Level::PidNamespace });
    worker.prompt(1, "echo runs; sleep 1000 & exit 3");
    let reports = worker.report_until(|report| matches!(report, Report::TurnEnded { .. }));
    let said = |wanted: &Report| reports.iter().any(|report| report == wanted);
    assert!(said(&Report::Contained { level: Level::Subreaper }), "{reports:?}");
    let ended =
        matches!(reports.last(), Some(Report::TurnEnded { exit: Some(Exit::Code(3)), left_behind: 1, .. }));
    assert!(ended, "{reports:?}");

    let mut worker = without_namespaces();
    worker.welcome(Agent::Shell, LONG);
    worker.send(Command::Contain { level: Level::PidNamespace, demanded: true });
    worker.report();
    let Some(TurnEnd::Failed { message }) = worker.run(1, "echo no").end else { panic!("it ran") };
    assert!(message.contains("cannot prepare the agent's process: PID namespace: "), "{message}");
}

#[test]
fn the_probe_finds_out_by_doing_it() {
    let probe = |program: &mut Program| {
        let out = tempfile::NamedTempFile::new().unwrap();
        let mut child = program.stdout(out.reopen().unwrap()).spawn().unwrap();
        assert!(child.wait().unwrap().success());
        fs::read_to_string(out.path()).unwrap()
    };
    let here = probe(Program::new(binary()).arg("probe"));
    assert_eq!(here, "containment pid_namespace\n", "this machine has none: see tests/README.md");
    let bound = "echo 0 > /proc/sys/user/max_pid_namespaces && exec \"$0\" probe";
    let mut without = Program::new("unshare");
    let without = probe(without.args(["--user", "--map-root-user", "sh", "-c", bound, binary()]));
    assert_eq!(without, "containment subreaper\n");
}
