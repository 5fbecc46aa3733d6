//! The judge, which alone decides after a death that no command asked for: restart type, then intensity, then
//! backoff.

use protocol::api::RestartType;
use protocol::event::RestartCause;
use protocol::{Exit, Incarnation, SessionId};

use crate::core::model::deaths::{Absence, Deaths};
use crate::core::model::spec::RestartPolicy;

/// The longest backoff, in milliseconds, before jitter.
pub const MAX_DELAY_MS: u64 = 10_000;
/// The second restart within the period waits this long, in milliseconds; each further one four times as long.
const FIRST_DELAY_MS: u64 = 10;
/// Wait after a spawn for which the machine had no room, in milliseconds.
const NO_ROOM_DELAY_MS: u64 = 1_000;
/// The time after which a session with a missing program fails, in milliseconds. An installer may replace it meanwhile.
pub const ABSENCE_MS: u64 = 60_000;
/// The wait after the first start that did not run its program, in milliseconds; each further one is twice as long.
const FIRST_ABSENCE_DELAY_MS: u64 = 100;
/// The longest of these waits, in milliseconds, before jitter.
const MAX_ABSENCE_DELAY_MS: u64 = 5_000;

/// The cause of a process's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The process exited, or somebody else killed it.
    Died(Exit),
    /// kennel killed the process, because it broke the protocol or a deadline.
    Fault(String),
    /// The agent died, and its worker ended for that.
    AgentDied(String),
    /// The process could not be spawned: its program never ran.
    NoSpawn(String),
    /// The agent's program never ran.
    NotRun {
        /// The reason, for a person.
        message: String,
        /// The cause may pass by itself: the program is missing, or another process is writing it.
        passes: bool,
    },
    /// The process could not be spawned, because the machine had no process, descriptor or memory left. That is no fault of
    /// the session: it costs nothing of the budget, and kennel tries for ever.
    NoRoom(String),
    /// The spare worker that the session took had ended or was stopped. That is no fault of the session.
    SpareLost,
    /// The manager was stopped. That is no fault of the session either.
    ManagerStopped,
    /// The next manager found no process that answers. Who killed it is not known.
    ManagerLost,
}

impl Cause {
    /// The word for programs.
    pub(in crate::core) fn code(&self) -> RestartCause {
        match self {
            Cause::Died(_) => RestartCause::WorkerDied,
            Cause::Fault(_) => RestartCause::Fault,
            Cause::AgentDied(_) => RestartCause::AgentDied,
            Cause::NoSpawn(_) | Cause::NotRun { .. } => RestartCause::NotStarted,
            Cause::NoRoom(_) => RestartCause::NoRoom,
            Cause::SpareLost => RestartCause::SpareLost,
            Cause::ManagerStopped => RestartCause::DaemonStopped,
            Cause::ManagerLost => RestartCause::DaemonLost,
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Died(exit) => write!(f, "worker {exit}"),
            Cause::Fault(why) | Cause::AgentDied(why) | Cause::NotRun { message: why, .. } => {
                write!(f, "{why}")
            }
            Cause::NoSpawn(why) | Cause::NoRoom(why) => write!(f, "worker could not be started: {why}"),
            Cause::SpareLost => f.write_str("the spare worker that it took was of no use"),
            Cause::ManagerStopped => f.write_str("the daemon was stopped"),
            Cause::ManagerLost => {
                f.write_str("its worker died while no daemon ran, or did not answer the new one")
            }
        }
    }
}

/// The verdict on a death.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start again after so many milliseconds.
    Restart { delay_ms: u64 },
    /// Do not start again: the process ended well.
    Stop,
    /// Give up, for this reason.
    Fail { reason: String },
}

/// The decision after a start that never ran its program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::core) enum Retry {
    /// Try again after so many milliseconds.
    After { delay_ms: u64 },
    /// Give up, for this reason.
    GiveUp { reason: String },
}

impl From<Retry> for Verdict {
    fn from(retry: Retry) -> Self {
        match retry {
            Retry::After { delay_ms } => Self::Restart { delay_ms },
            Retry::GiveUp { reason } => Self::Fail { reason },
        }
    }
}

/// Judges a start that never ran its program. Such a start is no death: it costs nothing of the budget. kennel tries again
/// for [`ABSENCE_MS`].
pub(in crate::core) fn judge_absence(
    absence: &mut Option<Absence>,
    now: u64,
    cause: &Cause,
    session: &SessionId,
    incarnation: Incarnation,
) -> Retry {
    let absence = absence.get_or_insert(Absence { since: now, starts: 0, reason: String::new() });
    absence.reason = cause.to_string();
    let passed = now.saturating_sub(absence.since);
    if passed >= ABSENCE_MS {
        let seconds = passed / 1000;
        return Retry::GiveUp { reason: format!("{cause}; no start ran it for {seconds} s") };
    }
    let doubled = FIRST_ABSENCE_DELAY_MS.saturating_mul(2u64.saturating_pow(absence.starts));
    absence.starts = absence.starts.saturating_add(1);
    let delay = jittered(doubled.min(MAX_ABSENCE_DELAY_MS), session, incarnation);
    // The last start is at the end of the time.
    Retry::After { delay_ms: delay.min(ABSENCE_MS - passed) }
}

