//! The machine that a command means, and the names of machines.

pub(in crate::cli) mod asked;
mod file;
mod keys;
mod pair;
mod ticket;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::MARKER;

pub use self::file::LOCAL;
use self::file::{Entry, Hosts, is_name};
use self::keys::Keys;
pub use self::pair::pair;
use crate::cli::args::{self, Command, Global};
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome, exit};
use crate::cli::ui::table::Table;
use crate::client::far::{FarOptions, Way};
use crate::client::host::{HOME, HostAddress, Scheme};
use crate::daemon::Paths;

/// The variable that names the machine.
pub const VARIABLE: &str = "KENNEL_HOST";
/// Variables that name a daemon of this machine.
const HERE: [&str; 2] = ["KENNEL_STATE_DIR", "KENNEL_SOCKET"];

/// The daemon that a command means.
#[derive(Debug)]
pub enum Target {
    /// One of this machine.
    Here(Paths),
    /// One of another.
    There(FarOptions),
}

/// Returns true if the machine is named in the command itself.
pub fn is_typed(global: &Global, command: &Command) -> bool {
    let by_address = |attach: &args::Attach| attach.what.as_deref().is_some_and(HostAddress::is_meant);
    global.host.is_some() || matches!(command, Command::Attach(attach) if by_address(attach))
}

/// Returns true for what serves this machine, or an agent of it, whatever machine its user works with.
fn serves_here(command: &Command) -> bool {
    use args::Daemon::{Check, Restart, Run, Unit, Upgrade};
    matches!(
        command,
        Command::ConnectStdio
            | Command::Demo
            | Command::Doctor
            | Command::Host(_)
            | Command::Mcp
            | Command::Daemon(Run { .. } | Unit(_) | Check | Restart | Upgrade)
    )
}

/// Finds the daemon that a command means: by the address in `attach ssh://…` or `tls://…`, by `--host`, by `--state-dir`, by `KENNEL_HOST`, by
/// the variables of a daemon of this machine, by `kennel host use`; else this machine's.
///
/// Within a session only what is typed counts: its programs mean their own daemon.
pub fn target(global: &Global, command: &mut Command) -> Outcome<Target> {
    if let Command::Attach(attach) = command
        && let Some(what) = attach.what.as_deref().filter(|what| HostAddress::is_meant(what))
    {
        let (address, dir) = parsed(what)?.without_path();
        let Some(dir) = dir else {
            return Err(Failure::usage(format!("`{what}` names no directory")).hint(format!(
                "the session is that of a directory: {address}/home/me/app, or {address}/~/app"
            )));
        };
        if global.host.is_some() || global.state_dir.is_some() {
            return Err(Failure::usage(format!("`{what}` names a machine, and so does an option"))
                .hint("give the directory alone, or no --host and no --state-dir"));
        }
        attach.what = Some(if dir.starts_with('/') { dir } else { format!("~/{dir}") });
        return named(&address.to_string()).map(Target::There);
    }
    let here = || {
        let paths = crate::daemon::paths(global.state_dir.clone());
        paths.map(Target::Here).map_err(|error| Failure::failed("paths", error.to_string()))
    };
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = match (&global.host, &global.state_dir) {
        (Some(host), Some(_)) if host != LOCAL => {
            return Err(Failure::usage("--host and --state-dir each name a daemon")
                .hint("the state directory of another machine is part of its address: ssh://HOST/DIR"));
        }
        (Some(host), _) => Some(host.clone()),
        (None, Some(_)) => None,
        (None, None) if std::env::var_os(MARKER).is_some() || serves_here(command) => None,
        (None, None) => match variable(VARIABLE) {
            Some(host) => Some(host),
            None if HERE.iter().any(|name| variable(name).is_some()) => None,
            // Without a home there are no names.
            None => match file::path() {
                Ok(path) => file::read(&path)?.default,
                Err(_) => None,
            },
        },
    };
    match host.as_deref() {
        None | Some(LOCAL) => here(),
        Some(host) => named(host).map(Target::There),
    }
}

/// This machine and every named one, each of which is given so much time to answer.
pub fn everywhere(within: Duration) -> Outcome<Vec<(String, Target)>> {
    let here = crate::daemon::paths(None).map_err(|error| Failure::failed("paths", error.to_string()))?;
    let path = file::path()?;
    let hosts = match std::env::var_os(MARKER) {
        None => file::read(&path)?.hosts,
        Some(_) => BTreeMap::new(),
    };
    let keys = Keys::beside(&path);
    let there = hosts.into_iter().map(|(name, entry)| {
        let options = FarOptions { within: Some(within), ..entry.options(&name, Some(keys.path(&name))) };
        (name, Target::There(options))
    });
    Ok([(LOCAL.to_owned(), Target::Here(here))].into_iter().chain(there).collect())
}

/// The names of other machines; none if their file cannot be read.
pub fn names() -> Vec<String> {
    let hosts = file::path().and_then(|path| file::read(&path));
    hosts.map(|hosts| hosts.hosts.into_keys().collect()).unwrap_or_default()
}

