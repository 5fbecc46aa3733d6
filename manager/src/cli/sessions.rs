//! Sessions: start, look, wait, stop.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use hyper::body::Bytes;
use protocol::SessionId;
use protocol::api::{
    CallInfo, Orphans, PermissionInfo, SessionInfo, SessionOpts, Status, SubagentTools, TokenReply,
};
use protocol::event::Timestamp;

use super::args;
use super::events;
use super::link::{Link, read};
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::render::{self, Cell, Table};
use crate::client::Request;
use crate::session_manager::SessionManager;
use crate::system::clock;

/// How many sessions are stopped, restarted or removed at once.
const AT_ONCE: usize = 16;
/// The longest title in a table, in characters.
const MAX_TITLE: usize = 48;

/// `start`.
pub async fn start(link: &Link<'_>, args: args::Start) -> Outcome {
    let mut opts = options(args.options);
    opts.id = args.id.map(|id| id.to_string());
    opts.workdir = Some(directory(args.dir)?);
    let request = Request::post("/v1/sessions").key(&random_key()?).json(&opts);
    let answer = link.ui.waiting("starting the session", link.ask(request)).await?;
    print_id(link, &answer)?;
    warn(link, &answer)
}

/// Names what a session that was just started lacks.
fn warn(link: &Link<'_>, answer: &Bytes) -> Outcome {
    if !link.ui.json {
        let session: SessionInfo = read(answer)?;
        if let Some(lacks) = lacks(&session) {
            link.ui.note(&format!("warning: {}: {lacks}", session.id));
        }
    }
    Ok(())
}

/// Which variables the session's agent lacks, and what to do about it.
pub fn lacks(session: &SessionInfo) -> Option<String> {
    (!session.env_missing.is_empty()).then(|| {
        format!(
            "`env_pass` names {}, and the daemon's environment does not have it; set it, run `kennel daemon restart`, then \
             `kennel restart {}`",
            session.env_missing.join(", "),
            session.id
        )
    })
}

/// `ensure`.
pub async fn ensure(link: &Link<'_>, args: args::Ensure) -> Outcome {
    let mut opts = options(args.options);
    let id = match &args.id {
        None => {
            let dir = directory(args.dir)?;
            let id = stable_id(Path::new(&dir))?;
            opts.workdir = Some(dir);
            id
        }
        Some(id) => {
            // A session that exists may be elsewhere; only a new one is put where this command runs.
            let known = match link.ask(Request::get(format!("/v1/sessions/{id}"))).await {
                Ok(_) => true,
                Err(failure) if failure.is("no_such_session") => false,
                Err(failure) => return Err(failure),
            };
            if args.dir.is_some() || !known {
                opts.workdir = Some(directory(args.dir)?);
            }
            id.clone()
        }
    };
    let timeout = args.timeout.as_millis();
    let request = Request::put(format!("/v1/sessions/{id}?timeout_ms={timeout}")).json(&opts);
    let answer = link.ui.waiting(&format!("waiting for {id}"), link.ask(request)).await?;
    print_id(link, &answer)?;
    warn(link, &answer)
}

/// What the API starts a session with, but for id and directory.
pub fn options(options: args::Options) -> SessionOpts {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    SessionOpts {
        id: None,
        title: options.title,
        agent: options.agent,
        model: options.model,
        workdir: None,
        env: options.env.into_iter().collect(),
        restart: options.restart,
        intensity: options.intensity,
        period_ms: options.period.map(ms),
        on_crash: options.on_crash,
        hibernate_after_ms: options.hibernate_after.map(ms),
        grace_ms: options.grace.map(ms),
        turn_timeout_ms: options.turn_timeout.map(ms),
        nice: options.nice,
        nofile: options.nofile,
        memory_bytes: options.memory,
        pids: options.pids,
        milli_cpus: options.cpus,
        permissions: options.permissions,
        permission_timeout_ms: options.permission_timeout.map(ms),
        umask: None,
        mcp_servers: Vec::new(),
        mcp_remote_servers: Vec::new(),
        offers: Vec::new(),
    }
}

