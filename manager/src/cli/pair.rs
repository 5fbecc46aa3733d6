//! `pair`: shows what a device needs to be let in, and waits for the device.

use std::net::{IpAddr, SocketAddr};

use protocol::api::{ListenInfo, ManagerInfo, PairingInfo, PairingRequest, PairingState, StartedPairing};
use serde::Serialize;

use crate::cli::args;
use crate::cli::keys::{expiry, known};
use crate::cli::link::{Link, read};
use crate::cli::signals::interrupted;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::{Ui, qr, render};
use crate::client::Request;
use crate::daemon::doctor::PORT_MEND;
use crate::system::interfaces;

/// The texts by which a device is let in.
#[derive(Debug, Serialize)]
struct Ticket {
    number: u64,
    addresses: Vec<String>,
    fingerprint: String,
    secret: String,
    /// All of it in one line, with the first address.
    ticket: String,
    expires_at: protocol::event::Timestamp,
}

/// `pair`.
pub async fn pair(link: &Link<'_>, args: args::Pair) -> Outcome {
    let (fingerprint, addresses) = reached(link, args.address, "pair").await?;
    let first = &addresses[0];
    let sessions = known(link, &args.rights).await?;
    let (role, expires_at) = (args.rights.role, expiry(&args.rights));
    let body = PairingRequest { name: args.name, role, sessions, expires_at };
    let started: StartedPairing = read(&link.ask(Request::post("/v1/pairings").json(&body).prompt()).await?)?;
    let StartedPairing { number, secret, expires_at, replaces } = started;
    if replaces {
        link.ui.note("another pairing was under way, and is ended by this one: its ticket is good no more");
    }
    let ticket = format!("tls://{first} {fingerprint} {secret}");
    let addresses = addresses.iter().map(|address| format!("tls://{address}")).collect();
    let ticket = Ticket { number, addresses, fingerprint, secret, ticket, expires_at };
    show(link.ui, &ticket, args.qr)?;
    if args.no_wait {
        return Ok(());
    }
    link.ui.note(
        "on the device: `kennel host pair NAME`, which asks for the ticket; Ctrl-C here ends the pairing",
    );
    let asking = link.ask(Request::get(format!("/v1/pairings/{number}")).patient().passive());
    let over = link.ui.waiting("waiting for the device", asking);
    tokio::select! {
        answer = over => end(link.ui, &answer?),
        () = interrupted() => {
            link.ask(Request::delete("/v1/pairings").prompt()).await?;
            link.ui.note("the pairing is ended; no device was let in");
            Err(Failure::Printed(exit::INTERRUPTED))
        }
    }
}

/// The fingerprint of the TLS port, and the addresses by which devices reach it, at least one: this one, or those that are known.
pub async fn reached(
    link: &Link<'_>,
    address: Option<String>,
    command: &str,
) -> Outcome<(String, Vec<String>)> {
    let info: ManagerInfo = link.get(Request::get("/v1/manager")).await?;
    let Some(ListenInfo { addresses, names, fingerprint, problem, .. }) = info.listen else {
        let what = "the daemon listens on no port, so no device can come; nothing was changed";
        return Err(Failure::failed("no_port", what).hint(
            "write `[listen]` and `tcp = \"0.0.0.0:7443\"` into config.toml, then run `kennel daemon restart`; \
             with ssh no port is needed: `kennel host add NAME ssh://HOST`",
        ));
    };
    let Some(fingerprint) = fingerprint.filter(|_| !addresses.is_empty()) else {
        let why = problem.unwrap_or_else(|| "its log says why".to_owned());
        let what = format!("the port takes nobody ({why}), so no device can come; nothing was changed");
        return Err(Failure::failed("no_port", what).hint(PORT_MEND));
    };
    if let Some(problem) = problem {
        // A device may come all the same, by another address.
        link.ui.note(&format!("TLS port: {problem}; {PORT_MEND}"));
    }
    let addresses = match address {
        Some(address) => vec![address],
        None if !names.is_empty() => named(&names, &addresses),
        None => reachable(&addresses, if link.host().is_none() { own_addresses() } else { Vec::new() }),
    };
    if addresses.is_empty() {
        let what = "it is not known by which address devices reach the daemon's machine; nothing was changed";
        let hint = format!("name it: `kennel {command} --address HOST:PORT`");
        return Err(Failure::failed("no_address", what).hint(hint));
    }
    Ok((fingerprint, addresses))
}

