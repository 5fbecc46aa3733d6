//! Machines that say something else than kennel would.

use harness::daemon::{finish, finish_within};
use harness::far::Far;
use harness::real::{BOUND, lives, until};
use nix::sys::signal::Signal;

#[test]
fn start_files_may_print_and_are_passed_over() {
    let far = Far::new();
    let kept = far.kept();
    far.replace(&format!("printf 'Welcome to box\\nno newline '\n. {}", kept.display()));
    assert_eq!(far.ok(&["start"]), "session-1\n");
}

#[test]
fn what_is_not_kennel_is_an_error_and_never_a_hang() {
    let far = Far::new();
    for (script, says) in [
        ("exit 0", "ssh ended with 0"),
        ("echo hello; exit 0", "hello"),
        ("exec yes", "it says something else than kennel would"),
        ("echo 'kennel-connect 2 {}'; exec sleep 100", "in the way \"2\""),
        ("echo 'kennel-connect 1 []'; exec sleep 100", "it greets in an unknown way"),
        ("echo 'kennel-connect 1 x'; exec sleep 100", "it greets in an unknown way"),
        ("echo 'box: command not found' >&2; exit 127", "there is no kennel"),
        ("printf 'a\\033[2Jb\\n' >&2; exit 255", "a\\u{1b}[2Jb"),
        ("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1", "the end"),
        ("kill -9 $$", "signal 9"),
    ] {
        far.replace(script);
        let output = far.run(&["ls"]);
        assert_eq!(output.code, Some(6), "{script}: {output:#?}");
        assert!(output.stderr.contains(says), "{script}: {output:#?}");
        assert!(!output.stderr.contains('\u{1b}') && output.stderr.len() < 10_000, "{script}: {output:#?}");
        assert!(output.stderr.starts_with("error: ssh://box/"), "{script}: {output:#?}");
    }
}

#[test]
fn garbage_after_the_greeting_is_a_lost_connection() {
    let far = Far::new();
    let greeting = r#"kennel-connect 1 {"version":"9.9.9","home":"/","state_dir":"/"}"#;
    far.replace(&format!("echo '{greeting}'; exec cat /dev/urandom"));
    // Five connections with pauses of 1, 2, 4, 8 and 16 s between them.
    let output = finish_within(far.command(&["stop", "session-1"]).spawn().unwrap(), BOUND * 3);
    assert_eq!(output.code, Some(6), "{output:#?}");
    assert!(output.stderr.contains("over 5 connections it has answered nothing"), "{output:#?}");
    assert!(output.stderr.contains("it runs kennel 9.9.9"), "{output:#?}");
}

#[test]
fn nothing_is_left_of_a_command_that_ends_while_it_connects() {
    let far = Far::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL] {
        far.replace(&format!("echo $$ > {}; exec sleep 1000", far.home().join("ssh").display()));
        let mut command = far.command(&["ls"]).spawn().unwrap();
        let ssh: u32 =
            until("ssh", || std::fs::read_to_string(far.home().join("ssh")).ok()?.trim().parse().ok());
        harness::real::signal(command.id(), signal);
        command.wait().unwrap();
        until("the end of ssh", || (!lives(ssh)).then_some(()));
        std::fs::remove_file(far.home().join("ssh")).unwrap();
    }
}

#[test]
fn a_list_of_nonsense_is_an_unreachable_machine() {
    let far = Far::new();
    let run = |args: &[&str]| finish(far.bare(args).spawn().unwrap());
    run(&["host", "add", "evil", "ssh://box"]);
    far.replace("echo 'kennel-connect 1 {\"version\":\"1\",\"home\":\"/\",\"state_dir\":\"/\"}'; exec cat");
    let listed = run(&["ls", "--all-hosts"]);
    assert_eq!(listed.code, Some(0), "{listed:#?}");
    assert!(listed.stdout.contains("evil") && listed.stdout.contains("unreachable"), "{listed:#?}");
}

#[test]
fn an_address_is_never_an_option_of_ssh() {
    let far = Far::new();
    for host in [
        "ssh://-oProxyCommand=touch%20x",
        "ssh://%2DoProxyCommand=x/y",
        "ssh://-l@box",
        "ssh://a%0Ab",
        "ssh://",
        "tcp://box",
    ] {
        let output = finish(far.bare(&["-H", host, "ls"]).spawn().unwrap());
        assert_eq!(output.code, Some(2), "{host}: {output:#?}");
        let output = finish(far.bare(&["attach", host]).spawn().unwrap());
        assert_eq!(output.code, Some(2), "{host}: {output:#?}");
    }
    assert!(far.starts().is_empty());
}

#[test]
fn a_state_directory_is_one_word_of_the_machines_shell() {
    let far = Far::new();
    let name = "it's; touch pwned $(touch pwned) `touch pwned` \"x\"";
    let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let host = format!("ssh://box/~/{encoded}");
    let output = finish(far.bare(&["-H", &host, "start"]).spawn().unwrap());
    assert_eq!(output.code, Some(0), "{output:#?}");
    let found: Vec<String> = std::fs::read_dir(far.daemon.dir.path().join("home"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!found.contains(&"pwned".to_owned()), "{found:?}");
    assert_eq!(finish(far.bare(&["-H", &host, "daemon", "stop"]).spawn().unwrap()).code, Some(0));
}
