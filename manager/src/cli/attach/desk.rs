//! The person at a session: what is typed, what is shown, what was asked for and not answered yet.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use protocol::api::{Accepted, ResolveRequest, Role};
use protocol::{EventId, PromptId};
use tokio::time::{Instant, sleep};

use super::input::Input;
use super::keyboard::Typed;
use super::loads::Loads;
use super::pending::{Pending, answer, until};
use super::view::{self, Looked, View};
use crate::cli::link::{Link, random_key, read};
use crate::cli::signals::{Signal, Signals};
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::client::{ClientError, Events, Request};

/// The longest wait until a client drives again whose connection was lost, and the interval between two looks.
const SEAT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// Requests that wait for the answer to the one before.
const WAITING: usize = 16;

/// Why a person stopped reading one connection's events.
pub enum Left {
    /// The person detaches, or every line of a pipe is done.
    Detached,
    /// The session was removed.
    Removed,
    /// The daemon ended its stream.
    Stopped,
    /// The connection was lost.
    Lost,
    /// The person looks on and wants to drive, to send this line, or also if another client drives.
    Wants(Option<String>, bool),
}

type Asking<'a> = Pending<'a, Option<Accepted>>;

/// The person: what is typed, what is shown, what was asked for and not answered yet.
pub struct Desk<'a> {
    pub(super) link: &'a Link<'a>,
    pub view: View<'a>,
    /// The word by which this client finds its seat after a lost connection.
    pub(super) word: String,
    /// The number under which this client drives now, for requests that were sent under an earlier one.
    seat: Rc<Cell<Option<u64>>>,
    pub(super) input: Input,
    pub(super) signals: Signals,
    /// Standard input is a pipe or a file, and has come to its end.
    ended: bool,
    /// A line that was typed before this client drove.
    pub(super) held: Option<String>,
    /// Lines that were typed at the screen while this client waited for the daemon.
    pub(super) ahead: VecDeque<String>,
    /// Requests that follow from what was typed, in that order, and the text of each prompt among them.
    pub(super) requests: VecDeque<(Request, Option<String>)>,
    pub(super) asking: Option<Asking<'a>>,
    /// The prompt that is being sent.
    pub(super) sent: Option<String>,
    /// The request to end a turn, which is answered when the turn has ended.
    aborting: Option<Asking<'a>>,
    /// Events of the past that are being read.
    loads: Loads<'a>,
    /// A line of a pipe was not taken: the exit code for that.
    pub(super) refused: Option<u8>,
}

impl<'a> Desk<'a> {
    pub fn new(link: &'a Link<'a>, view: View<'a>) -> Outcome<Self> {
        let signals = Signals::new()?;
        let input = Input::new(&view, link.host())?;
        Ok(Self {
            link,
            view,
            word: random_key()?,
            seat: Rc::default(),
            input,
            signals,
            ended: false,
            held: None,
            ahead: VecDeque::new(),
            requests: VecDeque::new(),
            asking: None,
            sent: None,
            aborting: None,
            loads: Loads::new(link),
            refused: None,
        })
    }

    /// Attaches as the driver. Attaches as a viewer if another client drives and this one does not take over.
    pub async fn come(&mut self, after: Option<u64>, takeover: bool) -> Outcome<Events> {
        let link = self.link;
        loop {
            let request = self.view.attachment(after, takeover, &self.word);
            match self.unless_interrupted(link.stream(&request)).await? {
                Err(failure) if failure.is("driven") && self.view.role == Role::Driver => {
                    self.view.role = Role::Viewer;
                    let what =
                        failure.detail().unwrap_or_default().trim_end_matches("; you were not attached");
                    let how = self.how_to_drive();
                    // On the whole screen it stays in its box meanwhile.
                    let sends = match self.view.chat {
                        Some(_) => "",
                        None => ": what you type is sent once nobody drives",
                    };
                    self.view.note(&format!("{what}; you look on{sends}; {how}"));
                }
                other => return other,
            }
        }
    }

