//! `kennel events`: by time, by type, the newest ones, and on over a daemon's death.

use harness::daemon::Daemon;
use harness::real::*;
use harness::talker::Printing;
use manager::protocol::api::Problem;
use manager::protocol::event::Event;

/// A daemon whose session `s` has had so many turns.
fn with_turns(turns: usize) -> Daemon {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--id", "s"]);
    for turn in 0..turns {
        daemon.ok(&["send", "s", &format!("echo {turn}")]);
    }
    daemon
}

fn listed(daemon: &Daemon, args: &[&str]) -> Vec<Event> {
    let args: Vec<&str> = ["--json", "events"].iter().chain(args).copied().collect();
    daemon.ok(&args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<u64> {
    events.into_iter().map(|event| event.id).collect()
}

#[test]
fn events_are_chosen_by_time_type_and_number() {
    let daemon = with_turns(3);
    daemon.ok(&["start", "--id", "t"]);
    daemon.idle("t");
    let all = daemon.events();
    let of = |session: &str, names: &[&str]| {
        let of_it =
            all.iter().filter(|event| event.session.as_ref().is_some_and(|id| id.as_str() == session));
        ids(of_it.filter(|event| names.is_empty() || names.contains(&event.kind.name())))
    };
    let turns = of("s", &["turn.completed"]);
    assert_eq!(turns.len(), 3);
    assert_eq!(ids(&listed(&daemon, &["--type", "turn.completed"])), turns);
    let both = of("s", &["turn.started", "turn.completed"]);
    assert_eq!(ids(&listed(&daemon, &["s", "--type", "turn.completed,turn.started"])), both);
    assert_eq!(ids(&listed(&daemon, &["s", "-n", "4", "--type", "turn.completed,turn.started"])), both[2..]);
    assert_eq!(ids(&listed(&daemon, &["s", "-n", "2"])), of("s", &[])[of("s", &[]).len() - 2..]);
    assert_eq!(ids(&listed(&daemon, &["-n", "100000"])), ids(&all));
    assert_eq!(ids(&listed(&daemon, &["t", "-n", "100000", "--type", "turn.completed"])), Vec::<u64>::new());
    let after = turns[0].to_string();
    assert_eq!(
        ids(&listed(&daemon, &["s", "-n", "9", "--after", &after, "--type", "turn.completed"])),
        turns[1..]
    );
    // By the time of an event: that one, and all that follow.
    let second = all.iter().position(|event| event.id == turns[1]).unwrap();
    let same = all.iter().position(|event| event.at >= all[second].at).unwrap();
    let since = serde_json::to_value(all[second].at).unwrap();
    assert_eq!(ids(&listed(&daemon, &["--since", since.as_str().unwrap()])), ids(&all[same..]));
    assert_eq!(ids(&listed(&daemon, &["--since", "1h"])), ids(&all));
    assert_eq!(ids(&listed(&daemon, &["--since", "2100-01-01"])), Vec::<u64>::new());
    // For people: one line each.
    assert_eq!(daemon.ok(&["events", "-n", "7"]).lines().count(), 7);
}

#[test]
fn a_type_that_is_none_and_a_number_that_is_none_are_refused_with_what_would_be_right() {
    let daemon = with_turns(0);
    let wrong = daemon.run(&["events", "--type", "turn.complete"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.stderr.contains("similar") && wrong.stderr.contains("'turn.completed'"), "{wrong:?}");
    for line in [["-n", "0"], ["-n", "-1"], ["--since", "yesterdayish"]] {
        assert_eq!(daemon.run(&["events", line[0], line[1]]).code, Some(2), "{line:?}");
    }
    // The API says the same to other clients.
    for (query, said) in [
        ("type=turn.complete", "did you mean `turn.completed`"),
        ("type=", "one of these belongs here"),
        ("type=turn.started,", "one of these belongs here"),
        ("last=0", "1 to 1000000"),
        ("last=1000001", "1 to 1000000"),
        ("since=now", "since"),
    ] {
        let (status, problem) = refused(&daemon, query);
        assert_eq!((status, &*problem.code), (400, "invalid_parameter"), "{query}: {problem:?}");
        assert!(problem.detail.contains(said), "{query}: {problem:?}");
    }
}

fn refused(daemon: &Daemon, query: &str) -> (u16, Problem) {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let request = format!("GET /v1/events?follow=false&{query} HTTP/1.0\r\nHost: kennel\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

#[test]
fn a_stream_of_some_types_goes_on_over_a_daemons_death_and_ends_with_its_session() {
    let daemon = with_turns(3);
    let followed = Printing::new(daemon.command(&[
        "--json",
        "events",
        "s",
        "-f",
        "-n",
        "2",
        "--type",
        "turn.completed,session.restarted",
    ]));
    let of = |text: &str, name: &str| text.matches(&format!("\"type\":\"{name}\"")).count();
    until("the newest two", || (of(&followed.text(), "turn.completed") == 2).then_some(()));
    daemon.kill();
    daemon.ok(&["send", "s", "echo after"]);
    until("the turn after the death", || (of(&followed.text(), "turn.completed") == 3).then_some(()));
    daemon.ok(&["rm", "--force", "s"]);
    let output = followed.ends();
    assert_eq!(output.code, Some(0), "{output:?}");
    let events: Vec<Event> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut seen = ids(&events);
    seen.dedup();
    // Without loss or repetition, and without the event that was not asked for.
    assert_eq!((seen.len(), of(&output.stdout, "session.deleted")), (3, 0), "{output:?}");
    assert!(seen.is_sorted());
}
