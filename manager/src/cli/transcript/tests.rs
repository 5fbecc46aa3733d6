use proptest::prelude::*;
use protocol::event::{Event, EventKind, Outcome, Timestamp};
use protocol::{PromptId, Stream};
use serde_json::{Value, json};

use super::document::Form;
use super::parts::{Part, Reader};
use super::text::Text;

const PROMPT: PromptId = PromptId(7);

fn parts(kinds: Vec<EventKind>) -> Vec<Part> {
    let mut reader = Reader::default();
    let event = |(at, kind)| Event { id: at, at: Timestamp(at * 1000), session: None, incarnation: 1, kind };
    let mut parts: Vec<Part> = (1..).zip(kinds).map(event).flat_map(|event| reader.take(event)).collect();
    parts.extend(reader.rest());
    parts
}

fn accepted(text: &str) -> EventKind {
    serde_json::from_value(json!({ "type": "prompt.accepted", "data": { "prompt_id": PROMPT, "text": text,
        "disposition": "started", "retry_of": null } }))
    .unwrap()
}

fn chunk(stream: Stream, text: &str) -> EventKind {
    EventKind::MessageChunk { turn: 1, prompt_id: PROMPT, stream, text: text.into(), payload: None }
}

fn tool(id: &str, title: &str, payload: Value) -> EventKind {
    let (tool_call_id, title) = (id.into(), title.into());
    EventKind::ToolCallStarted { turn: 1, prompt_id: PROMPT, tool_call_id, title, payload }
}

fn update(id: &str, payload: Value) -> EventKind {
    EventKind::ToolCallUpdated { turn: 1, prompt_id: PROMPT, tool_call_id: id.into(), payload }
}

fn turn(of: Vec<EventKind>) -> Vec<EventKind> {
    let mut all = vec![
        accepted("do it"),
        EventKind::PromptStarted { prompt_id: PROMPT },
        EventKind::TurnStarted { turn: 1, prompt_id: PROMPT, agent_pid: 4 },
    ];
    all.extend(of);
    all.push(EventKind::TurnCompleted {
        turn: 1,
        prompt_id: PROMPT,
        outcome: Outcome::Completed,
        stop_reason: "end_turn".into(),
        exit: None,
    });
    all
}

#[test]
fn a_turn_is_its_prompt_what_came_of_it_and_its_end() {
    let diff = json!([{ "type": "diff", "path": "/w/a.rs", "oldText": "one\ntwo\n", "newText": "one\n2\n" }]);
    let found = parts(turn(vec![
        EventKind::ThoughtChunk { turn: 1, prompt_id: PROMPT, text: "hm".into(), payload: json!({}) },
        chunk(Stream::Stdout, "I "),
        chunk(Stream::Stdout, "edit"),
        tool(
            "t",
            "Edit",
            json!({ "kind": "edit", "status": "pending", "rawInput": { "command": ["ls", "-l"] } }),
        ),
        chunk(Stream::Stderr, "oh\n"),
        update("t", json!({ "status": "completed", "title": "Edit a.rs", "content": diff })),
    ]));
    let mut text = Text::new(false);
    let shown: String = found.iter().map(|part| text.part(part)).collect();
    let (head, rest) = shown.split_once('\n').unwrap();
    assert!(head.ends_with("turn 1, prompt-7"), "{head}");
    let expected = "> do it\n~ hm\nI edit\n! oh\n[completed] Edit a.rs (2.0s)\n    $ ls -l\n    /w/a.rs\n    \
                    @@ -1,2 +1,2 @@\n     one\n    -two\n    +2\ncompleted after 7.0s\n";
    assert_eq!(rest, expected);
}

