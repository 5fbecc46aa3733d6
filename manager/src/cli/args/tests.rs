//! The definition of the command line, and its examples.

use std::time::Duration;

use clap::CommandFactory;
use clap::error::ErrorKind;
use protocol::api::{OnCrash, Orphans, RestartType, WhenBusy};

use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

/// Every command, those below others too, with its whole name.
fn commands(command: clap::Command, name: &str) -> Vec<(String, clap::Command)> {
    let below = command.get_subcommands().filter(|below| below.get_name() != "help").cloned();
    let below: Vec<_> = below
        .flat_map(|below| {
            let name = format!("{name} {}", below.get_name());
            commands(below, &name)
        })
        .collect();
    if below.is_empty() { vec![(name.to_owned(), command)] } else { below }
}

#[test]
fn every_command_has_an_example_that_parses() {
    for (name, command) in commands(Cli::command(), "kennel") {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let mut examples = 0;
        for line in help.lines().filter_map(|line| line.strip_prefix("  ")) {
            assert!(line.starts_with(&name), "{name}: {line}");
            // Words as a shell would make them, without what the shell keeps for itself.
            let words = line.split("  ").next().unwrap().split(['|', '<', '>']).next().unwrap();
            let words = words.replace("'make test'", "x").replace("'make check'", "x");
            let parsed = Cli::try_parse_from(words.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            examples += 1;
        }
        assert!(examples > 0, "{name} has no example");
    }
}

#[test]
fn zero_is_no_limit_of_prune_and_the_words_for_all_and_for_none_are_told() {
    for line in ["--older-than 0", "--older-than 0s", "--max-size 0", "--max-size 0B"] {
        let said = parse(&format!("kennel prune {line}")).unwrap_err().to_string();
        assert!(
            said.contains("write --all to remove all") && said.contains("leave the option out"),
            "{said}"
        );
    }
    let said = parse("kennel prune --max-size 15M").unwrap_err().to_string();
    assert!(said.contains("16M or more"), "{said}");
    assert!(parse("kennel prune --max-size 16M --older-than 1m").is_ok());
    assert!(
        parse("kennel prune --all --dry-run").is_ok() && parse("kennel prune --all --max-size 16M").is_err()
    );
}

#[test]
fn options_become_what_they_say() {
    let Ok(Command::Start(start)) = parse(
        "kennel start --env A=b=c --env D= --period 1m30s --hibernate-after 0 --restart permanent --on-crash retry",
    ) else {
        panic!()
    };
    assert_eq!(start.options.env, [("A".into(), "b=c".into()), ("D".into(), "".into())]);
    assert_eq!(start.options.period, Some(Duration::from_secs(90)));
    assert_eq!(start.options.hibernate_after, Some(Duration::ZERO));
    assert_eq!(start.options.restart, Some(RestartType::Permanent));
    assert_eq!(start.options.on_crash, Some(OnCrash::Retry));
    let Ok(Command::Send(send)) = parse("kennel send s --when-busy interrupt a b --no-wait c") else {
        panic!()
    };
    assert_eq!(
        (send.text.join(" "), send.no_wait, send.when_busy),
        ("a b c".into(), true, WhenBusy::Interrupt)
    );
    let Ok(Command::Stop(stop)) = parse("kennel stop a b --orphans keep") else { panic!() };
    assert_eq!((stop.ids.len(), stop.orphans), (2, Orphans::Keep));
}

#[test]
fn a_size_is_taken_as_docker_and_systemd_take_it() {
    for (size, bytes) in
        [("2G", 2 << 30), ("512m", 512 << 20), ("2GiB", 2 << 30), ("2GB", 2 << 30), ("64K", 64 << 10)]
    {
        let Ok(Command::Start(start)) = parse(&format!("kennel start --memory {size}")) else {
            panic!("{size}")
        };
        assert_eq!(start.options.memory, Some(bytes), "{size}");
    }
    assert!(parse("kennel start --memory 2X").is_err() && parse("kennel start --memory G").is_err());
}

#[test]
fn a_limit_may_be_never_and_a_time_to_wait_has_its_bound_in_days() {
    let Ok(Command::Start(start)) = parse("kennel start --turn-timeout never --hibernate-after never") else {
        panic!()
    };
    assert_eq!(start.options.turn_timeout, Some(Duration::ZERO));
    assert_eq!(start.options.hibernate_after, Some(Duration::ZERO));
    for line in [
        "kennel wait s --timeout 400d",
        "kennel ensure --timeout 400d",
        "kennel subagent wait s --timeout 400d",
    ] {
        let said = parse(line).unwrap_err().to_string();
        assert!(said.contains("--timeout") && said.contains("at most 365 days"), "{said}");
    }
    assert!(parse("kennel wait s --timeout 365d").is_ok());
}

#[test]
fn a_negative_number_is_answered_with_the_flag_and_its_bounds() {
    for (line, flag, words) in [
        ("kennel start --nice -1", "--nice", "0 to 19"),
        ("kennel start --cpus -1", "--cpus", "between 0.01 and 1000"),
        ("kennel start --intensity -1", "--intensity", "at most 1000"),
        ("kennel start --pids 99999999999", "--pids", "between 8 and"),
        ("kennel logs s -n -1", "--tail", "0 to 100000"),
        ("kennel events --after -1", "--after", "0 = from the beginning"),
        ("kennel start --memory 99999999999999999999T", "--memory", "too large"),
    ] {
        let said = parse(line).unwrap_err().to_string();
        assert!(said.contains(flag) && said.contains(words), "{line}: {said}");
    }
}

#[test]
fn nonsense_is_refused() {
    for (line, kind) in [
        ("kennel", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("kennel strat", ErrorKind::InvalidSubcommand),
        ("kennel start --env A", ErrorKind::ValueValidation),
        ("kennel start --env =b", ErrorKind::ValueValidation),
        ("kennel start --id a/b", ErrorKind::ValueValidation),
        ("kennel start --id ..", ErrorKind::ValueValidation),
        ("kennel start --period 5", ErrorKind::ValueValidation),
        ("kennel start --restart sometimes", ErrorKind::InvalidValue),
        ("kennel stop", ErrorKind::MissingRequiredArgument),
        ("kennel stop a --all", ErrorKind::ArgumentConflict),
        ("kennel prune --max-size 5", ErrorKind::ValueValidation),
        ("kennel prune --dry-run --force", ErrorKind::ArgumentConflict),
        ("kennel resolve prompt-1", ErrorKind::MissingRequiredArgument),
        ("kennel resolve prompt-1 --retry --drop", ErrorKind::ArgumentConflict),
        ("kennel resolve 1 --drop", ErrorKind::ValueValidation),
        ("kennel wait s --until bored", ErrorKind::InvalidValue),
        ("kennel id --dir . --pid 1", ErrorKind::ArgumentConflict),
    ] {
        assert_eq!(parse(line).map(|_| ()).unwrap_err().kind(), kind, "{line}");
    }
}

/// Their flags are found by the error code of the option.
#[test]
fn every_number_has_a_flag_with_the_name_in_its_error_code() {
    for number in crate::core::options::NUMBERS {
        assert!(Options::refused(number.code).is_some(), "{}", number.code);
    }
    assert_eq!(Options::refused("invalid_hibernate_after").unwrap(), "--hibernate-after");
    assert_eq!(Options::refused("invalid_env").unwrap(), "--env");
    for other in ["invalid_umask", "invalid_body", "no_such_agent"] {
        assert_eq!(Options::refused(other), None);
    }
}
