//! `kennel attach` on the whole screen of a terminal, by what the screen shows.

use harness::daemon::Daemon;
use harness::real::{kill, until};
use protocol::api::{Role, Status};
use protocol::event::EventKind;

use crate::top::{Screen, words};

pub const DETACH: &str = "\u{10}\u{11}";
const CTRL_C: &str = "\u{3}";

/// A daemon with a session `web` of an agent that does what a prompt says.
pub fn asking() -> Daemon {
    let daemon = Daemon::with_acp("x");
    daemon.ok(&["start", "--name", "web", "--agent", "x"]);
    daemon.idle("web");
    daemon
}

/// Somebody at `web` who drives.
pub fn attached(daemon: &Daemon, args: &[&str]) -> Screen {
    let screen = Screen::new(daemon, &[&["attach"], args].concat(), 100, 30);
    screen.sees("you drive");
    screen
}

/// The texts of all prompts.
fn prompts(daemon: &Daemon) -> Vec<String> {
    let texts = daemon.events().into_iter().filter_map(|event| match event.kind {
        EventKind::PromptAccepted { text, .. } => Some(text),
        _ => None,
    });
    texts.collect()
}

#[test]
fn a_person_reads_types_answers_and_detaches_on_one_screen() {
    let daemon = asking();
    daemon.ok(&["send", "web", "say **earlier** words"]);
    let mut screen = attached(&daemon, &["web"]);
    let text = screen.sees("> say **earlier** words");
    assert!(text.contains("web (session-1)  idle  you drive"), "{text}");
    assert!(text.contains("\nearlier words"), "Markdown is drawn: {text}");
    screen.sees("web (session-1)  idle  you drive");
    // A tool in one line with its state, a permission in place, and a prompt that waits meanwhile.
    screen.types("think hm; tool t1 look at it; done t1; ask t2\r");
    let text = screen.sees("(number, Enter)");
    assert!(
        text.contains("~ hm") && text.contains("[completed] look at it (") && text.contains("needs you"),
        "{text}"
    );
    screen.types("say after it\r");
    screen.sees("waits: say after it");
    screen.types("yes\r");
    let text = screen.sees("type a number to answer");
    assert!(text.contains("> yes"), "what was not sent stays: {text}");
    screen.types("\u{15}3");
    until("the answer", || {
        screen.types("\r");
        screen.text().contains("answered no").then_some(())
    });
    let text = screen.sees("> say after it");
    assert!(text.contains("[permission] may I t2?") && text.contains("    No"), "{text}");
    until("the end", || (daemon.show("web").status == Status::Idle).then_some(()));
    // A form, field by field.
    screen.types("elicit who are you?\r");
    screen.sees("Your name:");
    screen.types("Änne\r");
    screen.sees("accept Änne");
    // An earlier prompt comes back.
    screen.types("dra\u{1b}[A");
    screen.sees("> elicit who are you?");
    screen.types("\u{1b}[B");
    screen.sees("> dra");
    screen.types(DETACH);
    assert_eq!(screen.ends(), (Some(0), false));
    until("nobody is there", || daemon.show("web").clients.is_empty().then_some(()));
    assert_eq!(daemon.show("web").status, Status::Idle);
}

#[test]
fn a_number_that_was_typed_before_its_question_answers_nothing() {
    let daemon = asking();
    let mut screen = attached(&daemon, &["web"]);
    screen.types("1");
    screen.sees("> 1");
    daemon.ok(&["send", "--no-wait", "web", "ask wipe it"]);
    screen.sees("1) Yes (allow once)");
    screen.types("\r");
    let text = screen.sees("came while you typed");
    assert!(text.contains("> 1"), "what was not sent stays: {text}");
    assert_eq!(daemon.show("web").status, Status::RequiresAction);
    // It is read now.
    until("the answer", || {
        screen.types("\r");
        (daemon.show("web").status == Status::Idle).then_some(())
    });
}

