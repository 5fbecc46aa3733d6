//! One step of a session: what each input does in each state.
//!
//! The table of all states and inputs is `tests/snapshots/transitions.md`, made from this file.

use protocol::event::{EventKind, RemovedBy};
use protocol::wire::TurnEnd;
use protocol::{EventId, LimitedBy};

use crate::core::at::At;
use crate::core::input::{Command, Input, NOBODY, Reply, Seen};
use crate::core::model::session::{Client, Session};
use crate::core::model::state::{State, Was, Why};
use crate::core::out::{Out, Step};
use crate::core::refusal::Refusal;

impl Session {
    /// Steps the session by one input. `next_event` is the id of the step's first event. Only commands are refused; a
    /// refusal changes nothing.
    pub fn step(&self, at: At, next_event: EventId, input: &Input) -> Result<Step, Refusal> {
        let mut next = self.clone();
        let mut out = Out { base: next_event, ..Out::default() };
        let mut reply = Reply::Done;
        match input {
            Input::Command(Command::AnswerCall(..)) | Input::CommandBy(NOBODY, Command::AnswerCall(..)) => {
                return Err(Refusal::NotDriver(self.id.clone()));
            }
            Input::Command(command) => reply = next.command(at, command, &mut out)?,
            Input::CommandBy(client, command) => {
                next.drives(at, *client)?;
                reply = next.command(at, command, &mut out)?;
            }
            Input::Seen(incarnation, seen) if *incarnation == self.incarnation => {
                next.seen(at, seen, &mut out)
            }
            Input::Seen(..) => {}
            Input::Recovered { same_boot } => next.recovered(at, *same_boot, &mut out),
            Input::Shutdown => next.shutdown(at),
            Input::Tick => next.tick(at, &mut out),
            Input::OpenTasks(change) => next.open_tasks = next.open_tasks.saturating_add_signed(*change),
        }
        next.settle(at, &mut out);
        let mut effects = next.new_effects(self);
        effects.extend(next.answers_to_calls(out.answered_calls));
        let Out { events, notes, attached, .. } = out;
        Ok(Step { next, events, attached, effects, notes, reply })
    }

    fn command(&mut self, at: At, command: &Command, out: &mut Out) -> Result<Reply, Refusal> {
        match command {
            Command::Up => self.up(at, out),
            Command::Stop => self.stop(at, out),
            Command::Restart => self.restart(at, out),
            Command::Prompt(new) => self.accept(at, new, out),
            Command::Abort => self.abort(at, out),
            Command::AbortOnly(prompt) => self.abort_only(at, *prompt, out),
            Command::Pin(pinned) => {
                if *pinned != self.pinned {
                    self.pinned = *pinned;
                    out.emit(self.own_settings());
                }
                Ok(Reply::Done)
            }
            Command::Edit(prompt, text) => self.edit(*prompt, text, out),
            Command::Remove(prompt) => self.remove(*prompt, out),
            Command::Clear => Ok(self.clear_queue(RemovedBy::Cleared, out)),
            Command::Resolve(prompt, action) => self.resolve(*prompt, *action, out),
            Command::Permit(permission, answer) => self.permit(at, *permission, answer, out),
            Command::Attach { name, role, takeover, offers, origin, seat } => {
                let client = Client {
                    id: out.next_event(),
                    name: name.clone(),
                    role: *role,
                    offers: offers.clone(),
                    origin: origin.clone(),
                    seat: seat.clone(),
                };
                self.attach(at, client, *takeover, out)
            }
            Command::Set(setting) => self.set(setting),
            Command::AddServers { programs, remote } => Ok(self.add_servers(programs, remote)),
            Command::AnswerCall(call, answer) => self.answer_call(*call, answer, out),
            Command::Detach(client) => {
                self.detach(at, *client, out);
                Ok(Reply::Done)
            }
            Command::Leave { client, seat } => self.leave(at, *client, seat.as_ref(), out),
        }
    }

