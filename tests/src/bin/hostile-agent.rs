//! An agent that tries to escape. It speaks the Agent Client Protocol and tries the steps of its plan.
//!
//! Its prompt names three files: a plan, the program that tries system calls (`hostile/probes.c`), and the file for the results.
//! A line of the plan is `NAME<TAB>STEP ARGUMENTS`. These steps ask the client; all others are the program's:
//!
//! | step | reached if |
//! |---|---|
//! | `terminal CWD NAME=VALUE COMMAND...` | the command prints the secret; `-` stands for no directory, no variable, `~` for a space |
//! | `terminals COUNT CWD COMMAND...` | one of that many commands prints the secret |
//! | `fs-read PATH` / `fs-write PATH` | the client reads the secret / reports that it has written |
//! | `fs-reads COUNT PATH` / `fs-writes COUNT PATH` | one of that many attempts |
//! | `race A B FOR STEP...` | the step is, while the names A and B are swapped without a pause for so many milliseconds |
//! | `offered` | it has a server, a variable or a descriptor that leads to kennel |
//!
//! A result is `NAME<TAB>WORD<TAB>WHY`, as the program prints it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a fixture fails by panicking")]

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, StdinLock, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// The content of every secret.
const CANARY: &str = "canary-4711";

fn main() {
    let mut agent = Agent { lines: std::io::stdin().lock().lines(), next: 1000, servers: Value::Null };
    while let Some(message) = agent.read() {
        let (id, params) = (&message["id"], &message["params"]);
        match message["method"].as_str().unwrap_or_default() {
            "initialize" => {
                let able = json!({ "loadSession": false, "mcpCapabilities": { "http": true } });
                agent.answer(
                    id,
                    json!({ "protocolVersion": 1, "agentCapabilities": able, "authMethods": [] }),
                );
            }
            "session/new" => {
                agent.servers = params["mcpServers"].clone();
                agent.answer(id, json!({ "sessionId": "hostile" }));
            }
            "session/prompt" => {
                let text = params["prompt"][0]["text"].as_str().unwrap().to_owned();
                let files: Vec<&str> = text.rsplit("User: ").next().unwrap().split_whitespace().collect();
                agent.play(files[0], files[1], files[2]);
                agent.answer(id, json!({ "stopReason": "end_turn" }));
            }
            _ if id.is_null() => {}
            _ => agent
                .send(&json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": "no" } })),
        }
    }
}

struct Agent {
    lines: Lines<StdinLock<'static>>,
    next: u64,
    /// The MCP servers that it was given.
    servers: Value,
}

/// The result of a step: a word, and the reason.
type Came = (&'static str, String);

impl Agent {
    fn read(&mut self) -> Option<Value> {
        Some(serde_json::from_str(&self.lines.next()?.unwrap()).unwrap())
    }

    fn send(&self, message: &Value) {
        println!("{message}");
    }

    fn answer(&self, id: &Value, result: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
    }

    /// The client's answer.
    fn ask(&mut self, method: &str, mut params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        params["sessionId"] = json!("hostile");
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.read().expect("an answer");
            if message["id"] == id && message["method"].is_null() {
                return message;
            }
        }
    }

    fn play(&mut self, plan: &str, program: &str, results: &str) {
        let plan = std::fs::read_to_string(plan).unwrap();
        let mut results = File::create(results).unwrap();
        let mut probes = Probes::start(program);
        for line in plan.lines() {
            let (name, step) = line.split_once('\t').unwrap();
            let words: Vec<&str> = step.split(' ').collect();
            let result = match self.step(program, &words) {
                Some((word, why)) => format!("{name}\t{word}\t{}", why.replace(['\n', '\t'], " ")),
                None => probes.tries(line),
            };
            writeln!(results, "{result}").unwrap();
        }
    }

    fn step(&mut self, program: &str, words: &[&str]) -> Option<Came> {
        Some(match words {
            ["terminal", cwd, variable, command @ ..] => self.terminal(cwd, variable, command),
            ["terminals", count, cwd, command @ ..] => {
                self.often(count, |agent| agent.terminal(cwd, "-", command))
            }
            ["fs-read", path] => self.fs_read(path),
            ["fs-write", path] => self.fs_write(path),
            ["fs-reads", count, path] => self.often(count, |agent| agent.fs_read(path)),
            ["fs-writes", count, path] => self.often(count, |agent| agent.fs_write(path)),
            ["race", one, other, time, step @ ..] => {
                let mut race = Command::new(program);
                race.args(["race", one, other, time]).stdout(Stdio::piped());
                let race = race.spawn().unwrap();
                let (word, why) = self.step(program, step).expect("a step of the client's");
                let swaps = race.wait_with_output().unwrap();
                (word, format!("{why}; {} swaps", String::from_utf8_lossy(&swaps.stdout).trim()))
            }
            ["offered"] => self.offered(),
            _ => return None,
        })
    }

    /// So often, or until it is reached.
    fn often(&mut self, count: &str, step: impl Fn(&mut Self) -> Came) -> Came {
        let count: u32 = count.parse().unwrap();
        let mut last = ("refused", String::new());
        for _ in 0..count {
            last = step(self);
            if last.0 == "reached" {
                break;
            }
        }
        (last.0, format!("{count} times, at last: {}", last.1))
    }

    fn fs_read(&mut self, path: &str) -> Came {
        let answer = self.ask("fs/read_text_file", json!({ "path": path }));
        let text = answer.to_string();
        if text.contains(CANARY) { ("reached", "read the secret".into()) } else { ("refused", text) }
    }

    fn fs_write(&mut self, path: &str) -> Came {
        let answer = self.ask("fs/write_text_file", json!({ "path": path, "content": "touched\n" }));
        if answer["error"].is_null() {
            ("reached", "written".into())
        } else {
            ("refused", answer.to_string())
        }
    }

    fn terminal(&mut self, cwd: &str, variable: &str, command: &[&str]) -> Came {
        let args: Vec<String> = command[1..].iter().map(|word| word.replace('~', " ")).collect();
        let mut params = json!({ "command": command[0], "args": args });
        if cwd != "-" {
            params["cwd"] = json!(cwd);
        }
        if let Some((name, value)) = variable.split_once('=') {
            params["env"] = json!([{ "name": name, "value": value }]);
        }
        let created = self.ask("terminal/create", params);
        let Some(terminal) = created["result"]["terminalId"].as_str() else {
            return ("refused", created["error"]["message"].to_string());
        };
        let terminal = json!({ "terminalId": terminal });
        self.ask("terminal/wait_for_exit", terminal.clone());
        let output = self.ask("terminal/output", terminal.clone()).to_string();
        self.ask("terminal/release", terminal);
        if output.contains(CANARY) {
            ("reached", "the command said the secret".into())
        } else {
            ("refused", output)
        }
    }

    /// Returns true if any variable, descriptor or server of the agent leads to kennel.
    fn offered(&self) -> Came {
        let servers = self.servers.to_string();
        if servers.contains("kennel") {
            return ("reached", servers);
        }
        let named =
            |name: &str| name.starts_with("KENNEL_") && name != "KENNEL_SESSION" && name != "KENNEL_MODEL";
        let variables = std::env::vars().filter(|(name, _)| named(name));
        let variables: Vec<String> = variables.map(|(name, value)| format!("{name}={value}")).collect();
        match variables.is_empty() {
            true => ("refused", "nothing of kennel's".into()),
            false => ("reached", variables.join(" ")),
        }
    }
}

/// The program that tries system calls.
struct Probes {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Probes {
    fn start(program: &str) -> Self {
        let mut command = Command::new(program);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { _child: child, stdin, lines: BufReader::new(stdout).lines() }
    }

    fn tries(&mut self, line: &str) -> String {
        writeln!(self.stdin, "{line}").unwrap();
        self.lines.next().expect("a result").unwrap()
    }
}