#[test]
fn a_prompt_that_is_refused_comes_back_to_where_it_was_typed() {
    let daemon = asking();
    let mut screen = attached(&daemon, &["web"]);
    daemon.ok(&["stop", "web"]);
    screen.sees("stopped");
    screen.types("say it anyway\r");
    screen.sees("the prompt was not accepted");
    screen.sees("> say it anyway");
    daemon.ok(&["restart", "web"]);
    daemon.idle("web");
    until("it is sent", || {
        screen.types("\r");
        screen.text().contains("\nit anyway").then_some(())
    });
    assert_eq!(prompts(&daemon), ["say it anyway"]);
}

#[test]
fn without_an_id_a_person_gets_the_session_of_the_directory_however_it_was_started() {
    let daemon = asking();
    let elsewhere = daemon.workdir().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    daemon.ok(&["start", "--name", "newer", "--agent", "x", "--dir", elsewhere.to_str().unwrap()]);
    daemon.ok(&["send", "web", "say here"]);
    daemon.ok(&["send", "newer", "say there"]);
    let mut screen = attached(&daemon, &[]);
    screen.sees("web (session-1) is the session of this directory");
    screen.types(DETACH);
    screen.ends();
    // With none here, the newest is said to be elsewhere.
    daemon.ok(&["rm", "--force", "web"]);
    let mut screen = attached(&daemon, &[]);
    let text = screen.sees("has no session: this is newer");
    assert!(text.contains("newer (session-2)"), "{text}");
    screen.types(DETACH);
    screen.ends();
}

#[test]
fn a_directory_without_a_session_gets_one_and_says_so() {
    let daemon = asking();
    let dir = daemon.workdir().join("new");
    std::fs::create_dir(&dir).unwrap();
    let dir = dir.to_str().unwrap();
    let mut screen = attached(&daemon, &[dir]);
    screen.sees("started new (workdir-");
    screen.sees("with the agent shell");
    screen.types(DETACH);
    screen.ends();
    let mut again = attached(&daemon, &[dir]);
    assert!(!again.text().contains("started new"), "{}", again.text());
    again.types(DETACH);
    again.ends();
}

#[test]
fn a_paste_is_one_prompt_and_arrives_whole() {
    let daemon = asking();
    let mut screen = attached(&daemon, &["web"]);
    let traceback = "say Traceback:\n  File \"x.py\", line 1\n\tpass\nError";
    screen.types(&format!("\u{1b}[200~{}\u{1b}[201~", traceback.replace('\n', "\r")));
    screen.sees("Error");
    assert_eq!(prompts(&daemon).len(), 0, "nothing is sent before Enter");
    screen.types("\r");
    until("one prompt", || (prompts(&daemon) == [traceback]).then_some(()));
    let long = format!("say {}", "é漢x".repeat(2_000));
    screen.types(&format!("\u{1b}[200~{long}\u{1b}[201~\r"));
    until("all of it", || (prompts(&daemon).last() == Some(&long)).then_some(()));
    let longest = format!("say {}", "y".repeat(200_000));
    screen.types(&format!("\u{1b}[200~{longest}\u{1b}[201~"));
    screen.sees("(200004 bytes are typed");
    screen.types("\r");
    until("all of that", || (prompts(&daemon).last() == Some(&longest)).then_some(()));
    screen.types("say one\nsay two\r");
    until("two lines", || {
        (prompts(&daemon).last().is_some_and(|text| text == "say one\nsay two")).then_some(())
    });
    screen.types(DETACH);
    assert_eq!(screen.ends(), (Some(0), false));
}

#[test]
fn ctrl_c_ends_the_turn_and_never_the_client() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--name", "web"]);
    let mut screen = attached(&daemon, &["web"]);
    let client = daemon.show("web").clients[0].client_id;
    for round in 0..2 {
        screen.types(&format!("echo round''{round}; exec sleep 1000\r"));
        screen.sees(&format!("round{round}\n"));
        screen.types(&format!("half{round}"));
        screen.sees(&format!("> half{round}"));
        screen.types(CTRL_C);
        until("the end of the turn", || (daemon.show("web").status == Status::Idle).then_some(()));
        screen.sees("idle");
        screen.types("\u{15}");
    }
    // No turn runs: it asks, and any key but `y` goes back.
    screen.types(CTRL_C);
    screen.sees("detach? The session goes on. y/n");
    screen.types("n");
    screen.loses("detach? The session");
    screen.types("echo st''ill\r");
    screen.sees("still\ncompleted");
    assert_eq!(daemon.show("web").clients[0].client_id, client);
    screen.types(CTRL_C);
    screen.sees("detach?");
    screen.types("y");
    assert_eq!(screen.ends(), (Some(0), false));
    assert!(!prompts(&daemon).iter().any(|text| text.contains("half")));
}

