//! Agents, and what can be set in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::wire::AgentDetails;

/// Protocol between kennel and an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// Shell: each prompt is a command line.
    Shell,
    /// kennel starts a program for each prompt.
    Command,
    /// A program lives between prompts and speaks the Agent Client Protocol.
    Acp,
}

/// An agent that a session can use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentInfo {
    /// The profile's name.
    pub name: String,
    /// Protocol between kennel and the agent.
    pub kind: AgentKind,
    /// The agent's program, as the profile names it.
    pub program: String,
    /// Path of its program; null if kennel does not find it.
    pub path: Option<String>,
    /// kennel knows the agent without an entry in `config.toml`.
    pub built_in: bool,
    /// Instructions for the log-in, if kennel knows them.
    pub login: Option<String>,
    /// `kennel login` can log it in: its profile has a command for that, or kennel knows one.
    #[serde(default)]
    pub logs_in: bool,
    /// Instructions for the installation, if kennel knows them.
    pub install: Option<String>,
    /// Names of variables in its `env_pass` that the manager's environment lacks or has empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_missing: Vec<String>,
    /// Details that the agent gave of itself in its newest session.
    #[serde(default)]
    pub details: Option<AgentDetails>,
}

/// Body of a request that sets something in an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingRequest {
    /// The agent's id of a value, 1 to 200 characters.
    pub value: String,
}

/// Result of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettingReply {
    /// Name of the setting.
    pub name: String,
    /// Value of the setting.
    pub value: String,
    /// The agent's whole answer. null if the agent has not answered yet; the event `setting.changed` or `setting.refused`
    /// then tells the result.
    pub answer: Option<Value>,
}

/// Settings of a session's agent, in ACP's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SettingsInfo {
    /// Modes of the agent and the current one. Clients set the mode by the name `mode`.
    pub modes: Option<Value>,
    /// Configuration options of the agent and their values. Clients set them by their ids.
    pub config_options: Option<Value>,
    /// Values that clients set. kennel sets them again in each new process of the agent.
    pub set: BTreeMap<String, String>,
    /// Values that the agent has not answered yet.
    pub waiting: BTreeMap<String, String>,
}
