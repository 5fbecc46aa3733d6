//! `df` and `prune`: what the state directory takes of the disk, and what of it goes.

use std::io::{self, BufRead, IsTerminal};

use protocol::api::{DiskUsage, FileUsage, PruneReport, PruneRequest};

use super::args;
use super::error::{Failure, Outcome};
use super::link::{Link, read};
use super::render::{self, Table, bytes};
use crate::client::Request;

/// How many sessions are shown where not all are asked for.
const LARGEST: usize = 10;

/// `df`.
pub async fn df(link: &Link<'_>, args: &args::Df) -> Outcome {
    let answer = link.ask(Request::get("/v1/manager/disk")).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let usage: DiskUsage = read(&answer)?;
    link.ui.print(&by_what(&usage).text(link.ui.out_colour))?;
    if usage.sessions.is_empty() {
        return Ok(());
    }
    let shown = if args.all { usage.sessions.len() } else { LARGEST };
    link.ui.print("\n")?;
    link.ui.print(&by_session(&usage, shown).text(link.ui.out_colour))?;
    if usage.sessions.len() > shown {
        link.ui.note(&format!("{} more; `kennel df --all` lists them", usage.sessions.len() - shown));
    }
    Ok(())
}

fn by_what(usage: &DiskUsage) -> Table {
    let (journal, mut table) = (&usage.journal, Table::new(&["WHAT", "SIZE", "OF IT"]));
    let sum = |files: &[FileUsage]| files.iter().map(|file| file.bytes).sum();
    let of_it = format!(
        "{} in {} events, {} in prompts that may still run, {} empty",
        bytes(journal.event_bytes),
        journal.events,
        bytes(journal.prompt_bytes + journal.attachment_bytes),
        bytes(journal.free_bytes)
    );
    let files = |files: &[FileUsage]| match files.len() {
        0 => String::new(),
        1 => "1 file".into(),
        count => format!("{count} files"),
    };
    for (what, size, of_it) in [
        ("journal", journal.file_bytes, of_it),
        ("its newest commits", journal.wal_bytes, String::new()),
        ("logs", usage.log_bytes, String::new()),
        ("the daemon's log", usage.daemon_log_bytes, String::new()),
        ("spools", usage.spool_bytes, String::new()),
        ("reserve", usage.reserve_bytes, String::new()),
        ("damaged journals", sum(&usage.damaged), files(&usage.damaged)),
        ("leftovers", sum(&usage.leftovers), files(&usage.leftovers)),
        ("total", usage.total_bytes, format!("{} available", bytes(usage.available_bytes))),
    ] {
        table.row(vec![what.into(), bytes(size).into(), of_it.into()]);
    }
    table
}

fn by_session(usage: &DiskUsage, most: usize) -> Table {
    let mut table = Table::new(&["SESSION", "SIZE", "EVENTS", "JOURNAL", "LOG", "SPOOL"]);
    for session in usage.sessions.iter().take(most) {
        table.row(vec![
            session.id.as_ref().map_or("-".into(), ToString::to_string).into(),
            bytes(session.bytes).into(),
            session.events.to_string().into(),
            bytes(session.event_bytes + session.prompt_bytes).into(),
            bytes(session.log_bytes).into(),
            bytes(session.spool_bytes).into(),
        ]);
    }
    table
}

/// `prune`.
pub async fn prune(link: &Link<'_>, args: args::Prune) -> Outcome {
    let mut request = PruneRequest {
        older_than_ms: args.older_than.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        max_bytes: args.max_size,
        damaged: args.damaged,
        dry_run: true,
    };
    if !args.force {
        let answer = ask(link, &request).await?;
        let would: PruneReport = read(&answer)?;
        if args.dry_run {
            return if link.ui.json { link.ui.object(&answer) } else { link.ui.print(&told(&would, link)) };
        }
        if !is_empty(&would) && (link.ui.json || !io::stdin().is_terminal()) {
            return Err(Failure::usage("nobody can be asked here; nothing was removed")
                .hint("`--dry-run` tells what would go, `--force` removes it"));
        }
        if !is_empty(&would) {
            link.ui.print(&told(&would, link))?;
            link.ui.tell("Remove this? [y/N] ");
            let mut said = String::new();
            io::stdin().lock().read_line(&mut said)?;
            if !matches!(said.trim(), "y" | "Y" | "yes") {
                link.ui.note("nothing was removed");
                return Ok(());
            }
        }
    }
    request.dry_run = false;
    let answer = link.ui.waiting("removing", ask(link, &request)).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    link.ui.print(&told(&read(&answer)?, link))
}

async fn ask(link: &Link<'_>, request: &PruneRequest) -> Outcome<hyper::body::Bytes> {
    link.ask(Request::post("/v1/manager/prune").json(request)).await
}

fn is_empty(report: &PruneReport) -> bool {
    report.sessions.is_empty() && report.damaged.is_empty() && report.leftovers.is_empty()
}

fn told(report: &PruneReport, link: &Link<'_>) -> String {
    if is_empty(report) {
        return "nothing to remove\n".into();
    }
    let mut text = String::new();
    if !report.sessions.is_empty() {
        let mut table = Table::new(&["SESSION", "EVENTS", "SIZE", "LEFT FROM"]);
        for session in &report.sessions {
            table.row(vec![
                session.id.as_ref().map_or("-".into(), ToString::to_string).into(),
                session.events.to_string().into(),
                bytes(session.event_bytes).into(),
                session.first_available.to_string().into(),
            ]);
        }
        text += &table.text(link.ui.out_colour);
        text.push('\n');
    }
    let files = report.damaged.iter().chain(&report.leftovers);
    if files.clone().next().is_some() {
        let mut table = Table::new(&["SIZE", "FILE"]);
        for file in files.clone() {
            table.row(vec![bytes(file.bytes).into(), render::line(&file.name).into()]);
        }
        text += &table.text(link.ui.out_colour);
        text.push('\n');
    }
    let of_files: u64 = files.map(|file| file.bytes).sum();
    let events = format!("{} in {} events", bytes(report.event_bytes), report.events);
    text += &match report.dry_run {
        true => format!("would go: {events}, {} in files\n", bytes(of_files)),
        false => format!(
            "gone: {events}, {} in files; {} of the journal are empty now and are filled again\n",
            bytes(of_files),
            bytes(report.freed_bytes)
        ),
    };
    text
}
