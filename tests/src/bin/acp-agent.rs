//! An agent that speaks the Agent Client Protocol and does exactly what its prompt says, however badly an agent can
//! behave.
//!
//! Options: `--load` and `--resume` (it can), `--image`, `--audio` and `--files` (it takes them in prompts), `--memory DIR` (where it keeps its conversations, one file each),
//! `--login` (it wants a log-in by the method `key`), `--forgets` (it refuses to load), `--dies-loading`, `--early-exit`,
//! `--hangs-resuming` and `--hangs-loading` (it never answers that),
//! `--login-url URL` (it prints that, and then asks for the log-in once there is the file `--login-seen`),
//! `--system-prompt` (it takes one), `--own-prompt` (it takes one beside its own only),
//! `--two-modes` (its mode is an option, too), `--one-form` (so, and it tells of a change as a mode only), `--stubborn` (it
//! agrees to a mode, and stays in its own), `--models` (it has a choice of two),
//! `--http` and `--sse` (it reaches MCP servers so), `--no-stdio` (it takes none that is a program), `--closes` (it closes what it has inherited beside 0, 1 and 2),
//! `--mute` (it reads nothing, and writes to standard error only), `--other-version`, `--log FILE` (methods that it was asked for, one a line).
//!
//! The prompt is a script: steps with their arguments, separated by `;`.
//!
//! | step | what it does |
//! |---|---|
//! | `say TEXT` | a piece of its answer |
//! | `think TEXT` | a piece of its thoughts |
//! | `child NAME` | tells of a sub-agent within itself, and of one within that; both say something |
//! | `servers` / `server NAME` | says the names of the MCP servers that it was given; one of them, as it was given |
//! | `attached` | says what came with the prompt, block by block |
//! | `mcp NAME TOOL` | starts that one of them, which inherits what the agent has open, calls a tool, and says what it says |
//! | `rename PATH PATH` | gives a file another name |
//! | `recall` | says how many prompts it remembers, and the last of them |
//! | `tool ID TITLE` / `done ID` | begins / ends a tool call |
//! | `ask ID KIND PATH` | asks for permission to use that tool, and says what was answered |
//! | `ask-both ID ID` | asks for permission to use both tools at once, and says what was answered, in the order of the answers |
//! | `read PATH` / `write PATH TEXT` | by way of the client; says what came of it |
//! | `create PATH TEXT` | as some agents make a file: reads it first, by way of the client if that reads files, and takes any error but "no such file" as final |
//! | `system` | says its system prompt, in both forms |
//! | `transcript` | says what it was told with its prompt |
//! | `late TEXT` / `late-ask ID` | says that, or asks for that permission and says what was answered, after the end of its turn |
//! | `able` | says which files the client has said that it reads and writes |
//! | `greedy COUNT PATH FILE` | asks for a file that often and reads no answer until there is FILE; says what then came |
//! | `elicit QUESTION` | asks the user by way of the client, in a form with the text `name`; says what was answered |
//! | `both ID QUESTION` | asks for both a form and a permission at once |
//! | `survey QUESTION` | the same with a number, a switch and a choice; says the whole answer |
//! | `run COMMAND` | in a terminal of the client's; says its output and status |
//! | `start COMMAND` | the same, and does not wait |
//! | `plan` / `usage` / `news` / `elsewhere` | a plan; what was used; an unknown update; one for another session |
//! | `settings` | says its mode, its effort and whether it is brief |
//! | `noise TEXT` | a line that is no message |
//! | `longline BYTES` | a line of that length |
//! | `messages COUNT BYTES` | so many pieces of its answer, each a text of that length |
//! | `wire LINE` / `wires COUNT LINE` | that line, once or so often, with `$S` for its session, `$P` for the prompt's request and `$I` for the count; `«N×TEXT»` is a text N times, `«hex:FF»` a byte |
//! | `heard` | waits for the next answer; says its id and code, or `ok` |
//! | `half` | half a line, and nothing more |
//! | `unknown` / `stray` | asks for what nobody has heard of; answers what nobody asked |
//! | `sleep 20ms` | waits, and heeds a cancel |
//! | `spin 20ms` | uses the processor and says nothing |
//! | `eat BYTES` | holds that much memory from here on |
//! | `deaf` | heeds no cancel and no SIGTERM from here on |
//! | `fork` | starts a process in a session of its own |
//! | `shut` | closes its standard output and lives on |
//! | `mark FILE` | adds one byte to a file |
//! | `exit N` | leaves |
//! | `stop REASON` / `fail TEXT` | ends the turn so; else with `end_turn` |

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a fixture fails by panicking")]

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args == ["--child"] {
        return std::thread::park_timeout(Duration::from_secs(120));
    }
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).map(PathBuf::from)
    };
    if has("--mute") {
        eprintln!("thinking");
        return std::thread::park_timeout(Duration::from_secs(120));
    }
    if has("--early-exit") {
        eprintln!("no, thanks");
        std::process::exit(3);
    }
    if has("--closes") {
        (3..256).for_each(|fd| _ = nix::unistd::close(fd));
    }
    let (sender, lines) = channel();
    let reads = Arc::new(Mutex::new(()));
    let may_read = reads.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            drop(may_read.lock().unwrap());
            let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    let mut agent = Agent {
        lines,
        reads,
        later: VecDeque::new(),
        can_load: has("--load"),
        can_resume: has("--resume"),
        takes: json!({ "image": has("--image"), "audio": has("--audio"), "embeddedContext": has("--files") }),
        attached: Vec::new(),
        forgets: has("--forgets"),
        dies_loading: has("--dies-loading"),
        hangs_resuming: has("--hangs-resuming"),
        hangs_loading: has("--hangs-loading"),
        http: has("--http"),
        sse: has("--sse"),
        no_programs: has("--no-stdio"),
        version: if has("--other-version") { 7 } else { 1 },
        logged_in: !has("--login"),
        memory: value("--memory"),
        log: value("--log"),
        session: String::new(),
        prompt: Value::Null,
        servers: Vec::new(),
        prompts: Vec::new(),
        next: 1000,
        cancelled: false,
        deaf: false,
        mode: "ask".into(),
        effort: "low".into(),
        brief: false,
        late: None,
        late_ask: None,
        knows_switches: false,
        client_files: Value::Null,
        takes_prompt: match (has("--system-prompt"), has("--own-prompt")) {
            (true, _) => Some(json!({ "mode": { "override": {} } })),
            (false, true) => Some(json!({})),
            (false, false) => None,
        },
        system: Value::Null,
        login_url: value("--login-url").map(|url| url.display().to_string()),
        login_seen: value("--login-seen"),
        two_modes: has("--two-modes") || has("--one-form"),
        one_form: has("--one-form"),
        stubborn: has("--stubborn"),
        models: has("--models"),
        model: "small".into(),
    };
    while let Some(message) = agent.next_message() {
        agent.handle(message);
    }
}

