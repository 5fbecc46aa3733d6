//! `attach`: a person and a session, on the whole screen of a terminal or line by line.

use std::io::IsTerminal;
use std::path::Path;

use protocol::SessionId;
use protocol::api::{Bootstrap, ManagerInfo, Role, SessionInfo};

use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::sessions::begun;
use crate::cli::show::called;
use crate::cli::transcript;
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::render;
use crate::client::{Request, encoded};
use conversation::Conversation;
use desk::{Desk, Left};
use view::View;

mod asked;
mod conversation;
mod desk;
mod full;
mod history;
mod input;
mod keyboard;
mod loads;
mod parting;
mod pending;
mod permission;
mod shown;
mod view;

/// `attach`.
pub async fn attach(link: &Link<'_>, args: args::Attach) -> Outcome {
    let (session, why) = session(link, args.what.as_deref()).await?;
    let role = if args.read_only { Role::Viewer } else { Role::Driver };
    let mut after = if args.no_history { None } else { Some(0) };
    let mut takeover = args.takeover;
    let mut view = View::new(link.ui, session.clone(), role);
    let (mut at, mut missing) = (args.at, None);
    if let Some(at) = &mut at {
        transcript::is_of(link, (&session, session.as_str()), *at, "attach").await?;
        // One that is yet to come is at the end.
        let info: ManagerInfo = link.get(Request::get("/v1/manager")).await?;
        if *at > info.last_event_id {
            missing = Some(format!("event {at} is yet to come: this is the end"));
            *at = info.last_event_id;
        }
        after = Some(at.saturating_sub(1));
    }
    if !args.plain && has_screen(link) {
        after = whole_screen(link, &mut view, after, at).await?;
    }
    if let Some(why) = why.or(missing) {
        view.note(&why);
    }
    let mut desk = Desk::new(link, view)?;
    at.iter().for_each(|at| desk.show(*at));
    let mut was_there = false;
    loop {
        let mut events = desk.come(after, takeover).await.map_err(|failure| match was_there {
            true => failure.although(&format!("{session} goes on, and so does what it has accepted")),
            false => failure,
        })?;
        was_there = true;
        let left = loop {
            match desk.sit(&mut events, &mut after).await? {
                Left::Wants(line, takeover) => {
                    if let Some(seated) = desk.drive(after, line, takeover).await? {
                        events = seated;
                    }
                }
                left => break left,
            }
        };
        match left {
            // Dealt with above.
            Left::Wants(..) => {}
            Left::Detached => return desk.leave().await,
            Left::Removed => {
                desk.lingers("the session was removed").await?;
                return desk.removed();
            }
            Left::Stopped => {
                desk.view.lost = true;
                if !desk.comes_back().await? {
                    desk.lingers("the daemon was stopped").await?;
                    desk.end_unasked();
                    return Err(Failure::unreachable("the daemon was stopped").hint(format!(
                        "`kennel attach {session}` starts it again; nothing that was accepted is lost"
                    )));
                }
            }
            Left::Lost if link.host().is_some() => {}
            Left::Lost => desk.view.note("the daemon went away; going on with the next"),
        }
        // A client that drove finds its seat by its word; a client that was displaced stays a viewer.
        takeover = false;
        desk.is_lost();
    }
}

/// Returns true if a person is at a terminal that can be drawn on.
fn has_screen(link: &Link<'_>) -> bool {
    let ui = link.ui;
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
    !ui.json && !ui.quiet && ui.out_is_terminal && std::io::stdin().is_terminal() && !is_dumb
}

