//! Sessions: start, look, stop, remove.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use hyper::body::Bytes;
use protocol::SessionId;
use protocol::api::{EditSessionRequest, Orphans, SessionInfo, Status, TokenReply};

use crate::cli::args;
use crate::cli::chosen::{Deed, chosen, summary};
use crate::cli::link::random_key;
use crate::cli::link::{Link, read};
use crate::cli::show::{called, lacks, name, waits};
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::render;
use crate::client::Request;
use crate::daemon::Paths;
use crate::system::clock;

/// The number of sessions that are stopped, restarted or removed at once.
const AT_ONCE: usize = 16;

/// `start`.
pub async fn start(link: &Link<'_>, args: args::Start) -> Outcome {
    let mut opts = args.options.given();
    opts.id = args.id.map(|id| id.to_string());
    opts.name = args.name;
    opts.workdir = Some(link.directory(args.dir).await?);
    let request = Request::post("/v1/sessions").key(&random_key()?).json(&opts);
    let answer = begun(link, "starting the session", opts.id.as_deref(), request).await?;
    print_id(link, &answer)?;
    if link.ui.err_is_terminal && !link.ui.json {
        link.ui.note(&format!("started {}", called(&read(&answer)?)));
    }
    warn(link, &answer)
}

/// How long a start may take until this command looks whether something hinders it, and between two looks.
pub const LOOK: Duration = Duration::from_millis(500);

/// Asks for a session. If its process cannot be started, says once why, and that kennel tries again.
pub async fn begun(link: &Link<'_>, what: &str, id: Option<&str>, request: Request) -> Outcome<Bytes> {
    watched(link, what, id, request).await.map_err(|failure| as_typed(link, failure))
}

/// Asks for what needs the session's process. If it cannot be started, says once why, and that kennel tries again.
async fn watched(link: &Link<'_>, what: &str, id: Option<&str>, request: Request) -> Outcome<Bytes> {
    let since = clock::wall_ms();
    let mut answer = pin!(link.ui.waiting(what, link.ask(request)));
    let mut noted = link.ui.json;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            () = tokio::time::sleep(LOOK), if !noted => {}
        }
        tokio::select! {
            answer = &mut answer => return answer,
            trouble = hindered(link, id, since) => if let Some(trouble) = trouble {
                if link.ui.err_is_terminal {
                    link.ui.clear_progress();
                }
                link.ui.note(&trouble);
                noted = true;
            }
        }
    }
}

/// Why this session, or one that was created since, waits for the next try to start it.
async fn hindered(link: &Link<'_>, id: Option<&str>, since: u64) -> Option<String> {
    // Of a daemon that is just being started nothing is asked: another would be started.
    let path = id.map_or_else(|| "/v1/sessions?all=false".to_owned(), |id| format!("/v1/sessions/{id}"));
    let answer = link.client.ask(&Request::get(path)).await.ok()?;
    let sessions = match id {
        Some(_) => vec![read::<SessionInfo>(&answer).ok()?],
        None => read::<Vec<SessionInfo>>(&answer).ok()?,
    };
    sessions.iter().filter(|session| id.is_some() || session.created_at.0 >= since).find_map(waits)
}

/// Why the session waits for the next try to start it; absent if it does not.
pub async fn trouble(link: &Link<'_>, id: &SessionId) -> Option<String> {
    link.get::<SessionInfo>(Request::get(format!("/v1/sessions/{id}"))).await.ok().as_ref().and_then(waits)
}

/// Names what a session that was just started lacks.
pub fn warn(link: &Link<'_>, answer: &Bytes) -> Outcome {
    if !link.ui.json {
        let session: SessionInfo = read(answer)?;
        if let Some(lacks) = lacks(&session) {
            link.ui.note(&format!("warning: {}: {lacks}", called(&session)));
        }
    }
    Ok(())
}

