//! Limits of values, wherever the values come from: `config.toml`, HTTP, the library. Options of a session that are numbers
//! have theirs in `core/model/options.rs`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::core::options::{Cpus, DAY, MINUTE, Row, SECOND};

/// The longest title and the longest name of a model, in characters.
pub(crate) const TEXT_CHARS: usize = 200;
/// The longest id of an agent's conversation, in characters: a worker takes 1,024 bytes from the agent.
pub(crate) const CONVERSATION_CHARS: usize = 256;
/// The largest environment of a session's own, in bytes: name, value, and two for `=` and the end.
pub(super) const ENV_BYTES: usize = 64 * 1024;

/// The least that history can be pruned to, in bytes.
pub(crate) const SMALLEST_JOURNAL: u64 = 16 << 20;
/// Bits of a umask.
const UMASK: u32 = 0o777;

pub(super) fn title(title: &str) -> Result<(), String> {
    if title.chars().count() > TEXT_CHARS || title.chars().any(char::is_control) {
        return Err(format!("a title has at most {TEXT_CHARS} characters, without control characters"));
    }
    Ok(())
}

pub(super) fn conversation(id: &str) -> Result<(), String> {
    let count = id.chars().count();
    if count == 0 || count > CONVERSATION_CHARS || id.chars().any(char::is_control) {
        return Err(format!(
            "an agent's id of a conversation has 1 to {CONVERSATION_CHARS} characters, without control characters"
        ));
    }
    Ok(())
}

pub(super) fn model(model: &str) -> Result<(), String> {
    let printable = model.chars().all(|c| !c.is_control() && !c.is_whitespace());
    // It becomes an argument, and must not become an option.
    if model.is_empty() || model.chars().count() > TEXT_CHARS || !printable || model.starts_with('-') {
        return Err(format!(
            "the name of a model has 1 to {TEXT_CHARS} printable characters, no spaces, and does not begin with -"
        ));
    }
    Ok(())
}

pub(super) fn max_age(millis: u64) -> Result<(), String> {
    if millis != 0 && !(MINUTE..=36_500 * DAY).contains(&millis) {
        return Err("history is kept for 1m at least and a century at most, or for ever with 0".into());
    }
    Ok(())
}

pub(super) fn max_size(bytes: u64) -> Result<(), String> {
    if bytes != 0 && bytes < SMALLEST_JOURNAL {
        return Err("the journal has 16MiB at least, or what it needs with 0B".into());
    }
    Ok(())
}

pub(super) fn retention_every(millis: u64) -> Result<(), String> {
    if !(SECOND..=DAY).contains(&millis) {
        return Err("history is looked through every 1s at most and every 24h at least".into());
    }
    Ok(())
}

pub(super) fn connections(most: usize) -> Result<(), String> {
    if !(16..=65_536).contains(&most) {
        return Err("a daemon has between 16 and 65536 connections".into());
    }
    Ok(())
}

pub(super) fn spare_workers(count: usize) -> Result<(), String> {
    if count > 64 {
        return Err("a daemon keeps 0 to 64 spare workers".into());
    }
    Ok(())
}

pub(super) fn http_timeout(millis: u64) -> Result<(), String> {
    if !(100..=DAY).contains(&millis) {
        return Err("a connection waits for between 100ms and 24h".into());
    }
    Ok(())
}

pub(super) fn worker_timeout(millis: u64) -> Result<(), String> {
    if !(100..=60 * MINUTE).contains(&millis) {
        return Err("a worker at work may be silent for between 100ms and 1h".into());
    }
    Ok(())
}

/// The most addresses on which a daemon listens.
pub(super) const LISTEN_ADDRESSES: usize = 8;
/// The most names in `[listen]`.
pub(super) const LISTEN_NAMES: usize = 16;

/// An address with a port. A name is refused: who resolves the name decides where the daemon listens.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let shown = super::lookup::shown(text, 80);
        format!(
            "`{shown}` is no IP address with a port, like \"0.0.0.0:7443\", \"127.0.0.1:7443\" or \"[::]:7443\""
        )
    })
}

/// A name of this machine in DNS, or an IP address.
pub(super) fn host_name(name: &str) -> Result<(), String> {
    let label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(known) && !label.starts_with('-')
    };
    let is_name = name.len() <= 253 && name.split('.').all(label);
    if is_name || name.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let shown = super::lookup::shown(name, 80);
    Err(format!("`{shown}` is no name in DNS and no IP address, like \"box.example\" or \"192.0.2.7\""))
}

