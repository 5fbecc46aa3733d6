//! The transition table: every state of a session against every input, in `tests/snapshots/transitions.md`.
//!
//! `SNAPSHOTS=overwrite cargo test -p kennel-tests transition_table` writes it anew; the diff is the review.

mod inputs;
mod page;
mod sessions;
mod states;

use std::collections::BTreeSet;

use harness::kinds;
use manager::core::{Input, State, Turn};
use protocol::{CallId, EventId, PermissionId, PromptId};

use inputs::inputs;
use page::section;
use sessions::ready;
use states::states;

const NOW: u64 = 10_000_000;

/// The wall clock, which no deadline may follow.
const WALL: u64 = 1_700_000_000_000;

/// The incarnation of every session in the table.
const INCARNATION: u32 = 4;

const INTERRUPTED: PromptId = PromptId(3);

const RUNNING: PromptId = PromptId(7);

const QUEUED: PromptId = PromptId(8);

const DRIVER: EventId = 20;

const VIEWER: EventId = 21;

const SETTLED: PermissionId = PermissionId(11);

const OPEN: PermissionId = PermissionId(12);

const OPEN_CALL: CallId = CallId(13);

#[test]
fn the_transition_table_is_the_agreed_one() {
    let mut page = String::from(HEAD);
    for (title, session) in states() {
        section(&mut page, title, &session);
    }
    snapbox::assert_data_eq!(page, snapbox::file!["../../snapshots/transitions.md"].raw());
}

const HEAD: &str = "\
# What each input does in each state of a session

Made by `tests/tests/core_table/` from `manager/src/core/rules/`; a change here is a change of policy.

A line is `input -> next state, what else changed | event, event | !effect`. `-` is a state that stays. Times are
milliseconds from now; every process is incarnation 4 with pid 400; prompt-3 was interrupted, prompt-7 runs,
prompt-8 waits; permission-11 was answered, permission-12 waits for an answer. Inputs that change nothing, say nothing and do nothing stand in one line at the section's end.
";

#[test]
fn the_table_leaves_no_state_and_no_input_out() {
    let states: Vec<State> = states().into_iter().map(|(_, session)| session.state).collect();
    complete(kinds::STATES, states.iter().map(kinds::state));
    let whys = states.iter().filter_map(|state| match state {
        State::Stopping { why, .. } | State::Adopting { after: why, .. } => Some(kinds::why(why)),
        _ => None,
    });
    complete(kinds::WHYS, whys);
    let turns: Vec<Turn> = self::states().into_iter().filter_map(|(_, s)| s.turns.running).collect();
    complete(kinds::PHASES, turns.iter().map(|turn| kinds::phase(&turn.phase)));

    let inputs: Vec<Input> = inputs(&ready(None)).into_iter().map(|(_, _, input)| input).collect();
    complete(kinds::INPUTS, inputs.iter().map(kinds::input));
    complete(
        kinds::COMMANDS,
        inputs.iter().filter_map(|input| match input {
            Input::Command(command) | Input::CommandBy(_, command) => Some(kinds::command(command)),
            _ => None,
        }),
    );
    complete(
        kinds::SEEN,
        inputs.iter().filter_map(|input| match input {
            Input::Seen(_, seen) => Some(kinds::seen(seen)),
            _ => None,
        }),
    );
}

fn complete(all: &[&'static str], found: impl Iterator<Item = &'static str>) {
    assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), found.collect::<BTreeSet<_>>());
}
