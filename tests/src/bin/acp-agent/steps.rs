//! The prompt is a script: steps with their arguments, separated by `;`.
//!
//! | step | effect |
//! |---|---|
//! | `say TEXT` | a piece of its answer |
//! | `think TEXT` | a piece of its thoughts |
//! | `child NAME` | reports a sub-agent within itself, and one within that; both send a message |
//! | `servers` / `server NAME` | prints the names of its MCP servers; one of them, as it was given |
//! | `attached` | prints the prompt's attachments, block by block |
//! | `mcp NAME TOOL` | starts that server, which inherits the agent's open files, calls a tool, and prints its answer |
//! | `rename PATH PATH` | gives a file another name |
//! | `recall` | prints the number of prompts that it remembers, and the last of them |
//! | `tool ID TITLE` / `done ID` | begins / ends a tool call |
//! | `ask ID KIND PATH` | asks for permission to use that tool, and prints the answer |
//! | `ask-both ID ID` | asks for permission to use both tools at once, and prints the answers in their order |
//! | `read PATH` / `write PATH TEXT` | through the client; prints the result |
//! | `create PATH TEXT` | makes a file as some agents do: reads it first, through the client if that reads files, and gives up on any error but "no such file" |
//! | `system` | prints its system prompt, in both forms |
//! | `transcript` | prints the replayed conversation before its prompt |
//! | `late TEXT` / `late-ask ID` | prints that, or asks for that permission and prints the answer, after the end of its turn |
//! | `able` | prints the client's declared abilities with files |
//! | `greedy COUNT PATH FILE` | asks for a file that often and reads no answer until FILE exists; then prints the answers |
//! | `elicit QUESTION` | asks the user through the client, in a form with the text `name`; prints the answer |
//! | `both ID QUESTION` | asks for both a form and a permission at once |
//! | `survey QUESTION` | the same with a number, a switch and a choice; prints the whole answer |
//! | `run COMMAND` | in a terminal of the client's; prints its output and status |
//! | `start COMMAND` | the same, and does not wait |
//! | `plan` / `usage` / `news` / `elsewhere` | a plan; token counts; an unknown update; one for another session |
//! | `settings` | prints its mode, its effort and the switch `brief` |
//! | `noise TEXT` | a line that is no message |
//! | `longline BYTES` | a line of that length |
//! | `messages COUNT BYTES` | so many pieces of its answer, each a text of that length |
//! | `wire LINE` / `wires COUNT LINE` | that line, once or so often, with `$S` for its session, `$P` for the prompt's request and `$I` for the count; `«N×TEXT»` is a text N times, `«hex:FF»` a byte |
//! | `heard` | waits for the next answer; prints its id and code, or `ok` |
//! | `half` | half a line, and nothing more |
//! | `unknown` / `stray` | sends an unknown request; an answer without a request |
//! | `sleep 20ms` | waits, and heeds a cancel |
//! | `spin 20ms` | uses the processor and sends nothing |
//! | `eat BYTES` | holds that much memory from here on |
//! | `deaf` | ignores cancels and SIGTERM from here on |
//! | `fork` | starts a process in a session of its own |
//! | `shut` | closes its standard output and lives on |
//! | `mark FILE` | adds one byte to a file |
//! | `exit N` | leaves |
//! | `stop REASON` / `fail TEXT` | ends the turn that way; else with `end_turn` |

use std::fs::OpenOptions;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::asks::choices;
use super::wire::{answer, append, notify, raw, shown, text_block, write};
use super::{Agent, End, duration};

impl Agent {
    pub(crate) fn play(&mut self, script: &str) -> End {
        // Everything before the last line is the replayed conversation.
        let received = script.matches("User: ").count().saturating_sub(1);
        let whole = script.to_owned();
        let script = script.rsplit("User: ").next().unwrap();
        for step in script.split(';').map(str::trim).filter(|step| !step.is_empty()) {
            if self.cancelled && !self.deaf {
                return End::Stop("cancelled".into());
            }
            let (verb, argument) = step.split_once(' ').unwrap_or((step, ""));
            match verb {
                "recall" => {
                    let last = self.prompts.last().cloned().unwrap_or_default();
                    let text = format!("remembered {} told {received} last [{last}]", self.prompts.len());
                    self.say(&text);
                }
                "transcript" => self.say(&whole),
                "stop" => return End::Stop(argument.into()),
                "fail" => return End::Fail(argument.into()),
                _ if self.prints(verb, argument)
                    || self.asks(verb, argument)
                    || self.asks_in_a_form(verb, argument)
                    || self.tests_its_worker(verb, argument) => {}
                _ => panic!("unknown step `{step}`"),
            }
        }
        if self.cancelled && !self.deaf {
            End::Stop("cancelled".into())
        } else {
            End::Stop("end_turn".into())
        }
    }