/// The form of a umask, for a person.
pub(super) const UMASK_FORM: &str =
    "a umask is three or four octal digits in quotes, from \"000\" to \"0777\", like \"022\"";

/// A file mode creation mask, as umask(1) prints it. `"22"` is refused: it may be meant in decimal.
pub(crate) fn umask(text: &str) -> Result<u32, String> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| octal && *mask <= UMASK);
    mask.ok_or_else(|| UMASK_FORM.to_owned())
}

pub(super) fn umask_number(mask: u32) -> Result<(), String> {
    if mask > UMASK {
        return Err("a umask has the bits 0o777 at most".into());
    }
    Ok(())
}

/// A number of processors, in thousandths.
pub(crate) fn cpus(cpus: f64) -> Result<u32, String> {
    let milli = (cpus * 1000.0).round();
    // NaN is in no range.
    let milli_cpus = if (0.0..=1e9).contains(&milli) { milli as u32 } else { 0 };
    Cpus::NUMBER.check(milli_cpus.into()).map(|()| milli_cpus)
}

/// A number of processors as it is typed, in thousandths.
pub(crate) fn parse_cpus(text: &str) -> Result<u32, String> {
    let cpus: f64 = text.parse().map_err(|_| format!("`{}` is no number", super::lookup::shown(text, 80)))?;
    self::cpus(cpus)
}

/// Reads a size in bytes, with a unit as docker and systemd take it: `2G`, `512m`, `2GiB`, `2GB`. Each unit is 1024 of the one
/// before. A number without a unit is refused, but 0: `--max-size 5` would remove nearly all history where 5 GiB are meant.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let refused = |why: &str| {
        format!("`{}` is {why}; write for example 512M, 2G or 2GiB", super::lookup::shown(text, 80))
    };
    let wrong = || refused("not a size");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "b" => 0,
        "" if number.bytes().all(|digit| digit == b'0') => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    if number.is_empty() {
        return Err(wrong());
    }
    let bytes = number.parse().ok().and_then(|number: u64| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| refused("too large"))
}

pub(super) fn stall_timeout(millis: u64) -> Result<(), String> {
    if millis > DAY {
        return Err("an agent may show no sign of work for at most 24h; 0 = for ever".into());
    }
    Ok(())
}

pub(super) fn start_timeout(millis: u64) -> Result<(), String> {
    if !(100..=60 * MINUTE).contains(&millis) {
        return Err("an agent may take between 100ms and 1h until it is ready".into());
    }
    Ok(())
}

pub(super) fn subagent_depth(depth: u32) -> Result<(), String> {
    if depth > 16 {
        return Err("sub-agents are at most 16 deep; 0 = there are none".into());
    }
    Ok(())
}

pub(super) fn subagents(number: u32) -> Result<(), String> {
    if number > 1000 {
        return Err("there are at most 1000 sub-agents of one session; 0 = there are none".into());
    }
    Ok(())
}

pub(super) fn env_name(name: &str) -> Result<(), String> {
    if name == protocol::MARKER {
        return Err(format!("{} is kennel's own variable", protocol::MARKER));
    }
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !first || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        let name = super::lookup::shown(name, 80);
        return Err(format!(
            "`{name}` is no name of a variable: letters, digits and _, not beginning with a digit"
        ));
    }
    Ok(())
}

pub(super) fn env(env: &BTreeMap<String, String>) -> Result<(), String> {
    let mut bytes = 0;
    for (name, value) in env {
        env_name(name)?;
        if value.contains('\0') {
            return Err(format!("the value of {name} has a NUL in it"));
        }
        bytes += name.len() + value.len() + 2;
    }
    if bytes > ENV_BYTES {
        return Err(format!("the variables have {bytes} bytes together, the limit is 64 KiB"));
    }
    Ok(())
}

pub(super) fn argv(argv: &[String]) -> Result<(), String> {
    let Some(program) = argv.first().filter(|program| !program.is_empty()) else {
        return Err("the first word of `command` is the program to run".into());
    };
    if program.contains('/') && !program.starts_with('/') {
        return Err(format!(
            "the program `{}` is neither a bare name, to be found on PATH, nor an absolute path",
            super::lookup::shown(program, 200)
        ));
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err("a word of `command` has a NUL in it".into());
    }
    Ok(())
}
