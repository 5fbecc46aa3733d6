//! The pure core: what a session is and what it does next.
//!
//! No I/O, clock, randomness, async, lock or channel. [`Session::step`] takes the time and one input and returns the next
//! state, the events that record the step, and the effects that the new state wants and the old one did not.
//! [`Fleet::step`] is the same for all sessions together: ids, sub-agents, start and shutdown.
//!
//! `model/` holds the data, `rules/` what happens to it, `view/` what outsiders see of it. Read `input.rs` first, all that can
//! happen to a session; then `model/state.rs`, its states; then `rules/step.rs`, what each input does in them.

mod at;
mod effect;
mod fleet;
mod input;
pub mod limits;
pub(crate) mod model;
mod out;
mod refusal;
mod rules;
mod view;

pub use at::At;
pub use effect::{AnsweredCall, Effect};
pub use fleet::{Change, Fleet, Undo};
pub use input::{Ask, Command, Input, Reply, Seen, Wish};
pub use model::deaths::Deaths;
pub(crate) use model::options;
pub use model::session::{Asked, Client, LastRestart, Session, Settings, Task};
pub use model::spec::{
    Above, PermissionRule, Permissions, RestartPolicy, Spec, Subagents, WORKER_TIMEOUT_MS,
};
pub use model::state::{Goal, State, Was, Why};
pub use model::turn::{
    Answer, Attached, Call, Calls, NewPrompt, Permission, Phase, Prompt, Quiet, Turn, Turns,
};
pub use out::{Note, Step};
pub use refusal::{Refusal, SubagentLimit};
pub use rules::judge::{Cause, MAX_DELAY_MS};
