//! The options of a session that are numbers, one row each.
//!
//! From a row follow the option's bounds in the API's description, its error code, the checks of requests and of
//! `config.toml`, the comparison with a session that exists, and what a sub-agent may have.

use std::fmt;
use std::ops::RangeInclusive;

use protocol::api::SessionOpts;

use crate::core::model::spec::Spec;

pub(crate) const SECOND: u64 = 1000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const DAY: u64 = 24 * 60 * MINUTE;
const YEAR: u64 = 365 * DAY;

/// An option of a session that is a number.
pub(crate) struct Number {
    /// Its field in [`SessionOpts`], which is its name in the API.
    pub(crate) name: &'static str,
    /// Error code of a value out of bounds.
    pub(crate) code: &'static str,
    /// Unit of the number, which decides how people write it.
    pub(crate) unit: Unit,
    /// The smallest and the largest value.
    pub(crate) bounds: RangeInclusive<u64>,
    /// The bounds in words, for a person whose value is out of them.
    pub(crate) wrong: &'static str,
    /// Reads the value that a client gives; none: the profile or a default decides.
    pub(crate) given: fn(&SessionOpts) -> Option<u64>,
    /// Reads the value that a session has; none: no limit.
    pub(crate) held: fn(&Spec) -> Option<u64>,
    /// The values that a sub-agent may have.
    pub(crate) below: Below,
}

/// Unit of a number.
pub(crate) enum Unit {
    /// A plain number.
    One,
    /// Milliseconds. People write a duration, like `90s`.
    Millis,
    /// Bytes. People write a size, like `512M`.
    Bytes,
    /// Thousandths. People write a decimal number, like 1.5.
    Thousandths,
}

/// The values that a sub-agent may have, compared with its parent's. Each function copies the parent's value to a
/// sub-agent that has none of its own or a weaker one.
pub(crate) enum Below {
    /// Any.
    Any,
    /// The parent's or a lower one. 0 is no limit.
    AtMost(fn(&mut Spec, &Spec)),
    /// The parent's or a higher one.
    AtLeast(fn(&mut Spec, &Spec)),
}

impl Number {
    /// Checks a value.
    ///
    /// # Errors
    /// The bounds in words.
    pub(crate) fn check(&self, value: u64) -> Result<(), String> {
        if self.bounds.contains(&value) { Ok(()) } else { Err(self.wrong.to_owned()) }
    }

    /// Returns true if `own` binds an agent less than `parent` does.
    pub(crate) fn is_weaker(&self, own: Option<u64>, parent: Option<u64>) -> bool {
        let limit = |value: Option<u64>| value.filter(|value| *value > 0);
        match self.below {
            Below::Any => false,
            Below::AtMost(_) => limit(parent).is_some_and(|most| limit(own).is_none_or(|own| own > most)),
            Below::AtLeast(_) => parent.is_some_and(|least| own.is_none_or(|own| own < least)),
        }
    }
}

/// A row as a type, so that a key of `config.toml` can name it in its own type.
pub(crate) trait Row {
    /// The number as options, profiles and specs have it.
    type Value: TryFrom<u64> + Clone + fmt::Debug;
    /// The row.
    const NUMBER: Number;
}

/// Makes a type of each row, and the list of all rows.
macro_rules! numbers {
    ($($name:ident($value:ty) = $row:expr;)*) => {
        $(
            #[doc = concat!("The row of `", stringify!($name), "`.")]
            pub(crate) enum $name {}

            impl Row for $name {
                type Value = $value;
                const NUMBER: Number = $row;
            }
        )*

        /// Every option of a session that is a number.
        pub(crate) const NUMBERS: &[Number] = &[$($name::NUMBER),*];
    };
}

