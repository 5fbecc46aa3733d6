//! Messages of workers, translated into observations of the core.

use protocol::wire::{FromWorker, PROTOCOL_VERSION, Report, SettingAnswer, TurnEnd};
use protocol::{PromptId, json, wire};
use serde_json::Value;

use crate::core::Seen;
use crate::plain;
use crate::workers::worker::{Handshake, Origin, Worker};

impl Worker {
    /// The observations in a message, or the fault of the worker that sent it. Enforces the limits again that a worker
    /// enforces, because a worker of another version, or one that an agent controls, may not.
    pub(super) fn understand(&mut self, frame: FromWorker) -> Result<Understood, String> {
        match self.news(frame)? {
            Some(mut report @ Report::FilesRead { .. }) => {
                // What is more than its bound was cut, and the answer says so.
                let _ = wire::bound(&mut report);
                if let Report::FilesRead { request, answer } = report {
                    self.files.answer(request, answer);
                }
                Ok(Understood::default())
            }
            Some(report) => understood(report),
            None => Ok(Understood::default()),
        }
    }

    /// The report of a message, unless it was heard before.
    pub(super) fn news(&mut self, frame: FromWorker) -> Result<Option<Report>, String> {
        if let Report::Hello { protocol, resume_from, .. } = frame.body {
            let outdated = protocol != PROTOCOL_VERSION;
            let awaited = self.awaits_hello();
            let Some(link) = self.link.as_mut().filter(|_| awaited) else {
                // The spool of a dead worker may begin with a hello for another manager, before what counts.
                let passed = !outdated || self.dead.is_some() || self.is_refused();
                // One that was just started is of the program that is installed now.
                let wrong = format!("the worker speaks protocol {protocol}, this manager {PROTOCOL_VERSION}");
                return if passed { Ok(None) } else { Err(wrong) };
            };
            link.resume(resume_from);
            (self.owed, self.acted) = (resume_from, resume_from);
            self.origin = Origin::Adopted(Handshake::Done { outdated });
            return Ok(Some(frame.body));
        }
        if self.is_adopted() && frame.incarnation == self.incarnation && frame.seq <= self.heard {
            // The manager before had put it on record, and had no time to say so.
            return Ok(None);
        }
        if self.is_refused() && frame.seq != self.heard + 1 {
            // The record lost its end in a power cut, and the spool did not. What came between is not known, so that what
            // comes after means nothing.
            return Ok(None);
        }
        if frame.incarnation != self.incarnation || frame.seq != self.heard + 1 {
            return Err(format!(
                "message {} of incarnation {} came after message {} of incarnation {}",
                frame.seq, frame.incarnation, self.heard, self.incarnation
            ));
        }
        (self.heard, self.acted) = (frame.seq, frame.ack);
        if let Report::TurnEnded { prompt, end: TurnEnd::NotRun { .. }, .. } = &frame.body {
            // It knows nothing of that prompt, and may be given it again.
            self.delivered.take_if(|delivered| *delivered == *prompt);
        }
        self.rests |= matches!(frame.body, Report::Ready { .. } | Report::TurnEnded { .. });
        Ok(Some(frame.body))
    }
}

/// The observations in a report, within limits.
fn understood(mut report: Report) -> Result<Understood, String> {
    let cut = wire::bound(&mut report).map_err(|what| format!("the worker sent {what}, too long"))?;
    let seen = meaning(report)?;
    let unread = match &seen {
        Seen::Updated { payload, .. }
        | Seen::PermissionAsked { payload, .. }
        | Seen::CallAsked { payload, .. }
        | Seen::SettingAnswered { answer: Ok(payload), .. } => {
            payload.get(UNREAD).is_some_and(Value::is_string)
        }
        _ => false,
    };
    let notice = cut
        .or(unread.then_some("a payload"))
        .map(|what| Seen::Notice(format!("{what} was larger than kennel keeps, and was cut or left out")));
    Ok(Understood { seen: Some(seen), notice })
}

