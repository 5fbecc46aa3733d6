//! The home and the environment of each agent: the model server, and no other service.

use std::path::Path;

use serde_json::{Value, json};

/// Variables of an agent's environment.
pub type Env = Vec<(&'static str, String)>;

fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn write_json(path: &Path, content: &Value) {
    write(path, &content.to_string());
}

fn env<const N: usize>(variables: [(&'static str, &str); N]) -> Env {
    variables.map(|(name, value)| (name, value.to_owned())).into()
}

/// codex: a provider of the form "responses".
pub fn codex(home: &Path, url: &str) -> Env {
    let config = format!(
        "model = \"fake\"\nmodel_provider = \"fake\"\napproval_policy = \"on-request\"\n\n[model_providers.fake]\n\
         name = \"fake\"\nbase_url = \"{url}/v1\"\nwire_api = \"responses\"\nenv_key = \"OPENAI_API_KEY\"\n"
    );
    write(&home.join(".codex/config.toml"), &config);
    env([("OPENAI_API_KEY", "sk-fake"), ("NO_BROWSER", "1"), ("INITIAL_AGENT_MODE", "read-only")])
}

/// copilot: a provider of one's own, and nothing of GitHub's.
pub fn copilot(_: &Path, url: &str) -> Env {
    let base = format!("{url}/v1");
    env([
        ("COPILOT_OFFLINE", "true"),
        ("COPILOT_AUTO_UPDATE", "false"),
        ("COPILOT_PROVIDER_BASE_URL", &base),
        ("COPILOT_PROVIDER_API_KEY", "fake"),
        ("COPILOT_MODEL", "fake"),
    ])
}

/// claude: its base URL. Of itself it decides what it asks for.
pub fn claude(home: &Path, url: &str) -> Env {
    let settings = json!({ "permissions": { "ask": ["Bash"], "defaultMode": "default" } });
    write_json(&home.join(".claude/settings.json"), &settings);
    env([
        ("ANTHROPIC_API_KEY", "sk-ant-fake"),
        ("ANTHROPIC_BASE_URL", url),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ("IS_SANDBOX", "1"),
    ])
}

/// fast-agent: the provider "generic", which is any OpenAI chat completions.
pub fn fast_agent(_: &Path, url: &str) -> Env {
    let base = format!("{url}/v1");
    env([("GENERIC_BASE_URL", &base), ("GENERIC_API_KEY", "fake"), ("FAST_AGENT_MODEL", "generic.fake")])
}

/// gemini: an API key, and its base URL. The model is named, because otherwise a model chooses it.
pub fn gemini(home: &Path, url: &str) -> Env {
    let settings = json!({
        "security": { "auth": { "selectedType": "gemini-api-key" }, "folderTrust": { "enabled": false } },
        "model": { "name": "gemini-2.5-flash" },
        "general": { "enableAutoUpdate": false, "disableAutoUpdate": true, "disableUpdateNag": true },
        "privacy": { "usageStatisticsEnabled": false },
        "telemetry": { "enabled": false },
    });
    write_json(&home.join(".gemini/settings.json"), &settings);
    env([("GEMINI_API_KEY", "fake"), ("GOOGLE_GEMINI_BASE_URL", url)])
}

/// kimi: a model from the environment alone.
pub fn kimi(_: &Path, url: &str) -> Env {
    let base = format!("{url}/v1");
    env([
        ("KIMI_MODEL_NAME", "fake"),
        ("KIMI_MODEL_API_KEY", "fake"),
        ("KIMI_MODEL_BASE_URL", &base),
        ("KIMI_MODEL_PROVIDER_TYPE", "openai"),
        ("KIMI_CODE_NO_AUTO_UPDATE", "1"),
    ])
}

/// opencode: a provider from an SDK that it has with it.
pub fn opencode(home: &Path, url: &str) -> Env {
    let options = json!({ "baseURL": format!("{url}/v1"), "apiKey": "fake" });
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible", "name": "fake", "options": options, "models": { "fake": { "name": "fake" } },
    });
    let config = json!({
        "model": "fake/fake", "autoupdate": false, "provider": { "fake": provider }, "permission": { "bash": "ask" },
    });
    write_json(&home.join(".config/opencode/opencode.json"), &config);
    env([])
}

/// pi: a provider in its models, which is also the default.
pub fn pi(home: &Path, url: &str) -> Env {
    let model = json!({ "id": "fake", "name": "fake" });
    let provider = json!({
        "baseUrl": format!("{url}/v1"), "apiKey": "fake", "api": "openai-completions", "models": [model],
    });
    write_json(&home.join(".pi/agent/models.json"), &json!({ "providers": { "fake": provider } }));
    let settings = json!({ "defaultProvider": "fake", "defaultModel": "fake", "quietStartup": true });
    write_json(&home.join(".pi/agent/settings.json"), &settings);
    env([("PI_OFFLINE", "1")])
}

/// qwen: OpenAI chat completions.
pub fn qwen(home: &Path, url: &str) -> Env {
    let settings = json!({
        "security": { "auth": { "selectedType": "openai" } },
        "general": { "disableAutoUpdate": true, "enableAutoUpdate": false },
        "privacy": { "usageStatisticsEnabled": false },
        "model": { "name": "fake" },
        // Otherwise a model decides what it asks for.
        "tools": { "approvalMode": "default" },
    });
    write_json(&home.join(".qwen/settings.json"), &settings);
    let base = format!("{url}/v1");
    env([("OPENAI_API_KEY", "fake"), ("OPENAI_BASE_URL", &base), ("OPENAI_MODEL", "fake")])
}