/// How a machine is reached that is named, or given by its address.
fn named(host: &str) -> Outcome<FarOptions> {
    if !HostAddress::is_meant(host) {
        let path = file::path()?;
        let hosts = file::read(&path)?;
        return known(&hosts, host).map(|entry| entry.options(host, Some(Keys::beside(&path).path(host))));
    }
    let address = parsed(host)?;
    match address.scheme {
        Scheme::Ssh if address.path.as_deref() == Some(HOME) => {
            Err(Failure::usage(format!("`{host}`: a home is no state directory; nothing was done"))
                .hint("leave it out: the daemon of the account is meant then"))
        }
        Scheme::Ssh => Ok(Entry::at(address).options(host, None)),
        Scheme::Tls => {
            without_path(&address)?;
            by_address(&address)
        }
    }
}

/// A daemon that listens serves one state directory, which no address names.
fn without_path(address: &HostAddress) -> Outcome {
    match (address.scheme, &address.path) {
        (Scheme::Tls, Some(_)) => Err(Failure::usage(format!(
            "`{address}`: by tls an address has no state directory; nothing was done"
        ))
        .hint("the daemon that listens there serves its own; leave the path out")),
        _ => Ok(()),
    }
}

/// The named machine with this address: its fingerprint and its key belong to a name.
fn by_address(address: &HostAddress) -> Outcome<FarOptions> {
    let path = file::path()?;
    let hosts = file::read(&path)?.hosts;
    let keys = Keys::beside(&path);
    // Of several names, the first that has a key.
    let at = |(_, entry): &(&String, &Entry)| entry.address == *address;
    let found = hosts.iter().filter(at).min_by_key(|(name, _)| !keys.has(name));
    let found = found.map(|(name, entry)| entry.options(name, Some(keys.path(name))));
    found.ok_or_else(|| {
        let what = format!("this machine is not paired with {address}; nothing was done");
        Failure::new(exit::USAGE, "no_such_host", what)
            .hint("`kennel pair` there prints a ticket, which `kennel host pair NAME` here takes")
    })
}

fn parsed(text: &str) -> Outcome<HostAddress> {
    text.parse().map_err(|why| Failure::usage(format!("`{text}`: {why}")))
}

fn known<'a>(hosts: &'a Hosts, name: &str) -> Outcome<&'a Entry> {
    hosts.hosts.get(name).ok_or_else(|| {
        let near = hosts.hosts.keys().find(|known| strsim::damerau_levenshtein(known, name) <= 2);
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None if is_name(name) && name != LOCAL => format!(
                "`kennel host add {name} ssh://{name}` names it, and `-H ssh://{name}` does without a name"
            ),
            None => "`kennel host ls` lists the names; an address begins with ssh:// or tls://".to_owned(),
        };
        Failure::new(
            exit::USAGE,
            "no_such_host",
            format!("no machine has the name `{name}`; nothing was done"),
        )
        .hint(hint)
    })
}

/// `host`.
pub fn host(ui: &Ui, args: args::Host) -> Outcome {
    let path = file::path()?;
    match args {
        args::Host::Add(args) => add(ui, &path, args),
        // It needs a runtime, and has run in one.
        args::Host::Pair(_) => Ok(()),
        args::Host::Use { name } => {
            file::change(&path, |hosts| {
                hosts.default = match &*name {
                    LOCAL => None,
                    name => known(hosts, name).map(|_| Some(name.to_owned()))?,
                };
                Ok(())
            })?;
            if let Some(variable) =
                [VARIABLE].iter().chain(&HERE).find(|name| std::env::var_os(name).is_some())
            {
                ui.note(&format!("{variable} is set, and comes before this"));
            }
            shown(ui, &name)
        }
        args::Host::Rm { name } => {
            let meant = file::change(&path, |hosts| {
                known(hosts, &name)?;
                hosts.hosts.remove(&name);
                Ok(hosts.default.take_if(|default| *default == name).is_some())
            })?;
            let removed = Keys::beside(&path).remove(&name).map_err(|error| {
                let what = format!("the name is forgotten, and the key for it is not removed: {error}");
                Failure::failed("key", what)
                    .hint(format!("remove {}", Keys::beside(&path).path(&name).display()))
            })?;
            if removed {
                ui.note(&format!(
                    "this machine's key for {name} is removed; the server goes on to take it until `kennel key revoke` there"
                ));
            }
            if meant {
                ui.note("commands mean this machine again");
            }
            shown(ui, &name)
        }
        args::Host::Ls => ls(ui, &file::read(&path)?, &Keys::beside(&path)),
    }
}

