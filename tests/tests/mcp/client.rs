//! A client of `kennel mcp` that speaks lines of JSON.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use harness::daemon::Daemon;
use harness::real::*;
use serde_json::{Value, json};

/// A client of `kennel mcp`, as an agent is one.
pub(crate) struct Mcp {
    pub child: Child,
    pub lines: Receiver<Value>,
    pub next: u64,
}

impl Mcp {
    /// For the session whose token this file has.
    pub(crate) fn over(daemon: &Daemon, token: &Path) -> Self {
        let mut command = daemon.command(&["mcp"]);
        command.env("KENNEL_TOKEN_FILE", token).stdin(Stdio::piped());
        Self::of(command.spawn().unwrap())
    }

    pub fn of(mut child: Child) -> Self {
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines() {
                let _ = sender.send(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        let mut mcp = Self { child, lines, next: 0 };
        let info = json!({ "name": "test", "version": "1" });
        let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info });
        let answer = mcp.ask("initialize", hello);
        assert_eq!(answer["result"]["serverInfo"]["name"], "kennel", "{answer}");
        mcp.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        mcp
    }

    pub fn say(&mut self, message: &Value) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.lines.recv_timeout(BOUND).unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == id {
                return message;
            }
        }
    }

    /// Calls a tool. Returns its answer, and true if that is an error.
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> (Value, bool) {
        let answer = self.ask("tools/call", json!({ "name": tool, "arguments": arguments }));
        let result = &answer["result"];
        // The same twice: as text for the model, and as an object for programs.
        let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(text, result["structuredContent"], "{answer}");
        (text, result["isError"] == true)
    }

    pub(crate) fn ok(&mut self, tool: &str, arguments: Value) -> Value {
        let (value, failed) = self.call(tool, arguments);
        assert!(!failed, "{tool}: {value}");
        value
    }

    /// The code of what must be refused.
    pub fn refused(&mut self, tool: &str, arguments: Value) -> String {
        let (value, failed) = self.call(tool, arguments);
        assert!(failed, "{tool}: {value}");
        value["code"].as_str().unwrap().to_owned()
    }

    /// Starts a sub-agent of these words, and gives its id.
    pub fn start(&mut self, task: &str) -> String {
        self.ok("start_subagent", json!({ "task": task }))["session_id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if std::thread::panicking() {
            // A second panic would hide the first.
            let _ = self.child.kill();
            let _ = self.child.wait();
            return;
        }
        // It leaves with its client.
        until("the end of kennel mcp", || self.child.try_wait().unwrap());
    }
}
