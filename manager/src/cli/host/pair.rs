//! `host pair`: a key of this machine's own for a daemon that listens, by the secret of a ticket.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use protocol::api::Problem;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use super::asked::Asking;
use super::file::{self, Entry};
use super::keys::Keys;
use super::{check_name, known_by, taken, without_path};
use crate::cli::args;
use crate::cli::signals::{Signal, Signals};
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::table::pairs;
use crate::client::far::Far;
use crate::client::far::tls::Fingerprint;
use crate::client::host::{HostAddress, Scheme};
use crate::client::{Client, ClientError, Request};

/// The longest time for a pairing, but for what a person types.
const LONGEST: Duration = Duration::from_secs(60);
/// The pause before the same is asked again.
const PAUSE: Duration = Duration::from_millis(250);
/// How often the same is asked.
const TIMES: u32 = 5;
/// The longest name of a device, in characters.
const MAX_NAME: usize = 64;

/// The request to the server.
#[derive(Serialize)]
struct Asked<'a> {
    secret: &'a str,
    name: &'a str,
    key: &'a str,
}

/// The server's answer. Everything else in it is passed on to programs, and to nobody else.
#[derive(Deserialize)]
struct Paired {
    id: String,
    role: String,
    #[serde(default)]
    sessions: Value,
    #[serde(default)]
    expires_at: Option<Value>,
}

/// `host pair`. Signals leave the terminal as it was.
pub async fn pair(ui: &Ui, args: args::HostPair) -> Outcome {
    let mut signals = Signals::new()?;
    let asking = Asking::default();
    let mut work = pin!(paired(ui, args, &asking));
    loop {
        let signal = tokio::select! {
            done = &mut work => return done,
            signal = signals.next() => signal,
        };
        match signal {
            Signal::Interrupt => return Err(Failure::Printed(exit::INTERRUPTED)),
            Signal::Suspend => {
                asking.give_back();
                // It goes on when it is continued.
                let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGTSTP);
                asking.hide();
            }
            Signal::Resume => asking.hide(),
            Signal::End(signal) => {
                asking.give_back();
                // It does not return.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
    }
}

async fn paired(ui: &Ui, args: args::HostPair, asking: &Asking) -> Outcome {
    let args::HostPair { name, address, device, trust } = args;
    check_name(&name)?;
    let device = device.unwrap_or_else(this_machine);
    if device.trim().is_empty() || device.contains(char::is_control) || device.chars().count() > MAX_NAME {
        return Err(Failure::usage(format!(
            "--device: a name has 1 to {MAX_NAME} characters; nothing was changed"
        )));
    }
    let path = file::path()?;
    let before = file::read(&path)?.hosts.remove(&name);
    let (entry, secret) = match address {
        Some(address) => {
            check_address(&address)?;
            let entry = known_by(Entry::at(address), trust)?;
            (entry, asking.line(ui, &format!("secret for {name}")).await?)
        }
        None if trust.is_given() => {
            return Err(Failure::usage("what a server is known by needs its address; nothing was changed")
                .hint(format!("kennel host pair {name} tls://HOST:PORT --fingerprint SHA256:...")));
        }
        None => {
            let question = match &before {
                Some(_) => format!("ticket or secret for {name}"),
                None => format!("ticket for {name} (address, fingerprint and secret in one line)"),
            };
            meant(&asking.line(ui, &question).await?, before.as_ref())?
        }
    };
    check_secret(&secret)?;
    // Another machine under this name would get the commands that are meant for the first.
    if let Some(other) = before.filter(|other| other.address != entry.address) {
        return Err(taken(&name, &other));
    }
    let keys = Keys::beside(&path);
    let answer = ui.waiting("pairing", ask(&keys, &name, &entry, &secret, &device)).await;
    let answer = answer.map_err(|failure| failure.on(&entry.address.to_string()))?;
    let paired: Paired = match serde_json::from_slice(&answer) {
        Ok(paired) => paired,
        Err(_) => {
            keys.give_up(&name).map_err(unwritten)?;
            return Err(Failure::failed(
                "bad_answer",
                format!("{}: its answer makes no sense", entry.address),
            )
            .but("no key and no name are kept here")
            .hint("is it a kennel? `kennel key ls` there lists the keys that it takes"));
        }
    };
    let had = keys.has(&name);
    keep(&path, &keys, &name, &entry)?;
    if had {
        ui.note("the server goes on to take this machine's key of before, until `kennel key revoke` there");
    }
    show(ui, &name, &entry, &paired, &answer)
}

/// The name of this machine, as it is known to itself.
fn this_machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.replace(char::is_control, "");
    let name: String = name.chars().take(MAX_NAME).collect();
    if name.trim().is_empty() { "unnamed".to_owned() } else { name }
}

