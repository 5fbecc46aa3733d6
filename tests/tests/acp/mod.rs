//! Agents that stay between prompts and speak ACP, on real processes: the fixture `acp-agent`, which follows
//! its prompts.

mod conversations;
mod permissions;
mod starts;
mod tools;
mod turns;

use harness::real::*;
use manager::protocol::api::*;
use manager::protocol::event::{EventKind, Outcome};
use manager::protocol::{PromptId, Restore, SessionId};

/// Returns a manager with an agent of each kind, by its abilities and by the options of its profile.
async fn host() -> Host {
    let host = Host::new().await;
    let memory = host.dir.path().join("memory");
    std::fs::create_dir(&memory).unwrap();
    let (program, memory) = (beside("acp-agent"), memory.display().to_string());
    let mut config = String::new();
    for (name, options, more) in [
        ("plain", "", ""),
        ("loads", "--load --memory M", ""),
        ("resumes", "--resume --load --memory M", ""),
        ("forgets", "--load --forgets --memory M", ""),
        ("closed", "--login", ""),
        ("keyed", "--login", "login = \"key\""),
        ("printing", "--login --login-url https://auth.example/device?code=AB-12 --login-seen M/seen", ""),
        ("prompted", "--system-prompt --load --memory M", "env = { KENNEL_SYSTEM_PROMPT = \"be brief\" }"),
        ("own", "--own-prompt", "env = { KENNEL_SYSTEM_PROMPT_INSTEAD = \"be a poet\" }"),
        ("old", "", "env = { KENNEL_SYSTEM_PROMPT = \"be brief\" }"),
        ("leaves", "--early-exit", ""),
        ("newer", "--other-version", ""),
        ("torn", "--load --dies-loading --memory M", ""),
        ("stuck", "--resume --load --hangs-resuming --memory M", "start_timeout = \"4500ms\""),
        (
            "stuck-twice",
            "--resume --load --hangs-resuming --hangs-loading --memory M",
            "start_timeout = \"4500ms\"",
        ),
        ("mute", "--mute", "start_timeout = \"300ms\""),
        ("allows", "", "permissions = \"allow\""),
        ("denies", "", "permissions = \"deny\""),
        ("fails", "", "permissions = \"fail\""),
        ("impatient", "", "permission_timeout = \"50ms\""),
        (
            "ruled",
            "",
            "rules = [{ kind = \"read\", then = \"allow\" }, { path = \"src\", then = \"allow\" }, { then = \"deny\" }]",
        ),
    ] {
        let options = options.replace('M', &memory);
        let words: Vec<String> = options.split_whitespace().map(|word| format!(", \"{word}\"")).collect();
        let command = format!("command = [\"{}\"{}]", program.display(), words.concat());
        config += &format!("[agents.{name}]\nkind = \"acp\"\n{command}\n{more}\n\n");
    }
    std::fs::write(host.config(), config).unwrap();
    host
}

fn opts(host: &Host, agent: &str) -> SessionOpts {
    SessionOpts { agent: Some(agent.into()), grace_ms: Some(500), ..host.opts() }
}

async fn session(host: &Host, agent: &str) -> SessionId {
    host.session_with(opts(host, agent)).await
}

async fn completed(host: &Host, id: &SessionId, prompt: PromptId) -> (Outcome, String) {
    match host.end_of(id, prompt).await {
        EventKind::TurnCompleted { outcome, stop_reason, .. } => (outcome, stop_reason),
        other => panic!("{other:?}"),
    }
}

async fn restarted(host: &Host, id: &SessionId, incarnation: u32) -> (Restore, String) {
    let wanted = |kind: &EventKind| matches!(kind, EventKind::SessionRestarted { .. });
    let mut stream = host.manager.subscribe(Some(0), Some(id.clone()));
    loop {
        let records = tokio::time::timeout(BOUND, stream.next()).await.expect("in time").unwrap().unwrap();
        let events = records.iter().map(|record| record.event().unwrap());
        let found = events.into_iter().find(|event| event.incarnation >= incarnation && wanted(&event.kind));
        if let Some(EventKind::SessionRestarted { restore, reason, .. }) = found.map(|event| event.kind) {
            return (restore, reason);
        }
    }
}
