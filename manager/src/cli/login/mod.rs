//! `login`: finishes the log-in of an agent where the daemon runs. Shows what its program shows, types what is typed here, and
//! passes a browser on that is sent to a port of the server.

mod forward;
mod shown;
mod typed;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use protocol::api::{
    LogInEnd, LogInInfo, LogInInput, LogInPiece, LogInVisit, SessionInfo, Status, VisitAnswer,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use self::forward::{Forward, Visit};
use self::shown::Shown;
use self::typed::{Line, Typed};
use crate::cli::args;
use crate::cli::host::asked::Asking;
use crate::cli::link::{Link, read};
use crate::cli::signals::{Signal, Signals};
use crate::cli::ui::error::{Failure, Outcome, exit, text_of};
use crate::cli::ui::render;
use crate::client::sse::Frame;
use crate::client::{ClientError, Request, encoded};
use crate::session_manager::LogInAddress;

/// Silence after which an unfinished line is taken for a question.
const PAUSE: Duration = Duration::from_millis(250);
/// Silence after which a line from a pipe is typed, whatever the program shows.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest wait for the end of a log-in that this command ends.
const END: Duration = Duration::from_secs(10);
/// The most ports that are passed on.
const PORTS: usize = 4;
/// The most redirects of one visit.
const REDIRECTS: usize = 5;
/// The most sessions that are named at the end.
const NAMED: usize = 5;

/// A log-in that runs, from the side of the person.
struct LogIn<'a> {
    link: &'a Link<'a>,
    info: LogInInfo,
    shown: Shown,
    visits: mpsc::Sender<Visit>,
    /// Ports that are passed on; none for one that is taken here.
    forwards: BTreeMap<u16, Option<Forward>>,
    /// The program is silent, and has shown something since something was typed.
    quiet: bool,
    heard: bool,
    typed_at: Instant,
    /// Lines that were typed.
    lines: u64,
}

/// `login`.
pub async fn login(link: &Link<'_>, args: args::Login) -> Outcome {
    let request = Request::post(format!("/v1/agents/{}/login", encoded(&args.agent))).prompt();
    let info: LogInInfo = read(&link.ask(request).await?)?;
    let path = format!("/v1/logins/{}", info.id);
    let asking = Asking::default();
    let done = run(link, info, &asking).await;
    asking.give_back();
    match done {
        Ok(end) => finish(link, &args.agent, &end).await,
        Err(failure) => {
            // Whoever leaves it, ends it.
            let ended = timeout(END, link.ask(Request::delete(path).repeatable().prompt())).await;
            let is_gone = matches!(&ended, Ok(Err(failure)) if failure.is("no_such_login"));
            if matches!(ended, Ok(Ok(_))) || is_gone {
                link.ui.note(&format!("the log-in of {} is ended", args.agent));
            }
            Err(failure)
        }
    }
}

