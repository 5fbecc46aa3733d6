//! Managers die and others come; the worker and its turn go on.

use std::fs;
use std::process::Command as Program;

use super::harness::{INCARNATION, Turn, Worker, binary, until};
use protocol::wire::{Agent, CallAnswer, Command, Offer, Report, Setting, TurnEnd};
use protocol::{Exit, PromptId};

/// A turn that says `one`, and after each file that is made the next word.
const STEPS: &str = "echo one; until test -e go; do sleep 0.02; done; echo two; \
    until test -e on; do sleep 0.02; done; echo three";

fn make(worker: &Worker, name: &str) {
    fs::write(worker.path(name), "").unwrap();
}

/// Returns true if the spool contains these words.
fn spooled(worker: &Worker, words: &str) -> bool {
    let says = |report: &Report| matches!(report, Report::Output { text, .. } if text.contains(words));
    worker.spooled().iter().any(|frame| says(&frame.body))
}

#[test]
fn a_turn_goes_on_without_a_manager_and_the_next_one_hears_all_of_it_once() {
    let mut worker = Worker::sheltered(|_| {});
    worker.prompt(1, STEPS);
    let mut turn = worker.turn_until(|said| said == "one\n");
    worker.desert(worker.heard());
    make(&worker, "go");
    until("it is said to nobody", || spooled(&worker, "two"));
    worker.come_back(&mut turn);
    assert_eq!(turn.stdout, "one\ntwo\n");
    make(&worker, "on");
    while turn.end.is_none() {
        worker.turn_report(&mut turn);
    }
    assert_eq!((turn.stdout.as_str(), turn.exit), ("one\ntwo\nthree\n", Some(Exit::Code(0))));
    // What is on record need not be kept.
    worker.send(Command::Acknowledge);
    until("the spool is empty", || worker.spool().is_empty());
    assert_eq!(worker.run(2, "echo next").stdout, "next\n");
}

#[test]
fn what_a_dead_manager_had_read_and_not_recorded_is_said_again() {
    let mut worker = Worker::sheltered(|_| {});
    let recorded = worker.heard();
    worker.prompt(1, STEPS);
    worker.turn_until(|said| said == "one\n");
    worker.desert(recorded);
    make(&worker, "go");
    make(&worker, "on");
    let ended = |report: &Report| matches!(report, Report::TurnEnded { .. });
    until("the turn's end", || worker.spooled().iter().any(|frame| ended(&frame.body)));
    let mut turn = Turn::default();
    worker.come_back(&mut turn);
    assert_eq!((turn.stdout.as_str(), turn.end), ("one\ntwo\nthree\n", Some(TurnEnd::Finished)));
}

#[test]
fn managers_may_die_one_after_the_other() {
    let mut worker = Worker::sheltered(|_| {});
    worker.prompt(1, STEPS);
    let mut turn = worker.turn_until(|said| said == "one\n");
    for (file, said) in [("go", "one\ntwo\n"), ("on", "one\ntwo\nthree\n")] {
        worker.desert(worker.heard());
        worker.come_back(&mut turn);
        worker.desert(worker.heard());
        make(&worker, file);
        until("it is said to nobody", || spooled(&worker, said.rsplit('\n').nth(1).unwrap()));
        worker.come_back(&mut turn);
        while turn.stdout != said {
            worker.turn_report(&mut turn);
        }
    }
    while turn.end.is_none() {
        worker.turn_report(&mut turn);
    }
}

#[test]
fn a_prompt_that_is_given_again_is_run_once() {
    let mut worker = Worker::sheltered(|_| {});
    worker.prompt(1, &format!("printf x >> ran; {STEPS}"));
    let mut turn = worker.turn_until(|said| said == "one\n");
    worker.desert(worker.heard());
    worker.come_back(&mut turn);
    worker.prompt(1, "printf y >> ran");
    make(&worker, "go");
    make(&worker, "on");
    while turn.end.is_none() {
        worker.turn_report(&mut turn);
    }
    worker.prompt(1, "printf z >> ran");
    assert_eq!(worker.run(2, "echo other").stdout, "other\n");
    assert_eq!(fs::read_to_string(worker.path("ran")).unwrap(), "x");
}