#[test]
fn a_second_client_looks_on_and_can_take_over() {
    let daemon = asking();
    let mut first = attached(&daemon, &["web"]);
    let mut second = Screen::new(&daemon, &["attach", "web"], 120, 30);
    second.sees("drives, you look on");
    first.sees("you drive, 1 other looks on");
    second.types("say too early\r");
    let text = second.sees("your line was not sent");
    assert!(text.contains("> say too early") && text.contains("Ctrl-T"), "{text}");
    second.types("\u{15}\u{14}");
    second.sees("drive instead of the other client? y/n");
    second.types("y");
    second.sees("you drive");
    first.sees("drives, you look on");
    second.types("say from the second\r");
    first.sees("> say from the second");
    let roles: Vec<Role> = daemon.show("web").clients.iter().map(|client| client.role).collect();
    assert_eq!(roles.iter().filter(|role| **role == Role::Driver).count(), 1, "{roles:?}");
    second.types(DETACH);
    first.sees("nobody drives");
    first.types("say mine again\r");
    first.sees("> say mine again");
    first.sees("you drive");
    assert!(!prompts(&daemon).iter().any(|text| text.contains("too early")));
    first.types(DETACH);
    assert_eq!((first.ends(), second.ends()), ((Some(0), false), (Some(0), false)));
}

#[test]
fn kills_of_daemon_and_worker_are_shown_and_the_screen_goes_on() {
    let daemon = asking();
    let mut screen = attached(&daemon, &["web"]);
    screen.types("say one\r");
    screen.sees("\none");
    daemon.kill();
    until("it drives again", || (daemon.show("web").clients.len() == 1).then_some(()));
    screen.sees("you drive");
    screen.types("say two\r");
    let text = screen.sees("\ntwo");
    assert_eq!(text.matches("> say one").count(), 1, "{text}");
    kill(daemon.show("web").pid.unwrap());
    screen.sees("is restarting");
    screen.sees("the session is back; the agent's memory: ");
    screen.types("say three\r");
    screen.sees("\nthree");
    daemon.ok(&["daemon", "stop"]);
    screen.sees("connection lost, trying again");
    assert_eq!(screen.ends(), (Some(6), false));
}

#[test]
fn keys_are_heard_while_the_agent_floods() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--name", "web"]);
    let mut screen = attached(&daemon, &["web"]);
    screen.types("while :; do echo flood; done\r");
    screen.sees("\nflood\nflood");
    screen.types("still here");
    screen.sees("> still here");
    screen.types(&format!("\u{15}{CTRL_C}"));
    screen.sees("idle");
    screen.types(DETACH);
    assert_eq!(screen.ends(), (Some(0), false));
}

#[test]
fn progress_that_is_written_over_is_one_line() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--name", "web"]);
    let mut screen = attached(&daemon, &["web"]);
    screen.types("for n in 10 50 99; do printf '\\rat %s' $n; done; printf '\\r\\033[Kall do''ne\\n'\r");
    let text = screen.sees("\nall done");
    assert!(!text.contains("\nat 10") && !text.contains("\nat 99"), "{text}");
    screen.types(DETACH);
    assert_eq!(screen.ends(), (Some(0), false));
}