/// Runs until the log-in has ended. A failure is also that a person has had enough of it.
async fn run(link: &Link<'_>, info: LogInInfo, asking: &Asking) -> Outcome<LogInEnd> {
    let mut signals = Signals::new()?;
    asking.begin()?;
    let mut typed = Typed::new();
    let place = link.host().map(|host| format!(" on {host}")).unwrap_or_default();
    let command = info.command.join(" ");
    link.ui.note(&format!("`{command}` runs{place}; what you type is not shown, Ctrl-C ends it"));
    let (visits, mut visitors) = mpsc::channel(4);
    let (tell, mut frames) = mpsc::channel(1);
    let mut reading = pin!(follow(link, format!("/v1/logins/{}", info.id), tell));
    let (shown, forwards) = (Shown::new(link.ui.out_colour), BTreeMap::new());
    let (quiet, heard, typed_at) = (false, false, Instant::now());
    let mut log_in = LogIn { link, info, shown, visits, forwards, quiet, heard, typed_at, lines: 0 };
    let mut under_way = FuturesUnordered::new();
    let mut is_read = false;
    loop {
        let may_type = typed.by_person || log_in.quiet;
        tokio::select! {
            outcome = &mut reading, if !is_read => {
                outcome?;
                is_read = true;
            }
            frame = frames.recv() => match frame {
                Some(frame) => if let Some(end) = log_in.show(&frame).await? {
                    return Ok(end);
                },
                None => return Err(Failure::failed("no_end", "the log-in ended without saying how")),
            },
            line = typed.next(), if may_type => log_in.take(line).await?,
            Some(visit) = visitors.recv() => under_way.push(pass_on(link, log_in.path("visit"), visit)),
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            () = sleep(PAUSE), if !log_in.quiet => log_in.pause().await?,
            signal = signals.next() => match signal {
                Signal::Interrupt => return Err(Failure::Printed(exit::INTERRUPTED)),
                Signal::Suspend => {
                    asking.give_back();
                    // It goes on when it is continued.
                    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP);
                    asking.hide();
                }
                Signal::Resume => asking.hide(),
                Signal::End(signal) => {
                    asking.give_back();
                    log_in.abandon().await;
                    // It does not return.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            },
        }
    }
}

/// Reads the output to its end, over as many connections as that takes.
async fn follow(link: &Link<'_>, path: String, tell: mpsc::Sender<Frame>) -> Outcome {
    let mut after = 0;
    loop {
        let mut events = link.stream(&Request::get(format!("{path}?after={after}"))).await?;
        loop {
            match events.next().await {
                Ok(Some(frame)) => {
                    after = frame.id.unwrap_or(after);
                    let is_end = frame.event == "ended";
                    if tell.send(frame).await.is_err() || is_end {
                        return Ok(());
                    }
                }
                Ok(None) | Err(ClientError::Lost(_)) => break,
                Err(error) => return Err(error.into()),
            }
        }
        // A daemon that ends breaks its streams off before its successor answers.
        sleep(PAUSE).await;
    }
}

impl LogIn<'_> {
    fn path(&self, what: &str) -> String {
        format!("/v1/logins/{}/{what}", self.info.id)
    }

    /// Shows a piece of the output. Gives the end, once that has come.
    async fn show(&mut self, frame: &Frame) -> Outcome<Option<LogInEnd>> {
        let ui = self.link.ui;
        let is_end = frame.event == "ended";
        let mut text = match frame.event.as_str() {
            "output" => {
                let piece: LogInPiece = read(frame.data.as_bytes())?;
                (self.quiet, self.heard) = (false, true);
                self.shown.feed(&piece.text)
            }
            "ended" => self.shown.end(),
            _ => return Ok(None),
        };
        if ui.json {
            ui.object(frame.data.as_bytes())?;
            text.clear();
        }
        ui.print(&text)?;
        self.forward().await;
        Ok(if is_end { Some(read(frame.data.as_bytes())?) } else { None })
    }

    /// The program is silent: it may have asked something.
    async fn pause(&mut self) -> Outcome {
        self.quiet = self.heard || self.typed_at.elapsed() > PATIENCE;
        let rest = self.shown.pause();
        // A note stands before the question, not behind it.
        self.forward().await;
        match self.link.ui.json {
            true => Ok(()),
            false => self.link.ui.print(&rest),
        }
    }

    /// Types a line, or opens the address that it is.
    async fn take(&mut self, line: Line) -> Outcome {
        let ui = self.link.ui;
        let text = match line {
            Line::Text(text) => text,
            Line::Wrong(why) => {
                ui.note(&format!("nothing was typed: {why}"));
                return Ok(());
            }
        };
        (self.quiet, self.heard, self.typed_at) = (false, false, Instant::now());
        if LogInAddress::parse(text.trim()).is_ok() {
            match visit(self.link, &self.path("visit"), text.trim().to_owned(), REDIRECTS).await {
                Ok(answer) => {
                    let text = render::line(&answer.text);
                    ui.note(&format!("the log-in's program answered: {} {text}", answer.status));
                }
                Err(failure) => ui.failure(&failure),
            }
            return Ok(());
        }
        // What Enter is on a terminal. Numbered: it is sent again if the connection is lost.
        self.lines += 1;
        let body = LogInInput { text: text + "\r", number: Some(self.lines) };
        let request = Request::post(self.path("input")).json(&body).repeatable().prompt();
        if let Err(failure) = self.link.ask(request).await {
            ui.failure(&failure);
        }
        Ok(())
    }

    /// Ends it, if the daemon answers in time. Without a reader it ends within a minute in any case.
    async fn abandon(&self) {
        let path = format!("/v1/logins/{}", self.info.id);
        let _ = timeout(END, self.link.ask(Request::delete(path).repeatable().prompt())).await;
    }

    /// Listens here on the ports of the server to which the browser will be sent.
    async fn forward(&mut self) {
        let (Some(host), ui) = (self.link.host(), self.link.ui) else { return };
        for port in self.shown.take_ports() {
            if self.forwards.contains_key(&port) || self.forwards.len() >= PORTS {
                continue;
            }
            let forward = Forward::listen(port, &self.visits).await;
            match &forward {
                Ok(_) => ui.note(&format!("the browser here may be sent to localhost:{port}: kennel passes that on to {host}")),
                Err(error) => ui.note(&format!(
                    "port {port} of this machine cannot be used ({error}): paste here the address to which the browser is sent, \
                     http://localhost:{port}/..."
                )),
            }
            self.forwards.insert(port, forward.ok());
        }
    }
}