fn meaning(report: Report) -> Result<Seen, String> {
    Ok(match report {
        Report::Hello { protocol, .. } => Seen::Linked { outdated: protocol != PROTOCOL_VERSION },
        Report::Ready { restore, agent_pid } => Seen::Ready { restore, agent_pid },
        Report::TurnStarted { prompt, agent_pid } => Seen::TurnStarted { prompt, agent_pid },
        Report::Output { prompt, stream, text } => Seen::Output { prompt, stream, text },
        Report::TurnEnded { prompt, end, exit, left_behind } => {
            Seen::TurnEnded { prompt, end, exit, left_behind }
        }
        Report::Fault { message } => return Err(message),
        Report::AgentSession { id } => Seen::AgentSession(id),
        Report::Introduced(details) => Seen::Introduced(details),
        Report::Contained { level } => Seen::Contained(level),
        Report::Alive { cpu_ms, commands } => Seen::Alive { cpu_ms, commands },
        Report::Sandboxed(sandboxed) => Seen::Sandboxed(sandboxed),
        Report::Limited(by) => Seen::Limited(by),
        Report::OutOfMemory { peak_bytes, limit_bytes, by } => {
            Seen::OutOfMemory { peak_bytes, limit_bytes, by }
        }
        Report::Update { prompt, update, payload } => {
            Seen::Updated { prompt, update, payload: object(&payload)? }
        }
        Report::PermissionAsked { prompt, request, ask, payload } => {
            let prompt = Some(prompt).filter(|prompt| *prompt != PromptId::NONE);
            Seen::PermissionAsked { prompt, request, ask, payload: object(&payload)? }
        }
        Report::CallAsked { prompt, request, client, method, payload } => {
            Seen::CallAsked { prompt, request, client, method, payload: object(&payload)? }
        }
        Report::AgentDied { message } => Seen::AgentDied(message),
        Report::NotRun { message, passes } => Seen::NotRun { message, passes },
        Report::Program { path } => Seen::Program(path),
        Report::FilesRead { .. } => return Err("an answer about files in the place of a report".into()),
        Report::LogInOutput { .. } | Report::LogInEnded { .. } => {
            return Err("a log-in in the place of a report".into());
        }
        Report::LoginNeeded { message } => Seen::LoginNeeded(message),
        Report::Notice { text } => Seen::Notice(text),
        Report::SettingAnswered { request, answer } => {
            let answer = match answer {
                SettingAnswer::Set { payload } => Ok(object(&payload)?),
                SettingAnswer::Refused { reason } => Err(reason),
            };
            Seen::SettingAnswered { request, answer }
        }
    })
}

/// Under this name a payload that cannot be kept says why.
const UNREAD: &str = "kennel.unread";

/// The observations in one message.
#[derive(Default)]
pub(super) struct Understood {
    /// The observation.
    pub seen: Option<Seen>,
    /// A notice for a person, where something was cut.
    pub notice: Option<Seen>,
}

