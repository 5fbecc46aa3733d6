//! The rights of a token, and the file that holds it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harness::daemon::{Daemon, finish};
use manager::client::{Client, ClientError, Request};
use manager::protocol::api::ManagerInfo;
use serde_json::{Value, json};

use super::client::Mcp;
use super::{session, token_file};

/// Send a request with this token. Returns `ok`, or the code of the refusal.
fn asked(socket: &Path, token: &str, request: &Request) -> String {
    let client = Client::new(socket.to_owned()).with_token(token);
    assert!(!format!("{client:?}").contains(token));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(client.ask(request)) {
        Ok(_) => "ok".to_owned(),
        Err(ClientError::Problem(problem)) => problem.code,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn a_token_reaches_down_and_neither_up_nor_sideways() {
    let daemon = Daemon::new();
    let (boss, other) = (session(&daemon, "boss"), session(&daemon, "other"));
    let mut mcp = Mcp::over(&daemon, &boss);
    let child = mcp.start("echo secret");
    let sibling = mcp.start("true");
    mcp.ok("wait_subagent", json!({ "id": child }));
    let mut below = Mcp::over(&daemon, &token_file(&daemon, &child));
    let grandchild = below.start("echo deep");
    assert_eq!(below.ok("wait_subagent", json!({ "id": grandchild }))["text"], "deep\n");
    assert_eq!(
        mcp.ok("read_result", json!({ "id": grandchild }))["text"],
        "deep\n",
        "it reaches all the way down"
    );

    let mut stranger = Mcp::over(&daemon, &other);
    assert_eq!(stranger.ok("list_subagents", json!({}))["subagents"], json!([]));
    let last = || daemon.json::<ManagerInfo>(&["daemon", "status"]).last_event_id;
    let before = last();
    for (asks, about) in [
        (&mut stranger, &[child.as_str(), "boss", "no-such"][..]),
        (&mut below, &[sibling.as_str(), "boss"][..]),
    ] {
        for id in about {
            for (tool, arguments) in [
                ("read_result", json!({ "id": id })),
                ("wait_subagent", json!({ "id": id })),
                ("send_to_subagent", json!({ "id": id, "text": "echo x" })),
                ("abort_subagent", json!({ "id": id })),
                ("abort_subagent", json!({ "id": id, "stop": true })),
            ] {
                assert_eq!(asks.refused(tool, arguments), "forbidden", "{tool} {id}");
            }
        }
    }
    // That access was refused is on record.
    let after = daemon.events().into_iter().filter(|event| event.id > before);
    let changes: Vec<_> = after.filter(|event| event.kind.name() != "access.refused").collect();
    assert!(changes.is_empty(), "something was changed: {changes:?}");
    drop((mcp, below, stranger));

    // The same by HTTP, and what the tools do not ask for.
    let status = daemon.ok(&["daemon", "status"]);
    let socket = status.lines().find_map(|line| line.strip_prefix("socket:")).unwrap();
    let socket = PathBuf::from(socket.trim());
    let secret = std::fs::read_to_string(&boss).unwrap().trim().to_owned();
    let start = |body: Value| Request::post("/v1/subagents").json(&body);
    let of = |what: &str| format!("/v1/sessions/{child}{what}");
    let wrong = format!("boss:{}", "x".repeat(43));
    let plain = secret.split_once(':').unwrap().1.to_owned();
    for (token, request, code) in [
        (&secret, Request::get(of("")), "ok"),
        (&secret, Request::get(of("/log")), "ok"),
        (&secret, Request::get("/v1/sessions/boss"), "ok"),
        (&secret, Request::get("/v1/subagents?parent=boss"), "ok"),
        (&secret, Request::get("/v1/subagents?parent=other"), "forbidden"),
        (&secret, start(json!({ "task": "true", "parent": "other" })), "forbidden"),
        (&secret, start(json!({ "task": "true", "opts": { "permissions": "allow" } })), "forbidden"),
        (&secret, Request::get(of("/token")), "forbidden"),
        (&secret, Request::delete(of("?force=true")), "forbidden"),
        (&secret, Request::put(of("")), "forbidden"),
        (&secret, Request::post(of("/restart")), "forbidden"),
        (&secret, Request::get("/v1/sessions/other"), "forbidden"),
        (&secret, Request::get("/v1/sessions/no-such"), "forbidden"),
        (&secret, Request::get("/v1/sessions"), "forbidden"),
        (&secret, Request::post("/v1/manager/stop"), "forbidden"),
        (&wrong, Request::get(of("")), "bad_token"),
        (&wrong, start(json!({ "task": "true" })), "bad_token"),
        // Without an id it is for its own session only.
        (&plain, Request::get("/v1/sessions/boss"), "ok"),
        (&plain, Request::get(of("")), "bad_token"),
        (&plain, start(json!({ "task": "true" })), "forbidden"),
    ] {
        let what = format!("{request:?}");
        assert_eq!(asked(&socket, token, &request), code, "{what}");
    }
}

#[test]
fn without_a_private_token_file_nothing_is_served() {
    let daemon = Daemon::new();
    let token = session(&daemon, "boss");
    let run = |token: Option<&Path>| {
        let mut command = daemon.command(&["mcp"]);
        if let Some(token) = token {
            command.env("KENNEL_TOKEN_FILE", token);
        }
        finish(command.spawn().unwrap())
    };
    assert_eq!(run(Some(&token)).code, Some(0), "nobody asks for anything");
    for (token, word) in [(None, "KENNEL_TOKEN_FILE"), (Some(Path::new("/no/such")), "/no/such")] {
        let output = run(token);
        assert!(
            output.code == Some(2) && output.stderr.contains(word) && output.stdout.is_empty(),
            "{output:#?}"
        );
    }
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = run(Some(&token));
    assert!(output.code == Some(2) && output.stderr.contains("0600"), "{output:#?}");
}