/// `ensure`.
pub async fn ensure(link: &Link<'_>, args: args::Ensure) -> Outcome {
    let mut opts = args.options.given();
    opts.name = args.name;
    let id = match &args.id {
        None => {
            let dir = link.directory(args.dir).await?;
            let id = link.stable_id(&dir).await?;
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
                opts.workdir = Some(link.directory(args.dir).await?);
            }
            id.clone()
        }
    };
    let timeout = args.timeout.as_millis();
    let request = Request::put(format!("/v1/sessions/{id}?timeout_ms={timeout}")).json(&opts);
    let answer = begun(link, &format!("waiting for {id}"), Some(id.as_str()), request).await?;
    print_id(link, &answer)?;
    warn(link, &answer)
}

/// A refused option under the name that a person typed. Programs get the API's own words.
fn as_typed(link: &Link<'_>, mut failure: Failure) -> Failure {
    if let (false, Failure::Problem(problem, _)) = (link.ui.json, &mut failure)
        && let Some(flag) = args::Options::refused(&problem.code)
        && let Some((_, what)) = problem.detail.strip_prefix('`').and_then(|said| said.split_once("`: "))
    {
        problem.detail = format!("`{flag}`: {what}");
    }
    failure
}

fn print_id(link: &Link<'_>, answer: &Bytes) -> Outcome {
    if link.ui.json {
        return link.ui.object(answer);
    }
    link.ui.line(read::<SessionInfo>(answer)?.id.as_str())
}

/// Prints the session that was changed: as people read it on a terminal, by its id anywhere else.
fn print_changed(link: &Link<'_>, answer: &Bytes) -> Outcome {
    match link.ui.out_is_terminal && !link.ui.json && !link.ui.quiet {
        true => link.ui.line(&called(&read(answer)?)),
        false => print_id(link, answer),
    }
}

