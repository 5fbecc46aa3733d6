//! Tests of what sessions are resolved to, from options, profiles and defaults.

use std::os::unix::fs::PermissionsExt;

use protocol::Containment;
use protocol::api::{OnCrash, PermissionPolicy, RestartType, SessionOpts};
use protocol::wire::{Agent, PromptVia};

use super::agents::find_program;
use super::*;
use crate::core::options::{Below, NUMBERS};
use crate::core::{Permissions, RestartPolicy, Subagents};

pub(super) fn config(text: &str) -> Config {
    file::parse(Path::new("/etc/kennel/config.toml"), text).unwrap()
}

pub(super) fn around(path: &str) -> Surroundings {
    Surroundings { path: Some(path.into()), home: Some("/".into()), runtime: None }
}

pub(super) fn resolve(text: &str, opts: SessionOpts) -> Result<Spec, Error> {
    config(text).resolve_within(&opts, &around("/usr/bin:/bin"))
}

pub(super) fn agent(name: &str) -> SessionOpts {
    SessionOpts { agent: Some(name.into()), ..Default::default() }
}

/// A directory with these programs in it.
pub(super) fn programs(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

#[test]
fn without_a_file_a_session_is_a_shell_in_the_home_directory() {
    let spec = resolve("", SessionOpts::default()).unwrap();
    let expected = Spec {
        agent_name: "shell".into(),
        agent: Agent::Shell,
        program: None,
        name: None,
        labels: Default::default(),
        title: None,
        model: None,
        workdir: "/".into(),
        start_commit: None,
        forked_from: None,
        conversation: None,
        env: BTreeMap::new(),
        env_pass: Vec::new(),
        env_named: Vec::new(),
        restart: RestartPolicy { kind: RestartType::Transient, intensity: 5, period_ms: 60_000 },
        on_crash: OnCrash::Interrupt,
        hibernate_after_ms: 4 * 3_600_000,
        grace_ms: 2000,
        worker_timeout_ms: 30_000,
        start_timeout_ms: None,
        turn_timeout_ms: 0,
        stall_timeout_ms: None,
        limits: protocol::Limits::default(),
        umask: None,
        permissions: Permissions::default(),
        remote_servers: Vec::new(),
        containment: Containment::Auto,
        walls: None,
        offers: Vec::new(),
        subagents: Subagents { offered: true, depth: 3, breadth: 8, total: 32 },
    };
    assert_eq!(spec, expected);
}

#[test]
fn three_lines_make_an_agent_of_any_program() {
    let dir = programs(&["claude", "codex", "llm", "ollama"]);
    let path = dir.path().to_str().unwrap();
    for (name, command, args) in [
        ("claude", "[\"claude\", \"-p\"]", &["-p"][..]),
        ("codex", "[\"codex\", \"exec\"]", &["exec"]),
        ("llm", "[\"llm\"]", &[]),
        ("ollama", "[\"ollama\", \"run\", \"llama3.2\"]", &["run", "llama3.2"]),
    ] {
        let config = config(&format!("[agents.{name}]\nkind = \"command\"\ncommand = {command}"));
        let spec = config.resolve_within(&agent(name), &around(path)).unwrap();
        let mut argv = vec![format!("{path}/{name}")];
        argv.extend(args.iter().map(|word| (*word).to_owned()));
        let expected = Agent::Command { argv, prompt_via: PromptVia::Stdin, transcript: false };
        assert_eq!(spec.agent, expected);
    }
}

#[test]
fn options_come_before_the_profile_and_the_profile_before_the_defaults() {
    let text = r#"
        [defaults]
        agent = "mine"
        hibernate_after = "1h"
        intensity = 9
        period = "2m"
        restart = "permanent"
        grace = "5s"
        on_crash = "retry"
        env_pass = ["B", "A"]
        [agents.mine]
        kind = "command"
        command = ["sh"]
        prompt_via = "argument"
        context = "transcript"
        on_crash = "interrupt"
        model = "small"
        env = { ONE = "profile", TWO = "profile" }
        env_pass = ["C", "A"]
    "#;
    let spec = resolve(text, SessionOpts::default()).unwrap();
    assert_eq!((spec.agent_name.as_str(), spec.model.as_deref()), ("mine", Some("small")));
    assert_eq!(spec.on_crash, OnCrash::Interrupt);
    assert_eq!((spec.hibernate_after_ms, spec.grace_ms), (3_600_000, 5000));
    let restart = RestartPolicy { kind: RestartType::Permanent, intensity: 9, period_ms: 120_000 };
    assert_eq!(spec.restart, restart);
    assert_eq!(spec.env_pass, ["A", "B", "C"]);
    assert!(matches!(&spec.agent, Agent::Command { prompt_via: PromptVia::Argument, transcript: true, .. }));

    let opts = SessionOpts {
        on_crash: Some(OnCrash::Retry),
        model: Some("large".into()),
        hibernate_after_ms: Some(0),
        intensity: Some(0),
        env: [("ONE".into(), "own".into())].into(),
        ..Default::default()
    };
    let spec = resolve(text, opts).unwrap();
    assert_eq!((spec.on_crash, spec.model.as_deref()), (OnCrash::Retry, Some("large")));
    assert_eq!((spec.hibernate_after_ms, spec.restart.intensity), (0, 0));
    assert_eq!(spec.env, [("ONE".into(), "own".into()), ("TWO".into(), "profile".into())].into());
    assert_eq!(resolve(text, agent("shell")).unwrap().on_crash, OnCrash::Retry);
}

#[test]
fn the_model_is_filled_in_where_the_command_asks_for_it() {
    let text = "[agents.o]\nkind = \"command\"\ncommand = [\"sh\", \"run\", \"--model={model}\"]";
    let error = resolve(text, agent("o")).unwrap_err();
    assert_eq!(error.code(), "model_required");
    let spec = resolve(text, SessionOpts { model: Some("llama3.2:1b".into()), ..agent("o") }).unwrap();
    let Agent::Command { argv, .. } = spec.agent else { panic!("a shell") };
    assert_eq!(argv[1..], ["run", "--model=llama3.2:1b"]);
    // Where it does not ask, the agent's environment says it.
    let spec = resolve("", SessionOpts { model: Some("small".into()), ..Default::default() }).unwrap();
    assert!(agent_env(&spec).contains(&("KENNEL_MODEL".into(), "small".into())));
}

#[test]
fn programs_are_found_on_absolute_entries_of_the_path_only() {
    let (first, second) = (programs(&["other"]), programs(&["tool"]));
    std::fs::write(first.path().join("tool"), "not executable").unwrap();
    std::fs::create_dir(first.path().join("dir")).unwrap();
    let third = programs(&["by-relative-entry"]);
    let up = "../".repeat(std::env::current_dir().unwrap().components().count());
    let relative = format!("{up}.{}", third.path().display());
    assert!(Path::new(&relative).join("by-relative-entry").exists());
    let path = format!("{relative}:{}::{}", first.path().display(), second.path().display());
    let find = |program: &str| find_program(program, Some(path.clone().into()));
    let expected = second.path().join("tool");
    assert_eq!(find("tool").as_deref(), expected.to_str());
    assert_eq!(find(expected.to_str().unwrap()).as_deref(), expected.to_str());
    for absent in ["by-relative-entry", "dir", "no-such-program", "/etc/passwd", "/no/such/program"] {
        assert_eq!(find(absent), None, "{absent}");
    }
    assert_eq!(find_program("tool", None), None);
}

#[test]
fn a_profiles_own_path_is_where_its_program_is_looked_for() {
    let dir = programs(&["only-there"]);
    let path = dir.path().display();
    let text = format!(
        "[agents.x]\nkind = \"command\"\ncommand = [\"only-there\"]\nenv = {{ PATH = \"{path}:/bin\" }}"
    );
    assert!(resolve(&text, agent("x")).is_ok());
}

#[test]
fn an_agent_whose_program_is_missing_says_where_it_is_named() {
    let text = "[agents.claude]\nkind = \"command\"\ncommand = [\"no-such-claude\", \"-p\"]";
    let error = resolve(text, agent("claude")).unwrap_err();
    assert_eq!(error.code(), "agent_not_found");
    assert!(error.to_string().contains("`no-such-claude`"), "{error}");
    assert!(error.hint().unwrap().contains("/etc/kennel/config.toml:3"), "{:?}", error.hint());
}

#[test]
fn an_unknown_agent_is_answered_with_the_known_and_the_nearest() {
    let text = "[agents.claude]\nkind = \"shell\"\n[agents.codex]\nkind = \"shell\"";
    let error = resolve(text, agent("cluade")).unwrap_err();
    assert_eq!(error.code(), "no_such_agent");
    assert!(
        error.to_string().starts_with("no such agent `cluade`; there are `claude`, `codex`, `copilot`, ")
    );
    assert_eq!(error.hint().as_deref(), Some("did you mean `claude`?"));
    let error = resolve(text, agent("\u{1b}[31mnobody")).unwrap_err();
    assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
    assert!(error.hint().unwrap().contains("/etc/kennel/config.toml"));
    assert!(resolve(text, agent(&"x".repeat(1_000_000))).unwrap_err().to_string().len() < 400);
}

#[test]
fn a_working_directory_must_be_absolute_and_a_directory_and_loses_its_symlinks() {
    let dir = tempfile::tempdir().unwrap();
    let root = std::fs::canonicalize(dir.path()).unwrap();
    std::fs::create_dir(root.join("real")).unwrap();
    std::fs::write(root.join("file"), "").unwrap();
    std::os::unix::fs::symlink("real", root.join("link")).unwrap();
    let at = |path: &str| {
        let workdir = Some(root.join(path).to_str().unwrap().to_owned());
        resolve("", SessionOpts { workdir, ..Default::default() }).map(|spec| spec.workdir)
    };
    assert_eq!(at("link/").unwrap(), root.join("real").to_str().unwrap());
    assert_eq!(at("link/../real/.").unwrap(), root.join("real").to_str().unwrap());
    for (path, code) in [
        ("missing", "no_such_workdir"),
        ("missing/..", "no_such_workdir"),
        ("a\0b", "no_such_workdir"),
        ("file", "workdir_not_a_directory"),
        ("file/below", "workdir_not_a_directory"),
    ] {
        let error = at(path).unwrap_err();
        assert_eq!(error.code(), code, "{path}");
        assert!(error.hint().is_some());
    }
    for relative in ["", ".", "src", "~/x"] {
        let opts = SessionOpts { workdir: Some(relative.into()), ..Default::default() };
        assert_eq!(resolve("", opts).unwrap_err().code(), "workdir_not_absolute");
    }
    let odd = root.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff"));
    std::fs::create_dir(&odd).unwrap();
    std::os::unix::fs::symlink(&odd, root.join("to-odd")).unwrap();
    assert_eq!(at("to-odd").unwrap_err().code(), "workdir_not_utf8");
}

#[test]
fn options_out_of_bounds_are_refused() {
    let own = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    let opts = SessionOpts::default;
    let cases = [
        ("invalid_title", SessionOpts { title: Some("x".repeat(201)), ..opts() }),
        ("invalid_title", SessionOpts { title: Some("a\nb".into()), ..opts() }),
        ("invalid_model", SessionOpts { model: Some("".into()), ..opts() }),
        ("invalid_model", SessionOpts { model: Some("a b".into()), ..opts() }),
        ("invalid_model", SessionOpts { model: Some("--help".into()), ..opts() }),
        ("invalid_model", SessionOpts { model: Some("x".repeat(201)), ..opts() }),
        ("invalid_intensity", SessionOpts { intensity: Some(1001), ..opts() }),
        ("invalid_period", SessionOpts { period_ms: Some(999), ..opts() }),
        ("invalid_period", SessionOpts { period_ms: Some(86_400_001), ..opts() }),
        ("invalid_hibernate_after", SessionOpts { hibernate_after_ms: Some(u64::MAX), ..opts() }),
        ("invalid_grace", SessionOpts { grace_ms: Some(600_001), ..opts() }),
        ("invalid_turn_timeout", SessionOpts { turn_timeout_ms: Some(u64::MAX), ..opts() }),
        ("invalid_nice", SessionOpts { nice: Some(20), ..opts() }),
        ("invalid_nofile", SessionOpts { nofile: Some(31), ..opts() }),
        ("invalid_nofile", SessionOpts { nofile: Some(1_048_577), ..opts() }),
        ("invalid_memory", SessionOpts { memory_bytes: Some((8 << 20) - 1), ..opts() }),
        ("invalid_memory", SessionOpts { memory_bytes: Some(u64::MAX), ..opts() }),
        ("invalid_pids", SessionOpts { pids: Some(7), ..opts() }),
        ("invalid_pids", SessionOpts { pids: Some(u32::MAX), ..opts() }),
        ("invalid_cpus", SessionOpts { milli_cpus: Some(9), ..opts() }),
        ("invalid_cpus", SessionOpts { milli_cpus: Some(1_000_001), ..opts() }),
        ("invalid_env", SessionOpts { env: own("", "x"), ..opts() }),
        ("invalid_env", SessionOpts { env: own("1A", "x"), ..opts() }),
        ("invalid_env", SessionOpts { env: own("A=B", "x"), ..opts() }),
        ("invalid_env", SessionOpts { env: own("A", "x\0y"), ..opts() }),
        ("invalid_env", SessionOpts { env: own("KENNEL_SESSION", "x"), ..opts() }),
        ("invalid_env", SessionOpts { env: own("A", &"x".repeat(bounds::ENV_BYTES)), ..opts() }),
    ];
    for (code, opts) in cases {
        let error = resolve("", opts.clone()).unwrap_err();
        assert_eq!(error.code(), code, "{opts:?}");
        // The field as the client wrote it.
        let given = serde_json::to_value(&opts).unwrap();
        let given = given.as_object().unwrap();
        let field = given.keys().find(|key| !given[*key].is_null()).unwrap();
        let said = error.to_string();
        assert!(
            said.starts_with(&format!("`{field}`: ")) && said.ends_with("; nothing was started"),
            "{said}"
        );
    }
    let widest = SessionOpts {
        title: Some("ü".repeat(200)),
        model: Some("gpt-5/large:latest".into()),
        intensity: Some(1000),
        period_ms: Some(86_400_000),
        hibernate_after_ms: Some(365 * 86_400_000),
        grace_ms: Some(600_000),
        turn_timeout_ms: Some(365 * 86_400_000),
        nice: Some(19),
        nofile: Some(32),
        memory_bytes: Some(8 << 20),
        pids: Some(8),
        milli_cpus: Some(10),
        env: own("_a1", ""),
        ..opts()
    };
    assert!(resolve("", widest).is_ok());
}

/// Each row reads the field that it names, and knows its place in the spec.
#[test]
fn the_row_of_a_number_finds_it_in_the_options_and_in_the_spec() {
    let default = resolve("", SessionOpts::default()).unwrap();
    for number in NUMBERS {
        let name = number.name;
        let opts = |value: u64| -> SessionOpts {
            serde_json::from_value(serde_json::json!({ name: value })).unwrap()
        };
        let most = *number.bounds.end();
        let error = resolve("", opts(most + 1)).unwrap_err();
        assert_eq!(
            (error.code(), error.to_string()),
            (number.code, format!("`{name}`: {}; nothing was started", number.wrong))
        );
        let spec = resolve("", opts(most)).unwrap();
        assert_eq!((number.held)(&spec), Some(most), "{name}");
        assert!(spec.differs_from(&opts(most)).is_empty(), "{name}");
        assert_eq!(default.differs_from(&opts(most)), [name]);
        if let Below::AtMost(copy) | Below::AtLeast(copy) = number.below {
            let mut child = default.clone();
            assert_eq!(child.weaker_than(&spec).iter().filter(|weaker| **weaker == name).count(), 1);
            copy(&mut child, &spec);
            assert_eq!(child, spec, "{name}");
        }
    }
}

#[test]
fn an_agent_that_is_known_needs_no_profile_and_takes_one() {
    let dir = programs(&["codex-acp", "other"]);
    let path = dir.path().to_str().unwrap();
    let given = SessionOpts { env: [("PATH".to_owned(), path.to_owned())].into(), ..agent("codex") };
    let spec = resolve("", given.clone()).unwrap();
    let argv = vec![format!("{path}/codex-acp")];
    let expected = Agent::Acp { argv: argv.clone(), login: None, mcp_servers: Vec::new() };
    assert_eq!((&spec.agent, spec.permissions.policy), (&expected, PermissionPolicy::Park));
    assert!(spec.env_pass.contains(&"OPENAI_API_KEY".to_owned()));
    let text = "[agents.codex]\nkind = \"acp\"\nlogin = \"key\"\npermissions = \"deny\"\npermission_timeout = \"5m\"\nstart_timeout = \"3m\"\n\
        rules = [{ kind = \"read\", then = \"allow\" }]\n[agents.codex.mcp.docs]\ncommand = [\"other\", \"-x\"]\nenv = { A = \"1\" }";
    let spec = resolve(text, given.clone()).unwrap();
    let server = McpServer {
        name: "docs".into(),
        command: format!("{path}/other"),
        args: vec!["-x".into()],
        env: vec![("A".into(), "1".into())],
    };
    assert_eq!(spec.agent, Agent::Acp { argv, login: Some("key".into()), mcp_servers: vec![server] });
    assert_eq!((spec.permissions.policy, spec.permissions.timeout_ms), (PermissionPolicy::Deny, 300_000));
    assert_eq!((spec.permissions.rules.len(), spec.start_ms()), (1, 180_000));
    let missing = resolve("", SessionOpts { agent: Some("goose".into()), ..given }).unwrap_err();
    assert_eq!(missing.code(), "agent_not_found");
    assert!(missing.hint().unwrap().contains("block.github.io/goose"), "{:?}", missing.hint());
}

#[test]
fn a_profile_extends_the_agent_that_it_names_or_runs() {
    let dir = programs(&["codex-acp", "copilot", "gemini"]);
    let path = dir.path().to_str().unwrap();
    let given =
        |name: &str| SessionOpts { env: [("PATH".to_owned(), path.to_owned())].into(), ..agent(name) };
    let argv = |spec: &Spec| match &spec.agent {
        Agent::Acp { argv, .. } => argv.clone(),
        other => panic!("{other:?}"),
    };
    let text = "[defaults]\nagent = \"copilot\"\n[agents.codex]\npermissions = \"allow\"\nenv_pass = [\"MINE\"]\n\
        [agents.gemini]\nkind = \"acp\"\ncommand = [\"gemini\"]\n\
        [agents.work]\nkind = \"acp\"\ncommand = [\"copilot\"]\n\
        [agents.own]\nkind = \"acp\"\ncommand = [\"copilot\", \"--other\"]";
    let codex = resolve(text, given("codex")).unwrap();
    assert_eq!(
        (argv(&codex), codex.permissions.policy),
        (vec![format!("{path}/codex-acp")], PermissionPolicy::Allow)
    );
    for name in ["MINE", "OPENAI_API_KEY"] {
        assert!(codex.env_pass.contains(&name.to_owned()), "{:?}", codex.env_pass);
    }
    let known = |name| super::built_in::named(name).unwrap();
    assert_eq!(argv(&resolve(text, given("gemini")).unwrap())[1..], known("gemini").argv[1..]);
    let work = resolve(text, given("work")).unwrap();
    assert_eq!(argv(&work)[1..], known("copilot").argv[1..]);
    assert!(work.env_pass.contains(&"GH_TOKEN".to_owned()));
    // What is written is what is run.
    assert_eq!(argv(&resolve(text, given("own")).unwrap())[1..], ["--other"]);
    let usual = SessionOpts { agent: None, ..given("") };
    assert_eq!(resolve(text, usual).unwrap().agent_name, "copilot");
    let config = super::file::parse(Path::new("/c.toml"), text).unwrap();
    for info in
        config.agents().iter().filter(|info| ["codex", "gemini", "work", "own"].contains(&&*info.name))
    {
        assert!(info.login.is_some() && info.install.is_some() && !info.built_in, "{info:?}");
    }
}

#[test]
fn retention_is_by_age_and_size_and_none_where_none_is_written() {
    assert_eq!(config("").retention(), Retention::default());
    let written = config("[retention]\nmax_age = \"90d\"\nmax_size = \"2GiB\"").retention();
    let hour = 3_600_000;
    let expected = Retention { max_age_ms: Some(90 * 86_400_000), max_bytes: Some(2 << 30), every_ms: hour };
    assert_eq!(written, expected);
    let often = config("[retention]\nmax_age = \"90d\"\nevery = \"2s\"").retention();
    assert_eq!(often, Retention { every_ms: 2_000, max_bytes: None, ..expected });
    let unbounded = "[retention]\nmax_age = \"never\"\nmax_size = \"0B\"";
    assert_eq!(config(unbounded).retention(), Retention::default());
    for (wrong, line) in [
        ("[retention]\nmax_age = \"1s\"", 2),
        ("[retention]\n\nmax_age = 90", 3),
        ("[retention]\nmax_size = \"1MiB\"", 2),
        ("[retention]\nmax_size = \"2\"", 2),
        ("[retention]\nmax_size = 2", 2),
        ("[retention]\nage = \"90d\"", 2),
        ("[retention]\nevery = \"900ms\"", 2),
        ("[retention]\nevery = \"never\"", 2),
        ("[retention]\nevery = \"25h\"", 2),
    ] {
        let error = file::parse(Path::new("/etc/kennel/config.toml"), wrong).unwrap_err();
        assert!(error.to_string().starts_with(&format!("/etc/kennel/config.toml:{line}: ")), "{error}");
    }
}

#[test]
fn what_a_profile_bounds_is_bound_in_its_sessions_unless_they_say_otherwise() {
    let text = "[agents.bounded]\nkind = \"shell\"\nmemory = \"64MiB\"\npids = 33\ncpus = 1.5\nnice = 7\nnofile = 444\n\
                turn_timeout = \"55s\"\nstall_timeout = \"3m\"\nworker_timeout = \"9s\"\n";
    let spec = resolve(text, agent("bounded")).unwrap();
    let limits = protocol::Limits {
        nice: Some(7),
        nofile: Some(444),
        memory_bytes: Some(64 << 20),
        pids: Some(33),
        milli_cpus: Some(1_500),
    };
    assert_eq!(spec.limits, limits);
    assert_eq!(
        (spec.turn_timeout_ms, spec.stall_timeout_ms, spec.worker_timeout_ms),
        (55_000, Some(180_000), 9_000)
    );
    let opts = SessionOpts { pids: Some(44), turn_timeout_ms: Some(66_000), ..agent("bounded") };
    let spec = resolve(text, opts).unwrap();
    assert_eq!(spec.limits, protocol::Limits { pids: Some(44), ..limits });
    assert_eq!(spec.turn_timeout_ms, 66_000);
}
