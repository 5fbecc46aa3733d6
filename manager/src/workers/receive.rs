//! Messages of workers, and their acknowledgement.

use protocol::frame::Framed;
use protocol::wire::Command;
use protocol::{Incarnation, SessionId};

use crate::core::Seen;
use crate::workers::files::GUEST;
use crate::workers::link::LinkEvent;
use crate::workers::log_ins::LOG_IN;
use crate::workers::{Sighting, Workers};

impl Workers {
    /// Handles an event of a link. Gives the observations, and the permit that lets the link read on.
    pub fn receive(
        &mut self,
        event: LinkEvent,
        now: u64,
    ) -> (Vec<Sighting>, Option<tokio::sync::OwnedSemaphorePermit>) {
        match event {
            LinkEvent::Frames { session, incarnation: GUEST, frames, permit } => {
                self.hear_guest(&session, frames, now);
                (Vec::new(), Some(permit))
            }
            LinkEvent::Ended { session, incarnation: GUEST, .. } => {
                self.dismiss_guest(&session, now);
                (Vec::new(), None)
            }
            LinkEvent::Frames { session, incarnation: LOG_IN, frames, permit } => {
                self.hear_log_in(&session, frames, now);
                (Vec::new(), Some(permit))
            }
            LinkEvent::Ended { session, incarnation: LOG_IN, .. } => {
                self.lose_log_in(&session, now);
                (Vec::new(), None)
            }
            LinkEvent::Frames { session, incarnation, frames, permit } => {
                let mut seen = Vec::new();
                if let Some(worker) = self.get(&session, incarnation) {
                    let before = worker.heard;
                    for Framed { message, size } in frames {
                        let (seq, before) = (message.seq, worker.heard);
                        let understood = worker.understand(message);
                        match worker.heard > before {
                            true => worker.untold.heard(seq, size),
                            false => worker.untold.heard_again(size),
                        }
                        match understood {
                            Ok(understood) => {
                                let all = understood.seen.into_iter().chain(understood.notice);
                                seen.extend(all.map(|it| (session.clone(), incarnation, it)));
                            }
                            Err(why) => {
                                seen.push((session.clone(), incarnation, Seen::Faulted(why)));
                                break;
                            }
                        }
                    }
                    match worker.heard > before {
                        true => seen.push((session, incarnation, Seen::Heard(worker.heard))),
                        // All of it was on record before: nothing is committed that would tell so.
                        false => seen.extend(self.acknowledge(&session)),
                    }
                }
                (seen, Some(permit))
            }
            LinkEvent::Ended { session, incarnation, error } => {
                let mut seen = Vec::new();
                if let Some(worker) = self.get(&session, incarnation) {
                    worker.link = None;
                    worker.closed_at = Some(now);
                    // A spool of a dead worker may be cut anywhere, or have lost its middle.
                    if let (Some(error), None, false) = (error, &worker.dead, worker.is_refused()) {
                        seen.push((
                            session.clone(),
                            incarnation,
                            Seen::Faulted(format!("the worker sent {error}")),
                        ));
                    }
                    self.unfinished.insert(session, now);
                }
                (seen, None)
            }
        }
    }

    /// Notes that all messages of the worker up to this number are on record, and acknowledges them if that is due.
    pub fn recorded(&mut self, id: &SessionId, incarnation: Incarnation, number: u64) -> Option<Sighting> {
        let worker = self.get(id, incarnation)?;
        worker.recorded = worker.recorded.max(number);
        worker.untold.recorded(number);
        self.acknowledge(id)
    }

    /// Acknowledges the messages that are on record, if that is due.
    pub(super) fn acknowledge(&mut self, id: &SessionId) -> Option<Sighting> {
        let worker = self.workers.get_mut(id).filter(|worker| worker.owes_acknowledgement())?;
        self.world.work.acknowledged();
        worker.send(id, Command::Acknowledge)
    }
}
