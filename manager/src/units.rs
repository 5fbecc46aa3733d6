//! Times, durations and sizes, as people write and read them.

use std::time::Duration;

use protocol::event::Timestamp;

/// Returns the time since then in the largest unit that fits.
pub fn age(since: Timestamp, now: u64) -> String {
    let seconds = now.saturating_sub(since.0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A point in time, in UTC, to the second.
pub fn time(at: Timestamp) -> String {
    humantime::format_rfc3339_seconds(at.to_system_time()).to_string()
}

/// A point in time as the API takes it, in UTC, to the millisecond.
pub fn rfc3339(at: Timestamp) -> String {
    humantime::format_rfc3339_millis(at.to_system_time()).to_string()
}

/// A point in time by this machine's clock and in its time zone, to the second.
pub fn local(at: Timestamp) -> String {
    let zone = jiff::tz::TimeZone::system();
    let at = jiff::Timestamp::from_millisecond(at.0.try_into().unwrap_or(i64::MAX))
        .unwrap_or(jiff::Timestamp::MAX);
    at.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A point in time that has passed: so long ago (`2h`), a time of today (`14:30`), a day, a day and a time, or RFC 3339.
pub fn parse_since(text: &str) -> Result<Timestamp, String> {
    let now = jiff::Zoned::now();
    let today = now.date();
    let found = if let Ok(time) = text.parse::<jiff::Timestamp>() {
        Some(time)
    } else if let Ok(time) = text.parse::<jiff::civil::Time>() {
        today.to_datetime(time).to_zoned(now.time_zone().clone()).ok().map(|time| time.timestamp())
    } else if let Ok(time) = text.parse::<jiff::civil::DateTime>() {
        time.to_zoned(now.time_zone().clone()).ok().map(|time| time.timestamp())
    } else {
        let ago = parse_duration(text).ok();
        ago.and_then(|ago| now.timestamp().checked_sub(ago).ok())
    };
    let found = found.ok_or_else(|| {
        format!("`{text}` is no time; write `2h`, `14:30`, `2026-11-29`, `2026-11-29 14:30` or RFC 3339")
    })?;
    Ok(Timestamp(found.as_millisecond().try_into().unwrap_or(0)))
}

/// The form of a duration, for a person.
const FORM: &str = "write it like `20s`, `4h` or `1m30s`";

/// A duration from the command line: `90s`, `4h`, `1m 30s`, `0`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    use humantime::DurationError::{InvalidCharacter, NumberExpected};
    let parsed = humantime::parse_duration(text).map_err(|error| match error {
        InvalidCharacter(_) | NumberExpected(_) => format!("`{text}` is no duration; {FORM}"),
        error => format!("{error}; {FORM}"),
    })?;
    if parsed.as_millis() > u128::from(u32::MAX) * 1000 {
        return Err("that is more than a century".into());
    }
    Ok(parsed)
}

/// A size with its unit.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 5] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "B")];
    let (shift, unit) = UNITS.into_iter().find(|(shift, _)| bytes >> shift > 0).unwrap_or((0, "B"));
    let tenths = (bytes >> shift.saturating_sub(10)) % 1024 * 10 / 1024;
    match shift {
        0 => format!("{bytes}B"),
        _ if tenths == 0 => format!("{}{unit}", bytes >> shift),
        _ => format!("{}.{tenths}{unit}", bytes >> shift),
    }
}

/// A duration for people.
pub fn duration(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

/// A size for people, in the largest unit of which there is one.
pub fn bytes(bytes: u64) -> String {
    let mut units = ["KiB", "MiB", "GiB", "TiB"].into_iter();
    let Some(mut unit) = units.next().filter(|_| bytes >= 1024) else { return format!("{bytes} B") };
    let mut size = bytes as f64 / 1024.0;
    // A size that would round to 1024.0 takes the next unit.
    while size >= 1023.95
        && let Some(next) = units.next()
    {
        (size, unit) = (size / 1024.0, next);
    }
    format!("{size:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let ago = |ms: u64| age(Timestamp(1_000_000_000_000 - ms), 1_000_000_000_000);
        assert_eq!(ago(0), "0s");
        assert_eq!(ago(59_999), "59s");
        assert_eq!(ago(61_000), "1m");
        assert_eq!(ago(7_200_000), "2h");
        assert_eq!(ago(200_000_000), "2d");
        // A clock that was set back.
        assert_eq!(age(Timestamp(2000), 1000), "0s");
        assert_eq!(time(Timestamp(1_769_860_800_000)), "2026-01-31T12:00:00Z");
        assert!(!time(Timestamp(u64::MAX)).is_empty());
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        for (size, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(size), shown);
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "5", "-1s", "1x", "99999999999y"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
