//! `daemon`: run it, look at it, end it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hyper::body::Bytes;
use protocol::api::ManagerInfo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::time::{Instant, sleep};

use crate::address::{self, Found};
use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::ui::Ui;
use crate::cli::ui::error::{Failure, Outcome, exit, way_out};
use crate::cli::ui::table::pairs;
use crate::client::{ClientError, Request, relay};
use crate::daemon::doctor::PORT_MEND;
use crate::daemon::{Paths, PathsError, Runner, same_file};
use crate::system::clock;
use crate::units;
use crate::web_handover::Bridge;
use crate::workers::shelter;

/// The longest time until a starting daemon answers.
const START: Duration = Duration::from_secs(10);
/// The longest time until a stopping daemon has ended.
const END: Duration = Duration::from_secs(60);
/// The time for which `status` waits for a daemon that has the state directory and does not answer yet.
const MOMENT: Duration = Duration::from_secs(2);

/// `daemon`, but for what needs no connection.
pub async fn daemon(link: &Link<'_>, args: &args::Daemon) -> Outcome {
    match args {
        args::Daemon::Start => start(link).await,
        args::Daemon::Stop => {
            stop(link, false).await?;
            if link.ui.json { link.ui.object(&stopped()) } else { Ok(()) }
        }
        args::Daemon::Restart => {
            check_config(link.here("daemon restart")?)?;
            of_no_service(link).await?;
            succeed(link).await
        }
        args::Daemon::Upgrade => {
            check(link.here("daemon upgrade")?)?;
            of_no_service(link).await?;
            succeed(link).await
        }
        args::Daemon::Check => {
            check(link.here("daemon check")?)?;
            link.ui.line(&format!("{}: the journal can be read", crate::version::VERSION))
        }
        args::Daemon::Status => status(link).await,
        // On this machine they have run before there was a runtime.
        args::Daemon::Run { .. } => link.here("daemon run").map(drop),
        args::Daemon::Unit(_) => link.here("daemon unit").map(drop),
        args::Daemon::Install => link.here("daemon install").map(drop),
        args::Daemon::Uninstall => link.here("daemon uninstall").map(drop),
    }
}

/// `daemon unit`.
pub fn unit(ui: &Ui, paths: &Paths, args: &args::Unit) -> Outcome {
    ui.print(&unit_text(paths, if args.system { Runner::System } else { Runner::User })?)
}

/// The unit for this program over these paths.
pub fn unit_text(paths: &Paths, runner: Runner) -> Outcome<String> {
    let exe = std::env::current_exe()
        .map_err(|error| Failure::failed("exe", format!("this program's own path is not known: {error}")))?;
    Ok(crate::daemon::unit(&exe, paths, runner, systemd_version()))
}

/// The version of this machine's systemd; none without systemd.
#[allow(clippy::disallowed_methods, reason = "not in the daemon: there is no reaper here")]
fn systemd_version() -> Option<u32> {
    let output = Command::new("systemctl").arg("--version").stdin(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1)?.parse().ok()
}

fn stopped() -> Vec<u8> {
    serde_json::json!({ "pid": null, "state": "stopped" }).to_string().into_bytes()
}

/// Refuses to replace a daemon that a service manager runs: the next one would be outside of its service.
async fn of_no_service(link: &Link<'_>) -> Outcome {
    // No daemon is asked that does not run.
    let Ok(answer) = link.client.ask(&Request::get("/v1/manager")).await else { return Ok(()) };
    let info: ManagerInfo = read(&answer)?;
    if !info.service {
        return Ok(());
    }
    let detail = format!("the daemon (pid {}) is a service of systemd; nothing was changed", info.pid);
    Err(Failure::new(exit::CONFLICT, "is_a_service", detail).hint(
        "`systemctl --user restart kennel` restarts it, and a service of the system without `--user`: turns go on",
    ))
}

/// Replaces the daemon by a new one. The page's address is never free meanwhile.
async fn succeed(link: &Link<'_>) -> Outcome {
    let state_dir = link.paths.as_ref().map(|paths| &paths.state_dir).filter(|path| path.is_dir());
    let bridge = state_dir.map(|state_dir| Bridge::new(state_dir));
    if let Some(Err(error)) = &bridge {
        link.ui.note(&format!("warning: the page's address is free for a moment: {error}"));
    }
    stop(link, true).await?;
    start(link).await
}

async fn start(link: &Link<'_>) -> Outcome {
    let answer = link.ask(Request::get("/v1/manager")).await?;
    let info: ManagerInfo = read(&answer)?;
    match link.ui.json {
        true => link.ui.object(&answer)?,
        false => link.ui.line(&format!("running, pid {}", info.pid))?,
    }
    if let Some(problem) = info.listen.and_then(|listen| listen.problem) {
        link.ui.note(&format!("warning: TLS port: {problem}; {PORT_MEND}"));
    }
    Ok(())
}