numbers! {
    Intensity(u32) = Number {
        name: "intensity",
        code: "invalid_intensity",
        unit: Unit::One,
        bounds: 0..=1000,
        wrong: "a restart intensity is at most 1000",
        given: |opts| opts.intensity.map(u64::from),
        held: |spec| Some(spec.restart.intensity.into()),
        below: Below::Any,
    };
    Period(u64) = Number {
        name: "period_ms",
        code: "invalid_period",
        unit: Unit::Millis,
        bounds: SECOND..=DAY,
        wrong: "a restart period is between 1s and 24h",
        given: |opts| opts.period_ms,
        held: |spec| Some(spec.restart.period_ms),
        below: Below::Any,
    };
    HibernateAfter(u64) = Number {
        name: "hibernate_after_ms",
        code: "invalid_hibernate_after",
        unit: Unit::Millis,
        bounds: 0..=YEAR,
        wrong: "a session hibernates after at most 365 days, or never with 0",
        given: |opts| opts.hibernate_after_ms,
        held: |spec| Some(spec.hibernate_after_ms),
        below: Below::Any,
    };
    Grace(u64) = Number {
        name: "grace_ms",
        code: "invalid_grace",
        unit: Unit::Millis,
        bounds: 0..=10 * MINUTE,
        wrong: "the time between SIGTERM and SIGKILL is at most 10m",
        given: |opts| opts.grace_ms,
        held: |spec| Some(spec.grace_ms),
        below: Below::Any,
    };
    TurnTimeout(u64) = Number {
        name: "turn_timeout_ms",
        code: "invalid_turn_timeout",
        unit: Unit::Millis,
        bounds: 0..=YEAR,
        wrong: "a turn takes at most 365 days; 0 = as long as it wants",
        given: |opts| opts.turn_timeout_ms,
        held: |spec| Some(spec.turn_timeout_ms),
        below: Below::AtMost(|child, parent| child.turn_timeout_ms = parent.turn_timeout_ms),
    };
    Nice(u32) = Number {
        name: "nice",
        code: "invalid_nice",
        unit: Unit::One,
        bounds: 0..=19,
        wrong: "0 to 19 can be added to the nice value",
        given: |opts| opts.nice.map(u64::from),
        held: |spec| spec.limits.nice.map(u64::from),
        // The higher, the later it runs.
        below: Below::AtLeast(|child, parent| child.limits.nice = parent.limits.nice),
    };
    Nofile(u64) = Number {
        name: "nofile",
        code: "invalid_nofile",
        unit: Unit::One,
        // Below that no program gets as far as to say what is wrong; above, the kernel says no (proc_sys_fs(5), nr_open).
        bounds: 32..=1_048_576,
        wrong: "a process may have between 32 and 1048576 descriptors",
        given: |opts| opts.nofile,
        held: |spec| spec.limits.nofile,
        below: Below::AtMost(|child, parent| child.limits.nofile = parent.limits.nofile),
    };
    Memory(u64) = Number {
        name: "memory_bytes",
        code: "invalid_memory",
        unit: Unit::Bytes,
        // With less not even a shell starts.
        bounds: 8 << 20..=1 << 50,
        wrong: "a session may have between 8MiB and 1024TiB of memory",
        given: |opts| opts.memory_bytes,
        held: |spec| spec.limits.memory_bytes,
        below: Below::AtMost(|child, parent| child.limits.memory_bytes = parent.limits.memory_bytes),
    };
    Pids(u32) = Number {
        name: "pids",
        code: "invalid_pids",
        unit: Unit::One,
        // Two of them keep the agent's namespace; the kernel has 2^22 at most (proc_sys_kernel(5), pid_max).
        bounds: 8..=4_194_304,
        wrong: "a session may have between 8 and 4194304 processes and threads",
        given: |opts| opts.pids.map(u64::from),
        held: |spec| spec.limits.pids.map(u64::from),
        below: Below::AtMost(|child, parent| child.limits.pids = parent.limits.pids),
    };
    Cpus(u32) = Number {
        name: "milli_cpus",
        code: "invalid_cpus",
        unit: Unit::Thousandths,
        // The kernel's smallest quota is 1 ms in its usual period of 100 ms.
        bounds: 10..=1_000_000,
        wrong: "a session may have between 0.01 and 1000 processors",
        given: |opts| opts.milli_cpus.map(u64::from),
        held: |spec| spec.limits.milli_cpus.map(u64::from),
        below: Below::AtMost(|child, parent| child.limits.milli_cpus = parent.limits.milli_cpus),
    };
    PermissionTimeout(u64) = Number {
        name: "permission_timeout_ms",
        code: "invalid_permission_timeout",
        unit: Unit::Millis,
        bounds: 0..=YEAR,
        wrong: "a permission waits at most 365 days for an answer; 0 = for ever",
        given: |opts| opts.permission_timeout_ms,
        held: |spec| Some(spec.permissions.timeout_ms),
        below: Below::Any,
    };
}
