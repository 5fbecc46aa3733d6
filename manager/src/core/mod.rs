//! The pure core: the state of a session and its next step.
//!
//! No I/O, clock, randomness, async, lock or channel. [`Session::step`] takes the time and one input. It
//! returns the next state, the events that record the step, and the effects that the new state wants and the
//! old one did not. [`Fleet::step`] is the same for all sessions together: ids, sub-agents, start and
//! shutdown.
//!
//! `model/` holds the data, `rules/` the transitions, `view/` the session as outsiders see it. Read
//! `input.rs` first: every input of a session. Then read `model/state.rs`, its states, and `rules/step.rs`,
//! the effect of each input in each state.

mod at;
mod effect;
mod fleet;
mod input;
pub mod limits;
pub(crate) mod model;
mod order;
mod out;
mod refusal;
mod rules;
mod scope;
mod view;

pub use at::At;
pub use effect::{AnsweredCall, Effect, Needs};
pub use fleet::{Change, Fleet, Undo};
pub use input::{Ask, Command, Edit, Fork, Input, NOBODY, Reply, Seen, Wish};
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
pub use order::Effects;
pub use out::{Note, Step};
pub use refusal::{Naming, Refusal, SubagentLimit};
pub use rules::judge::{Cause, MAX_DELAY_MS};
pub use scope::Scope;
