//! The agents: how each is run, and made to use the model server and nothing of its user's.

use std::path::{Path, PathBuf};

use harness::daemon::Daemon;
use manager::config::built_in::{BUILT_IN, BuiltIn, Registry};
use manager::protocol::Sandbox;

use serde_json::json;

use crate::homes::{self, Env};
use crate::model::Model;

/// An agent that is installed.
pub struct Agent {
    /// The name of its profile, which is that of kennel's own.
    pub name: &'static str,
    /// The package that it comes in.
    pub package: &'static str,
    /// The parts that the agent does not support, and why.
    pub lacks: &'static [(Part, &'static str)],
    known: &'static BuiltIn,
    more: &'static [&'static str],
    program: PathBuf,
    prepare: fn(home: &Path, url: &str) -> Env,
}

/// A part that an agent may not support. The trial asserts each of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Ask for a permission before a tool is used.
    Permissions,
    /// Answer from the conversation before a kill.
    Memory,
    /// Load or resume the conversation itself, wherever it was killed. Otherwise kennel replays it.
    Loads,
    /// Report that the model has failed.
    ModelErrors,
}

impl Part {
    /// As the table names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Permissions => "asks before it uses a tool",
            Self::Memory => "remembers the conversation",
            Self::Loads => "loads the conversation itself",
            Self::ModelErrors => "says that its model has failed",
        }
    }
}

/// Where the agents are.
pub struct Installed {
    /// `node_modules` and the virtual environments.
    pub directory: PathBuf,
    /// A program that starts each agent, for listening on the wire.
    pub through: Option<PathBuf>,
}

type Prepare = fn(home: &Path, url: &str) -> Env;

impl Installed {
    /// Returns all agents: kennel's own profiles, as far as they are published where tests can install them.
    pub fn all(&self) -> Vec<Agent> {
        let prepared: &[(&str, Prepare)] = &[
            ("claude", homes::claude),
            ("codex", homes::codex),
            ("copilot", homes::copilot),
            ("fast-agent", homes::fast_agent),
            ("gemini", homes::gemini),
            ("kimi", homes::kimi),
            ("opencode", homes::opencode),
            ("pi", homes::pi),
            ("qwen", homes::qwen),
        ];
        let agent = |&(name, prepare): &(&'static str, Prepare)| {
            let known = BUILT_IN.iter().find(|known| known.name == name).unwrap();
            Agent {
                name,
                package: known.package.unwrap().name,
                lacks: lacks(name),
                known,
                // It has no shell otherwise.
                more: if name == "fast-agent" { &["-x"] } else { &[] },
                program: self.program(known.argv[0]),
                prepare,
            }
        };
        prepared.iter().map(agent).collect()
    }

    /// The one of this name.
    pub fn agent(&self, name: &str) -> Agent {
        self.all().into_iter().find(|agent| agent.name == name).unwrap()
    }

    /// Where a program is: Python's have a place of their own.
    pub fn program(&self, name: &str) -> PathBuf {
        let places = ["node_modules/.bin", "agents/bin"].map(|place| self.directory.join(place).join(name));
        let [first, _] = &places;
        places.iter().find(|path| path.exists()).unwrap_or(first).clone()
    }

    /// The PATH of agents: the newer Node, and what they start of each other.
    pub fn path(&self) -> String {
        let own =
            ["node/bin", "node_modules/.bin"].map(|place| self.directory.join(place).display().to_string());
        [own.join(":"), std::env::var("PATH").unwrap_or_default()].join(":")
    }
}

/// kennel's built-in agents, as `tests/real/built_ins.py` reads them.
pub fn built_ins() -> impl Iterator<Item = serde_json::Value> {
    BUILT_IN.iter().map(|agent| {
        let package = agent.package.map(|package| {
            let registry = match package.registry {
                Registry::Npm => "npm",
                Registry::PyPi => "pypi",
            };
            json!({ "registry": registry, "name": package.name, "minimum": package.minimum, "why": package.why })
        });
        json!({ "name": agent.name, "argv": agent.argv, "install": agent.install, "package": package })
    })
}

/// Returns the parts that an agent was seen not to support, and why. A trial fails if the agent supports one
/// after all.
fn lacks(name: &str) -> &'static [(Part, &'static str)] {
    match name {
        "gemini" => &[(
            Part::Loads,
            "its record has the minute in its name, and a load within the minute of the start begins it anew",
        )],
        "kimi" => &[(Part::ModelErrors, "it ends the turn as if it were done, without a word")],
        "pi" => &[
            (Part::Permissions, "it has none: its documentation sends people to a sandbox"),
            (Part::ModelErrors, "it ends the turn as if it were done, without a word"),
        ],
        _ => &[],
    }
}