/// A directory, or the current one, as an absolute path.
pub fn directory(dir: Option<PathBuf>) -> Outcome<String> {
    let found = match dir {
        None => std::env::current_dir(),
        Some(dir) => std::path::absolute(dir),
    };
    let path = found.map_err(|error| {
        Failure::usage(format!("the directory: {error}")).hint("give the absolute path of a directory")
    })?;
    path.into_os_string().into_string().map_err(|path| {
        Failure::usage(format!("`{}` is not UTF-8; sessions need a directory whose path is", path.display()))
    })
}

/// A key under which a request is done once, however often it has to be sent.
pub fn random_key() -> Outcome<String> {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(16) => Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        _ => Err(Failure::failed("random", "the system gives no random numbers")),
    }
}

/// The id of a directory's session.
pub fn stable_id(dir: &Path) -> Outcome<SessionId> {
    SessionManager::stable_session_id_for_workdir(dir).map_err(|error| {
        let failure = Failure::usage(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

fn print_id(link: &Link<'_>, answer: &Bytes) -> Outcome {
    if link.ui.json {
        return link.ui.object(answer);
    }
    link.ui.line(read::<SessionInfo>(answer)?.id.as_str())
}

/// `ls`.
pub async fn ls(link: &Link<'_>, args: args::Ls) -> Outcome {
    let answer = link.ask(Request::get("/v1/sessions")).await?;
    let up = |status: &str| args.all || !["stopped", "failed"].contains(&status);
    if link.ui.json {
        let mut list: Vec<serde_json::Value> = read(&answer)?;
        list.retain(|session| session["status"].as_str().is_none_or(up));
        if args.tree {
            let text = |session: &serde_json::Value, name: &str| session[name].as_str().map(str::to_owned);
            let places = places(&list, |session| (text(session, "id"), text(session, "parent")));
            list = places.into_iter().map(|(place, _)| list[place].take()).collect();
        }
        return link.ui.object(serde_json::to_string(&list).unwrap_or_default().as_bytes());
    }
    let list: Vec<SessionInfo> = read(&answer)?;
    let shown: Vec<&SessionInfo> = list.iter().filter(|session| up(session.status.as_str())).collect();
    let places = match args.tree {
        true => places(&shown, |session| (Some(session.id.clone()), session.parent.clone())),
        false => (0..shown.len()).map(|place| (place, 0)).collect(),
    };
    let shown: Vec<(&SessionInfo, usize)> =
        places.into_iter().map(|(place, depth)| (shown[place], depth)).collect();
    if link.ui.quiet {
        return link
            .ui
            .print(&shown.iter().map(|(session, _)| format!("{}\n", session.id)).collect::<String>());
    }
    link.ui.print(&table(&shown, clock::wall_ms()).text(link.ui.out_colour, link.ui.columns))?;
    let needs = list.iter().filter(|session| session.status == Status::RequiresAction);
    let needs: Vec<String> = needs.map(|session| session.id.to_string()).collect();
    if !needs.is_empty() {
        let verb = if needs.len() == 1 { "waits" } else { "wait" };
        link.ui.note(&format!(
            "{} {verb} for somebody's answer: `kennel permissions ls`, `kennel attach {}`",
            needs.join(", "),
            needs[0]
        ));
    }
    for (session, _) in &shown {
        if let Some(quiet) = quiet(session, clock::wall_ms()) {
            link.ui.note(&format!("{}: {quiet}; `kennel logs {0}` may show more", session.id));
        }
    }
    if shown.len() < list.len() && link.ui.out_is_terminal {
        link.ui.note(&format!("{} more stopped or failed: `kennel ls --all`", list.len() - shown.len()));
    }
    Ok(())
}

/// The order in which sessions stand if each is right below its parent, and how many of those shown are above each.
/// One whose parent is not shown stands by itself.
fn places<T, K: Ord>(sessions: &[T], family: impl Fn(&T) -> (Option<K>, Option<K>)) -> Vec<(usize, usize)> {
    let families: Vec<(Option<K>, Option<K>)> = sessions.iter().map(family).collect();
    let named = families.iter().enumerate().filter_map(|(place, (id, _))| Some((id.as_ref()?, place)));
    let by_id: BTreeMap<&K, usize> = named.collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); sessions.len()];
    let mut ahead = Vec::new();
    for (place, (_, parent)) in families.iter().enumerate().rev() {
        match parent.as_ref().and_then(|parent| by_id.get(parent)) {
            Some(parent) => children[*parent].push(place),
            None => ahead.push((place, 0)),
        }
    }
    let mut places = Vec::new();
    while let Some((session, depth)) = ahead.pop() {
        places.push((session, depth));
        ahead.extend(children[session].drain(..).map(|child| (child, depth + 1)));
    }
    places
}

fn table(sessions: &[(&SessionInfo, usize)], now: u64) -> Table {
    let mut table =
        Table::new(&["ID", "STATUS", "AGENT", "PID", "RESTARTS", "QUEUE", "AGE", "TITLE"]).cuts_last();
    for (session, depth) in sessions {
        let title = session.title.as_deref().or(session.first_prompt.as_deref()).unwrap_or_default();
        table.row(vec![
            format!("{}{}", "  ".repeat(*depth), session.id).into(),
            Cell::styled(session.status.as_str(), render::status_style(session.status)),
            render::short(&render::line(&session.agent), 20).into(),
            session.pid.map_or("-".into(), |pid| pid.to_string()).into(),
            session.restarts.in_window.to_string().into(),
            session.queue_length.to_string().into(),
            render::age(session.created_at, now).into(),
            render::short(&render::line(title), MAX_TITLE).into(),
        ]);
    }
    table
}

/// `show`.
pub async fn show(link: &Link<'_>, typed: &str) -> Outcome {
    let id = link.find(typed).await?;
    let answer = link.ask(Request::get(format!("/v1/sessions/{id}"))).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let session: SessionInfo = read(&answer)?;
    let now = clock::wall_ms();
    let (mut facts, quiet) = (facts(&session, now), quiet(&session, now));
    facts.extend(quiet.map(|quiet| ("quiet", quiet)));
    facts.extend(needs(link, &id).await?.into_iter().map(|what| ("needs", what)));
    link.ui.print(&pairs(&facts, link.ui.out_colour))
}

/// What is told of a turn that has shown nothing for long.
fn quiet(session: &SessionInfo, now: u64) -> Option<String> {
    let Timestamp(last) = session.last_message_at.filter(|_| session.status == Status::Running)?;
    let since = Duration::from_millis(now.saturating_sub(last));
    (since >= events::QUIET).then(|| events::quiet(since, None))
}

/// What the session's agent waits for somebody to answer.
async fn needs(link: &Link<'_>, id: &SessionId) -> Outcome<Vec<String>> {
    let path = format!("/v1/sessions/{id}");
    let permissions: Vec<PermissionInfo> = link.get(Request::get(format!("{path}/permissions"))).await?;
    let permissions = permissions.into_iter().map(|asked| {
        let id = asked.permission_id;
        format!("an answer to {id}: {}; `kennel permissions allow {id}` or `deny`", asked.title)
    });
    let calls: Vec<CallInfo> = link.get(Request::get(format!("{path}/calls"))).await?;
    let calls =
        calls.into_iter().filter_map(|call| super::events::asked_of_user(&call.method, &call.payload));
    Ok(permissions.chain(calls).collect())
}

/// Names and values, one a line.
pub fn pairs(facts: &[(&str, String)], colour: bool) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let line = |(name, value): &(&str, String)| {
        let name = format!("{:width$}", format!("{name}:"));
        format!("{}{}\n", render::paint(&name, render::DIM, colour), render::line(value))
    };
    facts.iter().map(line).collect()
}

/// What a person is told about a session: all there is, and nothing where there is nothing.
fn facts(session: &SessionInfo, now: u64) -> Vec<(&'static str, String)> {
    let ago = |at| format!("{} ({} ago)", render::time(at), render::age(at, now));
    let restarts = &session.restarts;
    let budget = format!(
        "{} in the last {}, {} allowed",
        restarts.in_window,
        render::duration(restarts.period_ms),
        restarts.intensity
    );
    let mut facts = vec![
        ("id", session.id.to_string()),
        ("status", session.status.to_string()),
        ("title", session.title.clone().unwrap_or("-".into())),
        ("pid", session.pid.map_or("-".into(), |pid| pid.to_string())),
        ("agent", session.agent.clone()),
        ("workdir", session.workdir.clone()),
        ("incarnation", session.incarnation.to_string()),
        ("restarts", budget),
        ("turns", session.turn_count.to_string()),
        ("messages", session.message_count.to_string()),
        ("queue", session.queue_length.to_string()),
        ("created", ago(session.created_at)),
    ];
    let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    add("model", model(session));
    add("start", session.start_notice.clone());
    add("last turn", session.empty_turn.then(|| "ended without an answer or a tool call".to_owned()));
    add("agent pid", session.agent_pid.map(|pid| pid.to_string()));
    add(
        "agent says",
        session.agent_details.as_ref().map(|details| {
            let name = details.name.as_deref().unwrap_or("a nameless agent");
            let version = details.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            format!("{name}{version}; offers to restore: {}", super::agents::offers(details))
        }),
    );
    add("program", session.program.clone());
    add("environment", lacks(session));
    add(
        "sub-agents",
        session.subagent_tools.map(|tools| {
            match tools {
                SubagentTools::Off => "no tools for them: `subagents = false`, or a sandbox",
                SubagentTools::Taken => "the agent has tools for them",
                SubagentTools::Offered => {
                    "tools offered; the agent has not started kennel's MCP server since the daemon started, and has none until \
                     it does"
                }
            }
            .to_owned()
        }),
    );
    add("containment", session.containment.map(|level| level.to_string()));
    add("sandbox", session.sandbox.map(|sandbox| sandbox.to_string()));
    for (name, value, keeper) in render::limits(&session.limits, session.limited_by.as_ref()) {
        add(name, Some(format!("{value} ({keeper})")));
    }
    add("restore", session.restore.map(|restore| restore.to_string()));
    add("running", session.running_prompt.map(|prompt| prompt.to_string()));
    add("first prompt", session.first_prompt.clone());
    add("last message", session.last_message_at.map(ago));
    add("parent", session.parent.as_ref().map(|parent| parent.to_string()));
    for child in &session.children {
        add("sub-agent", Some(render::child(child)));
    }
    add("pinned", session.pinned.then(|| "yes".to_owned()));
    add(
        "last restart",
        restarts.last_reason.as_ref().map(|reason| {
            let old = restarts.last_pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            format!("{reason}{old}")
        }),
    );
    add(
        "tokens",
        session.usage.as_ref().map(|usage| {
            let cost = usage.cost_usd.map(|cost| format!(", {cost:.4} USD")).unwrap_or_default();
            format!("{} in, {} out{cost}", usage.input_tokens, usage.output_tokens)
        }),
    );
    if let Some(failure) = &session.failure {
        add("failure", Some(failure.reason.clone()));
        add("exit", failure.exit.map(|exit| exit.to_string()));
        add("survivors", (!failure.survivors.is_empty()).then(|| format!("{:?}", failure.survivors)));
        for words in &failure.last_words {
            add("last words", Some(words.clone()));
        }
    }
    facts
}

/// `id`.
pub async fn id(link: &Link<'_>, args: args::Id) -> Outcome {
    let id = match args.pid {
        Some(pid) => {
            let answer = link.ask(Request::get(format!("/v1/lookup?pid={pid}"))).await?;
            let found: serde_json::Value = read(&answer)?;
            found["id"].as_str().unwrap_or_default().to_owned()
        }
        None => stable_id(Path::new(&directory(args.dir)?))?.to_string(),
    };
    if link.ui.json {
        return link.ui.object(serde_json::json!({ "id": id }).to_string().as_bytes());
    }
    link.ui.line(&render::line(&id))
}

/// `wait`.
pub async fn wait(link: &Link<'_>, args: &args::Wait) -> Outcome {
    let id = link.find(&args.id).await?;
    let mut path = format!("/v1/sessions/{id}/wait?until={}", args.until);
    if let Some(timeout) = args.timeout {
        path += &format!("&timeout_ms={}", timeout.as_millis());
    }
    let what = format!("waiting until {id} is {}", args.until);
    let answer = link.ui.waiting(&what, link.ask(Request::get(path).patient().passive())).await?;
    if link.ui.json { link.ui.object(&answer) } else { Ok(()) }
}

/// `stop`.
pub async fn stop(link: &Link<'_>, args: args::Stop) -> Outcome {
    let orphans = match args.orphans {
        Orphans::Stop => "stop",
        Orphans::Keep => "keep",
    };
    if let Some(pid) = args.pid {
        // Not repeatable: the pid may be another session's by then.
        let request = Request::post(format!("/v1/pids/{pid}/stop?orphans={orphans}"));
        let answer = link.ui.waiting("stopping the session", link.ask(request)).await?;
        return print_id(link, &answer);
    }
    let ids = if args.all {
        let list: Vec<SessionInfo> = link.get(Request::get("/v1/sessions")).await?;
        let up = list.iter().filter(|session| !matches!(session.status, Status::Stopped | Status::Failed));
        up.map(|session| session.id.to_string()).collect()
    } else {
        args.ids
    };
    each(link, &ids, "stopping", async |id| {
        link.ask(Request::post(format!("/v1/sessions/{id}/stop?orphans={orphans}")).repeatable()).await
    })
    .await
}

/// `restart`.
pub async fn restart(link: &Link<'_>, args: &args::Ids) -> Outcome {
    each(link, &args.ids, "restarting", async |id| {
        link.ask(Request::post(format!("/v1/sessions/{id}/restart")).repeatable()).await
    })
    .await
}

/// `rm`.
pub async fn rm(link: &Link<'_>, args: &args::Rm) -> Outcome {
    let before: Vec<SessionInfo> = link.get(Request::get("/v1/sessions")).await?;
    let removed = RefCell::new(Vec::new());
    let all = each(link, &args.ids.ids, "removing", async |id| {
        let answer = link.ask(Request::delete(format!("/v1/sessions/{id}?force={}", args.force))).await?;
        removed.borrow_mut().push(id.clone());
        Ok(answer)
    });
    let outcome = all.await;
    if let Err(failure) = super::disk::after_rm(link, &before, &removed.into_inner()).await {
        link.ui.note(&format!("worktrees were left as they are: {}", super::acp::words(&failure)));
    }
    outcome
}

/// Does the same to some sessions, and tells of each as of one alone; one that fails does not keep the others from
/// being tried.
async fn each(
    link: &Link<'_>,
    ids: &[String],
    doing: &str,
    act: impl AsyncFn(&SessionId) -> Outcome<Bytes>,
) -> Outcome {
    let one = async |typed: &String| {
        let id = link.find(typed).await?;
        let answer = act(&id).await?;
        Ok((id, answer))
    };
    let mut exit = None;
    let what = format!("{doing} {}", if let [one] = ids { one.as_str() } else { "the sessions" });
    let all = async {
        let mut done = std::pin::pin!(stream::iter(ids).map(one).buffered(AT_ONCE));
        while let Some(outcome) = done.next().await {
            match outcome {
                // What is removed has no object any more.
                Ok((id, answer)) if !link.ui.json || answer.is_empty() => link.ui.line(id.as_str())?,
                Ok((_, answer)) => link.ui.object(&answer)?,
                Err(failure @ Failure::Unread) => return Err(failure),
                Err(failure) => {
                    exit.get_or_insert(failure.exit());
                    link.ui.tell(&failure.text(link.ui.json, link.ui.err_colour).unwrap_or_default());
                }
            }
        }
        Ok(())
    };
    link.ui.waiting(&what, all).await?;
    exit.map_or(Ok(()), |exit| Err(Failure::Told(exit)))
}

/// `pin` and `unpin`.
pub async fn pin(link: &Link<'_>, typed: &str, pinned: bool) -> Outcome {
    let id = link.find(typed).await?;
    let verb = if pinned { "pin" } else { "unpin" };
    let answer = link.ask(Request::post(format!("/v1/sessions/{id}/{verb}")).repeatable()).await?;
    print_id(link, &answer)
}

/// `token`.
pub async fn token(link: &Link<'_>, typed: &str, viewer: bool) -> Outcome {
    let id = link.find(typed).await?;
    let role = if viewer { "viewer" } else { "driver" };
    let answer = link.ask(Request::get(format!("/v1/sessions/{id}/token?role={role}"))).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    link.ui.line(&render::line(&read::<TokenReply>(&answer)?.token))
}

/// `logs`.
pub async fn logs(link: &Link<'_>, args: &args::Logs) -> Outcome {
    let id = link.find(&args.id).await?;
    let answer = link.ask(Request::get(format!("/v1/sessions/{id}/log?tail={}", args.tail))).await?;
    let text = String::from_utf8_lossy(&answer);
    link.ui.pass_on(&text)
}

/// The model that the agent uses, as it says, and another that was asked for.
fn model(session: &SessionInfo) -> Option<String> {
    match (&session.model, &session.agent_model) {
        (Some(asked), Some(now)) if asked != now => Some(format!("{now} ({asked} was asked for)")),
        (Some(asked), None) => {
            Some(format!("- ({asked} was asked for; the agent does not say what it uses)"))
        }
        (_, now) => now.clone(),
    }
}

#[cfg(test)]
mod tests {
    use protocol::Exit;
    use protocol::api::{Failure, Restarts};
    use protocol::event::Timestamp;
    use protocol::{Keeper, Level, LimitedBy, Limits, Sandbox, SandboxBy, Sandboxed};

    use super::*;

    fn session() -> SessionInfo {
        SessionInfo {
            id: "session-1".parse().unwrap(),
            title: Some("\u{1b}]0;evil\u{7}\nname".into()),
            agent: "shell".into(),
            agent_details: None,
            env_missing: Vec::new(),
            subagent_tools: None,
            model: None,
            agent_model: None,
            start_notice: None,
            empty_turn: false,
            status: Status::Failed,
            workdir: "/tmp/\u{202e}x".into(),
            pid: None,
            agent_pid: None,
            program: Some("/usr/bin/agent".into()),
            containment: Some(Level::PidNamespace),
            sandbox: Some(Sandboxed { sandbox: Sandbox::Strict, by: SandboxBy::Bubblewrap }),
            limits: Limits {
                nice: Some(5),
                nofile: Some(64),
                memory_bytes: Some(3 << 29),
                pids: None,
                milli_cpus: Some(1500),
            },
            limited_by: Some(LimitedBy {
                nice: Some(Keeper::Priority),
                nofile: Some(Keeper::Rlimit),
                memory: Some(Keeper::Watched),
                pids: None,
                cpus: Some(Keeper::None),
            }),
            incarnation: 3,
            restore: None,
            created_at: Timestamp(1_769_860_800_000),
            last_message_at: None,
            message_count: 2,
            turn_count: 1,
            first_prompt: Some("echo".into()),
            queue_length: 4,
            running_prompt: None,
            usage: None,
            restarts: Restarts {
                in_window: 5,
                intensity: 5,
                period_ms: 60_000,
                last_reason: None,
                last_pid: None,
            },
            failure: Some(Failure {
                reason: "too many deaths".into(),
                exit: Some(Exit::Signal(9)),
                last_words: vec!["one".into(), "\u{9b}2J".into()],
                survivors: vec![],
            }),
            pinned: false,
            clients: Vec::new(),
            parent: None,
            children: Vec::new(),
        }
    }

    #[test]
    fn a_model_that_the_agent_has_not_confirmed_is_not_claimed() {
        let says = |asked: Option<&str>, now: Option<&str>| {
            let (asked, now) = (asked.map(str::to_owned), now.map(str::to_owned));
            model(&SessionInfo { model: asked, agent_model: now, ..session() })
        };
        assert_eq!(says(None, None), None);
        assert_eq!(
            says(Some("big"), None).as_deref(),
            Some("- (big was asked for; the agent does not say what it uses)")
        );
        assert_eq!(says(Some("big"), Some("big")).as_deref(), Some("big"));
        assert_eq!(says(Some("big"), Some("small")).as_deref(), Some("small (big was asked for)"));
        assert_eq!(says(None, Some("small")).as_deref(), Some("small"));
    }

    #[test]
    fn a_turn_without_a_sign_for_long_says_what_it_waits_for() {
        let Timestamp(begun) = session().created_at;
        let running =
            SessionInfo { status: Status::Running, last_message_at: Some(Timestamp(begun)), ..session() };
        assert_eq!(quiet(&running, begun + 29_999), None);
        let told = quiet(&running, begun + 31_000).unwrap();
        assert!(told.contains("no sign for 31s") && told.contains("its model"), "{told}");
        let asks = SessionInfo { status: Status::RequiresAction, ..running };
        assert_eq!(quiet(&asks, begun + 99_000), None, "it is known what that waits for");
        assert!(events::quiet(events::QUIET, Some("make")).ends_with("its tool: make"));
    }

    #[test]
    fn children_stand_below_their_parents_and_orphans_by_themselves() {
        let families = [("a", ""), ("b", ""), ("c", "a"), ("d", "c"), ("e", "gone"), ("f", "a"), ("g", "b")];
        let order: Vec<(&str, usize)> = places(&families, |(id, parent)| (Some(*id), Some(*parent)))
            .into_iter()
            .map(|(place, depth)| (families[place].0, depth))
            .collect();
        assert_eq!(order, [("a", 0), ("c", 1), ("d", 2), ("f", 1), ("b", 0), ("g", 1), ("e", 0)]);
    }

    #[test]
    fn a_session_is_shown_with_what_there_is() {
        let text = pairs(&facts(&session(), 1_769_860_860_000), false);
        assert_eq!(
            text,
            "id:           session-1\n\
             status:       failed\n\
             title:        \\u{1b}]0;evil\\u{7} name\n\
             pid:          -\n\
             agent:        shell\n\
             workdir:      /tmp/\\u{202e}x\n\
             incarnation:  3\n\
             restarts:     5 in the last 1m, 5 allowed\n\
             turns:        1\n\
             messages:     2\n\
             queue:        4\n\
             created:      2026-01-31T12:00:00Z (1m ago)\n\
             program:      /usr/bin/agent\n\
             containment:  pid_namespace\n\
             sandbox:      strict (by bubblewrap)\n\
             nice:         +5 (priority)\n\
             nofile:       64 (rlimit)\n\
             memory:       1.5GiB (watched)\n\
             cpus:         1.5 (none)\n\
             first prompt: echo\n\
             failure:      too many deaths\n\
             exit:         killed by SIGKILL\n\
             last words:   one\n\
             last words:   \\u{9b}2J\n"
        );
    }

    #[test]
    fn a_list_has_one_harmless_line_a_session() {
        let text = table(&[(&session(), 0)], 1_769_860_860_000).text(false, None);
        assert_eq!(
            text,
            "ID         STATUS  AGENT  PID  RESTARTS  QUEUE  AGE  TITLE\n\
             session-1  failed  shell  -    5         4      1m   \\u{1b}]0;evil\\u{7} name\n"
        );
    }

    #[test]
    fn keys_are_random() {
        let (one, two) = (random_key().unwrap(), random_key().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
