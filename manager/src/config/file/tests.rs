//! Tests of reading `config.toml`: complaints with their line, and what is accepted.

use super::super::bounds;
use super::super::port::Listen;
use super::*;

fn complaint(text: &str) -> String {
    match parse(Path::new("/c.toml"), text) {
        Err(error) => {
            assert_eq!(error.code(), "invalid_config", "{text}");
            assert!(error.hint().is_some());
            error.to_string()
        }
        Ok(config) => panic!("{text:?} was taken: {config:?}"),
    }
}

fn refused(text: &str, line: usize, words: &[&str]) {
    let said = complaint(text);
    assert!(said.starts_with(&format!("/c.toml:{line}: ")), "{text:?}\n{said}");
    for word in words {
        assert!(said.contains(word), "{text:?}\n{said}\nlacks {word:?}");
    }
    assert!(!said.contains(['\n', '\u{1b}']), "{said:?}");
}

#[test]
fn a_file_that_does_not_exist_is_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(&dir.path().join("config.toml")), Ok(None));
    assert_eq!(Config::load(&dir.path().join("config.toml")).unwrap().agents.len(), 0);
}

#[test]
fn files_that_are_no_text_are_refused_and_nobody_waits_for_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, b"[defaults]\n# \xff\n").unwrap();
    let said = Config::load(&path).unwrap_err().to_string();
    assert!(said.ends_with("config.toml:2: not UTF-8"), "{said}");
    assert_eq!(Config::load(dir.path()).unwrap_err().code(), "invalid_config");
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(Config::load(&pipe).unwrap_err().to_string().contains("it is a pipe"));
    std::fs::write(&path, "#".repeat(MAX_FILE as usize + 1)).unwrap();
    assert!(Config::load(&path).unwrap_err().to_string().contains("more than"));
}

#[test]
fn unknown_keys_are_refused_with_their_line() {
    refused("[defaults]\nagent = \"shell\"\nagents = 1\n", 3, &["agents", "hibernate_after"]);
    refused("\n[agent.x]\n", 2, &["no key `agent`; did you mean `agents`?"]);
    refused("[agents.x]\nkind = \"shell\"\ncomand = []\n", 3, &["comand", "`command`"]);
    refused("[agents.x]\nkind = \"shell\"\n\"\\u001b[31m\" = 1\n", 3, &["\\u{1b}"]);
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    refused("[defaults]\nagent\n", 2, &[]);
    refused("[agents.x]\nkind = \"shell\"\n[agents.x]\nkind = \"shell\"\n", 3, &[]);
}