#[test]
fn whoever_does_not_know_the_secret_is_not_heard_and_changes_nothing() {
    let mut worker = Worker::sheltered(|_| {});
    worker.prompt(1, STEPS);
    let mut turn = worker.turn_until(|said| said == "one\n");
    worker.desert(worker.heard());
    for secret in [&[8; 32][..], &[7; 31], &[7; 33], b"\0"] {
        worker.visit(secret);
        // Its pipes are closed without a word.
        assert_eq!(worker.frame(), None);
    }
    make(&worker, "go");
    make(&worker, "on");
    worker.come_back(&mut turn);
    while turn.end.is_none() {
        worker.turn_report(&mut turn);
    }
    assert_eq!(turn.stdout, "one\ntwo\nthree\n");
}

#[test]
fn a_turn_that_nobody_comes_back_for_is_ended_and_the_spool_says_so() {
    let mut worker = Worker::sheltered(|papers| papers.turn_ms = 200);
    worker.prompt(1, "echo one; sleep 1000");
    worker.turn_until(|said| said == "one\n");
    worker.desert(worker.heard());
    assert_eq!(worker.code(), 75);
    let last = worker.spooled().pop().unwrap();
    assert_eq!(last.incarnation, INCARNATION);
    let Report::TurnEnded { prompt, end, .. } = last.body else { panic!("{last:?}") };
    assert_eq!((prompt, end), (PromptId(1), TurnEnd::Aborted));
    assert!(!fs::exists(worker.path("door")).unwrap(), "it closed its door");
}

#[test]
fn a_worker_at_rest_that_nobody_comes_back_for_leaves() {
    let mut worker = Worker::sheltered(|papers| papers.idle_ms = 100);
    worker.run(1, "true");
    worker.desert(worker.heard());
    assert_eq!(worker.code(), 75);
}

#[test]
fn a_worker_stays_longer_for_a_turn_than_for_nothing() {
    let mut worker = Worker::sheltered(|papers| papers.idle_ms = 50);
    worker.prompt(1, STEPS);
    let mut turn = worker.turn_until(|said| said == "one\n");
    worker.desert(worker.heard());
    make(&worker, "go");
    until("it is said to nobody", || spooled(&worker, "two"));
    worker.come_back(&mut turn);
    worker.desert(worker.heard());
    make(&worker, "on");
    assert_eq!(worker.code(), 75);
    let ended = |report: &Report| matches!(report, Report::TurnEnded { end: TurnEnd::Finished, .. });
    assert!(worker.spooled().iter().any(|frame| ended(&frame.body)), "the turn had come to its end before");
}

#[test]
fn a_full_spool_holds_the_agent_up_and_drops_nothing() {
    const SPOOL: u64 = 64 * 1024;
    let mut worker = Worker::sheltered(|papers| papers.spool_bytes = SPOOL);
    worker
        .prompt(1, "echo one; until test -e go; do sleep 0.02; done; head -c 4000000 /dev/zero | tr '\\0' x");
    let mut turn = worker.turn_until(|said| said == "one\n");
    worker.desert(worker.heard());
    make(&worker, "go");
    until("the spool is full", || worker.spool().len() as u64 >= SPOOL);
    worker.come_back(&mut turn);
    let held = worker.spool().len() as u64;
    assert!(held < 3 * SPOOL, "{held} bytes in a spool of {SPOOL}");
    while turn.end.is_none() {
        // Or it is read no further.
        worker.send(Command::Acknowledge);
        worker.turn_report(&mut turn);
    }
    assert_eq!(turn.stdout.len(), 4 + 4_000_000);
}

#[test]
fn a_manager_that_acknowledges_nothing_holds_the_agent_up_and_not_the_abort() {
    let mut worker = Worker::sheltered(|_| {});
    worker.prompt(1, "cat /dev/zero | tr '\\0' x");
    let mut turn = worker.turn_until(|said| said.len() > 200_000);
    worker.abort(1);
    while turn.end.is_none() {
        worker.turn_report(&mut turn);
    }
    assert_eq!(turn.end, Some(TurnEnd::Aborted));
}