/// `id`.
pub async fn id(link: &Link<'_>, args: args::Id) -> Outcome {
    let id = match args.pid {
        Some(pid) => {
            let answer = link.ask(Request::get(format!("/v1/lookup?pid={pid}"))).await?;
            let found: serde_json::Value = read(&answer)?;
            found["id"].as_str().unwrap_or_default().to_owned()
        }
        None => {
            let dir = link.directory(args.dir).await?;
            link.stable_id(&dir).await?.to_string()
        }
    };
    if link.ui.json {
        return link.ui.object(serde_json::json!({ "id": id }).to_string().as_bytes());
    }
    link.ui.line(&render::line(&id))
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
        return print_changed(link, &answer);
    }
    let ids = if args.all {
        let list: Vec<SessionInfo> = read(&link.sessions(false).await?)?;
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
pub async fn restart(link: &Link<'_>, args: args::Restart) -> Outcome {
    // What has no process gets a new one without this, and `stop` is meant to last.
    const MEANS: [Status; 8] = [
        Status::Starting,
        Status::Idle,
        Status::Running,
        Status::RequiresAction,
        Status::Adopting,
        Status::Stopping,
        Status::Restarting,
        Status::Failed,
    ];
    let deed = Deed { asked: "Restart", done: "restarted", means: &MEANS };
    let ids = if args.all { chosen(link, &args.choice, deed).await? } else { args.ids };
    let done = Cell::new(0);
    let outcome = each(link, &ids, "restarting", async |id| {
        let request = Request::post(format!("/v1/sessions/{id}/restart")).repeatable();
        let answer = watched(link, &format!("restarting {id}"), Some(id.as_str()), request).await?;
        done.set(done.get() + 1);
        Ok(answer)
    });
    let outcome = outcome.await;
    if args.all && !ids.is_empty() {
        summary(link, ids.len(), done.get(), deed);
    }
    outcome
}

/// `rm`.
pub async fn rm(link: &Link<'_>, args: args::Rm) -> Outcome {
    // A hibernated session has no process either, and is there to be woken.
    let means: &[Status] = if args.force { &[] } else { &[Status::Stopped, Status::Failed] };
    let deed = Deed { asked: "Remove", done: "removed", means };
    let ids = if args.all { chosen(link, &args.choice, deed).await? } else { args.ids };
    let before = before_rm(link).await?;
    let removed = RefCell::new(Vec::new());
    let find = async |typed: &str| whole(link, typed).await;
    let outcome = each_of(link, &ids, "removing", find, async |id| {
        let answer = link.ask(Request::delete(format!("/v1/sessions/{id}?force={}", args.force))).await?;
        removed.borrow_mut().push(id.clone());
        Ok(answer)
    });
    let outcome = outcome.await;
    let removed = removed.into_inner();
    after_rm(link, &before, &removed).await;
    if args.all && !ids.is_empty() {
        summary(link, ids.len(), removed.len(), deed);
    }
    outcome
}

/// Stops and removes a session that this command has made, and prints nothing. One that is gone is as good as removed.
pub async fn remove(link: &Link<'_>, id: &SessionId) -> Outcome {
    let before = before_rm(link).await?;
    let request = Request::delete(format!("/v1/sessions/{id}?force=true")).repeatable();
    match link.ui.waiting("removing the session", link.ask(request)).await {
        Err(failure) if !failure.is("no_such_session") => return Err(failure),
        _ => {}
    }
    after_rm(link, &before, std::slice::from_ref(id)).await;
    Ok(())
}

/// The sessions whose worktrees a removal may leave behind. Without worktrees nothing is to be known of other sessions.
async fn before_rm(link: &Link<'_>) -> Outcome<Vec<SessionInfo>> {
    let has_worktrees = |paths: &Paths| paths.state_dir.join(crate::worktrees::DIRECTORY).is_dir();
    match link.paths.as_ref().is_some_and(has_worktrees) {
        true => link.get(Request::get("/v1/sessions")).await,
        false => Ok(Vec::new()),
    }
}

/// Removes the worktrees that removed sessions leave behind.
async fn after_rm(link: &Link<'_>, before: &[SessionInfo], removed: &[SessionId]) {
    if let Err(failure) = crate::cli::disk::after_rm(link, before, removed).await {
        link.ui
            .note(&format!("worktrees were left as they are: {}", crate::cli::ui::error::text_of(&failure)));
    }
}

/// The session that is meant by its whole id, its number or its whole name. Nothing else is looked up: what is removed does not come
/// back, and whoever repeats a command must not meet another session that begins so.
async fn whole(link: &Link<'_>, typed: &str) -> Outcome<SessionId> {
    if let Ok(id) = typed.parse::<SessionId>() {
        let number = typed.parse().ok().filter(|_| id.is_number_alone()).map(SessionId::numbered);
        for id in [id].into_iter().chain(number) {
            match link.get::<SessionInfo>(Request::get(format!("/v1/sessions/{id}"))).await {
                Err(failure) if failure.is("no_such_session") => {}
                found => return found.map(|session| session.id),
            }
        }
    }
    let what = format!("no session is called `{}`; nothing was removed", render::line(typed));
    let failure = Failure::new(exit::NO_SUCH, "no_such_session", what);
    Err(link.located(failure).hint("`kennel rm` takes whole ids and names; `kennel ls --all` lists them"))
}

/// [`each_of`], for sessions that a beginning of their id or name may mean.
async fn each(
    link: &Link<'_>,
    ids: &[String],
    doing: &str,
    act: impl AsyncFn(&SessionId) -> Outcome<Bytes>,
) -> Outcome {
    each_of(link, ids, doing, async |typed: &str| link.find(typed).await, act).await
}

/// Does the same to several sessions and prints each result as for a single session. A failure does not stop
/// the others.
async fn each_of(
    link: &Link<'_>,
    ids: &[String],
    doing: &str,
    find: impl AsyncFn(&str) -> Outcome<SessionId>,
    act: impl AsyncFn(&SessionId) -> Outcome<Bytes>,
) -> Outcome {
    let one = async |typed: &String| {
        let id = find(typed).await?;
        let answer = act(&id).await?;
        Ok((id, answer))
    };
    let mut exit = None;
    let what = format!("{doing} {}", if let [one] = ids { one.as_str() } else { "the sessions" });
    let all = async {
        let mut done = std::pin::pin!(stream::iter(ids).map(one).buffered(AT_ONCE));
        while let Some(outcome) = done.next().await {
            match outcome {
                // A removed session has no object to print.
                Ok((id, answer)) if answer.is_empty() => link.ui.line(id.as_str())?,
                Ok((_, answer)) => print_changed(link, &answer)?,
                Err(failure @ Failure::Unread) => return Err(failure),
                Err(failure) => {
                    exit.get_or_insert(failure.exit());
                    link.ui.failure(&failure);
                }
            }
        }
        Ok(())
    };
    link.ui.waiting(&what, all).await?;
    exit.map_or(Ok(()), |exit| Err(Failure::Printed(exit)))
}

/// `rename`.
pub async fn rename(link: &Link<'_>, args: args::Rename) -> Outcome {
    let edit = EditSessionRequest { name: args.name, title: args.title, ..EditSessionRequest::default() };
    let answer = edited(link, &args.id, &edit).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let session: SessionInfo = read(&answer)?;
    link.ui.line(&match (link.ui.quiet, link.ui.out_is_terminal) {
        (true, _) => session.id.to_string(),
        (false, true) => called(&session),
        (false, false) => name(&session).to_owned(),
    })
}

/// `label`.
pub async fn label(link: &Link<'_>, args: args::Label) -> Outcome {
    let (id, before) = link.about(&args.id, |id| Request::get(format!("/v1/sessions/{id}"))).await?;
    let changes: BTreeMap<String, Option<String>> = args.labels.into_iter().collect();
    let answer = match changes.is_empty() {
        true => before.clone(),
        false => {
            let edit = EditSessionRequest { labels: changes.clone(), ..EditSessionRequest::default() };
            edited(link, id.as_str(), &edit).await?
        }
    };
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let session: SessionInfo = read(&answer)?;
    let line =
        |(label, value): (&String, &String)| format!("{}\n", render::line(&format!("{label}={value}")));
    link.ui.print(&session.labels.iter().map(line).collect::<String>())?;
    let before = read::<SessionInfo>(&before)?.labels;
    let told: Vec<String> =
        changes.iter().map(|(label, to)| relabelled(label, before.get(label), to.as_ref())).collect();
    if !told.is_empty() {
        link.ui.note(&format!("{}: {}", called(&session), told.join(", ")));
    }
    Ok(())
}

/// The change of one label, in words.
fn relabelled(label: &str, from: Option<&String>, to: Option<&String>) -> String {
    match (from, to) {
        (None, None) => format!("{label} was not there"),
        (Some(_), None) => format!("{label} removed"),
        (Some(from), Some(to)) if from == to => format!("{label}={to} unchanged"),
        (Some(from), Some(to)) => format!("{label}={to} (was {from})"),
        (None, Some(to)) => format!("{label}={to} added"),
    }
}

async fn edited(link: &Link<'_>, typed: &str, edit: &EditSessionRequest) -> Outcome<Bytes> {
    let asked = link.about(typed, |id| Request::patch(format!("/v1/sessions/{id}")).json(edit)).await;
    asked.map(|(_, answer)| answer)
}

/// `pin` and `unpin`.
pub async fn pin(link: &Link<'_>, typed: &str, pinned: bool) -> Outcome {
    let id = link.find(typed).await?;
    let verb = if pinned { "pin" } else { "unpin" };
    let answer = link.ask(Request::post(format!("/v1/sessions/{id}/{verb}")).repeatable()).await?;
    print_changed(link, &answer)
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
