//! Agents that kennel knows without being told: what to run, how to log in, how to install.
//!
//! From each project's own documentation of its ACP mode; `tests/real/run` compares what is published with it, and starts
//! most of them. A profile in `config.toml` that has the name of one, or runs its
//! program, extends it.

use std::path::Path;

/// An agent that speaks the Agent Client Protocol.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// The profile's name.
    pub name: &'static str,
    /// The command: kennel looks for its program on PATH.
    pub argv: &'static [&'static str],
    /// Instructions for a person: how to log in.
    pub login: &'static str,
    /// The vendor's command for a log-in by lines of text; empty if there is none.
    pub login_command: &'static [&'static str],
    /// The command that installs the agent.
    pub install: &'static str,
    /// Names of variables that the agent gets from the daemon's environment.
    pub env_pass: &'static [&'static str],
    /// The package in its registry; none if no registry has it.
    pub package: Option<Package>,
    /// Paths of the agent's log-in, settings and conversations. In a sandbox the agent can read and write them.
    pub state: &'static [&'static str],
}

/// Package of an agent in a registry. `tests/real/run` compares it with the registry.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// The registry.
    pub registry: Registry,
    /// The package whose program `argv` names.
    pub name: &'static str,
    /// The oldest version that `argv` works with.
    pub minimum: &'static str,
    /// Reason for which no older version works.
    pub why: &'static str,
}

/// The registries of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registry {
    /// registry.npmjs.org.
    Npm,
    /// pypi.org.
    PyPi,
}

const fn npm(name: &'static str, minimum: &'static str, why: &'static str) -> Option<Package> {
    Some(Package { registry: Registry::Npm, name, minimum, why })
}

const fn pypi(name: &'static str, minimum: &'static str, why: &'static str) -> Option<Package> {
    Some(Package { registry: Registry::PyPi, name, minimum, why })
}

/// All built-in agents.
pub const BUILT_IN: &[BuiltIn] = &[
    BuiltIn {
        name: "claude",
        argv: &["claude-agent-acp"],
        login: "run `claude auth login`, or set ANTHROPIC_API_KEY for the daemon",
        login_command: &["claude", "auth", "login"],
        install: "npm install -g @agentclientprotocol/claude-agent-acp",
        env_pass: &["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CONFIG_DIR"],
        package: npm(
            "@agentclientprotocol/claude-agent-acp",
            "0.49.0",
            "the oldest that was tried; it resumes conversations",
        ),
        state: &["~/.claude", "~/.claude.json"],
    },
    BuiltIn {
        name: "codex",
        argv: &["codex-acp"],
        login: "run `codex login`, or set OPENAI_API_KEY for the daemon",
        login_command: &["codex", "login"],
        install: "npm install -g @agentclientprotocol/codex-acp",
        env_pass: &["OPENAI_API_KEY", "CODEX_API_KEY", "OPENAI_BASE_URL", "CODEX_HOME"],
        package: npm(
            "@agentclientprotocol/codex-acp",
            "2.6.0",
            "the oldest that was tried; @zed-industries/codex-acp, before it, ends with 0.16.0",
        ),
        state: &["~/.codex"],
    },
    BuiltIn {
        name: "copilot",
        argv: &["copilot", "--acp"],
        login: "run `copilot login`",
        login_command: &["copilot", "login"],
        install: "npm install -g @github/copilot",
        env_pass: &["GH_TOKEN", "GITHUB_TOKEN", "COPILOT_GITHUB_TOKEN"],
        package: npm("@github/copilot", "1.0.102", "the oldest that was tried"),
        state: &["~/.cache/copilot", "~/.copilot", "~/.config/github-copilot"],
    },
    BuiltIn {
        name: "fast-agent",
        argv: &["fast-agent", "acp"],
        login: "set the key of its model for the daemon, for example ANTHROPIC_API_KEY",
        login_command: &[],
        install: "uv tool install fast-agent-mcp",
        env_pass: &["ANTHROPIC_API_KEY", "OPENAI_API_KEY"],
        package: pypi("fast-agent-mcp", "0.10.48", "the oldest that was tried"),
        state: &["~/.fast-agent"],
    },
    BuiltIn {
        name: "gemini",
        argv: &["gemini", "--acp"],
        login: "run `gemini` and log in, or set GEMINI_API_KEY for the daemon",
        login_command: &[],
        install: "npm install -g @google/gemini-cli",
        env_pass: &["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT"],
        package: npm("@google/gemini-cli", "0.33.0", "the first with --acp; it was --experimental-acp"),
        state: &["~/.gemini"],
    },
    BuiltIn {
        name: "goose",
        argv: &["goose", "acp"],
        login: "run `goose configure`",
        login_command: &[],
        install: "see https://block.github.io/goose",
        env_pass: &["GOOSE_PROVIDER", "GOOSE_MODEL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"],
        package: None,
        state: &["~/.config/goose", "~/.local/share/goose", "~/.local/state/goose"],
    },
    BuiltIn {
        name: "kimi",
        argv: &["kimi", "acp"],
        login: "run `kimi login`, or set KIMI_API_KEY for the daemon",
        login_command: &["kimi", "login"],
        install: "npm install -g @moonshot-ai/kimi-code",
        env_pass: &["KIMI_API_KEY", "KIMI_BASE_URL", "KIMI_CODE_HOME"],
        package: npm(
            "@moonshot-ai/kimi-code",
            "2.1.0",
            "the oldest that was tried; PyPI's kimi-cli is its predecessor",
        ),
        state: &["~/.kimi-code"],
    },
    BuiltIn {
        name: "opencode",
        argv: &["opencode", "acp"],
        login: "run `opencode auth login`",
        login_command: &["opencode", "auth", "login"],
        install: "npm install -g opencode-ai",
        env_pass: &["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENCODE_CONFIG"],
        package: npm("opencode-ai", "1.18.33", "the oldest that was tried"),
        state: &[
            "~/.cache/opencode",
            "~/.config/opencode",
            "~/.local/share/opencode",
            "~/.local/state/opencode",
        ],
    },
    BuiltIn {
        name: "openhands",
        argv: &["openhands", "acp"],
        login: "run `openhands` once and choose a model",
        login_command: &[],
        install: "uv tool install openhands",
        env_pass: &["LLM_API_KEY", "LLM_MODEL"],
        package: pypi("openhands", "1.16.0", "the oldest with `openhands acp` that was looked at"),
        state: &["~/.openhands"],
    },
    BuiltIn {
        name: "pi",
        argv: &["pi-acp"],
        login: "run `pi` and type /login",
        login_command: &[],
        install: "npm install -g pi-acp @earendil-works/pi-coding-agent",
        env_pass: &["ANTHROPIC_API_KEY", "OPENAI_API_KEY"],
        package: npm("pi-acp", "0.0.34", "the oldest that was tried"),
        state: &["~/.pi"],
    },
    BuiltIn {
        name: "qwen",
        argv: &["qwen", "--acp"],
        login: "run `qwen` and log in, or set OPENAI_API_KEY for the daemon",
        login_command: &[],
        install: "npm install -g @qwen-code/qwen-code",
        env_pass: &["OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"],
        package: npm("@qwen-code/qwen-code", "0.7.1", "0.5.2 has --experimental-acp only"),
        state: &["~/.qwen"],
    },
    BuiltIn {
        name: "vibe",
        argv: &["vibe-acp"],
        login: "run `vibe` once, or set MISTRAL_API_KEY for the daemon",
        login_command: &[],
        install: "uv tool install mistral-vibe",
        env_pass: &["MISTRAL_API_KEY"],
        package: pypi("mistral-vibe", "3.0.3", "the oldest with `vibe-acp` that was looked at"),
        state: &["~/.vibe"],
    },
];