/// `host add`.
fn add(ui: &Ui, path: &Path, args: args::HostAdd) -> Outcome {
    let args::HostAdd { name, address, kennel, trust } = args;
    check_name(&name)?;
    if kennel.as_deref().is_some_and(|kennel| kennel.is_empty() || kennel.contains(char::is_control)) {
        return Err(Failure::usage("--kennel: that is no path; nothing was changed"));
    }
    without_path(&address)?;
    if address.scheme == Scheme::Tls && kennel.is_some() {
        return Err(Failure::usage("--kennel is for ssh, which runs it; nothing was changed"));
    }
    if address.scheme == Scheme::Ssh && trust.is_given() {
        return Err(Failure::usage("ssh knows its hosts by itself; nothing was changed")
            .hint("--fingerprint, --ca and --cert are for tls addresses"));
    }
    // Relative paths begin at the home there.
    let kennel = kennel.map(|kennel| kennel.strip_prefix("~/").map(str::to_owned).unwrap_or(kennel));
    let entry = known_by(Entry { kennel, ..Entry::at(address) }, trust)?;
    file::change(path, |hosts| match hosts.hosts.get(&name) {
        Some(other) if *other != entry => Err(taken(&name, other)),
        _ => {
            hosts.hosts.insert(name.clone(), entry.clone());
            Ok(())
        }
    })?;
    if entry.address.scheme == Scheme::Tls && !Keys::beside(path).has(&name) {
        ui.note(&format!("`kennel pair` there and `kennel host pair {name}` here get this machine a key"));
    }
    shown(ui, &name)
}

fn check_name(name: &str) -> Outcome {
    match is_name(name) && name != LOCAL {
        true => Ok(()),
        false => Err(Failure::usage(format!("`{name}` cannot be a name; nothing was changed"))
            .hint("a name has letters, digits, `.`, `_` and `-`; `local` is this machine")),
    }
}

/// A name that another machine has, or the same one in another way.
fn taken(name: &str, other: &Entry) -> Failure {
    let what = format!("`{name}` is {} already; nothing was changed", other.address);
    Failure::new(exit::CONFLICT, "host_exists", what).hint(format!("`kennel host rm {name}` frees the name"))
}

/// The same machine, known by what was typed.
fn known_by(entry: Entry, trust: args::TrustArgs) -> Outcome<Entry> {
    let args::TrustArgs { fingerprint, ca, cert, cert_key } = trust;
    // Commands are typed in any directory.
    let whole = |path: Option<PathBuf>| -> Outcome<Option<PathBuf>> {
        let path = path.map(std::path::absolute).transpose();
        path.map_err(|error| Failure::usage(format!("that is no path: {error}; nothing was changed")))
    };
    let entry =
        Entry { fingerprint, ca: whole(ca)?, cert: whole(cert)?, cert_key: whole(cert_key)?, ..entry };
    if let Way::Tls(options) = entry.options("", None).way {
        options.check().map_err(|why| {
            Failure::usage(format!("{why}; nothing was changed"))
                .hint("--ca and --cert take files with certificates in PEM, --cert-key one with a private key in PEM")
        })?;
    }
    Ok(entry)
}

/// The name of what was changed, as every command prints what it changed.
fn shown(ui: &Ui, name: &str) -> Outcome {
    match ui.json {
        true => ui.object(serde_json::json!({ "name": name }).to_string().as_bytes()),
        false => ui.line(name),
    }
}

fn ls(ui: &Ui, hosts: &Hosts, keys: &Keys) -> Outcome {
    let default = hosts.default.as_deref().unwrap_or(LOCAL);
    let by_tls = |entry: &Entry| entry.address.scheme == Scheme::Tls;
    if ui.json {
        let object = |(name, entry): (&String, &Entry)| {
            serde_json::json!({
                "name": name,
                "address": entry.address.to_string(),
                "kennel": entry.kennel,
                "default": *name == default,
                "fingerprint": entry.fingerprint.map(|fingerprint| fingerprint.to_string()),
                "ca": entry.ca,
                "paired": by_tls(entry).then(|| keys.has(name)),
            })
        };
        let list: Vec<serde_json::Value> = hosts.hosts.iter().map(object).collect();
        return ui.object(serde_json::Value::from(list).to_string().as_bytes());
    }
    let any_by_tls = hosts.hosts.values().any(by_tls);
    let mut columns = vec!["NAME", "DEFAULT", "ADDRESS", "KENNEL"];
    if any_by_tls {
        columns.extend(["KEY", "KNOWN BY"]);
    }
    let mut table = Table::new(&columns);
    let star = |name: &str| if name == default { "*" } else { "" };
    table.row(vec![LOCAL.into(), star(LOCAL).into(), "this machine".into(), "".into()]);
    for (name, entry) in &hosts.hosts {
        let kennel = entry.kennel.clone().unwrap_or_default();
        let mut row =
            vec![name.as_str().into(), star(name).into(), entry.address.to_string().into(), kennel.into()];
        if by_tls(entry) {
            let known_by = match (entry.fingerprint, &entry.ca) {
                (Some(fingerprint), _) => fingerprint.to_string(),
                (None, Some(file)) => file.display().to_string(),
                (None, None) => "the system's authorities".to_owned(),
            };
            let key = if keys.has(name) { "yes" } else { "none" };
            row.extend([key.into(), known_by.into()]);
        }
        table.row(row);
    }
    ui.print(&table.text(ui.out_colour, ui.columns))
}
