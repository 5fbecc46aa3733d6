//! The agents: how each is run, and made to use the model server and nothing of its user's.

use std::path::{Path, PathBuf};

use harness::daemon::Daemon;
use serde_json::json;

use crate::model::Model;

/// An agent that is installed.
pub struct Agent {
    /// The name of its profile.
    pub name: &'static str,
    /// The package that it comes in.
    pub package: &'static str,
    command: Vec<String>,
    prepare: fn(home: &Path, url: &str) -> Vec<(&'static str, String)>,
}

/// All of them; each is started through that program, if there is one.
pub fn all(installed: &Path, through: Option<&Path>) -> Vec<Agent> {
    vec![
        codex(installed, through),
        Agent {
            name: "claude",
            package: "@agentclientprotocol/claude-agent-acp",
            command: command(installed, through, &["claude-agent-acp"]),
            prepare: claude_home,
        },
        Agent {
            name: "opencode",
            package: "opencode-ai",
            command: command(installed, through, &["opencode", "acp"]),
            prepare: opencode_home,
        },
    ]
}

/// The one that starts quickest.
pub fn codex(installed: &Path, through: Option<&Path>) -> Agent {
    Agent {
        name: "codex",
        package: "@zed-industries/codex-acp",
        command: command(installed, through, &["codex-acp"]),
        prepare: codex_home,
    }
}

fn command(installed: &Path, through: Option<&Path>, program: &[&str]) -> Vec<String> {
    let path = installed.join("node_modules/.bin").join(program[0]);
    let before = through.into_iter().chain([path.as_path()]).map(|path| path.display().to_string());
    before.chain(program[1..].iter().map(|argument| argument.to_string())).collect()
}

fn codex_home(home: &Path, url: &str) -> Vec<(&'static str, String)> {
    let codex = home.join(".codex");
    std::fs::create_dir(&codex).unwrap();
    let config = format!(
        "model = \"fake\"\nmodel_provider = \"fake\"\napproval_policy = \"untrusted\"\n\n[model_providers.fake]\n\
         name = \"fake\"\nbase_url = \"{url}/v1\"\nwire_api = \"responses\"\nenv_key = \"OPENAI_API_KEY\"\n"
    );
    std::fs::write(codex.join("config.toml"), config).unwrap();
    vec![("CODEX_HOME", codex.display().to_string()), ("OPENAI_API_KEY", "sk-fake".into())]
}

fn claude_home(_: &Path, url: &str) -> Vec<(&'static str, String)> {
    vec![
        ("ANTHROPIC_API_KEY", "sk-ant-fake".into()),
        ("ANTHROPIC_BASE_URL", url.into()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()),
        ("IS_SANDBOX", "1".into()),
    ]
}

fn opencode_home(home: &Path, url: &str) -> Vec<(&'static str, String)> {
    let config = home.join(".config/opencode");
    std::fs::create_dir_all(&config).unwrap();
    let options = json!({ "baseURL": format!("{url}/v1"), "apiKey": "fake" });
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible", "name": "fake", "options": options, "models": { "fake": { "name": "fake" } },
    });
    let config_json = json!({
        "model": "fake/fake", "autoupdate": false, "provider": { "fake": provider }, "permission": { "bash": "ask" },
    });
    std::fs::write(config.join("opencode.json"), config_json.to_string()).unwrap();
    [
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_STATE_HOME", ".s"),
        ("XDG_DATA_HOME", ".d"),
        ("XDG_CACHE_HOME", ".c"),
    ]
    .map(|(name, directory)| (name, home.join(directory).display().to_string()))
    .into()
}

impl Agent {
    /// A daemon with this agent as a profile, a home for it and a directory to work in.
    pub fn housed(&self, model: &Model) -> Housed {
        let daemon = Daemon::new();
        let dir = daemon.dir.path();
        let (home, work, config) = (dir.join("home"), dir.join("work"), dir.join("kennel"));
        for directory in [&home, &work, &config] {
            std::fs::create_dir(directory).unwrap();
        }
        let mut env = (self.prepare)(&home, &model.url());
        env.push(("HOME", home.display().to_string()));
        let variables: Vec<String> = env.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
        let (name, command, variables) = (self.name, &self.command, variables.join(", "));
        let profile =
            format!("[agents.{name}]\nkind = \"acp\"\ncommand = {command:?}\nenv = {{ {variables} }}\n");
        std::fs::write(config.join("config.toml"), profile).unwrap();
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
