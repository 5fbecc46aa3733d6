//! The table in `tests/results.md`: what each agent was seen to do.

use crate::agents::Agent;
use crate::trial::Life;

/// The lines of a table, in Markdown: each agent, and what it did if it came to its end.
pub fn of(lives: &[(&Agent, Option<&Life>)]) -> String {
    let head = "| agent | version | offers | start to ready | permissions asked | after `kill -9` of the agent | of the worker | \
                of daemon and worker | PSS of the worker | what it does not do, and why |\n|---|---|---|---|---|---|---|---|---|---|\n";
    lives.iter().fold(head.to_owned(), |table, (agent, life)| table + &line(agent, *life))
}

/// Returns the rows of `tests/results.md` that differ for these agents. Only times and memory may differ from
/// run to run, and the level of an agent that does not always load.
pub fn stale(lives: &[(&Agent, Option<&Life>)], results: &str) -> Vec<String> {
    let written = |agent: &Agent, life: &Life| {
        let (first, last) = (first_cells(agent, life), format!("| {} |", lacks(agent)));
        results.lines().any(|line| line.starts_with(&first) && line.ends_with(&last))
    };
    let lived = lives.iter().filter_map(|(agent, life)| Some((agent, (*life)?)));
    lived.filter(|(agent, life)| !written(agent, life)).map(|(agent, life)| line(agent, Some(life))).collect()
}

/// The cells of a line that are the same in each run.
fn first_cells(agent: &Agent, life: &Life) -> String {
    let offers: Vec<&str> = [(life.details.resume, "resume"), (life.details.load, "load")]
        .into_iter()
        .filter_map(|(offered, name)| offered.then_some(name))
        .collect();
    format!(
        "| {} (`{}`) | {} | {} |",
        agent.name,
        agent.package,
        life.details.version.as_deref().unwrap_or("not said"),
        if offers.is_empty() { "–".to_owned() } else { offers.join(", ") },
    )
}

fn lacks(agent: &Agent) -> String {
    let lacks: Vec<String> =
        agent.lacks.iter().map(|(part, why)| format!("{}: {why}", part.name())).collect();
    if lacks.is_empty() { "–".to_owned() } else { lacks.join("; ") }
}

fn line(agent: &Agent, life: Option<&Life>) -> String {
    let Agent { name, package, .. } = agent;
    let Some(life) = life else {
        return format!("| {name} (`{package}`) | – | – | – | – | – | – | – | – | FAILED |\n");
    };
    let Life { start, asked, after_agent, after_worker, after_both, worker_kib, .. } = life;
    format!(
        "{} {:.1} s | {asked} | `{after_agent}` | `{after_worker}` | `{after_both}` | {:.1} MiB | {} |\n",
        first_cells(agent, life),
        start.as_secs_f64(),
        *worker_kib as f64 / 1024.0,
        lacks(agent),
    )
}