/// Lines of the terminal below the ticket: how a device uses it, and that it is waited for.
const BELOW: usize = 3;

/// Prints the ticket, below its QR code: what a person reads and copies is not to scroll away.
fn show(ui: &Ui, ticket: &Ticket, always: bool) -> Outcome {
    if ui.json {
        return ui.object(&serde_json::to_vec(ticket).unwrap_or_default());
    }
    let mut lines = Vec::new();
    for (at, address) in ticket.addresses.iter().enumerate() {
        lines.push(format!("{:<13}{}", if at == 0 { "address" } else { "" }, render::line(address)));
    }
    for (name, value) in
        [("fingerprint", &ticket.fingerprint), ("secret", &ticket.secret), ("ticket", &ticket.ticket)]
    {
        lines.push(format!("{name:<13}{}", render::line(value)));
    }
    if always || ui.out_is_terminal {
        qr::above(ui, &ticket.ticket, &lines, BELOW, always)?;
    }
    lines.iter().try_for_each(|line| ui.line(line))
}

/// How the pairing ended.
fn end(ui: &Ui, answer: &[u8]) -> Outcome {
    let info: PairingInfo = read(answer)?;
    let failed = |exit, code, what: &str| {
        let hint = "`kennel pair` begins anew, with another secret";
        Err(Failure::new(exit, code, format!("{what}; no device was let in")).hint(hint))
    };
    match (info.state, info.key) {
        (PairingState::Paired, _) if ui.json => ui.object(answer),
        (PairingState::Paired, Some(key)) => {
            let from = key.last_used_from.as_deref().unwrap_or("an unknown address");
            ui.line(&format!("paired: {} {} from {}", key.id, render::line(&key.name), render::line(from)))
        }
        (PairingState::Paired, None) => failed(exit::CONFLICT, "key_revoked", "the device's key was revoked"),
        (PairingState::Locked, _) => failed(exit::DENIED, "pairing_locked", "five wrong secrets were sent"),
        (PairingState::Expired, _) => failed(exit::TIMEOUT, "pairing_expired", "no device came in time"),
        (PairingState::Ended | PairingState::Open, _) => {
            let what =
                "the pairing was ended, most often by another `kennel pair`, or the daemon is another one";
            failed(exit::CONFLICT, "pairing_ended", what)
        }
    }
}

/// The addresses by which others reach what listens on these. `own` are those of the machine.
fn reachable(listened: &[String], own: Vec<IpAddr>) -> Vec<String> {
    let mut all = Vec::new();
    for text in listened {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_unspecified() => {
                let fits = |ip: &&IpAddr| address.is_ipv6() || ip.is_ipv4();
                all.extend(
                    own.iter().filter(fits).map(|ip| SocketAddr::new(*ip, address.port()).to_string()),
                );
            }
            Ok(_) | Err(_) => all.push(text.clone()),
        }
    }
    all
}

/// The names by which clients reach the daemon, with its ports.
fn named(names: &[String], listened: &[String]) -> Vec<String> {
    let port = listened
        .iter()
        .find_map(|text| text.parse::<SocketAddr>().ok())
        .map_or(7443, |address| address.port());
    let with_port = |name: &String| match name.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{name}:{port}"),
    };
    names.iter().map(with_port).collect()
}

/// Addresses of this machine that others may reach, those of IPv4 first.
fn own_addresses() -> Vec<IpAddr> {
    let all = interfaces::addresses().unwrap_or_default().into_iter();
    let mut all: Vec<IpAddr> = all
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_by_each_address_of_the_machine() {
        let own = || vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let at = |listened: &str| reachable(&[listened.to_owned()], own());
        assert_eq!(at("0.0.0.0:7443"), ["192.0.2.7:7443"]);
        assert_eq!(at("[::]:7443"), ["192.0.2.7:7443", "[2001:db8::7]:7443"]);
        assert_eq!(at("127.0.0.1:7443"), ["127.0.0.1:7443"]);
        assert_eq!(reachable(&["0.0.0.0:7443".into()], Vec::new()), [""; 0]);
    }
}
