//! `acpx`, a published client for the command line: it starts `kennel acp`, and keeps a process of its own between commands.

use std::process::{Child, Command, Stdio};

use harness::daemon::{CommandOutput, finish};
use harness::history;
use harness::real::{kennel, kill, lives, mentioning, until};
use manager::protocol::Sandbox;
use manager::protocol::api::Status;

use crate::Step;
use crate::agents::{Agent, Housed, Installed};
use crate::model::Model;
use crate::session::Session;

/// The name of its program and package.
pub const NAME: &str = "acpx";

/// `acpx` in a home of its own, with `kennel acp` as its agent.
struct Acpx<'a> {
    agent: &'a Agent,
    housed: &'a Housed,
    installed: &'a Installed,
}

/// Puts it through everything: new, prompt, permissions, cancel, resume, close.
pub fn trial(agent: &Agent, installed: &Installed, model: &Model) {
    let step = |what: &str| Step::new(NAME, what);
    let housed = agent.housed(installed, model, Sandbox::None);
    let daemon = &housed.daemon;
    let acpx = Acpx { agent, housed: &housed, installed };

    let doing = step("new");
    let created = acpx.json(&["sessions", "new"]);
    let id = created["acpxSessionId"].as_str().unwrap().to_owned();
    let session = Session::new(&housed, &id);
    assert_eq!(daemon.idle(&id).agent, agent.name);
    let uuid = session.uuid();
    drop(doing);

    let doing = step("prompt");
    assert!(acpx.ok(&["SAY hello"]).contains("hello"));
    assert_eq!(daemon.json::<Vec<serde_json::Value>>(&["ls", "--all"]).len(), 1, "the same session");
    drop(doing);

    let doing = step("permissions: allowed, and denied");
    let file = |name: &str| housed.work.join(name);
    acpx.ok(&["--approve-all", "TOOL echo by-a-tool > allowed"]);
    assert_eq!(std::fs::read_to_string(file("allowed")).unwrap(), "by-a-tool\n");
    let denied = acpx.run(&["--deny-all", "TOOL echo by-a-tool > denied"]);
    assert!(!file("denied").exists(), "{denied:?}");
    drop(doing);

    let doing = step("cancel");
    let prompt = acpx.slow(&session);
    acpx.ok(&["cancel"]);
    let output = finish(prompt);
    assert!(output.stdout.contains("\"stopReason\":\"cancelled\""), "{output:?}");
    daemon.idle(&id);
    drop(doing);

    let doing = step("kill -9 of the worker mid-turn is a message, and the conversation is remembered");
    let prompt = acpx.slow(&session);
    kill(daemon.show(&id).pid.unwrap());
    let output = finish(prompt);
    assert!(output.stdout.contains("the agent crashed in this turn"), "{output:?}");
    assert!(acpx.ok(&["RECALL"]).contains("[SAY hello]"));
    drop(doing);

    let doing = step("kill -9 of acpx and of its `kennel acp`, and the next command resumes");
    let worker = daemon.show(&id).pid;
    let own = acpx.processes();
    assert!(!own.is_empty(), "acpx has no process between commands");
    own.iter().for_each(|pid| kill(*pid));
    until("their death", || own.iter().all(|pid| !lives(*pid)).then_some(()));
    assert!(acpx.ok(&["RECALL"]).contains("[SAY hello]"));
    assert_eq!((daemon.idle(&id).pid, daemon.show(&id).status), (worker, Status::Idle), "another process");
    drop(doing);

    let doing = step("close leaves nothing");
    let before = session.agents_processes();
    acpx.ok(&["sessions", "close"]);
    daemon.ok(&["wait", &id, "--until", "stopped", "--timeout", "30s"]);
    until("the end of acpx", || acpx.processes().is_empty().then_some(()));
    until("the end of the agent", || before.iter().all(|pid| !lives(*pid)).then_some(()));
    session.nothing_left(&uuid);
    let violations = history::of(&daemon.events());
    assert!(violations.is_empty(), "{violations:#?}");
    daemon.ok(&["daemon", "stop"]);
    let dir = daemon.dir.path().display().to_string();
    until("the end of everything below the daemon", || mentioning(&dir).is_empty().then_some(()));
    drop(doing);
}

impl Acpx<'_> {
    fn spawn(&self, words: &[&str]) -> Child {
        let kennels = self.housed.daemon.command(&[]);
        let mut command = Command::new(self.installed.program(NAME));
        let agent = format!("{} acp --agent {}", kennel().display(), self.agent.name);
        command.args(["--agent", &agent, "--format", "json"]).args(words).current_dir(&self.housed.work);
        for (name, value) in kennels.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // acpx finds its home by HOME; the daemon must not.
        let home = self.housed.work.join("acpx-home");
        std::fs::create_dir_all(&home).unwrap();
        command.env("HOME", home).env("PATH", self.installed.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, words: &[&str]) -> CommandOutput {
        finish(self.spawn(words))
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.code, Some(0), "acpx {words:?}: {output:#?}");
        output.stdout
    }

    fn json(&self, words: &[&str]) -> serde_json::Value {
        let text = self.ok(words);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("acpx {words:?}: {error}: {text}"))
    }

    /// A prompt whose turn has begun, and goes on for long.
    fn slow(&self, session: &Session) -> Child {
        let child = self.spawn(&["SLOW 2000 50"]);
        self.housed.daemon.ok(&["wait", &session.id, "--until", "running", "--timeout", "30s"]);
        let prompt = session.newest();
        session.until_printed(prompt, "w3");
        child
    }

    /// Returns acpx's background processes, and its `kennel acp`.
    fn processes(&self) -> Vec<u32> {
        let home = self.housed.work.join("acpx-home").display().to_string();
        let daemon = self.housed.daemon.pid();
        mentioning(&home).into_iter().filter(|pid| *pid != daemon).collect()
    }
}
