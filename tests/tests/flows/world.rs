//! A home directory in which the examples work.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::daemon::Daemon;
use harness::real::*;
use manager::protocol::api::Accepted;

use super::program;
use super::table::*;

/// Stand-ins for programs that the examples use and this machine does not have. `.ci/run` installs the real
/// ones.
const STAND_INS: [(&str, &str); 3] = [
    ("jq", "#!/bin/sh\nexec cat\n"),
    ("curl", "#!/bin/sh\nexec kennel ls --json\n"),
    ("make", "#!/bin/sh\necho \"made $1\"\n"),
];

/// The certificate of an authority, in PEM.
pub fn authority() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem()
}

/// A ticket for a machine on which nothing listens.
pub fn ticket() -> String {
    format!("tls://127.0.0.1:1 SHA256:{} maple-river-42\n", "0".repeat(64))
}

/// In place of `ssh`: runs the command of the last word here.
const SSH: &str = "#!/bin/sh\nfor last; do :; done\nexec sh -c \"$last\"\n";

/// An agent with a mode and a model that can be set, and with a prompt that makes it ask for permission.
const AGENT: &str = r#"#!/bin/sh
said() { printf '{"jsonrpc":"2.0",%s}\n' "$1"; }
update() { said "\"method\":\"session/update\",\"params\":{\"sessionId\":\"s\",\"update\":{$1}}"; }
model() {
    options='[{"value":"gpt-4","name":"4"},{"value":"gpt-5","name":"5"}]'
    printf '"configOptions":[{"id":"model","name":"Model","type":"select","currentValue":"%s","options":%s}]' "$1" "$options"
}
while read -r line; do
    id=${line#*\"id\":}; id=${id%%[,\}]*}
    case $line in
    *'"initialize"'*) said "\"id\":$id,\"result\":{\"protocolVersion\":1,\"agentCapabilities\":{\"loadSession\":true},\"agentInfo\":{\"name\":\"fake\",\"version\":\"1\"}}";;
    *'"session/load"'*) said "\"id\":$id,\"result\":{$(model gpt-4)}";;
    *'"session/new"'*)
        modes='{"currentModeId":"code","availableModes":[{"id":"code","name":"Code"},{"id":"plan","name":"Plan"}]}'
        said "\"id\":$id,\"result\":{\"sessionId\":\"s\",\"modes\":$modes,$(model gpt-4)}";;
    *'"session/set_mode"'*) said "\"id\":$id,\"result\":{}";;
    *'"session/set_config_option"'*) said "\"id\":$id,\"result\":{$(model gpt-5)}";;
    *'"session/prompt"'*'ask me'*)
        turn=$id
        options='[{"optionId":"once","name":"Once","kind":"allow_once"},{"optionId":"always","name":"Always","kind":"allow_always"},{"optionId":"no","name":"No","kind":"reject_once"}]'
        said "\"id\":\"p\",\"method\":\"session/request_permission\",\"params\":{\"sessionId\":\"s\",\"toolCall\":{\"toolCallId\":\"c\",\"title\":\"May I?\"},\"options\":$options}";;
    *'"session/prompt"'*)
        update '"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"heard"}'
        said "\"id\":$id,\"result\":{\"stopReason\":\"end_turn\"}";;
    *'"id":"p"'*) said "\"id\":$turn,\"result\":{\"stopReason\":\"end_turn\"}";;
    esac
done
"#;