#[test]
fn a_worker_that_finds_no_shelter_goes_on_also_where_nothing_can_be_logged() {
    let mut program = Program::new("/bin/sh");
    program.args(["-c", "exec \"$0\" 2> /dev/full", binary()]);
    let mut worker = Worker::spawn_by(program);
    worker.welcome(Agent::Shell, 1_000);
    let papers = worker.shelter();
    worker.send(Command::Shelter(protocol::wire::Shelter { socket: worker.path("none/door"), ..papers }));
    assert_eq!(worker.run(1, "echo on").stdout, "on\n");
    worker.desert(worker.heard());
    assert_eq!(worker.code(), 75);
}

#[test]
fn a_spool_that_cannot_be_made_holds_the_agent_up_and_is_tried_again() {
    let mut worker = Worker::sheltered(|papers| papers.idle_ms = 100);
    fs::create_dir(worker.path("spool")).unwrap();
    worker.prompt(1, &format!("{STEPS}; : > done"));
    worker.turn_until(|said| said == "one\n");
    worker.desert(worker.heard());
    make(&worker, "go");
    make(&worker, "on");
    until("the agent's end", || fs::exists(worker.path("done")).unwrap());
    fs::remove_dir(worker.path("spool")).unwrap();
    assert_eq!(worker.code(), 75);
    assert!(spooled(&worker, "two") && spooled(&worker, "three"), "{:?}", worker.spooled());
}

#[test]
fn a_worker_whose_directory_is_gone_waits_no_longer_than_others() {
    let mut worker = Worker::spawn();
    worker.welcome(Agent::Shell, 1_000);
    fs::create_dir(worker.path("state")).unwrap();
    let papers = protocol::wire::Shelter {
        socket: worker.path("state/door"),
        spool: worker.path("state/spool"),
        idle_ms: 1_500,
        ..worker.shelter()
    };
    worker.send(Command::Shelter(papers));
    assert_eq!(worker.run(1, "echo on").stdout, "on\n");
    fs::remove_dir_all(worker.path("state")).unwrap();
    // Nothing of it is on record, and it has no place to keep it.
    worker.desert(0);
    assert_eq!(worker.code(), 75);
}

/// An agent that lives between prompts. In a turn it asks for `file` and for an answer of the user, writes down what it is
/// given, and ends the turn when it has both. It writes down what is set, too.
const LIVES: &str = r#"
said() { printf '{"jsonrpc":"2.0",%s}\n' "$1"; }
while read -r line; do
    id=${line#*\"id\":}; id=${id%%[,\}]*}
    case $line in
    *'"initialize"'*) said "\"id\":$id,\"result\":{\"protocolVersion\":1}";;
    *'"session/new"'*)
        modes='{"currentModeId":"ask","availableModes":[{"id":"ask","name":"Ask"},{"id":"plan","name":"Plan"}]}'
        said "\"id\":$id,\"result\":{\"sessionId\":\"s\",\"modes\":$modes}";;
    *'"session/set_mode"'*) echo "$line" >> modes; said "\"id\":$id,\"result\":{}";;
    *'"session/prompt"'*)
        turn=$id
        said "\"id\":\"r1\",\"method\":\"fs/read_text_file\",\"params\":{\"sessionId\":\"s\",\"path\":\"$PWD/file\"}"
        said '"id":"r2","method":"elicitation/create","params":{"sessionId":"s","mode":"form","message":"?","requestedSchema":{"type":"object","properties":{}}}';;
    *'"r1"'*) echo "$line" > read; both="$both r";;
    *'"r2"'*) echo "$line" > told; both="$both t";;
    esac
    if [ "${#both}" = 4 ]; then both=; said "\"id\":$turn,\"result\":{\"stopReason\":\"end_turn\"}"; fi
done
"#;

