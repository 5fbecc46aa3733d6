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
use super::ticket::Ticket;
use super::{check_name, known_by, taken, without_path};
use crate::cli::args;
use crate::cli::signals::{Signal, Signals};
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::table::pairs;
use crate::client::far::Far;
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
    let (entry, secret) = match address.map(|address| typed_address(&name, &address)).transpose()? {
        Some(address) => {
            check_address(&address)?;
            let entry = known_by(Entry::at(address), trust)?;
            let text = asking.lines(ui, &format!("secret for {name}"), missing(false)).await?;
            agreed(entry, ticket(&text)?)?
        }
        None if trust.is_given() => {
            return Err(Failure::usage("what a server is known by needs its address; nothing was changed")
                .hint(format!("kennel host pair {name} tls://HOST:PORT --fingerprint SHA256:...")));
        }
        None => {
            let question = match &before {
                Some(_) => format!("ticket or secret for {name}"),
                None => format!("ticket for {name}, as `kennel pair` prints it"),
            };
            let text = asking.lines(ui, &question, missing(before.is_none())).await?;
            meant(ticket(&text)?, before.as_ref())?
        }
    };
    check_secret(&secret)?;
    // Another machine under this name would get the commands that are meant for the first.
    if let Some(other) = before.filter(|other| other.address != entry.address) {
        return Err(taken(&name, &other));
    }
    let keys = Keys::beside(&path);
    let kept = match (keys.has(&name), file::read(&path)?.hosts.contains_key(&name)) {
        (true, _) => "this machine's key of before is kept as it was",
        (false, true) => "no key is kept here",
        (false, false) => "no key and no name are kept here",
    };
    let answer = ui.waiting("pairing", ask(&keys, &name, &entry, &secret, &device, kept)).await;
    let answer = answer.map_err(|failure| failure.on(&entry.address.to_string()))?;
    let paired: Paired = match serde_json::from_slice(&answer) {
        Ok(paired) => paired,
        Err(_) => {
            keys.give_up(&name).map_err(unwritten)?;
            return Err(Failure::failed(
                "bad_answer",
                format!("{}: its answer makes no sense", entry.address),
            )
            .but(kept)
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

/// The address that was typed. No error repeats it: it may be a ticket, or a secret.
fn typed_address(name: &str, typed: &str) -> Outcome<HostAddress> {
    let is_ticket = typed.contains(char::is_whitespace) || typed.contains("SHA256:");
    match typed.parse() {
        Ok(address) if !is_ticket => Ok(address),
        Err(why) if !is_ticket && HostAddress::is_meant(typed) => {
            Err(Failure::usage(format!("ADDRESS: {why}; nothing was sent")))
        }
        Err(_) if !is_ticket && typed.contains([':', '.']) => {
            Err(Failure::usage("ADDRESS does not begin with tls://; nothing was sent")
                .hint(format!("`kennel host pair {name} tls://HOST:PORT` names it")))
        }
        Ok(_) | Err(_) => Err(Failure::usage("ADDRESS is no address; nothing was sent").hint(format!(
            "`kennel host pair {name}` asks for the ticket. Others see what is typed as an argument: a secret that was there is \
             replaced by `kennel pair` on the server"
        ))),
    }
}

/// Names the parts that are missing of what was read so far: all of a ticket's, or the secret.
fn missing(whole: bool) -> impl Fn(&str) -> Option<String> + Send + 'static {
    move |text| match Ticket::read(text) {
        Ok(ticket) if whole && !ticket.is_whole() => Some(ticket.missing()),
        Ok(ticket) if ticket.secret.is_none() => Some("secret".to_owned()),
        // What cannot be read does not become readable by more of it.
        Ok(_) | Err(_) => None,
    }
}

fn no_ticket(why: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("{why}; nothing was sent"))
        .hint("`kennel pair` on the server prints address, fingerprint and secret: give all of it, or the line `ticket`")
}

fn ticket(text: &str) -> Outcome<Ticket> {
    match text.is_empty() {
        true => Err(no_ticket("nothing was typed")),
        false => Ticket::read(text).map_err(no_ticket),
    }
}

/// Machine and secret, from a ticket; or from the secret alone, for a machine that has a name.
fn meant(ticket: Ticket, before: Option<&Entry>) -> Outcome<(Entry, String)> {
    let missing = ticket.missing();
    let Ticket { addresses, fingerprint, secret } = ticket;
    let at = |address: &&HostAddress| before.is_some_and(|before| before.address == **address);
    let address = addresses.iter().find(at).or(addresses.first()).cloned();
    let (address, pin, secret) = match (address, fingerprint, secret, before) {
        (Some(address), Some(pin), Some(secret), _) => (address, Some(pin), secret),
        (None, pin, Some(secret), Some(before)) => (before.address.clone(), pin, secret),
        (None, None, ..) => return Err(no_ticket("that is no ticket")),
        _ => return Err(no_ticket(format!("that is no ticket: {missing} is missing"))),
    };
    check_address(&address)?;
    // What is known of the machine besides, for example a certificate of this one's own, stays.
    let known = before.filter(|before| before.address == address).cloned();
    let known = known.unwrap_or_else(|| Entry::at(address));
    let entry = match pin {
        Some(_) => Entry { fingerprint: pin, ca: None, ..known },
        None => known,
    };
    Ok((entry, secret))
}

/// The secret for the machine that was typed. The rest of a ticket must agree with what was typed.
fn agreed(typed: Entry, ticket: Ticket) -> Outcome<(Entry, String)> {
    let differs = |what: &str, of_ticket: &dyn std::fmt::Display, of_typed: &dyn std::fmt::Display| {
        let what = format!("the ticket's {what} is {of_ticket}, and {of_typed} was typed; nothing was sent");
        Failure::usage(what).hint(
            "leave out the address, and the ticket decides; or give the secret alone, if both are the same server's",
        )
    };
    let Ticket { addresses, fingerprint, secret } = ticket;
    if let Some(other) = addresses.first().filter(|_| !addresses.contains(&typed.address)) {
        return Err(differs("address", other, &typed.address));
    }
    let pin = match (fingerprint, typed.fingerprint) {
        (Some(of_ticket), Some(of_typed)) if of_ticket != of_typed => {
            return Err(differs("fingerprint", &of_ticket, &of_typed));
        }
        // An authority that was typed decides.
        (Some(_), None) if typed.ca.is_some() => None,
        (of_ticket, of_typed) => of_typed.or(of_ticket),
    };
    let secret = secret.ok_or_else(|| no_ticket("there is no secret in it"))?;
    Ok((Entry { fingerprint: pin, ..typed }, secret))
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
async fn ask(
    keys: &Keys,
    name: &str,
    entry: &Entry,
    secret: &str,
    device: &str,
    kept: &str,
) -> Outcome<Bytes> {
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
                return Err(refused(error, kept));
            }
        }
    }
}

