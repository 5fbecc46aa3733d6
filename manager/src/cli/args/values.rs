//! Parsers of values that several options take.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::de::DeserializeOwned;

use crate::api::MAX_WAIT_MS;
use crate::core::options::Row;
use crate::units::parse_duration;

/// Words of the API.
pub(super) fn words<T: DeserializeOwned + Clone + std::marker::Send + Sync + 'static>(
    words: &'static [&'static str],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words)
        .try_map(|word| serde_json::from_value::<T>(serde_json::Value::String(word)))
}

/// A number that an option of a session takes. The manager checks its bounds; one that no request can carry is told them here.
pub(super) fn option<R: Row>(text: &str) -> Result<R::Value, String> {
    let whole: i128 =
        text.parse().map_err(|_| format!("`{text}` is no whole number; {}", R::NUMBER.wrong))?;
    let number = u64::try_from(whole).ok().and_then(|number| R::Value::try_from(number).ok());
    number.ok_or_else(|| R::NUMBER.wrong.to_owned())
}

/// A duration where 0 is no limit, as `config.toml` takes it.
pub(super) fn limit(text: &str) -> Result<Duration, String> {
    if text == "never" { Ok(Duration::ZERO) } else { parse_duration(text) }
}

/// A time to wait.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    match time.as_millis() <= MAX_WAIT_MS.into() {
        true => Ok(time),
        false => Err(format!("a command waits for at most {} days", MAX_WAIT_MS / 86_400_000)),
    }
}

/// A time for which something is good.
pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    const MOST_DAYS: u64 = 36_500;
    let time = parse_duration(text)?;
    match time.as_secs() / 86_400 {
        _ if time.is_zero() => Err("it would be over at once; leave the option out for no limit".to_owned()),
        0..=MOST_DAYS => Ok(time),
        _ => Err(format!("at most {MOST_DAYS} days; leave the option out for no limit")),
    }
}

pub(super) fn lines(text: &str) -> Result<u32, String> {
    let most = crate::api::MAX_TAIL;
    let lines = text.parse().ok().filter(|lines| u32::try_from(most).is_ok_and(|most| *lines <= most));
    lines.ok_or_else(|| format!("0 to {most} lines can be printed"))
}

/// A number of turns.
pub(super) fn turns(text: &str) -> Result<usize, String> {
    const MOST: usize = 1_000_000;
    let turns = text.parse().ok().filter(|turns| (1..=MOST).contains(turns));
    turns.ok_or_else(|| format!("1 to {MOST} turns can be shown"))
}

/// A number of newest events.
pub(super) fn newest(text: &str) -> Result<usize, String> {
    const MOST: usize = crate::api::MAX_NEWEST;
    let events = text.parse().ok().filter(|events| (1..=MOST).contains(events));
    events.ok_or_else(|| format!("1 to {MOST} events can be shown"))
}

/// A number of hits.
pub(super) fn hits(text: &str) -> Result<usize, String> {
    const MOST: usize = protocol::bounds::HITS;
    let hits = text.parse().ok().filter(|hits| (1..=MOST).contains(hits));
    hits.ok_or_else(|| format!("1 to {MOST} hits can be shown"))
}

/// The number of an event, or 0 for the beginning.
pub(super) fn event(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "events have numbers from 1 on; 0 = from the beginning".to_owned())
}

/// A label and its value.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((label, value)) if !label.is_empty() => Ok((label.to_owned(), value.to_owned())),
        _ => Err("write it as LABEL=VALUE".into()),
    }
}

/// A label to set, or to remove.
pub(super) fn label_change(text: &str) -> Result<(String, Option<String>), String> {
    match (text.split_once('='), text.strip_suffix('-')) {
        (Some((label, value)), _) if !label.is_empty() => Ok((label.to_owned(), Some(value.to_owned()))),
        (None, Some(label)) if !label.is_empty() => Ok((label.to_owned(), None)),
        _ => Err("write LABEL=VALUE to set it, and LABEL- to remove it".into()),
    }
}

pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".into()),
    }
}