    fn seen(&mut self, at: At, seen: &Seen, out: &mut Out) {
        if seen.shows_work() {
            self.worked(at, out);
        }
        if seen.is_of_the_living() && self.worker().is_none() {
            return;
        }
        match seen {
            Seen::Spawned(worker) => self.spawned(at, worker, out),
            Seen::SpawnFailed { error, no_room } => self.spawn_failed(at, error, *no_room, out),
            Seen::SpareLost => self.spare_lost(at, out),
            Seen::Ready { restore, agent_pid } => self.ready(at, *restore, *agent_pid, out),
            Seen::TurnStarted { prompt, agent_pid } => self.turn_started(at, *prompt, *agent_pid, out),
            Seen::Output { prompt, stream, text } => self.said(at, *prompt, *stream, text.clone(), None, out),
            Seen::Heard(number) => self.heard = self.heard.max(*number),
            Seen::Handed(prompt) => self.handed(at, *prompt),
            Seen::Linked { outdated } => self.linked(at, *outdated, out),
            Seen::AgentSession(id) => self.agent_session_is(at, id),
            Seen::Introduced(details) => {
                self.agent_details = Some(details.clone());
                self.children.clear();
            }
            Seen::Contained(level) => self.containment = Some(*level),
            Seen::Sandboxed(sandboxed) => self.sandbox = Some(*sandboxed),
            Seen::Limited(by) => self.limited_by = Some(*by).filter(|by| *by != LimitedBy::default()),
            Seen::Program(path) => self.runs(path, out),
            Seen::OutOfMemory { peak_bytes, limit_bytes, by } => out.emit(EventKind::SessionOomKilled {
                peak_bytes: *peak_bytes,
                limit_bytes: *limit_bytes,
                by: *by,
            }),
            Seen::Updated { prompt, update, payload } => self.updated(at, *prompt, update, payload, out),
            Seen::PermissionAsked { prompt, request, ask, payload } => {
                self.permission_asked(at, *prompt, *request, ask, payload, out);
            }
            Seen::CallAsked { prompt, request, client, method, payload } => {
                self.call_asked(at, *prompt, *request, *client, method, payload, out);
            }
            Seen::SettingAnswered { request, answer } => self.setting_answered(*request, answer, out),
            Seen::Alive { cpu_ms, commands } => self.alive(at, *cpu_ms, *commands, out),
            Seen::Notice(text) => {
                if matches!(self.state, State::Starting { .. }) {
                    self.start_notice = Some(text.clone());
                }
                out.emit(EventKind::SystemMessage { text: text.clone() });
            }
            Seen::AgentDied(why) => self.leaving(at, Why::AgentDied(why.clone())),
            Seen::NotRun { message, passes } => self.not_run(at, message, *passes),
            Seen::LoginNeeded(why) => self.leaving(at, Why::Hopeless(why.clone())),
            Seen::TurnEnded { prompt, end, exit, left_behind } => {
                let unasked = *end == TurnEnd::Aborted && self.turns.runs_unasked(*prompt);
                self.turn_ended(at, *prompt, end, *exit, *left_behind, out);
                self.after_turn(at, unasked);
            }
            Seen::Faulted(reason) => self.fault(at, reason),
            Seen::Gone { exit, last_words, survivors } => self.gone(at, *exit, last_words, survivors, out),
        }
    }

    /// Handles the end of a turn in the state of the process. `unasked`: the worker aborted the turn without kennel's
    /// request.
    fn after_turn(&mut self, at: At, unasked: bool) {
        match &mut self.state {
            // A signal from outside has made the worker leave: it takes no further prompt.
            State::Ready { worker, .. } if unasked => {
                let worker = worker.clone();
                self.stopping(at, Some(worker), Why::Fault("the worker was told to leave".into()));
            }
            // Its time without a manager was over, or somebody ended it meanwhile: no fault of its.
            State::Adopting { worker, was: Was::Ready { .. }, .. } if unasked => {
                let worker = worker.clone();
                self.stopping(at, Some(worker), Why::Lost);
            }
            State::Ready { idle_since, .. } => *idle_since = at.mono,
            State::Starting { .. }
            | State::Adopting { .. }
            | State::Stopping { .. }
            | State::Restarting { .. }
            | State::Hibernated
            | State::Stopped
            | State::Failed(_) => {}
        }
    }
}
