//! `top`: all sessions on one screen, live, and what each needs.

mod draw;
mod keys;
mod model;

use std::cell::RefCell;
use std::future::Future;
use std::io::IsTerminal;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use protocol::api::{ManagerInfo, PermissionInfo, SessionInfo, SessionLoad};
use protocol::event::Event;
use ratatui::widgets::TableState;
use rustix::process::{Pid, Signal as Kill, kill_process};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use self::draw::{Look, draw};
use self::keys::{Act, act_on};
use self::model::{Group, Model};
use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::question::in_full;
use crate::cli::signals::{Signal, Signals};
use crate::cli::ui;
use crate::cli::ui::error::{Failure, Outcome, text_of};
use crate::cli::ui::screen::Screen;
use crate::client::{ClientError, Request};
use crate::system::clock;

/// The least time between two drawings: what an agent floods is drawn together.
const FRAME: Duration = Duration::from_millis(16);
/// The least time between two looks at the list of sessions.
const LISTED: Duration = Duration::from_millis(250);
/// The time between two looks at processor time and memory, and at a list whose events are not to be had.
const LOADED: Duration = Duration::from_secs(2);
/// The same at most, while nothing happens: each look at rest waits twice as long as the one before. A key or an event ends the rest.
const AT_REST: Duration = Duration::from_secs(64);
/// The time before a connection that was lost is tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// The state, and what those that change it tell each other.
struct Shared<'a> {
    link: &'a Link<'a>,
    model: RefCell<Model>,
    /// Something is to be drawn.
    drawn: Notify,
    /// The list of sessions is to be read.
    listed: Notify,
    /// Something has happened: processor time and memory are worth a look.
    busy: Notify,
    all: bool,
}

/// `top`.
pub async fn top(link: &Link<'_>, args: args::Top) -> Outcome {
    if link.ui.json || !link.ui.out_is_terminal || !std::io::stdin().is_terminal() {
        return Err(Failure::usage("`kennel top` needs a terminal, and has no JSON")
            .hint("`kennel ls` and `kennel --json ls` list the sessions anywhere"));
    }
    let model = Model::grouped(match args.group.as_deref() {
        None => Group::None,
        Some("agent") => Group::Agent,
        Some(group) => {
            group.strip_prefix("label:").map_or(Group::Dir, |label| Group::Label(label.to_owned()))
        }
    });
    let shared = Shared {
        link,
        model: RefCell::new(model),
        drawn: Notify::new(),
        listed: Notify::new(),
        busy: Notify::new(),
        all: args.all,
    };
    // A question of ssh's, or a failure, comes before the screen.
    let info: ManagerInfo = link.get(Request::get("/v1/manager")).await?;
    shared.list().await?;
    tokio::select! {
        ended = shared.lines() => ended,
        ended = shared.follow(info.last_event_id) => ended,
        ended = shared.relist() => ended,
        ended = shared.load() => ended,
        ended = shared.show() => ended,
    }
}

