//! `web`: makes a link that logs a browser in, and opens it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use protocol::api::{ManagerInfo, WebLink, WebRequest};
use tokio::time::{Instant, sleep};

use crate::cli::args;
use crate::cli::keys::{expiry, known};
use crate::cli::link::{Link, read};
use crate::cli::pair::reached;
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::{qr, render};
use crate::client::Request;
use crate::client::far::Way;
use crate::units;
use crate::web_files;

/// Time in which a program that cannot open a browser says so. One that can may stay for as long as the browser.
const OPENED: Duration = Duration::from_secs(2);
/// The interval between two looks at that program.
const LOOK: Duration = Duration::from_millis(10);
/// Lines of the terminal below a link.
const BELOW: usize = 4;

/// `web`.
pub async fn web(link: &Link<'_>, args: args::Web) -> Outcome {
    if args.stop {
        let before: ManagerInfo = link.get(Request::get("/v1/manager").prompt()).await?;
        link.ask(Request::delete("/v1/web").repeatable().prompt()).await?;
        let closed =
            if before.web.is_some() { "the page's port is closed" } else { "no port of the page was open" };
        link.ui.note(&format!(
            "{closed}; keys of browsers stay: `kennel key ls` lists them, `kennel key revoke` ends one"
        ));
        return Ok(());
    }
    let far = match link.client.far().map(|far| far.way()) {
        Some(Way::Tls(options)) => Some(authority(&options.host, options.port)),
        Some(Way::Ssh(_)) | None => None,
    };
    // By TLS the browser comes as this command does.
    let ports = match (far, args.phone) {
        (Some(_), true) | (None, true) => Some(reached(link, args.address, "web --phone").await?),
        (Some(far), false) => Some(reached(link, Some(far), "web").await?),
        (None, false) => None,
    };
    let sessions = known(link, &args.rights).await?;
    let (role, expires_at) = (args.rights.role, expiry(&args.rights));
    let body = WebRequest { name: args.name, role, sessions, expires_at, remote: ports.is_some() };
    let answer = link.ask(Request::post("/v1/web").json(&body).prompt()).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let made: WebLink = read(&answer)?;
    match (ports, &made.origin) {
        (Some((fingerprint, addresses)), _) => by_tls(link, &made, &fingerprint, &addresses, args.qr),
        (None, Some(origin)) => match link.client.far().map(|far| far.way()) {
            None => here(link, &made, origin, args.print).await,
            Some(_) => by_ssh(link, &made, origin),
        },
        (None, None) => Err(Failure::failed(
            "no_page",
            "the daemon told no address of the page; a link was made that nobody has",
        )),
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The lifetimes of a link and of the key that it makes, for a person.
fn lifetimes(made: &WebLink) -> String {
    let (link, key) = (units::local(made.expires_at), units::local(made.key_expires_at));
    format!("good for one browser, until {link}; the browser's key is good until {key}")
}

/// Opens the link in a browser of this machine, or prints it.
async fn here(link: &Link<'_>, made: &WebLink, origin: &str, print: bool) -> Outcome {
    let ui = link.ui;
    let address = format!("{origin}/#{}", made.ticket);
    let opener = if print { None } else { opener(|name| std::env::var(name).ok()) };
    if let Some(opener) = opener {
        let state_dir = &link.here("web")?.state_dir;
        let redirect = web_files::redirect(state_dir, &address, &made.ticket);
        let file = redirect.map_err(|error| {
            let what = format!(
                "cannot write the file that leads the browser to the page: {error}; no browser was opened"
            );
            Failure::failed("web", what).hint("`kennel web --print` prints the link")
        })?;
        if opens(&opener, &file).await {
            ui.line(&format!("opened {origin} with {}", render::line(&opener[0])))?;
            ui.note("if no browser comes: `kennel web --print` prints a link");
            return Ok(());
        }
        let _ = web_files::remove_redirect(state_dir, &made.ticket);
        ui.note(&format!("{} opens no browser; open this link yourself", opener[0]));
    }
    ui.line(&address)?;
    ui.note(&lifetimes(made));
    Ok(())
}

/// The way from here to the page of a host that is reached by ssh.
fn by_ssh(link: &Link<'_>, made: &WebLink, origin: &str) -> Outcome {
    let place = origin.strip_prefix("http://").unwrap_or(origin);
    let port = place.rsplit_once(':').map_or("", |(_, port)| port);
    let mut tunnel = format!("ssh -N -L {port}:{place}");
    if let Some(Way::Ssh(options)) = link.client.far().map(|far| far.way()) {
        let address = &options.address;
        if let Some(port) = address.port {
            tunnel += &format!(" -p {port}");
        }
        tunnel += &match &address.user {
            Some(user) => format!(" {user}@{}", address.host),
            None => format!(" {}", address.host),
        };
    }
    link.ui.note("the page is on the host's loopback; leave this running in another terminal, then open the link here:");
    link.ui.line(&render::line(&tunnel))?;
    link.ui.line(&format!("http://localhost:{port}/#{}", made.ticket))?;
    link.ui.note(&lifetimes(made));
    Ok(())
}

/// Prints links for a browser that comes by the TLS port.
fn by_tls(link: &Link<'_>, made: &WebLink, fingerprint: &str, addresses: &[String], always: bool) -> Outcome {
    let ui = link.ui;
    let links: Vec<String> =
        addresses.iter().map(|address| format!("https://{address}/#{}", made.ticket)).collect();
    let mut lines = links.clone();
    lines.push(format!("certificate  {}", render::line(fingerprint)));
    if always || ui.out_is_terminal {
        qr::above(ui, &links[0], &lines, BELOW, always)?;
    }
    lines.iter().try_for_each(|line| ui.line(line))?;
    ui.note(&lifetimes(made));
    ui.note(
        "a browser warns of a certificate that kennel has made; compare the fingerprint that it shows (SHA-256) with the one above before you \
         go on",
    );
    Ok(())
}

/// The program that opens a browser, and its arguments; none without a display.
fn opener(env: impl Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    let set = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    if let Some(browser) = set("BROWSER") {
        // The first of a list.
        let first = browser.split(':').find(|one| !one.trim().is_empty())?;
        let words = first.split_ascii_whitespace().filter(|word| *word != "%s");
        return Some(words.map(str::to_owned).collect());
    }
    (set("DISPLAY").is_some() || set("WAYLAND_DISPLAY").is_some()).then(|| vec!["xdg-open".to_owned()])
}

/// Has a program open this file. Returns false if the program is not there, or fails at once.
async fn opens(opener: &[String], file: &Path) -> bool {
    let mut command = Command::new(&opener[0]);
    command.args(&opener[1..]).arg(file);
    // It lives on after this command, and Ctrl-C is not for it.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let Ok(mut child) = command.spawn() else { return false };
    let until = Instant::now() + OPENED;
    while Instant::now() < until {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => sleep(LOOK).await,
            Err(_) => return true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_needs_a_display_or_a_program_that_is_named() {
        let with = |pairs: &'static [(&str, &str)]| {
            opener(|name| pairs.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("DISPLAY", ""), ("BROWSER", " ")]), None);
        assert_eq!(with(&[("DISPLAY", ":0")]).unwrap(), ["xdg-open"]);
        assert_eq!(with(&[("WAYLAND_DISPLAY", "wayland-0")]).unwrap(), ["xdg-open"]);
        assert_eq!(
            with(&[("BROWSER", "firefox --new-tab %s:w3m"), ("DISPLAY", ":0")]).unwrap(),
            ["firefox", "--new-tab"]
        );
    }
}