/// Loads the end of the conversation for the whole screen, or its part around an event. Returns the event after which it goes on.
async fn whole_screen(
    link: &Link<'_>,
    view: &mut View<'_>,
    after: Option<u64>,
    at: Option<u64>,
) -> Outcome<Option<u64>> {
    let mut chat = Conversation::default();
    let info: ManagerInfo = link.get(Request::get("/v1/manager")).await?;
    let last = info.last_event_id;
    if let Some(at) = at {
        chat = history::around(link, &view.session, at).await?;
    } else if after.is_some() {
        let end = last.saturating_add(1);
        chat = history::before(link, &view.session, end, history::IDS).await?.chat;
    } else {
        chat.from = last;
    }
    let session: SessionInfo = link.get(Request::get(format!("/v1/sessions/{}", view.session))).await?;
    view.called = render::session(&session.id, session.name.as_ref());
    view.newest = last;
    view.chat = Some(Box::new(chat));
    Ok(Some(last))
}

/// The session that is meant: by its id, or by a directory, whose session is there from then on. Without either: the newest of the current
/// directory if one is there, else the one with the newest message, and a note that says so.
async fn session(link: &Link<'_>, what: Option<&str>) -> Outcome<(SessionId, Option<String>)> {
    // What is a directory is known on this machine only. On another one a word with `/` or `~` is meant as one.
    let is_dir = |what: &str| match link.host() {
        None => Path::new(what).is_dir(),
        Some(_) => what.contains('/') || what.starts_with(['~', '.']),
    };
    if let Some(id) = what.filter(|what| !is_dir(what)) {
        return link.find(id).await.map(|id| (id, None));
    }
    let workdir = link.directory(what.map(Into::into)).await?;
    let id = link.stable_id(&workdir).await?;
    // A program that gives no id means the directory, whatever other sessions there are.
    if what.is_none() && std::io::stdin().is_terminal() {
        if let Some(here) = newest_in(link, &workdir).await?.filter(|here| here.id != id) {
            let why = format!("{} is the session of this directory with the newest message", called(&here));
            return Ok((here.id, Some(why)));
        }
        if let Some(other) = newest(link, &id).await? {
            let why = format!(
                "{workdir} has no session: this is {}, which has the newest message; `kennel attach .` starts one here",
                called(&other)
            );
            return Ok((other.id, Some(why)));
        }
    }
    let body = serde_json::json!({ "workdir": workdir });
    let request = Request::post("/v1/bootstrap").json(&body).repeatable();
    let known = link.ask(Request::get(format!("/v1/sessions/{id}"))).await;
    let is_new = known.is_err_and(|failure| failure.is("no_such_session"));
    let answer = begun(link, "starting the session", Some(id.as_str()), request).await?;
    let found: Bootstrap = read(&answer)?;
    let started = || format!("started {} with the agent {}", called(&found.session), found.session.agent);
    let why = (is_new && std::io::stdin().is_terminal()).then(started);
    Ok((found.id, why))
}

/// Returns the session that works in this directory, of several that with the newest message. Those that are stopped do not count.
async fn newest_in(link: &Link<'_>, workdir: &str) -> Outcome<Option<SessionInfo>> {
    let path = format!("/v1/sessions?all=false&sort=last&dir={}", encoded(workdir));
    match link.get::<Vec<SessionInfo>>(Request::get(path)).await {
        // The list has those below the directory, too.
        Ok(list) => Ok(list.into_iter().find(|session| session.workdir == workdir)),
        // An older daemon knows neither order nor directory.
        Err(failure) if failure.is("invalid_parameter") => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Returns the session with the newest message, if this one is not there and any other is.
async fn newest(link: &Link<'_>, id: &SessionId) -> Outcome<Option<SessionInfo>> {
    match link.get::<SessionInfo>(Request::get(format!("/v1/sessions/{id}"))).await {
        Ok(_) => return Ok(None),
        Err(failure) if failure.is("no_such_session") => {}
        Err(failure) => return Err(failure),
    }
    match link.get::<Vec<SessionInfo>>(Request::get("/v1/sessions?all=false&sort=last&limit=1")).await {
        Ok(list) => Ok(list.into_iter().next()),
        // An older daemon has no order.
        Err(failure) if failure.is("invalid_parameter") => Ok(None),
        Err(failure) => Err(failure),
    }
}