fn check_address(address: &HostAddress) -> Outcome {
    if address.scheme != Scheme::Tls {
        return Err(Failure::usage(format!("`{address}`: ssh needs no pairing; nothing was changed"))
            .hint("`kennel host add` names it"));
    }
    without_path(address)
}

/// Machine and secret, from a ticket; or from the secret alone, for a machine that has a name.
fn meant(line: &str, before: Option<&Entry>) -> Outcome<(Entry, String)> {
    let no_ticket = |why: String| {
        Failure::usage(format!("{why}; nothing was sent"))
            .hint("a ticket is the line `ADDRESS FINGERPRINT SECRET` that `kennel pair` prints on the server")
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    match (&words[..], before) {
        ([address, fingerprint, secret], _) => {
            // None of the words is shown: they may be in another order.
            let address: HostAddress =
                address.parse().map_err(|_| no_ticket("the ticket does not begin with an address".into()))?;
            check_address(&address)?;
            let fingerprint: Fingerprint = fingerprint.parse().map_err(no_ticket)?;
            // What is known of the machine besides, for example a certificate of this one's own, stays.
            let known = before.filter(|before| before.address == address).cloned();
            let known = known.unwrap_or_else(|| Entry::at(address));
            Ok((Entry { fingerprint: Some(fingerprint), ca: None, ..known }, (*secret).to_owned()))
        }
        ([secret], Some(before)) => {
            check_address(&before.address)?;
            Ok((before.clone(), (*secret).to_owned()))
        }
        ([], _) => Err(no_ticket("nothing was typed".into())),
        _ => Err(no_ticket("that is no ticket".into())),
    }
}

fn check_secret(secret: &str) -> Outcome {
    let fits = |c: char| c.is_ascii_graphic();
    match secret.len() <= 256 && !secret.is_empty() && secret.chars().all(fits) {
        true => Ok(()),
        false => Err(Failure::usage("that is no secret; nothing was sent")
            .hint("`kennel pair` on the server prints it, below address and fingerprint")),
    }
}

/// Asks the server to take the key, which is on disk before. Whatever it refuses, nothing is left here.
async fn ask(keys: &Keys, name: &str, entry: &Entry, secret: &str, device: &str) -> Outcome<Bytes> {
    // Nothing needs to be told: the command ends when it cannot go on.
    let client = Client::over(Arc::new(Far::new(entry.options(name, None), |_| {})));
    let deadline = Instant::now() + LONGEST;
    let late = || Failure::new(exit::TIMEOUT, "timeout", format!("no answer within {} s", LONGEST.as_secs()));
    // Who it is, before there is a key.
    let reached = timeout_at(deadline, client.open()).await.unwrap_or(Err(ClientError::Silent(LONGEST)));
    reached.map_err(|error| match error {
        ClientError::Silent(_) => late().but("nothing was changed"),
        error => Failure::from(error),
    })?;
    let fingerprint = entry.fingerprint.map(|fingerprint| fingerprint.to_string()).unwrap_or_default();
    let known_by = [&entry.address.to_string(), &fingerprint, secret];
    let key = keys.prepare(name, &known_by).map_err(unwritten)?;
    let request = Request::post("/v1/pair").json(&Asked { secret, name: device, key: &key }).prompt();
    let mut times = 0;
    loop {
        times += 1;
        let answer = timeout_at(deadline, client.ask(&request)).await;
        let again =
            "run the same command again soon: it asks for the same key, and the same secret is good for it";
        match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(ClientError::Lost(_))) if times < TIMES => sleep(PAUSE).await,
            Ok(Err(ClientError::Lost(what))) => {
                let what = format!(
                    "the connection was lost before the answer came ({what}); the key may be taken there"
                );
                return Err(Failure::unreachable(what).hint(again));
            }
            Ok(Err(ClientError::Silent(_))) | Err(_) => {
                return Err(late().but("the key may be taken there").hint(again));
            }
            // Nobody is there any more; whether the first request was heard is not known.
            Ok(Err(error @ ClientError::Host { .. })) if times > 1 => {
                return Err(Failure::from(error).but("the key may be taken there").hint(again));
            }
            Ok(Err(error)) => {
                keys.give_up(name).map_err(unwritten)?;
                return Err(refused(error));
            }
        }
    }
}

