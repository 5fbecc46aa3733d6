use std::collections::BTreeSet;
use std::path::Path;

use protocol::api::Usage;
use protocol::event::{EventKind, RestartCause, StallStep, Timestamp};
use protocol::{PromptId, Restore};
use serde_json::Value;

use super::*;

/// Counts one event of a session `s` whose agent has this name, at this time.
fn record(metrics: &Metrics, agent: &str, now: u64, kind: EventKind) {
    let session = Some("s".parse().unwrap());
    let event = Event { id: 1, at: Timestamp(0), session, incarnation: 1, kind };
    metrics.committed([event].iter(), |_| Some(agent.to_owned()), now);
}

fn restarting(cause: RestartCause) -> EventKind {
    let (old_pid, exit, last_words) = (Some(1), None, Vec::new());
    let reason = "for people: \u{1b}[31m\n".to_owned();
    EventKind::SessionRestarting {
        cause: Some(cause),
        reason,
        old_pid,
        exit,
        delay_ms: 0,
        deaths: 1,
        last_words,
    }
}

fn restarted() -> EventKind {
    EventKind::SessionRestarted {
        old_pid: None,
        new_pid: 2,
        reason: String::new(),
        restore: Restore::Resumed,
    }
}

fn used(input_tokens: u64, output_tokens: u64, cost_usd: Option<f64>) -> EventKind {
    EventKind::UsageUpdated { usage: Usage { input_tokens, output_tokens, cost_usd }, payload: Value::Null }
}

#[track_caller]
fn assert_has(metrics: &Metrics, lines: &[&str]) {
    let text = metrics.text(Seen::default());
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line} not in\n{text}");
    }
}

#[test]
fn a_recovery_lasts_from_the_first_death_until_a_replacement_is_ready() {
    let metrics = Metrics::default();
    record(&metrics, "codex", 1_000, restarting(RestartCause::WorkerDied));
    record(&metrics, "codex", 1_400, restarting(RestartCause::Fault));
    record(&metrics, "codex", 3_000, restarted());
    // Without a death before it nothing recovers.
    record(&metrics, "codex", 9_000, restarted());
    // One that somebody asked for is no recovery, and one that ended otherwise has not recovered.
    record(&metrics, "codex", 9_000, restarting(RestartCause::Requested));
    record(&metrics, "codex", 9_500, restarted());
    record(&metrics, "codex", 9_600, restarting(RestartCause::NoRoom));
    record(&metrics, "codex", 9_100, EventKind::SessionStopped { exit: None });
    record(&metrics, "codex", 99_000, restarted());
    assert_has(
        &metrics,
        &[
            "kennel_restarts_total{agent=\"codex\",cause=\"worker_died\"} 1",
            "kennel_restarts_total{agent=\"codex\",cause=\"fault\"} 1",
            "kennel_restarts_total{agent=\"codex\",cause=\"requested\"} 1",
            "kennel_recovery_seconds_count 1",
            "kennel_recovery_seconds_sum 2.0",
            "kennel_recovery_seconds_bucket{le=\"1.0\"} 0",
            "kennel_recovery_seconds_bucket{le=\"2.5\"} 1",
        ],
    );
}

#[test]
fn only_what_is_used_on_top_counts_and_an_unknown_cost_is_no_zero() {
    let metrics = Metrics::default();
    record(&metrics, "claude", 0, used(1_000, 100, Some(2.0)));
    record(&metrics, "claude", 0, used(1_500, 100, Some(2.5)));
    // A new conversation counts from 0 again.
    record(&metrics, "claude", 0, used(10, 20, Some(0.25)));
    record(&metrics, "silent", 0, used(10, 20, None));
    record(&metrics, "wrong", 0, used(20, 20, Some(f64::NAN)));
    record(&metrics, "wrong", 0, used(30, 20, Some(-1.0)));
    assert_has(
        &metrics,
        &[
            "kennel_tokens_total{agent=\"claude\",direction=\"input\"} 1510",
            "kennel_tokens_total{agent=\"claude\",direction=\"output\"} 120",
            "kennel_cost_usd_total{agent=\"claude\"} 2.75",
        ],
    );
    let text = metrics.text(Seen::default());
    assert!(!text.contains("cost_usd_total{agent=\"silent\"}"), "{text}");
    assert!(!text.contains("cost_usd_total{agent=\"wrong\"}"), "{text}");
}

#[test]
fn however_many_agents_there_are_the_series_are_few_and_no_name_breaks_a_line() {
    let metrics = Metrics::default();
    record(
        &metrics,
        "a\"}\n\\ 1",
        0,
        EventKind::SessionOomKilled { peak_bytes: None, limit_bytes: 1, by: protocol::Keeper::CgroupV2 },
    );
    for number in 0..1_000 {
        record(&metrics, &format!("agent-{number}"), 0, restarting(RestartCause::Requested));
    }
    let stalled = |step| EventKind::SessionStalled { turn: 1, prompt_id: PromptId(1), step, quiet_ms: 1 };
    record(&metrics, "agent-900", 0, stalled(StallStep::Noticed));
    record(&metrics, "agent-900", 0, stalled(StallStep::Cancelled));
    let text = metrics.text(Seen::default());
    let series = text.lines().filter(|line| line.starts_with("kennel_restarts_total{")).count();
    assert_eq!(series, 32, "{text}");
    assert_has(
        &metrics,
        &[
            "kennel_restarts_total{agent=\"other\",cause=\"requested\"} 969",
            "kennel_oom_kills_total{agent=\"a\\\"}\\n\\\\ 1\"} 1",
            "kennel_stalls_total{agent=\"other\"} 1",
        ],
    );
}

