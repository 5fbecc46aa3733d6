//! The tools: their schemas, and the arguments that each takes.

use std::path::PathBuf;

use protocol::api::WhenBusy;
use rmcp::model::{Tool, ToolAnnotations};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::cli::ui::error::{Failure, Outcome};
use crate::plain;

/// The default and the longest time for which `wait_subagent` waits, in seconds.
pub(super) const WAIT_S: (u64, u64) = (60, 600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    pub(super) task: String,
    pub(super) agent: Option<String>,
    pub(super) workdir: Option<PathBuf>,
    #[serde(default)]
    pub(super) worktree: bool,
    pub(super) title: Option<String>,
    pub(super) model: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct One {
    pub(super) id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    pub(super) id: String,
    pub(super) timeout: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Send {
    pub(super) id: String,
    pub(super) text: String,
    #[serde(default)]
    pub(super) when_busy: WhenBusy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Abort {
    pub(super) id: String,
    #[serde(default)]
    pub(super) stop: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

pub(super) fn tools() -> Vec<Tool> {
    let id = || json!({ "type": "string", "description": "The sub-agent's session id." });
    let tool =
        |name: &'static str, description: &'static str, reads: bool, fields: Value, required: Value| {
            let schema = json!({
                "type": "object", "properties": fields, "required": required, "additionalProperties": false
            });
            let schema: Map<String, Value> = schema.as_object().cloned().unwrap_or_default();
            Tool::new(name, description, schema).with_annotations(ToolAnnotations::new().read_only(reads))
        };
    vec![
        tool(
            "start_subagent",
            "Starts a sub-agent with a task, in the background, and returns its session id at once. It knows nothing \
             of this conversation: say all it needs in the task. It can do no more than you can: its sandbox, limits and \
             permissions are at most yours.",
            false,
            json!({
                "task": { "type": "string", "description": "What it is to do." },
                "agent": { "type": "string", "description": "The agent's profile; else the same as your own." },
                "workdir": { "type": "string",
                    "description": "Where it works: your own directory, or one below it, absolute or relative to yours; else the same as yours." },
                "worktree": { "type": "boolean", "description": "It works in a new git worktree of your repository, on a \
                    branch of its own, so that its changes do not meet yours. Not together with `workdir`. You merge the \
                    branch and remove the worktree." },
                "title": { "type": "string", "description": "A name for people." },
                "model": { "type": "string", "description": "The model, for agents that are run with one." }
            }),
            json!(["task"]),
        ),
        tool("list_subagents", "Lists your sub-agents, oldest first.", true, json!({}), json!([])),
        tool(
            "read_result",
            "Tells what a sub-agent's newest turn has said, and how it stands. `outcome` is null while the turn runs.",
            true,
            json!({ "id": id() }),
            json!(["id"]),
        ),
        tool(
            "wait_subagent",
            "Waits until a sub-agent has nothing to do any more, and tells its result. `ended` is false if it still \
             works when the time is over; it goes on then.",
            true,
            json!({
                "id": id(),
                "timeout": { "type": "integer", "minimum": 0, "maximum": WAIT_S.1,
                    "description": format!("How long to wait, in seconds; {} without it.", WAIT_S.0) }
            }),
            json!(["id"]),
        ),
        tool(
            "send_to_subagent",
            "Sends a further prompt to a sub-agent. While it works the prompt waits, unless `when_busy` says otherwise.",
            false,
            json!({
                "id": id(),
                "text": { "type": "string", "description": "What to tell it." },
                "when_busy": { "type": "string", "enum": ["queue", "reject", "interrupt"] }
            }),
            json!(["id", "text"]),
        ),
        tool(
            "abort_subagent",
            "Ends what a sub-agent does now, and everything that it started. It stays and can be sent further prompts, \
             unless `stop` is set: then its process ends too, and it counts no more.",
            false,
            json!({ "id": id(), "stop": { "type": "boolean", "description": "It is not needed any more." } }),
            json!(["id"]),
        ),
    ]
}

pub(super) fn understood<T: DeserializeOwned>(arguments: Value) -> Outcome<T> {
    serde_json::from_value(arguments).map_err(|error| {
        let what = plain::said(&error.to_string());
        Failure::usage(format!("the arguments make no sense: {what}; nothing was done"))
    })
}
