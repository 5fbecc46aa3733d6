//! `kennel logs -f`: a log as it grows, without loss or repetition.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use harness::daemon::Daemon;
use harness::real::*;
use harness::talker::{Printing, Talker, lines};
use manager::protocol::api::{LogGap, LogPiece, Problem};
use nix::sys::signal::Signal;

/// Lines of about 3 MB: a log is put aside after 8 MiB.
const PORTION: usize = 30_000;

fn follow(daemon: &Daemon, args: &[&str]) -> Printing {
    Printing::new(daemon.command(&[&["logs", "talker", "-f"], args].concat()))
}

/// A stream of a log, over a connection of its own. HTTP/1.0 has no chunks.
fn stream(daemon: &Daemon, query: &str, headers: &str) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let request = format!("GET /v1/sessions/talker/log?{query} HTTP/1.0\r\nHost: kennel\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    BufReader::new(stream)
}

/// Reads the head of an answer, and returns its status.
fn status(stream: &mut BufReader<UnixStream>) -> u16 {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "no head");
    }
    status
}

/// The next frame: its `id`, `event` and `data`. A comment has none of them.
fn frame(stream: &mut BufReader<UnixStream>) -> [String; 3] {
    let mut found = <[String; 3]>::default();
    let mut line = String::new();
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream has ended");
        let text = line.trim_end_matches('\n');
        if text.is_empty() {
            return found;
        }
        for (field, name) in found.iter_mut().zip(["id: ", "event: ", "data: "]) {
            if let Some(value) = text.strip_prefix(name) {
                *field = value.to_owned();
            }
        }
    }
}

/// The next piece.
fn piece(stream: &mut BufReader<UnixStream>) -> LogPiece {
    let [id, event, data] = frame(stream);
    assert_eq!(event, "piece", "{data}");
    let piece: LogPiece = serde_json::from_str(&data).unwrap();
    assert_eq!(piece.cursor, id);
    piece
}

fn problem(mut stream: BufReader<UnixStream>) -> Problem {
    status(&mut stream);
    let mut body = String::new();
    stream.read_to_string(&mut body).unwrap();
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn inode(path: &std::path::Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap())
}

#[test]
fn a_followed_log_goes_on_over_rotations_restarts_and_kills_of_the_daemon() {
    let daemon = Daemon::new();
    let talker = Talker::start(&daemon);
    let mut said = lines(0, 40);
    talker.say_all(&said);
    let begin = said.len() - lines(0, 5).len();
    said.drain(..begin);
    let followed = follow(&daemon, &["-n", "5"]);
    followed.prints("the lines at the end", &said);
    let first = inode(talker.log());
    let (mut files, mut next) = (std::collections::BTreeSet::from([first]), 40);
    for round in 0..8 {
        let more = lines(next, PORTION);
        next += PORTION;
        match round {
            1 | 4 => drop(daemon.kill()),
            2 => drop(daemon.ok(&["daemon", "restart"])),
            _ => {}
        }
        talker.say_all(&more);
        said += &more;
        if round == 5 {
            // Between the file that was just begun and the one before.
            daemon.kill();
        }
        followed.prints(&format!("all lines of round {round}"), &said);
        files.insert(inode(talker.log()));
    }
    assert!(files.len() > 1, "the log was never put aside");
    // A line that has no end yet is shown, too.
    talker.say("no end");
    said += "no end";
    followed.prints("the beginning of a line", &said);
    signal(followed.pid(), Signal::SIGINT);
    let output = followed.ends();
    let events = Printing::new(daemon.command(&["events", "-f", "--after", "0"]));
    until("an event", || (!events.text().is_empty()).then_some(()));
    signal(events.pid(), Signal::SIGINT);
    assert_eq!(output.code, events.ends().code, "{}", output.stderr);
    assert!(!output.stderr.contains("gone"), "{}", output.stderr);
}

#[test]
fn a_new_process_of_the_session_goes_on_in_the_same_log() {
    let daemon = Daemon::new();
    let talker = Talker::start(&daemon);
    talker.say_all("before\n");
    let followed = follow(&daemon, &[]);
    until("the line before", || followed.text().contains("before\n").then_some(()));
    let pid = daemon.show("talker").pid.unwrap();
    kill(pid);
    // The one before takes nothing from the pipe any more.
    until("another process", || daemon.show("talker").pid.filter(|new| *new != pid));
    daemon.idle("talker");
    talker.say("after\n");
    until("the line after", || followed.text().ends_with("after\n").then_some(()));
    assert_eq!(followed.text().matches("before\n").count(), 1);
}