#[test]
fn values_out_of_bounds_are_refused_with_their_line() {
    for (line, words) in [
        ("intensity = 1001", "1000"),
        ("intensity = -1", "1000"),
        ("period = \"0s\"", "1s"),
        ("period = \"25h\"", "24h"),
        ("hibernate_after = \"366d\"", "365 days"),
        ("hibernate_after = 4", "\"4h\""),
        ("hibernate_after = \"soon\"", "\"4h\""),
        ("grace = \"11min\"", "10m"),
        ("worker_timeout = \"0\"", "100ms"),
        ("umask = \"0888\"", "octal"),
        ("umask = 22", "octal digits in quotes"),
        ("restart = \"always\"", "`permanent`"),
        ("on_crash = \"panic\"", "`interrupt`"),
        ("agent = \"nobody\"", "[agents.NAME]"),
        ("env_pass = [\"A-B\"]", "A-B"),
        ("subagent_depth = 17", "at most 16"),
        ("subagent_depth = 5000000000", "at most 16"),
        ("subagent_breadth = 1001", "at most 1000"),
        ("subagent_total = -1", "at most 1000"),
        ("env_pass = [\"KENNEL_SESSION\"]", "KENNEL_SESSION"),
    ] {
        refused(&format!("\n[defaults]\n{line}\n"), 3, &[words]);
    }
    for (line, at, words) in [
        ("kind = \"acp\"", 3, "needs a `command`"),
        ("kind = \"acp\"\ncommand = [\"x\"]\ncontext = \"none\"", 5, "no `context`"),
        ("kind = \"acp\"\ncommand = [\"x\"]\npermissions = \"ask\"", 5, "`park`"),
        ("kind = \"acp\"\ncommand = [\"x\"]\nrules = [{ kind = \"read\" }]", 5, "then"),
        ("kind = \"acp\"\ncommand = [\"x\"]\nmcp.docs.command = [\"./x\"]", 5, "absolute"),
        (
            "kind = \"acp\"\ncommand = [\"x\"]\nsubagents = 3",
            5,
            "`subagents`: expected true or false; found 3",
        ),
        ("kind = \"shell\"\nsubagents = false", 4, "\"acp\""),
        ("kind = \"shell\"\nturn_timeout = \"366d\"", 4, "365 days"),
        ("kind = \"shell\"\nstall_timeout = \"25h\"", 4, "24h"),
        ("kind = \"shell\"\nworker_timeout = \"2h\"", 4, "1h"),
        ("kind = \"shell\"\nnice = 20", 4, "0 to 19"),
        ("kind = \"shell\"\nnofile = 31", 4, "between 32"),
        ("kind = \"shell\"\nmemory = \"2 dogs\"", 4, "512M, 2G"),
        ("kind = \"shell\"\nmemory = 2147483", 4, "between 8MiB"),
        ("kind = \"shell\"\nmemory = \"7MiB\"", 4, "between 8MiB"),
        ("kind = \"shell\"\nmemory = \"99999999999999TiB\"", 4, "512M"),
        ("kind = \"shell\"\npids = 7", 4, "between 8"),
        ("kind = \"shell\"\npids = 5000000000", 4, "between 8"),
        ("kind = \"shell\"\ncpus = 0.001", 4, "between 0.01"),
        ("kind = \"shell\"\ncpus = nan", 4, "between 0.01"),
        ("kind = \"shell\"\ncpus = -1", 4, "between 0.01"),
        ("kind = \"shell\"\ncontainment = \"cage\"", 4, "`pid_namespace`"),
        ("kind = \"shell\"\nsandbox = \"cage\"", 4, "`strict`"),
        ("kind = \"shell\"\nsandbox_hide = [\".ssh\"]", 4, "`~/`"),
        ("kind = \"shell\"\nsandbox_write = [\"~/../x\"]", 4, "`..`"),
        ("kind = \"shell\"\nsandbox_read = [\"x\"]", 4, "`~/`"),
        ("kind = \"shell\"\n[daemon]\ncgroup_root = \"sys/fs\"", 5, "absolute"),
        ("kind = \"shell\"\n[daemon]\ncgroup_root = \"/sys/../x\"", 5, "`none`"),
        ("kind = \"docker\"", 3, "`shell`"),
        ("kind = \"command\"", 3, "needs a `command`"),
        ("command = [\"x\"]", 2, "kind"),
        ("kind = \"shell\"\ncommand = [\"x\"]", 4, "no `command`"),
        ("kind = \"shell\"\ncontext = \"transcript\"", 4, "no `context`"),
        ("kind = \"command\"\ncommand = []", 4, "program"),
        ("kind = \"command\"\ncommand = [\"\"]", 4, "program"),
        ("kind = \"command\"\ncommand = [\"bin/agent\"]", 4, "absolute"),
        ("kind = \"command\"\ncommand = [\"~/agent\"]", 4, "absolute"),
        ("kind = \"command\"\ncommand = [\"x\", \"a\\u0000\"]", 4, "NUL"),
        ("kind = \"command\"\ncommand = \"claude -p\"", 4, "`command`: expected a list in brackets"),
        ("kind = \"shell\"\nmodel = \"--help\"", 4, "model"),
        ("kind = \"shell\"\nenv = { \"A=B\" = \"1\" }", 4, "A=B"),
        ("kind = \"shell\"\nenv = { A = \"\\u0000\" }", 4, "NUL"),
        ("kind = \"shell\"\nenv = { A = 1 }", 4, "`A`: expected a text in quotes"),
    ] {
        refused(&format!("\n[agents.x]\n{line}\n"), at, &[words]);
    }
    refused("[agents.\"../x\"]\nkind = \"shell\"\n", 1, &["name"]);
    let long = "x".repeat(bounds::ENV_BYTES);
    refused(&format!("[agents.x]\nkind = \"shell\"\nenv = {{ A = \"{long}\" }}\n"), 1, &["64 KiB"]);
}