#[test]
fn a_tool_that_nobody_ended_and_a_permission_that_nobody_answered_are_told() {
    let asked = |id: u64| -> EventKind {
        let option = json!({ "id": "yes", "name": "Allow", "kind": "allow_once" });
        serde_json::from_value(json!({ "type": "permission.requested", "data": { "permission_id": format!("permission-{id}"), "turn": 1,
            "prompt_id": PROMPT, "tool_call_id": "t", "title": "rm -r /", "options": [option], "payload": {} } }))
        .unwrap()
    };
    let answered: EventKind = serde_json::from_value(json!({ "type": "permission.resolved",
        "data": { "permission_id": "permission-1", "option_id": "yes", "by": "user" } }))
    .unwrap();
    let expired: EventKind = serde_json::from_value(json!({ "type": "permission.expired",
        "data": { "permission_id": "permission-2", "reason": "the turn ended" } }))
    .unwrap();
    let found = parts(turn(vec![
        asked(1),
        answered,
        asked(2),
        tool("t", "Build", json!({ "status": "in_progress" })),
        expired,
    ]));
    let told: Vec<String> = found
        .iter()
        .filter_map(|part| match part {
            Part::Permission { title, answer, .. } => Some(format!("{title}: {answer}")),
            Part::Tool { title, status, .. } => Some(format!("{title}: {status}")),
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        ["rm -r /: Allow (by a client)", "rm -r /: no answer: the turn ended", "Build: not ended"]
    );
}

#[test]
fn a_text_without_an_end_is_passed_on_in_pieces() {
    let piece = "x".repeat(1000);
    let found = parts(turn((0..200).map(|_| chunk(Stream::Stdout, &piece)).collect()));
    let longest = found.iter().filter_map(|part| match part {
        Part::Message { text, .. } => Some(text.len()),
        _ => None,
    });
    assert!(longest.clone().max().unwrap() < 70_000 && longest.sum::<usize>() == 200_000);
}

#[test]
fn a_fence_is_longer_than_all_that_it_holds_however_much_that_is() {
    let ticks = "`".repeat(1 << 20);
    let found = parts(turn(vec![tool(
        "t",
        &ticks,
        json!({ "rawInput": { "command": ticks }, "content": [{ "type": "diff", "path": "a", "oldText": "",
            "newText": &ticks[..1000] }] }),
    )]));
    let page: String = found.iter().map(|part| Form::Markdown.part(part)).collect();
    let fence = "`".repeat(1001);
    assert!(page.contains(&format!("\n{fence}diff\n")), "{}", page.len());
    assert!(page.len() < 4 << 20, "{}", page.len());
}

#[test]
fn a_payload_of_any_shape_is_taken() {
    for payload in [json!([]), json!("x"), json!(3), json!(null)] {
        let found = parts(turn(vec![tool("t", "Build", payload.clone()), update("t", payload)]));
        assert!(
            found.iter().any(|part| matches!(part, Part::Tool { title, .. } if title == "Build")),
            "{found:?}"
        );
    }
}

#[test]
fn names_that_others_give_are_no_markup() {
    let found = parts(turn(vec![tool("t", "![x](http://evil/?q) <img> # `b`", json!({}))]));
    let page: String = found.iter().map(|part| Form::Markdown.part(part)).collect();
    assert!(page.contains("\\!\\[x\\](http://evil/?q) \\<img\\> \\# \\`b\\`"), "{page}");
}

#[test]
fn a_prompt_whose_text_was_pruned_is_shown_all_the_same() {
    let found = parts(turn(Vec::new()).split_off(1));
    assert!(matches!(&found[0], Part::Prompt { text: None, turn: Some(1), .. }), "{found:?}");
    assert!(Text::new(false).part(&found[0]).contains("pruned"));
}

proptest! {
    /// All that an agent or a client can say, in every place.
    #[test]
    fn nothing_that_is_said_drives_a_terminal_or_a_browser(word in "\\PC{0,12}", control in "[\\x00-\\x1f\\x7f-\\x9f\u{202e}\u{2066}]{1,4}") {
        let hostile = format!("{word}{control}[2J<script>\"'&```");
        let said = hostile.as_str();
        let diff = json!([{ "type": "diff", "path": said, "oldText": said, "newText": "b" }]);
        let plan = json!({ "entries": [{ "content": said, "status": said }] });
        let found = parts(turn(vec![
            accepted(said),
            chunk(Stream::Stdout, said),
            chunk(Stream::Stderr, said),
            EventKind::ThoughtChunk { turn: 1, prompt_id: PROMPT, text: said.into(), payload: json!({}) },
            EventKind::PlanUpdated { turn: 1, prompt_id: PROMPT, payload: plan },
            tool("t", said, json!({ "kind": said, "rawInput": { "command": said }, "content": diff })),
            update("t", json!({ "status": said })),
            EventKind::SystemMessage { text: said.into() },
        ]));
        let mut text = Text::new(false);
        let shown: String = found.iter().map(|part| text.part(part)).collect();
        let drives = |c: char| c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{202e}' | '\u{2066}');
        prop_assert!(!shown.contains(drives), "{shown:?}");
        let page: String = found.iter().map(|part| Form::Html.part(part)).collect();
        prop_assert!(!page.contains(drives) && !page.contains("<script"), "{page}");
        let page: String = found.iter().map(|part| Form::Markdown.part(part)).collect();
        prop_assert!(!page.contains(drives), "{page:?}");
    }
}