/// Passes on what a browser asks for.
async fn pass_on(link: &Link<'_>, path: String, Visit { url, reply }: Visit) {
    // The browser follows redirects by itself.
    let answer = visit(link, &path, url, 0).await.map_err(|failure| text_of(&failure));
    // The browser may have left.
    let _ = reply.send(answer);
}

/// Opens an address on the server, and those of the same port to which it redirects.
async fn visit(link: &Link<'_>, path: &str, mut url: String, redirects: usize) -> Outcome<VisitAnswer> {
    for _ in 0..redirects {
        let answer = visit_once(link, path, url).await?;
        match answer.next {
            Some(next) => url = next,
            None => return Ok(answer),
        }
    }
    visit_once(link, path, url).await
}

async fn visit_once(link: &Link<'_>, path: &str, url: String) -> Outcome<VisitAnswer> {
    read(&link.ask(Request::post(path).json(&LogInVisit { url }).prompt()).await?)
}

/// Says how it ended, and what to do next.
async fn finish(link: &Link<'_>, agent: &str, end: &LogInEnd) -> Outcome {
    let how = match (&end.reason, end.code, end.signal) {
        (Some(reason), ..) => reason.clone(),
        (None, Some(0), _) => {
            if !link.ui.json {
                next_step(link, agent).await;
            }
            return Ok(());
        }
        (None, Some(code), _) => format!("its program ended with status {code}"),
        (None, None, Some(signal)) => format!("signal {signal} ended its program"),
        (None, None, None) => "its program ended".to_owned(),
    };
    let what = format!("the log-in of `{agent}` did not succeed: {how}");
    Err(Failure::failed("login_failed", what).hint(format!("`kennel login {agent}` begins anew")))
}

/// Names the sessions that may have failed for want of this log-in.
async fn next_step(link: &Link<'_>, agent: &str) {
    let sessions =
        link.sessions(true).await.and_then(|all| read::<Vec<SessionInfo>>(&all)).unwrap_or_default();
    let failed: BTreeSet<String> = sessions
        .into_iter()
        .filter(|session| session.agent == agent && session.status == Status::Failed)
        .map(|session| session.id.to_string())
        .collect();
    let named: Vec<&str> = failed.iter().take(NAMED).map(String::as_str).collect();
    link.ui.note(&match named.is_empty() {
        true => format!("{agent} is logged in; a session that waits for it: `kennel restart ID`"),
        false => format!(
            "{agent} is logged in; sessions of it that have failed: `kennel restart {}`",
            named.join(" ")
        ),
    });
}