#[test]
fn no_size_no_locale_and_no_words_of_an_agent_break_the_screen() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--name", "web", "--title", "a 世界 \u{202e}title"]);
    daemon.idle("web");
    daemon.ok(&["send", "web", "printf 'x\\033[2J\\033]0;evil\\007\\302\\233y 世界\\n'"]);
    for (columns, rows) in [(200, 50), (40, 10), (20, 5), (2, 2)] {
        let mut screen = Screen::new(&daemon, &["attach", "web"], columns, rows);
        until("it drives", || (daemon.show("web").clients.len() == 1).then_some(()));
        if columns > 10 {
            screen.sees("世界");
        }
        let text = screen.text();
        assert!(!text.contains('\u{202e}') && !text.contains('\u{9b}'), "{text}");
        screen.types("\u{1b}OPx\u{15}");
        screen.types(DETACH);
        assert_eq!(screen.ends(), (Some(0), false), "{columns}x{rows}");
        until("nobody is there", || daemon.show("web").clients.is_empty().then_some(()));
    }
    let ascii = format!("LANG=C exec {}", words(&daemon, &["attach", "web"]));
    let mut screen = Screen::shell(&daemon, &ascii, 80, 24);
    let text = screen.sees("y ? ?");
    assert!(text.is_ascii(), "{text}");
    screen.types(DETACH);
    assert_eq!(screen.ends(), (Some(0), false));
    // A terminal that reports no size, and one that reports the largest.
    for size in ["cols 0 rows 0", "cols 65535 rows 65535"] {
        let line = format!("stty {size}; exec {}", words(&daemon, &["attach", "web"]));
        let mut screen = Screen::shell(&daemon, &line, 80, 24);
        until("it drives", || (daemon.show("web").clients.len() == 1).then_some(()));
        screen.types(DETACH);
        assert_eq!(screen.ends(), (Some(0), false), "{size}");
        until("nobody is there", || daemon.show("web").clients.is_empty().then_some(()));
    }
}

#[test]
fn plain_and_dumb_terminals_get_lines() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--name", "web"]);
    daemon.idle("web");
    for line in [
        format!("exec {}", words(&daemon, &["attach", "--plain", "web"])),
        format!("TERM=dumb exec {}", words(&daemon, &["attach", "web"])),
    ] {
        let mut screen = Screen::shell(&daemon, &line, 100, 30);
        screen.sees("attached to web (session-1), idle; Ctrl-P Ctrl-Q detaches");
        screen.types(DETACH);
        let text = screen.sees("detached; web (session-1) goes on");
        assert!(!text.contains("you drive"), "{text}");
        assert_eq!(screen.ends(), (Some(0), false));
    }
}

#[test]
fn ctrl_z_gives_the_shell_its_terminal_and_fg_comes_back() {
    let daemon = Daemon::new();
    daemon.ok(&["start", "--name", "web"]);
    daemon.idle("web");
    let mut screen = Screen::shell(&daemon, "exec bash --norc -i", 100, 30);
    screen.types("echo rea''dy\n");
    screen.sees("ready");
    screen.types(&format!("{}\n", words(&daemon, &["attach", "web"])));
    screen.sees("you drive");
    screen.types("half a line\u{1a}");
    screen.sees("topped");
    screen.types("echo at the sh''ell\n");
    screen.sees("at the shell");
    screen.types("fg\n");
    screen.sees("> half a line");
    screen.types("\u{15}echo ba''ck\r");
    screen.sees("\nback");
    screen.types(DETACH);
    screen.sees("detached; web");
    screen.types("exit\n");
    assert_eq!(screen.ends(), (Some(0), false));
    assert!(!prompts(&daemon).iter().any(|text| text.contains("half")));
}

#[test]
fn without_an_id_it_is_the_session_of_the_directory_or_else_the_newest() {
    let daemon = Daemon::new();
    let elsewhere = daemon.dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let place = elsewhere.to_str().unwrap();
    daemon.ok(&["start", "--name", "old", "--dir", place]);
    daemon.ok(&["start", "--name", "new", "--dir", place]);
    daemon.ok(&["send", "old", "echo one"]);
    daemon.ok(&["send", "new", "echo two"]);
    let mut screen = Screen::new(&daemon, &["attach"], 100, 30);
    let text = screen.sees("you drive");
    assert!(text.contains("new (session-2)"), "{text}");
    screen.sees("has no session");
    screen.types(DETACH);
    assert_eq!(screen.ends(), (Some(0), false));
    let own = daemon.ok(&["ensure"]);
    let mut screen = Screen::new(&daemon, &["attach"], 100, 30);
    let text = screen.sees("you drive");
    assert!(text.contains(own.trim()), "{text}");
    screen.types(DETACH);
    assert_eq!(screen.ends(), (Some(0), false));
}