/// Judges a death and records it.
pub(in crate::core) fn judge(
    deaths: &mut Deaths,
    policy: RestartPolicy,
    now: u64,
    cause: &Cause,
    session: &SessionId,
    incarnation: Incarnation,
) -> Verdict {
    match cause {
        Cause::SpareLost | Cause::ManagerStopped | Cause::ManagerLost => {
            return Verdict::Restart { delay_ms: 0 };
        }
        Cause::NoRoom(_) => {
            return Verdict::Restart { delay_ms: jittered(NO_ROOM_DELAY_MS, session, incarnation) };
        }
        Cause::Died(_) | Cause::Fault(_) | Cause::AgentDied(_) | Cause::NotRun { .. } | Cause::NoSpawn(_) => {
        }
    }
    let good_end = matches!(cause, Cause::Died(exit) if exit.is_success());
    match policy.kind {
        RestartType::Permanent => {}
        RestartType::Transient | RestartType::Temporary if good_end => return Verdict::Stop,
        RestartType::Transient => {}
        RestartType::Temporary => {
            return Verdict::Fail { reason: format!("{cause}; its restart type is temporary") };
        }
    }
    let count = deaths.record(now, policy.period_ms);
    if count > policy.intensity {
        let seconds = policy.period_ms as f64 / 1000.0;
        let deaths = if count == 1 { "death" } else { "deaths" };
        return Verdict::Fail { reason: format!("{cause}; {count} {deaths} within {seconds} s") };
    }
    Verdict::Restart { delay_ms: backoff(count, session, incarnation) }
}

/// Returns the wait before the restart after the `count`th death in the window. The first restart is
/// immediate, the second waits 10 ms, each later one four times as long, up to [`MAX_DELAY_MS`]. The wait
/// varies by up to a quarter either way, so that a thousand sessions do not start at once.
fn backoff(count: u32, session: &SessionId, incarnation: Incarnation) -> u64 {
    match count {
        0 | 1 => 0,
        _ => {
            let delay = FIRST_DELAY_MS.saturating_mul(4u64.saturating_pow(count - 2)).min(MAX_DELAY_MS);
            jittered(delay, session, incarnation)
        }
    }
}

/// A hash and not a random number: a replay of the journal makes the same decisions.
fn jittered(delay_ms: u64, session: &SessionId, incarnation: Incarnation) -> u64 {
    // FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in session.as_str().bytes().chain(incarnation.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let quarter = delay_ms / 4;
    delay_ms - quarter + (hash >> 16) % (2 * quarter + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> SessionId {
        SessionId::numbered(1)
    }

    fn crash(deaths: &mut Deaths, policy: RestartPolicy, now: u64) -> Verdict {
        judge(deaths, policy, now, &Cause::Died(Exit::Signal(9)), &session(), 1)
    }

    #[test]
    fn the_first_restart_is_at_once_and_later_ones_wait_four_times_as_long_each() {
        let delays: Vec<u64> = (1..=9).map(|count| backoff(count, &session(), 1)).collect();
        assert_eq!(delays[0], 0);
        for (index, nominal) in [10, 40, 160, 640, 2560, 10_000, 10_000, 10_000].into_iter().enumerate() {
            let delay = delays[index + 1];
            assert!(delay >= nominal - nominal / 4 && delay <= nominal + nominal / 4, "{nominal}: {delay}");
        }
    }

    #[test]
    fn jitter_differs_between_sessions_and_not_between_replays() {
        let delays: std::collections::BTreeSet<u64> =
            (0..100).map(|n| jittered(10_000, &SessionId::numbered(n), 3)).collect();
        assert!(delays.len() > 50, "{delays:?}");
        assert_eq!(jittered(10_000, &session(), 3), jittered(10_000, &session(), 3));
    }

    #[test]
    fn one_death_more_than_the_intensity_within_the_period_fails() {
        let (mut deaths, policy) = (Deaths::default(), RestartPolicy::default());
        for n in 0..5 {
            assert!(matches!(crash(&mut deaths, policy, 1000 + n), Verdict::Restart { .. }));
        }
        assert!(matches!(crash(&mut deaths, policy, 1005), Verdict::Fail { .. }));
    }

    #[test]
    fn deaths_leave_the_window_by_themselves() {
        let (mut deaths, policy) = (Deaths::default(), RestartPolicy::default());
        for n in 0..100 {
            // Five in any sixty seconds, and never a sixth.
            assert!(matches!(crash(&mut deaths, policy, n * 12_000), Verdict::Restart { .. }), "death {n}");
        }
        assert_eq!(deaths.within(99 * 12_000 + 60_000, policy.period_ms), 0);
    }

    #[test]
    fn restart_types_decide_as_in_otp() {
        let verdict = |kind, exit| {
            let policy = RestartPolicy { kind, ..RestartPolicy::default() };
            judge(&mut Deaths::default(), policy, 0, &Cause::Died(exit), &session(), 1)
        };
        use RestartType::*;
        assert_eq!(verdict(Permanent, Exit::Code(0)), Verdict::Restart { delay_ms: 0 });
        assert_eq!(verdict(Transient, Exit::Code(0)), Verdict::Stop);
        assert_eq!(verdict(Transient, Exit::Code(1)), Verdict::Restart { delay_ms: 0 });
        assert_eq!(verdict(Transient, Exit::Unknown), Verdict::Restart { delay_ms: 0 });
        assert_eq!(verdict(Temporary, Exit::Code(0)), Verdict::Stop);
        assert!(matches!(verdict(Temporary, Exit::Signal(9)), Verdict::Fail { .. }));
    }

    #[test]
    fn what_is_no_fault_of_the_session_costs_nothing_of_its_budget() {
        let (mut deaths, policy) = (Deaths::default(), RestartPolicy::default());
        for now in 0..50 {
            for cause in [Cause::ManagerStopped, Cause::ManagerLost, Cause::NoRoom("EAGAIN".into())] {
                let verdict = judge(&mut deaths, policy, now, &cause, &session(), 1);
                assert!(matches!(verdict, Verdict::Restart { .. }));
            }
        }
        assert_eq!(deaths.within(50, policy.period_ms), 0);
    }
}