/// Of a server that refuses. `kept` says what is kept here.
fn refused(error: ClientError, kept: &str) -> Failure {
    match error {
        ClientError::Problem(problem) => {
            let again = "`kennel pair` there prints a new ticket; each is good once, and for some minutes";
            let hint = problem.hint.clone().unwrap_or_else(|| again.to_owned());
            let problem: Box<Problem> = Box::new(Problem { hint: Some(hint), ..*problem });
            Failure::from(problem).but(kept)
        }
        ClientError::Garbage(what) => {
            Failure::failed("bad_answer", format!("its answer makes no sense: {what}"))
                .but(kept)
                .hint("is it a kennel, and new enough to pair?")
        }
        error => Failure::from(error).but(kept),
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
    use crate::client::far::tls::Fingerprint;

    fn read(line: &str, before: Option<&Entry>) -> Option<(String, bool, String)> {
        let (entry, secret) = meant(ticket(line).ok()?, before).ok()?;
        Some((entry.address.to_string(), entry.fingerprint.is_some(), secret))
    }

    #[test]
    fn a_ticket_is_three_words_and_a_secret_is_enough_for_a_machine_that_has_a_name() {
        let pin = Fingerprint::of(b"x");
        let whole = format!("tls://box {pin} abc-def");
        let expected = Some(("tls://box:7443".into(), true, "abc-def".into()));
        for text in [whole.clone(), format!("{pin} tls://box abc-def"), format!("abc-def\ntls://box\n{pin}")]
        {
            assert_eq!(read(&text, None), expected, "{text}");
        }
        let known = Entry { ca: Some("/ca.pem".into()), ..Entry::at("tls://box".parse().unwrap()) };
        assert_eq!(read("abc", Some(&known)), Some(("tls://box:7443".into(), false, "abc".into())));
        let (entry, _) = meant(Ticket::read(&whole).unwrap(), Some(&known)).unwrap();
        assert!(entry.ca.is_none(), "the ticket's fingerprint decides");
        // Of several addresses, the one under which the machine is known.
        let several = format!("address tls://other\n  tls://box\nfingerprint {pin}\nsecret abc");
        assert_eq!(read(&several, Some(&known)).unwrap().0, "tls://box:7443");
        assert_eq!(read(&several, None).unwrap().0, "tls://other:7443");
        let by_ssh = Entry::at("ssh://box".parse().unwrap());
        for (line, before) in [
            ("", None),
            ("abc", None),
            ("abc", Some(&by_ssh)),
            (&format!("ssh://box {pin} abc"), None),
            (&format!("tls://box/dir {pin} abc"), None),
            (&format!("tls://box {pin} abc def"), Some(&known)),
            (&format!("tls://box {pin}"), Some(&known)),
        ] {
            assert_eq!(read(line, before), None, "{line}");
        }
        assert!(check_secret("abc-123").is_ok());
        for secret in ["", "a b", "a\u{1b}", "ä", &"x".repeat(257)] {
            assert!(check_secret(secret).is_err(), "{secret:?}");
        }
    }

    #[test]
    fn a_whole_ticket_must_agree_with_what_was_typed() {
        let (pin, other) = (Fingerprint::of(b"x"), Fingerprint::of(b"y"));
        let typed = |fingerprint| Entry { fingerprint, ..Entry::at("tls://box".parse().unwrap()) };
        let asked = |entry: Entry, text: &str| agreed(entry, ticket(text)?);
        let whole = format!("tls://box {pin} abc");
        for (entry, text) in
            [(typed(Some(pin)), "abc"), (typed(Some(pin)), &*whole), (typed(None), &format!("{pin}\nabc"))]
        {
            let (entry, secret) = asked(entry, text).unwrap();
            assert_eq!((entry.fingerprint, &*secret), (Some(pin), "abc"), "{text}");
        }
        let by_authority = Entry { ca: Some("/ca.pem".into()), ..typed(None) };
        assert_eq!(asked(by_authority.clone(), &whole).unwrap().0, by_authority);
        for (entry, text, says) in [
            (typed(Some(other)), &*whole, "fingerprint"),
            (typed(Some(pin)), &format!("tls://other {pin} abc"), "address"),
            (typed(Some(pin)), &format!("tls://box {pin}"), "no secret"),
        ] {
            let failure = asked(entry, text).unwrap_err();
            let detail = failure.detail().unwrap();
            assert!(detail.contains(says) && !detail.contains("abc"), "{detail}");
        }
        for typed in [&*whole, "abc-def", "tls://box:x", "SHA256:abc"] {
            let failure = typed_address("lab", typed).unwrap_err();
            assert!(!failure.text(false, false).unwrap().contains("abc"), "{failure:?}");
        }
        assert!(typed_address("lab", "tls://box").is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_a_ticket_or_none(line in "((tls://)?[a-z0-9.:/@]{0,20} )?(SHA256:)?[0-9a-f]{60,66} .{0,30}|.{0,80}") {
            if let Ok((entry, _)) = ticket(&line).and_then(|ticket| meant(ticket, None)) {
                proptest::prop_assert!(entry.address.scheme == Scheme::Tls && entry.fingerprint.is_some());
            }
        }
    }
}