struct Agent {
    lines: Receiver<Value>,
    /// Whoever has it keeps standard input from being read.
    reads: Arc<Mutex<()>>,
    later: VecDeque<Value>,
    can_load: bool,
    can_resume: bool,
    takes: Value,
    /// What came with the prompt.
    attached: Vec<Value>,
    forgets: bool,
    dies_loading: bool,
    hangs_resuming: bool,
    hangs_loading: bool,
    http: bool,
    sse: bool,
    no_programs: bool,
    version: u32,
    logged_in: bool,
    memory: Option<PathBuf>,
    log: Option<PathBuf>,
    session: String,
    /// The id of the request whose turn runs.
    prompt: Value,
    servers: Vec<Value>,
    prompts: Vec<String>,
    next: u64,
    cancelled: bool,
    deaf: bool,
    mode: String,
    effort: String,
    brief: bool,
    /// What it says, and what it wants to be allowed, after the end of its turn.
    late: Option<String>,
    late_ask: Option<String>,
    /// The client has options that are true or false.
    knows_switches: bool,
    /// What the client has said of its files.
    client_files: Value,
    takes_prompt: Option<Value>,
    system: Value,
    login_url: Option<String>,
    login_seen: Option<PathBuf>,
    two_modes: bool,
    one_form: bool,
    stubborn: bool,
    models: bool,
    model: String,
}

