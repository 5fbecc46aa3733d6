//! The pure core: what a session is and what it does next.
//!
//! No I/O, clock, randomness, async, lock or channel. [`Session::step`] takes the time and one input and
//! returns the next state, the events that record the step, and the effects the new state wants and the old
//! one did not. [`Fleet::step`] is the same for all sessions together: ids, sub-agents, start and shutdown.
//!
//! Read `input.rs` first, all that can happen to a session; then `session.rs`, its states and what each input does in them;
//! then `life.rs`, what becomes of a process.

mod authority;
mod children;
mod effect;
mod fleet;
mod input;
pub mod limits;
mod refusal;
pub(crate) mod rules;
mod session;
mod spec;
mod view;

pub use authority::{Above, Wish};
pub use effect::Effect;
pub use fleet::{Ask, Change, Fleet, Reply, Undo};
pub use input::{Command, Input, Seen};
pub use refusal::{Refusal, SubagentLimit};
pub use rules::calls::{Call, Calls, Told};
pub use rules::clients::Client;
pub use rules::judge::{Cause, Deaths, MAX_DELAY_MS};
pub use rules::permissions::{Answer, Permission};
pub use rules::settings::{Asked, Settings};
pub use rules::turns::{Attached, NewPrompt, Phase, Prompt, Turn, Turns};
pub use rules::watchdog::Quiet;
pub use session::{Goal, LastRestart, Note, Session, State, Step, Task, Was, Why};
pub use spec::{PermissionRule, Permissions, RestartPolicy, Spec, Subagents, WORKER_TIMEOUT_MS};

/// When a step happens. Deadlines use `mono`, which no change of the wall clock moves; people are shown `wall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Milliseconds since boot, time asleep not included (CLOCK_MONOTONIC, clock_gettime(2)), less what the manager could not
    /// hear in. Goes on from manager to manager; another boot begins anew.
    pub mono: u64,
    /// Milliseconds since 1970 (CLOCK_REALTIME).
    pub wall: u64,
    /// The manager is on its way out: nothing is started any more.
    pub closing: bool,
}