/// The one of this name.
pub fn named(name: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|agent| agent.name == name)
}

/// The one that a profile of this name, which runs this program, extends.
pub fn extended(name: &str, program: Option<&str>) -> Option<&'static BuiltIn> {
    let file = program.and_then(|program| Path::new(program).file_name()?.to_str());
    named(name).or_else(|| BUILT_IN.iter().find(|known| Some(known.argv[0]) == file))
}

impl BuiltIn {
    /// Its command of a log-in; empty if there is none.
    pub fn login_argv(&self) -> Vec<String> {
        self.login_command.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Its command, for a profile that says so much of it: nothing, or its program only.
    pub fn completed(&self, written: Option<Vec<String>>) -> Vec<String> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let Some(mut argv) = written else { return owned(self.argv) };
        let is_its =
            |program: &String| Path::new(program).file_name().is_some_and(|name| name == self.argv[0]);
        if argv.len() == 1 && is_its(&argv[0]) {
            argv.extend(owned(&self.argv[1..]));
        }
        argv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_programs_are_looked_for_on_path() {
        assert!(BUILT_IN.is_sorted_by(|a, b| a.name < b.name));
        assert!(BUILT_IN.iter().all(|agent| !agent.argv[0].contains('/')));
        assert!(named("codex").is_some() && named("shell").is_none());
    }

    #[test]
    fn an_agent_is_installed_from_the_package_that_the_tests_compare() {
        for agent in BUILT_IN {
            let Some(Package { registry, name, minimum, why }) = agent.package else { continue };
            let words = match registry {
                Registry::Npm => "npm install -g ",
                Registry::PyPi => "uv tool install ",
            };
            let packages = agent.install.strip_prefix(words).expect(agent.name);
            assert!(packages.split(' ').any(|package| package == name), "{}", agent.install);
            assert!(
                minimum.split('.').all(|number| number.parse::<u32>().is_ok()) && !why.is_empty(),
                "{minimum}"
            );
        }
    }
}