    /// Steps that report something to the client. Returns whether this is one.
    fn prints(&mut self, verb: &str, argument: &str) -> bool {
        match verb {
            "say" => self.say(argument),
            "think" => {
                self.update(
                    json!({ "sessionUpdate": "agent_thought_chunk", "content": text_block(argument) }),
                );
            }
            "servers" => {
                let names: Vec<&str> =
                    self.servers.iter().filter_map(|server| server["name"].as_str()).collect();
                self.say(&format!("servers [{}]", names.join(" ")));
            }
            "server" => {
                let found = self.servers.iter().find(|server| server["name"] == argument);
                self.say(&found.map_or("none".into(), Value::to_string));
            }
            "attached" => {
                let attached: Vec<String> = self.attached.iter().map(shown).collect();
                self.say(&attached.join(", "));
            }
            "tool" => {
                let (tool, title) = argument.split_once(' ').unwrap_or((argument, "a tool"));
                self.update(json!({ "sessionUpdate": "tool_call", "toolCallId": tool, "title": title,
                    "kind": "execute", "status": "in_progress" }));
            }
            "done" => self.update(json!({ "sessionUpdate": "tool_call_update", "toolCallId": argument,
                "status": "completed" })),
            "system" => self.say(&self.system.to_string()),
            "plan" => {
                let entry = json!({ "content": "think", "priority": "high", "status": "pending" });
                self.update(json!({ "sessionUpdate": "plan", "entries": [entry] }));
            }
            "usage" => self.update(json!({ "sessionUpdate": "usage_update", "used": 5, "size": 10,
                "cost": { "amount": 0.25, "currency": "USD" } })),
            "news" => self.update(json!({ "sessionUpdate": "something_new", "x": [1, { "y": "z" }] })),
            "child" => self.child(argument),
            "settings" => {
                let text = format!("mode {} effort {} brief {}", self.mode, self.effort, self.brief);
                self.say(&text);
            }
            _ => return false,
        }
        true
    }

    /// Steps that ask the client. Returns whether this is one.
    fn asks(&mut self, verb: &str, argument: &str) -> bool {
        match verb {
            "mcp" => {
                let (name, tool) = argument.split_once(' ').unwrap();
                let output = self.use_server(name, tool);
                self.say(&output);
            }
            "late" => self.late = Some(argument.into()),
            "late-ask" => self.late_ask = Some(argument.into()),
            // Its options are all of one kind.
            "choose" => {
                let options = json!([
                    { "optionId": "a", "name": "Plan A", "kind": "allow_once" },
                    { "optionId": "b", "name": "Plan B", "kind": "allow_once" },
                    { "optionId": "no", "name": "Neither", "kind": "reject_once" },
                ]);
                let call = json!({ "toolCallId": "choice", "title": argument });
                let params = json!({ "sessionId": self.session, "toolCall": call, "options": options });
                let answer = self.ask("session/request_permission", params);
                let output = answer["result"]["outcome"]["optionId"].as_str().unwrap_or("nothing");
                self.say(&format!("answered {output}"));
            }
            "ask-command" => {
                let output = self.ask_for_command(argument);
                self.say(&output);
            }
            "ask-both" => {
                let both: Vec<&str> = argument.split(' ').collect();
                let output = self.ask_both(&both);
                self.say(&output);
            }
            "ask" => {
                let words: Vec<&str> = argument.split(' ').collect();
                let mut call = json!({ "toolCallId": words[0], "title": format!("may I {argument}?") });
                if let [_, kind, path] = words[..] {
                    call["kind"] = json!(kind);
                    call["locations"] = json!([{ "path": path }]);
                }
                let params = json!({ "sessionId": self.session, "toolCall": call, "options": choices() });
                let answer = self.ask("session/request_permission", params);
                let outcome = &answer["result"]["outcome"];
                let output =
                    outcome["optionId"].as_str().or(outcome["outcome"].as_str()).unwrap_or("nothing");
                self.say(&format!("answered {output}"));
            }
            "read" => {
                let path = json!({ "sessionId": self.session, "path": argument });
                let answer = self.ask("fs/read_text_file", path);
                self.say_answer(&answer["result"]["content"], &answer);
            }
            "write" => {
                let (path, content) = argument.split_once(' ').unwrap();
                let params = json!({ "sessionId": self.session, "path": path, "content": content });
                let answer = self.ask("fs/write_text_file", params);
                self.say_answer(&json!("written"), &answer);
            }
            "create" => {
                let (path, content) = argument.split_once(' ').unwrap();
                let output = self.create(path, content);
                self.say(&output);
            }
            "able" => {
                let does = |name: &str| self.client_files[name] == true;
                self.say(&format!("reads {} writes {}", does("readTextFile"), does("writeTextFile")));
            }
            "greedy" => {
                let words: Vec<&str> = argument.split(' ').collect();
                let output = self.ask_greedily(words[0].parse().unwrap(), words[1], Path::new(words[2]));
                self.say(&output);
            }
            "run" | "start" => self.run(argument, verb == "run"),
            "unknown" => {
                let answer = self.ask("moon/land", json!({}));
                self.say(&format!("refused {}", answer["error"]["code"]));
            }
            _ => return false,
        }
        true
    }

