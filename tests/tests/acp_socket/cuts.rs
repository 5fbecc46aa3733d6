//! Connections that are cut, and daemons that are killed, in the middle of turns: nothing is lost and nothing doubled.

use harness::daemon::Daemon;
use harness::real::{kill, lives, until};
use harness::rng::Rng;
use harness::websocket::{self, Receiver, Sender};
use manager::protocol::event::EventKind;
use serde_json::{Value, json};

use crate::acp_side::{Editor, kennel};

/// A client of one session that comes back after each cut, as a program would.
struct Client {
    session: String,
    cursor: String,
    /// The updates so far, each under its cursor.
    seen: Vec<(String, Value)>,
}

impl Client {
    /// Of a new session with this agent.
    fn new(daemon: &Daemon, agent: &str) -> Self {
        let mut editor = Editor::at_socket(daemon, &format!("agent={agent}"), &[]).hello();
        let session = editor.session(daemon);
        Self { session, cursor: "0".into(), seen: Vec::new() }
    }

    /// Connects, goes on after the last update, and sends a prompt under a key of its own. Calls `each` after each message that it
    /// reads; `false` cuts the connection. Returns the stop reason once the answer is there.
    fn prompts(
        &mut self,
        daemon: &Daemon,
        key: &str,
        text: &str,
        mut each: impl FnMut(&Value) -> bool,
    ) -> Option<String> {
        let (sender, mut receiver) = websocket::open(&daemon.socket(), "/v1/acp", &[]).unwrap();
        let after = json!({ "kennel.dev/after": self.cursor, "kennel.dev/takeover": true });
        let resume = json!({ "sessionId": self.session, "cwd": daemon.workdir(), "_meta": after });
        let text = json!([{ "type": "text", "text": text }]);
        let prompt = json!({ "sessionId": self.session, "prompt": text, "_meta": { "kennel.dev/key": key } });
        let mut answer = Value::Null;
        for (method, params) in [
            ("initialize", json!({ "protocolVersion": 1, "clientCapabilities": {} })),
            ("session/resume", resume),
            ("session/prompt", prompt),
        ] {
            answer = self.asks(&sender, &mut receiver, method, params, &mut each)?;
        }
        sender.cut();
        Some(answer["result"]["stopReason"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned())
    }

    fn asks(
        &mut self,
        sender: &Sender,
        receiver: &mut Receiver,
        method: &str,
        params: Value,
        each: &mut impl FnMut(&Value) -> bool,
    ) -> Option<Value> {
        let request = json!({ "jsonrpc": "2.0", "id": method, "method": method, "params": params });
        sender.text(&request.to_string());
        loop {
            let message: Value = serde_json::from_str(&receiver.text()?).unwrap();
            if let Some(cursor) = message["params"]["_meta"]["kennel.dev/cursor"].as_str() {
                self.cursor = cursor.to_owned();
                self.seen.push((cursor.to_owned(), message["params"]["update"].clone()));
            }
            if !each(&message) {
                sender.cut();
                return None;
            }
            if message["id"] == method {
                assert!(message["error"].is_null(), "{message}");
                return Some(message);
            }
        }
    }

    /// Checks that everything was received, once and in order.
    fn check(&self, daemon: &Daemon) {
        let mut editor = Editor::at_socket(daemon, "role=viewer", &[]).hello();
        editor.load(daemon, &self.session);
        let updates = editor.seen.iter().filter(|message| message["method"] == "session/update");
        let told = updates.map(|message| {
            let cursor = message["params"]["_meta"]["kennel.dev/cursor"].as_str().unwrap();
            (cursor.to_owned(), message["params"]["update"].clone())
        });
        let is_shown = |(_, update): &(String, Value)| {
            // The client's own text, which it need not be told, and ends for which no request waited.
            !["user_message_chunk", "session_info_update"]
                .contains(&update["sessionUpdate"].as_str().unwrap())
        };
        let told: Vec<_> = told.filter(is_shown).collect();
        let seen: Vec<_> = self.seen.iter().filter(|seen| is_shown(seen)).cloned().collect();
        assert_eq!(seen, told);
        assert!(told.len() > 10, "{told:?}");
    }
}

fn script(number: usize) -> String {
    format!(
        "say one {number}; sleep 2ms; tool t{number} it; say two {number}; done t{number}; think hm {number}; say three {number}"
    )
}

fn count(daemon: &Daemon, wanted: impl Fn(&EventKind) -> bool) -> usize {
    daemon.events().iter().filter(|event| wanted(&event.kind)).count()
}

#[test]
fn cuts_in_the_middle_of_turns_lose_nothing_and_double_nothing() {
    const CUTS: usize = 40;
    let daemon = kennel();
    let mut client = Client::new(&daemon, "plain");
    let mut rng = Rng::new(16);
    let (mut cuts, mut prompts) = (0, 0);
    while cuts < CUTS {
        prompts += 1;
        let (key, text) = (format!("key-{prompts}"), script(prompts));
        loop {
            let mut left = rng.below(12);
            let end = client.prompts(&daemon, &key, &text, |_| {
                left = left.saturating_sub(1);
                left > 0
            });
            match end {
                Some(end) => break assert_eq!(end, "end_turn"),
                None => cuts += 1,
            }
        }
    }
    client.check(&daemon);
    assert_eq!(count(&daemon, |kind| matches!(kind, EventKind::PromptAccepted { .. })), prompts);
    assert_eq!(count(&daemon, |kind| matches!(kind, EventKind::TurnCompleted { .. })), prompts);
    until("nobody is attached", || daemon.show(&client.session).clients.is_empty().then_some(()));
}

#[test]
fn kill_the_daemon_in_the_middle_of_turns_and_the_client_goes_on() {
    let daemon = kennel();
    let mut client = Client::new(&daemon, "loads");
    for number in 1..=5 {
        let (key, text) = (format!("key-{number}"), script(number) + "; sleep 100ms; say last");
        let pid = daemon.pid();
        let mut killed = false;
        let end = client.prompts(&daemon, &key, &text, |message| {
            if !killed && message["method"] == "session/update" {
                killed = true;
                kill(pid);
                until("the daemon's death", || (!lives(pid)).then_some(()));
            }
            true
        });
        assert_eq!(end, None, "its connection died with it");
        // It starts the next one.
        daemon.ok(&["ls"]);
        assert_ne!(daemon.pid(), pid);
        assert_eq!(client.prompts(&daemon, &key, &text, |_| true).as_deref(), Some("end_turn"));
    }
    client.check(&daemon);
    assert_eq!(count(&daemon, |kind| matches!(kind, EventKind::PromptAccepted { .. })), 5);
    assert_eq!(count(&daemon, |kind| matches!(kind, EventKind::TurnCompleted { .. })), 5);
}

#[test]
fn a_prompt_that_is_sent_again_is_done_once_and_answered_each_time() {
    let daemon = kennel();
    let mut client = Client::new(&daemon, "plain");
    let asks = |client: &mut Client| client.prompts(&daemon, "key", "say one; stop max_tokens", |_| true);
    assert_eq!(asks(&mut client).as_deref(), Some("max_tokens"));
    // Its end is known from the journal.
    assert_eq!(asks(&mut client).as_deref(), Some("max_tokens"));
    assert_eq!(count(&daemon, |kind| matches!(kind, EventKind::PromptAccepted { .. })), 1);
    // Twice on one connection, while it runs.
    let mut editor = Editor::at_socket(&daemon, "", &[]).hello();
    editor.load(&daemon, &client.session);
    let prompt = json!([{ "type": "text", "text": "say two; sleep 200ms; stop refusal" }]);
    let params =
        json!({ "sessionId": client.session, "prompt": prompt, "_meta": { "kennel.dev/key": "both" } });
    let both = [editor.request("session/prompt", params.clone()), editor.request("session/prompt", params)];
    let both = both.map(|id| editor.answer(id));
    assert_eq!(both[0]["result"], both[1]["result"]);
    assert_eq!(both[0]["result"]["stopReason"], "refusal");
    assert_eq!(count(&daemon, |kind| matches!(kind, EventKind::PromptAccepted { .. })), 2);
    // With another text it is another prompt's key.
    let other = json!({ "sessionId": client.session, "prompt": [{ "type": "text", "text": "say three" }],
        "_meta": { "kennel.dev/key": "both" } });
    let refused = editor.ask("session/prompt", other);
    assert_eq!(refused["error"]["data"]["code"], "idempotency_key_reused", "{refused}");
    for wrong in [json!({ "kennel.dev/key": 7 }), json!({ "kennel.dev/key": "" })] {
        let params = json!({ "sessionId": client.session, "prompt": [{ "type": "text", "text": "x" }], "_meta": wrong });
        let refused = editor.ask("session/prompt", params);
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
    }
}

#[test]
fn the_end_of_a_prompt_whose_connection_was_cut_is_told() {
    let daemon = kennel();
    let mut editor = Editor::at_socket(&daemon, "agent=plain", &[]).hello();
    let id = editor.session(&daemon);
    editor.prompt(&id, "say one; sleep 100ms; say two; stop max_tokens");
    editor.wait_for_text("one");
    let cursor = editor.seen.last().unwrap()["params"]["_meta"]["kennel.dev/cursor"].clone();
    editor.close();
    let mut editor = Editor::at_socket(&daemon, "", &[]).hello();
    let after = json!({ "kennel.dev/after": cursor });
    let params = json!({ "sessionId": id, "cwd": daemon.workdir(), "mcpServers": [], "_meta": after });
    let loaded = editor.ask("session/load", params);
    assert!(loaded["result"]["_meta"]["kennel.dev/cursor"].is_string(), "{loaded}");
    let end = editor
        .wait_for("its end", |message| message["params"]["update"]["_meta"]["kennel.dev/ended"].is_object());
    let ended = &end["params"]["update"]["_meta"]["kennel.dev/ended"];
    assert_eq!(ended["stopReason"], "max_tokens");
    assert_eq!(ended["prompt"], end["params"]["_meta"]["kennel.dev/prompt"]);
    assert_eq!(editor.updates(), ["message two", "session_info_update"]);
    let wrong =
        json!({ "sessionId": id, "cwd": "/", "mcpServers": [], "_meta": { "kennel.dev/after": "x" } });
    assert_eq!(editor.ask("session/load", wrong)["error"]["code"], -32602);
}

#[test]
fn a_daemon_that_restarts_says_so_to_its_clients() {
    let daemon = kennel();
    daemon.ok(&["ls"]);
    let (_sender, mut receiver) = websocket::open(&daemon.socket(), "/v1/acp", &[]).unwrap();
    daemon.ok(&["daemon", "restart"]);
    assert_eq!(receiver.end().map(|(code, _)| code), Some(1012));
}
