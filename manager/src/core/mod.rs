//! The pure core: what a session is and what it does next.
//!
//! No I/O, clock, randomness, async, lock or channel. [`Session::step`] takes the time and one input and
//! returns the next state, the events that record the step, and the effects the new state wants and the old
//! one did not. [`Fleet::step`] is the same for all sessions together: ids, sub-agents, start and shutdown.
//!
//! Read `input.rs` first, all that can happen to a session; then `session.rs`, its states and what each input does in them;
//! then `life.rs`, what becomes of a process.

mod agent;
mod authority;
mod calls;
mod children;
mod clients;
mod effect;
mod fleet;
mod input;
mod judge;
mod life;
pub mod limits;
mod refusal;
mod servers;
mod session;
mod settings;
mod spec;
mod turns;
mod view;
mod watchdog;

pub use agent::{Answer, Permission};
pub use authority::{Above, Wish};
pub use calls::{Call, Calls, Told};
pub use clients::Client;
pub use effect::Effect;
pub use fleet::{Ask, Change, Fleet, Reply, Undo};
pub use input::{Command, Input, Seen};
pub use judge::{Cause, Deaths, MAX_DELAY_MS};
pub use refusal::{Refusal, SubagentLimit};
pub use session::{Goal, LastRestart, Note, Session, State, Step, Task, Was, Why};
pub use settings::{Asked, Settings};
pub use spec::{PermissionRule, Permissions, RestartPolicy, Spec, Subagents, WORKER_TIMEOUT_MS};
pub use turns::{Attached, NewPrompt, Phase, Prompt, Turn, Turns};
pub use watchdog::Quiet;

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
