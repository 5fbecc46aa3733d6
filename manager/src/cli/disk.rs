//! `df` and `prune`: what the state directory takes of the disk, and what of it goes.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;
use std::time::Duration;

use protocol::SessionId;
use protocol::api::{DiskUsage, FileUsage, PruneReport, PruneRequest, PrunedWorktree, SessionInfo};

use crate::cli::args;
use crate::cli::link::{Link, read};
use crate::cli::ui::error::{Failure, Outcome};
use crate::cli::ui::render;
use crate::cli::ui::table::Table;
use crate::cli::worktree::remains;
use crate::client::Request;
use crate::units::bytes;
use crate::worktrees;

/// Worktrees that are held at a time: each costs descriptors, and what needs one of them waits.
const HELD: usize = 32;

/// The number of sessions in the table without `--all`.
const LARGEST: usize = 10;

/// `df`.
pub async fn df(link: &Link<'_>, args: &args::Df) -> Outcome {
    let answer = link.ask(Request::get("/v1/manager/disk")).await?;
    if link.ui.json {
        return link.ui.object(&answer);
    }
    let usage: DiskUsage = read(&answer)?;
    link.ui.print(&by_what(&usage).text(link.ui.out_colour, link.ui.columns))?;
    if usage.sessions.is_empty() {
        return Ok(());
    }
    let shown = if args.all { usage.sessions.len() } else { LARGEST };
    link.ui.print("\n")?;
    link.ui.print(&by_session(&usage, shown).text(link.ui.out_colour, link.ui.columns))?;
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
    let files = |files: &[FileUsage]| count(files.len(), "file");
    for (what, size, of_it) in [
        ("journal", journal.file_bytes, of_it),
        ("its newest commits", journal.wal_bytes, String::new()),
        ("logs", usage.log_bytes, String::new()),
        ("the daemon's log", usage.daemon_log_bytes, String::new()),
        ("reports kept without a daemon", usage.spool_bytes, String::new()),
        ("kept free for a full disk", usage.reserve_bytes, String::new()),
        ("index of the search", usage.search_bytes, String::new()),
        ("worktrees", usage.worktree_bytes, count(usage.worktrees.len(), "worktree")),
        ("damaged journals", sum(&usage.damaged), files(&usage.damaged)),
        ("leftovers", sum(&usage.leftovers), files(&usage.leftovers)),
        ("total", usage.total_bytes, format!("{} available", bytes(usage.available_bytes))),
    ] {
        table.row(vec![what.into(), bytes(size).into(), of_it.into()]);
    }
    table
}

/// Returns the count with its noun; an empty text for none.
fn count(count: usize, of: &str) -> String {
    match count {
        0 => String::new(),
        1 => format!("1 {of}"),
        count => format!("{count} {of}s"),
    }
}

fn by_session(usage: &DiskUsage, most: usize) -> Table {
    let mut table = Table::new(&["SESSION", "SIZE", "EVENTS", "JOURNAL", "LOG", "REPORTS", "WORKTREE"]);
    for session in usage.sessions.iter().take(most) {
        table.row(vec![
            session.id.as_ref().map_or("-".into(), ToString::to_string).into(),
            bytes(session.bytes).into(),
            session.events.to_string().into(),
            bytes(session.event_bytes + session.prompt_bytes).into(),
            bytes(session.log_bytes).into(),
            bytes(session.spool_bytes).into(),
            bytes(session.worktree_bytes).into(),
        ]);
    }
    table
}

/// `prune`.
pub async fn prune(link: &Link<'_>, args: args::Prune) -> Outcome {
    let older_than = args.older_than.or(args.all.then_some(Duration::ZERO));
    let mut request = PruneRequest {
        older_than_ms: older_than.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        max_bytes: args.max_size,
        damaged: args.damaged,
        dry_run: true,
    };
    if !args.force {
        let answer = ask(link, &request).await?;
        let worktrees = worktrees(link, true).await?;
        let would = PruneReport { worktrees, ..read(&answer)? };
        if args.dry_run {
            return print_report(link, &answer, &would);
        }
        if !is_empty(&would) && (link.ui.json || !io::stdin().is_terminal()) {
            return Err(Failure::usage("nobody can be asked here; nothing was removed")
                .hint("`--dry-run` tells what would go, `--force` removes it"));
        }
        if !is_empty(&would) {
            link.ui.print(&report_text(&would, link))?;
            link.ui.write_err("Remove this? [y/N] ");
            let mut typed = String::new();
            io::stdin().lock().read_line(&mut typed)?;
            if !matches!(typed.trim(), "y" | "Y" | "yes") {
                link.ui.note("nothing was removed");
                return Ok(());
            }
        }
    }
    request.dry_run = false;
    let removing = async {
        let answer = ask(link, &request).await?;
        Ok::<_, Failure>((answer, worktrees(link, false).await?))
    };
    let (answer, worktrees) = link.ui.waiting("removing", removing).await?;
    print_report(link, &answer, &PruneReport { worktrees, ..read(&answer)? })
}

/// Prints a report: the manager's, with what became of the worktrees.
fn print_report(link: &Link<'_>, answer: &[u8], report: &PruneReport) -> Outcome {
    if !link.ui.json {
        return link.ui.print(&report_text(report, link));
    }
    // The report is passed on as JSON: a newer manager may send fields that this kennel does not know.
    let mut object: serde_json::Value = read(answer)?;
    object["worktrees"] = serde_json::json!(report.worktrees);
    link.ui.object(object.to_string().as_bytes())
}

