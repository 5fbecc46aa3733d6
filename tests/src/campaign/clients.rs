//! Clients that send, abort, stop, start and read all the while, and repeat each request until they have an
//! answer.

use std::time::Duration;

use manager::client::{Client, ClientError, Request};
use protocol::SessionId;
use protocol::api::{
    Accepted, AnswerRequest, AttachmentRequest, CallRequest, ClientInfo, EditRequest, PermissionAnswer,
    PermissionInfo, Problem, PromptRequest, PromptState, QueuedPrompt, ResolveRequest, RestartType,
    SessionInfo, SessionOpts, SettingRequest, SubagentHandle, SubagentRequest, TokenReply, WhenBusy,
};
use protocol::event::{Event, EventKind, Resolution};

use super::errands::{By, Errand};
use super::{Campaign, PATIENCE};
use crate::rng::Rng;

/// The time after which a client repeats an unanswered request on another connection.
const ANSWER: Duration = Duration::from_secs(5);

/// The purpose of a campaign's session.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its id.
    pub id: SessionId,
    /// The options of its start.
    pub opts: SessionOpts,
}

impl Plan {
    /// Returns the session with this number. Most have a raised intensity over a short period, so that they
    /// survive every number of faults. Every fifth keeps the defaults and must end as failed.
    pub fn numbered(number: usize, workdir: &str) -> Self {
        let raised = !number.is_multiple_of(5);
        let agent = match number % 7 {
            0 => "shell",
            2 => "loads",
            3 => "argument",
            5 => "unread",
            6 => "resumes",
            _ => "fixture",
        };
        let opts = SessionOpts {
            id: Some(format!("session-{number}")),
            agent: Some(agent.into()),
            workdir: Some(workdir.into()),
            intensity: raised.then_some(1000),
            period_ms: raised.then_some(1000),
            on_crash: number.is_multiple_of(4).then_some(protocol::api::OnCrash::Retry),
            hibernate_after_ms: Some(if number.is_multiple_of(3) { 40 } else { 0 }),
            grace_ms: Some(150),
            ..SessionOpts::default()
        };
        Self { id: SessionId::numbered(number as u64), opts }
    }

    /// Intensity and period, in milliseconds.
    pub fn policy(&self) -> (u32, u64) {
        (self.opts.intensity.unwrap_or(5), self.opts.period_ms.unwrap_or(60_000))
    }

    /// Its agent lives between prompts.
    pub fn lives_on(&self) -> bool {
        self.asks()
    }

    /// Its agent speaks ACP: it asks, and has settings.
    fn asks(&self) -> bool {
        matches!(self.opts.agent.as_deref(), Some("loads" | "resumes"))
    }

    /// An interrupted prompt goes to the agent again.
    pub fn retries(&self) -> bool {
        self.opts.on_crash == Some(protocol::api::OnCrash::Retry)
    }
}

/// Returns true if a session suits this errand.
fn errand_fits(errand: Errand, plan: &Plan) -> bool {
    match errand {
        Errand::Drive | Errand::Permit | Errand::Stall => plan.asks(),
        // A prompt that is the death of its agent, and is run again after each death, never ends.
        Errand::Break => plan.asks() && !plan.retries(),
        // A task that is not run again has ended with its turn.
        Errand::Lose => plan.retries(),
        Errand::Starve => plan.opts.agent.as_deref() == Some("fixture"),
        _ => true,
    }
}