impl Shared<'_> {
    /// Reads the list of sessions. Starts no daemon: one that was stopped stays so.
    async fn list(&self) -> Outcome {
        let path = if self.all { "/v1/sessions" } else { "/v1/sessions?all=false" };
        let answer = self.link.client.ask(&Request::get(path)).await?;
        let sessions: Vec<SessionInfo> = read(&answer)?;
        let mut model = self.model.borrow_mut();
        // An older daemon tells all.
        let shown = sessions
            .into_iter()
            .filter(|session| self.all || session.status != protocol::api::Status::Stopped);
        model.sessions(shown.collect());
        drop(model);
        self.drawn.notify_one();
        Ok(())
    }

    /// Reads it whenever it may have changed, but not all the time.
    async fn relist(&self) -> Outcome {
        loop {
            self.listed.notified().await;
            // The events tell of a connection that is lost.
            let _ = self.list().await;
            sleep(LISTED).await;
        }
    }

    /// Reads what each agent said last, once: later words are events.
    async fn lines(&self) -> Outcome {
        // An older daemon does not tell them.
        if let Ok(answer) = self.link.client.ask(&Request::get("/v1/last-lines").prompt()).await {
            self.model.borrow_mut().said_before(read(&answer).unwrap_or_default());
            self.drawn.notify_one();
        }
        std::future::pending().await
    }

    /// Reads processor time and memory, as long as the daemon tells them: often while something happens, else less and less often, so
    /// that a screen that nobody looks at wakes nobody.
    async fn load(&self) -> Outcome {
        let mut rest = LOADED;
        loop {
            match self.link.client.ask(&Request::get("/v1/load").prompt()).await {
                Ok(answer) => {
                    let loads: Vec<SessionLoad> = read(&answer).unwrap_or_default();
                    let at_work = self.model.borrow_mut().loads(&loads, clock::mono_ms());
                    rest = until_next_look(rest, at_work);
                    self.drawn.notify_one();
                }
                Err(ClientError::Problem(problem)) if problem.code == "no_such_route" => {
                    return std::future::pending().await;
                }
                Err(_) => {}
            }
            let soon = Instant::now() + LOADED;
            if tokio::time::timeout(rest, self.busy.notified()).await.is_ok() {
                rest = LOADED;
                sleep_until(soon).await;
            }
        }
    }

    /// Follows all events over every connection that it takes. A client that may not is served by the list alone.
    async fn follow(&self, mut after: u64) -> Outcome {
        loop {
            let path = format!("/v1/events?after={after}&follow=true");
            let mut events = match self.link.events(&path).await {
                Ok(events) => events,
                Err(failure) if failure.is("forbidden") => loop {
                    self.listed.notify_one();
                    sleep(LOADED).await;
                },
                // The state directory was replaced. Its history is not wanted.
                Err(failure) if failure.is("invalid_cursor") => {
                    after = self.link.get::<ManagerInfo>(Request::get("/v1/manager")).await?.last_event_id;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            self.is_lost(false);
            self.listed.notify_one();
            let stopped = loop {
                match events.next().await {
                    Ok(Some(frame)) => {
                        after = frame.id.unwrap_or(after);
                        let changed = match serde_json::from_str::<Event>(&frame.data) {
                            Ok(event) => self.model.borrow_mut().heard(&event),
                            // Of a later version, or a gap.
                            Err(_) => true,
                        };
                        if changed {
                            self.listed.notify_one();
                        }
                        self.busy.notify_one();
                        self.drawn.notify_one();
                    }
                    Ok(None) => break true,
                    Err(ClientError::Lost(_)) => break false,
                    Err(error) => return Err(error.into()),
                }
            };
            self.is_lost(true);
            if stopped && !self.link.comes_back().await {
                return Err(Failure::unreachable("the daemon was stopped"));
            }
            sleep(AGAIN).await;
        }
    }

    fn is_lost(&self, lost: bool) {
        self.model.borrow_mut().lost = lost;
        self.drawn.notify_one();
    }

    /// Draws, and does what is typed.
    async fn show(&self) -> Outcome {
        let taken = |error| Failure::failed("terminal", format!("the terminal: {error}"));
        let mut signals = Signals::new()?;
        let mut screen = Screen::open().map_err(taken)?;
        let look = Look { colour: self.link.ui.out_colour, unicode: ui::has_unicode() };
        let host = self.link.host();
        let (mut table, mut asked) = (TableState::default(), FuturesUnordered::<Asked<'_>>::new());
        loop {
            screen
                .draw(|frame| draw(frame, &self.model.borrow(), &mut table, look, host, clock::wall_ms()))
                .map_err(taken)?;
            let next = Instant::now() + FRAME;
            let Some(keys) = screen.keys() else { return Ok(()) };
            let act = tokio::select! {
                key = keys.next() => match key {
                    Some(Ok(event)) => {
                        self.busy.notify_one();
                        act_on(&mut self.model.borrow_mut(), &event)
                    }
                    // A reader of before has ended.
                    Some(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => Act::Nothing,
                    // The terminal is gone.
                    Some(Err(_)) | None => Act::Quit,
                },
                signal = signals.next() => match signal {
                    Signal::Suspend => Act::Suspend,
                    Signal::Interrupt => Act::Quit,
                    Signal::End(signal) => {
                        screen.leave();
                        // It does not return.
                        let _ = signal_hook::low_level::emulate_default_handler(signal);
                        Act::Quit
                    }
                    Signal::Resume => Act::Nothing,
                },
                Some(done) = asked.next(), if !asked.is_empty() => {
                    self.model.borrow_mut().note(&done);
                    self.listed.notify_one();
                    Act::Nothing
                }
                () = self.drawn.notified() => {
                    sleep_until(next).await;
                    Act::Nothing
                }
            };
            match act {
                Act::Nothing => {}
                Act::Quit => return Ok(()),
                Act::Ask(what, request) => asked.push(Box::pin(self.ask(what, request))),
                Act::Permission(id) => self.permission(&id).await,
                Act::Suspend => {
                    screen.leave();
                    suspend();
                    screen.take().map_err(taken)?;
                }
                Act::Attach(id) => {
                    screen.leave();
                    let told = self.attach(&id, &mut signals).await;
                    screen.take().map_err(taken)?;
                    self.model.borrow_mut().note(&told);
                    self.listed.notify_one();
                }
            }
        }
    }

    async fn ask(&self, what: String, request: Request) -> String {
        match self.link.ask(request).await {
            Ok(_) => what,
            Err(failure) => text_of(&failure),
        }
    }

    /// Shows the permission with this id in full, and asks for an option.
    async fn permission(&self, id: &str) {
        let waiting = self.link.ask(Request::get("/v1/permissions").prompt()).await;
        let waiting = waiting.and_then(|answer| read::<Vec<PermissionInfo>>(&answer));
        let found = match waiting {
            Ok(waiting) => {
                let found = waiting.into_iter().find(|waiting| waiting.permission_id.to_string() == id);
                Ok(found.map(|found| PermissionInfo { title: in_full(&found), ..found }))
            }
            Err(failure) => Err(failure),
        };
        let mut model = self.model.borrow_mut();
        match found {
            Ok(Some(found)) => model.mode = model::Mode::Answer(Box::new(found), 0),
            Ok(None) => model.note(&format!("{id} does not wait any more")),
            Err(failure) => model.note(&text_of(&failure)),
        }
    }

    /// Lets `kennel attach` have the terminal. Returns what is to be noted afterwards.
    async fn attach(&self, id: &str, signals: &mut Signals) -> String {
        let attached = self.command(id).spawn();
        let mut child = match attached {
            Ok(child) => child,
            Err(error) => return format!("`kennel attach` cannot be run: {error}"),
        };
        let (done, mut ended) = oneshot::channel();
        std::thread::spawn(move || drop(done.send(child.wait())));
        loop {
            tokio::select! {
                status = &mut ended => return match status {
                    Ok(Ok(status)) if status.success() => String::new(),
                    Ok(Ok(status)) => format!("`kennel attach {id}` ended with {status}"),
                    Ok(Err(_)) | Err(_) => String::new(),
                },
                // The terminal sends them to both. The one that is attached does what they mean.
                signal = signals.next() => if signal == Signal::Suspend { suspend() },
            }
        }
    }

    fn command(&self, id: &str) -> Command {
        let program = std::env::current_exe().unwrap_or_else(|_| "kennel".into());
        let mut command = Command::new(program);
        match (self.link.host(), &self.link.paths) {
            (Some(host), _) => command.args(["-H", host]),
            (None, Some(paths)) => command.arg("--state-dir").arg(&paths.state_dir),
            (None, None) => &mut command,
        };
        command.args(["attach", id]).stdin(Stdio::inherit());
        command
    }
}

type Asked<'a> = Pin<Box<dyn Future<Output = String> + 'a>>;

/// Stops this process until it is continued: the shell has the terminal meanwhile.
fn suspend() {
    let own = i32::try_from(std::process::id()).ok().and_then(Pid::from_raw);
    if let Some(own) = own {
        let _ = kill_process(own, Kill::STOP);
    }
}

/// The time until the next look at processor time and memory, after one that showed whether anything is at work.
fn until_next_look(before: Duration, at_work: bool) -> Duration {
    if at_work { LOADED } else { AT_REST.min(before * 2) }
}

#[cfg(test)]
mod rest {
    use super::*;

    #[test]
    fn looks_become_fewer_at_rest_and_many_at_work() {
        let mut pause = LOADED;
        let mut looks = 0;
        while pause < AT_REST {
            let next = until_next_look(pause, false);
            assert!(next > pause);
            (pause, looks) = (next, looks + 1);
        }
        assert!(looks <= 6, "{looks}");
        assert_eq!(until_next_look(AT_REST, false), AT_REST);
        assert_eq!(until_next_look(AT_REST, true), LOADED);
    }
}
