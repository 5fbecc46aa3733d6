//! What workers say, in the words of the core.

use protocol::wire::{FromWorker, PROTOCOL_VERSION, Report, SettingAnswer};

use super::Worker;
use crate::core::Seen;

impl Worker {
    /// What a message means for the session, or what is wrong with it.
    pub(super) fn understand(&mut self, frame: FromWorker) -> Result<Option<Seen>, String> {
        if let Report::Hello { protocol, resume_from, .. } = frame.body {
            let outdated = protocol != PROTOCOL_VERSION;
            let Some(link) = self.link.as_mut().filter(|_| std::mem::take(&mut self.awaits_hello)) else {
                // One that was just started is of the program that is installed now.
                let wrong = format!("the worker speaks protocol {protocol}, this manager {PROTOCOL_VERSION}");
                return if outdated { Err(wrong) } else { Ok(None) };
            };
            link.resume(resume_from);
            (self.owed, self.acted) = (resume_from, resume_from);
            (self.welcomed, self.outdated) = (true, outdated);
            return Ok(Some(Seen::Linked { outdated }));
        }
        if self.adopted && frame.incarnation == self.incarnation && frame.seq <= self.heard {
            // The manager before had put it on record, and had no time to say so.
            return Ok(None);
        }
        if self.left_only && frame.seq != self.heard + 1 {
            // The record lost its end in a power cut, and the spool did not. What came between is not known, so that what
            // comes after means nothing.
            return Ok(None);
        }
        if frame.incarnation != self.incarnation || frame.seq != self.heard + 1 {
            return Err(format!(
                "message {} of incarnation {} came after message {} of incarnation {}",
                frame.seq, frame.incarnation, self.heard, self.incarnation
            ));
        }
        (self.heard, self.acted) = (frame.seq, frame.ack);
        self.rests |= matches!(frame.body, Report::Ready { .. } | Report::TurnEnded { .. });
        Ok(Some(match frame.body {
            Report::Hello { .. } => return Ok(None),
            Report::Ready { restore, agent_pid } => Seen::Ready { restore, agent_pid },
            Report::TurnStarted { prompt, agent_pid } => Seen::TurnStarted { prompt, agent_pid },
            Report::Output { prompt, stream, text } => Seen::Output { prompt, stream, text },
            Report::TurnEnded { prompt, end, exit, left_behind } => {
                Seen::TurnEnded { prompt, end, exit, left_behind }
            }
            Report::Fault { message } => return Err(message),
            Report::AgentSession { id } => Seen::AgentSession(id),
            Report::Introduced(details) => Seen::Introduced(details),
            Report::Contained { level } => Seen::Contained(level),
            Report::Alive { cpu_ms, commands } => Seen::Alive { cpu_ms, commands },
            Report::Sandboxed(sandboxed) => Seen::Sandboxed(sandboxed),
            Report::Limited(by) => Seen::Limited(by),
            Report::OutOfMemory { peak_bytes, limit_bytes, by } => {
                Seen::OutOfMemory { peak_bytes, limit_bytes, by }
            }
            Report::Update { prompt, update, payload } => {
                Seen::Updated { prompt, update, payload: object(&payload)? }
            }
            Report::PermissionAsked { prompt, request, ask, payload } => {
                Seen::PermissionAsked { prompt, request, ask, payload: object(&payload)? }
            }
            Report::CallAsked { prompt, request, client, method, payload } => {
                Seen::CallAsked { prompt, request, client, method, payload: object(&payload)? }
            }
            Report::AgentDied { message } => Seen::AgentDied(message),
            Report::LoginNeeded { message } => Seen::LoginNeeded(message),
            Report::Notice { text } => Seen::Notice(text),
            Report::SettingAnswered { request, answer } => {
                let answer = match answer {
                    SettingAnswer::Set { payload } => Ok(object(&payload)?),
                    SettingAnswer::Refused { reason } => Err(reason),
                };
                Seen::SettingAnswered { request, answer }
            }
        }))
    }
}

/// What an agent sent. The worker has read it before, so that anything else is the worker's fault.
fn object(payload: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(payload).map_err(|error| format!("the worker sent what is no JSON: {error}"))
}