    /// Steps that ask the user in a form. Returns whether this is one.
    fn asks_in_a_form(&mut self, verb: &str, argument: &str) -> bool {
        match verb {
            "elicit" => {
                let schema = json!({ "type": "object", "required": ["name"],
                    "properties": { "name": { "type": "string", "title": "Your name" } } });
                let params = json!({ "sessionId": self.session, "mode": "form", "message": argument,
                    "requestedSchema": schema });
                let answer = self.ask("elicitation/create", params);
                let (action, name) = (&answer["result"]["action"], &answer["result"]["content"]["name"]);
                self.say(&format!("{} {}", action.as_str().unwrap_or("?"), name.as_str().unwrap_or("-")));
            }
            "both" => {
                let (tool, question) = argument.split_once(' ').unwrap();
                let output = self.ask_form_and_tool(question, tool);
                self.say(&output);
            }
            "survey" => {
                let choices = json!([{ "const": "r", "title": "Red" }, { "const": "g", "title": "Green" }]);
                let schema = json!({ "type": "object", "required": ["name", "count"], "properties": {
                    "name": { "type": "string", "title": "Your name" },
                    "count": { "type": "integer", "minimum": 1, "maximum": 9 },
                    "sure": { "type": "boolean" }, "colour": { "type": "string", "oneOf": choices },
                } });
                let params = json!({ "sessionId": self.session, "mode": "form", "message": argument,
                    "requestedSchema": schema });
                let answer = self.ask("elicitation/create", params);
                self.say(&answer["result"].to_string());
            }
            _ => return false,
        }
        true
    }