    /// Attaches anew, as the driver that the person wanted to be, and sends the line then. None if another client drives: the line is
    /// not sent.
    pub async fn drive(
        &mut self,
        after: Option<u64>,
        line: Option<String>,
        takeover: bool,
    ) -> Outcome<Option<Events>> {
        let link = self.link;
        let before = std::mem::replace(&mut self.view.role, Role::Driver);
        let request = self.view.attachment(after, takeover, &self.word);
        match self.unless_interrupted(link.stream(&request)).await? {
            Ok(events) => {
                self.view.gone();
                (self.view.role, self.view.wanted, self.held) = (Role::Driver, Role::Driver, line);
                self.seat.set(None);
                Ok(Some(events))
            }
            Err(failure) if failure.is("driven") => {
                self.view.role = before;
                let what = failure.detail().unwrap_or_default().trim_end_matches("; you were not attached");
                let how = self.how_to_drive();
                self.view.note(&format!("{what}; your line was not sent; {how}"));
                if let (Some(stage), Some(line)) = (self.input.stage(), line) {
                    stage.face().give_back(&line);
                }
                self.refused = Some(exit::CONFLICT);
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// The connection is lost.
    pub fn is_lost(&mut self) {
        self.view.gone();
        self.view.lost = self.view.chat.is_some();
        self.seat.set(None);
    }

    /// Tells how to drive instead of another client.
    fn how_to_drive(&self) -> String {
        match self.view.chat {
            Some(_) => "Ctrl-T drives now".to_owned(),
            None => format!("`kennel attach {} --takeover` drives now", self.view.session),
        }
    }

    pub async fn comes_back(&mut self) -> Outcome<bool> {
        let link = self.link;
        self.unless_interrupted(link.comes_back()).await
    }

    /// Waits for something that the daemon does while no session is on the screen. Ctrl-C ends the wait and the command. On the whole
    /// screen keys do what they can meanwhile.
    async fn unless_interrupted<T>(&mut self, work: impl Future<Output = T>) -> Outcome<T> {
        let mut work = pin!(work);
        loop {
            let typed = tokio::select! {
                done = &mut work => return Ok(done),
                typed = self.input.meanwhile(&mut self.view, self.ahead.len() < WAITING) => typed,
                signal = self.signals.next() => match self.mind(signal)? {
                    true => return Err(Failure::Printed(exit::INTERRUPTED)),
                    false => continue,
                },
            };
            match typed {
                Typed::Detach => {
                    self.end();
                    self.link.ui.note(&self.view.parting());
                    return Err(Failure::Printed(0));
                }
                Typed::Suspend => self.input.suspend(&mut self.view)?,
                Typed::Line(line) => self.ahead.push_back(line),
                Typed::Abort(prompt) => self.abort(Some(prompt)),
                // It is read once this client is at the session.
                Typed::Older | Typed::Later | Typed::Newest => self.loads.begin(&typed, &self.view),
                // What is typed stays where it is.
                _ => {
                    self.view.note("not connected yet: wait for it, or detach with Ctrl-P Ctrl-Q");
                }
            }
        }
    }

    /// Does what a signal asks of every program. Returns whether it is Ctrl-C, which is the caller's.
    pub(super) fn mind(&mut self, signal: Signal) -> Outcome<bool> {
        match signal {
            Signal::Interrupt => return Ok(true),
            Signal::Suspend => self.input.suspend(&mut self.view)?,
            Signal::Resume => self.input.resume(),
            Signal::End(signal) => {
                self.end_unasked();
                // It does not return.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
        Ok(false)
    }

    /// Shows what happens and does what is typed, until one of them ends.
    pub async fn sit(&mut self, events: &mut Events, after: &mut Option<u64>) -> Outcome<Left> {
        loop {
            while self.view.live
                && let Some(line) = self.ahead.pop_front()
            {
                if let Some(left) = self.say(line)? {
                    return Ok(left);
                }
            }
            self.ask_next();
            if self.ended && self.is_done()? {
                return Ok(Left::Detached);
            }
            let may_type = self.requests.len() < WAITING && !self.ended;
            let due = self.view.next();
            let left = tokio::select! {
                frame = events.next() => match frame {
                    Ok(Some(frame)) => {
                        if self.view.show(&frame)? {
                            return Ok(Left::Removed);
                        }
                        self.seat.set(self.view.client.filter(|_| self.view.drives));
                        *after = frame.id.or(*after);
                        self.look().await?
                    }
                    Ok(None) => return Ok(Left::Stopped),
                    Err(ClientError::Lost(_)) => return Ok(Left::Lost),
                    Err(error) => return Err(error.into()),
                },
                typed = self.input.next(&mut self.view, may_type) => self.is_typed(typed)?,
                answer = answer(&mut self.asking) => {
                    let prompt = self.sent.take();
                    self.answered(answer, prompt).map(|()| None)?
                }
                answer = answer(&mut self.aborting) => {
                    if answer.is_ok() && self.view.chat.is_some() && self.view.notice.starts_with("ending ") {
                        self.view.notice.clear();
                    }
                    self.answered(answer.map(|_| None), None).map(|()| None)?
                }
                loaded = self.loads.next() => {
                    self.has_loaded();
                    self.loads.show(loaded, &mut self.view, self.input.stage());
                    None
                }
                () = until(due) => {
                    self.view.tick();
                    None
                }
                signal = self.signals.next() => {
                    if self.mind(signal)? {
                        self.abort(self.view.running());
                    }
                    None
                }
            };
            if let Some(left) = left {
                return Ok(left);
            }
        }
    }

    /// Looks how the session is, when this client has come, and says what was typed before.
    async fn look(&mut self) -> Outcome<Option<Left>> {
        if !std::mem::take(&mut self.view.comes_up) {
            return Ok(None);
        }
        let (link, session) = (self.link, self.view.session.clone());
        let looked = match self.view.chat {
            // Keys are heard meanwhile.
            Some(_) => self.unless_interrupted(Looked::at(link, &session)).await?,
            None => Looked::at(link, &session).await,
        };
        self.view.look(looked);
        self.held.take().map_or(Ok(None), |line| self.say(line))
    }

    fn is_typed(&mut self, typed: Option<Typed>) -> Outcome<Option<Left>> {
        match typed {
            Some(Typed::Line(line)) => return self.say(line),
            Some(Typed::TooLong) => {
                self.view.note("the line is longer than a prompt may be; it was not sent");
                self.refused = Some(exit::USAGE);
            }
            Some(Typed::Detach) | None => return Ok(Some(Left::Detached)),
            Some(Typed::End) => {
                self.ended = true;
                self.view.input_ended();
            }
            Some(Typed::Abort(prompt)) => self.abort(Some(prompt)),
            Some(Typed::TakeOver) => return Ok(Some(Left::Wants(None, true))),
            Some(typed @ (Typed::Older | Typed::Later | Typed::Newest)) => {
                self.loads.begin(&typed, &self.view);
            }
            Some(Typed::Resolve(prompt, action)) => {
                let request = Request::post(format!("/v1/prompts/{prompt}/resolve"));
                self.requests.push_back((request.json(&ResolveRequest { action }), None));
            }
            Some(Typed::Suspend) => self.input.suspend(&mut self.view)?,
        }
        Ok(None)
    }

    /// Shows an event on the whole screen.
    pub fn show(&mut self, event: EventId) {
        if let Some(stage) = self.input.stage() {
            stage.face().scroll.show(event);
        }
    }

    /// Takes the next key that loads.
    fn has_loaded(&mut self) {
        if let Some(stage) = self.input.stage() {
            stage.face().loads = false;
        }
    }

    fn say(&mut self, line: String) -> Outcome<Option<Left>> {
        let entered = self.view.enter(&line)?;
        match entered {
            view::Entered::Request(request) => self.requests.push_back((*request, None)),
            view::Entered::Prompt(request) => {
                self.requests.push_back((*request, Some(line)));
                // Whoever sends a prompt reads what comes of it.
                self.loads.newest(&self.view);
            }
            view::Entered::ToDrive => return Ok(Some(Left::Wants(Some(line), false))),
            view::Entered::Unsent => {
                self.refused = Some(exit::CONFLICT);
                if let Some(stage) = self.input.stage() {
                    stage.face().give_back(&line);
                }
            }
            view::Entered::Nothing => {}
        }
        Ok(None)
    }

    pub(super) fn ask_next(&mut self) {
        self.requests.extend(self.view.owed.drain(..).map(|request| (request, None)));
        if self.asking.is_none()
            && let Some((request, prompt)) = self.requests.pop_front()
        {
            self.asking = Some(self.asks(request, true));
            self.sent = prompt;
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

    /// Prints a refusal and goes on. A prompt that was refused comes back to where it was typed.
    pub(super) fn answered(&mut self, answer: Outcome<Option<Accepted>>, prompt: Option<String>) -> Outcome {
        match answer {
            Ok(accepted) => accepted.iter().for_each(|accepted| self.view.accepted(accepted)),
            Err(failure) => {
                self.refused = Some(failure.exit());
                self.view.refused(&failure)?;
                if let (Some(stage), Some(prompt)) = (self.input.stage(), prompt) {
                    stage.face().give_back(&prompt);
                }
            }
        }
        Ok(())
    }

    /// Ends the turn of this prompt, which is on the screen, and no other.
    fn abort(&mut self, prompt: Option<PromptId>) {
        let Some(prompt) = prompt else {
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