#[test]
fn a_follower_ends_when_its_session_is_removed_and_has_its_last_words() {
    let daemon = Daemon::new();
    let talker = Talker::start(&daemon);
    let one = follow(&daemon, &[]);
    let two = Printing::new(daemon.command(&["--json", "logs", "talker", "--follow"]));
    talker.say("said\n");
    for followed in [&one, &two] {
        until("the line", || followed.text().contains("said").then_some(()));
    }
    daemon.ok(&["rm", "--force", "talker"]);
    let (one, two) = (one.ends(), two.ends());
    assert!(one.code == Some(0) && one.stderr.contains("the session was removed"), "{one:#?}");
    assert_eq!((two.code, &*two.stderr), (Some(0), ""));
    let text: String =
        two.stdout.lines().map(|line| serde_json::from_str::<LogPiece>(line).unwrap().text).collect();
    assert!(text == one.stdout && text.contains("said\n"), "{text:?} {one:#?}");
    let gone = daemon.run(&["logs", "talker", "-f"]);
    assert_eq!(gone.code, Some(4), "{gone:#?}");
}

#[test]
fn lines_and_the_removal_are_seen_before_the_next_sign_of_life() {
    let daemon = Daemon::new();
    let talker = Talker::start(&daemon);
    talker.say_all("begin\n");
    let followed = follow(&daemon, &["-n", "1"]);
    let mut said = "begin\n".to_owned();
    followed.prints("the first line", &said);
    // A sign of life comes after 15 s of silence.
    let soon = std::time::Duration::from_secs(12);
    let begun = std::time::Instant::now();
    for line in ["one\n", "two\n", "three\n"] {
        talker.say(line);
        said += line;
        followed.prints(line, &said);
    }
    assert!(begun.elapsed() < soon, "{:?} for three lines", begun.elapsed());
    daemon.ok(&["rm", "--force", "talker"]);
    let removed = std::time::Instant::now();
    assert_eq!(followed.ends().code, Some(0));
    assert!(removed.elapsed() < soon, "{:?} after the removal", removed.elapsed());
}

#[test]
fn a_follower_ends_with_a_daemon_that_is_stopped_and_with_its_output() {
    let daemon = Daemon::new();
    let talker = Talker::start(&daemon);
    let mut closed = daemon.command(&["logs", "talker", "-f", "-n", "0"]).spawn().unwrap();
    drop(closed.stdout.take());
    let mut closed = Some(closed);
    until("the end of a follower that nobody reads", || {
        talker.say("x\n");
        closed.as_mut().unwrap().try_wait().unwrap()
    });
    let mut said = String::new();
    closed.take().unwrap().stderr.unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    let followed = follow(&daemon, &["-n", "1"]);
    until("the line", || followed.text().contains('x').then_some(()));
    daemon.ok(&["daemon", "stop"]);
    let output = followed.ends();
    assert!(output.code == Some(0) && output.stderr.contains("the daemon was stopped"), "{output:#?}");
}

#[test]
fn a_cursor_goes_on_where_it_was_and_one_whose_file_is_gone_is_told_so() {
    let daemon = Daemon::new();
    let talker = Talker::start(&daemon);
    talker.say_all("one\n");
    let mut all = stream(&daemon, "follow=true&tail=1", "");
    assert_eq!(status(&mut all), 200);
    let begin = piece(&mut all);
    assert_eq!(begin.text, "", "the first frame comes at once, and has a cursor");
    let one = piece(&mut all);
    assert_eq!(one.text, "one\n");
    talker.say_all("two\n");
    assert_eq!(piece(&mut all).text, "two\n");
    let mut after = stream(&daemon, &format!("follow=true&after={}", one.cursor), "");
    status(&mut after);
    assert_eq!(piece(&mut after).text, "two\n");
    // The header is newer than the address.
    let header = format!("Last-Event-ID: {}\r\n", one.cursor);
    let mut by_header = stream(&daemon, &format!("follow=true&after={}", begin.cursor), &header);
    status(&mut by_header);
    assert_eq!(piece(&mut by_header).text, "two\n");
    for query in [
        "follow=true&after=7",
        "follow=true&after=1-2-",
        "follow=true&after=1-2-3-4",
        "follow=true&after=A-1-1",
    ] {
        assert_eq!(problem(stream(&daemon, query, "")).code, "invalid_cursor", "{query}");
    }
    let needs = problem(stream(&daemon, &format!("after={}", one.cursor), ""));
    assert!(needs.code == "invalid_parameter" && needs.detail.contains("follow=true"), "{needs:?}");
    // Put aside once, and read on.
    let file = inode(talker.log());
    let (mut count, mut rotations) = (0, 0);
    let mut log = file;
    while rotations < 2 {
        let more = lines(count, PORTION);
        talker.say_all(&more);
        count += PORTION;
        let now = inode(talker.log());
        if now != log {
            (log, rotations) = (now, rotations + 1);
            let mut after = stream(&daemon, &format!("follow=true&after={}", one.cursor), "");
            status(&mut after);
            if rotations == 1 {
                let first = piece(&mut after).text;
                assert!(first.starts_with(&format!("two\n{}", lines(0, 10))), "{:?}", &first[..100]);
                continue;
            }
            let [id, event, data] = frame(&mut after);
            assert_eq!(event, "gap", "{data}");
            let gap: LogGap = serde_json::from_str(&data).unwrap();
            assert_eq!(gap.cursor, id);
            // All that is left follows.
            let oldest = std::fs::read(talker.log().with_extension("log.1")).unwrap();
            let (first, oldest) = (piece(&mut after).text, String::from_utf8_lossy(&oldest));
            assert!(oldest.starts_with(&first) && first.len() > 10_000, "{} bytes", first.len());
        }
    }
}