/// How a turn ends.
enum End {
    Stop(String),
    Fail(String),
}

impl Agent {
    fn next_message(&mut self) -> Option<Value> {
        self.later.pop_front().or_else(|| self.lines.recv().ok())
    }

    fn handle(&mut self, message: Value) {
        let (id, params) = (message["id"].clone(), message["params"].clone());
        let Some(method) = message["method"].as_str() else { return };
        if let Some(log) = &self.log {
            append(log, &format!("{method}\n"));
        }
        if method.starts_with("session/") && params["cwd"].is_string() {
            self.system = json!([params["systemPrompt"], params["_meta"]["systemPrompt"]]);
        }
        if let Some(servers) = params["mcpServers"].as_array() {
            self.servers = servers.clone();
        }
        match method {
            "initialize" => {
                self.client_files = params["clientCapabilities"]["fs"].clone();
                let session = &params["clientCapabilities"]["session"];
                self.knows_switches = session["configOptions"]["boolean"].is_object();
                let mut able = json!({ "loadSession": self.can_load, "promptCapabilities": self.takes });
                if self.can_resume {
                    able["sessionCapabilities"] = json!({ "resume": {} });
                }
                if let Some(mode) = &self.takes_prompt {
                    able["sessionCapabilities"]["systemPrompt"] = mode.clone();
                }
                able["mcpCapabilities"] = json!({ "http": self.http, "sse": self.sse });
                if self.no_programs {
                    able["mcpCapabilities"]["stdio"] = json!(false);
                }
                let methods =
                    if self.logged_in { json!([]) } else { json!([{ "id": "key", "name": "A key" }]) };
                let version = self.version;
                answer(
                    id,
                    json!({
                        "protocolVersion": version,
                        "agentCapabilities": able,
                        "authMethods": methods,
                        "agentInfo": { "name": "acp-agent", "version": "0.1.7-fixture" },
                    }),
                );
            }
            "authenticate" => {
                self.logged_in = params["methodId"] == "key";
                answer(id, json!({}));
            }
            "session/new" if !self.logged_in => {
                if let Some(url) = &self.login_url {
                    eprintln!("\u{1b}]0;evil\u{7}Please log in:\n\n  {url}\u{1b}[2J");
                    // As one that waits for its user, until that is seen.
                    while !self.login_seen.as_ref().is_none_or(|file| file.exists()) {
                        std::thread::park_timeout(Duration::from_millis(2));
                    }
                }
                refuse(id, -32000, "Authentication required");
            }
            "session/new" => {
                // In a namespace of its own each process has the same number.
                let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
                self.session = format!("agent-session-{now}-{}", self.next);
                self.prompts.clear();
                answer(id, self.opened());
            }
            "session/load" if self.dies_loading => std::process::exit(9),
            "session/load" if self.hangs_loading => {}
            "session/resume" if self.hangs_resuming => {}
            "session/load" if self.forgets => refuse(id, -32603, "it is forgotten"),
            "session/load" | "session/resume" => {
                self.session = params["sessionId"].as_str().unwrap().to_owned();
                let Some(text) = self.file().and_then(|file| std::fs::read_to_string(file).ok()) else {
                    return refuse(id, -32602, "no such session");
                };
                self.prompts = text.lines().map(str::to_owned).collect();
                if method == "session/load" {
                    for prompt in self.prompts.clone() {
                        self.update(
                            json!({ "sessionUpdate": "user_message_chunk", "content": text_block(&prompt) }),
                        );
                        self.say("replayed");
                    }
                }
                answer(id, self.opened());
            }
            "session/set_mode" => match params["modeId"].as_str().unwrap() {
                "ask" | "code" if self.stubborn => {
                    self.update(
                        json!({ "sessionUpdate": "current_mode_update", "currentModeId": self.mode }),
                    );
                    answer(id, json!({}));
                }
                mode @ ("ask" | "code") => {
                    self.mode = mode.to_owned();
                    answer(id, json!({}));
                }
                _ => refuse(id, -32602, "no such mode"),
            },
            "session/set_config_option" => {
                match (params["configId"].as_str().unwrap(), &params["value"]) {
                    ("effort", Value::String(effort)) if ["low", "high"].contains(&effort.as_str()) => {
                        self.effort = effort.clone();
                    }
                    ("model", Value::String(model)) if ["small", "big"].contains(&model.as_str()) => {
                        self.model = model.clone();
                    }
                    ("approvals", Value::String(mode)) if ["ask", "code"].contains(&mode.as_str()) => {
                        let stale = self.options();
                        self.mode = mode.clone();
                        if self.one_form {
                            let told =
                                json!({ "sessionUpdate": "current_mode_update", "currentModeId": mode });
                            self.update(told);
                            return answer(id, json!({ "configOptions": stale }));
                        }
                    }
                    ("brief", Value::Bool(on)) if params["type"] == "boolean" => self.brief = *on,
                    _ => return refuse(id, -32602, "no such value"),
                }
                answer(id, json!({ "configOptions": self.options() }));
            }
            "session/prompt" => {
                let blocks = params["prompt"].as_array().unwrap();
                let text = blocks[0]["text"].as_str().unwrap_or("attached").to_owned();
                self.attached = blocks[usize::from(blocks[0]["type"] == "text")..].to_vec();
                self.cancelled = false;
                self.prompt = id.clone();
                let end = self.play(&text);
                self.prompts.push(text.replace('\n', " "));
                if let Some(file) = self.file() {
                    append(&file, &format!("{}\n", text.replace('\n', " ")));
                }
                match end {
                    End::Fail(why) => refuse(id, -32603, &why),
                    End::Stop(reason) => {
                        let usage = json!({ "inputTokens": 100, "outputTokens": 20, "totalTokens": 120 });
                        answer(id, json!({ "stopReason": reason, "usage": usage }));
                        if let Some(text) = self.late.take() {
                            self.say(&text);
                        }
                        if let Some(tool) = self.late_ask.take() {
                            let call = json!({ "toolCallId": tool, "title": format!("may I {tool}?") });
                            let params =
                                json!({ "sessionId": self.session, "toolCall": call, "options": choices() });
                            let answer = self.ask("session/request_permission", params);
                            let outcome = &answer["result"]["outcome"];
                            self.say(&format!(
                                "answered {}",
                                outcome["optionId"].as_str().unwrap_or("nothing")
                            ));
                        }
                    }
                }
            }
            "session/cancel" => self.cancelled = true,
            _ if id.is_null() => {}
            _ => refuse(id, -32601, "method not found"),
        }
    }