/// Removes the worktrees that no session or process needs. With `dry_run`, returns the ones that would go.
///
/// On another machine none: only programs there can look whether a process works in one.
async fn worktrees(link: &Link<'_>, dry_run: bool) -> Outcome<Vec<PrunedWorktree>> {
    if link.paths.is_none() {
        return Ok(Vec::new());
    }
    let usage: DiskUsage = link.get(Request::get("/v1/manager/disk")).await?;
    let all = usage.worktrees.into_iter().map(|worktree| (worktree.name, worktree.bytes));
    settled(link, all.collect(), dry_run).await
}

/// Removes those of these worktrees (name, bytes) that no session or process needs. Locks [`HELD`] of them at
/// a time.
async fn settled(link: &Link<'_>, all: Vec<(String, u64)>, dry_run: bool) -> Outcome<Vec<PrunedWorktree>> {
    let mut done = Vec::new();
    for some in all.chunks(HELD) {
        done.extend(settled_at_once(link, some, dry_run).await?);
    }
    Ok(done)
}

async fn settled_at_once(
    link: &Link<'_>,
    all: &[(String, u64)],
    dry_run: bool,
) -> Outcome<Vec<PrunedWorktree>> {
    let broken = |error: tokio::task::JoinError| Failure::failed("worktrees", error.to_string());
    let Some(paths) = &link.paths else { return Ok(Vec::new()) };
    let state_dir = std::fs::canonicalize(&paths.state_dir).unwrap_or_else(|_| paths.state_dir.clone());
    let (directory, names) =
        (state_dir.clone(), all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    let hold = move || names.iter().map(|name| remains::hold(&directory, name)).collect::<Vec<_>>();
    let held = tokio::task::spawn_blocking(hold).await.map_err(broken)?;
    // The list is read after the locks: whoever made a worktree has its session by now, or finds the worktree
    // locked.
    let now: Vec<SessionInfo> = if held.iter().any(Result::is_ok) {
        link.get(Request::get("/v1/sessions")).await?
    } else {
        Vec::new()
    };
    let mut settled = Vec::new();
    for ((name, bytes), held) in all.iter().cloned().zip(held) {
        let stays = match held {
            Err(why) => Some(why),
            Ok(held) => {
                let sessions = now.iter().map(|session| (&session.id, &*session.workdir));
                let sessions = remains::users(&state_dir, &name, sessions);
                let settle = move || held.settle(&sessions, dry_run);
                tokio::task::spawn_blocking(settle).await.map_err(broken)?.err()
            }
        };
        settled.push(PrunedWorktree { name, bytes, stays });
    }
    Ok(settled)
}

/// Removes the worktrees of removed sessions that no session or process needs: those in which they worked,
/// and those that they asked for. `before` is the list of sessions before the removal.
pub async fn after_rm(link: &Link<'_>, before: &[SessionInfo], removed: &[SessionId]) -> Outcome {
    let Some(paths) = &link.paths else { return Ok(()) };
    let Ok(state_dir) = std::fs::canonicalize(&paths.state_dir) else { return Ok(()) };
    let gone = before.iter().filter(|session| removed.contains(&session.id));
    let mut names: Vec<String> =
        gone.filter_map(|session| worktrees::around(&state_dir, Path::new(&session.workdir))).collect();
    for id in removed {
        names.extend(worktrees::names(&state_dir, Some(id)).unwrap_or_default());
    }
    names.sort();
    names.dedup();
    names.retain(|name| state_dir.join(name).is_dir());
    if names.is_empty() {
        return Ok(());
    }
    for worktree in settled(link, names.into_iter().map(|name| (name, 0)).collect(), false).await? {
        link.ui.note(&match worktree.stays {
            Some(why) => format!("the worktree {} stays: {why}", worktree.name),
            None => format!("the worktree {} is removed", worktree.name),
        });
    }
    Ok(())
}

async fn ask(link: &Link<'_>, request: &PruneRequest) -> Outcome<hyper::body::Bytes> {
    link.ask(Request::post("/v1/manager/prune").json(request)).await
}

fn is_empty(report: &PruneReport) -> bool {
    let worktrees = report.worktrees.iter().all(|worktree| worktree.stays.is_some());
    report.sessions.is_empty() && report.damaged.is_empty() && report.leftovers.is_empty() && worktrees
}

fn report_text(report: &PruneReport, link: &Link<'_>) -> String {
    let mut text = String::new();
    for worktree in &report.worktrees {
        if let Some(why) = &worktree.stays {
            text += &format!(
                "stays: {} ({}): {}\n",
                render::line(&worktree.name),
                bytes(worktree.bytes),
                render::line(why)
            );
        }
    }
    if is_empty(report) {
        return text + "nothing to remove\n";
    }
    if !report.sessions.is_empty() {
        let mut table = Table::new(&["SESSION", "EVENTS", "SIZE", "FIRST KEPT EVENT"]);
        for session in &report.sessions {
            table.row(vec![
                session.id.as_ref().map_or("-".into(), ToString::to_string).into(),
                session.events.to_string().into(),
                bytes(session.event_bytes).into(),
                session.first_available.to_string().into(),
            ]);
        }
        text += &table.text(link.ui.out_colour, link.ui.columns);
        text.push('\n');
    }
    let gone = report.worktrees.iter().filter(|worktree| worktree.stays.is_none());
    let trees: Vec<FileUsage> =
        gone.map(|worktree| FileUsage { name: worktree.name.clone(), bytes: worktree.bytes }).collect();
    let files = report.damaged.iter().chain(&report.leftovers).chain(&trees);
    if files.clone().next().is_some() {
        let mut table = Table::new(&["SIZE", "FILE"]);
        for file in files.clone() {
            table.row(vec![bytes(file.bytes).into(), render::line(&file.name).into()]);
        }
        text += &table.text(link.ui.out_colour, link.ui.columns);
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
