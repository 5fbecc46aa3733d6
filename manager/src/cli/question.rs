//! An agent's question, whole: a title may be the beginning of a command, or no more than a name for it.

use protocol::api::PermissionInfo;
use protocol::command;
use serde_json::Value;

/// The question of a permission that waits.
pub fn in_full(permission: &PermissionInfo) -> String {
    with_command(&permission.title, permission.command.as_deref())
}

/// The question of a permission's event, from its title and payload.
pub fn of_event(title: &str, payload: &Value) -> String {
    with_command(title, command::line(&payload["toolCall"]["rawInput"]).as_deref())
}

/// A title, with the command where it says another.
fn with_command(title: &str, command: Option<&str>) -> String {
    match command.filter(|command| !title.contains(command)) {
        Some(command) => format!("{title}: {command}"),
        None => title.to_owned(),
    }
}
