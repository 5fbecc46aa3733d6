//! `run`: a new session with its first prompt.

use std::pin::{Pin, pin};
use std::time::Duration;

use hyper::body::Bytes;
use protocol::SessionId;
use protocol::api::{Accepted, PromptRequest, SessionInfo, WhenBusy};

use super::input::content;
use super::watch::{Watch, ctrl_c, waits};
use crate::cli::args;
use crate::cli::link::{Link, random_key, read};
use crate::cli::sessions;
use crate::cli::show::name;
use crate::cli::signals;
use crate::cli::ui::error::{Failure, Outcome};
use crate::client::Request;

/// How long a session whose start was given up may take to be known.
const APPEARS: Duration = Duration::from_secs(5);
/// The time between two attempts to remove such a session.
const LOOK: Duration = Duration::from_millis(50);

/// `run`.
pub async fn run(link: &Link<'_>, args: args::Run) -> Outcome {
    if let Some(word) = args::misplaced::<args::Run>(&args.text) {
        link.ui.note(&format!("`{word}` is sent as part of the prompt: options stand before it"));
    }
    let prompt = {
        let (text, attachments) = content(link, args.text, &args.files)?;
        PromptRequest { text, when_busy: WhenBusy::Queue, attachments }
    };
    // The daemon would refuse it only after the session had started.
    if prompt.text.is_empty() && prompt.attachments.is_empty() {
        return Err(Failure::usage("the prompt is empty; nothing was started")
            .hint("give it as words, or on standard input"));
    }
    let mut opts = args.start.options.given();
    // What is to be removed must have a name before it exists: its start may be given up.
    let own = args.rm.then(|| random_key().map(|key| format!("run-{}", &key[..12]))).transpose()?;
    opts.id = own.clone().or(args.start.id.map(|id| id.to_string()));
    opts.name = args.start.name;
    opts.workdir = Some(link.directory(args.start.dir).await?);
    let id = opts.id.clone();
    let request = Request::post("/v1/sessions").key(&random_key()?).json(&opts);
    let mut stopped = pin!(stopped(args.rm));
    let mut starting = pin!(sessions::begun(link, "starting the session", id.as_deref(), request));
    let started = tokio::select! {
        started = &mut starting => started,
        code = stopped.as_mut() => {
            link.ui.write_err("\n");
            match &own {
                Some(own) => remove_once_known(link, own, starting).await?,
                None => link.ui.note("the prompt was not sent; `kennel ls` shows whether the session has started"),
            }
            return Err(Failure::Printed(code));
        }
    };
    let mut outcome = match started {
        Ok(answer) => given(link, &answer, &prompt, (args.rm, args.no_wait, args.timeout), stopped).await,
        Err(failure) => Err(failure),
    };
    if let Some(own) = own
        && let Err(failure) = sessions::remove(link, &own.parse::<SessionId>().map_err(no_id)?).await
    {
        link.ui.note(&format!("{own} was not removed; `kennel rm --force {own}` does it"));
        outcome = outcome.and(Err(failure));
    }
    // Advice about the session is of no use any more.
    match outcome {
        Err(Failure::Problem(mut problem, code)) if args.rm && problem.hint.is_some() => {
            problem.hint = Some(
                "`--rm` leaves no session behind; without it, `kennel show` and `kennel logs` tell more"
                    .into(),
            );
            Err(Failure::Problem(problem, code))
        }
        outcome => outcome,
    }
}

fn no_id(error: impl std::fmt::Display) -> Failure {
    Failure::failed("invalid_id", error.to_string())
}

/// Gives a session that has started its prompt, and prints the output of the prompt's turn.
async fn given<F: Future<Output = u8>>(
    link: &Link<'_>,
    answer: &Bytes,
    prompt: &PromptRequest,
    (rm, no_wait, timeout): (bool, bool, Option<Duration>),
    mut stopped: Pin<&mut F>,
) -> Outcome {
    let session: SessionInfo = read(answer)?;
    let id = &session.id;
    if !link.ui.json && !rm {
        let name = name(&session);
        link.ui.note(&match name == id.as_str() {
            true => format!("{id} has started; `kennel attach {id}` goes on with it"),
            false => format!("{name} ({id}) has started; `kennel attach {name}` goes on with it"),
        });
    }
    sessions::warn(link, answer)?;
    let request = Request::post(format!("/v1/sessions/{id}/prompts")).key(&random_key()?).json(prompt).keep();
    let accepted = tokio::select! {
        accepted = link.ui.waiting("sending", link.ask(request)) => accepted,
        code = stopped.as_mut() => {
            link.ui.write_err("\n");
            if !rm {
                link.ui.note(&format!("`kennel queue ls {id}` shows whether the prompt was accepted"));
            }
            return Err(Failure::Printed(code));
        }
    };
    let answer =
        accepted.map_err(|failure| if rm { failure } else { failure.but(&format!("{id} stays")) })?;
    let accepted: Accepted = read(&answer)?;
    if no_wait {
        match link.ui.json {
            true => link.ui.object(&answer)?,
            false => link.ui.line(id.as_str())?,
        }
        waits(link, &accepted).await;
        return Ok(());
    }
    Watch { timeout, stays: !rm, stopped }
        .until_the_end(link, id, accepted.prompt_id, accepted.event_id)
        .await
}

/// Returns the exit code once somebody ends this command: by Ctrl-C, and where a session is to be removed, by each other
/// signal that asks a program to end.
async fn stopped(rm: bool) -> u8 {
    let asked = async {
        match rm {
            true => signals::ending().await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        code = ctrl_c() => code,
        signal = asked => u8::try_from(128 + signal).unwrap_or(u8::MAX),
    }
}

/// Removes a session whose start was given up. The daemon may not know it yet, so the start goes on meanwhile.
async fn remove_once_known(
    link: &Link<'_>,
    own: &str,
    starting: Pin<&mut impl Future<Output = Outcome<Bytes>>>,
) -> Outcome {
    let id: SessionId = own.parse().map_err(no_id)?;
    let path = format!("/v1/sessions/{id}");
    let known = async {
        while let Err(failure) = link.client.ask(&Request::get(&path)).await.map_err(Failure::from) {
            if !failure.is("no_such_session") {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        _ = starting => {}
        () = known => {}
        () = tokio::time::sleep(APPEARS) => {}
    }
    sessions::remove(link, &id).await
}