    fn opened(&self) -> Value {
        let modes = json!({ "currentModeId": self.mode, "availableModes": [{ "id": "ask", "name": "Ask" }, { "id": "code", "name": "Code" }] });
        json!({ "sessionId": self.session, "modes": modes, "configOptions": self.options() })
    }

    fn options(&self) -> Value {
        let values = json!([{ "value": "low", "name": "Low" }, { "value": "high", "name": "High" }]);
        let effort = json!({ "id": "effort", "name": "Effort", "type": "select", "currentValue": self.effort,
            "options": values });
        let brief = json!({ "id": "brief", "name": "Brief", "type": "boolean", "currentValue": self.brief });
        let mut options = if self.knows_switches { vec![effort, brief] } else { vec![effort] };
        let select = |id: &str, now: &str, values: [&str; 2]| {
            let values = values.map(|value| json!({ "value": value, "name": value }));
            json!({ "id": id, "name": id, "type": "select", "currentValue": now, "options": values })
        };
        if self.two_modes {
            let mut approvals = select("approvals", &self.mode, ["ask", "code"]);
            approvals["category"] = json!("mode");
            options.push(approvals);
        }
        if self.models {
            let mut model = select("model", &self.model, ["small", "big"]);
            model["category"] = json!("model");
            options.push(model);
        }
        json!(options)
    }

    fn file(&self) -> Option<PathBuf> {
        self.memory.as_ref().map(|memory| memory.join(&self.session))
    }

