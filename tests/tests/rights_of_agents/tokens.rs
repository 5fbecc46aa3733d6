//! The token that an agent receives.

use manager::client::Request;
use serde_json::json;

use super::{ASKS, ask, daemon, start, subagent};
use crate::containment::User;

#[test]
fn the_token_that_an_agent_is_given_is_for_sub_agents_and_nothing_else() {
    let daemon = daemon(User::Own, ASKS);
    start(&daemon, "boss", "asks");
    let token = std::fs::read_to_string(daemon.dir.path().join("state/tokens/boss")).unwrap();
    let of = |what: &str| format!("/v1/sessions/boss{what}");
    let set = json!({ "value": "code" });
    for request in [
        Request::get(of("/token")),
        Request::delete(of("?force=true")),
        Request::put(of("")),
        Request::post(of("/restart")),
        Request::post(of("/stop")),
        Request::post(of("/prompts")).json(&json!({ "text": "say more" })),
        Request::put(of("/settings/mode")).json(&set),
        Request::put(of("/mcp_servers")).json(&json!({})),
        Request::get("/v1/sessions"),
        Request::post("/v1/bootstrap").json(&json!({ "workdir": "/" })),
        Request::get(of("/attach?role=driver")),
    ] {
        let what = format!("{request:?}");
        assert_eq!(ask(&daemon, token.trim(), request), Err("forbidden".into()), "{what}");
    }
    assert!(ask(&daemon, token.trim(), Request::get(of(""))).is_ok());
    let opts = json!({ "agent": "allows" });
    let child = ask(&daemon, token.trim(), subagent(opts)).unwrap();
    assert!(
        ask(&daemon, token.trim(), Request::get("/v1/subagents")).unwrap()[0]["session_id"]
            == child["session_id"]
    );
}
