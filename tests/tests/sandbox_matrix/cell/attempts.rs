//! Attempts beside the probes' steps: by the session's token, its environment, and planted programs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use harness::daemon::finish_within;
use harness::real::*;
use serde_json::{Value, json};

use super::{Cell, PROBES};
use crate::sandbox_matrix::kind::Results;
use crate::sandbox_matrix::outside::{CANARY, as_user};

impl Cell {
    /// Tries the session's token: sub-agents are no freer than the session.
    pub fn kin(&self, results: &mut Results) {
        let token = self.daemon.ok(&["token", "canary-main"]);
        let fact = |name: &str| self.facts[name].as_str();
        let secret = format!("cat {}", fact("secret"));
        let hidden = format!("cat {}/mine4/canary", fact("home"));
        let writes = |what: &str| format!("echo x > {}/{what}", fact("outside"));
        let library = format!("{}/pre-kin/preload.so", fact("work"));
        for (name, agent, workdir, task, preload) in [
            ("of a profile without a sandbox", "free", fact("work"), &secret, ""),
            ("with less hidden", "open", fact("work"), &hidden, ""),
            ("in another directory", "walled", fact("outside"), &writes("by-kin"), ""),
            ("in the directory above", "walled", fact("root"), &writes("by-kin-above"), ""),
            ("LD_PRELOAD", "walled", fact("work"), &secret, library.as_str()),
        ] {
            let env = if preload.is_empty() { json!({}) } else { json!({ "LD_PRELOAD": preload }) };
            let opts = json!({ "agent": agent, "workdir": workdir, "env": env });
            let started = self.asks("POST", "/v1/subagents", &token, &json!({ "task": task, "opts": opts }));
            let output = match started["session_id"].as_str() {
                None => started.clone(),
                Some(id) => until("the end of a sub-agent's task", || {
                    let result = self.asks("GET", &format!("/v1/sessions/{id}/result"), &token, &Value::Null);
                    (!result["outcome"].is_null()).then_some(result)
                }),
            };
            let made = task.split_once("> ").is_some_and(|(_, path)| Path::new(path).exists());
            let reached = made || output.to_string().contains(CANARY);
            let word = if reached { "reached" } else { "refused" };
            results.insert(format!("kin: by its token, {name}"), (word.into(), output.to_string()));
        }
    }

    /// Plants a program at the head of the daemon's PATH: kennel never runs it outside.
    pub fn planted(&self, results: &mut Results) {
        let ran = self.root.join("outside/planted-ran");
        // Not setpriv, by which the tests become another user.
        for program in ["bwrap", "umount", "git", "sh"] {
            let planted = self.root.join("home/project/bin").join(program);
            let script =
                format!("#!/bin/sh\necho {program} >> {}\nexec /usr/bin/{program} \"$@\"\n", ran.display());
            std::fs::write(&planted, script).unwrap();
            std::fs::set_permissions(&planted, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let dir = self.facts["work"].as_str();
        self.daemon.run(&["start", "--id", "planted", "--agent", "hostile", "--dir", dir]);
        self.daemon.run(&["wait", "planted", "--until", "idle", "--timeout", "10s"]);
        self.daemon.run(&["restart", "canary-main"]);
        self.daemon.run(&["wait", "canary-main", "--until", "idle", "--timeout", "10s"]);
        let ran = std::fs::read_to_string(ran).unwrap_or_default();
        let word = if ran.is_empty() { "refused" } else { "reached" };
        results
            .insert("plant: programs where PATH leads first".into(), (word.into(), ran.replace('\n', " ")));
    }

    /// Asks the API as somebody does who has this token.
    fn asks(&self, method: &str, path: &str, token: &str, body: &Value) -> Value {
        let mut command = as_user(self.kind.user, &self.root.join("bin/probes"));
        command.arg("http").arg(self.facts["socket"].as_str()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: kennel\r\nAuthorization: Bearer canary-main:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            token.trim(),
            body.len()
        );
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), request.as_bytes()).unwrap();
        let answer = finish_within(child, PROBES).stdout;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Code that the session's environment brings runs inside only.
    pub fn environment(&self, results: &mut Results) {
        let project = self.root.join("home/project");
        let dir = project.display().to_string();
        let started = self.daemon.run(&["start", "--id", "preloaded", "--agent", "preloaded", "--dir", &dir]);
        if started.code == Some(0) {
            self.daemon.idle("preloaded");
        }
        for (name, directory) in [
            ("environment: LD_PRELOAD of the profile", "pre-profile"),
            ("environment: LD_PRELOAD of terminal/create", "pre-terminal"),
            ("environment: LD_AUDIT of terminal/create", "pre-audit"),
            ("environment: LD_PRELOAD of a sub-agent", "pre-kin"),
        ] {
            let log = std::fs::read_to_string(project.join(directory).join("log")).unwrap_or_default();
            let space = format!("pid:[{}]", self.facts["ns_pid"]);
            let outside = log.lines().find(|line| {
                line.starts_with(&space) || line.ends_with("/session-worker") || line.ends_with("/bwrap")
            });
            let word = if outside.is_some() { "reached" } else { "refused" };
            results.insert(name.into(), (word.into(), outside.unwrap_or(&log).replace('\n', ", ")));
        }
    }
}