    #[allow(clippy::zombie_processes, reason = "what it starts is to be left behind")]
    fn play(&mut self, script: &str) -> End {
        // What goes before the last line is the conversation that it is told.
        let told = script.matches("User: ").count().saturating_sub(1);
        let whole = script.to_owned();
        let script = script.rsplit("User: ").next().unwrap();
        for step in script.split(';').map(str::trim).filter(|step| !step.is_empty()) {
            if self.cancelled && !self.deaf {
                return End::Stop("cancelled".into());
            }
            let (verb, argument) = step.split_once(' ').unwrap_or((step, ""));
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
                "mcp" => {
                    let (name, tool) = argument.split_once(' ').unwrap();
                    let said = self.use_server(name, tool);
                    self.say(&said);
                }
                "rename" => {
                    let (from, to) = argument.split_once(' ').unwrap();
                    std::fs::rename(from, to).unwrap();
                }
                "recall" => {
                    let last = self.prompts.last().cloned().unwrap_or_default();
                    let text = format!("remembered {} told {told} last [{last}]", self.prompts.len());
                    self.say(&text);
                }
                "tool" => {
                    let (tool, title) = argument.split_once(' ').unwrap_or((argument, "a tool"));
                    self.update(json!({ "sessionUpdate": "tool_call", "toolCallId": tool, "title": title,
                        "kind": "execute", "status": "in_progress" }));
                }
                "done" => self.update(json!({ "sessionUpdate": "tool_call_update", "toolCallId": argument,
                    "status": "completed" })),
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
                    let said = answer["result"]["outcome"]["optionId"].as_str().unwrap_or("nothing");
                    self.say(&format!("answered {said}"));
                }
                "ask-both" => {
                    let both: Vec<&str> = argument.split(' ').collect();
                    let said = self.ask_both(&both);
                    self.say(&said);
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
                    let said =
                        outcome["optionId"].as_str().or(outcome["outcome"].as_str()).unwrap_or("nothing");
                    self.say(&format!("answered {said}"));
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
                    let said = self.create(path, content);
                    self.say(&said);
                }
                "transcript" => self.say(&whole),
                "system" => self.say(&self.system.to_string()),
                "able" => {
                    let does = |name: &str| self.client_files[name] == true;
                    self.say(&format!("reads {} writes {}", does("readTextFile"), does("writeTextFile")));
                }
                "greedy" => {
                    let words: Vec<&str> = argument.split(' ').collect();
                    let said = self.ask_greedily(words[0].parse().unwrap(), words[1], Path::new(words[2]));
                    self.say(&said);
                }
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
                    let said = self.ask_form_and_tool(question, tool);
                    self.say(&said);
                }
                "survey" => {
                    let choices =
                        json!([{ "const": "r", "title": "Red" }, { "const": "g", "title": "Green" }]);
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
                "run" | "start" => self.run(argument, verb == "run"),
                "plan" => {
                    let entry = json!({ "content": "think", "priority": "high", "status": "pending" });
                    self.update(json!({ "sessionUpdate": "plan", "entries": [entry] }));
                }
                "usage" => self.update(json!({ "sessionUpdate": "usage_update", "used": 5, "size": 10,
                    "cost": { "amount": 0.25, "currency": "USD" } })),
                "news" => self.update(json!({ "sessionUpdate": "something_new", "x": [1, { "y": "z" }] })),
                "child" => self.child(argument),
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
                    let said = self.heard();
                    self.say(&said);
                }
                "half" => {
                    print!("{{\"jsonrpc\":");
                    std::io::stdout().flush().unwrap();
                    self.wait(Duration::from_secs(60));
                }
                "unknown" => {
                    let answer = self.ask("moon/land", json!({}));
                    self.say(&format!("refused {}", answer["error"]["code"]));
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
                "settings" => {
                    let text = format!("mode {} effort {} brief {}", self.mode, self.effort, self.brief);
                    self.say(&text);
                }
                "stop" => return End::Stop(argument.into()),
                "fail" => return End::Fail(argument.into()),
                _ => panic!("unknown step `{step}`"),
            }
        }
        if self.cancelled && !self.deaf {
            End::Stop("cancelled".into())
        } else {
            End::Stop("end_turn".into())
        }
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

    fn heard(&mut self) -> String {
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

    fn ask_both(&mut self, tools: &[&str]) -> String {
        let first = self.next + 1;
        for tool in tools {
            self.next += 1;
            let call = json!({ "toolCallId": tool, "title": format!("may I {tool}?") });
            let params = json!({ "sessionId": self.session, "toolCall": call, "options": choices() });
            let ask = json!({ "jsonrpc": "2.0", "id": self.next, "method": "session/request_permission", "params": params });
            raw(&ask.to_string());
        }
        let mut said = Vec::new();
        while said.len() < tools.len() {
            let Ok(message) = self.lines.recv() else { std::process::exit(0) };
            match message["id"].as_u64().filter(|id| message["method"].is_null() && *id >= first) {
                Some(id) => {
                    let chosen = message["result"]["outcome"]["optionId"].as_str().unwrap_or("nothing");
                    said.push(format!("{} {chosen}", tools[usize::try_from(id - first).unwrap()]));
                }
                None => self.meanwhile(message),
            }
        }
        said.join(", ")
    }

    fn ask_form_and_tool(&mut self, question: &str, tool: &str) -> String {
        let schema =
            json!({ "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } } });
        let form = json!({ "sessionId": self.session, "mode": "form", "message": question, "requestedSchema": schema });
        let call = json!({ "toolCallId": tool, "title": format!("may I {tool}?") });
        let may = json!({ "sessionId": self.session, "toolCall": call, "options": choices() });
        let asks = [("elicitation/create", form), ("session/request_permission", may)];
        for (method, params) in asks {
            self.next += 1;
            raw(&json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params }).to_string());
        }
        let (mut name, mut option) = (None, None);
        while name.is_none() || option.is_none() {
            let Ok(message) = self.lines.recv() else { std::process::exit(0) };
            let result = &message["result"];
            match message["id"].as_u64().filter(|_| message["method"].is_null()) {
                Some(id) if id == self.next => {
                    option = result["outcome"]["optionId"].as_str().map(str::to_owned)
                }
                Some(_) => name = result["content"]["name"].as_str().map(str::to_owned),
                None => self.meanwhile(message),
            }
        }
        format!("accept {}, answered {}", name.unwrap_or_default(), option.unwrap_or_default())
    }

    fn ask_greedily(&mut self, count: u64, path: &str, until: &Path) -> String {
        let reads = self.reads.clone();
        let held = reads.lock().unwrap();
        let params = json!({ "sessionId": self.session, "path": path });
        let ids = self.next + 1..=self.next + count;
        let ask = |id| json!({ "jsonrpc": "2.0", "id": id, "method": "fs/read_text_file", "params": params });
        let all: Vec<String> = ids.clone().map(|id| ask(id).to_string()).collect();
        self.next += count;
        raw(&all.join("\n"));
        while !until.exists() {
            std::thread::park_timeout(Duration::from_millis(2));
        }
        drop(held);
        let mut bytes = 0;
        for id in ids {
            let answer = self.lines.recv().unwrap();
            assert_eq!(answer["id"], id);
            bytes += answer["result"]["content"].as_str().unwrap().len();
        }
        format!("{count} answers of {bytes} bytes")
    }

    /// Reads a file before it makes it, and gives up over whatever does not say that there is none.
    fn create(&mut self, path: &str, content: &str) -> String {
        let session = self.session.clone();
        let missing = match self.client_files["readTextFile"] == true {
            true => {
                let answer = self.ask("fs/read_text_file", json!({ "sessionId": session, "path": path }));
                match &answer["error"] {
                    Value::Null => Ok(()),
                    error if error["code"] == -32002 && error["data"]["uri"] == path => Ok(()),
                    error => Err(error["message"].to_string()),
                }
            }
            false => match std::fs::read(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
                Ok(_) | Err(_) => Ok(()),
            },
        };
        if let Err(why) = missing {
            return format!("not made: {why}");
        }
        if self.client_files["writeTextFile"] == true {
            let params = json!({ "sessionId": session, "path": path, "content": content });
            let answer = self.ask("fs/write_text_file", params);
            return answer["error"]["message"].as_str().unwrap_or("made by the client").to_owned();
        }
        let parent = Path::new(path).parent().unwrap();
        std::fs::create_dir_all(parent).and_then(|()| std::fs::write(path, content)).unwrap();
        "made".to_owned()
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

    fn run(&mut self, command: &str, wait: bool) {
        let session = self.session.clone();
        let params = json!({ "sessionId": session, "command": "/bin/sh", "args": ["-c", command] });
        let created = self.ask("terminal/create", params);
        let terminal = created["result"]["terminalId"].clone();
        if terminal.is_null() {
            return self.say_answer(&Value::Null, &created);
        }
        if !wait {
            return self.say("started");
        }
        let params = json!({ "sessionId": session, "terminalId": terminal });
        let status = self.ask("terminal/wait_for_exit", params.clone());
        let output = self.ask("terminal/output", params.clone());
        self.ask("terminal/release", params);
        let text = format!("{}{}", output["result"]["output"].as_str().unwrap_or("?"), status["result"]);
        self.say(&text);
    }

    fn say(&self, text: &str) {
        self.update(json!({ "sessionUpdate": "agent_message_chunk", "content": text_block(text) }));
    }

    fn say_answer(&self, result: &Value, answer: &Value) {
        match answer["error"]["message"].as_str() {
            Some(why) => self.say(&format!("refused: {why}")),
            None => self.say(result.as_str().unwrap_or_default()),
        }
    }

    fn update(&self, update: Value) {
        notify("session/update", json!({ "sessionId": self.session, "update": update }));
    }

    /// Has a sub-agent within itself, which has one too; both say something.
    fn child(&self, name: &str) {
        let told =
            |of: &str, update: Value| notify("session/update", json!({ "sessionId": of, "update": update }));
        let (running, below) = (json!({ "state": "running" }), format!("{name}-2"));
        let child = |id: &str, title: &str| {
            json!({ "sessionUpdate": "subagent_update", "sessionId": id,
            "title": title, "state": running })
        };
        let says =
            |text: &str| json!({ "sessionUpdate": "agent_message_chunk", "content": text_block(text) });
        told(&self.session, child(name, "Explorer"));
        told(name, says("found it"));
        told(name, child(&below, "Digger"));
        told(&below, says("dug it up"));
        told(
            &self.session,
            json!({ "sessionUpdate": "subagent_update", "sessionId": name,
            "state": { "state": "idle" } }),
        );
    }

    /// Asks the client, and hears of a cancel meanwhile.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        raw(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        while let Ok(message) = self.lines.recv() {
            if message["id"] == id && message["method"].is_null() {
                return message;
            }
            self.meanwhile(message);
        }
        std::process::exit(0)
    }

    fn wait(&mut self, how_long: Duration) {
        let end = Instant::now() + how_long;
        while !self.cancelled || self.deaf {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match self.lines.recv_timeout(left) {
                Ok(message) => self.meanwhile(message),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return,
                // The client is gone.
                Err(_) if self.deaf => std::thread::park_timeout(left),
                Err(_) => std::process::exit(0),
            }
        }
    }

    fn meanwhile(&mut self, message: Value) {
        if message["method"] == "session/cancel" {
            self.cancelled = true;
        } else {
            self.later.push_back(message);
        }
    }
}

/// The options of a permission.
fn choices() -> Value {
    json!([
        { "optionId": "yes", "name": "Yes", "kind": "allow_once" },
        { "optionId": "always", "name": "Always", "kind": "allow_always" },
        { "optionId": "no", "name": "No", "kind": "reject_once" },
    ])
}

fn text_block(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn answer(id: Value, result: Value) {
    raw(&json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string());
}

fn refuse(id: Value, code: i64, message: &str) {
    raw(&json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }).to_string());
}

fn notify(method: &str, params: Value) {
    raw(&json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
}

/// A client that is gone is the end.
fn raw(line: &str) {
    write(format!("{line}\n").as_bytes());
}

fn write(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

fn shown(block: &Value) -> String {
    let inner = if block["type"] == "resource" { &block["resource"] } else { block };
    let all =
        [&block["type"], &inner["mimeType"], &inner["uri"], &inner["text"], &inner["data"], &inner["blob"]];
    let words = all.iter().filter_map(|value| value.as_str());
    // What is long is not said whole.
    let words =
        words.map(|word| if word.len() > 1_000 { format!("{} bytes", word.len()) } else { word.to_owned() });
    words.collect::<Vec<_>>().join(" ")
}

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

fn duration(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap()
}
