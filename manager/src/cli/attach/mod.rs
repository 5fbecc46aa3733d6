//! `attach`: a person and a session, line by line.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::IsTerminal;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use protocol::SessionId;
use protocol::api::{Accepted, Bootstrap, Role};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cli::args;
use crate::cli::link::{Link, random_key, read};
use crate::cli::sessions::begun;
use crate::cli::signals::{Signal, Signals};
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::client::{ClientError, Events, Request};
use keyboard::{Terminal, Typed};
use view::View;

mod asked;
mod keyboard;
mod permission;
mod shown;
mod view;

/// The longest wait until a client drives again whose connection was lost, and the interval between two looks.
const SEAT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// Requests that wait for the answer to the one before.
const WAITING: usize = 16;

/// `attach`.
pub async fn attach(link: &Link<'_>, args: args::Attach) -> Outcome {
    let session = session(link, args.what.as_deref()).await?;
    let role = if args.read_only { Role::Viewer } else { Role::Driver };
    let mut after = if args.no_history { None } else { Some(0) };
    let mut takeover = args.takeover;
    let mut desk = Desk::new(link, View::new(link.ui, session.clone(), role))?;
    let mut was_there = false;
    loop {
        let mut events = desk.come(after, takeover).await.map_err(|failure| match was_there {
            true => failure.although(&format!("{session} goes on, and so does what it has accepted")),
            false => failure,
        })?;
        was_there = true;
        let left = loop {
            match desk.sit(&mut events, &mut after).await? {
                Left::Wants(line) => {
                    if let Some(seated) = desk.drive(after, line).await? {
                        events = seated;
                    }
                }
                left => break left,
            }
        };
        match left {
            // Dealt with above.
            Left::Wants(_) => {}
            Left::Detached => return desk.leave().await,
            Left::Removed => return Ok(()),
            Left::Stopped => {
                if !desk.comes_back().await? {
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
        desk.view.gone();
        desk.seat.set(None);
    }
}

/// The session that is meant: by its id, or by a directory, whose session is there from then on.
async fn session(link: &Link<'_>, what: Option<&str>) -> Outcome<SessionId> {
    // What is a directory is known on this machine only. On another one a word with `/` or `~` is meant as one.
    let is_dir = |what: &str| match link.host() {
        None => Path::new(what).is_dir(),
        Some(_) => what.contains('/') || what.starts_with(['~', '.']),
    };
    if let Some(id) = what.filter(|what| !is_dir(what)) {
        return link.find(id).await;
    }
    let workdir = link.directory(what.map(Into::into)).await?;
    let id = link.stable_id(&workdir).await?;
    let body = serde_json::json!({ "workdir": workdir });
    let request = Request::post("/v1/bootstrap").json(&body).repeatable();
    let answer = begun(link, "starting the session", Some(id.as_str()), request).await?;
    read::<Bootstrap>(&answer).map(|found| found.id)
}

/// Why a person stopped reading one connection's events.
enum Left {
    /// The person detaches, or every line of a pipe is done.
    Detached,
    /// The session was removed.
    Removed,
    /// The daemon ended its stream.
    Stopped,
    /// The connection was lost.
    Lost,
    /// The person looks on, and has typed this line.
    Wants(String),
}

type Asking<'a> = Pin<Box<dyn Future<Output = Outcome<Option<Accepted>>> + 'a>>;

/// The person: what is typed, what is shown, what was asked for and not answered yet.
struct Desk<'a> {
    link: &'a Link<'a>,
    view: View<'a>,
    /// The word by which this client finds its seat after a lost connection.
    word: String,
    /// The number under which this client drives now, for requests that were sent under an earlier one.
    seat: Rc<Cell<Option<u64>>>,
    typed: Receiver<Typed>,
    terminal: Option<Terminal>,
    signals: Signals,
    /// Standard input is a pipe or a file, and has come to its end.
    ended: bool,
    /// A line that was typed before this client drove.
    held: Option<String>,
    /// Requests that follow from what was typed, in that order.
    requests: VecDeque<Request>,
    asking: Option<Asking<'a>>,
    /// The request to end a turn, which is answered when the turn has ended.
    aborting: Option<Asking<'a>>,
    /// A line of a pipe was not taken: the exit code for that.
    refused: Option<u8>,
}

impl<'a> Desk<'a> {
    fn new(link: &'a Link<'a>, view: View<'a>) -> Outcome<Self> {
        let signals = Signals::new()?;
        let terminal = Terminal::new();
        Ok(Self {
            link,
            view,
            word: random_key()?,
            seat: Rc::default(),
            typed: keyboard::typed(terminal.as_ref()),
            terminal,
            signals,
            ended: false,
            held: None,
            requests: VecDeque::new(),
            asking: None,
            aborting: None,
            refused: None,
        })
    }

    /// Attaches as the driver. Attaches as a viewer if another client drives and this one does not take over.
    async fn come(&mut self, after: Option<u64>, takeover: bool) -> Outcome<Events> {
        let link = self.link;
        loop {
            let request = self.view.attachment(after, takeover, &self.word);
            match self.unless_interrupted(link.stream(&request)).await? {
                Err(failure) if failure.is("driven") && self.view.role == Role::Driver => {
                    self.view.role = Role::Viewer;
                    let what =
                        failure.detail().unwrap_or_default().trim_end_matches("; you were not attached");
                    let session = &self.view.session;
                    link.ui.note(&format!(
                        "{what}; you look on: what you type is sent once nobody drives; `kennel attach {session} --takeover` drives now"
                    ));
                }
                other => return other,
            }
        }
    }

    /// Attaches anew, as the driver that the person wanted to be, and sends the line then. None if another client drives: the line is
    /// not sent.
    async fn drive(&mut self, after: Option<u64>, line: String) -> Outcome<Option<Events>> {
        let link = self.link;
        let before = std::mem::replace(&mut self.view.role, Role::Driver);
        let request = self.view.attachment(after, false, &self.word);
        match self.unless_interrupted(link.stream(&request)).await? {
            Ok(events) => {
                self.view.gone();
                (self.view.role, self.held) = (Role::Driver, Some(line));
                self.seat.set(None);
                Ok(Some(events))
            }
            Err(failure) if failure.is("driven") => {
                self.view.role = before;
                let what = failure.detail().unwrap_or_default().trim_end_matches("; you were not attached");
                let what = format!(
                    "{what}; your line was not sent; `kennel attach {} --takeover` drives now",
                    self.view.session
                );
                self.view.note(&what);
                self.refused = Some(exit::CONFLICT);
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn comes_back(&mut self) -> Outcome<bool> {
        let link = self.link;
        self.unless_interrupted(link.comes_back()).await
    }

    /// Waits for something that the daemon does while no session is on the screen. Ctrl-C ends the wait and the command.
    async fn unless_interrupted<T>(&mut self, work: impl Future<Output = T>) -> Outcome<T> {
        let mut work = pin!(work);
        loop {
            let signal = tokio::select! {
                done = &mut work => return Ok(done),
                signal = self.signals.next() => signal,
            };
            if self.mind(signal) {
                return Err(Failure::Printed(exit::INTERRUPTED));
            }
        }
    }

    /// Does what a signal asks of every program. Returns whether it is Ctrl-C, which is the caller's.
    fn mind(&mut self, signal: Signal) -> bool {
        match signal {
            Signal::Interrupt => return true,
            Signal::Suspend => {
                self.terminal.iter().for_each(Terminal::give_back);
                keyboard::stop();
                self.terminal.iter().for_each(Terminal::take);
            }
            Signal::Resume => self.terminal.iter().for_each(Terminal::take),
            Signal::End(signal) => {
                self.terminal.take();
                // It does not return.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
        false
    }

    /// Shows what happens and does what is typed, until one of them ends.
    async fn sit(&mut self, events: &mut Events, after: &mut Option<u64>) -> Outcome<Left> {
        loop {
            self.ask_next();
            if self.ended && self.is_done()? {
                return Ok(Left::Detached);
            }
            let may_type = self.requests.len() < WAITING && !self.ended;
            let due = self.view.next();
            tokio::select! {
                frame = events.next() => match frame {
                    Ok(Some(frame)) => {
                        if self.view.show(&frame)? {
                            return Ok(Left::Removed);
                        }
                        self.seat.set(self.view.client.filter(|_| self.view.drives));
                        *after = frame.id.or(*after);
                        if std::mem::take(&mut self.view.comes_up) {
                            self.view.look(self.link).await;
                            if let Some(line) = self.held.take()
                                && let Some(left) = self.say(line)?
                            {
                                return Ok(left);
                            }
                        }
                    }
                    Ok(None) => return Ok(Left::Stopped),
                    Err(ClientError::Lost(_)) => return Ok(Left::Lost),
                    Err(error) => return Err(error.into()),
                },
                typed = self.typed.recv(), if may_type => match typed {
                    Some(Typed::Line(line)) => if let Some(left) = self.say(line)? {
                        return Ok(left);
                    },
                    Some(Typed::TooLong) => {
                        self.view.note("the line is longer than a prompt may be; it was not sent");
                        self.refused = Some(exit::USAGE);
                    }
                    Some(Typed::Detach) | None => return Ok(Left::Detached),
                    Some(Typed::End) => {
                        self.ended = true;
                        self.view.input_ended();
                    }
                },
                answer = answer(&mut self.asking) => self.answered(answer)?,
                answer = answer(&mut self.aborting) => self.answered(answer.map(|_| None))?,
                () = until(due) => self.view.tick(),
                signal = self.signals.next() => if self.mind(signal) {
                    self.abort();
                },
            }
        }
    }

    fn say(&mut self, line: String) -> Outcome<Option<Left>> {
        match self.view.enter(&line)? {
            view::Entered::Request(request) => self.requests.push_back(*request),
            view::Entered::ToDrive => return Ok(Some(Left::Wants(line))),
            view::Entered::Unsent => self.refused = Some(exit::CONFLICT),
            view::Entered::Nothing => {}
        }
        Ok(None)
    }

    fn ask_next(&mut self) {
        self.requests.extend(self.view.owed.drain(..));
        if self.asking.is_none()
            && let Some(request) = self.requests.pop_front()
        {
            self.asking = Some(self.asks(request, true));
        }
    }

    /// Asks as the client that is attached.
    fn asks(&self, request: Request, may_accept: bool) -> Asking<'a> {
        let (link, seat, mut client) = (self.link, self.seat.clone(), self.view.client);
        let drove = link.host().is_some() && self.view.drives;
        Box::pin(async move {
            let answer = loop {
                match link.ask(request.clone().from_client(client)).await {
                    // Sent again over a new connection, over which this client drives under another number, or will.
                    Err(failure) if drove && failure.is("not_driver") => match next(&seat, client).await {
                        None => return Err(failure),
                        number => client = number,
                    },
                    answer => break answer?,
                }
            };
            // Other answers have nothing that is needed.
            Ok(may_accept.then(|| read(&answer).ok()).flatten())
        })
    }

    /// Prints a refusal and goes on.
    fn answered(&mut self, answer: Outcome<Option<Accepted>>) -> Outcome {
        match answer {
            Ok(accepted) => accepted.iter().for_each(|accepted| self.view.accepted(accepted)),
            Err(failure) => {
                self.refused = Some(failure.exit());
                self.view.refused(&failure)?;
            }
        }
        Ok(())
    }

    /// Ends the turn that is on the screen, and no other.
    fn abort(&mut self) {
        let Some(prompt) = self.view.running() else {
            return self.view.note("no turn runs; Ctrl-P Ctrl-Q or Ctrl-D detaches");
        };
        if self.aborting.is_some() {
            return self.view.note("the turn is being ended; Ctrl-P Ctrl-Q or Ctrl-D detaches");
        }
        self.view.note(&format!("ending {prompt}; Ctrl-P Ctrl-Q or Ctrl-D detaches"));
        let request = Request::post(format!("/v1/sessions/{}/abort?prompt={prompt}", self.view.session));
        self.aborting = Some(self.asks(request, false));
    }

    /// Returns true if every line of a pipe is done and its output is on the screen.
    fn is_done(&self) -> Outcome<bool> {
        if self.asking.is_some() || !self.requests.is_empty() || !self.view.live || self.held.is_some() {
            return Ok(false);
        }
        match self.view.failed() {
            Some(failure) => Err(failure),
            None => Ok(self.view.at_rest()),
        }
    }

    /// Sends what was typed before, and detaches.
    async fn leave(mut self) -> Outcome {
        loop {
            self.ask_next();
            if self.asking.is_none() {
                break;
            }
            tokio::select! {
                answer = answer(&mut self.asking) => self.answered(answer)?,
                signal = self.signals.next() => if self.mind(signal) {
                    self.view.note("what was typed last may not have been sent");
                    return Err(Failure::Printed(exit::INTERRUPTED));
                },
            }
        }
        if let Some(client) = self.view.client.filter(|_| self.view.drives) {
            // Else nobody could drive for a while who does not take over. A daemon that does not hear it waits for that while.
            let path = format!("/v1/sessions/{}/attach", self.view.session);
            let request = Request::delete(path).from_client(Some(client)).seat(&self.word);
            self.link.client.tell(&request).await;
        }
        self.view.close();
        self.terminal = None;
        self.link.ui.note(&self.view.parting());
        match self.refused {
            // A person at the terminal has seen the refusal.
            Some(code) if !std::io::stdin().is_terminal() => Err(Failure::Printed(code)),
            _ => Ok(()),
        }
    }
}

/// The number under which this client drives, once it is another than `used`; none if that does not happen.
async fn next(seat: &Cell<Option<u64>>, used: Option<u64>) -> Option<u64> {
    let end = Instant::now() + SEAT;
    loop {
        match seat.get() {
            now @ Some(_) if now != used => return now,
            _ if Instant::now() > end => return None,
            _ => sleep(LOOK).await,
        }
    }
}

/// The answer to what was asked; none comes while nothing was.
async fn answer(asking: &mut Option<Asking<'_>>) -> Outcome<Option<Accepted>> {
    let Some(pending) = asking else { return std::future::pending().await };
    let answer = pending.await;
    *asking = None;
    answer
}

async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