/// Parses an agent's JSON. The worker has parsed it before, so that invalid JSON is the worker's fault. Replaces a value
/// that is nested too deeply by a note: nobody could read the event.
fn object(payload: &str) -> Result<Value, String> {
    let mut scan = json::Scan::default();
    scan.push(payload.as_bytes());
    if let Some(why) = scan.excess() {
        return Ok(serde_json::json!({ UNREAD: why.to_string() }));
    }
    serde_json::from_str(payload)
        .map_err(|error| format!("the worker sent what is no JSON: {}", plain::said(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::wire::{
        Agent, AgentDetails, PermissionAsk, PermissionOption, Setting, Spent, TurnEnd, Update,
    };
    use protocol::{EventId, Exit, Identity, PromptId, Restore, Stream};

    use super::*;
    use crate::core::{
        At, Command, Input, NewPrompt, Permissions, Phase, RestartPolicy, Session, Spec, limits,
    };

    #[test]
    fn what_nobody_could_read_again_is_left_out_and_says_so() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        for levels in [1, 2, 63] {
            let text = nested(levels);
            assert_eq!(object(&text).unwrap().to_string(), text);
        }
        for levels in [64, 100, 125, 127, 128, 100_000] {
            let payload = object(&nested(levels)).unwrap();
            assert!(payload[UNREAD].as_str().unwrap().contains("64 levels"), "{payload}");
            let update = Report::Update { prompt: None, update: Update::Plan, payload: nested(levels) };
            assert!(understood(update).unwrap().notice.is_some());
        }
        assert!(object("{").is_err());
    }

    const AT: At = At { mono: 5_000_000, wall: 1_700_000_000_000, closing: false };

    fn session() -> Session {
        let agent = Agent::Acp { argv: vec!["/bin/agent".into()], login: None, mcp_servers: Vec::new() };
        let spec = Spec {
            agent_name: "agent".into(),
            agent,
            program: None,
            name: None,
            labels: Default::default(),
            title: None,
            model: None,
            workdir: "/".into(),
            start_commit: None,
            forked_from: None,
            conversation: None,
            env: Default::default(),
            env_pass: Default::default(),
            env_named: Default::default(),
            restart: RestartPolicy::default(),
            on_crash: protocol::api::OnCrash::Interrupt,
            hibernate_after_ms: 0,
            grace_ms: 2_000,
            worker_timeout_ms: 30_000,
            start_timeout_ms: None,
            turn_timeout_ms: 0,
            stall_timeout_ms: None,
            limits: Default::default(),
            umask: None,
            permissions: Permissions::default(),
            subagents: Default::default(),
            remote_servers: Vec::new(),
            containment: Default::default(),
            walls: None,
            offers: Vec::new(),
        };
        Session::new("s".parse().unwrap(), Arc::new(spec), AT, 0)
    }

    /// Numbers without a pattern, the same at each run.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, most: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % most
        }

        /// Longer than any bound, at a bound, or short, of characters that are short or long in JSON.
        fn text(&mut self) -> String {
            let unit = ["x", "\u{1}", "\"", "😀"][self.below(4)];
            let lengths = [1, 64, 256, 1024, 8 * 1024, 20_000];
            let mut text = unit.repeat(lengths[self.below(lengths.len())] / unit.len().min(6) + 1);
            // Different ones, where many count.
            text.insert_str(0, &self.below(1_000_000).to_string());
            text
        }

        fn texts(&mut self, most: usize) -> Vec<String> {
            (0..self.below(most)).map(|_| self.text()).collect()
        }

        fn report(&mut self, prompt: PromptId, request: u64) -> Report {
            let payload = "{}".to_owned();
            match self.below(16) {
                0 => Report::AgentSession { id: self.text() },
                1 => {
                    let (name, version) = (Some(self.text()), Some(self.text()));
                    Report::Introduced(AgentDetails { name, version, resume: true, load: true })
                }
                2..=5 => {
                    let kinds = ["allow_once".to_owned(), "reject_once".to_owned(), self.text()];
                    let options = (0..self.below(60)).map(|at| PermissionOption {
                        id: self.text(),
                        name: self.text(),
                        kind: kinds[at % 3].clone(),
                    });
                    let options = options.collect();
                    let (tool_call, title, kind) = (self.text(), self.text(), Some(self.text()));
                    let ask = PermissionAsk { tool_call, title, kind, paths: self.texts(20), options };
                    Report::PermissionAsked { prompt, request, ask, payload }
                }
                6..=9 => {
                    let update = match self.below(6) {
                        0 => Update::Message { text: self.text() },
                        1 => Update::ToolCallUpdate { id: self.text(), ended: false },
                        2 => Update::Usage(Spent {
                            input_tokens: Some(u64::MAX),
                            output_tokens: Some(u64::MAX),
                            cost_micro_usd: Some(u64::MAX),
                        }),
                        _ => Update::ToolCall { id: self.text(), title: self.text(), ended: false },
                    };
                    Report::Update { prompt: Some(prompt), update, payload }
                }
                10 => Report::CallAsked {
                    prompt,
                    request,
                    client: None,
                    method: "elicitation/create".into(),
                    payload,
                },
                11 => {
                    Report::SettingAnswered { request: request % 300, answer: SettingAnswer::Set { payload } }
                }
                12 => Report::Notice { text: self.text() },
                13 => Report::Output { prompt, stream: Stream::Stdout, text: self.text() },
                14 => match self.below(900) {
                    0 => Report::TurnEnded {
                        prompt,
                        end: TurnEnd::Stopped { reason: self.text() },
                        exit: None,
                        left_behind: 9,
                    },
                    1 => Report::AgentDied { message: self.text() },
                    2 => Report::LoginNeeded { message: self.text() },
                    3 => Report::Fault { message: self.text() },
                    4 => Report::NotRun { message: self.text(), passes: true },
                    _ => Report::Ready { restore: Restore::Fresh, agent_pid: Some(7) },
                },
                _ => Report::TurnStarted { prompt, agent_pid: 7 },
            }
        }
    }

    /// A session stays small whatever its workers send, because each batch writes it.
    #[test]
    fn no_sequence_of_reports_makes_a_session_larger_than_its_bound() {
        let (mut largest, mut parked, mut tools, mut deaths) = (0, 0, 0, 0);
        for seed in 0..3 {
            let (mut dice, mut session, mut next) = (Dice(seed), session(), 100 as EventId);
            for round in 0..250 {
                let seen = Input::Seen;
                let mut inputs = Vec::new();
                if session.worker().is_none() {
                    let worker = Identity { pid: 8, start_time: 1, boot_id: "boot".into() };
                    inputs.push(Input::Command(Command::Up));
                    inputs.push(seen(session.incarnation + 1, Seen::Spawned(worker.clone())));
                    inputs.push(seen(session.incarnation, Seen::Spawned(worker)));
                }
                if session.turns.running.is_none() && session.turns.queue.len() < 3 {
                    inputs.push(Input::Command(Command::Prompt(NewPrompt::text("x", Default::default()))));
                }
                let setting =
                    Setting { name: format!("{round}{}", "𝄞".repeat(196)), value: "𝄞".repeat(200) };
                inputs.push(Input::Command(Command::Set(setting)));
                let prompt = session.turns.running.as_ref().map_or(PromptId(1), |turn| turn.prompt.id);
                for number in 0..8 {
                    match understood(dice.report(prompt, 8 * round + number)) {
                        Ok(Understood { seen: said, notice }) => inputs
                            .extend(said.into_iter().chain(notice).map(|it| seen(session.incarnation, it))),
                        // It would be the end of nearly every turn, before much is in it.
                        Err(why) if dice.below(100) == 0 => {
                            inputs.push(seen(session.incarnation, Seen::Faulted(why)));
                        }
                        Err(_) => {}
                    }
                }
                if dice.below(80) == 0 {
                    let last_words = vec!["\u{1}".repeat(4096)];
                    let gone = Seen::Gone { exit: Exit::Code(1), last_words, survivors: Vec::new() };
                    inputs.push(seen(session.incarnation, gone));
                    deaths += 1;
                }
                for input in inputs {
                    let Ok(step) = session.step(AT, next, &input) else { continue };
                    next += step.events.len() as EventId;
                    session = step.next;
                }
                let written = serde_json::to_string(&session).unwrap().len();
                largest = largest.max(written);
                assert!(written <= limits::DOCUMENT, "{written} bytes after round {round} of {seed}");
                let turn = session.turns.running.as_ref();
                parked = parked.max(turn.map_or(0, |turn| turn.open.len()));
                tools = tools.max(turn.map_or(0, |turn| turn.tools.len()));
            }
        }
        // It came as far as it can: else the bound shows nothing.
        assert!(largest > limits::DOCUMENT / 3, "{largest} bytes at most, {parked} {tools} {deaths}");
        assert!(parked > 10 && tools > 50 && deaths > 4, "{parked} {tools} {deaths}");
    }

    #[test]
    fn forty_questions_with_titles_of_seven_megabytes_stay_small() {
        let mut session = session();
        let worker = Identity { pid: 8, start_time: 1, boot_id: "boot".into() };
        let mut next = 100;
        let mut step = |session: &mut Session, input| {
            let step = session.step(AT, next, &input).unwrap();
            next += step.events.len() as EventId;
            *session = step.next;
        };
        step(&mut session, Input::Command(Command::Up));
        let incarnation = session.incarnation;
        step(&mut session, Input::Seen(incarnation, Seen::Spawned(worker)));
        step(
            &mut session,
            Input::Seen(incarnation, Seen::Ready { restore: Restore::Fresh, agent_pid: None }),
        );
        step(&mut session, Input::Command(Command::Prompt(NewPrompt::text("x", Default::default()))));
        let prompt = session.turns.running.as_ref().unwrap().prompt.id;
        step(&mut session, Input::Seen(incarnation, Seen::TurnStarted { prompt, agent_pid: 7 }));
        assert!(matches!(session.turns.running.as_ref().unwrap().phase, Phase::Started { .. }));
        for request in 0..40 {
            let option = PermissionOption { id: "yes".into(), name: "Yes".into(), kind: "allow_once".into() };
            let ask = PermissionAsk {
                tool_call: "call".into(),
                title: "t".repeat(7 << 20),
                kind: None,
                paths: Vec::new(),
                options: vec![option],
            };
            let asked = Report::PermissionAsked { prompt, request, ask, payload: "{}".into() };
            let Understood { seen, notice } = understood(asked).unwrap();
            assert!(matches!(notice, Some(Seen::Notice(_))), "what was cut is said");
            step(&mut session, Input::Seen(incarnation, seen.unwrap()));
        }
        let open = session.permissions();
        assert_eq!(open.len(), 40);
        assert!(open[0].title.ends_with("… (7,340,032 bytes, cut)"), "{}", open[0].title);
        assert!(serde_json::to_string(&session).unwrap().len() < 64 << 10);
    }
}
