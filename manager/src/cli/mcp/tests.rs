//! Tools, and who may read a token.

use std::os::unix::fs::PermissionsExt;

use super::ways::secret;
use super::*;

#[test]
fn every_tool_says_what_it_takes() {
    let tools = tools();
    let names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
    assert_eq!(
        names,
        [
            "start_subagent",
            "list_subagents",
            "read_result",
            "wait_subagent",
            "send_to_subagent",
            "abort_subagent"
        ]
    );
    for tool in &tools {
        assert!(tool.description.is_some());
        assert_eq!(tool.input_schema["type"], "object", "{}", tool.name);
        for (name, field) in tool.input_schema["properties"].as_object().unwrap() {
            assert!(field["description"].is_string() || field["enum"].is_array(), "{} {name}", tool.name);
        }
    }
}

#[test]
fn a_token_that_others_can_read_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "session-1:abc\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(secret(&path).unwrap_err().contains("0600"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(secret(&path).unwrap(), "session-1:abc");
}