/// Unix time in milliseconds, as events have it.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Asks until there is an answer: the daemon may be dead, dying, or without room for anything.
pub async fn ask(client: &Client, request: &Request) -> Result<Vec<u8>, Box<Problem>> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = tokio::time::timeout(ANSWER, client.ask(request)).await;
        match answer {
            Ok(Ok(body)) => return Ok(body.to_vec()),
            Ok(Err(ClientError::Problem(problem)))
                if !matches!(&*problem.code, "journal_full" | "manager_stopping") =>
            {
                return Err(problem);
            }
            Ok(Err(ClientError::Garbage(garbage))) => panic!("{request:?}: {garbage}"),
            _ => {}
        }
        if tokio::time::Instant::now() > end {
            let code = "unanswered".to_owned();
            let detail = format!("no answer within {PATIENCE:?} to {request:?}; the last was {answer:?}");
            let (kind, title) = (String::new(), String::new());
            return Err(Box::new(Problem {
                kind,
                title,
                status: 0,
                code,
                detail,
                hint: None,
                subject: None,
            }));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The same, for an answer of this type.
pub async fn look<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<T, Box<Problem>> {
    let body = ask(client, &Request::get(path)).await?;
    Ok(serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{path}: {error}")))
}

/// One client.
pub struct Asker<'a> {
    campaign: &'a Campaign,
    client: Client,
    rng: Rng,
    name: usize,
    asked: u64,
}

impl<'a> Asker<'a> {
    /// The client with this number.
    pub fn new(campaign: &'a Campaign, name: usize, seed: u64) -> Self {
        let client = campaign.client(name);
        Self { campaign, client, rng: Rng::new(seed ^ (name as u64 + 1) << 32), name, asked: 0 }
    }

    /// Asks until the campaign is over.
    pub async fn live(mut self) {
        while !self.campaign.over() {
            {
                // While this is held there is no quiet.
                let _storm = self.campaign.gate.read().await;
                if self.campaign.over() {
                    return;
                }
                self.act().await;
            }
            tokio::time::sleep(Duration::from_micros(self.rng.below(24_000))).await;
        }
    }

    fn plan(&mut self) -> Plan {
        let at = self.rng.below(self.campaign.plans.len() as u64) as usize;
        self.campaign.plans[at].clone()
    }

    async fn act(&mut self) {
        if self.rng.chance(300)
            && let Some(errand) = self.campaign.errand(By::Client)
        {
            return self.go(errand).await;
        }
        let plan = self.plan();
        let path = format!("/v1/sessions/{}", plan.id);
        match self.rng.below(1000) {
            0..580 => self.send(&plan).await,
            580..600 => {
                self.permit().await;
            }
            600..660 => self.post(&format!("{path}/abort")).await,
            660..690 => self.post(&format!("{path}/stop")).await,
            690..780 => self.restart(&plan).await,
            780..800 => self.post(&format!("{path}/pin")).await,
            800..820 => self.post(&format!("{path}/unpin")).await,
            820..835 => self.request(&Request::delete(format!("{path}/queue"))).await,
            835..843 => self.change_one(&plan, &path).await,
            843..850 => self.drop_one(&path).await,
            850..865 => self.token(&plan).await,
            865..880 => self.set().await,
            880..910 => {
                // Half of them are lost with their process.
                let restart = self.rng.chance(500).then_some(RestartType::Temporary);
                self.subagent(&plan, "fixture", "sleep 150ms", restart).await;
            }
            910..930 => self.attach(&plan).await,
            930..960 => drop(look::<SessionInfo>(&self.client, &path).await),
            _ => drop(look::<Vec<SessionInfo>>(&self.client, "/v1/sessions").await),
        }
    }

    /// Brings somebody to a point.
    async fn go(&mut self, errand: Errand) {
        let plans: Vec<&Plan> = self.campaign.plans.iter().filter(|plan| errand_fits(errand, plan)).collect();
        let at = self.rng.below(plans.len().max(1) as u64) as usize;
        let Some(plan) = plans.get(at).map(|plan| (*plan).clone()) else { return };
        let path = format!("/v1/sessions/{}", plan.id);
        match errand {
            Errand::Drive => self.attach(&plan).await,
            Errand::Open => self.subagent(&plan, "loads", "sleep 50ms", None).await,
            Errand::Lose => {
                self.subagent(&plan, "loads", "sleep 50ms; exit 3", Some(RestartType::Temporary)).await;
            }
            Errand::Permit => {
                self.urge(&plan, "ask t1").await;
                for _ in 0..20 {
                    if self.permit().await {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Errand::Edit => {
                self.urge(&plan, "sleep 300ms").await;
                self.send(&plan).await;
                self.change_one(&plan, &path).await;
            }
            Errand::Stall => self.urge(&plan, "sleep 2500ms").await,
            Errand::Starve => self.urge(&plan, "eat 150000000; sleep 2s").await,
            Errand::Break => self.urge(&plan, "tool t1 saw; sleep 20ms; exit 3").await,
            // The harness does these itself.
            Errand::Freeze | Errand::HandOver | Errand::End => {}
        }
    }

    /// Has an agent do this at once.
    async fn urge(&mut self, plan: &Plan, what: &str) {
        let number = self.campaign.numbered();
        let mark = self.campaign.host.place.marks().join(number.to_string());
        let text = format!("say prompt {number}; mark {}; {what}; say done", mark.display());
        self.prompt(plan, number, text, WhenBusy::Interrupt).await;
    }

    async fn restart(&self, plan: &Plan) {
        let begun = now();
        self.post(&format!("/v1/sessions/{}/restart", plan.id)).await;
        self.campaign.seen().restarts.push((plan.id.clone(), begun, now()));
    }

    async fn post(&self, path: &str) {
        self.request(&Request::post(path).repeatable()).await;
    }

    async fn request(&self, request: &Request) {
        if let Err(problem) = ask(&self.client, request).await {
            self.campaign.refused(None, &problem);
        }
    }

    async fn send(&mut self, plan: &Plan) {
        let number = self.campaign.numbered();
        let text = self.script(plan, number);
        let when_busy = match self.rng.below(100) {
            0..3 => WhenBusy::Interrupt,
            3..6 => WhenBusy::Reject,
            _ => WhenBusy::Queue,
        };
        self.prompt(plan, number, text, when_busy).await;
    }

    async fn prompt(&mut self, plan: &Plan, number: u64, text: String, when_busy: WhenBusy) {
        self.asked += 1;
        let key = format!("{}-{}", self.name, self.asked);
        let request = Request::post(format!("/v1/sessions/{}/prompts", plan.id));
        let file = plan.asks() && self.rng.chance(300);
        let file = file.then(|| AttachmentRequest {
            name: "notes".into(),
            text: Some("words ".repeat(1_000)),
            ..AttachmentRequest::default()
        });
        let attachments = file.into_iter().collect();
        let request = request.json(&PromptRequest { text, when_busy, attachments }).key(&key);
        // Some are asked twice: the key makes it one prompt.
        for _ in 0..if self.rng.chance(100) { 2 } else { 1 } {
            match ask(&self.client, &request).await {
                Ok(body) => {
                    let accepted: Accepted = serde_json::from_slice(&body).unwrap();
                    self.campaign.acknowledged(&plan.id, accepted.prompt_id, &key, number);
                }
                Err(problem) => {
                    self.campaign.refused(Some(&plan.id), &problem);
                    return;
                }
            }
        }
    }

    /// Returns the agent's script: mostly short work, sometimes everything that an agent should not do.
    fn script(&mut self, plan: &Plan, number: u64) -> String {
        let mark = self.campaign.host.place.marks().join(number.to_string());
        let mark = mark.display();
        let pause = self.rng.below(40);
        match plan.opts.agent.as_deref() {
            Some("shell") => {
                return format!("echo prompt {number}; printf x >> {mark}; sleep 0.0{pause:02}; echo done");
            }
            // Its script is in its profile; it never reads the prompt.
            Some("unread") => return format!("prompt {number} {}", "and more ".repeat(12_000)),
            Some("loads" | "resumes") => {
                // A prompt that is the death of its agent, and is run again after each death, never ends.
                let least = if plan.retries() { 80 } else { 0 };
                let what = match self.rng.between(least, 999) {
                    0..20 => "exit 3",
                    20..40 => "exit 0",
                    40..60 => "longline 9000000",
                    60..80 => "shut",
                    80..100 => "fail out of order",
                    100..130 => "noise not json; stray; unknown; elsewhere",
                    130..230 => "tool t1 saw; sleep 60ms; done t1",
                    230..330 => "think hm; plan; usage; news",
                    330..480 => "ask t1",
                    480..505 => "elicit who",
                    505..530 => "read notes",
                    530..630 => "run sleep 0.05; say ran",
                    630..660 => "deaf; sleep 400ms",
                    660..690 => "read /etc/passwd; write x.txt words",
                    // Longer than nothing may be seen of it.
                    690..700 => "sleep 2500ms",
                    _ => "sleep 5ms",
                };
                return format!("say prompt {number}; mark {mark}; sleep {pause}ms; {what}; say done");
            }
            _ => {}
        }
        let what = match self.rng.below(1000) {
            0..30 => "exit 3",
            30..50 => "signal SEGV",
            50..60 => "signal KILL",
            60..90 => "deaf; sleep 400ms",
            90..120 => "flood 200000",
            120..150 => "babble 50000",
            150..155 => "eat 30000000; sleep 50ms",
            // More than it may.
            155..165 => "eat 150000000; sleep 400ms",
            165..240 => "fork 3; sleep 50ms",
            240..320 => "escape; sleep 50ms",
            320..328 => "chain 150ms; sleep 50ms",
            328..350 => "shut; sleep 60ms",
            350..380 => "sleep 500ms",
            _ => "sleep 5ms",
        };
        format!("say prompt {number}; mark {mark}; sleep {pause}ms; {what}; say done")
    }

    /// Drives a session for a moment, in place of any other driver, and disconnects without notice. Has an
    /// agent that supports it ask for a form.
    async fn attach(&mut self, plan: &Plan) {
        if plan.asks() {
            let what = if self.rng.chance(500) { "elicit who" } else { "read notes" };
            self.urge(plan, &format!("sleep 30ms; {what}")).await;
        }
        let query = "role=driver&takeover=true&name=somebody&offers=fs.read,elicitation";
        let path = format!("/v1/sessions/{}/attach?{query}", plan.id);
        if let Ok(mut events) = self.client.events(&path).await {
            let pause = Duration::from_millis(self.rng.below(300));
            let mut me = None;
            let _ = tokio::time::timeout(pause, async {
                while let Ok(Some(frame)) = events.next().await {
                    if frame.event == "attached" {
                        me = serde_json::from_str::<ClientInfo>(&frame.data).ok().map(|info| info.client_id);
                    }
                    let Ok(event) = serde_json::from_str::<Event>(&frame.data) else { continue };
                    let EventKind::CallRequested { call_id, .. } = event.kind else { continue };
                    let path = format!("/v1/sessions/{}/calls/{call_id}", plan.id);
                    let content = serde_json::json!({ "action": "decline", "content": "text" });
                    let answer = CallRequest { result: Some(content), error: None };
                    let _ = self.client.ask(&Request::post(path).from_client(me).json(&answer)).await;
                }
            })
            .await;
        }
    }

    /// Answers a permission that waits, somehow; if there is one.
    async fn permit(&mut self) -> bool {
        let waiting: Vec<PermissionInfo> = look(&self.client, "/v1/permissions").await.unwrap_or_default();
        let at = self.rng.below(waiting.len().max(1) as u64) as usize;
        let Some(permission) = waiting.get(at) else { return false };
        let answer = match self.rng.below(5) {
            0 => PermissionAnswer::Deny,
            1 => PermissionAnswer::Option("always".into()),
            2 => PermissionAnswer::Option("no such option".into()),
            3 => PermissionAnswer::Cancel,
            _ => PermissionAnswer::Allow,
        };
        let path = format!("/v1/sessions/{}/permissions/{}", permission.session_id, permission.permission_id);
        self.request(&Request::post(path).json(&AnswerRequest { answer }).repeatable()).await;
        true
    }

    async fn queue(&self, path: &str) -> Vec<QueuedPrompt> {
        look(&self.client, &format!("{path}/queue")).await.unwrap_or_default()
    }

    /// Takes a waiting prompt out, or gives it another text.
    async fn change_one(&mut self, plan: &Plan, path: &str) {
        let Some(prompt) = self.queue(path).await.pop() else {
            return;
        };
        let path = format!("{path}/queue/{}", prompt.prompt_id);
        if self.rng.chance(500) {
            self.request(&Request::delete(path)).await;
        } else {
            let number = self.campaign.numbered();
            let text = self.script(plan, number);
            self.request(&Request::patch(path).json(&EditRequest { text })).await;
        }
    }

    /// Gives an interrupted prompt up. To run it again would leave a second mark, and that is what is looked for.
    async fn drop_one(&mut self, path: &str) {
        let queue = self.queue(path).await;
        if let Some(prompt) = queue.iter().find(|prompt| prompt.state == PromptState::Interrupted) {
            let path = format!("/v1/prompts/{}/resolve", prompt.prompt_id);
            let drop = ResolveRequest { action: Resolution::Drop };
            self.request(&Request::post(path).json(&drop).repeatable()).await;
        }
    }

    async fn token(&mut self, plan: &Plan) {
        if let Ok(reply) = look::<TokenReply>(&self.client, &format!("/v1/sessions/{}/token", plan.id)).await
        {
            self.campaign.token(&plan.id, reply.token);
        }
    }

    /// Sets something in an agent that has settings.
    async fn set(&mut self) {
        let plans = self.campaign.plans.iter().filter(|plan| plan.asks());
        let plans: Vec<SessionId> = plans.map(|plan| plan.id.clone()).collect();
        let Some(id) = plans.get(self.rng.below(plans.len().max(1) as u64) as usize) else { return };
        // The last of them is none.
        let value = ["ask", "code", "none"][self.rng.below(3) as usize].to_owned();
        let path = format!("/v1/sessions/{id}/settings/mode?timeout_ms=20");
        self.request(&Request::put(path).json(&SettingRequest { value })).await;
    }

    /// A sub-agent with a task of its own, removed with all its records when it has been at it for a while.
    async fn subagent(&mut self, plan: &Plan, agent: &str, what: &str, restart: Option<RestartType>) {
        let number = self.campaign.numbered();
        let task = format!("say prompt {number}; {what}");
        let opts = SessionOpts { id: None, agent: Some(agent.into()), restart, ..plan.opts.clone() };
        let request = SubagentRequest { parent: Some(plan.id.to_string()), task, opts };
        self.asked += 1;
        let key = format!("{}-{}", self.name, self.asked);
        let request = Request::post("/v1/subagents").json(&request).key(&key);
        let Ok(body) = ask(&self.client, &request).await else {
            return;
        };
        let handle: SubagentHandle = serde_json::from_slice(&body).unwrap();
        tokio::time::sleep(Duration::from_millis(self.rng.below(400))).await;
        self.request(&Request::delete(format!("/v1/sessions/{}?force=true", handle.session_id)).repeatable())
            .await;
    }
}