/// Of a server that refuses.
fn refused(error: ClientError) -> Failure {
    match error {
        ClientError::Problem(problem) => {
            let again = "`kennel pair` there prints a new ticket; each is good once, and for some minutes";
            let hint = problem.hint.clone().unwrap_or_else(|| again.to_owned());
            let problem: Box<Problem> = Box::new(Problem { hint: Some(hint), ..*problem });
            Failure::from(problem).but("no key and no name are kept here")
        }
        ClientError::Garbage(what) => {
            Failure::failed("bad_answer", format!("its answer makes no sense: {what}"))
                .but("no key and no name are kept here")
                .hint("is it a kennel, and new enough to pair?")
        }
        error => Failure::from(error).but("no key and no name are kept here"),
    }
}

/// Keeps name and key. The name comes first: without its key the same command still goes on, since the server gives the same
/// answer again.
fn keep(path: &Path, keys: &Keys, name: &str, entry: &Entry) -> Outcome {
    file::change(path, |hosts| match hosts.hosts.get(name) {
        Some(other) if other.address != entry.address => Err(taken(name, other)),
        _ => {
            hosts.hosts.insert(name.to_owned(), entry.clone());
            Ok(())
        }
    })?;
    keys.confirm(name).map_err(unwritten)
}

fn unwritten(error: std::io::Error) -> Failure {
    Failure::failed("key", format!("the key cannot be kept: {error}"))
        .hint("mend that, and run the same command again")
}

/// Prints what the key may do.
fn show(ui: &Ui, name: &str, entry: &Entry, paired: &Paired, answer: &[u8]) -> Outcome {
    if ui.json {
        let mut key: Value = serde_json::from_slice(answer).unwrap_or_default();
        // No server has a reason to repeat it.
        if let Some(fields) = key.as_object_mut() {
            fields.retain(|field, _| !["key", "secret"].contains(&field.as_str()));
        }
        let object = json!({ "name": name, "address": entry.address.to_string(), "key": key });
        return ui.object(object.to_string().as_bytes());
    }
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => {
            let all: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
            all.join(", ")
        }
        other => other.to_string(),
    };
    let sessions = match &paired.sessions {
        Value::Null => "-".to_owned(),
        Value::String(own) if own == "own" => "those that it starts".to_owned(),
        Value::Object(fields) if fields.len() == 1 => fields.values().map(text).collect(),
        other => text(other),
    };
    let expires = paired.expires_at.as_ref().filter(|at| !at.is_null()).map_or("never".to_owned(), text);
    let facts = [
        ("name", name.to_owned()),
        ("address", entry.address.to_string()),
        ("key", paired.id.clone()),
        ("role", paired.role.clone()),
        ("sessions", sessions),
        ("expires", expires),
    ];
    ui.print(&pairs(&facts, ui.out_colour))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(line: &str, before: Option<&Entry>) -> Option<(String, bool, String)> {
        let (entry, secret) = meant(line, before).ok()?;
        Some((entry.address.to_string(), entry.fingerprint.is_some(), secret))
    }

    #[test]
    fn a_ticket_is_three_words_and_a_secret_is_enough_for_a_machine_that_has_a_name() {
        let pin = Fingerprint::of(b"x");
        let whole = format!("tls://box {pin} abc-def");
        assert_eq!(ticket(&whole, None), Some(("tls://box:7443".into(), true, "abc-def".into())));
        let known = Entry { ca: Some("/ca.pem".into()), ..Entry::at("tls://box".parse().unwrap()) };
        assert_eq!(ticket("abc", Some(&known)), Some(("tls://box:7443".into(), false, "abc".into())));
        assert!(meant(&whole, Some(&known)).unwrap().0.ca.is_none(), "the ticket's fingerprint decides");
        let by_ssh = Entry::at("ssh://box".parse().unwrap());
        for (line, before) in [
            ("", None),
            ("abc", None),
            ("abc", Some(&by_ssh)),
            (&format!("ssh://box {pin} abc"), None),
            (&format!("tls://box/dir {pin} abc"), None),
            (&format!("{pin} tls://box abc"), None),
            (&format!("tls://box {pin} abc def"), Some(&known)),
            (&format!("tls://box {pin}"), Some(&known)),
        ] {
            assert_eq!(ticket(line, before), None, "{line}");
        }
        assert!(check_secret("abc-123").is_ok());
        for secret in ["", "a b", "a\u{1b}", "ä", &"x".repeat(257)] {
            assert!(check_secret(secret).is_err(), "{secret:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_a_ticket_or_none(line in "((tls://)?[a-z0-9.:/@]{0,20} )?(SHA256:)?[0-9a-f]{60,66} .{0,30}|.{0,80}") {
            if let Ok((entry, _)) = meant(&line, None) {
                proptest::prop_assert!(entry.address.scheme == Scheme::Tls && entry.fingerprint.is_some());
            }
        }
    }
}