#[test]
fn whoever_only_reads_takes_no_seat_and_sends_nothing() {
    let daemon = asking();
    let mut screen = Screen::new(&daemon, &["attach", "--read-only", "web"], 100, 30);
    screen.sees("nobody drives");
    screen.types("say never\r");
    screen.sees("what you type is not sent");
    screen.types("\u{15}\u{14}");
    screen.sees("`--read-only` changes nothing");
    screen.types("y\r");
    screen.sees("what you type is not sent");
    // The next line is handled after what was typed before it.
    daemon.ok(&["send", "web", "say heard"]);
    screen.sees("> say heard");
    let roles: Vec<Role> = daemon.show("web").clients.iter().map(|client| client.role).collect();
    assert_eq!(roles, [Role::Viewer]);
    screen.types(DETACH);
    assert_eq!(screen.ends(), (Some(0), false));
    assert_eq!(prompts(&daemon), ["say heard"]);
}

#[test]
fn a_prompt_that_was_interrupted_is_sent_again_or_given_up_by_a_key() {
    let daemon = asking();
    let mut screen = attached(&daemon, &["web"]);
    let crashes = |screen: &mut Screen, text: &str| {
        screen.types(&format!("say {text}; sleep 100s\r"));
        screen.sees(&format!("\n{text}\n"));
        kill(daemon.show("web").pid.unwrap());
        screen.sees(&format!("was interrupted: say {text}; sleep 100s   (Ctrl-R)"));
        screen.sees("  needs you  ");
    };
    crashes(&mut screen, "first");
    // Also whoever comes later sees it, and whoever only looks on is offered nothing.
    let mut later = Screen::new(&daemon, &["attach", "--read-only", "web"], 100, 30);
    let text = later.sees("was interrupted: say first; sleep 100s");
    assert!(!text.contains("(Ctrl-R)"), "{text}");
    later.types("\u{12}");
    later.sees("for the one who drives");
    // Any other key leaves it as it is.
    screen.types("\u{12}");
    screen.sees("r sends prompt-");
    screen.types("\u{12}");
    screen.loses("r sends prompt-");
    screen.types("\u{12}d");
    screen.loses("was interrupted");
    later.loses("was interrupted");
    crashes(&mut screen, "second");
    screen.types("\u{12}r");
    screen.loses("was interrupted");
    until("it runs again", || (daemon.show("web").status == Status::Running).then_some(()));
    let texts = prompts(&daemon);
    assert_eq!(texts, ["say first; sleep 100s", "say second; sleep 100s", "say second; sleep 100s"]);
    screen.types("\u{12}");
    screen.sees("no prompt was interrupted");
}

#[test]
fn what_was_typed_and_not_sent_is_printed_when_the_screen_ends() {
    let daemon = asking();
    let draft = "dra\u{a}ft";
    let shown = "this was typed and not sent:\ndra\nft\n";
    // By the person, by a removal, by the daemon's end.
    for end in [None, Some("rm --force web"), Some("daemon stop")] {
        if end == Some("daemon stop") {
            daemon.ok(&["start", "--name", "web", "--agent", "x"]);
        }
        let mut screen = attached(&daemon, &["web"]);
        screen.types(draft);
        screen.sees("> dra\n  ft");
        if let Some(line) = end {
            daemon.ok(&line.split(' ').collect::<Vec<_>>());
            // Whoever is typing goes on typing here, and not in the shell.
            screen.sees(": Ctrl-P Ctrl-Q leaves");
            screen.types("\r");
            screen.sees("your text is printed when you leave");
        }
        screen.types(DETACH);
        screen.until("the draft", |text| format!("{text}\n").contains(shown));
        screen.ends();
    }
}
