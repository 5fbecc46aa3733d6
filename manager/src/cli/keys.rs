//! Keys of devices.

use std::collections::BTreeMap;

use protocol::api::{IssuedKey, KeyInfo, KeyRequest, KeyRole, KeySessions};
use protocol::event::Timestamp;

use crate::cli::args::{self, KeyCreate, Rights};
use crate::cli::link::{Link, read};
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::render;
use crate::cli::ui::table::{Cell, Table};
use crate::client::Request;
use crate::system::clock::wall_ms;
use crate::units;

/// `key`.
pub async fn key(link: &Link<'_>, args: args::Key) -> Outcome {
    match args {
        args::Key::Ls => ls(link).await,
        args::Key::Create(KeyCreate { name, rights }) => {
            let sessions = known(link, &rights).await?;
            let (role, expires_at) = (rights.role, expiry(&rights));
            let body = KeyRequest { name, role, sessions, expires_at };
            issued(link, Request::post("/v1/keys").json(&body).prompt()).await
        }
        args::Key::Rotate { key } => {
            issued(link, Request::post(format!("/v1/keys/{key}/rotate")).prompt()).await
        }
        args::Key::Revoke { keys } => {
            // One that is not there keeps no other.
            let mut done = Ok(());
            let mut revoked = Vec::new();
            for key in keys {
                match link.ask(Request::delete(format!("/v1/keys/{key}")).prompt()).await {
                    Ok(_) => {
                        link.ui.line(&key.to_string())?;
                        revoked.push(key.to_string());
                    }
                    Err(failure) => done = done.and(Err(failure)),
                }
            }
            done.map_err(|failure| match revoked.is_empty() {
                true => failure,
                false => failure.but(&format!("revoked: {}", revoked.join(", "))),
            })
        }
    }
}

/// The sessions of these rights. Those that are named exist.
pub async fn known(link: &Link<'_>, rights: &Rights) -> Outcome<KeySessions> {
    if !rights.labels.is_empty() {
        let mut labels = BTreeMap::new();
        for (label, value) in &rights.labels {
            if labels.insert(label.clone(), value.clone()).is_some() {
                let label = render::line(label);
                return Err(Failure::usage(format!("--label: `{label}` is given twice; no key was made")));
            }
        }
        return Ok(KeySessions::Labels(labels));
    }
    let mut ids = Vec::new();
    for typed in &rights.session {
        let found = link.find(typed).await;
        ids.push(found.map_err(|failure| failure.but("no key was made"))?);
    }
    Ok(match (ids.is_empty(), rights.own) {
        (true, true) => KeySessions::Own,
        (true, false) => KeySessions::All,
        (false, _) => KeySessions::Ids(ids),
    })
}

/// The time at which a key with these rights expires.
pub fn expiry(rights: &Rights) -> Option<Timestamp> {
    let after = rights.expires.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    after.map(|after| Timestamp(wall_ms().saturating_add(after)))
}

/// Prints the key itself, and its id beside it.
async fn issued(link: &Link<'_>, request: Request) -> Outcome {
    let answer = link.ask(request).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let IssuedKey { info, key } = read(&answer)?;
    link.ui.line(&render::line(&key))?;
    link.ui.note(&format!("{}, {}; it is shown this once", info.id, rights(&info)));
    Ok(())
}

/// Role and sessions of a key, in words.
fn rights(info: &KeyInfo) -> String {
    format!("{} of {}", role(info.role), sessions(&info.sessions))
}

fn role(role: KeyRole) -> &'static str {
    match role {
        KeyRole::Admin => "admin",
        KeyRole::Driver => "driver",
        KeyRole::Viewer => "viewer",
    }
}

fn sessions(sessions: &KeySessions) -> String {
    match sessions {
        KeySessions::All => "all sessions".into(),
        KeySessions::Own => "its own sessions".into(),
        KeySessions::Ids(ids) => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        KeySessions::Labels(labels) => {
            let labels = labels.iter().map(|(label, value)| render::line(&format!("{label}={value}")));
            format!("sessions with {}", labels.collect::<Vec<_>>().join(", "))
        }
    }
}

async fn ls(link: &Link<'_>) -> Outcome {
    let answer = link.ask(Request::get("/v1/keys")).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let now = wall_ms();
    let mut table = Table::new(&["KEY", "NAME", "ROLE", "SESSIONS", "EXPIRES", "USED", "FROM"]);
    for info in read::<Vec<KeyInfo>>(&answer)? {
        let expires = match (info.expires_at, info.expired) {
            (None, _) => "never".into(),
            (Some(_), true) => Cell::styled("expired", render::RED),
            (Some(at), false) => units::time(at).into(),
        };
        let used = info.last_used_at.map_or_else(|| "never".to_owned(), |at| units::age(at, now));
        table.row(vec![
            info.id.to_string().into(),
            render::line(&info.name).into(),
            role(info.role).into(),
            sessions(&info.sessions).into(),
            expires,
            used.into(),
            render::line(info.last_used_from.as_deref().unwrap_or_default()).into(),
        ]);
    }
    link.ui.print(&table.text(link.ui.out_colour, link.ui.columns))
}
