//! Rules of one session that are about one situation each: the exact texts of its events and of the answers
//! to clients. The transition table shows neither.

mod ends;
mod lifecycle;
mod programs;
mod seats;
mod turns;

use harness::sample::AT;
use manager::core::{At, Command, Input, Reply, Seen, Session};
use protocol::event::EventKind;

/// Gives a session its inputs, each of which must be taken, and returns what the last of them came to.
fn give(session: &mut Session, at: At, input: Input) -> (Vec<EventKind>, Reply) {
    let step = session.step(at, 50, &input).unwrap_or_else(|refusal| panic!("{input:?}: {refusal}"));
    *session = step.next;
    (step.events, step.reply)
}

fn see(session: &mut Session, at: At, seen: Seen) -> Vec<EventKind> {
    give(session, at, Input::Seen(session.incarnation, seen)).0
}

fn wish(session: &mut Session, command: Command) -> Reply {
    give(session, AT, Input::Command(command)).1
}