#[test]
fn what_is_looked_at_is_told_with_each_status_and_processor_time_only_grows() {
    let metrics = Metrics::default();
    let load = |session: &str, cpu_ms| Loaded {
        session: session.parse().unwrap(),
        agent: "shell".into(),
        worker: (1, 1),
        processes: 2,
        memory_bytes: 1 << 20,
        cpu_ms,
        usage: None,
    };
    let mut seen = Seen { loads: vec![load("one", 1_500), load("two", 500)], ..Seen::default() };
    seen.sessions.insert(("shell".into(), "idle"), 2);
    seen.started_at = 1_500;
    let text = metrics.text(seen.clone());
    for line in [
        "kennel_sessions{agent=\"shell\",status=\"idle\"} 2",
        "kennel_sessions{agent=\"shell\",status=\"failed\"} 0",
        "kennel_memory_bytes{agent=\"shell\"} 2097152",
        "kennel_processes{agent=\"shell\"} 4",
        "kennel_cpu_seconds_total{agent=\"shell\"} 2.0",
        "kennel_start_time_seconds 1.5",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
    }
    assert!(!text.contains("kennel_session_") && !text.contains("refused"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    // One has ended, and the other was seen with less than it has used: some of its processes were missed.
    seen.loads = vec![load("two", 250)];
    assert!(metrics.text(seen.clone()).contains("kennel_cpu_seconds_total{agent=\"shell\"} 2.0\n"));
    seen.loads = vec![Loaded { processes: 0, ..load("two", 0) }];
    assert!(metrics.text(seen.clone()).contains("kennel_cpu_seconds_total{agent=\"shell\"} 2.0\n"));
    // Another worker begins anew.
    seen.loads = vec![Loaded { worker: (2, 2), ..load("two", 250) }];
    seen.each = true;
    seen.refused = Some(vec![("key", 7)]);
    let text = metrics.text(seen);
    for line in [
        "kennel_cpu_seconds_total{agent=\"shell\"} 2.25",
        "kennel_session_cpu_seconds_total{agent=\"shell\",session=\"two\"} 0.25",
        "kennel_session_memory_bytes{agent=\"shell\",session=\"two\"} 1048576",
        "kennel_refused_total{reason=\"key\"} 7",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
    }
    assert!(!text.contains("session=\"one\""), "{text}");
}

/// The names that a text begins with `kennel_`, without the ends that OpenMetrics gives to the samples of one.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let words = words.filter(|word| word.starts_with("kennel_"));
    let end = |word: &str| {
        let ends = ["_total", "_bucket", "_count", "_sum", "_info"];
        ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned()
    };
    words.map(end).collect()
}

#[test]
fn the_dashboard_the_alerts_and_the_page_name_the_series_that_there_are() {
    let metrics = Metrics::default();
    let facts = [
        Fact::Restart("fault"),
        Fact::Recovered(1),
        Fact::Failed,
        Fact::OomKilled,
        Fact::Stalled,
        Fact::Accepted,
        Fact::Turn("completed"),
        Fact::Used { input: 1, output: 1, cost: Some(1.0) },
    ];
    facts.into_iter().for_each(|fact| metrics.count("shell", fact));
    let usage = Some(Usage { input_tokens: 1, output_tokens: 1, cost_usd: Some(1.0) });
    let load = Loaded {
        session: "s".parse().unwrap(),
        agent: "shell".into(),
        worker: (1, 1),
        processes: 2,
        memory_bytes: 1,
        cpu_ms: 1,
        usage,
    };
    let mut seen = Seen { loads: vec![load], each: true, refused: Some(vec![("key", 1)]), ..Seen::default() };
    seen.sessions.insert(("shell".into(), "idle"), 1);
    seen.queued.insert("shell".into(), 1);
    seen.needs.insert("permission", (1, 1));
    seen.clients.insert("driver", 1);
    seen.sizes = Some((1, 1, 1));
    let text = metrics.text(seen);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let all: BTreeSet<String> = types.map(|line| names(line).pop_first().unwrap()).collect();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let read = |name: &str| names(&std::fs::read_to_string(docs.join(name)).unwrap());
    assert_eq!(read("metrics.md"), all, "the page, and what there is");
    let words = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("kennel_")).map(str::to_owned).collect()
    };
    let samples: String = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let all = words(&samples);
    for file in ["metrics/alerts.yml", "metrics/dashboard.json"] {
        let named = words(&std::fs::read_to_string(docs.join(file)).unwrap());
        assert!(named.len() > 5, "{file}: {named:?}");
        let unknown: Vec<_> = named.difference(&all).collect();
        assert!(unknown.is_empty(), "{file} names what there is not: {unknown:?}");
    }
    let dashboard = std::fs::read_to_string(docs.join("metrics/dashboard.json")).unwrap();
    serde_json::from_str::<Value>(&dashboard).unwrap();
}