#[test]
fn a_number_below_zero_is_answered_with_the_bounds() {
    refused("[daemon]\nspare_workers = -1\n", 2, &["spare_workers", "0 to 64"]);
    refused("[daemon]\nconnections = -1\n", 2, &["between 16 and 65536"]);
}

#[test]
fn keys_that_would_do_nothing_and_values_of_another_kind_are_refused_with_what_the_key_takes() {
    for (line, words) in [
        ("umask = \"22\"", "three or four octal digits in quotes, from \"000\" to \"0777\", like \"022\""),
        (
            "umask = 022",
            "`umask`: a number does not begin with 0; a umask is three or four octal digits in quotes",
        ),
        ("intensity = \"5\"", "`intensity`: expected a whole number without quotes, like 5; found \"5\""),
        ("restart = 1", "`restart`: expected \"permanent\", \"transient\" or \"temporary\"; found 1"),
    ] {
        refused(&format!("\n[defaults]\n{line}\n"), 3, &[words]);
    }
    for (line, at, words) in [
        (
            "kind = \"acp\"\ncommand = [\"x\"]\nrules = [{ kind = \"raed\", then = \"allow\" }]",
            5,
            "did you mean `read`?",
        ),
        ("kind = \"command\"\ncommand = [\"x\"]\nlogin = \"key\"", 5, "kind \"command\" has no `login`"),
        ("kind = \"shell\"\nlogin_command = [\"x\"]", 4, "kind \"shell\" has no `login_command`"),
        (
            "kind = \"command\"\ncommand = [\"x\"]\nmcp.docs.command = [\"/x\"]",
            5,
            "kind \"command\" has no `mcp`",
        ),
        ("kind = \"shell\"\nmcp.docs.url = \"http://a\"", 4, "kind \"shell\" has no `mcp`"),
        ("kind = \"shell\"\nsandbox_write = [\"~/x\"]", 4, "`sandbox_write` does nothing without `sandbox`"),
        ("kind = \"shell\"\nsandbox_read = [\"~/x\"]", 4, "`sandbox_read` does nothing without `sandbox`"),
        ("kind = \"shell\"\nsandbox_hide = [\"~/x\"]", 4, "`sandbox_hide` does nothing without `sandbox`"),
        (
            "kind = \"shell\"\nnice = \"5\"",
            4,
            "`nice`: expected a whole number without quotes, like 5; found \"5\"",
        ),
        (
            "kind = \"shell\"\nnofile = \"5\"",
            4,
            "`nofile`: expected a whole number without quotes, like 1024",
        ),
        (
            "kind = \"shell\"\nsandbox = true",
            4,
            "`sandbox`: expected \"none\", \"workdir\" or \"strict\"; found true",
        ),
        ("kind = 1", 3, "`kind`: expected \"shell\", \"command\" or \"acp\"; found 1"),
    ] {
        refused(&format!("\n[agents.x]\n{line}\n"), at, &[words]);
    }
}

#[test]
fn the_profile_shell_needs_no_kind() {
    let config = parse(Path::new("/c"), "[agents.shell]\nnice = 5").unwrap();
    assert_eq!(Within::value(&config.agents["shell"].keys.nice), Some(5));
    refused("[agents.shell]\ncommand = [\"x\"]", 1, &["`kind`"]);
}

