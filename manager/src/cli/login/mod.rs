//! `login`: finishes the log-in of an agent where the daemon runs. Shows what its program shows, types what is typed here, and
//! passes a browser on that is sent to a port of the server.

mod forward;
mod ports;
mod shown;
mod typed;

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};
use protocol::api::{
    LogInEnd, LogInInfo, LogInInput, LogInPiece, LogInVisit, SessionInfo, Status, VisitAnswer,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use self::forward::Visit;
use self::ports::Ports;
use self::shown::Shown;
use self::typed::{ENDS, Line, Typed};
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
/// The longest wait for answers that are on their way when the log-in has ended.
const LAST: Duration = Duration::from_secs(2);
/// The byte of Ctrl-D on a terminal: the end of what is typed.
const END_OF_INPUT: &str = "\u{4}";
/// The most redirects of one visit.
const REDIRECTS: usize = 5;
/// The most sessions that are named at the end.
const NAMED: usize = 5;

/// A log-in that runs, from the side of the person.
struct LogIn<'a> {
    link: &'a Link<'a>,
    info: LogInInfo,
    shown: Shown,
    ports: Ports,
    /// The program is silent, and has shown something since something was typed.
    quiet: bool,
    heard: bool,
    typed_at: Instant,
    /// Texts that were typed.
    texts: u64,
    /// So often standard input has ended since its last line.
    ends: u32,
}

/// `login`.
pub async fn login(link: &Link<'_>, args: args::Login) -> Outcome {
    let take_over = if args.take_over { "?take_over=true" } else { "" };
    let request = Request::post(format!("/v1/agents/{}/login{take_over}", encoded(&args.agent))).prompt();
    let info: LogInInfo = read(&link.ask(request).await?)?;
    let path = format!("/v1/logins/{}", info.id);
    let asking = Asking::default();
    let done = run(link, info, &asking).await;
    asking.give_back();
    match done {
        Ok(end) => finish(link, &args.agent, &end).await,
        // Then nothing of it is left, and there is nothing to end.
        Err(failure) if failure.is("no_such_login") => {
            Err(failed(&args.agent, "the daemon has ended, and the log-in with it"))
        }
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
    let (shown, ports) = (Shown::new(link.ui.out_colour), Ports::new(visits));
    let (quiet, heard, typed_at) = (false, false, Instant::now());
    let mut log_in = LogIn { link, info, shown, ports, quiet, heard, typed_at, texts: 0, ends: 0 };
    // What is asked of the daemon; true once that was a line, of which one is on its way at a time.
    let mut under_way = FuturesUnordered::<LocalBoxFuture<'_, bool>>::new();
    let mut is_typing = false;
    let mut is_read = false;
    loop {
        // After the end a program gets another one only if it asks anew.
        let asks = log_in.quiet && (log_in.ends == 0 || log_in.heard);
        let may_type = !is_typing && (typed.by_person || asks);
        tokio::select! {
            outcome = &mut reading, if !is_read => {
                outcome?;
                is_read = true;
            }
            frame = frames.recv() => match frame {
                Some(frame) => if let Some(end) = log_in.show(&frame).await? {
                    // A program that has its answer ends at once: the page that it gave still reaches the browser.
                    let _ = timeout(LAST, async { while under_way.next().await.is_some() {} }).await;
                    return Ok(end);
                },
                None => return Err(Failure::failed("no_end", "the log-in ended without saying how")),
            },
            line = typed.next(), if may_type => if let Some(taking) = log_in.take(line)? {
                is_typing = true;
                under_way.push(taking);
            },
            Some(visit) = visitors.recv() => {
                log_in.ports.visited(visit.port);
                under_way.push(pass_on(link, log_in.path("visit"), visit).boxed_local());
            }
            Some(was_line) = under_way.next(), if !under_way.is_empty() => is_typing &= !was_line,
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

    /// Types a line, or opens the address that it is: the future does.
    fn take<'a>(&mut self, line: Line) -> Outcome<Option<LocalBoxFuture<'a, bool>>>
    where
        Self: 'a,
    {
        let (text, is_end) = match line {
            Line::Text(text) => (text, false),
            Line::End if self.ends + 1 == ENDS => {
                return Err(failed(&self.info.agent, "standard input has ended, and its program asks on"));
            }
            Line::End => (END_OF_INPUT.to_owned(), true),
            Line::Wrong(why) => {
                self.link.ui.note(&format!("nothing was typed: {why}"));
                return Ok(None);
            }
        };
        self.ends = if is_end { self.ends + 1 } else { 0 };
        (self.quiet, self.heard, self.typed_at) = (false, false, Instant::now());
        if LogInAddress::parse(text.trim()).is_ok() {
            let (link, path) = (self.link, self.path("visit"));
            return Ok(Some(open(link, path, text.trim().to_owned()).boxed_local()));
        }
        self.shown.answered();
        // Numbered: it is sent again if the connection is lost. What Enter is on a terminal ends a line.
        self.texts += 1;
        let text = if is_end { text } else { text + "\r" };
        let body = LogInInput { text, number: Some(self.texts) };
        Ok(Some(send(self.link, Request::post(self.path("input")).json(&body), is_end).boxed_local()))
    }

    /// Ends it, if the daemon answers in time. Without a reader it ends within a minute in any case.
    async fn abandon(&self) {
        let path = format!("/v1/logins/{}", self.info.id);
        let _ = timeout(END, self.link.ask(Request::delete(path).repeatable().prompt())).await;
    }

    /// Listens here on the ports of the server to which the browser will be sent.
    async fn forward(&mut self) {
        let named = self.shown.take_ports();
        if let Some(host) = self.link.host() {
            let notes = self.ports.open(named, host).await;
            notes.iter().for_each(|note| self.link.ui.note(note));
        }
    }
}

/// Opens an address that was typed, and says what the program answered.
async fn open(link: &Link<'_>, path: String, url: String) -> bool {
    match visit(link, &path, url, REDIRECTS).await {
        Ok(answer) => {
            let text = render::line(&answer.text);
            link.ui.note(&format!("the log-in's program answered: {} {text}", answer.status));
        }
        Err(failure) => link.ui.failure(&failure),
    }
    true
}

/// Types a text.
async fn send(link: &Link<'_>, request: Request, is_end: bool) -> bool {
    if let Err(failure) = link.ask(request.repeatable().prompt()).await {
        // Whoever reads the output hears of both, and nobody minds that an ended program hears no end.
        let is_told = failure.is("no_such_login") || is_end && failure.is("login_ended");
        if !is_told {
            link.ui.failure(&failure);
        }
    }
    true
}

/// Passes on what a browser asks for.
async fn pass_on(link: &Link<'_>, path: String, Visit { url, reply, .. }: Visit) -> bool {
    // The browser follows redirects by itself.
    let answer = visit(link, &path, url, 0).await.map_err(|failure| text_of(&failure));
    // The browser may have left.
    let _ = reply.send(answer);
    false
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
    Err(failed(agent, &how))
}

/// The failure of a log-in.
fn failed(agent: &str, how: &str) -> Failure {
    let what = format!("the log-in of `{agent}` did not succeed: {how}");
    Failure::failed("login_failed", what).hint(format!("`kennel login {agent}` begins anew"))
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
        true => format!(
            "the log-in program of {agent} ended well; a session that waits for it: `kennel restart ID`"
        ),
        false => format!(
            "the log-in program of {agent} ended well; sessions of it that have failed: `kennel restart {}`",
            named.join(" ")
        ),
    });
}
