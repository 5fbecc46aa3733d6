//! `kennel attach` and what was said long ago, on the whole screen of a terminal.

use harness::real::until;
use protocol::event::EventKind;

use crate::attach_screen::{DETACH, asking, attached};

const PAGE_UP: &str = "\u{1b}[5~";
const PAGE_DOWN: &str = "\u{1b}[6~";
const CTRL_HOME: &str = "\u{1b}[1;5H";

/// A prompt for which the agent uses 1,500 tools, called so and numbered.
fn tools(called: &str) -> String {
    let update = serde_json::json!({ "sessionUpdate": "tool_call", "toolCallId": format!("{called}$I"),
        "title": format!("{called} $I."), "status": "completed" });
    let message = serde_json::json!({ "jsonrpc": "2.0", "method": "session/update",
        "params": { "sessionId": "$S", "update": update } });
    format!("wires 1500 {message}")
}

/// A prompt for which the agent says 1,500 lines, one after the other.
fn lines(called: &str) -> String {
    let update = serde_json::json!({ "sessionUpdate": "agent_message_chunk",
        "content": { "type": "text", "text": format!("{called} $I.\n") } });
    let message = serde_json::json!({ "jsonrpc": "2.0", "method": "session/update",
        "params": { "sessionId": "$S", "update": update } });
    format!("wires 1500 {message}")
}

/// The numbers of the lines that are shown and begin with `new`; none while the screen is drawn only in part: rows are drawn from the
/// first to the last.
fn numbers(text: &str) -> Option<Vec<u32>> {
    let rows: Vec<&str> = text.lines().collect();
    let last = rows.iter().rposition(|row| row.starts_with("new "))?;
    let below = rows.get(last + 1)?;
    let number = |row: &&str| row.strip_prefix("new ")?.split('.').next()?.parse().ok();
    let all: Vec<u32> = rows.iter().filter_map(number).collect();
    let is_whole = below.starts_with("the end is further down") || below.starts_with("completed after");
    (is_whole && all.windows(2).all(|two| two[0] + 1 == two[1])).then_some(all)
}

#[test]
fn older_events_are_loaded_from_the_journal_as_somebody_scrolls_up() {
    let daemon = asking();
    daemon.ok(&["send", "web", "say the very first; think and then"]);
    for _ in 0..3 {
        daemon.ok(&["send", "web", &tools("tool")]);
    }
    let mut screen = attached(&daemon, &["web"]);
    let text = screen.sees("tool 1500.");
    assert!(!text.contains("tool 1."), "{text}");
    screen.types(PAGE_UP);
    screen.sees("the end is further down");
    // Each stretch is loaded when its beginning is reached.
    let begin = std::time::Instant::now();
    while !screen.text().contains("the very first") {
        assert!(begin.elapsed() < harness::real::BOUND, "{}", screen.text());
        screen.types(CTRL_HOME);
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    screen.types("\u{1b}");
    screen.sees("tool 1500.");
    // A search finds what is loaded.
    screen.types("\u{6}very first\r");
    screen.sees("the very first");
    screen.types("\u{1b}\u{f}");
    screen.types(DETACH);
    assert_eq!(screen.ends(), (Some(0), false));
}

#[test]
fn an_event_of_long_ago_is_shown_with_what_came_before_and_after_it() {
    let daemon = asking();
    daemon.ok(&["send", "web", &tools("old")]);
    daemon.ok(&["send", "web", "say the middle"]);
    daemon.ok(&["send", "web", &lines("new")]);
    daemon.ok(&["start", "--name", "other", "--agent", "x"]);
    daemon.idle("other");
    daemon.ok(&["send", "other", "say nothing of it"]);
    let said = |words: &str| {
        let has = |kind: &EventKind| matches!(kind, EventKind::MessageChunk { text, .. } if text == words);
        daemon.events().into_iter().find(|event| has(&event.kind)).unwrap().id.to_string()
    };
    let at = said("the middle");
    let mut screen = attached(&daemon, &["web", "--at", &at]);
    let text = screen.sees("\nthe middle\n");
    assert!(
        text.contains("new 1.") && text.contains("the end is further down") && !text.contains("new 1500."),
        "{text}"
    );
    // Up from there, and from there down to what was not loaded at first.
    screen.types(PAGE_UP);
    screen.types(PAGE_UP);
    screen.sees("old 1460.");
    screen.loses("\nnew ");
    screen.types(DETACH);
    screen.ends();
    let mut screen = attached(&daemon, &["web", "--at", &at]);
    let shown = until("the first lines", || numbers(&screen.text()));
    assert_eq!(shown[0], 1);
    // No line is left out: each screen goes on before the one before it ended.
    let mut seen = shown[shown.len() - 1];
    while seen < 1_500 {
        screen.types(PAGE_DOWN);
        let shown =
            until("the next screen", || numbers(&screen.text()).filter(|all| all.last() > Some(&seen)));
        assert!(shown[0] <= seen + 1, "{shown:?} after {seen}");
        seen = shown[shown.len() - 1];
    }
    screen.loses("the end is further down");
    // What happens now is shown.
    daemon.ok(&["send", "web", "say the latest"]);
    screen.sees("\nthe latest");
    screen.types(DETACH);
    assert_eq!(screen.ends(), (Some(0), false));
    // Whoever sends a prompt from there sees what comes of it.
    let mut screen = attached(&daemon, &["web", "--at", &at]);
    screen.sees("\nthe middle\n");
    screen.types("say typed there\r");
    let text = screen.sees("\ntyped there");
    assert!(!text.contains("the end is further down"), "{text}");
    screen.types(DETACH);
    screen.ends();
    // At once back to the end, also past what is not loaded.
    let mut screen = attached(&daemon, &["web", "--at", &at]);
    screen.sees("\nthe middle\n");
    screen.types("\u{1b}");
    let text = screen.sees("\ntyped there");
    assert!(!text.contains("the end is further down"), "{text}");
    screen.types(DETACH);
    screen.ends();
    // Line by line the rest follows the event; an event of another session is none of this one's.
    let lines = daemon.run(&["attach", "--at", &at, "web"]);
    assert!(lines.stdout.starts_with("the middle") && lines.stdout.contains("the latest"), "{lines:?}");
    let wrong = daemon.run(&["attach", "--at", &said("nothing of it"), "web"]);
    assert!(
        wrong.stderr.contains("is one of session-2")
            && wrong.stderr.contains("`kennel attach session-2 --at "),
        "{wrong:?}"
    );
    assert_eq!(wrong.code, Some(4), "{wrong:?}");
}