impl Agent {
    /// Why it does not do this, if it does not.
    pub fn lacks(&self, part: Part) -> Option<&'static str> {
        self.lacks.iter().find(|(lacking, _)| *lacking == part).map(|(_, why)| *why)
    }

    /// The sandboxes that it is tried in, where `asked` names none. Its line of the table is of the last whole life.
    pub fn sandboxes(&self, asked: &[Sandbox]) -> Vec<Sandbox> {
        if !asked.is_empty() {
            return asked.to_vec();
        }
        // The quickest: of them one asks for permissions and one does not.
        let quick = matches!(self.name, "codex" | "pi");
        let none = quick.then_some(Sandbox::None);
        none.into_iter().chain([Sandbox::Workdir, Sandbox::Strict]).collect()
    }

    /// A daemon with this agent as a profile, a home for it and a directory to work in.
    pub fn housed(&self, installed: &Installed, model: &Model, sandbox: Sandbox) -> Housed {
        // Not in /tmp: an agent in a sandbox has one of its own.
        let dir =
            tempfile::Builder::new().prefix("t").rand_bytes(4).tempdir_in(&installed.directory).unwrap();
        let mut daemon = Daemon::over(dir);
        let dir = daemon.dir.path();
        let (home, work, config) = (dir.join("home"), dir.join("work"), dir.join("kennel"));
        for directory in [&home, &work, &config] {
            std::fs::create_dir(directory).unwrap();
        }
        let mut env = (self.prepare)(&home, &model.url());
        env.extend([("HOME", home.display().to_string()), ("PATH", installed.path())]);
        let below = [
            ("XDG_CONFIG_HOME", ".config"),
            ("XDG_DATA_HOME", ".local/share"),
            ("XDG_STATE_HOME", ".local/state"),
            ("XDG_CACHE_HOME", ".cache"),
        ];
        env.extend(below.map(|(name, directory)| (name, home.join(directory).display().to_string())));
        let variables: Vec<String> = env.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
        let mut command: Vec<String> =
            installed.through.iter().chain([&self.program]).map(|path| path.display().to_string()).collect();
        // For its program alone kennel adds the arguments that it knows.
        if command.len() > 1 || !self.more.is_empty() {
            command.extend(self.known.argv[1..].iter().chain(self.more).map(|argument| argument.to_string()));
        }
        let (name, sandbox, variables) = (self.name, sandbox.name(), variables.join(", "));
        let read = self.reads(installed);
        let profile = format!(
            "[agents.{name}]\nkind = \"acp\"\ncommand = {command:?}\nsandbox = {sandbox:?}\nsandbox_read = {read:?}\nenv = {{ {variables} }}\n"
        );
        std::fs::write(config.join("config.toml"), profile).unwrap();
        // This home has no log-in, and kennel's own profile names the agent's state directory.
        daemon.set("HOME", &home.display().to_string());
        Housed { daemon, home, work }
    }
}

/// An agent's surroundings; its daemon ends with this.
pub struct Housed {
    /// The daemon.
    pub daemon: Daemon,
    /// The agent's home: everything that it starts has it in its environment.
    pub home: PathBuf,
    /// Where it works.
    pub work: PathBuf,
}

impl Agent {
    /// Returns the paths that its program needs, such as the Python of a virtual environment, which may lie
    /// in a home.
    fn reads(&self, installed: &Installed) -> Vec<String> {
        let made_of =
            std::fs::read_to_string(installed.directory.join("agents/pyvenv.cfg")).unwrap_or_default();
        let bin = made_of.lines().find_map(|line| line.strip_prefix("home = "));
        let prefix = bin
            .and_then(|bin| Path::new(bin).parent())
            .filter(|_| self.program.ends_with("agents/bin/fast-agent"));
        prefix.into_iter().map(|prefix| prefix.display().to_string()).collect()
    }
}

impl Drop for Housed {
    /// Prints the agent's standard error if its trial failed.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let events = self.daemon.run(&["--json", "events", "--after", "0"]).stdout;
        let events: Vec<&str> = events.lines().collect();
        eprintln!("--- the last events\n{}", events[events.len().saturating_sub(15)..].join("\n"));
        let logs = walkdir(&self.daemon.dir.path().join("state"));
        for log in logs.iter().filter(|path| path.extension().is_some_and(|end| end == "log")) {
            let text = std::fs::read(log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4_000)..]).into_owned();
            eprintln!("--- {}\n{text}", log.display());
        }
    }
}

fn walkdir(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walkdir(&path) } else { vec![path] }).collect()
}