#[test]
fn a_reader_that_does_not_read_holds_nobody_up_and_misses_nothing_that_is_there() {
    let daemon = Daemon::new();
    std::fs::create_dir_all(daemon.dir.path().join("kennel")).unwrap();
    std::fs::write(daemon.dir.path().join("kennel/config.toml"), "[daemon]\nstall_timeout = \"1h\"\n")
        .unwrap();
    let talker = Talker::start(&daemon);
    talker.say_all("begin\n");
    let mut still: Vec<_> = (0..10).map(|_| stream(&daemon, "follow=true&tail=1", "")).collect();
    for reader in &mut still {
        status(reader);
    }
    let memory = || {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", daemon.pid())).unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    };
    let before = memory();
    let followed = follow(&daemon, &["-n", "1"]);
    let mut said = "begin\n".to_owned();
    // Who comes later begins with a later line.
    followed.prints("the first line", &said);
    for round in 0..3 {
        let more = lines(round * PORTION, PORTION);
        talker.say_all(&more);
        said += &more;
        followed.prints("the lines at one who reads", &said);
    }
    let grown = memory().saturating_sub(before) >> 20;
    assert!(grown < 16, "ten readers that do not read cost {grown} MiB");
    assert_eq!(daemon.ok(&["logs", "talker", "-n", "1"]), lines(3 * PORTION - 1, 1));
    for mut reader in still {
        let mut text = String::new();
        while text.len() < said.len() {
            text += &piece(&mut reader).text;
        }
        assert!(text == said, "{} of {} bytes", text.len(), said.len());
    }
}

#[test]
fn followers_beyond_the_limit_are_refused_and_places_are_given_back() {
    let daemon = Daemon::new();
    let _talker = Talker::start(&daemon);
    let token = daemon.ok(&["token", "talker", "--viewer"]);
    let header = format!("Authorization: Bearer {}\r\n", token.trim());
    let open = |headers: &str| {
        let mut reader = stream(&daemon, "follow=true", headers);
        (status(&mut reader) == 200).then_some(reader)
    };
    let by_token: Vec<_> = (0..5).map_while(|_| open(&header)).collect();
    assert_eq!(by_token.len(), 4, "a session has a share");
    let refused = problem(stream(&daemon, "follow=true", &header));
    assert_eq!((refused.code.as_str(), refused.status), ("overloaded", 503));
    assert!(
        refused.detail.contains("clients that follow logs: the places of session `talker`"),
        "{refused:?}"
    );
    let own: Vec<_> = (0..50).map_while(|_| open("")).collect();
    assert_eq!(own.len(), 48, "the owner has a share");
    let watches = || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().flatten();
        fds.filter(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("inotify"))
        })
        .count()
    };
    let with = watches();
    let refused = daemon.run(&["logs", "talker", "-f"]);
    assert!(refused.code == Some(6) && refused.stderr.contains("clients that follow logs"), "{refused:#?}");
    drop((own, by_token));
    until("a place", || open(""));
    until("the end of the watches", || (watches() < with).then_some(()));
}

#[test]
fn an_idle_follower_wakes_the_daemon_only_for_its_sign_of_life() {
    let daemon = Daemon::new();
    let _talker = Talker::start(&daemon);
    let mut readers: Vec<_> = (0..20).map(|_| stream(&daemon, "follow=true&tail=0", "")).collect();
    for reader in &mut readers {
        status(reader);
        piece(reader);
    }
    let pid = daemon.pid();
    // From one sign of life to the next.
    let sign = |readers: &mut Vec<BufReader<UnixStream>>| {
        readers.iter_mut().for_each(|reader| assert_eq!(frame(reader), <[String; 3]>::default()));
    };
    sign(&mut readers);
    let before = switches(pid);
    sign(&mut readers);
    let woken = switches(pid) - before;
    // Each of twenty wakes a thread or two.
    assert!(woken < 100, "the daemon woke {woken} times in 15 s");
}

/// The times that threads of a process have slept so far.
fn switches(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let count = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
    };
    tasks.filter_map(count).sum()
}
