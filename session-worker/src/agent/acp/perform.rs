//! Actions for the agent: messages to it, reports, files and commands.

use protocol::wire::Report;
use protocol::{failpoint, wire};
use serde_json::Value;

use super::Acp;
use super::calls::{Asked, Next};
use super::files;
use super::message::{self, Do};
use crate::pipes::is_transient;

/// An agent for which more than this is held is ended, in bytes: [`Acp::held`].
const HELD: usize = 48 * 1024 * 1024;
/// Of what was written so much is kept at most, in bytes, before the rest is moved to the front.
const WRITTEN: usize = 1024 * 1024;

impl Acp {
    /// Gives the agent what it takes of what waits for it.
    pub fn feed(&mut self) {
        while self.written < self.outbox.len() {
            match self.stdin.try_write(&self.outbox[self.written..]) {
                Ok(n) => self.written += n,
                Err(error) if is_transient(&error) => {
                    if self.written > WRITTEN {
                        self.outbox.drain(..self.written);
                        self.written = 0;
                    }
                    return;
                }
                // It does not read any more: its end, or what it still says, decides.
                Err(_) => self.written = self.outbox.len(),
            }
        }
        self.outbox = Vec::new();
        self.written = 0;
    }

    /// Memory that the worker keeps for the agent, in bytes, beside the message that it reads. The amount has a limit,
    /// because the session's limits do not cover the worker.
    fn held(&self) -> usize {
        let here = self.line.len() + self.outbox.len();
        here + self.conversation.held() + self.calls.held() + self.terminals.held()
    }

    pub(super) fn perform(&mut self, things: Vec<Do>) -> Vec<Report> {
        let mut reports = Vec::new();
        let mut asked = None;
        for thing in things {
            match thing {
                Do::Send(message) => {
                    self.send(&message);
                    asked = message::text_at(&message, "method").or(asked);
                }
                Do::Report(mut report) => {
                    if let Report::TurnEnded { left_behind, .. } = &mut report {
                        *left_behind += self.terminals.end_turn();
                        self.cancel_by = None;
                        let left = self.calls.close();
                        reports.extend(self.perform(left));
                    }
                    reports.extend(self.bounded(report));
                }
                Do::Call { id, method, params } => {
                    let turn = self.turn();
                    if turn.is_none() && method == "elicitation/create" {
                        let asks = message::text_at(&params, "message").unwrap_or_default();
                        self.conversation.say("form", || {
                            let asks = message::beginning(&asks);
                            format!("between two turns the agent asked its user: {asks}; nobody could answer")
                        });
                    }
                    let next = self.calls.ask(&self.place, turn, Asked { id, method, params });
                    let answers = self.follow(next);
                    reports.extend(self.perform(answers));
                }
                Do::Log(text) => crate::logfile::log(&format!("the agent: {text}")),
                Do::Give(report) => {
                    if !std::mem::replace(&mut self.given_up, true) {
                        reports.extend(self.bounded(report));
                    }
                }
            }
        }
        if self.calls.was_full() {
            let text =
                "a request of the agent was refused: too many wait for a client already, or it is too large";
            self.conversation.say("calls", || text.to_owned());
        }
        reports.extend(self.conversation.notices().into_iter().map(|text| Report::Notice { text }));
        self.feed();
        let held = self.held();
        if held > HELD {
            (self.outbox, self.written) = (Vec::new(), 0);
            let message =
                format!("the agent has its worker hold {held} bytes for it, and {HELD} are allowed");
            reports.extend(self.give_up(message));
        }
        if let Some(method) = asked {
            failpoint::hit("acp", method.trim_start_matches("session/"));
        }
        reports
    }

    /// A report within its bounds. What that cuts is said.
    fn bounded(&mut self, mut report: Report) -> Option<Report> {
        match wire::bound(&mut report) {
            Ok(None) => {}
            Ok(Some(what)) => {
                self.conversation.say(what, || format!("{what} was too long, and was cut or left out"));
            }
            Err(what) => {
                self.conversation.say(what, || format!("{what} is too long, and was left out"));
                return None;
            }
        }
        Some(report)
    }

    pub(super) fn follow(&mut self, next: Next) -> Vec<Do> {
        let Asked { id, method, params } = match next {
            Next::Do(thing) => return vec![thing],
            Next::Own(asked) => asked,
        };
        let answers = self.call(id, &method, params);
        if method == "terminal/create" {
            failpoint::hit("acp", "terminal");
        }
        answers
    }

    fn call(&mut self, id: Value, method: &str, params: Value) -> Vec<Do> {
        let answer = match method {
            "fs/read_text_file" => files::read(&self.place, params),
            "fs/write_text_file" => files::write(&self.place, params),
            _ => return self.terminals.call(id, method, params),
        };
        vec![match answer {
            Ok(answer) => message::result(id, answer),
            Err(refused) => refused.error(id),
        }]
    }

    fn send(&mut self, message: &Value) {
        // JSON on one line: its own line ends are escaped. Nothing is refused by a buffer in memory.
        let _ = serde_json::to_writer(&mut self.outbox, message);
        self.outbox.push(b'\n');
    }
}