#[test]
fn exceptions_of_a_sandbox_may_stay_while_it_is_switched_off() {
    let written = "[agents.x]\nkind = \"shell\"\nsandbox = \"none\"\nsandbox_hide = [\"~/x\"]";
    let config = parse(Path::new("/c"), written).unwrap();
    let hidden = config.agents["x"].keys.sandbox_hide.as_ref().unwrap().get_ref();
    assert_eq!(hidden.iter().map(|path| &path.0[..]).collect::<Vec<_>>(), ["~/x"]);
}

#[test]
fn durations_are_what_people_write() {
    for (text, millis) in
        [("0", 0), ("\"0\"", 0), ("\"never\"", 0), ("\"4h\"", 14_400_000), ("\"1h 30m\"", 5_400_000)]
    {
        let config = parse(Path::new("/c"), &format!("[defaults]\nhibernate_after = {text}")).unwrap();
        assert_eq!(Within::value(&config.defaults.hibernate_after), Some(millis), "{text}");
    }
}

#[test]
fn sizes_are_what_docker_and_systemd_take() {
    for (text, bytes) in [
        ("\"2G\"", 2 << 30),
        ("\"2g\"", 2 << 30),
        ("\"2 GiB\"", 2 << 30),
        ("\"2GB\"", 2 << 30),
        ("\"512m\"", 512 << 20),
        ("\"1T\"", 1 << 40),
        ("\"65536K\"", 64 << 20),
        ("2147483648", 2 << 30),
    ] {
        let written = format!("[agents.x]\nkind = \"shell\"\nmemory = {text}");
        let config = parse(Path::new("/c"), &written).unwrap();
        assert_eq!(Within::value(&config.agents["x"].keys.memory), Some(bytes), "{text}");
    }
}

#[test]
fn the_port_is_one_address_or_a_list_and_files_come_in_pairs() {
    let listen = |text: &str| parse(Path::new("/c"), &format!("[listen]\n{text}\n")).unwrap().listen;
    assert_eq!(listen(""), Listen::default());
    assert!(Listen::default().tcp.is_empty(), "nothing listens by default");
    assert_eq!(listen("tcp = \"0.0.0.0:7443\"").tcp, ["0.0.0.0:7443".parse().unwrap()]);
    assert_eq!(listen("tcp = [\"127.0.0.1:1\", \"[::]:2\"]").tcp.len(), 2);
    assert_eq!(listen("names = [\"Box.Example\", \"::1\"]").names, ["box.example", "::1"]);
    let files = listen("certificate = \"/c.pem\"\nkey = \"/k.pem\"").files.unwrap();
    assert_eq!((files.certificate, files.key), ("/c.pem".into(), "/k.pem".into()));
    for (line, at, words) in [
        ("tcp = 7443", 2, "`tcp`: expected an address with its port in quotes"),
        ("tcp = \"7443\"", 2, "no IP address with a port"),
        ("tcp = \"localhost:7443\"", 2, "no IP address with a port"),
        ("tcp = [\"0.0.0.0\"]", 2, "no IP address with a port"),
        ("tcp = \"0.0.0.0:70000\"", 2, "no IP address with a port"),
        ("certificate = \"/c.pem\"", 2, "needs its `key`"),
        ("key = \"/k.pem\"", 2, "needs its `certificate`"),
        ("client_ca = \"ca.pem\"", 2, "absolute"),
        ("names = [\"a b\"]", 2, "no name in DNS"),
        ("names = [\"\"]", 2, "no name in DNS"),
        ("names = [\"x..y\"]", 2, "no name in DNS"),
        ("connections = 15", 2, "between 16 and 65536"),
    ] {
        refused(&format!("[listen]\n{line}\n"), at, &[words]);
    }
    let many = ["\"127.0.0.1:1\""; bounds::LISTEN_ADDRESSES + 1].join(", ");
    refused(&format!("[listen]\ntcp = [{many}]\n"), 2, &["at most 8"]);
    let many = ["\"x\""; bounds::LISTEN_NAMES + 1].join(", ");
    refused(&format!("[listen]\nnames = [{many}]\n"), 1, &["at most 16"]);
}