/// A home directory of somebody who has what the examples name.
pub struct World {
    pub daemon: Daemon,
    /// The real values of the ids and pids in the examples.
    names: Vec<(&'static str, String)>,
}

impl World {
    pub fn new(before: Before) -> Self {
        let mut daemon = Daemon::new();
        let home = daemon.dir.path().to_owned();
        for directory in [
            "bin",
            "kennel",
            "src/app",
            "src/web",
            ".config/systemd/user",
            ".config/fish/completions",
            ".zfunc",
        ] {
            std::fs::create_dir_all(home.join(directory)).unwrap();
        }
        std::os::unix::fs::symlink(kennel(), home.join("bin/kennel")).unwrap();
        // The state directory is the default one, of which the pages speak.
        std::fs::create_dir_all(home.join("xdg")).unwrap();
        std::fs::create_dir(home.join("state")).unwrap();
        std::fs::set_permissions(home.join("state"), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("../state", home.join("xdg/kennel")).unwrap();
        std::fs::create_dir_all(home.join(".local/state")).unwrap();
        std::os::unix::fs::symlink("../../state", home.join(".local/state/kennel")).unwrap();
        let xdg = home.join("xdg").display().to_string();
        daemon.set("XDG_STATE_HOME", &xdg);
        std::fs::create_dir(home.join("run")).unwrap();
        std::fs::set_permissions(home.join("run"), std::fs::Permissions::from_mode(0o700)).unwrap();
        daemon.set("XDG_RUNTIME_DIR", &home.join("run").display().to_string());
        std::fs::write(home.join("prompt.txt"), "echo from a file").unwrap();
        std::fs::write(home.join("error.log"), "error: no rule\n").unwrap();
        std::fs::write(home.join("ticket.txt"), ticket()).unwrap();
        std::fs::write(home.join("work-ca.pem"), authority()).unwrap();
        std::fs::write(home.join("Makefile"), "test:\n\t@echo made test\ncheck: test\n").unwrap();
        for name in ["npm", "codex", "claude"] {
            program(&home.join("bin").join(name), "#!/bin/sh\necho \"${0##*/} $*\"\n");
        }
        for (name, stand_in) in STAND_INS {
            if !["/usr/bin", "/bin"].iter().any(|place| Path::new(place).join(name).exists()) {
                program(&home.join("bin").join(name), stand_in);
            }
        }
        // Another machine is this one: the command that the host's shell would run.
        program(&home.join("bin/ssh"), SSH);
        for directory in ["kennel", ".config/kennel"] {
            std::fs::create_dir_all(home.join(directory)).unwrap();
            let hosts = "[hosts.box]\naddress = \"ssh://ada@box.example\"\n";
            std::fs::write(home.join(directory).join("hosts.toml"), hosts).unwrap();
        }
        let agent = home.join("bin/agent");
        program(&agent, AGENT);
        let config: String = ["claude", "codex"]
            .iter()
            .map(|name| {
                format!("[agents.{name}]\nkind = \"acp\"\ncommand = [{:?}]\n", agent.display().to_string())
            })
            .collect();
        std::fs::write(home.join("kennel/config.toml"), config + "[defaults]\ngrace = \"100ms\"\n").unwrap();
        for file in ["README.md", "logo.png"] {
            std::fs::write(home.join(file), file).unwrap();
        }
        if matches!(before, Repository | Talked) {
            std::fs::write(home.join(".gitignore"), "*\n").unwrap();
            for words in ["init -q", "add -f README.md", "-c user.name=a -c user.email=b commit -qm one"] {
                let mut git = Command::new("git");
                git.arg("-C").arg(&home).args(words.split(' ')).env("GIT_CONFIG_GLOBAL", "/dev/null");
                assert!(git.spawn().unwrap().wait().unwrap().success(), "git {words}");
            }
        }
        let mut world = Self { daemon, names: Vec::new() };
        world.prepare(before);
        world
    }

    fn prepare(&mut self, before: Before) {
        let daemon = &self.daemon;
        match before {
            Nothing => return,
            Key => {
                daemon.ok(&["key", "create", "laptop"]);
                return;
            }
            Asking | Settings | Talked => {
                daemon.ok(&["start", "--agent", "claude"]);
                if before != Talked {
                    self.names.push(("session-2", "session-1".into()));
                }
            }
            Sessions | Repository | Stopped | Running | Interrupted => {
                daemon.ok(&["start", "--name", "web"]);
                daemon.ok(&["subagent", "start", "--parent", "session-1", "echo below"]);
                daemon.ok(&["subagent", "wait", "session-2"]);
            }
        }
        let pid = daemon.idle("session-1").pid.unwrap();
        self.names.push(("4711", pid.to_string()));
        self.names.push(("20004", pid.to_string()));
        match before {
            Stopped => _ = daemon.ok(&["stop", "session-1"]),
            Running | Interrupted => {
                let first: Accepted = daemon.json(&["send", "--no-wait", "session-1", "exec sleep 1000"]);
                daemon.ok(&["wait", "session-1", "--until", "running", "--timeout", "30s"]);
                let second: Accepted = daemon.json(&["send", "--no-wait", "session-1", "echo second"]);
                if before == Interrupted {
                    kill(pid);
                    until("the crash", || (daemon.show("session-1").pid != Some(pid)).then_some(()));
                    daemon.idle("session-1");
                }
                self.names.push(("prompt-17", first.prompt_id.to_string()));
                self.names.push(("WAITING", second.prompt_id.to_string()));
            }
            Asking => {
                daemon.ok(&["send", "--no-wait", "session-1", "ask me"]);
                daemon.ok(&["wait", "session-1", "--until", "requires_action", "--timeout", "30s"]);
                let open: Vec<serde_json::Value> = daemon.json(&["permissions", "ls"]);
                self.names.push(("permission-17", open[0]["permission_id"].as_str().unwrap().to_owned()));
            }
            Talked => {
                for word in ["one", "two", "three"] {
                    daemon.ok(&["send", "session-1", &format!("say {word}")]);
                }
            }
            Nothing | Sessions | Repository | Settings | Key => {}
        }
    }

    /// The example with the ids that there are.
    pub fn line(&self, example: &str) -> String {
        let name =
            |name: &str| self.names.iter().find(|(known, _)| *known == name).map(|(_, real)| real.clone());
        let mut line = example.to_owned();
        // A waiting prompt can be edited and removed; a running one can be aborted.
        let prompt = if example.contains("queue") { name("WAITING") } else { name("prompt-17") };
        for (written, real) in [
            ("prompt-17", prompt),
            ("permission-17", name("permission-17")),
            ("4711", name("4711")),
            ("20004", name("20004")),
            ("session-2", name("session-2")),
        ] {
            if let Some(real) = real {
                line = line.replace(written, &real);
            }
        }
        line
    }

    /// Where the example's programs are.
    pub fn home(&self) -> &Path {
        self.daemon.dir.path()
    }

    /// A shell that runs this, in the environment of the commands of the world.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]);
        self.around(&mut command);
        command
    }

    pub fn around(&self, command: &mut Command) {
        let (home, plain) = (self.home(), self.daemon.command(&[]));
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .env_remove("NO_COLOR")
            // No browser of this machine is opened.
            .env_remove("BROWSER")
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .env("XDG_STATE_HOME", home.join("xdg"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env("HOME", home)
            .env("PATH", self.path())
            .current_dir(home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    pub fn path(&self) -> String {
        format!("{}:/usr/bin:/bin", self.home().join("bin").display())
    }
}