/// Asks a daemon that runs, and starts none. One that is just starting, or whose socket has vanished, is given a moment.
pub(super) async fn asked(link: &Link<'_>) -> Result<Bytes, ClientError> {
    let deadline = Instant::now() + MOMENT;
    loop {
        let answer = link.client.ask(&Request::get("/v1/manager")).await;
        let absent = matches!(answer, Err(ClientError::Absent(_)));
        if !absent || holder(link).is_none() || Instant::now() > deadline {
            return answer;
        }
        if let Some(paths) = &link.paths {
            address::knock(&paths.state_dir);
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Of a daemon that holds the state directory and is not there where it is asked.
fn unreachable(link: &Link<'_>, paths: &Paths, pid: u32) -> Outcome {
    if link.ui.json {
        let object = serde_json::json!({ "pid": pid, "state": "unreachable" });
        link.ui.object(&object.to_string().into_bytes())?;
    } else {
        let mut facts = vec![
            ("state", "unreachable: it runs, and nobody listens on the socket".to_owned()),
            ("pid", pid.to_string()),
            ("state dir", paths.state_dir.display().to_string()),
            ("socket", link.socket_shown()),
        ];
        if let Found::Served { socket: Some(socket), .. } = address::find(&paths.state_dir)
            && socket != paths.socket
            && paths.named
        {
            facts.push(("listens on", format!("{}; unset KENNEL_SOCKET", socket.display())));
        }
        link.ui.print(&pairs(&facts, link.ui.out_colour))?;
    }
    Err(Failure::Printed(exit::UNREACHABLE))
}

async fn status(link: &Link<'_>) -> Outcome {
    let answer = match asked(link).await {
        Ok(answer) => answer,
        Err(ClientError::Absent(_)) => {
            if let (Some(pid), Some(paths)) = (holder(link), &link.paths) {
                return unreachable(link, paths, pid);
            }
            if link.ui.json {
                link.ui.object(&stopped())?;
            } else {
                link.ui.print(&pairs(&[("state", "stopped".into())], link.ui.out_colour))?;
            }
            return Err(Failure::Printed(exit::UNREACHABLE));
        }
        Err(error) => return Err(link.failure(error)),
    };
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let info: ManagerInfo = read(&answer)?;
    let sessions: Vec<String> =
        info.sessions.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let gone = info.state == "state_dir_gone";
    let port = info.listen.map(|listen| match listen.problem {
        Some(problem) => format!("{} ({problem})", shown_addresses(&listen.addresses)),
        None => shown_addresses(&listen.addresses),
    });
    let mut facts = vec![
        ("state", info.state),
        ("pid", info.pid.to_string()),
        ("version", info.version.clone()),
        ("up for", units::age(info.started_at, clock::wall_ms())),
        ("sessions", if sessions.is_empty() { "none".into() } else { sessions.join(", ") }),
        ("spares", spares(&info.spare_workers)),
        ("last event", info.last_event_id.to_string()),
        ("state dir", info.state_dir),
    ];
    if let Some(paths) = &link.paths {
        facts.push(("socket", link.socket_shown()));
        facts.push(("config", info.config.clone().unwrap_or_else(|| paths.config.display().to_string())));
    } else {
        facts.extend(info.config.clone().map(|config| ("config", config)));
    }
    facts.extend(port.map(|port| ("TLS port", port)));
    facts.extend(info.web.map(|web| match web.problem {
        Some(problem) => ("page", format!("{} ({problem})", web.origin)),
        None => ("page", web.origin),
    }));
    let config = link.paths.as_ref().map(|paths| &paths.config);
    if let (Some(read), Some(config)) = (info.config.as_deref(), config)
        && !same_file(Path::new(read), config)
    {
        facts.push((
            "your config",
            format!(
                "{}, which this daemon does not read; `kennel daemon restart` starts one that reads it and not {read}",
                config.display()
            ),
        ));
    }
    if gone {
        facts.push((
            "warning",
            "its state directory was deleted: the next daemon will know nothing of these sessions, and no new work is taken; \
             `kennel daemon stop` ends them"
                .to_owned(),
        ));
    }
    if info.version != crate::version::VERSION && link.paths.is_some() {
        facts
            .push(("this kennel", format!("{}; `kennel daemon restart` starts it", crate::version::VERSION)));
    }
    link.ui.print(&pairs(&facts, link.ui.out_colour))
}

/// The addresses of the port.
fn shown_addresses(addresses: &[String]) -> String {
    if addresses.is_empty() { "closed".into() } else { addresses.join(", ") }
}

/// The processes that wait for a session.
fn spares(workers: &[u32]) -> String {
    let pids: Vec<String> = workers.iter().map(u32::to_string).collect();
    match workers.len() {
        0 => "none".into(),
        1 => format!("1 worker, pid {}", pids[0]),
        count => format!("{count} workers, pids {}", pids.join(", ")),
    }
}

fn check_config(paths: &Paths) -> Outcome {
    let missing = |error: PathsError| {
        Failure::failed("cannot_take_over", error.to_string()).hint("the daemon that runs was left as it is")
    };
    paths.check_config().map_err(missing)
}

/// Checks that this kennel can be the daemon.
fn check(paths: &Paths) -> Outcome {
    check_config(paths)?;
    crate::daemon::check(paths).map_err(|error| {
        Failure::failed("cannot_take_over", format!("{error}")).hint("the daemon that runs was left as it is")
    })
}

/// Ends the daemon, if there is one. Returns after its process is gone. With `hand_over` its sessions' processes go on.
async fn stop(link: &Link<'_>, hand_over: bool) -> Outcome {
    let Some(paths) = &link.paths else { return stop_there(link).await };
    let deadline = Instant::now() + START;
    loop {
        match link.client.connect().await {
            Ok(connection) => {
                let pid = connection.peer_cred().ok().and_then(|peer| peer.pid()).and_then(Pid::from_raw);
                // While the connection is open the pid is the daemon's, and the pidfd stays that for good.
                let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
                drop(connection);
                let path = if hand_over { "/v1/manager/stop?hand_over=true" } else { "/v1/manager/stop" };
                let request = Request::post(path).prompt();
                match link.ui.waiting("waiting for the daemon", link.client.ask(&request)).await {
                    Ok(_) | Err(ClientError::Absent(_) | ClientError::Lost(_)) => {}
                    Err(error @ ClientError::Silent(_)) => {
                        return Err(link
                            .failure(error)
                            .but("it was not stopped, and may stop once it goes on"));
                    }
                    Err(error) => return Err(error.into()),
                }
                let has_journal = paths.state_dir.join(crate::supervisor::JOURNAL).exists();
                link.ui.waiting("stopping the daemon", ended(link, process)).await?;
                let pid = pid.map(|pid| format!(" (pid {})", pid.as_raw_nonzero())).unwrap_or_default();
                link.ui.note(&match hand_over {
                    true => format!("the daemon{pid} has left; its sessions go on"),
                    false if !has_journal => {
                        format!("the daemon{pid} is stopped; its state directory was deleted, and its sessions with it")
                    }
                    false => format!("the daemon{pid} is stopped; the next one brings its sessions back"),
                });
                return Ok(());
            }
            Err(ClientError::Absent(_)) => match holder(link) {
                // Only a daemon ends them at once.
                None if !hand_over && shelter::anybody(&paths.state_dir) => link.start().await?,
                None => {
                    link.ui.note("no daemon runs");
                    return Ok(());
                }
                Some(pid) if Instant::now() > deadline => {
                    let what =
                        format!("the daemon (pid {pid}) holds the state directory but does not answer");
                    return Err(Failure::unreachable(what).hint(way_out(link.pid())));
                }
                // It is just starting, or just leaving, or its socket has vanished.
                Some(_) => {
                    link.holder().await?;
                    sleep(Duration::from_millis(10)).await;
                }
            },
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends the daemon of another machine, if there is one.
async fn stop_there(link: &Link<'_>) -> Outcome {
    link.can_start("daemon stop")?;
    let request = Request::post(relay::STOP).repeatable();
    link.ui.waiting("stopping the daemon", link.ask(request)).await?;
    let host = link.host().unwrap_or_default();
    link.ui.note(&format!("the daemon of {host} is stopped; the next one brings its sessions back"));
    Ok(())
}

async fn ended(link: &Link<'_>, process: Option<OwnedFd>) -> Outcome {
    let Some(process) = process else {
        return link.gone().await;
    };
    let number = link.pid();
    // On a thread: the wait is bounded, and this command does nothing else meanwhile.
    let waiting = tokio::task::spawn_blocking(move || {
        let within = Timespec { tv_sec: END.as_secs().cast_signed(), tv_nsec: 0 };
        loop {
            match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&within)) {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    });
    match waiting.await {
        Ok(Ok(1..)) => Ok(()),
        Ok(Ok(0)) => {
            let what = format!("the daemon did not end within {}", humantime::format_duration(END));
            Err(Failure::new(exit::TIMEOUT, "timeout", what).hint(way_out(number)))
        }
        Ok(Err(error)) => Err(Failure::failed("wait", format!("cannot wait for the daemon: {error}"))),
        Err(error) => Err(Failure::failed("wait", format!("cannot wait for the daemon: {error}"))),
    }
}

/// The process that holds the state directory, by its own word, if any does.
pub(super) fn holder(link: &Link<'_>) -> Option<u32> {
    match address::find(&link.paths.as_ref()?.state_dir) {
        Found::Served { pid, .. } => Some(pid.unwrap_or(0)),
        Found::Free | Found::Unknown => None,
    }
}
