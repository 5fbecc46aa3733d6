//! Files and terminals by way of an editor: an agent in a sandbox is given no such way, whatever the editor offers.

use manager::protocol::{Sandbox, SandboxBy};
use serde_json::{Value, json};

use super::cell::Cell;
use super::kind::Kind;
use super::outside::CANARY;
use crate::acp_side::Editor;
use crate::containment::users;
use crate::sandbox::makers;

/// Returns the file and terminal requests that the editor received while an agent asked for a plan's file.
fn asked(kind: Kind) -> Vec<String> {
    let cell = Cell::new(kind);
    let work = cell.root().join("home/project");
    let plan = work.join("editor-plan");
    let own = work.join("canary-of-its-own").display().to_string();
    let secret = cell.root().join("home/.ssh/id_ed25519").display().to_string();
    let lines = [
        format!("read\tfs-read {own}\n"),
        format!("link\tfs-read {}/link/id_ed25519\n", work.display()),
        format!("write\tfs-write {}/written\n", work.display()),
        format!("terminal\tterminal - - /bin/cat {own}\n"),
        format!("secret\tterminal - - /bin/cat {secret}\n"),
        format!("race\trace {0}/swap {0}/swapped 300 fs-reads 300 {0}/swap/id_ed25519\n", work.display()),
    ];
    std::fs::write(&plan, lines.concat()).unwrap();
    let mut editor = Editor::silent(&cell.daemon, &["--agent", "hostile"]);
    let able = json!({ "fs": { "readTextFile": true, "writeTextFile": true }, "terminal": true });
    editor.ask("initialize", json!({ "protocolVersion": 1, "clientCapabilities": able }));
    let new = editor.ask("session/new", json!({ "cwd": work.display().to_string(), "mcpServers": [] }));
    let id = new["result"]["sessionId"].as_str().unwrap_or_else(|| panic!("{new}")).to_owned();
    let results = work.join("editor-results");
    let text = format!("{} {}/probes {}", plan.display(), work.display(), results.display());
    let prompt = editor.prompt(&id, &text);
    let mut asked = Vec::new();
    // The editor does as it is asked, as editors do: by the path.
    let answers = |request: &Value| match request["method"].as_str().unwrap_or_default() {
        "fs/read_text_file" => {
            let path = request["params"]["path"].as_str().unwrap_or_default();
            json!({ "content": std::fs::read_to_string(path).unwrap_or_default() })
        }
        "terminal/create" => json!({ "terminalId": "t" }),
        "terminal/wait_for_exit" => json!({ "exitCode": 0 }),
        "terminal/output" => json!({ "output": CANARY, "truncated": false }),
        _ => json!({}),
    };
    let ended = editor.serves(prompt, |request| {
        let method = request["method"].as_str().unwrap_or_default().to_owned();
        if method.starts_with("fs/") || method.starts_with("terminal/") {
            asked.push(method);
        }
        answers(request)
    });
    assert_eq!(ended["result"]["stopReason"], "end_turn", "{ended}");
    let found = std::fs::read_to_string(&results).unwrap();
    if kind.sandbox != Sandbox::None {
        for name in ["link", "secret", "race"] {
            let line = found.lines().find(|line| line.starts_with(name)).unwrap();
            assert!(!line.contains("\treached\t"), "{}: {line}", kind.name());
        }
    }
    asked
}

#[test]
fn an_editor_is_asked_nothing_by_an_agent_in_a_sandbox() {
    for user in users() {
        let free = asked(Kind { user: *user, by: SandboxBy::Landlock, sandbox: Sandbox::None });
        assert!(free.iter().any(|method| method == "fs/read_text_file"), "this proves nothing: {free:?}");
        assert!(free.iter().any(|method| method == "terminal/create"), "this proves nothing: {free:?}");
        for by in makers() {
            for sandbox in [Sandbox::Workdir, Sandbox::Strict] {
                let kind = Kind { user: *user, by, sandbox };
                assert_eq!(asked(kind), Vec::<String>::new(), "{}", kind.name());
            }
        }
    }
}