    /// Steps that strain the worker, or the process itself. Returns whether this is one.
    #[allow(clippy::zombie_processes, reason = "what it starts is to be left behind")]
    fn tests_its_worker(&mut self, verb: &str, argument: &str) -> bool {
        match verb {
            "rename" => {
                let (from, to) = argument.split_once(' ').unwrap();
                std::fs::rename(from, to).unwrap();
            }
            "elsewhere" => {
                let update =
                    json!({ "sessionUpdate": "agent_message_chunk", "content": text_block("elsewhere") });
                notify("session/update", json!({ "sessionId": "another", "update": update }));
            }
            "noise" => raw(argument),
            "longline" => raw(&"x".repeat(argument.parse().unwrap())),
            "messages" => {
                let (count, bytes) = argument.split_once(' ').unwrap();
                let text = "x".repeat(bytes.parse().unwrap());
                (0..count.parse().unwrap()).for_each(|_: u32| self.say(&text));
            }
            "wire" => self.wire(argument, 0),
            "wires" => {
                let (count, line) = argument.split_once(' ').unwrap();
                (1..=count.parse().unwrap()).for_each(|index| self.wire(line, index));
            }
            "heard" => {
                let output = self.next_answer();
                self.say(&output);
            }
            "half" => {
                print!("{{\"jsonrpc\":");
                std::io::stdout().flush().unwrap();
                self.wait(Duration::from_secs(60));
            }
            "stray" => answer(json!(987_654), json!({})),
            "eat" => {
                // Until it ends.
                std::mem::forget(vec![1u8; argument.parse().unwrap()]);
            }
            "sleep" => self.wait(duration(argument)),
            "spin" => {
                let end = Instant::now() + duration(argument);
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
            }
            "deaf" => {
                self.deaf = true;
                signal_hook::flag::register(15, Arc::new(AtomicBool::new(false))).unwrap();
            }
            "fork" => {
                let mut command = Command::new("setsid");
                command.arg(std::env::current_exe().unwrap()).arg("--child").stdin(Stdio::null());
                let child = command.stdout(Stdio::null()).spawn().unwrap();
                self.say(&format!("forked {}", child.id()));
            }
            "shut" => {
                let nothing = OpenOptions::new().write(true).open("/dev/null").unwrap();
                rustix::stdio::dup2_stdout(&nothing).unwrap();
                self.wait(Duration::from_secs(60));
            }
            "mark" => append(Path::new(argument), "x"),
            "exit" => std::process::exit(argument.parse().unwrap()),
            _ => return false,
        }
        true
    }

    fn wire(&self, line: &str, index: u32) {
        let line = line.replace("$S", &self.session).replace("$I", &index.to_string());
        let line = line.replace("$P", &self.prompt.to_string());
        let mut bytes = Vec::new();
        for piece in line.split('«') {
            let Some((inside, after)) = piece.split_once('»') else {
                bytes.extend_from_slice(piece.as_bytes());
                continue;
            };
            match inside.split_once('×') {
                Some((count, text)) => bytes.extend(text.repeat(count.parse().unwrap()).into_bytes()),
                None => bytes.push(u8::from_str_radix(inside.strip_prefix("hex:").unwrap(), 16).unwrap()),
            }
            bytes.extend_from_slice(after.as_bytes());
        }
        bytes.push(b'\n');
        write(&bytes);
    }

    fn next_answer(&mut self) -> String {
        loop {
            let Ok(message) = self.lines.recv() else { std::process::exit(0) };
            if message["method"].is_null() {
                let code = &message["error"]["code"];
                let code = if code.is_null() { "ok".to_owned() } else { code.to_string() };
                return format!("[{} {code}]", message["id"]);
            }
            self.meanwhile(message);
        }
    }

    fn use_server(&self, name: &str, tool: &str) -> String {
        let server = self.servers.iter().find(|server| server["name"] == name).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut command = Command::new(text(&server["command"]));
        command.args(server["args"].as_array().unwrap().iter().map(text)).env_clear();
        command.envs(
            server["env"].as_array().unwrap().iter().map(|one| (text(&one["name"]), text(&one["value"]))),
        );
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let about = json!({ "name": "acp-agent", "version": "1" });
        let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": about });
        let mut stdin = child.stdin.take().unwrap();
        for message in [
            json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello }),
            json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
            json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": tool, "arguments": {} } }),
        ] {
            writeln!(stdin, "{message}").unwrap();
        }
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let messages = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let answer = messages.into_iter().find(|message| message["id"] == 2);
        drop(stdin);
        child.wait().unwrap();
        answer.map_or("it left".into(), |answer| answer["result"]["structuredContent"].to_string())
    }

    /// Runs a sub-agent within itself, and another within that; both send a message.
    fn child(&self, name: &str) {
        let received =
            |of: &str, update: Value| notify("session/update", json!({ "sessionId": of, "update": update }));
        let (running, below) = (json!({ "state": "running" }), format!("{name}-2"));
        let child = |id: &str, title: &str| {
            json!({ "sessionUpdate": "subagent_update", "sessionId": id,
            "title": title, "state": running })
        };
        let says =
            |text: &str| json!({ "sessionUpdate": "agent_message_chunk", "content": text_block(text) });
        received(&self.session, child(name, "Explorer"));
        received(name, says("found it"));
        received(name, child(&below, "Digger"));
        received(&below, says("dug it up"));
        received(
            &self.session,
            json!({ "sessionUpdate": "subagent_update", "sessionId": name,
            "state": { "state": "idle" } }),
        );
    }
}
