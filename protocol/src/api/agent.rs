//! Agents, and what can be set in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::wire::AgentDetails;

/// How an agent is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// A prompt is a command line.
    Shell,
    /// A program is started for each prompt.
    Command,
    /// A program lives between prompts and speaks the Agent Client Protocol.
    Acp,
}

/// An agent that sessions can be started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentInfo {
    /// The profile's name.
    pub name: String,
    /// How it is spoken to.
    pub kind: AgentKind,
    /// Its program, as the profile names it.
    pub program: String,
    /// Where its program is; null where it is not found.
    pub path: Option<String>,
    /// kennel knows it without being told in `config.toml`.
    pub built_in: bool,
    /// How a person logs in, where that is known.
    pub login: Option<String>,
    /// How it is installed, where that is known.
    pub install: Option<String>,
    /// Variables that the configuration names in `env_pass` for it and that the manager's environment lacks, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_missing: Vec<String>,
    /// What it said of itself in the newest session with it.
    #[serde(default)]
    pub details: Option<AgentDetails>,
}

/// What something in an agent is to be set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingRequest {
    /// The agent's id of a value, 1 to 200 characters.
    pub value: String,
}

/// What became of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettingReply {
    /// What.
    pub name: String,
    /// To what.
    pub value: String,
    /// The agent's whole answer; null: it has not answered yet, and `setting.changed` or `setting.refused` will say
    /// what it does.
    pub answer: Option<Value>,
}

/// What can be set in a session's agent, in ACP's words, and what was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettingsInfo {
    /// Its modes and the one that it is in; set by the name `mode`.
    pub modes: Option<Value>,
    /// Its options and what they are set to; set by their ids.
    pub config_options: Option<Value>,
    /// What was set here, and is set again in each process of the agent.
    pub set: BTreeMap<String, String>,
    /// What the agent has not answered yet.
    pub waiting: BTreeMap<String, String>,
}