/// A worker with such an agent, which has taken up its conversation.
fn with_agent() -> Worker {
    let mut worker = Worker::spawn();
    let papers = worker.papers(
        Agent::Acp {
            argv: vec!["/bin/sh".into(), "-c".into(), LIVES.into()],
            login: None,
            mcp_servers: vec![],
        },
        1_000,
    );
    assert!(matches!(worker.frame().unwrap().body, Report::Hello { .. }));
    worker.send_numbered(0, Command::Welcome(Box::new(papers)));
    worker.send(Command::RestoreWithin(10_000));
    worker.send(Command::Settings(Vec::new()));
    worker.send(Command::Open { agent_session: None, conversation: false });
    worker.send(Command::Shelter(worker.shelter()));
    worker.report_until(|report| matches!(report, Report::Ready { .. }));
    worker
}

fn set(request: u64, mode: &str) -> Command {
    Command::Set { request, setting: Setting { name: "mode".into(), value: mode.into() } }
}

/// Reports to the next manager, from the spool and then from the pipe, until the wanted one.
fn hears(worker: &mut Worker, wanted: impl Fn(&Report) -> bool) -> Vec<Report> {
    worker.visit(&[7; 32]);
    let mut heard = worker.resume();
    while !heard.iter().any(&wanted) {
        heard.push(worker.report());
    }
    heard
}

fn calls(reports: &[Report]) -> Vec<(u64, &str)> {
    let call = |report| match report {
        &Report::CallAsked { request, ref method, .. } => Some((request, method.as_str())),
        _ => None,
    };
    reports.iter().filter_map(call).collect()
}

#[test]
fn what_a_client_was_asked_is_done_without_a_manager_and_the_next_one_is_asked_what_only_a_user_knows() {
    let mut worker = with_agent();
    fs::write(worker.path("file"), "as it is on the disk").unwrap();
    worker.send(Command::Driver { client: Some(20), offers: Offer::ALL.to_vec() });
    worker.prompt(1, "go");
    let is_form =
        |report: &Report| matches!(report, Report::CallAsked { method, .. } if method.starts_with("eli"));
    let asked = worker.report_until(is_form);
    assert_eq!(calls(&asked), [(1, "fs/read_text_file"), (2, "elicitation/create")]);
    worker.desert(worker.heard());
    until("the agent has read it", || {
        fs::read_to_string(worker.path("read")).is_ok_and(|read| read.contains("as it is on the disk"))
    });
    let heard = hears(&mut worker, is_form);
    assert_eq!(calls(&heard), [(2, "elicitation/create")]);
    let answer = |action: &str| CallAnswer::Result { json: format!("{{\"action\":\"{action}\"}}") };
    worker.send(Command::CallAnswered { request: 2, answer: answer("decline") });
    // Twice, as of a manager that does not know whether the first one came.
    worker.send(Command::CallAnswered { request: 2, answer: answer("accept") });
    worker.send(set(1, "plan"));
    worker.report_until(|report| matches!(report, Report::SettingAnswered { .. }));
    assert!(fs::read_to_string(worker.path("told")).unwrap().contains("decline"));
}

#[test]
fn a_setting_that_is_told_again_is_set_once_and_answered_once() {
    let mut worker = with_agent();
    let recorded = worker.heard();
    worker.send(set(1, "plan"));
    let answered = |report: &Report| matches!(report, Report::SettingAnswered { .. });
    worker.report_until(answered);
    worker.desert(recorded);
    let heard = hears(&mut worker, answered);
    assert!(matches!(heard.last(), Some(Report::SettingAnswered { request: 1, .. })), "{heard:?}");
    worker.send(set(1, "plan"));
    worker.send(set(2, "ask"));
    let heard = worker.report_until(answered);
    assert!(matches!(heard.last(), Some(Report::SettingAnswered { request: 2, .. })), "{heard:?}");
    let modes = fs::read_to_string(worker.path("modes")).unwrap();
    assert_eq!((modes.matches("\"plan\"").count(), modes.matches("\"ask\"").count()), (1, 1), "{modes}");
}
